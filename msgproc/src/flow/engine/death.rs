//! What a process was at that died, and what is counted of that before another comes in its place.
//!
//! The one who watches counts, and the dead write nothing any more: so each death is counted once.

use std::sync::Arc;

use super::plan::Plan;
use crate::{
    Exit,
    flow::{
        error::{Death, Failure, FailureKind},
        layout::{Loss, PlannedWorker},
        plan::{Alone, STOPPING, lane, out, worker},
    },
    start::catch_here,
};

/// An item that a worker was at.
#[derive(Clone, Copy)]
struct Item {
    /// Which one of all.
    moment: u64,
    /// Which one of its message.
    index: u64,
}

impl Plan {
    /// Whether all workers of a process have ended.
    pub(super) fn has_ended(&self, process: usize) -> bool {
        self.layout.workers_of(process).all(|(number, _)| self.worker_has_ended(number))
    }

    pub(super) fn worker_has_ended(&self, number: usize) -> bool {
        self.shared.has_ended(number)
    }

    /// Says that a worker takes no more which has ended: its process may have died before it could.
    pub(super) fn close_lanes_to(&self, number: usize) {
        for (words, from) in self.lanes_to(number) {
            self.shared.board().store(words + lane::CLOSED, 1);
            self.shared.board().ring(from);
        }
    }

    /// The lanes to a worker: where the words of each begin, and the executor of its sender.
    fn lanes_to(&self, number: usize) -> impl Iterator<Item = (usize, usize)> {
        let PlannedWorker { node, index, .. } = self.layout.workers[number];
        let edges = self.graph.edges.iter().zip(&self.layout.edges);
        edges.filter(move |(edge, _)| edge.to == node).flat_map(move |(_, plan)| {
            (0..plan.senders).map(move |sender| {
                let at = sender * plan.receivers + index;
                (self.shared.lane(plan.first_lane + at), plan.lanes[at].from)
            })
        })
    }

    /// The workers of a process that died which were at work then: one in each thread at most.
    fn at_work(&self, process: usize) -> Vec<usize> {
        let at_work = |executor: usize| {
            let number = self.shared.at_work(executor)?;
            let is_there = |worker: &&PlannedWorker| worker.executor == executor;
            self.layout.workers.get(number).filter(is_there).map(|_| number)
        };
        self.executors_of(process).filter_map(at_work).collect()
    }

    /// The item that a worker was at, if it was at one.
    fn item_of(&self, number: usize) -> Option<Item> {
        let word = |word| self.shared.of_worker(number, word);
        let worker::At::Message(lane) = worker::At::of(word(worker::LANE)) else { return None };
        let (message, index) = (word(worker::MESSAGE), word(worker::ITEM));
        // The words of a message stay until the next one comes.
        let is_done = self.shared.board().load(lane as usize + lane::NEXT) > message;
        let moment = worker::moment(lane, message, index);
        (index & worker::NOT_BEGUN == 0 && !is_done).then_some(Item { moment, index })
    }

    /// How often processes have died over an item.
    fn crashes(&self, number: usize, item: Item) -> u64 {
        let known = self.shared.of_worker(number, worker::CRASHED_AT) == item.moment;
        if known { self.shared.of_worker(number, worker::CRASHES) } else { 0 }
    }

    /// The workers of a process that died of which messages had begun before their turn: those were
    /// at work in their futures.
    fn had_begun(&self, process: usize) -> Vec<usize> {
        let numbers = self.layout.workers_of(process).map(|(number, _)| number);
        numbers.filter(|number| self.shared.of_worker(*number, worker::BEGUN) > 0).collect()
    }

    /// Counts a death, over the item of whoever was at work. Where several threads were, nobody
    /// knows whose it was, and they are suspected; where several items had begun, they begin one by
    /// one from now on. Gives who was at work.
    pub(super) fn count_death(&self, process: usize) -> Vec<usize> {
        let (mut at_work, had_begun) = (self.at_work(process), self.had_begun(process));
        if let ([number], []) = (&at_work[..], &had_begun[..])
            && let number = *number
            && let Some(item) = self.item_of(number)
            // One that was handled to its end before is not what kills, and what was sent of it is
            // not known apart from what was sent of those behind it.
            && item.index >= self.shared.of_worker(number, worker::REACHED)
        {
            let crashes = self.crashes(number, item) + 1;
            let store =
                |word, value| self.shared.board().store(self.shared.worker(number) + word, value);
            store(worker::REACHED, item.index);
            store(worker::CRASHED_AT, item.moment);
            store(worker::CRASHES, crashes);
        }
        for (number, _) in self.layout.workers_of(process) {
            let item = self.shared.of_worker(number, worker::ITEM) | worker::NOT_BEGUN;
            self.shared.board().store(self.shared.worker(number) + worker::ITEM, item);
        }
        at_work.retain(|number| !had_begun.contains(number));
        if at_work.len() + had_begun.len() > 1 {
            for number in &at_work {
                self.shared.set_suspect(self.layout.workers[*number].executor, Some(*number));
            }
        }
        for number in &had_begun {
            let word = |word| self.shared.worker(*number) + word;
            let load = |at| self.shared.board().load(word(at));
            let one_by_one = load(worker::BEGUN).max(load(worker::ONE_BY_ONE));
            self.shared.board().store(word(worker::ONE_BY_ONE), one_by_one);
            self.shared.board().store(word(worker::BEGUN), 0);
        }
        at_work.extend(had_begun);
        at_work
    }

