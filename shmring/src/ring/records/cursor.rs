//! Positions of a ring of records: what is claimed, published, read and released.
//!
//! Nothing here knows of processes or waiting, and payload is not touched: the models and the
//! property tests run this very code on a heap region.

use std::sync::Arc;

use crate::{
    fault::fault,
    region::{LINE, Region},
    sync::{
        Ordering, fence,
        local::{self, AtomicBool},
    },
};

// Offsets within the object.
pub(super) const CAPACITY: usize = 0;
pub(super) const POLICY: usize = 8;
pub(super) const ROLES: usize = 128;
const TAIL: usize = 256;
const SENT: usize = 264;
const LOST: usize = 272;
pub(super) const HEAD: usize = 384;
/// Two accounts of what was taken, `{head, taken, missed}`. The one that names the head counts.
const ACCOUNTS: [usize; 2] = [392, 416];
pub(crate) const DATA: usize = 512;

/// A header word, and what a record is rounded up to.
const WORD: u64 = 8;
/// Whoever publishes more at a time has nothing from getting its lines before.
const LONGEST_AHEAD: u64 = 2048;
/// No position: they are multiples of 8.
const NOWHERE: u64 = u64::MAX;
pub(super) const LEAST_CAPACITY: usize = 256;
/// Lengths have 32 bits, and pads can be as long as the ring.
pub(super) const MOST_CAPACITY: usize = 1 << 31;

/// What stands in a header's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Bytes of the caller.
    Bytes = 1,
    /// Bytes, with a table of block handles before them.
    Message = 2,
    /// Nothing: the rest of the lap.
    Pad = 3,
    /// Nothing: says how many records were lost so far, modulo 2^32.
    Lost = 4,
}

/// Where a ring lies; constant and checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    pub(crate) base: usize,
    pub(crate) capacity: usize,
}

impl Geometry {
    /// The longest payload of a record.
    pub(crate) fn max_len(self) -> usize {
        self.capacity / 2 - 2 * WORD as usize
    }

    #[inline]
    fn place(self, position: u64) -> usize {
        self.base + DATA + (position & (self.capacity as u64 - 1)) as usize
    }

    /// Bytes from a position to the end of the lap.
    #[inline]
    fn rest(self, position: u64) -> u64 {
        self.capacity as u64 - (position & (self.capacity as u64 - 1))
    }
}

/// Bytes that what a header stands for takes.
fn size_of(kind: Kind, len: usize) -> u64 {
    if kind == Kind::Lost { WORD } else { size(len) }
}

/// Bytes that a record of `len` takes.
#[inline]
fn size(len: usize) -> u64 {
    WORD + (len as u64).next_multiple_of(WORD)
}

#[inline]
fn tag(position: u64) -> u64 {
    (position / WORD) & 0x00ff_ffff
}

#[inline]
fn header(kind: Kind, position: u64, len: u64) -> u64 {
    (kind as u64) << 56 | tag(position) << 32 | len
}

/// What a header says, copied once and checked; `Err` when it contradicts itself.
fn read_header(geometry: Geometry, position: u64, word: u64) -> Result<(Kind, usize), Corrupt> {
    let len = word as u32 as usize;
    let kind = match word >> 56 {
        1 => Kind::Bytes,
        2 => Kind::Message,
        3 => Kind::Pad,
        4 => Kind::Lost,
        _ => return Err(Corrupt),
    };
    if word >> 32 & 0x00ff_ffff != tag(position) {
        return Err(Corrupt);
    }
    let rest = geometry.rest(position);
    let fits = match kind {
        Kind::Pad => len as u64 + WORD == rest,
        Kind::Lost => true,
        _ => len <= geometry.max_len() && size(len) <= rest,
    };
    if fits { Ok((kind, len)) } else { Err(Corrupt) }
}

/// What a peer wrote contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Corrupt;

/// Why no room could be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    Full,
    TooLarge,
    Corrupt,
}

/// Room for one record: nothing is written before it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    /// Where the payload goes, as an offset in the region.
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) position: u64,
}

