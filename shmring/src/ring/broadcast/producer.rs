//! The producer's end of a broadcast ring.

use std::{
    cell::Cell,
    fmt,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Broadcast, corrupt,
    memory::{Corrupt, Geometry},
    slots,
    table::{self, View},
    writer::{self, NoRoom, Room, Writer},
};
use crate::{
    error::{Result, SendError},
    liveness::Peer,
    ring::{
        Policy,
        role::{self, Owned, Role},
        select::{Selectable, Source, source::Look},
    },
    segment::Segment,
    sync::local::{self, AtomicU64},
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// The end that puts items in. It can go to another process, and is held by one at a time.
///
/// Dropping it closes the ring: the consumers get what was sent, and then `Closed`.
pub struct Producer {
    pub(super) writer: Writer,
    waiter: Waiter,
    ring: Broadcast,
    role: Role,
}

impl Producer {
    pub(super) const WHAT: &str = "the producer of a broadcast ring";

    pub(super) fn new(ring: Broadcast, role: Role) -> Result<Producer> {
        let writer =
            start(&ring).map_err(|Corrupt| corrupt("its items do not follow each other"))?;
        let waiter = Waiter::new(ring.strategy);
        Ok(Producer { writer, waiter, ring, role })
    }

    /// Claims room for an item of `len` bytes, if there is room now. What the room holds is not
    /// specified.
    ///
    /// # Errors
    ///
    /// `Full` while a lossless consumer has not read what would be overwritten; `TooLarge`;
    /// `Moved`; `Corrupt`. Never `Closed` nor `PeerDied`: a ring goes on without consumers, and one
    /// that died is dropped.
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let room = self.try_room(len)?;
        Ok(Claim { producer: self, room, publish: true })
    }

    /// Claims room for an item of `len` bytes, waiting for the slowest lossless consumer as long as
    /// that lives, unless the ring's [`Policy`] is another.
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

    /// Sends an item if there is room now; gives it back if not.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_send<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        let claim = self.try_claim(item.as_ref().len());
        fill(claim, item)
    }

    /// Sends an item, waiting for the slowest lossless consumer as long as that lives, unless the
    /// ring's [`Policy`] is another.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    #[inline]
    pub fn send<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        let claim = self.claim(item.as_ref().len());
        fill(claim, item).or_else(|error| self.lose(error))
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim_timeout`].
    pub fn send_timeout<B: AsRef<[u8]>>(
        &mut self,
        item: B,
        timeout: Duration,
    ) -> Result<(), SendError<B>> {
        let claim = self.claim_timeout(item.as_ref().len(), timeout);
        fill(claim, item)
    }

    /// Begins a batch: its items become visible together, with [`Batch::publish`].
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { producer: self }
    }

    /// Whether there is no consumer now. One might join at any time: what is sent is not lost for
    /// one that wants history, and a ring is never closed for its producer.
    pub fn is_alone(&self) -> bool {
        self.ring.stats().consumers == 0
    }

    /// The longest item.
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
    pub fn ring(&self) -> &Broadcast {
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

    /// Asks to be woken by [`Producer::bell`] when there may be room for an item of `len` bytes.
    /// Tells whether one may go to sleep: false means that there is room now, or that the bell has
    /// rung, for this ring or another of the segment. As [`super::Consumer::arm`], call it after
    /// each wake-up, before the poll.
    ///
    /// A consumer that dies rings nobody: let the poll end after a while, and try again.
    pub fn arm(&mut self, len: usize) -> bool {
        let quiet = self.ring.segment.arm();
        matches!(self.try_room(len), Err(SendError::Full(()))) && quiet
    }

    pub(super) fn role(&self) -> &Role {
        &self.role
    }

    #[inline]
    pub(super) fn own(&mut self) -> Result<(), SendError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(SendError::Moved(())),
            Owned::Anew => {
                self.writer = start(&self.ring).map_err(|Corrupt| SendError::Corrupt(()))?;
                Ok(())
            }
        }
    }

    /// Room that is there now, while all is as usual; otherwise nothing has happened.
    #[inline]
    fn room(&mut self, len: usize) -> Option<Room> {
        if !self.role.is_still() {
            return None;
        }
        self.writer.claim(&self.ring.segment.0.region, len).ok()
    }

    #[inline]
    fn try_room(&mut self, len: usize) -> Result<Room, SendError> {
        match self.room(len) {
            Some(room) => Ok(room),
            None => self.why_no_room(len),
        }
    }

    /// There is no room: the slowest may have died.
    #[cold]
    #[inline(never)]
    fn why_no_room(&mut self, len: usize) -> Result<Room, SendError> {
        self.own()?;
        // Once more for each that may have died.
        for _ in 0..self.ring.geometry.places {
            match self.claim_now(len) {
                Err(SendError::Full(())) if self.waiter.may_ask() && self.drop_slowest() => {
                    self.waiter.ask_again();
                }
                result => return result,
            }
        }
        self.claim_now(len)
    }

    fn claim_now(&mut self, len: usize) -> Result<Room, SendError> {
        match self.writer.claim(&self.ring.segment.0.region, len) {
            Ok(room) => Ok(room),
            Err(NoRoom::Full) => Err(SendError::Full(())),
            Err(NoRoom::Corrupt) => Err(SendError::Corrupt(())),
            Err(NoRoom::TooLarge) => {
                Err(SendError::TooLarge { item: (), len, limit: self.max_len() })
            }
        }
    }

    /// Drops the slowest consumer if it has died.
    fn drop_slowest(&mut self) -> bool {
        let dropped = self.ring.drop_dead(self.writer.slowest());
        if dropped {
            self.writer.forget_view();
        }
        dropped
    }

    #[inline]
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

    /// Gives up an item for which there is no room, where the ring is for that.
    #[cold]
    pub(super) fn lose<B>(&mut self, error: SendError<B>) -> Result<(), SendError<B>> {
        match (error, self.ring.policy) {
            (SendError::Full(_), Policy::DropNewest) => {
                self.writer.drop_one(&self.ring.segment.0.region);
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, timeout: Option<Duration>) -> Result<Room, SendError> {
        self.own()?;
        match self.claim_now(len) {
            Err(SendError::Full(())) => {}
            result => return result,
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let Producer { writer, waiter, ring, .. } = &mut *self;
        let region = &ring.segment.0.region;
        if waiter.spin(|| writer.claim(region, len).is_ok()) {
            return self.claim_now(len);
        }
        loop {
            match self.wait_for_slowest(len, deadline) {
                Ended::Done(result) => return result,
                Ended::TimedOut => return Err(SendError::TimedOut(())),
                // It goes on without that one; if somebody has taken its place over, with that.
                Ended::PeerDied(_) => {
                    self.drop_slowest();
                }
            }
        }
    }

    fn wait_for_slowest(
        &mut self,
        len: usize,
        deadline: Option<Instant>,
    ) -> Ended<Result<Room, SendError>> {
        let Producer { writer, waiter, ring, role } = self;
        let region = &ring.segment.0.region;
        let slowest = Cell::new(writer.slowest());
        let look = || match writer.claim(region, len) {
            Ok(room) => Some(Ok(room)),
            Err(NoRoom::Full) => {
                slowest.set(writer.slowest());
                None
            }
            Err(_) => Some(Err(SendError::Corrupt(()))),
        };
        let peer = || role.peer_at(ring.geometry.consumer(slowest.get()));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        waiter.wait(&ring.segment, left, look, peer)
    }

    /// Publishes what was committed and wakes those who sleep.
    #[inline]
    fn publish(&mut self) {
        if self.writer.publish(&self.ring.segment.0.region) {
            self.ring_sleepers();
        }
    }

    #[inline]
    fn ring_sleepers(&self) {
        let sleepers = table::take_sleepers(&self.ring.segment.0.region, self.ring.geometry);
        if sleepers != 0 {
            self.ring_each(sleepers);
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_each(&self, sleepers: u64) {
        let geometry = self.ring.geometry;
        for index in table::places_in(sleepers, geometry) {
            self.role.ring_fenced(geometry.consumer(index), self.ring.object.index);
        }
    }
}

/// The writer of a new producer.
fn start(ring: &Broadcast) -> Result<Writer, Corrupt> {
    let region = &ring.segment.0.region;
    table::all_may_sleep(region, ring.geometry);
    Writer::attach(region, ring.geometry)
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_sleepers();
        }
    }
}

impl Producer {
    /// A source that is not ready before all that counts has gone past this position.
    pub(super) fn source_above(&self, floor: Arc<AtomicU64>) -> Source {
        let Broadcast { segment, object, geometry, .. } = &self.ring;
        let look = Sending { holds: self.role.holds(), geometry: *geometry, floor };
        Source::new(segment, object.index, look)
    }
}

impl Selectable for Producer {
    fn source(&self) -> Source {
        self.source_above(Arc::default())
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

/// How a producer's ring looks from outside.
struct Sending<H> {
    holds: H,
    geometry: Geometry,
    floor: Arc<AtomicU64>,
}

impl<H> Sending<H> {
    fn room(&self, segment: &Segment, want: usize) -> (bool, View) {
        let floor = self.floor.load(local::Ordering::Relaxed);
        writer::look_for_room(&segment.0.region, self.geometry, want, floor)
    }
}

impl<H: Fn(&Segment) -> bool + Send + Sync> Look for Sending<H> {
    fn is_held(&self, segment: &Segment) -> bool {
        (self.holds)(segment)
    }

    fn is_ready(&self, segment: &Segment, want: usize) -> bool {
        self.room(segment, want).0 && (self.holds)(segment)
    }

    /// Nothing ends when a consumer dies, but the slowest makes room by it: then a `try_` goes on.
    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        let (_, view) = self.room(segment, usize::MAX);
        let slowest = role::peer_of(segment, self.geometry.consumer(view.slowest));
        view.from != u64::MAX && slowest.is_some_and(|peer| !lives(peer)) && (self.holds)(segment)
    }

    /// Each of them may come to be the slowest.
    fn peers(&self, segment: &Segment, each: &mut dyn FnMut(Peer)) {
        let places = (0..self.geometry.places).map(|index| self.geometry.consumer(index));
        places.filter_map(|place| role::peer_of(segment, place)).for_each(each);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// Room for one item, to be filled in place. Dropping it gives the room back.
///
/// Its first byte lies at a multiple of 8.
pub struct Claim<'a> {
    producer: &'a mut Producer,
    room: Room,
    publish: bool,
}

impl Claim<'_> {
    /// Makes the item part of the ring: at once, or with the batch it was claimed from.
    #[inline]
    pub fn commit(self) {
        let len = self.room.len;
        self.commit_len(len);
    }

    /// The same with only the first `len` bytes.
    ///
    /// # Panics
    ///
    /// When `len` is more than was claimed.
    #[inline]
    pub fn commit_len(self, len: usize) {
        assert!(len <= self.room.len, "committing {len} bytes of {} claimed", self.room.len);
        let Claim { producer, room, publish } = self;
        // A copy, in a forked child, has nothing to commit.
        if producer.role.is_ours() {
            producer.writer.commit(&producer.ring.segment.0.region, room, len);
            if publish {
                producer.publish();
            }
        }
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

/// Puts an item into the room that was claimed for it, or hands it back.
#[inline]
fn fill<B: AsRef<[u8]>>(claim: Result<Claim<'_>, SendError>, item: B) -> Result<(), SendError<B>> {
    match claim {
        Ok(claim) => {
            slots::put(&claim.producer.ring.segment.0.region, &claim.room, item.as_ref());
            claim.commit();
            Ok(())
        }
        Err(error) => Err(error.map(|()| item)),
    }
}

/// Items that will become visible together. Dropping it unpublished forgets them.
///
/// A batch cannot be longer than the ring: when it does not fit, publish what there is and go on.
pub struct Batch<'a> {
    producer: &'a mut Producer,
}

impl Batch<'_> {
    /// Claims room for the next item of the batch, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let room = self.producer.try_room(len)?;
        Ok(Claim { producer: self.producer, room, publish: false })
    }

    /// Adds an item, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_push<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        let claim = self.try_claim(item.as_ref().len());
        fill(claim, item)
    }

    /// Makes all items of the batch visible at once.
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
