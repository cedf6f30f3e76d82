//! How blocks travel inside messages.
//!
//! Over a ring, the message's bytes hold a number, and the record a table that says which block
//! that is: the port takes the ring's holds when it publishes, and what the reader left in the
//! table is let go of with the record. Over a control channel it is in flight on a post: `post.rs`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{
    Block, BlockPool, carrier,
    geometry::MAX_BLOCKS,
    places::{Packing, Unpacking},
    post,
    word::{Handle, NotHeld, Put},
    words::End,
};
use crate::{
    error::{Error, Result},
    fault::fault,
    segment::Segment,
    transfer,
};

pub(super) const WHAT: &str = "a block";

pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::BadParameters { action: "send a block".into(), reason: reason.into() }
}

pub(super) fn not_held(error: NotHeld) -> Error {
    refused(match error {
        NotHeld::Stale => "it is not held any more",
        NotHeld::TooMany => "it is on its way 255 times already",
    })
}

/// The carriers of one ring, in the pools it has met.
struct Routes {
    segment: Segment,
    ring: u32,
    routes: Vec<(BlockPool, usize)>,
}

impl Routes {
    /// Adds what is not known yet. Those that are known keep their numbers, which the blocks of a
    /// message name.
    fn find_all(&mut self) {
        for pool in carrier::pools(&self.segment) {
            let Some(carrier) = carrier::of_ring(&pool, self.ring) else { continue };
            let known = |(known, its): &(BlockPool, usize)| {
                known.object() == pool.object() && *its == carrier
            };
            if !self.routes.iter().any(known) {
                self.routes.push((pool, carrier));
            }
        }
    }

    /// An end is taken over, or its last operation failed.
    fn recover(&mut self, end: End, reached: u64) {
        self.find_all();
        for (pool, carrier) in &self.routes {
            if pool.words().recover(*carrier, end, reached) > 0 {
                pool.wake();
            }
        }
    }

    fn empty(&mut self, end: End) -> usize {
        self.find_all();
        self.routes.iter().map(|(pool, carrier)| carrier::empty(pool, *carrier, end)).sum()
    }
}

/// Bytes of a table's entry: pool, block, generation (32 bits each), carrier (16), put (8).
pub(crate) const TABLE_ENTRY: usize = 16;

pub(super) struct Entry {
    pub(super) pool: u32,
    pub(super) handle: Handle,
    pub(super) carrier: u16,
    pub(super) seq: u8,
}

impl Entry {
    pub(super) fn write(&self, bytes: &mut [u8]) {
        bytes[0..4].copy_from_slice(&self.pool.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.handle.block.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.handle.generation.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.carrier.to_le_bytes());
        bytes[14..16].copy_from_slice(&[self.seq, 0]);
    }

    pub(super) fn read(bytes: &[u8; TABLE_ENTRY]) -> Entry {
        let word =
            |at| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Entry {
            pool: word(0),
            handle: Handle { block: word(4), generation: word(8) },
            carrier: u16::from_le_bytes([bytes[12], bytes[13]]),
            seq: bytes[14],
        }
    }
}

/// The blocks of a message that goes over a ring.
pub(crate) struct Outgoing {
    routes: Routes,
    /// Each with the number of its route.
    blocks: Vec<(Block, usize)>,
}

impl Outgoing {
    pub(crate) fn new(segment: &Segment, ring: u32) -> Outgoing {
        let routes = Routes { segment: segment.clone(), ring, routes: Vec::new() };
        Outgoing { routes, blocks: Vec::new() }
    }

    /// Adds a block to the message; gives its number there. The message holds it from now on, for
    /// this process.
    #[inline]
    fn add(&mut self, block: &Block) -> Result<u32> {
        let pool = block.pool();
        if !pool.segment().is_same(&self.routes.segment) {
            return Err(refused(
                "the ring lies in another segment than its pool; make the ring in pool.segment()",
            ));
        }
        if self.blocks.len() == MAX_BLOCKS {
            return Err(refused(format!("a message can carry at most {MAX_BLOCKS}")));
        }
        block.adopt().map_err(|_| not_held(NotHeld::Stale))?;
        let routes = &mut self.routes.routes;
        let route = match routes.iter().position(|(known, _)| known.object() == pool.object()) {
            Some(route) => route,
            None => {
                routes.push((pool.clone(), carrier::for_ring(pool, self.routes.ring)?));
                routes.len() - 1
            }
        };
        self.blocks.push((block.clone(), route));
        Ok(self.blocks.len() as u32 - 1)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Lets go of what was added.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Journals and takes the ring's holds for a record at `position`, and writes their table.
    /// When it fails, or the record is not published after all, [`Outgoing::recover`] undoes it.
    #[inline]
    pub(crate) fn put(&self, position: u64, table: &mut [u8]) -> Result<()> {
        for (number, (pool, carrier)) in self.routes.routes.iter().enumerate() {
            let words = pool.words();
            let here = self.blocks.iter().filter(|(_, route)| *route == number);
            let before = here.map(|(block, _)| {
                let block = block.handle().block;
                Put { block, seq: words.counted(*carrier, block, End::Put) }
            });
            words.write_journal(*carrier, End::Put, position, before);
        }
        fault!("port.send.journal");
        for ((block, route), bytes) in self.blocks.iter().zip(table.chunks_exact_mut(TABLE_ENTRY)) {
            let (pool, carrier) = &self.routes.routes[*route];
            let handle = block.handle();
            let put = pool.words().put(*carrier, handle).map_err(not_held)?;
            let (pool, carrier) = (pool.object(), *carrier as u16);
            Entry { pool, handle, carrier, seq: put.seq }.write(bytes);
        }
        Ok(())
    }

    /// The record was published.
    #[inline]
    pub(crate) fn published(&self) {
        for (pool, carrier) in &self.routes.routes {
            pool.words().close_journal(*carrier, End::Put);
        }
    }

    /// Undoes what a predecessor, or a send that failed, had begun.
    pub(crate) fn recover(&mut self, published: u64) {
        self.routes.recover(End::Put, published);
    }

    /// Nobody reads the ring any more.
    pub(crate) fn empty(&mut self) -> usize {
        self.routes.empty(End::Put)
    }
}

/// The blocks of a message that came over a ring.
pub(crate) struct Incoming {
    routes: Routes,
    /// Each with the number of its route.
    entries: Vec<(Entry, usize)>,
}

impl Incoming {
    pub(crate) fn new(segment: &Segment, ring: u32) -> Incoming {
        let routes = Routes { segment: segment.clone(), ring, routes: Vec::new() };
        Incoming { routes, entries: Vec::new() }
    }

