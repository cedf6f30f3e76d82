//! A producer's end of a queue.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    time::Duration,
};

use super::{
    Queue,
    geometry::{LEN, LOST, MESSAGE, PRODUCER, PRODUCERS, SEQUENCE},
    lists::{Corrupt, Held},
    seats::{End, Others, Seat},
    slots,
    source::source,
};
use crate::{
    error::{Result, SendError},
    ring::{
        face::{self, Policy, Side, Which, end_travels},
        role::{Owned, Role},
        select::{Selectable, Source},
    },
    sync::Ordering,
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// An end that puts items in. Another thread or process takes one of its own
/// ([`Queue::producer`]), or gets this one in a message.
///
/// When the last one is dropped, the consumers get what was sent, and then `Closed`.
pub struct Producer {
    waiter: Waiter,
    /// What is claimed now; when the next is claimed, it was forgotten.
    claimed: Option<Held>,
    /// What was committed to a batch.
    batch: Vec<Held>,
    /// Its number among all producers there have been; 0 before the first item.
    id: u32,
    /// Items so far, those included that were dropped.
    sequence: u64,
    seat: Seat,
}

impl Producer {
    const WHAT: &str = "a producer's end of a queue";

    pub(super) fn take(queue: Queue) -> Result<Producer> {
        Ok(Producer::new(Seat::take(queue, Side::Producer, Producer::WHAT)?))
    }

    fn new(seat: Seat) -> Producer {
        let waiter = Waiter::new(seat.queue.strategy);
        Producer { waiter, claimed: None, batch: Vec::new(), id: 0, sequence: 0, seat }
    }

    /// Claims a slot for an item of `len` bytes, if there is one now. What it holds is not
    /// specified.
    ///
    /// # Errors
    ///
    /// `Full`; `TooLarge`; `Closed` and `PeerDied` when there is no room and nobody will make any;
    /// `Moved`; `Corrupt`.
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let held = self.try_hold(len)?;
        Ok(self.show(held, len))
    }

    /// Claims a slot for an item of `len` bytes, waiting for one as long as a consumer lives or
    /// none has come yet. With another [`Policy`] it answers `Full` at once.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        match self.seat.queue.policy {
            Policy::Wait => self.claim_within(len, None),
            Policy::Fail | Policy::DropNewest => self.try_claim(len),
        }
    }

    /// Claims a slot, waiting for one at most so long: then `TimedOut`.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`], but never `Full`.
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

    /// Sends an item, waiting for room as long as a consumer lives or none has come yet. With
    /// another [`Policy`] it answers `Full` at once, or forgets the item and counts it.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    #[inline]
    pub fn send<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        let claim = self.claim(item.as_ref().len());
        match fill(claim, item) {
            Err(SendError::Full(_)) if self.seat.queue.policy == Policy::DropNewest => {
                self.lose_newest();
                Ok(())
            }
            other => other,
        }
    }

    /// Sends an item, waiting for room at most so long.
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

    /// Begins a batch: its items are committed one right after the other, with
    /// [`Batch::publish`].
    pub fn batch(&mut self) -> Batch<'_> {
        if self.seat.is_ours() {
            self.give_back(); // One that was forgotten.
        }
        Batch { producer: self }
    }

    /// Whether there have been consumers, and all have closed their ends.
    pub fn is_closed(&self) -> bool {
        self.seat.others() == Others::Closed
    }

    /// Bytes of the longest item.
    pub fn max_len(&self) -> usize {
        self.seat.queue.max_len()
    }

    /// How many items the queue holds.
    pub fn capacity(&self) -> usize {
        self.seat.queue.capacity()
    }

    /// Changes how this end waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.seat.queue.strategy = strategy;
        self.waiter = Waiter::new(strategy);
    }

    /// The queue this is an end of; for another thread's [`Queue::producer`], say.
    pub fn ring(&self) -> &Queue {
        &self.seat.queue
    }

    /// A descriptor for a poll of your own; as [`super::Consumer::bell`], after
    /// [`Producer::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.seat.queue.segment.bell()
    }

    /// Which rings of the segment had news for this process; as [`super::Consumer::rung`].
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.seat.queue.segment)
    }

    /// Asks to be woken by [`Producer::bell`] when there may be room. Tells whether one may go to
    /// sleep; as [`super::Consumer::arm`].
    pub fn arm(&mut self) -> bool {
        let quiet = self.seat.queue.segment.arm();
        if self.own(0, false).is_err() {
            return false;
        }
        self.seat.begin_to_poll();
        let full = self.seat.lists().is_empty(Side::Producer) == Ok(true);
        quiet && full && self.seat.end(&self.waiter).is_none()
    }

    /// Asks for our seat, and puts our affairs in order.
    #[inline]
    fn own(&mut self, len: usize, in_batch: bool) -> Result<(), SendError> {
        match self.seat.own(Producer::WHAT) {
            Owned::Still => {}
            Owned::Not => return Err(SendError::Moved(())),
            Owned::Anew => {
                // They are the parent's, and so is its name.
                self.batch.clear();
                (self.claimed, self.id, self.sequence) = (None, 0, 0);
            }
        }
        // There is no claim now, and no batch unless we are in it.
        if self.claimed.is_some() || !(in_batch || self.batch.is_empty()) {
            self.forget(in_batch);
        }
        let limit = self.seat.queue.geometry.item_len;
        if len > limit {
            return Err(SendError::TooLarge { item: (), len, limit });
        }
        Ok(())
    }

    /// Takes a slot for an item of `len` bytes, if there is one now, for [`Producer::show`]. If that
    /// is not asked for it, the next call gives it back.
    #[inline]
    pub(crate) fn try_hold(&mut self, len: usize) -> Result<Held, SendError> {
        self.own(len, false)?;
        let held = self.slot()?;
        self.claimed = Some(held);
        Ok(held)
    }

    /// Shows the slot that was taken last.
    #[inline]
    pub(crate) fn show(&mut self, held: Held, len: usize) -> Claim<'_> {
        self.claimed(held, len, false)
    }

    #[inline]
    fn slot(&self) -> Result<Held, SendError> {
        let taken = self.seat.lists().take(Side::Producer, self.seat.me());
        self.seat.wake_up();
        match taken {
            Ok(Some(held)) => Ok(held),
            Ok(None) => self.why_full(),
            Err(Corrupt) => Err(SendError::Corrupt(())),
        }
    }

    /// There is no room: because it will never come?
    #[cold]
    fn why_full(&self) -> Result<Held, SendError> {
        let end = match self.seat.end(&self.waiter) {
            None => return Err(SendError::Full(())),
            Some(End::Closed) => SendError::Closed(()),
            Some(End::Died(pid)) => SendError::PeerDied { item: (), pid },
        };
        // What they had in hand may be free now.
        match self.seat.lists().take(Side::Producer, self.seat.me()) {
            Ok(Some(held)) => Ok(held),
            Ok(None) => Err(end),
            Err(Corrupt) => Err(SendError::Corrupt(())),
        }
    }

    fn claim_within(
        &mut self,
        len: usize,
        timeout: Option<Duration>,
    ) -> Result<Claim<'_>, SendError> {
        self.own(len, false)?;
        let held = match self.seat.lists().take(Side::Producer, self.seat.me()) {
            Ok(Some(held)) => Ok(held),
            Ok(None) => self.wait(timeout),
            Err(Corrupt) => Err(SendError::Corrupt(())),
        };
        self.seat.wake_up();
        Ok(self.claimed(held?, len, false))
    }

    #[inline(never)]
    fn wait(&self, timeout: Option<Duration>) -> Result<Held, SendError> {
        let (seat, lists) = (&self.seat, self.seat.lists());
        let take = || match lists.take(Side::Producer, seat.me()) {
            Ok(Some(held)) => Some(Ok(held)),
            Ok(None) => None,
            Err(Corrupt) => Some(Err(SendError::Corrupt(()))),
        };
        if self.waiter.spin(|| lists.is_empty(Side::Producer) != Ok(true))
            && let Some(found) = take()
        {
            return found;
        }
        // Once they have closed, the last look is the one after.
        let look = || match take() {
            None if seat.is_over() => Some(take().unwrap_or(Err(SendError::Closed(())))),
            found => found,
        };
        let segment = &seat.queue.segment;
        let arm = |_| seat.fall_asleep();
        match self.waiter.wait_armed(segment, timeout, look, || seat.peer(), arm) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(SendError::TimedOut(())),
            Ended::PeerDied(pid) => {
                Err(SendError::PeerDied { item: (), pid: seat.pid_of_dead(pid) })
            }
        }
    }

    #[inline]
    fn claimed(&mut self, held: Held, len: usize, batch: bool) -> Claim<'_> {
        self.claimed = Some(held);
        Claim { producer: self, held, len, batch, kept: false }
    }

    /// Gives back what was forgotten by those who had it.
    #[cold]
    fn forget(&mut self, keep_batch: bool) {
        if keep_batch {
            let claimed = self.claimed.take();
            claimed.into_iter().for_each(|held| self.abort(held));
        } else {
            self.give_back();
        }
    }

    /// Gives back all that is claimed.
    fn give_back(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for held in self.claimed.take().into_iter().chain(batch) {
            self.abort(held);
        }
    }

    fn abort(&self, held: Held) {
        // A slot that a liar has changed is not ours any more.
        if self.seat.lists().abort(held).is_ok() {
            self.seat.queue.wake(Side::Producer);
        }
    }

    /// Makes a filled slot an item.
    #[inline]
    fn commit(&mut self, held: Held, mark: u64) -> Result<(), SendError> {
        let (region, at) = (self.seat.region(), self.seat.queue.geometry.slot(held.slot));
        if self.id == 0 {
            self.id = self.next_id();
        }
        region.u32(at + PRODUCER).store(self.id, Ordering::Relaxed);
        region.u64(at + SEQUENCE).store(self.sequence | mark, Ordering::Relaxed);
        self.seat.lists().commit(held).map_err(|Corrupt| SendError::Corrupt(()))?;
        self.sequence += 1;
        self.seat.queue.wake(Side::Consumer);
        Ok(())
    }

    #[cold]
    fn next_id(&self) -> u32 {
        let word = self.seat.region().u64(self.seat.queue.geometry.base + PRODUCERS);
        (word.fetch_add(1, Ordering::Relaxed) as u32).wrapping_add(1).max(1)
    }

    #[cold]
    pub(super) fn lose_newest(&mut self) {
        self.sequence += 1;
        let word = self.seat.region().u64(self.seat.queue.geometry.base + LOST);
        word.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.seat.is_ours() {
            self.give_back();
        }
    }
}

