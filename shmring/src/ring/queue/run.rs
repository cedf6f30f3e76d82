//! Many items at once.

use std::{fmt, ops::Deref};

use super::{
    consumer::{Consumer, Taken},
    slots,
};
use crate::error::RecvError;

/// Items that one consumer has in hand, in their order. What is not acknowledged when this is
/// dropped is handed out again.
///
/// A forked child's copy is empty and does nothing.
///
/// ```
/// # use shmring::ring::queue::Queue;
/// # let (mut tx, mut rx) = Queue::options().anonymous()?.split()?;
/// # for byte in 0..3u8 { tx.send([byte])?; }
/// let mut run = rx.run(16)?;
/// let mut sum = 0;
/// for item in &run {
///     sum += u32::from(item[0]);
/// }
/// run.ack()?;
/// # assert_eq!(sum, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "items that are not acknowledged are handed out again"]
pub struct Run<'a> {
    consumer: &'a mut Consumer,
    /// So many at the front are acknowledged.
    done: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(consumer: &'a mut Consumer) -> Run<'a> {
        Run { consumer, done: 0 }
    }

    fn items(&self) -> &[Taken] {
        if self.consumer.seat.is_ours() { &self.consumer.taken[self.done..] } else { &[] }
    }

    /// How many items there are that are not acknowledged.
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether all are acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of the items that are not acknowledged.
    pub fn get(&self, at: usize) -> Option<Part<'_>> {
        self.items().get(at).map(|taken| self.part(taken))
    }

    /// The items that are not acknowledged.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Part<'_>> {
        self.items().iter().map(|taken| self.part(taken))
    }

    fn part<'b>(&'b self, taken: &'b Taken) -> Part<'b> {
        let seat = &self.consumer.seat;
        let bytes = slots::bytes(seat.region(), &seat.queue.geometry, &taken.held, taken.len);
        Part { bytes, taken }
    }

    /// Acknowledges the first `count` of them; fewer, if there are not so many.
    ///
    /// # Errors
    ///
    /// `Moved` in a forked child; `Corrupt`, then it may be handed out again.
    pub fn ack_first(&mut self, count: usize) -> Result<(), RecvError> {
        if !self.consumer.seat.is_ours() {
            return Err(RecvError::Moved);
        }
        for _ in 0..count.min(self.len()) {
            let taken = self.consumer.taken[self.done];
            self.done += 1;
            self.consumer.ack(&taken)?;
        }
        Ok(())
    }

    /// Acknowledges all.
    ///
    /// # Errors
    ///
    /// As [`Run::ack_first`].
    pub fn ack(mut self) -> Result<(), RecvError> {
        self.ack_first(usize::MAX)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.consumer.seat.is_ours() {
            self.consumer.give_back(self.done);
        }
    }
}

impl<'a, 'b> IntoIterator for &'b Run<'a> {
    type Item = Part<'b>;
    type IntoIter = std::vec::IntoIter<Part<'b>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// One item of a [`Run`], read in place.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    bytes: &'a [u8],
    taken: &'a Taken,
}

impl Part<'_> {
    /// As [`super::Item::attempt`].
    pub fn attempt(&self) -> u32 {
        self.taken.attempt()
    }

    /// As [`super::Item::producer`].
    pub fn producer(&self) -> u32 {
        self.taken.producer
    }

    /// As [`super::Item::sequence`].
    pub fn sequence(&self) -> u64 {
        self.taken.sequence
    }
}

impl Deref for Part<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("len", &self.bytes.len())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
