//! Blocks that lie in the places of a ring: in the slots of a queue, in a latest value.
//!
//! Whoever owns a place (the queue says who that is) says for each block whether it lies there, by
//! a bit of its own. A carrier has eight of them: they are where `put` and `got` differ, and `got`
//! never changes. Setting and clearing a bit can be repeated, so there are no journals; after a
//! death, who has the place next clears its bit of all blocks.

use super::{
    Block, BlockPool, carrier,
    flight::End,
    geometry::{CARRIERS_USED, MAX_BLOCKS},
    memory::Memory,
    travel::{Entry, TABLE_ENTRY, not_held, refused},
    word::{Handle, NotHeld},
    words::Words,
};
use crate::{
    error::{Error, Result},
    fault::fault,
    segment::Segment,
};

/// How many places a carrier has.
const PLACES: usize = 8;

fn bit(place: usize) -> u8 {
    1 << (place % PLACES)
}

impl<M: Memory> Words<'_, M> {
    /// A block shall lie in a place: by the place's owner, who holds the block meanwhile, so there
    /// is nothing to confirm.
    pub(super) fn lay(&self, carrier: usize, bit: u8, handle: Handle) -> Result<(), NotHeld> {
        if !self.word(handle.block).is_shared(handle.generation) {
            return Err(NotHeld::Stale); // Only a liar does not hold it.
        }
        self.use_counter(CARRIERS_USED, carrier);
        let got = self.counted(carrier, handle.block, End::Got);
        let (at, shift) = self.end_at(carrier, handle.block, End::Put);
        let lying = self.byte(at, shift, |put| Some((put ^ got | bit) ^ got));
        fault!("block.place.laid");
        lying.map(|_| ()).ok_or(NotHeld::TooMany)
    }

    /// A block shall not lie in a place any more: by the place's owner; rule F. Tells whether the
    /// block was freed.
    pub(super) fn lift(&self, carrier: usize, bit: u8, block: u32) -> bool {
        let got = self.counted(carrier, block, End::Got);
        if (self.counted(carrier, block, End::Put) ^ got) & bit == 0 {
            return false;
        }
        let (at, shift) = self.end_at(carrier, block, End::Put);
        let lifted = self.byte(at, shift, |put| Some((put ^ got) & !bit ^ got));
        fault!("block.place.lifted");
        lifted.is_some() && self.free(block)
    }
}

fn lift(pool: &BlockPool, carrier: usize, place: usize, block: u32) {
    if pool.words().lift(carrier, bit(place), block) {
        pool.wake();
    }
}

/// Lets go of all blocks in a place of a ring, whatever the place says: by its owner, or for one
/// that died.
pub(crate) fn empty_place(segment: &Segment, ring: u32, place: usize) {
    for pool in carrier::pools(segment) {
        for carrier in carrier::of_places(&pool, ring, place / PLACES) {
            (0..pool.capacity() as u32).for_each(|block| lift(&pool, carrier, place, block));
        }
    }
}

/// Lets go of all blocks in all places of a ring: by its only owner.
pub(crate) fn empty_ring(segment: &Segment, ring: u32) {
    for pool in carrier::pools(segment) {
        for (carrier, eight) in carrier::of_all_places(&pool, ring) {
            for place in eight * PLACES..(eight + 1) * PLACES {
                (0..pool.capacity() as u32).for_each(|block| lift(&pool, carrier, place, block));
            }
        }
    }
}

/// The blocks of a message on its way into a place.
pub(crate) struct Packing {
    segment: Segment,
    ring: u32,
    places: usize,
    /// The pools met so far, and of each the carriers of all places.
    pools: Vec<(BlockPool, Vec<usize>)>,
    /// Each with the number of its pool.
    blocks: Vec<(Block, usize)>,
    /// What was laid into a place last.
    laid: Laid,
}

/// What lies in a place: numbers of the pools that a [`Packing`] has met, and of blocks.
pub(crate) type Laid = Vec<(usize, u32)>;

impl Packing {
    pub(crate) fn new(segment: &Segment, ring: u32, places: usize) -> Packing {
        let (segment, pools, blocks) = (segment.clone(), Vec::new(), Vec::new());
        Packing { segment, ring, places, pools, blocks, laid: Vec::new() }
    }

