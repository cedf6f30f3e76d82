//! Items of one size, from one producer to one consumer, in order.
//!
//! ```
//! use shmring::ring::cells::Cells;
//!
//! let (mut tx, mut rx) = Cells::<[f32; 4]>::options().capacity(1024).anonymous()?.split()?;
//! tx.send([1.0, 2.0, 3.0, 4.0])?;
//! assert_eq!(rx.recv()?[2], 3.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The items lie in shared memory like in an array, so many at once are a slice, to fill
//! ([`Producer::claim_many`]) and to read ([`Consumer::run`]):
//!
//! ```
//! # use shmring::ring::cells::Cells;
//! let (mut tx, mut rx) = Cells::<u32>::options().capacity(64).anonymous()?.split()?;
//! let mut cells = tx.claim_many(3)?;
//! cells.copy_from_slice(&[1, 2, 3]);
//! cells.commit();
//! let run = rx.run()?;
//! assert_eq!(run.iter().sum::<u32>(), 6);
//! drop(run); // Gives all three cells back at once.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Single items cost about what [records](super::records) of their length do; many at once cost less.
//! README.md in this folder draws the protocol.

mod consumer;
pub(crate) mod cursor;
#[cfg(all(test, shmring_loom))]
mod loom_models;
mod producer;
mod slots;

use std::{fmt, marker::PhantomData};

use bytemuck::Pod;

use self::cursor::{
    CAPACITY, DATA, Geometry, ITEM_ALIGN, ITEM_LEN, LABEL, LABEL_LEN, LABEL_MAX, MOST_ALIGN,
    POLICY, ROLES,
};
pub(crate) use self::{consumer::UnreadConsumer, producer::UnreadProducer};
pub use self::{
    consumer::{Consumer, Item, Run},
    cursor::Stats,
    producer::{Batch, Claim, ClaimMany, Producer},
};
use super::{
    Policy,
    face::{Make, Ring, Room, ring_verbs},
    iter::{Receive, counts, iterates},
    register_repairers,
    role::{Place, Role},
};
use crate::{
    error::{Error, RecvError, Result},
    region::{LINE, Region},
    segment::{Kind, Object, Segment},
    sync::Ordering,
    wait::WaitStrategy,
};

/// A ring of cells: from it come its two ends. Cloning gives another handle of the same ring.
pub struct Cells<T> {
    board: Board,
    items: PhantomData<fn() -> T>,
}

/// A ring of cells of whatever type.
#[derive(Clone)]
pub(crate) struct Board {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    /// Bytes and alignment of an item.
    item: (usize, usize),
    label: String,
    policy: Policy,
    strategy: WaitStrategy,
}

/// How a ring of cells is made. From [`Cells::options`].
#[must_use = "options do nothing until a ring is made with them"]
pub struct Options<T> {
    capacity: usize,
    label: Option<String>,
    policy: Policy,
    strategy: WaitStrategy,
    prefault: bool,
    replace_stale: bool,
    items: PhantomData<fn() -> T>,
}

impl<T: Pod> Options<T> {
    /// How many items there can be at once, rounded up to a power of two. Default 1024.
    pub fn capacity(mut self, items: usize) -> Options<T> {
        self.capacity = items;
        self
    }

    /// What the items are, in at most 64 bytes of text: `"lidar point, version 2"`. Opening with
    /// another one is an error, where both sides say one. Size and alignment are compared in any
    /// case.
    pub fn label(mut self, label: impl Into<String>) -> Options<T> {
        self.label = Some(label.into());
        self
    }

    /// What sending does when the ring is full. Default [`Policy::Wait`].
    pub fn policy(mut self, policy: Policy) -> Options<T> {
        self.policy = policy;
        self
    }

    /// How both ends wait, unless they are told otherwise. Default adaptive.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options<T> {
        self.strategy = strategy;
        self
    }

    /// Touches every page now. Default yes.
    pub fn prefault(mut self, yes: bool) -> Options<T> {
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
        Ok(self.checked()?.1 + 2 * LINE)
    }

    /// Capacity, and bytes of the ring.
    fn checked(&self) -> Result<(usize, usize)> {
        let bad = |reason| Error::BadParameters { action: "create a ring of cells".into(), reason };
        if size_of::<T>() == 0 || align_of::<T>() > MOST_ALIGN {
            let (len, align) = (size_of::<T>(), align_of::<T>());
            return Err(bad(format!(
                "items of {len} bytes, aligned to {align}: at least 1 and at most {MOST_ALIGN} are \
                 possible"
            )));
        }
        if self.label.as_ref().is_some_and(|label| label.len() > LABEL_MAX) {
            return Err(bad(format!("a label of more than {LABEL_MAX} bytes")));
        }
        let capacity = self.capacity.max(1).checked_next_power_of_two();
        let fits = capacity.and_then(|capacity| {
            Some((capacity, Geometry::size(capacity, size_of::<T>(), marks(self.policy))?))
        });
        fits.ok_or_else(|| {
            bad(format!("{} items of {} bytes are too much", self.capacity, size_of::<T>()))
        })
    }
}

