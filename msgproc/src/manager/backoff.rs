//! How long a restart waits.

use std::time::Duration;

/// How long a restart waits, and how that grows with each restart within the window of the
/// [`Policy`](super::Policy).
///
/// ```
/// use std::time::Duration;
/// use msgproc::manager::{Backoff, Policy};
///
/// // 100 ms, 200 ms, 400 ms … up to 5 s, each up to a quarter shorter.
/// let backoff = Backoff::exponential(Duration::from_millis(100))
///     .cap(Duration::from_secs(5))
///     .jitter(0.25);
/// let policy = Policy::permanent().backoff(backoff);
/// // Always the same pause.
/// let policy = Policy::permanent().backoff(Duration::from_millis(200));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use]
pub struct Backoff {
    first: Duration,
    factor: f64,
    cap: Duration,
    jitter: f64,
}

impl Backoff {
    /// Always this pause.
    pub fn fixed(pause: Duration) -> Backoff {
        Backoff { first: pause, factor: 1.0, cap: Duration::MAX, jitter: 0.0 }
    }

    /// This pause at first, then twice the one before, up to 30 seconds.
    pub fn exponential(first: Duration) -> Backoff {
        Backoff { factor: 2.0, cap: Duration::from_secs(30), ..Backoff::fixed(first) }
    }

    /// By what each pause is longer than the one before. One below 1, or that is no number, is 1.
    pub fn factor(mut self, factor: f64) -> Backoff {
        self.factor = if factor > 1.0 { factor } else { 1.0 };
        self
    }

    /// No pause is longer than this.
    pub fn cap(mut self, longest: Duration) -> Backoff {
        self.cap = longest;
        self
    }

    /// By which part of it a pause may be shorter, at random, from 0 to 1: so those that ended
    /// together do not come back together.
    pub fn jitter(mut self, part: f64) -> Backoff {
        self.jitter = if part > 0.0 { part.min(1.0) } else { 0.0 };
        self
    }

    /// The pause after so many restarts; `chance` from 0 to 1 decides within the jitter.
    pub(super) fn pause(&self, restarts: usize, chance: f64) -> Duration {
        let power = i32::try_from(restarts).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(power);
        // What is longer than all time is cut to the cap too.
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.cap);
        if self.jitter == 0.0 {
            return pause;
        }
        pause.mul_f64(1.0 - self.jitter * chance.clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    /// No pause.
    fn default() -> Backoff {
        Backoff::fixed(Duration::ZERO)
    }
}

impl From<Duration> for Backoff {
    fn from(pause: Duration) -> Backoff {
        Backoff::fixed(pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn grows_up_to_its_cap() {
        let backoff = Backoff::exponential(ms(100)).factor(3.0).cap(ms(1000));
        let pauses: Vec<_> = (0..5).map(|restarts| backoff.pause(restarts, 0.5)).collect();
        assert_eq!(pauses, [ms(100), ms(300), ms(900), ms(1000), ms(1000)]);
        assert_eq!(backoff.pause(usize::MAX, 0.0), ms(1000));
        assert_eq!(Backoff::from(ms(7)).pause(100, 1.0), ms(7));
        assert_eq!(Backoff::default().pause(100, 1.0), Duration::ZERO);
    }

    #[test]
    fn jitter_makes_it_shorter_only() {
        let backoff = Backoff::exponential(ms(100)).jitter(0.25);
        let pauses = [0.0, 0.5, 1.0].map(|chance| backoff.pause(1, chance));
        assert_eq!(pauses, [ms(200), ms(175), ms(150)]);
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let backoff = Backoff::exponential(ms(100)).factor(f64::NAN).jitter(f64::NAN);
        assert_eq!(backoff.pause(9, f64::NAN), ms(100));
        assert_eq!(backoff.factor(-5.0).jitter(7.0).pause(9, 1.0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn is_never_longer_than_its_cap(
            first in 0u64..100_000, factor in -1.0f64..1e9, cap in 0u64..100_000,
            jitter in -1.0f64..2.0, restarts: usize, chance in 0.0f64..=1.0,
        ) {
            let backoff = Backoff::exponential(ms(first)).factor(factor).cap(ms(cap)).jitter(jitter);
            prop_assert!(backoff.pause(restarts, chance) <= ms(cap));
        }
    }
}
