//! Leaves out what a worker has sent that this one replaces.

use super::Lanes;
use crate::flow::{
    edge::{Head, deal::Deal},
    outlet::Closed,
};

/// A message that may have been sent, and goes where it would have gone then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forced {
    pub(super) lane: usize,
    pub(super) items: usize,
}

impl<T: 'static> Lanes<T> {
    /// Drops what was sent by a worker that this one replaces.
    pub(super) fn drop_known(&mut self, items: &mut Vec<T>) {
        if self.first < self.known {
            let known = usize::try_from(self.known - self.first).unwrap_or(usize::MAX);
            let known = known.min(items.len());
            items.drain(..known);
            self.first += known as u64;
        }
    }

    /// What may have been sent already is gathered until it is as it was then, and sent to where it
    /// went then: so its receiver knows it. Tells whether that is done.
    pub(super) fn put_forced(&mut self, items: &mut Vec<T>) -> Result<bool, Closed> {
        let Some(Forced { lane, items: count }) = self.forced.filter(|forced| forced.items > 0)
        else {
            return Ok(true);
        };
        self.pending.append(items);
        if self.pending.len() < count {
            return Ok(false);
        }
        let mut all = std::mem::take(&mut self.pending);
        let part = cut(&mut all, count);
        let head = match (&self.deal, self.state.inherits) {
            (Deal::Ordered, false) => Head { number: self.id, last: true, ..Head::default() },
            _ => Head { number: self.number, ..Head::default() },
        };
        self.send(lane.min(self.lanes.len() - 1), head, part)?;
        *items = all;
        Ok(true)
    }
}

/// Takes the first so many items.
pub(super) fn cut<T>(items: &mut Vec<T>, most: usize) -> Vec<T> {
    if items.len() <= most {
        return std::mem::take(items);
    }
    let rest = items.split_off(most.max(1));
    std::mem::replace(items, rest)
}
