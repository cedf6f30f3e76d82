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

/// When a process started, in clock ticks since boot, whatever this process's time namespace takes
/// for that; `None` when there is no such process, or it has ended and only waits to be reaped.
///
/// Together with the pid this names a process for good: pids are used again, pairs are not.
///
/// # Errors
///
/// Where the system does not say, for want of a descriptor or of `/proc`: the process may live.
pub fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let me = self::pid();
    if pid != me {
        return read_start_time(pid);
    }
    // It does not change, and a process that asks has not ended.
    static OWN: Own = Own::new();
    OWN.get(me, || read_start_time(me)?.ok_or_else(|| io::ErrorKind::NotFound.into())).map(Some)
}

fn read_start_time(pid: u32) -> io::Result<Option<u64>> {
    // The kernel writes it anew for each read, so one has to do: it is longest with all 52 numbers
    // at their greatest.
    let mut stat = [0; 2048];
    let read = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut it| it.read(&mut stat));
    match read {
        Ok(len) => match parse_stat(&stat[..len]) {
            Some(Some(shown)) => Ok(Some(shown.wrapping_sub(clock_offset()?))),
            Some(None) => Ok(None),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
        Err(_) if is_gone(pid) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` where that is not what it should be.
fn parse_stat(stat: &[u8]) -> Option<Option<u64>> {
    // The name in parentheses may hold anything, so fields are counted from its end.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    // A process whose first thread has ended looks like one that has ended, but for the others.
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some((!ended || threads > 1).then_some(start))
}

/// How many clock ticks this process's time namespace adds to the time since boot; as two's
/// complement.
fn clock_offset() -> io::Result<u64> {
    /// A process stays in the namespace that it was born in, and so do its forked children, unless it
    /// has unshared their clock: programs that do that then execute another.
    static OFFSET: OnceLock<u64> = OnceLock::new();
    if let Some(offset) = OFFSET.get() {
        return Ok(*offset);
    }
    let offsets = match fs::read_to_string("/proc/self/timens_offsets") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        offsets => offsets?,
    };
    // SAFETY: always succeeds for _SC_CLK_TCK.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(*OFFSET.get_or_init(|| parse_offsets(&offsets, ticks).unwrap_or(0) as u64))
}

/// The clock's line is `boottime SECONDS NANOSECONDS`, also by its number.
fn parse_offsets(offsets: &str, ticks: i64) -> Option<i64> {
    let mut fields = offsets.lines().find_map(|line| {
        line.strip_prefix("boottime").or_else(|| line.strip_prefix("7 ")).map(str::split_whitespace)
    })?;
    let seconds: i64 = fields.next()?.parse().ok()?;
    let nanos: i64 = fields.next()?.parse().ok()?;
    Some(seconds.checked_mul(ticks)?.wrapping_add(nanos / (1_000_000_000 / ticks.max(1))))
}

/// Whether there is certainly no such process, or it is a child of ours that has ended. Needs no
/// descriptor.
fn is_gone(pid: u32) -> bool {
    // To the kernel 0 is a group of processes.
    let Some(id) = libc::pid_t::try_from(pid).ok().filter(|id| *id != 0) else { return true };
    // SAFETY: signal 0 is only looked up.
    let unknown = unsafe { libc::kill(id, 0) } != 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    unknown || {
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: all zeros is a value of it, and the kernel writes no more than one.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &raw mut info, how) == 0 && info.si_pid() == id
        }
    }
}

/// The inode of this process's pid namespace: pids of two namespaces mean nothing to each other.
/// 0 where it cannot be had.
pub fn pid_namespace() -> u64 {
    // A process stays in the one that it was born in; `setns` and `unshare` move its children.
    static OWN: Own = Own::new();
    let inode = || fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino());
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

    fn get(&self, pid: u32, ask: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
        let me = u64::from(pid) << 32 | u64::from(fork_generation() << 1) | 1;
        // SYNC whose: Acquire here, Release below.
        if self.whose.load(Ordering::Acquire) == me {
            return Ok(self.value.load(Ordering::Relaxed));
        }
        // What could not be had is asked for again. Threads that ask at once find the same.
        let value = ask()?;
        self.value.store(value, Ordering::Relaxed);
        self.whose.store(me, Ordering::Release);
        Ok(value)
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
        assert!(start_time(pid()).unwrap().is_some());
        assert!(!PidFd::open(pid()).unwrap().has_ended());
        assert!(start_time(u32::MAX).unwrap().is_none());
        assert!(pid_namespace() != 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A process that ends at once, to be gone.
    fn a_process_that_is_gone_needs_no_descriptor_to_be_known() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while !is_gone(pid) {
            thread::yield_now();
        }
        assert!(start_time(pid).unwrap().is_none(), "a zombie");
        child.wait().unwrap();
        assert!(is_gone(pid) && is_gone(u32::MAX) && is_gone(0));
        assert!(!is_gone(self::pid()) && !is_gone(1));
    }

    #[test]
    fn what_the_kernel_says_of_a_process() {
        let says = |state: &str, threads: u32| {
            let zeros = "0 ".repeat(16);
            format!("7 (a) b) {state} {zeros}{threads} 0 4711 0 0")
        };
        let start = |state, threads| parse_stat(says(state, threads).as_bytes());
        assert_eq!(start("S", 1), Some(Some(4711)));
        assert_eq!(start("Z", 1), Some(None));
        assert_eq!(start("Z", 2), Some(Some(4711)), "its other threads go on");
        assert_eq!(parse_stat(b"7 (a) S 1 2"), None);
    }

    #[test]
    fn clocks_of_time_namespaces() {
        let of = |text| parse_offsets(text, 100);
        assert_eq!(
            of("monotonic           0         0\nboottime         1000         0\n"),
            Some(100_000)
        );
        assert_eq!(of("monotonic 3 0\nboottime -2 970000000\n"), Some(-103));
        assert_eq!(of("1 0 0\n7 5 0\n"), Some(500));
        assert_eq!(of(""), None);
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
        let (parent, namespace) = (start_time(pid()).unwrap().unwrap(), pid_namespace());
        // A clock tick, in which two processes start at the same time.
        thread::sleep(Duration::from_millis(20));
        // SAFETY: the child reads a file by raw system calls and the allocator, which no other
        // thread of this test holds, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mine = start_time(pid()).unwrap_or(None);
            let right = mine == read_start_time(pid()).unwrap_or(None)
                && mine.is_some_and(|mine| mine > parent)
                && pid_namespace() == namespace;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!right)) }
        }
        let mut status = -1;
        // SAFETY: `status` is ours to write.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(start_time(pid()).unwrap(), Some(parent));
    }
}
