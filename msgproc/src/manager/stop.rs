//! Stopping all processes of a manager at the same time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Due, Manager, ProcessId, queue::Source, restart::Phase};
use crate::{
    deadline,
    error::Result,
    exit::{Exit, StopStep},
    process::{Backend, MessageProcess, STEPS, StopOptions},
};

/// How long a message that found no room waits until it is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// A process on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    id: ProcessId,
    options: StopOptions,
    pub(super) since: Instant,
    /// Steps that have not begun.
    rest: &'static [StopStep],
    step: Option<StopStep>,
    /// Whether the step has reached it.
    begun: bool,
    until: Instant,
}

impl<B: Backend> Manager<B> {
    /// Stops all processes at the same time, each in the four steps and the time limits of its
    /// own, and says how each of them ended, also those that had ended before.
    ///
    /// Nothing is started again afterwards, except by [`Manager::restart`]. The events that came
    /// meanwhile, and the ends, can still be taken by [`Manager::next`]. While the manager handles
    /// signals, one that comes meanwhile cuts the step short that is under way: Ctrl-C again makes
    /// a slow stop urgent.
    ///
    /// An entry is [`Error::TimedOut`](crate::Error::TimedOut) where a process did not end at
    /// all, which only one on a thread can do, or one that the kernel does not let go.
    pub fn stop(&mut self) -> Vec<(ProcessId, Result<Exit>)> {
        if self.check_ours().is_err() {
            return Vec::new();
        }
        let since = Instant::now();
        self.timers.cancel(|due| !matches!(due, Due::User(_)));
        for (id, unit) in self.units.iter_mut() {
            self.queue.remove(Source::Unit(id.index()));
            unit.halt();
        }
        // A signal of before is told as usual; only one that comes from now on means haste.
        let queue = &mut self.queue;
        let _ = self.poller.wait(Some(Duration::ZERO), |source| queue.push(source));

        let mut report = Vec::new();
        let mut leaving = Vec::new();
        for (id, member) in self.processes.iter_mut() {
            member.leaving = None;
            // One that waited for its restart waits in vain.
            if matches!(member.phase, Phase::Ended) && member.process.abandon() {
                self.queue.push(Source::Process(id.index()));
            }
            leaving.push(Leaving::new(id, member.process.stop_options(), since));
        }
        self.collect(&mut leaving, &mut report, |_| true);
        while !leaving.is_empty() {
            let now = Instant::now();
            leaving.retain_mut(|one| {
                let Some(member) = self.processes.get(one.id) else {
                    return false;
                };
                let goes_on = one.go_on(now, &member.process);
                if !goes_on {
                    report.push((one.id, Err(member.process.did_not_stop(since))));
                }
                goes_on
            });
            let Some(next) = leaving.iter().map(Leaving::look_again).min() else {
                break;
            };
            let (rung, hurry) = self.wait_for_ends(next.saturating_duration_since(now));
            if hurry {
                leaving.iter_mut().for_each(|one| one.until = now);
            }
            self.collect(&mut leaving, &mut report, |index| rung.contains(&index));
        }
        report.sort_by_key(|(id, _)| *id);
        report
    }

    /// Waits; gives the places of processes that rang, and whether a signal asks for haste.
    fn wait_for_ends(&mut self, timeout: Duration) -> (Vec<usize>, bool) {
        let mut rung = Vec::new();
        let mut hurry = false;
        let queue = &mut self.queue;
        let waited = self.poller.wait(Some(timeout), |source| match source {
            Source::Signals => hurry = true,
            source => {
                if let Source::Process(index) = source {
                    rung.push(index);
                }
                queue.push(source);
            }
        });
        if waited.is_err() {
            // Without a poll, all are looked at now and then.
            sleep(AGAIN.min(timeout));
            rung = self.processes.iter().map(|(id, _)| id.index()).collect();
        }
        if hurry && let Some(signals) = &self.signals {
            while signals.take().is_some() {}
        }
        (rung, hurry)
    }

    /// Takes those that have ended out of `leaving`.
    fn collect(
        &self,
        leaving: &mut Vec<Leaving>,
        report: &mut Vec<(ProcessId, Result<Exit>)>,
        rung: impl Fn(usize) -> bool,
    ) {
        leaving.retain(|one| {
            if !rung(one.id.index()) {
                return true;
            }
            let Some(exit) = self.processes.get(one.id).and_then(|member| member.process.pump())
            else {
                return true;
            };
            report.push((one.id, Ok(exit)));
            false
        });
    }
}

impl Leaving {
    pub(super) fn new(id: ProcessId, options: StopOptions, now: Instant) -> Leaving {
        Leaving { id, options, since: now, rest: &STEPS, step: None, begun: false, until: now }
    }

    /// Does what is to be done now; `false` when nothing has helped.
    pub(super) fn go_on<B: Backend>(&mut self, now: Instant, process: &MessageProcess<B>) -> bool {
        if now >= self.until && !self.next_step(now) {
            return false;
        }
        if let Some(step) = self.step
            && !self.begun
        {
            self.begun = process.begin_stop(step);
        }
        true
    }

    /// Goes on to the next step that has any time; `false` when there is none.
    fn next_step(&mut self, now: Instant) -> bool {
        while let [step, rest @ ..] = self.rest {
            self.rest = rest;
            let timeout = self.options.timeout(*step);
            if !timeout.is_zero() {
                self.step = Some(*step);
                self.begun = false;
                self.until = deadline::moment_after(now, timeout);
                return true;
            }
        }
        false
    }

    /// When there may be something to do again.
    pub(super) fn look_again(&self) -> Instant {
        if self.begun { self.until } else { self.until.min(Instant::now() + AGAIN) }
    }
}
