//! The consumer's end of a ring of cells.

use std::{fmt, ops::Deref, os::fd::BorrowedFd, time::Duration};

use bytemuck::Pod;

use super::{
    Board, Cells as Ring,
    cursor::{self, Corrupt, Found, Reader},
    slots,
};
use crate::{
    error::{RecvError, Result},
    region::Region,
    ring::{
        face::{End, Which, end_travels},
        role::{Owned, Role, State},
        select::{Selectable, Source},
    },
    wait::{self, Ended, WaitStrategy, Waiter},
};

pub(super) const WHAT: &str = "the consumer of a ring of cells";

/// The end that takes items out. It can go to another process, and is held by one at a time.
///
/// Dropping it closes the ring: the producer gets `Closed` when it is full.
pub struct Consumer<T: Pod> {
    reader: Reader,
    waiter: Waiter,
    ring: Ring<T>,
    role: Role,
}

/// How a reader looks: for one item, or for all that follow each other. Where it is inlined, what
/// it finds stays in registers; a look through memory waits for the one before.
trait Peek: Fn(&mut Reader, &Region) -> Result<Option<Found>, Corrupt> + Copy {}

impl<F: Fn(&mut Reader, &Region) -> Result<Option<Found>, Corrupt> + Copy> Peek for F {}

impl<T: Pod> Consumer<T> {
    pub(super) fn new(ring: Ring<T>, role: Role) -> Consumer<T> {
        let reader = Reader::attach(ring.board.region(), ring.board.geometry);
        let waiter = Waiter::new(ring.board.strategy);
        Consumer { reader, waiter, ring, role }
    }

