//! A consumer's position: how it joins, what it finds, and what it gives back.
//!
//! As the producer's positions, this knows nothing of processes or waiting.

use super::{
    memory::{
        Corrupt, Geometry, Header, LAST, OLDEST, TAIL, WORD, newest, number, position, read_header,
    },
    table::{self, Entry, Kind},
};
use crate::{
    fault::fault,
    region::Region,
    sync::{Ordering, fence},
};

/// How often a consumer looks where the producer is meanwhile, before it says that there is nothing
/// to find. An honest producer makes two of them necessary.
pub(super) const TRIES: usize = 16;
/// The same while it joins a small ring with a quick producer.
const JOINING_TRIES: usize = 10_000;

/// An item that is there to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Where the payload is, as an offset in the region.
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) sequence: u64,
    start: u64,
    end: u64,
}

/// Why there is no item to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Corrupt,
    Lapped { missed: u64 },
}

impl From<Corrupt> for Trouble {
    fn from(_: Corrupt) -> Trouble {
        Trouble::Corrupt
    }
}

/// A consumer's side.
#[derive(Debug)]
pub(super) struct Reader {
    geometry: Geometry,
    index: usize,
    kind: Kind,
    /// The next item, and its number.
    next: u64,
    expected: u64,
    /// Up to here the producer may overwrite what is not history.
    released: u64,
    /// Whether it was lapped since its last item, and whether it found none where it went then.
    strayed: bool,
    hurried: bool,
}

impl Reader {
    /// Joins at a place whose role the caller has taken, `history` items back at most.
    pub(super) fn join(
        region: &Region,
        geometry: Geometry,
        index: usize,
        kind: Kind,
        history: u64,
    ) -> Result<Reader, Corrupt> {
        fault!("broadcast.join.taken");
        let mut reader = Reader {
            geometry,
            index,
            kind,
            next: 0,
            expected: 0,
            released: 0,
            strayed: false,
            hurried: false,
        };
        reader.next = if history == 0 { reader.tail(region)? } else { reader.oldest(region)? };
        reader.entry(region).set_kind(kind);
        if kind == Kind::Lossless {
            reader.protect(region, |reader| match history {
                0 => reader.tail(region),
                _ => reader.oldest(region),
            })?;
        }
        // What it counts was stored before the tail that was read.
        let newest = newest(region, geometry)?;
        reader.expected = newest;
        if history > 0 {
            reader.go_to(region, newest.saturating_sub(history))?;
        }
        reader.released = reader.next;
        reader.entry(region).set_cursor(reader.next, reader.expected);
        Ok(reader)
    }

    /// Goes on where the holder before has been, from whom the role came without a gap.
    pub(super) fn resume(
        region: &Region,
        geometry: Geometry,
        index: usize,
    ) -> Result<Reader, Corrupt> {
        let entry = Entry::of(region, geometry, index);
        let kind = entry.kind().ok_or(Corrupt)?;
        let (next, expected) = entry.cursor()?;
        let expected = number(expected)?;
        // A lossy holder may have gone past something that it was not yet told of.
        let (strayed, hurried) = (kind == Kind::Lossy, false);
        Ok(Reader { geometry, index, kind, next, expected, released: next, strayed, hurried })
    }

    /// Joins again, with a role that was closed meanwhile.
    pub(super) fn rejoin(&mut self, region: &Region) -> Result<(), Corrupt> {
        self.entry(region).set_kind(self.kind);
        if self.kind == Kind::Lossless {
            let before = self.next;
            self.protect(region, |reader| reader.oldest(region))?;
            self.strayed = self.next != before;
        }
        self.released = self.next;
        self.entry(region).set_cursor(self.next, self.expected);
        Ok(())
    }

    /// Steps J2 to J5: from now on the producer respects our cursor. It is moved by `later` where it
    /// was too late for that.
    fn protect(
        &mut self,
        region: &Region,
        mut later: impl FnMut(&Reader) -> Result<u64, Corrupt>,
    ) -> Result<(), Corrupt> {
        self.entry(region).set_cursor(self.next, self.expected);
        fault!("broadcast.join.placed");
        for attempt in 0..JOINING_TRIES {
            table::raise(region, self.geometry);
            fault!("broadcast.join.raised");
            // SYNC joining: pairs with the fence in `Writer::extend`.
            fence(Ordering::SeqCst);
            if self.oldest(region)? <= self.next {
                fault!("broadcast.joined");
                return Ok(());
            }
            // History that goes as quickly as that is not worth waiting for.
            self.next = if attempt < TRIES { later(self)? } else { self.tail(region)? };
            self.entry(region).set_cursor(self.next, self.expected);
        }
        Err(Corrupt)
    }

    /// Walks to the first item whose number is at least `wanted`.
    fn go_to(&mut self, region: &Region, wanted: u64) -> Result<(), Corrupt> {
        // As many items as a ring can hold, and some tries more.
        for _ in 0..self.geometry.capacity / (2 * WORD as usize) + TRIES {
            match self.peek(region) {
                Ok(Some(found)) if found.sequence < wanted => self.next = found.end,
                Ok(Some(found)) => {
                    self.expected = found.sequence;
                    break;
                }
                Ok(None) => break,
                Err(Trouble::Lapped { .. }) => {}
                Err(Trouble::Corrupt) => return Err(Corrupt),
            }
        }
        self.strayed = false;
        Ok(())
    }

