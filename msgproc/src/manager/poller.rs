//! The one poll: processes, watched descriptors, and the descriptors of the manager's own.
//!
//! mio is edge-triggered: what it has told it does not tell again. Processes are asked until they
//! have nothing left. Watched descriptors are made level-triggered: one that was told is armed
//! anew before the next poll, so whoever reads only a part of what there is is told again.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use mio::{Events, Poll, unix::SourceFd};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use super::queue::Source;
use crate::{
    process::{Interest, Token},
    start::{Kept, KeptEvent, KeptFd},
};

/// How many events one call of the kernel gives at most.
const EVENTS: usize = 256;

#[derive(Debug)]
pub(super) struct Poller {
    poll: Kept<Poll>,
    events: Events,
    timer: Kept<Timer>,
    /// What the timer is set to.
    armed: Option<Instant>,
    /// Raised while there may be more to tell, for a poll that ours stands in.
    backlog: KeptEvent,
    /// Whether our descriptor was ever given to such a poll.
    offered: AtomicBool,
    watches: Vec<Option<Watch>>,
    /// Those that were told since the last poll.
    told: Vec<usize>,
}

/// A duplicate, so that it is in the poll exactly as long as it is watched.
#[derive(Debug)]
struct Watch {
    token: Token,
    fd: KeptFd,
    interest: Interest,
}

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        let poller = Poller {
            poll: Kept::new(Poll::new()?),
            events: Events::with_capacity(EVENTS),
            timer: Kept::new(timer),
            armed: None,
            backlog: KeptEvent::new()?,
            offered: AtomicBool::new(false),
            watches: Vec::new(),
            told: Vec::new(),
        };
        poller.add(poller.timer.as_fd(), Source::Timers)?;
        poller.add(poller.backlog.as_fd(), Source::Backlog)?;
        Ok(poller)
    }

    /// Tells `source` when the descriptor becomes readable.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let raw = fd.as_raw_fd();
        let readable = mio::Interest::READABLE;
        self.poll.registry().register(&mut SourceFd(&raw), mio::Token(source.number()), readable)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Watches a descriptor.
    pub(super) fn watch(
        &mut self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        token: Token,
    ) -> io::Result<()> {
        let fd = KeptFd::new(fd.try_clone_to_owned()?);
        let index = match self.watches.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.watches.push(None);
                self.watches.len() - 1
            }
        };
        let raw = fd.as_fd().as_raw_fd();
        let number = mio::Token(Source::Watch(index).number());
        self.poll.registry().register(&mut SourceFd(&raw), number, wanted(interest))?;
        self.watches[index] = Some(Watch { token, fd, interest });
        Ok(())
    }

    /// Ends the watches of a token; gives their places.
    pub(super) fn unwatch(&mut self, token: Token) -> Vec<usize> {
        let mut ended = Vec::new();
        for index in 0..self.watches.len() {
            let Some(watch) = self.watches[index].take_if(|watch| watch.token == token) else {
                continue;
            };
            self.remove(watch.fd.as_fd());
            ended.push(index);
        }
        ended
    }

    pub(super) fn has_watches(&self) -> bool {
        self.watches.iter().any(Option::is_some)
    }

    /// The token of a watch that is ready, and is told now.
    pub(super) fn tell(&mut self, index: usize) -> Option<Token> {
        let token = self.watches.get(index)?.as_ref()?.token;
        self.told.push(index);
        Some(token)
    }

    /// Sets the timer.
    pub(super) fn arm(&mut self, at: Option<Instant>) -> io::Result<()> {
        if self.armed == at {
            return Ok(());
        }
        match at {
            Some(at) => {
                // Zero would mean never.
                let left =
                    at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer.0.set(expiration, TimerSetTimeFlags::empty())?;
            }
            None => self.timer.0.unset()?,
        }
        self.armed = at;
        Ok(())
    }

    /// Waits, and gives what may have something to tell. A signal may end the wait early.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut found: impl FnMut(Source),
    ) -> io::Result<()> {
        self.arm_told()?;
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            match Source::from_number(event.token().0) {
                Some(Source::Backlog) => self.backlog.clear(),
                Some(source) => {
                    if source == Source::Timers {
                        self.armed = None;
                    }
                    found(source);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn arm_told(&mut self) -> io::Result<()> {
        for index in self.told.drain(..) {
            let Some(watch) = &self.watches[index] else {
                continue;
            };
            let number = mio::Token(Source::Watch(index).number());
            let raw = watch.fd.as_fd().as_raw_fd();
            let registry = self.poll.registry();
            registry.reregister(&mut SourceFd(&raw), number, wanted(watch.interest))?;
        }
        Ok(())
    }

    /// Rings for a poll that our descriptor stands in: there may be more to tell.
    pub(super) fn note_backlog(&self) {
        if self.offered.load(Relaxed) {
            self.backlog.set();
        }
    }

    /// Our descriptor, for another poll.
    pub(super) fn offer(&self) -> BorrowedFd<'_> {
        if !self.offered.swap(true, Relaxed) {
            self.backlog.set();
        }
        self.poll.as_fd()
    }
}

fn wanted(interest: Interest) -> mio::Interest {
    match interest {
        Interest::Readable => mio::Interest::READABLE,
        Interest::Writable => mio::Interest::WRITABLE,
        Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
    }
}
