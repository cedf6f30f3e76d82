//! Looking again, ever less often, until a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

const FIRST_PAUSE: Duration = Duration::from_micros(20);

/// A wait that cannot be woken: pauses that double up to a longest one, and an optional end.
#[derive(Debug)]
pub(crate) struct Patience {
    start: Instant,
    limit: Option<Duration>,
    pause: Duration,
    longest: Duration,
}

impl Patience {
    /// Begins to wait, at most for `limit` (for ever without one).
    pub(crate) fn new(limit: Option<Duration>, longest: Duration) -> Patience {
        Patience { start: Instant::now(), limit, pause: FIRST_PAUSE, longest }
    }

    /// Sleeps a little; false, without sleeping, when the time is over.
    pub(crate) fn pause(&mut self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.pause.min(left));
        self.pause = (self.pause * 2).min(self.longest);
        true
    }

    /// How long one may still wait.
    pub(crate) fn left(&self) -> Duration {
        self.limit.map_or(Duration::MAX, |limit| limit.saturating_sub(self.waited()))
    }

    /// How long one has waited.
    pub(crate) fn waited(&self) -> Duration {
        self.start.elapsed()
    }
}
