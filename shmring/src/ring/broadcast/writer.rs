//! The producer's positions: what is claimed, published, and overwritten.
//!
//! Nothing here knows of processes or waiting: the models and the property tests run this very code
//! on a heap region.

use super::{
    memory::{
        Corrupt, DROPPED, Geometry, Header, Kind, LAST, OLDEST, SENT, TAIL, WORD, header, number,
        position, read_header, size,
    },
    table::{Entry, View},
};
use crate::{
    fault::fault,
    region::Region,
    sync::{Ordering, fence},
};

/// The window is extended by this part of the ring at once, where cursors allow.
const PARTS: u64 = 8;

/// Why no room could be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoRoom {
    Full,
    TooLarge,
    Corrupt,
}

impl From<Corrupt> for NoRoom {
    fn from(_: Corrupt) -> NoRoom {
        NoRoom::Corrupt
    }
}

/// Room for one record: nothing is written before it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// Where the payload goes, as an offset in the region.
    pub(super) offset: usize,
    pub(super) len: usize,
    position: u64,
}

/// The producer's side.
#[derive(Debug)]
pub(super) struct Writer {
    geometry: Geometry,
    /// Where the next publication begins; the header there is 0.
    published: u64,
    /// Where the next record begins.
    next: u64,
    /// The header that publishes all that was committed since.
    withheld: Option<u64>,
    committed: u64,
    /// Records published, and items dropped: together the number of the next one.
    sent: u64,
    dropped: u64,
    /// Where the record begins that was put last.
    last: u64,
    /// The end of the window.
    limit: u64,
    /// What `oldest` says.
    oldest: u64,
    view: Option<View>,
    /// No cursor may be before this when something is claimed, for the sake of what is not in the
    /// ring; and up to where that is known.
    floor: u64,
    passed: u64,
}

impl Writer {
    /// Starts where the published records end.
    pub(super) fn attach(region: &Region, geometry: Geometry) -> Result<Writer, Corrupt> {
        let get = |at| region.u64(geometry.base + at).load(Ordering::Acquire);
        // SYNC told: Acquire here, Release in `tell`.
        let (oldest, told) = (position(get(OLDEST))?, position(get(TAIL))?);
        let (mut tail, mut sent, dropped) = (told, number(get(SENT))?, number(get(DROPPED))?);
        let mut last = position(get(LAST))?;
        let used = |tail: u64| tail.checked_sub(oldest).ok_or(Corrupt);
        loop {
            if used(tail)? > geometry.capacity as u64 {
                return Err(Corrupt);
            }
            let word = region.u64(geometry.at(tail)).load(Ordering::Acquire);
            if word == 0 {
                break;
            }
            let (what, end) = read_header(geometry, tail, word)?;
            if let Header::Bytes(_) = what {
                let word = region.u64(geometry.at(tail) + WORD as usize).load(Ordering::Relaxed);
                // Nothing was dropped since, or it would have been told.
                last = tail;
                sent = (number(word)? + 1).checked_sub(dropped).ok_or(Corrupt)?;
            }
            tail = end;
        }
        let writer = Writer {
            geometry,
            published: tail,
            next: tail,
            withheld: None,
            committed: 0,
            sent,
            dropped,
            last,
            limit: tail,
            oldest,
            view: None,
            floor: 0,
            passed: 0,
        };
        if tail != told {
            writer.tell(region);
        }
        Ok(writer)
    }

    /// Step 1: makes sure there is room for a record of `len`.
    #[inline]
    pub(super) fn claim(&mut self, region: &Region, len: usize) -> Result<Room, NoRoom> {
        if len > self.geometry.max_len() {
            return Err(NoRoom::TooLarge);
        }
        let (position, end) = place(self.geometry, self.next, len);
        let needed = end + WORD;
        if needed > self.limit || self.floor > self.passed {
            self.extend(region, needed)?;
        }
        fault!("broadcast.claimed");
        let offset = self.geometry.at(position) + 2 * WORD as usize;
        Ok(Room { offset, len, position })
    }

