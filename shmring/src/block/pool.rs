//! The pool of blocks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    LoanError, carrier,
    geometry::{Geometry, REPAIRED, WAITING},
    loan::Loan,
    word::{Handle, State},
    words::Words,
};
use crate::{
    error::{Error, Result},
    region::{LINE, Region},
    segment::{Kind, Object, Segment},
    sync::Ordering,
    wait::{self, Ended, WaitStrategy, Waiter},
};

// Constants at the start of the object.
const BLOCKS: usize = 0;
const BLOCK_LEN: usize = 8;
const PARTICIPANTS: usize = 16;
const CARRIERS: usize = 24;

const MAX_BLOCKS: usize = 1 << 24;
const MAX_CARRIERS: usize = 1024;
/// How often an exhausted pool looks for holders that died.
const REPAIR_EVERY: Duration = Duration::from_millis(10);

/// A pool of blocks of one size, in shared memory. Cloning gives another handle of the same pool.
///
/// It travels to other processes by fork or inside a message, like any segment.
#[derive(Clone)]
pub struct BlockPool(Arc<Inner>);

struct Inner {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    /// When this process last looked for holders that died.
    repaired: Mutex<Option<Instant>>,
}

/// How a pool is made. From [`BlockPool::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a pool is made with them"]
pub struct Options {
    blocks: usize,
    block_len: usize,
    carriers: usize,
    participants: usize,
    prefault: bool,
}

impl Options {
    /// How many blocks there are. Default 16.
    pub fn blocks(mut self, count: usize) -> Options {
        self.blocks = count;
        self
    }

    /// Bytes of a block. Each begins on a multiple of 64. Default 1 MiB.
    #[inline]
    pub fn block_len(mut self, bytes: usize) -> Options {
        self.block_len = bytes;
        self
    }

    /// Over how many rings and directions of control channels blocks of this pool can travel, 1
    /// to 1024. Default 16.
    pub fn carriers(mut self, count: usize) -> Options {
        self.carriers = count;
        self
    }

    /// How many processes can be attached at once, for [`Options::create`]. Default 16.
    pub fn participants(mut self, count: usize) -> Options {
        self.participants = count;
        self
    }

    /// Touches every page now, for [`Options::create`]. Default yes: the first touch of a page
    /// costs some microseconds.
    pub fn prefault(mut self, yes: bool) -> Options {
        self.prefault = yes;
        self
    }

    /// Makes a pool in an anonymous segment of its own, with 1 MiB left for rings beside it
    /// ([`BlockPool::segment`]).
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`]; [`Error::OutOfMemory`]; [`Error::Io`].
    pub fn create(self) -> Result<BlockPool> {
        let (_, size) = self.geometry(self.participants)?;
        let segment = Segment::options()
            .len(size.saturating_add(1 << 20))
            .participants(self.participants)
            .prefault(self.prefault)
            .anonymous()?;
        self.create_in(&segment)
    }

    /// Makes a pool in a segment that may hold others.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`]; [`Error::OutOfMemory`] and [`Error::NoPlace`] when the segment
    /// has no room for it.
    pub fn create_in(self, segment: &Segment) -> Result<BlockPool> {
        let (geometry, size) = self.geometry(segment.0.layout.participants)?;
        let object = segment.add(Kind::Pool, size, |object| {
            let Geometry { blocks, block_len, participants, carriers, .. } = geometry;
            let geometry = Geometry::new(object.offset, blocks, block_len, participants, carriers);
            let set = |at, value: usize| {
                let word = segment.0.region.u64(object.offset + at);
                word.store(value as u64, Ordering::Relaxed);
            };
            set(BLOCKS, geometry.blocks);
            set(BLOCK_LEN, geometry.block_len);
            set(PARTICIPANTS, geometry.participants);
            set(CARRIERS, geometry.carriers);
            Words::new(&segment.0.region, &geometry).fill();
            Ok(())
        })?;
        BlockPool::attach(segment, object.index)
    }

    /// How many bytes it takes of a segment with that many participants, at most.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`].
    pub fn len_in_segment(&self, participants: usize) -> Result<usize> {
        let (_, size) = self.geometry(participants)?;
        // It begins on a multiple of two lines.
        Ok(size + 2 * LINE)
    }

    #[inline]
    fn geometry(&self, participants: usize) -> Result<(Geometry, usize)> {
        let bad =
            |reason| Error::BadParameters { action: "create a pool of blocks".into(), reason };
        let Options { blocks, block_len, carriers, .. } = *self;
        if !(1..=MAX_BLOCKS).contains(&blocks) {
            return Err(bad(format!("{blocks} blocks: 1 to {MAX_BLOCKS} are possible")));
        }
        if !(1..=MAX_CARRIERS).contains(&carriers) {
            return Err(bad(format!("{carriers} carriers: 1 to {MAX_CARRIERS} are possible")));
        }
        if block_len == 0 {
            return Err(bad("blocks of 0 bytes".into()));
        }
        let geometry = Geometry::new(0, blocks, block_len, participants, carriers);
        let size = geometry.size().ok_or_else(|| {
            bad(format!(
                "{blocks} blocks of {block_len} bytes are more than an address space holds"
            ))
        })?;
        Ok((geometry, size))
    }
}

