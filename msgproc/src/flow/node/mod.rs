//! What does the work: nodes, and what they are told.

mod functions;
mod fused;

use std::{error::Error as StdError, ops::Range, time::Duration};

pub use self::{
    functions::{FnNode, each, filter, flat_map, from_fn, map, try_each, try_map},
    fused::{Fused, fuse},
};
use super::{
    outlet::Outlet,
    worker::{CloneFn, OnError},
};

/// Why a node could not do its work: any error. The engine adds where it happened.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Whether a node goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It takes the next item.
    GoOn,
    /// A source has nothing to send now. It is asked again when another worker of its thread has
    /// done something, and after 0.1 s at the latest. Other nodes go on.
    Wait,
    /// It is done: it takes no more items, and its end of the stream follows what it has sent.
    Eos,
}

/// A step of the work: takes items, sends items.
///
/// A node is made where it runs, by a constructor, once for each of its workers, and is never
/// moved from there; so it may hold whatever it likes. A worker calls its node from one thread.
///
/// Closures and iterators are nodes as well: see [`map`], [`filter`], [`flat_map`], [`each`] and
/// [`source`](super::source()).
///
/// ```
/// use msgproc::flow::{Cause, Flow, Node, Outlet, WorkerInfo};
///
/// /// Sums up what comes, and tells the sums at the end.
/// struct Sums(u64);
///
/// impl Node for Sums {
///     type In = u64;
///     type Out = u64;
///
///     fn svc(&mut self, item: u64, _out: &mut Outlet<u64>) -> Result<Flow, Cause> {
///         self.0 += item;
///         Ok(Flow::GoOn)
///     }
///
///     fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
///         Ok(out.send(self.0)?)
///     }
/// }
/// ```
pub trait Node: 'static {
    /// What it takes. A source takes `()`, again and again, until it answers [`Flow::Eos`].
    type In;
    /// What it sends; `()` where nothing follows.
    type Out;

    /// Runs once where the node is, before the first item flows anywhere.
    ///
    /// # Errors
    ///
    /// An error stops the whole run before it begins, and is what that gives. In a process it may take
    /// 30 seconds, or as long as [`Graph::set_start_timeout`](super::Graph::set_start_timeout) says.
    fn svc_init(&mut self, _worker: &WorkerInfo) -> Result<(), Cause> {
        Ok(())
    }

    /// Takes one item. What it sends goes on when the next worker waits for it, or when enough has
    /// come together.
    ///
    /// # Errors
    ///
    /// What becomes of an item whose handling fails, or panics, is said by the node's
    /// [`OnError`](super::OnError). [`Closed`](super::Closed), which sends give when nobody takes
    /// anything any more, is no failure: it ends the node.
    fn svc(&mut self, item: Self::In, out: &mut Outlet<Self::Out>) -> Result<Flow, Cause>;

    /// Of a source: whether its next call may wait for something. What it has sent goes on before, each
    /// time: nobody else can send it on meanwhile, and what it waits for may be what comes of that. One
    /// that never waits, or only by [`Outlet::wait_for`] or [`Flow::Wait`], says so: what it sends is
    /// gathered then, and an item costs a tenth.
    fn may_wait(&self) -> bool {
        true
    }

    /// Takes one item, and is told at which of the node's inputs it came.
    ///
    /// # Errors
    ///
    /// As [`Node::svc`], which this calls if it is not written.
    fn svc_on(
        &mut self,
        _input: usize,
        item: Self::In,
        out: &mut Outlet<Self::Out>,
    ) -> Result<Flow, Cause> {
        self.svc(item, out)
    }

    /// The same where what it sends is taken by a call, and not gathered longer than that takes.
    #[doc(hidden)]
    #[inline]
    fn svc_to<F>(
        &mut self,
        input: usize,
        item: Self::In,
        between: &mut Outlet<Self::Out>,
        take: F,
    ) -> Result<Flow, Cause>
    where
        Self: Sized,
        F: FnMut(Self::Out) -> Result<Flow, Cause>,
    {
        let flow = self.svc_on(input, item, between)?;
        hand_on(flow, between, take)
    }

    /// Whether it takes items of this input now. While it does not, the input is not read, and who
    /// sends to it is held back as by any node that is busy. What was read already still comes: so
    /// a node keeps up to a message of items that it did not want.
    ///
    /// It is asked again after each item that the node takes, and each input that ends. One that
    /// wants nothing from any input that has not ended waits for ever.
    fn wants(&self, _input: usize) -> bool {
        true
    }

    /// One of several inputs has ended.
    ///
    /// A node that is made anew, since its process died, is told once more of those that had ended
    /// before. What it sends then goes on only if it has not been sent by the one before.
    ///
    /// # Errors
    ///
    /// An error fails the run.
    fn input_ended(&mut self, _input: usize, _out: &mut Outlet<Self::Out>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }

    /// Goes on with what it waited for beside its items, when [`Node::is_ready`] says so.
    #[doc(hidden)]
    fn svc_idle(&mut self, _out: &mut Outlet<Self::Out>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }

    /// Whether there is something to do though no item has come. Whoever makes it so rings the bell
    /// of the outlet afterwards.
    #[doc(hidden)]
    fn is_ready(&self) -> bool {
        false
    }

    /// Which item of the source the node is at, if it knows: said where it fails.
    #[doc(hidden)]
    fn at_item(&self) -> Option<u64> {
        None
    }

    /// Over which item of the source it failed in [`Node::svc_end`], if it was at one there.
    #[doc(hidden)]
    fn failed_at(&self) -> Option<u64> {
        None
    }

    /// Whether it keeps items that it has taken, and sees itself to what is said of them.
    #[doc(hidden)]
    fn keeps_items() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Whether it may have a thread of its own beside its worker's.
    #[doc(hidden)]
    fn has_helper() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// How long that thread was at work.
    #[doc(hidden)]
    fn helper_busy(&self) -> Option<Duration> {
        None
    }

    /// Such a node, where it begins with items before their turn.
    #[doc(hidden)]
    fn ahead(&mut self) -> Option<&mut dyn Ahead<Self::In, Self::Out>> {
        None
    }

    /// Hands such a node what is said of its items, before it begins. Tells whether it is one.
    #[doc(hidden)]
    fn take_over(&mut self, _duties: Duties<Self::In>) -> Result<bool, Cause> {
        Ok(false)
    }

    /// A message begins, whose first item has this number.
    #[doc(hidden)]
    fn message_begins(&mut self, _first: u64) {}

    /// Runs once after the last item, and may still send.
    ///
    /// # Errors
    ///
    /// An error fails the run.
    fn svc_end(&mut self, _out: &mut Outlet<Self::Out>) -> Result<(), Cause> {
        Ok(())
    }
}

