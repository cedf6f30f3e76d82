//! What an end of a ring writes down before it acts, so that its successor can finish or undo it.

use super::{
    flight::End,
    geometry::{GET_JOURNAL, MAX_BLOCKS, PUT_JOURNAL},
    memory::Memory,
    word::Flight,
    words::Words,
};

impl<M: Memory> Words<'_, M> {
    #[inline]
    fn journal(&self, carrier: usize, end: End) -> usize {
        self.geometry.carrier(carrier)
            + match end {
                End::Put => PUT_JOURNAL,
                End::Got => GET_JOURNAL,
            }
    }

    /// Writes down what an end is about to do at a position (a multiple of 8) of its ring: of what
    /// is counted, for `Put` the counts before, for `Got` the counts after. At most [`MAX_BLOCKS`];
    /// nothing when there are none.
    #[inline]
    pub(super) fn write_journal(
        &self,
        carrier: usize,
        end: End,
        position: u64,
        flights: impl Iterator<Item = Flight>,
    ) {
        let journal = self.journal(carrier, end);
        let mut len = 0;
        for flight in flights.take(MAX_BLOCKS) {
            len += 1;
            self.memory.store(journal + 8 * len, flight.to_word());
        }
        if len == 0 {
            return;
        }
        if len < MAX_BLOCKS {
            self.memory.store(journal + 8 * (len + 1), 0);
        }
        self.memory.store(journal, position | 1);
    }

    /// Corrects what was written down at a place, before it is done.
    #[cold]
    pub(super) fn correct_journal(&self, carrier: usize, end: End, place: usize, flight: Flight) {
        self.memory.store(self.journal(carrier, end) + 8 * (place + 1), flight.to_word());
    }

    /// What was written down has been done.
    #[inline]
    pub(super) fn close_journal(&self, carrier: usize, end: End) {
        self.memory.store(self.journal(carrier, end), 0);
    }

    /// The position, if something is written down, and what.
    fn read_journal(&self, carrier: usize, end: End) -> Option<(u64, Vec<Flight>)> {
        let journal = self.journal(carrier, end);
        let position = self.memory.load(journal);
        if position == 0 {
            return None;
        }
        let flights = (1..=MAX_BLOCKS)
            .map_while(|place| Flight::from_word(self.memory.load(journal + 8 * place)))
            .filter(|flight| (flight.block() as usize) < self.geometry.blocks)
            .collect();
        Some((position & !7, flights))
    }

    /// What a receiver wrote down of a message that is not released. `released` is asked last: if
    /// the message is there still by then, its receiver had not begun the next.
    pub(super) fn unreleased(
        &self,
        carrier: usize,
        released: impl Fn() -> Option<u64>,
    ) -> Vec<Flight> {
        let open = self.read_journal(carrier, End::Got);
        open.filter(|(position, _)| released().is_some_and(|released| *position > released))
            .map_or_else(Vec::new, |(_, flights)| flights)
    }

    /// A new holder of an end, or its discarder, finishes or undoes what its predecessor had
    /// begun. `reached` is where the ring is now: the position of the next record to be published,
    /// or that of the first one not released. `is_dead` is as in [`Words::give_back`]. Gives how
    /// many blocks became free.
    pub(super) fn recover(
        &self,
        carrier: usize,
        end: End,
        reached: u64,
        is_dead: &impl Fn(usize) -> bool,
    ) -> usize {
        let Some((position, flights)) = self.read_journal(carrier, end) else { return 0 };
        let freed = match end {
            // Published are the records before `reached`. The first count noted of a block is
            // the right one, so it is set last.
            End::Put if position >= reached => {
                flights.iter().rev().filter(|flight| self.undo(carrier, **flight)).count()
            }
            // What moved was taken before the message was released.
            End::Got if position <= reached => flights
                .iter()
                .filter(|flight| match flight {
                    Flight::Counted(put) => self.got(carrier, *put),
                    Flight::Moved(_) => false,
                })
                .count(),
            End::Got => {
                self.give_back(carrier, reached, is_dead);
                0
            }
            End::Put => 0,
        };
        self.close_journal(carrier, end);
        freed
    }

    fn undo(&self, carrier: usize, flight: Flight) -> bool {
        match flight {
            Flight::Counted(before) => self.take_back(carrier, before),
            Flight::Moved(handle) => self.put_off(carrier, handle.block, Some(handle.generation)),
        }
    }
}
