//! The backend of a fork server: it forks, and tells how its children ended.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use serde::{Deserialize, Serialize};
use shmring::{
    os::{self, PidFd},
    transfer::Descriptor,
};

use super::{
    arrive,
    backend::{Backend, Incoming, Outcome},
    context::{Context, Interest, Token},
};
use crate::{
    error::{Error, Result},
    exit::How,
    start::{Kept, KeptFd, Place, end_unwatched, exit_of, fork_stranger, refuse_threads},
};

/// The process that forks others.
pub(super) struct Server {
    preload: Vec<Place>,
    /// Readable when a child has ended.
    deaths: Kept<os::Epoll>,
    children: HashMap<u64, KeptFd>,
    /// How many it has forked.
    forked: u64,
}

/// A new child of the server.
#[derive(Serialize, Deserialize)]
pub(super) struct Forked {
    pub(super) serial: u64,
    pub(super) pid: u32,
    pub(super) pidfd: Descriptor,
}

/// A child of the server has ended.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) serial: u64,
    pub(super) how: How,
}

const DEATHS: Token = Token(0);

impl Server {
    pub(super) fn new(preload: Vec<Place>) -> Result<Server> {
        let deaths = Kept::new(os::Epoll::new().map_err(Error::io("make an epoll"))?);
        Ok(Server { preload, deaths, children: HashMap::new(), forked: 0 })
    }

    fn fork(&mut self, name: &str, control: Descriptor) -> Result<Forked> {
        let failed = || Error::io("watch the new process");
        // One for each, for the child has to close it.
        let parent = OwnedFd::from(PidFd::open(os::pid()).map_err(failed())?);
        let pid = fork_stranger(name, || arrive::arrive_later(control.into(), parent))?;
        let serial = self.forked;
        self.forked += 1;
        let handed = self.watch(serial, pid).inspect_err(|_| end_unwatched(pid));
        Ok(Forked { serial, pid, pidfd: handed.map_err(failed())?.into() })
    }

    /// Gives a descriptor for who asked for the process.
    fn watch(&mut self, serial: u64, pid: u32) -> io::Result<OwnedFd> {
        // It is not waited for before it is watched, so the number means no other.
        let pidfd = OwnedFd::from(PidFd::open(pid)?);
        let handed = pidfd.try_clone()?;
        self.deaths.add(pidfd.as_fd(), serial)?;
        self.children.insert(serial, KeptFd::new(pidfd));
        Ok(handed)
    }
}

/// The general text advises what whoever starts a server has just done.
fn say_whose(error: Error, since: &str) -> Error {
    match error {
        Error::MultiThreaded { threads, .. } => Error::other(format!(
            "it has {threads} threads, and a lock that one of them holds would be held for ever in what it forks. It had them {since}"
        )),
        other => other,
    }
}

/// By hand, for the macro names this crate from outside.
impl Backend for Server {
    type Event = Ended;

    const COMMANDS: &'static [&'static str] = &["fork"];

    fn pre_run(&mut self, ctx: &mut Context<Ended>) -> Result<()> {
        refuse_threads(ctx.name()).map_err(|error| say_whose(error, "when it called `msgproc::init()`: call that first in `main`, before threads are started (instead of `#[tokio::main]`, build the runtime in `main` behind it)"))?;
        for place in self.preload.drain(..) {
            place.find::<(), ()>().map_err(Error::other)?(());
        }
        refuse_threads(ctx.name())
            .map_err(|error| say_whose(error, "after what it preloads: that must leave none"))?;
        ctx.watch(&self.deaths, Interest::Readable, DEATHS)
    }

    fn on_ready(&mut self, _token: Token, ctx: &mut Context<Ended>) -> Result<()> {
        let mut ended = Vec::new();
        self.deaths
            .take(|serial| ended.push(serial))
            .map_err(Error::io("look which processes have ended"))?;
        for serial in ended {
            let Some(pidfd) = self.children.get(&serial) else { continue };
            let how = match exit_of(pidfd.as_fd()) {
                Ok(None) => continue,
                Ok(Some(how)) => how,
                Err(_) => How::Unknown,
            };
            self.children.remove(&serial);
            ctx.emit(Ended { serial, how })?;
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        command: &str,
        incoming: Incoming<'_>,
        _ctx: &mut Context<Ended>,
    ) -> Outcome {
        match command {
            "fork" => match incoming.arguments::<(String, Descriptor)>() {
                Ok((name, control)) => Outcome::result(self.fork(&name, control)),
                Err(outcome) => outcome,
            },
            other => Outcome::unknown(other),
        }
    }
}
