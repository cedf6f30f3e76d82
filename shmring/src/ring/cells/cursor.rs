//! Positions of a ring of cells: what is claimed, published, read and released.
//!
//! Nothing here knows of processes, waiting or types, and items are not touched: the models and the
//! property tests run this very code on a heap region.

use crate::{
    fault::fault,
    region::{LINE, Region},
    sync::Ordering,
};

// Offsets within the object.
pub(super) const CAPACITY: usize = 0;
pub(super) const ITEM_LEN: usize = 8;
pub(super) const ITEM_ALIGN: usize = 16;
pub(super) const POLICY: usize = 24;
pub(super) const LABEL_LEN: usize = 28;
pub(super) const LABEL: usize = 32;
pub(super) const LABEL_MAX: usize = 64;
pub(super) const ROLES: usize = 128;
const TAIL: usize = 256;
const LOST: usize = 264;
const HEAD: usize = 384;
pub(super) const DATA: usize = 512;

const WORD: usize = 8;
/// Whoever writes longer items has nothing from getting their lines before.
const LONGEST_AHEAD: usize = 2048;

/// The strictest alignment of an item: objects begin on a multiple of this.
pub(super) const MOST_ALIGN: usize = 2 * LINE;

/// Where the cells of a ring lie; constant and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    base: usize,
    /// Where the first item is.
    items: usize,
    capacity: u64,
    /// Bytes of an item.
    item: usize,
    /// Whether each cell has a mark.
    marked: bool,
}

impl Geometry {
    /// `capacity` is a power of two, for which [`Geometry::size`] is a number.
    pub(super) fn new(base: usize, capacity: usize, item: usize, marked: bool) -> Geometry {
        let marks = Self::marks(capacity, marked).unwrap_or(0);
        Geometry { base, items: base + DATA + marks, capacity: capacity as u64, item, marked }
    }

    /// Bytes that a ring takes; `None` when no memory has so many.
    pub(super) fn size(capacity: usize, item: usize, marked: bool) -> Option<usize> {
        let items = capacity.checked_mul(item)?;
        let size = DATA.checked_add(Self::marks(capacity, marked)?)?.checked_add(items)?;
        (size <= isize::MAX as usize - 4096).then_some(size)
    }

    fn marks(capacity: usize, marked: bool) -> Option<usize> {
        if !marked {
            return Some(0);
        }
        capacity.checked_mul(8)?.checked_next_multiple_of(MOST_ALIGN)
    }

    pub(super) fn capacity(self) -> usize {
        self.capacity as usize
    }

    #[inline]
    fn index(self, position: u64) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    /// Where a cell's item is.
    #[inline]
    fn place(self, position: u64) -> usize {
        self.items + self.index(position) * self.item
    }

    #[inline]
    fn mark(self, position: u64) -> usize {
        self.base + DATA + self.index(position) * 8
    }

    /// Cells from a position to the end of the array.
    #[inline]
    fn rest(self, position: u64) -> u64 {
        self.capacity - (position & (self.capacity - 1))
    }
}

/// What a peer wrote contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Corrupt;

/// Why no cell could be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    Full,
    Corrupt,
}

/// Cells that follow each other, as a place in the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cells {
    /// Of the first item, in the region.
    pub(crate) offset: usize,
    /// How many items.
    pub(crate) count: usize,
    /// Of one item.
    pub(crate) item: usize,
}

impl Cells {
    /// Those after the first `count`.
    #[inline]
    pub(crate) fn after(self, count: usize) -> Cells {
        debug_assert!(count <= self.count);
        let offset = self.offset + count * self.item;
        Cells { offset, count: self.count - count, item: self.item }
    }
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Writer {
    geometry: Geometry,
    /// The first cell that is not published.
    next: u64,
    /// The consumer's position as last seen.
    head: u64,
    lost: u64,
}

impl Writer {
    /// Starts where the published cells end.
    pub(crate) fn attach(region: &Region, geometry: Geometry) -> Result<Writer, Corrupt> {
        let get = |at| region.u64(geometry.base + at).load(Ordering::Acquire);
        let (head, next, lost) = (get(HEAD), get(TAIL), get(LOST));
        if next.wrapping_sub(head) > geometry.capacity {
            return Err(Corrupt);
        }
        Ok(Writer { geometry, next, head, lost })
    }

