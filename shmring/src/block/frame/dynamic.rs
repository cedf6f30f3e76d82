//! [`DynFrame`]: a frame of whatever type and shape, and what all frames have in common.

use std::{
    fmt,
    os::fd::AsFd,
    time::{Duration, SystemTime},
};

use ndarray::{ArrayD, Dimension};

use super::{
    super::{Block, Stale},
    Frame,
    header::{FRAME_HEADER, FrameError, Header},
};
use crate::{
    array::{Dtype, Element, Order, Scalar, scalars},
    error::{Error, Result},
    os,
    sync::Ordering,
};

/// A frame whose element type and shape are what its header says: for tools, and for whoever gets
/// frames of several types.
///
/// ```
/// use shmring::{array::Dtype, block::{BlockPool, DynFrame, Frame}};
///
/// let pool = BlockPool::options().blocks(2).block_len(4096).anonymous()?;
/// let mut loan = pool.loan_frame::<i16, _>(3)?;
/// loan.array_mut()[1] = -7;
///
/// let frame = loan.freeze().into_dyn();
/// assert_eq!((frame.dtype(), frame.shape()), (Dtype::I16, &[3][..]));
/// assert_eq!(frame.typed::<i16, ndarray::Ix1>()?.view()?[1], -7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DynFrame {
    block: Block,
    /// What it said when it was opened. Nothing reads it again.
    pub(super) header: Header,
}

impl DynFrame {
    /// Takes a block for the frame that it says it is.
    ///
    /// # Errors
    ///
    /// [`FrameError`], but for `WrongType`.
    pub fn open(block: Block) -> Result<DynFrame, FrameError> {
        block.adopt()?;
        let pool = block.pool();
        let at = pool.geometry().payload(block.index());
        // By atomics, which is no data race with whoever writes there although he may not.
        let word = |offset| pool.region().u64(at + offset).load(Ordering::Relaxed).to_le();
        let header = Header::parse(word, block.len())?;
        Ok(DynFrame { block, header })
    }

    /// One that was just filled.
    pub(super) fn new(block: Block, header: Header) -> DynFrame {
        DynFrame { block, header }
    }

    /// Takes it as a frame of `T` with dimensions `D`.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongType`].
    pub fn typed<T: Element, D: Dimension>(self) -> Result<Frame<T, D>, FrameError> {
        Frame::typed(self)
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.header.shape()
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.header.elements()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of all elements, in bytes.
    pub fn nbytes(&self) -> usize {
        self.header.bytes()
    }

    /// How the elements lie in memory.
    pub fn order(&self) -> Order {
        self.header.order
    }

    /// The number that its maker gave it.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// The time that its maker gave it, or else when it was frozen, by the clock on the wall.
    pub fn time(&self) -> SystemTime {
        let since = Duration::from_nanos(self.header.time.unsigned_abs());
        let (before, after) = (SystemTime::UNIX_EPOCH - since, SystemTime::UNIX_EPOCH + since);
        if self.header.time < 0 { before } else { after }
    }

    /// The same in nanoseconds since 1970, as numpy's `datetime64[ns]` has it.
    pub fn time_ns(&self) -> i64 {
        self.header.time
    }

    /// How long ago it was frozen, in whatever process of this machine. It does not depend on the
    /// clock on the wall, which may have been set meanwhile.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(os::monotonic().saturating_sub(self.header.frozen))
    }

    /// The elements as they lie in memory.
    ///
    /// # Errors
    ///
    /// [`Stale`].
    pub fn bytes(&self) -> Result<&[u8], Stale> {
        self.block.adopt()?;
        // Only a block that is stale has fewer bytes: the length was checked, and is constant.
        self.block.as_bytes().get(FRAME_HEADER..self.header.len_in_block()).ok_or(Stale)
    }

    /// Copies the elements out as they lie in memory. Sound also when a process writes to the block
    /// although it may not: then the copy may be a mixture of old and new.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`] when the block is [`Stale`]; [`Error::Io`], also when somebody has
    /// shortened the file of a named segment.
    pub fn copy_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.nbytes()];
        self.copy_into(&mut bytes)?;
        Ok(bytes)
    }

    /// `into` has exactly as many bytes as the elements.
    pub(super) fn copy_into(&self, into: &mut [u8]) -> Result<()> {
        const ACTION: &str = "copy a frame";
        self.block.adopt().map_err(|error| Error::BadParameters {
            action: ACTION.into(),
            reason: error.to_string(),
        })?;
        let pool = self.block.pool();
        let at = pool.geometry().payload(self.block.index()) + FRAME_HEADER;
        os::read_at(pool.segment().as_fd(), into, at as u64).map_err(Error::io(ACTION))
    }

    /// Copies all elements out as values that can be printed, as [`DynFrame::copy_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`DynFrame::copy_bytes`].
    pub fn values(&self) -> Result<ArrayD<Scalar>> {
        scalars(self.dtype(), self.shape(), self.order(), &self.copy_bytes()?)
            .map_err(|error| Error::Corrupt { what: "a frame".into(), reason: error.to_string() })
    }

    /// The block it lies in.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Gives the block out, with the header as its first [`FRAME_HEADER`] bytes.
    pub fn into_block(self) -> Block {
        self.block
    }
}

impl fmt::Debug for DynFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynFrame")
            .field("block", &self.block.index())
            .field("dtype", &self.dtype())
            .field("shape", &self.shape())
            .field("order", &self.order())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}
