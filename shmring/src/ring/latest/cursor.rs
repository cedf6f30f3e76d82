//! Versions and slots of a latest value. README.md beside this file has the steps.
//!
//! Nothing here knows of processes or waiting: the models and the property tests run this very
//! code on a heap region.

use crate::{
    error::RecvError,
    fault::fault,
    region::{LINE, Region},
    sync::{AtomicU64, Ordering, fence, spin_loop},
};

// Offsets within the object.
pub(super) const LIMIT: usize = 0;
pub(super) const SLOTS: usize = 8;
pub(super) const FORM: usize = 12;
pub(super) const ROLE: usize = 128;
const NEWEST: usize = 256;
const SLEEPERS: usize = 384;
pub(super) const DATA: usize = 512;
// Within a slot.
const STAMP: usize = 0;
const LENGTH: usize = 8;
const VALUE: usize = 16;

const WORD: usize = 8;
pub(super) const LEAST_SLOTS: usize = 2;
pub(super) const MOST_SLOTS: usize = 1024;
pub(super) const MOST_LIMIT: usize = 1 << 30;

/// No version is ever larger: versions count what was written, one by one.
const LAST_VERSION: u64 = 1 << 62;

/// How often a reader that does not wait begins again.
pub(super) const TRIES: usize = 64;

/// Where a latest value lies; constant and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) base: usize,
    pub(super) limit: usize,
    pub(super) slots: usize,
}

impl Geometry {
    /// Bytes of the whole object.
    pub(super) fn size(self) -> usize {
        DATA + self.slots * self.stride()
    }

    fn stride(self) -> usize {
        (VALUE + self.limit).next_multiple_of(LINE)
    }

    fn slot(self, version: u64) -> usize {
        let number = (version % self.slots as u64) as usize;
        self.base + DATA + number * self.stride()
    }

    /// The words that participants set before they sleep.
    pub(super) fn sleepers(self) -> usize {
        self.base + SLEEPERS
    }
}

/// What a peer wrote contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Corrupt;

/// Does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLong;

/// The version of the newest complete value; 0 when there is none.
pub(super) fn newest(region: &Region, geometry: Geometry) -> u64 {
    // SYNC published: Acquire here, Release in `Writer::commit`.
    region.acquire(geometry.base + NEWEST)
}

/// Whether it is worth looking for a version newer than `than`.
#[inline]
pub(super) fn is_newer(region: &Region, geometry: Geometry, than: u64) -> bool {
    region.u64(geometry.base + NEWEST).load(Ordering::Relaxed) > than
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Writer {
    geometry: Geometry,
    newest: u64,
}

/// A slot that is being filled. Readers find it only after it was committed.
#[derive(Debug)]
pub(super) struct Draft {
    version: u64,
    value: usize,
    len: usize,
    /// The word that has begun.
    last: [u8; WORD],
}

impl Draft {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends what does not go beyond the end of a word.
    #[inline]
    fn append(&mut self, words: &[AtomicU64], bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let begun = self.len % WORD;
        if begun == 0 {
            self.last = [0; WORD];
        }
        self.last[begun..begun + bytes.len()].copy_from_slice(bytes);
        words[self.len / WORD].store(u64::from_ne_bytes(self.last), Ordering::Relaxed);
        self.len += bytes.len();
    }
}

impl Writer {
    /// Goes on after the newest complete value.
    pub(super) fn attach(region: &Region, geometry: Geometry) -> Result<Writer, Corrupt> {
        let newest = newest(region, geometry);
        if newest > LAST_VERSION {
            return Err(Corrupt);
        }
        Ok(Writer { geometry, newest })
    }

    /// The version of the value that was last committed.
    pub(super) fn version(&self) -> u64 {
        self.newest
    }

    /// Step W1: takes the slot of the next version, the one that has been readable for longest.
    #[inline]
    pub(super) fn claim(&mut self, region: &Region) -> Draft {
        let version = self.newest + 1;
        let slot = self.geometry.slot(version);
        region.u64(slot + STAMP).store(version, Ordering::Relaxed);
        // SYNC overwritten: pairs with the fence in `Reader::copy`; who reads a word that is
        // written from here on, sees the stamp.
        fence(Ordering::Release);
        fault!("latest.claimed");
        Draft { version, value: slot + VALUE, len: 0, last: [0; WORD] }
    }

    /// Step W2: appends to what was filled in so far.
    #[inline]
    pub(super) fn fill(
        &self,
        region: &Region,
        draft: &mut Draft,
        bytes: &[u8],
    ) -> Result<(), TooLong> {
        if bytes.len() > self.geometry.limit - draft.len {
            return Err(TooLong);
        }
        let words = region.u64s(draft.value, self.geometry.limit.div_ceil(WORD));
        let begun = draft.len % WORD;
        let head = if begun == 0 { 0 } else { bytes.len().min(WORD - begun) };
        let (head, bytes) = bytes.split_at(head);
        draft.append(words, head);
        let (whole, tail) = bytes.as_chunks();
        for (word, bytes) in words[draft.len / WORD..].iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        draft.len += whole.len() * WORD;
        draft.append(words, tail);
        Ok(())
    }

    /// Step W3: makes it the newest value.
    #[inline]
    pub(super) fn commit(&mut self, region: &Region, draft: Draft) {
        region.u64(draft.value - VALUE + LENGTH).store(draft.len as u64, Ordering::Relaxed);
        fault!("latest.filled");
        // SYNC published: Release here, Acquire in `newest`.
        region.u64(self.geometry.base + NEWEST).store(draft.version, Ordering::Release);
        self.newest = draft.version;
        fault!("latest.published");
    }
}

/// Why nothing was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Miss {
    /// There is nothing that new.
    Nothing,
    /// Each copy was overtaken by the writer.
    Outrun,
    Corrupt,
}

