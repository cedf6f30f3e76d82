//! The producer's end of a ring of records.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    time::Duration,
};

use super::{
    Records,
    cursor::{self, Corrupt, Kind, NoRoom, Room, Writer},
    slots,
};
use crate::{
    error::{Error, Result, SendError},
    region::Region,
    ring::{
        Policy,
        role::{Owned, Role, State},
        select::{Selectable, Source},
    },
    sync::local,
    wait::{self, Ended, Pace, WaitStrategy, Waiter},
};

/// The end that puts records in. It can go to another process, and is held by one at a time.
///
/// Dropping it closes the ring: the consumer gets what was sent, and then `Closed`.
pub struct Producer {
    writer: Writer,
    waiter: Waiter,
    pace: Pace,
    ring: Records,
    role: Role,
}

impl Producer {
    pub(super) const WHAT: &str = "the producer of a ring of records";

    pub(super) fn new(ring: Records, role: Role) -> Result<Producer> {
        let writer = Writer::attach(&ring.segment.0.region, ring.geometry).map_err(|Corrupt| {
            Error::Corrupt {
                what: "a ring of records".into(),
                reason: "its records do not follow each other".into(),
            }
        })?;
        let waiter = Waiter::new(ring.strategy);
        Ok(Producer { writer, waiter, pace: Pace::default(), ring, role })
    }

