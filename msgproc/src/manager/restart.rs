//! Supervision at work: ends go into the units, and what comes out of them is done.
//!
//! Nothing here waits. A start that has begun is a process of the poll like any other, whose
//! readiness or end is one more event; its deadline, the steps of a stop and the pauses before
//! restarts are timers.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use super::{
    Due, Group, GroupId, Happening, Manager, Policy, ProcessId, Restart,
    group::{Step, Unit},
    queue::Source,
    stop::Leaving,
    supervision::End,
};
use crate::{
    deadline,
    error::{Error, Result},
    exit::{Exit, StopStep},
    process::{Backend, Event, MessageProcess, RestartBy},
};

/// A process of a manager.
pub(super) struct Member<B: Backend> {
    pub(super) process: MessageProcess<B>,
    /// The unit it is restarted with.
    pub(super) unit: GroupId,
    pub(super) phase: Phase,
    /// The stop that is under way, where the unit stops it.
    pub(super) leaving: Option<Leaving>,
    /// How many replies had come when one was told.
    pub(super) replies_told: u64,
}

/// Where in its life a process is, as far as it has been told.
#[derive(Debug)]
pub(super) enum Phase {
    /// Started again, and not ready yet.
    Starting,
    /// It will not become ready, for this reason, and has not ended yet.
    Failing(Error),
    Ready,
    Ended,
}

impl<B: Backend> Member<B> {
    /// What one that has ended has still to tell: commands that will not be sent again.
    fn failure_to_tell(&mut self, process: ProcessId) -> Option<Happening<B::Event>> {
        match self.process.try_event() {
            Ok(Some(Event::Failed(error))) => Some(Happening::Failed { process, error }),
            Ok(Some(Event::Emitted(event))) => Some(Happening::Event { process, event }),
            _ => None,
        }
    }

    fn reply_to_tell<E>(&mut self, process: ProcessId) -> Option<Happening<E>> {
        let (waits, come) = self.process.replies();
        if !waits || come == self.replies_told {
            return None;
        }
        self.replies_told = come;
        Some(Happening::Reply { process })
    }
}

/// Groups.
impl<B: Backend> Manager<B> {
    /// Makes a group without members: [`Manager::add_to`] adds them.
    pub fn add_group(&mut self, group: Group) -> GroupId {
        GroupId(self.units.insert(Unit::of(group)))
    }

    /// Takes over a process as the last member of a group.
    ///
    /// # Errors
    ///
    /// As [`Manager::add`]; [`Error::Other`] for a group of another manager. The process is then
    /// stopped.
    pub fn add_to(
        &mut self,
        group: GroupId,
        process: MessageProcess<B>,
        policy: Policy,
    ) -> Result<ProcessId> {
        self.check_ours()?;
        self.check_group(group)?;
        self.insert(process, policy, group)
    }

    fn check_group(&self, group: GroupId) -> Result<()> {
        match self.units.get(group.0) {
            Some(unit) if unit.is_group() => Ok(()),
            _ => Err(format!("{group:?} is not in this manager").into()),
        }
    }

    /// The group of a process, where it has one.
    pub fn group(&self, process: ProcessId) -> Option<GroupId> {
        let group = self.processes.get(process)?.unit;
        self.units.get(group.0)?.is_group().then_some(group)
    }

    /// The members of a group, in the order in which they were added.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = ProcessId> {
        self.units.get(group.0).into_iter().flat_map(Unit::members)
    }

    /// Begins to start all members of a group anew, also those that are given up, that were told
    /// to stop, or that are temporary. Those that live are stopped first. What comes of it is told
    /// as for any restart.
    ///
    /// # Errors
    ///
    /// [`Error::Other`] for a group of another manager; [`Error::NotOurs`].
    pub fn restart_group(&mut self, group: GroupId) -> Result<()> {
        self.check_ours()?;
        self.check_group(group)?;
        if let Some(unit) = self.units.get_mut(group.0) {
            unit.renew(Instant::now());
            self.wake_unit(group);
        }
        Ok(())
    }

    pub(super) fn insert(
        &mut self,
        process: MessageProcess<B>,
        policy: Policy,
        unit: GroupId,
    ) -> Result<ProcessId> {
        let (phase, leaving) = (Phase::Ready, None);
        let id = self.processes.insert(Member { process, unit, phase, leaving, replies_told: 0 });
        if let Err(error) = self.register(id) {
            self.processes.remove(id);
            return Err(error);
        }
        if let Some(unit) = self.units.get_mut(unit.0) {
            unit.add(id, policy);
        }
        Ok(id)
    }
}