    /// Adds a block to the message; gives its number there. The message holds it from now on, for
    /// this process.
    pub(super) fn add(&mut self, block: &Block) -> Result<u32> {
        let pool = block.pool();
        if !pool.segment().is_same(&self.segment) {
            return Err(refused(
                "the ring lies in another segment than its pool; make the ring in pool.segment()",
            ));
        }
        let is_it = |(known, _): &(Block, usize)| {
            known.handle() == block.handle() && known.pool().object() == pool.object()
        };
        if let Some(number) = self.blocks.iter().position(is_it) {
            return Ok(number as u32);
        }
        if self.blocks.len() == MAX_BLOCKS {
            return Err(refused(format!("a message can carry at most {MAX_BLOCKS}")));
        }
        block.adopt().map_err(|_| not_held(NotHeld::Stale))?;
        let known = self.pools.iter().position(|(known, _)| known.object() == pool.object());
        let number = match known {
            Some(number) => number,
            None => {
                let eights = self.places.div_ceil(PLACES);
                let carriers = carrier::for_places(pool, self.ring, eights)?;
                self.pools.push((pool.clone(), carriers));
                self.pools.len() - 1
            }
        };
        self.blocks.push((block.clone(), number));
        Ok(self.blocks.len() as u32 - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Lets go of what was added.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Lays the blocks into a place that this process owns, and writes their table. When it fails,
    /// nothing lies there.
    pub(crate) fn put(&mut self, place: usize, table: &mut [u8]) -> Result<()> {
        self.laid.clear();
        for ((block, number), bytes) in self.blocks.iter().zip(table.chunks_exact_mut(TABLE_ENTRY))
        {
            let (pool, carriers) = &self.pools[*number];
            let (carrier, handle) = (carriers[place / PLACES], block.handle());
            if let Err(error) = pool.words().lay(carrier, bit(place), handle) {
                self.take_back(place);
                return Err(not_held(error));
            }
            self.laid.push((*number, handle.block));
            let (pool, carrier) = (pool.object(), carrier as u16);
            Entry { pool, handle, carrier, seq: Some(bit(place)) }.write(bytes);
        }
        Ok(())
    }

    /// Lifts out again what was laid into a place last.
    pub(crate) fn take_back(&mut self, place: usize) {
        let laid = std::mem::take(&mut self.laid);
        self.lift(place, &laid);
    }

    /// What was laid into a place last, to lift it later.
    pub(crate) fn take_laid(&mut self) -> Laid {
        std::mem::take(&mut self.laid)
    }

    /// Lifts out what was laid into a place.
    pub(crate) fn lift(&self, place: usize, laid: &[(usize, u32)]) {
        for (number, block) in laid {
            let (pool, carriers) = &self.pools[*number];
            lift(pool, carriers[place / PLACES], place, *block);
        }
    }
}

/// The blocks of a message that was found in a place.
pub(crate) struct Unpacking {
    segment: Segment,
    ring: u32,
    pools: Vec<BlockPool>,
    /// Each with the number of its pool.
    entries: Vec<(Entry, usize)>,
    /// Those of the entries that are held already.
    held: Vec<Block>,
}

impl Unpacking {
    pub(crate) fn new(segment: &Segment, ring: u32) -> Unpacking {
        let segment = segment.clone();
        Unpacking { segment, ring, pools: Vec::new(), entries: Vec::new(), held: Vec::new() }
    }

    /// Copies the table of a place, and checks it. False when it contradicts itself.
    pub(crate) fn read(&mut self, place: usize, table: &[u8]) -> bool {
        self.entries.clear();
        let (chunks, _) = table.as_chunks::<TABLE_ENTRY>();
        for bytes in chunks.iter().take(MAX_BLOCKS) {
            let entry = Entry::read(bytes);
            let Some(number) = self.pool(&entry, place) else {
                self.entries.clear();
                return false;
            };
            self.entries.push((entry, number));
        }
        true
    }

    fn pool(&mut self, entry: &Entry, place: usize) -> Option<usize> {
        let known = self.pools.iter().position(|pool| pool.object() == entry.pool);
        let number = match known {
            Some(number) => number,
            None => {
                self.pools.push(BlockPool::attach(&self.segment, entry.pool).ok()?);
                self.pools.len() - 1
            }
        };
        let pool = &self.pools[number];
        let carrier = usize::from(entry.carrier);
        let sound = carrier::is_of_places(pool, carrier, self.ring, place / PLACES)
            && (entry.handle.block as usize) < pool.capacity()
            && entry.seq == Some(bit(place));
        sound.then_some(number)
    }

    /// Takes hold of all blocks, of a message that may be replaced meanwhile. False when one of them
    /// does not lie there any more.
    pub(crate) fn hold(&mut self) -> Result<bool> {
        self.held.clear();
        for (entry, pool) in &self.entries {
            match Block::take(&self.pools[*pool], entry.handle) {
                Ok(block) => self.held.push(block),
                Err(NotHeld::Stale) => {
                    self.held.clear();
                    return Ok(false);
                }
                Err(error) => return Err(not_held(error)),
            }
        }
        Ok(true)
    }

    /// Lets go of what the message did not take.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.entries.clear();
    }

    pub(super) fn take(&mut self, number: u32) -> Result<Block> {
        if let Some(block) = self.held.get(number as usize) {
            return Ok(block.clone());
        }
        let corrupt =
            |reason: &str| Error::Corrupt { what: "a message".into(), reason: reason.into() };
        let (entry, pool) = self
            .entries
            .get(number as usize)
            .ok_or_else(|| corrupt("a block of it did not come with it"))?;
        Block::take(&self.pools[*pool], entry.handle).map_err(not_held)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lifts the blocks out of the place, whose item is over.
    pub(crate) fn release(&mut self, place: usize) {
        for (entry, pool) in self.entries.drain(..) {
            lift(&self.pools[pool], usize::from(entry.carrier), place, entry.handle.block);
        }
    }
}
