//! The sending ends of a worker's lanes into one edge.
//!
//! `put` chooses a lane for each item and gathers messages, `send` puts one message into its lane,
//! `late` keeps those that find no room where their sender must not wait for it, and `recovery`
//! leaves out what a worker has sent that this one replaces.

mod late;
mod put;
mod recovery;
mod send;
#[cfg(all(test, feature = "fault"))]
mod tests;

use std::{collections::VecDeque, rc::Rc};

use self::recovery::Forced;
use super::{
    Batch, Head, LaneKind, LanePlan, Tx,
    deal::{self, Deal, Load},
    link::BYTES,
};
use crate::{
    fault::fault,
    flow::{
        outlet::Closed,
        plan::{
            Executor,
            lane::{self, Cost},
            out,
        },
    },
};

/// Where a way out keeps what must survive its process, and what it found there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutState {
    /// Where its words begin.
    pub(crate) words: usize,
    /// Whether its worker may be replaced.
    pub(crate) survives: bool,
    /// Where its worker's words begin.
    pub(crate) worker: usize,
    /// Whether messages keep the numbers of those that came in.
    pub(crate) inherits: bool,
    /// Whether it sends all items again from the first on: a source that replaces another.
    pub(crate) from_the_first: bool,
}

/// How an edge is otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Whether the edge is in a circle.
    pub(crate) in_circle: bool,
    /// Whether only the newest item of those counts that wait for a receiver.
    pub(crate) newest: bool,
    /// Whether a worker does not begin while one of the lanes is full, and what it sends in the
    /// middle of its work finds room.
    pub(crate) is_gated: bool,
}

/// The sending ends of a worker's lanes into one edge.
pub(crate) struct Lanes<T> {
    executor: Rc<Executor>,
    deal: Deal<T>,
    capacity: u64,
    lanes: Vec<OutLane<T>>,
    next: usize,
    state: OutState,
    manner: Manner,
    /// The number of the next message.
    id: u64,
    /// How many items went before.
    first: u64,
    /// So many were sent by a worker that this one replaces.
    known: u64,
    /// What it may have sent after those: a message that must go where it would have gone then.
    forced: Option<Forced>,
    /// The number of what is handled now, where order is kept from further ahead.
    number: u64,
    /// What was put and belongs to the next message.
    pending: Vec<T>,
    /// What could not be sent, since its receiver takes no more.
    back: Vec<T>,
    failure: Option<String>,
}

struct OutLane<T> {
    tx: Box<dyn Tx<T>>,
    /// Where its words begin.
    words: usize,
    /// Where those of its receiver's first lane begin.
    receiver_words: usize,
    /// The executor of its receiver.
    receiver: usize,
    /// Whether it is a call.
    calls: bool,
    /// Whether it leads to another process.
    travels: bool,
    /// How many bytes it may have, if that was said, and how many an item has, as far as one has seen.
    bytes: Option<usize>,
    item_bytes: usize,
    /// What was put for this one and not sent yet.
    gathered: Vec<T>,
    /// What was sent and has yet to find room.
    late: VecDeque<Batch<T>>,
    /// What its receiver was done with when there was none.
    done_then: u64,
}

impl<T> OutLane<T> {
    /// How many items a message should have, so that no more bytes are gathered than a quarter of
    /// those that the lane may have.
    fn most(&self) -> usize {
        match (self.bytes, self.item_bytes) {
            (None, _) => usize::MAX,
            // What an item has is not known yet.
            (Some(_), 0) => 1,
            (Some(bytes), each) => (bytes / 4 / each).max(1),
        }
    }

    /// A message was sent.
    fn note_bytes(&mut self, bytes: usize, items: u64) {
        // What is long is not gathered between processes, whatever was said.
        if self.travels && bytes as u64 > items.saturating_mul(BYTES as u64 / 4) {
            self.bytes.get_or_insert(BYTES);
        }
        if let Some(each) = (bytes as u64).checked_div(items) {
            let (before, now) = (self.item_bytes, each.max(1) as usize);
            self.item_bytes =
                if before < now { now } else { before.saturating_mul(3).saturating_add(now) / 4 };
        }
    }
}

