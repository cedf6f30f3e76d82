//! Where things are in a queue.

use super::words::{MOST_SLOTS, Position};
use crate::{
    error::{Error, Result},
    region::{LINE, Region},
    ring::{face::Side, role::Place},
    segment::Object,
    sync::Ordering,
};

// Constants.
const SLOTS: usize = 0;
const ITEM_LEN: usize = 8;
const SEATS: usize = 16;
pub(super) const POLICY: usize = 24;
// Changes seldom.
/// When somebody last asked who lives, in milliseconds of the clock that all processes share.
pub(super) const CHECKED: usize = 64;
/// How many producers there have been, to number them.
pub(super) const PRODUCERS: usize = 72;
/// Counts changes of seats, of producers and then of consumers.
const CHANGES: usize = 80;
/// A bit per seat whose holder sleeps, and one whose holder polls: of consumers, then of producers.
const ASLEEP: usize = 128;
const READY_TAIL: usize = 256;
const READY_HEAD: usize = 384;
const FREE_TAIL: usize = 512;
const FREE_HEAD: usize = 640;
// Counters that grow seldom.
pub(super) const REDELIVERED: usize = 768;
pub(super) const SKIPPED: usize = 776;
pub(super) const ABORTED: usize = 784;
pub(super) const LOST: usize = 792;
const TABLES: usize = 896;

const SEAT: usize = 16;
pub(super) const MOST_SEATS: usize = 256;

// In a slot.
pub(super) const LEN: usize = 8;
pub(super) const PRODUCER: usize = 12;
pub(super) const SEQUENCE: usize = 16;
/// In the sequence number: the item is a message of a port.
pub(super) const MESSAGE: u64 = 1 << 63;
const PAYLOAD: usize = 24;

/// Where a queue lies, and how large it is; constant and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    pub(super) base: usize,
    pub(super) slots: usize,
    pub(super) item_len: usize,
    pub(super) seats: usize,
}

impl Geometry {
    /// The smallest queue that has what is asked for, and its size.
    pub(super) fn new(slots: usize, item_len: usize, seats: usize) -> Result<(Geometry, usize)> {
        let bad = |reason| Error::BadParameters { action: "create a queue".into(), reason };
        if !(1..=MOST_SLOTS).contains(&slots) {
            return Err(bad(format!("{slots} slots: 1 to {MOST_SLOTS} are possible")));
        }
        if !(1..=MOST_SEATS).contains(&seats) {
            return Err(bad(format!("{seats} ends of a kind: 1 to {MOST_SEATS} are possible")));
        }
        let geometry = Geometry { base: 0, slots, item_len, seats };
        let size = geometry.size().filter(|_| u32::try_from(item_len).is_ok());
        let size = size.ok_or_else(|| bad(format!("{slots} slots of {item_len} bytes")))?;
        Ok((geometry, size))
    }

    /// Copies the constants of a queue once and checks the copy.
    pub(super) fn read(region: &Region, object: Object) -> Result<Geometry> {
        let geometry = Geometry::read_checked(region, object);
        geometry.ok_or_else(|| corrupt("its size or its place is impossible"))
    }

    fn read_checked(region: &Region, object: Object) -> Option<Geometry> {
        if object.size < TABLES {
            return None;
        }
        let get = |at| region.u64(object.offset + at).load(Ordering::Relaxed);
        let get = |at| usize::try_from(get(at)).ok();
        let (geometry, size) = Geometry::new(get(SLOTS)?, get(ITEM_LEN)?, get(SEATS)?).ok()?;
        let fits = size <= object.size && object.offset.is_multiple_of(2 * LINE);
        fits.then_some(Geometry { base: object.offset, ..geometry })
    }

    /// Writes the constants into fresh memory.
    pub(super) fn write(&self, region: &Region) {
        let set = |at, value| region.u64(self.base + at).store(value as u64, Ordering::Relaxed);
        set(SLOTS, self.slots);
        set(ITEM_LEN, self.item_len);
        set(SEATS, self.seats);
    }

    fn size(&self) -> Option<usize> {
        let slots = self.slots.checked_mul(self.stride()?)?;
        slots.checked_add(self.first_slot()).filter(|size| *size <= isize::MAX as usize)
    }

    /// Bytes from one slot to the next.
    fn stride(&self) -> Option<usize> {
        Some(self.item_len.checked_add(PAYLOAD + LINE - 1)? / LINE * LINE)
    }

    /// Cells of a list.
    pub(super) fn cells(&self) -> usize {
        self.slots.next_power_of_two()
    }

    fn first_cell(&self) -> usize {
        self.base + (TABLES + 2 * self.seats * SEAT).next_multiple_of(2 * LINE)
    }

    fn first_slot(&self) -> usize {
        (self.first_cell() + 2 * self.cells() * 8).next_multiple_of(2 * LINE)
    }

    /// Where a slot begins: with its word. `slot` is less than there are.
    pub(super) fn slot(&self, slot: u32) -> usize {
        debug_assert!((slot as usize) < self.slots);
        self.first_slot() + slot as usize * self.stride().unwrap_or(0)
    }

