//! The side of a process that gives the work.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use shmring::os;

use super::{
    again::{RestartBy, RestartCause},
    backend::{Backend, IntoBackend},
    call::Call,
    event::Event,
    link::{Item, Link, Unmet},
    options::{Options, Settings},
    recipe::Program,
    server::ForkServer,
    stop::StopOptions,
    way::Way,
};
use crate::{
    channel::Message,
    deadline,
    error::{Error, Result},
    exit::{Exit, StopStep},
    kernel::Busy,
    message::{Up, decode},
    start,
};

/// What a constructor learns about the process that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Start {
    /// The name of the process.
    pub name: String,
    /// How many times it has been started before: 0 at first, more after restarts.
    pub restarts: u32,
    /// The process id of the frontend.
    pub frontend: u32,
    pub(super) cause: Option<Box<RestartCause>>,
}

impl Start {
    /// Why the constructor runs again; `None` at the first start.
    ///
    /// ```
    /// # use msgproc::Start;
    /// # struct Camera;
    /// # impl Camera { fn open() -> Camera { Camera } fn reset() {} }
    /// fn make(start: &Start) -> Camera {
    ///     if let Some(cause) = start.restart() {
    ///         eprintln!("{}, restart {}: {}", start.name, cause.number, cause.exit);
    ///         Camera::reset();
    ///     }
    ///     Camera::open()
    /// }
    /// ```
    pub fn restart(&self) -> Option<&RestartCause> {
        self.cause.as_deref()
    }
}

/// A backend of type `B` in a process of its own, seen from the process that started it.
///
/// The commands of `B` are methods of it, by the trait that `#[backend]` writes. Dropping it
/// stops the backend as [`MessageProcess::stop`] does.
///
/// It offers one descriptor to any poll ([`AsFd`]): readable while there is an event, a reply
/// or the end of the process to take.
pub struct MessageProcess<B: Backend> {
    link: Arc<Link>,
    way: Mutex<Way<B>>,
    restarts: u32,
}

