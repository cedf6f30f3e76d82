//! What a backend's handlers can do beside their own work.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use shmring::{
    os::{self, PollFd, monotonic},
    transfer::Parcel,
};

use super::{awake, backend::NoEvents, inbox::Inbox};
use crate::{
    channel::{Message, Outgoing, Port, Received},
    deadline,
    error::{Error, Result},
    message::{self, Up},
    start::{KeptFd, Page, StopLevel, TextFile, frontend_has_ended},
};

/// How often a backend that has nothing to do looks at what it writes that is captured.
const LOOK_AT_TEXT: Duration = Duration::from_millis(500);

/// Tells a backend's descriptors apart, and its timers. The backend chooses the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub usize);

/// What a watched descriptor should be ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Interest {
    /// Data to read, or the other side hung up.
    Readable,
    /// Room to write, or the other side hung up.
    Writable,
    /// Either.
    Both,
}

/// How a descriptor of the backend's own is watched.
#[derive(Debug)]
struct Watch {
    token: Token,
    fd: KeptFd,
    interest: Interest,
}

#[derive(Debug)]
struct Timer {
    token: Token,
    at: Instant,
    every: Option<Duration>,
}

/// The backend's hold on its own process: events, descriptors, timers, whether to stop.
///
/// `E` is the type of its events.
#[derive(Debug)]
pub struct Context<E = NoEvents> {
    pub(super) core: Core,
    events: PhantomData<fn(E)>,
}

/// The part that does not depend on the type of the events.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) name: String,
    /// The process id of the frontend.
    pub(super) frontend: u32,
    pub(super) page: Arc<Page>,
    pub(super) inbox: Inbox,
    /// What it writes that is captured.
    pub(super) texts: Vec<TextFile>,
    /// Whether the backend itself wishes to leave.
    pub(super) leaving: bool,
    /// Whether the frontend has closed the channel.
    pub(super) gone: bool,
    /// The call whose handler runs; 0 for none.
    pub(super) call: u64,
    /// Which attempt at it this is.
    pub(super) attempt: u32,
    /// Its deadline, in nanoseconds of the monotonic clock; 0 for none.
    pub(super) until: u64,
    /// Datagrams that were no messages.
    pub(super) malformed: Vec<String>,
    port: Port<KeptFd>,
    send_timeout: Duration,
    watches: Vec<Watch>,
    timers: Vec<Timer>,
}

/// What there is to do.
#[derive(Default, Debug)]
pub(super) struct Due {
    pub(super) ready: Vec<Token>,
    pub(super) timers: Vec<Token>,
}

impl<E> Context<E> {
    pub(super) fn new(core: Core) -> Context<E> {
        Context { core, events: PhantomData }
    }

    /// The name of the process.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Whether this backend is to end: its frontend wishes so, or is dead. A long handler looks
    /// here now and then. One that does not is killed 0.9 seconds after its frontend's death,
    /// and then runs no `post_run` and removes no names.
    pub fn is_stopping(&self) -> bool {
        self.core.leaving || self.core.page.stop_level() != StopLevel::None || frontend_has_ended()
    }

    /// Whether the result of the command that runs now is no longer wanted: its caller has taken
    /// it back ([`Reply::cancel`](crate::Reply::cancel)), or its
    /// [deadline](crate::Call::deadline) has passed.
    pub fn is_cancelled(&self) -> bool {
        self.core.page.is_cancelled(self.core.call)
            || self.time_left().is_some_and(|left| left.is_zero())
    }

    /// How much time is left until the deadline of the command that runs now, where its caller
    /// gave one with [`Call::deadline`](crate::Call::deadline).
    pub fn time_left(&self) -> Option<Duration> {
        let until = self.core.until;
        (until != 0).then(|| Duration::from_nanos(until.saturating_sub(monotonic())))
    }

    /// Which attempt at the command that runs now this is: 1, unless a process before this one
    /// died in it, and it is sent again by
    /// [`Undelivered::AtLeastOnce`](crate::Undelivered::AtLeastOnce).
    pub fn attempt(&self) -> u32 {
        self.core.attempt
    }

    /// Leaves the loop after this handler; `post_run` follows.
    pub fn stop(&mut self) {
        self.core.leaving = true;
    }

    /// Calls `on_ready` with `token` whenever `fd` is ready, until [`Context::unwatch`].
    ///
    /// The context keeps a duplicate, so `fd` may be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no descriptor is left.
    pub fn watch(&mut self, fd: impl AsFd, interest: Interest, token: Token) -> Result<()> {
        let fd = os::duplicate(fd.as_fd()).map_err(Error::io("duplicate a descriptor"))?;
        self.core.watches.push(Watch { token, fd: KeptFd::new(fd), interest });
        Ok(())
    }

    /// Ends the watches of this token; tells whether there were any.
    pub fn unwatch(&mut self, token: Token) -> bool {
        let before = self.core.watches.len();
        self.core.watches.retain(|watch| watch.token != token);
        self.core.watches.len() != before
    }

    /// Calls `on_timer` with `token` once, when this time has passed.
    pub fn after(&mut self, time: Duration, token: Token) {
        self.core.set_timer(time, None, token);
    }

