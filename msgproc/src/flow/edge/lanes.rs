//! One worker's ends of the lanes of an edge.

use std::rc::Rc;

use super::{
    Batch, Fate, Head, Refused, Rx, Tx,
    deal::{self, Deal, Load},
};
use crate::flow::{
    circle::Circle,
    outlet::Closed,
    plan::{Executor, lane, out, worker},
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

/// The sending ends of a worker's lanes into one edge.
pub(crate) struct Lanes<T> {
    executor: Rc<Executor>,
    deal: Deal<T>,
    capacity: u64,
    lanes: Vec<OutLane<T>>,
    next: usize,
    state: OutState,
    /// The circle that the edge is in.
    circle: Option<Circle>,
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

#[derive(Clone, Copy, Debug)]
struct Forced {
    lane: usize,
    items: usize,
}

struct OutLane<T> {
    tx: Box<dyn Tx<T>>,
    /// Where its words begin.
    words: usize,
    /// The executor of its receiver.
    receiver: usize,
    /// Whether it is a call.
    calls: bool,
    /// What was put for this one and not sent yet.
    gathered: Vec<T>,
}

impl<T: 'static> Lanes<T> {
    pub(crate) fn new(
        executor: &Rc<Executor>,
        deal: Deal<T>,
        capacity: u64,
        state: OutState,
        circle: Option<Circle>,
    ) -> Lanes<T> {
        let word = |word| executor.board().load(state.words + word);
        let (mut id, first) = (word(out::SENT), word(out::FIRST));
        // Between the intent and the two words that follow a send, nobody knows what was sent.
        let mut forced = None;
        if word(out::INTENT) == id + 1 {
            let items = word(out::INTENT_ITEMS);
            if first == word(out::INTENT_FIRST) {
                let lane = word(out::INTENT_LANE) as usize;
                forced = Some(Forced { lane, items: items as usize });
            } else {
                id += 1;
            }
        }
        Lanes {
            executor: executor.clone(),
            deal,
            capacity: capacity.max(1),
            lanes: Vec::new(),
            next: 0,
            state,
            circle,
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

    pub(crate) fn add(&mut self, tx: Box<dyn Tx<T>>, words: usize, receiver: usize, calls: bool) {
        self.lanes.push(OutLane { tx, words, receiver, calls, gathered: Vec::new() });
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

    fn is_open(&self, index: usize) -> bool {
        self.board().load(self.lanes[index].words + lane::CLOSED) == 0
    }

    fn loads(&self) -> Vec<Load> {
        let load = |index: usize| Load {
            in_flight: self.in_flight(index),
            cost: self.board().load(self.lanes[index].words + lane::COST),
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

    pub(crate) fn has_room(&self) -> bool {
        (0..self.lanes.len())
            .any(|index| self.is_open(index) && self.in_flight(index) < self.capacity)
    }

    pub(crate) fn can_call(&self) -> bool {
        self.lanes.iter().all(|lane| lane.tx.can_call())
    }

    /// How many items make a message.
    pub(crate) fn batch(&self) -> usize {
        if matches!(self.deal, Deal::Ordered) {
            return deal::batch(0, 1, self.capacity);
        }
        match self.deal {
            Deal::Newest => 1,
            Deal::OnDemand => {
                let costs = self.lanes.iter().map(|l| self.board().load(l.words + lane::COST));
                let cost = costs.max().unwrap_or(0);
                deal::batch(cost, self.lanes.len(), self.capacity)
            }
            _ => deal::batch(0, 1, self.capacity),
        }
    }

    /// Before what came in one message is handled. `again`: a worker that died may have sent some of
    /// what comes of it.
    pub(crate) fn begin(&mut self, head: &Head, again: bool) {
        self.number = head.number;
        if again {
            self.first = self.board().load(self.state.words + out::BASE);
        } else if self.state.survives {
            self.board().store(self.state.words + out::BASE, self.first);
        }
    }

    /// After it was handled.
    pub(crate) fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        if !self.state.inherits || self.lanes.is_empty() {
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

    /// Takes all items, waiting for room.
    pub(crate) fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        self.drop_known(items);
        if self.lanes.is_empty() {
            items.clear();
            return Ok(());
        }
        if self.forced.is_some() && !self.put_forced(items)? {
            return Ok(());
        }
        match self.deal.clone() {
            Deal::OnDemand => self.put_on_demand(items),
            Deal::Ordered if self.state.inherits => {
                self.pending.append(items);
                if self.pending.len() < self.batch() {
                    return Ok(());
                }
                let part = std::mem::take(&mut self.pending);
                let head = Head { number: self.number, ..Head::default() };
                self.send(self.lane_of(self.number), head, part)
            }
            Deal::Ordered => {
                let most = self.batch();
                while !items.is_empty() {
                    let part = cut(items, most);
                    let head = Head { number: self.id, last: true, ..Head::default() };
                    self.send(self.lane_of(self.id), head, part)?;
                }
                Ok(())
            }
            Deal::RoundRobin => {
                for item in items.drain(..) {
                    let to = self.next;
                    self.next = (self.next + 1) % self.lanes.len();
                    self.gather(to, item)?;
                }
                self.send_to_idle()
            }
            Deal::By(choose) => {
                for item in items.drain(..) {
                    let to = choose(&item) % self.lanes.len();
                    self.gather(to, item)?;
                }
                self.send_to_idle()
            }
            Deal::All(clone) => {
                for item in items.drain(..) {
                    for to in 1..self.lanes.len() {
                        self.gather(to, clone(&item))?;
                    }
                    self.gather(0, item)?;
                }
                self.send_to_idle()
            }
            Deal::Newest => self.put_newest(items),
        }
    }

    /// Drops what was sent by a worker that this one replaces.
    fn drop_known(&mut self, items: &mut Vec<T>) {
        if self.first < self.known {
            let known = usize::try_from(self.known - self.first).unwrap_or(usize::MAX);
            let known = known.min(items.len());
            items.drain(..known);
            self.first += known as u64;
        }
    }

    /// What may have been sent already is gathered until it is as it was then, and sent to where it
    /// went then: so its receiver knows it. Tells whether that is done.
    fn put_forced(&mut self, items: &mut Vec<T>) -> Result<bool, Closed> {
        let Some(Forced { lane, items: count }) = self.forced.filter(|forced| forced.items > 0)
        else {
            return Ok(true);
        };
        self.pending.append(items);
        if self.pending.len() < count {
            return Ok(false);
        }
        let mut all = std::mem::take(&mut self.pending);
        let part = cut(&mut all, count);
        let head = match (&self.deal, self.state.inherits) {
            (Deal::Ordered, false) => Head { number: self.id, last: true, ..Head::default() },
            _ => Head { number: self.number, ..Head::default() },
        };
        self.send(lane.min(self.lanes.len() - 1), head, part)?;
        *items = all;
        Ok(true)
    }

    fn put_on_demand(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        while !items.is_empty() {
            let (to, room) = self.wait_for_room()?;
            let most = self.batch().min(room);
            self.next = (to + 1) % self.lanes.len();
            let part = cut(items, most);
            if self.send(to, Head::default(), part).is_err() {
                if self.is_closed() || self.is_broken() {
                    return Err(Closed);
                }
                // One of several takes no more: another gets what was meant for it.
                items.splice(..0, self.back.drain(..));
            }
        }
        Ok(())
    }

    /// Items that are too old before anybody takes them are dropped here.
    fn put_newest(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        let dropped = (self.pending.len() + items.len()).saturating_sub(1);
        if let Some(newest) = items.pop() {
            items.clear();
            self.pending.clear();
            self.pending.push(newest);
        }
        if dropped > 0 {
            self.board().add_own(self.state.worker + worker::DROPPED, dropped as u64);
        }
        self.send_newest()
    }

    fn send_newest(&mut self) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        let free =
            (0..self.lanes.len()).find(|index| self.is_open(*index) && self.in_flight(*index) == 0);
        match (free, self.pending.pop()) {
            (Some(to), Some(item)) => self.send(to, Head::default(), vec![item]),
            (None, Some(item)) => {
                self.pending.push(item);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Puts an item for one of the receivers, or for whichever the edge chooses.
    pub(crate) fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed> {
        let Some(to) = to else {
            let mut items = vec![item];
            return self.put(&mut items);
        };
        if self.lanes.is_empty() {
            return Ok(());
        }
        let mut items = vec![item];
        self.drop_known(&mut items);
        match items.pop() {
            Some(item) => self.gather(to % self.lanes.len(), item),
            None => Ok(()),
        }
    }

    /// Keeps an item for one receiver until there are more.
    fn gather(&mut self, to: usize, item: T) -> Result<(), Closed> {
        if self.state.survives {
            // What is sent keeps the order in which it was put, so that one number tells how much
            // that is.
            for other in (0..self.lanes.len()).filter(|other| *other != to) {
                if !self.lanes[other].gathered.is_empty() {
                    self.send_gathered(other)?;
                }
            }
        }
        self.lanes[to].gathered.push(item);
        let most = (deal::MOST as u64 / self.lanes.len() as u64).clamp(1, self.capacity);
        let full = self.lanes[to].gathered.len() as u64 >= most;
        if full { self.send_gathered(to) } else { Ok(()) }
    }

    /// Sends what was gathered for receivers who have nothing to do.
    fn send_to_idle(&mut self) -> Result<(), Closed> {
        for to in 0..self.lanes.len() {
            if self.in_flight(to) == 0 {
                self.send_gathered(to)?;
            }
        }
        Ok(())
    }

    fn send_gathered(&mut self, to: usize) -> Result<(), Closed> {
        if self.lanes[to].gathered.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.lanes[to].gathered);
        match self.send(to, Head::default(), items) {
            // The others go on without it.
            Err(Closed) if !self.is_closed() && !self.executor.is_stopped() => Ok(()),
            sent => sent,
        }
    }

    /// Sends on all that was gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        if matches!(self.deal, Deal::Newest) {
            return if self.pending.is_empty() { Ok(()) } else { self.send_newest() };
        }
        (0..self.lanes.len()).try_for_each(|to| self.send_gathered(to))
    }

    /// Whether something was gathered that waits for a receiver.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.deal, Deal::Newest) && !self.pending.is_empty()
    }

    /// Whether what waits could be sent now.
    pub(crate) fn can_send_pending(&self) -> bool {
        self.is_pending() && (0..self.lanes.len()).any(|index| self.in_flight(index) == 0)
    }

    fn wait_for_room(&mut self) -> Result<(usize, usize), Closed> {
        let (capacity, next) = (self.capacity, self.next);
        if let Some(picked) = deal::pick(&self.loads(), capacity, next) {
            return Ok(picked);
        }
        let executor = self.executor.clone();
        let picked = executor.wait_for(|| {
            if self.is_closed() {
                return Some(None);
            }
            deal::pick(&self.loads(), capacity, next).map(Some)
        });
        picked.ok().flatten().ok_or(Closed)
    }

    /// Sends one message, waiting for room.
    fn send(&mut self, to: usize, head: Head, items: Vec<T>) -> Result<(), Closed> {
        let counts = !items.is_empty();
        if let Some(circle) = self.circle.as_ref().filter(|_| counts) {
            // Who takes them counts them off, so they are counted before.
            circle.send(items.len() as u64);
        }
        let sent = self.send_uncounted(to, head, items);
        if let Some(circle) = self.circle.as_ref().filter(|_| counts && sent.is_err()) {
            match self.back.len() as u64 {
                0 => circle.break_off(),
                // They are counted again if another gets them.
                back => circle.leave(back),
            }
        }
        sent
    }

    fn send_uncounted(&mut self, to: usize, head: Head, items: Vec<T>) -> Result<(), Closed> {
        let weight = items.len().max(1) as u64;
        let head = Head { id: self.id, first: self.first, ..head };
        let executor = self.executor.clone();
        let board = executor.board();
        let words = self.lanes[to].words;
        if self.state.survives {
            board.store(self.state.words + out::INTENT, 0);
            board.store(self.state.words + out::INTENT_LANE, to as u64);
            board.store(self.state.words + out::INTENT_FIRST, self.first);
            board.store(self.state.words + out::INTENT_ITEMS, items.len() as u64);
            board.store(self.state.words + out::INTENT, self.id + 1);
        }
        let progress = || (board.load(words + lane::DONE), board.load(words + lane::IN_PIECES));
        let sent = items.len() as u64;
        let mut batch = Batch { head, items };
        loop {
            if !self.is_open(to) {
                self.back = batch.items;
                return Err(Closed);
            }
            let before = progress();
            let full = !head.end && self.in_flight(to) >= self.capacity;
            let refused = match full {
                true => Refused::Full(batch),
                false => match self.lanes[to].tx.try_put(batch) {
                    Ok(bytes) => {
                        board.add_own(self.state.worker + worker::BYTES, bytes as u64);
                        break;
                    }
                    Err(refused) => refused,
                },
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
                    if let Err(Closed) = self.send_uncounted(to, first, items) {
                        self.back.extend(rest);
                        return Err(Closed);
                    }
                    if !numbered {
                        return self.send_uncounted(to, head, rest);
                    }
                    let next = Head { number: self.id, ..head };
                    return self.send_uncounted(self.lane_of(self.id), next, rest);
                }
                Refused::Unsendable(reason) => {
                    self.failure = Some(reason);
                    return Err(Closed);
                }
            }
        }
        self.forced = None;
        self.id += 1;
        self.first += sent;
        self.known = self.known.max(self.first);
        if self.state.survives {
            board.store(self.state.words + out::FIRST, self.first);
            board.store(self.state.words + out::SENT, self.id);
        }
        if !self.lanes[to].calls {
            board.add_own(words + lane::SENT, weight);
            board.ring(self.lanes[to].receiver);
        }
        Ok(())
    }

    /// Says that nothing comes after it.
    pub(crate) fn end(&mut self) {
        if matches!(self.deal, Deal::Newest) && !self.pending.is_empty() {
            // The newest is what stays.
            let executor = self.executor.clone();
            let free = executor.wait_for(|| {
                (self.is_closed() || (0..self.lanes.len()).any(|to| self.in_flight(to) == 0))
                    .then_some(())
            });
            if free.is_ok() {
                let _ = self.send_newest();
            }
        }
        let _ = self.flush();
        if self.forced.take().is_some() && !self.pending.is_empty() {
            let mut fewer = std::mem::take(&mut self.pending);
            let _ = self.put(&mut fewer);
        }
        for to in 0..self.lanes.len() {
            let head = Head { end: true, last: true, number: self.id, ..Head::default() };
            let _ = self.send(to, head, Vec::new());
        }
    }
}

/// Takes the first so many items.
fn cut<T>(items: &mut Vec<T>, most: usize) -> Vec<T> {
    if items.len() <= most {
        return std::mem::take(items);
    }
    let rest = items.split_off(most.max(1));
    std::mem::replace(items, rest)
}

/// The receiving ends of a worker's lanes out of one edge.
pub(crate) struct Inlet<T> {
    lanes: Vec<InLane<T>>,
    /// Where order is kept among several senders: the number that comes next, and the step to the
    /// one after it.
    next_number: Option<(u64, u64)>,
    /// Which lane is looked at first.
    cursor: usize,
    newest: bool,
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
    pub(crate) fn new(numbers: Option<(u64, u64)>, newest: bool) -> Inlet<T> {
        Inlet { lanes: Vec::new(), next_number: numbers, cursor: 0, newest }
    }

    pub(crate) fn add(&mut self, rx: Option<Box<dyn Rx<T>>>, words: usize, sender: usize) {
        self.lanes.push(InLane { rx, words, sender, ended: false });
    }

    /// For a worker that replaces another: goes on where that was.
    pub(crate) fn go_on(&mut self, executor: &Executor) -> Result<(), String> {
        let word = |lane: &InLane<T>, word| executor.board().load(lane.words + word);
        if let (Some((next, _)), Some(first)) = (&mut self.next_number, self.lanes.first()) {
            *next = (*next).max(word(first, lane::NUMBER));
        }
        for each in &mut self.lanes {
            each.ended = word(each, lane::ENDED) != 0;
        }
        match self.lanes.iter().any(|each| word(each, lane::IN_PIECES) > 0) {
            true => Err("its process died over an item that is longer than a message, and its first pieces went with it. Send long data in blocks".into()),
            false => Ok(()),
        }
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
        let mut piece = || {
            board.add_own(words + lane::IN_PIECES, 1);
            board.ring(sender);
        };
        let newest = self.newest;
        let fate = rx.take(&mut piece, &mut |mut batch| {
            let weight = batch.items.len().max(1) as u64;
            seen = (batch.head, weight);
            if batch.head.id < board.load(words + lane::NEXT) {
                return Fate::Done; // It was handled by a worker that this one replaces.
            }
            if newest && batch.items.len() > 1 {
                batch.items.drain(..batch.items.len() - 1);
            }
            let late = numbers.is_some_and(|(next, _)| batch.head.number < next);
            if late && !batch.head.end {
                return Fate::Done; // Said again by one that replaces its sender.
            }
            let fate = handle(words, batch);
            if fate == Fate::Done {
                let passes = numbers.filter(|(next, _)| seen.0.passes(*next));
                if let Some((next, step)) = passes {
                    board.store(first_words + lane::NUMBER, next + step);
                }
                if seen.0.end {
                    board.store(words + lane::ENDED, 1);
                }
                board.store(words + lane::NEXT, seen.0.id + 1);
            }
            fate
        })?;
        match fate {
            None => Ok(Taken::Nothing),
            Some(Fate::Keep) => Ok(Taken::Kept),
            Some(Fate::Done) => {
                let (head, weight) = seen;
                board.store(words + lane::IN_PIECES, 0);
                board.add_own(words + lane::DONE, weight);
                board.ring(sender);
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
