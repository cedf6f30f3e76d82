//! A frame that is being filled.

use std::{
    fmt,
    marker::PhantomData,
    time::{Duration, SystemTime},
};

use ndarray::{ArrayViewMut, Dimension, IntoDimension, IxDyn};

use super::{
    super::{BlockPool, Loan, LoanError},
    DynFrame, Frame,
    header::{FRAME_HEADER, FrameError, Header},
};
use crate::{
    array::{Element, Order, layout},
    fault::fault,
    os,
};

/// A frame of which this process has sole use, to fill it. Dropping it gives the block back.
///
/// What its elements are is not specified: whatever the last user of the block left.
pub struct FrameLoan<T, D = IxDyn> {
    loan: Loan,
    dim: D,
    header: Header,
    /// Nanoseconds since the epoch; that of freezing when nobody says.
    time: Option<i64>,
    elements: PhantomData<fn() -> T>,
}

/// The frame that shall be loaned, before there is a block for it.
pub(in crate::block) struct Wanted<T, D> {
    dim: D,
    header: Header,
    elements: PhantomData<fn() -> T>,
}

impl<T: Element, D: Dimension> Wanted<T, D> {
    /// In a block of at most `limit` bytes.
    pub(in crate::block) fn new(dim: D, limit: usize) -> Result<Wanted<T, D>, LoanError> {
        let too_large = |needed| LoanError::TooLarge { needed, limit };
        let header = Header::new(T::DTYPE, Order::C, dim.slice()).map_err(|error| match error {
            FrameError::Rank(rank) => LoanError::TooManyDimensions { rank },
            _ => too_large(usize::MAX),
        })?;
        match header.len_in_block() {
            needed if needed > limit => Err(too_large(needed)),
            _ => Ok(Wanted { dim, header, elements: PhantomData }),
        }
    }

    pub(in crate::block) fn len_in_block(&self) -> usize {
        self.header.len_in_block()
    }

    /// The loan has room for it: that was checked against what its pool has.
    pub(in crate::block) fn place(self, mut loan: Loan) -> FrameLoan<T, D> {
        loan.set_len(self.header.len_in_block());
        FrameLoan { loan, dim: self.dim, header: self.header, time: None, elements: PhantomData }
    }
}

impl BlockPool {
    /// Loans a block for an array of `T` of this shape, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LoanError::TooLarge`], [`LoanError::TooManyDimensions`], [`LoanError::NoPlace`].
    pub fn loan_frame<T: Element, S: IntoDimension>(
        &self,
        shape: S,
    ) -> Result<FrameLoan<T, S::Dim>, LoanError> {
        let wanted = Wanted::new(shape.into_dimension(), self.block_len())?;
        Ok(wanted.place(self.loan()?))
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// [`LoanError::TimedOut`], and those of [`BlockPool::loan_frame`].
    pub fn loan_frame_timeout<T: Element, S: IntoDimension>(
        &self,
        shape: S,
        timeout: Duration,
    ) -> Result<FrameLoan<T, S::Dim>, LoanError> {
        let wanted = Wanted::new(shape.into_dimension(), self.block_len())?;
        Ok(wanted.place(self.loan_timeout(timeout)?))
    }

    /// Loans a block for an array of `T` of this shape, if one is free now.
    ///
    /// # Errors
    ///
    /// [`LoanError::Exhausted`], and those of [`BlockPool::loan_frame`].
    pub fn try_loan_frame<T: Element, S: IntoDimension>(
        &self,
        shape: S,
    ) -> Result<FrameLoan<T, S::Dim>, LoanError> {
        let wanted = Wanted::new(shape.into_dimension(), self.block_len())?;
        Ok(wanted.place(self.try_loan()?))
    }
}

impl<T: Element, D: Dimension> FrameLoan<T, D> {
    /// Lays the elements out in this order, instead of C's. Say so before filling it: elements
    /// that were written keep their places in memory, not their indices.
    pub fn with_order(mut self, order: Order) -> Self {
        self.header.order = order;
        self
    }

    /// The elements to fill.
    ///
    /// # Panics
    ///
    /// In a forked child: the loan is its parent's.
    pub fn array_mut(&mut self) -> ArrayViewMut<'_, T, D> {
        let (shape, range) = (layout(&self.dim, self.order()), FRAME_HEADER..self.loan.len());
        let bytes = &mut self.loan.as_bytes_mut()[range];
        let elements = bytemuck::try_cast_slice_mut(bytes).ok();
        // They begin on a multiple of 64, and are as many as the shape says.
        elements
            .and_then(|elements| ArrayViewMut::from_shape(shape, elements).ok())
            .unwrap_or_else(|| unreachable!("it was checked when it was loaned"))
    }

    /// Gives it a number. Default 0.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.header.sequence = sequence;
    }

    /// Gives it a time, as of when the picture was taken. Default is when it is frozen. Years from
    /// 1678 to 2261 are possible; what lies beyond becomes the nearest of them.
    pub fn set_time(&mut self, time: SystemTime) {
        self.set_time_ns(nanoseconds(time));
    }

    /// The same in nanoseconds since 1970.
    pub fn set_time_ns(&mut self, time: i64) {
        self.time = Some(time);
    }

    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.dim.slice()
    }

    /// How the elements lie in memory.
    pub fn order(&self) -> Order {
        self.header.order
    }

    /// Ends the filling: from now on it can only be read.
    ///
    /// # Panics
    ///
    /// As [`FrameLoan::array_mut`].
    pub fn freeze(mut self) -> Frame<T, D> {
        self.header.time = self.time.unwrap_or_else(|| nanoseconds(SystemTime::now()));
        self.header.frozen = os::monotonic();
        let header = self.header.write();
        self.loan.as_bytes_mut()[..FRAME_HEADER].copy_from_slice(&header);
        fault!("block.frame.header");
        let frame = DynFrame::new(self.loan.freeze(), self.header);
        Frame { frame, dim: self.dim, elements: PhantomData }
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |before| -before)
        }
    }
}

impl<T, D: Dimension> fmt::Debug for FrameLoan<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameLoan")
            .field("loan", &self.loan)
            .field("dtype", &self.header.dtype)
            .field("shape", &self.dim.slice())
            .finish_non_exhaustive()
    }
}
