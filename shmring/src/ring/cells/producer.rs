//! The producer's end of a ring of cells.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    time::Duration,
};

use bytemuck::Pod;

use super::{
    Board, Cells as Ring,
    cursor::{self, Cells, Corrupt, NoRoom, Writer},
    slots,
};
use crate::{
    error::{Error, Result, SendError},
    region::Region,
    ring::{
        Policy,
        face::{End, Which, end_travels},
        role::{Owned, Role, State},
        select::{Selectable, Source},
    },
    wait::{self, Ended, WaitStrategy, Waiter},
};

pub(super) const WHAT: &str = "the producer of a ring of cells";

/// The end that puts items in. It can go to another process, and is held by one at a time.
///
/// Dropping it closes the ring: the consumer gets what was sent, and then `Closed`.
pub struct Producer<T: Pod> {
    writer: Writer,
    waiter: Waiter,
    ring: Ring<T>,
    role: Role,
}

/// How long one waits for room.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Bounded(Duration),
    Policy,
}

impl<T: Pod> Producer<T> {
    pub(super) fn new(ring: Ring<T>, role: Role) -> Result<Producer<T>> {
        let writer = Writer::attach(ring.board.region(), ring.board.geometry);
        let writer = writer.map_err(|Corrupt| Error::Corrupt {
            what: "a ring of cells".into(),
            reason: "more is published than it can hold".into(),
        })?;
        let waiter = Waiter::new(ring.board.strategy);
        Ok(Producer { writer, waiter, ring, role })
    }

