//! The fork server: a small process of one thread that forks on request, seen from its frontend.

use std::{
    collections::{HashMap, VecDeque},
    fmt, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use shmring::{
    os::{self, PollFd},
    transfer::Descriptor,
};

use super::{
    call::Reply,
    event::Event,
    forker::{Forked, Server},
    frontend::{MessageProcess, Start},
    recipe::place_of,
};
use crate::{
    channel,
    error::{Error, Result},
    exit::{Exit, How},
    start::{Child, KeptFd, Place, Reaper, conjure},
};

/// How long the exit status of a child is waited for once it has ended.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// A small process of one thread, started from any program, that forks backends on request:
/// [`MessageProcess::fork_from`].
///
/// A fork copies the page tables of its parent, which takes tens of milliseconds for each
/// gigabyte, and a program with threads must not fork at all. The server has no threads and
/// little memory, whatever the program that started it has.
///
/// It forks [one process ahead](ForkServerOptions::spares) of the next start, which waits for its
/// greeting: a start then takes hardly longer than a call.
///
/// It executes this program anew, so [`init`](crate::init) has to be called first in `main`. What
/// [`preload`](ForkServerOptions::preload) loads is there in each backend, in memory that all of
/// them share until one writes to it.
///
/// When the server dies, its backends live on; how they end is then not known any more
/// ([`How::Unknown`]). The next start begins a new server.
///
/// ```no_run
/// use std::sync::OnceLock;
///
/// use msgproc::{ForkServer, prelude::*};
///
/// static MODEL: OnceLock<Vec<f32>> = OnceLock::new();
///
/// struct Worker;
///
/// #[backend]
/// impl Worker {
///     fn c__weight(&mut self, index: usize) -> f32 {
///         MODEL.get().unwrap()[index]
///     }
/// }
///
/// fn main() -> msgproc::Result<()> {
///     msgproc::init();
///     let server =
///         ForkServer::options().preload(|| MODEL.set(vec![0.5; 1 << 20]).unwrap()).start()?;
///     let mut worker = MessageProcess::fork_from(&server, "worker", (), |(), _| Worker)?;
///     assert_eq!(worker.weight(7).wait()?, 0.5);
///     worker.stop()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ForkServer(Arc<Served>);

/// How a fork server is started.
#[derive(Debug)]
#[must_use = "options start nothing: `start` does"]
pub struct ForkServerOptions {
    name: String,
    timeout: Duration,
    spares: usize,
    preload: Vec<fn() -> Result<Place>>,
}

struct Served {
    /// Asked for ahead of the next starts, the oldest first.
    ahead: Mutex<VecDeque<Ahead>>,
    /// How many are asked for ahead.
    spares: usize,
    process: RwLock<MessageProcess<Server>>,
    /// Of children that have ended and nobody has asked about yet, by their serial numbers.
    ends: Mutex<HashMap<u64, How>>,
    /// The pid of a server that did not answer in time: it is not waited for again before it does.
    late: AtomicU32,
}

/// A process that a server was asked for.
struct Ahead {
    /// The pid of that server.
    server: u32,
    /// The frontend's end of its control channel. It ends when this is dropped.
    ours: KeptFd,
    forked: Reply<Forked>,
}

/// A process that waits for its greeting.
pub(super) struct Unborn {
    pub(super) child: Child,
    pub(super) control: KeptFd,
    /// The pid of its server.
    pub(super) server: u32,
}

impl ForkServer {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::spawn`].
    pub fn start() -> Result<ForkServer> {
        ForkServer::options().start()
    }

    /// A server that is a fork of this program, so that its backends have what this has in memory
    /// now. It cannot be replaced once this program has threads.
    pub(crate) fn copy_of_this(name: &str) -> Result<ForkServer> {
        let process = MessageProcess::fork(name, |_: &Start| Server::new(Vec::new()))?;
        Ok(ForkServer::new(process, 0))
    }

    /// Another server that is a copy of the program as this one is, for it is forked from this. It
    /// lives on when this one dies.
    pub(crate) fn copy_again(&self, name: &str, timeout: Duration) -> Result<ForkServer> {
        let options = MessageProcess::options(name).start_timeout(timeout);
        let make = |(), _: &Start| Server::new(Vec::new());
        Ok(ForkServer::new(options.fork_from_copy(self, (), make)?, 0))
    }

    fn new(process: MessageProcess<Server>, spares: usize) -> ForkServer {
        let server = ForkServer(Arc::new(Served {
            ahead: Mutex::new(VecDeque::new()),
            spares,
            process: RwLock::new(process),
            ends: Mutex::new(HashMap::new()),
            late: AtomicU32::new(0),
        }));
        server.look_ahead();
        server
    }

    /// Says more about the server to be started.
    pub fn options() -> ForkServerOptions {
        ForkServerOptions {
            name: "fork-server".into(),
            timeout: Duration::from_secs(30),
            spares: 1,
            preload: Vec::new(),
        }
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Whether it has not ended. It may end right after.
    pub fn is_alive(&self) -> bool {
        self.process().is_alive()
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        self.process().exit()
    }

    /// A descriptor that becomes readable when the server ends that there is now, so that a
    /// [`Manager`](crate::Manager::watch) or any other poll tells of it. After that,
    /// [`ForkServer::exit`] says how.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no descriptor is left.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use msgproc::{ForkServer, Interest, Manager, Token, manager::Happening, prelude::*};
    /// # fn serve<B: Backend>(manager: &mut Manager<B>, server: &ForkServer) -> msgproc::Result<()> {
    /// const SERVER: Token = Token(1);
    /// manager.watch(server.pidfd()?, Interest::Readable, SERVER)?;
    /// match manager.next(Duration::from_secs(1))? {
    ///     Some(Happening::Ready(SERVER)) => {
    ///         manager.unwatch(SERVER);
    ///         eprintln!("the fork server has ended: {:?}", server.exit());
    ///         server.restart()?;
    ///     }
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pidfd(&self) -> Result<OwnedFd> {
        self.process().death()?.ok_or_else(|| Error::other("the fork server is a thread"))
    }

    /// Starts a new server in the place of this one, which is stopped if it lives. The backends of
    /// the old one live on.
    ///
    /// # Errors
    ///
    /// As [`ForkServer::start`].
    pub fn restart(&self) -> Result<()> {
        self.0.process.write().unwrap_or_else(PoisonError::into_inner).restart()
    }

    /// Starts a new server, unless another thread has done so meanwhile.
    pub(super) fn revive(&self) -> Result<()> {
        let mut process = self.0.process.write().unwrap_or_else(PoisonError::into_inner);
        if process.is_alive() { Ok(()) } else { process.restart() }
    }

    fn process(&self) -> RwLockReadGuard<'_, MessageProcess<Server>> {
        self.0.process()
    }

    /// Takes a process that waits for its greeting, for a backend of this name. The server may take
    /// until then for it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] when the server ends meanwhile; [`Error::TimedOut`].
    pub(super) fn take(&self, name: &str, until: Instant) -> Result<Unborn> {
        while let Some(ahead) = self.0.next_ahead() {
            match self.0.receive(ahead, until) {
                Err(late @ Error::TimedOut { .. }) => return Err(late),
                // Whatever else was wrong then is asked about anew.
                Err(_) => {}
                // It may have been killed while it waited.
                Ok(unborn) if unborn.child.reap().is_some() => {}
                Ok(unborn) => return Ok(unborn),
            }
        }
        if self.process().has_ended() {
            self.revive()?;
        }
        self.0.ask_for(name).and_then(|ahead| self.0.receive(ahead, until))
    }

    /// Whether the server with this pid has lived until now.
    pub(super) fn lives(&self, server: u32) -> bool {
        self.0.lives(server)
    }

    /// Has the server fork what the next starts will take.
    pub(super) fn look_ahead(&self) {
        self.0.look_ahead();
    }
}

/// How long a process that waited for its greeting may take to end when it will get none.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);

impl Drop for Served {
    /// Nobody who waits is left when the server ends.
    fn drop(&mut self) {
        let waiting = mem::take(self.ahead.get_mut().unwrap_or_else(PoisonError::into_inner));
        for Ahead { ours, mut forked, .. } in waiting {
            drop(ours);
            if let Ok(Forked { pidfd, .. }) = forked.wait_timeout(LEAVE_TIMEOUT) {
                let _ = os::poll(&mut [PollFd::readable(pidfd.as_fd())], Some(LEAVE_TIMEOUT));
            }
        }
    }
}

impl Served {
    fn process(&self) -> RwLockReadGuard<'_, MessageProcess<Server>> {
        self.process.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<u64, How>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ahead(&self) -> MutexGuard<'_, VecDeque<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self, server: u32) -> bool {
        let process = self.process();
        process.pid() == server && !process.has_ended()
    }

    /// The oldest that a server was asked for that lives; what others were asked for is given up.
    fn next_ahead(&self) -> Option<Ahead> {
        let mut waiting = self.ahead();
        waiting.retain(|ahead| self.lives(ahead.server));
        waiting.pop_front()
    }

    fn look_ahead(&self) {
        let mut waiting = self.ahead();
        while waiting.len() < self.spares {
            // Whoever takes it is told what is wrong.
            let Ok(ahead) = self.ask_for("spare") else { break };
            waiting.push_back(ahead);
        }
    }

    /// Asks for a process that takes its life from its control channel.
    fn ask_for(&self, name: &str) -> Result<Ahead> {
        let failed = || Error::io("make a control channel for a fork server");
        let (ours, theirs) = channel::pair().map_err(failed())?;
        let ours = KeptFd::new(ours);
        let process = self.process();
        let forked = process.call("fork", (name.to_owned(), Descriptor::from(theirs))).send()?;
        Ok(Ahead { server: process.pid(), ours, forked })
    }

    fn receive(self: &Arc<Self>, ahead: Ahead, until: Instant) -> Result<Unborn> {
        let Ahead { server, ours, mut forked } = ahead;
        let rest = until.saturating_duration_since(Instant::now());
        let Forked { serial, pid, pidfd } = forked.wait_timeout(rest)?;
        let parent = Parent { served: self.clone(), server, serial };
        let child = Child::served(pid, pidfd.into(), Arc::new(parent));
        Ok(Unborn { child, control: ours, server })
    }

    /// How a child of this server ended, as that server says. One that is stopped or busy is waited for
    /// a moment, once; one that is being replaced is not asked.
    fn ask(&self, server: u32, serial: u64) -> Option<How> {
        let is_late = self.late.load(Ordering::Relaxed) == server;
        let until = Instant::now() + if is_late { Duration::ZERO } else { STATUS_TIMEOUT };
        loop {
            if let Some(how) = self.ends().remove(&serial) {
                return Some(how);
            }
            let process = self.process.try_read().ok().filter(|process| process.pid() == server)?;
            // Another thread may take the one that we wait for.
            let slice = Instant::now() + Duration::from_millis(5);
            match process.next_event(slice.min(until).saturating_duration_since(Instant::now())) {
                Ok(Some(Event::Emitted(ended))) => {
                    self.late.store(0, Ordering::Relaxed);
                    self.ends().insert(ended.serial, ended.how);
                    continue;
                }
                Ok(Some(Event::Failed(error))) => tracing::warn!(%error, "the fork server"),
                Ok(Some(Event::Ended(exit))) => tracing::warn!(%exit, "the fork server has ended"),
                Ok(None) => {}
                Err(_) => return self.ends().remove(&serial),
            }
            if Instant::now() >= until {
                self.late.store(server, Ordering::Relaxed);
                return self.ends().remove(&serial);
            }
        }
    }
}

/// The server that a backend is a child of; there may be a new one by now, which knows nothing of
/// it.
#[derive(Debug)]
struct Parent {
    served: Arc<Served>,
    /// The pid of the server.
    server: u32,
    /// The number that the server gave to the child.
    serial: u64,
}

impl Reaper for Parent {
    fn reap(&self) -> How {
        self.served.ask(self.server, self.serial).unwrap_or(How::Unknown)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl ForkServerOptions {
    /// The name of its process; `fork-server` by default.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How long its start may take, with all that it loads; 30 seconds by default.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many processes it forks ahead of the next starts; 1 by default, which serves one start
    /// after the other. As many starts as this, all at once, find their process waiting.
    ///
    /// They share the server's memory, take no processor time, and end with the server.
    pub fn spares(mut self, spares: usize) -> Self {
        self.spares = spares;
        self
    }

    /// Runs `load` in the server before it forks anything; several run in their order. It must
    /// capture nothing, and leave no thread.
    pub fn preload<F: Fn() + Copy + 'static>(mut self, _load: F) -> Self {
        self.preload.push(|| place_of("fork-server", run_preload::<F>, std::any::type_name::<F>()));
        self
    }

    /// Starts the server, and waits until it has loaded what it should.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::spawn`]; [`Error::PreRun`] when what it loads panics, or leaves
    /// threads.
    pub fn start(self) -> Result<ForkServer> {
        let preload = self.preload.iter().map(|place| place()).collect::<Result<Vec<Place>>>()?;
        let process = MessageProcess::options(&self.name)
            .start_timeout(self.timeout)
            .spawn(preload, |preload: Vec<Place>, _: &Start| Server::new(preload))?;
        Ok(ForkServer::new(process, self.spares))
    }
}

fn run_preload<F: Fn() + Copy + 'static>(_: ()) {
    conjure::<F>()();
}
