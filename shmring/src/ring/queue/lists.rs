//! The two lists of slots, and how slots go from one to the other. README.md beside this file draws
//! it and argues for it.
//!
//! Nothing here knows of processes, payload or waiting: every access goes through [`Memory`], so
//! that the exhaustive model and loom run this very code.

use super::{
    geometry::{ABORTED, Geometry, REDELIVERED, SKIPPED},
    words::{Cell, Position, State, Word},
};
use crate::{block::Memory, fault::fault, ring::face::Side};

/// A walk or a swap that fails was beaten by somebody who made progress. Whoever loses so often more
/// than there are cells is lied to.
const TRIES: usize = 1 << 16;

/// What somebody wrote contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Corrupt;

/// A slot in our hands, and what its word says meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Held {
    pub(super) slot: u32,
    pub(super) word: Word,
}

/// Why a slot was not listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NotListed {
    /// Its word says something else than its owner thought.
    Changed,
    Corrupt,
}

impl Side {
    /// What slots in the list that this side takes from say.
    fn listed(self) -> State {
        match self {
            Side::Producer => State::Free,
            Side::Consumer => State::Ready,
        }
    }

    fn taken(self) -> State {
        match self {
            Side::Producer => State::Writing,
            Side::Consumer => State::Reading,
        }
    }
}

/// The control words of one queue.
pub(super) struct Lists<'a, M> {
    pub(super) memory: &'a M,
    pub(super) geometry: &'a Geometry,
}

