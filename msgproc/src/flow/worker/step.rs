//! A message is handled, item by item.

use std::vec;

use super::{
    At, Core, OnError, Stop,
    recovery::{Again, LeftOut},
    words,
};
use crate::{
    fault::fault,
    flow::{
        edge::{Batch, Fate, Head},
        error::FailureKind,
        node::{Flow, Node},
        outlet::Closed,
        plan::lane::{self, Cost},
    },
    start::catch_here,
};

/// An item that costs more than this, in ns, is handed on by itself.
const SLOW: u64 = 2000;

impl<N: Node> Core<N> {
    /// Handles a message. `lane` is where the words of its lane begin.
    pub(super) fn handle(&mut self, input: usize, lane: usize, batch: Batch<N::In>) -> Fate {
        let Batch { head, items } = batch;
        let count = items.len() as u64;
        let (fate, spent) = self.handle_as(lane, &head, count, |core, left_out| {
            core.handle_items(input, &head, items.into_iter(), left_out)
        });
        if let Some(each) = spent.and_then(|spent| spent.checked_div(count)) {
            self.note_cost(lane, each);
        }
        fate
    }

    /// What an item cost: the receiver's own line says an average over the last few messages.
    pub(super) fn note_cost(&self, lane: usize, each: u64) {
        let word = lane + lane::COST;
        let cost = Cost::of(self.executor.board().load(word)).with(each);
        self.executor.board().store(word, cost.word());
    }

    /// Handles a message as `act` does its items. Gives how long that took, in ns, if it was begun.
    pub(super) fn handle_as(
        &mut self,
        lane: usize,
        head: &Head,
        count: u64,
        act: impl FnOnce(&mut Self, Option<LeftOut>) -> Fate,
    ) -> (Fate, Option<u64>) {
        let again =
            self.again.take().filter(|again| again.lane == lane as u64 && again.message == head.id);
        // What says that this message is handled is written first and last, so that a death in
        // between leaves nothing half said. Handled again, all of it stands there.
        let notes = self.setting.survives && again.is_none();
        if notes {
            self.store_at(At::Nothing);
            fault!(HANDLE_NOTHING);
            self.store(words::MESSAGE, head.id);
            fault!(HANDLE_MESSAGE);
            self.store(words::ITEM, words::NOT_BEGUN);
            fault!(HANDLE_ITEM);
            self.store(words::FIRST, head.first);
            fault!(HANDLE_FIRST);
            self.leave_nothing_out();
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(head, again.is_some());
        }
        if notes {
            self.store_at(At::Message(lane as u64));
            fault!(HANDLE_LANE);
        }
        if again.is_some() {
            fault!(RECOVER_AGAIN);
        }
        if let Some(Again { crashes, item, gives_up: true, .. }) = again {
            let reason = format!("its process died {crashes} times over this item");
            self.fail(Some(head.first + item), FailureKind::Died, reason.into());
            return (Fate::Keep, None);
        }
        let slow = Cost::of(self.executor.board().load(lane + lane::COST)).each > SLOW;
        if let Some(exits) = self.outlet.exits() {
            exits.set_slow(slow);
        }
        let before = self.begin_to_work();
        let span = self.executor.clock.begin();
        let began = span.began;
        let left_out = again.map(|again| {
            again.without.into_iter().for_each(|item| self.leave_out(item));
            self.left_out(&again)
        });
        self.not_handled = 0;
        let fate = act(self, left_out);
        if fate == Fate::Done {
            fault!(ITEMS_DONE);
            self.finish(head);
            fault!(ITEMS_SENT);
            if !head.end {
                let step = if head.last { self.setting.info.workers as u64 } else { 0 };
                self.turn = head.number + step;
            }
            if self.setting.circle.is_some() {
                // All that came of them is sent before they are done with.
                let _ = self.outlet.flush();
            }
        }
        self.hand_to_called();
        self.note_busy(began, before);
        self.add(words::ITEMS_IN, count.saturating_sub(self.not_handled));
        let spent = self.note_spent(span).as_nanos() as u64;
        (if self.check_sends() { Fate::Keep } else { fate }, Some(spent))
    }

    /// Those that are called get what was gathered before this worker does anything else: their
    /// thread is this one.
    pub(super) fn hand_to_called(&mut self) {
        let calls = self.outlet.exits().is_some_and(|exits| exits.calls());
        if calls && self.outlet.has_gathered() {
            // The next send tells.
            let _ = self.outlet.flush();
        }
    }

    /// Sends on what came of a message, where it must not mix with what comes of the next.
    pub(super) fn finish(&mut self, head: &Head) {
        let waits = self.setting.survives || head.end;
        let keeps = self.outlet.exits().is_some_and(|exits| exits.keeps_order());
        if waits || keeps {
            let _ = self.outlet.flush();
        }
        if !head.end {
            // Where it takes no more, the worker sees that before it takes the next.
            let _ = self.outlet.finish(head);
        }
    }

