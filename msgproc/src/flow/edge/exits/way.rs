//! One edge, seen with the type of items that the node before it has.

use crate::flow::{
    edge::{Head, Lanes},
    outlet::Closed,
};

/// A way out of a worker: one edge, seen with the node's own type of items.
pub(crate) trait Way<T> {
    fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed>;
    fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed>;
    /// Puts a clone for each of the receivers.
    fn put_to_all(&mut self, item: T, clone: fn(&T) -> T) -> Result<(), Closed> {
        for to in 1..self.state().workers {
            self.put_to(Some(to), clone(&item))?;
        }
        self.put_to(Some(0), item)
    }
    fn flush(&mut self) -> Result<(), Closed>;
    /// Sends what was gathered for receivers who have nothing to do.
    fn send_to_idle(&mut self) -> Result<(), Closed>;
    /// Whether items are gathered for receivers, which only a flush sends for sure.
    fn holds_items(&self) -> bool;
    fn begin(&mut self, head: &Head, again: bool);
    fn settle(&mut self);
    fn finish(&mut self, head: &Head) -> Result<(), Closed>;
    fn end(&mut self);
    fn state(&self) -> WayState;
    /// Whether nobody takes anything from it any more.
    fn is_closed(&self) -> bool;
    /// How many items can be put now without waiting.
    fn room(&self) -> usize;
    fn can_call(&self) -> bool;
    /// Whether there is a gate on the way.
    fn leads_to_gate(&self) -> bool;
    fn can_send_pending(&self) -> bool;
    /// Whether something was sent that has yet to find room.
    fn has_late(&self) -> bool;
    /// Whether it may find some now.
    fn can_send_late(&self) -> bool;
    /// Tells whether it found some.
    fn send_late(&mut self) -> bool;
    /// Whether somebody who has nothing to do would get an item now; of those that are called, what
    /// `calls` says.
    fn is_hungry(&self, calls: bool) -> bool;
    /// Whether somebody is called.
    fn calls(&self) -> bool;
    /// Whether everybody is.
    fn only_calls(&self) -> bool;
    /// Whether what comes of one message is sent apart from what comes of another.
    fn keeps_order(&self) -> bool;
    fn take_failure(&mut self) -> Option<String>;
}

/// What is asked of a way now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WayState {
    pub(crate) workers: usize,
    pub(crate) batch: usize,
    /// Whether the run is being stopped, or something could not be sent.
    pub(crate) is_broken: bool,
}

impl<T: 'static> Way<T> for Lanes<T> {
    fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        Lanes::put(self, items)
    }

    fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed> {
        Lanes::put_to(self, to, item)
    }

    fn flush(&mut self) -> Result<(), Closed> {
        Lanes::flush(self)
    }

    fn send_to_idle(&mut self) -> Result<(), Closed> {
        Lanes::send_to_idle(self)
    }

    fn holds_items(&self) -> bool {
        Lanes::holds_items(self)
    }

    fn begin(&mut self, head: &Head, again: bool) {
        Lanes::begin(self, head, again);
    }

    fn settle(&mut self) {
        Lanes::settle(self);
    }

    fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        Lanes::finish(self, head)
    }

    fn end(&mut self) {
        Lanes::end(self);
    }

    fn state(&self) -> WayState {
        WayState { workers: self.workers(), batch: self.batch(), is_broken: self.is_broken() }
    }

    fn is_closed(&self) -> bool {
        Lanes::is_closed(self)
    }

    fn room(&self) -> usize {
        Lanes::room(self)
    }

    fn can_call(&self) -> bool {
        Lanes::can_call(self)
    }

    fn leads_to_gate(&self) -> bool {
        Lanes::leads_to_gate(self)
    }

    fn can_send_pending(&self) -> bool {
        Lanes::can_send_pending(self)
    }

    fn has_late(&self) -> bool {
        Lanes::has_late(self)
    }

    fn can_send_late(&self) -> bool {
        Lanes::can_send_late(self)
    }

    fn send_late(&mut self) -> bool {
        Lanes::send_late(self)
    }

    fn is_hungry(&self, calls: bool) -> bool {
        Lanes::is_hungry(self, calls)
    }

    fn calls(&self) -> bool {
        Lanes::calls(self)
    }

    fn only_calls(&self) -> bool {
        Lanes::only_calls(self)
    }

    fn keeps_order(&self) -> bool {
        Lanes::keeps_order(self)
    }

    fn take_failure(&mut self) -> Option<String> {
        Lanes::take_failure(self)
    }
}
