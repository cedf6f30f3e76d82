//! Fork, guarded, and the first steps of the child.
//!
//! A new process maps code by pieces of 64 KiB at the first touch, some microseconds each time. So
//! what runs on the way to its first message is `#[inline]`, here and elsewhere: it comes to lie
//! beside its caller, in the crate that makes the backend, and not all over the program.

#![allow(unsafe_code)] // fork, _exit, sigaction.
#![allow(clippy::disallowed_methods)] // The room where processes are started.

use std::{
    ffi::CString,
    io::{self, Write},
    mem::{self, MaybeUninit},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask},
    unistd::{self, ForkResult},
};
use shmring::{named::Ledger, os};

use super::{
    Child, Page, Streams, check_limits, is_shortage, kept, lifeline, orphan, status::Status,
};
use crate::error::{Error, Result};

/// What a new child looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hygiene {
    pub(crate) ignore_sigint: bool,
    /// Whether the kernel kills it the moment its frontend dies.
    pub(crate) die_at_once: bool,
}

/// The exit code of a process that panicked, as Rust's own.
pub(crate) const PANICKED: i32 = 101;

/// Forks a backend that runs `body` and ends with the exit code it gives.
///
/// # Errors
///
/// [`Error::MultiThreaded`]; [`Error::Start`] when the kernel refuses.
pub(crate) fn fork(
    name: &str,
    hygiene: Hygiene,
    page: &Page,
    streams: &Streams,
    body: impl FnOnce() -> i32,
) -> Result<Child> {
    let lines = lifeline::prepare().map_err(failed(name, "make the lifeline"))?;
    // From here to the fork, what can be made ready is: of a new process the kernel maps code and
    // copies memory at the first touch, some microseconds each time.
    let names = Ledger::ours()?;
    let short_name = short_name(name);
    let pid = fork_clean(name, || {
        page.keep_from_forks()?;
        ignore_sigint(hygiene);
        lifeline::adopt(lines, hygiene.die_at_once)?;
        let _ = nix::sys::prctl::set_name(&short_name);
        streams.take_on()?;
        orphan::inherit(names);
        allow_signals()?;
        Ok(body())
    })?;
    page.keep_from_forks().map_err(failed(name, "keep the control page to itself"))?;
    Child::process(pid).map_err(failed(name, "watch the new process"))
}

/// Forks a process that will belong to another frontend than this process; gives its pid. It has
/// no lifeline, until it [settles in](settle_in).
///
/// # Errors
///
/// As [`fork`].
pub(crate) fn fork_stranger(name: &str, body: impl FnOnce() -> i32) -> Result<u32> {
    fork_clean(name, || {
        allow_signals()?;
        Ok(body())
    })
}

/// In a new process that is no fork of its frontend: takes over what that has handed to it.
pub(crate) fn settle_in(
    name: &str,
    hygiene: Hygiene,
    page: &Page,
    lifelines: Vec<OwnedFd>,
    names: Ledger,
    streams: &Streams,
) -> io::Result<()> {
    page.keep_from_forks()?;
    ignore_sigint(hygiene);
    // It was blocked when this program was executed, until it is ignored.
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(Signal::SIGINT)), None)?;
    lifeline::adopt_these(lifelines, hygiene.die_at_once)?;
    rename(name);
    streams.take_on()?;
    orphan::inherit(Arc::new(names));
    Ok(())
}

/// Names this process, for people.
pub(crate) fn rename(name: &str) {
    let _ = nix::sys::prctl::set_name(&short_name(name));
}

fn failed<'a>(name: &'a str, what: &'static str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| match check_limits(1) {
        Err(limit) if is_shortage(&error) => limit,
        _ => Error::Start { process: name.into(), reason: format!("cannot {what}: {error}") },
    }
}