impl<B: Backend> MessageProcess<B> {
    /// Starts a backend in a fork of this process, and waits until it is ready.
    ///
    /// `constructor` runs in the new process, and again at each restart; what it captures is
    /// copied with the process. It may give a `Result`.
    ///
    /// # Errors
    ///
    /// [`Error::MultiThreaded`] when this process has more than one thread; [`Error::PreRun`]
    /// with what the constructor or `pre_run` said; [`Error::PeerDied`] when the process died
    /// before it was ready; [`Error::TimedOut`]; [`Error::Start`].
    pub fn fork<C, R>(name: &str, constructor: C) -> Result<MessageProcess<B>>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        Options::new(name).fork(constructor)
    }

    /// Starts a backend on a thread of this process, to look at it with a debugger: the calls are
    /// the same, and they travel the same way.
    ///
    /// A thread cannot be killed: a stop that comes to its third step fails.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::fork`], but for the threads.
    pub fn thread<C, R>(name: &str, constructor: C) -> Result<MessageProcess<B>>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        Options::new(name).thread(constructor)
    }

    /// Says more than a name about the process to be started.
    pub fn options(name: &str) -> Options<B> {
        Options::new(name)
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Starts a backend in a process that executes this program anew, and waits until it is ready.
    /// This is for programs that have threads.
    ///
    /// `constructor` captures nothing (a function, or a closure that does not): what it needs
    /// travels as `state`, which may contain ends of rings, arrays, blocks and descriptors. The
    /// program calls [`init`](crate::init) first in its `main`.
    ///
    /// The state is sent again when the process is started again. An end of a ring travels only
    /// once: where the state has such, [`Options::spawn_with`] makes it anew at each start.
    ///
    /// ```no_run
    /// use msgproc::prelude::*;
    ///
    /// struct Counter(u64);
    ///
    /// #[backend]
    /// impl Counter {
    ///     fn c__add(&mut self, number: u64) -> u64 {
    ///         self.0 += number;
    ///         self.0
    ///     }
    /// }
    ///
    /// fn main() -> msgproc::Result<()> {
    ///     msgproc::init();
    ///     let mut counter = MessageProcess::spawn("counter", 100, |first, _| Counter(first))?;
    ///     assert_eq!(counter.add(7).wait()?, 107);
    ///     counter.stop()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialized`]; [`Error::NotMainProgram`] in a shared library; else as
    /// [`MessageProcess::fork`].
    pub fn spawn<S, C, R>(name: &str, state: S, constructor: C) -> Result<MessageProcess<B>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        Options::new(name).spawn(state, constructor)
    }

    /// Starts a backend in a fork of a [`ForkServer`], and waits until it is ready. This is for
    /// programs that have threads, or much memory, and start many processes.
    ///
    /// `constructor` and `state` are as for [`MessageProcess::spawn`].
    ///
    /// # Errors
    ///
    /// What the server meets; else as [`MessageProcess::spawn`].
    pub fn fork_from<S, C, R>(
        server: &ForkServer,
        name: &str,
        state: S,
        constructor: C,
    ) -> Result<MessageProcess<B>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        C: Fn(S, &Start) -> R + Copy + 'static,
        R: IntoBackend<Backend = B>,
    {
        Options::new(name).fork_from(server, state, constructor)
    }

    /// Starts another program as a backend, and waits until it is ready. Its Rust side is
    /// [`worker::run`](crate::worker::run); `PROTOCOL.md` says how any language can do the same.
    ///
    /// `B` only gives the calls their types: its code runs in the other program. That notices the death
    /// of this one by its channel, and cannot before it has looked there: a program that never does lives
    /// on when this one is killed while it starts.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] when it cannot be executed; [`Error::PeerDied`] when it ends before it is
    /// ready, as a program does that is no worker; else as [`MessageProcess::fork`].
    pub fn exec<S>(name: &str, program: Program, state: S) -> Result<MessageProcess<B>>
    where
        S: Serialize + Send + 'static,
    {
        Options::new(name).exec(program, state)
    }

    pub(super) fn start(settings: Settings, mut way: Way<B>) -> Result<MessageProcess<B>> {
        settings.check(B::COMMANDS)?;
        let waits = settings.waits;
        let link = way.launch(settings, None)?;
        if waits {
            link.finish_start()?;
        }
        Ok(MessageProcess { link, way: Mutex::new(way), restarts: 0 })
    }

    /// Stops what is left of the backend, and starts it anew with the same constructor.
    ///
    /// Calls and replies of before belong to the old backend and end with it, unless
    /// [`Options::undelivered`] says that they are sent again. The descriptor is a new one: a poll
    /// has to be told it.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::fork`].
    pub fn restart(&mut self) -> Result<()> {
        let exit = self.link.stop(&self.link.settings.stop)?;
        self.begin_restart(exit, RestartBy::Caller)?;
        self.link.finish_start()
    }

    /// Starts a backend that has ended anew, and does not wait until it is ready.
    pub(crate) fn begin_restart(&mut self, exit: Exit, by: RestartBy) -> Result<()> {
        self.restarts += 1;
        let cause = RestartCause { number: self.restarts, exit, by };
        let settings = self.link.settings.clone();
        let way = self.way.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = way.launch(settings, Some(cause))?;
        self.link.hand_over(&next);
        self.link = next;
        Ok(())
    }

    /// Makes a call from the name of a command and the tuple of its arguments.
    ///
    /// `#[backend]` writes a method for each command that does this with the right types. A wrong
    /// name or wrong arguments are an error of the call, not of the backend.
    pub fn call<A: Serialize + Send + 'static, T>(
        &self,
        command: &'static str,
        arguments: A,
    ) -> Call<T> {
        Call::new(self.link.clone(), command, Box::new(arguments))
    }

    /// Waits for what comes up: at most this long, or for ever with `None`.
    ///
    /// `Ok(None)` means that nothing came in time.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] or [`Error::Stopped`] once [`Event::Ended`] has been taken.
    pub fn next_event(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Event<B::Event>>> {
        let until = timeout.into().and_then(|timeout| deadline::after(Instant::now(), timeout));
        self.event_until(until)
    }

    /// Takes what has come up, if there is something.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::next_event`].
    pub fn try_event(&self) -> Result<Option<Event<B::Event>>> {
        self.event_until(Some(Instant::now()))
    }

    fn event_until(&self, until: Option<Instant>) -> Result<Option<Event<B::Event>>> {
        let link = &*self.link;
        link.check_ours()?;
        let since = Instant::now();
        let item = match link.next_item(until) {
            Ok(item) => item,
            Err(Unmet::Deadline) => return Ok(None),
            Err(unmet) => return Err(link.explain(unmet, "send an event", since)),
        };
        Ok(Some(match item {
            Item::Message(message) => self.read_event(message),
            Item::Malformed(reason) => Event::Failed(Error::Malformed { reason }),
            Item::Failed(error) => Event::Failed(error),
            Item::Ended(exit) => Event::Ended(exit),
        }))
    }

    fn read_event(&self, mut message: Message) -> Event<B::Event> {
        let link = &*self.link;
        if let Ok(Up::Failed | Up::StartFailed) = postcard::from_bytes(message.header()) {
            return Event::Failed(match link.read_failure(message) {
                Ok(failure) => failure.into_error(link.name()),
                Err(error) => error,
            });
        }
        let parcel = std::mem::take(&mut message.parcel);
        match message.body().and_then(|body| decode(body, parcel)) {
            Ok(event) => Event::Emitted(event),
            Err(reason) => Event::Failed(Error::BadReply {
                process: link.name().into(),
                command: "an event".into(),
                reason,
            }),
        }
    }

    /// The name of the process.
    pub fn name(&self) -> &str {
        self.link.name()
    }

    /// Its process id; this program's own where the backend runs on a thread.
    pub fn pid(&self) -> u32 {
        self.link.child.pid()
    }

    /// How many times it has been restarted.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// What its backend is doing and for how long; `None` while it waits for work, and once it has
    /// ended.
    pub fn busy(&self) -> Option<Busy> {
        if !self.link.is_ours() || self.link.exit().is_some() {
            return None;
        }
        self.link.busy()
    }

    /// Whether it has not ended. It may end right after.
    pub fn is_alive(&self) -> bool {
        self.exit().is_none()
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        if !self.link.is_ours() {
            return None;
        }
        self.link.exit()
    }

    /// Whether its process has ended, whatever of it is yet to be received.
    pub(super) fn has_ended(&self) -> bool {
        self.link.child.has_ended()
    }

    /// A descriptor that becomes readable when it ends; `None` where it is a thread.
    pub(super) fn death(&self) -> Result<Option<OwnedFd>> {
        self.link.check_ours()?;
        let death = self.link.child.death().map(os::duplicate).transpose();
        death.map_err(Error::io("duplicate a descriptor"))
    }

    /// Stops the backend in up to four steps, each bounded: it finishes what is queued; it leaves
    /// after the handler that runs now; SIGTERM; SIGKILL.
    ///
    /// Events that have come stay to be taken. A backend that has ended before is no error.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] says how it ended, when that was not in order; [`Error::TimedOut`]
    /// when it did not end.
    pub fn stop(&mut self) -> Result<()> {
        let exit = self.stop_with(&self.link.settings.stop)?;
        self.link.verdict(exit)
    }

    /// Stops the backend as [`MessageProcess::stop`], with other time limits, and gives how it
    /// ended.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it did not end.
    pub fn stop_with(&self, options: &StopOptions) -> Result<Exit> {
        let exit = self.link.stop(options)?;
        self.link.abandon();
        Ok(exit)
    }

    /// Asks the backend to finish what is queued and leave, and does not wait for that: its end
    /// comes up as [`Event::Ended`]. So many processes stop at the same time.
    ///
    /// One that has ended, and that a [`Manager`](crate::Manager) is about to start again, is not started
    /// then.
    ///
    /// # Errors
    ///
    /// [`Error::NotOurs`].
    pub fn request_stop(&self) -> Result<()> {
        self.link.request_stop()
    }
}

