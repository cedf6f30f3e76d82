//! The table of consumers: whose cursor holds the producer back, and who sleeps.

use super::memory::{CHANGED, CURSOR, Corrupt, EXPECTED, Geometry, KIND, LOST, SLEEPERS, position};
use crate::{
    fault::fault,
    region::Region,
    ring::role::{self, State},
    sync::{Ordering, fence},
};

/// How a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Lossless = 1,
    Lossy = 2,
}

/// One place of the table.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    region: &'a Region,
    at: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn of(region: &'a Region, geometry: Geometry, index: usize) -> Entry<'a> {
        Entry { region, at: geometry.place(index) }
    }

    pub(super) fn role(self) -> u64 {
        self.region.u64(self.at).load(Ordering::Acquire)
    }

    pub(super) fn kind(self) -> Option<Kind> {
        let number = self.region.u64(self.at + KIND).load(Ordering::Acquire);
        [Kind::Lossless, Kind::Lossy].into_iter().find(|kind| *kind as u64 == number)
    }

    pub(super) fn set_kind(self, kind: Kind) {
        self.region.u64(self.at + KIND).store(kind as u64, Ordering::Release);
    }

    /// The cursor and the number of the item there.
    pub(super) fn cursor(self) -> Result<(u64, u64), Corrupt> {
        // SYNC released: Acquire here, Release in `set_cursor`.
        let cursor = self.region.u64(self.at + CURSOR).load(Ordering::Acquire);
        let expected = self.region.u64(self.at + EXPECTED).load(Ordering::Relaxed);
        Ok((position(cursor)?, expected))
    }

    #[inline]
    pub(super) fn set_cursor(self, cursor: u64, expected: u64) {
        self.region.u64(self.at + EXPECTED).store(expected, Ordering::Relaxed);
        fault!("broadcast.counted");
        // SYNC released: Release here, Acquire in `cursor` and `holds`.
        self.region.u64(self.at + CURSOR).store(cursor, Ordering::Release);
    }

    /// The cursor, if it counts for a producer whose tail is there.
    #[inline]
    pub(super) fn holds(self, capacity: usize, tail: u64) -> Option<u64> {
        let held = matches!(role::read(self.role()), State::Held(_) | State::Transit(_));
        if !held || self.kind() != Some(Kind::Lossless) {
            return None;
        }
        let cursor = self.region.u64(self.at + CURSOR).load(Ordering::Acquire);
        (cursor.saturating_add(capacity as u64) >= tail).then_some(cursor)
    }
}

/// What a producer knows of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// The smallest cursor that counts; the largest number when there is none.
    pub(super) from: u64,
    /// Whose it is.
    pub(super) slowest: usize,
    changed: u64,
}

impl View {
    /// Looks at all places.
    pub(super) fn of(region: &Region, geometry: Geometry, tail: u64) -> View {
        let mut view = View { from: u64::MAX, slowest: 0, changed: changed(region, geometry) };
        for index in 0..geometry.places {
            let cursor = Entry::of(region, geometry, index).holds(geometry.capacity, tail);
            if let Some(cursor) = cursor.filter(|cursor| *cursor < view.from) {
                (view.from, view.slowest) = (cursor, index);
            }
        }
        view
    }

    /// Whether nobody has joined since.
    pub(super) fn is_current(&self, region: &Region, geometry: Geometry) -> bool {
        self.changed == changed(region, geometry)
    }
}

fn changed(region: &Region, geometry: Geometry) -> u64 {
    // SYNC joined: Acquire here, Release in `raise`; the cursor is seen with it.
    region.u64(geometry.base + CHANGED).load(Ordering::Acquire)
}

/// Step J3.
pub(super) fn raise(region: &Region, geometry: Geometry) {
    // SYNC joined: Release here, Acquire in `changed`.
    region.u64(geometry.base + CHANGED).fetch_add(1, Ordering::Release);
}

/// Counts a lossless consumer that died.
pub(super) fn count_lost(region: &Region, geometry: Geometry) {
    region.u64(geometry.base + LOST).fetch_add(1, Ordering::Relaxed);
}

/// How many places are taken.
pub(super) fn taken(region: &Region, geometry: Geometry) -> u64 {
    let taken = |index: &usize| {
        let word = region.acquire(geometry.consumer(*index).word);
        matches!(role::read(word), State::Held(_) | State::Transit(_))
    };
    (0..geometry.places).filter(taken).count() as u64
}

/// Steps S4a and S4b, before the last look of a consumer that is about to sleep.
pub(super) fn announce(region: &Region, geometry: Geometry, index: usize) {
    let (word, bit) = (region.u64(geometry.base + SLEEPERS), 1 << index);
    if word.load(Ordering::Relaxed) & bit == 0 {
        // SYNC sleeper: Release here, Acquire in `take_sleepers`; the doorbell is seen armed.
        word.fetch_or(bit, Ordering::Release);
    }
    fault!("broadcast.announced");
    // SYNC asleep: pairs with the fence in `take_sleepers`.
    fence(Ordering::SeqCst);
}

/// A new producer does not know whom its predecessor was about to ring.
pub(super) fn all_may_sleep(region: &Region, geometry: Geometry) {
    region.u64(geometry.base + SLEEPERS).fetch_or(u64::MAX, Ordering::Relaxed);
}

/// Steps R2 and R2a, after something was published: whom to ring, as bits.
#[inline]
pub(super) fn take_sleepers(region: &Region, geometry: Geometry) -> u64 {
    // SYNC asleep: pairs with the fence in `announce`.
    fence(Ordering::SeqCst);
    let word = region.u64(geometry.base + SLEEPERS);
    if word.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    let bits = word.swap(0, Ordering::AcqRel);
    fault!("broadcast.sleepers.taken");
    bits
}

/// The places in a set of bits; a liar may have set others.
pub(super) fn places_in(mut bits: u64, geometry: Geometry) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (index < 64).then_some(index)
    })
    .filter(move |index| *index < geometry.places)
}
