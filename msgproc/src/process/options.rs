//! How a process is started, and how it behaves.

use std::{ffi::OsStr, marker::PhantomData, path::PathBuf, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    backend::{Backend, IntoBackend},
    frontend::{MessageProcess, Start},
    recipe::{Program, Recipe, Stated},
    server::ForkServer,
    starting::Starting,
    stop::StopOptions,
    undelivered::Undelivered,
    way::{Way, construct},
};
use crate::{
    channel::Limits,
    error::{Error, Result},
    start::{Hygiene, Resource, Stdio, Surroundings},
};

/// What a backend does after one of its handlers panicked and the caller has been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnPanic {
    /// It leaves: its state may be half changed. `post_run` runs, and the exit code is 101.
    #[default]
    Stop,
    /// It goes on with the next command.
    Continue,
}

/// What happens when a handler runs longer than its
/// [time limit](crate::Options::handler_timeout).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnTimeout {
    /// It comes up as [`Event::Failed`](crate::Event::Failed) with
    /// [`Error::Overdue`], once, and the handler runs on.
    #[default]
    Report,
    /// The process is killed; its [`Exit`](crate::Exit) says why. Its
    /// [`Policy`](crate::manager::Policy) decides whether it is replaced, as after any death. A
    /// backend on a thread cannot be killed: there it is reported.
    Kill,
}

/// The settings, without the type of the backend.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) hygiene: Hygiene,
    pub(super) start_timeout: Duration,
    pub(super) send_timeout: Duration,
    pub(super) stop: StopOptions,
    pub(super) limits: Limits,
    pub(super) on_panic: OnPanic,
    pub(super) undelivered: Undelivered,
    pub(super) handler_timeout: Option<Duration>,
    pub(super) command_timeouts: Vec<(String, Duration)>,
    pub(super) on_timeout: OnTimeout,
    pub(super) stdio: [Stdio; 3],
    pub(super) surroundings: Surroundings,
    /// Whether a start waits until the process is ready.
    pub(super) waits: bool,
}

impl Settings {
    /// Whether they fit a backend with these commands.
    pub(super) fn check(&self, commands: &[&str]) -> Result<()> {
        for (command, _) in &self.command_timeouts {
            if !commands.contains(&&command[..]) {
                let (process, command) = (self.name.clone(), command.clone());
                return Err(Error::UnknownCommand { process, command });
            }
        }
        Ok(())
    }
}

/// How a process is started; made by [`MessageProcess::options`].
#[derive(Debug)]
#[must_use = "options start nothing: `fork`, `spawn`, `fork_from` or `exec` does"]
pub struct Options<B> {
    settings: Settings,
    backend: PhantomData<fn() -> B>,
}

impl<B: Backend> Options<B> {
    pub(super) fn new(name: &str) -> Options<B> {
        Options {
            settings: Settings {
                name: name.into(),
                hygiene: Hygiene { ignore_sigint: true, die_at_once: false },
                start_timeout: Duration::from_secs(30),
                send_timeout: Duration::from_secs(5),
                stop: StopOptions::default(),
                limits: Limits::default(),
                on_panic: OnPanic::default(),
                undelivered: Undelivered::default(),
                handler_timeout: None,
                command_timeouts: Vec::new(),
                on_timeout: OnTimeout::default(),
                stdio: Default::default(),
                surroundings: Surroundings::default(),
                waits: true,
            },
            backend: PhantomData,
        }
    }

    /// Whether the backend ignores SIGINT, so that Ctrl-C reaches the frontend alone, which then
    /// stops its backends in order. So by default.
    pub fn ignore_sigint(mut self, ignore: bool) -> Self {
        self.settings.hygiene.ignore_sigint = ignore;
        self
    }

    /// Whether the kernel kills the backend the moment its frontend dies, without `post_run`.
    ///
    /// Without this it has 0.9 seconds to leave, by a handler for SIGIO and the timer of SIGALRM:
    /// choose this where native code in the backend changes what those signals do.
    pub fn die_with_frontend_at_once(mut self, at_once: bool) -> Self {
        self.settings.hygiene.die_at_once = at_once;
        self
    }

