//! Puts results back into the order of their frames.

use std::collections::VecDeque;
use std::time::Instant;

use crate::engine::{Done, Outcome};

/// Frames that are being dealt with, and those that wait for one before them.
#[derive(Debug)]
pub(crate) struct Order<P> {
    /// The number of the frame in front.
    first: u64,
    frames: VecDeque<Entry<P>>,
}

#[derive(Debug)]
struct Entry<P> {
    split: Instant,
    bytes: usize,
    deaths: u32,
    outcome: Option<Outcome<P>>,
}

impl<P> Order<P> {
    /// Begins with frame 0.
    pub(crate) fn new() -> Self {
        Self { first: 0, frames: VecDeque::new() }
    }

    /// Takes the next frame of the input and returns its number.
    pub(crate) fn push(&mut self, split: Instant, bytes: usize) -> u64 {
        let number = self.next_number();
        self.frames.push_back(Entry { split, bytes, deaths: 0, outcome: None });
        number
    }

    /// Takes the outcome of a frame. One that comes a second time is dropped,
    /// and then this is false.
    pub(crate) fn settle(&mut self, number: u64, outcome: Outcome<P>) -> bool {
        match self.entry(number) {
            Some(entry) if entry.outcome.is_none() => {
                entry.outcome = Some(outcome);
                true
            }
            _ => false,
        }
    }

    /// Counts one more worker that died of a frame, and returns how many did.
    pub(crate) fn died_of(&mut self, number: u64) -> u32 {
        self.entry(number).map_or(0, |entry| {
            entry.deaths += 1;
            entry.deaths
        })
    }

    /// Returns the frame in front, once it is settled.
    pub(crate) fn pop(&mut self) -> Option<Done<P>> {
        let entry = self.frames.front_mut()?;
        let outcome = entry.outcome.take()?;
        let done = Done { number: self.first, split: entry.split, bytes: entry.bytes, outcome };
        self.frames.pop_front();
        self.first += 1;
        Some(done)
    }

    /// Counts the frames that have not been returned.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns the number that the next frame will get.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry<P>> {
        let at = number.checked_sub(self.first)?;
        self.frames.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use examples::picture::Broken;

    fn outcome(text: &'static str) -> Outcome<()> {
        Err(Broken::new(text))
    }

    fn popped(order: &mut Order<()>) -> Option<(u64, String)> {
        order.pop().map(|done| (done.number, done.outcome.unwrap_err().to_string()))
    }

    #[test]
    fn frames_leave_in_order_and_once() {
        let mut order = Order::new();
        let numbers: Vec<u64> = (0..3).map(|_| order.push(Instant::now(), 1)).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert!(order.settle(1, outcome("b")));
        assert!(popped(&mut order).is_none(), "frame 0 is not there");
        assert!(!order.settle(1, outcome("again")));
        assert!(order.settle(0, outcome("a")));
        assert_eq!(popped(&mut order), Some((0, "a".into())));
        assert!(!order.settle(0, outcome("late")));
        assert_eq!(popped(&mut order), Some((1, "b".into())));
        assert!(popped(&mut order).is_none());
        assert_eq!(order.len(), 1);
        assert!(!order.settle(3, outcome("never sent")));
        assert_eq!(order.push(Instant::now(), 1), 3);
    }

    #[test]
    fn deaths_are_counted_by_frame() {
        let mut order = Order::<()>::new();
        order.push(Instant::now(), 1);
        order.push(Instant::now(), 1);
        assert_eq!([order.died_of(0), order.died_of(0), order.died_of(1)], [1, 2, 1]);
        assert_eq!(order.died_of(2), 0);
    }
}
