//! The receiving ends of a worker's lanes out of one edge.

use std::{collections::VecDeque, ops::Range};

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
    /// The circle that the edge is in.
    circle: Option<Circle>,
}

struct InLane<T> {
    /// `None` for a call.
    rx: Option<Box<dyn Rx<T>>>,
    words: usize,
    sender: usize,
    ended: bool,
    /// What was looked at and is not done with, where messages begin before their turn.
    begun: VecDeque<Begun>,
}

impl<T> InLane<T> {
    fn can_look_ahead(&self) -> bool {
        let has_more = self.begun.back().is_none_or(|last| !last.head.end);
        !self.ended && has_more && self.rx.as_ref().is_some_and(|rx| rx.is_ready())
    }
}

/// A message that has begun before its turn, and stays in its lane until then.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) head: Head,
    /// For how much it counts in its lane.
    pub(crate) weight: u64,
    /// Where its items are among all that have begun.
    pub(crate) places: Range<u64>,
}

/// A message before its turn.
pub(crate) struct Early<T> {
    pub(crate) lane: usize,
    pub(crate) batch: Batch<T>,
    known: Known,
}

impl<T> Early<T> {
    /// Whether it is to be handled.
    pub(crate) fn is_new(&self) -> bool {
        self.known == Known::New
    }
}

/// What is known of a message that is in a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    New,
    /// It was handled by a worker that this one replaces.
    Handled,
    /// Its number was passed.
    Late,
}

impl Known {
    /// `words`: of its lane. `numbers`: the one that comes next, where order is kept.
    fn of(head: &Head, executor: &Executor, words: usize, numbers: Option<(u64, u64)>) -> Known {
        if head.id < executor.board().load(words + lane::NEXT) {
            Known::Handled
        } else if !head.end && numbers.is_some_and(|(next, _)| head.number < next) {
            Known::Late
        } else {
            Known::New
        }
    }
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
    pub(crate) fn new(numbers: Option<(u64, u64)>, circle: Option<Circle>) -> Inlet<T> {
        Inlet { lanes: Vec::new(), next_number: numbers, cursor: 0, circle }
    }

    pub(crate) fn add(&mut self, rx: Option<Box<dyn Rx<T>>>, words: usize, sender: usize) {
        self.lanes.push(InLane { rx, words, sender, ended: false, begun: VecDeque::new() });
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

    /// Whether all its senders call.
    pub(crate) fn is_only_called(&self) -> bool {
        self.lanes.iter().all(|lane| lane.rx.is_none())
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ended)
    }

