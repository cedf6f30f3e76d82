//! Blocks in messages over a control channel.
//!
//! A block is in flight on a post, and the message's notes say which block that is: so a receiver
//! takes hold of the blocks of a message when it comes, whether or not the message is ever read.
//! In the message's bytes stands the number of the note.

use serde::{Deserialize, Serialize};

use super::{
    Block, BlockPool, carrier,
    travel::{WHAT, not_held, refused},
    word::{Handle, NotHeld},
};
use crate::{
    error::{Error, Result},
    transfer::{self, NoteKind},
};

/// One block in the notes of a message.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Nothing where it is that of the note before.
    pool: Option<BlockPool>,
    block: u32,
    generation: u32,
    carrier: u32,
}

/// The blocks of a message that is being serialized: each of them travels once.
#[derive(Default)]
struct Outbox {
    blocks: Vec<(BlockPool, Handle)>,
}

impl Outbox {
    fn number_of(&self, block: &Block) -> Option<u32> {
        let is_it = |(pool, handle): &(BlockPool, Handle)| {
            *handle == block.handle() && pool.is_same(block.pool())
        };
        self.blocks.iter().position(is_it).map(|at| at as u32)
    }

    fn needs_pool(&self, pool: &BlockPool) -> bool {
        self.blocks.last().is_none_or(|(last, _)| !last.is_same(pool))
    }
}

/// Puts a block into the message that is being serialized; gives its number there.
pub(super) fn send(block: &Block) -> Result<u32> {
    block.adopt().map_err(|_| not_held(NotHeld::Stale))?;
    let outside = || Error::OutsidePort { what: WHAT };
    let receiver = transfer::destination().ok_or_else(outside)?;
    let known = transfer::with_own_cargo(|outbox: &mut Outbox| {
        (outbox.number_of(block), outbox.needs_pool(block.pool()))
    });
    let (known, needs_pool) = known.ok_or_else(outside)?;
    if let Some(number) = known {
        return Ok(number);
    }

    let (pool, handle) = (block.pool().clone(), block.handle());
    let post = carrier::post_to(&pool, receiver)?;
    let carrier = post.carrier;
    pool.words().post(carrier, handle).map_err(not_held)?;
    let undo = {
        let pool = pool.clone();
        move || {
            if pool.words().take_post_back(post.carrier, handle.block) {
                pool.wake();
            }
        }
    };
    if let Err(error) = transfer::on_unsent(WHAT, undo) {
        pool.words().take_post_back(carrier, handle.block);
        return Err(error);
    }

    let Handle { block, generation } = handle;
    let carrier = carrier as u32;
    let note = Note { pool: needs_pool.then(|| pool.clone()), block, generation, carrier };
    let note = postcard::to_stdvec(&note).map_err(|error| {
        let reason = transfer::take_reason().unwrap_or_else(|| error.to_string());
        refused(reason)
    })?;
    transfer::note(WHAT, NoteKind::Block, &note)?;
    let number = transfer::with_own_cargo(|outbox: &mut Outbox| {
        outbox.blocks.push((pool, handle));
        outbox.blocks.len() as u32 - 1
    });
    number.ok_or_else(outside)
}

/// The blocks that came with a message.
#[derive(Default)]
pub(crate) struct Inbox {
    /// `None` for one that could not be taken.
    blocks: Vec<Option<Block>>,
    last: Option<BlockPool>,
}

impl Inbox {
    /// Takes hold of the block of a note, and gives the notes after it.
    pub(crate) fn read<'a>(&mut self, notes: &'a [u8]) -> Option<&'a [u8]> {
        let (note, rest) = postcard::take_from_bytes::<Note>(notes).ok()?;
        self.last = note.pool.clone().or(self.last.take());
        self.blocks.push(self.last.as_ref().and_then(|pool| note.take(pool)));
        Some(rest)
    }

    pub(super) fn take(&mut self, number: u32) -> Result<Block> {
        let corrupt =
            |reason: &str| Error::Corrupt { what: "a message".into(), reason: reason.into() };
        let block = self.blocks.get(number as usize);
        let block = block.ok_or_else(|| corrupt("a block of it did not come with it"))?;
        block.clone().ok_or_else(|| corrupt("a block of it is not held any more"))
    }
}

impl Note {
    fn take(&self, pool: &BlockPool) -> Option<Block> {
        let geometry = pool.geometry();
        let carrier = self.carrier as usize;
        if self.block as usize >= geometry.blocks || carrier >= geometry.carriers {
            return None;
        }
        let handle = Handle { block: self.block, generation: self.generation };
        let block = Block::take(pool, handle).ok()?;
        pool.words().take_post(carrier, self.block);
        Some(block)
    }
}
