//! Commands that have gone out: what is kept of them until they are done, and what becomes of
//! those that a dead process leaves.
//!
//! A command is numbered, for its lane, by the order in which the socket took it; the backend
//! counts in the same order, and writes to the control page which number of each lane it has begun
//! and which it has finished, answer included. So the page tells after any death which commands
//! were done, which one was being handled, and which had not begun:
//!
//! ```text
//! number ≤ finished             done: its answer, if one was wanted, is in the socket
//! finished < number ≤ begun     it was being handled, at most one
//! begun < number                it had not begun
//! ```
//!
//! A process that dies between its answer and the counter has answered a command that counts as
//! begun: the answer is received before the end is looked at, and is what says so. A backend that
//! lies in the counters loses its own commands, or gets them twice.

use std::{collections::VecDeque, fmt, io, mem, os::fd::AsFd, sync::Arc, time::Instant};

use shmring::transfer::Parcel;

use super::{Item, Link, State, Unmet, Wait};
use crate::{
    channel::{Limits, Message, Port},
    error::{Error, Result},
    exit::Exit,
    message::{self, Down},
    process::{backend::Encode, context::is_closed},
    start::{CALLS, KeptFd, LANES, Lane, Page},
};

/// Calls that are on their way have numbers nearer to each other than this, and so has one that
/// is about to be sent: together, less than the marks of the page reach.
const REACH: u64 = CALLS / 2;

/// A command that goes out, or has gone.
pub(in crate::process) struct Command {
    pub(in crate::process) call: u64,
    pub(in crate::process) name: &'static str,
    pub(in crate::process) wants_reply: bool,
    pub(in crate::process) urgent: bool,
    /// 1, and one more for each process that had begun it and died.
    pub(in crate::process) attempt: u32,
    /// See [`Down::Command`].
    pub(in crate::process) until: u64,
    /// How long its arguments are as bytes.
    pub(in crate::process) bytes: usize,
    /// Where they are kept to be sent again.
    pub(in crate::process) arguments: Option<Box<dyn Encode + Send>>,
}

impl Command {
    fn header(&self) -> Down<'static> {
        let Command { call, name, wants_reply, urgent, attempt, until, .. } = *self;
        Down::Command { call, name, wants_reply, urgent, attempt, until }
    }

    fn undelivered(&self, process: &str, begun: bool, exit: &Exit) -> Error {
        // What it wrote last would stand here once for each command.
        let exit = Box::new(Exit { stdout: Vec::new(), stderr: Vec::new(), ..exit.clone() });
        Error::Undelivered { process: process.into(), command: self.name.into(), begun, exit }
    }
}

/// What is known of a call whose reply is wanted.
pub(in crate::process) enum Place {
    Waiting,
    Come(Message),
    Failed(Error),
    /// Its process has ended; it is to be sent to the next one.
    Leftover,
    /// It has been sent to that one, where it has this number.
    Forwarded(Arc<Link>, u64),
}

impl Place {
    /// Whether there is something to take.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Place::Come(_) | Place::Failed(_))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Waiting => "Waiting",
            Place::Come(_) => "Come",
            Place::Failed(_) => "Failed",
            Place::Leftover => "Leftover",
            Place::Forwarded(..) => "Forwarded",
        })
    }
}

/// Commands that are on their way, in their order.
#[derive(Default)]
struct Sent {
    /// How many before these are done.
    done: u64,
    commands: VecDeque<Command>,
}

/// How many commands more are let go out before the page is looked at again. The backend writes
/// to that line of memory all the time.
const LOOK_AFTER: usize = 64;

/// The books of what has gone out.
#[derive(Default)]
pub(super) struct Outbox {
    lanes: [Sent; LANES],
    /// How many commands are on their way, and the bytes of those that are kept.
    count: usize,
    bytes: usize,
    /// How many may be on their way before it is looked for those that are done.
    look_at: usize,
    /// From the process before this one, and not sent yet.
    pub(super) backlog: VecDeque<Command>,
    /// To be sent to the next process.
    leftover: VecDeque<Command>,
    /// What failed and nobody waits for.
    failed: VecDeque<Error>,
    /// Values of the user, which are not dropped while the link is locked.
    trash: Vec<Command>,
}

impl Outbox {
    fn push(&mut self, command: Command) {
        self.count += 1;
        self.bytes += kept_bytes(&command);
        self.lanes[Lane::of(command.urgent) as usize].commands.push_back(command);
    }

    pub(super) fn discard(&mut self, command: Command) {
        if command.arguments.is_some() {
            self.trash.push(command);
        }
    }