/// A record that is there to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    pub(crate) end: u64,
    /// How many were sent or lost before it.
    pub(crate) sequence: u64,
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Writer {
    geometry: Geometry,
    /// Where the next publication begins; the header word there is 0.
    published: u64,
    /// Where the next record begins.
    next: u64,
    /// The header that publishes all that was committed since.
    withheld: Option<u64>,
    committed: u64,
    sent: u64,
    /// Records that were given up since the ring was made, and how many of them the records that
    /// were committed tell of. A new producer does not know, and tells again.
    lost: u64,
    told: Option<u64>,
    /// The same of those that were published.
    told_published: Option<u64>,
    /// Whether some are untold by those: for who asks for room and has no writer.
    untold: Arc<AtomicBool>,
    /// The consumer's position as last seen.
    head: u64,
    /// A place behind what is published and claimed where there is a 0 already, or [`NOWHERE`].
    zeroed: u64,
}

impl Writer {
    /// Starts where the published records end.
    pub(crate) fn attach(region: &Region, geometry: Geometry) -> Result<Writer, Corrupt> {
        let head = region.u64(geometry.base + HEAD).load(Ordering::Acquire);
        if !head.is_multiple_of(WORD) {
            return Err(Corrupt);
        }
        let mut tail = head;
        loop {
            let word = region.u64(geometry.place(tail)).load(Ordering::Acquire);
            if word == 0 {
                break;
            }
            let (kind, len) = read_header(geometry, tail, word)?;
            tail = tail.checked_add(size_of(kind, len)).ok_or(Corrupt)?;
            if tail - head > geometry.capacity as u64 - WORD {
                return Err(Corrupt);
            }
        }
        let sent = region.u64(geometry.base + SENT).load(Ordering::Relaxed);
        let lost = region.u64(geometry.base + LOST).load(Ordering::Relaxed);
        let told = (lost == 0).then_some(0);
        // The dead one may not have come to it.
        region.u64(geometry.base + TAIL).store(tail, Ordering::Relaxed);
        Ok(Writer {
            geometry,
            published: tail,
            next: tail,
            withheld: None,
            committed: 0,
            sent,
            lost,
            told,
            told_published: told,
            untold: Arc::new(AtomicBool::new(told.is_none())),
            head,
            zeroed: NOWHERE,
        })
    }

    /// Step 1: makes sure there is room for a record of `len`.
    #[inline(always)]
    pub(crate) fn claim(&mut self, region: &Region, len: usize) -> Result<Room, NoRoom> {
        if len > self.geometry.max_len() {
            return Err(NoRoom::TooLarge);
        }
        let size = size(len);
        let next = if self.told == Some(self.lost) { self.next } else { self.next + WORD };
        let rest = self.geometry.rest(next);
        let position = if size <= rest { next } else { next + rest };
        let needed = position + size + WORD;
        if needed - self.head > self.geometry.capacity as u64 {
            // SYNC released: Acquire here, Release in `Reader::release`.
            let head = region.u64(self.geometry.base + HEAD).load(Ordering::Acquire);
            let sane = head <= self.published && head >= self.head && head.is_multiple_of(WORD);
            if !sane {
                return Err(NoRoom::Corrupt);
            }
            self.head = head;
            if needed - head > self.geometry.capacity as u64 {
                return Err(NoRoom::Full);
            }
        }
        if position + size > self.zeroed {
            self.zeroed = NOWHERE;
        }
        fault!("records.claimed");
        Ok(Room { offset: self.geometry.place(position) + WORD as usize, len, position })
    }

    /// Step 2: puts a filled record behind those committed before, not yet visible. `len` is at
    /// most what was claimed.
    #[inline]
    pub(crate) fn commit(&mut self, region: &Region, room: Room, kind: Kind, len: usize) {
        debug_assert!(len <= room.len);
        if self.told != Some(self.lost) {
            self.put(region, header(Kind::Lost, self.next, u64::from(self.lost as u32)));
            self.next += WORD;
            self.told = Some(self.lost);
        }
        if room.position != self.next {
            let rest = self.geometry.rest(self.next);
            self.put(region, header(Kind::Pad, self.next, rest - WORD));
            self.next = room.position;
        }
        self.put(region, header(kind, self.next, len as u64));
        self.next += size(len);
        self.committed += 1;
    }

