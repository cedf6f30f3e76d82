//! A consumer's end of a queue.

use std::{fmt, ops::Deref, os::fd::BorrowedFd, time::Duration};

use super::{
    Queue,
    geometry::{LEN, MESSAGE, PRODUCER, SEQUENCE},
    lists::{Corrupt, Held},
    run::Run,
    seats::{End, Others, Seat},
    slots,
    source::source,
};
use crate::{
    block,
    error::{RecvError, Result},
    ring::{
        face::{self, Side, Which, end_travels},
        role::{Owned, Role},
        select::{Selectable, Source},
    },
    sync::Ordering,
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// An end that takes items out. Another thread or process takes one of its own
/// ([`Queue::consumer`]), or gets this one in a message.
///
/// When the last one is dropped, the producers get `Closed` once the queue is full.
pub struct Consumer {
    waiter: Waiter,
    /// What guards show now; what is still there at the next call was forgotten.
    pub(super) taken: Vec<Taken>,
    pub(super) seat: Seat,
}

/// An item in hand: its slot, and what was copied of its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(super) held: Held,
    pub(super) len: usize,
    pub(super) producer: u32,
    pub(super) sequence: u64,
    /// Whether a port sent it: blocks may lie in its slot.
    pub(super) message: bool,
}

impl Taken {
    pub(super) fn attempt(&self) -> u32 {
        u32::from(self.held.word.attempts()) + 1
    }
}

impl Consumer {
    const WHAT: &str = "a consumer's end of a queue";

    pub(super) fn take(queue: Queue) -> Result<Consumer> {
        Ok(Consumer::new(Seat::take(queue, Side::Consumer, Consumer::WHAT)?))
    }

    fn new(seat: Seat) -> Consumer {
        let waiter = Waiter::new(seat.queue.strategy);
        Consumer { waiter, taken: Vec::new(), seat }
    }