/// What is said of the items of a node.
#[doc(hidden)]
#[derive(Debug)]
pub struct Duties<T> {
    pub(crate) on_error: OnError,
    pub(crate) clone: Option<CloneFn<T>>,
    /// Whether what comes of an item goes on before what comes of the next.
    pub(crate) ordered: bool,
    /// Whether messages stay in their lanes until all of their items are answered: then items begin
    /// before their turn, by [`Node::ahead`].
    pub(crate) ahead: bool,
}

/// A node that begins with items before their turn. Each has a place, one after the other, and what
/// came of it goes on when that is asked for.
#[doc(hidden)]
pub trait Ahead<I, O> {
    /// How many it has at a time.
    fn at_once(&self) -> usize;

    /// Whether more may begin.
    fn has_room(&self) -> bool;

    /// Begins with an item, which has this number. Gives its place.
    fn begin(&mut self, item: I, number: u64, out: &mut Outlet<O>) -> Result<u64, Cause>;

    /// Takes note of what is finished.
    fn gather(&mut self) -> Result<(), Cause>;

    /// Whether all of these are finished.
    fn are_finished(&self, places: &Range<u64>) -> bool;

    /// Sends what came of an item that is finished.
    fn send(&mut self, place: u64, out: &mut Outlet<O>) -> Result<(), Cause>;

    /// Drops what came of those that are finished.
    fn forget(&mut self, places: &Range<u64>);
}

impl<I: 'static, O: 'static> Node for Box<dyn Node<In = I, Out = O>> {
    type In = I;
    type Out = O;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        (**self).svc_init(worker)
    }

    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc(item, out)
    }

    fn svc_on(&mut self, input: usize, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc_on(input, item, out)
    }

    fn wants(&self, input: usize) -> bool {
        (**self).wants(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).input_ended(input, out)
    }

    fn svc_idle(&mut self, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        (**self).svc_idle(out)
    }

    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }

    fn has_helper() -> bool {
        true // Nobody knows.
    }

    fn helper_busy(&self) -> Option<Duration> {
        (**self).helper_busy()
    }

    fn may_wait(&self) -> bool {
        (**self).may_wait()
    }

    fn at_item(&self) -> Option<u64> {
        (**self).at_item()
    }

    fn failed_at(&self) -> Option<u64> {
        (**self).failed_at()
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead<I, O>> {
        (**self).ahead()
    }

    fn take_over(&mut self, duties: Duties<I>) -> Result<bool, Cause> {
        (**self).take_over(duties)
    }

    fn message_begins(&mut self, first: u64) {
        (**self).message_begins(first);
    }

    fn svc_end(&mut self, out: &mut Outlet<O>) -> Result<(), Cause> {
        (**self).svc_end(out)
    }
}

/// Which worker of a node this is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The name of the node.
    pub node: String,
    /// Which of its workers, from 0 on.
    pub index: usize,
    /// How many it has.
    pub workers: usize,
    /// How often this worker was replaced before, because its process died.
    pub restarts: u32,
}

/// Hands on what was gathered, as long as it is taken; else gives the answer of whoever took it.
#[inline]
fn hand_on<T>(
    flow: Flow,
    between: &mut Outlet<T>,
    mut take: impl FnMut(T) -> Result<Flow, Cause>,
) -> Result<Flow, Cause> {
    for item in between.drain() {
        if take(item)? == Flow::Eos {
            return Ok(Flow::Eos);
        }
    }
    Ok(flow)
}
