//! How a pool is made.

use super::{
    BlockPool,
    geometry::{BLOCK_LEN, BLOCKS, CARRIERS, Geometry, MAX_CARRIERS, MAX_POOL, PARTICIPANTS},
    words::Words,
};
use crate::{
    error::{Error, Result},
    face::{Make, Room},
    layout::check_participants,
    region::LINE,
    segment::{Kind, Segment},
    sync::Ordering,
};

/// How a pool is made. From [`BlockPool::options`].
///
/// A segment of its own has 1 MiB left for rings, and 63 places.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a pool is made with them"]
pub struct Options {
    blocks: usize,
    block_len: usize,
    carriers: usize,
    participants: usize,
    prefault: Option<bool>,
    pub(super) replace_stale: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            blocks: 16,
            block_len: 1 << 20,
            carriers: 16,
            participants: 16,
            prefault: None,
            replace_stale: false,
        }
    }
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
    /// to 1024. A queue takes one for each 8 items of its capacity, a
    /// broadcast ring one for each 8 messages that it keeps, a latest value one. Default 16.
    pub fn carriers(mut self, count: usize) -> Options {
        self.carriers = count;
        self
    }

    /// How many processes can be attached at once, 1 to 255, for a segment of its own. Default 16.
    pub fn participants(mut self, count: usize) -> Options {
        self.participants = count;
        self
    }

    /// Touches every page of the pool now: the first touch of a page costs some microseconds.
    /// Default yes for a segment of its own, no for [`Options::create_in`].
    pub fn prefault(mut self, yes: bool) -> Options {
        self.prefault = Some(yes);
        self
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
        if !(1..=MAX_POOL).contains(&blocks) {
            return Err(bad(format!("{blocks} blocks: 1 to {MAX_POOL} are possible")));
        }
        if !(1..=MAX_CARRIERS).contains(&carriers) {
            return Err(bad(format!("{carriers} carriers: 1 to {MAX_CARRIERS} are possible")));
        }
        if block_len == 0 {
            return Err(bad("blocks of 0 bytes".into()));
        }
        check_participants(participants).map_err(bad)?;
        let geometry = Geometry::new(0, blocks, block_len, participants, carriers);
        let size = geometry.size().ok_or_else(|| {
            bad(format!(
                "{blocks} blocks of {block_len} bytes are more than an address space holds"
            ))
        })?;
        Ok((geometry, size))
    }
}

/// Bytes and places in a segment made for blocks, for the rings that carry them.
pub(super) const BESIDE: usize = 1 << 20;
pub(super) const PLACES: usize = 64;

impl Make for Options {
    type Ring = BlockPool;

    fn room(&self) -> Result<Room> {
        let (_, size) = self.geometry(self.participants)?;
        Ok(Room {
            len: size.saturating_add(BESIDE),
            participants: self.participants,
            objects: PLACES,
            prefault: self.prefault.unwrap_or(true),
            replace_stale: self.replace_stale,
        })
    }

    fn make_in(self, segment: &Segment) -> Result<BlockPool> {
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
        let pool = BlockPool::attach(segment, object.index)?;
        if self.prefault == Some(true) {
            pool.prefault()?;
        }
        Ok(pool)
    }
}
