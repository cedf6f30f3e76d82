//! Who we are and who the others are: pids, start times, pidfds, forks, processors.

#![allow(clippy::disallowed_types)] // A counter that a fork handler bumps, no model looks at it.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::fs::MetadataExt,
    sync::{
        Once, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
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
    let me = self::pid();
    if pid == me {
        // It does not change, and a process that asks has not ended.
        static OWN: Own = Own::new();
        return OWN.get(me, || read_start_time(me));
    }
    read_start_time(pid)
}

fn read_start_time(pid: u32) -> Option<u64> {
    // The kernel writes it anew for each read, so one has to do: it is longest with all 52 numbers
    // at their greatest.
    let mut stat = [0; 2048];
    let len = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end.
    let end = stat[..len].iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..len]).ok()?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The inode of this process's pid namespace: pids of two namespaces mean nothing to each other.
/// 0 where it cannot be had.
pub fn pid_namespace() -> u64 {
    // A process stays in the one that it was born in; `setns` and `unshare` move its children.
    static OWN: Own = Own::new();
    let inode = || fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).ok();
    OWN.get(pid(), inode).unwrap_or(0)
}

/// Something about this process that does not change while it lives, and that costs several
/// system calls to learn.
///
/// A forked child finds its parent's, and must not take it for its own. So it is kept together with
/// the pid and with the number of forks: a pid alone says too little, for the first process of a
/// pid namespace has the same one as the first of the next.
struct Own {
    /// `{pid: 32, forks: 31, known: 1}`.
    whose: AtomicU64,
    value: AtomicU64,
}

impl Own {
    const fn new() -> Own {
        Own { whose: AtomicU64::new(0), value: AtomicU64::new(0) }
    }

    fn get(&self, pid: u32, ask: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let me = u64::from(pid) << 32 | u64::from(fork_generation() << 1) | 1;
        // SYNC whose: Acquire here, Release below.
        if self.whose.load(Ordering::Acquire) == me {
            return Some(self.value.load(Ordering::Relaxed));
        }
        // What could not be had is asked for again. Threads that ask at once find the same.
        let value = ask()?;
        self.value.store(value, Ordering::Relaxed);
        self.whose.store(me, Ordering::Release);
        Some(value)
    }
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

/// Whether the machine has one processor switched on and no more, at the first call.
pub fn one_processor() -> bool {
    static ONE: OnceLock<bool> = OnceLock::new();
    // The set of a process holds none that is switched off, and asking for it reads no file.
    *ONE.get_or_init(|| {
        // SAFETY: touches no memory of ours.
        let switched_on = || unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        affinity().is_none_or(|cpus| cpus == 1) && switched_on() <= 1
    })
}

/// How many processors this process may use, as [`thread::available_parallelism`], but that it reads
/// the cgroup's quota, which takes several files, once and not each time. The set of processors
/// that the calling thread is bound to is looked at each time.
pub fn processors() -> usize {
    /// `{how many it was bound to: 32, how many it might use: 32}`; 0 before.
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let ask = || thread::available_parallelism().map_or(1, usize::from);
    let Some(bound) = affinity() else { return ask() };
    let asked = ASKED.load(Ordering::Relaxed);
    let (bound_then, usable) = ((asked >> 32) as usize, asked as u32 as usize);
    // The quota was seen as far as the set went.
    if bound <= bound_then {
        return usable.min(bound);
    }
    let usable = ask();
    ASKED.store((bound as u64) << 32 | usable as u64, Ordering::Relaxed);
    usable
}

/// How many processors the calling thread is bound to; `None` where they are more than fit into
/// the C library's set.
fn affinity() -> Option<usize> {
    // SAFETY: all zeros is an empty set, and the kernel writes no more than its length.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let result = libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        (result == 0).then(|| libc::CPU_COUNT(&set) as usize)
    }
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
    }

    #[test]
    fn as_many_processors_as_the_standard_library_counts() {
        let counted = thread::available_parallelism().unwrap().get();
        assert_eq!([processors(), processors()], [counted; 2]);
        // SAFETY: touches no memory of ours.
        assert_eq!(one_processor(), unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) } == 1);
        let bound = affinity().unwrap();
        thread::spawn(move || {
            // SAFETY: the set is as long as we say.
            let first = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
                let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &set));
                libc::CPU_ZERO(&mut set);
                libc::CPU_SET(first.unwrap(), &mut set);
                libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
            };
            assert_eq!((first, processors()), (0, 1), "it was bound to {bound}");
        })
        .join()
        .unwrap();
        assert_eq!(processors(), counted);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A child that looks at itself and ends.
    fn a_forked_child_is_somebody_else() {
        let (parent, namespace) = (start_time(pid()).unwrap(), pid_namespace());
        // A clock tick, in which two processes start at the same time.
        thread::sleep(Duration::from_millis(20));
        // SAFETY: the child reads a file by raw system calls and the allocator, which no other
        // thread of this test holds, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mine = start_time(pid());
            let right = mine == read_start_time(pid())
                && mine.is_some_and(|mine| mine > parent)
                && pid_namespace() == namespace;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!right)) }
        }
        let mut status = -1;
        // SAFETY: `status` is ours to write.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(start_time(pid()), Some(parent));
    }
}
