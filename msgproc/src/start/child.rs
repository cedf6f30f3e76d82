//! A backend that lives: a process with a pidfd, or a thread of this program.

#![allow(unsafe_code)] // waitid, for all signals; pidfd_send_signal.

use std::{
    fmt, io,
    mem::zeroed,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::{Arc, Mutex, PoisonError},
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use shmring::os::{self, PidFd};

use super::{
    KeptFd,
    fork::{KILL, PANICKED},
};
use crate::exit::How;

/// How long a killed process may take to end where the machine is busy, before nobody waits any more
/// and a zombie stays.
const LATEST_END: Duration = Duration::from_secs(5);

/// Knows how a process ended that is no child of this one.
pub(crate) trait Reaper: fmt::Debug + Send + Sync {
    /// How it ended, once it has. Waits a moment for the one who knows.
    fn reap(&self) -> How;
}

/// The backend, seen from its frontend.
#[derive(Debug)]
pub(crate) enum Child {
    Process {
        pid: u32,
        pidfd: KeptFd,
    },
    /// A child of a fork server of ours, which tells how it ended.
    Served {
        pid: u32,
        pidfd: KeptFd,
        server: Arc<dyn Reaper>,
    },
    /// Its end is seen by its closing the channel.
    Thread(Mutex<Option<JoinHandle<i32>>>),
}

impl Child {
    /// Takes a child of ours that nobody has waited for yet. One that cannot be watched is ended.
    pub(super) fn process(pid: u32) -> io::Result<Child> {
        let pidfd = PidFd::open(pid).inspect_err(|_| end_unwatched(pid))?;
        Ok(Child::Process { pid, pidfd: KeptFd::new(pidfd.into()) })
    }

    /// Takes a child of a fork server.
    pub(crate) fn served(pid: u32, pidfd: OwnedFd, server: Arc<dyn Reaper>) -> Child {
        Child::Served { pid, pidfd: KeptFd::new(pidfd), server }
    }

    pub(crate) fn thread(handle: JoinHandle<i32>) -> Child {
        Child::Thread(Mutex::new(Some(handle)))
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Child::Process { pid, .. } | Child::Served { pid, .. } => *pid,
            Child::Thread(_) => os::pid(),
        }
    }

    /// What becomes readable when it ends.
    pub(crate) fn death(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Child::Process { pidfd, .. } | Child::Served { pidfd, .. } => Some(pidfd.as_fd()),
            Child::Thread(_) => None,
        }
    }

    /// Takes its exit status, once it has ended. A thread is waited for: call this when it has
    /// closed its channel.
    pub(crate) fn reap(&self) -> Option<How> {
        match self {
            Child::Process { pidfd, .. } => match wait(pidfd.as_fd()) {
                Ok(how) => how,
                // Somebody has waited for it.
                Err(_) => self.has_ended().then_some(How::Unknown),
            },
            Child::Served { server, .. } => self.has_ended().then(|| server.reap()),
            Child::Thread(handle) => {
                let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(How::Code(handle.join().unwrap_or(PANICKED)))
            }
        }
    }

    /// Whether its process has ended; of a thread that is not known.
    pub(crate) fn has_ended(&self) -> bool {
        self.death().is_some_and(|death| {
            let mut fds = [os::PollFd::readable(death)];
            matches!(os::poll(&mut fds, Some(Duration::ZERO)), Ok(1))
        })
    }

    /// Sends a signal to exactly this process; `false` when it cannot be sent one.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        match self {
            Child::Process { pidfd, .. } | Child::Served { pidfd, .. } => {
                send(pidfd.as_fd(), signal).is_ok()
            }
            Child::Thread(_) => false,
        }
    }

    /// Kills it, and waits a moment for its end, so that no zombie stays. A thread ends by itself.
    pub(crate) fn end(&self) {
        if !self.signal(KILL) {
            return;
        }
        let until = Instant::now() + LATEST_END;
        while self.reap().is_none() && Instant::now() < until {
            sleep(Duration::from_micros(100));
        }
    }

    pub(crate) fn is_thread(&self) -> bool {
        matches!(self, Child::Thread(_))
    }
}

/// Kills a child that has just been started and will not be watched, and waits for its end.
pub(crate) fn end_unwatched(pid: u32) {
    let pid = Pid::from_raw(pid as i32);
    let _ = kill(pid, Signal::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// The exit status of a child; `None` while it lives.
///
/// # Errors
///
/// The kernel's: it is no child of ours, or somebody has waited for it.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<How>> {
    // SAFETY: all zeros is a valid siginfo; the kernel fills it as far as the call says.
    let info = unsafe {
        let mut info: libc::siginfo_t = zeroed();
        let id = pidfd.as_raw_fd() as libc::id_t;
        let flags = libc::WEXITED | libc::WNOHANG;
        if libc::waitid(libc::P_PIDFD, id, &raw mut info, flags) == -1 {
            return Err(io::Error::last_os_error());
        }
        info
    };
    if info.si_signo == 0 {
        return Ok(None);
    }
    // SAFETY: waitid has filled this field.
    let status = unsafe { info.si_status() };
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => How::Code(status),
        code => How::Signal { number: status, core: code == libc::CLD_DUMPED },
    }))
}

fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