    /// Takes the next item, if there is one now. It is read in place, and nobody else's until the
    /// guard is gone: acknowledge it, or it is handed out again.
    ///
    /// # Errors
    ///
    /// `Empty`; `Closed` and `PeerDied` when all producers are gone, everything was acknowledged,
    /// and so none will come; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Item<'_>, RecvError> {
        let taken = self.try_take()?;
        Ok(self.item(taken))
    }

    /// Takes the next item, waiting for it as long as a producer lives, none has come yet, or
    /// another consumer has an item that it may not finish.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`], but never `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<Item<'_>, RecvError> {
        let taken = self.recv_within(None)?;
        Ok(self.item(taken))
    }

    /// Takes the next item, waiting for it at most so long: then `TimedOut`.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Item<'_>, RecvError> {
        let taken = self.recv_within(Some(timeout))?;
        Ok(self.item(taken))
    }

    /// Takes the items that are there now, at most `max` of them; at least one.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`].
    pub fn try_run(&mut self, max: usize) -> Result<Run<'_>, RecvError> {
        self.try_take()?;
        Ok(self.run_on(max))
    }

    /// The same, but waits for the first of them as [`Consumer::recv`] does.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    pub fn run(&mut self, max: usize) -> Result<Run<'_>, RecvError> {
        self.recv_within(None)?;
        Ok(self.run_on(max))
    }

    /// The same, but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv_timeout`].
    pub fn run_timeout(&mut self, max: usize, timeout: Duration) -> Result<Run<'_>, RecvError> {
        self.recv_within(Some(timeout))?;
        Ok(self.run_on(max))
    }

    /// Whether there have been producers, and all have closed their ends. Items may still be
    /// there.
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

    /// The queue this is an end of; for another thread's [`Queue::consumer`], say.
    pub fn ring(&self) -> &Queue {
        &self.seat.queue
    }

    /// A descriptor for a poll of your own; it becomes readable when anything happens in one of
    /// this process's rings in the same segment, but only after [`Consumer::arm`].
    ///
    /// `None` when the segment has no bell left for this process
    /// ([`crate::segment::Options::bells`]).
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.seat.queue.segment.bell()
    }

    /// Which rings of the segment had news for this process since the last call: bit n stands for
    /// those whose [`Queue::number`] is n modulo 64.
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.seat.queue.segment)
    }

    /// Asks to be woken by [`Consumer::bell`]. Tells whether one may go to sleep: false means that
    /// there is something to take now, that the queue has ended, or that the bell has rung, for
    /// this ring or another of the segment.
    ///
    /// An item wakes all who have armed, and one of those who wait in [`Consumer::recv`]. Call it
    /// after each wake-up, before the poll; [`crate::ring::records::Consumer::arm`] shows the loop.
    pub fn arm(&mut self) -> bool {
        let quiet = self.seat.queue.segment.arm();
        if self.own().is_err() {
            return false;
        }
        self.seat.begin_to_poll();
        let empty = self.seat.lists().is_empty(Side::Consumer) == Ok(true);
        quiet && empty && self.seat.end(&self.waiter).is_none()
    }

    /// Asks for our seat, and puts our affairs in order.
    #[inline]
    fn own(&mut self) -> Result<(), RecvError> {
        match self.seat.own(Consumer::WHAT) {
            Owned::Still => {}
            Owned::Not => return Err(RecvError::Moved),
            Owned::Anew => self.taken.clear(), // They are the parent's.
        }
        if !self.taken.is_empty() {
            self.give_back(0);
        }
        Ok(())
    }

    /// Looks once.
    #[inline]
    fn look(&self) -> Result<Option<Taken>, RecvError> {
        match self.seat.lists().take(Side::Consumer, self.seat.me()) {
            Ok(Some(held)) => self.open(held).map(Some),
            Ok(None) => Ok(None),
            Err(Corrupt) => Err(RecvError::Corrupt),
        }
    }

    /// Copies the head of an item that is ours now, and checks it.
    #[inline]
    fn open(&self, held: Held) -> Result<Taken, RecvError> {
        let (region, at) = (self.seat.region(), self.seat.queue.geometry.slot(held.slot));
        let len = region.u32(at + LEN).load(Ordering::Relaxed) as usize;
        let sequence = region.u64(at + SEQUENCE).load(Ordering::Relaxed);
        let taken = Taken {
            held,
            len,
            producer: region.u32(at + PRODUCER).load(Ordering::Relaxed),
            sequence: sequence & !MESSAGE,
            message: sequence & MESSAGE != 0,
        };
        if len <= self.seat.queue.geometry.item_len {
            return Ok(taken);
        }
        // It would be so the next time too.
        let _ = self.ack(&taken);
        Err(RecvError::Corrupt)
    }

    /// Takes the next item in hand, if there is one now, for [`Consumer::item`] or
    /// [`Consumer::run_on`]. If they are not asked for it, the next call lets it be handed out
    /// again.
    #[inline]
    pub(crate) fn try_take(&mut self) -> Result<Taken, RecvError> {
        self.own()?;
        let found = self.look();
        self.seat.wake_up();
        match found? {
            Some(taken) => {
                self.taken.push(taken);
                Ok(taken)
            }
            None => self.why_empty(),
        }
    }

    /// There is nothing: because nothing will come?
    #[cold]
    fn why_empty(&self) -> Result<Taken, RecvError> {
        // That it is over was said when nothing was left.
        Err(match self.seat.end(&self.waiter) {
            None => RecvError::Empty,
            Some(End::Closed) => RecvError::Closed,
            Some(End::Died(pid)) => RecvError::PeerDied { pid },
        })
    }

    #[inline]
    pub(super) fn recv_within(&mut self, timeout: Option<Duration>) -> Result<Taken, RecvError> {
        self.own()?;
        let found = match self.look() {
            Ok(Some(taken)) => Ok(taken),
            Ok(None) => self.wait(timeout),
            Err(error) => Err(error),
        };
        self.seat.wake_up();
        self.taken.extend(found.as_ref().ok());
        found
    }

    #[inline(never)]
    fn wait(&self, timeout: Option<Duration>) -> Result<Taken, RecvError> {
        let (seat, lists) = (&self.seat, self.seat.lists());
        if self.waiter.spin(|| lists.is_empty(Side::Consumer) != Ok(true))
            && let Some(found) = self.look().transpose()
        {
            return found;
        }
        let look = || match self.look() {
            Ok(None) if seat.is_over() => Some(Err(RecvError::Closed)),
            other => other.transpose(),
        };
        let segment = &seat.queue.segment;
        let arm = |_| seat.fall_asleep();
        match self.waiter.wait_armed(segment, timeout, look, || seat.peer(), arm) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(RecvError::TimedOut),
            Ended::PeerDied(pid) => Err(RecvError::PeerDied { pid: seat.pid_of_dead(pid) }),
        }
    }

    /// The bytes of an item in hand.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, taken: &'a Taken) -> &'a [u8] {
        let len = if self.seat.is_ours() { taken.len } else { 0 };
        slots::bytes(self.seat.region(), &self.seat.queue.geometry, &taken.held, len)
    }

    /// Shows the item that was taken last.
    #[inline]
    pub(crate) fn item(&mut self, taken: Taken) -> Item<'_> {
        Item { consumer: self, taken, over: false }
    }

    /// Shows the item that was taken last, and as many more as are there.
    pub(crate) fn run_on(&mut self, max: usize) -> Run<'_> {
        // An item that cannot be read ends the run; it is gone.
        while self.taken.len() < max
            && let Ok(Some(taken)) = self.look()
        {
            self.taken.push(taken);
        }
        Run::new(self)
    }

    /// Ends an item.
    #[inline]
    pub(super) fn ack(&self, taken: &Taken) -> Result<(), RecvError> {
        if !taken.message {
            return self.let_go(taken.held);
        }
        // Who took it as bytes knows nothing of the blocks in it.
        self.finish(taken, |queue, slot| {
            block::empty_place(&queue.segment, queue.object.index, slot);
        })
    }

    /// Ends an item in whose slot blocks lie, which `empty` lets go of.
    pub(super) fn finish(
        &self,
        taken: &Taken,
        empty: impl FnOnce(&Queue, usize),
    ) -> Result<(), RecvError> {
        let done = self.seat.lists().finish(taken.held).map_err(|Corrupt| RecvError::Corrupt)?;
        empty(&self.seat.queue, done.slot as usize);
        self.let_go(done)
    }

    /// Makes the slot of an item that is over free.
    #[inline]
    pub(super) fn let_go(&self, held: Held) -> Result<(), RecvError> {
        let seat = &self.seat;
        seat.lists().ack(held).map_err(|Corrupt| RecvError::Corrupt)?;
        seat.queue.wake(Side::Producer);
        if seat.others() == Others::Closed && seat.is_over() {
            // It was the last one, and the others wait to hear that.
            seat.queue.wake_all(Side::Consumer);
        }
        Ok(())
    }

    /// Lets an item be handed out again.
    pub(super) fn nack(&self, taken: &Taken) -> Result<(), RecvError> {
        self.seat.lists().nack(taken.held).map_err(|Corrupt| RecvError::Corrupt)?;
        self.seat.queue.wake(Side::Consumer);
        Ok(())
    }

    /// Lets all items in hand be handed out again, from the `first` on.
    pub(super) fn give_back(&mut self, first: usize) {
        for taken in std::mem::take(&mut self.taken).iter().skip(first) {
            // A slot that a liar has changed is not ours any more.
            let _ = self.nack(taken);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.seat.is_ours() {
            self.give_back(0);
        }
    }
}