    /// For a process with these threads: lets one at a time be at work, as long as some are
    /// suspected.
    pub(super) fn suspects(&self, executors: &[usize]) -> Option<Arc<Alone>> {
        let mut suspects = 0;
        for executor in executors {
            match self.shared.suspect(*executor) {
                Some(number) if self.worker_has_ended(number) => {
                    self.shared.set_suspect(*executor, None);
                }
                Some(_) => suspects += 1,
                None => {}
            }
        }
        (suspects > 0).then(|| Arc::new(Alone::new(suspects)))
    }

    /// Counts that a process is replaced, for those of its workers that go on there.
    pub(super) fn count_restart(&self, process: usize) {
        let numbers = self.layout.workers_of(process).map(|(number, _)| number);
        numbers
            .filter(|number| !self.worker_has_ended(*number))
            .for_each(|number| self.shared.count_restart(number));
        self.executors_of(process).for_each(|executor| self.shared.set_at_work(executor, None));
    }

    /// How far a worker has come: a number that grows whenever it is done with a message, or has
    /// sent one.
    pub(super) fn progress(&self, number: usize) -> u64 {
        let PlannedWorker { node, first_out, .. } = self.layout.workers[number];
        let load = |word| self.shared.board().load(word);
        let outs = first_out..first_out + self.graph.nodes[node].edges_out();
        let sent: u64 = outs.map(|number| load(self.shared.out(number) + out::SENT)).sum();
        sent + self.lanes_to(number).map(|(words, _)| load(words + lane::NEXT)).sum::<u64>()
    }

    /// Tells of a death whoever wants to know. Gives whether the process is to be missed.
    pub(super) fn tell_death(
        &self,
        process: usize,
        exit: &Exit,
    ) -> Result<bool, Box<(usize, Failure)>> {
        let survives = self.layout.losses[process] == Loss::IsMadeGood;
        let Some(told) = self.graph.on_death.as_ref().filter(|_| survives) else {
            return Ok(true);
        };
        if self.shared.phase() >= STOPPING {
            return Ok(true);
        }
        let (at_work, had_begun) = (self.at_work(process), self.had_begun(process));
        let first = at_work.iter().chain(&had_begun).next();
        let number = first.copied().unwrap_or_else(|| self.first_of(process));
        let item = self.item_of(number).filter(|_| at_work.len() == 1 && had_begun.is_empty());
        let PlannedWorker { node, index, .. } = self.layout.workers[number];
        let node = &self.graph.nodes[node].name;
        let death = Death {
            node: node.clone(),
            worker: index,
            item: item.map(|item| self.shared.of_worker(number, worker::FIRST) + item.index),
            times: item.map_or(0, |item| self.crashes(number, item) + 1),
            exit: exit.clone(),
        };
        let (item, kind) = (death.item, FailureKind::Died);
        let failure = match catch_here(|| told(&death)) {
            Ok(Ok(misses)) => return Ok(misses),
            Ok(Err(cause)) => Failure::new(node, index, item, kind, cause),
            Err(panic) => {
                let mut failure = Failure::panicked(node, index, item, kind, panic);
                failure.message.insert_str(0, "who is told of its death ");
                failure
            }
        };
        self.shared.fail(number);
        Err(Box::new((number, failure)))
    }

    /// The first worker of a process that has not ended, if any has not.
    fn first_of(&self, process: usize) -> usize {
        let mut numbers = self.layout.workers_of(process).map(|(number, _)| number);
        let first = numbers.clone().find(|number| !self.worker_has_ended(*number));
        first.or(numbers.next()).unwrap_or(0)
    }

    /// A process died that was at work, and is not replaced, or not any more: fails the run.
    pub(super) fn fail_by_death(&self, process: usize, exit: &Exit) -> (usize, Failure) {
        let number = match self.at_work(process)[..] {
            [number, ..] => number,
            [] => self.first_of(process),
        };
        let planned = &self.layout.workers[number];
        let name = &self.graph.nodes[planned.node].name;
        let reason = match &self.layout.losses[process] {
            Loss::FailsFor(why) => format!("its process died: {exit}. It was not replaced: {why}"),
            Loss::IsMadeGood if self.shared.phase() < STOPPING => {
                format!("its process died: {exit}. So did those before it, and got no further")
            }
            _ => format!("its process died: {exit}"),
        };
        self.shared.fail(number);
        (number, Failure::new(name, planned.index, None, FailureKind::Died, reason.into()))
    }
}