impl face::End for Producer {
    type Ring = Queue;
    const WHAT: &'static str = Producer::WHAT;

    fn ring(&self) -> &Queue {
        Producer::ring(self)
    }

    fn role(&self) -> &Role {
        self.seat.role()
    }

    fn which(&self) -> Which {
        Which { side: Side::Producer, index: self.seat.number() as u32 }
    }

    fn receive(ring: Queue, index: u32, from: u64) -> Result<Producer> {
        let seat = Seat::receive(ring, Side::Producer, index, from, Producer::WHAT)?;
        Ok(Producer::new(seat))
    }
}

end_travels!([] Producer);

impl Selectable for Producer {
    fn source(&self) -> Source {
        source(&self.seat)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("queue", &self.seat.queue).finish_non_exhaustive()
    }
}

/// A slot for one item, to be filled in place. Dropping it gives the slot back.
///
/// Its first byte lies at a multiple of 8. A claim that is forgotten (`mem::forget`) is given back
/// when its producer claims the next, or is dropped. A forked child's copy has no bytes and does
/// nothing.
pub struct Claim<'a> {
    producer: &'a mut Producer,
    held: Held,
    len: usize,
    batch: bool,
    /// Whether it is no longer ours to give back.
    kept: bool,
}

impl Claim<'_> {
    /// Makes the item part of the queue: at once, or with the batch it was claimed from. When this
    /// returns without an error, the item will be delivered.
    ///
    /// # Errors
    ///
    /// `Moved` in a forked child, `Corrupt`.
    #[inline]
    pub fn commit(self) -> Result<(), SendError> {
        let len = self.len;
        self.commit_len(len)
    }

    /// The same with only the first `len` bytes.
    ///
    /// # Errors
    ///
    /// As [`Claim::commit`].
    ///
    /// # Panics
    ///
    /// When `len` is more than was claimed.
    #[inline]
    pub fn commit_len(mut self, len: usize) -> Result<(), SendError> {
        assert!(len <= self.len, "committing {len} bytes of {} claimed", self.len);
        self.kept = true;
        let (producer, held) = (&mut *self.producer, self.held);
        if !producer.seat.is_ours() {
            return Err(SendError::Moved(()));
        }
        let at = producer.seat.queue.geometry.slot(held.slot) + LEN;
        producer.seat.region().u32(at).store(len as u32, Ordering::Relaxed);
        producer.claimed = None;
        if self.batch {
            producer.batch.push(held);
            return Ok(());
        }
        producer.commit(held, 0)
    }

    /// Makes it a message of a port.
    pub(super) fn commit_message(mut self) -> Result<(), SendError> {
        self.kept = true;
        let (producer, held) = (&mut *self.producer, self.held);
        let at = producer.seat.queue.geometry.slot(held.slot) + LEN;
        producer.seat.region().u32(at).store(self.len as u32, Ordering::Relaxed);
        producer.claimed = None;
        producer.commit(held, MESSAGE)
    }

    /// Which slot it is.
    pub(super) fn slot(&self) -> usize {
        self.held.slot as usize
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.kept || !self.producer.seat.is_ours() {
            return;
        }
        self.producer.claimed = None;
        self.producer.abort(self.held);
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let seat = &self.producer.seat;
        let len = if seat.is_ours() { self.len } else { 0 };
        slots::bytes(seat.region(), &seat.queue.geometry, &self.held, len)
    }
}

