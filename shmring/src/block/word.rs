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
    /// It can be read; the owner's place names a participant or nobody.
    Shared,
    /// The same, and the owner's place names a carrier: the block is on its way.
    Moving,
}

/// The word of a block, copied once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const GENERATIONS: u32 = 1 << 22;
/// Loans of a block before its generations begin again.
pub(super) const ROUND: u64 = GENERATIONS as u64 - 1;
/// In the place of an owner. A segment has at most 255 participants, so it is none of them.
pub(super) const NOBODY: usize = 0xff;
/// Carriers that fit into the owner's place. What a later one holds is counted.
pub(super) const MOVERS: usize = 0x100;

impl Word {
    pub(super) fn state(self) -> State {
        match self.0 >> 8 & 3 {
            0 => State::Free,
            1 => State::Loaned,
            2 => State::Shared,
            _ => State::Moving,
        }
    }

    /// A participant or [`NOBODY`]; of a moving block, the carrier.
    pub(super) fn owner(self) -> usize {
        (self.0 & 0xff) as usize
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 10) as u32 % GENERATIONS
    }

    /// Whether it can be held: shared or moving, in the life of that generation.
    pub(super) fn is_shared(self, generation: u32) -> bool {
        matches!(self.state(), State::Shared | State::Moving) && self.generation() == generation
    }

    /// Whether participant `me` is its owner.
    pub(super) fn is_owned_by(self, me: usize) -> bool {
        self.state() == State::Shared && self.owner() == me
    }

    /// Whether it is on its way by a carrier, which holds it in the owner's place.
    pub(super) fn is_moving_by(self, carrier: usize) -> bool {
        self.state() == State::Moving && self.owner() == carrier
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
            State::Moving => 3 << 8,
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
    /// As `Stale`; and the row counts one that is to go, but counts all that it can by now.
    Owed,
}

/// A block that a carrier took, with the value of `put` that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Put {
    pub(super) block: u32,
    pub(super) seq: u8,
}

/// How a carrier holds a block of a message, as journals and tables say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flight {
    /// By its counters.
    Counted(Put),
    /// In the owner's place.
    Moved(Handle),
}

const WRITTEN: u64 = 1 << 63;
const MOVED: u64 = 1 << 62;

impl Flight {
    pub(super) fn block(self) -> u32 {
        match self {
            Flight::Counted(put) => put.block,
            Flight::Moved(handle) => handle.block,
        }
    }

    pub(super) fn to_word(self) -> u64 {
        match self {
            Flight::Counted(put) => WRITTEN | u64::from(put.seq) << 32 | u64::from(put.block),
            Flight::Moved(Handle { block, generation }) => {
                let generation = u64::from(generation % GENERATIONS);
                WRITTEN | MOVED | generation << 32 | u64::from(block)
            }
        }
    }

    /// `None` where nothing is written.
    pub(super) fn from_word(word: u64) -> Option<Flight> {
        let block = word as u32;
        let more = word >> 32;
        match (word & WRITTEN, word & MOVED) {
            (0, _) => None,
            (_, 0) => Some(Flight::Counted(Put { block, seq: more as u8 })),
            _ => Some(Flight::Moved(Handle { block, generation: more as u32 % GENERATIONS })),
        }
    }
}
