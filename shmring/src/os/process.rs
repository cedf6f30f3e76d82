//! Who we are and who the others are: pids, start times, pidfds, forks, processors.

#![allow(clippy::disallowed_types)] // A counter that a fork handler bumps, no model looks at it.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::fs::MetadataExt,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{PollFd, check_long, poll};

/// The id of this process.
pub fn pid() -> u32 {
    std::process::id()
}

/// When a process started, in clock ticks since boot; `None` when there is no such process, or
/// it has ended and only waits to be reaped.
///
/// Together with the pid this names a process for good: pids are used again, pairs are not.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The inode of this process's pid namespace: pids of two namespaces mean nothing to each other.
pub fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

/// How many threads this process has.
pub fn thread_count() -> io::Result<usize> {
    // Each thread is a folder in this one, and the kernel counts them in its links: itself, its
    // parent, and one for each.
    let links = fs::metadata("/proc/self/task")?.nlink();
    if links > 2 {
        return Ok(links as usize - 2);
    }
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// The size of a page of memory.
pub fn page_size() -> usize {
    // SAFETY: always succeeds for _SC_PAGESIZE.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// How many processors the machine has switched on.
pub fn cpus_online() -> usize {
    // SAFETY: touches no memory of ours.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize
}

/// Milliseconds of a clock that all processes share and that costs no more than a load: it moves
/// on a few hundred times a second.
pub fn coarse_millis() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure, and never fails for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Ends this process at once, as `kill -9` would.
pub fn kill_self() -> ! {
    // SAFETY: touches no memory of ours; SIGKILL cannot be handled.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

static FORKS: AtomicU32 = AtomicU32::new(0);
static WATCH_FORKS: Once = Once::new();

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    super::barrier::join_again();
}

/// A number that differs between a process and its forked child. Costs one load.
///
/// The first call installs the handler: whoever keeps the number calls this when it makes the
/// value that may travel through a fork.
pub fn fork_generation() -> u32 {
    if !WATCH_FORKS.is_completed() {
        WATCH_FORKS.call_once(|| {
            // SAFETY: the handler adds to an atomic and makes a bare system call, which is allowed
            // in a forked child.
            unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        });
    }
    forks()
}

/// The same for the hot path, where [`fork_generation`] has been called before.
#[inline]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A descriptor that stands for one process, whoever gets its pid later.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has this pid now. Compare its start time afterwards.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is none.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        // SAFETY: touches no memory of ours.
        let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
            .map_err(|error| match error.raw_os_error() {
                // No such process, or a number that cannot be one.
                Some(libc::ESRCH | libc::EINVAL) => io::ErrorKind::NotFound.into(),
                _ => error,
            })?;
        // SAFETY: the kernel has just made this descriptor for us; it is close-on-exec.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
    }

    /// Whether the process has ended (a zombie has).
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::readable(self.0.as_fd())];
        matches!(poll(&mut fds, Some(Duration::ZERO)), Ok(1))
    }

    /// Sends a signal to exactly this process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        // SAFETY: a null siginfo is allowed.
        check_long(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        })?;
        Ok(())
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive_and_have_started() {
        assert!(start_time(pid()).is_some());
        assert!(!PidFd::open(pid()).unwrap().has_ended());
        assert!(start_time(u32::MAX).is_none());
        assert!(pid_namespace() != 0);
        assert!(cpus_online() >= 1);
    }
}
