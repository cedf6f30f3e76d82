//! Whether a process that has ended is started again: a pure function of how it has ended so far.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::backoff::Backoff;
use crate::exit::Exit;

/// Whether a process that ends is started again, how often, and after which pause; in the terms
/// of OTP.
///
/// A process that was told to stop is never started again.
///
/// ```
/// use std::time::Duration;
/// use msgproc::manager::{Backoff, Policy};
///
/// let policy = Policy::transient()
///     .at_most(3, Duration::from_secs(10))
///     .backoff(Backoff::exponential(Duration::from_millis(200)).jitter(0.1));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use]
pub struct Policy {
    when: When,
    pub(super) intensity: Intensity,
    backoff: Backoff,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    Never,
    OnFailure,
    Always,
}

/// So many restarts within a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Intensity {
    pub(super) limit: usize,
    pub(super) window: Duration,
}

impl Default for Intensity {
    fn default() -> Intensity {
        Intensity { limit: 5, window: Duration::from_secs(60) }
    }
}

impl Policy {
    /// It stays as it ended. So by default.
    pub fn temporary() -> Policy {
        Policy::new(When::Never)
    }

    /// It is started again unless it ended with exit code 0.
    pub fn transient() -> Policy {
        Policy::new(When::OnFailure)
    }

    /// It is started again however it ended.
    pub fn permanent() -> Policy {
        Policy::new(When::Always)
    }

    fn new(when: When) -> Policy {
        Policy { when, intensity: Intensity::default(), backoff: Backoff::default() }
    }

    /// At most so many restarts within a time; 5 within a minute by default. One that ends once
    /// more is given up.
    pub fn at_most(mut self, restarts: usize, within: Duration) -> Policy {
        self.intensity = Intensity { limit: restarts, window: within };
        self
    }

    /// How long a restart waits; not at all by default. A pause grows with the restarts within
    /// the window of [`Policy::at_most`].
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Policy {
        self.backoff = backoff.into();
        self
    }

    /// Whether it is never started again.
    pub(super) fn is_temporary(&self) -> bool {
        self.when == When::Never
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::temporary()
    }
}

/// What follows from the end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Restart {
    /// Nothing: that is its policy, or it was told to stop.
    No,
    /// Nothing: it has been started again too often, or it cannot be; or its group is given up.
    GivenUp,
    /// It is started again after this time. In a group whose members hang together it also waits
    /// until those are ready that were added before it.
    After(Duration),
}

/// In which way a process ended, or could not be started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// With exit code 0, by itself.
    Clean,
    /// In any other way, by itself.
    Failed,
    /// It was told to.
    Stopped,
    /// It could not be started again, and trying once more would not help.
    Hopeless,
}

impl End {
    pub(super) fn of(exit: &Exit) -> End {
        match exit {
            Exit { stopped_by: Some(_), .. } => End::Stopped,
            exit if exit.is_clean() => End::Clean,
            _ => End::Failed,
        }
    }
}

/// How a process has ended so far: the last of the ends stands at the back. Each but the last was
/// followed by a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    ends: VecDeque<(Instant, End)>,
}

impl History {
    /// Notes an end, and forgets those that can make no difference any more.
    pub(super) fn note(&mut self, at: Instant, end: End, intensity: &Intensity) {
        self.ends.push_back((at, end));
        while self.ends.len() > intensity.limit.saturating_add(1) {
            self.ends.pop_front();
        }
    }

    /// How many restarts there were within the window before the last end.
    fn recent(&self, intensity: &Intensity) -> usize {
        let Some(&(now, _)) = self.ends.back() else {
            return 0;
        };
        let before = self.ends.iter().rev().skip(1);
        before.filter(|(at, _)| now.saturating_duration_since(*at) < intensity.window).count()
    }

    /// Whether the last end is one too many.
    pub(super) fn is_too_much(&self, intensity: &Intensity) -> bool {
        self.recent(intensity) >= intensity.limit
    }
}

