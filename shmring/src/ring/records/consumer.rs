//! The consumer's end of a ring of records.

use std::{fmt, ops::Deref, os::fd::BorrowedFd, time::Duration};

use super::{
    Records as Ring,
    cursor::{self, Corrupt, Found, Kind, Reader},
    slots,
};
use crate::{
    error::{Error, RecvError, Result},
    region::Region,
    ring::{
        part::Part,
        role::{Owned, Role, State},
        select::{Selectable, Source},
    },
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// The end that takes records out. It can go to another process, and is held by one at a time.
///
/// Dropping it closes the ring: the producer gets `Closed` when it is full.
pub struct Consumer {
    reader: Reader,
    /// What reads further than that, and releases nothing.
    ahead: Option<Reader>,
    waiter: Waiter,
    ring: Ring,
    role: Role,
}

impl Consumer {
    pub(super) const WHAT: &str = "the consumer of a ring of records";

    pub(super) fn new(ring: Ring, role: Role) -> Result<Consumer> {
        let reader = Reader::attach(&ring.segment.0.region, ring.geometry).map_err(|Corrupt| {
            Error::Corrupt {
                what: "a ring of records".into(),
                reason: "its head is impossible".into(),
            }
        })?;
        let waiter = Waiter::new(ring.strategy);
        Ok(Consumer { reader, ahead: None, waiter, ring, role })
    }

    /// Takes the next record, if there is one now. It is read in place, and released when the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// `Empty`; `Closed` and `PeerDied` when there is none and none will come; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Record<'_>, RecvError> {
        let found = match self.ready() {
            Some(found) => found,
            None => self.find()?,
        };
        Ok(Record { consumer: self, found })
    }

    /// Takes the next record, waiting for it as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`], but never `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<Record<'_>, RecvError> {
        self.recv_within(None)
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Record<'_>, RecvError> {
        self.recv_within(Some(timeout))
    }

    /// Reads what is there now, at least one record, one after the other, and releases all that were
    /// read at once when the run is dropped.
    ///
    /// ```
    /// # use shmring::ring::records::Records;
    /// # let (mut tx, mut rx) = Records::options().anonymous()?.split()?;
    /// # for byte in 0..3u8 { tx.send([byte])?; }
    /// # let mut sum = 0;
    /// let mut run = rx.run()?;
    /// while let Some(record) = run.next()? {
    ///     sum += u32::from(record[0]);
    /// }
    /// # assert_eq!(sum, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`].
    #[inline]
    pub fn try_run(&mut self) -> Result<Run<'_>, RecvError> {
        let found = match self.ready() {
            Some(found) => found,
            None => self.find()?,
        };
        Ok(Run { consumer: self, first: Some(found) })
    }

    /// The same, waiting for at least one record as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run(&mut self) -> Result<Run<'_>, RecvError> {
        let found = self.found_within(None)?;
        Ok(Run { consumer: self, first: Some(found) })
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run_timeout(&mut self, timeout: Duration) -> Result<Run<'_>, RecvError> {
        let found = self.found_within(Some(timeout))?;
        Ok(Run { consumer: self, first: Some(found) })
    }

    /// Whether there is a record now, as far as one look tells: cheap enough to be asked again and
    /// again. In a forked child only after the first receive.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.reader.is_ready(&self.ring.segment.0.region)
    }

    /// Reads the next record that was not read ahead yet, and leaves it where it is: all that is
    /// read ahead is received afterwards, in its order, and the producer gets no room back before.
    ///
    /// A forked child, or whoever else takes this end over, begins with the first that is there.
    ///
    /// ```
    /// # use shmring::ring::records::Records;
    /// # let (mut tx, mut rx) = Records::options().anonymous()?.split()?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// assert_eq!(&*rx.try_read_ahead()?, b"one");
    /// assert_eq!(&*rx.try_read_ahead()?, b"two");
    /// assert_eq!(&*rx.recv()?, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Empty`, also where the producer has closed its end or died: [`Consumer::try_recv`] tells
    /// that, when it comes there; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_read_ahead(&mut self) -> Result<Part<'_>, RecvError> {
        let found = self.find_ahead()?;
        self.pass_ahead(found);
        Ok(Part::new(slots::record_of(&self.ring.segment.0.region, found), found.sequence))
    }

    /// Whether there is a record now that was not read ahead; as [`Consumer::is_ready`].
    #[inline]
    pub fn is_ready_ahead(&self) -> bool {
        let reader = match &self.ahead {
            Some(ahead) if !ahead.is_behind(&self.reader) => ahead,
            _ => &self.reader,
        };
        reader.is_ready(&self.ring.segment.0.region)
    }

    /// Whether the producer has closed its end. Records may still be there.
    pub fn is_closed(&self) -> bool {
        self.role.state_at(self.ring.producer_place()) == State::Closed
    }

    /// Changes how this end waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.ring.strategy = strategy;
        self.waiter = Waiter::new(strategy);
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// A descriptor for a poll of your own; it becomes readable when anything happens in one of
    /// this process's rings in the same segment, but only after [`Consumer::arm`].
    ///
    /// `None` when the segment has no bell left for this process
    /// ([`crate::segment::Options::bells`]).
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.segment.bell()
    }

    /// Which rings of the segment had news for this process since the last call: bit n stands for
    /// those whose [`Ring::number`] is n modulo 64. A hint where to look first after a wake-up,
    /// when one bell serves many rings; all bits when that is not known.
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.ring.segment)
    }

    /// Asks to be woken by [`Consumer::bell`]. Tells whether one may go to sleep: false means that
    /// there is something to take now, that the ring has ended, or that the bell has rung, for
    /// this ring or another of the segment.
    ///
    /// All rings of a segment share this process's bell. With several, sleep only if `arm` was
    /// true for each of them in one round.
    ///
    /// Call it after each wake-up, before the poll:
    ///
    /// ```
    /// # use shmring::{RecvError, ring::records::Records};
    /// # let (mut tx, mut rx) = Records::options().anonymous()?.split()?;
    /// # tx.send(b"one")?;
    /// # drop(tx);
    /// loop {
    ///     let end = loop {
    ///         match rx.try_recv() {
    ///             Ok(record) => println!("{} bytes", record.len()),
    ///             Err(end) => break end,
    ///         }
    ///     };
    ///     if end != RecvError::Empty {
    ///         break; // Closed, or the producer died.
    ///     }
    ///     if rx.arm() {
    ///         // Wait in a poll that has `rx.bell()` in it.
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self) -> bool {
        let quiet = self.ring.segment.arm();
        matches!(self.find(), Err(RecvError::Empty)) && quiet
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// Up to where records were released.
    pub(crate) fn released(&self) -> u64 {
        self.reader.released()
    }

    #[inline]
    fn own(&mut self) -> Result<(), RecvError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(RecvError::Moved),
            Owned::Anew => {
                let reader = Reader::attach(&self.ring.segment.0.region, self.ring.geometry);
                self.reader = reader.map_err(|Corrupt| RecvError::Corrupt)?;
                self.ahead = None;
                Ok(())
            }
        }
    }

    /// The first record that was not read ahead.
    #[inline]
    pub(crate) fn find_ahead(&mut self) -> Result<Found, RecvError> {
        if !self.role.is_still() {
            self.own()?;
        }
        let Consumer { reader, ahead, ring, .. } = self;
        let ahead = match ahead {
            Some(ahead) if !ahead.is_behind(reader) => ahead,
            _ => ahead.insert(reader.clone()),
        };
        match ahead.peek(&ring.segment.0.region) {
            Ok(found) => found.ok_or(RecvError::Empty),
            Err(Corrupt) => Err(RecvError::Corrupt),
        }
    }

    /// It was read.
    #[inline]
    pub(crate) fn pass_ahead(&mut self, found: Found) {
        if let Some(ahead) = &mut self.ahead {
            ahead.advance(found);
        }
    }

    /// The bytes of a record that was read ahead, until it is released.
    #[inline]
    pub(crate) fn bytes_ahead(&self, found: Found) -> &[u8] {
        slots::record_of(&self.ring.segment.0.region, found)
    }

    /// The record that is there now, while all is as usual.
    #[inline(always)]
    fn ready(&mut self) -> Option<Found> {
        if !self.role.is_still() {
            return None;
        }
        self.reader.peek_usual(&self.ring.segment.0.region)
    }

    #[inline(never)]
    fn find(&mut self) -> Result<Found, RecvError> {
        self.own()?;
        match self.reader.peek(&self.ring.segment.0.region) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.why_empty(),
            Err(Corrupt) => Err(RecvError::Corrupt),
        }
    }

    /// There is nothing: because nothing will come? Whoever closed or died may have published
    /// just before, so the last look is the one after.
    #[cold]
    fn why_empty(&mut self) -> Result<Found, RecvError> {
        let place = self.ring.producer_place();
        let end = match self.role.state_at(place) {
            State::Closed => RecvError::Closed,
            _ => match self.role.peer_at(place) {
                Some(peer) if self.waiter.may_ask() && !self.ring.segment.lives(peer) => {
                    RecvError::PeerDied { pid: self.ring.segment.pid_of_peer(peer) }
                }
                _ => return Err(RecvError::Empty),
            },
        };
        last_look(&mut self.reader, &self.ring.segment.0.region, end)
    }

    #[inline(always)]
    fn recv_within(&mut self, timeout: Option<Duration>) -> Result<Record<'_>, RecvError> {
        let found = self.found_within(timeout)?;
        Ok(Record { consumer: self, found })
    }

    #[inline(always)]
    fn found_within(&mut self, timeout: Option<Duration>) -> Result<Found, RecvError> {
        if let Some(found) = self.ready() {
            return Ok(found);
        }
        let region = &self.ring.segment.0.region;
        self.waiter.give_head_start();
        let spun = self.waiter.spin(|| self.reader.is_ready(region));
        if spun && let Some(found) = self.ready() {
            return Ok(found);
        }
        self.wait(timeout)
    }

    #[inline(never)]
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Found, RecvError> {
        self.own()?;
        let Consumer { reader, waiter, ring, role, .. } = self;
        let region = &ring.segment.0.region;
        let place = ring.producer_place();
        let mut look = || match reader.peek(region) {
            Ok(Some(found)) => Some(Ok(found)),
            Err(Corrupt) => Some(Err(RecvError::Corrupt)),
            Ok(None) if role.state_at(place) != State::Closed => None,
            Ok(None) => Some(last_look(reader, region, RecvError::Closed)),
        };
        if let Some(result) = look() {
            return result;
        }
        match waiter.wait(&ring.segment, timeout, look, || role.peer_at(place)) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(RecvError::TimedOut),
            Ended::PeerDied(pid) => Err(RecvError::PeerDied { pid }),
        }
    }

    /// Goes past one record and releases it. A call of its own, so that a guard stays in registers
    /// until then: what is dropped in memory was written there first.
    #[inline(never)]
    fn finish(&mut self, end: u64) {
        self.reader.advance_to(end);
        self.release();
    }

    #[inline]
    fn release(&mut self) {
        // A copy of a guard, in a forked child, has nothing to give back.
        if self.role.is_ours() && self.reader.release(&self.ring.segment.0.region) {
            self.ring_producer();
        }
    }

    #[inline]
    fn ring_producer(&self) {
        self.role.ring(self.ring.producer_place(), self.ring.object.index);
    }
}

