//! How a process is started, and how it behaves.

use std::{marker::PhantomData, time::Duration};

use super::{
    backend::{Backend, IntoBackend},
    frontend::{MessageProcess, Start},
    stop::StopOptions,
    undelivered::Undelivered,
};
use crate::{channel::Limits, error::Result, start::Hygiene};

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
    pub(super) stderr_lines: usize,
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
