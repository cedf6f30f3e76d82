//! What carriers hold: blocks that are counted, or that moved into the owner's place.

use super::{
    geometry::CARRIERS_USED,
    memory::Memory,
    word::{Handle, MOVERS, NOBODY, NotHeld, Put, State},
    words::{TRIES, Words},
};
use crate::fault::fault;

/// Which end of a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Put,
    Got,
}

impl<M: Memory> Words<'_, M> {
    #[inline]
    pub(super) fn end_at(&self, carrier: usize, block: u32, end: End) -> (usize, usize) {
        let byte = self.geometry.first_carrier()
            + 2 * carrier
            + match end {
                End::Put => 0,
                End::Got => 1,
            };
        (self.geometry.holds(block) + byte / 8 * 8, byte % 8 * 8)
    }

    /// What one end has counted of a block.
    #[inline]
    pub(super) fn counted(&self, carrier: usize, block: u32, end: End) -> u8 {
        let (at, shift) = self.end_at(carrier, block, end);
        (self.memory.load(at) >> shift) as u8
    }

    /// What the sending end has counted before it puts a block.
    #[inline]
    pub(super) fn put_before(&self, carrier: usize, block: u32) -> Put {
        Put { block, seq: self.counted(carrier, block, End::Put) }
    }

    /// Sets what one end has counted; only that end does. Without rule F.
    #[inline]
    fn set(&self, carrier: usize, block: u32, end: End, value: u8) -> bool {
        let (at, shift) = self.end_at(carrier, block, end);
        let changed = self.counted(carrier, block, end) != value;
        changed && self.byte(at, shift, |_| Some(value)).is_some()
    }

    /// Adds one to what the sending end has counted, by a sender who holds the block meanwhile: so
    /// there is nothing to confirm.
    #[inline]
    fn raise(&self, carrier: usize, handle: Handle) -> Result<Put, NotHeld> {
        if !self.word(handle.block).is_shared(handle.generation) {
            return Err(NotHeld::Stale); // Only a liar does not hold it.
        }
        self.use_counter(CARRIERS_USED, carrier);
        let got = self.counted(carrier, handle.block, End::Got);
        let (at, shift) = self.end_at(carrier, handle.block, End::Put);
        self.byte(at, shift, |put| Some(put.wrapping_add(1)).filter(|put| *put != got))
            .map(|seq| Put { block: handle.block, seq })
            .ok_or(NotHeld::TooMany)
    }

    /// A ring takes a block, by its sending end.
    #[inline]
    pub(super) fn put(&self, carrier: usize, handle: Handle) -> Result<Put, NotHeld> {
        let put = self.raise(carrier, handle)?;
        fault!("port.send.put");
        Ok(put)
    }

    /// Sets `put` back to what it was before; rule F.
    pub(super) fn take_back(&self, carrier: usize, before: Put) -> bool {
        self.set(carrier, before.block, End::Put, before.seq) && self.free(before.block)
    }

    /// Whether a carrier still holds a block by what a message says: not where it was emptied after
    /// that was sent, which leaves the message in its ring. What was counted off then must not be
    /// counted again, and the block may be somebody else's by now.
    #[inline]
    pub(super) fn is_on_its_way(&self, carrier: usize, handle: Handle, seq: u8) -> bool {
        let [put, got] = [End::Put, End::Got].map(|end| self.counted(carrier, handle.block, end));
        let (ahead, all) = (seq.wrapping_sub(got), put.wrapping_sub(got));
        (1..=all).contains(&ahead) && self.word(handle.block).generation() == handle.generation
    }

    /// The receiving end has taken a block, or lets go of it; rule F, which finds at once that the
    /// taker holds it.
    #[inline]
    pub(super) fn got(&self, carrier: usize, put: Put) -> bool {
        let changed = self.set(carrier, put.block, End::Got, put.seq);
        fault!("port.recv.got");
        changed && self.free(put.block)
    }

    /// Empties a carrier, by one of its ends. Gives how many blocks became free.
    pub(super) fn empty(&self, carrier: usize, end: End) -> usize {
        let other = match end {
            End::Put => End::Got,
            End::Got => End::Put,
        };
        let emptied = |block: &u32| {
            let value = self.counted(carrier, *block, other);
            let freed = self.set(carrier, *block, end, value) && self.free(*block);
            self.put_off(carrier, *block, None) || freed
        };
        (0..self.geometry.blocks as u32).filter(emptied).count()
    }

    // Moves: the owner's place goes from a participant to a carrier, and on to another.

    /// Whether a hold of `me` can move: it is the only one of this participant, as the owner. Should
    /// that change, there is room in the counters.
    #[inline]
    pub(super) fn can_move(&self, carrier: usize, me: usize, handle: Handle) -> bool {
        let word = self.word(handle.block);
        let full = || {
            let next = self.counted(carrier, handle.block, End::Put).wrapping_add(1);
            next == self.counted(carrier, handle.block, End::Got)
        };
        carrier < MOVERS
            && word.is_owned_by(me)
            && word.generation() == handle.generation
            && !self.has_row(me, handle.block)
            && !full()
    }

    /// The only hold of `me` becomes the carrier's. False when it is not the only one any more, or
    /// not the owner's.
    #[inline]
    pub(super) fn move_out(&self, carrier: usize, me: usize, handle: Handle) -> bool {
        let word = self.word(handle.block);
        let same = word.is_owned_by(me) && word.generation() == handle.generation;
        if !same || self.has_row(me, handle.block) {
            return false;
        }
        // Nobody else takes a living owner out of its place, so this is no swap. What it may
        // overwrite is a version of somebody who confirmed a hold that its counter says.
        let moving = word.next(State::Moving, carrier, handle.generation);
        self.memory.store(self.word_at(handle.block), moving.0);
        fault!("port.send.moved");
        true
    }

    /// The carrier's hold in the owner's place becomes one of `me`. False when it has none.
    #[inline]
    pub(super) fn move_in(&self, carrier: usize, me: usize, handle: Handle) -> bool {
        let mut word = self.word(handle.block);
        for _ in 0..TRIES {
            if !word.is_moving_by(carrier) || word.generation() != handle.generation {
                return false;
            }
            match self.change(handle.block, word, word.next(State::Shared, me, handle.generation)) {
                Ok(()) => {
                    fault!("port.recv.moved");
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Nobody will take what moved to a carrier; rule F. Only in one life of the block, if that is
    /// given.
    pub(super) fn put_off(&self, carrier: usize, block: u32, generation: Option<u32>) -> bool {
        let mut word = self.word(block);
        for _ in 0..TRIES {
            let same = generation.is_none_or(|generation| word.generation() == generation);
            if !word.is_moving_by(carrier) || !same {
                return false;
            }
            match self.change(block, word, word.next(State::Shared, NOBODY, word.generation())) {
                Ok(()) => {
                    fault!("block.move.left");
                    return self.free(block);
                }
                Err(now) => word = now,
            }
        }
        false
    }

    // Posts: ends that several threads of a process use at once, so they count and do not set.

    /// A post takes a block.
    pub(super) fn post(&self, carrier: usize, handle: Handle) -> Result<(), NotHeld> {
        self.raise(carrier, handle)?;
        fault!("block.post.put");
        Ok(())
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
}
