//! The fork server: a small process of one thread that forks on request.

use std::{
    collections::HashMap,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
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
    event::Event,
    frontend::{MessageProcess, Start},
    recipe::place_of,
};
use crate::{
    error::{Error, Result},
    exit::{Exit, How},
    start::{Child, Kept, KeptFd, Place, Reaper, conjure, exit_of, fork_stranger, refuse_threads},
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
    preload: Vec<fn() -> Result<Place>>,
}

struct Served {
    process: RwLock<MessageProcess<Server>>,
    /// Of children that have ended and nobody has asked about yet.
    ends: Mutex<HashMap<u32, How>>,
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
        Ok(ForkServer(Arc::new(Served {
            process: RwLock::new(process),
            ends: Mutex::new(HashMap::new()),
        })))
    }

    /// Says more about the server to be started.
    pub fn options() -> ForkServerOptions {
        ForkServerOptions {
            name: "fork-server".into(),
            timeout: Duration::from_secs(30),
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
    fn revive(&self) -> Result<()> {
        let mut process = self.0.process.write().unwrap_or_else(PoisonError::into_inner);
        if process.is_alive() { Ok(()) } else { process.restart() }
    }

    fn process(&self) -> RwLockReadGuard<'_, MessageProcess<Server>> {
        self.0.process()
    }

    /// Forks a process that takes its life from this control channel.
    pub(super) fn fork(&self, name: &str, control: &OwnedFd) -> Result<Child> {
        let ask = || -> Result<(u32, Descriptor)> {
            let control = Descriptor::from(
                os::duplicate(control.as_fd())
                    .map_err(Error::io("hand a control channel to the fork server"))?,
            );
            self.process().call("fork", (name.to_owned(), control)).wait()
        };
        let answer = match ask() {
            Err(Error::PeerDied { .. }) => {
                self.revive()?;
                ask()
            }
            answer => answer,
        };
        let (pid, pidfd) = answer?;
        let parent = Parent { served: self.0.clone(), pid: self.pid() };
        Ok(Child::served(pid, pidfd.into(), Arc::new(parent)))
    }
}

impl Served {
    fn process(&self) -> RwLockReadGuard<'_, MessageProcess<Server>> {
        self.process.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<u32, How>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, pid: u32) -> Option<How> {
        let until = Instant::now() + STATUS_TIMEOUT;
        loop {
            if let Some(how) = self.ends().remove(&pid) {
                return Some(how);
            }
            let process = self.process();
            // Another thread may take the one that we wait for.
            let slice = Instant::now() + Duration::from_millis(5);
            match process.next_event(slice.min(until).saturating_duration_since(Instant::now())) {
                Ok(Some(Event::Emitted(ended))) => {
                    self.ends().insert(ended.pid, ended.how);
                }
                Ok(Some(Event::Failed(error))) => tracing::warn!(%error, "the fork server"),
                Ok(Some(Event::Ended(exit))) => tracing::warn!(%exit, "the fork server has ended"),
                Ok(None) => {}
                Err(_) => return self.ends().remove(&pid),
            }
            if Instant::now() >= until {
                return self.ends().remove(&pid);
            }
        }
    }
}

/// The server that a backend is a child of; there may be a new one by now, which knows nothing of
/// it.
#[derive(Debug)]
struct Parent {
    served: Arc<Served>,
    pid: u32,
}

impl Reaper for Parent {
    fn reap(&self, pid: u32) -> How {
        let told = self.served.ends().remove(&pid);
        let asked = || {
            let is_same = self.served.process().pid() == self.pid;
            is_same.then(|| self.served.ask(pid)).flatten()
        };
        told.or_else(asked).unwrap_or(How::Unknown)
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
        Ok(ForkServer(Arc::new(Served {
            process: RwLock::new(process),
            ends: Mutex::new(HashMap::new()),
        })))
    }
}

fn run_preload<F: Fn() + Copy + 'static>(_: ()) {
    conjure::<F>()();
}

/// The server's side.
struct Server {
    preload: Vec<Place>,
    /// Readable when a child has ended.
    deaths: Kept<os::Epoll>,
    children: HashMap<u32, KeptFd>,
}

/// A child of the server has ended.
#[derive(Serialize, Deserialize)]
struct Ended {
    pid: u32,
    how: How,
}

const DEATHS: Token = Token(0);

impl Server {
    fn new(preload: Vec<Place>) -> Result<Server> {
        let deaths = Kept::new(os::Epoll::new().map_err(Error::io("make an epoll"))?);
        Ok(Server { preload, deaths, children: HashMap::new() })
    }

    fn fork(&mut self, name: &str, control: Descriptor) -> Result<(u32, Descriptor)> {
        let pid = fork_stranger(name, || arrive::arrive(control.into()))?;
        let failed = || Error::io("watch the new process");
        // It is not waited for before it is watched, so the number means no other.
        let pidfd = OwnedFd::from(PidFd::open(pid).map_err(failed())?);
        let handed = pidfd.try_clone().map_err(failed())?;
        self.deaths.add(pidfd.as_fd(), pid.into()).map_err(failed())?;
        self.children.insert(pid, KeptFd::new(pidfd));
        Ok((pid, handed.into()))
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
            .take(|pid| ended.push(pid as u32))
            .map_err(Error::io("look which processes have ended"))?;
        for pid in ended {
            let Some(pidfd) = self.children.get(&pid) else { continue };
            let how = match exit_of(pidfd.as_fd()) {
                Ok(None) => continue,
                Ok(Some(how)) => how,
                Err(_) => How::Unknown,
            };
            self.children.remove(&pid);
            ctx.emit(Ended { pid, how })?;
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
