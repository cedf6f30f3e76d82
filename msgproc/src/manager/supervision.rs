//! Whether a process that has ended is started again: a pure function of how it has ended so far.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::exit::Exit;

/// Whether a process that ends is started again, and how often.
///
/// A process that was told to stop is never started again.
///
/// ```
/// use std::time::Duration;
/// use msgproc::manager::Policy;
///
/// let policy = Policy::on_failure()
///     .at_most(3, Duration::from_secs(10))
///     .backoff(Duration::from_millis(200));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Policy {
    when: When,
    limit: usize,
    window: Duration,
    backoff: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    Never,
    OnFailure,
    Always,
}

impl Policy {
    /// It stays as it ended. So by default.
    pub fn never() -> Policy {
        Policy::new(When::Never)
    }

    /// It is started again unless it ended with exit code 0.
    pub fn on_failure() -> Policy {
        Policy::new(When::OnFailure)
    }

    /// It is started again however it ended.
    pub fn always() -> Policy {
        Policy::new(When::Always)
    }

    fn new(when: When) -> Policy {
        Policy { when, limit: 5, window: Duration::from_secs(60), backoff: Duration::ZERO }
    }

    /// At most so many restarts within a time; 5 within a minute by default. One that ends once
    /// more is given up.
    pub fn at_most(mut self, restarts: usize, within: Duration) -> Policy {
        self.limit = restarts;
        self.window = within;
        self
    }

    /// How long a restart waits; not at all by default.
    pub fn backoff(mut self, pause: Duration) -> Policy {
        self.backoff = pause;
        self
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::never()
    }
}

/// What follows from the end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Restart {
    /// Nothing: that is its policy, or it was told to stop.
    No,
    /// Nothing: it has been started again too often.
    GivenUp,
    /// It is started again after this time.
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
    pub(super) fn note(&mut self, at: Instant, end: End, policy: &Policy) {
        self.ends.push_back((at, end));
        while self.ends.len() > policy.limit.saturating_add(1) {
            self.ends.pop_front();
        }
    }
}

/// Decides what follows from the last end.
pub(super) fn on_exit(history: &History, policy: &Policy) -> Restart {
    let Some(&(now, end)) = history.ends.back() else {
        return Restart::No;
    };
    let wanted = match policy.when {
        When::Never => false,
        When::OnFailure => end == End::Failed,
        When::Always => matches!(end, End::Clean | End::Failed),
    };
    if !wanted {
        return Restart::No;
    }
    let recent = |at: Instant| now.saturating_duration_since(at) < policy.window;
    let before = history.ends.len() - 1;
    let restarts = history.ends.iter().take(before).filter(|(at, _)| recent(*at)).count();
    if restarts >= policy.limit {
        return Restart::GivenUp;
    }
    Restart::After(policy.backoff)
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
            history.note(start + Duration::from_secs(*second), *end, policy);
            decisions.push(on_exit(&history, policy));
        }
        decisions
    }

    #[test]
    fn each_policy_has_its_ends() {
        let ends = [End::Clean, End::Failed, End::Stopped, End::Hopeless];
        let decisions = |policy| ends.map(|end| decide(&policy, &[(0, end)])[0]);
        assert_eq!(decisions(Policy::never()), [Restart::No; 4]);
        assert_eq!(
            decisions(Policy::on_failure()),
            [Restart::No, AT_ONCE, Restart::No, Restart::No]
        );
        assert_eq!(decisions(Policy::always()), [AT_ONCE, AT_ONCE, Restart::No, Restart::No]);
        assert_eq!(on_exit(&History::default(), &Policy::always()), Restart::No);
    }

    #[test]
    fn too_many_within_the_window_are_too_many() {
        let policy = Policy::always().at_most(2, Duration::from_secs(10));
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
        let policy = Policy::always().at_most(0, Duration::from_secs(10));
        assert_eq!(decide(&policy, &[(0, End::Clean)]), [Restart::GivenUp]);
    }

    #[test]
    fn the_history_does_not_grow() {
        let policy = Policy::always().at_most(3, Duration::MAX);
        let mut history = History::default();
        for _ in 0..1000 {
            history.note(Instant::now(), End::Failed, &policy);
        }
        assert_eq!(history.ends.len(), 4);
        assert_eq!(on_exit(&history, &policy), Restart::GivenUp);
    }

    #[test]
    fn the_pause_is_that_of_the_policy() {
        let pause = Duration::from_millis(200);
        let policy = Policy::on_failure().backoff(pause);
        assert_eq!(decide(&policy, &[(0, End::Failed)]), [Restart::After(pause)]);
    }
}
