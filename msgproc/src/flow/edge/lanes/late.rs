//! Messages that find no room where their sender must not wait for it: before a gate, when what comes of
//! one step is more than the ring has room for. They count as sent, and follow as soon as there is room;
//! until then the gate is shut. (A lane within a process has no such bound.)

use super::Lanes;
use crate::flow::{
    edge::{Batch, Refused},
    plan::{lane, worker},
};

impl<T: 'static> Lanes<T> {
    /// Whether what finds no room in this lane is kept. Where its process may be replaced it is not:
    /// what has been sent must outlive it.
    pub(super) fn may_be_late(&self, to: usize) -> bool {
        self.manner.is_gated && self.lanes[to].travels && !self.state.survives
    }

    pub(super) fn is_late(&self, to: usize) -> bool {
        !self.lanes[to].late.is_empty()
    }

    /// Keeps a message that found no room when its receiver was done with so much. It has one item at
    /// most: more of them might have to be cut later, when those behind have their numbers.
    pub(super) fn keep(&mut self, to: usize, batch: Batch<T>, done: u64) {
        let lane = &mut self.lanes[to];
        if lane.late.is_empty() {
            lane.done_then = done;
        }
        lane.late.push_back(batch);
        self.executor.note_late(1);
    }

    /// Whether there is something late that may find room now.
    pub(crate) fn can_send_late(&self) -> bool {
        (0..self.lanes.len()).any(|to| self.is_late(to) && self.may_have_room(to))
    }

    /// Whether something is late.
    pub(crate) fn has_late(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.late.is_empty())
    }

    fn may_have_room(&self, to: usize) -> bool {
        let lane = &self.lanes[to];
        !self.is_open(to) || self.board().load(lane.words + lane::DONE) != lane.done_then
    }

    /// Puts what is late into its lane, as far as there is room. Tells whether there was some.
    pub(crate) fn send_late(&mut self) -> bool {
        let mut sent = false;
        for to in 0..self.lanes.len() {
            if self.is_late(to) && self.may_have_room(to) {
                sent |= self.send_late_to(to);
            }
        }
        sent
    }

    fn send_late_to(&mut self, to: usize) -> bool {
        let executor = self.executor.clone();
        let (board, words) = (executor.board(), self.lanes[to].words);
        let mut sent = 0;
        loop {
            if !self.is_open(to) {
                sent += self.lanes[to].late.len();
                self.lanes[to].late.clear();
                self.lanes[to].tx.withdraw();
                break;
            }
            let done = board.load(words + lane::DONE);
            let Some(batch) = self.lanes[to].late.pop_front() else { break };
            let items = batch.items.len() as u64;
            match self.lanes[to].tx.try_put(batch) {
                Ok(bytes) => {
                    board.add_own(self.state.worker + worker::BYTES, bytes as u64);
                    self.lanes[to].note_bytes(bytes, items);
                    board.ring(self.lanes[to].receiver);
                    sent += 1;
                }
                Err(Refused::Full(batch) | Refused::TooMany(batch)) => {
                    let lane = &mut self.lanes[to];
                    lane.late.push_front(batch);
                    lane.done_then = done;
                    break;
                }
                Err(Refused::Unsendable(reason)) => {
                    self.failure = Some(format!("what it sent: {reason}"));
                    sent += 1;
                }
            }
        }
        executor.note_late(-(sent as isize));
        sent > 0
    }
}