    /// Claims room for a record of `len` bytes, if there is room now. What the room holds is not
    /// specified.
    ///
    /// # Errors
    ///
    /// `Full`; `TooLarge`; `Closed` and `PeerDied` when nobody will make room any more and there
    /// is none; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let room = self.try_room(len)?;
        Ok(Claim { producer: self, room, publish: true })
    }

    /// Claims room for a record of `len` bytes, waiting for it as long as the consumer lives,
    /// unless the ring's [`Policy`] is another.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`], but never `Full` with [`Policy::Wait`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        match self.ring.policy {
            Policy::Wait => self.claim_within(len, None),
            _ => self.try_claim(len),
        }
    }

    /// The same with a bound: `TimedOut` when there is no room until then.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    #[inline]
    pub fn claim_timeout(&mut self, len: usize, timeout: Duration) -> Result<Claim<'_>, SendError> {
        self.claim_within(len, Some(timeout))
    }

    /// Sends a record if there is room now; gives it back if not.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_send<B: AsRef<[u8]>>(&mut self, record: B) -> Result<(), SendError<B>> {
        let claim = self.try_claim(record.as_ref().len());
        fill(claim, record)
    }

    /// Sends a record, waiting for room as long as the consumer lives, unless the ring's
    /// [`Policy`] is another.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    #[inline]
    pub fn send<B: AsRef<[u8]>>(&mut self, record: B) -> Result<(), SendError<B>> {
        let claim = self.claim(record.as_ref().len());
        fill(claim, record).or_else(|error| self.lose(error))
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim_timeout`].
    pub fn send_timeout<B: AsRef<[u8]>>(
        &mut self,
        record: B,
        timeout: Duration,
    ) -> Result<(), SendError<B>> {
        let claim = self.claim_timeout(record.as_ref().len(), timeout);
        fill(claim, record)
    }

    /// Begins a batch: its records become visible together, with [`Batch::publish`].
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { producer: self }
    }

    /// Whether the consumer has closed its end. It might at any time.
    pub fn is_closed(&self) -> bool {
        self.role.state_at(self.ring.consumer_place()) == State::Closed
    }

    /// The longest record.
    pub fn max_len(&self) -> usize {
        self.ring.max_len()
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Changes how this end waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.ring.strategy = strategy;
        self.waiter = Waiter::new(strategy);
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Records {
        &self.ring
    }

    /// A descriptor for a poll of your own; as [`super::Consumer::bell`], after [`Producer::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.segment.bell()
    }

    /// Which rings of the segment had news for this process; as [`super::Consumer::rung`].
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.ring.segment)
    }

    /// Asks to be woken by [`Producer::bell`] when there may be room for a record of `len` bytes.
    /// Tells whether one may go to sleep: false means that there is room now, that the ring has
    /// ended, or that the bell has rung, for this ring or another of the segment.
    ///
    /// As [`super::Consumer::arm`], call it after each wake-up, before the poll:
    ///
    /// ```
    /// # use shmring::{SendError, ring::records::Records};
    /// # let (mut tx, mut rx) = Records::options().capacity(256).anonymous()?.split()?;
    /// # for _ in 0..5 { tx.try_send([0; 40])?; }
    /// # while rx.try_recv().is_ok() {}
    /// let mut record: &[u8] = &[1; 40];
    /// while let Err(SendError::Full(back)) = tx.try_send(record) {
    ///     record = back;
    ///     if tx.arm(record.len()) {
    ///         // Wait in a poll that has `tx.bell()` in it.
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self, len: usize) -> bool {
        let quiet = self.ring.segment.arm();
        matches!(self.try_room(len), Err(SendError::Full(()))) && quiet
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// How far the ring has got: it grows with each publication, and an end that was taken over
    /// from the dead begins where those left off. So it tells whether they came to one.
    pub fn published(&self) -> u64 {
        self.writer.published()
    }

    #[inline]
    fn own(&mut self) -> Result<(), SendError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(SendError::Moved(())),
            Owned::Anew => {
                let anew = self.writer.attach_again(&self.ring.segment.0.region);
                anew.map_err(|Corrupt| SendError::Corrupt(()))
            }
        }
    }

    /// Room that is there now, while all is as usual; otherwise nothing has happened.
    #[inline(always)]
    fn room(&mut self, len: usize) -> Option<Room> {
        if !self.role.is_still() {
            return None;
        }
        self.writer.claim(&self.ring.segment.0.region, len).ok()
    }

    #[inline(always)]
    fn try_room(&mut self, len: usize) -> Result<Room, SendError> {
        match self.room(len) {
            Some(room) => Ok(room),
            None => self.why_no_room(len),
        }
    }

    #[cold]
    #[inline(never)]
    fn why_no_room(&mut self, len: usize) -> Result<Room, SendError> {
        self.own()?;
        match self.writer.claim(&self.ring.segment.0.region, len) {
            Ok(room) => Ok(room),
            Err(NoRoom::Full) => Err(self.why_full()),
            Err(no_room) => Err(self.no_room(no_room, len)),
        }
    }

    #[cold]
    fn no_room(&self, no_room: NoRoom, len: usize) -> SendError {
        match no_room {
            NoRoom::Full => SendError::Full(()),
            NoRoom::Corrupt => SendError::Corrupt(()),
            NoRoom::TooLarge => SendError::TooLarge { item: (), len, limit: self.max_len() },
        }
    }

    /// There is no room: because it will never come?
    #[cold]
    fn why_full(&self) -> SendError {
        let place = self.ring.consumer_place();
        if self.role.state_at(place) == State::Closed {
            return SendError::Closed(());
        }
        match self.role.peer_at(place) {
            Some(peer) if self.waiter.may_ask() && !self.ring.segment.lives(peer) => {
                SendError::PeerDied { item: (), pid: self.ring.segment.pid_of_peer(peer) }
            }
            _ => SendError::Full(()),
        }
    }

    #[inline(always)]
    fn claim_within(
        &mut self,
        len: usize,
        timeout: Option<Duration>,
    ) -> Result<Claim<'_>, SendError> {
        let room = match self.room(len) {
            Some(room) => room,
            None => self.wait_for_room(len, timeout)?,
        };
        Ok(Claim { producer: self, room, publish: true })
    }

    /// Gives up a record for which there is no room, where the ring is for that.
    #[cold]
    pub(crate) fn lose<B>(&mut self, error: SendError<B>) -> Result<(), SendError<B>> {
        match (error, self.ring.policy) {
            (SendError::Full(_), Policy::DropNewest) => {
                self.writer.lose(&self.ring.segment.0.region);
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, timeout: Option<Duration>) -> Result<Room, SendError> {
        self.own()?;
        let Producer { writer, waiter, ring, role, .. } = self;
        let region = &ring.segment.0.region;
        match writer.claim(region, len) {
            Ok(room) => Ok(room),
            Err(NoRoom::Full) => {
                waiter.give_head_start();
                waiter.spin(|| writer.claim(region, len).is_ok());
                let place = ring.consumer_place();
                let mut look = || match writer.claim(region, len) {
                    Ok(room) => Some(Ok(room)),
                    Err(NoRoom::Full) if role.state_at(place) == State::Closed => {
                        Some(Err(SendError::Closed(())))
                    }
                    Err(NoRoom::Full) => None,
                    Err(_) => Some(Err(SendError::Corrupt(()))),
                };
                if let Some(result) = look() {
                    return result;
                }
                match waiter.wait(&ring.segment, timeout, look, || role.peer_at(place)) {
                    Ended::Done(result) => result,
                    Ended::TimedOut => Err(SendError::TimedOut(())),
                    Ended::PeerDied(pid) => Err(SendError::PeerDied { item: (), pid }),
                }
            }
            Err(other) => Err(self.no_room(other, len)),
        }
    }

    /// Publishes what was committed and wakes the consumer.
    #[inline(always)]
    fn publish(&mut self) {
        let bytes = self.writer.publish(&self.ring.segment.0.region);
        if bytes > 0 {
            self.published_now(bytes);
        }
    }

    #[inline(always)]
    fn published_now(&mut self, bytes: u64) {
        self.ring_consumer();
        if self.pace.has_waited() {
            self.writer.get_ahead(&self.ring.segment.0.region, bytes);
        }
    }

    #[inline]
    fn ring_consumer(&self) {
        self.role.ring(self.ring.consumer_place(), self.ring.object.index);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_consumer();
        }
    }
}