    #[inline]
    fn free(&self) -> u64 {
        self.geometry.capacity - self.next.wrapping_sub(self.head)
    }

    /// Step 1: up to `wanted` free cells, at least one, none beyond the end of the array.
    #[inline(always)]
    pub(crate) fn claim(&mut self, region: &Region, wanted: usize) -> Result<Cells, NoRoom> {
        let wanted = (wanted as u64).min(self.geometry.rest(self.next));
        if self.free() < wanted {
            self.look_at_head(region)?;
        }
        fault!("cells.claimed");
        let count = self.free().min(wanted) as usize;
        let offset = self.geometry.place(self.next);
        Ok(Cells { offset, count, item: self.geometry.item })
    }

    /// The cell behind so many that were claimed and filled, but not published.
    #[inline]
    pub(crate) fn claim_after(&mut self, region: &Region, filled: usize) -> Result<Cells, NoRoom> {
        if self.free() <= filled as u64 {
            self.look_at_head(region)?;
            if self.free() <= filled as u64 {
                return Err(NoRoom::Full);
            }
        }
        fault!("cells.claimed");
        let offset = self.geometry.place(self.next.wrapping_add(filled as u64));
        Ok(Cells { offset, count: 1, item: self.geometry.item })
    }

    /// Reads how far the consumer is. `Full` when no cell is free even so.
    #[inline]
    fn look_at_head(&mut self, region: &Region) -> Result<(), NoRoom> {
        // SYNC released: Acquire here, Release in `Reader::release`.
        let head = region.u64(self.geometry.base + HEAD).load(Ordering::Acquire);
        if head.wrapping_sub(self.head) > self.next.wrapping_sub(self.head) {
            return Err(NoRoom::Corrupt);
        }
        self.head = head;
        if self.free() == 0 { Err(NoRoom::Full) } else { Ok(()) }
    }

    /// Steps 3 and 4: lets the consumer see `count` cells that were claimed and filled.
    #[inline]
    pub(crate) fn publish(&mut self, region: &Region, count: usize) {
        fault!("cells.filled");
        let end = self.next.wrapping_add(count as u64);
        if self.geometry.marked {
            for position in (0..count as u64).map(|ahead| self.next.wrapping_add(ahead)) {
                region.u64(self.geometry.mark(position)).store(self.lost, Ordering::Relaxed);
            }
            fault!("cells.marked");
        }
        // SYNC published: Release here, Acquire in `Reader::look`.
        region.u64(self.geometry.base + TAIL).store(end, Ordering::Release);
        fault!("cells.published");
        self.next = end;
        self.get_ahead(region);
    }

    /// Gets the lines of the next item, if its cell is free: while the caller makes it, and not when it
    /// waits for them to write it. A line that is shared with the cell before is with the consumer soon.
    #[inline]
    fn get_ahead(&self, region: &Region) {
        if self.free() == 0 || self.geometry.item > LONGEST_AHEAD {
            return;
        }
        let place = self.geometry.place(self.next);
        let end = place + self.geometry.item;
        for line in (place.next_multiple_of(LINE)..end.saturating_sub(WORD - 1)).step_by(LINE) {
            region.take_line(line);
        }
        fault!("cells.ahead");
    }

    /// Counts an item that will never be in the ring.
    pub(crate) fn lose(&mut self, region: &Region) {
        self.lost = self.lost.wrapping_add(1);
        region.u64(self.geometry.base + LOST).store(self.lost, Ordering::Relaxed);
        fault!("cells.lost");
    }
}

/// The consumer's side.
#[derive(Debug)]
pub(crate) struct Reader {
    geometry: Geometry,
    /// What has been read; up to here it can be released.
    next: u64,
    released: u64,
    /// The producer's position as last seen.
    tail: u64,
}

/// Items that are there to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) cells: Cells,
    /// Of the first one: how many were sent or lost before it.
    pub(crate) sequence: u64,
}

impl Reader {
    /// Starts at what nobody has released yet.
    pub(crate) fn attach(region: &Region, geometry: Geometry) -> Reader {
        let head = region.u64(geometry.base + HEAD).load(Ordering::Acquire);
        Reader { geometry, next: head, released: head, tail: head }
    }

