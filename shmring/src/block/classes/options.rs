//! How a set of pools is made.

use super::{
    super::{
        BlockPool, Options,
        options::{BESIDE, PLACES},
    },
    BlockPools, CLASSES, LEN, MAX_CLASSES, POOLS, SPILL,
};
use crate::{
    error::{Error, Result},
    face::{Make, Room},
    fault::fault,
    region::LINE,
    segment::{Kind, Segment},
    sync::Ordering,
};

/// How a set of pools is made. From [`BlockPools::options`].
///
/// It takes one place in its segment for each class, and one for itself. A segment of its own has
/// 1 MiB left for rings.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a set of pools is made with them"]
pub struct PoolsOptions {
    /// Length and number of blocks.
    classes: Vec<(usize, usize)>,
    spill: usize,
    carriers: usize,
    participants: usize,
    prefault: Option<bool>,
    pub(super) replace_stale: bool,
}

impl Default for PoolsOptions {
    /// Without any class.
    fn default() -> PoolsOptions {
        PoolsOptions {
            classes: vec![],
            spill: 1,
            carriers: 16,
            participants: 16,
            prefault: None,
            replace_stale: false,
        }
    }
}

impl PoolsOptions {
    /// Adds a class: blocks of `block_len` bytes, and how many of them. There can be up to
    /// [`MAX_CLASSES`], in any order, each with another length.
    pub fn class(mut self, block_len: usize, blocks: usize) -> PoolsOptions {
        self.classes.push((block_len, blocks));
        self
    }

    /// Over how many further classes a loan may go up when all blocks of the one that fits are in
    /// use. Default 1; 0 keeps each class for what fits it best.
    ///
    /// A large number gets a loan a block wherever there is one, and lets many small ones take all
    /// large blocks.
    pub fn spill(mut self, classes: usize) -> PoolsOptions {
        self.spill = classes;
        self
    }

    /// Over how many rings and directions of control channels blocks of each class can travel, 1
    /// to 1024. Default 16.
    pub fn carriers(mut self, count: usize) -> PoolsOptions {
        self.carriers = count;
        self
    }

    /// How many processes can be attached at once, 1 to 255, for a segment of its own. Default 16.
    pub fn participants(mut self, count: usize) -> PoolsOptions {
        self.participants = count;
        self
    }

    /// Touches every page of all classes now: the first touch of a page costs some microseconds.
    /// Default yes for a segment of its own, no for [`PoolsOptions::create_in`].
    pub fn prefault(mut self, yes: bool) -> PoolsOptions {
        self.prefault = Some(yes);
        self
    }

    /// How many bytes it takes of a segment with that many participants, at most.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`].
    pub fn len_in_segment(&self, participants: usize) -> Result<usize> {
        // It begins on a multiple of two lines, as each pool does.
        self.pools()?.iter().try_fold(LEN + 2 * LINE, |sum, pool| {
            sum.checked_add(pool.len_in_segment(participants)?)
                .ok_or_else(|| bad("blocks of more bytes than an address space holds".into()))
        })
    }

    /// What each class shall be, from the shortest blocks to the longest.
    fn pools(&self) -> Result<Vec<Options>> {
        let mut classes = self.classes.clone();
        classes.sort_unstable();
        if !(1..=MAX_CLASSES).contains(&classes.len()) {
            return Err(bad(format!("{} classes: 1 to {MAX_CLASSES} are possible", classes.len())));
        }
        if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(bad(format!("two classes of {} bytes", pair[0].0)));
        }
        let pool = |(block_len, blocks)| {
            BlockPool::options()
                .block_len(block_len)
                .blocks(blocks)
                .carriers(self.carriers)
                .prefault(self.prefault.unwrap_or(false))
        };
        Ok(classes.into_iter().map(pool).collect())
    }
}

impl Make for PoolsOptions {
    type Ring = BlockPools;

    fn room(&self) -> Result<Room> {
        Ok(Room {
            len: self.len_in_segment(self.participants)?.saturating_add(BESIDE),
            participants: self.participants,
            objects: PLACES,
            prefault: self.prefault.unwrap_or(true),
            replace_stale: self.replace_stale,
        })
    }

    /// Where it fails, nothing is left there, unless somebody else took the room meanwhile: then
    /// pools may be, which nobody uses.
    fn make_in(self, segment: &Segment) -> Result<BlockPools> {
        let needed = self.len_in_segment(segment.0.layout.participants)? as u64;
        let (available, places) = segment.room();
        if needed > available {
            let what = "a set of pools in a segment".into();
            return Err(Error::OutOfMemory { what, needed, available });
        }
        if self.classes.len() + 1 > places {
            return Err(Error::NoPlace {
                action: format!(
                    "make a set of {} pools in a segment with {places} places left",
                    self.classes.len()
                ),
                limit: segment.0.layout.objects,
            });
        }
        let make = |pool: Options| pool.create_in(segment);
        let pools = self.pools()?.into_iter().map(make).collect::<Result<Vec<BlockPool>>>()?;
        fault!("block.pools.made");
        let object = segment.add(Kind::Pools, LEN, |object| {
            let set = |at, value: u64| {
                segment.0.region.u64(object.offset + at).store(value, Ordering::Relaxed);
            };
            set(CLASSES, pools.len() as u64);
            set(SPILL, self.spill as u64);
            for (class, pool) in pools.iter().enumerate() {
                set(POOLS + 8 * class, pool.object().into());
            }
            Ok(())
        })?;
        BlockPools::attach(segment, object.index)
    }
}

fn bad(reason: String) -> Error {
    Error::BadParameters { action: "create a set of pools of blocks".into(), reason }
}
