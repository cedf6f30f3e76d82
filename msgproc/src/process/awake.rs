//! Looking, for a moment, for what is about to come, without going to sleep.
//!
//! A start and its first call are three messages in turn: ready, the command, its answer. Waking a
//! process that sleeps takes as long as a third of a fork, and there and then is nothing else to do.

use std::{
    thread,
    time::{Duration, Instant},
};

use shmring::os;

/// How long after a start its frontend looks for what comes, until the first answer has.
pub(super) const AFTER_START: Duration = Duration::from_micros(500);

/// How long a backend that has become ready looks for its first command.
pub(super) const WHEN_READY: Duration = Duration::from_micros(50);

/// Looks until something is found, or that moment. Between two looks, whoever else wants this
/// processor has it: it may be the very process that something is to come from.
pub(super) fn look<T>(until: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    if os::one_processor() {
        return None;
    }
    while Instant::now() < until {
        if let Some(found) = look() {
            return Some(found);
        }
        thread::yield_now();
    }
    None
}