    /// How long the constructor and `pre_run` may take together; 30 seconds by default.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.settings.start_timeout = timeout;
        self
    }

    /// How long a message may wait for room in the channel; 5 seconds by default.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.settings.send_timeout = timeout;
        self
    }

    /// How long each step of a stop may take, here also when the process is dropped.
    pub fn stop_timeouts(mut self, stop: StopOptions) -> Self {
        self.settings.stop = stop;
        self
    }

    /// How many messages either side keeps that it has received and nobody has taken; 16384 by
    /// default. Beyond them the sender waits.
    pub fn queue(mut self, messages: usize) -> Self {
        self.settings.limits.messages = messages.max(1);
        self
    }

    /// What happens after a handler panicked; by default the backend stops.
    pub fn on_panic(mut self, then: OnPanic) -> Self {
        self.settings.on_panic = then;
        self
    }

    /// What becomes of the commands that the process has not handled when it ends and is started
    /// again; by default they fail.
    ///
    /// ```no_run
    /// # use msgproc::prelude::*;
    /// use msgproc::{Undelivered, manager::Policy};
    /// # struct Worker;
    /// # #[backend]
    /// # impl Worker {
    /// #     fn c__develop(&self, film: u64) -> u64 { film }
    /// # }
    /// # fn main() -> msgproc::Result<()> {
    ///
    /// let mut manager = Manager::new()?;
    /// let worker = MessageProcess::options("worker")
    ///     .undelivered(Undelivered::AtLeastOnce { attempts: 3 })
    ///     .fork(|_: &Start| Worker)?;
    /// let id = manager.add_with(worker, Policy::permanent())?;
    /// let mut film = manager[id].develop(7).send()?;
    /// // However often the worker dies meanwhile, up to three times at this very film:
    /// while let Some(happening) = manager.next(None)? {
    ///     if let Happening::Reply { .. } = happening
    ///         && let Some(film) = film.try_take()?
    ///     {
    ///         println!("film {film} is developed");
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn undelivered(mut self, then: Undelivered) -> Self {
        self.settings.undelivered = then;
        self
    }

    /// How long a handler may run, of a command, a descriptor or a timer; without limit by
    /// default. What happens then, [`Options::on_timeout`] says.
    ///
    /// A [`Manager`](crate::Manager) looks after it all the time; without one, whoever waits for
    /// something from the process does. It costs nothing while handlers run.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use msgproc::prelude::*;
    /// use msgproc::OnTimeout;
    /// # struct Camera;
    /// # #[backend]
    /// # impl Camera {
    /// #     fn c__focus(&self) {}
    /// # }
    /// # fn main() -> msgproc::Result<()> {
    ///
    /// let camera = MessageProcess::options("camera")
    ///     .handler_timeout(Duration::from_secs(1))
    ///     .command_timeout("focus", Duration::from_secs(10))
    ///     .on_timeout(OnTimeout::Kill)
    ///     .fork(|_: &Start| Camera)?;
    /// # Ok(()) }
    /// ```
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.settings.handler_timeout = Some(limit);
        self
    }

    /// How long the handler of this command may run, whatever [`Options::handler_timeout`] says.
    /// A command that the backend does not have is an error of the start.
    pub fn command_timeout(mut self, command: &str, limit: Duration) -> Self {
        self.settings.command_timeouts.push((command.into(), limit));
        self
    }

    /// What happens when a handler runs too long; by default that is reported.
    pub fn on_timeout(mut self, then: OnTimeout) -> Self {
        self.settings.on_timeout = then;
        self
    }

    /// Keeps what the backend writes to stderr in memory, and gives the last `lines` of it in its
    /// [`Exit`](crate::Exit): the same as `stderr(Stdio::capture(lines))`.
    pub fn capture_stderr(self, lines: usize) -> Self {
        self.stderr(Stdio::capture(lines))
    }

    /// Where the backend's standard input comes from; what is captured would be empty, so that is
    /// the same as nowhere. A backend on a thread has the streams of its program.
    pub fn stdin(self, from: impl Into<Stdio>) -> Self {
        self.stream(0, from.into())
    }

    /// Where the backend's standard output goes.
    pub fn stdout(self, to: impl Into<Stdio>) -> Self {
        self.stream(1, to.into())
    }

    /// Where the backend's standard error goes.
    pub fn stderr(self, to: impl Into<Stdio>) -> Self {
        self.stream(2, to.into())
    }

    fn stream(mut self, number: usize, stdio: Stdio) -> Self {
        self.settings.stdio[number] = stdio;
        self
    }

    /// Sets a variable of its environment.
    ///
    /// What is said about surroundings, from here to [`Options::oom_score`], holds for a process;
    /// a backend on a thread has those of its program, and is refused when they are set.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.settings.surroundings.variable(name.as_ref(), Some(value.as_ref()));
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.settings.surroundings.variable(name.as_ref(), None);
        self
    }

    /// Takes all variables out of its environment that were not set since.
    pub fn env_clear(mut self) -> Self {
        self.settings.surroundings.clear_variables();
        self
    }

    /// Its working directory.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.surroundings.directory(path.into());
        self
    }

    /// Its nice value, from -20 (served first, for which the kernel wants a privilege) to 19.
    ///
    /// This and what follows, to [`Options::oom_score`], a backend has before its constructor runs.
    /// Another program ([`Options::exec`]) is given it from outside: it may have begun by then.
    pub fn nice(mut self, nice: i32) -> Self {
        self.settings.surroundings.nice(nice);
        self
    }

    /// The processors it may run on, by their numbers. None means all, as if nothing was said.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.settings.surroundings.cpus(cpus.into_iter().collect());
        self
    }

    /// A limit on what it may use; the soft and the hard limit are the same.
    pub fn rlimit(self, resource: Resource, limit: u64) -> Self {
        self.rlimits(resource, limit, limit)
    }

    /// A limit on what it may use, soft and hard.
    pub fn rlimits(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.settings.surroundings.limit(resource, soft, hard);
        self
    }

    /// How likely the kernel kills it where memory is short: from -1000 (never, which wants a
    /// privilege) to 1000 (first).
    pub fn oom_score(mut self, score: i32) -> Self {
        self.settings.surroundings.oom_score(score);
        self
    }

    /// Begins a start without waiting until the backend is ready: `start` starts it in any way.
    ///
    /// ```no_run
    /// # use msgproc::prelude::*;
    /// # struct Worker;
    /// # #[backend]
    /// # impl Worker {}
    /// # fn main() -> msgproc::Result<()> {
    /// # msgproc::init();
    /// let starting: Vec<_> = (0..8)
    ///     .map(|_| {
    ///         MessageProcess::options("worker").begin(|options| options.spawn((), |(), _| Worker))
    ///     })
    ///     .collect::<msgproc::Result<_>>()?;
    /// // All of them load their models meanwhile.
    /// for worker in starting {
    ///     let worker = worker.wait()?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the way that are met before there is a process.
    pub fn begin<F>(mut self, start: F) -> Result<Starting<B>>
    where
        F: FnOnce(Options<B>) -> Result<MessageProcess<B>>,
    {
        self.settings.waits = false;
        start(self).map(Starting::new)
    }

    /// Starts the backend in a fork of this process: see [`MessageProcess::fork`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fork<C, R>(self, constructor: C) -> Result<MessageProcess<B>>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        MessageProcess::start(self.settings, Way::Fork(construct(constructor)))
    }

    /// Starts the backend on a thread of this process: see [`MessageProcess::thread`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn thread<C, R>(self, constructor: C) -> Result<MessageProcess<B>>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        MessageProcess::start(self.settings, Way::Thread(construct(constructor)))
    }

    /// Starts the backend in a process that executes this program anew: see
    /// [`MessageProcess::spawn`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn spawn<S, C, R>(self, state: S, constructor: C) -> Result<MessageProcess<B>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let recipe = Recipe::new(&self.settings.name, Stated::kept(state), constructor)?;
        MessageProcess::start(self.settings, Way::Spawn(recipe))
    }

    /// As [`Options::spawn`], with a state that is made anew at each start, here in the frontend.
    ///
    /// This is the one to take where the state has ends of rings in it: an end travels once, and
    /// a process that is started again needs another one.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::spawn`].
    pub fn spawn_with<M, S, C, R>(self, state: M, constructor: C) -> Result<MessageProcess<B>>
    where
        M: FnMut(&Start) -> S + Send + 'static,
        S: Serialize + DeserializeOwned + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let recipe = Recipe::new(&self.settings.name, Stated::made(state), constructor)?;
        MessageProcess::start(self.settings, Way::Spawn(recipe))
    }

    /// Starts the backend in a fork of a [`ForkServer`]: see [`MessageProcess::fork_from`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fork_from<S, C, R>(
        self,
        server: &ForkServer,
        state: S,
        constructor: C,
    ) -> Result<MessageProcess<B>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let recipe = Recipe::new(&self.settings.name, Stated::kept(state), constructor)?;
        MessageProcess::start(self.settings, Way::Served(server.clone(), recipe))
    }

    /// Starts the backend in a fork of a server that is itself a fork of this program: what that had
    /// in memory then is there.
    pub(crate) fn fork_from_copy<S, C, R>(
        self,
        server: &ForkServer,
        state: S,
        constructor: C,
    ) -> Result<MessageProcess<B>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let recipe = Recipe::of_copy(&self.settings.name, Stated::kept(state), constructor)?;
        MessageProcess::start(self.settings, Way::Served(server.clone(), recipe))
    }

    /// As [`Options::fork_from`], with a state that is made anew at each start, as
    /// [`Options::spawn_with`] says.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::fork_from`].
    pub fn fork_from_with<M, S, C, R>(
        self,
        server: &ForkServer,
        state: M,
        constructor: C,
    ) -> Result<MessageProcess<B>>
    where
        M: FnMut(&Start) -> S + Send + 'static,
        S: Serialize + DeserializeOwned + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        let recipe = Recipe::new(&self.settings.name, Stated::made(state), constructor)?;
        MessageProcess::start(self.settings, Way::Served(server.clone(), recipe))
    }

    /// Starts the backend in another program: see [`MessageProcess::exec`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn exec<S>(self, program: Program, state: S) -> Result<MessageProcess<B>>
    where
        S: Serialize + Send + 'static,
    {
        MessageProcess::start(self.settings, Way::Exec(program, Stated::kept(state)))
    }

    /// As [`Options::exec`], with a state that is made anew at each start, as
    /// [`Options::spawn_with`] says.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::exec`].
    pub fn exec_with<M, S>(self, program: Program, state: M) -> Result<MessageProcess<B>>
    where
        M: FnMut(&Start) -> S + Send + 'static,
        S: Serialize + 'static,
    {
        MessageProcess::start(self.settings, Way::Exec(program, Stated::made(state)))
    }
}
