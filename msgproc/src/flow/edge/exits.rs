//! All edges behind a node.

use std::sync::Arc;

use super::{Head, Lanes};
use crate::flow::outlet::Closed;

/// A way out of a worker: one edge, seen with the node's own type of items.
pub(crate) trait Way<T> {
    fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed>;
    fn put_to(&mut self, to: Option<usize>, item: T) -> Result<(), Closed>;
    fn flush(&mut self) -> Result<(), Closed>;
    fn begin(&mut self, head: &Head, again: bool);
    fn finish(&mut self, head: &Head) -> Result<(), Closed>;
    fn end(&mut self);
    fn state(&self) -> WayState;
    fn can_call(&self) -> bool;
    fn can_send_pending(&self) -> bool;
    /// Whether somebody who has nothing to do would get an item now; of those that are called, what
    /// `calls` says.
    fn is_hungry(&self, calls: bool) -> bool;
    /// Whether somebody is called.
    fn calls(&self) -> bool;
    /// Whether what comes of one message is sent apart from what comes of another.
    fn keeps_order(&self) -> bool;
    fn take_failure(&mut self) -> Option<String>;
}

/// What is asked of a way now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WayState {
    pub(crate) workers: usize,
    pub(crate) batch: usize,
    pub(crate) has_room: bool,
    pub(crate) is_closed: bool,
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

    fn begin(&mut self, head: &Head, again: bool) {
        Lanes::begin(self, head, again);
    }

    fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        Lanes::finish(self, head)
    }

    fn end(&mut self) {
        Lanes::end(self);
    }

    fn state(&self) -> WayState {
        WayState {
            workers: self.workers(),
            batch: self.batch(),
            has_room: self.has_room(),
            is_closed: self.is_closed(),
            is_broken: self.is_broken(),
        }
    }

    fn can_call(&self) -> bool {
        Lanes::can_call(self)
    }

    fn can_send_pending(&self) -> bool {
        Lanes::can_send_pending(self)
    }

    fn is_hungry(&self, calls: bool) -> bool {
        Lanes::is_hungry(self, calls)
    }

    fn calls(&self) -> bool {
        Lanes::calls(self)
    }

    fn keeps_order(&self) -> bool {
        Lanes::keeps_order(self)
    }

    fn take_failure(&mut self) -> Option<String> {
        Lanes::take_failure(self)
    }
}

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

    fn begin(&mut self, head: &Head, again: bool) {
        self.lanes.begin(head, again);
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

    fn can_call(&self) -> bool {
        self.lanes.can_call()
    }

    fn can_send_pending(&self) -> bool {
        self.lanes.can_send_pending()
    }

    fn is_hungry(&self, calls: bool) -> bool {
        self.lanes.is_hungry(calls)
    }

    fn calls(&self) -> bool {
        self.lanes.calls()
    }

    fn keeps_order(&self) -> bool {
        self.lanes.keeps_order()
    }

    fn take_failure(&mut self) -> Option<String> {
        self.lanes.take_failure()
    }
}

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
        let state = Way::state(self);
        if state.is_closed || state.is_broken { Err(Closed) } else { Ok(()) }
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

    fn flush(&mut self) -> Result<(), Closed> {
        let mut closed = self.first.flush().is_err();
        if let Some(second) = &mut self.second {
            closed |= second.flush().is_err();
        }
        if closed { self.goes_on() } else { Ok(()) }
    }

    fn begin(&mut self, head: &Head, again: bool) {
        self.first.begin(head, again);
        if let Some(second) = &mut self.second {
            second.begin(head, again);
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
            has_room: first.has_room && second.has_room,
            is_closed: first.is_closed && second.is_closed,
            is_broken: first.is_broken || second.is_broken,
        }
    }

    fn can_call(&self) -> bool {
        self.first.can_call() && self.second.as_ref().is_none_or(Lanes::can_call)
    }

    fn can_send_pending(&self) -> bool {
        self.first.can_send_pending() || self.second.as_ref().is_some_and(Lanes::can_send_pending)
    }

    fn is_hungry(&self, calls: bool) -> bool {
        self.first.is_hungry(calls)
            || self.second.as_ref().is_some_and(|second| second.is_hungry(calls))
    }

    fn calls(&self) -> bool {
        self.first.calls() || self.second.as_ref().is_some_and(Lanes::calls)
    }

    fn keeps_order(&self) -> bool {
        self.first.keeps_order() || self.second.as_ref().is_some_and(Lanes::keeps_order)
    }

    fn take_failure(&mut self) -> Option<String> {
        let second = self.second.as_mut().and_then(Lanes::take_failure);
        self.first.take_failure().or(second)
    }
}

