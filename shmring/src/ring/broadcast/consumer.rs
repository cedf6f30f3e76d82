//! A consumer's end of a broadcast ring.

use std::{fmt, ops::Deref, os::fd::BorrowedFd, time::Duration};

use super::{
    Broadcast, Reads, corrupt,
    memory::{Corrupt, Geometry},
    reader::{self, Found, Reader, Trouble},
    slots, table,
};
use crate::{
    error::{RecvError, Result},
    liveness::{Id, Peer},
    region::Region,
    ring::{
        part::Part,
        role::{self, Owned, Role, State},
        select::{Selectable, Source, source::Look},
    },
    segment::Segment,
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// An end that takes items out. It can go to another process, and is held by one at a time.
///
/// Dropping it leaves the ring: nobody waits for it any more.
pub struct Consumer {
    copying: Copying,
    waiter: Waiter,
    ring: Broadcast,
    role: Role,
}

/// A reader, and where a lossy one copies items to.
struct Copying {
    reader: Reader,
    copy: Vec<u8>,
}

impl Copying {
    /// Finds the next item; what a lossy consumer finds is in `copy` then, whole.
    #[inline]
    fn look(&mut self, region: &Region) -> Result<Option<Found>, Trouble> {
        for _ in 0..reader::TRIES {
            let Some(found) = self.reader.peek(region)? else { return Ok(None) };
            if self.reader.kind() == Reads::Lossless {
                return Ok(Some(found));
            }
            slots::copy(region, found, &mut self.copy);
            if !self.reader.is_lapped(region, found) {
                return Ok(Some(found));
            }
        }
        // The producer is quicker than we are: as if we had not looked yet.
        Ok(None)
    }

    /// Looks once more after the end of the ring was seen: nothing comes after that, and what was
    /// missed until then has not been said.
    fn last_look(&mut self, region: &Region, end: RecvError) -> Result<Found, RecvError> {
        match self.look(region)? {
            Some(found) => Ok(found),
            None => match self.reader.missed_at_the_end(region) {
                0 => Err(end),
                missed => Err(RecvError::Lapped { missed }),
            },
        }
    }

    fn bytes<'a>(&'a self, region: &'a Region, found: &'a Found) -> &'a [u8] {
        match self.reader.kind() {
            Reads::Lossless => slots::item(region, found),
            Reads::Lossy => &self.copy,
        }
    }
}

impl From<Trouble> for RecvError {
    fn from(trouble: Trouble) -> RecvError {
        match trouble {
            Trouble::Corrupt => RecvError::Corrupt,
            Trouble::Lapped { missed } => RecvError::Lapped { missed },
        }
    }
}

impl Consumer {
    pub(super) const WHAT: &str = "a consumer of a broadcast ring";

    /// Joins at a place whose role was taken for it.
    pub(super) fn join(
        ring: Broadcast,
        index: usize,
        role: Role,
        reads: Reads,
        history: u64,
    ) -> Result<Consumer> {
        let region = &ring.segment.0.region;
        let held = matches!(role::read(role.before()), State::Held(_) | State::Transit(_));
        if held && table::Entry::of(region, ring.geometry, index).kind() == Some(Reads::Lossless) {
            table::count_lost(region, ring.geometry);
        }
        let reader = Reader::join(region, ring.geometry, index, reads, history);
        let consumer = Consumer::new(ring, role, reader)?;
        // It may have been in the producer's way while it looked for where to begin.
        consumer.ring_producer();
        Ok(consumer)
    }

    /// Goes on at a place whose role came here from another holder.
    pub(super) fn resume(ring: Broadcast, index: usize, role: Role) -> Result<Consumer> {
        let reader = Reader::resume(&ring.segment.0.region, ring.geometry, index);
        Consumer::new(ring, role, reader)
    }

    fn new(ring: Broadcast, mut role: Role, reader: Result<Reader, Corrupt>) -> Result<Consumer> {
        let Ok(reader) = reader else {
            role.close();
            return Err(corrupt("its positions are impossible"));
        };
        let (copying, waiter) = (Copying { reader, copy: vec![] }, Waiter::new(ring.strategy));
        Ok(Consumer { copying, waiter, ring, role })
    }

