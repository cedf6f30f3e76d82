//! How a protocol reaches its control words: that of blocks, and that of queues.

use crate::{region::Region, sync::Ordering};

/// Control words by byte offset.
pub(crate) trait Memory {
    /// Sequentially consistent.
    fn load(&self, at: usize) -> u64;
    /// Release.
    fn store(&self, at: usize, value: u64);
    /// Sequentially consistent when it succeeds; gives what is there when it does not.
    fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64>;
    /// Wrapping; sequentially consistent. Gives what was there.
    fn add(&self, at: usize, delta: u64) -> u64;
    /// Sequentially consistent.
    fn set_bits(&self, at: usize, bits: u64);
    /// Sequentially consistent.
    fn clear_bits(&self, at: usize, bits: u64);
    /// Between changes and loads that must not pass them.
    fn fence(&self);
    /// Something there is about to be changed.
    fn prefetch(&self, _at: usize) {}
}

impl Memory for Region {
    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.u64(at).load(Ordering::SeqCst)
    }

    #[inline]
    fn store(&self, at: usize, value: u64) {
        self.u64(at).store(value, Ordering::Release);
    }

    #[inline]
    fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        self.u64(at).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).map(|_| ())
    }

    #[inline]
    fn add(&self, at: usize, delta: u64) -> u64 {
        self.u64(at).fetch_add(delta, Ordering::SeqCst)
    }

    #[inline]
    fn set_bits(&self, at: usize, bits: u64) {
        self.u64(at).fetch_or(bits, Ordering::SeqCst);
    }

    #[inline]
    fn clear_bits(&self, at: usize, bits: u64) {
        self.u64(at).fetch_and(!bits, Ordering::SeqCst);
    }

    #[inline]
    fn fence(&self) {
        // All changes but stores, and all loads, are in one order already. To loom they are not: it
        // takes them for Acquire and Release, and knows fences.
        #[cfg(shmring_loom)]
        crate::sync::fence(Ordering::SeqCst);
    }

    #[inline]
    fn prefetch(&self, at: usize) {
        self.prefetch_for_writing(at);
    }
}