    #[inline]
    fn put(&mut self, region: &Region, header: u64) {
        if self.next == self.published {
            self.withheld = Some(header);
        } else {
            region.u64(self.geometry.place(self.next)).store(header, Ordering::Relaxed);
        }
    }

    /// Steps 3 to 5, without the doorbell: makes all committed records visible at once. Gives their
    /// bytes; 0 is none.
    #[inline]
    pub(crate) fn publish(&mut self, region: &Region) -> u64 {
        let Some(header) = self.withheld.take() else { return 0 };
        fault!("records.committed");
        if self.zeroed != self.next {
            region.u64(self.geometry.place(self.next)).store(0, Ordering::Relaxed);
        }
        fault!("records.zeroed");
        // SYNC published: Release here, Acquire in `Reader::peek`.
        region.u64(self.geometry.place(self.published)).store(header, Ordering::Release);
        fault!("records.published");
        let bytes = self.next - self.published;
        self.published = self.next;
        if self.told_published != self.told {
            self.told_published = self.told;
            self.note_untold();
        }
        self.sent += self.committed;
        self.committed = 0;
        region.u64(self.geometry.base + TAIL).store(self.next, Ordering::Relaxed);
        region.u64(self.geometry.base + SENT).store(self.sent, Ordering::Relaxed);
        bytes
    }

    /// Steps 2 to 5 for a single record: as [`Writer::commit`] and [`Writer::publish`], of which nearly
    /// always less has to be done. What counts are the stores: while they wait for lines that the
    /// consumer has, there is room for some dozens.
    #[inline(always)]
    pub(crate) fn publish_one(
        &mut self,
        region: &Region,
        room: Room,
        kind: Kind,
        len: usize,
    ) -> u64 {
        // Nothing is withheld then, no pad comes before it, and no losses are to be told.
        if room.position != self.published {
            return self.publish_behind(region, room, kind, len);
        }
        debug_assert!(len <= room.len && self.withheld.is_none() && self.told == Some(self.lost));
        fault!("records.committed");
        let end = room.position + size(len);
        if self.zeroed != end {
            region.u64(self.geometry.place(end)).store(0, Ordering::Relaxed);
        }
        fault!("records.zeroed");
        let header = header(kind, room.position, len as u64);
        // SYNC published: Release here, Acquire in `Reader::peek`.
        region.u64(self.geometry.place(room.position)).store(header, Ordering::Release);
        fault!("records.published");
        (self.next, self.published) = (end, end);
        self.sent += 1;
        region.u64(self.geometry.base + TAIL).store(end, Ordering::Relaxed);
        region.u64(self.geometry.base + SENT).store(self.sent, Ordering::Relaxed);
        size(len)
    }

    #[inline(never)]
    fn publish_behind(&mut self, region: &Region, room: Room, kind: Kind, len: usize) -> u64 {
        self.commit(region, room, kind, len);
        self.publish(region)
    }

    /// Step 6: writes a 0 where the next publication will end if it has so many bytes, and into the
    /// lines on the way there, if that is free.
    #[inline]
    pub(crate) fn get_ahead(&mut self, region: &Region, bytes: u64) {
        let (begin, end) = (self.published, self.published.saturating_add(bytes));
        let free = self.head.saturating_add(self.geometry.capacity as u64);
        if bytes > LONGEST_AHEAD || end.saturating_add(WORD) > free {
            return;
        }
        let first = (begin + 1).next_multiple_of(LINE as u64);
        for position in (first..end).step_by(LINE).chain([end]) {
            region.take_line(self.geometry.place(position));
        }
        self.zeroed = end;
        fault!("records.ahead");
    }

    /// Where the next publication begins.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Gives a record up: it is counted, and the next one tells of it.
    pub(crate) fn lose(&mut self, region: &Region) {
        self.lost = self.lost.wrapping_add(1);
        self.note_untold();
        region.u64(self.geometry.base + LOST).store(self.lost, Ordering::Relaxed);
        fault!("records.lost");
    }

    /// Starts anew where the published records end, as one who took this end over.
    pub(crate) fn attach_again(&mut self, region: &Region) -> Result<(), Corrupt> {
        let untold = self.untold();
        *self = Writer { untold, ..Writer::attach(region, self.geometry)? };
        self.note_untold();
        Ok(())
    }

