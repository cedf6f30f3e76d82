//! What onlookers see of a queue, those included that map it for reading only.

use super::{
    geometry::{ABORTED, Geometry, LOST, REDELIVERED, SKIPPED},
    lists::Lists,
};
use crate::{
    block::Memory,
    error::Result,
    region::Region,
    ring::face::Side,
    segment::Object,
    sync::{Ordering, fence},
};

/// What an onlooker sees; each number is a moment's. While nobody is killed, `sent` is `acked` and
/// what waits or is being read; each death can shift a count by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Items committed since the queue was made.
    pub sent: u64,
    /// How often an item was handed out.
    pub taken: u64,
    /// Items acknowledged.
    pub acked: u64,
    /// How often an item came back, because its consumer said so or died.
    pub redelivered: u64,
    /// Items that were never committed, because their producer died.
    pub skipped: u64,
    /// Items that were not sent because there was no room
    /// ([`Policy::DropNewest`](crate::ring::Policy::DropNewest)).
    pub lost: u64,
    /// Items that wait now.
    pub waiting: u64,
    /// How many there can be.
    pub capacity: u64,
}

impl Stats {
    pub(super) fn read<M: Memory>(memory: &M, geometry: &Geometry) -> Stats {
        let get = |at| memory.load(geometry.base + at);
        let (redelivered, skipped) = (get(REDELIVERED), get(SKIPPED));
        let lists = Lists::new(memory, geometry);
        let (freed, _) = lists.counts(Side::Producer);
        let (ready, taken) = lists.counts(Side::Consumer);
        let capacity = geometry.slots as u64;
        let never_items = get(ABORTED).wrapping_add(skipped).wrapping_add(capacity);
        Stats {
            sent: ready.saturating_sub(redelivered),
            taken,
            acked: freed.saturating_sub(never_items),
            redelivered,
            skipped,
            lost: get(LOST),
            waiting: lists.len(Side::Consumer) as u64,
            capacity,
        }
    }
}

/// Looks at a queue in memory that may be mapped for reading only.
pub(crate) fn observe(region: &Region, object: Object) -> Result<Stats> {
    Ok(Stats::read(&ReadOnly(region), &Geometry::read(region, object)?))
}

/// Control words that are only looked at: nobody moves a hint.
struct ReadOnly<'a>(&'a Region);

impl Memory for ReadOnly<'_> {
    fn load(&self, at: usize) -> u64 {
        let word = self.0.u64(at).load(Ordering::Relaxed);
        // SYNC looked: Acquire, as a fence: only relaxed loads are certain to be no stores.
        fence(Ordering::Acquire);
        word
    }

    fn store(&self, _at: usize, _value: u64) {}

    fn swap_if(&self, at: usize, _old: u64, _new: u64) -> std::result::Result<(), u64> {
        Err(self.load(at))
    }

    fn add(&self, at: usize, _delta: u64) -> u64 {
        self.load(at)
    }

    fn set_bits(&self, _at: usize, _bits: u64) {}

    fn clear_bits(&self, _at: usize, _bits: u64) {}

    fn fence(&self) {}
}
