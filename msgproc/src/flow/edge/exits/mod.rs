//! All edges behind a node.

mod branched;
mod turned;
mod way;

pub(crate) use self::{
    branched::Branched,
    turned::{Turn, Turned},
    way::{Way, WayState},
};
use super::Head;
use crate::flow::outlet::Closed;

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
    /// Whether all who take are called: then there is nothing to look at after each item.
    only_calls: bool,
    /// Whether there is a gate on the way out.
    leads_to_gate: bool,
    /// Whether items are gathered for receivers.
    holds_items: bool,
}

impl<T> Exits<T> {
    pub(crate) fn new(outputs: Vec<Output<T>>) -> Exits<T> {
        let ways = || outputs.iter().flat_map(|output| &output.ways);
        let (calls, only_calls) =
            (ways().any(|way| way.calls()), ways().all(|way| way.only_calls()));
        let leads_to_gate = ways().any(|way| way.leads_to_gate());
        Exits { outputs, is_slow: false, calls, only_calls, leads_to_gate, holds_items: false }
    }

    fn ways(&self) -> impl Iterator<Item = &dyn Way<T>> {
        self.outputs.iter().flat_map(|output| output.ways.iter().map(|way| &**way))
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Way<T>)) {
        self.outputs.iter_mut().flat_map(|output| &mut output.ways).for_each(|way| act(&mut **way));
    }

    pub(crate) fn put(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
        let put = self.put_first(items);
        self.look_what_is_held();
        put
    }

    fn put_first(&mut self, items: &mut Vec<T>) -> Result<(), Closed> {
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
        self.look_what_is_held();
        if closed { self.stop_or_go_on() } else { Ok(()) }
    }

    /// Puts a clone for each of the workers behind the first output.
    pub(crate) fn put_to_all(&mut self, item: T, clone: fn(&T) -> T) -> Result<(), Closed> {
        let Some(Output { ways, .. }) = self.outputs.first_mut() else { return Ok(()) };
        let mut closed = false;
        if let Some((first, others)) = ways.split_first_mut() {
            for way in others {
                closed |= way.put_to_all(clone(&item), clone).is_err();
            }
            closed |= first.put_to_all(item, clone).is_err();
        }
        self.look_what_is_held();
        if closed { self.stop_or_go_on() } else { Ok(()) }
    }

    /// Whether there were some who took something, and nobody does any more.
    pub(crate) fn is_closed(&self) -> bool {
        let mut ways = self.ways().peekable();
        ways.peek().is_some() && ways.all(|way| way.is_closed())
    }

    /// One edge takes no more: the others go on without it. A node is done when nobody takes
    /// anything from it, the run is being stopped, or something could not be sent.
    #[cold]
    fn stop_or_go_on(&mut self) -> Result<(), Closed> {
        let is_broken = self.ways().any(|way| way.state().is_broken);
        if self.is_closed() || is_broken { Err(Closed) } else { Ok(()) }
    }

    /// Has all of them send something.
    fn each_sends(
        &mut self,
        mut send: impl FnMut(&mut dyn Way<T>) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let mut closed = false;
        self.each(|way| closed |= send(way).is_err());
        if closed { self.stop_or_go_on() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        self.holds_items = false;
        self.each_sends(|way| way.flush())
    }

    /// Sends what was gathered for receivers who have nothing to do.
    pub(crate) fn send_to_idle(&mut self) -> Result<(), Closed> {
        let sent = self.each_sends(|way| way.send_to_idle());
        self.look_what_is_held();
        sent
    }

    fn look_what_is_held(&mut self) {
        let holds_items = self.ways().any(|way| way.holds_items());
        self.holds_items = holds_items;
    }

    /// Whether items are gathered for receivers, which only a flush sends for sure.
    #[inline]
    pub(crate) fn holds_items(&self) -> bool {
        self.holds_items
    }

    pub(crate) fn begin(&mut self, head: &Head, again: bool) {
        self.each(|way| way.begin(head, again));
    }

    /// An item is left out: what was sent of it before does not come again.
    pub(crate) fn settle(&mut self) {
        self.each(|way| way.settle());
    }

    pub(crate) fn finish(&mut self, head: &Head) -> Result<(), Closed> {
        self.each_sends(|way| way.finish(head))
    }

    pub(crate) fn end(&mut self) {
        self.each(|way| way.end());
    }

    /// Those behind the first output.
    fn first_ways(&self) -> &[Box<dyn Way<T>>] {
        self.outputs.first().map_or(&[], |output| &output.ways)
    }

    pub(crate) fn workers(&self) -> usize {
        self.first_ways().iter().map(|way| way.state().workers).max().unwrap_or(0)
    }

    pub(crate) fn batch(&self) -> usize {
        self.ways().map(|way| way.state().batch).min().unwrap_or(super::deal::MOST)
    }

    /// How many items can be put now without waiting.
    pub(crate) fn room(&self) -> usize {
        self.first_ways().iter().map(|way| way.room()).min().unwrap_or(usize::MAX)
    }

    /// Whether there is a gate on the way out.
    #[inline]
    pub(crate) fn leads_to_gate(&self) -> bool {
        self.leads_to_gate
    }

    pub(crate) fn can_call(&self) -> bool {
        self.ways().all(|way| way.can_call())
    }

    pub(crate) fn can_send_pending(&self) -> bool {
        self.ways().any(|way| way.can_send_pending())
    }

    pub(crate) fn has_late(&self) -> bool {
        self.ways().any(|way| way.has_late())
    }

    pub(crate) fn can_send_late(&self) -> bool {
        self.ways().any(|way| way.can_send_late())
    }

    pub(crate) fn send_late(&mut self) -> bool {
        let mut sent = false;
        self.each(|way| sent |= way.send_late());
        sent
    }

    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        match self.only_calls {
            true => self.is_slow,
            false => self.ways().any(|way| way.is_hungry(self.is_slow)),
        }
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
