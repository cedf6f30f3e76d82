//! The protocol of a pool's control words; README.md beside this file draws it and argues for it.
//!
//! Nothing here knows of processes, payload or waiting: every access goes through [`Memory`], so
//! that the exhaustive model and loom run this very code.

use crate::{
    fault::fault,
    region::{LINE, Region},
    sync::{Ordering, fence},
};

/// Control words by byte offset.
pub(super) trait Memory {
    /// Acquire.
    fn load(&self, at: usize) -> u64;
    /// Release.
    fn store(&self, at: usize, value: u64);
    /// Acquire and Release when it succeeds; gives what is there when it does not.
    fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64>;
    /// Wrapping; Acquire and Release. Gives what was there.
    fn add(&self, at: usize, delta: u64) -> u64;
    /// Acquire and Release.
    fn set_bits(&self, at: usize, bits: u64);
    /// Acquire and Release.
    fn clear_bits(&self, at: usize, bits: u64);
    /// Sequentially consistent.
    fn fence(&self);
}

impl Memory for Region {
    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.u64(at).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, at: usize, value: u64) {
        self.u64(at).store(value, Ordering::Release);
    }

    #[inline]
    fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        self.u64(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    #[inline]
    fn add(&self, at: usize, delta: u64) -> u64 {
        self.u64(at).fetch_add(delta, Ordering::AcqRel)
    }

    #[inline]
    fn set_bits(&self, at: usize, bits: u64) {
        self.u64(at).fetch_or(bits, Ordering::AcqRel);
    }

    #[inline]
    fn clear_bits(&self, at: usize, bits: u64) {
        self.u64(at).fetch_and(!bits, Ordering::AcqRel);
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// How many blocks one message can carry.
pub const MAX_BLOCKS: usize = 31;
/// A swap that fails was beaten by somebody who made progress. Whoever loses so often is lied to.
const TRIES: usize = 1 << 16;

// In the object.
pub(super) const LAST: usize = 64;
pub(super) const LOANS: usize = 72;
pub(super) const REPAIRED: usize = 80;
/// A bit for each participant that waits for a block.
pub(super) const WAITING: usize = 96;
const BITMAP: usize = 128;
// In a carrier's entry.
pub(super) const WHO: usize = 0;
pub(super) const PEER: usize = 8;
const JOURNAL_LEN: usize = 8 + 8 * MAX_BLOCKS;
const PUT_JOURNAL: usize = LINE;
const GET_JOURNAL: usize = PUT_JOURNAL + JOURNAL_LEN.next_multiple_of(LINE);
const CARRIER_LEN: usize = GET_JOURNAL + JOURNAL_LEN.next_multiple_of(LINE);
// In a block's entry.
const WORD: usize = 0;
pub(super) const LENGTH: usize = 8;
const HOLDS: usize = 16;

/// Where things are in a pool; constant, and checked once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) base: usize,
    pub(super) blocks: usize,
    pub(super) block_len: usize,
    pub(super) participants: usize,
    pub(super) carriers: usize,
}

impl Geometry {
    fn bitmap(&self, block: usize) -> usize {
        self.base + BITMAP + block / 64 * 8
    }

    pub(super) fn carrier(&self, carrier: usize) -> usize {
        debug_assert!(carrier < self.carriers);
        self.base
            + BITMAP
            + (self.blocks.div_ceil(64) * 8).next_multiple_of(LINE)
            + carrier * CARRIER_LEN
    }

    /// The first carrier's byte among the holds; carriers begin with a word of their own.
    fn first_carrier(&self) -> usize {
        self.participants.next_multiple_of(8)
    }

    fn control_len(&self) -> usize {
        let holds = self.first_carrier() + (2 * self.carriers).next_multiple_of(8);
        (HOLDS + holds).next_multiple_of(LINE)
    }

    fn controls(&self) -> usize {
        self.carrier(0) + self.carriers * CARRIER_LEN
    }

    pub(super) fn control(&self, block: usize) -> usize {
        debug_assert!(block < self.blocks);
        self.controls() + block * self.control_len()
    }

    fn stride(&self) -> usize {
        self.block_len.next_multiple_of(LINE)
    }

    pub(super) fn payload(&self, block: usize) -> usize {
        self.control(0) + self.blocks * self.control_len() + block * self.stride()
    }

    /// Bytes of the whole object; `None` when they do not fit into an address space.
    pub(super) fn size(&self) -> Option<usize> {
        let payload = self.block_len.checked_next_multiple_of(LINE)?.checked_mul(self.blocks)?;
        let controls = self.control_len().checked_mul(self.blocks)?;
        let before = (self.blocks / 8).checked_add(self.carriers * CARRIER_LEN + 1024)?;
        controls.checked_add(before)?.checked_add(payload).filter(|all| *all < 1 << 48)?;
        Some(self.payload(0) - self.base + self.blocks * self.stride())
    }
}

/// A block's life: which block, and the generation of its loan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Handle {
    pub(super) block: u32,
    pub(super) generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    Loaned,
    Shared,
    /// Only a liar writes it. Such a block is never used again.
    Broken,
}

