//! Two nodes as one.

use std::time::Duration;

use super::{Cause, Duties, Flow, Node, WorkerInfo, hand_on};
use crate::flow::{outlet::Outlet, worker::OnError};

/// Two nodes as one, in the same worker: the second takes what the first sends. From [`fuse`].
pub struct Fused<A: Node, B> {
    first: A,
    second: B,
    between: Outlet<A::Out>,
}

/// Makes one node of two: no edge lies between them. What the first sends for one item lies in
/// memory until it returns. The second takes what the first sends from output 0; what it sends from
/// another goes nowhere.
pub fn fuse<A, B>(first: A, second: B) -> Fused<A, B>
where
    A: Node,
    B: Node<In = A::Out>,
    A::Out: 'static,
{
    Fused { first, second, between: Outlet::collecting() }
}

impl<A: Node, B: Node<In = A::Out>> Fused<A, B> {
    #[inline]
    fn hand_on(&mut self, flow: Flow, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        out.discard_as(&mut self.between);
        hand_on(flow, &mut self.between, |item| self.second.svc(item, out))
    }
}

impl<A, B> Node for Fused<A, B>
where
    A: Node,
    B: Node<In = A::Out>,
    A::Out: 'static,
{
    type In = A::In;
    type Out = B::Out;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        self.second.svc_init(worker)?;
        self.first.svc_init(worker)
    }

    #[inline]
    fn svc(&mut self, item: A::In, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        self.svc_on(0, item, out)
    }

    #[inline]
    fn svc_on(
        &mut self,
        input: usize,
        item: A::In,
        out: &mut Outlet<B::Out>,
    ) -> Result<Flow, Cause> {
        let Fused { first, second, between } = self;
        between.wait_as(out);
        let flow = first.svc_to(input, item, between, |item| second.svc(item, out))?;
        out.discard_as(between);
        Ok(flow)
    }

    #[inline]
    fn svc_to<F>(
        &mut self,
        input: usize,
        item: A::In,
        after: &mut Outlet<B::Out>,
        mut take: F,
    ) -> Result<Flow, Cause>
    where
        F: FnMut(B::Out) -> Result<Flow, Cause>,
    {
        let Fused { first, second, between } = self;
        between.wait_as(after);
        let flow =
            first.svc_to(input, item, between, |item| second.svc_to(0, item, after, &mut take))?;
        after.discard_as(between);
        Ok(flow)
    }

    #[inline]
    fn may_wait(&self) -> bool {
        self.first.may_wait()
    }

    fn wants(&self, input: usize) -> bool {
        self.first.wants(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        self.between.wait_as(out);
        let flow = self.first.input_ended(input, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn svc_idle(&mut self, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        self.between.wait_as(out);
        let flow = self.first.svc_idle(&mut self.between)?;
        match self.hand_on(flow, out)? {
            Flow::Eos => Ok(Flow::Eos),
            _ => self.second.svc_idle(out),
        }
    }

    fn is_ready(&self) -> bool {
        self.first.is_ready() || self.second.is_ready()
    }

    fn at_item(&self) -> Option<u64> {
        self.first.at_item()
    }

    fn failed_at(&self) -> Option<u64> {
        self.first.failed_at().or_else(|| self.second.failed_at())
    }

    fn keeps_items() -> bool {
        A::keeps_items() || B::keeps_items()
    }

    fn has_helper() -> bool {
        A::has_helper()
    }

    fn helper_busy(&self) -> Option<Duration> {
        self.first.helper_busy()
    }

    fn take_over(&mut self, duties: Duties<A::In>) -> Result<bool, Cause> {
        let Duties { on_error, clone, ordered, ahead } = duties;
        let first = self.first.take_over(Duties { on_error, clone, ordered, ahead })?;
        // What the first sends cannot be cloned by what clones what it takes.
        let second = Duties { on_error: OnError::fail(), clone: None, ordered, ahead };
        let keeps = first | self.second.take_over(second)?;
        if keeps && on_error != OnError::fail() {
            return Err("a node that awaits futures is one with another one: whose errors are not to fail the run is not clear, so let it be a node of its own".into());
        }
        Ok(keeps)
    }

    fn message_begins(&mut self, first: u64) {
        self.first.message_begins(first);
    }

    fn svc_end(&mut self, out: &mut Outlet<B::Out>) -> Result<(), Cause> {
        self.between.wait_as(out);
        self.first.svc_end(&mut self.between)?;
        self.hand_on(Flow::GoOn, out)?;
        self.second.svc_end(out)
    }
}