    /// Takes the next item, if there is one now. A lossless consumer reads it in place, and lets go
    /// of it when the guard is dropped; a lossy one has copied it.
    ///
    /// # Errors
    ///
    /// `Empty`; `Lapped` once after a lossy consumer has missed something; `Closed` and `PeerDied`
    /// when there is nothing and nothing will come; `Moved`; `Corrupt`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Item<'_>, RecvError> {
        let found = self.find()?;
        Ok(self.item(found))
    }

    /// Takes the next item, waiting for it as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`], but never `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<Item<'_>, RecvError> {
        self.recv_within(None)
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Item<'_>, RecvError> {
        self.recv_within(Some(timeout))
    }

    /// Reads what is there now, at least one item, one after the other, and lets go of all that were
    /// read at once when the run is dropped.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`].
    #[inline]
    pub fn try_run(&mut self) -> Result<Run<'_>, RecvError> {
        let found = self.find()?;
        Ok(self.run_from(found))
    }

    /// The same, waiting for at least one item as long as the producer lives.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run(&mut self) -> Result<Run<'_>, RecvError> {
        let found = self.found_within(None)?;
        Ok(self.run_from(found))
    }

    /// The same with a bound: `TimedOut` when nothing comes until then.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    #[inline]
    pub fn run_timeout(&mut self, timeout: Duration) -> Result<Run<'_>, RecvError> {
        let found = self.found_within(Some(timeout))?;
        Ok(self.run_from(found))
    }

    /// Whether the producer has closed its end. Items may still be there.
    pub fn is_closed(&self) -> bool {
        self.role.state_at(self.ring.geometry.producer()) == State::Closed
    }

    /// Whether the producer overwrites what this consumer has not read in time.
    pub fn is_lossy(&self) -> bool {
        self.copying.reader.kind() == Reads::Lossy
    }

    /// How many items were sent since the one it took last, those that were dropped included.
    pub fn behind(&self) -> u64 {
        self.copying.reader.behind(&self.ring.segment.0.region)
    }

    pub(super) fn waiting(&self) -> usize {
        let region = &self.ring.segment.0.region;
        if self.copying.reader.is_at_the_end(region) {
            return 0; // What was dropped since is not there.
        }
        usize::try_from(self.behind()).unwrap_or(usize::MAX).max(1)
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

    /// A descriptor for a poll of your own; it becomes readable when anything happens in one of
    /// this process's rings in the same segment, but only after [`Consumer::arm`].
    ///
    /// `None` when the segment has no bell left for this process
    /// ([`crate::segment::Options::bells`]).
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.segment.bell()
    }

    /// Which rings of the segment had news for this process since the last call: bit n stands for
    /// those whose [`Broadcast::number`] is n modulo 64. A hint where to look first after a wake-up,
    /// when one bell serves many rings; all bits when that is not known.
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.ring.segment)
    }

    /// Asks to be woken by [`Consumer::bell`]. Tells whether one may go to sleep: false means that
    /// there is something to take now, that the ring has ended, or that the bell has rung, for
    /// this ring or another of the segment.
    ///
    /// All rings of a segment share this process's bell. With several, sleep only if `arm` was
    /// true for each of them in one round. Call it after each wake-up, before the poll:
    ///
    /// ```
    /// # use shmring::{RecvError, ring::broadcast::Broadcast};
    /// # let ring = Broadcast::options().anonymous()?;
    /// # let (mut tx, mut rx) = (ring.producer()?, ring.consumer()?);
    /// # tx.send(b"one")?;
    /// # drop(tx);
    /// loop {
    ///     let end = loop {
    ///         match rx.try_recv() {
    ///             Ok(item) => println!("{} bytes", item.len()),
    ///             Err(end) => break end,
    ///         }
    ///     };
    ///     match end {
    ///         RecvError::Empty | RecvError::Lapped { .. } => {}
    ///         _ => break, // Closed, or the producer died.
    ///     }
    ///     if rx.arm() {
    ///         // Wait in a poll that has `rx.bell()` in it.
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self) -> bool {
        let quiet = self.ring.segment.arm();
        table::announce(&self.ring.segment.0.region, self.ring.geometry, self.index());
        self.own().is_ok()
            && !reader::has_item(&self.ring.segment.0.region, self.ring.geometry, self.index())
            && self.end().is_none()
            && quiet
    }

    pub(super) fn role(&self) -> &Role {
        &self.role
    }

    /// Which place of the ring it has.
    pub(super) fn index(&self) -> usize {
        self.copying.reader.index()
    }

    #[inline]
    fn own(&mut self) -> Result<(), RecvError> {
        if self.role.is_still() { Ok(()) } else { self.adopt() }
    }

    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<(), RecvError> {
        let (held, index) = (self.role.word(), self.index());
        let (region, geometry) = (&self.ring.segment.0.region, self.ring.geometry);
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(RecvError::Moved),
            // From who was there until now, so what it has not let go of is still ours ...
            Owned::Anew if self.role.before() == held => {
                let reader = Reader::resume(region, geometry, index);
                self.copying.reader = reader.map_err(Trouble::from)?;
                Ok(())
            }
            // ... or somebody ended it meanwhile.
            Owned::Anew => {
                self.copying.reader.rejoin(region).map_err(Trouble::from)?;
                self.ring_producer();
                Ok(())
            }
        }
    }

    /// Finds the next item, if there is one now, for [`Consumer::item`]. Until then it stays.
    #[inline]
    pub(crate) fn find(&mut self) -> Result<Found, RecvError> {
        self.own()?;
        match self.copying.look(&self.ring.segment.0.region)? {
            Some(found) => Ok(found),
            None => self.why_empty(),
        }
    }

    /// Shows what was found last.
    #[inline]
    pub(crate) fn item(&mut self, found: Found) -> Item<'_> {
        Item { consumer: self, found }
    }

    /// Shows what was found last, and those after it.
    #[inline]
    pub(crate) fn run_from(&mut self, found: Found) -> Run<'_> {
        Run { consumer: self, first: Some(found) }
    }

    /// There is nothing: because nothing will come? Whoever closed or died may have published
    /// just before, so the last look is the one after.
    #[cold]
    #[inline(never)]
    fn why_empty(&mut self) -> Result<Found, RecvError> {
        // Where it stands is seen from outside, also after it went past something else than items.
        self.release();
        match self.end() {
            None => Err(RecvError::Empty),
            Some(end) => self.copying.last_look(&self.ring.segment.0.region, end),
        }
    }

    /// Why nothing will be sent any more.
    fn end(&self) -> Option<RecvError> {
        let (place, segment) = (self.ring.geometry.producer(), &self.ring.segment);
        if self.role.state_at(place) == State::Closed {
            return Some(RecvError::Closed);
        }
        let peer = self.role.peer_at(place).filter(|_| self.waiter.may_ask())?;
        let dead = !segment.lives(peer);
        dead.then(|| RecvError::PeerDied { pid: segment.pid_of_peer(peer) })
    }

    #[inline]
    fn recv_within(&mut self, timeout: Option<Duration>) -> Result<Item<'_>, RecvError> {
        let found = self.found_within(timeout)?;
        Ok(self.item(found))
    }

    #[inline]
    fn found_within(&mut self, timeout: Option<Duration>) -> Result<Found, RecvError> {
        self.own()?;
        let region = &self.ring.segment.0.region;
        let mut found = self.copying.look(region)?;
        if found.is_none() && self.waiter.spin(|| self.copying.reader.is_ready(region)) {
            found = self.copying.look(region)?;
        }
        match found {
            Some(found) => Ok(found),
            None => self.wait(timeout),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Found, RecvError> {
        self.own()?;
        self.release();
        let Consumer { copying, waiter, ring, role } = self;
        let region = &ring.segment.0.region;
        let (place, index) = (ring.geometry.producer(), copying.reader.index());
        let mut look = || match copying.look(region) {
            Ok(Some(found)) => Some(Ok(found)),
            Err(trouble) => Some(Err(trouble.into())),
            Ok(None) if role.state_at(place) != State::Closed => None,
            Ok(None) => Some(copying.last_look(region, RecvError::Closed)),
        };
        if let Some(result) = look() {
            return result;
        }
        let announce = |_| table::announce(region, ring.geometry, index);
        let peer = || role.peer_at(place);
        match waiter.wait_armed(&ring.segment, timeout, look, peer, announce) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(RecvError::TimedOut),
            Ended::PeerDied(pid) => copying.last_look(region, RecvError::PeerDied { pid }),
        }
    }

    #[inline]
    fn release(&mut self) {
        // A copy of a guard, in a forked child, has nothing to give back.
        let released =
            self.role.is_ours() && self.copying.reader.release(&self.ring.segment.0.region);
        if released && self.copying.reader.kind() == Reads::Lossless {
            self.ring_producer();
        }
    }

    #[inline]
    fn ring_producer(&self) {
        self.role.ring(self.ring.geometry.producer(), self.ring.object.index);
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
        let Broadcast { segment, object, geometry, .. } = &self.ring;
        let look = Receiving { holds: self.role.holds(), geometry: *geometry, index: self.index() };
        Source::new(segment, object.index, look)
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

/// How a consumer's ring looks from outside.
struct Receiving<H> {
    holds: H,
    geometry: Geometry,
    index: usize,
}

impl<H: Fn(&Segment) -> bool + Send + Sync> Look for Receiving<H> {
    fn is_held(&self, segment: &Segment) -> bool {
        (self.holds)(segment)
    }

    fn is_ready(&self, segment: &Segment, _: usize) -> bool {
        let ready = reader::has_item(&segment.0.region, self.geometry, self.index)
            || role::state_of(segment, self.geometry.producer()) == State::Closed;
        ready && (self.holds)(segment)
    }

    fn has_ended(&self, segment: &Segment, lives: &mut dyn FnMut(Peer) -> bool) -> bool {
        let producer = role::peer_of(segment, self.geometry.producer());
        (self.holds)(segment) && producer.is_some_and(|peer| !lives(peer))
    }

    fn arm(&self, segment: &Segment, _: Id) {
        table::announce(&segment.0.region, self.geometry, self.index);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.copying.reader.kind();
        f.debug_struct("Consumer").field("reads", &kind).field("ring", &self.ring).finish()
    }
}

/// An item. Dropping it goes on to the next, and lets the producer overwrite it.
///
/// In a lossless consumer's ring its first byte lies at a multiple of 8. An item whose guard is
/// forgotten (`mem::forget`) is delivered again.
pub struct Item<'a> {
    consumer: &'a mut Consumer,
    found: Found,
}

impl Item<'_> {
    /// How many items were sent into this ring before it, those that were dropped included: a step
    /// of more than one is a loss ([`Policy::DropNewest`](crate::ring::Policy::DropNewest), or a
    /// lossy consumer that was lapped).
    pub fn sequence(&self) -> u64 {
        self.found.sequence
    }
}

