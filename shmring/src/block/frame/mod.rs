//! [`Frame`]: a block that says what is in it.
//!
//! `FRAME.md` beside this folder has the layout.

mod dynamic;
mod header;
#[cfg(all(test, not(shmring_loom)))]
mod lies;
mod loan;
mod message;
#[cfg(all(test, not(shmring_loom)))]
mod tests;

use std::{
    fmt,
    marker::PhantomData,
    time::{Duration, SystemTime},
};

use ndarray::{Array, ArrayView, Dimension, IntoDimension, IxDyn};

use self::header::Header;
pub(super) use self::loan::Wanted;
pub use self::{
    dynamic::DynFrame,
    header::{FRAME_HEADER, FrameError, MAX_FRAME_RANK},
    loan::FrameLoan,
};
use super::{Block, Stale};
use crate::{
    array::{Dtype, Element, Order, expected, fits, layout},
    error::{Error, Result},
};

/// A block that carries its element type, its shape, its order, a number and a time: it opens as
/// an array without being told what it is.
///
/// It comes from [`BlockPool::loan_frame`](super::BlockPool::loan_frame), and travels as a
/// [`Block`] does. Whoever receives it says what it expects (`Frame<f32, Ix2>`), and a message that
/// brings another type or rank is an error that names both; [`DynFrame`] takes all. On its way it
/// is nothing but its block, so a receiver of blocks gets it too.
///
/// ```
/// use ndarray::Ix2;
/// use shmring::{block::{BlockPool, Frame}, ring::{port, records::Records}};
///
/// let len = Frame::<f32, _>::len_in_block((480, 640))?;
/// let pool = BlockPool::options().blocks(4).block_len(len).anonymous()?;
/// let ring = Records::options().create_in(pool.segment())?;
/// let (mut tx, mut rx) = port::ends::<Frame<f32, Ix2>>(&ring)?;
///
/// let mut loan = pool.loan_frame::<f32, _>((480, 640))?;
/// loan.array_mut().fill(0.5);
/// loan.set_sequence(7);
/// tx.send(loan.freeze()).map_err(|error| error.to_string())?;
///
/// let frame = rx.recv()?;
/// assert_eq!(frame.view()?[[479, 639]], 0.5);
/// assert_eq!((frame.sequence(), frame.shape()), (7, &[480, 640][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Frame<T, D = IxDyn> {
    frame: DynFrame,
    dim: D,
    elements: PhantomData<fn() -> T>,
}

impl<T: Element, D: Dimension> Frame<T, D> {
    /// Takes a block for a frame of `T` with dimensions `D`.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn open(block: Block) -> Result<Frame<T, D>, FrameError> {
        Frame::typed(DynFrame::open(block)?)
    }

    fn typed(frame: DynFrame) -> Result<Frame<T, D>, FrameError> {
        match fits::<T, D>(frame.dtype(), frame.shape()) {
            Some(dim) => Ok(Frame { frame, dim, elements: PhantomData }),
            None => Err(FrameError::WrongType {
                found: frame.header.to_string(),
                expected: expected::<T, D>(),
            }),
        }
    }

    /// How many bytes of a block a frame of this shape takes.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`] for more than [`MAX_FRAME_RANK`] dimensions, or more bytes than an
    /// address space holds.
    pub fn len_in_block(shape: impl IntoDimension<Dim = D>) -> Result<usize> {
        let header = Header::new(T::DTYPE, Order::C, shape.into_dimension().slice());
        let header = header.map_err(|error| Error::BadParameters {
            action: "describe a frame".into(),
            reason: error.to_string(),
        })?;
        Ok(header.len_in_block())
    }

    /// The elements, in place.
    ///
    /// # Errors
    ///
    /// [`Stale`], only in a forked child whose parent let go of the frame before the child first
    /// used it.
    pub fn view(&self) -> Result<ArrayView<'_, T, D>, Stale> {
        let elements = bytemuck::try_cast_slice(self.frame.bytes()?);
        let view =
            elements.ok().and_then(|elements| ArrayView::from_shape(self.layout(), elements).ok());
        // The bytes begin on a multiple of 64, and are as many as the checked shape says.
        Ok(view.unwrap_or_else(|| unreachable!("it was checked when it was opened")))
    }

    /// Copies the elements out. Sound also when a process writes to the block although it may not:
    /// then the copy may be a mixture of old and new. [`Frame::to_array`] is quicker among
    /// processes that keep the rules.
    ///
    /// # Errors
    ///
    /// As [`DynFrame::copy_bytes`].
    pub fn copy_out(&self) -> Result<Array<T, D>> {
        let mut values = vec![T::zeroed(); self.len()];
        self.frame.copy_into(bytemuck::cast_slice_mut(&mut values))?;
        let array = Array::from_shape_vec(self.layout(), values).ok();
        Ok(array.unwrap_or_else(|| unreachable!("there are as many as the shape says")))
    }

    /// Copies the elements into an array of this process.
    ///
    /// # Errors
    ///
    /// As [`Frame::view`].
    pub fn to_array(&self) -> Result<Array<T, D>, Stale> {
        self.view().map(|view| view.to_owned())
    }

    fn layout(&self) -> ndarray::StrideShape<D> {
        layout(&self.dim, self.order())
    }
}

impl<T, D: Dimension> Frame<T, D> {
    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.dim.slice()
    }

    /// The shape in ndarray's type.
    pub fn raw_dim(&self) -> D {
        self.dim.clone()
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.dim.ndim()
    }
}

impl<T, D> Frame<T, D> {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.frame.dtype()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }

    /// The length of all elements, in bytes.
    pub fn nbytes(&self) -> usize {
        self.frame.nbytes()
    }

    /// How the elements lie in memory.
    pub fn order(&self) -> Order {
        self.frame.order()
    }

    /// The number that its maker gave it: 0 unless [`FrameLoan::set_sequence`] said otherwise.
    pub fn sequence(&self) -> u64 {
        self.frame.sequence()
    }

    /// The time that its maker gave it, or else when it was frozen, by the clock on the wall.
    pub fn time(&self) -> SystemTime {
        self.frame.time()
    }

    /// The same in nanoseconds since 1970, as numpy's `datetime64[ns]` has it.
    pub fn time_ns(&self) -> i64 {
        self.frame.time_ns()
    }

    /// How long ago it was frozen, in whatever process of this machine. It does not depend on the
    /// clock on the wall, which may have been set meanwhile.
    pub fn age(&self) -> Duration {
        self.frame.age()
    }

    /// The block it lies in.
    pub fn block(&self) -> &Block {
        self.frame.block()
    }

    /// Gives the block out, with the header as its first [`FRAME_HEADER`] bytes.
    pub fn into_block(self) -> Block {
        self.frame.into_block()
    }

    /// The same frame, for whoever does not care for its type.
    pub fn into_dyn(self) -> DynFrame {
        self.frame
    }
}

impl<T, D: Clone> Clone for Frame<T, D> {
    /// Costs nothing in shared memory, as for a [`Block`].
    fn clone(&self) -> Frame<T, D> {
        Frame { frame: self.frame.clone(), dim: self.dim.clone(), elements: PhantomData }
    }
}

impl<T, D> fmt::Debug for Frame<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.frame, f)
    }
}
