//! A way into an edge whose items are of another type, or some of them.

use std::sync::Arc;

use super::{Way, WayState};
use crate::flow::{
    edge::{Head, Lanes},
    outlet::Closed,
};

pub(crate) type Turn<T, U> = dyn Fn(T) -> Option<U> + Send + Sync;

/// A way into an edge whose items are of another type, or some of them.
pub(crate) struct Turned<T, U> {
    turn: Arc<Turn<T, U>>,
    lanes: Lanes<U>,
    turned: Vec<U>,
}

impl<T, U> Turned<T, U> {
    pub(crate) fn new(turn: Arc<Turn<T, U>>, lanes: Lanes<U>) -> Turned<T, U> {
        Turned { turn, lanes, turned: Vec::new() }
    }
}

impl<T: 'static, U: 'static> Way<T> for Turned<T, U> {
    fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        let turn = &self.turn;
        self.turned.extend(items.drain(..).filter_map(|item| turn(item)));
        if self.turned.is_empty() { Ok(()) } else { self.lanes.put(&mut self.turned) }
    }

    fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed> {
        match (self.turn)(item) {
            Some(item) => self.lanes.put_to(to, item),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        self.lanes.flush()
    }

    fn send_to_idle(&mut self) -> Result<(), Closed> {
        self.lanes.send_to_idle()
    }

    fn holds_items(&self) -> bool {
        self.lanes.holds_items()
    }

    fn begin(&mut self, head: &Head, again: bool) {
        self.lanes.begin(head, again);
    }

    fn settle(&mut self) {
        self.lanes.settle();
    }

    fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        self.lanes.finish(head)
    }

    fn end(&mut self) {
        self.lanes.end();
    }

    fn state(&self) -> WayState {
        Way::state(&self.lanes)
    }

    fn is_closed(&self) -> bool {
        self.lanes.is_closed()
    }

    fn room(&self) -> usize {
        self.lanes.room()
    }

    fn can_call(&self) -> bool {
        self.lanes.can_call()
    }

    fn leads_to_gate(&self) -> bool {
        self.lanes.leads_to_gate()
    }

    fn can_send_pending(&self) -> bool {
        self.lanes.can_send_pending()
    }

    fn has_late(&self) -> bool {
        self.lanes.has_late()
    }

    fn can_send_late(&self) -> bool {
        self.lanes.can_send_late()
    }

    fn send_late(&mut self) -> bool {
        self.lanes.send_late()
    }

    fn is_hungry(&self, calls: bool) -> bool {
        self.lanes.is_hungry(calls)
    }

    fn calls(&self) -> bool {
        self.lanes.calls()
    }

    fn only_calls(&self) -> bool {
        self.lanes.only_calls()
    }

    fn keeps_order(&self) -> bool {
        self.lanes.keeps_order()
    }

    fn take_failure(&mut self) -> Option<String> {
        self.lanes.take_failure()
    }
}