    /// Copies a record's table, and checks it. False when it contradicts itself.
    pub(crate) fn read(&mut self, table: &[u8]) -> bool {
        self.entries.clear();
        let (chunks, _) = table.as_chunks::<TABLE_ENTRY>();
        for bytes in chunks.iter().take(MAX_BLOCKS) {
            let entry = Entry::read(bytes);
            let Some(route) = self.route(&entry) else {
                self.entries.clear();
                return false;
            };
            self.entries.push((entry, route));
        }
        true
    }

    #[inline]
    fn route(&mut self, entry: &Entry) -> Option<usize> {
        let Routes { segment, ring, routes } = &mut self.routes;
        let carrier = usize::from(entry.carrier);
        let known =
            |(pool, known): &(BlockPool, usize)| pool.object() == entry.pool && *known == carrier;
        let route = match routes.iter().position(known) {
            Some(route) => route,
            None => {
                let pool = BlockPool::attach(segment, entry.pool).ok()?;
                if !carrier::is_of_ring(&pool, carrier, *ring) {
                    return None;
                }
                routes.push((pool, carrier));
                routes.len() - 1
            }
        };
        let pool = &routes[route].0;
        if entry.handle.block as usize >= pool.capacity() {
            return None;
        }
        // It is written to when the message is read.
        pool.region().prefetch_for_writing(pool.geometry().control(entry.handle.block as usize));
        Some(route)
    }

    #[inline]
    fn take(&mut self, number: u32) -> Result<Block> {
        let corrupt =
            |reason: &str| Error::Corrupt { what: "a message".into(), reason: reason.into() };
        let (entry, route) = self
            .entries
            .get(number as usize)
            .ok_or_else(|| corrupt("a block of it did not come with it"))?;
        let (pool, _) = &self.routes.routes[*route];
        Block::take(pool, entry.handle).map_err(|_| corrupt("a block of it is not held any more"))
    }

    /// Journals that the record which ends at `end` is about to be read and released.
    #[inline]
    pub(crate) fn write_down(&self, end: u64) {
        for (number, (pool, carrier)) in self.routes.routes.iter().enumerate() {
            let here = self.entries.iter().filter(|(_, route)| *route == number);
            let puts = here.map(|(entry, _)| Put { block: entry.handle.block, seq: entry.seq });
            pool.words().write_journal(*carrier, End::Got, end, puts);
        }
        fault!("port.recv.journal");
    }

    /// The record has been released.
    #[inline]
    pub(crate) fn released(&mut self) {
        fault!("port.recv.released");
        for (entry, route) in &self.entries {
            let (pool, carrier) = &self.routes.routes[*route];
            let put = Put { block: entry.handle.block, seq: entry.seq };
            // Also for what was taken: the message may have let go of it again.
            if pool.words().got(*carrier, put) {
                pool.wake();
            }
        }
        self.entries.clear();
        for (pool, carrier) in &self.routes.routes {
            pool.words().close_journal(*carrier, End::Got);
        }
    }

    /// Finishes or undoes what a predecessor had begun.
    pub(crate) fn recover(&mut self, released: u64) {
        self.routes.recover(End::Got, released);
    }

    /// Nobody reads the ring any more.
    pub(crate) fn empty(&mut self) -> usize {
        self.routes.empty(End::Got)
    }
}

impl Serialize for Block {
    /// Travels only inside a message that a port sends. Over a ring, the ring must lie in the
    /// segment of the block's pool.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = transfer::with_cargo(|outgoing: &mut Outgoing| outgoing.add(self))
            .or_else(|| transfer::with_cargo(|packing: &mut Packing| packing.add(self)));
        match number {
            Some(number) => number
                .map_err(|error| ser::Error::custom(transfer::explain(error)))?
                .serialize(serializer),
            None => post::send(self)
                .map_err(|error| ser::Error::custom(transfer::explain(error)))?
                .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Block, D::Error> {
        let number = u32::deserialize(deserializer)?;
        transfer::with_cargo(|incoming: &mut Incoming| incoming.take(number))
            .or_else(|| transfer::with_cargo(|unpacking: &mut Unpacking| unpacking.take(number)))
            .or_else(|| transfer::with_cargo(|inbox: &mut post::Inbox| inbox.take(number)))
            .unwrap_or(Err(Error::OutsidePort { what: WHAT }))
            .map_err(|error| de::Error::custom(transfer::explain(error)))
    }
}
