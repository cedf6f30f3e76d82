//! The words of a worker: what it has done, and how it failed.

use std::time::{Duration, Instant};

use super::{Core, words};
use crate::{
    flow::{
        error::{Failure, FailureKind},
        node::{Cause, Node, WorkerInfo},
        plan::{Span, Spent, lane},
        trace::Doing,
    },
    start::Panic,
};

impl<N: Node> Core<N> {
    pub(super) fn note_waits(&self) {
        let waited = self.waited.replace(Duration::ZERO);
        if !waited.is_zero() {
            self.add(words::WAIT_IN, waited.as_nanos() as u64);
        }
    }

    pub(super) fn failure(&self, item: Option<u64>, kind: FailureKind, cause: Cause) -> Failure {
        let WorkerInfo { node, index, .. } = &self.setting.info;
        Failure::new(node, *index, item, kind, cause)
    }

    pub(super) fn panic_failure(
        &self,
        item: Option<u64>,
        kind: FailureKind,
        panic: Panic,
    ) -> Failure {
        let WorkerInfo { node, index, .. } = &self.setting.info;
        Failure::panicked(node, *index, item, kind, panic)
    }

    #[cold]
    pub(super) fn fail_by_panic(&mut self, item: Option<u64>, kind: FailureKind, panic: Panic) {
        let failure = self.panic_failure(item, kind, panic);
        self.fail_with(failure);
    }

    #[cold]
    pub(super) fn fail(&mut self, item: Option<u64>, kind: FailureKind, cause: Cause) {
        let failure = self.failure(item, kind, cause);
        self.fail_with(failure);
    }

    #[cold]
    fn fail_with(&mut self, failure: Failure) {
        self.ended = true;
        self.outlet.close();
        self.failures.borrow_mut().push((self.setting.number, failure));
        self.executor.shared.fail(self.setting.number);
    }

    /// Whether what was sent could not travel.
    pub(super) fn check_sends(&mut self) -> bool {
        let failure = self.outlet.exits().and_then(|exits| exits.take_failure());
        match failure {
            None => false,
            Some(reason) => {
                // Of which of its items that came is not known: they were sent on together.
                self.fail(None, FailureKind::Transport, reason.into());
                true
            }
        }
    }

    /// Whether it takes no more, though its inputs have not ended.
    pub(super) fn is_done(&self) -> bool {
        self.ended || self.outlet.is_closed()
    }

    pub(super) fn note_sent(&mut self) {
        let sent = self.outlet.take_sent();
        self.add(words::ITEMS_OUT, sent);
        let notes = std::mem::take(self.outlet.notes());
        if notes.skipped + notes.retried > 0 {
            self.add(words::SKIPPED, notes.skipped);
            self.add(words::RETRIES, notes.retried);
        }
        let (mut discarded, by_input) = self.outlet.take_discarded();
        for (input, items) in by_input.into_iter().enumerate() {
            discarded += items;
            let words = self.setting.inputs.iter().find(|(number, _)| *number == input);
            if let Some((_, words)) = words {
                self.executor.board().add_own(words + lane::DISCARDED, items);
            }
        }
        if discarded > 0 {
            self.add(words::DISCARDED, discarded);
        }
    }

    /// Notes that it worked, for those who look at a trace; `before` is who was at work then.
    pub(super) fn note_busy(&self, began: Instant, before: Option<u32>) {
        if let (Some(notes), Some(before)) = (&self.executor.notes, before) {
            notes.note_current(Doing::Busy, began);
            notes.begin(before);
        }
    }

    pub(super) fn begin_to_work(&self) -> Option<u32> {
        self.executor.notes.as_ref().map(|notes| notes.begin(self.setting.number as u32))
    }

    /// Counts what it has done since then. Gives what that cost, with all whom it called.
    pub(super) fn note_spent(&mut self, since: Span) -> Duration {
        let Spent { busy, waited, cost } = self.executor.clock.end(since);
        self.add(words::BUSY, busy.as_nanos() as u64);
        if !waited.is_zero() {
            self.add(words::WAIT_OUT, waited.as_nanos() as u64);
        }
        self.note_sent();
        cost
    }

    /// Counts what the node's own thread has done, if it has one.
    pub(super) fn note_helper(&mut self) {
        if let Some(busy) = self.node.helper_busy() {
            self.add(words::BUSY, busy.saturating_sub(self.helper_busy).as_nanos() as u64);
            self.helper_busy = busy;
        }
    }

    /// Sends on what was gathered, by itself.
    pub(super) fn flush(&mut self) {
        let span = self.executor.clock.begin();
        // The next send tells.
        let _ = self.outlet.flush();
        self.note_spent(span);
    }
}
