//! What a segment holds: rings and pools, each an object with a kind and a place.

use std::fmt;
#[cfg(test)]
use std::ops::Range;

use super::Segment;
use crate::{
    error::{Error, Result},
    fault::fault,
    layout::{self, Layout},
    region::{LINE, Region},
    sync::Ordering,
};

/// What an object of a segment is. The numbers stand in segments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// A ring of records.
    Records = 1,
    /// A pool of blocks.
    Pool = 2,
    /// A ring of cells.
    Cells = 3,
    /// A broadcast ring.
    Broadcast = 4,
    /// A queue.
    Queue = 5,
    /// A latest value.
    Latest = 6,
    /// Pools of several block lengths as one.
    Pools = 7,
    /// A board of words and bells.
    Board = 8,
}

impl Kind {
    pub(crate) fn from_number(number: u32) -> Option<Kind> {
        use Kind::{Board, Broadcast, Cells, Latest, Pool, Pools, Queue, Records};
        let all = [Records, Pool, Cells, Broadcast, Queue, Latest, Pools, Board];
        all.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Whether participants hold something of such an object that must be given back when they die.
    /// Roles, places and seats of the other kinds are taken over by whoever comes next.
    pub(crate) fn is_held(self) -> bool {
        matches!(self, Kind::Pool | Kind::Queue)
    }

    pub(crate) fn name(number: u32) -> String {
        match Kind::from_number(number) {
            Some(kind) => kind.to_string(),
            None => format!("an object of unknown kind {number}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Records => "a ring of records",
            Kind::Pool => "a pool of blocks",
            Kind::Cells => "a ring of cells",
            Kind::Broadcast => "a broadcast ring",
            Kind::Queue => "a queue",
            Kind::Latest => "a latest value",
            Kind::Pools => "a set of pools of blocks",
            Kind::Board => "a board",
        })
    }
}

const READY: u64 = 2;
const BUILDING: u64 = 1;

/// An object of a segment: its number and where it is, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    pub(crate) index: u32,
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

#[cfg(test)]
impl Object {
    pub(crate) fn range(self) -> Range<usize> {
        self.offset..self.offset + self.size
    }
}

impl Segment {
    /// Makes an object: takes its place, lets `fill` write it (the memory is zero), publishes it.
    ///
    /// A maker that dies in between leaves a place that is never used again; nobody sees it.
    pub(crate) fn add(
        &self,
        kind: Kind,
        size: usize,
        fill: impl FnOnce(Object) -> Result<()>,
    ) -> Result<Object> {
        let (region, layout) = (&self.0.region, &self.0.layout);
        let no_room = |free: u64| Error::OutOfMemory {
            what: format!("{} in a segment", Kind::name(kind as u32)),
            needed: size as u64,
            available: free,
        };
        let no_place = || Error::NoPlace {
            action: format!("make {} in a segment", Kind::name(kind as u32)),
            limit: layout.objects,
        };
        let owner = u64::from(self.me()?.0) << 32;
        // What is reserved does not come back.
        let first = taken(region, layout).count();
        if first == layout.objects {
            return Err(no_place());
        }
        let next_free = region.u64(layout::NEXT_FREE);
        let mut start = next_free.load(Ordering::Relaxed);
        let offset = loop {
            let offset = start.next_multiple_of(2 * LINE as u64).max(layout.data_start() as u64);
            let end = offset
                .checked_add(size as u64)
                .filter(|end| *end <= layout.size as u64)
                .ok_or_else(|| no_room((layout.size as u64).saturating_sub(offset)))?;
            match next_free.compare_exchange(start, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break offset as usize,
                Err(now) => start = now,
            }
        };
        fault!("segment.add.reserved");
        let index = (first..layout.objects)
            .find(|index| {
                let state = region.u64(layout.object(*index) + layout::OBJECT_STATE);
                state
                    .compare_exchange(0, owner | BUILDING, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            })
            .ok_or_else(no_place)?;
        let entry = layout.object(index);
        region.u32(entry + layout::OBJECT_KIND).store(kind as u32, Ordering::Relaxed);
        region.u64(entry + layout::OBJECT_OFFSET).store(offset as u64, Ordering::Relaxed);
        region.u64(entry + layout::OBJECT_SIZE).store(size as u64, Ordering::Relaxed);
        let object = Object { index: index as u32, offset, size };
        fill(object)?;
        fault!("segment.add.filled");
        // SYNC object: Release here, Acquire in `object` and `ready`.
        region.u64(entry + layout::OBJECT_STATE).store(owner | READY, Ordering::Release);
        Ok(object)
    }

    /// Finds an object by its number; what its entry says is copied once, then checked.
    pub(crate) fn object(&self, index: u32, expected: Kind) -> Result<Object> {
        object(&self.0.region, &self.0.layout, index, expected)
    }

    /// Bytes and places that are left for objects now.
    pub(crate) fn room(&self) -> (u64, usize) {
        let (region, layout) = (&self.0.region, &self.0.layout);
        let start = region.u64(layout::NEXT_FREE).load(Ordering::Relaxed);
        let start = start.max(layout.data_start() as u64);
        let places = layout.objects - taken(region, layout).count();
        ((layout.size as u64).saturating_sub(start), places)
    }

    /// Numbers of the objects that are ready, with their kinds; `None` for a kind we do not know.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (u32, Option<Kind>)> + '_ {
        ready(&self.0.region, &self.0.layout).map(|(index, kind)| (index, Kind::from_number(kind)))
    }
}

/// Finds an object by its number. Also where memory may only be read.
pub(crate) fn object(
    region: &Region,
    layout: &Layout,
    index: u32,
    expected: Kind,
) -> Result<Object> {
    let what = || format!("object {index} of a segment");
    let entry = (index as usize) < layout.objects;
    let entry = entry.then(|| layout.object(index as usize)).ok_or_else(|| Error::Corrupt {
        what: what(),
        reason: format!("the segment has {} places", layout.objects),
    })?;
    // SYNC object: Acquire here, Release in `add`.
    let state = region.acquire(entry + layout::OBJECT_STATE);
    if state & 0xff != READY {
        return Err(Error::NotASegment { what: what(), reason: "it is not ready".into() });
    }
    let kind = region.u32(entry + layout::OBJECT_KIND).load(Ordering::Relaxed);
    if kind != expected as u32 {
        let (found, expected) = (Kind::name(kind), Kind::name(expected as u32));
        return Err(Error::WrongType { what: what(), found, expected });
    }
    let offset = region.u64(entry + layout::OBJECT_OFFSET).load(Ordering::Relaxed);
    let size = region.u64(entry + layout::OBJECT_SIZE).load(Ordering::Relaxed);
    let inside = offset >= layout.data_start() as u64
        && offset.is_multiple_of(LINE as u64)
        && offset.checked_add(size).is_some_and(|end| end <= layout.size as u64);
    if !inside {
        return Err(Error::Corrupt {
            what: what(),
            reason: "it does not lie in the segment".into(),
        });
    }
    Ok(Object { index, offset: offset as usize, size: size as usize })
}

/// Numbers of the objects that are ready, with the numbers of their kinds. Also where memory may
/// only be read.
pub(crate) fn ready<'a>(
    region: &'a Region,
    layout: &'a Layout,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    taken(region, layout).filter_map(move |(index, state)| {
        let kind = region.u32(layout.object(index) + layout::OBJECT_KIND).load(Ordering::Relaxed);
        (state & 0xff == READY).then_some((index as u32, kind))
    })
}

