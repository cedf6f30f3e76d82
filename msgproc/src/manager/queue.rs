//! What is to be looked at, in turn.

use std::collections::VecDeque;

/// Something that may have something to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The process in this place.
    Process(usize),
    /// The unit of supervision in this place has something to do.
    Unit(usize),
    /// The watched descriptor in this place.
    Watch(usize),
    /// The timers.
    Timers,
    /// Signals.
    Signals,
    /// Somebody has woken us.
    Wake,
    /// Only for a poll that this manager's descriptor stands in.
    Backlog,
}

const KINDS: usize = 8;

impl Source {
    pub(super) fn number(self) -> usize {
        match self {
            Source::Process(index) => index * KINDS,
            Source::Unit(index) => index * KINDS + 1,
            Source::Watch(index) => index * KINDS + 2,
            Source::Timers => 3,
            Source::Signals => 4,
            Source::Wake => 5,
            Source::Backlog => 6,
        }
    }

    pub(super) fn from_number(number: usize) -> Option<Source> {
        let index = number / KINDS;
        Some(match number % KINDS {
            0 => Source::Process(index),
            1 => Source::Unit(index),
            2 => Source::Watch(index),
            3 => Source::Timers,
            4 => Source::Signals,
            5 => Source::Wake,
            6 => Source::Backlog,
            _ => return None,
        })
    }
}

/// Sources in the order in which they are looked at, each at most once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: VecDeque<Source>,
    waits: Vec<bool>,
}

impl Queue {
    pub(super) fn push(&mut self, source: Source) {
        let number = source.number();
        if number >= self.waits.len() {
            self.waits.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.waits[number], true) {
            self.order.push_back(source);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Source> {
        let source = self.order.pop_front()?;
        self.waits[source.number()] = false;
        Some(source)
    }

    pub(super) fn remove(&mut self, source: Source) {
        if self.waits.get(source.number()) == Some(&true) {
            self.waits[source.number()] = false;
            self.order.retain(|other| *other != source);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways() {
        let all = [
            Source::Process(0),
            Source::Process(1000),
            Source::Unit(3),
            Source::Watch(7),
            Source::Timers,
            Source::Signals,
            Source::Wake,
            Source::Backlog,
        ];
        for source in all {
            assert_eq!(Source::from_number(source.number()), Some(source));
        }
    }

    #[test]
    fn each_has_its_turn_once() {
        let mut queue = Queue::default();
        for source in [Source::Process(1), Source::Timers, Source::Process(1), Source::Watch(0)] {
            queue.push(source);
        }
        assert_eq!(queue.pop(), Some(Source::Process(1)));
        queue.push(Source::Process(1));
        queue.remove(Source::Timers);
        queue.remove(Source::Timers);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop(), Some(Source::Watch(0)));
        assert_eq!(queue.pop(), Some(Source::Process(1)));
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
    }
}