    pub(super) fn payload(&self, slot: u32) -> usize {
        self.slot(slot) + PAYLOAD
    }

    /// The word of a seat, and behind it where that seat is on its way to.
    pub(super) fn seat(&self, side: Side, number: usize) -> Place {
        debug_assert!(number < self.seats);
        let first = if side == Side::Consumer { self.seats } else { 0 };
        let word = self.base + TABLES + (first + number) * SEAT;
        Place { word, destination: word + 8 }
    }

    /// The words that say who sleeps: one for each 64 seats.
    pub(super) fn asleep(&self, side: Side) -> usize {
        self.base + ASLEEP + if side == Side::Producer { LINE } else { 0 }
    }

    /// The words that say who waits for other things too.
    pub(super) fn polling(&self, side: Side) -> usize {
        self.asleep(side) + MOST_SEATS / 8
    }

    pub(super) fn changes(&self, side: Side) -> usize {
        self.base + CHANGES + if side == Side::Consumer { 8 } else { 0 }
    }

    /// The list that a side takes from.
    pub(super) fn head(&self, side: Side) -> usize {
        self.base + if side == Side::Producer { FREE_HEAD } else { READY_HEAD }
    }

    pub(super) fn tail(&self, side: Side) -> usize {
        self.base + if side == Side::Producer { FREE_TAIL } else { READY_TAIL }
    }

    pub(super) fn cell(&self, side: Side, position: Position) -> usize {
        let cells = self.cells();
        let first = if side == Side::Producer { cells } else { 0 };
        self.first_cell() + (first + (position.count() as usize & (cells - 1))) * 8
    }

    /// Where the first positions are: cells begin one lap behind them.
    pub(super) fn start(&self) -> Position {
        Position::new(self.cells() as u64)
    }
}

pub(super) fn corrupt(reason: &str) -> Error {
    Error::Corrupt { what: "a queue".into(), reason: reason.into() }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;
    use crate::layout::page;

    #[test]
    fn the_page_says_the_same() {
        let (geometry, _) = Geometry::new(1, 8, 256).unwrap();
        let (producer, consumer) = (Side::Producer, Side::Consumer);
        let queue = [
            ("slots", SLOTS),
            ("limit", ITEM_LEN),
            ("seats", SEATS),
            ("policy", POLICY),
            ("checked", CHECKED),
            ("producers", PRODUCERS),
            ("producer_changes", geometry.changes(producer)),
            ("consumer_changes", geometry.changes(consumer)),
            ("consumers_asleep", geometry.asleep(consumer)),
            ("consumers_polling", geometry.polling(consumer)),
            ("producers_asleep", geometry.asleep(producer)),
            ("producers_polling", geometry.polling(producer)),
            ("ready_tail", geometry.tail(consumer)),
            ("ready_head", geometry.head(consumer)),
            ("free_tail", geometry.tail(producer)),
            ("free_head", geometry.head(producer)),
            ("redelivered", REDELIVERED),
            ("skipped", SKIPPED),
            ("aborted", ABORTED),
            ("lost", LOST),
            ("data", TABLES),
        ];
        page::says("Queue", &queue);
        let slot = [
            ("word", 0),
            ("length", LEN),
            ("producer", PRODUCER),
            ("sequence", SEQUENCE),
            ("value", geometry.payload(0) - geometry.slot(0)),
        ];
        page::says("Slot of a queue", &slot);
    }

    #[test]
    fn nothing_overlaps() {
        for (slots, item_len, seats) in [(1, 0, 1), (3, 40, 64), (64, 41, 65), (100, 4096, 256)] {
            let (geometry, size) = Geometry::new(slots, item_len, seats).unwrap();
            let cells = geometry.cells() as u64;
            let mut places = vec![(SLOTS, 32), (CHECKED, 32)];
            for side in [Side::Producer, Side::Consumer] {
                places.extend([(geometry.asleep(side), 32), (geometry.polling(side), 32)]);
                places.extend([(geometry.head(side), 8), (geometry.tail(side), 8)]);
                places.extend((0..seats).map(|seat| (geometry.seat(side, seat).word, SEAT)));
                let cell = |at| (geometry.cell(side, Position::new(at)), 8);
                places.extend((0..cells).map(cell));
                assert_eq!(cell(cells), cell(0));
            }
            places.push((REDELIVERED, 32));
            let slot = |at| geometry.slot(at);
            places.extend((0..slots as u32).map(|at| (slot(at), PAYLOAD + item_len)));
            places.sort_unstable();
            for pair in places.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
            }
            let (last, len) = places[places.len() - 1];
            assert!(last + len <= size);
            assert_eq!(geometry.payload(0) % 8, 0);
        }
    }

    #[test]
    fn what_is_impossible_is_refused() {
        for (slots, item_len, seats) in [
            (0, 8, 1),
            (MOST_SLOTS + 1, 8, 1),
            (1, usize::MAX, 1),
            (1, 1 << 32, 1),
            (1, 8, 0),
            (1, 8, 257),
        ] {
            assert!(Geometry::new(slots, item_len, seats).is_err(), "{slots} {item_len} {seats}");
        }
    }
}
