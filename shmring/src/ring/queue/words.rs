//! The words of a queue, as values: who has a slot, and what a cell of a list says.

/// Positions count up for ever, modulo this many bits.
const POSITION_BITS: u32 = 44;
const REST: u32 = 64 - POSITION_BITS;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// How many slots a cell can name.
pub(super) const MOST_SLOTS: usize = 1 << 19;
/// The attempts that are counted; there may be more.
const MOST_ATTEMPTS: u64 = 0xff;

/// A position in a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Position(u64);

impl Position {
    pub(super) fn new(count: u64) -> Position {
        Position(count & POSITION_MASK)
    }

    pub(super) fn count(self) -> u64 {
        self.0
    }

    pub(super) fn plus(self, count: u64) -> Position {
        Position::new(self.0.wrapping_add(count))
    }

    /// How many positions there were from an earlier one to this.
    pub(super) fn since(self, earlier: Position) -> u64 {
        self.0.wrapping_sub(earlier.0) & POSITION_MASK
    }

    /// How far it is ahead of another one; negative when it is behind.
    pub(super) fn ahead_of(self, other: Position) -> i64 {
        (self.0.wrapping_sub(other.0) << REST) as i64 >> REST
    }
}

/// What a slot is at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u64)]
pub(super) enum State {
    Free = 1,
    Writing = 2,
    Ready = 3,
    Reading = 4,
    /// Its item is over; its owner lets go of the blocks that lie in it.
    Done = 5,
}

/// The word of a slot, copied once: `{position: 44, attempts: 8, owner: 8, state: 4}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) fn new(state: State, owner: u8, attempts: u8, position: Position) -> Word {
        let low = u64::from(attempts) << 12 | u64::from(owner) << 4 | state as u64;
        Word(position.0 << REST | low)
    }

    pub(super) fn position(self) -> Position {
        Position(self.0 >> REST)
    }

    /// How often its item was handed out and came back.
    pub(super) fn attempts(self) -> u8 {
        (self.0 >> 12) as u8
    }

    pub(super) fn owner(self) -> u8 {
        (self.0 >> 4) as u8
    }

    /// `None` for what is none of ours.
    pub(super) fn state(self) -> Option<State> {
        let all = [State::Free, State::Writing, State::Ready, State::Reading, State::Done];
        all.into_iter().find(|state| *state as u64 == self.0 & 0xf)
    }

    /// Whether it was announced at a position of a list.
    pub(super) fn is_at(self, state: State, position: Position) -> bool {
        self.0 & 0xf == state as u64 && self.position() == position
    }

    /// The same slot in the hands of `owner`.
    pub(super) fn taken(self, state: State, owner: u8) -> Word {
        Word::new(state, owner, self.attempts(), self.position())
    }

    /// The attempts when it comes back once more.
    pub(super) fn one_attempt_more(self) -> u8 {
        (u64::from(self.attempts()) + 1).min(MOST_ATTEMPTS) as u8
    }
}

/// A cell of a list, copied once: `{position: 44, slot: 20}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cell(pub(super) u64);

impl Cell {
    pub(super) fn new(position: Position, slot: u32) -> Cell {
        Cell(position.0 << REST | u64::from(slot))
    }

    pub(super) fn position(self) -> Position {
        Position(self.0 >> REST)
    }

    pub(super) fn slot(self) -> u32 {
        self.0 as u32 & ((1 << REST) - 1)
    }
}

/// A slot is named by what a cell has beside its position.
const _: () = assert!(MOST_SLOTS <= 1 << REST);

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_go_round() {
        let last = Position::new(u64::MAX);
        assert_eq!(last.plus(1), Position::new(0));
        assert_eq!(last.plus(3).ahead_of(last), 3);
        assert_eq!(last.ahead_of(last.plus(3)), -3);
    }

    proptest! {
        #[test]
        fn words_read_back(state in 0usize..5, owner: u8, attempts: u8, count: u64, slot in 0u32..1 << 20) {
            let all = [State::Free, State::Writing, State::Ready, State::Reading, State::Done];
            let state = all[state];
            let position = Position::new(count);
            let word = Word::new(state, owner, attempts, position);
            prop_assert_eq!(word.state(), Some(state));
            prop_assert_eq!((word.owner(), word.attempts(), word.position()), (owner, attempts, position));
            prop_assert!(word.is_at(state, position) && !word.is_at(state, position.plus(1)));
            prop_assert_eq!(word.one_attempt_more(), attempts.saturating_add(1));
            let cell = Cell::new(position, slot);
            prop_assert_eq!((cell.position(), cell.slot()), (position, slot));
        }
    }
}
