//! Where things are in a pool.

use crate::region::LINE;

/// How many blocks one message can carry.
pub const MAX_BLOCKS: usize = 31;

/// How many blocks a pool can have.
pub(super) const MAX_POOL: usize = 1 << 24;
pub(super) const MAX_CARRIERS: usize = 1024;

// Constants at the start of the object.
pub(super) const BLOCKS: usize = 0;
pub(super) const BLOCK_LEN: usize = 8;
pub(super) const PARTICIPANTS: usize = 16;
pub(super) const CARRIERS: usize = 24;
// In the same line, since they seldom change: how many of them were ever used for counting.
pub(super) const PARTICIPANTS_USED: usize = 32;
pub(super) const CARRIERS_USED: usize = 40;
// Behind them.
pub(super) const LAST: usize = 64;
pub(super) const LOANS: usize = 72;
pub(super) const REPAIRED: usize = 80;
/// A bit for each participant that waits for a block.
pub(super) const WAITING: usize = 96;
pub(super) const BITMAP: usize = 128;
// In a carrier's entry.
pub(super) const WHO: usize = 0;
pub(super) const PEER: usize = 8;
/// Of a ring: where in the segment it says how far it is released.
pub(super) const RELEASED: usize = 16;
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
    // Computed from the others, since every access needs them.
    first_carrier: usize,
    control_len: usize,
    controls: usize,
    payload: usize,
}

impl Geometry {
    pub(super) fn new(
        base: usize,
        blocks: usize,
        block_len: usize,
        participants: usize,
        carriers: usize,
    ) -> Geometry {
        // Carriers begin with a word of their own.
        let first_carrier = participants.next_multiple_of(8);
        let holds_len = first_carrier + (2 * carriers).next_multiple_of(8);
        let control_len = (HOLDS + holds_len).next_multiple_of(LINE);
        let controls = first_carrier_entry(base, blocks) + carriers * CARRIER_LEN;
        Geometry {
            base,
            blocks,
            block_len,
            participants,
            carriers,
            first_carrier,
            control_len,
            controls,
            payload: controls + blocks * control_len,
        }
    }

    #[inline]
    pub(super) fn bitmap(&self, block: usize) -> usize {
        self.base + BITMAP + block / 64 * 8
    }

    #[inline]
    pub(super) fn carrier(&self, carrier: usize) -> usize {
        debug_assert!(carrier < self.carriers);
        self.controls - (self.carriers - carrier) * CARRIER_LEN
    }

    /// Where the counters of a block are: its participants' and, from [`Self::first_carrier`] on,
    /// its carriers'.
    #[inline]
    pub(super) fn holds(&self, block: u32) -> usize {
        self.control(block as usize) + HOLDS
    }

    /// The first carrier's byte among the holds.
    #[inline]
    pub(super) fn first_carrier(&self) -> usize {
        self.first_carrier
    }

    #[inline]
    pub(super) fn control(&self, block: usize) -> usize {
        debug_assert!(block < self.blocks);
        self.controls + block * self.control_len
    }

    fn stride(&self) -> usize {
        self.block_len.next_multiple_of(LINE)
    }

    #[inline]
    pub(super) fn payload(&self, block: usize) -> usize {
        self.payload + block * self.stride()
    }

    /// Bytes of the whole object; `None` when they do not fit into an address space.
    pub(super) fn size(&self) -> Option<usize> {
        let payload = self.block_len.checked_next_multiple_of(LINE)?.checked_mul(self.blocks)?;
        let controls = self.control_len.checked_mul(self.blocks)?;
        let before = (self.blocks / 8).checked_add(self.carriers * CARRIER_LEN + 1024)?;
        controls.checked_add(before)?.checked_add(payload).filter(|all| *all < 1 << 48)?;
        Some(self.payload(0) - self.base + self.blocks * self.stride())
    }
}

fn first_carrier_entry(base: usize, blocks: usize) -> usize {
    base + BITMAP + (blocks.div_ceil(64) * 8).next_multiple_of(LINE)
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::layout::page;

    #[test]
    fn the_page_says_the_same() {
        let pool = [
            ("participants_used", PARTICIPANTS_USED),
            ("carriers_used", CARRIERS_USED),
            ("last_freed", LAST),
            ("loans", LOANS),
            ("repaired", REPAIRED),
            ("waiting", WAITING),
            ("bitmap", BITMAP),
        ];
        page::says("Pool of blocks", &pool);
        let carrier = [
            ("who", WHO),
            ("peer", PEER),
            ("put_journal", PUT_JOURNAL),
            ("get_journal", GET_JOURNAL),
        ];
        page::says("Carrier", &carrier);
        let end = CARRIER_LEN.to_string();
        assert!(include_str!("../../LAYOUT.md").contains(&format!("the carriers, {end} bytes")));
        let control = [("word", WORD), ("length", LENGTH), ("holds", HOLDS)];
        page::says("Control entry of a block", &control);
    }
}
