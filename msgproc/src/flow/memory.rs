//! The memory that the processes of a run share.

use serde::{Deserialize, Serialize};
use shmring::{Result, Segment, block::BlockPool};

/// Memory for the lanes of a run between processes, and blocks that items may have in them: written
/// once, they travel through all processes by handle.
///
/// A node waits for a block by [`Outlet::wait_for`](super::Outlet::wait_for), and not by
/// [`BlockPool::loan`], so that those who have blocks can go on meanwhile. Where there is a pool,
/// items go on in messages so short that all who may send blocks together gather no more than half
/// of it.
///
/// ```no_run
/// use msgproc::flow::{Graph, Memory, Process, each, map};
/// use shmring::block::Block;
///
/// let memory = Memory::with_blocks(16, 1 << 20)?;
/// let pool = memory.pool().unwrap().clone();
/// let mut graph = Graph::new();
/// graph.set_memory(&memory);
/// let fill = move |n: u8| -> Result<Block, shmring::block::LoanError> {
///     let mut loan = pool.loan()?;
///     loan.as_bytes_mut().fill(n);
///     Ok(loan.freeze())
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    segment: Segment,
    pool: Option<BlockPool>,
}

/// Processes that can take part at a time, those that just died included.
const PARTICIPANTS: usize = 128;
/// The same where there is no pool, each of whose blocks knows them all.
const MOST_PARTICIPANTS: usize = 255;
/// Lanes beside a pool, and what else is made in the segment.
const OBJECTS: usize = 4096;
/// Room for them. Memory that is not touched costs nothing.
const ROOM: usize = 1 << 30;
/// Lanes that can have blocks on their way.
const CARRIERS: usize = 256;

impl Memory {
    /// Memory with a pool of so many blocks, of so many bytes each.
    ///
    /// # Errors
    ///
    /// As those of [`shmring::block::Options::create_in`].
    pub fn with_blocks(blocks: usize, block_len: usize) -> Result<Memory> {
        let pool = BlockPool::options().blocks(blocks).block_len(block_len).carriers(CARRIERS);
        let len = ROOM + pool.len_in_segment(PARTICIPANTS)?;
        let segment = segment(len, PARTICIPANTS, OBJECTS)?;
        let pool = pool.create_in(&segment)?;
        Ok(Memory { segment, pool: Some(pool) })
    }

    /// Memory for lanes alone.
    ///
    /// # Errors
    ///
    /// As those of [`shmring::segment::Options::anonymous`].
    pub(crate) fn for_lanes(bytes: usize, lanes: usize) -> Result<Memory> {
        // The board, and what nodes may make there.
        let objects = (lanes + 64).max(1024);
        Ok(Memory { segment: segment(bytes, MOST_PARTICIPANTS, objects)?, pool: None })
    }

    /// Its blocks.
    pub fn pool(&self) -> Option<&BlockPool> {
        self.pool.as_ref()
    }

    /// Its blocks, after those were given back that the dead held.
    pub(crate) fn settled_pool(&self) -> Option<&BlockPool> {
        self.segment.repair();
        self.pool.as_ref()
    }

    /// The segment that all of it lies in: what else is made there can travel in items as well.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }
}

fn segment(len: usize, participants: usize, objects: usize) -> Result<Segment> {
    Segment::options().len(len).participants(participants).objects(objects).bells(0).anonymous()
}
