//! The frontend's end of a channel, without types: whoever waits receives for all.
//!
//! One thread at a time polls; what it receives for others is kept, and the bell rings as long
//! as something is kept, so a wait for one reply never swallows another's readiness.

#[cfg(feature = "tokio")]
mod awaiting;
mod exchange;
mod explain;
mod handles;
mod outbox;
mod starting;
mod watch;

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use shmring::{
    block,
    os::{self, PollFd},
};

use crate::{
    channel::{Message, Port, Queue, Received},
    deadline,
    error::{Error, Result},
    exit::{Exit, How, StopStep},
    message::Up,
    start::{Bell, Child, KeptFd, Page, TextFile},
};

use self::{outbox::Outbox, watch::Watch};
use super::{
    awake,
    hello::{Texts, lines_of},
    options::Settings,
};

#[cfg(feature = "tokio")]
pub(crate) use self::awaiting::Awaits;
pub(super) use self::outbox::{Command, Place};

/// How long a process may live on after it closed its channel.
const CLOSED_BUT_ALIVE: Duration = Duration::from_secs(1);

/// For how long a wait whose deadline has passed still receives what has come.
const PAST_DEADLINE: Duration = Duration::from_millis(1);

/// How long a wait for what rings no bell looks away.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The frontend's end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) child: Child,
    pub(super) page: Arc<Page>,
    commands: &'static [&'static str],
    socket: Arc<KeptFd>,
    bell: Bell,
    /// The commands of a backend that may be another program, as it told them.
    told_commands: OnceLock<Vec<String>>,
    /// When it was started.
    pub(super) started: Instant,
    /// Until when whoever waits for its first messages does not sleep.
    awake_until: Option<Instant>,
    maker: u32,
    generation: u32,
    state: Mutex<State>,
    changed: Condvar,
    #[cfg(feature = "tokio")]
    awaiting: Arc<awaiting::Awaiting>,
}

/// What the frontend keeps open before there is a child.
pub(super) struct Parts {
    pub(super) socket: Arc<KeptFd>,
    pub(super) port: Port<Arc<KeptFd>>,
    pub(super) page: Arc<Page>,
    pub(super) texts: Texts,
    /// Whether it takes less time to be ready than to execute a program.
    pub(super) soon_ready: bool,
}

#[derive(Debug)]
pub(super) struct State {
    port: Port<Arc<KeptFd>>,
    texts: Texts,
    /// Calls whose reply is wanted.
    calls: HashMap<u64, Place>,
    outbox: Outbox,
    watch: Watch,
    replies: usize,
    /// How many replies have come that somebody wanted, in all.
    replies_come: u64,
    events: Queue,
    malformed: VecDeque<String>,
    start: Option<Message>,
    /// Whether somebody wants to know how the start comes out.
    start_awaited: bool,
    last_call: u64,
    polling: bool,
    waiting: usize,
    /// Somebody gave up while another polled, and has to look again.
    turned_away: bool,
    raised: bool,
    closed_at: Option<Instant>,
    /// The step of a stop that is under way.
    pub(super) stopping: Option<StopStep>,
    /// Whether it was asked to leave when it had ended.
    pub(super) told_to_stop_late: bool,
    pub(super) end: Option<Exit>,
    end_untold: bool,
}

/// Something to take from a process that nobody asked for.
pub(super) enum Item {
    Message(Message),
    Malformed(String),
    Failed(Error),
    Ended(Exit),
}

/// Why a wait ended without what it waited for.
pub(super) enum Unmet {
    Deadline,
    Ended(Exit),
    /// Nothing more is received until the events are taken.
    Full(usize),
    Disconnected,
    Io(io::Error),
}

/// What a wait does besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It waits for something to come.
    Message,
    /// It waits for room to send.
    Room,
    /// It waits until less is on its way, which rings no bell.
    Books,
    /// It waits for the end, and lets events go where there are too many.
    End,
}

