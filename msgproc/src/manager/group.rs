//! Processes that hang together: who is stopped and started again when one ends, and in which
//! order. Pure: what is to be done comes out as a [`Step`], what has happened goes in.

use std::time::{Duration, Instant};

use super::{
    ProcessId,
    supervision::{End, History, Intensity, Policy, Restart, on_exit},
};
use crate::deadline;

/// How the processes of a group hang together, in the terms of OTP. The order is the one in
/// which they were added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
}

/// Processes of a manager that hang together: see [`Manager::add_group`](super::Manager::add_group).
///
/// The [`Policy`] of each member decides, as it does outside of groups, whether its end asks for a
/// restart, after which pause, and when it has been too many. The group decides who is started
/// again with it. Those are stopped first, the last one first, each as by
/// [`MessageProcess::stop`](crate::MessageProcess::stop); then they are started, the first one
/// first, each when the one before is ready. A temporary member is stopped with the others and not
/// started again; one that the program has told to stop stays away; a transient one that had
/// ended in order is started again with the others.
///
/// ```no_run
/// use std::time::Duration;
/// use msgproc::{manager::{Group, Policy}, prelude::*};
/// # struct Part;
/// # #[backend]
/// # impl Part {}
/// # fn main() -> msgproc::Result<()> {
///
/// let mut manager = Manager::new()?;
/// // When the camera dies, what reads from it is started again too; not the other way round.
/// let group = manager.add_group(Group::rest_for_one().at_most(10, Duration::from_secs(60)));
/// for name in ["camera", "decoder", "viewer"] {
///     let part = MessageProcess::fork(name, |_: &Start| Part)?;
///     manager.add_to(group, part, Policy::permanent())?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Group {
    strategy: Strategy,
    intensity: Intensity,
}

impl Group {
    /// Only the one that ended is started again. A member that is given up leaves the others
    /// alone, while the group's own limit holds.
    pub fn one_for_one() -> Group {
        Group::new(Strategy::OneForOne)
    }

    /// All are started again.
    pub fn one_for_all() -> Group {
        Group::new(Strategy::OneForAll)
    }

    /// Those that were added after it are started again with it.
    pub fn rest_for_one() -> Group {
        Group::new(Strategy::RestForOne)
    }

    fn new(strategy: Strategy) -> Group {
        Group { strategy, intensity: Intensity::default() }
    }

    /// At most so many ends of members within a time are followed by a restart; 5 within a minute
    /// by default. At the next one the group is given up: all its members are stopped.
    pub fn at_most(mut self, restarts: usize, within: Duration) -> Group {
        self.intensity = Intensity { limit: restarts, window: within };
        self
    }
}

/// Which group of a manager.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub(super) ProcessId);

/// What is to be done for a unit now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Stop this process.
    Stop(ProcessId),
    /// Start this process, because that one ended, or because the program wishes it.
    Start(ProcessId, Option<ProcessId>),
    /// Nothing before this time.
    Wait(Instant),
    /// Tell that the group is given up.
    GiveUp,
    /// Nothing until something happens.
    Nothing,
}

/// What a member is, as far as it was done or has been seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Up,
    Starting,
    Stopping,
    Down,
}

/// What the unit still has to do with a member.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mark {
    None,
    /// To be stopped if it is up, and not started again.
    Leave,
    /// To be stopped if it is up, and then started, not before this time.
    Renew {
        not_before: Instant,
        because_of: Option<ProcessId>,
    },
}

#[derive(Debug)]
struct Member {
    id: ProcessId,
    policy: Policy,
    history: History,
    state: State,
    mark: Mark,
    /// Whether it was told to stop, or was given up: nobody starts it but the program.
    off: bool,
}

impl Member {
    fn is_marked(&self) -> bool {
        self.mark != Mark::None
    }
}

/// Those that are restarted by one strategy: a group, or one process without a group.
#[derive(Debug)]
pub(super) struct Unit {
    strategy: Strategy,
    /// `None` for a process without a group: then only its own counts.
    intensity: Option<Intensity>,
    history: History,
    members: Vec<Member>,
    given_up: bool,
    /// Whether that has been told.
    told: bool,
}

impl Unit {
    /// A process without a group.
    pub(super) fn alone() -> Unit {
        Unit { intensity: None, ..Unit::of(Group::one_for_one()) }
    }

    pub(super) fn of(group: Group) -> Unit {
        Unit {
            strategy: group.strategy,
            intensity: Some(group.intensity),
            history: History::default(),
            members: Vec::new(),
            given_up: false,
            told: false,
        }
    }

    pub(super) fn is_group(&self) -> bool {
        self.intensity.is_some()
    }

    /// Adds a process that is ready.
    pub(super) fn add(&mut self, id: ProcessId, policy: Policy) {
        let (state, mark) = (State::Up, Mark::None);
        let history = History::default();
        self.members.push(Member { id, policy, history, state, mark, off: false });
    }

    pub(super) fn remove(&mut self, id: ProcessId) {
        self.members.retain(|member| member.id != id);
    }

    pub(super) fn members(&self) -> impl Iterator<Item = ProcessId> {
        self.members.iter().map(|member| member.id)
    }