/// What happens to processes, and what is done.
impl<B: Backend> Manager<B> {
    fn unit_of(&mut self, id: ProcessId) -> Option<&mut Unit> {
        let unit = self.processes.get(id)?.unit;
        self.units.get_mut(unit.0)
    }

    pub(super) fn wake_unit(&mut self, group: GroupId) {
        self.queue.push(Source::Unit(group.0.index()));
    }

    /// Does what is to be done next for a unit.
    pub(super) fn step(&mut self, group: GroupId) -> Option<Happening<B::Event>> {
        let step = self.units.get_mut(group.0)?.step(Instant::now());
        if matches!(step, Step::Stop(_) | Step::Start(..)) {
            self.wake_unit(group);
        }
        match step {
            Step::Nothing => None,
            Step::Wait(at) => {
                self.timers.cancel(|due| matches!(due, Due::Unit(other) if *other == group));
                self.set_timer_at(at, Due::Unit(group));
                None
            }
            Step::GiveUp => Some(Happening::GaveUp { group }),
            Step::Stop(id) => {
                let member = self.processes.get_mut(id)?;
                let options = member.process.stop_options();
                member.leaving = Some(Leaving::new(id, options, Instant::now()));
                self.leave(id)
            }
            Step::Start(id, because_of) => self.begin_start(id, because_of),
        }
    }

    /// Goes on with the stop of a process.
    pub(super) fn leave(&mut self, id: ProcessId) -> Option<Happening<B::Event>> {
        let member = self.processes.get_mut(id)?;
        let leaving = member.leaving.as_mut()?;
        if leaving.go_on(Instant::now(), &member.process) {
            let at = leaving.look_again();
            self.set_timer_at(at, Due::Stop(id));
            return None;
        }
        // Its unit waits on: it cannot be started again while it lives.
        let error = member.process.did_not_stop(leaving.since);
        member.leaving = None;
        Some(Happening::Failed { process: id, error })
    }

    fn begin_start(
        &mut self,
        id: ProcessId,
        because_of: Option<ProcessId>,
    ) -> Option<Happening<B::Event>> {
        let by = match because_of {
            None => RestartBy::Caller,
            Some(other) if other == id => RestartBy::Policy,
            Some(other) => RestartBy::Group {
                because_of: self.process(other).map_or("", MessageProcess::name).into(),
            },
        };
        self.forget(id);
        let member = self.processes.get_mut(id)?;
        // In the pause before this.
        if because_of.is_some() && member.process.was_told_to_stop_late() {
            let error = Error::Stopped { process: member.process.name().into() };
            return Some(self.not_started(id, error));
        }
        let begun = match member.process.exit() {
            Some(exit) => member.process.begin_restart(exit, by),
            None => Err(format!("the one before of {:?} lives on", member.process.name()).into()),
        };
        match begun {
            Ok(()) => {
                let deadline = member.process.start_deadline();
                member.phase = Phase::Starting;
                member.replies_told = 0;
                if let Err(error) = self.register(id) {
                    let member = self.processes.get_mut(id)?;
                    member.process.kill();
                    member.phase = Phase::Ended;
                    return Some(self.not_started(id, error));
                }
                self.set_timer_at(deadline, Due::Start(id));
                None
            }
            Err(error) => Some(self.not_started(id, error)),
        }
    }

    fn not_started(&mut self, process: ProcessId, error: Error) -> Happening<B::Event> {
        let end = match error {
            Error::MultiThreaded { .. } => End::Hopeless,
            Error::Stopped { .. } => End::Stopped,
            _ => End::Failed,
        };
        let restart = self.decide(process, end);
        Happening::RestartFailed { process, error, restart }
    }

    /// Asks a process what it has to tell. One that has something is asked again, after the
    /// others.
    pub(super) fn ask(&mut self, process: ProcessId) -> Option<Happening<B::Event>> {
        let member = self.processes.get_mut(process)?;
        match member.phase {
            Phase::Ended => {
                let Some(told) = member.failure_to_tell(process) else {
                    return member.reply_to_tell(process);
                };
                self.queue.push(Source::Process(process.index()));
                return Some(told);
            }
            Phase::Starting => {
                if let Some(started) = member.process.try_ready() {
                    self.queue.push(Source::Process(process.index()));
                    return self.started(process, started);
                }
            }
            Phase::Failing(_) | Phase::Ready => {}
        }
        let member = self.processes.get_mut(process)?;
        let taken = member.process.try_event();
        if let Ok(Some(_)) = taken {
            self.queue.push(Source::Process(process.index()));
        }
        // It may have become ready, or not, since it was asked for that, and ended after it.
        if let (Phase::Starting, Ok(Some(Event::Ended(_)))) = (&member.phase, &taken)
            && let Some(started) = member.process.try_ready()
            && let Some(told) = self.started(process, started)
        {
            // What was taken is found at its exit when it is asked again.
            return Some(told);
        }
        let member = self.processes.get_mut(process)?;
        match taken {
            Ok(Some(Event::Emitted(event))) => Some(Happening::Event { process, event }),
            Ok(Some(Event::Failed(error))) => Some(Happening::Failed { process, error }),
            Ok(Some(Event::Ended(exit))) => Some(self.ended(process, exit)),
            Ok(None) => member.reply_to_tell(process),
            Err(error) => Some(match member.process.exit() {
                // Its end was taken by somebody else, by a stop for example.
                Some(exit) => self.ended(process, exit),
                None => Happening::Failed { process, error },
            }),
        }
    }

