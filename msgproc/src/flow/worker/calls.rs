//! Lanes within a thread: who sends calls the worker that takes.

use std::{cell::RefCell, rc::Rc};

use super::Worker;
use crate::{
    flow::{
        edge::{Batch, Fate, Refused, Tx},
        error::FailureKind,
        node::Node,
    },
    start::catch_here,
};

/// A worker, for those in the same thread who send to it: they call it.
pub(crate) trait Accept<T> {
    /// Takes a message.
    fn accept(&mut self, inlet: usize, lane: usize, batch: Batch<T>);

    /// Whether all whom it calls can be called, and its node wants what comes at this inlet. Asked
    /// before a caller does anything: in the middle of its work it cannot be held back, for others
    /// that it waits for may lie below it on the stack.
    fn can_accept(&self, inlet: usize) -> bool;

    /// Whether what it sends comes to a gate.
    fn leads_to_gate(&self) -> bool;
}

impl<N: Node> Worker<N> {
    /// Takes a message from a worker in the same thread.
    fn called(&mut self, inlet: usize, lane: usize, batch: Batch<N::In>) {
        let Worker { core, inlets, inputs, .. } = self;
        if core.ended {
            return;
        }
        core.note_waits();
        let head = batch.head;
        let lane_words = inlets[inlet].words(lane);
        let fate = core.handle(inputs[inlet], lane_words, batch);
        inlets[inlet].called(lane, &head);
        let has_ended = fate == Fate::Done && inlets[inlet].is_ended() && head.end;
        self.after_message(inlet, has_ended);
    }
}

impl<N: Node> Accept<N::In> for Worker<N> {
    fn accept(&mut self, inlet: usize, lane: usize, batch: Batch<N::In>) {
        let (executor, rank) = (self.core.executor.clone(), self.core.setting.rank);
        let turn = self.core.turn();
        executor.enter(rank, turn, || {
            if let Err(panic) = catch_here(|| self.called(inlet, lane, batch)) {
                self.core.fail_by_panic(None, FailureKind::Panic, panic);
            }
        });
    }

    fn can_accept(&self, inlet: usize) -> bool {
        let core = &self.core;
        core.outlet.can_call() && (core.ended || core.node.wants(self.inputs[inlet]))
    }

    fn leads_to_gate(&self) -> bool {
        self.core.outlet.leads_to_gate()
    }
}

/// A lane that is a call.
pub(crate) struct Direct<T> {
    target: Rc<RefCell<dyn Accept<T>>>,
    inlet: usize,
    lane: usize,
}

impl<T> Direct<T> {
    pub(crate) fn new(target: Rc<RefCell<dyn Accept<T>>>, inlet: usize, lane: usize) -> Direct<T> {
        Direct { target, inlet, lane }
    }
}

impl<T> Tx<T> for Direct<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        match self.target.try_borrow_mut() {
            Ok(mut target) => {
                target.accept(self.inlet, self.lane, batch);
                Ok(0)
            }
            Err(_) => Err(Refused::Full(batch)),
        }
    }

    fn can_call(&self) -> bool {
        self.target.try_borrow().is_ok_and(|target| target.can_accept(self.inlet))
    }

    fn leads_to_gate(&self) -> bool {
        self.target.try_borrow().is_ok_and(|target| target.leads_to_gate())
    }
}
