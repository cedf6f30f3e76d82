//! A command on its way, and what comes back.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use shmring::os::monotonic;

#[cfg(feature = "tokio")]
use super::link::Awaits;
use super::{
    backend::Encode,
    link::{Command, Link, Unmet, Wait},
};
use crate::{
    channel::Message,
    deadline,
    error::{Error, Result},
    message::{self, Up, decode},
};

/// A command that has not been sent yet: [`tell`](Call::tell), [`wait`](Call::wait),
/// [`wait_timeout`](Call::wait_timeout) or [`send`](Call::send) does.
#[must_use = "a call has sent nothing yet: `.tell()?`, `.wait()?` or `.send()?` does"]
pub struct Call<T> {
    link: Arc<Link>,
    command: &'static str,
    /// They go with the command where they are kept to be sent again.
    arguments: Option<Box<dyn Encode + Send>>,
    urgent: bool,
    /// When it need not begin any more.
    deadline: Option<Deadline>,
    result: PhantomData<fn() -> T>,
}

/// A time, as it was given, here, and as it travels.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    since: Instant,
    at: Instant,
    /// In nanoseconds of the monotonic clock.
    until: u64,
}

impl<T> Call<T> {
    pub(super) fn new(
        link: Arc<Link>,
        command: &'static str,
        arguments: Box<dyn Encode + Send>,
    ) -> Call<T> {
        let arguments = Some(arguments);
        Call { link, command, arguments, urgent: false, deadline: None, result: PhantomData }
    }

    /// Lets it overtake the calls that are not urgent and have not begun: the backend handles
    /// urgent ones first, in their order, as soon as its present handler is done.
    ///
    /// A handler that runs is not interrupted. An urgent call has to find room in the channel like
    /// any other: where that is full it waits for room, and one more handler may come before it.
    pub fn urgent(mut self) -> Call<T> {
        self.urgent = true;
        self
    }