impl<'a, M: Memory> Lists<'a, M> {
    pub(super) fn new(memory: &'a M, geometry: &'a Geometry) -> Lists<'a, M> {
        Lists { memory, geometry }
    }

    /// Lists all slots as free, in fresh memory of zeros.
    pub(super) fn fill(&self) {
        self.fill_from(self.geometry.start());
    }

    /// The same with other first positions, multiples of the number of cells.
    pub(super) fn fill_from(&self, start: Position) {
        let geometry = self.geometry;
        let lap_before = start.plus((geometry.cells() as u64).wrapping_neg());
        for side in [Side::Producer, Side::Consumer] {
            for count in 0..geometry.cells() as u64 {
                let position = lap_before.plus(count);
                self.memory.store(geometry.cell(side, position), Cell::new(position, 0).0);
            }
            self.memory.store(geometry.head(side), start.count());
            self.memory.store(geometry.tail(side), start.count());
        }
        for slot in 0..geometry.slots as u32 {
            let position = start.plus(slot.into());
            let cell = geometry.cell(Side::Producer, position);
            self.memory.store(cell, Cell::new(position, slot).0);
            let word = Word::new(State::Free, 0, 0, position);
            self.memory.store(geometry.slot(slot), word.0);
        }
        let tail = start.plus(geometry.slots as u64);
        self.memory.store(geometry.tail(Side::Producer), tail.count());
    }

    #[inline]
    fn cell(&self, side: Side, position: Position) -> Cell {
        Cell(self.memory.load(self.geometry.cell(side, position)))
    }

    #[inline]
    fn hint(&self, at: usize) -> Position {
        Position::new(self.memory.load(at))
    }

    /// Moves a hint from what it was to something further, unless somebody was quicker.
    #[inline]
    fn advance(&self, at: usize, seen: Position, to: Position) {
        if seen != to {
            let _ = self.memory.swap_if(at, seen.count(), to.count());
        }
    }

    fn word(&self, slot: u32) -> Word {
        Word(self.memory.load(self.geometry.slot(slot)))
    }

    /// What a list has at a position: whether it is filled, and with which slot.
    #[inline]
    fn look(&self, side: Side, at: Position) -> Result<Look, Corrupt> {
        let cell = self.cell(side, at);
        let cells = self.geometry.cells() as i64;
        match cell.position().ahead_of(at) {
            0 if (cell.slot() as usize) < self.geometry.slots => Ok(Look::Slot(cell.slot())),
            0 => Err(Corrupt),
            ahead if ahead == -cells => Ok(Look::Unfilled(cell)),
            ahead if ahead > 0 && ahead % cells == 0 => Ok(Look::Further(cell.position())),
            _ => Err(Corrupt),
        }
    }

    /// The first slot that waits in the list of `side`, with its word and position; `None` when the
    /// list is empty. Moves the head there.
    #[inline]
    fn first(&self, side: Side) -> Result<Option<First>, Corrupt> {
        self.first_within(side, &mut self.tries())
    }

    fn tries(&self) -> usize {
        TRIES + self.geometry.cells()
    }

    #[inline]
    fn first_within(&self, side: Side, tries: &mut usize) -> Result<Option<First>, Corrupt> {
        let seen = self.hint(self.geometry.head(side));
        let mut at = seen;
        while *tries > 0 {
            *tries -= 1;
            match self.look(side, at)? {
                Look::Slot(slot) => {
                    let word = self.word(slot);
                    if word.is_at(side.listed(), at) {
                        return Ok(Some(First { slot, word, at, seen }));
                    }
                    at = at.plus(1);
                }
                Look::Unfilled(_) => {
                    self.advance(self.geometry.head(side), seen, at);
                    return Ok(None);
                }
                // Everything up to a lap before what is filled was taken.
                Look::Further(filled) => {
                    at = filled.plus(1).plus((self.geometry.cells() as u64).wrapping_neg());
                }
            }
        }
        Err(Corrupt)
    }

    /// Takes the first slot out of the list of `side`; `None` when there is none.
    #[inline]
    pub(super) fn take(&self, side: Side, me: u8) -> Result<Option<Held>, Corrupt> {
        let mut tries = self.tries();
        while tries > 0 {
            let first = self.first_within(side, &mut tries)?;
            let Some(First { slot, word, at, seen }) = first else { return Ok(None) };
            let taken = word.taken(side.taken(), me);
            let swap = self.memory.swap_if(self.geometry.slot(slot), word.0, taken.0);
            if swap.is_ok() {
                match side {
                    Side::Producer => {
                        fault!("queue.claim.taken");
                    }
                    Side::Consumer => {
                        fault!("queue.recv.taken");
                    }
                }
                self.advance(self.geometry.head(side), seen, at.plus(1));
                return Ok(Some(Held { slot, word: taken }));
            }
        }
        Err(Corrupt)
    }

    /// Whether the list of `side` has nothing to take.
    pub(super) fn is_empty(&self, side: Side) -> Result<bool, Corrupt> {
        self.first(side).map(|first| first.is_none())
    }

    /// Puts a slot that `held` describes into the list that `side` takes from.
    #[inline]
    fn put(&self, side: Side, held: Held, owner: u8, attempts: u8) -> Result<(), NotListed> {
        let Held { slot, mut word } = held;
        let tail = self.geometry.tail(side);
        let seen = self.hint(tail);
        let mut at = seen;
        for _ in 0..self.tries() {
            let cell = match self.look(side, at).map_err(|Corrupt| NotListed::Corrupt)? {
                Look::Unfilled(cell) => cell,
                Look::Slot(_) => {
                    at = at.plus(1);
                    continue;
                }
                Look::Further(filled) => {
                    at = filled.plus(1);
                    continue;
                }
            };
            let announced = Word::new(side.listed(), owner, attempts, at);
            let swap = self.memory.swap_if(self.geometry.slot(slot), word.0, announced.0);
            if swap.is_err() {
                return Err(NotListed::Changed);
            }
            match side {
                Side::Producer => {
                    fault!("queue.free.announced");
                }
                Side::Consumer => {
                    fault!("queue.ready.announced");
                }
            }
            word = announced;
            let filled = Cell::new(at, slot);
            if self.memory.swap_if(self.geometry.cell(side, at), cell.0, filled.0).is_ok() {
                match side {
                    Side::Producer => {
                        fault!("queue.free.listed");
                    }
                    Side::Consumer => {
                        fault!("queue.ready.listed");
                    }
                }
                self.advance(tail, seen, at.plus(1));
                return Ok(());
            }
        }
        Err(NotListed::Corrupt)
    }

    // What the ends do.

    /// Makes a filled slot an item.
    #[inline]
    pub(super) fn commit(&self, held: Held) -> Result<(), Corrupt> {
        self.put(Side::Consumer, held, held.word.owner(), 0).map_err(|_| Corrupt)
    }

    /// Gives a claimed slot back.
    pub(super) fn abort(&self, held: Held) -> Result<(), Corrupt> {
        self.put(Side::Producer, held, held.word.owner(), 0).map_err(|_| Corrupt)?;
        self.count(ABORTED);
        Ok(())
    }

    /// Says that an item is over, of whose slot something is left to do before it can be free.
    pub(super) fn finish(&self, held: Held) -> Result<Held, Corrupt> {
        let Held { slot, word } = held;
        let done = word.taken(State::Done, word.owner());
        self.memory.swap_if(self.geometry.slot(slot), word.0, done.0).map_err(|_| Corrupt)?;
        fault!("queue.port.done");
        Ok(Held { slot, word: done })
    }

    /// Ends an item.
    #[inline]
    pub(super) fn ack(&self, held: Held) -> Result<(), Corrupt> {
        self.put(Side::Producer, held, held.word.owner(), 0).map_err(|_| Corrupt)
    }

    /// Lets an item be handed out again.
    pub(super) fn nack(&self, held: Held) -> Result<(), Corrupt> {
        let attempts = held.word.one_attempt_more();
        self.put(Side::Consumer, held, held.word.owner(), attempts).map_err(|_| Corrupt)?;
        self.count(REDELIVERED);
        Ok(())
    }

    fn count(&self, counter: usize) {
        self.memory.add(self.geometry.base + counter, 1);
    }

    // Repair.

    /// The slots in the hands of `dead` that will be free.
    pub(super) fn given_up(&self, dead: u8) -> impl Iterator<Item = u32> {
        (0..self.geometry.slots as u32).filter(move |slot| {
            let word = self.word(*slot);
            word.owner() == dead && matches!(word.state(), Some(State::Writing | State::Done))
        })
    }

    /// Gives back what dead participant `dead` had in its hands. The caller is the only repairer,
    /// and `dead` is not used again before.
    pub(super) fn repair(&self, dead: u8) {
        for slot in 0..self.geometry.slots as u32 {
            self.repair_slot(slot, dead);
            fault!("queue.repaired");
        }
    }

    fn repair_slot(&self, slot: u32, dead: u8) {
        let word = self.word(slot);
        if word.owner() != dead {
            return;
        }
        let held = Held { slot, word };
        // A slot that cannot be put because of a liar stays where it is.
        let (side, attempts, counter) = match word.state() {
            Some(State::Writing) => (Side::Producer, 0, Some(SKIPPED)),
            Some(State::Done) => (Side::Producer, 0, None),
            Some(State::Reading) => (Side::Consumer, word.one_attempt_more(), Some(REDELIVERED)),
            Some(State::Free) if !self.is_listed(Side::Producer, held) => (Side::Producer, 0, None),
            Some(State::Ready) if !self.is_listed(Side::Consumer, held) => {
                (Side::Consumer, word.attempts(), None)
            }
            _ => return,
        };
        if self.put(side, held, dead, attempts).is_ok()
            && let Some(counter) = counter
        {
            self.count(counter);
        }
    }

    /// Whether the cell at the position that a slot announces says so too.
    fn is_listed(&self, side: Side, held: Held) -> bool {
        let position = held.word.position();
        self.cell(side, position) == Cell::new(position, held.slot)
    }

    // For onlookers.

    /// Up to which position slots were listed for `side`, and up to which they were taken.
    fn ends(&self, side: Side) -> (Position, Position) {
        // The tail first: then no more seem to be there than are.
        let mut tail = self.hint(self.geometry.tail(side));
        for _ in 0..self.geometry.cells() {
            match self.look(side, tail) {
                Ok(Look::Slot(_)) => tail = tail.plus(1),
                Ok(Look::Further(filled)) => tail = filled.plus(1),
                _ => break,
            }
        }
        let head = match self.first(side) {
            Ok(Some(first)) => first.at,
            _ => self.hint(self.geometry.head(side)),
        };
        (tail, head)
    }

    /// How many were ever listed for `side`, and how many of them taken, both modulo 2^44.
    pub(super) fn counts(&self, side: Side) -> (u64, u64) {
        let (tail, head) = self.ends(side);
        (tail.since(self.geometry.start()), head.since(self.geometry.start()))
    }

    /// How many wait in the list of `side`.
    pub(super) fn len(&self, side: Side) -> usize {
        let (tail, head) = self.ends(side);
        tail.ahead_of(head).clamp(0, self.geometry.slots as i64) as usize
    }

    /// Whether all slots wait in the free list: nobody writes or reads any, and no item is there.
    pub(super) fn is_drained(&self) -> bool {
        // Fewer seem to be there than are while others are busy, never more.
        self.len(Side::Producer) == self.geometry.slots
    }
}

enum Look {
    /// Filled, with this slot.
    Slot(u32),
    /// Not filled; what the cell says.
    Unfilled(Cell),
    /// Filled for a later lap.
    Further(Position),
}

struct First {
    slot: u32,
    word: Word,
    at: Position,
    /// The head that the walk began at.
    seen: Position,
}
