//! [`BlockPools`]: pools of blocks of several lengths, as one.
//!
//! Each class is a pool of its own, so all that concerns a block is as for any other: its handle,
//! its holds, its repair. The set is one more object of the segment, which says which pools belong
//! to it and counts what did not fit where it should:
//!
//! ```text
//! object + 0    classes, spill; constant
//!        + 64   per class, from the shortest blocks to the longest: the pool's object number
//!        + 192  per class: spilled, refused
//! ```

mod loaning;
mod options;
#[cfg(all(test, not(shmring_loom)))]
mod tests;

use std::{fmt, sync::Arc};

pub use self::options::PoolsOptions;
use super::{BlockPool, Stats};
use crate::{
    error::{Error, Result},
    face::{Ring, ring_verbs},
    segment::{Kind, Object, Segment},
    sync::{AtomicU64, Ordering},
    wait::WaitStrategy,
};

/// The most classes a set can have.
pub const MAX_CLASSES: usize = 16;

const CLASSES: usize = 0;
const SPILL: usize = 8;
const POOLS: usize = 64;
const COUNTERS: usize = POOLS + 8 * MAX_CLASSES;
const LEN: usize = COUNTERS + 16 * MAX_CLASSES;

/// Pools of blocks of several lengths: a loan says how many bytes it needs, and gets a block of the
/// shortest length that has them.
///
/// Where all blocks of that length are in use, it gets one of the next length, and so on, as far as
/// [`PoolsOptions::spill`] lets it. The blocks are those of ordinary pools, [`BlockPools::classes`].
/// Cloning gives another handle of the same set.
///
/// It travels to other processes by fork, inside a message, or by name, as a [`BlockPool`] does.
///
/// ```
/// use shmring::block::BlockPools;
///
/// // 32 small blocks and 4 large ones: 6 MiB, where 36 large ones would take 36.
/// let pools = BlockPools::options().class(64 << 10, 32).class(1 << 20, 4).anonymous()?;
/// let small = pools.try_loan(1000)?;
/// let large = pools.loan_frame::<u8, _>((480, 640, 3))?;
/// let in_use = pools.stats().iter().map(|class| class.pool.in_use).collect::<Vec<_>>();
/// assert_eq!(in_use, [1, 1]);
/// # drop((small, large));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BlockPools(Arc<Inner>);

struct Inner {
    segment: Segment,
    object: Object,
    /// From the shortest blocks to the longest; each has longer ones than that before it.
    pools: Vec<BlockPool>,
    spill: usize,
}

impl BlockPools {
    /// Begins to describe a set of pools.
    pub fn options() -> PoolsOptions {
        PoolsOptions::default()
    }

    /// Finds a set by its number; what it says is copied once, then checked.
    fn attach(segment: &Segment, index: u32) -> Result<BlockPools> {
        let object = segment.object(index, Kind::Pools)?;
        let corrupt = |reason: &str| Error::Corrupt {
            what: format!("the set of pools {index} of a segment"),
            reason: reason.into(),
        };
        if object.size < LEN {
            return Err(corrupt("it is too short"));
        }
        let get = |at| segment.0.region.u64(object.offset + at).load(Ordering::Relaxed);
        let classes = usize::try_from(get(CLASSES)).ok();
        let classes = classes
            .filter(|classes| (1..=MAX_CLASSES).contains(classes))
            .ok_or_else(|| corrupt("its number of classes is impossible"))?;
        let pool = |class| {
            let number = u32::try_from(get(POOLS + 8 * class))
                .map_err(|_| corrupt("the number of a pool is impossible"))?;
            BlockPool::attach(segment, number)
        };
        let pools = (0..classes).map(pool).collect::<Result<Vec<_>>>()?;
        if !pools.is_sorted_by(|one, next| one.block_len() < next.block_len()) {
            return Err(corrupt("its classes are not in the order of their lengths"));
        }
        let spill = usize::try_from(get(SPILL)).unwrap_or(usize::MAX);
        Ok(BlockPools(Arc::new(Inner { segment: segment.clone(), object, pools, spill })))
    }

    /// The pools, from the shortest blocks to the longest.
    pub fn classes(&self) -> &[BlockPool] {
        &self.0.pools
    }

    /// Bytes of the longest block.
    pub fn block_len(&self) -> usize {
        self.0.pools.last().map_or(0, BlockPool::block_len)
    }

    /// How many blocks there are in all classes.
    pub fn capacity(&self) -> usize {
        self.0.pools.iter().map(BlockPool::capacity).sum()
    }

    /// How many blocks are loaned, held or in flight now, in all classes.
    pub fn in_use(&self) -> usize {
        self.0.pools.iter().map(BlockPool::in_use).sum()
    }

    /// Over how many further classes a loan may go up.
    pub fn spill(&self) -> usize {
        self.0.spill
    }

    /// What has happened in each class, from the shortest blocks to the longest; each number is a
    /// moment's.
    pub fn stats(&self) -> Vec<ClassStats> {
        let stats = |(class, pool): (usize, &BlockPool)| ClassStats {
            block_len: pool.block_len(),
            pool: pool.stats(),
            spilled: self.spilled(class).load(Ordering::Relaxed),
            refused: self.refused(class).load(Ordering::Relaxed),
        };
        self.0.pools.iter().enumerate().map(stats).collect()
    }

    /// Gives back what processes that died had held. Done without being asked for a class that is
    /// exhausted.
    pub fn repair(&self) {
        for pool in &self.0.pools {
            pool.repair();
        }
    }

    /// Touches every page of all classes now, as [`BlockPool::prefault`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn prefault(&self) -> Result<()> {
        self.0.pools.iter().try_for_each(BlockPool::prefault)
    }

    /// Whether both are handles of the same set.
    pub fn is_same(&self, other: &BlockPools) -> bool {
        self.0.object == other.0.object && self.segment().is_same(other.segment())
    }

    fn counter(&self, class: usize, number: usize) -> &AtomicU64 {
        let at = self.0.object.offset + COUNTERS + 16 * class + 8 * number;
        self.0.segment.0.region.u64(at)
    }

    fn spilled(&self, class: usize) -> &AtomicU64 {
        self.counter(class, 0)
    }

    fn refused(&self, class: usize) -> &AtomicU64 {
        self.counter(class, 1)
    }
}

/// What an onlooker sees of a class. Both counts are of loans whose shortest fitting length this
/// class has: where they grow, it has too few blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a block.
    pub block_len: usize,
    /// What every pool counts.
    pub pool: Stats,
    /// Loans that got a longer block, because all of this class were in use.
    pub spilled: u64,
    /// Loans that got none, at once or before their deadline.
    pub refused: u64,
}

impl fmt::Debug for BlockPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockPools")
            .field("classes", &self.classes())
            .field("spill", &self.spill())
            .finish()
    }
}

impl Ring for BlockPools {
    const KIND: Kind = Kind::Pools;

    fn attach(segment: &Segment, number: u32, _: WaitStrategy) -> Result<BlockPools> {
        BlockPools::attach(segment, number)
    }

    #[inline]
    fn segment(&self) -> &Segment {
        &self.0.segment
    }

    #[inline]
    fn number(&self) -> u32 {
        self.0.object.index
    }
}

ring_verbs!([] PoolsOptions => BlockPools);