impl Selectable for Producer {
    fn source(&self) -> Source {
        let Records { segment, object, geometry, .. } = &self.ring;
        let (other, geometry) = (self.ring.consumer_place(), *geometry);
        let untold = self.writer.untold();
        let room = move |region: &Region, len| {
            let untold = untold.load(local::Ordering::Relaxed);
            cursor::has_room(region, geometry, untold, len)
        };
        Source::of_role(segment, object.index, &self.role, other, room)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// Room for one record, to be filled in place. Dropping it gives the room back.
///
/// Its first byte lies at a multiple of 8.
pub struct Claim<'a> {
    producer: &'a mut Producer,
    room: Room,
    publish: bool,
}

impl<'a> Claim<'a> {
    /// Where the record will stand.
    pub(crate) fn position(&self) -> u64 {
        self.room.position
    }

    pub(crate) fn producer(&self) -> &Producer {
        self.producer
    }

    /// Makes the record part of the ring: at once, or with the batch it was claimed from.
    #[inline]
    pub fn commit(self) {
        let len = self.room.len;
        self.commit_as(Kind::Bytes, len);
    }

    /// The same with only the first `len` bytes.
    ///
    /// # Panics
    ///
    /// When `len` is more than was claimed.
    #[inline]
    pub fn commit_len(self, len: usize) {
        assert!(len <= self.room.len, "committing {len} bytes of {} claimed", self.room.len);
        self.commit_as(Kind::Bytes, len);
    }

    // Part of its caller: a call takes the claim through memory, which costs more than all of this.
    #[inline(always)]
    pub(crate) fn commit_as(self, kind: Kind, len: usize) -> &'a Producer {
        let Claim { producer, room, publish } = self;
        // A copy, in a forked child, has nothing to commit.
        if producer.role.is_ours() {
            let region = &producer.ring.segment.0.region;
            if publish {
                let bytes = producer.writer.publish_one(region, room, kind, len);
                producer.published_now(bytes);
            } else {
                producer.writer.commit(region, room, kind, len);
            }
        }
        producer
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        slots::room_ref(&self.producer.ring.segment.0.region, &self.room)
    }
}

impl DerefMut for Claim<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        slots::room(&self.producer.ring.segment.0.region, &mut self.room)
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.room.len).finish_non_exhaustive()
    }
}

/// Puts a record into the room that was claimed for it, or hands it back.
#[inline]
fn fill<B: AsRef<[u8]>>(
    claim: Result<Claim<'_>, SendError>,
    record: B,
) -> Result<(), SendError<B>> {
    match claim {
        Ok(mut claim) => {
            claim.copy_from_slice(record.as_ref());
            claim.commit();
            Ok(())
        }
        Err(error) => Err(error.map(|()| record)),
    }
}

/// Records that will become visible together. Dropping it unpublished forgets them.
///
/// A batch cannot be longer than the ring: when it does not fit, publish what there is and go on.
pub struct Batch<'a> {
    producer: &'a mut Producer,
}

impl Batch<'_> {
    /// Claims room for the next record of the batch, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let room = self.producer.try_room(len)?;
        Ok(Claim { producer: self.producer, room, publish: false })
    }

    /// Adds a record, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_push<B: AsRef<[u8]>>(&mut self, record: B) -> Result<(), SendError<B>> {
        let claim = self.try_claim(record.as_ref().len());
        fill(claim, record)
    }

    /// Makes all records of the batch visible at once.
    #[inline]
    pub fn publish(self) {
        // A copy, in a forked child, has nothing to publish.
        if self.producer.role.is_ours() {
            self.producer.publish();
        }
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.producer.writer.abort();
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}
