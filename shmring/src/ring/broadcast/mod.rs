//! Items of varying length from one producer to many consumers: each sees every item, and there is
//! one copy in memory.
//!
//! ```
//! use shmring::{RecvError, ring::broadcast::Broadcast};
//!
//! let ring = Broadcast::options().capacity(1 << 16).consumers(8).anonymous()?;
//! let mut tx = ring.producer()?;
//! let mut every = ring.consumer()?; // The producer waits for this one,
//! let mut some = ring.join().lossy().consumer()?; // and overwrites what this one has not read.
//!
//! tx.send(b"hello")?;
//! assert_eq!(&*every.recv()?, b"hello");
//! match some.recv() {
//!     Ok(item) => assert_eq!(&*item, b"hello"),
//!     Err(RecvError::Lapped { missed }) => eprintln!("{missed} items came too fast"),
//!     Err(end) => return Err(end.into()),
//! }
//!
//! // Who comes later may begin with what is still there.
//! let mut late = ring.join().history(10).consumer()?;
//! assert_eq!(&*late.recv()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Consumers join and leave at any time. A *lossless* one gets every item that is sent after it
//! joined: when it is a ring behind, the producer waits for it, as the ring's [`Policy`] says; when
//! it dies, it is dropped, and the producer goes on. A *lossy* one never holds the producer back:
//! what it has not read in time is overwritten, and it is told how much that was
//! ([`RecvError::Lapped`](crate::RecvError::Lapped)). Without consumers items go to nobody.
//!
//! What an item costs the producer does not depend on how many consumers there are, as long as they
//! are awake, or keep up; waking one that sleeps costs a system call.

mod consumer;
#[cfg(all(test, shmring_loom))]
mod loom_models;
pub(crate) mod memory;
pub mod port;
#[cfg(all(test, not(shmring_loom)))]
mod port_tests;
mod producer;
mod reader;
mod slots;
mod table;
mod writer;

use std::fmt;

pub(crate) use self::memory::observe;
pub use self::{
    consumer::{Consumer, Item, Run},
    memory::Stats,
    producer::{Batch, Claim, Producer},
};
use self::{
    memory::{Geometry, LEAST_CAPACITY, MOST_CAPACITY, MOST_PLACES},
    table::{Entry, Kind as Reads},
};
use super::{
    Policy,
    face::{End, Make, Ring, Room, Side, Which, end_travels, ring_verbs},
    iter::counts,
    register_repairers,
    role::{self, Place, Role, State},
};
use crate::{
    error::{Error, Result},
    fault::fault,
    region::LINE,
    segment::{Kind, Object, Segment},
    wait::WaitStrategy,
};

/// A broadcast ring: from it come its ends. Cloning gives another handle of the same ring.
#[derive(Clone)]
pub struct Broadcast {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    policy: Policy,
    strategy: WaitStrategy,
}

/// How a broadcast ring is made. From [`Broadcast::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a ring is made with them"]
pub struct Options {
    capacity: usize,
    consumers: usize,
    policy: Policy,
    strategy: WaitStrategy,
    prefault: bool,
    replace_stale: bool,
}

impl Options {
    /// Bytes of the ring, rounded up to a power of two, 256 to 2³¹. Default 64 KiB.
    ///
    /// An item takes its length plus 16, rounded up to 8, and may be at most half the capacity
    /// less 16. The producer makes room for up to an eighth of the ring ahead, so lossy consumers,
    /// and those who want history, can count on seven eighths.
    pub fn capacity(mut self, bytes: usize) -> Options {
        self.capacity = bytes;
        self
    }

    /// How many consumers there can be at once, 1 to 64. Default 16.
    pub fn consumers(mut self, most: usize) -> Options {
        self.consumers = most;
        self
    }

    /// What sending does when a lossless consumer is a ring behind. Default [`Policy::Wait`].
    pub fn policy(mut self, policy: Policy) -> Options {
        self.policy = policy;
        self
    }