impl DerefMut for Claim<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let seat = &self.producer.seat;
        let len = if seat.is_ours() { self.len } else { 0 };
        slots::room(seat.region(), &seat.queue.geometry, &mut self.held, len)
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Puts an item into the slot that was claimed for it, or hands it back.
#[inline]
fn fill<B: AsRef<[u8]>>(claim: Result<Claim<'_>, SendError>, item: B) -> Result<(), SendError<B>> {
    let sent = claim.and_then(|mut claim| {
        claim.copy_from_slice(item.as_ref());
        claim.commit()
    });
    sent.map_err(|error| error.map(|()| item))
}

/// Items that will be committed one right after the other. Dropping it unpublished forgets them.
///
/// Their slots are claimed meanwhile, so a batch is never longer than the queue: when there is no
/// room, publish what there is and go on. A producer that dies while it publishes has committed the
/// first of them.
pub struct Batch<'a> {
    producer: &'a mut Producer,
}

impl Batch<'_> {
    /// Claims a slot for the next item of the batch, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        self.producer.own(len, true)?;
        let held = self.producer.slot()?;
        Ok(self.producer.claimed(held, len, true))
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

    /// Makes all items of the batch parts of the queue, in their order.
    ///
    /// # Errors
    ///
    /// `Moved` in a forked child, `Corrupt`; the items that were not committed are forgotten.
    pub fn publish(self) -> Result<(), SendError> {
        if !self.producer.seat.is_ours() {
            return Err(SendError::Moved(()));
        }
        let mut batch = std::mem::take(&mut self.producer.batch).into_iter();
        let result = batch.try_for_each(|held| self.producer.commit(held, 0));
        // What is left after an error goes back with the drop.
        self.producer.batch.extend(batch);
        result
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.producer.seat.is_ours() {
            self.producer.give_back();
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.producer.batch.len()).finish_non_exhaustive()
    }
}