/// What a manager needs beside: the parts of a wait, without the waiting.
impl<B: Backend> MessageProcess<B> {
    /// Whether a reply waits to be taken, and how many have come in all.
    pub(crate) fn replies(&self) -> (bool, u64) {
        self.link.replies()
    }

    /// Receives what has come, and leaves it to be taken; gives the end, if that has come.
    pub(crate) fn pump(&self) -> Option<Exit> {
        self.link.pump()
    }

    /// Begins a step of a stop; `false` when there was no room for its message.
    pub(crate) fn begin_stop(&self, step: StopStep) -> bool {
        self.link.begin(step)
    }

    /// Waits for the end of a start that has begun.
    pub(crate) fn finish_start(&self) -> Result<()> {
        self.link.finish_start()
    }

    /// Whether the start that has begun has come to its end, well or not; waits for nothing.
    pub(crate) fn try_ready(&self) -> Option<Result<()>> {
        self.link.try_start()
    }

    /// When a start that has begun is too late.
    pub(crate) fn start_deadline(&self) -> Instant {
        deadline::moment_after(self.link.started, self.link.settings.start_timeout)
    }

    /// Awaits something of the process that there is now.
    #[cfg(feature = "tokio")]
    pub(crate) fn awaits(&self) -> super::link::Awaits {
        self.link.awaits()
    }