impl face::End for Consumer {
    type Ring = Queue;
    const WHAT: &'static str = Consumer::WHAT;

    fn ring(&self) -> &Queue {
        Consumer::ring(self)
    }

    fn role(&self) -> &Role {
        self.seat.role()
    }

    fn which(&self) -> Which {
        Which { side: Side::Consumer, index: self.seat.number() as u32 }
    }

    fn receive(ring: Queue, index: u32, from: u64) -> Result<Consumer> {
        let seat = Seat::receive(ring, Side::Consumer, index, from, Consumer::WHAT)?;
        Ok(Consumer::new(seat))
    }
}

end_travels!([] Consumer);

impl Selectable for Consumer {
    fn source(&self) -> Source {
        source(&self.seat)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("queue", &self.seat.queue).finish_non_exhaustive()
    }
}

/// An item, read in place. [`Item::ack`] ends it; dropping it is [`Item::nack`], so that an item
/// whose handler fails or panics is handed out again.
///
/// Its first byte lies at a multiple of 8. An item whose guard is forgotten (`mem::forget`) is
/// handed out again when its consumer asks for the next, or is dropped. A forked child's copy has
/// no bytes and does nothing.
#[must_use = "an item that is not acknowledged is handed out again"]
pub struct Item<'a> {
    consumer: &'a mut Consumer,
    taken: Taken,
    over: bool,
}

impl Item<'_> {
    /// Says that the item is done with: nobody gets it again, and its slot is free.
    ///
    /// # Errors
    ///
    /// `Moved` in a forked child, `Corrupt`; then it may be handed out again.
    #[inline]
    pub fn ack(mut self) -> Result<(), RecvError> {
        self.end(Consumer::ack)
    }

    /// Lets the item be handed out again, behind those that wait now, with an attempt more.
    ///
    /// # Errors
    ///
    /// As [`Item::ack`].
    pub fn nack(mut self) -> Result<(), RecvError> {
        self.end(Consumer::nack)
    }

    /// Which time it is that this item is handed out: 1 is the first. Counts up to 256.
    pub fn attempt(&self) -> u32 {
        self.taken.attempt()
    }

    /// Which producer sent it: each end has a number of its own.
    pub fn producer(&self) -> u32 {
        self.taken.producer
    }

    /// Which of its producer's items it is, from 0 on. A gap is an item that was dropped.
    pub fn sequence(&self) -> u64 {
        self.taken.sequence
    }

    fn end(
        &mut self,
        how: impl FnOnce(&Consumer, &Taken) -> Result<(), RecvError>,
    ) -> Result<(), RecvError> {
        self.over = true;
        if !self.consumer.seat.is_ours() {
            return Err(RecvError::Moved);
        }
        self.consumer.taken.pop();
        how(self.consumer, &self.taken)
    }
}

impl Drop for Item<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.over {
            let _ = self.end(Consumer::nack);
        }
    }
}

impl Deref for Item<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.consumer.bytes(&self.taken)
    }
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("len", &self.taken.len)
            .field("attempt", &self.attempt())
            .field("producer", &self.taken.producer)
            .field("sequence", &self.taken.sequence)
            .finish_non_exhaustive()
    }
}
