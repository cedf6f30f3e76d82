//! The protocol of a pool's control words: loans, holds of participants, and when a block is free;
//! README.md beside this file draws it and argues for it. What carriers hold is in `flight.rs`.
//!
//! Nothing here knows of processes, payload or waiting: every access goes through [`Memory`], so
//! that the exhaustive model and loom run this very code.

use std::cell::{Cell, RefCell};

use super::{
    geometry::{CARRIERS_USED, Geometry, LAST, LOANS, PARTICIPANTS_USED, WORD},
    memory::Memory,
    word::{Handle, NOBODY, NotHeld, ROUND, State, Word},
};
use crate::fault::fault;

/// A swap that fails was beaten by somebody who made progress. Whoever loses so often is lied to.
pub(super) const TRIES: usize = 1 << 16;

/// What came of letting go of a hold in a row.
enum Left {
    /// It is gone; and whether that freed the block.
    Freed(bool),
    /// The row counts more than one was to let go of.
    More,
    /// The row counts nothing.
    Nothing,
}

/// The control words of one pool.
pub(super) struct Words<'a, M> {
    pub(super) memory: &'a M,
    pub(super) geometry: &'a Geometry,
    /// Where blocks that become free are noted, in the place of [`Words::set_free`].
    freed: Option<&'a RefCell<Vec<u32>>>,
}

