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

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use self::cursor::{CAPACITY, DATA, Geometry, HEAD, LEAST_CAPACITY, MOST_CAPACITY, ROLES};
pub use self::{
    consumer::{Consumer, Record, Records as Run},
    cursor::Stats,
    producer::{Batch, Claim, Producer},
};
use super::role::{Place, Role};
use crate::{
    block,
    error::{Error, Result},
    os,
    region::LINE,
    segment::{Kind, Object, Segment},
    sync::Ordering,
    transfer::{self, NoteKind},
    wait::WaitStrategy,
};

/// A ring of records: from it come its two ends. Cloning gives another handle of the same ring.
#[derive(Clone)]
pub struct Records {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    strategy: WaitStrategy,
}

/// How a ring of records is made. From [`Records::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a ring is made with them"]
pub struct Options {
    capacity: usize,
    strategy: WaitStrategy,
    prefault: bool,
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

    /// Makes a ring in an anonymous segment of its own.
    ///
    /// # Errors
    ///
    /// As [`crate::segment::Options::anonymous`].
    pub fn anonymous(self) -> Result<Records> {
        let capacity = self.checked_capacity()?;
        let segment = Segment::options()
            .len(capacity + DATA + 256)
            .participants(8)
            .objects(1)
            .prefault(self.prefault)
            .anonymous()?;
        self.create_in(&segment)
    }

    /// Makes a named ring, `/dev/shm/shmring.NAME.ring`, which unrelated processes open by
    /// [`Records::open`]. The name goes when the process that made it lets go of the ring.
    ///
    /// # Errors
    ///
    /// As [`crate::segment::Options::create_with`].
    pub fn create(self, name: &str) -> Result<Records> {
        let capacity = self.checked_capacity()?;
        let options = Segment::options().len(capacity + DATA + 256).participants(8).objects(1);
        let options = options.prefault(self.prefault);
        Ok(options.create_with(name, |segment| self.create_in(segment))?.1)
    }

    /// Makes a ring in a segment that may hold others.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`]; [`Error::OutOfMemory`] and [`Error::NoPlace`] when the segment
    /// has no room for it.
    pub fn create_in(self, segment: &Segment) -> Result<Records> {
        let capacity = self.checked_capacity()?;
        let object = segment.add(Kind::Records, capacity + DATA, |object| {
            let word = segment.0.region.u64(object.offset + CAPACITY);
            word.store(capacity as u64, Ordering::Relaxed);
            Ok(())
        })?;
        Records::attach(segment, object.index, self.strategy)
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
        Options { capacity: 1 << 16, strategy: WaitStrategy::default(), prefault: true }
    }

    /// Opens a named ring that exists.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`]; [`Error::WrongType`] when it holds something else.
    pub fn open(name: &str) -> Result<Records> {
        Records::attach(&Segment::open(name)?, 0, WaitStrategy::default())
    }

    /// Opens a named ring as soon as it is there.
    ///
    /// # Errors
    ///
    /// As [`Segment::open_or_wait`].
    pub fn open_or_wait(name: &str, timeout: Duration) -> Result<Records> {
        Records::attach(&Segment::open_or_wait(name, timeout)?, 0, WaitStrategy::default())
    }