impl<T: 'static> Lanes<T> {
    pub(crate) fn new(
        executor: &Rc<Executor>,
        deal: Deal<T>,
        capacity: u64,
        state: OutState,
        manner: Manner,
    ) -> Lanes<T> {
        let word = |word| executor.board().load(state.words + word);
        let (mut id, first) = (word(out::SENT), word(out::FIRST));
        // Between the intent and the two words that follow a send, nobody knows what was sent.
        let mut forced = None;
        if word(out::INTENT) == id + 1 {
            let items = word(out::INTENT_ITEMS);
            if first == word(out::INTENT_FIRST) {
                // An end that was said is said again.
                let lane = word(out::INTENT_LANE) as usize;
                let sent = Forced { lane, items: items as usize };
                forced = Some(sent).filter(|_| items != out::END);
            } else {
                // It was put. Said before anything else is sent, for the next intent hides it.
                id += 1;
                executor.board().store(state.words + out::SENT, id);
                fault!(RECOVER_SENT);
            }
        }
        Lanes {
            executor: executor.clone(),
            deal,
            capacity: capacity.max(1),
            lanes: Vec::new(),
            next: 0,
            state,
            manner,
            id,
            first: if state.from_the_first { 0 } else { first },
            known: first,
            forced,
            number: 0,
            pending: Vec::new(),
            back: Vec::new(),
            failure: None,
        }
    }

    pub(crate) fn add(
        &mut self,
        tx: Box<dyn Tx<T>>,
        (words, receiver_words): (usize, usize),
        plan: &LanePlan,
        bytes: Option<usize>,
    ) {
        self.lanes.push(OutLane {
            tx,
            words,
            receiver_words,
            receiver: plan.to,
            calls: plan.kind == LaneKind::Call,
            travels: plan.kind == LaneKind::Shared,
            bytes,
            item_bytes: 0,
            gathered: Vec::new(),
            late: VecDeque::new(),
            done_then: 0,
        });
    }

    /// Why the last send failed, if it was not for want of a receiver.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    pub(crate) fn workers(&self) -> usize {
        self.lanes.len()
    }

    fn board(&self) -> &shmring::board::Board {
        self.executor.board()
    }

    fn in_flight(&self, index: usize) -> u64 {
        let words = self.lanes[index].words;
        let done = self.board().load(words + lane::DONE);
        self.board().load(words + lane::SENT).saturating_sub(done)
    }

    fn cost(&self, index: usize) -> Cost {
        Cost::of(self.board().load(self.lanes[index].words + lane::COST))
    }

    fn is_open(&self, index: usize) -> bool {
        self.board().load(self.lanes[index].words + lane::CLOSED) == 0
    }

    fn loads(&self) -> Vec<Load> {
        let load = |index: usize| Load {
            in_flight: self.in_flight(index),
            cost: self.cost(index),
            is_open: self.is_open(index),
        };
        (0..self.lanes.len()).map(load).collect()
    }

    pub(crate) fn keeps_order(&self) -> bool {
        self.state.inherits
    }

    /// Whether nothing more can be sent, whoever would take it.
    pub(crate) fn is_broken(&self) -> bool {
        self.failure.is_some() || self.executor.is_stopped()
    }

    /// Whether nobody takes what is sent. Where each message has its receiver, so that order is
    /// kept, that is so when the first of them takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        let mut closed = (0..self.lanes.len()).map(|index| !self.is_open(index));
        match self.deal {
            // Nobody else can take what one of them does not.
            Deal::Ordered => closed.any(|closed| closed),
            _ => !self.lanes.is_empty() && closed.all(|closed| closed),
        }
    }

    /// Whether some receiver has nothing to do.
    pub(crate) fn is_hungry(&self, calls: bool) -> bool {
        self.lanes.iter().enumerate().any(|(index, lane)| {
            (lane.calls && calls)
                || (!lane.calls
                    && self.executor.shared.is_idle(lane.receiver)
                    && self.in_flight(index) == 0)
        })
    }

    pub(crate) fn calls(&self) -> bool {
        self.lanes.iter().any(|lane| lane.calls)
    }

    pub(crate) fn only_calls(&self) -> bool {
        self.lanes.iter().all(|lane| lane.calls)
    }

    /// How many items can be put now without waiting, whichever they are.
    pub(crate) fn room(&self) -> usize {
        if self.lanes.is_empty() || self.manner.newest || self.is_closed() {
            return usize::MAX;
        }
        let all = || (0..self.lanes.len()).map(|at| self.room_of(at)).min();
        let room = match self.deal {
            // What was put for one of them goes first.
            Deal::OnDemand if self.lanes.iter().all(|lane| lane.gathered.is_empty()) => {
                let picked = deal::pick(&self.loads(), self.capacity, self.next);
                picked.map(|(to, most)| self.room_of(to).min(most))
            }
            Deal::Ordered => {
                let number = if self.state.inherits { self.number } else { self.id };
                Some(self.room_of(self.lane_of(number)).saturating_sub(self.pending.len()))
            }
            _ => all(),
        };
        room.unwrap_or(0)
    }

    /// How many items find room in one lane.
    fn room_of(&self, at: usize) -> usize {
        let lane = &self.lanes[at];
        if !self.is_open(at) {
            // What is for that one goes nowhere.
            return usize::MAX;
        }
        if lane.calls {
            return if lane.tx.can_call() { usize::MAX } else { 0 };
        }
        if !lane.tx.is_roomy() {
            return 0;
        }
        let lying = self.in_flight(at).saturating_add(lane.gathered.len() as u64);
        let items = usize::try_from(self.capacity.saturating_sub(lying)).unwrap_or(usize::MAX);
        // Of what travels, a quarter of its bytes finds room where half of them are free.
        let by_bytes = match lane.item_bytes {
            _ if !lane.travels => usize::MAX,
            0 => 1,
            each => (lane.bytes.unwrap_or(BYTES) / 4 / each).max(1),
        };
        items.min(by_bytes)
    }

    /// Whether all whom it calls can be called, and no gate is shut.
    pub(crate) fn can_call(&self) -> bool {
        self.lanes.iter().all(|lane| lane.tx.can_call()) && !self.is_held_back()
    }

    /// Whether there is a gate that is shut: what is put would have to wait for room.
    fn is_held_back(&self) -> bool {
        if !self.has_gate() || self.calls() || self.is_closed() {
            return false;
        }
        let mut open = (0..self.lanes.len()).filter(|at| self.is_open(*at));
        let is_full = match self.deal {
            Deal::OnDemand => deal::pick(&self.loads(), self.capacity, self.next).is_none(),
            _ => open.clone().any(|at| self.in_flight(at) >= self.capacity),
        };
        is_full || open.any(|at| self.is_late(at) || !self.lanes[at].tx.is_roomy())
    }

    /// Whether there is a gate on the way, here or behind those that are called.
    pub(crate) fn leads_to_gate(&self) -> bool {
        self.has_gate() || self.lanes.iter().any(|lane| lane.tx.leads_to_gate())
    }

    /// Of what is not taken where only the newest counts, the next one takes the place.
    fn has_gate(&self) -> bool {
        self.manner.is_gated && !self.manner.newest
    }

    /// How many items make a message.
    pub(crate) fn batch(&self) -> usize {
        let items = match self.deal {
            _ if self.manner.newest => 1,
            Deal::OnDemand => {
                let costs = (0..self.lanes.len()).map(|index| self.cost(index).each);
                let cost = costs.max().unwrap_or(0);
                deal::batch(cost, self.lanes.len(), self.capacity)
            }
            _ => deal::batch(0, 1, self.capacity),
        };
        let most = self.lanes.iter().map(OutLane::most).min().unwrap_or(usize::MAX);
        items.min(self.executor.shared.most::<T>()).min(most)
    }

    /// Before what came in one message is handled. `again`: a worker that died may have sent some of
    /// what comes of it.
    pub(crate) fn begin(&mut self, head: &Head, again: bool) {
        self.number = head.number;
        if again {
            self.first = self.board().load(self.state.words + out::BASE);
            return;
        }
        self.settle();
        if self.state.survives {
            self.board().store(self.state.words + out::BASE, self.first);
            fault!(HANDLE_BASE);
        }
    }

    /// After it was handled.
    pub(crate) fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        if self.lanes.is_empty() {
            return Ok(());
        }
        let remade = self.state.inherits
            && self.forced.is_some_and(|forced| forced.items == self.pending.len());
        self.settle_known();
        // One that was made again is sent below.
        if !remade {
            self.settle_forced();
        }
        if !self.state.inherits {
            return Ok(());
        }
        let items = std::mem::take(&mut self.pending);
        let told = Head { number: head.number, last: head.last, ..Head::default() };
        self.send(self.lane_of(head.number), told, items)
    }

    /// Whether the numbers by which order is kept begin here: each message has its own.
    fn gives_numbers(&self) -> bool {
        matches!(self.deal, Deal::Ordered) && !self.state.inherits
    }

    fn lane_of(&self, number: u64) -> usize {
        (number % self.lanes.len().max(1) as u64) as usize
    }

    /// Whether what waits for a receiver, since it is the newest, could be sent now.
    pub(crate) fn can_send_pending(&self) -> bool {
        let can = |to: usize| {
            let (is_free, is_open) = (self.in_flight(to) == 0, self.is_open(to));
            let one_has_it = !self.lanes[to].gathered.is_empty() && (is_free || !is_open);
            one_has_it || (!self.pending.is_empty() && is_free && is_open)
        };
        self.manner.newest && (0..self.lanes.len()).any(can)
    }
}