    /// How all ends wait, unless they are told otherwise. Default adaptive.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options {
        self.strategy = strategy;
        self
    }

    /// Touches every page now. Default yes, for up to 16 MiB a ring is there to be quick.
    pub fn prefault(mut self, yes: bool) -> Options {
        self.prefault = yes;
        self
    }

    /// How many bytes it takes of a segment, at most.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`].
    pub fn len_in_segment(&self) -> Result<usize> {
        let (capacity, places) = self.checked()?;
        // It begins on a multiple of two lines.
        Ok(Geometry::len(capacity, places) + 2 * LINE)
    }

    fn checked(&self) -> Result<(usize, usize)> {
        let bad =
            |reason| Error::BadParameters { action: "create a broadcast ring".into(), reason };
        if !(1..=MOST_PLACES).contains(&self.consumers) {
            let consumers = self.consumers;
            return Err(bad(format!("{consumers} consumers: 1 to {MOST_PLACES} are possible")));
        }
        let capacity = self.capacity.max(LEAST_CAPACITY).checked_next_power_of_two();
        let capacity = capacity.filter(|capacity| *capacity <= MOST_CAPACITY).ok_or_else(|| {
            bad(format!(
                "{} bytes of capacity: at most {MOST_CAPACITY} are possible",
                self.capacity
            ))
        })?;
        Ok((capacity, self.consumers))
    }
}

/// How a consumer joins. From [`Broadcast::join`].
#[derive(Clone, Debug)]
#[must_use = "nobody joins until `consumer` is called"]
pub struct Join<'a> {
    ring: &'a Broadcast,
    reads: Reads,
    history: u64,
}

impl Join<'_> {
    /// The producer does not wait for it, and overwrites what it has not read in time.
    pub fn lossy(mut self) -> Self {
        self.reads = Reads::Lossy;
        self
    }

    /// Begins up to `items` back, with what of them is still in the ring. Default 0: with what is
    /// sent from now on.
    pub fn history(mut self, items: u64) -> Self {
        self.history = items;
        self
    }

    /// Joins.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlace`] while living processes have all places; [`Error::Corrupt`].
    pub fn consumer(self) -> Result<Consumer> {
        let (index, role) = self.ring.take_place()?;
        Consumer::join(self.ring.clone(), index, role, self.reads, self.history)
    }
}

impl Broadcast {
    /// Begins to describe a ring.
    pub fn options() -> Options {
        let (policy, strategy) = (Policy::default(), WaitStrategy::default());
        Options {
            capacity: 1 << 16,
            consumers: 16,
            policy,
            strategy,
            prefault: true,
            replace_stale: false,
        }
    }

    /// Takes the producer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it; [`Error::Corrupt`].
    pub fn producer(&self) -> Result<Producer> {
        let role = Role::take(&self.segment, self.geometry.producer(), Producer::WHAT)?;
        Producer::new(self.clone(), role)
    }

    /// Joins as a lossless consumer of what is sent from now on.
    ///
    /// # Errors
    ///
    /// As [`Join::consumer`].
    pub fn consumer(&self) -> Result<Consumer> {
        self.join().consumer()
    }

    /// Begins to describe a consumer: lossless, without history, if nothing else is said.
    pub fn join(&self) -> Join<'_> {
        Join { ring: self, reads: Reads::Lossless, history: 0 }
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// The longest item.
    pub fn max_len(&self) -> usize {
        self.geometry.max_len()
    }

    /// How many consumers there can be at once.
    pub fn places(&self) -> usize {
        self.geometry.places
    }

    /// What sending does when a lossless consumer is a ring behind.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What has gone through, and what is in it now.
    pub fn stats(&self) -> Stats {
        memory::stats(&self.segment.0.region, self.geometry)
    }

    /// Takes a consumer's place: one that is free, or else one whose holder died.
    fn take_place(&self) -> Result<(usize, Role)> {
        let places =
            || (0..self.geometry.places).map(|index| (index, self.geometry.consumer(index)));
        let free = |place: Place| {
            matches!(role::state_of(&self.segment, place), State::Free | State::Closed)
        };
        let take = |(index, place)| match Role::take(&self.segment, place, Consumer::WHAT) {
            Ok(role) => Some(Ok((index, role))),
            Err(Error::Busy { .. }) => None,
            Err(error) => Some(Err(error)),
        };
        let found = places().filter(|(_, place)| free(*place)).find_map(take);
        found.or_else(|| places().find_map(take)).unwrap_or_else(|| {
            Err(Error::NoPlace {
                action: "join a broadcast ring as a consumer".into(),
                limit: self.geometry.places,
            })
        })
    }