/// The ways out of one output of a node; an item goes all of them.
pub(crate) struct Output<T> {
    pub(crate) ways: Vec<Box<dyn Way<T>>>,
    /// How to clone an item, where there are several.
    pub(crate) clone: Option<fn(&T) -> T>,
}

/// All ways out of a worker, by output.
pub(crate) struct Exits<T> {
    outputs: Vec<Output<T>>,
    is_slow: bool,
    calls: bool,
}

impl<T> Exits<T> {
    pub(crate) fn new(outputs: Vec<Output<T>>) -> Exits<T> {
        let calls = outputs.iter().flat_map(|output| &output.ways).any(|way| way.calls());
        Exits { outputs, is_slow: false, calls }
    }

    fn ways(&self) -> impl Iterator<Item = &dyn Way<T>> {
        self.outputs.iter().flat_map(|output| output.ways.iter().map(|way| &**way))
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Way<T>)) {
        self.outputs.iter_mut().flat_map(|output| &mut output.ways).for_each(|way| act(&mut **way));
    }

    pub(crate) fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        let Some(output) = self.outputs.first_mut() else {
            items.clear();
            return Ok(());
        };
        match (&mut output.ways[..], output.clone) {
            ([], _) => items.clear(),
            ([way], _) => {
                if way.put(items).is_err() {
                    return self.stop_or_go_on();
                }
            }
            ([first, others @ ..], clone) => {
                let mut closed = false;
                for way in others {
                    let clone = clone.expect("a graph with several edges behind an output has it");
                    let mut copies: Vec<T> = items.iter().map(clone).collect();
                    closed |= way.put(&mut copies).is_err();
                }
                closed |= first.put(items).is_err();
                if closed {
                    return self.stop_or_go_on();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn put_to(
        &mut self,
        output: usize,
        to: Option<usize>,
        item: T,
    ) -> Result<(), Closed> {
        let Some(Output { ways, clone }) = self.outputs.get_mut(output) else { return Ok(()) };
        let mut closed = false;
        if let Some((first, others)) = ways.split_first_mut() {
            for way in others {
                let clone = clone.expect("a graph with several edges behind an output has it");
                closed |= way.put_to(to, clone(&item)).is_err();
            }
            closed |= first.put_to(to, item).is_err();
        }
        if closed { self.stop_or_go_on() } else { Ok(()) }
    }

    /// One edge takes no more: the others go on without it. A node is done when nobody takes
    /// anything from it, the run is being stopped, or something could not be sent.
    #[cold]
    fn stop_or_go_on(&mut self) -> Result<(), Closed> {
        let goes_on = self.ways().any(|way| {
            let state = way.state();
            !state.is_closed && !state.is_broken
        });
        let broken = self.ways().any(|way| way.state().is_broken);
        if goes_on && !broken { Ok(()) } else { Err(Closed) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        let mut closed = false;
        self.each(|way| closed |= way.flush().is_err());
        if closed { self.stop_or_go_on() } else { Ok(()) }
    }

    pub(crate) fn begin(&mut self, head: &Head, again: bool) {
        self.each(|way| way.begin(head, again));
    }

    pub(crate) fn finish(&mut self, head: &Head) {
        self.each(|way| {
            // The next send tells.
            let _ = way.finish(head);
        });
    }

    pub(crate) fn end(&mut self) {
        self.each(|way| way.end());
    }

    pub(crate) fn workers(&self, output: usize) -> usize {
        let ways = self.outputs.get(output).map_or(&[][..], |output| &output.ways[..]);
        ways.iter().map(|way| way.state().workers).max().unwrap_or(0)
    }

    pub(crate) fn batch(&self) -> usize {
        self.ways().map(|way| way.state().batch).min().unwrap_or(super::deal::MOST)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.ways().all(|way| way.state().has_room)
    }

    pub(crate) fn can_call(&self) -> bool {
        self.ways().all(|way| way.can_call())
    }

    pub(crate) fn can_send_pending(&self) -> bool {
        self.ways().any(|way| way.can_send_pending())
    }

    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        self.ways().any(|way| way.is_hungry(self.is_slow))
    }

    /// Says whether an item takes long, so that each goes on at once to those that are called.
    pub(crate) fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
    }

    pub(crate) fn calls(&self) -> bool {
        self.calls
    }

    pub(crate) fn take_failure(&mut self) -> Option<String> {
        let mut failure = None;
        self.each(|way| failure = failure.take().or_else(|| way.take_failure()));
        failure
    }

    pub(crate) fn keeps_order(&self) -> bool {
        self.ways().any(|way| way.keeps_order())
    }
}
