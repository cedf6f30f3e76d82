//! Loaning a block of the class that fits.

use std::time::Duration;

use ndarray::IntoDimension;

use super::{
    super::{BlockPool, FrameLoan, Loan, LoanError, frame::Wanted, loaning::wait_for_block},
    BlockPools,
};
use crate::{array::Element, sync::Ordering};

impl BlockPools {
    /// Loans a block of at least `len` bytes, if one is free now. [`Loan::set_len`] is done: its
    /// readers will see `len` bytes.
    ///
    /// When none of a class is free, holders that died are looked for, at most a hundred times a
    /// second.
    ///
    /// # Errors
    ///
    /// [`LoanError::Exhausted`], which says what was tried; [`LoanError::TooLarge`];
    /// [`LoanError::NoPlace`].
    pub fn try_loan(&self, len: usize) -> Result<Loan, LoanError> {
        let candidates = self.candidates(len)?;
        let me = candidates.me()?;
        let found = candidates.find(|pool| pool.look(me));
        let (blocks, smallest, largest) = candidates.extent();
        candidates.count(found, LoanError::Exhausted { blocks, smallest, largest })
    }

    /// The same, waiting for a block as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LoanError::TooLarge`]; [`LoanError::NoPlace`].
    pub fn loan(&self, len: usize) -> Result<Loan, LoanError> {
        self.loan_within(len, None)
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// [`LoanError::TimedOut`]; [`LoanError::TooLarge`]; [`LoanError::NoPlace`].
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan, LoanError> {
        self.loan_within(len, Some(timeout))
    }

    fn loan_within(&self, len: usize, timeout: Option<Duration>) -> Result<Loan, LoanError> {
        let candidates = self.candidates(len)?;
        let me = candidates.me()?;
        // All classes lie in one segment, so whoever frees a block of any of them rings our bell.
        let glance = || candidates.find(|pool| pool.glance(me));
        let look = || candidates.find(|pool| pool.look_or_be_woken(me));
        let found = wait_for_block(self.segment(), timeout, glance, look);
        let (blocks, smallest, largest) = candidates.extent();
        candidates.count(found, LoanError::TimedOut { blocks, smallest, largest })
    }

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
        let loan = self.loan(wanted.len_in_block())?;
        Ok(wanted.place(loan))
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// [`LoanError::TimedOut`], and those of [`BlockPools::loan_frame`].
    pub fn loan_frame_timeout<T: Element, S: IntoDimension>(
        &self,
        shape: S,
        timeout: Duration,
    ) -> Result<FrameLoan<T, S::Dim>, LoanError> {
        let wanted = Wanted::new(shape.into_dimension(), self.block_len())?;
        let loan = self.loan_timeout(wanted.len_in_block(), timeout)?;
        Ok(wanted.place(loan))
    }

    /// Loans a block for an array of `T` of this shape, if one is free now.
    ///
    /// # Errors
    ///
    /// [`LoanError::Exhausted`], and those of [`BlockPools::loan_frame`].
    pub fn try_loan_frame<T: Element, S: IntoDimension>(
        &self,
        shape: S,
    ) -> Result<FrameLoan<T, S::Dim>, LoanError> {
        let wanted = Wanted::new(shape.into_dimension(), self.block_len())?;
        let loan = self.try_loan(wanted.len_in_block())?;
        Ok(wanted.place(loan))
    }

    fn candidates(&self, len: usize) -> Result<Candidates<'_>, LoanError> {
        let all = self.classes();
        let lengths = all.iter().map(BlockPool::block_len);
        let range = candidates(lengths, self.spill(), len)
            .ok_or(LoanError::TooLarge { needed: len, limit: self.block_len() })?;
        Ok(Candidates { set: self, first: range.start, pools: &all[range], len })
    }
}

/// Which classes a loan may come from: the first that fits, and those it may go up to. `lengths`
/// ascend.
pub(super) fn candidates(
    lengths: impl ExactSizeIterator<Item = usize>,
    spill: usize,
    len: usize,
) -> Option<std::ops::Range<usize>> {
    let classes = lengths.len();
    let first = lengths.take_while(|length| *length < len).count();
    (first < classes).then(|| first..first.saturating_add(spill).saturating_add(1).min(classes))
}

/// The classes of which one loan may come.
struct Candidates<'a> {
    set: &'a BlockPools,
    /// Which class the first of `pools` is.
    first: usize,
    pools: &'a [BlockPool],
    len: usize,
}

impl Candidates<'_> {
    fn me(&self) -> Result<usize, LoanError> {
        // They lie in one segment, where this process is the same participant.
        self.pools[0].me()
    }

    fn find(&self, look: impl Fn(&BlockPool) -> Option<Loan>) -> Option<Loan> {
        self.pools.iter().find_map(look)
    }

    /// How many blocks there are in all of them, and their shortest and longest length.
    fn extent(&self) -> (usize, usize, usize) {
        let blocks = self.pools.iter().map(BlockPool::capacity).sum();
        let length = |pool: Option<&BlockPool>| pool.map_or(0, BlockPool::block_len);
        (blocks, length(self.pools.first()), length(self.pools.last()))
    }

    fn count(&self, found: Option<Loan>, error: LoanError) -> Result<Loan, LoanError> {
        let Some(mut loan) = found else {
            self.set.refused(self.first).fetch_add(1, Ordering::Relaxed);
            return Err(error);
        };
        if loan.len() != self.pools[0].block_len() {
            self.set.spilled(self.first).fetch_add(1, Ordering::Relaxed);
        }
        loan.set_len(self.len);
        Ok(loan)
    }
}
