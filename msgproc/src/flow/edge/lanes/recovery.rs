//! Leaves out what a worker has sent that this one replaces.

use super::Lanes;
use crate::{
    fault::fault,
    flow::{
        edge::{Head, deal::Deal},
        outlet::Closed,
        plan::out,
    },
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
            fault!(RECOVER_DROPPED);
        }
    }

    /// What may have been sent already is gathered until it is as it was then, and sent to where it
    /// went then: so its receiver knows it. Tells whether that is done.
    pub(super) fn remake(&mut self, items: &mut Vec<T>) -> Result<bool, Closed> {
        let Some(Forced { lane: to, items: count }) = self.forced.filter(|forced| forced.items > 0)
        else {
            return Ok(true);
        };
        let to = to.min(self.lanes.len() - 1);
        self.pending.append(items);
        if self.pending.len() < count {
            return Ok(false);
        }
        let mut all = std::mem::take(&mut self.pending);
        let part = cut(&mut all, count);
        *items = all;
        match self.send(to, self.head_again(), part) {
            Ok(()) => {
                fault!(RECOVER_FORCED);
            }
            Err(Closed) if self.is_closed() || self.is_broken() => return Err(Closed),
            // Its receiver takes no more, and has not handled the message: it never will.
            Err(Closed) => {
                self.forced = None;
                items.splice(..0, self.back.drain(..));
            }
        }
        Ok(true)
    }

    /// What is said of a message that may have been sent already.
    fn head_again(&self) -> Head {
        match (&self.deal, self.state.inherits) {
            (Deal::Ordered, false) => Head { number: self.id, last: true, ..Head::default() },
            _ => Head { number: self.number, ..Head::default() },
        }
    }

    /// Nothing more of what was sent before comes again: it was less this time, or an item was left
    /// out. So that nothing else is taken for it, what is missing counts as come, and the message
    /// that may have been sent keeps its number, with what there is of it.
    pub(crate) fn settle(&mut self) {
        self.settle_known();
        self.settle_forced();
    }

    /// Counts what is missing of what is known to have been sent.
    pub(super) fn settle_known(&mut self) {
        if self.first < self.known {
            let missing = self.known - self.first;
            self.first = self.known;
            if self.state.survives {
                // Handled once more, what comes again is as much less.
                self.board().add_own(self.state.words + out::BASE, missing);
                fault!(RECOVER_SETTLED);
            }
        }
    }

    pub(super) fn settle_forced(&mut self) {
        let Some(Forced { lane: to, .. }) = self.forced else { return };
        let items = std::mem::take(&mut self.pending);
        let count = items.len() as u64;
        // In a circle the lane waits for its number.
        let sent = match self.gives_numbers() || count > 0 || self.manner.in_circle {
            true => self.send(to.min(self.lanes.len() - 1), self.head_again(), items),
            false => Err(Closed),
        };
        if sent.is_err() && !self.is_broken() {
            self.count_sent(count);
            fault!(RECOVER_BURNT);
        }
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