    /// Looks for a handler that runs too long; says when to look again.
    pub(crate) fn look_after(&self) -> Option<Instant> {
        self.link.look_after()
    }

    /// What it is doing, and where in the kernel it is.
    pub(crate) fn busy_where(&self) -> Option<Busy> {
        self.link.busy_where()
    }

    /// Nobody asks any more whether it has become ready.
    pub(crate) fn leave_start(&self) {
        self.link.leave_start();
    }

    /// There will be no replacement: commands that were kept for it fail. Whether that is to be
    /// told.
    pub(crate) fn abandon(&self) -> bool {
        self.link.abandon()
    }

    /// Kills it; `false` where that is not possible.
    /// Whether it was told to stop after it had ended: so that it is not started again.
    pub(crate) fn was_told_to_stop_late(&self) -> bool {
        self.link.lock().told_to_stop_late
    }

    pub(crate) fn kill(&self) -> bool {
        self.link.child.signal(start::KILL)
    }

    pub(crate) fn stop_options(&self) -> StopOptions {
        self.link.settings.stop
    }

    /// How one is stopped that did not become ready.
    #[cfg(feature = "tokio")]
    pub(crate) fn options_after_failed_start(&self, error: &Error) -> StopOptions {
        self.link.options_after_failed_start(error)
    }

    /// Says in an error that it did not stop.
    pub(crate) fn did_not_stop(&self, since: Instant) -> Error {
        self.link.explain(Unmet::Deadline, "stop", since)
    }
}

impl<B: Backend> AsFd for MessageProcess<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.bell().as_fd()
    }
}

impl<B: Backend> AsRawFd for MessageProcess<B> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<B: Backend> Drop for MessageProcess<B> {
    fn drop(&mut self) {
        if !self.link.is_ours() {
            return;
        }
        let stopped = self.stop_with(&self.link.settings.stop);
        if stopped.is_err() && !self.link.child.is_thread() {
            // Whatever was said of the steps.
            let _ = self.stop_with(&StopOptions::for_certain());
        }
    }
}

impl<B: Backend> fmt::Debug for MessageProcess<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageProcess")
            .field("name", &self.link.name())
            .field("pid", &self.link.child.pid())
            .field("restarts", &self.restarts)
            .finish_non_exhaustive()
    }
}