impl Deref for Item<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.consumer.copying.bytes(&self.consumer.ring.segment.0.region, &self.found)
    }
}

impl Drop for Item<'_> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.copying.reader.advance(self.found);
        self.consumer.release();
    }
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("len", &self.found.len).finish_non_exhaustive()
    }
}

/// The items that are there now. Dropping it lets the producer overwrite all that were read.
#[must_use = "nothing is read before it is asked for the next"]
pub struct Run<'a> {
    consumer: &'a mut Consumer,
    /// What was found already, and copied by a lossy consumer, until it is read.
    first: Option<Found>,
}

impl Run<'_> {
    /// The next item, with its number; `None` when there is none now.
    ///
    /// # Errors
    ///
    /// `Lapped`; `Moved`; `Corrupt`. That the ring is closed is said by [`Consumer::try_recv`].
    #[allow(clippy::should_implement_trait)] // Items borrow from this value.
    pub fn next(&mut self) -> Result<Option<Part<'_>>, RecvError> {
        let found = match self.first.take() {
            Some(found) => Some(found),
            None => {
                self.consumer.own()?;
                self.consumer.copying.look(&self.consumer.ring.segment.0.region)?
            }
        };
        let Some(found) = found else { return Ok(None) };
        let Consumer { copying, ring, .. } = &mut *self.consumer;
        let region = &ring.segment.0.region;
        copying.reader.advance(found);
        let sequence = found.sequence;
        let bytes = match copying.reader.kind() {
            Reads::Lossless => slots::item_of(region, found),
            Reads::Lossy => &copying.copy,
        };
        Ok(Some(Part::new(bytes, sequence)))
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
