//! Descriptors that wake a participant's poll: eventfds that travel with an anonymous segment,
//! named pipes beside a named one.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    error::{Error, Result},
    named, names,
    os::{self, Event, Fifo},
};

pub(crate) enum Bells {
    /// Everybody has all of them.
    Events(Vec<Event>),
    /// Each participant has its own; ringers open it when they ring.
    Pipes { name: String, ours: Vec<Inherited> },
}

/// The pipes of one bell that this process has: at most one of its own, behind those that it inherited,
/// of which the names go with whoever made them. None is dropped before all are: they are lent.
#[derive(Default)]
pub(crate) struct Inherited(OnceLock<Box<(OurPipe, Inherited)>>);

impl Inherited {
    /// The place where the pipe of this process is, or will be.
    fn own(&self) -> &OnceLock<Box<(OurPipe, Inherited)>> {
        match self.0.get().map(|first| &**first) {
            Some((pipe, later)) if pipe.forks != os::fork_generation() => later.own(),
            _ => &self.0,
        }
    }

    fn get(&self) -> Option<&OurPipe> {
        self.own().get().map(|own| &own.0)
    }
}

/// The pipe that wakes this process. Its name goes with it.
pub(crate) struct OurPipe {
    fifo: Fifo,
    path: PathBuf,
    pid: u32,
    /// Which generation of forks it is of.
    forks: u32,
}

impl Bells {
    pub(crate) fn events(count: usize) -> Result<Bells> {
        let event = |_| Event::new().map_err(Error::io("create an eventfd"));
        (0..count).map(event).collect::<Result<_>>().map(Bells::Events)
    }

    pub(crate) fn received(fds: Vec<OwnedFd>) -> Bells {
        Bells::Events(fds.into_iter().map(Event::from_fd).collect())
    }

    pub(crate) fn named(name: &str, count: usize) -> Bells {
        Bells::Pipes { name: name.into(), ours: (0..count).map(|_| Inherited::default()).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Bells::Events(events) => events.len(),
            Bells::Pipes { ours, .. } => ours.len(),
        }
    }

    /// The events, to be sent with the segment; none for a named one.
    pub(crate) fn to_send(&self) -> &[Event] {
        match self {
            Bells::Events(events) => events,
            Bells::Pipes { .. } => &[],
        }
    }

    /// Makes a bell ready to wake this process. Tells whether it is.
    pub(crate) fn take(&self, number: u32) -> bool {
        match self {
            Bells::Events(events) => (number as usize) < events.len(),
            Bells::Pipes { name, ours } => ours.get(number as usize).is_some_and(|pipes| {
                let make = || OurPipe::make(name, number);
                let put = |pipe| pipes.own().set(Box::new((pipe, Inherited::default()))).is_ok();
                pipes.get().is_some() || make().is_some_and(put)
            }),
        }
    }

    /// Wakes whoever polls a bell. False where that could not be done, for want of a descriptor: who
    /// polls it may still be there.
    pub(crate) fn set(&self, number: u32) -> bool {
        match self {
            Bells::Events(events) => {
                if let Some(event) = events.get(number as usize) {
                    event.set();
                }
                true
            }
            // Opened anew each time: its owner may have gone, and another have made its own.
            Bells::Pipes { name, .. } => {
                let Ok(path) = names::path(name, names::Kind::Bell(number)) else { return true };
                match Fifo::open(&path) {
                    Ok(fifo) => fifo.set(),
                    Err(error) => return !os::is_out_of_descriptors(&error),
                }
                true
            }
        }
    }

    /// Makes this process's bell quiet. Tells whether it was not.
    pub(crate) fn clear(&self, number: u32) -> bool {
        let number = number as usize;
        match self {
            Bells::Events(events) => events.get(number).is_some_and(Event::clear),
            Bells::Pipes { ours, .. } => {
                ours.get(number).and_then(Inherited::get).is_some_and(|pipe| pipe.fifo.clear())
            }
        }
    }

    /// This process's bell as a descriptor.
    pub(crate) fn fd(&self, number: u32) -> Option<BorrowedFd<'_>> {
        match self {
            Bells::Events(events) => events.get(number as usize).map(AsFd::as_fd),
            Bells::Pipes { ours, .. } => {
                ours.get(number as usize).and_then(Inherited::get).map(|pipe| pipe.fifo.as_fd())
            }
        }
    }
}

/// Removes the bells of participants of a named segment that died. Those of the living are locked.
pub(super) fn remove_stale(name: &str, count: usize) {
    for number in 0..count as u32 {
        // What cannot be removed shows up as stale.
        if let Ok(path) = names::path(name, names::Kind::Bell(number)) {
            let _ = named::remove_if_stale(&path);
        }
    }
}

impl OurPipe {
    /// `None` when the pipe cannot be had: then this process sleeps on the futex.
    fn make(name: &str, number: u32) -> Option<OurPipe> {
        let path = names::path(name, names::Kind::Bell(number)).ok()?;
        // One that exists and that nobody has locked was left by a participant that died.
        let made = Fifo::create(&path).is_ok();
        let pipe = OurPipe::open(&path);
        if pipe.is_none() && made {
            // No descriptor is left, for example. The number of this bell is ours.
            let _ = os::remove(&path);
        }
        pipe
    }

    fn open(path: &Path) -> Option<OurPipe> {
        let fifo = Fifo::open(path).ok()?;
        let info = os::file_info(fifo.as_fd()).ok()?;
        // Locked like any segment, so that cleaners see that it is in use.
        let usable = info.fifo
            && info.user == os::user_id()
            && os::flock_exclusive(fifo.as_fd()).ok()?
            && os::flock_shared(fifo.as_fd()).ok()?
            && os::same_file(fifo.as_fd(), path).ok()?;
        let (pid, forks) = (os::pid(), os::fork_generation());
        usable.then(|| OurPipe { fifo, path: path.into(), pid, forks })
    }
}

impl Drop for OurPipe {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if self.pid == os::pid() && os::same_file(self.fifo.as_fd(), &self.path).unwrap_or(false) {
            let _ = os::remove(&self.path);
        }
    }
}
