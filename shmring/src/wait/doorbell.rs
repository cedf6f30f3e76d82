//! The doorbell of one participant. README.md beside this file has the argument.

use crate::{
    fault::fault,
    layout,
    region::Region,
    sync::{AtomicU32, AtomicU64, Ordering, fence},
};

/// The sleeper is on the futex, or about to be.
pub(crate) const FUTEX: u32 = 1;
/// The sleeper is in a poll on its bell, or about to be.
pub(crate) const BELL: u32 = 2;

/// Step R2: whatever is read after this shows who went to sleep without seeing what was published
/// before it.
#[inline]
pub(crate) fn published() {
    // SYNC asleep: pairs with the fence in `Doorbell::arm`.
    fence(Ordering::SeqCst);
}

/// A doorbell: the words in a participant's entry that wake its process.
#[derive(Clone, Copy)]
pub(crate) struct Doorbell<'a> {
    region: &'a Region,
    entry: usize,
}

impl<'a> Doorbell<'a> {
    /// The doorbell of the participant whose entry begins at `entry`.
    #[inline]
    pub(crate) fn at(region: &'a Region, entry: usize) -> Doorbell<'a> {
        Doorbell { region, entry }
    }

    #[inline]
    fn armed(&self) -> &'a AtomicU32 {
        self.region.u32(self.entry + layout::ARMED)
    }

    pub(crate) fn epoch(&self) -> &'a AtomicU32 {
        self.region.u32(self.entry + layout::EPOCH)
    }

    fn pending(&self) -> &'a AtomicU64 {
        self.region.u64(self.entry + layout::PENDING)
    }

    /// Steps S2 to S4: says that we are about to sleep. The caller looks again before it does.
    /// Gives the epoch to sleep on.
    pub(crate) fn arm(&self, how: u32) -> u32 {
        let epoch = self.epoch().load(Ordering::Acquire);
        self.armed().fetch_or(how, Ordering::Relaxed);
        // SYNC asleep: pairs with the fence in `ring`; one of the two sees the other.
        fence(Ordering::SeqCst);
        epoch
    }

    /// Whether nobody has rung since `arm(how)` gave this epoch. Another thread of this process can
    /// make it seem so by arming again.
    pub(crate) fn is_untouched(&self, how: u32, epoch: u32) -> bool {
        self.is_armed_for(how) && self.epoch().load(Ordering::Relaxed) == epoch
    }

    /// Whether nobody has taken the flag off.
    pub(crate) fn is_armed_for(&self, how: u32) -> bool {
        self.armed().load(Ordering::Relaxed) & how == how
    }

    /// Step R3, after R2.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed().load(Ordering::Relaxed) != 0
    }

    /// Steps R4 and R5: who must be woken, as bits.
    pub(crate) fn take_armed(&self, object: u32) -> u32 {
        fault!("doorbell.armed");
        self.pending().fetch_or(1 << (object % 64), Ordering::Relaxed);
        let how = self.armed().swap(0, Ordering::AcqRel);
        fault!("doorbell.swapped");
        if how & FUTEX != 0 {
            self.epoch().fetch_add(1, Ordering::Release);
        }
        how
    }

    /// Which objects have rung since the last call: a hint.
    pub(crate) fn take_pending(&self) -> u64 {
        self.pending().swap(0, Ordering::Acquire)
    }
}
