//! What a manager tells.

use super::{GroupId, ProcessId, Restart};
use crate::{
    error::Error,
    exit::Exit,
    process::{NoEvents, Token},
};

/// Something that a manager tells. `E` is the type of its processes' events.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happening<E = NoEvents> {
    /// A backend sent this with [`Context::emit`](crate::Context::emit).
    Event {
        /// Which process.
        process: ProcessId,
        /// What it sent.
        event: E,
    },
    /// Something failed in a process that nobody waits for, as in
    /// [`Event::Failed`](crate::Event::Failed).
    Failed {
        /// Which process.
        process: ProcessId,
        /// What failed.
        error: Error,
    },
    /// A reply has come that can be taken ([`Reply::try_take`](crate::Reply::try_take)). Told
    /// once, also when several have come.
    Reply {
        /// Which process.
        process: ProcessId,
    },
    /// A process has ended: how, why, and what follows. All that it sent was told before.
    Ended {
        /// Which process.
        process: ProcessId,
        /// How and why.
        exit: Exit,
        /// What follows.
        restart: Restart,
    },
    /// A process has been started again, and is ready.
    Restarted {
        /// Which process.
        process: ProcessId,
    },
    /// A process could not be started again, or ended before it was ready.
    RestartFailed {
        /// Which process.
        process: ProcessId,
        /// Why.
        error: Error,
        /// What follows.
        restart: Restart,
    },
    /// A group has been given up, and all its members have ended.
    /// [`Manager::restart_group`](super::Manager::restart_group) starts it anew.
    GaveUp {
        /// Which group.
        group: GroupId,
    },
    /// A watched descriptor is ready. Told again as long as it is ready.
    Ready(Token),
    /// A timer is due.
    Timer(Token),
    /// A signal has come.
    Signal(Signal),
    /// Somebody called [`Waker::wake`](super::Waker::wake), once or several times.
    Woken,
    /// Somebody called [`ManagerThread::stop`](super::ManagerThread::stop): the function that
    /// runs the manager should return.
    Stop,
}

/// A signal that asks a program to end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    pub(super) const ALL: [Signal; 2] = [Signal::Interrupt, Signal::Terminate];

    /// Its number. A program that ends because of it exits with 128 + this number.
    pub fn number(self) -> i32 {
        match self {
            Signal::Interrupt => nix::sys::signal::Signal::SIGINT as i32,
            Signal::Terminate => nix::sys::signal::Signal::SIGTERM as i32,
        }
    }

    pub(super) fn from_number(number: i32) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.number() == number)
    }
}