    #[cold]
    fn note_untold(&self) {
        self.untold.store(self.told_published != Some(self.lost), local::Ordering::Relaxed);
    }

    /// Whether the next record must tell of losses first.
    pub(crate) fn untold(&self) -> Arc<AtomicBool> {
        self.untold.clone()
    }

    /// Forgets what was committed and not published.
    pub(crate) fn abort(&mut self) {
        self.told = self.told_published;
        self.next = self.published;
        self.withheld = None;
        self.committed = 0;
    }
}

/// The consumer's side.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    geometry: Geometry,
    /// What has been read; up to here it can be released.
    next: u64,
    released: u64,
    taken: u64,
    /// Records that were lost before the next one.
    missed: u64,
    /// Which account is written next.
    account: usize,
}

impl Reader {
    /// Starts at what nobody has released yet.
    pub(crate) fn attach(region: &Region, geometry: Geometry) -> Result<Reader, Corrupt> {
        let head = region.u64(geometry.base + HEAD).load(Ordering::Acquire);
        if !head.is_multiple_of(WORD) {
            return Err(Corrupt);
        }
        let (account, taken, missed) = account(region, geometry, head);
        Ok(Reader { geometry, next: head, released: head, taken, missed, account: 1 - account })
    }

    /// Up to where records were released.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Whether it has read less than another one.
    #[inline]
    pub(crate) fn is_behind(&self, other: &Reader) -> bool {
        self.next < other.next
    }

    /// Whether it is worth looking for the next record.
    #[inline]
    pub(crate) fn is_ready(&self, region: &Region) -> bool {
        region.u64(self.geometry.place(self.next)).load(Ordering::Relaxed) != 0
    }

    /// Steps 1 and 2: finds the next record, `None` when there is none.
    #[inline]
    pub(crate) fn peek(&mut self, region: &Region) -> Result<Option<Found>, Corrupt> {
        match self.peek_usual(region) {
            Some(found) => Ok(Some(found)),
            None => self.peek_any(region),
        }
    }

    /// The same for what there is nearly always, with as few instructions as that takes: a record
    /// that is no pad, with a header that is right. `None` says nothing.
    #[inline(always)]
    pub(crate) fn peek_usual(&self, region: &Region) -> Option<Found> {
        let offset = self.geometry.place(self.next);
        // SYNC published: Acquire here, Release in `Writer::publish`.
        let word = region.u64(offset).load(Ordering::Acquire);
        let len = word as u32 as usize;
        let kind = match word >> 32 ^ tag(self.next) {
            0x0100_0000 => Kind::Bytes,
            0x0200_0000 => Kind::Message,
            _ => return None,
        };
        let fits = len <= self.geometry.max_len() && size(len) <= self.geometry.rest(self.next);
        if !fits {
            return None;
        }
        let end = self.next.checked_add(size(len))?;
        let sequence = self.taken.wrapping_add(self.missed);
        Some(Found { offset: offset + WORD as usize, len, kind, end, sequence })
    }

    #[inline(never)]
    fn peek_any(&mut self, region: &Region) -> Result<Option<Found>, Corrupt> {
        // One that tells of losses, and one pad: a writer puts no more before a record.
        for _ in 0..3 {
            // SYNC published: Acquire here, Release in `Writer::publish`.
            let word = region.u64(self.geometry.place(self.next)).load(Ordering::Acquire);
            if word == 0 {
                return Ok(None);
            }
            let (kind, len) = read_header(self.geometry, self.next, word)?;
            let end = self.next.checked_add(size_of(kind, len)).ok_or(Corrupt)?;
            match kind {
                Kind::Bytes | Kind::Message => {
                    let offset = self.geometry.place(self.next) + WORD as usize;
                    let sequence = self.taken.wrapping_add(self.missed);
                    return Ok(Some(Found { offset, len, kind, end, sequence }));
                }
                Kind::Pad => {}
                Kind::Lost => {
                    let more = (len as u32).wrapping_sub(self.missed as u32);
                    self.missed = self.missed.wrapping_add(u64::from(more));
                }
            }
            self.next = end;
        }
        Err(Corrupt)
    }

    /// Goes past a record that was read.
    #[inline]
    pub(crate) fn advance(&mut self, found: Found) {
        self.advance_to(found.end);
    }