    /// Calls `on_timer` with `token` each time this time has passed. Times that were missed during
    /// a long handler are not made up for.
    pub fn every(&mut self, period: Duration, token: Token) {
        let period = period.max(Duration::from_micros(1));
        self.core.set_timer(period, Some(period), token);
    }

    /// Ends the timers of this token; tells whether there were any.
    pub fn cancel_timer(&mut self, token: Token) -> bool {
        let before = self.core.timers.len();
        self.core.timers.retain(|timer| timer.token != token);
        self.core.timers.len() != before
    }
}

impl<E: Serialize> Context<E> {
    /// Sends an event to the frontend.
    ///
    /// Where the channel is full, waits until the frontend has taken something, at most for the
    /// process's `send_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::FrontendGone`]; [`Error::Unsendable`] when the event cannot
    /// be serialized.
    pub fn emit(&mut self, event: E) -> Result<()> {
        let until = deadline::after(Instant::now(), self.core.send_timeout);
        let what = format_args!("an event");
        let (bytes, parcel) = message::encode_until(what, self.core.frontend, &event, until)?;
        self.core.send(&Up::Event, &bytes, &parcel, until)?;
        parcel.sent();
        Ok(())
    }
}

impl Core {
    #[inline]
    pub(super) fn new(
        name: &str,
        frontend: u32,
        port: Port<KeptFd>,
        page: Arc<Page>,
        inbox: Inbox,
        send_timeout: Duration,
        texts: Vec<TextFile>,
    ) -> Core {
        let mut port = port;
        port.read_ahead();
        Core {
            name: name.into(),
            frontend,
            page,
            inbox,
            texts,
            leaving: false,
            gone: false,
            call: 0,
            attempt: 1,
            until: 0,
            malformed: Vec::new(),
            port,
            send_timeout,
            watches: Vec::new(),
            timers: Vec::new(),
        }
    }

    fn set_timer(&mut self, time: Duration, every: Option<Duration>, token: Token) {
        let at = deadline::moment_after(Instant::now(), time);
        self.timers.push(Timer { token, at, every });
    }

