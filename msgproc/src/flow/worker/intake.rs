//! Where the next message comes from.

use super::Worker;
use crate::{
    fault::fault,
    flow::{
        circle::Step,
        edge::{Fate, Inlet, Taken},
        error::FailureKind,
        node::Node,
        plan::{DRAINING, Poll},
    },
};

impl<N: Node> Worker<N> {
    pub(super) fn inputs_ended(&self) -> bool {
        self.inlets.iter().all(Inlet::is_ended)
    }

    /// Tells the node that an input has ended, after the last of its edges.
    pub(super) fn note_end(&mut self, inlet: usize) {
        let input = self.inputs[inlet];
        if self.entrance.as_ref().is_some_and(|entrance| entrance.comes_back_to(input)) {
            return; // It ends when the circle is at rest.
        }
        let mut same = self.inlets.iter().zip(&self.inputs).filter(|(_, other)| **other == input);
        if same.all(|(inlet, _)| inlet.is_ended()) {
            self.core.input_ended(input);
        }
    }

    /// Tells the node which inputs had ended before it was there. What was begun then is finished
    /// before, unless that is why the node does not want it.
    pub(super) fn note_ends(&mut self) {
        let begun = self.core.again.is_some() && self.core.node.wants(self.inputs[self.cursor]);
        if !self.owes_ends || begun {
            return;
        }
        self.owes_ends = false;
        let first = |at: usize| self.inputs[..at].iter().all(|input| *input != self.inputs[at]);
        let inputs: Vec<usize> = (0..self.inlets.len()).filter(|at| first(*at)).collect();
        inputs.into_iter().for_each(|at| self.note_end(at));
    }

    /// Whether nothing more comes, or nothing more is taken. So it is at once where all was taken by a
    /// worker that this one replaces.
    pub(super) fn is_over(&self) -> bool {
        self.inputs_ended() || self.core.is_done()
    }

    /// A message of an inlet was handled, which has ended with it perhaps.
    pub(super) fn after_message(&mut self, inlet: usize, has_ended: bool) -> Poll {
        if self.core.setting.numbered {
            // What is said at the end has the number of the next turn, and may have to wait for room:
            // that is for a poll of its own, since somebody with a lower number may be below.
            self.owes_ends |= has_ended;
            return Poll::Worked;
        }
        if has_ended {
            self.note_end(inlet);
        }
        if self.is_over() { self.end() } else { Poll::Worked }
    }

    /// Ends the node after its last item.
    pub(super) fn end(&mut self) -> Poll {
        if let Some(circle) = &self.core.setting.circle {
            circle.note_end();
        }
        self.core.end();
        if let Some(entrance) = &self.entrance {
            entrance.close();
        }
        for inlet in &self.inlets {
            inlet.close(&self.core.executor);
        }
        fault!(END_CLOSED);
        Poll::Ended
    }

    pub(super) fn poll_source(&mut self) -> Poll {
        let core = &mut self.core;
        let shared = core.executor.shared.clone();
        let drains = shared.phase() >= DRAINING;
        if (drains && !core.setting.is_fed) || core.outlet.is_closed() {
            return self.end();
        }
        if shared.is_frozen() && !drains {
            core.flush();
            return Poll::Idle;
        }
        let produced = core.produce();
        core.dry = produced == Poll::Idle;
        if produced == Poll::Ended { self.end() } else { produced }
    }

    /// For the head of a circle: what comes back first, then what there are credits for.
    fn poll_entrance(&mut self) -> Poll {
        loop {
            let Worker { core, inlets, inputs, cursor, entrance, .. } = self;
            let Some(entrance) = entrance else { return Poll::Ended };
            match entrance.step() {
                Step::Handle((input, lane, batch)) => {
                    let items = batch.items.len();
                    let fate = core.handle(input, lane, batch);
                    if fate == Fate::Done {
                        entrance.leave(items);
                    }
                    return match fate {
                        Fate::Keep => Poll::Ended,
                        Fate::Done if core.is_done() => self.end(),
                        Fate::Done => Poll::Worked,
                    };
                }
                Step::Take => {
                    let executor = core.executor.clone();
                    let count = inlets.len();
                    let at = (0..count)
                        .map(|step| (*cursor + step) % count)
                        .find(|index| inlets[*index].is_ready());
                    if let Some(at) = at {
                        let input = inputs[at];
                        let taken = inlets[at].take(&executor, &mut |lane, batch| {
                            entrance.keep(input, lane, batch);
                            Fate::Done
                        });
                        *cursor = (at + 1) % count;
                        match taken {
                            Ok(Taken::Done) => {}
                            Ok(_) => break,
                            Err(reason) => {
                                core.fail(None, FailureKind::Transport, reason.into());
                                return Poll::Ended;
                            }
                        }
                        if self.inlets[at].is_ended() {
                            self.note_end(at);
                        }
                    } else if !self.inputs_ended() {
                        break;
                    } else if let Some(entrance) = &mut self.entrance {
                        // What came of the end is counted before the door is shut.
                        self.core.flush();
                        entrance.shut();
                    }
                }
                Step::Wait => break,
                Step::End => {
                    let inputs = entrance.inputs().to_vec();
                    inputs.into_iter().for_each(|input| core.input_ended(input));
                    return self.end();
                }
                Step::Fail(reason) => {
                    core.fail(None, FailureKind::Transport, reason.into());
                    return Poll::Ended;
                }
            }
        }
        self.rest()
    }

    pub(super) fn poll_inlets(&mut self) -> Poll {
        if self.entrance.is_some() {
            return self.poll_entrance();
        }
        if self.is_over() {
            return self.end();
        }
        let count = self.inlets.len();
        for step in 0..count {
            let at = (self.cursor + step) % count;
            let Worker { core, inlets, inputs, .. } = self;
            if !core.node.wants(inputs[at]) {
                continue;
            }
            let executor = core.executor.clone();
            let taken =
                inlets[at].take(&executor, &mut |lane, batch| core.handle(inputs[at], lane, batch));
            match taken {
                Ok(Taken::Nothing) => {}
                Ok(Taken::Kept) => {
                    return if core.outlet.is_closed() && !executor.is_stopped() {
                        self.end()
                    } else {
                        Poll::Ended
                    };
                }
                Ok(Taken::Done) => {
                    self.cursor = (at + 1) % count;
                    self.core.note_one_by_one();
                    return self.after_message(at, self.inlets[at].is_ended());
                }
                Err(reason) => {
                    core.fail(None, FailureKind::Transport, reason.into());
                    return Poll::Ended;
                }
            }
        }
        self.rest()
    }

    /// Sends on what was gathered, when there is nothing to do.
    pub(super) fn rest(&mut self) -> Poll {
        let core = &mut self.core;
        if core.node.is_ready() {
            return if core.go_on() { Poll::Worked } else { self.end() };
        }
        if core.outlet.has_gathered() || core.outlet.can_send_pending() {
            core.flush();
            core.check_sends();
        }
        if core.outlet.sees_closed() {
            return self.end();
        }
        Poll::Idle
    }
}