    /// Sends an item if there is room now; gives it back if not.
    ///
    /// # Errors
    ///
    /// `Full`; `Closed` and `PeerDied` when nobody will make room any more and there is none;
    /// `Moved`; `Corrupt`.
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), SendError<T>> {
        self.send_within(item, Patience::None)
    }

    /// Sends an item, waiting for room as long as the consumer lives, unless the ring's
    /// [`Policy`] is another.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`], but never `Full` with [`Policy::Wait`].
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), SendError<T>> {
        self.send_within(item, Patience::Policy).or_else(|error| self.lose(error))
    }

    /// Sends an item, waiting for room: `TimedOut` when there is none until then.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`].
    #[inline]
    pub fn send_timeout(&mut self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_within(item, Patience::Bounded(timeout))
    }

    /// Claims the next cell, if it is free now, to fill it in place.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`].
    #[inline]
    pub fn try_claim(&mut self) -> Result<Claim<'_, T>, SendError> {
        self.claim_within(Patience::None)
    }

    /// Claims the next cell, waiting for it as long as the consumer lives, unless the ring's
    /// [`Policy`] is another.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`], but never `Full` with [`Policy::Wait`].
    #[inline]
    pub fn claim(&mut self) -> Result<Claim<'_, T>, SendError> {
        self.claim_within(Patience::Policy)
    }

    /// The same with a bound: `TimedOut` when no cell is free until then.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`].
    #[inline]
    pub fn claim_timeout(&mut self, timeout: Duration) -> Result<Claim<'_, T>, SendError> {
        self.claim_within(Patience::Bounded(timeout))
    }

    /// Claims up to `count` cells that follow each other, at least one, if there are any now. There
    /// are fewer when no more are free, and at the end of the array, where the ring begins again.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`].
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    #[inline]
    pub fn try_claim_many(&mut self, count: usize) -> Result<ClaimMany<'_, T>, SendError> {
        self.claim_many_within(count, Patience::None)
    }

    /// The same, waiting for at least one cell as [`Producer::claim`] does.
    ///
    /// ```
    /// # use shmring::ring::cells::Cells;
    /// # let (mut tx, mut rx) = Cells::<u64>::options().capacity(64).anonymous()?.split()?;
    /// let mut items: &[u64] = &[2, 3, 5, 7, 11];
    /// while !items.is_empty() {
    ///     let mut cells = tx.claim_many(items.len())?;
    ///     let (now, later) = items.split_at(cells.len());
    ///     cells.copy_from_slice(now);
    ///     cells.commit();
    ///     items = later;
    /// }
    /// assert_eq!(rx.run()?[..], [2, 3, 5, 7, 11]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    #[inline]
    pub fn claim_many(&mut self, count: usize) -> Result<ClaimMany<'_, T>, SendError> {
        self.claim_many_within(count, Patience::Policy)
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// As [`Producer::claim_timeout`].
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    #[inline]
    pub fn claim_many_timeout(
        &mut self,
        count: usize,
        timeout: Duration,
    ) -> Result<ClaimMany<'_, T>, SendError> {
        self.claim_many_within(count, Patience::Bounded(timeout))
    }

    /// Begins a batch: its items become visible together, with [`Batch::publish`].
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, T> {
        Batch { producer: self, filled: 0 }
    }

    /// Whether the consumer has closed its end. It might at any time.
    pub fn is_closed(&self) -> bool {
        self.role.state_at(self.ring.board.consumer_place()) == State::Closed
    }

    /// How many items there can be at once.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Changes how this end waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.ring.board.strategy = strategy;
        self.waiter = Waiter::new(strategy);
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// A descriptor for a poll of your own; as [`super::Consumer::bell`], after [`Producer::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.board.segment.bell()
    }

    /// Which rings of the segment had news for this process; as [`super::Consumer::rung`].
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.ring.board.segment)
    }

    /// Asks to be woken by [`Producer::bell`] when there may be room. Tells whether one may go to
    /// sleep: false means that there is room now, that the ring has ended, or that the bell has
    /// rung, for this ring or another of the segment. Call it after each wake-up, before the poll.
    pub fn arm(&mut self) -> bool {
        let quiet = self.ring.board.segment.arm();
        matches!(self.try_room(1), Err(SendError::Full(()))) && quiet
    }

    #[inline]
    fn own(&mut self) -> Result<(), SendError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(SendError::Moved(())),
            Owned::Anew => {
                let board = &self.ring.board;
                let writer = Writer::attach(board.region(), board.geometry);
                self.writer = writer.map_err(|Corrupt| SendError::Corrupt(()))?;
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn send_within(&mut self, item: T, patience: Patience) -> Result<(), SendError<T>> {
        match self.room(1, patience) {
            Ok(mut room) => {
                slots::fill(self.ring.board.region(), &mut room)[0] = item;
                self.publish(1);
                Ok(())
            }
            Err(error) => Err(error.map(|()| item)),
        }
    }

    #[inline(always)]
    fn claim_within(&mut self, patience: Patience) -> Result<Claim<'_, T>, SendError> {
        let room = self.room(1, patience)?;
        Ok(Claim { producer: self, room })
    }

    #[inline(always)]
    fn claim_many_within(
        &mut self,
        count: usize,
        patience: Patience,
    ) -> Result<ClaimMany<'_, T>, SendError> {
        assert!(count > 0, "claiming no cells");
        let room = self.room(count, patience)?;
        Ok(ClaimMany { producer: self, room })
    }

    /// Room that is there now, while all is as usual; otherwise the long way.
    #[inline(always)]
    fn room(&mut self, count: usize, patience: Patience) -> Result<Cells, SendError> {
        if self.role.is_still()
            && let Ok(room) = self.writer.claim(self.ring.board.region(), count)
        {
            return Ok(room);
        }
        self.wait_for_room(count, patience)
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, count: usize, patience: Patience) -> Result<Cells, SendError> {
        let timeout = match patience {
            Patience::None => return self.try_room(count),
            Patience::Bounded(timeout) => Some(timeout),
            Patience::Policy if self.ring.board.policy == Policy::Wait => None,
            Patience::Policy => return self.try_room(count),
        };
        self.own()?;
        let Producer { writer, waiter, ring, role } = self;
        let (region, place) = (ring.board.region(), ring.board.consumer_place());
        waiter.give_head_start();
        waiter.spin(|| writer.claim(region, count) != Err(NoRoom::Full));
        let mut look = || match writer.claim(region, count) {
            Ok(room) => Some(Ok(room)),
            Err(NoRoom::Full) if role.state_at(place) == State::Closed => {
                Some(Err(SendError::Closed(())))
            }
            Err(NoRoom::Full) => None,
            Err(NoRoom::Corrupt) => Some(Err(SendError::Corrupt(()))),
        };
        if let Some(result) = look() {
            return result;
        }
        match waiter.wait(&ring.board.segment, timeout, look, || role.peer_at(place)) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(SendError::TimedOut(())),
            Ended::PeerDied(pid) => Err(SendError::PeerDied { item: (), pid }),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_room(&mut self, count: usize) -> Result<Cells, SendError> {
        self.own()?;
        let claimed = self.writer.claim(self.ring.board.region(), count);
        claimed.map_err(|none| self.why_none(none))
    }

    #[cold]
    fn why_none(&self, none: NoRoom) -> SendError {
        match none {
            NoRoom::Full => self.why_full(),
            NoRoom::Corrupt => SendError::Corrupt(()),
        }
    }

    /// Room for one more of a batch.
    #[inline]
    fn room_after(&mut self, filled: usize) -> Result<Cells, SendError> {
        if filled == 0 {
            return self.room(1, Patience::None);
        }
        // Whoever took this end over knows nothing of a batch that another had begun.
        if !self.role.is_still() {
            return Err(SendError::Moved(()));
        }
        let claimed = self.writer.claim_after(self.ring.board.region(), filled);
        claimed.map_err(|none| self.why_none(none))
    }

    /// There is no room: because it will never come?
    #[cold]
    fn why_full(&self) -> SendError {
        let (place, segment) = (self.ring.board.consumer_place(), &self.ring.board.segment);
        if self.role.state_at(place) == State::Closed {
            return SendError::Closed(());
        }
        match self.role.peer_at(place) {
            Some(peer) if self.waiter.may_ask() && !segment.lives(peer) => {
                SendError::PeerDied { item: (), pid: segment.pid_of_peer(peer) }
            }
            _ => SendError::Full(()),
        }
    }

    /// Gives up an item for which there is no room, where the ring is for that.
    #[cold]
    fn lose(&mut self, error: SendError<T>) -> Result<(), SendError<T>> {
        match (error, self.ring.board.policy) {
            (SendError::Full(_), Policy::DropNewest) => {
                self.writer.lose(self.ring.board.region());
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    /// Shows the consumer what was claimed and filled, and wakes it.
    #[inline]
    fn publish(&mut self, count: usize) {
        self.writer.publish(self.ring.board.region(), count);
        self.ring_consumer();
    }

    /// The same of what was lent meanwhile: a copy, in a forked child, has nothing to show.
    #[inline]
    fn publish_lent(&mut self, count: usize) {
        if self.role.is_ours() {
            self.publish(count);
        }
    }

    #[inline]
    fn ring_consumer(&self) {
        self.role.ring(self.ring.board.consumer_place(), self.ring.board.object.index);
    }
}

impl<T: Pod> Drop for Producer<T> {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_consumer();
        }
    }
}

impl<T: Pod> Selectable for Producer<T> {
    fn source(&self) -> Source {
        let Board { segment, object, geometry, .. } = &self.ring.board;
        let (other, geometry) = (self.ring.board.consumer_place(), *geometry);
        let room = move |region: &Region, _| cursor::has_room(region, geometry);
        Source::of_role(segment, object.index, &self.role, other, room)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl<T: Pod> End for Producer<T> {
    type Ring = Ring<T>;
    const WHAT: &'static str = WHAT;

    fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(ring: Ring<T>, _: u32, from: u64) -> Result<Producer<T>> {
        let board = &ring.board;
        let role = Role::receive(&board.segment, board.producer_place(), from, WHAT)?;
        Producer::new(ring, role)
    }
}

end_travels!([T: Pod] Producer<T>);

impl<T: Pod> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// A producer that came in a message and that nobody has taken out of it, whatever its items.
pub(crate) struct UnreadProducer {
    board: Board,
    role: Role,
}

impl End for UnreadProducer {
    type Ring = Board;
    const WHAT: &'static str = WHAT;

    fn ring(&self) -> &Board {
        &self.board
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(board: Board, _: u32, from: u64) -> Result<UnreadProducer> {
        let role = Role::receive(&board.segment, board.producer_place(), from, WHAT)?;
        Ok(UnreadProducer { board, role })
    }
}

impl Drop for UnreadProducer {
    fn drop(&mut self) {
        if self.role.close() {
            self.role.ring(self.board.consumer_place(), self.board.object.index);
        }
    }
}

/// A cell to be filled in place: it derefs to the item, whose value is not specified at first.
/// Dropping it gives the cell back.
#[must_use = "dropping a claim gives it up"]
pub struct Claim<'a, T: Pod> {
    producer: &'a mut Producer<T>,
    room: Cells,
}

impl<T: Pod> Claim<'_, T> {
    /// Lets the consumer see the item.
    #[inline]
    pub fn commit(self) {
        self.producer.publish_lent(1);
    }
}

impl<T: Pod> Deref for Claim<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &slots::claimed(self.producer.ring.board.region(), &self.room)[0]
    }
}

