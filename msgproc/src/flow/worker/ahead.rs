//! A node that begins with items before their turn: it awaits futures, many of them at a time. Their
//! messages stay in their lanes until all of their items are finished; then what came of them goes on,
//! as if they had been handled just now.

use std::time::Instant;

use super::{Core, Worker, words};
use crate::{
    fault::fault,
    flow::{
        edge::{Begun, Early as EarlyMessage, Fate, Inlet},
        error::FailureKind,
        node::{Cause, Node},
        outlet::Closed,
        plan::{
            Poll,
            lane::{self, Cost},
        },
    },
    start::catch_here,
};

/// What has begun before its turn.
#[derive(Default)]
pub(super) struct Early {
    /// How many messages.
    begun: u64,
    /// How many begin one by one first.
    one_by_one: u64,
    /// Whether more may begin.
    has_room: bool,
    /// Whether another message may be finished, for which it was not the turn when one was done with.
    may_settle: bool,
    /// Since when items have been on their way, or since when one was finished last.
    since: Option<Instant>,
}

/// Of an item of which nothing is known yet, the cost is taken for this, in ns: else as many as fit
/// would come in one message, and wait for each other.
const FIRST_COST: u64 = 1_000_000;

impl<N: Node> Core<N> {
    /// Whether items begin before their turn.
    pub(super) fn is_ahead(&self) -> bool {
        self.setting.ahead && self.early.one_by_one == 0
    }

    /// Before anything begins.
    pub(super) fn begin_early(&mut self, inlets: &[Inlet<N::In>]) {
        let Some(ahead) = self.node.ahead().filter(|_| self.setting.ahead) else { return };
        self.early.has_room = true;
        let at_once = ahead.at_once() as u64;
        if self.setting.survives {
            self.early.one_by_one = self.load(words::ONE_BY_ONE);
        }
        for words in inlets.iter().flat_map(Inlet::all_words) {
            let each = Cost::of(self.executor.board().load(words + lane::COST)).each;
            let each = if each == 0 { FIRST_COST } else { each };
            self.executor.board().store(words + lane::COST, Cost { each, at_once }.word());
        }
    }

    /// A message was done with, one that began by itself.
    pub(super) fn note_one_by_one(&mut self) {
        if self.early.one_by_one > 0 {
            self.early.one_by_one -= 1;
            self.store(words::ONE_BY_ONE, self.early.one_by_one);
            fault!(AHEAD_ONE_BY_ONE);
        }
    }

    fn set_begun(&mut self, begun: u64) {
        self.early.begun = begun;
        if self.setting.survives {
            self.store(words::BEGUN, begun);
            fault!(AHEAD_COUNTED);
        }
    }

    /// Takes note of what is finished.
    fn gather(&mut self) -> Result<(), Cause> {
        let gathered = self.node.ahead().map_or(Ok(()), |ahead| ahead.gather());
        self.early.has_room = self.node.ahead().is_some_and(|ahead| ahead.has_room());
        gathered
    }

    /// Begins with the items of a message. Gives where they are among all.
    fn begin_items(&mut self, early: EarlyMessage<N::In>) -> Result<Begun, Cause> {
        let is_new = early.is_new();
        let EarlyMessage { batch, .. } = early;
        let (head, weight) = (batch.head, batch.weight());
        let mut places = 0..0;
        if is_new && let Some(ahead) = self.node.ahead() {
            for (number, item) in (head.first..).zip(batch.items) {
                let place = ahead.begin(item, number, &mut self.outlet)?;
                if places.is_empty() {
                    places.start = place;
                }
                places.end = place + 1;
                self.early.since.get_or_insert_with(Instant::now);
            }
            self.early.has_room = ahead.has_room();
        }
        fault!(AHEAD_BEGUN);
        Ok(Begun { head, weight, places })
    }

    /// What came of a message goes on, all of whose items are finished.
    fn handle_begun(&mut self, lane: usize, begun: &Begun) -> Fate {
        let count = begun.places.end - begun.places.start;
        let (fate, _) = self.handle_as(lane, &begun.head, count, |core, _| core.send_begun(begun));
        if count > 0
            && let Some(since) = self.early.since
        {
            self.note_cost(lane, since.elapsed().as_nanos() as u64 / count);
        }
        fate
    }

