//! Where things are in a pool.

use crate::region::LINE;

/// How many blocks one message can carry.
pub const MAX_BLOCKS: usize = 31;

// In the object.
pub(super) const LAST: usize = 64;
pub(super) const LOANS: usize = 72;
pub(super) const REPAIRED: usize = 80;
/// A bit for each participant that waits for a block.
pub(super) const WAITING: usize = 96;
pub(super) const BITMAP: usize = 128;
// In a carrier's entry.
pub(super) const WHO: usize = 0;
pub(super) const PEER: usize = 8;
const JOURNAL_LEN: usize = 8 + 8 * MAX_BLOCKS;
pub(super) const PUT_JOURNAL: usize = LINE;
pub(super) const GET_JOURNAL: usize = PUT_JOURNAL + JOURNAL_LEN.next_multiple_of(LINE);
const CARRIER_LEN: usize = GET_JOURNAL + JOURNAL_LEN.next_multiple_of(LINE);
// In a block's entry.
pub(super) const WORD: usize = 0;
pub(super) const LENGTH: usize = 8;
pub(super) const HOLDS: usize = 16;

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
    pub(super) fn bitmap(&self, block: usize) -> usize {
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
    pub(super) fn first_carrier(&self) -> usize {
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
