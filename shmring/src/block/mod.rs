//! Blocks: big data that is written once and travels by handle.
//!
//! A [`Loan`] is taken from a [`BlockPool`] and filled in place; frozen it is a [`Block`], which any
//! number of processes read in place. A block goes to another process inside any message that a
//! port sends: alone, or anywhere in a value that serde can serialize. When nobody holds it any
//! more it is free again, however its holders ended.
//!
//! ```
//! use shmring::block::BlockPool;
//!
//! let pool = BlockPool::options().blocks(8).block_len(4 * 480 * 640).anonymous()?;
//! let mut loan = pool.try_loan()?;
//! loan.array_mut::<f32, _>((480, 640))?.fill(0.5);
//! let frame = loan.freeze();
//! assert_eq!(frame.array::<f32, _>((480, 640))?[[7, 7]], 0.5);
//! drop(frame);
//! assert_eq!(pool.in_use(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Frame`] is a block that says itself what array is in it. [`BlockPools`] has blocks of several
//! lengths, so that a few large ones do not cost as much as if all were large.
//!
//! README.md in this folder has the protocol and the argument why no block is freed under a holder
//! and none is lost; FRAME.md has the layout of frames.

mod carrier;
mod classes;
mod crowd;
mod flight;
mod frame;
mod geometry;
mod held;
mod journal;
mod loan;
mod loaning;
mod memory;
mod options;
mod places;
mod pool;
mod post;
mod repair;
mod shared;
mod travel;
mod word;
mod words;

#[cfg(all(test, shmring_loom))]
mod loom_tests;
#[cfg(all(test, not(shmring_loom)))]
mod model;
#[cfg(all(test, not(shmring_loom)))]
mod tests;

pub(crate) use self::carrier::{Ring, repair};
pub(crate) use self::memory::Memory;
pub(crate) use self::places::{Laid, Packing, Unpacking, empty_place, empty_ring};
pub(crate) use self::post::Inbox;
pub(crate) use self::travel::{Incoming, Outgoing, TABLE_ENTRY};
pub use self::{
    carrier::drained,
    classes::{BlockPools, ClassStats, MAX_CLASSES, PoolsOptions},
    frame::{DynFrame, FRAME_HEADER, Frame, FrameError, FrameLoan, MAX_FRAME_RANK},
    geometry::MAX_BLOCKS as MAX_BLOCKS_PER_MESSAGE,
    held::Block,
    loan::Loan,
    options::Options,
    pool::{BlockPool, Stats},
};

use crate::error::Bytes;

/// Why no block could be loaned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// All blocks are in use now.
    #[error("all {blocks} blocks of {} are in use", Lengths(*.smallest, *.largest))]
    Exhausted {
        /// How many there are, in all classes that were tried.
        blocks: usize,
        /// Bytes of a block of the smallest class that was tried, or of the only one.
        smallest: usize,
        /// Bytes of a block of the largest class that was tried.
        largest: usize,
    },
    /// None became free before the deadline.
    #[error(
        "no block became free before the deadline; all {blocks} of {} are in use",
        Lengths(*.smallest, *.largest)
    )]
    TimedOut {
        /// How many there are, in all classes that were tried.
        blocks: usize,
        /// Bytes of a block of the smallest class that was tried, or of the only one.
        smallest: usize,
        /// Bytes of a block of the largest class that was tried.
        largest: usize,
    },
    /// No block is that large.
    #[error("{needed} bytes are needed, the largest block has {limit}")]
    TooLarge {
        /// Bytes needed; the largest number when that does not fit into one.
        needed: usize,
        /// Bytes of the largest block.
        limit: usize,
    },
    /// A frame cannot have that many dimensions.
    #[error("{rank} dimensions: a frame can have at most {MAX_FRAME_RANK}")]
    TooManyDimensions {
        /// How many were wanted.
        rank: usize,
    },
    /// This process could not attach to the segment: all its places for participants are taken.
    #[error("the segment of the pool has no place left for this process")]
    NoPlace,
}

/// "64 KiB", or "64 KiB to 1 MiB".
struct Lengths(usize, usize);

impl std::fmt::Display for Lengths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Bytes(self.0 as u64))?;
        match self.1 == self.0 {
            true => Ok(()),
            false => write!(f, " to {}", Bytes(self.1 as u64)),
        }
    }
}

/// Why the bytes of a block cannot be seen as an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The array has more bytes than the block.
    #[error("the array takes {needed} bytes, the block has {len}")]
    TooShort {
        /// Bytes of the array; the largest number when that does not fit into one.
        needed: usize,
        /// Bytes of the block.
        len: usize,
    },
    /// Elements of this type need a stricter alignment than a block has (64 bytes).
    #[error("elements of this type need an alignment of more than 64 bytes")]
    Alignment,
    /// The block is not held: it was let go of before a forked child used its copy.
    #[error(transparent)]
    Stale(#[from] Stale),
}

/// The handle has survived its block: nobody holds it any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the block is not held any more")]
pub struct Stale;