    /// Sends a message. Receives while it waits for room, so that a frontend that is sending too
    /// gets on. Without a deadline it waits until the frontend is gone or stops us urgently.
    #[inline]
    pub(super) fn send(
        &mut self,
        header: &Up,
        body: &[u8],
        parcel: &Parcel,
        until: Option<Instant>,
    ) -> Result<()> {
        if self.port.is_small(body, parcel) {
            let sent = self.port.try_send_small(header, body);
            if self.is_sent(sent)? {
                return Ok(());
            }
        }
        let header = message::header(header)?;
        let outgoing = self.port.outgoing(&header, body, parcel)?;
        let since = Instant::now();
        loop {
            if self.try_send(&outgoing)? {
                return Ok(());
            }
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return Err(Error::TimedOut {
                    process: self.name.clone(),
                    action: "get rid of a message: its frontend does not take any".into(),
                    after: now - since,
                    busy: None,
                    exit: None,
                });
            }
            if until.is_none() && self.page.stop_level() == StopLevel::Urgent {
                return Err(Error::Stopped { process: self.name.clone() });
            }
            self.wait_for_room(until.map(|until| until - now))?;
        }
    }

    fn try_send(&mut self, outgoing: &Outgoing<'_>) -> Result<bool> {
        let sent = self.port.try_send(outgoing);
        self.is_sent(sent)
    }

    #[inline]
    fn is_sent(&mut self, sent: io::Result<bool>) -> Result<bool> {
        match sent {
            Ok(sent) => Ok(sent),
            Err(error) if is_closed(&error) => {
                self.gone = true;
                Err(Error::FrontendGone { process: self.name.clone() })
            }
            Err(source) => {
                Err(Error::Io { action: "send a message to the frontend".into(), source })
            }
        }
    }

    fn wait_for_room(&mut self, timeout: Option<Duration>) -> Result<()> {
        if self.port.has_ahead() && !self.inbox.is_full() {
            self.receive(false)?;
            return Ok(());
        }
        // The control page is looked at now and then: an urgent stop rings no bell here.
        let slice = Duration::from_millis(200);
        let timeout = timeout.map_or(slice, |timeout| timeout.min(slice));
        let mut fds = vec![PollFd::writable(self.port.as_fd())];
        if !self.inbox.is_full() {
            fds.push(PollFd::readable(self.port.as_fd()));
        }
        os::poll(&mut fds, Some(timeout)).map_err(Error::io("wait for room to send"))?;
        if fds.get(1).is_some_and(PollFd::is_ready) {
            self.receive(false)?;
        }
        Ok(())
    }

    /// Takes one message into the inbox, if there is one; may wait for it. Whether there was one.
    #[inline]
    pub(super) fn receive(&mut self, wait: bool) -> Result<bool> {
        let received = self.port.receive(wait).map_err(Error::io("receive from the frontend"))?;
        match received {
            Received::Message(message) => self.inbox.push(message, self.page.urgent()),
            Received::Malformed(reason) => self.malformed.push(reason),
            Received::Nothing => return Ok(false),
            Received::Closed => {
                self.gone = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the memory of a message back that has been handled.
    pub(super) fn reuse(&mut self, message: Message) {
        self.port.reuse(message);
    }

    /// Takes the first command into the inbox, where it comes right after the start.
    pub(super) fn look_for_first(&mut self) {
        self.port.expect();
        awake::look(Instant::now() + awake::WHEN_READY, || match self.receive(false) {
            Ok(false) if !self.gone => None,
            // An error is met again by the loop.
            _ => Some(()),
        });
    }

    /// Receives, where an urgent message was announced that has not come, until it has or until
    /// there is nothing more: it lies behind others.
    fn look_for_urgent(&mut self) -> Result<()> {
        while self.page.urgent() != self.inbox.urgent()
            && !self.inbox.is_full()
            && self.receive(false)?
        {}
        Ok(())
    }

    /// Takes no more, and lets go of what is still there: blocks would stay held by messages that
    /// nobody reads.
    pub(super) fn close(&mut self) {
        self.port.close();
        while self.inbox.pop().is_some() {}
    }

    /// Whether there is anything to wait for beside commands.
    pub(super) fn has_more_than_commands(&self) -> bool {
        !self.watches.is_empty() || !self.timers.is_empty()
    }

    /// Takes the next message; waits for it, and for descriptors and timers, unless there is
    /// something to do at once.
    pub(super) fn next(&mut self) -> Result<(Option<Message>, Due)> {
        let mut due = Due::default();
        let captures = !self.texts.is_empty();
        if !self.has_more_than_commands() && !captures {
            if self.inbox.is_empty() && self.malformed.is_empty() {
                self.receive(true)?;
            }
            self.look_for_urgent()?;
            return Ok((self.inbox.pop(), due));
        }
        let waits = self.inbox.is_empty() && self.malformed.is_empty() && !self.port.has_ahead();
        // Threads of the backend may write while it has nothing to do.
        let look = captures.then_some(LOOK_AT_TEXT);
        let timeout = match waits {
            true => self.until_next_timer().into_iter().chain(look).min(),
            false => Some(Duration::ZERO),
        };
        let (readable, ready) = self.poll(timeout)?;
        due.ready = ready;
        due.timers = self.take_due_timers(Instant::now());
        if (readable || self.port.has_ahead()) && self.inbox.is_empty() {
            self.receive(false)?;
        }
        self.look_for_urgent()?;
        Ok((self.inbox.pop(), due))
    }

    fn poll(&self, timeout: Option<Duration>) -> Result<(bool, Vec<Token>)> {
        let mut fds = vec![PollFd::readable(self.port.as_fd())];
        let mut tokens = vec![];
        for watch in &self.watches {
            if watch.interest != Interest::Writable {
                fds.push(PollFd::readable(watch.fd.as_fd()));
                tokens.push(watch.token);
            }
            if watch.interest != Interest::Readable {
                fds.push(PollFd::writable(watch.fd.as_fd()));
                tokens.push(watch.token);
            }
        }
        os::poll(&mut fds, timeout).map_err(Error::io("wait for work"))?;
        let mut ready: Vec<Token> = fds[1..]
            .iter()
            .zip(tokens)
            .filter_map(|(fd, token)| fd.is_ready().then_some(token))
            .collect();
        ready.dedup();
        Ok((fds[0].is_ready(), ready))
    }

    fn until_next_timer(&self) -> Option<Duration> {
        let next = self.timers.iter().map(|timer| timer.at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn take_due_timers(&mut self, now: Instant) -> Vec<Token> {
        let mut due: Vec<(Instant, Token)> = Vec::new();
        self.timers.retain_mut(|timer| {
            if timer.at > now {
                return true;
            }
            due.push((timer.at, timer.token));
            match timer.every {
                Some(period) => {
                    timer.at = next_tick(timer.at, period, now);
                    true
                }
                None => false,
            }
        });
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(_, token)| token).collect()
    }

    /// Whether this token still has a watch: a handler before may have ended it.
    pub(super) fn is_watched(&self, token: Token) -> bool {
        self.watches.iter().any(|watch| watch.token == token)
    }
}

/// The first tick after `now`, in the rhythm of the ticks before.
pub(crate) fn next_tick(last: Instant, period: Duration, now: Instant) -> Instant {
    let missed = (now - last).as_nanos() / period.as_nanos();
    let ticks = u32::try_from(missed + 1).unwrap_or(u32::MAX);
    let next = last + period.saturating_mul(ticks);
    if next > now { next } else { now + period }
}

/// Whether the other side is closed.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_were_missed_are_passed_over_and_the_rhythm_stays() {
        let start = Instant::now();
        let period = Duration::from_millis(10);
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(next_tick(start, period, start), after(10));
        assert_eq!(next_tick(start, period, after(9)), after(10));
        assert_eq!(next_tick(start, period, after(35)), after(40));
        let tiny = Duration::from_nanos(1);
        assert!(next_tick(start, tiny, after(60_000)) > after(60_000));
    }
}
