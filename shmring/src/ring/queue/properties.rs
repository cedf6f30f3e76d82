//! Queues against a simple model, a `VecDeque`: what a user does with ends, and below it what any
//! number of owners do with slots, deaths included.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    geometry::{REDELIVERED, SKIPPED},
    lists::Held,
    words::Position,
    *,
};
use crate::{RecvError, SendError, region::Region};

/// What a user does with two producers and two consumers.
#[derive(Clone, Debug)]
enum Op {
    Send { end: usize, len: usize },
    GiveUp { end: usize },
    Batch { end: usize, count: usize, publish: bool },
    Take { end: usize, ack: bool },
    Run { end: usize, max: usize, ack: usize },
    Leave { end: usize },
}

fn ops() -> impl Strategy<Value = Op> {
    let end = 0usize..2;
    prop_oneof![
        4 => (end.clone(), 0usize..45).prop_map(|(end, len)| Op::Send { end, len }),
        1 => end.clone().prop_map(|end| Op::GiveUp { end }),
        2 => (end.clone(), 0usize..6, any::<bool>())
            .prop_map(|(end, count, publish)| Op::Batch { end, count, publish }),
        4 => (end.clone(), any::<bool>()).prop_map(|(end, ack)| Op::Take { end, ack }),
        2 => (end.clone(), 1usize..6, 0usize..7)
            .prop_map(|(end, max, ack)| Op::Run { end, max, ack }),
        1 => end.prop_map(|end| Op::Leave { end }),
    ]
}

/// An item as the model knows it.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    bytes: Vec<u8>,
    attempt: u32,
    sequence: u64,
}

impl Known {
    fn again(mut self) -> Known {
        self.attempt += 1;
        self
    }
}

/// The ends, and what should be in their queue.
struct Pair {
    queue: Queue,
    producers: [Producer; 2],
    consumers: [Consumer; 2],
    model: VecDeque<Known>,
    sequences: [u64; 2],
    number: u8,
}

impl Pair {
    fn new(capacity: usize) -> Pair {
        let queue = Queue::options().capacity(capacity).item_len(40).anonymous().unwrap();
        Pair {
            producers: [(); 2].map(|()| queue.producer().unwrap()),
            consumers: [(); 2].map(|()| queue.consumer().unwrap()),
            queue,
            model: VecDeque::new(),
            sequences: [0; 2],
            number: 0,
        }
    }

    /// The next item of a producer, as it should arrive.
    fn next(&mut self, end: usize, len: usize, before: usize) -> Known {
        self.number = self.number.wrapping_add(1);
        let sequence = self.sequences[end] + before as u64;
        Known { bytes: vec![self.number; len], attempt: 1, sequence }
    }

    fn send(&mut self, end: usize, len: usize) {
        let known = self.next(end, len, 0);
        let full = self.model.len() == self.queue.capacity();
        match self.producers[end].try_send(known.bytes.clone()) {
            Ok(()) => {
                assert!(len <= 40 && !full);
                self.model.push_back(known);
                self.sequences[end] += 1;
            }
            Err(SendError::TooLarge { item, .. }) => assert!(item == known.bytes && len > 40),
            Err(error) => assert_eq!((error, full), (SendError::Full(known.bytes), true)),
        }
    }

    fn batch(&mut self, end: usize, count: usize, publish: bool) {
        let mut sent = vec![];
        let items: Vec<_> = (0..count).map(|before| self.next(end, 3, before)).collect();
        let mut batch = self.producers[end].batch();
        for known in items {
            let pushed = batch.try_push(&known.bytes).is_ok();
            assert_eq!(pushed, self.model.len() + sent.len() < self.queue.capacity());
            if pushed {
                sent.push(known);
            }
        }
        if publish {
            batch.publish().unwrap();
            self.sequences[end] += sent.len() as u64;
            self.model.extend(sent);
        }
    }

