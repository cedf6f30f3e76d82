//! A block that is being filled.

#![allow(unsafe_code)] // Payload memory.

use std::fmt;

use bytemuck::Pod;
use ndarray::{ArrayViewMut, Dimension, IntoDimension};

use super::{
    BlockPool, ViewError,
    geometry::LENGTH,
    held::{Block, bytes_of},
    word::Handle,
};
use crate::{os, sync::Ordering};

/// A block of which this process has sole use, to fill it. Dropping it gives the block back.
///
/// What is in it is not specified: whatever its last user left.
pub struct Loan {
    /// `None` once it is frozen.
    pool: Option<BlockPool>,
    me: usize,
    handle: Handle,
    len: usize,
    forks: u32,
}

impl Loan {
    pub(super) fn new(pool: &BlockPool, me: usize, handle: Handle) -> Loan {
        let forks = os::forks();
        // Its last reader may have it in another core's cache.
        pool.region().take_line(pool.geometry().payload(handle.block as usize));
        Loan { pool: Some(pool.clone()), me, handle, len: pool.block_len(), forks }
    }

    /// The bytes to fill.
    ///
    /// # Panics
    ///
    /// In a forked child: the loan is its parent's.
    #[inline]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.is_ours(), "a loan belongs to the process that took it, not to its child");
        let pool = self.pool();
        let at = pool.geometry().payload(self.handle.block as usize);
        // SAFETY: the word of the block says that it is loaned to this process, and this is the
        // only value that stands for that; a forked child's copy was refused above.
        unsafe { pool.region().bytes_mut(at, self.len) }
    }

    /// The beginning of the block as an array in C order, to fill.
    ///
    /// # Errors
    ///
    /// [`ViewError::TooShort`]; [`ViewError::Alignment`].
    ///
    /// # Panics
    ///
    /// As [`Loan::as_bytes_mut`].
    pub fn array_mut<T: Pod, S: IntoDimension>(
        &mut self,
        shape: S,
    ) -> Result<ArrayViewMut<'_, T, S::Dim>, ViewError> {
        let dim = shape.into_dimension();
        let bytes = bytes_of::<T>(dim.slice(), self.len)?;
        let elements = bytemuck::try_cast_slice_mut(&mut self.as_bytes_mut()[..bytes])
            .map_err(|_| ViewError::Alignment)?;
        ArrayViewMut::from_shape(dim, elements)
            .map_err(|_| ViewError::TooShort { needed: usize::MAX, len: bytes })
    }

    /// Says how many bytes are used: readers see only those.
    ///
    /// # Panics
    ///
    /// When that is more than the block has.
    pub fn set_len(&mut self, len: usize) {
        let limit = self.pool().block_len();
        assert!(len <= limit, "{len} bytes used of a block of {limit}");
        self.len = len;
    }

    /// Bytes in use; all of them unless [`Loan::set_len`] said otherwise.
    #[allow(clippy::len_without_is_empty)] // It says how much of the block counts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Ends the filling: from now on it can only be read.
    ///
    /// # Panics
    ///
    /// As [`Loan::as_bytes_mut`].
    pub fn freeze(mut self) -> Block {
        assert!(self.is_ours(), "a loan belongs to the process that took it, not to its child");
        let pool = self.pool.take().expect("only freeze takes it");
        let length = pool.geometry().control(self.handle.block as usize) + LENGTH;
        // SYNC frozen: published with the word, in `Words::freeze`.
        pool.region().u64(length).store(self.len as u64, Ordering::Relaxed);
        let held = pool.words().freeze(self.me, self.handle).is_ok();
        Block::new(pool, self.handle, self.len, held.then_some(self.me))
    }

    fn pool(&self) -> &BlockPool {
        self.pool.as_ref().expect("only freeze takes it")
    }

    fn is_ours(&self) -> bool {
        self.forks == os::forks()
    }
}

impl AsMut<[u8]> for Loan {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_bytes_mut()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool
            && self.is_ours()
            && pool.words().cancel(self.me, self.handle)
        {
            pool.wake();
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("block", &self.handle.block)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