    /// The same, for who knows no more of it than where it ends.
    #[inline]
    pub(crate) fn advance_to(&mut self, end: u64) {
        self.next = end;
        self.taken += 1;
    }

    /// Step 4, without the doorbell: gives the room of all that was read back. Tells whether
    /// there was any.
    #[inline]
    pub(crate) fn release(&mut self, region: &Region) -> bool {
        if self.released == self.next {
            return false;
        }
        fault!("records.read");
        self.released = self.next;
        let at = self.geometry.base + ACCOUNTS[self.account];
        region.u64(at).store(self.next, Ordering::Relaxed);
        region.u64(at + 8).store(self.taken, Ordering::Relaxed);
        region.u64(at + 16).store(self.missed, Ordering::Relaxed);
        self.account = 1 - self.account;
        fault!("records.accounted");
        // SYNC released: Release here, Acquire in `Writer::claim`.
        region.u64(self.geometry.base + HEAD).store(self.next, Ordering::Release);
        fault!("records.released");
        true
    }
}

/// Whether a reader would find something, a lie included; for those who have no reader.
pub(super) fn has_record(region: &Region, geometry: Geometry) -> bool {
    let head = region.u64(geometry.base + HEAD).load(Ordering::Acquire);
    // SYNC published: Acquire here, Release in `Writer::publish`.
    !head.is_multiple_of(WORD) || region.u64(geometry.place(head)).load(Ordering::Acquire) != 0
}

/// Whether a writer would find room for a record of `len`, or as much as it can be, or a lie; for
/// those who have no writer. `untold`: whether the next record must tell of losses first.
pub(super) fn has_room(region: &Region, geometry: Geometry, untold: bool, len: usize) -> bool {
    let tail = region.u64(geometry.base + TAIL).load(Ordering::Relaxed);
    // SYNC released: Acquire here, Release in `Reader::release`.
    let head = region.u64(geometry.base + HEAD).load(Ordering::Acquire);
    let (capacity, size) = (geometry.capacity as u64, size(len.min(geometry.max_len())));
    // As `Writer::claim` says.
    let told = u64::from(untold) * WORD;
    let rest = geometry.rest(tail.wrapping_add(told));
    let needed = told + if size <= rest { size } else { rest + size } + WORD;
    let used = tail.wrapping_sub(head);
    used > capacity || used + needed <= capacity
}

/// What an onlooker sees; each number is a moment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Records published since the ring was made.
    pub sent: u64,
    /// Records released.
    pub taken: u64,
    /// Records given up because the ring was full.
    pub lost: u64,
    /// Bytes in use, headers included.
    pub used: u64,
    /// Bytes there are.
    pub capacity: u64,
}

/// How many records were published and not released; for those who have no reader.
pub(super) fn waiting(region: &Region, geometry: Geometry) -> usize {
    let stats = stats(region, geometry);
    // Counts follow what they count, and a producer may have died between the two.
    let least = usize::from(has_record(region, geometry));
    usize::try_from(stats.sent.saturating_sub(stats.taken)).unwrap_or(usize::MAX).max(least)
}

pub(super) fn stats(region: &Region, geometry: Geometry) -> Stats {
    let get = |at| region.u64(geometry.base + at).load(Ordering::Relaxed);
    let capacity = geometry.capacity as u64;
    let (head, sent, lost) = (get(HEAD), get(SENT), get(LOST));
    let (_, taken, _) = account(region, geometry, head);
    fence(Ordering::Acquire);
    let used = get(TAIL).saturating_sub(head).min(capacity);
    Stats { sent, taken, lost, used, capacity }
}

/// Which account names the head, and what was taken and missed by it. The other one is of a
/// consumer that died before it released, or older.
fn account(region: &Region, geometry: Geometry, head: u64) -> (usize, u64, u64) {
    let get = |at| region.u64(geometry.base + at).load(Ordering::Relaxed);
    let which = usize::from(get(ACCOUNTS[0]) != head);
    (which, get(ACCOUNTS[which] + 8), get(ACCOUNTS[which] + 16))
}

#[cfg(all(test, not(shmring_loom)))]
#[path = "cursor_tests.rs"]
mod tests;
