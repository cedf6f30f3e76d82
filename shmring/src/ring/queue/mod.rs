//! Items for many consumers from many producers, each item to exactly one consumer.
//!
//! ```
//! use shmring::ring::queue::Queue;
//!
//! let queue = Queue::options().capacity(8).item_len(100).anonymous()?;
//! let (mut tx, mut rx) = queue.split()?;
//! tx.send(b"one")?;
//! tx.send(b"two")?;
//!
//! let item = rx.recv()?;
//! assert_eq!((&*item, item.attempt()), (&b"one"[..], 1));
//! item.ack()?; // Done: nobody gets it again.
//!
//! drop(rx.recv()?); // Not done: it is handed out again, to whoever asks.
//! let item = rx.recv()?;
//! assert_eq!((&*item, item.attempt()), (&b"two"[..], 2));
//! item.ack()?;
//!
//! drop(tx); // The last producer: the queue is closed once everything is acknowledged.
//! assert_eq!(rx.recv().unwrap_err(), shmring::RecvError::Closed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Any number of processes and threads take part, and come and go: each takes an end of its own by
//! [`Queue::producer`] or [`Queue::consumer`]. A process that forks gives its children ends as well:
//! one that a child uses becomes another end there.
//!
//! # What is promised
//!
//! - An item whose `send` or `commit` returned is delivered. It is handed out until somebody
//!   acknowledges it: *at least once*, and [`Item::attempt`] counts. A consumer that dies loses
//!   nothing, and one that is killed between its work and its `ack` has done the work twice.
//! - Items come in the order in which they were committed, so those of one producer in its order.
//!   An item that is handed out again stands behind those that were committed meanwhile.
//! - What a producer had half written when it died is skipped, and counted.
//! - Nobody waits for a process that is slow or stopped, and nothing is taken from it: the slots
//!   that it writes or reads are its own until it goes on, and the others use the rest.
//!
//! Values that serde can serialize, with blocks in them, go through a [`port`].
//!
//! README.md in this folder draws the protocol and argues for it.

mod asleep;
mod consumer;
mod geometry;
mod lists;
#[cfg(all(test, shmring_loom))]
mod loom_models;
pub mod port;
mod producer;
mod run;
mod seats;
mod slots;
mod source;
mod stats;
mod words;

#[cfg(all(test, not(shmring_loom)))]
mod corrupt;
#[cfg(all(test, not(shmring_loom)))]
mod model;
#[cfg(all(test, not(shmring_loom)))]
mod port_tests;
#[cfg(all(test, not(shmring_loom)))]
mod properties;
#[cfg(all(test, not(shmring_loom)))]
mod tests;
#[cfg(all(test, not(shmring_loom)))]
mod wait_tests;

use std::fmt;

pub(crate) use self::stats::observe;
pub use self::{
    consumer::{Consumer, Item},
    producer::{Batch, Claim, Producer},
    run::{Part, Run},
    stats::Stats,
};
use self::{
    geometry::{Geometry, POLICY},
    lists::Lists,
};
use super::{
    face::{Make, Policy, Ring, Room, Side, ring_verbs},
    iter::counts,
    register_repairers,
};
use crate::{
    error::Result,
    layout::MAX_PARTICIPANTS,
    liveness::Id,
    region::LINE,
    segment::{Kind, Object, Segment},
    sync::Ordering,
    wait::WaitStrategy,
};

/// A queue: from it come its ends. Cloning gives another handle of the same queue.
#[derive(Clone)]
pub struct Queue {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    policy: Policy,
    strategy: WaitStrategy,
}

/// How a queue is made. From [`Queue::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a queue is made with them"]
pub struct Options {
    capacity: usize,
    item_len: usize,
    ends: usize,
    policy: Policy,
    strategy: WaitStrategy,
    prefault: bool,
    replace_stale: bool,
}

impl Options {
    /// How many items it holds, those included that are being written or read: 1 to 2¹⁹. Default
    /// 256.
    pub fn capacity(mut self, slots: usize) -> Options {
        self.capacity = slots;
        self
    }

    /// Bytes of the longest item, below 4 GiB. Default 232.
    ///
    /// Each slot takes this and 24 more, rounded up to 64.
    pub fn item_len(mut self, bytes: usize) -> Options {
        self.item_len = bytes;
        self
    }

    /// How many producers there can be at a time, and how many consumers: 1 to 256. Default 64.
    /// Threads count each, processes that only have a handle do not.
    ///
    /// A queue that is made alone has room for as many processes, and one more, but for 255 at most.
    pub fn ends(mut self, count: usize) -> Options {
        self.ends = count;
        self
    }

