//! A way into two edges.

use super::{Way, WayState};
use crate::flow::{
    edge::{Head, Lanes},
    outlet::Closed,
};

/// A way into two edges: each item goes one of them, as an item of that one's type.
pub(crate) struct Branched<T, A, B> {
    choose: fn(T) -> Result<A, B>,
    first: Lanes<A>,
    second: Option<Lanes<B>>,
    chosen: (Vec<A>, Vec<B>),
}

impl<T: 'static, A: 'static, B: 'static> Branched<T, A, B> {
    pub(crate) fn new(
        choose: fn(T) -> Result<A, B>,
        first: Lanes<A>,
        second: Option<Lanes<B>>,
    ) -> Branched<T, A, B> {
        Branched { choose, first, second, chosen: (Vec::new(), Vec::new()) }
    }

    /// Whether one of both still takes something.
    fn goes_on(&self) -> Result<(), Closed> {
        if self.is_closed() || Way::state(self).is_broken { Err(Closed) } else { Ok(()) }
    }
}

impl<T: 'static, A: 'static, B: 'static> Way<T> for Branched<T, A, B> {
    fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        for item in items.drain(..) {
            match (self.choose)(item) {
                Ok(item) => self.chosen.0.push(item),
                Err(item) if self.second.is_some() => self.chosen.1.push(item),
                Err(_) => {}
            }
        }
        let mut closed = false;
        if !self.chosen.0.is_empty() {
            closed |= self.first.put(&mut self.chosen.0).is_err();
            self.chosen.0.clear();
        }
        if let Some(second) = self.second.as_mut().filter(|_| !self.chosen.1.is_empty()) {
            closed |= second.put(&mut self.chosen.1).is_err();
            self.chosen.1.clear();
        }
        if closed { self.goes_on() } else { Ok(()) }
    }

    fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed> {
        let put = match ((self.choose)(item), &mut self.second) {
            (Ok(item), _) => self.first.put_to(to, item),
            (Err(item), Some(second)) => second.put_to(to, item),
            (Err(_), None) => Ok(()),
        };
        put.or_else(|Closed| self.goes_on())
    }

    fn put_to_all(&mut self, item: T, clone: fn(&T) -> T) -> Result<(), Closed> {
        let mut to = 0;
        loop {
            // An item goes the same way each time.
            let put = match ((self.choose)(clone(&item)), &mut self.second) {
                (Ok(item), _) if to < self.first.workers() => self.first.put_to(Some(to), item),
                (Err(item), Some(second)) if to < second.workers() => second.put_to(Some(to), item),
                _ => return Ok(()),
            };
            put.or_else(|Closed| self.goes_on())?;
            to += 1;
        }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        let mut closed = self.first.flush().is_err();
        if let Some(second) = &mut self.second {
            closed |= second.flush().is_err();
        }
        if closed { self.goes_on() } else { Ok(()) }
    }

    fn send_to_idle(&mut self) -> Result<(), Closed> {
        let mut closed = self.first.send_to_idle().is_err();
        if let Some(second) = &mut self.second {
            closed |= second.send_to_idle().is_err();
        }
        if closed { self.goes_on() } else { Ok(()) }
    }

    fn holds_items(&self) -> bool {
        self.first.holds_items() || self.second.as_ref().is_some_and(Lanes::holds_items)
    }

    fn begin(&mut self, head: &Head, again: bool) {
        self.first.begin(head, again);
        if let Some(second) = &mut self.second {
            second.begin(head, again);
        }
    }

    fn settle(&mut self) {
        self.first.settle();
        if let Some(second) = &mut self.second {
            second.settle();
        }
    }

    fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        let mut closed = self.first.finish(head).is_err();
        if let Some(second) = &mut self.second {
            closed |= second.finish(head).is_err();
        }
        if closed { self.goes_on() } else { Ok(()) }
    }

    fn end(&mut self) {
        self.first.end();
        if let Some(second) = &mut self.second {
            second.end();
        }
    }

    fn state(&self) -> WayState {
        let first = Way::state(&self.first);
        let Some(second) = &self.second else { return first };
        let second = Way::state(second);
        WayState {
            workers: first.workers.max(second.workers),
            batch: first.batch.min(second.batch),
            is_broken: first.is_broken || second.is_broken,
        }
    }

    fn is_closed(&self) -> bool {
        self.first.is_closed() && self.second.as_ref().is_none_or(Lanes::is_closed)
    }

    fn room(&self) -> usize {
        self.first.room().min(self.second.as_ref().map_or(usize::MAX, Lanes::room))
    }

    fn can_call(&self) -> bool {
        self.first.can_call() && self.second.as_ref().is_none_or(Lanes::can_call)
    }

    fn leads_to_gate(&self) -> bool {
        self.first.leads_to_gate() || self.second.as_ref().is_some_and(Lanes::leads_to_gate)
    }

    fn can_send_pending(&self) -> bool {
        self.first.can_send_pending() || self.second.as_ref().is_some_and(Lanes::can_send_pending)
    }

    fn has_late(&self) -> bool {
        self.first.has_late() || self.second.as_ref().is_some_and(Lanes::has_late)
    }

    fn can_send_late(&self) -> bool {
        self.first.can_send_late() || self.second.as_ref().is_some_and(Lanes::can_send_late)
    }

    fn send_late(&mut self) -> bool {
        let second = self.second.as_mut().is_some_and(Lanes::send_late);
        self.first.send_late() || second
    }

    fn is_hungry(&self, calls: bool) -> bool {
        self.first.is_hungry(calls)
            || self.second.as_ref().is_some_and(|second| second.is_hungry(calls))
    }

    fn calls(&self) -> bool {
        self.first.calls() || self.second.as_ref().is_some_and(Lanes::calls)
    }

    fn only_calls(&self) -> bool {
        self.first.only_calls() && self.second.as_ref().is_none_or(Lanes::only_calls)
    }

    fn keeps_order(&self) -> bool {
        self.first.keeps_order() || self.second.as_ref().is_some_and(Lanes::keeps_order)
    }

    fn take_failure(&mut self) -> Option<String> {
        let second = self.second.as_mut().and_then(Lanes::take_failure);
        self.first.take_failure().or(second)
    }
}
