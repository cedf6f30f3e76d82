//! How blocks travel inside messages.
//!
//! Over a ring, the message's bytes hold a number, and the record a table that says which block
//! that is: the port takes the ring's holds when it publishes, and what the reader left in the
//! table is let go of with the record. Over a control channel it is in flight on a post: `post.rs`.

use std::{cell::RefCell, iter};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{
    Block, BlockPool,
    carrier::{self, Ring},
    crowd,
    flight::End,
    geometry::MAX_BLOCKS,
    places::{Packing, Unpacking},
    post,
    word::{Flight, Handle, NotHeld, Put},
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
        NotHeld::Stale | NotHeld::Owed => "it is not held any more",
        NotHeld::TooMany => {
            transfer::crowd();
            "it is on its way 255 times already"
        }
    })
}

/// The carriers of one ring, in the pools it has met.
struct Routes {
    segment: Segment,
    ring: Ring,
    routes: Vec<(BlockPool, usize)>,
}

impl Routes {
    fn new(segment: &Segment, ring: Ring) -> Routes {
        Routes { segment: segment.clone(), ring, routes: Vec::new() }
    }

    /// Adds what is not known yet. Those that are known keep their numbers, which the blocks of a
    /// message name.
    fn find_all(&mut self) {
        for pool in carrier::pools(&self.segment) {
            let Some(carrier) = carrier::of_ring(&pool, self.ring.object) else { continue };
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
        let is_dead = |index| carrier::is_dead(&self.segment, index);
        for (pool, carrier) in &self.routes {
            if pool.words().recover(*carrier, end, reached, &is_dead) > 0 {
                pool.wake();
            }
        }
    }

    fn empty(&mut self, end: End) -> usize {
        self.find_all();
        self.routes.iter().map(|(pool, carrier)| carrier::empty(pool, *carrier, end)).sum()
    }
}

/// Bytes of a table's entry: pool, block, generation (32 bits each), carrier (16), put (8), and
/// whether it moved (8).
pub(crate) const TABLE_ENTRY: usize = 16;

pub(super) struct Entry {
    pub(super) pool: u32,
    pub(super) carrier: u16,
    pub(super) handle: Handle,
    /// `None` for a block that moved.
    pub(super) seq: Option<u8>,
}

impl Entry {
    // As one number, so that it goes through registers.
    #[inline]
    pub(super) fn write(&self, bytes: &mut [u8]) {
        let Handle { block, generation } = self.handle;
        let entry = u128::from(self.pool)
            | u128::from(block) << 32
            | u128::from(generation) << 64
            | u128::from(self.carrier) << 96
            | u128::from(self.seq.unwrap_or(0)) << 112
            | u128::from(self.seq.is_none()) << 120;
        bytes.copy_from_slice(&entry.to_le_bytes());
    }

    #[inline]
    pub(super) fn read(bytes: &[u8; TABLE_ENTRY]) -> Entry {
        let entry = u128::from_le_bytes(*bytes);
        Entry {
            pool: entry as u32,
            handle: Handle { block: (entry >> 32) as u32, generation: (entry >> 64) as u32 },
            carrier: (entry >> 96) as u16,
            seq: (entry >> 120 == 0).then_some((entry >> 112) as u8),
        }
    }

    fn flight(&self) -> Flight {
        match self.seq {
            Some(seq) => Flight::Counted(Put { block: self.handle.block, seq }),
            None => Flight::Moved(self.handle),
        }
    }
}

/// The blocks of a message that goes over a ring.
pub(crate) struct Outgoing {
    routes: Routes,
    blocks: Vec<Going>,
}

struct Going {
    block: Block,
    /// The number of its route.
    route: usize,
    /// Whether its hold is to move, rather than that the carrier counts one of its own.
    moves: bool,
}

impl Outgoing {
    pub(crate) fn new(segment: &Segment, ring: Ring) -> Outgoing {
        Outgoing { routes: Routes::new(segment, ring), blocks: Vec::new() }
    }

    /// Adds a block to the message; gives its number there. The message holds it from now on, for
    /// this process. `None` for one that needs a closer look.
    #[inline]
    fn add(&mut self, block: &Block) -> Option<u32> {
        let Outgoing { routes: Routes { segment, routes, .. }, blocks } = self;
        let (number, pool) = (blocks.len(), block.pool());
        let known = |(known, _): &(BlockPool, usize)| known.object() == pool.object();
        let route = routes.iter().position(known)?;
        if number == MAX_BLOCKS || !pool.segment().is_same(segment) || !block.is_held() {
            return None;
        }
        blocks.push(Going { block: block.clone(), route, moves: false });
        Some(number as u32)
    }