    /// What `send` and `claim` do when there is no room, for all producers. Default: they wait.
    pub fn policy(mut self, policy: Policy) -> Options {
        self.policy = policy;
        self
    }

    /// How the ends wait, unless they are told otherwise. Default adaptive.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options {
        self.strategy = strategy;
        self
    }

    /// Touches every page now. Default yes.
    pub fn prefault(mut self, yes: bool) -> Options {
        self.prefault = yes;
        self
    }

    /// How many bytes it takes of a segment, at most.
    ///
    /// # Errors
    ///
    /// [`crate::Error::BadParameters`].
    pub fn len_in_segment(&self) -> Result<usize> {
        // It begins on a multiple of two lines.
        Ok(self.geometry()?.1 + 2 * LINE)
    }

    fn geometry(&self) -> Result<(Geometry, usize)> {
        Geometry::new(self.capacity, self.item_len, self.ends)
    }
}

impl Queue {
    /// Begins to describe a queue.
    pub fn options() -> Options {
        Options {
            capacity: 256,
            item_len: 232,
            ends: 64,
            policy: Policy::default(),
            strategy: WaitStrategy::default(),
            prefault: true,
            replace_stale: false,
        }
    }

    /// Takes a producer's end.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoPlace`] when there are as many producers as there can be ([`Options::ends`]), or
    /// as many processes as the segment takes.
    pub fn producer(&self) -> Result<Producer> {
        Producer::take(self.clone())
    }

    /// Takes a consumer's end.
    ///
    /// # Errors
    ///
    /// As [`Queue::producer`], of consumers.
    pub fn consumer(&self) -> Result<Consumer> {
        Consumer::take(self.clone())
    }

    /// Takes an end of each kind.
    ///
    /// # Errors
    ///
    /// As [`Queue::producer`] and [`Queue::consumer`].
    pub fn split(&self) -> Result<(Producer, Consumer)> {
        Ok((self.producer()?, self.consumer()?))
    }

    /// How many items it holds.
    pub fn capacity(&self) -> usize {
        self.geometry.slots
    }

    /// Bytes of the longest item.
    pub fn max_len(&self) -> usize {
        self.geometry.item_len
    }

    /// What its producers do when there is no room.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What has gone through, and what is in it now.
    pub fn stats(&self) -> Stats {
        Stats::read(&self.segment.0.region, &self.geometry)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("object", &self.object.index)
            .field("stats", &self.stats())
            .finish()
    }
}

impl Make for Options {
    type Ring = Queue;

    fn room(&self) -> Result<Room> {
        let len = self.len_in_segment()?;
        // What cannot be was refused by now.
        Ok(Room {
            len,
            participants: (2 * self.ends + 1).min(MAX_PARTICIPANTS),
            objects: 1,
            prefault: self.prefault,
            replace_stale: self.replace_stale,
        })
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    fn make_in(self, segment: &Segment) -> Result<Queue> {
        let (geometry, size) = self.geometry()?;
        let object = segment.add(Kind::Queue, size, |object| {
            let geometry = Geometry { base: object.offset, ..geometry };
            let region = &segment.0.region;
            geometry.write(region);
            let policy = u64::from(self.policy.number());
            region.u64(object.offset + POLICY).store(policy, Ordering::Relaxed);
            Lists::new(region, &geometry).fill();
            Ok(())
        })?;
        Queue::attach(segment, object.index, self.strategy)
    }
}

/// Gives back what a dead participant held in a queue.
pub(super) fn repair(segment: &Segment, object: Object, dead: Id) {
    // What cannot be attached holds nothing that anybody could use.
    if let Ok(queue) = Queue::attach(segment, object.index, WaitStrategy::default()) {
        queue.repair(dead);
    }
}

impl Ring for Queue {
    const KIND: Kind = Kind::Queue;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Queue> {
        let object = segment.object(index, Kind::Queue)?;
        register_repairers(segment);
        let region = &segment.0.region;
        let geometry = Geometry::read(region, object)?;
        let policy = region.u64(object.offset + POLICY).load(Ordering::Relaxed);
        let policy = u32::try_from(policy).ok().and_then(Policy::from_number);
        let policy = policy.ok_or_else(|| geometry::corrupt("its policy is none that there is"))?;
        Ok(Queue { segment: segment.clone(), object, geometry, policy, strategy })
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

ring_verbs!([] Options => Queue);
counts!([] Queue, |queue| queue.lists().len(Side::Consumer));
counts!([] Consumer, |end| end.ring().len());