    fn entry<'a>(&self, region: &'a Region) -> Entry<'a> {
        Entry::of(region, self.geometry, self.index)
    }

    fn get(&self, region: &Region, at: usize) -> Result<u64, Corrupt> {
        // SYNC oldest, told: Acquire here, Release in `Writer::extend` and `Writer::tell`.
        position(region.u64(self.geometry.base + at).load(Ordering::Acquire))
    }

    fn oldest(&self, region: &Region) -> Result<u64, Corrupt> {
        self.get(region, OLDEST)
    }

    fn tail(&self, region: &Region) -> Result<u64, Corrupt> {
        self.get(region, TAIL)
    }

    /// Whether it is worth looking for the next item.
    #[inline]
    pub(super) fn is_ready(&self, region: &Region) -> bool {
        region.u64(self.geometry.at(self.next)).load(Ordering::Relaxed) != 0
    }

    /// Finds the next item, `None` when there is none. For a lossy consumer it may be overwritten
    /// at any time: [`Reader::is_lapped`] says whether it was.
    #[inline]
    pub(super) fn peek(&mut self, region: &Region) -> Result<Option<Found>, Trouble> {
        for _ in 0..TRIES {
            // SYNC published: Acquire here, Release in `Writer::publish`.
            let word = region.u64(self.geometry.at(self.next)).load(Ordering::Acquire);
            let header = match word {
                0 => None,
                word => Some(read_header(self.geometry, self.next, word)),
            };
            let sequence = match header {
                Some(Ok((Header::Bytes(_), _))) => {
                    let at = self.geometry.at(self.next) + WORD as usize;
                    region.u64(at).load(Ordering::Relaxed)
                }
                _ => 0,
            };
            if self.kind == Kind::Lossy && self.is_before_oldest(region, self.next) {
                self.stray(region)?;
                continue;
            }
            let (header, end) = match header {
                None => {
                    self.hurried = false;
                    return Ok(None);
                }
                Some(header) => header?,
            };
            let Header::Bytes(len) = header else {
                self.next = end;
                continue;
            };
            if self.strayed && sequence > self.expected {
                let missed = sequence - self.expected;
                self.expected = sequence;
                self.strayed = false;
                // Whoever has the place next is not told again.
                self.released = self.next;
                self.entry(region).set_cursor(self.next, self.expected);
                return Err(Trouble::Lapped { missed });
            }
            let offset = self.geometry.at(self.next) + 2 * WORD as usize;
            return Ok(Some(Found { offset, len, sequence, start: self.next, end }));
        }
        // The producer is quicker than we are: as if we had not looked yet.
        Ok(None)
    }

    /// Whether what was read at `start` may have been written for a later lap.
    #[inline]
    fn is_before_oldest(&self, region: &Region, start: u64) -> bool {
        // SYNC lapped: pairs with the fence in `Writer::extend`. What is written there comes after
        // it, and what we have read comes before this one.
        fence(Ordering::Acquire);
        region.u64(self.geometry.base + OLDEST).load(Ordering::Relaxed) > start
    }

    /// Asked after an item was copied: whether the copy is worth nothing.
    #[inline]
    pub(super) fn is_lapped(&self, region: &Region, found: Found) -> bool {
        self.is_before_oldest(region, found.start)
    }

    /// Goes to where there is something to read again.
    #[cold]
    fn stray(&mut self, region: &Region) -> Result<(), Corrupt> {
        let (oldest, last) = (self.oldest(region)?, self.get(region, LAST)?);
        self.next = if self.hurried { last.max(oldest) } else { oldest };
        (self.strayed, self.hurried) = (true, true);
        Ok(())
    }

    /// How many items it has lost and not been told of, when nothing will come any more.
    pub(super) fn missed_at_the_end(&mut self, region: &Region) -> u64 {
        if !self.strayed {
            return 0;
        }
        let missed = self.behind(region);
        self.strayed = false;
        self.expected = self.expected.saturating_add(missed);
        missed
    }

    /// Goes past an item that was read.
    #[inline]
    pub(super) fn advance(&mut self, found: Found) {
        self.next = found.end;
        self.expected = found.sequence.wrapping_add(1);
        (self.strayed, self.hurried) = (false, false);
    }

    /// Gives the room of all that was read back, and lets onlookers know. Tells whether there was
    /// any.
    #[inline]
    pub(super) fn release(&mut self, region: &Region) -> bool {
        if self.released == self.next {
            return false;
        }
        fault!("broadcast.read");
        self.released = self.next;
        self.entry(region).set_cursor(self.next, self.expected);
        fault!("broadcast.released");
        true
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// How many items were sent, or dropped, since the one it took last.
    /// Whether everything that was published has been taken.
    pub(super) fn is_at_the_end(&self, region: &Region) -> bool {
        self.tail(region).is_ok_and(|tail| tail == self.next)
    }

    pub(super) fn behind(&self, region: &Region) -> u64 {
        newest(region, self.geometry).unwrap_or(0).saturating_sub(self.expected)
    }
}

/// Whether a reader would find something, a lie or a loss included; for those who have no reader.
pub(super) fn has_item(region: &Region, geometry: Geometry, index: usize) -> bool {
    let entry = Entry::of(region, geometry, index);
    let Ok((cursor, _)) = entry.cursor() else { return true };
    // SYNC published: Acquire here, Release in `Writer::publish`.
    let header = |at| region.u64(geometry.at(at)).load(Ordering::Acquire);
    let there = match header(cursor) {
        0 => false,
        word => match read_header(geometry, cursor, word) {
            Ok((Header::Pad, end)) => header(end) != 0,
            _ => true,
        },
    };
    let oldest = region.u64(geometry.base + OLDEST).load(Ordering::Acquire);
    there || (entry.kind() != Some(Kind::Lossless) && oldest > cursor)
}
