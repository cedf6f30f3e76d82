//! The receiving ends of a worker's lanes out of one edge.

use super::{Batch, Fate, Head, Rx};
use crate::{
    fault::fault,
    flow::{
        circle::Circle,
        plan::{Executor, lane},
    },
};

/// The receiving ends of a worker's lanes out of one edge.
pub(crate) struct Inlet<T> {
    lanes: Vec<InLane<T>>,
    /// Where order is kept: the number that comes next, and the step to the one after it.
    next_number: Option<(u64, u64)>,
    /// Which lane is looked at first.
    cursor: usize,
    newest: bool,
    /// The circle that the edge is in.
    circle: Option<Circle>,
}

struct InLane<T> {
    /// `None` for a call.
    rx: Option<Box<dyn Rx<T>>>,
    words: usize,
    sender: usize,
    ended: bool,
}

/// A message that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// There was none.
    Nothing,
    /// It is done with.
    Done,
    /// It stays where it is.
    Kept,
}

impl<T: 'static> Inlet<T> {
    /// `numbers`: the first that comes here, and the step from each to the next.
    pub(crate) fn new(
        numbers: Option<(u64, u64)>,
        newest: bool,
        circle: Option<Circle>,
    ) -> Inlet<T> {
        Inlet { lanes: Vec::new(), next_number: numbers, cursor: 0, newest, circle }
    }

    pub(crate) fn add(&mut self, rx: Option<Box<dyn Rx<T>>>, words: usize, sender: usize) {
        self.lanes.push(InLane { rx, words, sender, ended: false });
    }

    /// For a worker that replaces another: goes on where that was.
    pub(crate) fn go_on(&mut self, executor: &Executor) {
        let word = |lane: &InLane<T>, word| executor.board().load(lane.words + word);
        if let (Some((next, _)), Some(first)) = (&mut self.next_number, self.lanes.first()) {
            *next = (*next).max(word(first, lane::NUMBER));
        }
        for each in &mut self.lanes {
            each.ended = word(each, lane::ENDED) != 0;
            // A message that was released and not counted would hold its sender back for ever.
            let done = word(each, lane::DONE).max(word(each, lane::TO_BE_DONE));
            executor.board().store(each.words + lane::DONE, done);
            executor.board().ring(each.sender);
        }
        fault!(RECOVER_INLET);
    }

    /// The number that comes next, where order is kept.
    pub(crate) fn turn(&self) -> Option<u64> {
        self.next_number.map(|(next, _)| next)
    }

    /// Looks first at the lane whose words begin there. Tells whether a message is in it.
    pub(crate) fn begin_with(&mut self, words: usize) -> bool {
        let Some(index) = self.lanes.iter().position(|lane| lane.words == words) else {
            return false;
        };
        self.cursor = index;
        self.lane_is_ready(index)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ended)
    }

    pub(crate) fn words(&self, lane: usize) -> usize {
        self.lanes[lane].words
    }

    fn lane_is_ready(&self, index: usize) -> bool {
        let lane = &self.lanes[index];
        !lane.ended && lane.rx.as_ref().is_some_and(|rx| rx.is_ready())
    }

    /// Which lane has the next message.
    fn ready_lane(&self) -> Option<usize> {
        let count = self.lanes.len();
        match self.next_number {
            Some((number, _)) if !self.is_ended() => {
                let mut index = (number % count as u64) as usize;
                // Those that have ended have none of the numbers that are to come.
                while self.lanes[index].ended {
                    index = (index + 1) % count;
                }
                self.lane_is_ready(index).then_some(index)
            }
            Some(_) => None,
            None => (0..count)
                .map(|step| (self.cursor + step) % count)
                .find(|index| self.lane_is_ready(*index)),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_lane().is_some()
    }

    /// Hands the next message over, with where the words of its lane begin.
    pub(crate) fn take(
        &mut self,
        executor: &Executor,
        handle: &mut dyn FnMut(usize, Batch<T>) -> Fate,
    ) -> Result<Taken, String> {
        let numbers = self.next_number;
        let Some(index) = self.ready_lane() else { return Ok(Taken::Nothing) };
        let first_words = self.lanes[0].words;
        self.cursor = (index + 1) % self.lanes.len();
        let InLane { rx, words, sender, ended } = &mut self.lanes[index];
        let (board, words, sender) = (executor.board(), *words, *sender);
        let Some(rx) = rx else { return Ok(Taken::Nothing) };
        let mut seen = (Head::default(), 0);
        let newest = self.newest;
        let was_handled = |head: &Head| head.id < board.load(words + lane::NEXT);
        let is_late =
            |head: &Head| !head.end && numbers.is_some_and(|(next, _)| head.number < next);
        let mut is_known = |head: &Head| was_handled(head) || is_late(head);
        let fate = rx.take(&mut is_known, &mut |mut batch| {
            let weight = batch.items.len().max(1) as u64;
            seen = (batch.head, weight);
            fault!(TAKE_LEASED);
            if was_handled(&batch.head) {
                fault!(TAKE_KNOWN);
                return Fate::Done; // It was handled by a worker that this one replaces.
            }
            if newest && batch.items.len() > 1 {
                batch.items.drain(..batch.items.len() - 1);
            }
            // What is late is said again by one that replaces its sender.
            let late = is_late(&batch.head);
            let fate = if late { Fate::Done } else { handle(words, batch) };
            if late {
                fault!(TAKE_LATE);
            } else if fate == Fate::Done {
                let passes = numbers.filter(|(next, _)| seen.0.passes(*next));
                if let Some((next, step)) = passes {
                    board.store(first_words + lane::NUMBER, next + step);
                    fault!(TAKE_NUMBER);
                }
                if seen.0.end {
                    board.store(words + lane::ENDED, 1);
                    fault!(TAKE_ENDED);
                }
            }
            if fate == Fate::Done {
                board.store(words + lane::TO_BE_DONE, board.load(words + lane::DONE) + weight);
                fault!(TAKE_TO_BE_DONE);
                board.store(words + lane::NEXT, seen.0.id + 1);
                fault!(TAKE_NEXT);
            }
            fate
        })?;
        match fate {
            None => Ok(Taken::Nothing),
            Some(Fate::Keep) => Ok(Taken::Kept),
            Some(Fate::Done) => {
                fault!(TAKE_RELEASED);
                let (head, weight) = seen;
                board.add_own(words + lane::DONE, weight);
                fault!(TAKE_DONE);
                board.ring(sender);
                if let Some(circle) = &self.circle {
                    circle.ring();
                }
                fault!(TAKE_RUNG);
                *ended |= head.end;
                self.pass(&head);
                Ok(Taken::Done)
            }
        }
    }

    fn pass(&mut self, head: &Head) {
        if let Some((next, step)) = &mut self.next_number
            && head.passes(*next)
        {
            *next += *step;
        }
    }

    /// What came by a call.
    pub(crate) fn called(&mut self, index: usize, head: &Head) {
        self.lanes[index].ended |= head.end;
    }

    /// Takes no more: senders send to others, or end.
    pub(crate) fn close(&self, executor: &Executor) {
        for lane in &self.lanes {
            executor.board().store(lane.words + lane::CLOSED, 1);
            executor.board().ring(lane.sender);
        }
    }
}
