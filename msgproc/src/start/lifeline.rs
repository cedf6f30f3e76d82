//! The lifeline: a backend ends within a second after its frontend, even when it is stuck.
//!
//! Each frontend process has one pipe that nobody writes to, and is the only one to hold its
//! writing end. Each backend has the reading end opened anew, so that the kernel sends it SIGIO
//! when the writing end goes: what is ordered by one open file is told to one process. For a fork
//! its parent opens it, to which that costs little; of a new process the kernel would first have to
//! make all of /proc/self, and take it down again at its end. The handler starts a timer that ends
//! the process: the backend's loop, which sees the channel close, has until then to leave in order.
//! A backend that starts backends of its own hands them the lifelines of its own frontends too.

#![allow(unsafe_code)] // Signal handler, fcntl.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd};

/// How long a backend has to leave after its frontend's death.
const GRACE_MICROSECONDS: i64 = 900_000;

/// The command of fcntl that chooses the signal; the libc crate does not have it.
const F_SETSIG: libc::c_int = 10;

/// How many generations of frontends one backend watches.
const GENERATIONS: usize = 8;

struct Lines {
    /// The pipe of this process, once it is a frontend: reading and writing end, and the path by
    /// which a child opens the reading end anew.
    own: Option<(OwnedFd, OwnedFd, CString)>,
    /// Reading ends of the frontends above, the nearest first.
    above: Vec<OwnedFd>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { own: None, above: Vec::new() });

/// The numbers of `above`, for the signal handler.
static WATCHED: [AtomicI32; GENERATIONS] = [const { AtomicI32::new(-1) }; GENERATIONS];

/// Whether this process has been told to end soon.
static ORDERED: AtomicBool = AtomicBool::new(false);

#[inline]
fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading ends for one child, opened anew by its parent: of the parent's own pipe, and of those
/// above. The child [takes](adopt) them, and the parent lets go of its copies by dropping this.
pub(super) struct ForChild(Vec<OwnedFd>);

/// Makes ready what the next child is tied to; at the first fork, the pipe of this process.
pub(super) fn prepare() -> io::Result<ForChild> {
    make()?;
    let lines = lines();
    let own = lines.own.iter().map(|(_, _, path)| reopen(path));
    let above = lines.above.iter().map(|line| reopen(&path_of(line)?));
    own.chain(above).take(GENERATIONS).collect::<io::Result<_>>().map(ForChild)
}

fn make() -> io::Result<()> {
    let mut lines = lines();
    if lines.own.is_none() {
        let (reading, writing) = unistd::pipe2(OFlag::O_CLOEXEC)?;
        let reading = super::kept::above_stdio(reading)?;
        let path = path_of(&reading)?;
        lines.own = Some((reading, super::kept::above_stdio(writing)?, path));
    }
    Ok(())
}

/// In a forked child: ties it to its parent's lifeline, and to those its parent was tied to.
#[inline] // As `fork` says.
pub(super) fn adopt(lines_for_it: ForChild, die_at_once: bool) -> io::Result<()> {
    // The writing end is closed here: only the frontend itself may hold it. The other lines are
    // the parent's own.
    let mut lines = lines();
    (lines.own, lines.above) = (None, Vec::new());
    drop(lines);
    tie(lines_for_it.0, die_at_once)
}

/// The lifelines for a backend that is no fork of this process: its own, and those above.
pub(crate) fn to_hand_over() -> io::Result<Vec<OwnedFd>> {
    make()?;
    let lines = lines();
    let own = lines.own.iter().map(|(reading, ..)| reading);
    own.chain(&lines.above).map(OwnedFd::try_clone).collect()
}

/// In a new process: ties it to the lifelines that its frontend handed over, and to no other.
pub(crate) fn adopt_these(handed: Vec<OwnedFd>, die_at_once: bool) -> io::Result<()> {
    {
        let mut lines = lines();
        lines.own = None;
        lines.above.clear();
    }
    let anew = handed.iter().take(GENERATIONS).map(|line| reopen(&path_of(line)?));
    tie(anew.collect::<io::Result<_>>()?, die_at_once)
}