/// The word of a block, copied once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

const GENERATIONS: u32 = 1 << 22;

impl Word {
    pub(super) fn state(self) -> State {
        match self.0 >> 8 & 3 {
            0 => State::Free,
            1 => State::Loaned,
            2 => State::Shared,
            _ => State::Broken,
        }
    }

    pub(super) fn owner(self) -> usize {
        (self.0 & 0xff) as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 10) as u32 % GENERATIONS
    }

    pub(super) fn is_shared(self, generation: u32) -> bool {
        self.state() == State::Shared && self.generation() == generation
    }

    pub(super) fn is_loan(self, me: usize, generation: u32) -> bool {
        self.state() == State::Loaned && self.owner() == me && self.generation() == generation
    }

    /// The next version, in another state.
    fn next(self, state: State, owner: usize, generation: u32) -> Word {
        let version = (self.0 >> 32).wrapping_add(1) << 32;
        let state = match state {
            State::Free => 0,
            State::Loaned => 1 << 8,
            State::Shared => 2 << 8,
            State::Broken => 3 << 8,
        };
        Word(version | u64::from(generation % GENERATIONS) << 10 | state | owner as u64 & 0xff)
    }

    fn next_generation(self) -> u32 {
        ((self.generation() + 1) % GENERATIONS).max(1)
    }
}

/// Why a block could not be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotHeld {
    /// The handle has survived its block.
    Stale,
    /// The counter is at its end: the block is held 255 times by this row.
    TooMany,
}

/// A block that a carrier took, with the value of `put` that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Put {
    pub(super) block: u32,
    pub(super) seq: u8,
}

impl Put {
    fn to_word(self) -> u64 {
        1 << 63 | u64::from(self.seq) << 32 | u64::from(self.block)
    }

    fn from_word(word: u64) -> Option<Put> {
        (word >> 63 == 1).then_some(Put { block: word as u32, seq: (word >> 32) as u8 })
    }
}

/// Which end of a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Put,
    Got,
}

/// The control words of one pool.
pub(super) struct Words<'a, M> {
    memory: &'a M,
    geometry: &'a Geometry,
}

