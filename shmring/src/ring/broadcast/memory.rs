//! Where things are in a broadcast ring, and what a record's header says.

use crate::{
    error::Result as Outcome,
    region::{LINE, Region},
    ring::{Policy, role::Place},
    segment::Object,
    sync::Ordering,
};

// Offsets within the object.
const CAPACITY: usize = 0;
const PLACES: usize = 8;
const POLICY: usize = 16;
const PRODUCER: usize = 128;
pub(super) const TAIL: usize = 256;
pub(super) const SENT: usize = 264;
pub(super) const DROPPED: usize = 272;
pub(super) const LOST: usize = 280;
pub(super) const LAST: usize = 288;
pub(super) const OLDEST: usize = 384;
pub(super) const CHANGED: usize = 512;
pub(super) const SLEEPERS: usize = 520;
const TABLE: usize = 640;
const PLACE_LEN: usize = 2 * LINE;
// Offsets within a place.
pub(super) const KIND: usize = 16;
pub(super) const CURSOR: usize = LINE;
pub(super) const EXPECTED: usize = LINE + 8;

/// A header, and what a record is rounded up to.
pub(super) const WORD: u64 = 8;
/// What stands before a payload: a header and a sequence number.
const HEAD: u64 = 2 * WORD;
pub(super) const LEAST_CAPACITY: usize = 256;
/// Lengths have 32 bits, and pads can be as long as the ring.
pub(super) const MOST_CAPACITY: usize = 1 << 31;
/// The sleepers are one word.
pub(super) const MOST_PLACES: usize = 64;
/// No position and no number gets this far: it was written by a liar.
const BEYOND: u64 = 1 << 62;

/// Where a ring lies; constant and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    pub(crate) base: usize,
    pub(crate) capacity: usize,
    pub(crate) places: usize,
}

impl Geometry {
    /// Bytes of an object with so many places and so much capacity.
    pub(super) fn len(capacity: usize, places: usize) -> usize {
        TABLE + places * PLACE_LEN + capacity
    }

    /// Writes the constants into a new object.
    pub(super) fn write(self, region: &Region, policy: Policy) {
        let put = |at, value| region.u64(self.base + at).store(value, Ordering::Relaxed);
        put(CAPACITY, self.capacity as u64);
        put(PLACES, self.places as u64);
        put(POLICY, u64::from(policy.number()));
    }

    /// Reads the constants of an object of `size` bytes at `base`.
    pub(super) fn read(region: &Region, base: usize, size: usize) -> Option<(Geometry, Policy)> {
        if size < TABLE {
            return None;
        }
        let get = |at| region.u64(base + at).load(Ordering::Relaxed);
        let capacity = usize::try_from(get(CAPACITY)).ok().filter(|capacity| {
            capacity.is_power_of_two() && (LEAST_CAPACITY..=MOST_CAPACITY).contains(capacity)
        })?;
        let places = usize::try_from(get(PLACES))
            .ok()
            .filter(|places| (1..=MOST_PLACES).contains(places))?;
        let policy = Policy::from_number(u32::try_from(get(POLICY)).ok()?)?;
        let fits = Geometry::len(capacity, places) <= size;
        fits.then_some((Geometry { base, capacity, places }, policy))
    }

    pub(super) fn producer(self) -> Place {
        let base = self.base + PRODUCER;
        Place { word: base, destination: base + 8 }
    }

    /// A consumer's role. `index` is one of the places.
    pub(super) fn consumer(self, index: usize) -> Place {
        let base = self.place(index);
        Place { word: base, destination: base + 8 }
    }

    /// Where a place of the table begins.
    pub(super) fn place(self, index: usize) -> usize {
        debug_assert!(index < self.places);
        self.base + TABLE + index * PLACE_LEN
    }

    /// The longest payload of a record: with the pad that may be before it, it fits into a ring that
    /// has nothing else.
    pub(super) fn max_len(self) -> usize {
        self.capacity / 2 - HEAD as usize
    }

    /// Where a position is, as an offset in the region.
    pub(super) fn at(self, position: u64) -> usize {
        let data = self.base + TABLE + self.places * PLACE_LEN;
        data + (position & (self.capacity as u64 - 1)) as usize
    }

    /// Bytes from a position to the end of the lap.
    pub(super) fn rest(self, position: u64) -> u64 {
        self.capacity as u64 - (position & (self.capacity as u64 - 1))
    }
}

/// Bytes that a record of `len` takes.
pub(super) fn size(len: usize) -> u64 {
    HEAD + (len as u64).next_multiple_of(WORD)
}

/// What stands in a header's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Bytes of the caller.
    Bytes = 1,
    /// Nothing: the rest of the lap.
    Pad = 2,
}

