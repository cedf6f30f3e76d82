//! Who sleeps until there is a newer value: a bit per participant. README.md beside this file has
//! the argument.

use crate::{
    fault::fault,
    region::Region,
    sync::{AtomicU64, Ordering, fence},
};

const WORDS: usize = 4;

/// The words of an object in which sleepers say that they sleep.
#[derive(Clone, Copy)]
pub(super) struct Sleepers<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Sleepers<'a> {
    pub(super) fn at(region: &'a Region, offset: usize) -> Sleepers<'a> {
        Sleepers { words: region.u64s(offset, WORDS) }
    }

    /// Steps S4a and S4b: the participant with this index, below 256, is about to look for the
    /// last time.
    pub(super) fn add(self, index: usize) {
        // SYNC sleeper: Release here, Acquire in `take`; who takes the bit sees the doorbell armed.
        self.words[index / 64].fetch_or(1 << (index % 64), Ordering::Release);
        fault!("latest.asleep");
        // SYNC asleep: pairs with the fence in `take`; one of the two sees the other.
        fence(Ordering::SeqCst);
    }

    /// Step W4 after a value was published: calls `ring` with the index of each that sleeps.
    #[inline]
    pub(super) fn take(self, ring: impl FnMut(usize)) {
        // SYNC asleep: pairs with the fence in `add`.
        fence(Ordering::SeqCst);
        if self.words.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
            self.take_all(ring);
        }
    }

    #[cold]
    fn take_all(self, mut ring: impl FnMut(usize)) {
        for (number, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::Acquire);
            fault!("latest.taken");
            while bits != 0 {
                ring(number * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}