impl<T: Pod> DerefMut for Claim<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut slots::fill(self.producer.ring.board.region(), &mut self.room)[0]
    }
}

impl<T: Pod> fmt::Debug for Claim<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// Items that will become visible together. Dropping it unpublished forgets them.
///
/// A batch cannot be longer than the ring: when an item does not fit, publish what there is and go
/// on. Where the number of items is known, [`Producer::claim_many`] gives their cells as a slice.
///
/// ```
/// # use shmring::ring::cells::Cells;
/// # let (mut tx, mut rx) = Cells::<u32>::options().capacity(4).anonymous()?.split()?;
/// let mut batch = tx.batch();
/// batch.try_push(1)?;
/// batch.try_push(2)?;
/// batch.publish();
/// assert_eq!(*rx.run()?, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch that is not published is forgotten"]
pub struct Batch<'a, T: Pod> {
    producer: &'a mut Producer<T>,
    filled: usize,
}

impl<T: Pod> Batch<'_, T> {
    /// Adds an item, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_claim`].
    #[inline]
    pub fn try_push(&mut self, item: T) -> Result<(), SendError<T>> {
        match self.producer.room_after(self.filled) {
            Ok(mut room) => {
                slots::fill(self.producer.ring.board.region(), &mut room)[0] = item;
                self.filled += 1;
                Ok(())
            }
            Err(error) => Err(error.map(|()| item)),
        }
    }

    /// How many items were added.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Makes all items of the batch visible at once.
    #[inline]
    pub fn publish(self) {
        if self.filled > 0 {
            self.producer.publish_lent(self.filled);
        }
    }
}