impl From<Miss> for RecvError {
    fn from(miss: Miss) -> RecvError {
        match miss {
            Miss::Nothing => RecvError::Empty,
            Miss::Outrun => RecvError::Outrun,
            Miss::Corrupt => RecvError::Corrupt,
        }
    }
}

/// A reader's side: its copy of the value.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    geometry: Geometry,
    /// A value has at least so many bytes; the most is the limit.
    least: usize,
    words: Box<[u64]>,
    len: usize,
    /// The version that was last read; 0 before the first.
    seen: u64,
    /// Versions between the last two that were read.
    missed: u64,
}

impl Reader {
    pub(super) fn new(geometry: Geometry, seen: u64) -> Reader {
        let words = vec![0; geometry.limit.div_ceil(WORD)].into_boxed_slice();
        Reader { geometry, least: 0, words, len: 0, seen, missed: 0 }
    }

    /// Reads only values of this size, where there is one.
    pub(super) fn of_size(self, size: Option<usize>) -> Reader {
        Reader { least: size.unwrap_or(0), ..self }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    /// What was read, directly after that succeeded.
    pub(super) fn value(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// Copies the newest value, if it is newer than `than`.
    #[inline]
    pub(super) fn read(&mut self, region: &Region, than: u64, tries: usize) -> Result<(), Miss> {
        for _ in 0..tries {
            let version = newest(region, self.geometry);
            if version <= than {
                return Err(Miss::Nothing);
            }
            if self.copy(region, version)? {
                let before = std::mem::replace(&mut self.seen, version);
                self.missed = match before {
                    0 => 0,
                    before => version.saturating_sub(before).saturating_sub(1),
                };
                return Ok(());
            }
            spin_loop();
        }
        Err(Miss::Outrun)
    }

    /// Steps R2 to R4. False when it was overwritten meanwhile.
    #[inline]
    fn copy(&mut self, region: &Region, version: u64) -> Result<bool, Miss> {
        let slot = self.geometry.slot(version);
        let len = region.u64(slot + LENGTH).load(Ordering::Relaxed);
        let fits = (self.least as u64..=self.geometry.limit as u64).contains(&len);
        let len = if fits { len as usize } else { 0 };
        let words = len.div_ceil(WORD);
        copy_out(region.u64s(slot + VALUE, words), &mut self.words[..words]);
        fault!("latest.copied");
        // SYNC overwritten: pairs with the fence in `Writer::claim`.
        fence(Ordering::Acquire);
        match region.u64(slot + STAMP).load(Ordering::Relaxed) {
            stamp if stamp > version => Ok(false),
            stamp if stamp < version || !fits => Err(Miss::Corrupt),
            _ => {
                self.len = len;
                Ok(true)
            }
        }
    }
}

#[inline]
fn copy_out(from: &[AtomicU64], to: &mut [u64]) {
    for (from, to) in from.iter().zip(to) {
        *to = from.load(Ordering::Relaxed);
    }
}

#[cfg(all(test, not(shmring_loom)))]
#[path = "cursor_tests.rs"]
mod tests;
