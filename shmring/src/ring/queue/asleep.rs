//! Who sleeps: a bit per seat, so that whoever has news looks at one line only. README.md beside this
//! file argues that nobody sleeps beside an item.

use super::geometry::Geometry;
use crate::{
    fault::fault,
    region::Region,
    ring::face::Side,
    sync::{AtomicU64, Ordering, fence},
};

/// The bits of one side of a queue.
#[derive(Clone, Copy)]
pub(super) struct Asleep<'a> {
    pub(super) region: &'a Region,
    pub(super) geometry: &'a Geometry,
    pub(super) side: Side,
}

impl<'a> Asleep<'a> {
    fn bit(self, first: usize, seat: usize) -> (&'a AtomicU64, u64) {
        debug_assert!(seat < self.geometry.seats);
        (self.region.u64(first + seat / 64 * 8), 1 << (seat % 64))
    }

    fn sleeps(self, seat: usize) -> (&'a AtomicU64, u64) {
        self.bit(self.geometry.asleep(self.side), seat)
    }

    fn polls(self, seat: usize) -> (&'a AtomicU64, u64) {
        self.bit(self.geometry.polling(self.side), seat)
    }

    /// Says that a seat's holder is about to sleep; it looks once more before it does.
    pub(super) fn set(self, seat: usize) {
        let (word, bit) = self.sleeps(seat);
        // SYNC armed: Release here, Acquire in `ring_set`; our doorbell is armed.
        word.fetch_or(bit, Ordering::Release);
        // SYNC asleep: pairs with the fence in `wake_one`; one of the two sees the other.
        fence(Ordering::SeqCst);
    }

    /// Says that it does not sleep any more; it looks afterwards whether to wake another.
    pub(super) fn clear(self, seat: usize) {
        let (word, bit) = self.sleeps(seat);
        // SYNC chosen: Acquire here, Release in `choose`.
        word.fetch_and(!bit, Ordering::Acquire);
        // SYNC asleep: as in `set`.
        fence(Ordering::SeqCst);
    }

    /// Says that a seat's holder waits together with other things, and may be busy with one of them
    /// when it is rung. It looks once more before it sleeps.
    pub(super) fn set_polling(self, seat: usize) {
        let (word, bit) = self.polls(seat);
        // SYNC armed: Release here, Acquire in `ring_set`; our doorbell is armed.
        word.fetch_or(bit, Ordering::Release);
        // SYNC asleep: as in `set`.
        fence(Ordering::SeqCst);
    }

    /// Takes off what a dead holder left.
    pub(super) fn forget(self, seat: usize) {
        self.clear(seat);
        let (word, bit) = self.polls(seat);
        word.fetch_and(!bit, Ordering::Relaxed);
    }

    /// After something was listed: lets `ring` wake one of those who sleep, and all who poll. It
    /// tells whether it could.
    #[inline]
    pub(super) fn wake_one(self, mut ring: impl FnMut(usize) -> bool) {
        // SYNC asleep: pairs with the fences in `set`, `set_polling` and `clear`.
        fence(Ordering::SeqCst);
        let is_set = |first| self.words(first).any(|word| word.load(Ordering::Relaxed) != 0);
        if is_set(self.geometry.asleep(self.side)) || is_set(self.geometry.polling(self.side)) {
            self.choose(&mut ring);
        }
    }

    /// Lets `ring` wake all who sleep.
    pub(super) fn wake_all(self, mut ring: impl FnMut(usize) -> bool) {
        self.wake_one(|seat| {
            ring(seat);
            false
        });
    }

    fn words(self, first: usize) -> impl Iterator<Item = &'a AtomicU64> {
        (0..self.geometry.seats.div_ceil(64)).map(move |word| self.region.u64(first + word * 8))
    }

    #[cold]
    fn choose(self, ring: &mut dyn FnMut(usize) -> bool) {
        self.ring_set(self.geometry.polling(self.side), &mut |seat| {
            ring(seat);
            false
        });
        self.ring_set(self.geometry.asleep(self.side), ring);
    }

    /// Takes bits off one by one, until `ring` has woken somebody.
    fn ring_set(self, first: usize, ring: &mut dyn FnMut(usize) -> bool) {
        for (index, word) in self.words(first).enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                bits ^= bit;
                // SYNC chosen: Release here, Acquire in `clear`; what was listed is seen there.
                // SYNC armed: Acquire here.
                if word.fetch_and(!bit, Ordering::AcqRel) & bit == 0 {
                    continue;
                }
                fault!("queue.wake.chosen");
                let seat = index * 64 + bit.trailing_zeros() as usize;
                if seat < self.geometry.seats && ring(seat) {
                    return;
                }
            }
        }
    }
}