    /// Steps 2 to 4: extends the window up to `needed` at least.
    #[cold]
    fn extend(&mut self, region: &Region, needed: u64) -> Result<(), NoRoom> {
        let capacity = self.geometry.capacity as u64;
        let must = needed.saturating_sub(capacity);
        if must > self.published {
            return Err(NoRoom::Full); // A batch as long as the ring.
        }
        let must = must.max(self.floor);
        let mut view = self.view_up_to(region, must);
        if must > view.from {
            return Err(NoRoom::Full);
        }
        let wanted = needed.max(self.published + capacity / PARTS).saturating_sub(capacity);
        let oldest = self.first_from(region, wanted.min(view.from).min(self.published))?;
        if oldest > view.from {
            return Err(NoRoom::Full); // A cursor in the middle of a record: a liar's.
        }
        if oldest != self.oldest {
            self.oldest = oldest;
            // SYNC oldest: Release here, Acquire where it is read to go on from there.
            region.u64(self.geometry.base + OLDEST).store(oldest, Ordering::Release);
        }
        fault!("broadcast.extended");
        // SYNC joining: pairs with the fence in `Reader::protect`; one of the two sees the other.
        // It also stands between `oldest` and what is written: SYNC lapped, as in a seqlock, with
        // the fences in `Reader::is_lapped`.
        fence(Ordering::SeqCst);
        if !view.is_current(region, self.geometry) {
            view = self.look(region);
        }
        self.limit = self.limit.max(oldest.min(view.from) + capacity);
        if needed > self.limit || self.floor > view.from {
            return Err(NoRoom::Full);
        }
        self.passed = self.floor;
        Ok(())
    }

    /// What is known of the table, anew if that does not do. The slowest is asked first: while it
    /// holds us back nobody else matters.
    fn view_up_to(&mut self, region: &Region, must: u64) -> View {
        let slowest = |view: &View| Entry::of(region, self.geometry, view.slowest);
        match self.view {
            Some(view) if !view.is_current(region, self.geometry) => self.look(region),
            Some(view) if must <= view.from => view,
            Some(view)
                if slowest(&view)
                    .holds(self.geometry.capacity, self.published)
                    .is_some_and(|cursor| cursor < must) =>
            {
                view
            }
            _ => self.look(region),
        }
    }

    fn look(&mut self, region: &Region) -> View {
        *self.view.insert(View::of(region, self.geometry, self.published))
    }

    /// The first record at or after `from`, which is not after what is published.
    fn first_from(&self, region: &Region, from: u64) -> Result<u64, Corrupt> {
        let mut position = self.oldest;
        while position < from {
            let word = region.u64(self.geometry.at(position)).load(Ordering::Relaxed);
            position = read_header(self.geometry, position, word)?.1;
        }
        if position <= self.published { Ok(position) } else { Err(Corrupt) }
    }

    /// Nothing can be claimed from now on before all that counts has gone past this position, which
    /// is not after what is published.
    pub(super) fn wait_until_passed(&mut self, position: u64) {
        self.floor = position;
    }

