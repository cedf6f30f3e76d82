//! What a node does without an item: a source, and one that waited for something.

use std::{any::Any, time::Duration};

use super::{Core, Stop, words};
use crate::{
    fault::fault,
    flow::{
        error::FailureKind,
        node::{Flow, Node},
        outlet::Closed,
        plan::Poll,
    },
    start::catch_here,
};

/// Items of a source that took longer go on at once.
const SLOW: Duration = Duration::from_micros(50);

impl<N: Node> Core<N> {
    /// Lets a source go on for a while.
    pub(super) fn produce(&mut self) -> Poll {
        let before = self.begin_to_work();
        let span = self.executor.clock.begin();
        let began = span.began;
        let (mut count, mut next_look) = (0_u64, 1);
        let produced = {
            let Core { node, outlet, .. } = self;
            // One door for all items: entering it costs.
            let stopped = catch_here(|| {
                loop {
                    let Some(nothing) = nothing::<N::In>() else {
                        return Stop::Failed("it has no input, and takes something".into());
                    };
                    match node.svc(nothing, outlet) {
                        Ok(Flow::GoOn) => {}
                        Ok(Flow::Wait) => return Stop::Dry,
                        Ok(Flow::Eos) => return Stop::Eos,
                        Err(cause) => return Stop::Failed(cause),
                    }
                    fault!(SOURCE_PRODUCED);
                    outlet.breathe();
                    count += 1;
                    if outlet.is_closed() {
                        return Stop::Eos;
                    }
                    if outlet.leads_to_gate() && !outlet.can_call() {
                        return Stop::Through;
                    }
                    if node.may_wait() {
                        if outlet.flush().is_err() {
                            return Stop::Eos;
                        }
                        // Those that are called may have something to send on, too.
                        if !outlet.others_rest() {
                            return Stop::Through;
                        }
                    }
                    // The clock costs as much as a short item.
                    if count == next_look {
                        if began.elapsed() > SLOW {
                            // It may take as long for the next, which these need not wait for.
                            return match outlet.flush() {
                                Ok(()) => Stop::Through,
                                Err(Closed) => Stop::Eos,
                            };
                        }
                        if count >= 256 {
                            return Stop::Through;
                        }
                        next_look *= 2;
                    }
                }
            });
            if count > 0 {
                self.failed_in_a_row = 0;
            }
            let number = self.load(words::ITEMS_OUT) + self.outlet.given();
            let number = self.node.at_item().unwrap_or(number);
            match stopped {
                Ok(Stop::Through) => Poll::Worked,
                Ok(Stop::Dry) => {
                    // It may be the last that it sends.
                    let _ = self.outlet.flush();
                    let ends = self.check_sends() || self.outlet.sees_closed();
                    if ends { Poll::Ended } else { Poll::Idle }
                }
                Ok(Stop::Eos | Stop::LeftOut) => {
                    // What the one before has sent is known of these, and not of what comes at the
                    // end. The next send tells.
                    let _ = self.outlet.flush();
                    self.check_sends();
                    Poll::Ended
                }
                Ok(Stop::Failed(cause)) if cause.is::<Closed>() => {
                    self.check_sends();
                    Poll::Ended
                }
                Ok(Stop::Failed(_)) if self.may_try_again() => Poll::Worked,
                Err(_) if !self.outlet.is_torn() && self.may_try_again() => Poll::Worked,
                Ok(Stop::Failed(cause)) => {
                    self.fail(Some(number), FailureKind::Error, cause);
                    Poll::Ended
                }
                Err(panic) => {
                    // Not over an item of its own, if it was when several were sent on.
                    let number = Some(number).filter(|_| !self.outlet.is_torn());
                    self.fail_by_panic(number, FailureKind::Panic, panic);
                    Poll::Ended
                }
            }
        };
        self.hand_to_called();
        self.note_spent(span);
        self.note_helper();
        self.note_busy(began, before);
        produced
    }

    /// Whether a source that failed is asked again: as often in a row as its retries say, and for
    /// ever if it leaves out what it fails over.
    fn may_try_again(&mut self) -> bool {
        let on_error = self.setting.on_error;
        if self.failed_in_a_row < on_error.retries() {
            self.failed_in_a_row += 1;
            self.add(words::RETRIES, 1);
        } else if on_error.skips() {
            self.failed_in_a_row = 0;
            self.add(words::SKIPPED, 1);
        } else {
            return false;
        }
        true
    }

    /// Lets a node go on that waited for something beside its items. Tells whether it takes more.
    pub(super) fn go_on(&mut self) -> bool {
        let (span, was) = (self.executor.clock.begin(), self.begin_to_work());
        let Core { node, outlet, .. } = self;
        let called = catch_here(|| node.svc_idle(outlet));
        self.note_busy(span.began, was);
        self.note_spent(span);
        let number = self.node.at_item();
        match called {
            Ok(Ok(Flow::GoOn | Flow::Wait)) => {}
            Ok(Ok(Flow::Eos)) => {
                let _ = self.outlet.flush();
                self.outlet.close();
            }
            Ok(Err(cause)) if cause.is::<Closed>() => {
                self.check_sends();
                self.outlet.close();
            }
            Ok(Err(cause)) => self.fail(number, FailureKind::Error, cause),
            Err(panic) => {
                self.fail_by_panic(number, FailureKind::Panic, panic);
            }
        }
        !self.is_done()
    }
}

/// What a source takes.
fn nothing<T: 'static>() -> Option<T> {
    let mut nothing = Some(());
    (&mut nothing as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take)
}