    /// Takes the next item, if there is one now. It is read in place, and released when the guard
    /// is dropped.
    ///
    /// # Errors
    ///
    /// `Empty`; `Closed` and `PeerDied` when there is none and none will come; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Item<'_, T>, RecvError> {
        let found = match self.ready(Reader::peek) {
            Some(found) => found,
            None => self.find(Reader::peek)?,
        };
        Ok(Item { consumer: self, found })
    }

    /// Takes the next item, waiting for it as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`], but never `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<Item<'_, T>, RecvError> {
        let found = self.wait(Reader::peek, None)?;
        Ok(Item { consumer: self, found })
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Item<'_, T>, RecvError> {
        let found = self.wait(Reader::peek, Some(timeout))?;
        Ok(Item { consumer: self, found })
    }

    /// Takes all items that are there and follow each other, as one slice, if there are any now.
    /// They are read in place, and released all at once when the run is dropped. There may be more
    /// after them: a run ends at the end of the array, where the ring begins again, and where items
    /// were lost.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`].
    #[inline]
    pub fn try_run(&mut self) -> Result<Run<'_, T>, RecvError> {
        let found = match self.ready(Reader::peek_run) {
            Some(found) => found,
            None => self.find(Reader::peek_run)?,
        };
        Ok(Run { consumer: self, found })
    }

    /// The same, waiting for at least one item as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run(&mut self) -> Result<Run<'_, T>, RecvError> {
        let found = self.wait(Reader::peek_run, None)?;
        Ok(Run { consumer: self, found })
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run_timeout(&mut self, timeout: Duration) -> Result<Run<'_, T>, RecvError> {
        let found = self.wait(Reader::peek_run, Some(timeout))?;
        Ok(Run { consumer: self, found })
    }

    /// Whether the producer has closed its end. Items may still be there.
    pub fn is_closed(&self) -> bool {
        self.role.state_at(self.ring.board.producer_place()) == State::Closed
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

    /// A descriptor for a poll of your own; as that of
    /// [records](crate::ring::records::Consumer::bell), after [`Consumer::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.board.segment.bell()
    }

    /// Which rings of the segment had news for this process since the last call: bit n stands for
    /// those whose [`Ring::number`] is n modulo 64. A hint where to look first.
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.ring.board.segment)
    }

    /// Asks to be woken by [`Consumer::bell`]. Tells whether one may go to sleep: false means that
    /// there is something to take now, that the ring has ended, or that the bell has rung, for this
    /// ring or another of the segment. Call it after each wake-up, before the poll.
    pub fn arm(&mut self) -> bool {
        let quiet = self.ring.board.segment.arm();
        matches!(self.find(Reader::peek), Err(RecvError::Empty)) && quiet
    }

    #[inline]
    fn own(&mut self) -> Result<(), RecvError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(RecvError::Moved),
            Owned::Anew => {
                self.reader = Reader::attach(self.ring.board.region(), self.ring.board.geometry);
                Ok(())
            }
        }
    }

    /// What is there now, while all is as usual.
    #[inline(always)]
    fn ready(&mut self, peek: impl Peek) -> Option<Found> {
        if !self.role.is_still() {
            return None;
        }
        peek(&mut self.reader, self.ring.board.region()).ok().flatten()
    }

    #[cold]
    #[inline(never)]
    fn find(&mut self, peek: impl Peek) -> Result<Found, RecvError> {
        self.own()?;
        match peek(&mut self.reader, self.ring.board.region()) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.why_empty(peek),
            Err(Corrupt) => Err(RecvError::Corrupt),
        }
    }

    /// There is nothing: because nothing will come? Whoever closed or died may have published just
    /// before, so the last look is the one after.
    #[cold]
    fn why_empty(&mut self, peek: impl Peek) -> Result<Found, RecvError> {
        let (place, segment) = (self.ring.board.producer_place(), &self.ring.board.segment);
        let end = match self.role.state_at(place) {
            State::Closed => RecvError::Closed,
            _ => match self.role.peer_at(place) {
                Some(peer) if self.waiter.may_ask() && !segment.lives(peer) => {
                    RecvError::PeerDied { pid: segment.pid_of_peer(peer) }
                }
                _ => return Err(RecvError::Empty),
            },
        };
        last_look(&mut self.reader, self.ring.board.region(), peek, end)
    }

    #[inline(always)]
    fn wait(&mut self, peek: impl Peek, timeout: Option<Duration>) -> Result<Found, RecvError> {
        if self.reader.is_drained() {
            self.waiter.give_head_start();
        }
        if let Some(found) = self.ready(peek) {
            return Ok(found);
        }
        let region = self.ring.board.region();
        let spun = self.waiter.spin(|| self.reader.is_ready(region));
        if spun && let Some(found) = self.ready(peek) {
            return Ok(found);
        }
        self.sleep(peek, timeout)
    }

    #[inline(never)]
    fn sleep(&mut self, peek: impl Peek, timeout: Option<Duration>) -> Result<Found, RecvError> {
        self.own()?;
        let Consumer { reader, waiter, ring, role } = self;
        let (region, place) = (ring.board.region(), ring.board.producer_place());
        let mut look = || match peek(reader, region) {
            Ok(Some(found)) => Some(Ok(found)),
            Err(Corrupt) => Some(Err(RecvError::Corrupt)),
            Ok(None) if role.state_at(place) != State::Closed => None,
            Ok(None) => Some(last_look(reader, region, peek, RecvError::Closed)),
        };
        if let Some(result) = look() {
            return result;
        }
        match waiter.wait(&ring.board.segment, timeout, look, || role.peer_at(place)) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(RecvError::TimedOut),
            Ended::PeerDied(pid) => Err(RecvError::PeerDied { pid }),
        }
    }

    /// Gives back what was read. A call of its own, so that a guard stays in registers until then:
    /// what is dropped in memory was written there first.
    #[inline(never)]
    fn release(&mut self, count: usize) {
        self.reader.advance(count);
        // A copy of a guard, in a forked child, has nothing to give back.
        if self.role.is_ours() && self.reader.release(self.ring.board.region()) {
            self.ring_producer();
        }
    }

    #[inline]
    fn ring_producer(&self) {
        self.role.ring(self.ring.board.producer_place(), self.ring.board.object.index);
    }
}

