//! Puts one message into its lane, and says that the next is another.

use super::Lanes;
use crate::{
    fault::fault,
    flow::{
        edge::{Batch, Head, Refused},
        outlet::Closed,
        plan::{lane, out, worker},
    },
};

impl<T: 'static> Lanes<T> {
    /// Sends one message, waiting for room.
    pub(super) fn send(&mut self, to: usize, head: Head, items: Vec<T>) -> Result<(), Closed> {
        let head = Head { id: self.id, first: self.first, ..head };
        let executor = self.executor.clone();
        let board = executor.board();
        let words = self.lanes[to].words;
        // That of a message which may have been sent stands there until it is clear: without it, who
        // dies now would be followed by one that knows nothing of it.
        if self.state.survives && self.forced.is_none() {
            board.store(self.state.words + out::INTENT, 0);
            fault!(SEND_NO_INTENT);
            board.store(self.state.words + out::INTENT_LANE, to as u64);
            fault!(SEND_LANE);
            board.store(self.state.words + out::INTENT_FIRST, self.first);
            fault!(SEND_FIRST);
            let count = if head.end { out::END } else { items.len() as u64 };
            board.store(self.state.words + out::INTENT_ITEMS, count);
            fault!(SEND_ITEMS);
            board.store(self.state.words + out::INTENT, self.id + 1);
            fault!(SEND_INTENT);
        }
        if self.manner.in_circle && !items.is_empty() && !self.lanes[to].calls {
            // Behind the intent: whoever replaces this sender sends a message with this number there.
            board.store(words + lane::LAST, self.id + 1);
            fault!(SEND_LAST);
        }
        let progress = || board.load(words + lane::DONE);
        let sent = items.len() as u64;
        let mut batch = Batch { head, items };
        let weight = batch.weight();
        loop {
            let is_open = self.is_open(to);
            // Asked afterwards: whoever takes no more has handled by then what it ever will.
            if self.is_superfluous(to, &head) {
                self.lanes[to].tx.withdraw();
                self.count_sent(sent);
                return Ok(());
            }
            if !is_open {
                self.lanes[to].tx.withdraw();
                self.back = batch.items;
                return Err(Closed);
            }
            let before = progress();
            let may_wait = !head.end && !self.manner.is_gated;
            let full = (may_wait && self.in_flight(to) >= self.capacity) || self.is_late(to);
            let refused = match full {
                true => Refused::Full(batch),
                false => match self.lanes[to].tx.try_put(batch) {
                    Ok(bytes) => {
                        if self.lanes[to].travels {
                            board.add_own(self.state.worker + worker::BYTES, bytes as u64);
                        }
                        self.lanes[to].note_bytes(bytes, sent);
                        break;
                    }
                    Err(refused) => refused,
                },
            };
            // What is late waits in a message of its own.
            let refused = match refused {
                Refused::Full(back) if self.may_be_late(to) => {
                    if back.items.len() <= 1 {
                        self.keep(to, back, before);
                        break;
                    }
                    Refused::TooMany(back)
                }
                refused => refused,
            };
            match refused {
                Refused::Full(back) => {
                    batch = back;
                    let calls = self.lanes[to].calls;
                    let waited = executor.wait_for(|| {
                        let may = progress() != before
                            || (calls && self.lanes[to].tx.can_call())
                            || !self.is_open(to);
                        may.then_some(())
                    });
                    if waited.is_err() {
                        return Err(Closed);
                    }
                }
                Refused::TooMany(back) => {
                    let Batch { head, mut items } = back;
                    let rest = items.split_off(items.len() / 2);
                    // Numbers are those of messages, and none is left out.
                    let numbered = self.gives_numbers() && !head.end;
                    let first = Head { last: numbered && head.last, ..head };
                    if let Err(Closed) = self.send(to, first, items) {
                        self.back.extend(rest);
                        return Err(Closed);
                    }
                    if !numbered {
                        return self.send(to, head, rest);
                    }
                    let next = Head { number: self.id, ..head };
                    return self.send(self.lane_of(self.id), next, rest);
                }
                Refused::Unsendable(reason) => {
                    let which = if sent > 1 { "from" } else { "as" };
                    let first = self.first;
                    self.failure = Some(format!("what it sent {which} item {first}: {reason}"));
                    return Err(Closed);
                }
            }
        }
        fault!(SEND_PUT);
        self.count_sent(sent);
        if !self.lanes[to].calls {
            board.add_own(words + lane::SENT, weight);
            fault!(SEND_COUNTED);
            board.ring(self.lanes[to].receiver);
            fault!(SEND_RUNG);
        }
        Ok(())
    }

    /// Whether a message that is sent again was handled: by its own number, or by the one that
    /// keeps the order. To wait for room could be for ever then: what has the room may be the same,
    /// sent again by one that died, and the receiver look at other lanes first.
    fn is_superfluous(&self, to: usize, head: &Head) -> bool {
        let lane = &self.lanes[to];
        let known = self.forced.is_some() && self.board().load(lane.words + lane::NEXT) > head.id;
        let late = self.state.survives
            && self.state.inherits
            && self.board().load(lane.receiver_words + lane::NUMBER) > head.number;
        !head.end && (known || late)
    }

    /// Counts a message that was sent, or that nobody takes.
    pub(super) fn count_sent(&mut self, items: u64) {
        self.forced = None;
        self.id += 1;
        self.first += items;
        self.known = self.known.max(self.first);
        if self.state.survives {
            self.board().store(self.state.words + out::FIRST, self.first);
            fault!(SEND_FIRST_MOVED);
            self.board().store(self.state.words + out::SENT, self.id);
            fault!(SEND_SENT);
        }
    }

    /// Says that nothing comes after it.
    pub(crate) fn end(&mut self) {
        // The newest is what stays: where there is a gate, beyond the capacity.
        let waits = |lanes: &Self| {
            lanes.manner.newest
                && !lanes.manner.is_gated
                && !lanes.is_closed()
                && (!lanes.pending.is_empty()
                    || lanes.lanes.iter().any(|lane| !lane.gathered.is_empty()))
        };
        while waits(self) {
            let executor = self.executor.clone();
            let can = || (self.is_closed() || self.can_send_pending()).then_some(());
            if executor.wait_for(can).is_err() || self.flush().is_err() {
                break;
            }
        }
        if self.manner.newest && self.manner.is_gated {
            let _ = self.send_beyond();
        }
        let _ = self.flush();
        self.settle();
        for to in 0..self.lanes.len() {
            let head = Head { end: true, last: true, number: self.id, ..Head::default() };
            let _ = self.send(to, head, Vec::new());
        }
    }
}
