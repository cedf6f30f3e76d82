//! Who of this process sleeps on its bell.

use super::doorbell::{BELL, Doorbell};
use crate::{segment::Segment, sync::local};

/// Nobody of this process sleeps on its bell.
const BELL_FREE: u64 = 0;
/// A thread sleeps on it.
const BELL_SLEPT_ON: u64 = 1;
/// It stands in somebody's poll, for good: everybody else sleeps on the futex.
const BELL_GIVEN_OUT: u64 = 2;

/// The right of one thread to sleep on the bell: one reader's clearing would hide it from another.
pub(super) struct BellGuard<'a>(&'a local::AtomicU64);

impl<'a> BellGuard<'a> {
    pub(super) fn take(taken: &'a local::AtomicU64) -> Option<BellGuard<'a>> {
        let (acquire, relaxed) = (local::Ordering::Acquire, local::Ordering::Relaxed);
        let free = taken.compare_exchange(BELL_FREE, BELL_SLEPT_ON, acquire, relaxed);
        // A guard is made only for the one who has it: dropping it lets go.
        free.is_ok().then(|| BellGuard(taken))
    }

    /// Whether the bell has not been given out meanwhile: then what it says is for others.
    pub(super) fn holds(&self) -> bool {
        self.0.load(local::Ordering::Relaxed) == BELL_SLEPT_ON
    }
}

impl Drop for BellGuard<'_> {
    fn drop(&mut self) {
        let (release, relaxed) = (local::Ordering::Release, local::Ordering::Relaxed);
        let _ = self.0.compare_exchange(BELL_SLEPT_ON, BELL_FREE, release, relaxed);
    }
}

impl Segment {
    /// Asks to be woken by [`Segment::bell`], once. Tells whether the bell was quiet: false means
    /// that something has rung since the last call, so that one should look at all rings first.
    ///
    /// Before a poll: call it, look at all rings of this segment, and sleep only if it was quiet
    /// and there was nothing.
    pub fn arm(&self) -> bool {
        // Steps S2 to S4 for a sleeper that polls the bell by itself.
        let Ok(me) = self.me() else { return false };
        let inner = &*self.0;
        inner.bell_taken.store(BELL_GIVEN_OUT, local::Ordering::Release);
        let number = inner.participants().bell(me.index());
        let rang = number.is_some_and(|number| inner.bells.clear(number));
        Doorbell::at(&inner.region, inner.layout.participant(me.index())).arm(BELL);
        !rang
    }
}

/// Takes the bell of this process out of use by sleepers; gives its number, if there is one.
#[cfg(any(feature = "stream", feature = "tokio"))]
pub(crate) fn give_out_bell(segment: &Segment) -> Option<u32> {
    let number = segment.bell_number()?;
    segment.0.bells.fd(number)?;
    segment.0.bell_taken.store(BELL_GIVEN_OUT, local::Ordering::Release);
    Some(number)
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_sleeps_on_the_bell() {
        let taken = local::AtomicU64::new(BELL_FREE);
        let first = BellGuard::take(&taken).unwrap();
        for _ in 0..2 {
            assert!(BellGuard::take(&taken).is_none());
        }
        assert!(first.holds());
        drop(first);
        assert!(BellGuard::take(&taken).is_some());
    }
}