/// Whether a ring with this policy says of each item how many were lost before.
fn marks(policy: Policy) -> bool {
    policy == Policy::DropNewest
}

impl<T> Clone for Options<T> {
    fn clone(&self) -> Options<T> {
        let Options { capacity, label, policy, strategy, prefault, replace_stale, items } = self;
        Options {
            capacity: *capacity,
            label: label.clone(),
            policy: *policy,
            strategy: *strategy,
            prefault: *prefault,
            replace_stale: *replace_stale,
            items: *items,
        }
    }
}

impl<T> fmt::Debug for Options<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("capacity", &self.capacity)
            .field("label", &self.label)
            .field("policy", &self.policy)
            .field("strategy", &self.strategy)
            .field("prefault", &self.prefault)
            .finish()
    }
}

impl<T: Pod> Cells<T> {
    /// Begins to describe a ring.
    pub fn options() -> Options<T> {
        Options {
            capacity: 1024,
            label: None,
            policy: Policy::default(),
            strategy: WaitStrategy::default(),
            prefault: true,
            replace_stale: false,
            items: PhantomData,
        }
    }

    /// Takes the producer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it; [`Error::Corrupt`].
    pub fn producer(&self) -> Result<Producer<T>> {
        let place = self.board.producer_place();
        let role = Role::take(&self.board.segment, place, producer::WHAT)?;
        Producer::new(self.clone(), role)
    }

    /// Takes the consumer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it.
    pub fn consumer(&self) -> Result<Consumer<T>> {
        let place = self.board.consumer_place();
        let role = Role::take(&self.board.segment, place, consumer::WHAT)?;
        Ok(Consumer::new(self.clone(), role))
    }

    /// Takes both ends.
    ///
    /// # Errors
    ///
    /// As [`Cells::producer`] and [`Cells::consumer`].
    pub fn split(&self) -> Result<(Producer<T>, Consumer<T>)> {
        Ok((self.producer()?, self.consumer()?))
    }

    /// How many items there can be at once.
    pub fn capacity(&self) -> usize {
        self.board.geometry.capacity()
    }

    /// What the items are, as its maker said; empty when it said nothing.
    pub fn label(&self) -> &str {
        &self.board.label
    }

    /// What sending does when the ring is full.
    pub fn policy(&self) -> Policy {
        self.board.policy
    }

    /// What has gone through, and what is in it now.
    pub fn stats(&self) -> Stats {
        cursor::stats(self.board.region(), self.board.geometry)
    }
}

impl Board {
    #[inline]
    fn region(&self) -> &Region {
        &self.segment.0.region
    }

    fn producer_place(&self) -> Place {
        let base = self.object.offset + ROLES;
        Place { word: base, destination: base + 16 }
    }

    fn consumer_place(&self) -> Place {
        let base = self.object.offset + ROLES;
        Place { word: base + 8, destination: base + 24 }
    }

    /// A ring of these items; its size and alignment must be those that it was made with.
    fn of<T>(self) -> Result<Cells<T>> {
        let expected = (size_of::<T>(), align_of::<T>());
        if self.item != expected {
            let say =
                |(len, align): (usize, usize)| format!("items of {len} bytes, aligned to {align}");
            return Err(Error::WrongType {
                what: format!("ring {} of a segment", self.object.index),
                found: say(self.item),
                expected: say(expected),
            });
        }
        Ok(Cells { board: self, items: PhantomData })
    }
}

/// What stands at the beginning of a ring: copied once and checked.
struct Header {
    geometry: Geometry,
    item: (usize, usize),
    label: String,
    policy: Policy,
}

