//! The doorbell of one participant. README.md beside this file has the argument.

#[cfg(not(shmring_loom))]
use std::{thread, time::Duration};

#[cfg(not(shmring_loom))]
use crate::os;
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
/// Who rings fences before it believes that nobody sleeps.
const FENCED: u32 = 4;
/// There has been a barrier since `FENCED` was set and since the last doubt.
const KNOWN: u32 = 8;
/// This process cannot call the barrier.
const ALWAYS: u32 = 16;
/// All that keeps a ringer from the quick path.
const FLAGS: u32 = FUTEX | BELL | FENCED | KNOWN | ALWAYS;
/// One doubt; they fill the word up from here.
const DOUBT: u32 = 1 << 8;

/// Whether a ringer may believe, without a fence, that there is nobody to wake.
#[inline]
pub(crate) fn is_quiet(armed: u32) -> bool {
    armed & FLAGS == 0
}

/// `armed` after *known* has become doubtful.
fn doubted(armed: u32) -> u32 {
    armed.wrapping_add(DOUBT) & !KNOWN
}

/// `armed` after ringers have fenced in vain for long; `None` when they must go on.
fn relaxed(armed: u32) -> Option<u32> {
    (armed & FLAGS == FENCED | KNOWN).then(|| armed.wrapping_add(DOUBT) & !FLAGS)
}

/// `armed` after a barrier that began when it was `then`; `None` when that proves nothing.
fn after_barrier(armed: u32, then: u32) -> Option<u32> {
    (armed / DOUBT == then / DOUBT).then_some(armed | KNOWN)
}

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
        let then = self.armed().fetch_or(how | FENCED, Ordering::AcqRel);
        // SYNC asleep: pairs with the fence in `published`; one of the two sees the other.
        fence(Ordering::SeqCst);
        if then & KNOWN == 0 {
            self.make_known(then);
        }
        epoch
    }

    /// Fences in the threads of all ringers, after which they see what `armed` says now.
    #[cold]
    fn make_known(&self, then: u32) {
        #[cfg(not(shmring_loom))]
        if !os::barrier() {
            // Nothing keeps a store from others for so long.
            thread::sleep(Duration::from_millis(1));
            self.armed().fetch_or(ALWAYS, Ordering::Relaxed);
        }
        self.update(|armed| after_barrier(armed, then));
    }

    /// This process has taken a role: who rings its holder may not have seen that yet.
    pub(crate) fn doubt(&self) {
        self.update(|armed| Some(doubted(armed)));
    }

    /// Has no more ringers fence, until somebody sleeps again: they have for long, and in vain.
    pub(crate) fn relax(&self) {
        let armed = self.armed().load(Ordering::Relaxed);
        if let Some(quiet) = relaxed(armed) {
            // If it is another by now, somebody is about to sleep.
            let _ =
                self.armed().compare_exchange(armed, quiet, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn update(&self, to: impl FnMut(u32) -> Option<u32>) {
        let (acq_rel, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.armed().fetch_update(acq_rel, relaxed, to);
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
        self.armed().load(Ordering::Relaxed) & (FUTEX | BELL) != 0
    }

    /// Steps R4 and R5: who must be woken, as bits.
    pub(crate) fn take_armed(&self, object: u32) -> u32 {
        fault!("doorbell.armed");
        self.pending().fetch_or(1 << (object % 64), Ordering::Relaxed);
        let how = self.armed().fetch_and(!(FUTEX | BELL), Ordering::AcqRel) & (FUTEX | BELL);
        fault!("doorbell.swapped");
        if how & FUTEX != 0 {
            self.epoch().fetch_add(1, Ordering::Release);
        }
        how
    }

    /// A sleeper whose flag was taken could not be woken: whoever rings next tries again.
    pub(crate) fn put_back(&self, how: u32) {
        // So that who looks by itself meanwhile sees that it was rung for.
        self.epoch().fetch_add(1, Ordering::Release);
        self.armed().fetch_or(how, Ordering::AcqRel);
    }

    /// Which objects have rung since the last call: a hint.
    pub(crate) fn take_pending(&self) -> u64 {
        self.pending().swap(0, Ordering::Acquire)
    }
}

#[cfg(all(test, not(shmring_loom)))]
#[path = "fences_model.rs"]
mod fences_model;
