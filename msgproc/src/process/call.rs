//! A command on its way, and what comes back.

#[cfg(feature = "tokio")]
use super::link::Unmet;
#[cfg(feature = "tokio")]
use std::os::fd::{AsFd, BorrowedFd};
use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use super::{
    backend::Encode,
    link::{Link, Wait},
};
use crate::{
    channel::Message,
    error::{Error, Result},
    message::{Down, Up, decode},
};

/// A command that has not been sent yet: [`tell`](Call::tell), [`wait`](Call::wait),
/// [`wait_timeout`](Call::wait_timeout) or [`send`](Call::send) does.
#[must_use = "a call has sent nothing yet: `.tell()?`, `.wait()?` or `.send()?` does"]
pub struct Call<T> {
    link: Arc<Link>,
    command: &'static str,
    arguments: Box<dyn Encode + Send>,
    result: PhantomData<fn() -> T>,
}

impl<T> Call<T> {
    pub(super) fn new(
        link: Arc<Link>,
        command: &'static str,
        arguments: Box<dyn Encode + Send>,
    ) -> Call<T> {
        Call { link, command, arguments, result: PhantomData }
    }

    /// Sends the command and goes on; no result travels back.
    ///
    /// If its handler fails, that comes up as [`Event::Failed`](crate::Event::Failed). Waits only
    /// where the channel is full, at most for the process's `send_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::PeerDied`], [`Error::Stopped`], or what is wrong with the
    /// arguments.
    pub fn tell(self) -> Result<()> {
        let until = Instant::now() + self.link.settings.send_timeout;
        self.transmit(false, Some(until)).map(drop)
    }

    /// Sends the command if there is room now.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] when there is none; else as [`Call::tell`].
    pub fn try_tell(self) -> Result<()> {
        let process = self.link.name().to_owned();
        match self.transmit(false, Some(Instant::now())) {
            Err(Error::TimedOut { .. }) => {
                Err(Error::QueueFull { process, reason: "the channel is full".into() })
            }
            other => other.map(drop),
        }
    }

    fn transmit(&self, wants_reply: bool, until: Option<Instant>) -> Result<u64> {
        let Call { link, command, .. } = self;
        link.check_ours()?;
        if link.lock().stopping.is_some() {
            return Err(Error::Stopped { process: link.name().into() });
        }
        let what = format!("the arguments of {command}");
        let (body, parcel) = self.arguments.encode(&what, link.child.pid())?;
        let call = link.number_call(wants_reply);
        let header = Down::Command { call, name: command, wants_reply };
        let action = format!("take {command}");
        let sent = postcard::to_stdvec(&header)
            .map_err(Error::other)
            .and_then(|header| link.send(&header, &body, &parcel, until, &action));
        match sent {
            Ok(()) => {
                parcel.sent();
                Ok(call)
            }
            Err(error) => {
                link.forget(call);
                Err(error)
            }
        }
    }