/// The places that are taken, with their states. They are taken from the first on and never given
/// back, so the first free one ends them, and the pages behind it are not touched: each would cost
/// a process that has just started a fault, and the segment memory.
///
/// Of two that are made at once a look may find neither, or the first alone. Whoever was told of an
/// object finds it: its maker saw that all places before it were taken.
fn taken<'a>(region: &'a Region, layout: &'a Layout) -> impl Iterator<Item = (usize, u64)> + 'a {
    // SYNC object: Acquire here, Release in `add`.
    (0..layout.objects)
        .map(|index| (index, region.acquire(layout.object(index) + layout::OBJECT_STATE)))
        .take_while(|(_, state)| *state != 0)
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_again_and_do_not_overlap() {
        let segment = Segment::options().len(4096).objects(2).anonymous().unwrap();
        let one = segment.add(Kind::Records, 100, |_| Ok(())).unwrap();
        let two = segment.add(Kind::Pool, 100, |_| Ok(())).unwrap();
        assert!(one.range().end <= two.range().start);
        assert_eq!(segment.object(one.index, Kind::Records).unwrap(), one);
        assert!(matches!(segment.object(two.index, Kind::Records), Err(Error::WrongType { .. })));
        assert!(matches!(segment.object(7, Kind::Records), Err(Error::Corrupt { .. })));
        assert!(matches!(segment.add(Kind::Pool, 1, |_| Ok(())), Err(Error::NoPlace { .. })));
        assert_eq!(segment.objects().count(), 2);
    }

    #[test]
    fn what_is_made_takes_room() {
        let segment = Segment::options().len(4096).objects(3).anonymous().unwrap();
        let (bytes, places) = segment.room();
        assert!(bytes >= 4096 && places == 3);
        segment.add(Kind::Records, 1000, |_| Ok(())).unwrap();
        let (left, places) = segment.room();
        assert!((bytes - 1000 - 2 * LINE as u64..=bytes - 1000).contains(&left));
        assert_eq!(places, 2);
        segment.0.region.u64(layout::NEXT_FREE).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(segment.room(), (0, 2), "a lie is no room");
    }

    #[test]
    fn a_full_segment_says_so() {
        let segment = Segment::options().len(4096).anonymous().unwrap();
        let error = segment.add(Kind::Pool, 1 << 20, |_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        assert!(segment.add(Kind::Pool, usize::MAX, |_| Ok(())).is_err());
    }

    #[test]
    fn half_made_objects_are_not_seen() {
        let segment = Segment::options().anonymous().unwrap();
        let failed = segment.add(Kind::Pool, 64, |_| Err(Error::OutsidePort { what: "a test" }));
        assert!(failed.is_err());
        assert_eq!(segment.objects().count(), 0);
        assert!(matches!(segment.object(0, Kind::Pool), Err(Error::NotASegment { .. })));
    }
}
