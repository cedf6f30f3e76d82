//! A block that is read.

#![allow(unsafe_code)] // Payload memory.

use std::fmt;

use bytemuck::Pod;
use ndarray::{ArrayView, Dimension, IntoDimension};

use super::{
    BlockPool, Stale, ViewError, crowd,
    geometry::LENGTH,
    shared::Shared,
    word::{Handle, NotHeld},
};
use crate::{
    os,
    region::LINE,
    sync::{
        Ordering,
        local::{self, AtomicU64},
    },
};

/// A block to read, shared with whoever else holds it. It cannot change while anybody does.
///
/// Clones within a process cost nothing in shared memory. Dropping the last one lets go of the
/// block, and when no other process holds it and no message carries it, it is free.
///
/// A forked child's copy becomes the child's own at its first use there, if the parent still holds
/// the block then; otherwise it is [`Stale`].
#[derive(Clone)]
pub struct Block {
    held: Shared,
}

/// What one process holds, once.
pub(super) struct Held {
    pool: BlockPool,
    handle: Handle,
    len: usize,
    /// `{fork generation: 32, participant + 1: 32}` of the process that holds it; 0 is nobody.
    holder: AtomicU64,
}

fn holder(participant: usize) -> u64 {
    u64::from(os::forks()) << 32 | (participant as u64 + 1)
}

impl Held {
    /// A block that `me` holds by now.
    #[inline]
    fn found(pool: &BlockPool, handle: Handle, me: usize) -> Held {
        let at = pool.geometry().control(handle.block as usize) + LENGTH;
        let len = pool.region().u64(at).load(Ordering::Relaxed);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(pool.block_len());
        Held { pool: pool.clone(), handle, len, holder: AtomicU64::new(holder(me)) }
    }

    /// In which row this process holds the block; a forked child takes hold of it here.
    #[inline]
    fn row(&self) -> Result<usize, Stale> {
        let holder = self.holder.load(local::Ordering::Acquire);
        match self.row_of(holder) {
            Some(row) => Ok(row),
            None => self.adopt(holder),
        }
    }

    #[inline]
    fn row_of(&self, holder: u64) -> Option<usize> {
        let here = holder >> 32 == u64::from(os::forks());
        (here && holder as u32 != 0).then(|| holder as u32 as usize - 1)
    }

    #[cold]
    fn adopt(&self, seen: u64) -> Result<usize, Stale> {
        let me = self.pool.segment().me().map_err(|_| Stale)?.index();
        crowd::hold(&self.pool, me, self.handle).map_err(|_| Stale)?;
        let swap = self.holder.compare_exchange(
            seen,
            holder(me),
            local::Ordering::AcqRel,
            local::Ordering::Acquire,
        );
        match swap {
            Ok(_) => Ok(me),
            // Another thread of this process was quicker.
            Err(other) => {
                if crowd::release(&self.pool, me, self.handle.block) {
                    self.pool.wake();
                }
                self.row_of(other).ok_or(Stale)
            }
        }
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        let holder = self.holder.load(local::Ordering::Acquire);
        if let Some(row) = self.row_of(holder)
            && crowd::release(&self.pool, row, self.handle.block)
        {
            self.pool.wake();
        }
    }
}

impl Block {
    /// A block that participant `me` of this process holds; `None` when it does not, after all.
    pub(super) fn new(pool: BlockPool, handle: Handle, len: usize, me: Option<usize>) -> Block {
        let holder = AtomicU64::new(me.map_or(0, holder));
        Block { held: Shared::new(Held { pool, handle, len, holder }) }
    }

    /// Takes hold of a block by its handle, which somebody else holds meanwhile.
    pub(super) fn take(pool: &BlockPool, handle: Handle) -> Result<Block, NotHeld> {
        let me = pool.segment().me().map_err(|_| NotHeld::Stale)?.index();
        crowd::hold(pool, me, handle)?;
        Ok(Block { held: Shared::new(Held::found(pool, handle, me)) })
    }

    /// Takes a block over that moved to a carrier. `None` when it is not there.
    #[inline]
    pub(super) fn move_in(pool: &BlockPool, carrier: usize, handle: Handle) -> Option<Block> {
        let me = pool.segment().me().ok()?.index();
        let moved = pool.words().move_in(carrier, me, handle);
        moved.then(|| Block { held: Shared::new(Held::found(pool, handle, me)) })
    }

