//! A node of a file, where it runs.

use std::time::Duration;

use super::registry::Boxed;
use crate::flow::{
    Cause, Flow, Node, Outlet, WorkerInfo,
    node::{Ahead, Duties},
};

/// A node where it runs. Its constructor was called before, and may fail here all the same.
pub(super) struct Made<I, O> {
    pub(super) node: Result<Boxed<I, O>, Option<Cause>>,
    /// Those of the inputs that it requires that have not ended.
    pub(super) required: Vec<usize>,
    /// The same of its other inputs.
    pub(super) others: Vec<usize>,
    /// Whether it has ended because of them, though other inputs have not.
    pub(super) ended: bool,
}

impl<I: 'static, O: 'static> Made<I, O> {
    fn node(&mut self) -> Result<&mut Boxed<I, O>, Cause> {
        self.node
            .as_mut()
            .map_err(|cause| cause.take().unwrap_or_else(|| "its constructor has failed".into()))
    }
}

impl<I: 'static, O: 'static> Node for Made<I, O> {
    type In = I;
    type Out = O;

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        self.node()?.svc_init(worker)
    }

    fn svc(&mut self, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        self.node()?.svc(item, out)
    }

    fn svc_on(&mut self, input: usize, item: I, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        self.node()?.svc_on(input, item, out)
    }

    fn has_helper() -> bool {
        true // Nobody knows.
    }

    fn helper_busy(&self) -> Option<Duration> {
        self.node.as_ref().ok()?.helper_busy()
    }

    fn may_wait(&self) -> bool {
        self.node.as_ref().map_or(true, |node| node.may_wait())
    }

    fn wants(&self, input: usize) -> bool {
        self.node.as_ref().map_or(true, |node| node.wants(input))
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        let flow = self.node()?.input_ended(input, out)?;
        let had_some = !self.required.is_empty();
        self.required.retain(|other| *other != input);
        self.others.retain(|other| *other != input);
        // After the last of all inputs it ends by itself.
        if !had_some || !self.required.is_empty() || self.others.is_empty() {
            return Ok(flow);
        }
        // Nothing can be sent any more once it has said so.
        self.svc_end(out)?;
        self.ended = true;
        Ok(Flow::Eos)
    }

    fn svc_idle(&mut self, out: &mut Outlet<O>) -> Result<Flow, Cause> {
        self.node()?.svc_idle(out)
    }

    fn is_ready(&self) -> bool {
        self.node.as_ref().is_ok_and(|node| node.is_ready())
    }

    fn at_item(&self) -> Option<u64> {
        self.node.as_ref().ok()?.at_item()
    }

    fn failed_at(&self) -> Option<u64> {
        self.node.as_ref().ok()?.failed_at()
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead<I, O>> {
        self.node.as_mut().ok()?.ahead()
    }

    fn take_over(&mut self, duties: Duties<I>) -> Result<bool, Cause> {
        // One that could not be made says so when it begins.
        self.node.as_mut().map_or(Ok(false), |node| node.take_over(duties))
    }

    fn message_begins(&mut self, first: u64) {
        if let Ok(node) = &mut self.node {
            node.message_begins(first);
        }
    }

    fn svc_end(&mut self, out: &mut Outlet<O>) -> Result<(), Cause> {
        if self.ended { Ok(()) } else { self.node()?.svc_end(out) }
    }
}
