//! The words that the processes of a test share: whom to kill where, and what was passed.

use std::sync::OnceLock;

use shmring::board::Board;

use super::shapes::COUNT;

/// How many deaths are planned, and how many have been.
pub(super) const PLANNED: usize = 0;
pub(super) const DIED: usize = 1;
/// How often the victim has passed the point of its next death.
pub(super) const PASSED: usize = 2;
/// Whether the victim is at work.
pub(super) const AT_WORK: usize = 3;
/// How many points have been passed.
pub(super) const SEEN: usize = 4;
/// Whether the first death is held back until the run has been stopped; whether it is at hand; and
/// whether it may be.
pub(super) const STOPS: usize = 5;
pub(super) const HELD: usize = 6;
pub(super) const GO: usize = 7;
/// Of each planned death: how many passes, and the name of the point.
pub(super) const PLANS: usize = 8;
pub(super) const MOST_PLANS: usize = 4;
/// Of each point: how many passes, and its name.
pub(super) const POINTS: usize = PLANS + MOST_PLANS * ENTRY;
pub(super) const MOST_POINTS: usize = 120;
/// Of each item of a sink: how often it was handled.
pub(super) const ITEMS: usize = POINTS + MOST_POINTS * ENTRY;
pub(super) const ENTRY: usize = 6;
const ALL: usize = ITEMS + COUNT as usize;

static WORDS: OnceLock<Board> = OnceLock::new();

pub(super) fn of_this_test() -> &'static Board {
    WORDS.get_or_init(|| Board::options().words(ALL).bells(1).anonymous().unwrap())
}

pub(super) fn clear() {
    (0..ALL).for_each(|word| of_this_test().store(word, 0));
}

/// A name as words.
fn packed(name: &str) -> [u64; ENTRY - 1] {
    let mut bytes = [0; 8 * (ENTRY - 1)];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    std::array::from_fn(|word| u64::from_le_bytes(bytes[8 * word..][..8].try_into().unwrap()))
}

pub(super) fn write_name(entry: usize, name: &str) {
    for (word, bytes) in packed(name).into_iter().enumerate() {
        of_this_test().store(entry + 1 + word, bytes);
    }
}

pub(super) fn has_name(entry: usize, name: &str) -> bool {
    let same = |(word, bytes)| of_this_test().load(entry + 1 + word) == bytes;
    packed(name).into_iter().enumerate().all(same)
}

pub(super) fn name(entry: usize) -> String {
    let words = (1..ENTRY).map(|word| of_this_test().load(entry + word).to_le_bytes());
    let bytes = words.flatten().filter(|byte| *byte != 0).collect();
    String::from_utf8(bytes).unwrap()
}

/// Notes that a sink has handled an item.
pub(super) fn note(item: u64) {
    of_this_test().add(ITEMS + item as usize, 1);
}