    fn take(&mut self, end: usize, ack: bool) {
        match self.consumers[end].try_recv() {
            Ok(item) => {
                let known = self.model.pop_front().unwrap();
                let (bytes, attempt) = (item.to_vec(), item.attempt());
                assert_eq!(known, Known { bytes, attempt, sequence: item.sequence() });
                if ack {
                    item.ack().unwrap();
                } else {
                    drop(item);
                    self.model.push_back(known.again());
                }
            }
            Err(error) => assert_eq!((error, self.model.len()), (RecvError::Empty, 0)),
        }
    }

    fn run(&mut self, end: usize, max: usize, ack: usize) {
        match self.consumers[end].try_run(max) {
            Ok(mut run) => {
                assert_eq!(run.len(), max.min(self.model.len()));
                let known: Vec<_> = self.model.drain(..run.len()).collect();
                for (item, known) in run.iter().zip(&known) {
                    let (bytes, attempt) = (item.to_vec(), item.attempt());
                    assert_eq!(*known, Known { bytes, attempt, sequence: item.sequence() });
                }
                run.ack_first(ack).unwrap();
                drop(run);
                self.model.extend(known.into_iter().skip(ack).map(Known::again));
            }
            Err(error) => assert_eq!((error, self.model.len()), (RecvError::Empty, 0)),
        }
    }

    fn go(&mut self, op: Op) {
        match op {
            Op::Send { end, len } => self.send(end, len),
            Op::GiveUp { end } => {
                let claimed = self.producers[end].try_claim(5).is_ok();
                assert_eq!(claimed, self.model.len() < self.queue.capacity());
            }
            Op::Batch { end, count, publish } => self.batch(end, count, publish),
            Op::Take { end, ack } => self.take(end, ack),
            Op::Run { end, max, ack } => self.run(end, max, ack),
            Op::Leave { end } => {
                self.producers[end] = self.queue.producer().unwrap();
                self.consumers[end] = self.queue.consumer().unwrap();
                self.sequences[end] = 0;
            }
        }
        assert_eq!(self.queue.len(), self.model.len());
    }
}

/// What owners do with slots: `pick` chooses among what an owner has in hand.
#[derive(Clone, Debug)]
enum Step {
    Claim { owner: u8 },
    Commit { pick: usize },
    Abort { pick: usize },
    Take { owner: u8 },
    Ack { pick: usize },
    Nack { pick: usize },
    Die { owner: u8 },
}

fn steps() -> impl Strategy<Value = Step> {
    let (owner, pick) = (0u8..3, any::<usize>());
    prop_oneof![
        4 => owner.clone().prop_map(|owner| Step::Claim { owner }),
        4 => pick.prop_map(|pick| Step::Commit { pick }),
        1 => pick.prop_map(|pick| Step::Abort { pick }),
        4 => owner.clone().prop_map(|owner| Step::Take { owner }),
        3 => pick.prop_map(|pick| Step::Ack { pick }),
        1 => pick.prop_map(|pick| Step::Nack { pick }),
        1 => owner.prop_map(|owner| Step::Die { owner }),
    ]
}

/// An item in the model: which, and how often it came back.
type Entry = (u64, u8);

struct Slots {
    region: Region,
    geometry: Geometry,
    written: Vec<(u8, Held)>,
    read: Vec<(u8, Held, Entry)>,
    ready: VecDeque<Entry>,
    next: u64,
    counted: (u64, u64),
}

impl Slots {
    fn new(slots: usize, laps: u64) -> Slots {
        let (geometry, size) = Geometry::new(slots, 8, 1).unwrap();
        let region = Region::heap(size);
        let start = Position::new(laps.wrapping_mul(geometry.cells() as u64));
        Lists::new(&region, &geometry).fill_from(start);
        let (written, read, ready) = (vec![], vec![], VecDeque::new());
        Slots { region, geometry, written, read, ready, next: 1, counted: (0, 0) }
    }

    fn in_use(&self) -> usize {
        self.written.len() + self.read.len() + self.ready.len()
    }