    /// Takes out what is done.
    fn prune(&mut self, page: &Page) {
        for lane in Lane::ALL {
            let finished = page.finished(lane);
            while self.lanes[lane as usize].done < finished && self.pop_done(lane) {}
        }
        self.look_at = self.count + LOOK_AFTER;
    }

    /// Takes out a call that was answered: the counter of the page comes a moment later.
    pub(super) fn note_answered(&mut self, page: &Page, call: u64) {
        self.prune(page);
        for lane in Lane::ALL {
            let oldest = self.lanes[lane as usize].commands.front();
            if oldest.is_some_and(|command| command.call == call) {
                self.pop_done(lane);
            }
        }
    }

    fn pop_done(&mut self, lane: Lane) -> bool {
        let sent = &mut self.lanes[lane as usize];
        let Some(command) = sent.commands.pop_front() else {
            return false;
        };
        sent.done += 1;
        self.count -= 1;
        self.bytes -= kept_bytes(&command);
        self.discard(command);
        true
    }

    /// Whether one more command may go out now; takes out what is done, where it is time to.
    fn makes_room(&mut self, command: &Command, limits: &Limits, page: &Page) -> bool {
        // What is kept is not kept longer than it has to be.
        let due = command.arguments.is_some() || self.count >= self.look_at;
        if !due && self.has_room(command, limits) {
            return true;
        }
        self.prune(page);
        self.has_room(command, limits)
    }

    fn has_room(&self, command: &Command, limits: &Limits) -> bool {
        let oldest = self.lanes.iter().filter_map(|sent| Some(sent.commands.front()?.call)).min();
        let near = oldest.is_none_or(|oldest| command.call.saturating_sub(oldest) < REACH);
        let kept = kept_bytes(command);
        let few = kept == 0
            || self.count == 0
            || (self.count < limits.messages && self.bytes + kept <= limits.bytes);
        self.backlog.is_empty() && near && few
    }

    /// Takes a call out of what waits for the next process.
    pub(super) fn take_left_over(&mut self, call: u64) -> Option<Command> {
        let place = self.leftover.iter().position(|command| command.call == call)?;
        self.leftover.remove(place)
    }

    /// Whether a call is on its way.
    pub(super) fn has_sent(&self, call: u64) -> bool {
        let sent = self.lanes.iter().flat_map(|sent| &sent.commands);
        sent.chain(&self.backlog).any(|command| command.call == call)
    }

    /// What is to be told and that nobody waits for.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(super) fn note_failed(&mut self, error: Error) {
        self.failed.push_back(error);
    }

    pub(super) fn pop_failed(&mut self) -> Option<Item> {
        self.failed.pop_front().map(Item::Failed)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("count", &self.count).finish_non_exhaustive()
    }
}

/// One that is not kept counts by its number alone.
fn kept_bytes(command: &Command) -> usize {
    if command.arguments.is_some() { command.bytes.max(1) } else { 0 }
}

/// What came of trying to send.
enum Tried {
    Sent,
    /// Too much is on its way.
    NoRoom,
    /// So many others were sent meanwhile that its number is too old.
    Overtaken,
    Failed(io::Error),
}

impl Link {
    /// Sends a command; waits for room until the deadline, or not at all. Gives its number. One
    /// that was not sent stays where it is.
    pub(in crate::process) fn send_command(
        &self,
        command: &mut Option<Command>,
        body: &[u8],
        parcel: &Parcel,
        until: Option<Instant>,
    ) -> Result<u64> {
        let urgent = command.as_ref().is_some_and(|command| command.urgent);
        if urgent {
            self.page.announce_urgent();
        }
        let sent = match self.send_at_once(command, body, parcel) {
            Some(call) => Ok(call),
            None => self.send_numbered(command, body, parcel, until),
        };
        if urgent && sent.is_err() {
            self.page.denounce_urgent();
        }
        self.empty_trash();
        sent
    }

    /// Sends a small command if nothing stands in its way, which is the usual case; gives its
    /// number.
    fn send_at_once(
        &self,
        command: &mut Option<Command>,
        body: &[u8],
        parcel: &Parcel,
    ) -> Option<u64> {
        let mut state = self.lock();
        if self.watch(&mut state).is_some() {
            self.settle(&mut state);
        }
        let free = state.end.is_none() && state.outbox.backlog.is_empty();
        if !free || !state.port.is_small(body, parcel) {
            return None;
        }
        let one = command.as_mut()?;
        let (call, wants_reply) = (state.last_call + 1, one.wants_reply);
        one.call = call;
        let header = one.header();
        state.last_call = call;
        let sent = self.try_command(&mut state, command, |port| port.try_send_small(&header, body));
        if !matches!(sent, Some(Tried::Sent)) {
            // The number is free again, and an error comes again.
            state.last_call = call - 1;
            return None;
        }
        if wants_reply {
            state.calls.insert(call, Place::Waiting);
        }
        Some(call)
    }

