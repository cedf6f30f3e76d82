//! What the control words say, copied once.

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
pub(super) struct Word(pub(super) u64);

const GENERATIONS: u32 = 1 << 22;
/// Loans of a block before its generations begin again.
pub(super) const ROUND: u64 = GENERATIONS as u64 - 1;
/// In the place of an owner. A segment has at most 255 participants, so it is none of them.
pub(super) const NOBODY: usize = 0xff;

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
    pub(super) fn next(self, state: State, owner: usize, generation: u32) -> Word {
        let version = (self.0 >> 32).wrapping_add(1) << 32;
        let state = match state {
            State::Free => 0,
            State::Loaned => 1 << 8,
            State::Shared => 2 << 8,
            State::Broken => 3 << 8,
        };
        Word(version | u64::from(generation % GENERATIONS) << 10 | state | owner as u64 & 0xff)
    }

    /// That of the next loan; after the last one comes the first again.
    pub(super) fn next_generation(self) -> u32 {
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
    pub(super) fn to_word(self) -> u64 {
        1 << 63 | u64::from(self.seq) << 32 | u64::from(self.block)
    }

    pub(super) fn from_word(word: u64) -> Option<Put> {
        (word >> 63 == 1).then_some(Put { block: word as u32, seq: (word >> 32) as u8 })
    }
}
