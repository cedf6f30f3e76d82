//! Fences in the threads of other processes.

#![allow(clippy::disallowed_types)] // Flags that a fork handler reads, no model looks at them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::process::fork_generation;

/// What is known of this process's registration.
static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = 0;
const JOINED: u32 = 1;
const REFUSED: u32 = 2;

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Has this process take part in every [`barrier`]. Later calls cost a load.
///
/// In a process with several threads the first takes some milliseconds. Tells whether it does:
/// Linux can since 4.16, and a sandbox may forbid it.
pub fn join_barriers() -> bool {
    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        // Installs the handler that registers a forked child. Two threads may both come here.
        fork_generation();
        register();
    }
    in_barriers()
}

fn register() {
    let joined = membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
    STATE.store(if joined { JOINED } else { REFUSED }, Ordering::Relaxed);
}

/// Whether [`join_barriers`] has been called and has worked.
#[inline]
pub fn in_barriers() -> bool {
    STATE.load(Ordering::Relaxed) == JOINED
}

/// For the fork handler. The child has the parent's registration by its memory; asking again makes
/// that sure, and is allowed there, being a bare system call.
pub(super) fn join_again() {
    if in_barriers() {
        register();
    }
}

/// When it returns, each thread of each process that takes part has executed a full fence since it
/// was called. Tells whether it did that.
pub fn barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_twice_says_the_same() {
        let joined = join_barriers();
        assert_eq!(join_barriers(), joined);
        assert_eq!(in_barriers(), joined);
        assert!(!joined || barrier());
    }
}
