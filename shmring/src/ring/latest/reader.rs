//! A reader of a latest value.

use std::{fmt, os::fd::BorrowedFd, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Latest, Value,
    cursor::{self, Miss, TRIES},
    source::{self, Seen},
};
use crate::{
    error::RecvError,
    liveness::Id,
    ring::{
        role::{self, State},
        select::{Selectable, Source},
    },
    segment::Segment,
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// Tries of a reader that waits, before it looks at the clock again.
const TRIES_AT_ONCE: usize = 8;

/// Reads the newest value. There can be any number of them; cloning gives another that has seen
/// the same.
///
/// `get` gives the newest value, also the same again; `recv` gives one that is newer than what
/// this reader saw last. Both know the version of what they gave ([`Reader::version`]) and how
/// many versions were replaced unseen ([`Reader::missed`]).
pub struct Reader<V: Value + ?Sized> {
    pub(super) reader: cursor::Reader,
    /// What it has seen, for its sources.
    seen: Arc<Seen>,
    waiter: Waiter,
    pub(super) latest: Latest<V>,
}

impl<V: Value + ?Sized> Reader<V> {
    pub(super) fn new(latest: Latest<V>, seen: u64) -> Reader<V> {
        let reader = cursor::Reader::new(latest.board.geometry, seen).of_size(V::SIZE);
        let waiter = Waiter::new(latest.board.strategy);
        Reader { reader, seen: Arc::new(Seen::new(seen)), waiter, latest }
    }

    /// Copies the newest value there is now, seen or not. It can be read as long as the segment is
    /// there, also when the writer has ended.
    ///
    /// # Errors
    ///
    /// `Empty` before the first value, `Closed` and `PeerDied` when the writer ended without one;
    /// `Outrun` when the writer replaced the value 64 times while it was copied; `Corrupt`.
    #[inline]
    pub fn try_get(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.find()?;
        Ok(self.value())
    }

    /// The same, but waits for the first value as long as the writer lives, or is yet to come.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_get`], but never `Empty` or `Outrun`.
    #[inline]
    pub fn get(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.wait(0, None)?;
        Ok(V::read(self.reader.value()))
    }

    /// The same with a bound: `TimedOut` when nothing could be read until then.
    ///
    /// # Errors
    ///
    /// As [`Reader::get`].
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<V::Read<'_>, RecvError> {
        self.wait(0, Some(timeout))?;
        Ok(V::read(self.reader.value()))
    }

    /// Copies the newest value if it is newer than the last one that this reader saw.
    ///
    /// # Errors
    ///
    /// `Empty`; `Closed` and `PeerDied` when there is none and none will come from this writer;
    /// `Outrun` and `Corrupt` as in [`Reader::try_get`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.find_newer()?;
        Ok(self.value())
    }

    /// The same, but waits for a newer value as long as the writer lives, or is yet to come.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_recv`], but never `Empty` or `Outrun`.
    #[inline]
    pub fn recv(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.wait(self.reader.seen(), None)?;
        Ok(V::read(self.reader.value()))
    }

    /// The same with a bound: `TimedOut` when nothing newer could be read until then.
    ///
    /// # Errors
    ///
    /// As [`Reader::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<V::Read<'_>, RecvError> {
        self.wait(self.reader.seen(), Some(timeout))?;
        Ok(V::read(self.reader.value()))
    }

    /// The version of the value that was last read; 0 before the first. Values are counted from 1.
    pub fn version(&self) -> u64 {
        self.reader.seen()
    }

    /// How many versions were replaced between the last value read and the one before it; 0 for
    /// the first.
    pub fn missed(&self) -> u64 {
        self.reader.missed()
    }

    /// Whether the writer has closed its end. There may be a value that this reader has not seen.
    pub fn is_closed(&self) -> bool {
        self.latest.is_closed()
    }

    /// Changes how this reader waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.latest.board.strategy = strategy;
        self.waiter = Waiter::new(strategy);
    }

    /// The value this reads.
    pub fn latest(&self) -> &Latest<V> {
        &self.latest
    }

    /// A descriptor for a poll of your own; it becomes readable when anything happens in one of
    /// this process's rings in the same segment, but only after [`Reader::arm`].
    ///
    /// `None` when the segment has no bell left for this process
    /// ([`crate::segment::Options::bells`]).
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.latest.board.segment.bell()
    }

    /// Which objects of the segment had news for this process since the last call: bit n stands
    /// for those whose number is n modulo 64. A hint; all bits when that is not known.
    pub fn rung(&self) -> u64 {
        wait::take_rung(&self.latest.board.segment)
    }

    /// Asks to be woken by [`Reader::bell`]. Tells whether one may go to sleep: false means that
    /// there is a newer value, that the writer has ended, or that the bell has rung, for this
    /// value or another object of the segment.
    ///
    /// Call it after each wake-up, before the poll, as in
    /// [`Consumer::arm`](crate::ring::records::Consumer::arm).
    pub fn arm(&mut self) -> bool {
        let quiet = self.latest.board.segment.arm();
        if let Ok(me) = self.latest.board.segment.me() {
            self.latest.board.sleepers().add(me.index());
        }
        let newest = cursor::newest(self.latest.board.region(), self.latest.board.geometry);
        quiet && newest <= self.reader.seen() && self.end().is_none()
    }

    /// Copies the newest value, if there is one, for [`Reader::value`].
    #[inline]
    pub(crate) fn find(&mut self) -> Result<(), RecvError> {
        self.look(0)
    }

    /// The same of a value that is newer than the last.
    #[inline]
    pub(crate) fn find_newer(&mut self) -> Result<(), RecvError> {
        self.look(self.reader.seen())
    }

    /// The value that was copied last.
    #[inline]
    pub(crate) fn value(&self) -> V::Read<'_> {
        V::read(self.reader.value())
    }

    #[inline]
    fn look(&mut self, than: u64) -> Result<(), RecvError> {
        match self.reader.read(self.latest.board.region(), than, TRIES) {
            Ok(()) => {}
            // Whoever closed or died may have set a value just before, so the last look is the one
            // after.
            Err(Miss::Nothing) => {
                let end = self.end().ok_or(RecvError::Empty)?;
                last_look(&mut self.reader, &self.latest.board.segment, than, end)?;
            }
            Err(miss) => return Err(miss.into()),
        }
        self.seen.set(self.reader.seen());
        Ok(())
    }

    /// Whether nothing will come any more, and why.
    #[cold]
    fn end(&self) -> Option<RecvError> {
        let (segment, place) = (&self.latest.board.segment, self.latest.board.place());
        if role::state_of(segment, place) == State::Closed {
            return Some(RecvError::Closed);
        }
        let peer = role::peer_of(segment, place)?;
        let died = self.waiter.may_ask() && !segment.lives(peer);
        died.then(|| RecvError::PeerDied { pid: segment.pid_of_peer(peer) })
    }

    #[inline]
    fn wait(&mut self, than: u64, timeout: Option<Duration>) -> Result<(), RecvError> {
        let board = &self.latest.board;
        let mut read = self.reader.read(board.region(), than, TRIES_AT_ONCE);
        if read == Err(Miss::Nothing)
            && self.waiter.spin(|| cursor::is_newer(board.region(), board.geometry, than))
        {
            read = self.reader.read(board.region(), than, TRIES_AT_ONCE);
        }
        match read {
            Ok(()) => {}
            Err(Miss::Nothing | Miss::Outrun) => self.sleep(than, timeout)?,
            Err(Miss::Corrupt) => return Err(RecvError::Corrupt),
        }
        self.seen.set(self.reader.seen());
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn sleep(&mut self, than: u64, timeout: Option<Duration>) -> Result<(), RecvError> {
        let Reader { reader, waiter, latest, .. } = self;
        let board = &latest.board;
        let (segment, place) = (&board.segment, board.place());
        let mut look = || match reader.read(&segment.0.region, than, TRIES_AT_ONCE) {
            Ok(()) => Some(Ok(())),
            // Asleep, it would be woken by the next value.
            Err(Miss::Outrun) => None,
            Err(Miss::Corrupt) => Some(Err(RecvError::Corrupt)),
            Err(Miss::Nothing) if role::state_of(segment, place) != State::Closed => None,
            Err(Miss::Nothing) => Some(last_look(reader, segment, than, RecvError::Closed)),
        };
        if let Some(result) = look() {
            return result;
        }
        let peer = || role::peer_of(segment, place);
        let arm = |me: Id| board.sleepers().add(me.index());
        match waiter.wait_armed(segment, timeout, look, peer, arm) {
            Ended::Done(result) => result,
            Ended::TimedOut => Err(RecvError::TimedOut),
            Ended::PeerDied(pid) => Err(RecvError::PeerDied { pid }),
        }
    }
}