    fn place(&self, id: ProcessId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// Notes that a process is ready, whoever started it.
    pub(super) fn ready(&mut self, id: ProcessId) {
        if let Some(place) = self.place(id) {
            let member = &mut self.members[place];
            if member.state == State::Starting {
                member.state = State::Up;
            }
        }
    }

    /// Notes that the program has started a process by hand: whatever was to be done with it is
    /// done, and a group that was given up lives again.
    pub(super) fn started_by_hand(&mut self, id: ProcessId) {
        if let Some(place) = self.place(id) {
            let member = &mut self.members[place];
            (member.state, member.mark, member.off) = (State::Up, Mark::None, false);
            self.revive();
        }
    }

    fn revive(&mut self) {
        if std::mem::take(&mut self.given_up) {
            self.told = false;
            self.history = History::default();
        }
    }

    /// Starts all members anew: those that are up are stopped first.
    pub(super) fn renew(&mut self, now: Instant) {
        self.revive();
        for member in &mut self.members {
            member.off = false;
            member.history = History::default();
            member.mark = Mark::Renew { not_before: now, because_of: None };
        }
    }

    /// Notes that the program has stopped a process by hand, or could not start it.
    pub(super) fn put_off(&mut self, id: ProcessId) {
        if let Some(place) = self.place(id) {
            let member = &mut self.members[place];
            (member.state, member.mark, member.off) = (State::Down, Mark::None, true);
        }
    }

    /// Nothing is done any more: the program stops all.
    pub(super) fn halt(&mut self) {
        self.given_up = false;
        for member in &mut self.members {
            member.mark = Mark::None;
            member.off = true;
        }
    }

    /// Whether the end of this process follows from what the unit or the program does, or has
    /// asked for.
    pub(super) fn lets_go(&self, id: ProcessId) -> bool {
        self.place(id).is_some_and(|place| {
            let member = &self.members[place];
            member.state == State::Stopping || member.off
        })
    }

    /// Notes an end, or a start that failed, and says what follows.
    pub(super) fn ended(&mut self, id: ProcessId, now: Instant, end: End, chance: f64) -> Restart {
        let Some(place) = self.place(id) else {
            return Restart::No;
        };
        let member = &mut self.members[place];
        member.state = State::Down;
        if self.given_up {
            member.mark = Mark::None;
            return Restart::GivenUp;
        }
        if member.off {
            member.mark = Mark::None;
            return Restart::No;
        }
        // It was on its way out, or is about to be: no failure of its own.
        match member.mark {
            Mark::None => {}
            Mark::Leave => {
                member.mark = Mark::None;
                return Restart::No;
            }
            Mark::Renew { not_before, .. } => {
                return Restart::After(not_before.saturating_duration_since(now));
            }
        }
        member.history.note(now, end, &member.policy.intensity);
        let restart = on_exit(&member.history, &member.policy, chance);
        member.mark = Mark::None;
        match restart {
            Restart::No => member.off = end == End::Stopped,
            Restart::GivenUp => {
                member.off = true;
                if self.strategy != Strategy::OneForOne {
                    self.give_up();
                }
            }
            Restart::After(pause) => {
                if let Some(intensity) = self.intensity {
                    self.history.note(now, end, &intensity);
                    if self.history.is_too_much(&intensity) {
                        self.give_up();
                        return Restart::GivenUp;
                    }
                }
                // One that is due after all time is due as late as can be said.
                let not_before = deadline::moment_after(now, pause);
                self.mark_with(place, Mark::Renew { not_before, because_of: Some(id) });
            }
        }
        restart
    }

    /// Marks a member that has ended, and those that hang on it.
    fn mark_with(&mut self, place: usize, mark: Mark) {
        let affected = match self.strategy {
            Strategy::OneForOne => place..place + 1,
            Strategy::OneForAll => 0..self.members.len(),
            Strategy::RestForOne => place..self.members.len(),
        };
        for member in &mut self.members[affected] {
            if !member.policy.is_temporary() {
                if !member.off {
                    member.mark = mark;
                }
            } else if member.state != State::Down {
                member.mark = Mark::Leave;
            }
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.members.iter_mut().for_each(|member| member.mark = Mark::None);
    }

    /// What is to be done now. What comes out is taken as done.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        if self.given_up {
            return self.step_of_giving_up();
        }
        if self.strategy != Strategy::OneForOne {
            return step_of(&mut self.members, now);
        }
        let mut next: Option<Instant> = None;
        for member in self.members.chunks_mut(1) {
            match step_of(member, now) {
                Step::Nothing => {}
                Step::Wait(until) => next = Some(next.map_or(until, |next| next.min(until))),
                step => return step,
            }
        }
        next.map_or(Step::Nothing, Step::Wait)
    }

    fn step_of_giving_up(&mut self) -> Step {
        if let Some(last) = self.members.iter_mut().rev().find(|one| one.state != State::Down) {
            return stop(last);
        }
        if std::mem::replace(&mut self.told, true) { Step::Nothing } else { Step::GiveUp }
    }
}

fn stop(member: &mut Member) -> Step {
    match std::mem::replace(&mut member.state, State::Stopping) {
        State::Stopping => Step::Nothing,
        _ => Step::Stop(member.id),
    }
}

/// The next step of members that hang together.
fn step_of(members: &mut [Member], now: Instant) -> Step {
    let marked = || members.iter().filter(|member| member.is_marked());
    if marked().next().is_none() {
        return Step::Nothing;
    }
    let not_before = marked().filter_map(|member| match member.mark {
        Mark::Renew { not_before, .. } => Some(not_before),
        _ => None,
    });
    let not_before = not_before.max();
    let is_up = |member: &&mut Member| member.is_marked() && member.state != State::Down;
    if let Some(last) = members.iter_mut().rev().find(is_up) {
        return stop(last);
    }
    if let Some(at) = not_before.filter(|at| *at > now) {
        return Step::Wait(at);
    }
    if members.iter().any(|member| member.state == State::Starting) {
        return Step::Nothing;
    }
    for member in members {
        match std::mem::replace(&mut member.mark, Mark::None) {
            Mark::None | Mark::Leave => {}
            Mark::Renew { because_of, .. } => {
                member.state = State::Starting;
                return Step::Start(member.id, because_of);
            }
        }
    }
    Step::Nothing
}

#[cfg(test)]
mod tests;