    fn send_numbered(
        &self,
        command: &mut Option<Command>,
        body: &[u8],
        parcel: &Parcel,
        until: Option<Instant>,
    ) -> Result<u64> {
        let since = Instant::now();
        let name = command.as_ref().map_or("nothing", |command| command.name);
        let action = || format!("take {name}");
        let number = |command: &mut Option<Command>| {
            let command = command.as_mut().ok_or("there is nothing to send")?;
            command.call = self.number_call(command.wants_reply);
            Ok::<_, Error>((command.call, message::header(&command.header())?))
        };
        let (mut call, mut header) = number(command)?;
        loop {
            let outgoing = self.lock().port.outgoing(&header, body, parcel);
            let tried = outgoing.and_then(|outgoing| {
                self.wait(until, Wait::Room, |state| {
                    self.try_command(state, command, |port| port.try_send(&outgoing))
                })
                .map_err(|unmet| self.explain(unmet, &action(), since))
            });
            let failed = match tried {
                Ok(Tried::Sent) => return Ok(call),
                Ok(Tried::Overtaken) => {
                    self.forget(call);
                    (call, header) = number(command)?;
                    continue;
                }
                Ok(Tried::NoRoom) => {
                    let room = self.wait(until, Wait::Books, |state| {
                        let (limits, command) = (&self.settings.limits, command.as_ref()?);
                        state.outbox.makes_room(command, limits, &self.page).then_some(())
                    });
                    match room {
                        Ok(()) => continue,
                        Err(unmet) => self.explain(unmet, &action(), since),
                    }
                }
                Ok(Tried::Failed(error)) => self.explain_send(error, &action(), since),
                Err(error) => error,
            };
            self.forget(call);
            return Err(failed);
        }
    }

    fn try_command(
        &self,
        state: &mut State,
        command: &mut Option<Command>,
        send: impl FnOnce(&mut Port<Arc<KeptFd>>) -> io::Result<bool>,
    ) -> Option<Tried> {
        let one = command.as_ref()?;
        if state.last_call - one.call >= REACH {
            return Some(Tried::Overtaken);
        }
        if !state.outbox.makes_room(one, &self.settings.limits, &self.page) {
            return Some(Tried::NoRoom);
        }
        self.page.unmark(one.call);
        match send(&mut state.port) {
            Ok(true) => {
                state.outbox.push(command.take()?);
                Some(Tried::Sent)
            }
            Ok(false) => None,
            Err(error) => Some(Tried::Failed(error)),
        }
    }

    /// Why a message could not be sent. Where the channel is closed, the reason is about to be
    /// known.
    pub(super) fn explain_send(&self, error: io::Error, action: &str, since: Instant) -> Error {
        if !is_closed(&error) {
            let action = format!("send to process {:?}", self.name());
            return Error::Io { action, source: error };
        }
        let closed = self.lock().closed_at.unwrap_or_else(Instant::now);
        let soon = closed + super::CLOSED_BUT_ALIVE;
        match self.wait(Some(soon), Wait::End, |_| None::<()>) {
            Err(Unmet::Deadline) | Ok(()) => self.explain(Unmet::Disconnected, action, since),
            Err(unmet) => self.explain(unmet, action, since),
        }
    }

    /// Lets go of what is done and was kept.
    pub(in crate::process) fn prune(&self) {
        if self.settings.undelivered.keeps() {
            self.lock().outbox.prune(&self.page);
            self.empty_trash();
        }
    }

    pub(super) fn empty_trash(&self) {
        if self.settings.undelivered.keeps() {
            let trash = mem::take(&mut self.lock().outbox.trash);
            // Their destructors may use this very process.
            drop(trash);
        }
    }

    // The end, and what follows.

    /// Finds out, at the end of the process, which commands it has left undone.
    pub(super) fn settle_commands(&self, state: &mut State, exit: &Exit) {
        for lane in Lane::ALL {
            let (begun, finished) = (self.page.begun(lane), self.page.finished(lane));
            let sent = mem::take(&mut state.outbox.lanes[lane as usize]);
            for (command, number) in sent.commands.into_iter().zip(sent.done + 1..) {
                if number <= finished {
                    state.outbox.discard(command);
                } else {
                    self.settle_command(state, command, number <= begun, exit);
                }
            }
        }
        for command in mem::take(&mut state.outbox.backlog) {
            self.settle_command(state, command, false, exit);
        }
        (state.outbox.count, state.outbox.bytes) = (0, 0);
    }

