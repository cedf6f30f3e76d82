//! Two processes, each on its processor.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork},
};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Keeps this process on one processor; on a machine with one, on that.
pub(crate) fn pin(cpu: usize) -> Result {
    let count = std::fs::read_to_string("/proc/cpuinfo")?.matches("processor\t").count().max(1);
    let mut set = CpuSet::new();
    set.set(cpu % count)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Lets this process run everywhere again.
pub(crate) fn unpin() -> Result {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Runs `there` in a child on the second processor and `here` in this process on the first.
pub(crate) fn run<R>(
    there: impl FnOnce() -> Result,
    here: impl FnOnce() -> Result<R>,
) -> Result<R> {
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let work = || pin(1).and_then(|()| there());
            let code = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => 0,
                Ok(Err(error)) => {
                    eprintln!("bench: the second process: {error}");
                    1
                }
                Err(_) => 101,
            };
            // SAFETY: ends the process without its parent's destructors.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            pin(0)?;
            let result = here();
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => result,
                other => Err(io::Error::other(format!("the second process: {other:?}")).into()),
            }
        }
    }
}

/// Runs `work` in this many children, on any processor.
pub(crate) fn start(count: u64, work: impl Fn() -> Result) -> Result<Vec<Pid>> {
    let one = |_| -> Result<Pid> {
        // SAFETY: this program has one thread.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                let code = match catch_unwind(AssertUnwindSafe(&work)) {
                    Ok(Ok(())) => 0,
                    Ok(Err(error)) => {
                        eprintln!("bench: one of many processes: {error}");
                        1
                    }
                    Err(_) => 101,
                };
                // SAFETY: ends the process without its parent's destructors.
                unsafe { libc::_exit(code) }
            }
        }
    };
    (0..count).map(one).collect()
}

/// Waits for those that [`start`] made.
pub(crate) fn finish(children: Vec<Pid>) -> Result {
    for child in children {
        match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => {}
            other => return Err(format!("one of many processes: {other:?}").into()),
        }
    }
    Ok(())
}
