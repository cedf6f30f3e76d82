//! Whose time it is that passes in a thread: each moment is that of one worker, however many of them
//! stand on the stack.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// What was counted inside of the span that goes on.
#[derive(Clone, Copy, Default)]
struct Inside {
    /// Of others, and waiting: not the span's own.
    others: Duration,
    /// How long it waited for room, while nobody else was at work.
    waited: Duration,
    /// What those cost whom it called.
    called: Duration,
}

/// The clock of a thread.
#[derive(Default)]
pub(crate) struct Clock(Cell<Inside>);

/// Something that a worker does, or a time in which it waits. Spans end in the order in which they
/// began, the last one first.
#[must_use = "a span that does not end is counted for nobody"]
pub(crate) struct Span {
    pub(crate) began: Instant,
    outside: Inside,
}

/// What a worker did in a span.
pub(crate) struct Spent {
    /// How long it was at work itself.
    pub(crate) busy: Duration,
    pub(crate) waited: Duration,
    /// How long it was at work with all whom it called.
    pub(crate) cost: Duration,
}

impl Clock {
    pub(crate) fn begin(&self) -> Span {
        Span { began: Instant::now(), outside: self.0.take() }
    }

    /// A worker has done something.
    pub(crate) fn end(&self, span: Span) -> Spent {
        let Span { began, outside } = span;
        let (whole, inside) = (began.elapsed(), self.0.get());
        let busy = whole.saturating_sub(inside.others);
        let cost = busy + inside.called;
        self.0.set(Inside {
            others: outside.others + whole,
            called: outside.called + cost,
            ..outside
        });
        Spent { busy, waited: inside.waited, cost }
    }

    /// A worker has waited for room, while others may have been at work.
    pub(crate) fn end_wait(&self, span: Span) {
        let Span { began, outside } = span;
        let whole = began.elapsed();
        let waited = outside.waited + whole.saturating_sub(self.0.get().others);
        self.0.set(Inside { others: outside.others + whole, waited, ..outside });
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    /// At least so long, and no longer than to the next step.
    #[track_caller]
    fn assert_about(time: Duration, steps: u32, whole: Duration) {
        assert!(time >= STEP * steps && time <= whole - STEP, "{time:?} of {whole:?}");
    }

    #[test]
    fn each_moment_is_of_one() {
        let clock = Clock::default();
        let began = Instant::now();
        let outer = clock.begin();
        sleep(STEP);
        let called = clock.begin();
        sleep(2 * STEP);
        let called = clock.end(called);
        let wait = clock.begin();
        sleep(STEP);
        let meanwhile = clock.begin();
        sleep(3 * STEP);
        let meanwhile = clock.end(meanwhile);
        clock.end_wait(wait);
        sleep(STEP);
        let outer = clock.end(outer);
        let whole = began.elapsed();
        assert_about(called.busy, 2, whole);
        assert_about(meanwhile.busy, 3, whole);
        assert_about(outer.busy, 2, whole);
        assert_about(outer.waited, 1, whole);
        assert_eq!(outer.cost, outer.busy + called.cost, "not of who went on meanwhile");
        let all = called.busy + meanwhile.busy + outer.busy + outer.waited;
        assert!(all <= whole, "{all:?} of {whole:?}");
        let next = clock.begin();
        assert!(clock.end(next).busy < STEP, "what was before is counted");
    }
}
