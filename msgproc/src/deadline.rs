//! When a time limit is over.

use std::time::{Duration, Instant};

/// Further away than anybody waits. No sum with it overflows.
pub(crate) const FAR: Duration = Duration::from_secs(100 * 365 * 86400);

/// When the limit is over that begins at `since`; `None` for one that is never over.
pub(crate) fn after(since: Instant, limit: Duration) -> Option<Instant> {
    (limit < FAR).then(|| since + limit)
}

/// The same for whoever needs a moment in any case: never is the far future.
pub(crate) fn moment_after(since: Instant, limit: Duration) -> Instant {
    since + limit.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_over_is_no_sum() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::ZERO), Some(now));
        assert_eq!(after(now, Duration::from_secs(1)), Some(now + Duration::from_secs(1)));
        for limit in [Duration::MAX, Duration::from_secs(u64::MAX), FAR] {
            assert_eq!(after(now, limit), None);
            assert_eq!(moment_after(now, limit), now + FAR);
        }
        assert_eq!(moment_after(now, Duration::ZERO), now);
    }
}