    fn payload(&self, held: Held) -> &crate::sync::AtomicU64 {
        self.region.u64(self.geometry.payload(held.slot))
    }

    fn go(&mut self, step: Step) {
        let lists = Lists::new(&self.region, &self.geometry);
        match step {
            Step::Claim { owner } => {
                let held = lists.take(Side::Producer, owner).unwrap();
                assert_eq!(held.is_some(), self.in_use() < self.geometry.slots);
                self.written.extend(held.map(|held| (owner, held)));
            }
            Step::Commit { pick } if !self.written.is_empty() => {
                let (_, held) = self.written.remove(pick % self.written.len());
                self.payload(held).store(self.next, Ordering::Relaxed);
                lists.commit(held).unwrap();
                self.ready.push_back((self.next, 0));
                self.next += 1;
            }
            Step::Abort { pick } if !self.written.is_empty() => {
                lists.abort(self.written.remove(pick % self.written.len()).1).unwrap();
            }
            Step::Take { owner } => {
                let held = lists.take(Side::Consumer, owner).unwrap();
                assert_eq!(held.is_some(), !self.ready.is_empty());
                if let (Some(held), Some(entry)) = (held, self.ready.pop_front()) {
                    let item = self.payload(held).load(Ordering::Relaxed);
                    assert_eq!((item, held.word.attempts()), entry);
                    self.read.push((owner, held, entry));
                }
            }
            Step::Ack { pick } if !self.read.is_empty() => {
                lists.ack(self.read.remove(pick % self.read.len()).1).unwrap();
            }
            Step::Nack { pick } if !self.read.is_empty() => {
                let (_, held, entry) = self.read.remove(pick % self.read.len());
                lists.nack(held).unwrap();
                self.ready.push_back((entry.0, entry.1 + 1));
                self.counted.0 += 1;
            }
            Step::Die { owner } => {
                lists.repair(owner);
                lists.repair(owner); // Again, and nothing more.
                self.counted.1 += self.written.iter().filter(|held| held.0 == owner).count() as u64;
                self.written.retain(|held| held.0 != owner);
                let died = |held: &(u8, Held, Entry)| held.0 == owner;
                let mut back: Vec<_> =
                    self.read.iter().filter(|held| died(held)).copied().collect();
                self.read.retain(|held| !died(held));
                // It goes through the slots in their order.
                back.sort_by_key(|held| held.1.slot);
                self.counted.0 += back.len() as u64;
                self.ready.extend(back.iter().map(|held| (held.2.0, held.2.1 + 1)));
            }
            _ => {}
        }
        let lists = Lists::new(&self.region, &self.geometry);
        assert_eq!(lists.is_drained(), self.in_use() == 0);
        assert_eq!(lists.is_empty(Side::Consumer), Ok(self.ready.is_empty()));
        assert_eq!(lists.len(Side::Consumer), self.ready.len());
        let get = |at| self.region.u64(at).load(Ordering::Relaxed);
        assert_eq!((get(REDELIVERED), get(SKIPPED)), self.counted);
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_deque(capacity in 1usize..6, script in prop::collection::vec(ops(), 1..60)) {
        let mut pair = Pair::new(capacity);
        script.into_iter().for_each(|op| pair.go(op));
        let stats = pair.queue.stats();
        prop_assert_eq!(stats.sent - stats.acked, pair.model.len() as u64);
        prop_assert_eq!(stats.taken, stats.acked + stats.redelivered);
    }

    #[test]
    fn slots_of_the_dead_are_given_back(
        slots in 1usize..7,
        // Also where the positions begin again at 0.
        laps in prop_oneof![Just(1), 0..5u64, any::<u64>(), (1..9u64).prop_map(u64::wrapping_neg)],
        script in prop::collection::vec(steps(), 1..150),
    ) {
        let mut model = Slots::new(slots, laps);
        script.into_iter().for_each(|step| model.go(step));
    }
}