/// Looks once more after the end of the ring was seen: nothing comes after that.
fn last_look(reader: &mut Reader, region: &Region, end: RecvError) -> Result<Found, RecvError> {
    match reader.peek(region) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(end),
        Err(Corrupt) => Err(RecvError::Corrupt),
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_producer();
        }
    }
}

impl Selectable for Consumer {
    fn source(&self) -> Source {
        let Ring { segment, object, geometry, .. } = &self.ring;
        let (other, geometry) = (self.ring.producer_place(), *geometry);
        let there = move |region: &Region, _| cursor::has_record(region, geometry);
        Source::of_role(segment, object.index, &self.role, other, there)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// A record, read in place. Dropping it releases its room.
///
/// Its first byte lies at a multiple of 8.
///
/// A record whose guard is forgotten (`mem::forget`) is delivered again.
pub struct Record<'a> {
    consumer: &'a mut Consumer,
    found: Found,
}

impl Record<'_> {
    /// How many records were sent into this ring before it, those that were lost included: a step
    /// of more than one is a loss ([`Policy::DropNewest`](crate::ring::Policy::DropNewest)).
    pub fn sequence(&self) -> u64 {
        self.found.sequence
    }

    pub(crate) fn kind(&self) -> Kind {
        self.found.kind
    }