    /// Gives it a time limit that travels: if its handler has not begun by then it does not run,
    /// and the call fails with [`Error::Late`]. A handler that has begun sees what is left by
    /// [`Context::time_left`](crate::Context::time_left), and is not interrupted. Whoever waits
    /// for room or for the result waits no longer than that, and gets [`Error::TimedOut`].
    ///
    /// The time counts from here on.
    pub fn deadline(mut self, limit: Duration) -> Call<T> {
        let since = Instant::now();
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let until = monotonic().saturating_add(nanoseconds).max(1);
        // One that is after all time is none.
        self.deadline = deadline::after(since, limit).map(|at| Deadline { since, at, until });
        self
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
    pub fn tell(mut self) -> Result<()> {
        let until = self.room_deadline(Instant::now());
        self.transmit(false, until).map(drop)
    }

    /// Sends the command if there is room now.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] when there is none; else as [`Call::tell`].
    pub fn try_tell(mut self) -> Result<()> {
        let process = self.link.name().to_owned();
        match self.transmit(false, Some(Instant::now())) {
            Err(Error::TimedOut { .. }) => {
                Err(Error::QueueFull { process, reason: "the channel is full".into() })
            }
            other => other.map(drop),
        }
    }

    fn transmit(&mut self, wants_reply: bool, until: Option<Instant>) -> Result<u64> {
        let Call { link, command, arguments, urgent, deadline, .. } = self;
        link.check_ours()?;
        if link.lock().stopping.is_some() {
            return Err(Error::Stopped { process: link.name().into() });
        }
        let encoded = arguments.as_ref().ok_or("it has been sent already")?;
        let what = format_args!("the arguments of {command}");
        let (body, parcel) = encoded.encode(what, link.child.pid())?;
        let keeps = link.settings.undelivered.keeps();
        let mut one = Some(Command {
            call: 0,
            name: command,
            wants_reply,
            urgent: *urgent,
            attempt: 1,
            until: deadline.map_or(0, |deadline| deadline.until),
            bytes: body.len(),
            arguments: if keeps { arguments.take() } else { None },
        });
        let sent = link.send_command(&mut one, &body, &parcel, until);
        match sent {
            Ok(_) => parcel.sent(),
            // It may be tried again.
            Err(_) if keeps => *arguments = one.and_then(|one| one.arguments),
            Err(_) => {}
        }
        message::sent(body);
        sent
    }

    /// Until when it waits for room that it has wanted since then. After its deadline it would not
    /// run.
    pub(crate) fn room_deadline(&self, since: Instant) -> Option<Instant> {
        let limit = deadline::after(since, self.link.settings.send_timeout);
        limit.into_iter().chain(self.deadline.map(|deadline| deadline.at)).min()
    }

    fn start(mut self, until: Option<Instant>) -> Result<Reply<T>> {
        let limit = self.room_deadline(Instant::now());
        let until = until.into_iter().chain(limit).min();
        let call = self.transmit(true, until)?;
        Ok(self.reply(call))
    }

    fn reply(&self, call: u64) -> Reply<T> {
        let Call { link, command, deadline, .. } = self;
        let (link, command, deadline) = (link.clone(), *command, *deadline);
        Reply { link, command, call, deadline, taken: false, result: PhantomData }
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
        let until = deadline::after(since, timeout);
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
    pub(crate) fn try_send(&mut self) -> Result<Option<Reply<T>>> {
        match self.transmit(true, Some(Instant::now())) {
            Ok(call) => Ok(Some(self.reply(call))),
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says in an error that there was no room for so long.
    pub(crate) fn no_room(&self, since: Instant) -> Error {
        self.link.explain(Unmet::Deadline, &format!("take {}", self.command), since)
    }
}

#[cfg(feature = "tokio")]
impl<T> Reply<T> {
    /// Looks after the handlers of its process; says when to look again, or at the deadline.
    pub(crate) fn look_after(&self) -> Option<Instant> {
        let deadline = self.deadline.map(|deadline| deadline.at);
        deadline.into_iter().chain(self.link.look_after()).min()
    }

    /// Awaits something of the process that it has gone to.
    pub(crate) fn awaits(&self) -> Awaits {
        self.link.awaits()
    }

    /// Tells apart the processes that it has gone to.
    pub(crate) fn place(&self) -> usize {
        Arc::as_ptr(&self.link) as usize
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
    deadline: Option<Deadline>,
    taken: bool,
    result: PhantomData<fn() -> T>,
}

impl<T> Reply<T> {
    /// Whether [`try_take`](Reply::try_take) would give something: the result, or the reason why
    /// there is none.
    pub fn is_ready(&self) -> bool {
        if self.taken || !self.link.is_ours() || self.is_late() {
            return true;
        }
        let (link, call) = self.whereabouts();
        link.has_reply(call)
    }

    /// Takes the call back: if it has not begun it will not run, and gives [`Error::Cancelled`]
    /// when its turn comes; if it runs its handler can see that by
    /// [`Context::is_cancelled`](crate::Context::is_cancelled), and gives what it gives. What is
    /// done is done.
    pub fn cancel(&self) {
        if self.link.is_ours() {
            let (link, call) = self.whereabouts();
            link.cancel(call);
        }
    }

    /// Where the call is now: it may have been sent to the replacement of its process.
    fn whereabouts(&self) -> (Arc<Link>, u64) {
        let mut place = (self.link.clone(), self.call);
        while let Some(next) = place.0.forwarded(place.1) {
            place = next;
        }
        place
    }

    /// The name of the command.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// Whether its [deadline](Call::deadline) has passed.
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline.at)
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
        self.wait_until(since, deadline::after(since, timeout))
    }

    /// Takes the result if it is there.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`]; [`Error::TimedOut`] when its [deadline](Call::deadline) has passed.
    pub fn try_take(&mut self) -> Result<Option<T>> {
        let (now, is_late) = (Instant::now(), self.is_late());
        match self.wait_until(now, (!is_late).then_some(now)) {
            Ok(value) => Ok(Some(value)),
            Err(Error::TimedOut { .. }) if !is_late => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wait_until(&mut self, since: Instant, until: Option<Instant>) -> Result<T> {
        self.link.check_ours()?;
        if self.taken {
            return Err(self.unreadable("it has been taken already".into()));
        }
        let (since, until) = match (self.deadline, until) {
            (Some(deadline), None) => (deadline.since, Some(deadline.at)),
            (Some(deadline), Some(until)) => (since, Some(until.min(deadline.at))),
            (None, until) => (since, until),
        };
        loop {
            while let Some((link, call)) = self.link.follow(self.call) {
                (self.link, self.call) = (link, call);
            }
            let link = &*self.link;
            let unmet =
                match link.wait(until, Wait::Message, |state| Link::take_reply(state, self.call)) {
                    Ok(message) => {
                        self.taken = true;
                        link.prune();
                        return self.read(message?);
                    }
                    Err(unmet) => unmet,
                };
            let unmet = match (unmet, until) {
                (Unmet::Ended(exit), _) if !link.is_left_over(self.call) => {
                    // Or it has gone on in this very moment.
                    if link.forwarded(self.call).is_some() {
                        continue;
                    }
                    Unmet::Ended(exit)
                }
                (Unmet::Ended(_), Some(until)) => {
                    if link.wait_for_fate(self.call, until) {
                        continue;
                    }
                    Unmet::Deadline
                }
                // Perhaps nobody but this thread could start the next process.
                (Unmet::Ended(exit), None) if link.withdraw(self.call) => Unmet::Ended(exit),
                (Unmet::Ended(_), None) => continue,
                (unmet, _) => unmet,
            };
            let action = format!("answer {}", self.command);
            return Err(link.explain(unmet, &action, since));
        }
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