/// Decides what follows from the last end. `chance`, from 0 to 1, decides within the jitter.
pub(super) fn on_exit(history: &History, policy: &Policy, chance: f64) -> Restart {
    let Some(&(_, end)) = history.ends.back() else {
        return Restart::No;
    };
    match (policy.when, end) {
        (When::Never, _) | (_, End::Stopped) | (When::OnFailure, End::Clean) => Restart::No,
        (_, End::Hopeless) => Restart::GivenUp,
        _ if history.is_too_much(&policy.intensity) => Restart::GivenUp,
        _ => {
            let restarts = history.recent(&policy.intensity);
            Restart::After(policy.backoff.pause(restarts, chance))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Restart = Restart::After(Duration::ZERO);

    fn decide(policy: &Policy, ends: &[(u64, End)]) -> Vec<Restart> {
        let start = Instant::now();
        let mut history = History::default();
        let mut decisions = Vec::new();
        for (second, end) in ends {
            history.note(start + Duration::from_secs(*second), *end, &policy.intensity);
            decisions.push(on_exit(&history, policy, 0.5));
        }
        decisions
    }

    #[test]
    fn each_policy_has_its_ends() {
        let ends = [End::Clean, End::Failed, End::Stopped, End::Hopeless];
        let decisions = |policy| ends.map(|end| decide(&policy, &[(0, end)])[0]);
        assert_eq!(decisions(Policy::temporary()), [Restart::No; 4]);
        assert_eq!(
            decisions(Policy::transient()),
            [Restart::No, AT_ONCE, Restart::No, Restart::GivenUp]
        );
        assert_eq!(
            decisions(Policy::permanent()),
            [AT_ONCE, AT_ONCE, Restart::No, Restart::GivenUp]
        );
        assert_eq!(on_exit(&History::default(), &Policy::permanent(), 0.0), Restart::No);
    }

    #[test]
    fn too_many_within_the_window_are_too_many() {
        let policy = Policy::permanent().at_most(2, Duration::from_secs(10));
        let failed = |second| (second, End::Failed);
        assert_eq!(
            decide(&policy, &[failed(0), failed(1), failed(2)]),
            [AT_ONCE, AT_ONCE, Restart::GivenUp]
        );
        let rare: Vec<_> = (0..10).map(|n| failed(n * 6)).collect();
        assert_eq!(decide(&policy, &rare), [AT_ONCE; 10]);
    }

    #[test]
    fn none_at_all_may_be_allowed() {
        let policy = Policy::permanent().at_most(0, Duration::from_secs(10));
        assert_eq!(decide(&policy, &[(0, End::Clean)]), [Restart::GivenUp]);
    }

    #[test]
    fn the_history_does_not_grow() {
        let policy = Policy::permanent().at_most(3, Duration::MAX);
        let mut history = History::default();
        for _ in 0..1000 {
            history.note(Instant::now(), End::Failed, &policy.intensity);
        }
        assert_eq!(history.ends.len(), 4);
        assert_eq!(on_exit(&history, &policy, 0.0), Restart::GivenUp);
    }

    #[test]
    fn the_pause_is_that_of_the_policy() {
        let pause = Duration::from_millis(200);
        let policy = Policy::transient().backoff(pause);
        assert_eq!(decide(&policy, &[(0, End::Failed)]), [Restart::After(pause)]);
    }

    #[test]
    fn the_pause_grows_with_the_restarts_within_the_window() {
        let backoff = Backoff::exponential(Duration::from_secs(1));
        let policy = Policy::permanent().at_most(9, Duration::from_secs(10)).backoff(backoff);
        let after = |seconds| Restart::After(Duration::from_secs(seconds));
        let ends = [0, 2, 4, 30].map(|second| (second, End::Failed));
        assert_eq!(decide(&policy, &ends), [after(1), after(2), after(4), after(1)]);
    }
}
