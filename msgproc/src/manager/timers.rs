//! Timers in one heap, without a clock of their own.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use crate::process::next_tick;

/// Timers, each with a value that says what it is for.
#[derive(Debug)]
pub(super) struct Timers<T> {
    heap: BinaryHeap<Timer<T>>,
    made: u64,
}

#[derive(Debug)]
struct Timer<T> {
    at: Instant,
    /// Of two at the same time the one that was made first is due first.
    number: u64,
    every: Option<Duration>,
    what: T,
}

impl<T: Copy> Timers<T> {
    pub(super) fn new() -> Timers<T> {
        Timers { heap: BinaryHeap::new(), made: 0 }
    }

    /// Adds one that is due at `at`, and then each time `every` has passed.
    pub(super) fn add(&mut self, at: Instant, every: Option<Duration>, what: T) {
        self.made += 1;
        self.heap.push(Timer { at, number: self.made, every, what });
    }

    /// Takes the one that is due the longest. Ticks that were missed are passed over.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let mut next = self.heap.peek_mut()?;
        if next.at > now {
            return None;
        }
        let what = next.what;
        match next.every {
            // The heap puts it in its new place.
            Some(period) => next.at = next_tick(next.at, period, now),
            None => {
                std::collections::binary_heap::PeekMut::pop(next);
            }
        }
        Some(what)
    }

    /// When the next one is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|timer| timer.at)
    }

    /// Ends those for which `unwanted` holds; tells whether there were any.
    pub(super) fn cancel(&mut self, unwanted: impl Fn(&T) -> bool) -> bool {
        let before = self.heap.len();
        self.heap.retain(|timer| !unwanted(&timer.what));
        self.heap.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

// The heap gives its greatest first: that is the one that is due first.

impl<T> Ord for Timer<T> {
    fn cmp(&self, other: &Timer<T>) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Timer<T> {
    fn partial_cmp(&self, other: &Timer<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Timer<T> {
    fn eq(&self, other: &Timer<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Timer<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn smoke() {
        let start = Instant::now();
        let mut timers = Timers::new();
        assert_eq!(timers.next_at(), None);
        timers.add(start + ms(20), None, 'b');
        timers.add(start + ms(10), None, 'a');
        timers.add(start + ms(20), None, 'c');
        assert_eq!(timers.next_at(), Some(start + ms(10)));
        assert_eq!(timers.pop_due(start + ms(9)), None);
        let due: Vec<char> = std::iter::from_fn(|| timers.pop_due(start + ms(30))).collect();
        assert_eq!(due, ['a', 'b', 'c']);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_periodic_one_keeps_its_rhythm_and_gives_one_tick_for_many_missed() {
        let start = Instant::now();
        let mut timers = Timers::new();
        timers.add(start + ms(10), Some(ms(10)), ());
        assert_eq!(timers.pop_due(start + ms(57)), Some(()));
        assert_eq!(timers.pop_due(start + ms(57)), None);
        assert_eq!(timers.next_at(), Some(start + ms(60)));
    }

    #[test]
    fn a_cancelled_one_is_never_due() {
        let start = Instant::now();
        let mut timers = Timers::new();
        timers.add(start, None, 1);
        timers.add(start, Some(ms(1)), 2);
        timers.add(start, None, 1);
        assert!(timers.cancel(|what| *what == 1));
        assert!(!timers.cancel(|what| *what == 1));
        assert_eq!(timers.pop_due(start), Some(2));
        assert_eq!(timers.pop_due(start), None);
    }

    proptest! {
        #[test]
        fn they_are_due_in_the_order_of_their_times(times in prop::collection::vec(0u64..50, 0..60)) {
            let start = Instant::now();
            let mut timers = Timers::new();
            for (index, time) in times.iter().enumerate() {
                timers.add(start + ms(*time), None, (*time, index));
            }
            let mut sorted: Vec<_> = times.iter().copied().zip(0..).collect();
            sorted.sort();
            let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(start + ms(50))).collect();
            prop_assert_eq!(due, sorted);
        }
    }
}
