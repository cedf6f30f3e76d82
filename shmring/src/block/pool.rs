//! The pool of blocks.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{
    carrier,
    geometry::{
        BLOCK_LEN, BLOCKS, CARRIERS, Geometry, MAX_CARRIERS, MAX_POOL, PARTICIPANTS, REPAIRED,
    },
    options::Options,
    word::State,
    words::Words,
};
use crate::{
    error::{Error, Result},
    face::{Ring, ring_verbs},
    region::Region,
    segment::{Kind, Object, Segment},
    sync::{Ordering, local::AtomicU64},
    wait::WaitStrategy,
};

/// A pool of blocks of one size, in shared memory. Cloning gives another handle of the same pool.
///
/// It travels to other processes by fork, inside a message, or by name. Its blocks travel over
/// rings that are made in the same segment: one of its own has room for some of them. In a named one
/// unrelated processes find those too, the first of each kind by the name alone and any by its
/// number:
///
/// ```
/// use shmring::{Segment, block::{Block, BlockPool}, ring::{port, records::Records}};
/// # let name = &format!("doc-pool-{}", std::process::id());
///
/// // One program makes the pool, and two rings beside it, before anybody sees the name.
/// let options = BlockPool::options().blocks(8).block_len(1 << 16);
/// let len = options.len_in_segment(16)? + 2 * Records::options().len_in_segment()?;
/// let (_segment, (pool, there, back)) =
///     Segment::options().len(len).participants(16).create_with(name, |segment| {
///         let pool = options.create_in(segment)?;
///         let there = Records::options().create_in(segment)?;
///         let back = Records::options().create_in(segment)?;
///         Ok((pool, there, back))
///     })?;
/// assert_eq!((pool.number(), there.number(), back.number()), (0, 1, 2));
/// let mut tx = port::Sender::<Block>::new(there.producer()?);
///
/// // Another, which it did not start, knows the name and the numbers.
/// let segment = Segment::open(name)?;
/// let mut rx = port::Receiver::<Block>::new(Records::open_in(&segment, 1)?.consumer()?);
/// let answers = Records::open_in(&segment, 2)?.producer()?;
///
/// tx.send(pool.loan()?.freeze()).map_err(|error| error.to_string())?;
/// assert_eq!(rx.recv()?.len(), 1 << 16);
/// # drop(answers);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BlockPool(Arc<Inner>);

struct Inner {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    /// When this process last looked for holders that died.
    repaired: Mutex<Option<Instant>>,
    /// Which block this process loans next, where they are loaned by turns.
    turn: AtomicU64,
}

/// Pools of no more bytes fit into the cache of a processor.
const IN_CACHE: usize = 1 << 20;
/// Blocks of fewer bytes are not what fills it.
const LARGE: usize = 16 << 10;

impl BlockPool {
    /// Begins to describe a pool.
    pub fn options() -> Options {
        Options::default()
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
        let possible = (1..=MAX_POOL).contains(&blocks)
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
        let (repaired, turn) = (Mutex::new(None), AtomicU64::new(0));
        Ok(BlockPool(Arc::new(Inner { segment, object, geometry, repaired, turn })))
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

    /// Touches every page of the pool now, so that no first access of this process pays for it
    /// later: for a process that did not make it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn prefault(&self) -> Result<()> {
        let Object { offset, size, .. } = self.0.object;
        self.region().prefault_range(offset, size).map_err(Error::io("touch the pages of a pool"))
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

    /// The turn of the next block, if they are loaned by turns.
    #[inline]
    pub(super) fn turn(&self) -> Option<&AtomicU64> {
        let Geometry { blocks, block_len, .. } = self.0.geometry;
        let by_turns = block_len >= LARGE && blocks.saturating_mul(block_len) <= IN_CACHE;
        by_turns.then_some(&self.0.turn)
    }

    pub(super) fn last_repair(&self) -> &Mutex<Option<Instant>> {
        &self.0.repaired
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

impl Ring for BlockPool {
    const KIND: Kind = Kind::Pool;

    fn attach(segment: &Segment, number: u32, _: WaitStrategy) -> Result<BlockPool> {
        BlockPool::attach(segment, number)
    }

    #[inline]
    fn segment(&self) -> &Segment {
        &self.0.segment
    }

    #[inline]
    fn number(&self) -> u32 {
        self.object()
    }
}

ring_verbs!([] Options => BlockPool);