    fn start(self, until: Option<Instant>) -> Result<Reply<T>> {
        let limit = Instant::now() + self.link.settings.send_timeout;
        let until = until.map_or(limit, |until| until.min(limit));
        let call = self.transmit(true, Some(until))?;
        Ok(Reply {
            link: self.link,
            command: self.command,
            call,
            taken: false,
            result: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Call<T> {
    /// Sends the command and waits for its result.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], [`Error::Panicked`] and the like from the handler; [`Error::PeerDied`]
    /// the moment the backend dies; as [`Call::tell`] when it cannot be sent.
    pub fn wait(self) -> Result<T> {
        self.start(None)?.wait()
    }

    /// Sends the command and waits for its result, at most this long. The handler runs on.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], which says what the backend is doing; else as [`Call::wait`].
    pub fn wait_timeout(self, timeout: Duration) -> Result<T> {
        let since = Instant::now();
        let until = Some(since + timeout);
        self.start(until)?.wait_until(since, until)
    }

    /// Sends the command; its result can be waited for later.
    ///
    /// # Errors
    ///
    /// As [`Call::tell`].
    pub fn send(self) -> Result<Reply<T>> {
        self.start(None)
    }
}

/// What awaiting needs: the parts of a wait, without the waiting.
#[cfg(feature = "tokio")]
impl<T: DeserializeOwned> Call<T> {
    /// Sends the command if there is room now.
    pub(crate) fn try_send(&self) -> Result<Option<Reply<T>>> {
        match self.transmit(true, Some(Instant::now())) {
            Ok(call) => Ok(Some(Reply {
                link: self.link.clone(),
                command: self.command,
                call,
                taken: false,
                result: PhantomData,
            })),
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How long it may wait for room.
    pub(crate) fn send_timeout(&self) -> Duration {
        self.link.settings.send_timeout
    }

    /// Says in an error that there was no room for so long.
    pub(crate) fn no_room(&self, since: Instant) -> Error {
        self.link.explain(Unmet::Deadline, &format!("take {}", self.command), since)
    }
}

#[cfg(feature = "tokio")]
impl<T> AsFd for Reply<T> {
    /// What becomes readable when something has come, for whomever.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.bell().as_fd()
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("process", &self.link.name())
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// The result of a command that has been sent. Dropping it lets the result go.
#[must_use = "the result is dropped; `tell` sends without one"]
pub struct Reply<T> {
    link: Arc<Link>,
    command: &'static str,
    call: u64,
    taken: bool,
    result: PhantomData<fn() -> T>,
}

impl<T> Reply<T> {
    /// Whether [`try_take`](Reply::try_take) would give something: the result, or the reason why
    /// there will be none.
    pub fn is_ready(&self) -> bool {
        self.taken || !self.link.is_ours() || self.link.has_reply(self.call)
    }

    /// Takes the call back: if it has not begun it will not run, and if it runs its handler can
    /// see that by [`Context::is_cancelled`](crate::Context::is_cancelled).
    pub fn cancel(self) {
        if self.link.is_ours() {
            self.link.page.cancel(self.call);
        }
    }

    /// The name of the command.
    pub fn command(&self) -> &'static str {
        self.command
    }
}

impl<T: DeserializeOwned> Reply<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`].
    pub fn wait(mut self) -> Result<T> {
        self.wait_until(Instant::now(), None)
    }

    /// Waits for the result, at most this long. After [`Error::TimedOut`] it can be waited for
    /// again.
    ///
    /// # Errors
    ///
    /// As [`Call::wait_timeout`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<T> {
        let since = Instant::now();
        self.wait_until(since, Some(since + timeout))
    }

    /// Takes the result if it is there.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`].
    pub fn try_take(&mut self) -> Result<Option<T>> {
        let now = Instant::now();
        match self.wait_until(now, Some(now)) {
            Ok(value) => Ok(Some(value)),
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wait_until(&mut self, since: Instant, until: Option<Instant>) -> Result<T> {
        let link = &*self.link;
        link.check_ours()?;
        if self.taken {
            return Err(self.unreadable("it has been taken already".into()));
        }
        let message = link
            .wait(until, Wait::Message, |state| Link::take_reply(state, self.call))
            .map_err(|unmet| {
            let action = format!("answer {}", self.command);
            link.explain(unmet, &action, since)
        })?;
        self.taken = true;
        self.read(message)
    }

    fn read(&self, mut message: Message) -> Result<T> {
        let failed = matches!(postcard::from_bytes(message.header()), Ok(Up::ReplyFailed { .. }));
        if failed {
            let failure = self.link.read_failure(message)?;
            return Err(failure.into_error(self.link.name()));
        }
        let parcel = std::mem::take(&mut message.parcel);
        message
            .body()
            .and_then(|body| decode(body, parcel))
            .map_err(|reason| self.unreadable(reason))
    }

    fn unreadable(&self, reason: String) -> Error {
        Error::BadReply { process: self.link.name().into(), command: self.command.into(), reason }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if !self.taken && self.link.is_ours() {
            self.link.forget(self.call);
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("process", &self.link.name())
            .field("command", &self.command)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