    fn handle_items(
        &mut self,
        input: usize,
        head: &Head,
        mut items: vec::IntoIter<N::In>,
        left_out: Option<LeftOut>,
    ) -> Fate {
        let mut index = 0;
        self.node.message_begins(head.first);
        loop {
            let survives = self.setting.survives;
            let (clone, item_word) = (self.setting.clone, self.words + words::ITEM);
            let holds = self.setting.on_error != OnError::fail();
            let mut kept = None;
            let Core { node, outlet, executor, .. } = self;
            let mut before = 0;
            // One door for all items of a message: entering it costs.
            let stopped = catch_here(|| {
                for item in items.by_ref() {
                    // What the item before left here is not this one's, should its clone panic.
                    kept = None;
                    before = outlet.gathered();
                    if survives {
                        executor.board().store(item_word, index);
                        fault!(ITEM_BEGUN);
                        if left_out.is_some_and(|left_out| left_out.has(index)) {
                            index += 1;
                            return Stop::LeftOut;
                        }
                    }
                    if let Some(clone) = clone {
                        kept = Some(clone(&item));
                    }
                    if holds {
                        outlet.hold();
                    }
                    match node.svc_on(input, item, outlet) {
                        Ok(Flow::GoOn | Flow::Wait) if holds => outlet.let_go(),
                        Ok(Flow::GoOn | Flow::Wait) => {}
                        Ok(Flow::Eos) => return Stop::Eos,
                        Err(cause) => return Stop::Failed(cause),
                    }
                    fault!(ITEM_HANDLED);
                    index += 1;
                    outlet.breathe();
                    if outlet.is_closed() {
                        return Stop::Eos;
                    }
                }
                Stop::Through
            });
            let number = self.node.at_item().unwrap_or(head.first + index);
            let (kind, cause) = match stopped {
                Ok(Stop::Through | Stop::Dry) => return Fate::Done,
                Ok(Stop::LeftOut) => {
                    // For the others before, and what was sent after them, this has been done.
                    if index == self.load(words::REACHED) + 1 {
                        // What came of those before is sent: the rest that is known came of this.
                        let _ = self.outlet.flush();
                        if let Some(exits) = self.outlet.exits() {
                            exits.settle();
                        }
                    }
                    continue;
                }
                Ok(Stop::Eos) => return self.takes_no_more(items.len(), true),
                Ok(Stop::Failed(cause)) if cause.is::<Closed>() => {
                    return self.takes_no_more(items.len(), false);
                }
                Ok(Stop::Failed(cause)) => (FailureKind::Error, Ok(cause)),
                Err(panic) if self.outlet.is_torn() => {
                    self.fail_by_panic(None, FailureKind::Panic, panic);
                    return Fate::Keep;
                }
                Err(panic) => (FailureKind::Panic, Err(panic)),
            };
            self.outlet.forget_since(before);
            let again = self.retry(input, kept);
            self.outlet.let_go();
            match again {
                Some(Ok(Flow::GoOn | Flow::Wait)) => {}
                Some(Ok(Flow::Eos)) => return self.takes_no_more(items.len(), true),
                Some(Err(Closed)) => return self.takes_no_more(items.len(), false),
                None if self.setting.on_error.skips() => self.outlet.notes().skipped += 1,
                None => {
                    match cause {
                        Ok(cause) => self.fail(Some(number), kind, cause),
                        Err(panic) => self.fail_by_panic(Some(number), kind, panic),
                    }
                    return Fate::Keep;
                }
            }
            index += 1;
        }
    }

    /// The node takes no more, before so many items of a message: by its own word, or because it was
    /// told that nobody takes what it sends.
    #[cold]
    fn takes_no_more(&mut self, left: usize, by_its_word: bool) -> Fate {
        self.not_handled = left as u64;
        if by_its_word {
            let _ = self.outlet.flush();
        } else {
            self.check_sends();
        }
        // Whoever says so takes no more, though it may be somebody else's word.
        self.outlet.close();
        if self.executor.is_stopped() { Fate::Keep } else { Fate::Done }
    }

    /// Handles an item again over which the node failed.
    #[cold]
    fn retry(&mut self, input: usize, kept: Option<N::In>) -> Option<Result<Flow, Closed>> {
        let (kept, clone) = (kept?, self.setting.clone?);
        for _ in 0..self.setting.on_error.retries() {
            self.outlet.notes().retried += 1;
            self.outlet.hold();
            let before = self.outlet.gathered();
            let Core { node, outlet, .. } = self;
            let called = catch_here(|| node.svc_on(input, clone(&kept), outlet));
            match called {
                Ok(Ok(flow)) => return Some(Ok(flow)),
                Ok(Err(cause)) if cause.is::<Closed>() => return Some(Err(Closed)),
                Err(panic) if self.outlet.is_torn() => panic.raise(),
                _ => self.outlet.forget_since(before),
            }
        }
        None
    }
}