    fn settle_command(&self, state: &mut State, mut command: Command, begun: bool, exit: &Exit) {
        let place = state.calls.get_mut(&command.call);
        if place.as_ref().is_some_and(|place| place.is_over()) {
            return state.outbox.discard(command);
        }
        let again = command.arguments.is_some()
            && !self.page.is_cancelled(command.call)
            && self.settings.undelivered.sends_again(begun, command.attempt);
        if again {
            command.attempt += u32::from(begun);
            if let Some(place) = place {
                *place = Place::Leftover;
            }
            state.outbox.leftover.push_back(command);
            return;
        }
        if !command.wants_reply {
            let error = command.undelivered(self.name(), begun || command.attempt > 1, exit);
            state.outbox.failed.push_back(error);
        }
        state.outbox.discard(command);
    }

    /// There will be no next process: what was kept for it fails. Whether there is something to
    /// tell now.
    pub(in crate::process) fn abandon(&self) -> bool {
        let mut state = self.lock();
        let Some(exit) = state.end.clone() else {
            return false;
        };
        if !state.outbox.leftover.is_empty() {
            self.raise(&mut state);
        }
        for command in mem::take(&mut state.outbox.leftover) {
            if command.wants_reply {
                state.calls.remove(&command.call);
            } else {
                let error = command.undelivered(self.name(), command.attempt > 1, &exit);
                state.outbox.failed.push_back(error);
            }
            state.outbox.discard(command);
        }
        self.changed.notify_all();
        let failed = state.outbox.has_failed();
        drop(state);
        self.empty_trash();
        failed
    }

    /// Hands what was left over to the replacement, which sends it before all else.
    pub(in crate::process) fn hand_over(&self, next: &Arc<Link>) {
        let mut state = self.lock();
        if state.outbox.leftover.is_empty() {
            return;
        }
        // The older one is always locked first.
        let mut after = next.lock();
        for mut command in mem::take(&mut state.outbox.leftover) {
            after.last_call += 1;
            let call = after.last_call;
            if let Some(place) = state.calls.get_mut(&command.call) {
                *place = Place::Forwarded(next.clone(), call);
                after.calls.insert(call, Place::Waiting);
            }
            command.call = call;
            after.outbox.backlog.push_back(command);
        }
        self.changed.notify_all();
        // Who polls for a reply here is to poll there.
        self.raise(&mut state);
        next.bell.watch_room(next.socket.as_fd(), true);
        next.flush(&mut after);
    }

    /// Sends of the backlog what there is room for.
    pub(super) fn flush(&self, state: &mut State) {
        while let Some(command) = state.outbox.backlog.front() {
            match self.send_again(state, command) {
                Ok(false) => return,
                Ok(true) => {
                    if let Some(command) = state.outbox.backlog.pop_front() {
                        state.outbox.push(command);
                    }
                }
                Err(error) => {
                    if let Some(command) = state.outbox.backlog.pop_front() {
                        fail(state, command, error);
                    }
                }
            }
        }
        self.bell.watch_room(self.socket.as_fd(), false);
    }

    /// `false` when there is no room now, or never will be, which the end shows.
    fn send_again(&self, state: &State, command: &Command) -> Result<bool> {
        let arguments = command.arguments.as_ref().ok_or("its arguments were not kept")?;
        let what = format_args!("the arguments of {}", command.name);
        let (body, parcel) = arguments.encode(what, self.child.pid())?;
        let outgoing = state.port.outgoing(&message::header(&command.header())?, &body, &parcel)?;
        if command.urgent {
            self.page.announce_urgent();
        }
        let sent = state.port.try_send(&outgoing).unwrap_or(false);
        if sent {
            parcel.sent();
        } else if command.urgent {
            self.page.denounce_urgent();
        }
        Ok(sent)
    }
}

/// A command that will not be sent: whoever waits learns why, or all do.
pub(super) fn fail(state: &mut State, command: Command, error: Error) {
    if !command.wants_reply {
        state.outbox.failed.push_back(error);
    } else if let Some(place) = state.calls.get_mut(&command.call) {
        *place = Place::Failed(error);
        state.replies += 1;
        state.replies_come += 1;
    }
    state.outbox.discard(command);
}