/// Forks a child that is clean of its parent, runs `body` with all signals blocked, and ends.
fn fork_clean(name: &str, body: impl FnOnce() -> io::Result<i32>) -> Result<u32> {
    // Who keeps a number of this sees that the child is another process.
    os::fork_generation();
    flush();
    let blocked = SignalsBlocked::new().map_err(failed(name, "block signals"))?;
    // No handler of this thread, the only one, can change any of this now.
    let status = Status::read().filter(|status| status.threads == 1);
    if status.is_none() {
        refuse_threads(name)?;
    }
    super::panic::prepare();
    // SAFETY: the process has one thread, so the child may do whatever the parent may.
    match unsafe { unistd::fork() }.map_err(|errno| failed(name, "fork")(errno.into()))? {
        ForkResult::Child => {
            let run = || {
                kept::give_up_all();
                super::panic::forget_scopes();
                reset_handlers(status);
                body()
            };
            let code = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(code)) => code,
                Ok(Err(error)) => {
                    eprintln!("process {name:?} could not be set up: {error}");
                    1
                }
                Err(payload) => {
                    // Its destructor might panic again.
                    mem::forget(payload);
                    PANICKED
                }
            };
            exit_now(code)
        }
        ForkResult::Parent { child } => {
            drop(blocked);
            Ok(child.as_raw() as u32)
        }
    }
}

/// A joined thread may be listed for a moment longer: the list is read again for that long.
pub(crate) fn refuse_threads(name: &str) -> Result<()> {
    let mut threads = 0;
    for pause in [0, 100, 1_000, 10_000, 20_000] {
        sleep(Duration::from_micros(pause));
        threads = os::thread_count().map_err(Error::io("count threads in /proc/self/task"))?;
        if threads == 1 {
            return Ok(());
        }
    }
    Err(Error::MultiThreaded { process: name.into(), threads })
}

/// Leaves nothing in a buffer that two processes would write.
pub(crate) fn flush() {
    let _ = io::stdout().flush();
    // SAFETY: a null pointer means all streams of the C library.
    unsafe { libc::fflush(ptr::null_mut()) };
}

/// Ends this process: no destructor, no exit handler of the parent runs.
fn exit_now(code: i32) -> ! {
    let _ = catch_unwind(flush);
    // SAFETY: ends the process, touches no memory of ours.
    unsafe { libc::_exit(code) }
}

#[inline]
fn ignore_sigint(hygiene: Hygiene) {
    if hygiene.ignore_sigint {
        set_disposition(libc::SIGINT, libc::SIG_IGN);
    }
}

/// SIGINT does what it does by default.
pub(crate) fn heed_sigint() {
    set_disposition(libc::SIGINT, libc::SIG_DFL);
}

#[inline]
fn allow_signals() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Gives every signal that has a handler its default back: an inherited one would, for example,
/// write to its parent's self-pipe. What is ignored stays ignored, as it does through exec.
///
/// The handlers of faults stay: they act on this process alone, and Rust's own one is what names
/// a stack overflow.
///
/// Where `status` is known, only those are asked for that have a handler.
#[inline]
fn reset_handlers(status: Option<Status>) {
    let is_default = |signal| {
        let ignored = |status: &Status| signal == libc::SIGCHLD && status.ignores(signal);
        status.is_some_and(|status| !status.handles(signal) && !ignored(&status))
    };
    for signal in 1..=libc::SIGRTMAX() {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS) {
            continue;
        }
        if is_default(signal) {
            continue;
        }
        let mut old = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: asks for the present action, which is written to `old` when the call succeeds.
        let handler = unsafe {
            if libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) == -1 {
                continue;
            }
            old.assume_init().sa_sigaction
        };
        let ours_to_wait_for = signal == libc::SIGCHLD && handler == libc::SIG_IGN;
        if !matches!(handler, libc::SIG_DFL | libc::SIG_IGN) || ours_to_wait_for {
            set_disposition(signal, libc::SIG_DFL);
        }
    }
}

#[inline]
pub(super) fn set_disposition(signal: i32, disposition: libc::sighandler_t) {
    // SAFETY: all zeros is a valid sigaction; both dispositions run no code of ours.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = disposition;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// The name that `ps`, `top` and `/proc/PID/comm` show: the first 15 bytes of it.
fn short_name(name: &str) -> CString {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    CString::new(&name[..end]).unwrap_or_default()
}

/// All signals are blocked while this lives, in the thread that made it.
struct SignalsBlocked(SigSet);

impl SignalsBlocked {
    fn new() -> io::Result<SignalsBlocked> {
        let mut old = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut old))?;
        Ok(SignalsBlocked(old))
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None);
    }
}

/// SIGTERM and SIGKILL, as the last steps of a stop send them.
pub(crate) const TERMINATE: i32 = Signal::SIGTERM as i32;
/// See [`TERMINATE`].
pub(crate) const KILL: i32 = Signal::SIGKILL as i32;