impl BlockPool {
    /// Begins to describe a pool.
    pub fn options() -> Options {
        Options { blocks: 16, block_len: 1 << 20, carriers: 16, participants: 16, prefault: true }
    }

    /// Finds a pool of a segment by its number; its constants are copied once, then checked.
    pub(super) fn attach(segment: &Segment, index: u32) -> Result<BlockPool> {
        let object = segment.object(index, Kind::Pool)?;
        segment.register_repairer(Kind::Pool, carrier::repair);
        let corrupt = || Error::Corrupt {
            what: format!("pool {index} of a segment"),
            reason: "its numbers are impossible".into(),
        };
        if object.size < 64 {
            return Err(corrupt());
        }
        let get = |at| {
            let word = segment.0.region.u64(object.offset + at).load(Ordering::Relaxed);
            usize::try_from(word).unwrap_or(usize::MAX)
        };
        let (blocks, block_len) = (get(BLOCKS), get(BLOCK_LEN));
        let (participants, carriers) = (get(PARTICIPANTS), get(CARRIERS));
        let possible = (1..=MAX_BLOCKS).contains(&blocks)
            && (1..=MAX_CARRIERS).contains(&carriers)
            && block_len > 0
            && participants == segment.0.layout.participants;
        if !possible {
            return Err(corrupt());
        }
        let geometry = Geometry::new(object.offset, blocks, block_len, participants, carriers);
        if geometry.size().is_none_or(|size| size > object.size) {
            return Err(corrupt());
        }
        let segment = segment.clone();
        Ok(BlockPool(Arc::new(Inner { segment, object, geometry, repaired: Mutex::new(None) })))
    }

    /// Loans a block, if one is free now: the one that was freed last.
    ///
    /// When none is, holders that died are looked for, at most a hundred times a second.
    ///
    /// # Errors
    ///
    /// [`LoanError::Exhausted`]; [`LoanError::NoPlace`].
    #[inline]
    pub fn try_loan(&self) -> Result<Loan, LoanError> {
        let me = self.me()?;
        let found = self.words().loan(me).or_else(|| self.look_again(me));
        found.map(|handle| Loan::new(self, me, handle)).ok_or_else(|| self.exhausted())
    }

