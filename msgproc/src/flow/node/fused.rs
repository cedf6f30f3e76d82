//! Two nodes as one.

use super::{Cause, Flow, Node, WorkerInfo};
use crate::flow::outlet::Outlet;

/// Two nodes as one, in the same worker: the second takes what the first sends. From [`fuse`].
pub struct Fused<A: Node, B> {
    first: A,
    second: B,
    between: Outlet<A::Out>,
}

/// Makes one node of two: no edge lies between them. What the first sends for one item lies in
/// memory until it returns.
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
        out.discard(self.between.take_discarded());
        for item in self.between.drain() {
            if self.second.svc(item, out)? == Flow::Eos {
                return Ok(Flow::Eos);
            }
        }
        Ok(flow)
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
        let flow = self.first.svc(item, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn svc_on(
        &mut self,
        input: usize,
        item: A::In,
        out: &mut Outlet<B::Out>,
    ) -> Result<Flow, Cause> {
        let flow = self.first.svc_on(input, item, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn wants(&self, input: usize) -> bool {
        self.first.wants(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<B::Out>) -> Result<Flow, Cause> {
        let flow = self.first.input_ended(input, &mut self.between)?;
        self.hand_on(flow, out)
    }

    fn svc_end(&mut self, out: &mut Outlet<B::Out>) -> Result<(), Cause> {
        self.first.svc_end(&mut self.between)?;
        self.hand_on(Flow::GoOn, out)?;
        self.second.svc_end(out)
    }
}
