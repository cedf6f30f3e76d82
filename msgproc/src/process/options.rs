//! How a process is started, and how it behaves.

use std::{marker::PhantomData, time::Duration};

use super::{
    backend::{Backend, IntoBackend},
    frontend::{MessageProcess, Start},
    stop::StopOptions,
    undelivered::Undelivered,
};
use crate::{
    channel::Limits,
    error::{Error, Result},
    start::Hygiene,
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
    pub(super) stderr_lines: usize,
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
#[must_use = "options start nothing: `fork` or `thread` does"]
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
                stderr_lines: 0,
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

    /// Keeps what the backend writes to stderr in memory instead of showing it, and gives the
    /// last `lines` of it in its [`Exit`](crate::Exit).
    pub fn capture_stderr(mut self, lines: usize) -> Self {
        self.settings.stderr_lines = lines;
        self
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
        MessageProcess::start_forked(self.settings, constructor)
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
        MessageProcess::start_on_thread(self.settings, constructor)
    }
}
