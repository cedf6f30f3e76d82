//! An input ends, and the node.

use super::{At, Core, words};
use crate::{
    fault::fault,
    flow::{
        error::FailureKind,
        node::{Flow, Node},
        outlet::Closed,
    },
    start::catch_here,
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
        let told = catch_here(|| node.input_ended(input, outlet));
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
                self.fail_by_panic(None, FailureKind::Panic, panic);
            }
        }
    }

    /// Whether what the node sends when it is told counts: it does not, if a worker that this one
    /// replaces told its node, and sent on what came of that.
    fn begin_to_tell(&mut self, input: usize) -> bool {
        let (survives, head) = (self.setting.survives, self.end_head(false));
        let again = self.found == At::Telling(input);
        let was_told = self.found == At::Ending || self.load(words::TOLD) & told(input) != 0;
        if survives && was_told {
            return false;
        }
        if survives && !again {
            self.store_at(At::Nothing);
            fault!(TELL_NOTHING);
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(&head, again);
        }
        if survives {
            fault!(TELL_BASE);
            self.store_at(At::Telling(input));
            fault!(TELL_BEGUN);
        }
        true
    }

    fn note_told(&mut self, input: usize) {
        self.finish(&self.end_head(false));
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
        let again = self.found == At::Ending;
        if survives && !again {
            self.store_at(At::Nothing);
            fault!(END_NOTHING);
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(&head, again);
        }
        if survives {
            fault!(END_BASE);
            self.store_at(At::Ending);
            fault!(END_BEGUN);
        }
        let span = self.executor.clock.begin();
        let well = self.end_well();
        self.note_spent(span);
        self.note_helper();
        if well {
            self.store(words::STATE, words::ENDED);
            fault!(END_ENDED);
        }
    }

    /// What failed at the end: an item that was still on its way, or the end itself.
    fn failed_at(&self, of_item: FailureKind) -> (Option<u64>, FailureKind) {
        match self.node.failed_at() {
            Some(item) => (Some(item), of_item),
            None => (None, FailureKind::End),
        }
    }

    /// Tells whether it did not fail.
    fn end_well(&mut self) -> bool {
        let Core { node, outlet, .. } = self;
        let ended = catch_here(|| node.svc_end(outlet));
        match ended {
            Ok(Err(cause)) if !cause.is::<Closed>() => {
                let (item, kind) = self.failed_at(FailureKind::Error);
                self.fail(item, kind, cause);
                return false;
            }
            Ok(_) => {}
            Err(panic) => {
                let (item, kind) = self.failed_at(FailureKind::Panic);
                self.fail_by_panic(item, kind, panic);
                return false;
            }
        }
        fault!(END_CALLED);
        let _ = self.outlet.flush();
        self.finish(&self.end_head(true));
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
