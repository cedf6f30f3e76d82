//! Records of varying length, from one producer to one consumer, in order.
//!
//! ```
//! use shmring::ring::records::Records;
//!
//! let (mut tx, mut rx) = Records::options().capacity(1 << 16).anonymous()?.split()?;
//! tx.send(b"hello")?;
//! assert_eq!(&*rx.recv()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Either end can go to another process: through fork, or inside a message. A record is written
//! in place ([`Producer::claim`]) and read in place ([`Consumer::recv`]); a [`Batch`] publishes or
//! releases many at once.

mod consumer;
pub(crate) mod cursor;
#[cfg(all(test, shmring_loom))]
mod loom_models;
mod producer;
mod slots;

use std::fmt;

use self::cursor::{CAPACITY, DATA, Geometry, HEAD, LEAST_CAPACITY, MOST_CAPACITY, POLICY, ROLES};
pub use self::{
    consumer::{Consumer, Record, Run},
    cursor::Stats,
    producer::{Batch, Claim, Producer},
};
use super::{
    Policy,
    face::{End, Make, Ring, Room, Which, end_travels, ring_verbs},
    iter::counts,
    register_repairers,
    role::{Place, Role},
};
use crate::{
    block,
    error::{Error, Result},
    region::{LINE, Region},
    segment::{Kind, Object, Segment},
    sync::Ordering,
    wait::WaitStrategy,
};

/// A ring of records: from it come its two ends. Cloning gives another handle of the same ring.
#[derive(Clone)]
pub struct Records {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    policy: Policy,
    strategy: WaitStrategy,
}

/// How a ring of records is made. From [`Records::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a ring is made with them"]
pub struct Options {
    capacity: usize,
    policy: Policy,
    strategy: WaitStrategy,
    prefault: bool,
    replace_stale: bool,
}

impl Options {
    /// Bytes of the ring, rounded up to a power of two, 256 to 2³¹. Default 64 KiB.
    ///
    /// A record takes its length plus 8, rounded up to 8, and may be at most half the capacity
    /// less 16.
    pub fn capacity(mut self, bytes: usize) -> Options {
        self.capacity = bytes;
        self
    }

    /// What sending does when the ring is full. Default [`Policy::Wait`].
    pub fn policy(mut self, policy: Policy) -> Options {
        self.policy = policy;
        self
    }

    /// How both ends wait, unless they are told otherwise. Default adaptive.
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
        // It begins on a multiple of two lines.
        Ok(self.checked_capacity()? + DATA + 2 * LINE)
    }

    fn checked_capacity(&self) -> Result<usize> {
        let bad =
            |reason| Error::BadParameters { action: "create a ring of records".into(), reason };
        let capacity = self.capacity.max(LEAST_CAPACITY).checked_next_power_of_two();
        capacity.filter(|capacity| *capacity <= MOST_CAPACITY).ok_or_else(|| {
            bad(format!(
                "{} bytes of capacity: at most {MOST_CAPACITY} are possible",
                self.capacity
            ))
        })
    }
}

impl Records {
    /// Begins to describe a ring.
    pub fn options() -> Options {
        let (policy, strategy) = (Policy::default(), WaitStrategy::default());
        Options { capacity: 1 << 16, policy, strategy, prefault: true, replace_stale: false }
    }

    /// Takes the producer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it; [`Error::Corrupt`].
    pub fn producer(&self) -> Result<Producer> {
        let role = Role::take(&self.segment, self.producer_place(), Producer::WHAT)?;
        Producer::new(self.clone(), role)
    }

    /// Takes the consumer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it; [`Error::Corrupt`].
    pub fn consumer(&self) -> Result<Consumer> {
        let role = Role::take(&self.segment, self.consumer_place(), Consumer::WHAT)?;
        Consumer::new(self.clone(), role)
    }

