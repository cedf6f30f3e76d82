//! An input ends, and the node.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Core, words};
use crate::{
    fault::fault,
    flow::{
        edge::Head,
        error::FailureKind,
        node::{Flow, Node},
        outlet::Closed,
    },
};

impl<N: Node> Core<N> {
    pub(super) fn input_ended(&mut self, input: usize) {
        if self.ended {
            return;
        }
        let span = self.executor.clock.begin();
        let Core { node, outlet, .. } = self;
        let told = catch_unwind(AssertUnwindSafe(|| node.input_ended(input, outlet)));
        self.note_spent(span);
        match told {
            Ok(Ok(Flow::GoOn | Flow::Wait)) => {}
            Ok(Ok(Flow::Eos)) => {
                let _ = self.outlet.flush();
                self.outlet.close();
            }
            Ok(Err(cause)) if cause.is::<Closed>() => self.outlet.close(),
            Ok(Err(cause)) => self.fail(None, FailureKind::Error, cause),
            Err(panic) => {
                self.fail_by_panic(None, FailureKind::Panic, &*panic);
            }
        }
    }

    /// Runs the node's `svc_end`, and says to those that follow that nothing more comes.
    pub(super) fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.executor.is_stopped() {
            return;
        }
        if self.setting.survives {
            if !self.ends_again {
                self.store(words::LANE, 0);
                fault!(END_NOTHING);
            }
            if let Some(exits) = self.outlet.exits() {
                exits.begin(&Head::default(), self.ends_again);
            }
            fault!(END_BASE);
            self.store(words::LANE, words::ENDING);
            fault!(END_BEGUN);
        }
        let span = self.executor.clock.begin();
        let well = self.end_well();
        self.note_spent(span);
        if well {
            self.store(words::STATE, words::ENDED);
            fault!(END_ENDED);
        }
    }

    /// Tells whether it did not fail.
    fn end_well(&mut self) -> bool {
        let Core { node, outlet, .. } = self;
        let ended = catch_unwind(AssertUnwindSafe(|| node.svc_end(outlet)));
        match ended {
            Ok(Err(cause)) if !cause.is::<Closed>() => {
                self.fail(None, FailureKind::End, cause);
                return false;
            }
            Ok(_) => {}
            Err(panic) => {
                self.fail_by_panic(None, FailureKind::End, &*panic);
                return false;
            }
        }
        fault!(END_CALLED);
        let _ = self.outlet.flush();
        fault!(END_FLUSHED);
        if self.check_sends() {
            return false;
        }
        if let Some(exits) = self.outlet.exits() {
            exits.end();
        }
        fault!(END_SAID);
        true
    }
}