    fn send_begun(&mut self, begun: &Begun) -> Fate {
        let mut index = 0;
        let survives = self.setting.survives;
        let item_word = self.words + words::ITEM;
        let Core { node, outlet, executor, .. } = self;
        let sent = catch_here(|| -> Result<(), Cause> {
            let Some(ahead) = node.ahead() else { return Ok(()) };
            for place in begun.places.clone() {
                if survives {
                    executor.board().store(item_word, index);
                    fault!(ITEM_BEGUN);
                }
                ahead.send(place, outlet)?;
                fault!(ITEM_HANDLED);
                index += 1;
                outlet.breathe();
                if outlet.is_closed() {
                    return Err(Closed.into());
                }
            }
            Ok(())
        });
        let number = self.node.at_item().unwrap_or(begun.head.first + index);
        match sent {
            Ok(Ok(())) => return Fate::Done,
            Ok(Err(cause)) if cause.is::<Closed>() => {
                self.check_sends();
                self.outlet.close();
                return if self.executor.is_stopped() { Fate::Keep } else { Fate::Done };
            }
            Ok(Err(cause)) => self.fail(Some(number), FailureKind::Error, cause),
            Err(panic) => {
                let number = Some(number).filter(|_| !self.outlet.is_torn());
                self.fail_by_panic(number, FailureKind::Panic, panic);
            }
        }
        Fate::Keep
    }

    fn forget(&mut self, begun: &Begun) {
        if let Some(ahead) = self.node.ahead() {
            ahead.forget(&begun.places);
        }
    }

    fn fail_early(&mut self, kind: FailureKind, cause: Cause) -> Poll {
        self.fail(None, kind, cause);
        Poll::Ended
    }
}

impl<N: Node> Worker<N> {
    /// Whether there is something that may begin or go on now.
    pub(super) fn can_go_on_early(&self) -> bool {
        let has_room = self.core.early.has_room;
        let mut inlets = self.inlets.iter().zip(&self.inputs);
        self.core.early.may_settle
            || inlets.any(|(inlet, input)| {
                inlet.can_look_ahead(has_room) && self.core.node.wants(*input)
            })
    }

    /// Lets what is finished go on, and begins with what comes.
    pub(super) fn poll_ahead(&mut self) -> Poll {
        if self.is_over() {
            return self.end();
        }
        let mut outcome = Poll::Idle;
        self.core.early.may_settle = false;
        loop {
            if let Err(cause) = self.core.gather() {
                return self.core.fail_early(FailureKind::Error, cause);
            }
            match self.settle_one() {
                Some(Poll::Worked) => outcome = Poll::Worked,
                Some(ended) => return ended,
                None => break,
            }
            // The next one has another turn, and others may have theirs before.
            if self.core.setting.numbered {
                self.core.early.may_settle = true;
                break;
            }
        }
        while let Some(begun) = self.begin_one() {
            outcome = begun;
            if begun == Poll::Ended {
                return begun;
            }
        }
        if outcome == Poll::Worked { outcome } else { self.rest() }
    }

    /// Is done with one message, if there is one that is finished and has its turn.
    fn settle_one(&mut self) -> Option<Poll> {
        let Worker { core, inlets, .. } = self;
        let executor = core.executor.clone();
        let ahead = core.node.ahead()?;
        let is_finished = |begun: &Begun| ahead.are_finished(&begun.places);
        let mut all = inlets.iter().enumerate();
        let (at, (lane, begun, is_new)) =
            all.find_map(|(at, inlet)| Some((at, inlet.first_begun(&executor, &is_finished)?)))?;
        if !is_new {
            core.forget(&begun);
        } else if core.handle_begun(inlets[at].words(lane), &begun) == Fate::Keep {
            let is_closed = core.outlet.is_closed() && !executor.is_stopped();
            return Some(if is_closed { self.end() } else { Poll::Ended });
        }
        if let Err(reason) = inlets[at].settle_begun(&executor, lane) {
            return Some(core.fail_early(FailureKind::Transport, reason.into()));
        }
        core.set_begun(core.early.begun.saturating_sub(1));
        core.early.since = (core.early.begun > 0).then(Instant::now);
        Some(self.after_message(at, self.inlets[at].is_ended()))
    }

    /// Begins with one message, if there is one, and room for it.
    fn begin_one(&mut self) -> Option<Poll> {
        let Worker { core, inlets, inputs, .. } = self;
        let has_room = core.early.has_room;
        let can = |at: &usize| inlets[*at].can_look_ahead(has_room) && core.node.wants(inputs[*at]);
        let at = (0..inlets.len()).find(can)?;
        // Counted first: a death over one of its items is then no other's.
        core.set_begun(core.early.begun + 1);
        let early = match inlets[at].look_ahead(&core.executor, has_room) {
            Ok(Some(early)) => early,
            Ok(None) => {
                core.set_begun(core.early.begun - 1);
                return None;
            }
            Err(reason) => return Some(core.fail_early(FailureKind::Transport, reason.into())),
        };
        let lane = early.lane;
        match core.begin_items(early) {
            Ok(begun) => inlets[at].note_begun(lane, begun),
            Err(cause) => return Some(core.fail_early(FailureKind::Error, cause)),
        }
        Some(Poll::Worked)
    }
}
