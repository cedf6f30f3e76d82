//! An input ends, and the node.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Core, words};
use crate::{
    fault::fault,
    flow::{
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
        let is_new = self.begin_to_tell(input);
        self.outlet.set_muted(!is_new);
        let Core { node, outlet, .. } = self;
        let told = catch_unwind(AssertUnwindSafe(|| node.input_ended(input, outlet)));
        if is_new {
            self.note_told(input);
        }
        self.outlet.set_muted(false);
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

    /// Whether what the node sends when it is told counts: it does not, if a worker that this one
    /// replaces told its node, and sent on what came of that.
    fn begin_to_tell(&mut self, input: usize) -> bool {
        let (survives, head) = (self.setting.survives, self.end_head(false));
        let again = self.tells_again == Some(input);
        if survives && (self.ends_again || self.load(words::TOLD) & told(input) != 0) {
            return false;
        }
        if survives && !again {
            self.store(words::LANE, 0);
            fault!(TELL_NOTHING);
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(&head, again);
        }
        if survives {
            fault!(TELL_BASE);
            self.store(words::LANE, words::telling(input));
            fault!(TELL_BEGUN);
        }
        true
    }

    fn note_told(&mut self, input: usize) {
        self.tells_again = None;
        self.finish_end(false);
        if self.setting.survives {
            fault!(TELL_SENT);
            self.store(words::TOLD, self.load(words::TOLD) | told(input));
            fault!(TELL_TOLD);
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
        let (survives, head) = (self.setting.survives, self.end_head(true));
        if survives && !self.ends_again {
            self.store(words::LANE, 0);
            fault!(END_NOTHING);
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(&head, self.ends_again);
        }
        if survives {
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

    /// Sends on what came of an end, where it must not wait.
    fn finish_end(&mut self, last: bool) {
        let (head, numbered) = (self.end_head(last), self.setting.numbered);
        if !(last || numbered || self.setting.survives) {
            return;
        }
        // The next send tells.
        let _ = self.outlet.flush();
        if let Some(exits) = self.outlet.exits().filter(|_| numbered || self.setting.survives) {
            exits.finish(&head);
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
        self.finish_end(true);
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

/// The bit of an input, if it has one.
fn told(input: usize) -> u64 {
    1_u64.checked_shl(input as u32).unwrap_or(0)
}