impl Link {
    pub(super) fn new(
        settings: Settings,
        commands: &'static [&'static str],
        child: Child,
        parts: Parts,
    ) -> io::Result<Link> {
        let Parts { socket, port, page, texts, soon_ready } = parts;
        let ring = || -> io::Result<Bell> {
            let bell = Bell::new()?;
            bell.watch(socket.as_fd())?;
            if let Some(death) = child.death() {
                bell.watch(death)?;
            }
            Ok(bell)
        };
        // Now and not before there is a child, which starts meanwhile.
        let bell = ring().inspect_err(|_| child.end())?;
        let events = Queue::new(settings.limits);
        let started = Instant::now();
        Ok(Link {
            settings,
            child,
            page,
            commands,
            socket,
            bell,
            told_commands: OnceLock::new(),
            started,
            awake_until: soon_ready.then(|| started + awake::AFTER_START),
            maker: os::pid(),
            generation: os::fork_generation(),
            state: Mutex::new(State {
                port,
                texts,
                calls: HashMap::new(),
                outbox: Outbox::default(),
                watch: Watch::default(),
                replies: 0,
                replies_come: 0,
                events,
                malformed: VecDeque::new(),
                start: None,
                start_awaited: true,
                last_call: 0,
                polling: false,
                waiting: 0,
                turned_away: false,
                raised: false,
                closed_at: None,
                stopping: None,
                told_to_stop_late: false,
                end: None,
                end_untold: false,
            }),
            changed: Condvar::new(),
            #[cfg(feature = "tokio")]
            awaiting: Arc::default(),
        })
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether this process is the one that started the backend, not a fork of it.
    pub(super) fn is_ours(&self) -> bool {
        os::fork_generation() == self.generation
    }

    pub(super) fn check_ours(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(Error::NotOurs { process: self.name().into(), maker: self.maker })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` gives something. Receives meanwhile, unless somebody else does.
    pub(super) fn wait<R>(
        &self,
        until: Option<Instant>,
        what: Wait,
        mut condition: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<R, Unmet> {
        let mut state = self.lock();
        // Even a deadline in the past looks, and receives what has come; but not for as long as more
        // comes.
        let mut progress = true;
        let latest = until.map(|until| until.max(Instant::now()) + PAST_DEADLINE);
        loop {
            if !state.outbox.backlog.is_empty() {
                self.flush(&mut state);
            }
            let watch = self.watch(&mut state);
            let result = condition(&mut state);
            // What this wait did not take may be what somebody else polls for.
            self.settle(&mut state);
            if let Some(result) = result {
                return Ok(result);
            }
            if let Some(exit) = &state.end {
                return Err(Unmet::Ended(exit.clone()));
            }
            if state.events.is_full() {
                match what {
                    Wait::End => {
                        state.events.pop();
                        continue;
                    }
                    Wait::Message => return Err(Unmet::Full(state.events.len())),
                    Wait::Room | Wait::Books => {}
                }
            }
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                if !progress {
                    state.turned_away |= state.polling;
                    return Err(Unmet::Deadline);
                }
                if latest.is_some_and(|latest| now >= latest) {
                    // What is left there has rung already.
                    self.raise(&mut state);
                    return Err(Unmet::Deadline);
                }
            }
            let look_at = until.into_iter().chain(watch).min();
            let left = look_at.map(|at| at.saturating_duration_since(now));
            (state, progress) = if state.polling {
                let state = self.wait_for_other(state, left, what);
                // Nobody receives any more, so it looks by itself.
                let is_free = !state.polling;
                (state, is_free)
            } else {
                self.step(state, left, what)?
            };
        }
    }

    /// Somebody else receives: waits until it has received something, or gives up the place.
    fn wait_for_other<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        left: Option<Duration>,
        what: Wait,
    ) -> MutexGuard<'a, State> {
        // The other does not look for room, so one who needs room looks by himself.
        let slice = match what {
            Wait::Room | Wait::Books => Duration::from_millis(5),
            _ => Duration::from_secs(3600),
        };
        let left = left.map_or(slice, |left| left.min(slice));
        state.waiting += 1;
        let (mut state, _) =
            self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Polls once, and receives what there is: at most one message, so that whoever waits for it
    /// has it after two system calls.
    fn step<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        left: Option<Duration>,
        what: Wait,
    ) -> Result<(MutexGuard<'a, State>, bool), Unmet> {
        let mut timeout = left;
        // Only the end can still come.
        if let Some(closed) = state.closed_at
            && what != Wait::End
        {
            let limit = (closed + CLOSED_BUT_ALIVE).saturating_duration_since(Instant::now());
            if limit.is_zero() {
                if !self.child.has_ended() {
                    return Err(Unmet::Disconnected);
                }
                self.bury(&mut state);
                return Ok((state, true));
            }
            timeout = Some(timeout.map_or(limit, |timeout| timeout.min(limit)));
        }
        if what == Wait::Books {
            timeout = Some(timeout.map_or(LOOK_AGAIN, |timeout| timeout.min(LOOK_AGAIN)));
        }
        let is_new = what == Wait::Message && state.replies_come == 0;
        let open = state.closed_at.is_none();
        let wants_message = open && !state.events.is_full();
        let wants_room = open && (what == Wait::Room || !state.outbox.backlog.is_empty());
        state.polling = true;
        drop(state);

        let mut fds = Vec::with_capacity(3);
        if wants_message {
            fds.push(PollFd::readable(self.socket.as_fd()));
        }
        let death = fds.len();
        fds.extend(self.child.death().map(PollFd::readable));
        if wants_room {
            fds.push(PollFd::writable(self.socket.as_fd()));
        }
        let polled = match is_new.then(|| self.look_awake(&mut fds, timeout)).flatten() {
            Some(polled) => polled,
            None => os::poll(&mut fds, timeout),
        };
        let readable = wants_message && fds[0].is_ready();
        let dead = self.child.death().is_some() && fds[death].is_ready();

        let mut state = self.lock();
        state.polling = false;
        let result = polled.map_err(Unmet::Io).and_then(|_| {
            if dead {
                self.bury(&mut state);
                Ok(true)
            } else if readable {
                self.receive(&mut state).map_err(Unmet::Io)
            } else {
                Ok(false)
            }
        });
        if state.waiting > 0 {
            self.changed.notify_all();
        }
        // It may have been woken for what has come meanwhile, and will not be again.
        if std::mem::take(&mut state.turned_away) {
            self.raise(&mut state);
        }
        result.map(|progress| (state, progress))
    }

    /// Polls without sleeping, shortly after the start and no longer than `timeout`.
    fn look_awake(
        &self,
        fds: &mut [PollFd<'_>],
        timeout: Option<Duration>,
    ) -> Option<io::Result<usize>> {
        let until = self.awake_until?;
        let until = timeout
            .map_or(until, |timeout| until.min(deadline::moment_after(Instant::now(), timeout)));
        awake::look(until, || match os::poll(fds, Some(Duration::ZERO)) {
            Ok(0) => None,
            polled => Some(polled),
        })
    }

    /// Receives one message; tells whether there was anything.
    fn receive(&self, state: &mut State) -> io::Result<bool> {
        match state.port.receive(false)? {
            Received::Message(message) => self.route(state, message),
            Received::Malformed(reason) => note_malformed(state, reason),
            Received::Nothing => return Ok(false),
            Received::Closed => {
                state.closed_at = Some(Instant::now());
                self.bell.unwatch(self.socket.as_fd());
                if self.child.is_thread() {
                    self.end(state);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes what a dead process has still sent, then its exit status.
    fn bury(&self, state: &mut State) {
        while state.closed_at.is_none() && self.receive(state).unwrap_or(false) {}
        self.end(state);
    }

    fn end(&self, state: &mut State) {
        if state.end.is_some() {
            return;
        }
        let how = self.child.reap().unwrap_or(How::Unknown);
        if state.closed_at.is_none() {
            state.closed_at = Some(Instant::now());
            self.bell.unwatch(self.socket.as_fd());
        }
        if let Some(death) = self.child.death() {
            self.bell.unwatch(death);
        }
        if !self.child.is_thread() {
            // What has come is held by its message now; what has not come never will.
            block::drained(self.child.pid());
        }
        self.forward_text(state, true);
        let [_, out_lines, err_lines] = self.settings.stdio.each_ref().map(lines_of);
        let last_lines = |text: &Option<TextFile>, lines| {
            text.as_ref().map_or_else(Vec::new, |text| text.last_lines(lines))
        };
        let exit = Exit {
            pid: self.child.pid(),
            how,
            panic: self.page.panic(),
            stopped_by: state.stopping,
            overdue: state.watch.killed_for.take(),
            stdout: last_lines(&state.texts.out, out_lines),
            stderr: last_lines(&state.texts.err, err_lines),
        };
        self.settle_commands(state, &exit);
        state.end = Some(exit);
        state.end_untold = true;
        self.raise(state);
    }

    fn route(&self, state: &mut State, message: Message) {
        match postcard::take_from_bytes::<Up>(message.header()) {
            Ok((Up::Reply { call } | Up::ReplyFailed { call }, [])) => {
                state.outbox.note_answered(&self.page, call);
                // One whose reply nobody wants any more is forgotten here.
                if let Some(place @ Place::Waiting) = state.calls.get_mut(&call) {
                    *place = Place::Come(message);
                    state.replies += 1;
                    state.replies_come += 1;
                }
            }
            Ok((Up::Event | Up::Failed, [])) => state.events.push(message),
            Ok((Up::Ready { .. } | Up::StartFailed, [])) if state.start_awaited => {
                self.forward_text(state, false);
                state.start = Some(message);
            }
            Ok((Up::StartFailed, [])) => state.events.push(message),
            Ok((Up::Ready { .. }, [])) => {}
            Ok((Up::Wrote, [])) => self.forward_text(state, false),
            _ => note_malformed(state, "a header that is none".into()),
        }
    }

    /// Gives captured text to `tracing`, line by line.
    fn forward_text(&self, state: &mut State, last: bool) {
        let process = self.name();
        let Texts { out, err } = &mut state.texts;
        if let Some(out) = out
            && tracing::enabled!(target: "msgproc::stdout", tracing::Level::INFO)
        {
            let (lines, lost) = out.new_lines(last);
            note_lost(process, "stdout", lost);
            for line in lines {
                tracing::info!(target: "msgproc::stdout", process, "{line}");
            }
        }
        if let Some(err) = err
            && tracing::enabled!(target: "msgproc::stderr", tracing::Level::WARN)
        {
            let (lines, lost) = err.new_lines(last);
            note_lost(process, "stderr", lost);
            for line in lines {
                tracing::warn!(target: "msgproc::stderr", process, "{line}");
            }
        }
    }

    /// Whether something is kept that somebody may want.
    fn has_something(state: &State) -> bool {
        state.replies > 0
            || !state.events.is_empty()
            || !state.malformed.is_empty()
            || state.start.is_some()
            || state.outbox.has_failed()
            || state.end_untold
    }

    fn raise(&self, state: &mut State) {
        state.raised = true;
        self.bell.raise();
    }

    /// Rings the bell when something is kept, and quiets it when nothing is.
    fn settle(&self, state: &mut State) {
        match (Link::has_something(state), state.raised) {
            (true, false) => self.raise(state),
            (false, true) => {
                state.raised = false;
                self.bell.quiet();
            }
            _ => {}
        }
    }
}

fn note_lost(process: &str, stream: &str, bytes: u64) {
    if bytes > 0 {
        tracing::warn!(process, stream, bytes, "older text was not read in time");
    }
}

fn note_malformed(state: &mut State, reason: String) {
    // One who sends only such gets no more memory than this.
    if state.malformed.len() < 64 {
        state.malformed.push_back(reason);
    }
}