    /// Where the record ends.
    pub(crate) fn end(&self) -> u64 {
        self.found.end
    }

    pub(crate) fn consumer(&self) -> &Consumer {
        self.consumer
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        slots::record(&self.consumer.ring.segment.0.region, &self.found)
    }
}

impl Drop for Record<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.finish(self.found.end);
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("len", &self.found.len).finish_non_exhaustive()
    }
}

/// The records that are there now. Dropping it releases all that were read.
#[must_use = "nothing is read before it is asked for the next"]
pub struct Run<'a> {
    consumer: &'a mut Consumer,
    /// What is there for certain, until it is read.
    first: Option<Found>,
}

impl Run<'_> {
    /// The next record, with its number; `None` when there is none now.
    ///
    /// # Errors
    ///
    /// `Moved`; `Corrupt`. That the ring is closed is said by [`Consumer::try_recv`].
    #[allow(clippy::should_implement_trait)] // Records borrow from this value.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Part<'_>>, RecvError> {
        let found = match self.first.take().or_else(|| self.consumer.ready()) {
            Some(found) => found,
            None => match self.find()? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        self.consumer.reader.advance(found);
        let region = &self.consumer.ring.segment.0.region;
        Ok(Some(Part::new(slots::record_of(region, found), found.sequence)))
    }

    #[inline(never)]
    fn find(&mut self) -> Result<Option<Found>, RecvError> {
        self.consumer.own()?;
        let found = self.consumer.reader.peek(&self.consumer.ring.segment.0.region);
        found.map_err(|Corrupt| RecvError::Corrupt)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.consumer.release();
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}