impl<'a, M: Memory> Words<'a, M> {
    pub(super) fn new(memory: &'a M, geometry: &'a Geometry) -> Words<'a, M> {
        Words { memory, geometry }
    }

    /// Marks all blocks free, in fresh memory of zeros.
    pub(super) fn fill(&self) {
        for block in 0..self.geometry.blocks {
            self.memory.set_bits(self.geometry.bitmap(block), 1 << (block % 64));
        }
    }

    fn word_at(&self, block: u32) -> usize {
        self.geometry.control(block as usize) + WORD
    }

    pub(super) fn word(&self, block: u32) -> Word {
        Word(self.memory.load(self.word_at(block)))
    }

    fn change(&self, block: u32, from: Word, to: Word) -> Result<(), Word> {
        self.memory.swap_if(self.word_at(block), from.0, to.0).map_err(Word)
    }

    // Loans.

    /// Loans a free block to participant `me`.
    pub(super) fn loan(&self, me: usize) -> Option<Handle> {
        let last = self.memory.load(self.geometry.base + LAST);
        let last = (last as u32).checked_sub(1).filter(|at| (*at as usize) < self.geometry.blocks);
        if let Some(handle) = last.and_then(|block| self.loan_this(block, me)) {
            return Some(handle);
        }
        (0..self.geometry.blocks).step_by(64).find_map(|first| {
            let mut bits = self.memory.load(self.geometry.bitmap(first));
            while bits != 0 {
                let block = first + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if block >= self.geometry.blocks {
                    break;
                }
                if let Some(handle) = self.loan_this(block as u32, me) {
                    return Some(handle);
                }
                self.clear_bit(block as u32);
            }
            None
        })
    }

    fn loan_this(&self, block: u32, me: usize) -> Option<Handle> {
        let word = self.word(block);
        if word.state() != State::Free {
            return None;
        }
        let generation = word.next_generation();
        self.change(block, word, word.next(State::Loaned, me, generation)).ok()?;
        fault!("block.loan.claimed");
        self.clear_bit(block);
        self.memory.add(self.geometry.base + LOANS, 1);
        Some(Handle { block, generation })
    }

    fn clear_bit(&self, block: u32) {
        let (at, bit) = (self.geometry.bitmap(block as usize), 1 << (block % 64));
        self.memory.clear_bits(at, bit);
        // It may have been freed, and the bit set, before we cleared it.
        if self.word(block).state() == State::Free {
            self.memory.set_bits(at, bit);
        }
    }

    fn set_free(&self, block: u32) {
        self.memory.set_bits(self.geometry.bitmap(block as usize), 1 << (block % 64));
        self.memory.store(self.geometry.base + LAST, u64::from(block) + 1);
    }

    /// Makes a filled loan readable; `me` then holds it once.
    pub(super) fn freeze(&self, me: usize, loan: Handle) -> Result<(), NotHeld> {
        self.count(loan.block, me)?;
        fault!("block.freeze.counted");
        for _ in 0..TRIES {
            let word = self.word(loan.block);
            if !word.is_loan(me, loan.generation) {
                break;
            }
            let shared = word.next(State::Shared, 0, loan.generation);
            if self.change(loan.block, word, shared).is_ok() {
                fault!("block.freeze.shared");
                return Ok(());
            }
        }
        self.release(me, loan.block);
        Err(NotHeld::Stale)
    }

    /// Gives a loan back. Tells whether the block is free now.
    pub(super) fn cancel(&self, me: usize, loan: Handle) -> bool {
        let word = self.word(loan.block);
        let freed = word.is_loan(me, loan.generation)
            && self.change(loan.block, word, word.next(State::Free, 0, loan.generation)).is_ok();
        if freed {
            fault!("block.free.freed");
            self.set_free(loan.block);
        }
        freed
    }

    // Holds of participants.

    /// Rule H for participant `me`.
    pub(super) fn hold(&self, me: usize, handle: Handle) -> Result<(), NotHeld> {
        self.count(handle.block, me)?;
        fault!("block.hold.counted");
        let held = self.confirm(handle);
        if held.is_err() {
            self.release(me, handle.block);
        }
        fault!("block.hold.held");
        held
    }

    /// The second half of rule H.
    fn confirm(&self, handle: Handle) -> Result<(), NotHeld> {
        let mut word = self.word(handle.block);
        for _ in 0..TRIES {
            if !word.is_shared(handle.generation) {
                break;
            }
            match self.change(handle.block, word, word.next(State::Shared, 0, handle.generation)) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(NotHeld::Stale)
    }

    /// Lowers `me`'s count by one; rule F. Tells whether the block was freed.
    pub(super) fn release(&self, me: usize, block: u32) -> bool {
        let left = self.row(block, me, |count| count.checked_sub(1));
        fault!("block.release.counted");
        match left {
            Some(0) => self.free(block),
            _ => false,
        }
    }

    fn count(&self, block: u32, me: usize) -> Result<(), NotHeld> {
        self.row(block, me, |count| count.checked_add(1)).map(|_| ()).ok_or(NotHeld::TooMany)
    }

    /// Changes a participant's count; `None` when `f` refuses.
    fn row(&self, block: u32, me: usize, f: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        let holds = self.geometry.control(block as usize) + HOLDS;
        self.byte(holds + me / 8 * 8, me % 8 * 8, f)
    }

    fn byte(&self, at: usize, shift: usize, f: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        let mut word = self.memory.load(at);
        for _ in 0..TRIES {
            let count = f((word >> shift) as u8)?;
            let new = word & !(0xff << shift) | u64::from(count) << shift;
            if new == word {
                return Some(count);
            }
            match self.memory.swap_if(at, word, new) {
                Ok(()) => return Some(count),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Rule F.
    pub(super) fn free(&self, block: u32) -> bool {
        // SYNC lowered: of two that lower the last two counters, one sees both.
        self.memory.fence();
        for _ in 0..TRIES {
            let word = self.word(block);
            if word.state() != State::Shared || self.is_held(block) {
                return false;
            }
            let free = word.next(State::Free, 0, word.generation());
            if self.change(block, word, free).is_ok() {
                fault!("block.free.freed");
                self.set_free(block);
                return true;
            }
        }
        false
    }

    fn is_held(&self, block: u32) -> bool {
        let holds = self.geometry.control(block as usize) + HOLDS;
        let carriers = holds + self.geometry.first_carrier();
        let end = carriers + (2 * self.geometry.carriers).next_multiple_of(8);
        let differ = |word: u64| (word ^ word >> 8) & 0x00ff_00ff_00ff_00ff;
        (holds..carriers).step_by(8).any(|at| self.memory.load(at) != 0)
            || (carriers..end).step_by(8).any(|at| differ(self.memory.load(at)) != 0)
    }

    // Carriers.

    fn end_at(&self, carrier: usize, block: u32, end: End) -> (usize, usize) {
        let byte = self.geometry.first_carrier()
            + 2 * carrier
            + match end {
                End::Put => 0,
                End::Got => 1,
            };
        (self.geometry.control(block as usize) + HOLDS + byte / 8 * 8, byte % 8 * 8)
    }

    /// What one end has counted of a block.
    pub(super) fn counted(&self, carrier: usize, block: u32, end: End) -> u8 {
        let (at, shift) = self.end_at(carrier, block, end);
        (self.memory.load(at) >> shift) as u8
    }

    /// Sets what one end has counted; only that end does. Without rule F.
    fn set(&self, carrier: usize, block: u32, end: End, value: u8) -> bool {
        let (at, shift) = self.end_at(carrier, block, end);
        let changed = self.counted(carrier, block, end) != value;
        changed && self.byte(at, shift, |_| Some(value)).is_some()
    }

    /// Rule H for a carrier, by its sending end, which holds the block otherwise.
    pub(super) fn put(&self, carrier: usize, handle: Handle) -> Result<Put, NotHeld> {
        let before = self.counted(carrier, handle.block, End::Put);
        let put = Put { block: handle.block, seq: before.wrapping_add(1) };
        if put.seq == self.counted(carrier, handle.block, End::Got) {
            return Err(NotHeld::TooMany);
        }
        self.set(carrier, handle.block, End::Put, put.seq);
        fault!("port.send.put");
        match self.confirm(handle) {
            Ok(()) => Ok(put),
            Err(error) => {
                self.take_back(carrier, Put { block: handle.block, seq: before });
                Err(error)
            }
        }
    }

    /// Sets `put` back to what it was before; rule F.
    pub(super) fn take_back(&self, carrier: usize, before: Put) -> bool {
        self.set(carrier, before.block, End::Put, before.seq) && self.free(before.block)
    }

    /// The receiving end has taken a block, or lets go of it; rule F, which finds at once that the
    /// taker holds it.
    pub(super) fn got(&self, carrier: usize, put: Put) -> bool {
        let changed = self.set(carrier, put.block, End::Got, put.seq);
        fault!("port.recv.got");
        changed && self.free(put.block)
    }

    /// Empties a carrier, by one of its ends. Gives how many blocks became free.
    pub(super) fn empty(&self, carrier: usize, end: End) -> usize {
        (0..self.geometry.blocks as u32)
            .filter(|block| {
                let other = match end {
                    End::Put => End::Got,
                    End::Got => End::Put,
                };
                let value = self.counted(carrier, *block, other);
                self.set(carrier, *block, end, value) && self.free(*block)
            })
            .count()
    }

    // Posts: ends that several threads of a process use at once, so they count and do not set.

    /// Rule H for a post, by a sender who holds the block otherwise.
    pub(super) fn post(&self, carrier: usize, handle: Handle) -> Result<(), NotHeld> {
        let (at, shift) = self.end_at(carrier, handle.block, End::Put);
        let got = self.counted(carrier, handle.block, End::Got);
        self.byte(at, shift, |put| Some(put.wrapping_add(1)).filter(|put| *put != got))
            .ok_or(NotHeld::TooMany)?;
        fault!("block.post.put");
        self.confirm(handle).inspect_err(|_| {
            self.take_post_back(carrier, handle.block);
        })
    }

    /// It was not sent after all; rule F. A post that was emptied meanwhile, since its receiver
    /// died, does not hold it any more.
    pub(super) fn take_post_back(&self, carrier: usize, block: u32) -> bool {
        let (at, shift) = self.end_at(carrier, block, End::Put);
        self.byte(at, shift, |put| {
            (put != self.counted(carrier, block, End::Got)).then(|| put.wrapping_sub(1))
        });
        self.free(block)
    }

    /// The receiver of a post has taken a block, which it holds itself now.
    pub(super) fn take_post(&self, carrier: usize, block: u32) {
        let (at, shift) = self.end_at(carrier, block, End::Got);
        self.byte(at, shift, |got| Some(got.wrapping_add(1)));
        fault!("block.post.got");
    }

    /// The receiver of a post does not want a block of it; rule F. One that was emptied meanwhile
    /// does not hold it any more.
    pub(super) fn let_go_of_post(&self, carrier: usize, block: u32) -> bool {
        let (at, shift) = self.end_at(carrier, block, End::Got);
        self.byte(at, shift, |got| {
            (got != self.counted(carrier, block, End::Put)).then(|| got.wrapping_add(1))
        });
        self.free(block)
    }

    // Journals.

    fn journal(&self, carrier: usize, end: End) -> usize {
        self.geometry.carrier(carrier)
            + match end {
                End::Put => PUT_JOURNAL,
                End::Got => GET_JOURNAL,
            }
    }

    /// Writes down what an end is about to do at a position (a multiple of 8) of its ring: for
    /// `Put`, the counts before; for `Got`, the counts after. At most [`MAX_BLOCKS`].
    pub(super) fn write_journal(
        &self,
        carrier: usize,
        end: End,
        position: u64,
        puts: impl Iterator<Item = Put>,
    ) {
        let journal = self.journal(carrier, end);
        let mut places = (1..=MAX_BLOCKS).map(|place| journal + 8 * place);
        for (put, at) in puts.zip(&mut places) {
            self.memory.store(at, put.to_word());
        }
        if let Some(at) = places.next() {
            self.memory.store(at, 0);
        }
        self.memory.store(journal, position | 1);
    }

    /// What was written down has been done.
    pub(super) fn close_journal(&self, carrier: usize, end: End) {
        self.memory.store(self.journal(carrier, end), 0);
    }

    /// A new holder of an end, or its discarder, finishes or undoes what its predecessor had
    /// begun. `reached` is where the ring is now: the position of the next record to be published,
    /// or that of the first one not released. Gives how many blocks became free.
    pub(super) fn recover(&self, carrier: usize, end: End, reached: u64) -> usize {
        let journal = self.journal(carrier, end);
        let position = self.memory.load(journal);
        if position == 0 {
            return 0;
        }
        let position = position & !7;
        let entries: Vec<Put> = (1..=MAX_BLOCKS)
            .map_while(|place| Put::from_word(self.memory.load(journal + 8 * place)))
            .filter(|put| (put.block as usize) < self.geometry.blocks)
            .collect();
        let freed = match end {
            // Published are the records before `reached`. The first count noted of a block is
            // the right one, so it is set last.
            End::Put if position >= reached => {
                entries.iter().rev().filter(|before| self.take_back(carrier, **before)).count()
            }
            End::Got if position <= reached => {
                entries.iter().filter(|put| self.got(carrier, **put)).count()
            }
            _ => 0,
        };
        self.close_journal(carrier, end);
        freed
    }

    // Repair.

    /// Gives back what a dead participant held. Idempotent. Gives how many blocks became free.
    pub(super) fn repair(&self, dead: usize) -> usize {
        let mut freed = 0;
        for block in 0..self.geometry.blocks as u32 {
            // Its count first: a loan that it was freezing is still marked as its own then.
            self.row(block, dead, |_| Some(0));
            fault!("block.repair.counted");
            let word = self.word(block);
            match word.state() {
                State::Loaned if word.owner() == dead => {
                    let free = word.next(State::Free, 0, word.generation());
                    if self.change(block, word, free).is_ok() {
                        fault!("block.repair.freed");
                        self.set_free(block);
                        freed += 1;
                    }
                }
                // Also what it did not hold any more: it may have died before it freed it.
                State::Shared => freed += usize::from(self.free(block)),
                // And what it freed without setting the bit.
                State::Free => {
                    let (at, bit) = (self.geometry.bitmap(block as usize), 1 << (block % 64));
                    if self.memory.load(at) & bit == 0 {
                        self.memory.set_bits(at, bit);
                    }
                }
                _ => {}
            }
        }
        self.memory.add(self.geometry.base + REPAIRED, freed as u64);
        freed
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::block) fn word(word: u64) -> Word {
        Word(word)
    }
}