fn tag(position: u64) -> u64 {
    (position / WORD) & 0x00ff_ffff
}

pub(super) fn header(kind: Kind, position: u64, len: u64) -> u64 {
    (kind as u64) << 56 | tag(position) << 32 | len
}

/// What a peer wrote contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Corrupt;

/// What a header says, copied once and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Header {
    /// A payload of so many bytes.
    Bytes(usize),
    Pad,
}

/// Gives what is at a position and where it ends; `Err` when the header contradicts itself.
pub(super) fn read_header(
    geometry: Geometry,
    position: u64,
    word: u64,
) -> Result<(Header, u64), Corrupt> {
    let len = word as u32 as usize;
    let rest = geometry.rest(position);
    if word >> 32 & 0x00ff_ffff != tag(position) {
        return Err(Corrupt);
    }
    let (header, size) = match word >> 56 {
        1 if len <= geometry.max_len() && size(len) <= rest => (Header::Bytes(len), size(len)),
        2 if len as u64 + WORD == rest => (Header::Pad, rest),
        _ => return Err(Corrupt),
    };
    Ok((header, position + size))
}

/// A position that a peer wrote, if it can be one.
pub(super) fn position(word: u64) -> Result<u64, Corrupt> {
    if word.is_multiple_of(WORD) && word < BEYOND { Ok(word) } else { Err(Corrupt) }
}

/// The number of an item as a peer wrote it, if it can be one.
pub(super) fn number(word: u64) -> Result<u64, Corrupt> {
    if word < BEYOND { Ok(word) } else { Err(Corrupt) }
}

/// The number of the next item: those that were sent, and those that were dropped.
pub(super) fn newest(region: &Region, geometry: Geometry) -> Result<u64, Corrupt> {
    let get = |at| number(region.u64(geometry.base + at).load(Ordering::Relaxed));
    number(get(SENT)? + get(DROPPED)?)
}

/// What an onlooker sees; each number is a moment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Items published since the ring was made.
    pub sent: u64,
    /// Items that the producer dropped, because the policy says so.
    pub dropped: u64,
    /// Lossless consumers that died and were dropped.
    pub lost_consumers: u64,
    /// Places taken now.
    pub consumers: u64,
    /// Bytes that can be read now, headers included: what is new, and history.
    pub used: u64,
    /// Bytes there are.
    pub capacity: u64,
}

pub(super) fn stats(region: &Region, geometry: Geometry) -> Stats {
    let get = |at| region.acquire(geometry.base + at);
    let capacity = geometry.capacity as u64;
    let oldest = get(OLDEST);
    Stats {
        sent: get(SENT),
        dropped: get(DROPPED),
        lost_consumers: get(LOST),
        consumers: super::table::taken(region, geometry),
        used: get(TAIL).saturating_sub(oldest).min(capacity),
        capacity,
    }
}

/// The same of an object that may be mapped for reading only.
pub(crate) fn observe(region: &Region, object: Object) -> Outcome<Stats> {
    let constants = Geometry::read(region, object.offset, object.size);
    let (geometry, _) = constants.ok_or_else(impossible)?;
    Ok(stats(region, geometry))
}

/// What is said of a ring whose constants contradict each other.
pub(super) fn impossible() -> crate::Error {
    super::corrupt("its constants are impossible")
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::layout::page;

    #[test]
    fn the_page_says_the_same() {
        let ring = [
            ("capacity", CAPACITY),
            ("places", PLACES),
            ("policy", POLICY),
            ("producer", PRODUCER),
            ("producer_destination", PRODUCER + 8),
            ("tail", TAIL),
            ("sent", SENT),
            ("dropped", DROPPED),
            ("lost", LOST),
            ("last", LAST),
            ("oldest", OLDEST),
            ("changed", CHANGED),
            ("sleepers", SLEEPERS),
            ("end", TABLE),
        ];
        page::says("Broadcast ring", &ring);
        let geometry = Geometry { base: 0, capacity: 256, places: 2 };
        let Place { word, destination } = geometry.producer();
        assert_eq!((word, destination), (PRODUCER, PRODUCER + 8));
        let Place { word, destination } = geometry.consumer(0);
        let place = [
            ("role", word - TABLE),
            ("destination", destination - TABLE),
            ("kind", KIND),
            ("cursor", CURSOR),
            ("expected", EXPECTED),
            ("end", geometry.place(1) - TABLE),
        ];
        page::says("Place of a broadcast ring", &place);
        assert_eq!(geometry.at(0), TABLE + 2 * PLACE_LEN, "the data are behind the places");
        let record = [("header", 0), ("sequence", WORD as usize), ("value", HEAD as usize)];
        page::says("Record of a broadcast ring", &record);
    }
}