    /// Runs what drops the other clone of it, if there are two.
    #[inline]
    pub(super) fn outlive(&mut self, work: impl FnOnce()) {
        self.held.outlive(work);
    }

    /// Whether this process holds the block by now, as far as one knows without [`Block::adopt`].
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.held.row_of(self.held.holder.load(local::Ordering::Acquire)).is_some()
    }

    /// Whether the hold could move to a carrier, were the copy in a message dropped: that and this
    /// are all there are.
    #[inline]
    pub(super) fn can_move(&self, carrier: usize) -> bool {
        let Held { pool, handle, .. } = &*self.held;
        let row = || self.held.row().ok();
        self.held.count() == 2
            && row().is_some_and(|me| pool.words().can_move(carrier, me, *handle))
    }

    /// Moves the hold to a carrier, if this is all there is of it. False when that cannot be; then
    /// nothing has happened.
    #[inline]
    pub(super) fn move_out(&self, carrier: usize) -> bool {
        // Nobody can clone what nobody else has.
        if self.held.count() != 1 {
            return false;
        }
        let Held { pool, handle, .. } = &*self.held;
        let moved = self.held.row().is_ok_and(|me| pool.words().move_out(carrier, me, *handle));
        if moved {
            self.held.holder.store(0, local::Ordering::Relaxed);
        }
        moved
    }

    /// Makes sure that this process holds the block: always so, but for a forked child's copy.
    ///
    /// # Errors
    ///
    /// [`Stale`] when the parent let go of it before, or no place among the participants of its segment
    /// is left for the child.
    pub fn adopt(&self) -> Result<(), Stale> {
        self.held.row().map(|_| ())
    }

    /// The bytes that were filled. Empty when the block is [`Stale`]: [`Block::adopt`] says so.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.held.row().is_err() {
            return &[];
        }
        let at = self.held.pool.geometry().payload(self.held.handle.block as usize);
        // SAFETY: we hold the block, so its word stays SHARED, and a shared block is written by
        // nobody.
        unsafe { self.held.pool.region().bytes(at, self.held.len) }
    }

    /// The beginning of the block as an array in C order.
    ///
    /// # Errors
    ///
    /// [`ViewError`].
    pub fn array<T: Pod, S: IntoDimension>(
        &self,
        shape: S,
    ) -> Result<ArrayView<'_, T, S::Dim>, ViewError> {
        self.adopt()?;
        let dim = shape.into_dimension();
        let bytes = bytes_of::<T>(dim.slice(), self.held.len)?;
        let elements = bytemuck::try_cast_slice(&self.as_bytes()[..bytes])
            .map_err(|_| ViewError::Alignment)?;
        ArrayView::from_shape(dim, elements)
            .map_err(|_| ViewError::TooShort { needed: usize::MAX, len: bytes })
    }

    /// Bytes that were filled.
    pub fn len(&self) -> usize {
        self.held.len
    }

    /// Whether nothing was filled.
    pub fn is_empty(&self) -> bool {
        self.held.len == 0
    }

    /// Which block of its pool it is.
    pub fn index(&self) -> usize {
        self.held.handle.block as usize
    }

    /// The pool it comes from.
    #[inline]
    pub fn pool(&self) -> &BlockPool {
        &self.held.pool
    }

    #[inline]
    pub(super) fn handle(&self) -> Handle {
        self.held.handle
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("index", &self.index())
            .field("generation", &self.held.handle.generation)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Bytes of an array of `T`, when that is at most `len`.
pub(super) fn bytes_of<T: Pod>(shape: &[usize], len: usize) -> Result<usize, ViewError> {
    if align_of::<T>() > LINE {
        return Err(ViewError::Alignment);
    }
    let size = shape.iter().try_fold(size_of::<T>(), |all, side| all.checked_mul(*side));
    // An empty side hides how large the others are; ndarray refuses those as well.
    let mut sides = shape.iter().filter(|side| **side != 0);
    let whole = sides.try_fold(size_of::<T>().max(1), |all, side| all.checked_mul(*side));
    match (size, whole) {
        (Some(size), Some(_)) if size <= len => Ok(size),
        (Some(needed), Some(_)) => Err(ViewError::TooShort { needed, len }),
        _ => Err(ViewError::TooShort { needed: usize::MAX, len }),
    }
}