    /// Takes both ends.
    ///
    /// # Errors
    ///
    /// As [`Records::producer`] and [`Records::consumer`].
    pub fn split(&self) -> Result<(Producer, Consumer)> {
        Ok((self.producer()?, self.consumer()?))
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// The longest record.
    pub fn max_len(&self) -> usize {
        self.geometry.max_len()
    }

    /// What sending does when the ring is full.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What has gone through, and what is in it now.
    pub fn stats(&self) -> Stats {
        cursor::stats(&self.segment.0.region, self.geometry)
    }

    /// Its number, and where it says how far it is released: so pools know it.
    pub(crate) fn as_carrier(&self) -> block::Ring {
        block::Ring { object: self.object.index, head: self.geometry.base + HEAD }
    }

    fn producer_place(&self) -> Place {
        let base = self.geometry.base + ROLES;
        Place { word: base, destination: base + 16 }
    }

    fn consumer_place(&self) -> Place {
        let base = self.geometry.base + ROLES;
        Place { word: base + 8, destination: base + 24 }
    }
}

/// The constants of a ring, copied once and checked.
fn read_geometry(region: &Region, object: Object) -> Result<(Geometry, Policy)> {
    let corrupt = |reason: &str| Error::Corrupt {
        what: format!("ring {} of a segment", object.index),
        reason: reason.into(),
    };
    if object.size < DATA {
        return Err(corrupt("it is shorter than its header"));
    }
    let capacity = region.u64(object.offset + CAPACITY).load(Ordering::Relaxed);
    let capacity = usize::try_from(capacity)
        .ok()
        .filter(|capacity| capacity.is_power_of_two())
        .filter(|capacity| (LEAST_CAPACITY..=MOST_CAPACITY).contains(capacity))
        .filter(|capacity| capacity + DATA <= object.size)
        .ok_or_else(|| corrupt("its capacity is impossible"))?;
    let policy = region.u32(object.offset + POLICY).load(Ordering::Relaxed);
    let policy = Policy::from_number(policy).ok_or_else(|| corrupt("it has no policy"))?;
    Ok((Geometry { base: object.offset, capacity }, policy))
}

/// What an onlooker sees of a ring, also where memory may only be read.
pub(crate) fn observe(region: &Region, object: Object) -> Result<Stats> {
    Ok(cursor::stats(region, read_geometry(region, object)?.0))
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("object", &self.object.index)
            .field("stats", &self.stats())
            .finish()
    }
}

impl Make for Options {
    type Ring = Records;

    fn room(&self) -> Result<Room> {
        let len = self.checked_capacity()? + DATA + 256;
        Ok(Room {
            len,
            participants: 8,
            objects: 1,
            prefault: self.prefault,
            replace_stale: self.replace_stale,
        })
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    fn make_in(self, segment: &Segment) -> Result<Records> {
        let capacity = self.checked_capacity()?;
        let object = segment.add(Kind::Records, capacity + DATA, |object| {
            let word = segment.0.region.u64(object.offset + CAPACITY);
            word.store(capacity as u64, Ordering::Relaxed);
            let word = segment.0.region.u32(object.offset + POLICY);
            word.store(self.policy.number(), Ordering::Relaxed);
            Ok(())
        })?;
        Records::attach(segment, object.index, self.strategy)
    }
}

impl Ring for Records {
    const KIND: Kind = Kind::Records;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Records> {
        let object = segment.object(index, Kind::Records)?;
        register_repairers(segment);
        let (geometry, policy) = read_geometry(&segment.0.region, object)?;
        Ok(Records { segment: segment.clone(), object, geometry, policy, strategy })
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

ring_verbs!([] Options => Records);
counts!([] Records, |ring| cursor::waiting(&ring.segment.0.region, ring.geometry));
counts!([] Consumer, |end| end.ring().len());

impl End for Producer {
    type Ring = Records;
    const WHAT: &'static str = Producer::WHAT;

    fn ring(&self) -> &Records {
        Producer::ring(self)
    }

    fn role(&self) -> &Role {
        Producer::role(self)
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(ring: Records, _: u32, from: u64) -> Result<Producer> {
        let role = Role::receive(&ring.segment, ring.producer_place(), from, Producer::WHAT)?;
        Producer::new(ring, role)
    }
}

impl End for Consumer {
    type Ring = Records;
    const WHAT: &'static str = Consumer::WHAT;

    fn ring(&self) -> &Records {
        Consumer::ring(self)
    }

    fn role(&self) -> &Role {
        Consumer::role(self)
    }

    fn which(&self) -> Which {
        Which::CONSUMER
    }

    fn receive(ring: Records, _: u32, from: u64) -> Result<Consumer> {
        let role = Role::receive(&ring.segment, ring.consumer_place(), from, Consumer::WHAT)?;
        Consumer::new(ring, role)
    }
}

end_travels!([] Producer);
end_travels!([] Consumer);

#[cfg(all(test, not(shmring_loom)))]
mod tests;