    /// Where the words of each lane begin.
    pub(crate) fn all_words(&self) -> impl Iterator<Item = usize> + '_ {
        self.lanes.iter().map(|lane| lane.words)
    }

    pub(crate) fn words(&self, lane: usize) -> usize {
        self.lanes[lane].words
    }

    fn lane_is_ready(&self, index: usize) -> bool {
        let lane = &self.lanes[index];
        !lane.ended && lane.rx.as_ref().is_some_and(|rx| rx.is_ready())
    }

    /// Which lane the next number comes in.
    fn lane_of(&self, number: u64) -> Option<usize> {
        let count = self.lanes.len();
        let first = (number % count.max(1) as u64) as usize;
        // Those that have ended have none of the numbers that are to come.
        (0..count).map(|step| (first + step) % count).find(|index| !self.lanes[*index].ended)
    }

    /// Which lane has the next message.
    fn ready_lane(&self) -> Option<usize> {
        let count = self.lanes.len();
        match self.next_number {
            Some((number, _)) => self.lane_of(number).filter(|index| self.lane_is_ready(*index)),
            None => (0..count)
                .map(|step| (self.cursor + step) % count)
                .find(|index| self.lane_is_ready(*index)),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_lane().is_some()
    }

    fn known(&self, executor: &Executor, lane: usize, head: &Head) -> Known {
        Known::of(head, executor, self.lanes[lane].words, self.next_number)
    }

    /// The next message of a lane that was not looked at.
    fn look(&mut self, executor: &Executor, lane: usize) -> Result<Option<Early<T>>, String> {
        let InLane { rx, words, .. } = &mut self.lanes[lane];
        let (words, numbers) = (*words, self.next_number);
        let known = |head: &Head| Known::of(head, executor, words, numbers);
        let Some(rx) = rx else { return Ok(None) };
        let looked = rx.look(&|head| known(head) != Known::New)?;
        let Some(batch) = looked else { return Ok(None) };
        fault!(TAKE_LEASED);
        Ok(Some(Early { lane, known: known(&batch.head), batch }))
    }

    /// Hands the next message over, with where the words of its lane begin.
    pub(crate) fn take(
        &mut self,
        executor: &Executor,
        handle: &mut dyn FnMut(usize, Batch<T>) -> Fate,
    ) -> Result<Taken, String> {
        let Some(index) = self.ready_lane() else { return Ok(Taken::Nothing) };
        self.cursor = (index + 1) % self.lanes.len();
        let Some(early) = self.look(executor, index)? else { return Ok(Taken::Nothing) };
        let Early { known, batch, .. } = early;
        let (head, weight) = (batch.head, batch.weight());
        if known == Known::New && handle(self.lanes[index].words, batch) == Fate::Keep {
            return Ok(Taken::Kept);
        }
        self.settle(executor, index, (&head, weight), known)?;
        Ok(Taken::Done)
    }

    /// The first message of a lane is done with.
    fn settle(
        &mut self,
        executor: &Executor,
        index: usize,
        (head, weight): (&Head, u64),
        known: Known,
    ) -> Result<(), String> {
        let first_words = self.lanes[0].words;
        let InLane { rx, words, sender, ended, .. } = &mut self.lanes[index];
        let (board, words) = (executor.board(), *words);
        match known {
            Known::New => {
                let passes = self.next_number.filter(|(next, _)| head.passes(*next));
                if let Some((next, step)) = passes {
                    board.store(first_words + lane::NUMBER, next + step);
                    fault!(TAKE_NUMBER);
                }
                if head.end {
                    board.store(words + lane::ENDED, 1);
                    fault!(TAKE_ENDED);
                }
            }
            // It was handled by a worker that this one replaces.
            Known::Handled => {
                fault!(TAKE_KNOWN);
            }
            // It is said again by one that replaces its sender.
            Known::Late => {
                fault!(TAKE_LATE);
            }
        }
        if known != Known::Handled {
            board.store(words + lane::TO_BE_DONE, board.load(words + lane::DONE) + weight);
            fault!(TAKE_TO_BE_DONE);
            board.store(words + lane::NEXT, head.id + 1);
            fault!(TAKE_NEXT);
        }
        if let Some(rx) = rx {
            rx.release()?;
        }
        fault!(TAKE_RELEASED);
        board.add_own(words + lane::DONE, weight);
        fault!(TAKE_DONE);
        board.ring(*sender);
        if let Some(circle) = &self.circle {
            circle.ring();
        }
        fault!(TAKE_RUNG);
        *ended |= head.end;
        self.pass(head);
        Ok(())
    }

    /// Which lane has a message to look at. Where order is kept, the one that comes next is looked at
    /// though there be no room: nothing that came before its turn is done with earlier.
    fn lane_ahead(&self, has_room: bool) -> Option<usize> {
        let count = self.lanes.len();
        let next = self.next_number.and_then(|(number, _)| self.lane_of(number));
        let next = next.filter(|index| self.lanes[*index].begun.is_empty());
        let mut others =
            (0..if has_room { count } else { 0 }).map(|step| (self.cursor + step) % count);
        let can = |index: &usize| self.lanes[*index].can_look_ahead();
        next.filter(can).or_else(|| others.find(can))
    }

    /// Whether there is a message that was not looked at, and may be.
    pub(crate) fn can_look_ahead(&self, has_room: bool) -> bool {
        self.lane_ahead(has_room).is_some()
    }

    /// A message that comes later, for one who begins with it now and says so by
    /// [`Inlet::note_begun`].
    pub(crate) fn look_ahead(
        &mut self,
        executor: &Executor,
        has_room: bool,
    ) -> Result<Option<Early<T>>, String> {
        let Some(lane) = self.lane_ahead(has_room) else { return Ok(None) };
        self.cursor = (lane + 1) % self.lanes.len();
        self.look(executor, lane)
    }

    /// The message that was looked at last has begun: where its items are among all.
    pub(crate) fn note_begun(&mut self, lane: usize, begun: Begun) {
        self.lanes[lane].begun.push_back(begun);
    }

    /// The next message that has begun and can be done with now, the lane it is in, and whether it is
    /// new.
    pub(crate) fn first_begun(
        &self,
        executor: &Executor,
        is_finished: &dyn Fn(&Begun) -> bool,
    ) -> Option<(usize, Begun, bool)> {
        let finished = |index: usize| {
            let begun = self.lanes[index].begun.front().filter(|begun| is_finished(begun))?;
            let is_new = self.known(executor, index, &begun.head) == Known::New;
            Some((index, begun.clone(), is_new))
        };
        match self.next_number {
            None => (0..self.lanes.len()).find_map(finished),
            Some((number, _)) => {
                // What is late or was handled stands in the way of what comes.
                let late = (0..self.lanes.len()).filter_map(finished).find(|(.., is_new)| !is_new);
                late.or_else(|| finished(self.lane_of(number)?))
            }
        }
    }

    /// The first message of those that have begun in a lane is done with.
    pub(crate) fn settle_begun(&mut self, executor: &Executor, index: usize) -> Result<(), String> {
        let Some(Begun { head, weight, .. }) = self.lanes[index].begun.pop_front() else {
            return Ok(());
        };
        let known = self.known(executor, index, &head);
        self.settle(executor, index, (&head, weight), known)
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