/// Looks once more after the writer's end was seen: nothing comes after that.
fn last_look(
    reader: &mut cursor::Reader,
    segment: &Segment,
    than: u64,
    end: RecvError,
) -> Result<(), RecvError> {
    reader.read(&segment.0.region, than, TRIES).map_err(|miss| match miss {
        Miss::Nothing => end,
        miss => miss.into(),
    })
}

impl<V: Value + ?Sized> Drop for Reader<V> {
    fn drop(&mut self) {
        self.seen.end();
    }
}

impl<V: Value + ?Sized> Selectable for Reader<V> {
    /// It is ready when there is a newer value than the last one read.
    fn source(&self) -> Source {
        source::of(&self.latest.board, self.seen.clone())
    }

    fn ask_again(&mut self) {
        self.waiter.ask_again();
    }
}

impl<V: Value + ?Sized> Clone for Reader<V> {
    fn clone(&self) -> Reader<V> {
        Reader::new(self.latest.clone(), self.reader.seen())
    }
}

impl<V: Value + ?Sized> Serialize for Reader<V> {
    /// Travels only inside a message that a port sends. It stays here too: what arrives is another
    /// that has seen the same.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.latest, self.version()).serialize(serializer)
    }
}

impl<'de, V: Value + ?Sized> Deserialize<'de> for Reader<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reader<V>, D::Error> {
        let (latest, seen) = <(Latest<V>, u64)>::deserialize(deserializer)?;
        Ok(Reader::new(latest, seen))
    }
}

impl<V: Value + ?Sized> fmt::Debug for Reader<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("latest", &self.latest)
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
