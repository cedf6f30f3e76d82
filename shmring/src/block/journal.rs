//! What an end of a ring writes down before it acts, so that its successor can finish or undo it.

use super::{
    geometry::{GET_JOURNAL, MAX_BLOCKS, PUT_JOURNAL},
    memory::Memory,
    word::Put,
    words::{End, Words},
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

    /// Writes down what an end is about to do at a position (a multiple of 8) of its ring: for
    /// `Put`, the counts before; for `Got`, the counts after. At most [`MAX_BLOCKS`]; nothing when there are none.
    #[inline]
    pub(super) fn write_journal(
        &self,
        carrier: usize,
        end: End,
        position: u64,
        puts: impl Iterator<Item = Put>,
    ) {
        let journal = self.journal(carrier, end);
        let mut len = 0;
        for put in puts.take(MAX_BLOCKS) {
            len += 1;
            self.memory.store(journal + 8 * len, put.to_word());
        }
        if len == 0 {
            return;
        }
        if len < MAX_BLOCKS {
            self.memory.store(journal + 8 * (len + 1), 0);
        }
        self.memory.store(journal, position | 1);
    }

    /// What was written down has been done.
    #[inline]
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
}