    /// Drops the consumer at a place if it has died. Tells whether it did.
    fn drop_dead(&self, index: usize) -> bool {
        let region = &self.segment.0.region;
        let lossless = Entry::of(region, self.geometry, index).kind() == Some(Reads::Lossless);
        let dead = role::bury(&self.segment, self.geometry.consumer(index));
        if dead && lossless {
            fault!("broadcast.buried");
            table::count_lost(region, self.geometry);
        }
        dead
    }
}

/// What is said of a ring whose words contradict each other.
fn corrupt(reason: &str) -> Error {
    Error::Corrupt { what: "a broadcast ring".into(), reason: reason.into() }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("object", &self.object.index)
            .field("stats", &self.stats())
            .finish()
    }
}

impl Make for Options {
    type Ring = Broadcast;

    fn room(&self) -> Result<Room> {
        let (capacity, places) = self.checked()?;
        let len = Geometry::len(capacity, places) + 2 * LINE;
        Ok(Room {
            len,
            participants: places + 8,
            objects: 1,
            prefault: self.prefault,
            replace_stale: self.replace_stale,
        })
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    fn make_in(self, segment: &Segment) -> Result<Broadcast> {
        let (capacity, places) = self.checked()?;
        let object = segment.add(Kind::Broadcast, Geometry::len(capacity, places), |object| {
            let geometry = Geometry { base: object.offset, capacity, places };
            geometry.write(&segment.0.region, self.policy);
            Ok(())
        })?;
        Broadcast::attach(segment, object.index, self.strategy)
    }
}

impl Ring for Broadcast {
    const KIND: Kind = Kind::Broadcast;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Broadcast> {
        let object = segment.object(index, Kind::Broadcast)?;
        register_repairers(segment);
        let (geometry, policy) = Geometry::read(&segment.0.region, object.offset, object.size)
            .ok_or_else(memory::impossible)?;
        Ok(Broadcast { segment: segment.clone(), object, geometry, policy, strategy })
    }

    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn number(&self) -> u32 {
        self.object.index
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }
}

ring_verbs!([] Options => Broadcast);
counts!([] Consumer, Consumer::waiting);

impl End for Producer {
    type Ring = Broadcast;
    const WHAT: &'static str = Producer::WHAT;

    fn ring(&self) -> &Broadcast {
        Producer::ring(self)
    }

    fn role(&self) -> &Role {
        Producer::role(self)
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(ring: Broadcast, _: u32, from: u64) -> Result<Producer> {
        let role = Role::receive(&ring.segment, ring.geometry.producer(), from, Producer::WHAT)?;
        Producer::new(ring, role)
    }
}

impl End for Consumer {
    type Ring = Broadcast;
    const WHAT: &'static str = Consumer::WHAT;

    fn ring(&self) -> &Broadcast {
        Consumer::ring(self)
    }

    fn role(&self) -> &Role {
        Consumer::role(self)
    }

    fn which(&self) -> Which {
        Which { side: Side::Consumer, index: self.index() as u32 }
    }

    fn receive(ring: Broadcast, index: u32, from: u64) -> Result<Consumer> {
        let index = index as usize;
        if index >= ring.geometry.places {
            return Err(corrupt("it has no such place"));
        }
        let place = ring.geometry.consumer(index);
        let role = Role::receive(&ring.segment, place, from, Consumer::WHAT)?;
        Consumer::resume(ring, index, role)
    }
}

end_travels!([] Producer);
end_travels!([] Consumer);

#[cfg(all(test, not(shmring_loom)))]
mod positions_tests;
#[cfg(all(test, not(shmring_loom)))]
mod tests;