    /// Where the next publication begins.
    pub(super) fn published(&self) -> u64 {
        self.published
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The records from the oldest to the newest: the number of each, where it ends, and its first
    /// word.
    pub(super) fn records(&self, region: &Region) -> Result<Vec<(u64, u64, u64)>, Corrupt> {
        let (mut position, mut records) = (self.oldest, Vec::new());
        while position < self.published {
            let at = |word: usize| self.geometry.at(position) + word * WORD as usize;
            let get = |word| region.u64(at(word)).load(Ordering::Relaxed);
            let (header, end) = read_header(self.geometry, position, get(0))?;
            if let Header::Bytes(len) = header {
                let first = if len >= WORD as usize { get(2) } else { 0 };
                records.push((number(get(1))?, end, first));
            }
            position = end;
        }
        Ok(records)
    }

    /// Whose cursor was the smallest when it was last looked at.
    pub(super) fn slowest(&self) -> usize {
        self.view.map_or(0, |view| view.slowest)
    }

    /// Looks at the table again before the next extension.
    pub(super) fn forget_view(&mut self) {
        self.view = None;
    }

    /// Step 5: puts a filled record behind those committed before, not yet visible. `len` is at
    /// most what was claimed.
    #[inline]
    pub(super) fn commit(&mut self, region: &Region, room: Room, len: usize) {
        debug_assert!(len <= room.len);
        if room.position != self.next {
            let rest = self.geometry.rest(self.next);
            self.put(region, header(Kind::Pad, self.next, rest - WORD));
            self.next = room.position;
        }
        let number = self.sequence() + self.committed;
        let at = self.geometry.at(self.next) + WORD as usize;
        region.u64(at).store(number, Ordering::Relaxed);
        self.put(region, header(Kind::Bytes, self.next, len as u64));
        self.last = self.next;
        self.next += size(len);
        self.committed += 1;
    }

    fn put(&mut self, region: &Region, header: u64) {
        if self.next == self.published {
            self.withheld = Some(header);
        } else {
            region.u64(self.geometry.at(self.next)).store(header, Ordering::Relaxed);
        }
    }

    /// Steps 6 to 8: makes all committed records visible at once. Tells whether there were any.
    #[inline]
    pub(super) fn publish(&mut self, region: &Region) -> bool {
        let Some(header) = self.withheld.take() else { return false };
        fault!("broadcast.committed");
        region.u64(self.geometry.at(self.next)).store(0, Ordering::Relaxed);
        fault!("broadcast.zeroed");
        // SYNC published: Release here, Acquire in `Reader::peek`.
        region.u64(self.geometry.at(self.published)).store(header, Ordering::Release);
        fault!("broadcast.published");
        self.published = self.next;
        self.sent += self.committed;
        self.committed = 0;
        self.tell(region);
        fault!("broadcast.told");
        true
    }

    /// Step 8.
    fn tell(&self, region: &Region) {
        region.u64(self.geometry.base + SENT).store(self.sent, Ordering::Relaxed);
        region.u64(self.geometry.base + LAST).store(self.last, Ordering::Relaxed);
        // SYNC told: Release here, Acquire where a consumer joins or is lapped, and in `attach`:
        // who sees the tail sees a number that is not smaller.
        region.u64(self.geometry.base + TAIL).store(self.published, Ordering::Release);
    }

    /// Drops an item: it has a number, and nothing else.
    pub(super) fn drop_one(&mut self, region: &Region) {
        self.dropped += 1;
        region.u64(self.geometry.base + DROPPED).store(self.dropped, Ordering::Relaxed);
        fault!("broadcast.dropped");
    }

    /// The number of the next item that is published or dropped.
    pub(super) fn sequence(&self) -> u64 {
        self.sent + self.dropped
    }

    /// Forgets what was committed and not published.
    pub(super) fn abort(&mut self) {
        self.next = self.published;
        self.withheld = None;
        self.committed = 0;
    }
}

/// Whether a writer would find room for a record of `len`, or as much as it can be, and who is in
/// its way most; for those who have no writer.
///
/// As with [`Writer::wait_until_passed`], no cursor may be before `floor`.
pub(super) fn look_for_room(
    region: &Region,
    geometry: Geometry,
    len: usize,
    floor: u64,
) -> (bool, View) {
    let tail = region.u64(geometry.base + TAIL).load(Ordering::Acquire);
    let view = View::of(region, geometry, tail);
    // A lie is there to be found.
    let Ok(tail) = position(tail) else { return (true, view) };
    let (_, end) = place(geometry, tail, len.min(geometry.max_len()));
    let must = (end + WORD).saturating_sub(geometry.capacity as u64).max(floor);
    (must <= view.from, view)
}

/// Where a record that comes next after a position begins and ends.
#[inline]
fn place(geometry: Geometry, next: u64, len: usize) -> (u64, u64) {
    let (size, rest) = (size(len), geometry.rest(next));
    let position = if size <= rest { next } else { next + rest };
    (position, position + size)
}