impl<T: Pod> fmt::Debug for Batch<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.filled).finish_non_exhaustive()
    }
}

/// Cells that follow each other, to be filled in place: it derefs to a slice, whose values are not
/// specified at first. Dropping it gives back what was not published.
#[must_use = "dropping a claim gives it up"]
pub struct ClaimMany<'a, T: Pod> {
    producer: &'a mut Producer<T>,
    room: Cells,
}

impl<T: Pod> ClaimMany<'_, T> {
    /// Lets the consumer see the first `count` items, all at once. Those after them stay claimed:
    /// index 0 is now the first of them.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    #[inline]
    pub fn publish(&mut self, count: usize) {
        let len = self.room.count;
        assert!(count <= len, "publishing {count} cells of {len} claimed");
        if count > 0 {
            self.producer.publish_lent(count);
            self.room = self.room.after(count);
        }
    }

    /// Lets the consumer see all of them at once.
    #[inline]
    pub fn commit(mut self) {
        self.publish(self.room.count);
    }
}

impl<T: Pod> Deref for ClaimMany<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        slots::claimed(self.producer.ring.board.region(), &self.room)
    }
}

impl<T: Pod> DerefMut for ClaimMany<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        slots::fill(self.producer.ring.board.region(), &mut self.room)
    }
}

impl<T: Pod> fmt::Debug for ClaimMany<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimMany").field("len", &self.room.count).finish_non_exhaustive()
    }
}
