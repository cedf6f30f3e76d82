//! What a dead participant held.

use super::{
    geometry::REPAIRED,
    memory::Memory,
    word::{Flight, Handle, NOBODY, State},
    words::{TRIES, Words},
};
use crate::fault::fault;

impl<M: Memory> Words<'_, M> {
    /// Gives back what a dead participant held. Idempotent. `released` tells how far the ring that
    /// a carrier stands for is released. Gives how many blocks became free.
    pub(super) fn repair(&self, dead: usize, released: impl Fn(usize) -> Option<u64>) -> usize {
        let mut freed = 0;
        for block in 0..self.geometry.blocks as u32 {
            self.row(block, dead, |_| Some(0));
            fault!("block.repair.counted");
            self.disown(block, dead, &released);
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
                State::Free => self.set_bit(block),
                _ => {}
            }
        }
        self.memory.add(self.geometry.base + REPAIRED, freed as u64);
        freed
    }

    /// Takes a dead participant out of the owner's place: for a carrier, if the block moved from it
    /// in a message that is there still; else for nobody.
    fn disown(&self, block: u32, dead: usize, released: &impl Fn(usize) -> Option<u64>) {
        for _ in 0..TRIES {
            let word = self.word(block);
            if !word.is_owned_by(dead) {
                return;
            }
            let came = Flight::Moved(Handle { block, generation: word.generation() });
            let carrier = (0..self.geometry.carriers)
                .find(|carrier| self.unreleased(*carrier, || released(*carrier)).contains(&came));
            let left = match carrier {
                Some(carrier) => word.next(State::Moving, carrier, word.generation()),
                None => word.next(State::Shared, NOBODY, word.generation()),
            };
            if self.change(block, word, left).is_ok() {
                fault!("block.repair.disowned");
                return;
            }
        }
    }

    /// Gives a carrier back what a receiver had moved out of a message that is there still, and
    /// died: before anybody forgets the journal that says so. Agrees with [`Words::repair`],
    /// whichever comes first.
    ///
    /// `is_dead` says of a participant's index that whoever has it now is dead.
    pub(super) fn give_back(
        &self,
        carrier: usize,
        released: u64,
        is_dead: &impl Fn(usize) -> bool,
    ) {
        for flight in self.unreleased(carrier, || Some(released)) {
            let Flight::Moved(handle) = flight else { continue };
            for _ in 0..TRIES {
                // The word comes first: an owner that is dead afterwards was so in this word, since
                // its index is given away only when it owns nothing any more.
                let word = self.word(handle.block);
                let theirs = word.state() == State::Shared
                    && word.generation() == handle.generation
                    && word.owner() != NOBODY
                    && is_dead(word.owner());
                if !theirs {
                    break;
                }
                let moving = word.next(State::Moving, carrier, handle.generation);
                if self.change(handle.block, word, moving).is_ok() {
                    fault!("block.repair.disowned");
                    break;
                }
            }
        }
    }
}