impl<'a, M: Memory> Words<'a, M> {
    pub(super) fn new(memory: &'a M, geometry: &'a Geometry) -> Words<'a, M> {
        Words { memory, geometry, freed: None }
    }

    /// The same; what becomes free by them is noted, to [say so](Words::set_all_free) for all at once.
    pub(super) fn noting(self, freed: &'a RefCell<Vec<u32>>) -> Words<'a, M> {
        Words { freed: Some(freed), ..self }
    }

    /// Marks all blocks free, in fresh memory of zeros.
    pub(super) fn fill(&self) {
        for block in 0..self.geometry.blocks {
            self.memory.set_bits(self.geometry.bitmap(block), 1 << (block % 64));
        }
    }

    #[inline]
    pub(super) fn word_at(&self, block: u32) -> usize {
        self.geometry.control(block as usize) + WORD
    }

    #[inline]
    pub(super) fn word(&self, block: u32) -> Word {
        Word(self.memory.load(self.word_at(block)))
    }

    #[inline]
    pub(super) fn change(&self, block: u32, from: Word, to: Word) -> Result<(), Word> {
        self.memory.swap_if(self.word_at(block), from.0, to.0).map_err(Word)
    }

    // Loans.

    /// Loans a free block to participant `me`: the one that was freed last, or the first that is found
    /// by its bit.
    pub(super) fn loan(&self, me: usize) -> Option<Handle> {
        let at = self.geometry.base + LAST;
        let last = self.memory.load(at);
        if let Some(block) = (last as u32).checked_sub(1)
            && (block as usize) < self.geometry.blocks
        {
            if let Some(handle) = self.loan_this(block, me) {
                return Some(handle);
            }
            // Its line is at work elsewhere: nobody looks at it again before the next one is freed.
            self.memory.store(at, 0);
        }
        (0..self.geometry.blocks).step_by(64).find_map(|first| {
            let mut bits = self.memory.load(self.geometry.bitmap(first));
            while bits != 0 {
                let block = first + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if block >= self.geometry.blocks {
                    break;
                }
                // The one that is loaned after this.
                let next = first + bits.trailing_zeros() as usize;
                if bits != 0 && next < self.geometry.blocks {
                    self.memory.prefetch(self.geometry.control(next));
                    self.memory.prefetch(self.geometry.payload(next));
                }
                let loaned = self.loan_this(block as u32, me);
                self.clear_bit(block as u32);
                if loaned.is_some() {
                    return loaned;
                }
            }
            None
        })
    }

    /// Loans this one to participant `me`, if it is free.
    #[inline]
    pub(super) fn loan_this(&self, block: u32, me: usize) -> Option<Handle> {
        let word = self.word(block);
        if word.state() != State::Free {
            return None;
        }
        let generation = word.next_generation();
        self.change(block, word, word.next(State::Loaned, me, generation)).ok()?;
        fault!("block.loan.claimed");
        if u64::from(word.generation()) == ROUND {
            self.memory.add(self.geometry.base + LOANS, ROUND);
        }
        Some(Handle { block, generation })
    }

    /// Loans so far: a block's generation counts them.
    pub(super) fn loans(&self) -> u64 {
        let rounds = self.memory.load(self.geometry.base + LOANS);
        (0..self.geometry.blocks as u32)
            .fold(rounds, |sum, block| sum.wrapping_add(u64::from(self.word(block).generation())))
    }

    fn clear_bit(&self, block: u32) {
        let (at, bit) = (self.geometry.bitmap(block as usize), 1 << (block % 64));
        self.memory.clear_bits(at, bit);
        // It may have been freed, and the bit found set, before we cleared it.
        if self.word(block).state() == State::Free {
            self.memory.set_bits(at, bit);
        }
    }

    /// Says where a free block is. Whoever takes it by `LAST` leaves its bit, so both are often
    /// there already; then their line stays in the caches of all.
    #[inline]
    pub(super) fn set_free(&self, block: u32) {
        match self.freed {
            Some(freed) => freed.borrow_mut().push(block),
            None => self.set_all_free(&[block]),
        }
    }

    /// The same of several; then where the last of them is.
    #[inline]
    pub(super) fn set_all_free(&self, blocks: &[u32]) {
        let Some(last) = blocks.last() else { return };
        for near in blocks.chunk_by(|one, other| one / 64 == other / 64) {
            let bits = near.iter().fold(0, |bits, block| bits | 1 << (block % 64));
            self.set_bits(near[0], bits);
        }
        let (at, last) = (self.geometry.base + LAST, u64::from(*last) + 1);
        if self.memory.load(at) != last {
            self.memory.store(at, last);
        }
    }

    pub(super) fn set_bit(&self, block: u32) {
        self.set_bits(block, 1 << (block % 64));
    }

    /// Sets bits in the word of this block's.
    #[inline]
    fn set_bits(&self, block: u32, bits: u64) {
        let at = self.geometry.bitmap(block as usize);
        // SYNC freed: the words were changed before; in `clear_bit` the bit is, before the word is
        // looked at. One of the two sees the other.
        self.memory.fence();
        if self.memory.load(at) & bits != bits {
            self.memory.set_bits(at, bits);
        }
    }

    /// Makes a filled loan readable; `me` then holds it once, as its owner.
    #[inline]
    pub(super) fn freeze(&self, me: usize, loan: Handle) -> Result<(), NotHeld> {
        let word = self.word(loan.block);
        if !word.is_loan(me, loan.generation) {
            return Err(NotHeld::Stale);
        }
        // Nobody but the participant changes what is loaned to it, so this is no swap.
        let shared = word.next(State::Shared, me, loan.generation);
        self.memory.store(self.word_at(loan.block), shared.0);
        fault!("block.freeze.shared");
        Ok(())
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

    /// Rule H for participant `me`: as the owner if there is none, else in its row.
    pub(super) fn hold(&self, me: usize, handle: Handle) -> Result<(), NotHeld> {
        self.hold_up_to(u8::MAX, me, handle)
    }

    /// The same, up to one less than its row can count. What it says of a stale handle may be `Owed`.
    #[inline]
    pub(super) fn hold_some(&self, me: usize, handle: Handle) -> Result<(), NotHeld> {
        self.hold_up_to(u8::MAX - 1, me, handle)
    }

    #[inline]
    fn hold_up_to(&self, most: u8, me: usize, handle: Handle) -> Result<(), NotHeld> {
        let mut word = self.word(handle.block);
        for _ in 0..TRIES {
            if !word.is_shared(handle.generation) {
                return Err(NotHeld::Stale);
            }
            if !word.is_owned_by(NOBODY) {
                break;
            }
            match self.change(handle.block, word, word.next(State::Shared, me, handle.generation)) {
                Ok(()) => {
                    fault!("block.hold.owned");
                    return Ok(());
                }
                Err(now) => word = now,
            }
        }
        self.hold_in_row(most, me, handle)
    }

    fn hold_in_row(&self, most: u8, me: usize, handle: Handle) -> Result<(), NotHeld> {
        self.use_counter(PARTICIPANTS_USED, me);
        let raised = |count: u8| (count < most).then(|| count + 1);
        self.row(handle.block, me, raised).ok_or(NotHeld::TooMany)?;
        fault!("block.hold.counted");
        let held = self.confirm(handle);
        // Not always in the row: another thread may have lowered that.
        if held.is_err() && self.release_from(most, me, handle.block).is_none() {
            return Err(NotHeld::Owed);
        }
        fault!("block.hold.held");
        held
    }

    /// The second half of rule H for a row.
    fn confirm(&self, handle: Handle) -> Result<(), NotHeld> {
        let mut word = self.word(handle.block);
        for _ in 0..TRIES {
            if !word.is_shared(handle.generation) {
                break;
            }
            let same = word.next(word.state(), word.owner(), handle.generation);
            match self.change(handle.block, word, same) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(NotHeld::Stale)
    }

    /// Lets go of one hold of `me`: one in its row while there is any, else the owner's place; rule
    /// F. Tells whether the block was freed.
    ///
    /// Its holds are alike: it does not matter which of them was taken as the owner.
    pub(super) fn release(&self, me: usize, block: u32) -> bool {
        self.release_from(u8::MAX, me, block).unwrap_or(false)
    }

    /// The same; `None` when its row counts all that it can.
    #[inline]
    pub(super) fn release_some(&self, me: usize, block: u32) -> Option<bool> {
        self.release_from(u8::MAX - 1, me, block)
    }

    /// Lets go of one hold, but not out of a row that counts more than `most`.
    #[inline]
    fn release_from(&self, most: u8, me: usize, block: u32) -> Option<bool> {
        for _ in 0..TRIES {
            if self.has_row(me, block) {
                match self.release_in_row(most, me, block) {
                    Left::Freed(freed) => return Some(freed),
                    Left::More => return None,
                    Left::Nothing => {}
                }
            }
            let word = self.word(block);
            if !word.is_owned_by(me) {
                return Some(false); // Only where somebody lied.
            }
            let last = !self.is_held(block);
            let left = match last {
                true => word.next(State::Free, 0, word.generation()),
                false => word.next(State::Shared, NOBODY, word.generation()),
            };
            match self.change(block, word, left) {
                Ok(()) if last => {
                    fault!("block.free.freed");
                    self.set_free(block);
                    return Some(true);
                }
                Ok(()) => {
                    fault!("block.release.left");
                    return Some(self.free(block));
                }
                Err(_) => {}
            }
        }
        Some(false)
    }

    /// Lowers `me`'s count by one; rule F.
    #[cold]
    fn release_in_row(&self, most: u8, me: usize, block: u32) -> Left {
        let seen = Cell::new(0);
        let lowered = |count: u8| {
            seen.set(count);
            count.checked_sub(1).filter(|_| count <= most)
        };
        match self.row(block, me, lowered) {
            Some(left) => {
                fault!("block.release.counted");
                Left::Freed(left == 0 && self.free(block))
            }
            None if seen.get() > most => Left::More,
            None => Left::Nothing,
        }
    }

    /// Whether `me` holds a block beside being its owner.
    #[inline]
    pub(super) fn has_row(&self, me: usize, block: u32) -> bool {
        let word = self.memory.load(self.geometry.holds(block) + me / 8 * 8);
        word >> (me % 8 * 8) & 0xff != 0
    }

    /// Changes a participant's count; `None` when `f` refuses.
    #[inline]
    pub(super) fn row(&self, block: u32, me: usize, f: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        let holds = self.geometry.holds(block);
        self.byte(holds + me / 8 * 8, me % 8 * 8, f)
    }

    #[inline]
    pub(super) fn byte(&self, at: usize, shift: usize, f: impl Fn(u8) -> Option<u8>) -> Option<u8> {
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
    #[inline]
    pub(super) fn free(&self, block: u32) -> bool {
        // SYNC lowered: of two that lower the last two counters, one sees both.
        self.memory.fence();
        for _ in 0..TRIES {
            let word = self.word(block);
            if !word.is_owned_by(NOBODY) || self.is_held(block) {
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

    /// Makes sure that the counter of a participant, or of a carrier, is looked at: before it is raised
    /// for the first time.
    #[inline]
    pub(super) fn use_counter(&self, mark: usize, number: usize) {
        let at = self.geometry.base + mark;
        let mut used = self.memory.load(at);
        for _ in 0..TRIES {
            if used > number as u64 {
                return;
            }
            match self.memory.swap_if(at, used, number as u64 + 1) {
                Ok(()) => return,
                Err(now) => used = now,
            }
        }
    }

    /// How many words have the counters that were ever used, of so many with so many bytes each.
    #[inline]
    fn used(&self, mark: usize, all: usize, bytes: usize) -> usize {
        let used = self.memory.load(self.geometry.base + mark).min(all as u64) as usize;
        (used * bytes).div_ceil(8)
    }

    /// Whether any counter says that the block is held. Those of participants are read first: a
    /// participant that sends a block raises the ring's before it lowers its own. How many are used is
    /// read before they are, and after what raised them.
    #[inline]
    fn is_held(&self, block: u32) -> bool {
        let Geometry { participants, carriers, .. } = *self.geometry;
        let holds = self.geometry.holds(block);
        let differ = |word: u64| (word ^ word >> 8) & 0x00ff_00ff_00ff_00ff;
        for word in 0..self.used(PARTICIPANTS_USED, participants, 1) {
            if self.memory.load(holds + 8 * word) != 0 {
                return true;
            }
        }
        let holds = holds + self.geometry.first_carrier();
        for word in 0..self.used(CARRIERS_USED, carriers, 2) {
            if differ(self.memory.load(holds + 8 * word)) != 0 {
                return true;
            }
        }
        false
    }
}