    /// The same for the first block of a pool, or one that cannot be sent.
    #[cold]
    fn add_anew(&mut self, block: &Block) -> Result<u32> {
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
        self.blocks.push(Going { block: block.clone(), route, moves: false });
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

    /// Journals what a record at `position` will carry, and lets the ring hold what is not to
    /// move: all of it, unless the message is to be dropped (`by_value`). When it fails, or the
    /// record is not published after all, [`Outgoing::recover`] undoes it.
    #[inline]
    pub(crate) fn put(&mut self, position: u64, table: &mut [u8], by_value: bool) -> Result<()> {
        let Outgoing { routes: Routes { routes, .. }, blocks } = self;
        // Most messages have one.
        if let [going] = &mut blocks[..] {
            let (pool, carrier) = &routes[going.route];
            if by_value && going.block.can_move(*carrier) {
                going.moves = true;
                let flight = Flight::Moved(going.block.handle());
                pool.words().write_journal(*carrier, End::Put, position, iter::once(flight));
                fault!("port.send.journal");
                return Ok(());
            }
        }
        self.put_all(position, table, by_value)
    }

    #[inline(never)]
    fn put_all(&mut self, position: u64, table: &mut [u8], by_value: bool) -> Result<()> {
        let Outgoing { routes: Routes { routes, .. }, blocks } = self;
        for going in blocks.iter_mut() {
            going.moves = by_value && going.block.can_move(routes[going.route].1);
        }
        for (number, (pool, carrier)) in routes.iter().enumerate() {
            let words = pool.words();
            let here = blocks.iter().filter(|going| going.route == number);
            let flights = here.map(|going| match (going.moves, going.block.handle()) {
                (true, handle) => Flight::Moved(handle),
                (false, handle) => Flight::Counted(words.put_before(*carrier, handle.block)),
            });
            words.write_journal(*carrier, End::Put, position, flights);
        }
        fault!("port.send.journal");
        for (going, bytes) in blocks.iter().zip(table.chunks_exact_mut(TABLE_ENTRY)) {
            if !going.moves {
                let (pool, carrier) = &routes[going.route];
                let put = pool.words().put(*carrier, going.block.handle()).map_err(not_held)?;
                going.entry(pool, *carrier, Some(put.seq)).write(bytes);
            }
        }
        Ok(())
    }

    /// Drops the message.
    #[inline]
    pub(crate) fn outlive(&mut self, drop_message: impl FnOnce()) {
        match &mut self.blocks[..] {
            [going] if going.moves => going.block.outlive(drop_message),
            _ => drop_message(),
        }
    }

    /// The message has been dropped: moves the blocks that nobody else has, and lets go of all.
    /// After that the record must be published.
    #[inline]
    pub(crate) fn depart(&mut self, table: &mut [u8]) {
        if let [going] = &self.blocks[..] {
            let (pool, carrier) = &self.routes.routes[going.route];
            if going.moves && going.block.move_out(*carrier) {
                // What is left of the block is of this process alone, and goes when it is published.
                going.entry(pool, *carrier, None).write(&mut table[..TABLE_ENTRY]);
                return;
            }
        }
        self.depart_all(table);
    }

    #[inline(never)]
    fn depart_all(&mut self, table: &mut [u8]) {
        for (at, bytes) in table.chunks_exact_mut(TABLE_ENTRY).enumerate() {
            let Some(going) = self.blocks.get(at).filter(|going| going.moves) else { continue };
            let (pool, carrier) = &self.routes.routes[going.route];
            let seq = match going.block.move_out(*carrier) {
                true => None,
                false => Some(self.put_late(at)),
            };
            going.entry(pool, *carrier, seq).write(bytes);
        }
        self.clear();
    }

    /// One that could not move after all: somebody of this process holds it as well.
    #[cold]
    fn put_late(&self, at: usize) -> u8 {
        let Going { block, route, .. } = &self.blocks[at];
        let (pool, carrier) = &self.routes.routes[*route];
        let (words, handle) = (pool.words(), block.handle());
        let before = words.put_before(*carrier, handle.block);
        let place = self.blocks[..at].iter().filter(|going| going.route == *route).count();
        words.correct_journal(*carrier, End::Put, place, Flight::Counted(before));
        // There was room when it was seen whether it can move, and nobody else puts.
        words.put(*carrier, handle).map_or(before.seq, |put| put.seq)
    }

    /// The record was published.
    #[inline]
    pub(crate) fn published(&mut self) {
        self.clear();
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

impl Going {
    #[inline]
    fn entry(&self, pool: &BlockPool, carrier: usize, seq: Option<u8>) -> Entry {
        Entry { pool: pool.object(), carrier: carrier as u16, handle: self.block.handle(), seq }
    }
}

/// The blocks of a message that came over a ring.
pub(crate) struct Incoming {
    routes: Routes,
    entries: Vec<Came>,
    /// What became free when a record was released, to say so for all at once.
    freed: RefCell<Vec<u32>>,
    /// The only block of a message that is read after its record has been released.
    alone: Option<Block>,
}

/// The only block of a message, before it is taken.
pub(crate) struct Coming {
    handle: Handle,
    /// The number of its route.
    route: usize,
}

struct Came {
    entry: Entry,
    /// The number of its route.
    route: usize,
    moved: Moved,
}

/// What moved here. Kept until the record is released, since only what is held goes back when we die
/// before.
enum Moved {
    Not,
    /// To be read.
    Block(Block),
    /// Held by this participant, to be let go of.
    Unread(usize),
}

impl Incoming {
    pub(crate) fn new(segment: &Segment, ring: Ring) -> Incoming {
        let (entries, freed) = (Vec::new(), RefCell::default());
        Incoming { routes: Routes::new(segment, ring), entries, freed, alone: None }
    }

    /// Copies a record's table, and checks it. False when it contradicts itself.
    #[inline]
    pub(crate) fn read(&mut self, table: &[u8]) -> bool {
        self.entries.clear();
        let (chunks, _) = table.as_chunks::<TABLE_ENTRY>();
        for bytes in &chunks[..chunks.len().min(MAX_BLOCKS)] {
            let entry = Entry::read(bytes);
            let Some(route) = self.route(&entry) else {
                self.entries.clear();
                return false;
            };
            self.entries.push(Came { entry, route, moved: Moved::Not });
        }
        true
    }

    #[inline]
    fn route(&mut self, entry: &Entry) -> Option<usize> {
        let carrier = usize::from(entry.carrier);
        let known =
            |(pool, known): &(BlockPool, usize)| pool.object() == entry.pool && *known == carrier;
        let route = match self.routes.routes.iter().position(known) {
            Some(route) => route,
            None => self.new_route(entry.pool, carrier)?,
        };
        let pool = &self.routes.routes[route].0;
        let block = entry.handle.block as usize;
        if block >= pool.capacity() {
            return None;
        }
        // Both come at once: the word is changed when the block is taken, then its bytes are read.
        pool.region().prefetch_for_writing(pool.geometry().control(block));
        pool.region().prefetch_for_reading(pool.geometry().payload(block));
        Some(route)
    }

    #[cold]
    fn new_route(&mut self, object: u32, carrier: usize) -> Option<usize> {
        let Routes { segment, ring, routes } = &mut self.routes;
        let pool = BlockPool::attach(segment, object).ok()?;
        if !carrier::is_of_ring(&pool, carrier, ring.object) {
            return None;
        }
        routes.push((pool, carrier));
        Some(routes.len() - 1)
    }

    /// One that moved here.
    #[inline]
    fn moved(&mut self, number: u32) -> Option<Block> {
        match self.entries.get(number as usize) {
            Some(Came { moved: Moved::Block(block), .. }) => Some(block.clone()),
            Some(_) => None,
            None => self.alone.take().filter(|_| number == 0),
        }
    }

    /// Any other.
    #[cold]
    fn take(&mut self, number: u32) -> Result<Block> {
        // Of what was sent before this receiver came, the one before may have let go.
        let gone = || {
            let reason = "a block of it is gone, or never came; a receiver that is dropped lets go \
                          of what lies in its ring";
            Error::Corrupt { what: "a message".into(), reason: reason.into() }
        };
        let Came { entry, route, .. } = self.entries.get(number as usize).ok_or_else(gone)?;
        let (pool, _) = &self.routes.routes[*route];
        Block::take(pool, entry.handle).map_err(|_| gone())
    }

    /// The only block of a message, if it moved: asks for its lines. Nothing has happened yet.
    #[inline]
    pub(crate) fn coming(&mut self, table: &[u8; TABLE_ENTRY]) -> Option<Coming> {
        let entry = Entry::read(table);
        if entry.seq.is_some() {
            return None;
        }
        let route = self.route(&entry)?;
        Some(Coming { handle: entry.handle, route })
    }

    /// Journals that the record which ends at `end` is about to be released, and takes its only
    /// block. Then the record can be released before the message is read, which may let go of the
    /// block at once.
    #[inline]
    pub(crate) fn arrive_alone(&mut self, Coming { handle, route }: Coming, end: u64) {
        self.entries.clear();
        let (pool, carrier) = &self.routes.routes[route];
        let flight = iter::once(Flight::Moved(handle));
        pool.words().write_journal(*carrier, End::Got, end, flight);
        fault!("port.recv.journal");
        self.alone = Block::move_in(pool, *carrier, handle);
    }

    /// The message was read: lets go of its block, if it did not take that.
    #[inline]
    pub(crate) fn clear_alone(&mut self) {
        self.alone = None;
    }

    /// Journals that the record which ends at `end` is about to be read and released, and takes
    /// what moved.
    #[inline(never)]
    pub(crate) fn arrive(&mut self, end: u64) {
        self.write_journal(end);
        let Incoming { routes: Routes { routes, .. }, entries, .. } = self;
        for came in entries.iter_mut().filter(|came| came.entry.seq.is_none()) {
            let (pool, carrier) = &routes[came.route];
            if let Some(block) = Block::move_in(pool, *carrier, came.entry.handle) {
                came.moved = Moved::Block(block);
            }
        }
    }

    /// The same where it is not to be read, or was.
    pub(crate) fn arrive_unread(&mut self, end: u64) {
        self.write_journal(end);
        let Incoming { routes: Routes { routes, .. }, entries, .. } = self;
        for came in entries.iter_mut().filter(|came| came.entry.seq.is_none()) {
            let (pool, carrier) = &routes[came.route];
            if let Ok(me) = pool.segment().me()
                && pool.words().move_in(*carrier, me.index(), came.entry.handle)
            {
                came.moved = Moved::Unread(me.index());
            }
        }
    }

    fn write_journal(&mut self, end: u64) {
        let Incoming { routes: Routes { routes, .. }, entries, .. } = self;
        for (number, (pool, carrier)) in routes.iter().enumerate() {
            let here = entries.iter().filter(|came| came.route == number);
            let flights = here.map(|came| came.entry.flight());
            pool.words().write_journal(*carrier, End::Got, end, flights);
        }
        fault!("port.recv.journal");
    }

    /// The record has been released.
    #[inline]
    pub(crate) fn released(&mut self) {
        fault!("port.recv.released");
        if !self.entries.is_empty() {
            self.let_go();
        }
        for (pool, carrier) in &self.routes.routes {
            pool.words().close_journal(*carrier, End::Got);
        }
    }

    /// Ends the ring's holds, and those of what moved here, and says what became free by that.
    fn let_go(&mut self) {
        let Incoming { routes: Routes { routes, .. }, entries, freed, .. } = self;
        for (number, (pool, carrier)) in routes.iter().enumerate() {
            let words = pool.words().noting(freed);
            for Came { entry, moved, .. } in entries.iter().filter(|came| came.route == number) {
                let block = entry.handle.block;
                match (entry.seq, moved) {
                    // Also for what was taken: the message may have let go of it again.
                    (Some(seq), _) if words.is_on_its_way(*carrier, entry.handle, seq) => {
                        words.got(*carrier, Put { block, seq });
                    }
                    (None, Moved::Unread(me)) => {
                        crowd::release_by(&words, pool, *me, block);
                    }
                    _ => {}
                }
            }
            let freed = freed.get_mut();
            if !freed.is_empty() {
                pool.words().set_all_free(freed);
                freed.clear();
                pool.wake();
            }
        }
        // Somebody else has what was read, or nobody.
        entries.clear();
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

/// Puts a block into the message that is being serialized, whatever port sends that; gives its
/// number there.
#[cold]
fn add_anew(block: &Block) -> Result<u32> {
    transfer::with_cargo(|outgoing: &mut Outgoing| outgoing.add_anew(block))
        .or_else(|| transfer::with_cargo(|packing: &mut Packing| packing.add(block)))
        .unwrap_or_else(|| post::send(block))
}

/// Takes a block out of the message that is being read, whatever port received that.
#[inline(never)]
fn take(number: u32) -> Result<Block> {
    transfer::with_cargo(|incoming: &mut Incoming| incoming.take(number))
        .or_else(|| transfer::with_cargo(|unpacking: &mut Unpacking| unpacking.take(number)))
        .or_else(|| transfer::with_cargo(|inbox: &mut post::Inbox| inbox.take(number)))
        .unwrap_or(Err(Error::OutsidePort { what: WHAT }))
}

impl Serialize for Block {
    /// Travels only inside a message that a port sends. Over a ring, the ring must lie in the
    /// segment of the block's pool.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = match transfer::with_cargo(|outgoing: &mut Outgoing| outgoing.add(self)) {
            Some(Some(number)) => number,
            _ => add_anew(self).map_err(|error| ser::Error::custom(transfer::explain(error)))?,
        };
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Block, D::Error> {
        let number = u32::deserialize(deserializer)?;
        match transfer::with_cargo(|incoming: &mut Incoming| incoming.moved(number)) {
            Some(Some(block)) => Ok(block),
            _ => take(number).map_err(|error| de::Error::custom(transfer::explain(error))),
        }
    }
}