    /// Its number among the objects of its segment.
    pub fn number(&self) -> u32 {
        self.object.index
    }

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Records> {
        let object = segment.object(index, Kind::Records)?;
        // Roles are taken over by whoever comes next, and nothing else is held: see ring/README.md.
        segment.register_repairer(Kind::Records, |_, _, _| ());
        let corrupt = || Error::Corrupt {
            what: format!("ring {index} of a segment"),
            reason: "its capacity is impossible".into(),
        };
        if object.size < DATA {
            return Err(corrupt());
        }
        let capacity = segment.0.region.u64(object.offset + CAPACITY).load(Ordering::Relaxed);
        let capacity = usize::try_from(capacity)
            .ok()
            .filter(|capacity| capacity.is_power_of_two())
            .filter(|capacity| (LEAST_CAPACITY..=MOST_CAPACITY).contains(capacity))
            .filter(|capacity| capacity + DATA <= object.size)
            .ok_or_else(corrupt)?;
        let geometry = Geometry { base: object.offset, capacity };
        Ok(Records { segment: segment.clone(), object, geometry, strategy })
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

    /// What has gone through, and what is in it now.
    pub fn stats(&self) -> Stats {
        cursor::stats(&self.segment.0.region, self.geometry)
    }

    /// Its number among the objects of its segment.
    pub(crate) fn object(&self) -> u32 {
        self.object.index
    }

    /// The same, and where it says how far it is released: so pools know it.
    pub(crate) fn as_carrier(&self) -> block::Ring {
        block::Ring { object: self.object(), head: self.geometry.base + HEAD }
    }

    /// The segment it lies in.
    pub fn segment(&self) -> &Segment {
        &self.segment
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

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("object", &self.object.index)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A ring as it stands in a message.
#[derive(Serialize, Deserialize)]
struct Sent {
    segment: Segment,
    object: u32,
    strategy: u8,
}

impl Sent {
    fn from(ring: &Records) -> Sent {
        let strategy = match ring.strategy {
            WaitStrategy::Adaptive => 0,
            WaitStrategy::Spin => 1,
            WaitStrategy::Park => 2,
        };
        Sent { segment: ring.segment.clone(), object: ring.object.index, strategy }
    }

    fn ring(&self) -> Result<Records> {
        let strategy = match self.strategy {
            1 => WaitStrategy::Spin,
            2 => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        };
        Records::attach(&self.segment, self.object, strategy)
    }
}

impl Serialize for Records {
    /// Travels only inside a message that a port sends.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Sent::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Records, D::Error> {
        Sent::deserialize(deserializer)?.ring().map_err(de::Error::custom)
    }
}

/// An end that is sent in a message leaves this process once the message does.
macro_rules! end_travels {
    ($end:ident, $place:ident) => {
        impl $end {
            fn receive(ring: Records, from: u64) -> Result<$end> {
                let role = Role::receive(&ring.segment, ring.$place(), from, $end::WHAT)?;
                $end::new(ring, role)
            }
        }

        impl Serialize for $end {
            /// Travels only inside a message that a port sends, and leaves this process with it.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let from = self.role().send_away().map_err(ser::Error::custom)?;
                let sent = (Sent::from(self.ring()), from);
                let note = postcard::to_stdvec(&sent).map_err(ser::Error::custom)?;
                transfer::note($end::WHAT, NoteKind::$end, &note).map_err(ser::Error::custom)?;
                sent.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $end {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$end, D::Error> {
                let (sent, from) = <(Sent, u64)>::deserialize(deserializer)?;
                sent.ring().and_then(|ring| $end::receive(ring, from)).map_err(de::Error::custom)
            }
        }
    };
}

end_travels!(Producer, producer_place);
end_travels!(Consumer, consumer_place);

/// An end that came in a message. If nobody has taken it out of the message when this is dropped,
/// it is closed, so that nobody waits for it.
pub(crate) struct UnreadEnd {
    ring: Records,
    from: u64,
    kind: NoteKind,
    forks: u32,
}

impl UnreadEnd {
    /// Reads a note; gives the notes after it.
    pub(crate) fn read(kind: NoteKind, notes: &[u8]) -> Option<(UnreadEnd, &[u8])> {
        let ((sent, from), rest) = postcard::take_from_bytes::<(Sent, u64)>(notes).ok()?;
        let ring = sent.ring().ok()?;
        Some((UnreadEnd { ring, from, kind, forks: os::fork_generation() }, rest))
    }
}

impl Drop for UnreadEnd {
    fn drop(&mut self) {
        if self.forks != os::fork_generation() {
            return; // The parent's.
        }
        let ring = self.ring.clone();
        // Refused where it was taken. One that is received is closed as it is dropped.
        match self.kind {
            NoteKind::Producer => drop(Producer::receive(ring, self.from)),
            NoteKind::Consumer => drop(Consumer::receive(ring, self.from)),
            NoteKind::Block => {}
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests;