    /// A start has come to its end, well or not.
    fn started(&mut self, id: ProcessId, started: Result<()>) -> Option<Happening<B::Event>> {
        self.timers.cancel(|due| matches!(due, Due::Start(other) if *other == id));
        let member = self.processes.get_mut(id)?;
        let Err(error) = started else {
            let unit = member.unit;
            member.phase = Phase::Ready;
            self.unit_of(id)?.ready(id);
            self.wake_unit(unit);
            return Some(Happening::Restarted { process: id });
        };
        // One that said why is leaving by itself.
        let patience = match error {
            Error::PreRun { .. } => member.process.stop_options().timeout(StopStep::Graceful),
            _ => Duration::ZERO,
        };
        member.phase = Phase::Failing(error);
        if patience.is_zero() {
            return self.end_failing(id);
        }
        let at = deadline::moment_after(Instant::now(), patience);
        self.set_timer_at(at, Due::Start(id));
        None
    }

    /// Ends one whose start has failed; that is told when it has ended.
    fn end_failing(&mut self, id: ProcessId) -> Option<Happening<B::Event>> {
        let member = self.processes.get_mut(id)?;
        if member.process.exit().is_some() || member.process.kill() {
            return None;
        }
        // A thread: it leaves when it comes to it, and nobody waits for that.
        member.process.begin_stop(StopStep::Urgent);
        match std::mem::replace(&mut member.phase, Phase::Ended) {
            Phase::Failing(error) => {
                self.living -= 1;
                Some(self.not_started(id, error))
            }
            phase => {
                member.phase = phase;
                None
            }
        }
    }

    /// The time that a start had is over.
    pub(super) fn start_is_due(&mut self, id: ProcessId) -> Option<Happening<B::Event>> {
        match self.processes.get(id)?.phase {
            Phase::Starting => self.queue.push(Source::Process(id.index())),
            Phase::Failing(_) => return self.end_failing(id),
            Phase::Ready | Phase::Ended => {}
        }
        None
    }

    /// Looks for a handler that runs too long, now and when the next one could.
    pub(super) fn look_after(&mut self, id: ProcessId) {
        let Some(member) = self.processes.get(id) else {
            return;
        };
        if let Some(at) = member.process.look_after() {
            self.set_timer_at(at, Due::Watch(id));
        }
    }

    fn ended(&mut self, process: ProcessId, exit: Exit) -> Happening<B::Event> {
        self.living -= 1;
        self.timers.cancel(|due| due.is_of(process));
        let lets_go = self.unit_of(process).is_some_and(|unit| unit.lets_go(process));
        let phase = self.processes.get_mut(process).map(|member| {
            member.leaving = None;
            std::mem::replace(&mut member.phase, Phase::Ended)
        });
        match phase {
            Some(Phase::Failing(error)) if !lets_go && exit.stopped_by.is_none() => {
                self.not_started(process, error)
            }
            _ => {
                let restart = self.decide(process, End::of(&exit));
                Happening::Ended { process, exit, restart }
            }
        }
    }

    /// Decides what follows from an end, and lets it begin.
    fn decide(&mut self, id: ProcessId, end: End) -> Restart {
        let now = Instant::now();
        let Some(unit) = self.unit_of(id) else {
            return Restart::No;
        };
        let restart = unit.ended(id, now, end, chance());
        let Some(member) = self.processes.get(id) else {
            return restart;
        };
        let (process, unit) = (&member.process, member.unit);
        // What was kept for the next one fails, and is told from now on.
        if matches!(restart, Restart::No | Restart::GivenUp) && process.abandon() {
            self.queue.push(Source::Process(id.index()));
        }
        self.wake_unit(unit);
        restart
    }

    fn set_timer_at(&mut self, at: Instant, due: Due) {
        self.timers.add(at, None, due);
        if self.arm().is_err() {
            // Looked at in vain until it is due.
            self.queue.push(Source::Timers);
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let number = RandomState::new().hash_one(());
    (number >> 11) as f64 / (1u64 << 53) as f64
}