    /// Loans a block, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LoanError::NoPlace`].
    pub fn loan(&self) -> Result<Loan, LoanError> {
        self.loan_within(None)
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// [`LoanError::TimedOut`]; [`LoanError::NoPlace`].
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan, LoanError> {
        self.loan_within(Some(timeout))
    }

    fn loan_within(&self, timeout: Option<Duration>) -> Result<Loan, LoanError> {
        let me = self.me()?;
        let words = self.words();
        let waiter = Waiter::new(WaitStrategy::Adaptive);
        let mut found = None;
        waiter.spin(|| {
            found = words.loan(me);
            found.is_some()
        });
        if let Some(found) = found {
            return Ok(Loan::new(self, me, found));
        }
        let look = || {
            let found = words.loan(me).or_else(|| {
                // SYNC freed: our bit is set before we look again, the word is changed before
                // `wake` looks for bits; all sequentially consistent, so one sees the other.
                let (at, bit) = self.waiting(me);
                let waiting = self.region().u64(at);
                if waiting.load(Ordering::SeqCst) & bit == 0 {
                    waiting.fetch_or(bit, Ordering::SeqCst);
                }
                words.loan(me).or_else(|| self.look_again(me))
            })?;
            Some(Loan::new(self, me, found))
        };
        // Whoever will free a block is nobody in particular.
        match waiter.wait(self.segment(), timeout, look, || None) {
            Ended::Done(loan) => Ok(loan),
            Ended::TimedOut | Ended::PeerDied(_) => {
                Err(LoanError::TimedOut { blocks: self.capacity() })
            }
        }
    }

    /// Looks for holders that died, now and then, and then for a free block.
    #[cold]
    fn look_again(&self, me: usize) -> Option<Handle> {
        let mut repaired = self.0.repaired.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if repaired.is_some_and(|last| now.duration_since(last) < REPAIR_EVERY) {
            return None;
        }
        *repaired = Some(now);
        drop(repaired);
        self.repair();
        self.words().loan(me)
    }

    /// Gives back what processes that died had held. Done without being asked when the pool is
    /// exhausted.
    pub fn repair(&self) {
        self.segment().repair();
        let _ = self.segment().exclusively(|| carrier::repair_posts(self));
    }

    fn exhausted(&self) -> LoanError {
        LoanError::Exhausted { blocks: self.capacity() }
    }

    #[inline]
    fn me(&self) -> Result<usize, LoanError> {
        self.segment().me().map(|id| id.index()).map_err(|_| LoanError::NoPlace)
    }

    fn waiting(&self, participant: usize) -> (usize, u64) {
        (self.0.geometry.base + WAITING + participant / 64 * 8, 1 << (participant % 64))
    }

    /// Wakes who waits for a block, after one became free.
    #[inline]
    pub(super) fn wake(&self) {
        for first in (0..self.0.geometry.participants).step_by(64) {
            let (at, _) = self.waiting(first);
            // SYNC freed: see `loan_within`.
            if self.region().u64(at).load(Ordering::SeqCst) != 0 {
                self.wake_some(first, at);
            }
        }
    }

    #[cold]
    fn wake_some(&self, first: usize, at: usize) {
        let bits = self.region().u64(at).swap(0, Ordering::SeqCst);
        let waits = |index: usize| {
            index.checked_sub(first).is_some_and(|at| at < 64 && bits & 1 << at != 0)
        };
        for (id, ..) in self.segment().0.participants().attached() {
            if waits(id.index()) {
                wait::ring(self.segment(), id, self.0.object.index);
            }
        }
    }

    /// How many blocks there are.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.0.geometry.blocks
    }

    /// Bytes of a block.
    #[inline]
    pub fn block_len(&self) -> usize {
        self.0.geometry.block_len
    }

    /// How many blocks are loaned, held or in flight now.
    pub fn in_use(&self) -> usize {
        let words = self.words();
        (0..self.capacity() as u32).filter(|at| words.word(*at).state() != State::Free).count()
    }

    /// What has happened in it; each number is a moment's.
    pub fn stats(&self) -> Stats {
        let get = |at| self.region().u64(self.0.geometry.base + at).load(Ordering::Relaxed);
        Stats {
            blocks: self.capacity(),
            in_use: self.in_use(),
            loans: self.words().loans(),
            repaired: get(REPAIRED),
        }
    }

    /// The segment it lies in: rings that shall carry its blocks are made there.
    #[inline]
    pub fn segment(&self) -> &Segment {
        &self.0.segment
    }

    /// Whether both are handles of the same pool.
    #[inline]
    pub fn is_same(&self, other: &BlockPool) -> bool {
        self.object() == other.object() && self.segment().is_same(other.segment())
    }

    #[inline]
    pub(super) fn object(&self) -> u32 {
        self.0.object.index
    }

    #[inline]
    pub(super) fn geometry(&self) -> &Geometry {
        &self.0.geometry
    }

    #[inline]
    pub(super) fn region(&self) -> &Region {
        &self.0.segment.0.region
    }

    #[inline]
    pub(super) fn words(&self) -> Words<'_, Region> {
        Words::new(self.region(), &self.0.geometry)
    }
}

/// What an onlooker sees of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// How many blocks there are.
    pub blocks: usize,
    /// How many are loaned, held or in flight.
    pub in_use: usize,
    /// Loans since the pool was made.
    pub loans: u64,
    /// Blocks that came back from processes that died.
    pub repaired: u64,
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockPool")
            .field("blocks", &self.capacity())
            .field("block_len", &self.block_len())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl Serialize for BlockPool {
    /// Travels only inside a message that a port sends; its segment goes beside the bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.segment(), self.object()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlockPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BlockPool, D::Error> {
        let (segment, object) = <(Segment, u32)>::deserialize(deserializer)?;
        BlockPool::attach(&segment, object).map_err(de::Error::custom)
    }
}