impl Header {
    fn read(region: &Region, object: Object) -> Result<Header> {
        let corrupt = |reason: &str| Error::Corrupt {
            what: format!("ring {} of a segment", object.index),
            reason: reason.into(),
        };
        if object.size < DATA {
            return Err(corrupt("it is shorter than its header"));
        }
        let get = |at| {
            usize::try_from(region.u64(object.offset + at).load(Ordering::Relaxed))
                .unwrap_or(usize::MAX)
        };
        let policy = region.u32(object.offset + POLICY).load(Ordering::Relaxed);
        let policy = Policy::from_number(policy).ok_or_else(|| corrupt("it has no policy"))?;
        let item = (get(ITEM_LEN), get(ITEM_ALIGN));
        let possible = item.0 > 0
            && item.1.is_power_of_two()
            && item.1 <= MOST_ALIGN
            && item.0.is_multiple_of(item.1);
        if !possible {
            return Err(corrupt("its items are impossible"));
        }
        let capacity = get(CAPACITY);
        let size = capacity
            .is_power_of_two()
            .then(|| Geometry::size(capacity, item.0, marks(policy)))
            .flatten();
        if size.is_none_or(|size| size > object.size) {
            return Err(corrupt("its capacity is impossible"));
        }
        let len = region.u32(object.offset + LABEL_LEN).load(Ordering::Relaxed) as usize;
        let words = (0..LABEL_MAX / 8).flat_map(|word| {
            region.u64(object.offset + LABEL + 8 * word).load(Ordering::Relaxed).to_le_bytes()
        });
        let bytes: Vec<u8> = words.take(len.min(LABEL_MAX)).collect();
        let label = String::from_utf8(bytes).map_err(|_| corrupt("its label is no text"))?;
        let geometry = Geometry::new(object.offset, capacity, item.0, marks(policy));
        Ok(Header { geometry, item, label, policy })
    }

    fn write<T>(region: &Region, offset: usize, options: &Options<T>, capacity: usize) {
        let put = |at, value: usize| {
            region.u64(offset + at).store(value as u64, Ordering::Relaxed);
        };
        put(CAPACITY, capacity);
        put(ITEM_LEN, size_of::<T>());
        put(ITEM_ALIGN, align_of::<T>());
        region.u32(offset + POLICY).store(options.policy.number(), Ordering::Relaxed);
        let label = options.label.as_deref().unwrap_or_default().as_bytes();
        region.u32(offset + LABEL_LEN).store(label.len() as u32, Ordering::Relaxed);
        for (word, bytes) in label.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            let at = offset + LABEL + 8 * word;
            region.u64(at).store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
    }
}

/// What an onlooker sees of a ring, also where memory may only be read.
pub(crate) fn observe(region: &Region, object: Object) -> Result<Stats> {
    Ok(cursor::stats(region, Header::read(region, object)?.geometry))
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Cells<T> {
        Cells { board: self.board.clone(), items: PhantomData }
    }
}

impl<T: Pod> fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells")
            .field("object", &self.board.object.index)
            .field("label", &self.board.label)
            .field("stats", &self.stats())
            .finish()
    }
}

impl<T: Pod> Make for Options<T> {
    type Ring = Cells<T>;

    fn room(&self) -> Result<Room> {
        let len = self.checked()?.1 + 4 * LINE;
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

    fn make_in(self, segment: &Segment) -> Result<Cells<T>> {
        let (capacity, size) = self.checked()?;
        let object = segment.add(Kind::Cells, size, |object| {
            Header::write(&segment.0.region, object.offset, &self, capacity);
            Ok(())
        })?;
        Cells::attach(segment, object.index, self.strategy)
    }

    fn suits(&self, ring: &Cells<T>) -> Result<()> {
        match &self.label {
            Some(label) if !ring.label().is_empty() && label != ring.label() => {
                Err(Error::WrongType {
                    what: format!("ring {} of a segment", ring.board.object.index),
                    found: format!("cells of {:?}", ring.label()),
                    expected: format!("cells of {label:?}"),
                })
            }
            _ => Ok(()),
        }
    }
}

impl Ring for Board {
    const KIND: Kind = Kind::Cells;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Board> {
        let object = segment.object(index, Kind::Cells)?;
        register_repairers(segment);
        let Header { geometry, item, label, policy } = Header::read(&segment.0.region, object)?;
        Ok(Board { segment: segment.clone(), object, geometry, item, label, policy, strategy })
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

impl<T: Pod> Ring for Cells<T> {
    const KIND: Kind = Kind::Cells;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Cells<T>> {
        Board::attach(segment, index, strategy)?.of()
    }

    fn segment(&self) -> &Segment {
        &self.board.segment
    }

    fn number(&self) -> u32 {
        self.board.object.index
    }

    fn strategy(&self) -> WaitStrategy {
        self.board.strategy
    }
}

ring_verbs!([T: Pod] Options<T> => Cells<T>);
counts!([T: Pod] Cells<T>, |ring| ring.stats().used as usize);
counts!([T: Pod] Consumer<T>, |end| end.ring().len());
iterates!([T: Pod] Consumer<T>);

impl<T: Pod> Receive for Consumer<T> {
    type Received = T;
    type Error = RecvError;

    #[inline]
    fn receive(&mut self, wait: bool) -> Result<T, RecvError> {
        Ok(*if wait { self.recv()? } else { self.try_recv()? })
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests;
