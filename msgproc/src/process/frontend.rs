//! The side of a process that gives the work.

use std::{
    error::Error as StdError,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use shmring::os;

use super::{
    again::{RestartBy, RestartCause},
    backend::{Backend, IntoBackend},
    call::Call,
    context::Core,
    event::Event,
    inbox::Inbox,
    link::{Item, Link, Parts, Unmet},
    options::{Options, Settings},
    run,
    stop::StopOptions,
};
use crate::{
    channel::{self, Message, Port},
    error::{Busy, Error, Result},
    exit::{Exit, StopStep},
    message::{Up, decode},
    start::{self, Bell, Child, KeptFd, Page, StderrFile},
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

type Construct<B> =
    Box<dyn FnMut(&Start) -> Result<B, Box<dyn StdError + Send + Sync>> + Send + 'static>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fork,
    Thread,
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
    construct: Arc<Mutex<Construct<B>>>,
    kind: Kind,
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

    pub(super) fn start_forked<C, R>(settings: Settings, constructor: C) -> Result<Self>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        Self::start(settings, Kind::Fork, constructor)
    }

    pub(super) fn start_on_thread<C, R>(settings: Settings, constructor: C) -> Result<Self>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        Self::start(settings, Kind::Thread, constructor)
    }

    fn start<C, R>(settings: Settings, kind: Kind, mut constructor: C) -> Result<Self>
    where
        C: FnMut(&Start) -> R + Send + 'static,
        R: IntoBackend<Backend = B>,
    {
        settings.check(B::COMMANDS)?;
        let construct: Construct<B> = Box::new(move |start| constructor(start).into_backend());
        let construct = Arc::new(Mutex::new(construct));
        let link = launch(settings, kind, None, &construct)?;
        link.finish_start()?;
        Ok(MessageProcess { link, construct, kind, restarts: 0 })
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
        let next = launch(settings, self.kind, Some(cause), &self.construct)?;
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
        let until = timeout.into().map(|timeout| Instant::now() + timeout);
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

    /// What its backend is doing and for how long; `None` while it waits for work.
    pub fn busy(&self) -> Option<Busy> {
        if !self.link.is_ours() {
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

    /// Whether the start that has begun has come to its end, well or not; waits for nothing.
    pub(crate) fn try_ready(&self) -> Option<Result<()>> {
        self.link.try_start()
    }

    /// When a start that has begun is too late.
    pub(crate) fn start_deadline(&self) -> Instant {
        self.link.started + self.link.settings.start_timeout
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
    pub(crate) fn kill(&self) -> bool {
        self.link.child.signal(start::KILL)
    }

    pub(crate) fn stop_options(&self) -> StopOptions {
        self.link.settings.stop
    }

    /// Says in an error that it did not stop.
    pub(crate) fn did_not_stop(&self, since: Instant) -> Error {
        self.link.explain(Unmet::Deadline, "stop", since)
    }
}

/// Starts a backend, and does not wait until it is ready.
fn launch<B: Backend>(
    settings: Settings,
    kind: Kind,
    cause: Option<RestartCause>,
    construct: &Arc<Mutex<Construct<B>>>,
) -> Result<Arc<Link>> {
    let failed = |error: io::Error| Error::Start {
        process: settings.name.clone(),
        reason: error.to_string(),
    };
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let parts = prepare(&settings, ours).map_err(failed)?;
    let start = Start {
        name: settings.name.clone(),
        restarts: cause.as_ref().map_or(0, |cause| cause.number),
        frontend: os::pid(),
        cause: cause.map(Box::new),
    };
    let stderr = match &parts.stderr {
        Some(stderr) => Some(stderr.try_clone().map_err(failed)?),
        None => None,
    };
    let body = {
        let settings = settings.clone();
        let page = parts.page.clone();
        let construct = construct.clone();
        move || backend_side(&settings, theirs, page, stderr, &start, &construct)
    };
    let child = match kind {
        Kind::Fork => {
            let page = parts.page.clone();
            let stderr = parts.stderr.as_ref();
            start::fork(&settings.name, settings.hygiene, &page, stderr, body)?
        }
        Kind::Thread => {
            let builder = thread::Builder::new().name(settings.name.clone());
            Child::thread(builder.spawn(body).map_err(failed)?)
        }
    };
    let link = Link::new(settings.clone(), B::COMMANDS, child, parts).map_err(failed)?;
    Ok(Arc::new(link))
}

fn prepare(settings: &Settings, ours: OwnedFd) -> io::Result<Parts> {
    let socket = Arc::new(KeptFd::new(ours));
    let stderr = match settings.stderr_lines {
        0 => None,
        _ => Some(StderrFile::new()?),
    };
    Ok(Parts {
        port: Port::new(socket.clone())?,
        socket,
        page: Arc::new(Page::new()?),
        bell: Bell::new()?,
        stderr,
    })
}

/// All that runs on the other side.
fn backend_side<B: Backend>(
    settings: &Settings,
    socket: OwnedFd,
    page: Arc<Page>,
    stderr: Option<StderrFile>,
    start: &Start,
    construct: &Mutex<Construct<B>>,
) -> i32 {
    let inbox = Inbox::new(settings.limits);
    let core = match Core::new(
        &settings.name,
        start.frontend,
        socket,
        page,
        inbox,
        settings.send_timeout,
        stderr,
    ) {
        Ok(core) => core,
        Err(error) => {
            eprintln!("process {:?} could not be set up: {error}", settings.name);
            return 1;
        }
    };
    run::live(core, settings.on_panic, || {
        let mut construct = construct.lock().unwrap_or_else(PoisonError::into_inner);
        construct(start)
    })
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
        if self.link.is_ours() {
            let _ = self.stop_with(&self.link.settings.stop);
        }
    }
}

impl<B: Backend> fmt::Debug for MessageProcess<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageProcess")
            .field("name", &self.link.name())
            .field("pid", &self.link.child.pid())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