/// Looks once more after the end of the ring was seen: nothing comes after that.
fn last_look(
    reader: &mut Reader,
    region: &Region,
    peek: impl Peek,
    end: RecvError,
) -> Result<Found, RecvError> {
    match peek(reader, region) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(end),
        Err(Corrupt) => Err(RecvError::Corrupt),
    }
}

impl<T: Pod> Drop for Consumer<T> {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_producer();
        }
    }
}

impl<T: Pod> Selectable for Consumer<T> {
    fn source(&self) -> Source {
        let Board { segment, object, geometry, .. } = &self.ring.board;
        let (other, geometry) = (self.ring.board.producer_place(), *geometry);
        let there = move |region: &Region, _| cursor::has_item(region, geometry);
        Source::of_role(segment, object.index, &self.role, other, there)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl<T: Pod> End for Consumer<T> {
    type Ring = Ring<T>;
    const WHAT: &'static str = WHAT;

    fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::CONSUMER
    }

    fn receive(ring: Ring<T>, _: u32, from: u64) -> Result<Consumer<T>> {
        let board = &ring.board;
        let role = Role::receive(&board.segment, board.consumer_place(), from, WHAT)?;
        Ok(Consumer::new(ring, role))
    }
}

end_travels!([T: Pod] Consumer<T>);

impl<T: Pod> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// A consumer that came in a message and that nobody has taken out of it, whatever its items.
pub(crate) struct UnreadConsumer {
    board: Board,
    role: Role,
}

impl End for UnreadConsumer {
    type Ring = Board;
    const WHAT: &'static str = WHAT;

    fn ring(&self) -> &Board {
        &self.board
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::CONSUMER
    }

    fn receive(board: Board, _: u32, from: u64) -> Result<UnreadConsumer> {
        let role = Role::receive(&board.segment, board.consumer_place(), from, WHAT)?;
        Ok(UnreadConsumer { board, role })
    }
}

impl Drop for UnreadConsumer {
    fn drop(&mut self) {
        if self.role.close() {
            self.role.ring(self.board.producer_place(), self.board.object.index);
        }
    }
}

/// An item, read in place. Dropping it releases its cell.
///
/// An item whose guard is forgotten (`mem::forget`) is delivered again.
pub struct Item<'a, T: Pod> {
    consumer: &'a mut Consumer<T>,
    found: Found,
}

impl<T: Pod> Item<'_, T> {
    /// How many items were sent into this ring before it, those that were lost included: a step of
    /// more than one is a loss ([`Policy::DropNewest`](crate::ring::Policy::DropNewest)).
    pub fn sequence(&self) -> u64 {
        self.found.sequence
    }
}

impl<T: Pod> Deref for Item<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &slots::read(self.consumer.ring.board.region(), &self.found.cells)[0]
    }
}

impl<T: Pod> Drop for Item<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.release(1);
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Item<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Items that follow each other, read in place: it derefs to a slice. Dropping it releases all of
/// them.
///
/// A run that is forgotten (`mem::forget`) is delivered again.
pub struct Run<'a, T: Pod> {
    consumer: &'a mut Consumer<T>,
    found: Found,
}

impl<T: Pod> Run<'_, T> {
    /// How many items were sent into this ring before the first of these, those that were lost
    /// included. Between two items of a run none was lost.
    pub fn sequence(&self) -> u64 {
        self.found.sequence
    }

    /// Releases only the first `count`: the others are delivered again.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub fn release(mut self, count: usize) {
        let len = self.found.cells.count;
        assert!(count <= len, "releasing {count} cells of {len}");
        // Dropping it does the rest.
        self.found.cells.count = count;
    }
}

impl<T: Pod> Deref for Run<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        slots::read(self.consumer.ring.board.region(), &self.found.cells)
    }
}

impl<T: Pod> Drop for Run<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.release(self.found.cells.count);
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Run<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