/// Has the kernel signal this process when one of these ends, each opened for it alone.
#[inline]
fn tie(all: Vec<OwnedFd>, die_at_once: bool) -> io::Result<()> {
    if !die_at_once {
        handle_sigio()?;
    }
    // A timer is not inherited.
    ORDERED.store(false, Ordering::Relaxed);
    for place in &WATCHED {
        place.store(-1, Ordering::Relaxed);
    }
    for (line, place) in all.iter().zip(&WATCHED) {
        place.store(line.as_raw_fd(), Ordering::Relaxed);
        signal_when_it_ends(line, die_at_once)?;
    }
    lines().above = all;
    // It may have ended before the signal was ordered.
    if one_has_ended() {
        if die_at_once {
            shmring::os::kill_self();
        }
        end_soon();
    }
    Ok(())
}

fn path_of(line: &OwnedFd) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", line.as_raw_fd()))?)
}

fn reopen(path: &CString) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `path` is a live C string.
    let raw = check(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    super::kept::above_stdio(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[inline]
fn signal_when_it_ends(line: &OwnedFd, die_at_once: bool) -> io::Result<()> {
    let raw = line.as_raw_fd();
    let signal = if die_at_once { libc::SIGKILL } else { libc::SIGIO };
    // SAFETY: these commands take numbers and touch no memory of ours.
    unsafe {
        check(libc::fcntl(raw, libc::F_SETOWN, libc::getpid()))?;
        check(libc::fcntl(raw, F_SETSIG, signal))?;
        // What can be set of the flags it was opened with, and this one.
        check(libc::fcntl(raw, libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC))?;
    }
    Ok(())
}

#[inline]
fn handle_sigio() -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction; the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_sigio as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        check(libc::sigaction(libc::SIGIO, &raw const action, ptr::null_mut()))?;
    }
    Ok(())
}

/// SIGIO may also mean a descriptor of the user's own, so it looks which one.
extern "C" fn on_sigio(_signal: libc::c_int) {
    // SAFETY: the address of errno is valid in every thread; the interrupted code must find its
    // own value there.
    let errno = unsafe { *libc::__errno_location() };
    if one_has_ended() {
        end_soon();
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Whether the writing end of a lifeline is gone. Runs in a signal handler.
#[inline]
fn one_has_ended() -> bool {
    WATCHED.iter().any(has_ended)
}

/// Runs in a signal handler.
#[inline]
fn has_ended(place: &AtomicI32) -> bool {
    let fd = place.load(Ordering::Relaxed);
    if fd < 0 {
        return false;
    }
    let mut line = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: `line` lives through the call.
    let ready = unsafe { libc::poll(&raw mut line, 1, 0) };
    ready > 0 && line.revents & libc::POLLHUP != 0
}

/// Whether this process was told that a frontend above it has ended, and has little time left.
/// Costs nothing.
pub(crate) fn frontend_has_ended() -> bool {
    ORDERED.load(Ordering::Relaxed)
}

/// Whether the nearest frontend has ended, or does so in this time.
pub(super) fn frontend_ends_within(timeout: Duration) -> bool {
    let until = Instant::now() + timeout;
    loop {
        if has_ended(&WATCHED[0]) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Orders SIGALRM, whose default action ends the process. Runs in a signal handler.
///
/// Once: each backend that dies rings the lifeline again for those that are left, and their time
/// would start anew.
fn end_soon() {
    if ORDERED.swap(true, Ordering::Relaxed) {
        return;
    }
    let time = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: GRACE_MICROSECONDS },
    };
    // SAFETY: a bare system call; `time` lives through it.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const time, ptr::null_mut()) };
}

#[inline]
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