    /// Whether it is worth looking for the next item.
    #[inline]
    pub(crate) fn is_ready(&self, region: &Region) -> bool {
        region.u64(self.geometry.base + TAIL).load(Ordering::Relaxed) != self.next
    }

    /// Whether all items that are known of were read.
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.tail == self.next
    }

    /// Step 1: reads how far the producer is.
    #[inline(always)]
    fn look(&mut self, region: &Region) -> Result<(), Corrupt> {
        // SYNC published: Acquire here, Release in `Writer::publish`.
        let tail = region.u64(self.geometry.base + TAIL).load(Ordering::Acquire);
        if tail.wrapping_sub(self.next) > self.geometry.capacity {
            return Err(Corrupt);
        }
        self.tail = tail;
        Ok(())
    }

    /// The next item, `None` when there is none.
    #[inline(always)]
    pub(crate) fn peek(&mut self, region: &Region) -> Result<Option<Found>, Corrupt> {
        if self.tail == self.next {
            self.look(region)?;
        }
        Ok((self.tail != self.next).then(|| self.found(region, 1)))
    }

    /// All items that are there and follow each other, in the array and by their numbers.
    #[inline(always)]
    pub(crate) fn peek_run(&mut self, region: &Region) -> Result<Option<Found>, Corrupt> {
        self.look(region)?;
        let there = self.tail.wrapping_sub(self.next).min(self.geometry.rest(self.next));
        if there == 0 {
            return Ok(None);
        }
        let mut found = self.found(region, there as usize);
        if self.geometry.marked {
            let mark = self.mark(region, self.next);
            let same = |ahead: &u64| self.mark(region, self.next.wrapping_add(*ahead)) == mark;
            found.cells.count = 1 + (1..there).take_while(same).count();
        }
        Ok(Some(found))
    }

    #[inline]
    fn mark(&self, region: &Region, position: u64) -> u64 {
        region.u64(self.geometry.mark(position)).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn found(&self, region: &Region, count: usize) -> Found {
        let lost = if self.geometry.marked { self.mark(region, self.next) } else { 0 };
        let offset = self.geometry.place(self.next);
        let cells = Cells { offset, count, item: self.geometry.item };
        Found { cells, sequence: self.next.wrapping_add(lost) }
    }

    /// Goes past items that were read.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.next = self.next.wrapping_add(count as u64);
    }

    /// Step 3, without the doorbell: gives the cells of all that was read back. Tells whether
    /// there were any.
    #[inline]
    pub(crate) fn release(&mut self, region: &Region) -> bool {
        if self.released == self.next {
            return false;
        }
        fault!("cells.read");
        self.released = self.next;
        // SYNC released: Release here, Acquire in `Writer::look_at_head`.
        region.u64(self.geometry.base + HEAD).store(self.next, Ordering::Release);
        fault!("cells.released");
        true
    }
}

/// Whether a reader would find something, a lie included; for those who have no reader.
pub(super) fn has_item(region: &Region, geometry: Geometry) -> bool {
    let get = |at| region.u64(geometry.base + at).load(Ordering::Acquire);
    get(HEAD) != get(TAIL)
}

/// Whether a writer would find room, or a lie; for those who have no writer.
pub(super) fn has_room(region: &Region, geometry: Geometry) -> bool {
    let get = |at| region.u64(geometry.base + at).load(Ordering::Acquire);
    let tail = get(TAIL);
    tail.wrapping_sub(get(HEAD)) != geometry.capacity
}

/// What an onlooker sees; each number is a moment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Items published since the ring was made.
    pub sent: u64,
    /// Items released.
    pub taken: u64,
    /// Items given up because the ring was full.
    pub lost: u64,
    /// Items in the ring, those that are being read included.
    pub used: u64,
    /// Items there can be.
    pub capacity: u64,
}

pub(super) fn stats(region: &Region, geometry: Geometry) -> Stats {
    let get = |at| region.u64(geometry.base + at).load(Ordering::Acquire);
    let (taken, sent, lost) = (get(HEAD), get(TAIL), get(LOST));
    let used = sent.wrapping_sub(taken).min(geometry.capacity);
    Stats { sent, taken, lost, used, capacity: geometry.capacity }
}

#[cfg(all(test, not(shmring_loom)))]
#[path = "cursor_tests.rs"]
mod tests;
