//! A range of memory that several processes, threads or a model's threads share.
//!
//! All pointer arithmetic on shared memory is here, bounds-checked. Control words are handed out
//! as atomics by their byte offset; payload as slices, to those who own it by a claim or a guard.
//! A region is a mapping, or memory on the heap, so that tests and models run the code that
//! production runs. A word used as 32 bits is never used as part of a 64-bit one.

#![allow(unsafe_code)] // Atomics and slices made from shared memory.

#[cfg(any(test, shmring_loom))]
use std::cell::UnsafeCell;
use std::{fmt, ptr::NonNull};

use crate::{
    os::Mapping,
    sync::{AtomicU32, AtomicU64, Ordering, fence},
};

/// What lines are apart: two cache lines, since the processor fetches them in pairs.
pub(crate) const LINE: usize = 64;

#[cfg(any(test, shmring_loom))]
#[repr(align(64))]
struct Chunk(#[allow(dead_code)] UnsafeCell<[u8; LINE]>);

enum Memory {
    Mapped(Mapping),
    #[cfg(any(test, shmring_loom))]
    Heap(#[allow(dead_code)] Box<[Chunk]>),
}

/// Shared memory with a base and a length.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Where the last word of 64 bits may begin. A mapping shorter than that still has a whole page.
    last_word: usize,
    memory: Memory,
    #[cfg(shmring_loom)]
    model: model::Model,
}

// SAFETY: the region hands out only atomics, which may be shared, and payload through unsafe
// functions whose callers own the range.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A region over a whole mapping.
    pub(crate) fn mapped(mapping: Mapping) -> Region {
        Region {
            base: mapping.as_ptr(),
            len: mapping.len(),
            last_word: mapping.len().saturating_sub(8),
            #[cfg(shmring_loom)]
            model: model::Model::new(mapping.len()),
            memory: Memory::Mapped(mapping),
        }
    }

    /// A region of zeros on the heap, rounded up to whole lines.
    #[cfg(any(test, shmring_loom))]
    pub(crate) fn heap(len: usize) -> Region {
        let chunks: Box<[Chunk]> =
            (0..len.div_ceil(LINE).max(1)).map(|_| Chunk(UnsafeCell::new([0; LINE]))).collect();
        let len = chunks.len() * LINE;
        Region {
            base: NonNull::from(&*chunks).cast(),
            len,
            last_word: len - 8,
            #[cfg(shmring_loom)]
            model: model::Model::new(len),
            memory: Memory::Heap(chunks),
        }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Touches every page of a mapping now.
    pub(crate) fn prefault(&self) -> std::io::Result<()> {
        match &self.memory {
            Memory::Mapped(mapping) => mapping.prefault(),
            #[cfg(any(test, shmring_loom))]
            Memory::Heap(_) => Ok(()),
        }
    }

    /// The same for the pages of a part of it.
    pub(crate) fn prefault_range(&self, offset: usize, len: usize) -> std::io::Result<()> {
        match &self.memory {
            Memory::Mapped(mapping) => mapping.prefault_range(offset, len),
            #[cfg(any(test, shmring_loom))]
            Memory::Heap(_) => Ok(()),
        }
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) {
        if offset > self.len || len > self.len - offset {
            outside(offset, len);
        }
    }

    /// The same for a word, with fewer instructions: there are many such looks.
    #[inline]
    fn check_word(&self, offset: usize, len: usize) {
        if offset > self.last_word || offset & (len - 1) != 0 {
            outside(offset, len);
        }
    }

    /// The 32-bit control word at a byte offset.
    ///
    /// # Panics
    ///
    /// Outside of the region or unaligned: offsets come from geometry that was checked at attach.
    #[inline]
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        self.check_word(offset, 4);
        #[cfg(shmring_loom)]
        return self.model.u32(offset);
        // SAFETY: inside of the region, aligned, and control words are only ever atomics.
        #[cfg(not(shmring_loom))]
        unsafe {
            AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast())
        }
    }

    /// The 64-bit control word at a byte offset.
    ///
    /// # Panics
    ///
    /// As [`Region::u32`].
    #[inline]
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        self.check_word(offset, 8);
        #[cfg(shmring_loom)]
        return self.model.u64(offset);
        // SAFETY: inside of the region, aligned, and control words are only ever atomics.
        #[cfg(not(shmring_loom))]
        unsafe {
            AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast())
        }
    }

    /// Reads a 64-bit control word as `Acquire` does, also where the mapping may only be read:
    /// there a relaxed load is all that is sure not to fault.
    ///
    /// # Panics
    ///
    /// As [`Region::u32`].
    #[inline]
    pub(crate) fn acquire(&self, offset: usize) -> u64 {
        let value = self.u64(offset).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    /// The `count` 64-bit words from a byte offset on.
    ///
    /// # Panics
    ///
    /// As [`Region::u32`].
    #[inline]
    pub(crate) fn u64s(&self, offset: usize, count: usize) -> &[AtomicU64] {
        self.check(offset, count.saturating_mul(8));
        if !offset.is_multiple_of(8) {
            outside(offset, 8);
        }
        #[cfg(shmring_loom)]
        return self.model.u64s(offset, count);
        // SAFETY: inside of the region, aligned, and these words are only ever atomics.
        #[cfg(not(shmring_loom))]
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast(), count)
        }
    }

    /// Asks the processor for a line, to write to it soon. Does nothing where it cannot.
    #[inline]
    pub(crate) fn prefetch_for_writing(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.len {
            // Not `_mm_prefetch`: where the target is any x86-64, it makes a hint for reading of this,
            // and the line would have to be asked for twice. Processors that do not know the
            // instruction ignore it.
            // SAFETY: a hint about an address inside of the region; it changes nothing.
            unsafe {
                std::arch::asm!(
                    "prefetchw [{}]",
                    in(reg) self.base.as_ptr().add(offset),
                    options(nostack, preserves_flags, readonly)
                );
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Gets the line of a word that is the caller's and holds nothing, by writing a 0 there. Of a line
    /// that this processor has to read, and others too, a hint alone gets no more.
    #[inline]
    pub(crate) fn take_line(&self, offset: usize) {
        self.u64(offset).store(0, Ordering::Relaxed);
    }

    /// Asks the processor for a line, to read it soon. Does nothing where it cannot.
    #[inline]
    pub(crate) fn prefetch_for_reading(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.len {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint about an address inside of the region; it changes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(offset).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Payload to read.
    ///
    /// # Safety
    ///
    /// Until the slice is gone nobody writes this range: the caller holds what says so.
    ///
    /// # Panics
    ///
    /// Outside of the region.
    #[inline]
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        self.check(offset, len);
        #[cfg(shmring_loom)]
        self.model.read(offset, len);
        // SAFETY: inside of the region; the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }

    /// Payload to write.
    ///
    /// # Safety
    ///
    /// Until the slice is gone nobody else reads or writes this range: the caller holds what says so.
    ///
    /// # Panics
    ///
    /// Outside of the region.
    #[inline]
    #[allow(clippy::mut_from_ref)] // The claim that the caller holds is the exclusive borrow.
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        self.check(offset, len);
        #[cfg(shmring_loom)]
        self.model.write(offset, len);
        // SAFETY: inside of the region; the caller keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), len) }
    }
}

// Apart, so that every access does not prepare the words of the panic.
#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize) -> ! {
    panic!("offset {offset}+{len} outside of a region");
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.memory {
            Memory::Mapped(_) => "mapped",
            #[cfg(any(test, shmring_loom))]
            Memory::Heap(_) => "heap",
        };
        f.debug_struct("Region").field("len", &self.len).field("memory", &kind).finish()
    }
}

/// What loom sees of a region: its own atomics, and a cell per eight bytes of payload that tells
/// it of every access.
#[cfg(shmring_loom)]
mod model {
    use loom::cell::UnsafeCell;

    use crate::sync::{AtomicU32, AtomicU64};

    // All are made with the region: to loom, making one later is a write that races.
    pub(super) struct Model {
        words: Box<[AtomicU32]>,
        longs: Box<[AtomicU64]>,
        payload: Box<[UnsafeCell<()>]>,
    }

    impl Model {
        pub(super) fn new(len: usize) -> Model {
            Model {
                words: (0..len.div_ceil(4)).map(|_| AtomicU32::new(0)).collect(),
                longs: (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect(),
                payload: (0..len.div_ceil(8)).map(|_| UnsafeCell::new(())).collect(),
            }
        }

        pub(super) fn u32(&self, offset: usize) -> &AtomicU32 {
            &self.words[offset / 4]
        }

        pub(super) fn u64(&self, offset: usize) -> &AtomicU64 {
            &self.longs[offset / 8]
        }

        pub(super) fn u64s(&self, offset: usize, count: usize) -> &[AtomicU64] {
            &self.longs[offset / 8..][..count]
        }

        pub(super) fn read(&self, offset: usize, len: usize) {
            for cell in &self.payload[offset / 8..(offset + len).div_ceil(8)] {
                cell.with(|_| ());
            }
        }

        pub(super) fn write(&self, offset: usize, len: usize) {
            for cell in &self.payload[offset / 8..(offset + len).div_ceil(8)] {
                cell.with_mut(|_| ());
            }
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_and_payload_are_the_same_memory() {
        let region = Region::heap(100);
        assert_eq!(region.len(), 128);
        region.u64(64).store(0x0102_0304_0506_0708, Ordering::Relaxed);
        // SAFETY: nobody else has this region.
        let bytes = unsafe { region.bytes(64, 8) };
        assert_eq!(bytes, 0x0102_0304_0506_0708u64.to_ne_bytes());
        // SAFETY: as above.
        unsafe { region.bytes_mut(120, 8).fill(0xff) };
        assert_eq!(region.u64(120).load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "outside of a region")]
    fn nothing_beyond_the_end() {
        Region::heap(64).u32(64);
    }

    #[test]
    fn words_one_by_one_and_together_are_the_same() {
        let region = Region::heap(128);
        region.u64(72).store(7, Ordering::Relaxed);
        let words = region.u64s(64, 8);
        assert_eq!(words[1].load(Ordering::Relaxed), 7);
        assert_eq!((words.len(), region.acquire(72)), (8, 7));
    }

    #[test]
    #[should_panic(expected = "outside of a region")]
    fn no_words_beyond_the_end() {
        Region::heap(64).u64s(8, 8);
    }

    #[test]
    #[should_panic(expected = "outside of a region")]
    fn no_words_that_lie_across() {
        Region::heap(64).u64s(4, 1);
    }

    #[test]
    #[should_panic(expected = "outside of a region")]
    fn no_overflow() {
        let region = Region::heap(64);
        // SAFETY: panics before it makes a slice.
        unsafe { region.bytes(usize::MAX, 2) };
    }
}
