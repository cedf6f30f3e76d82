//! Loaning a block: at once, or waiting until one is free.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{BlockPool, LoanError, carrier, geometry::WAITING, loan::Loan, word::Handle};
use crate::{
    segment::Segment,
    sync::{Ordering, local},
    wait::{self, Ended, WaitStrategy, Waiter},
};

/// How often an exhausted pool looks for holders that died.
const REPAIR_EVERY: Duration = Duration::from_millis(10);

impl BlockPool {
    /// Loans a block, if one is free now: the one that was freed last, which is still in a cache.
    /// Where all of them fit into the cache of a processor, they are loaned by turns.
    ///
    /// When none is, holders that died are looked for, at most a hundred times a second.
    ///
    /// # Errors
    ///
    /// [`LoanError::Exhausted`]; [`LoanError::NoPlace`].
    #[inline]
    pub fn try_loan(&self) -> Result<Loan, LoanError> {
        let me = self.me()?;
        self.look(me).ok_or_else(|| self.exhausted())
    }

    #[inline]
    pub(super) fn look(&self, me: usize) -> Option<Loan> {
        let found = self.loan_free(me).or_else(|| self.look_again(me))?;
        Some(Loan::new(self, me, found))
    }

    /// The same without looking for the dead.
    #[inline]
    pub(super) fn glance(&self, me: usize) -> Option<Loan> {
        self.loan_free(me).map(|found| Loan::new(self, me, found))
    }

    /// The same; when none is free, whoever frees one will wake participant `me`.
    pub(super) fn look_or_be_woken(&self, me: usize) -> Option<Loan> {
        let found = self.loan_free(me).or_else(|| {
            // SYNC freed: our bit is set before we look again, the word is changed before
            // `wake` looks for bits; all sequentially consistent, so one sees the other.
            let (at, bit) = self.waiting(me);
            let waiting = self.region().u64(at);
            if waiting.load(Ordering::SeqCst) & bit == 0 {
                waiting.fetch_or(bit, Ordering::SeqCst);
            }
            self.loan_free(me).or_else(|| self.look_again(me))
        })?;
        Some(Loan::new(self, me, found))
    }

    /// Loans a block, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LoanError::NoPlace`].
    pub fn loan(&self) -> Result<Loan, LoanError> {
        self.loan_within(None)
    }

    /// The same with a bound.
    ///
    /// # Errors
    ///
    /// [`LoanError::TimedOut`]; [`LoanError::NoPlace`].
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan, LoanError> {
        self.loan_within(Some(timeout))
    }

    fn loan_within(&self, timeout: Option<Duration>) -> Result<Loan, LoanError> {
        let me = self.me()?;
        let glance = || self.glance(me);
        let look = || self.look_or_be_woken(me);
        wait_for_block(self.segment(), timeout, glance, look).ok_or_else(|| {
            let block_len = self.block_len();
            LoanError::TimedOut { blocks: self.capacity(), smallest: block_len, largest: block_len }
        })
    }

    /// Loans a free block to participant `me`.
    #[inline]
    fn loan_free(&self, me: usize) -> Option<Handle> {
        let Some(turn) = self.turn() else { return self.words().loan(me) };
        // What was freed longest ago is in nobody's hands any more: to write it keeps up nobody who
        // still reads what was sent after it.
        let block = turn.load(local::Ordering::Relaxed) as usize % self.capacity();
        let words = self.words();
        let found = words.loan_this(block as u32, me).or_else(|| words.loan(me))?;
        turn.store(u64::from(found.block) + 1, local::Ordering::Relaxed);
        Some(found)
    }

    /// Looks for holders that died, now and then, and then for a free block.
    #[cold]
    fn look_again(&self, me: usize) -> Option<Handle> {
        let mut repaired = self.last_repair().lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if repaired.is_some_and(|last| now.duration_since(last) < REPAIR_EVERY) {
            return None;
        }
        *repaired = Some(now);
        drop(repaired);
        self.repair();
        self.loan_free(me)
    }

    /// Gives back what processes that died had held. Done without being asked when the pool is
    /// exhausted.
    pub fn repair(&self) {
        self.segment().repair();
        let _ = self.segment().exclusively(|| carrier::repair_posts(self));
    }

    fn exhausted(&self) -> LoanError {
        let block_len = self.block_len();
        LoanError::Exhausted { blocks: self.capacity(), smallest: block_len, largest: block_len }
    }

    #[inline]
    pub(super) fn me(&self) -> Result<usize, LoanError> {
        self.segment().me().map(|id| id.index()).map_err(|_| LoanError::NoPlace)
    }

    fn waiting(&self, participant: usize) -> (usize, u64) {
        (self.geometry().base + WAITING + participant / 64 * 8, 1 << (participant % 64))
    }

    /// Wakes who waits for a block, after one became free.
    #[inline]
    pub(super) fn wake(&self) {
        for first in (0..self.geometry().participants).step_by(64) {
            let (at, _) = self.waiting(first);
            // SYNC freed: see `look_or_be_woken`.
            if self.region().u64(at).load(Ordering::SeqCst) != 0 {
                self.wake_some(first, at);
            }
        }
    }

    #[cold]
    fn wake_some(&self, first: usize, at: usize) {
        let bits = self.region().u64(at).swap(0, Ordering::SeqCst);
        let waits = |index: usize| {
            index.checked_sub(first).is_some_and(|at| at < 64 && bits & 1 << at != 0)
        };
        for (id, ..) in self.segment().0.participants().attached() {
            if waits(id.index()) {
                wait::ring(self.segment(), id, self.object());
            }
        }
    }
}

/// Waits for what `glance` gives while it spins, and `look` after that; `None` at the deadline.
pub(super) fn wait_for_block(
    segment: &Segment,
    timeout: Option<Duration>,
    mut glance: impl FnMut() -> Option<Loan>,
    look: impl FnMut() -> Option<Loan>,
) -> Option<Loan> {
    let waiter = Waiter::new(WaitStrategy::Adaptive);
    let mut found = None;
    waiter.spin(|| {
        found = glance();
        found.is_some()
    });
    if found.is_some() {
        return found;
    }
    // Whoever will free a block is nobody in particular.
    match waiter.wait(segment, timeout, look, || None) {
        Ended::Done(loan) => Some(loan),
        Ended::TimedOut | Ended::PeerDied(_) => None,
    }
}
