//! The step: take, handle, put. Every node runs by this, whatever it is and wherever.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::{Duration, Instant},
    vec,
};

use super::{
    circle::{Circle, Entrance, Step},
    edge::{Batch, Fate, Head, Inlet, Refused, Taken, Tx},
    error::{Failure, FailureKind},
    node::{Cause, Flow, Node, WorkerInfo},
    outlet::{Closed, Outlet},
    plan::{DRAINING, Executor, Poll, Unit, lane, worker as words},
    trace::Doing,
};

/// What becomes of an item over which a node fails.
///
/// Where it is handled again, or left out, all that the node sends for one item goes on when that
/// has not failed: it lies in memory until then, unless it is sent to one of several workers or from
/// another output than the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OnError {
    retries: u32,
    skips: bool,
}

impl OnError {
    /// The run fails: the first error ends it, and is what it gives. So by default.
    pub fn fail() -> OnError {
        OnError::default()
    }

    /// The item is left out, and counted.
    pub fn skip() -> OnError {
        OnError { retries: 0, skips: true }
    }

    /// The item is handled again, up to so many times; then the run fails. An item over which a
    /// process died is handled again by the process that replaces it, with all else that it had.
    pub fn retry(times: u32) -> OnError {
        OnError { retries: times, skips: false }
    }

    /// In the end leaves the item out, rather than fail: one over which processes died is then in
    /// quarantine.
    #[must_use]
    pub fn or_skip(mut self) -> OnError {
        self.skips = true;
        self
    }

    pub(crate) fn retries(self) -> u32 {
        self.retries
    }

    pub(crate) fn skips(self) -> bool {
        self.skips
    }
}

/// How items are cloned.
pub(crate) type CloneFn<T> = fn(&T) -> T;

/// What a worker is, beside its node.
pub(crate) struct Setting<T> {
    pub(crate) info: WorkerInfo,
    /// Which of all workers of the run.
    pub(crate) number: usize,
    pub(crate) on_error: OnError,
    /// How to keep an item that may have to be handled again.
    pub(crate) clone: Option<CloneFn<T>>,
    /// Whether a process that died is replaced.
    pub(crate) survives: bool,
    /// Where it stands among the units of its executor.
    pub(crate) rank: usize,
    /// Whether its node has several workers that keep the order.
    pub(crate) numbered: bool,
    /// Whether it is a source that ends by itself when the run drains.
    pub(crate) is_fed: bool,
    /// The circle that it is in.
    pub(crate) circle: Option<Circle>,
}

/// Where failures of an executor's workers are put.
pub(crate) type Failures = Rc<RefCell<Vec<(usize, Failure)>>>;

/// An item that costs more than this, in ns, is handed on by itself.
const SLOW: u64 = 2000;

/// A node at work.
pub(crate) struct Worker<N: Node> {
    core: Core<N>,
    inlets: Vec<Inlet<N::In>>,
    /// Which input of the node each inlet belongs to.
    inputs: Vec<usize>,
    /// Which inlet is looked at first.
    cursor: usize,
    /// For the head of a circle: where items come in, and back.
    entrance: Option<Entrance<N::In>>,
}

/// All of a worker but where its items come from.
struct Core<N: Node> {
    executor: Rc<Executor>,
    node: N,
    outlet: Outlet<N::Out>,
    setting: Setting<N::In>,
    /// Where its words begin.
    words: usize,
    failures: Failures,
    /// Which message it was at when the process died that it replaces.
    again: Option<Again>,
    /// Whether that process was running `svc_end`.
    ends_again: bool,
    ended: bool,
    /// Whether it is a source that had nothing to send.
    dry: bool,
    waited: Cell<Duration>,
    /// Which number it handles next, where order is kept.
    turn: u64,
}

/// What is handled again after a death.
#[derive(Clone, Copy, Debug)]
struct Again {
    lane: u64,
    message: u64,
    item: u64,
    crashes: u64,
    /// The item to leave out, since it has killed too often.
    without: Option<u64>,
    /// Whether the run is to fail because of that.
    gives_up: bool,
}

impl<N: Node> Worker<N> {
    pub(crate) fn new(
        executor: &Rc<Executor>,
        node: N,
        outlet: Outlet<N::Out>,
        (inlets, inputs): (Vec<Inlet<N::In>>, Vec<usize>),
        entrance: Option<Entrance<N::In>>,
        setting: Setting<N::In>,
        failures: &Failures,
    ) -> Worker<N> {
        let words = executor.shared.worker(setting.number);
        let turn = setting.info.index as u64;
        let mut core = Core {
            executor: executor.clone(),
            node,
            outlet,
            setting,
            words,
            failures: failures.clone(),
            again: None,
            ends_again: false,
            ended: false,
            dry: false,
            waited: Cell::new(Duration::ZERO),
            turn,
        };
        let (mut inlets, mut cursor) = (inlets, 0);
        if let Some(again) = core.look_back() {
            // What was handled then comes first now. If it is not there, it was done with.
            let lane = again.lane as usize;
            if let Some(inlet) = inlets.iter_mut().position(|inlet| inlet.begin_with(lane)) {
                cursor = inlet;
                core.again = Some(again);
            }
        }
        Worker { core, inlets, inputs, cursor, entrance }
    }

    /// Runs the node's `svc_init`.
    pub(crate) fn init(&mut self) -> Result<(), Box<Failure>> {
        let core = &mut self.core;
        let (node, info) = (&mut core.node, &core.setting.info);
        let outcome = match catch_unwind(AssertUnwindSafe(|| node.svc_init(info))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(Box::new(core.failure(None, FailureKind::Init, cause))),
            Err(panic) => Err(Box::new(core.panic_failure(None, FailureKind::Init, &*panic))),
        };
        if outcome.is_ok() {
            core.store(words::STATE, words::READY);
        }
        outcome
    }

    fn inputs_ended(&self) -> bool {
        self.inlets.iter().all(Inlet::is_ended)
    }

    /// Tells the node that an input has ended, after the last of its edges.
    fn note_end(&mut self, inlet: usize) {
        let input = self.inputs[inlet];
        if self.entrance.as_ref().is_some_and(|entrance| entrance.comes_back_to(input)) {
            return; // It ends when the circle is at rest.
        }
        let mut same = self.inlets.iter().zip(&self.inputs).filter(|(_, other)| **other == input);
        if same.all(|(inlet, _)| inlet.is_ended()) {
            self.core.input_ended(input);
        }
    }

    /// Ends the node after its last item.
    fn end(&mut self) -> Poll {
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
        Poll::Ended
    }

    fn poll_source(&mut self) -> Poll {
        let core = &mut self.core;
        let shared = core.executor.shared.clone();
        let drains = shared.phase() >= DRAINING;
        if (drains && !core.setting.is_fed) || core.outlet.is_closed() {
            return self.end();
        }
        if shared.is_frozen() && !drains {
            let _ = core.outlet.flush();
            return Poll::Idle;
        }
        let produced = core.produce();
        core.dry = produced == Poll::Idle;
        if produced == Poll::Ended { self.end() } else { produced }
    }

    /// For the head of a circle: what comes back first, then what there are credits for.
    fn poll_entrance(&mut self) -> Poll {
        loop {
            let Worker { core, inlets, inputs, cursor, entrance } = self;
            let Some(entrance) = entrance else { return Poll::Ended };
            match entrance.step() {
                Step::Handle((input, lane, batch)) => {
                    let fate = core.handle(input, lane, batch);
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
                        let _ = self.core.outlet.flush();
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

    fn poll_inlets(&mut self) -> Poll {
        if self.entrance.is_some() {
            return self.poll_entrance();
        }
        if self.inputs_ended() {
            return self.end(); // All of it was taken by a worker that this one replaces.
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
                    if self.inlets[at].is_ended() {
                        self.note_end(at);
                    }
                    return if self.core.is_done() || self.inputs_ended() {
                        self.end()
                    } else {
                        Poll::Worked
                    };
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
    fn rest(&mut self) -> Poll {
        let core = &mut self.core;
        if core.node.is_ready() {
            return if core.go_on() { Poll::Worked } else { self.end() };
        }
        if core.outlet.gathered() > 0 || core.outlet.can_send_pending() {
            let _ = core.outlet.flush();
            core.check_sends(None);
        }
        if core.outlet.is_closed() {
            return self.end();
        }
        Poll::Idle
    }
}

impl<N: Node> Worker<N> {
    /// Takes a message from a worker in the same thread.
    fn called(&mut self, inlet: usize, lane: usize, batch: Batch<N::In>) {
        let Worker { core, inlets, inputs, .. } = self;
        if core.ended {
            return;
        }
        let head = batch.head;
        let lane_words = inlets[inlet].words(lane);
        let fate = core.handle(inputs[inlet], lane_words, batch);
        inlets[inlet].called(lane, &head);
        if fate == Fate::Done && inlets[inlet].is_ended() && head.end {
            self.note_end(inlet);
        }
        if self.core.is_done() || self.inputs_ended() {
            self.end();
        }
    }
}

impl<N: Node> Unit for Worker<N> {
    fn poll(&mut self) -> Poll {
        if self.core.ended {
            return Poll::Ended;
        }
        self.core.note_waits();
        self.core.store(words::STATE, words::AT_WORK);
        match self.inlets.is_empty() {
            true => self.poll_source(),
            // One that is only called has nothing to do by itself.
            false => self.poll_inlets(),
        }
    }

    fn is_ready(&self) -> bool {
        let core = &self.core;
        let shared = &core.executor.shared;
        if core.ended || core.outlet.is_closed() {
            return true;
        }
        match self.inlets.is_empty() {
            true => (!shared.is_frozen() && !core.dry) || shared.phase() >= DRAINING,
            false => {
                let mut inlets = self.inlets.iter().zip(&self.inputs);
                let mut outside =
                    || inlets.any(|(inlet, input)| inlet.is_ready() && core.node.wants(*input));
                let has_items = match &self.entrance {
                    None => outside(),
                    Some(entrance) => entrance.is_ready(|| outside() || self.inputs_ended()),
                };
                has_items
                    || (self.entrance.is_none() && self.inputs_ended())
                    || core.outlet.can_send_pending()
                    || core.node.is_ready()
            }
        }
    }

    fn can_run(&self) -> bool {
        self.core.outlet.can_call()
    }

    fn turn(&self) -> Option<u64> {
        self.core.turn()
    }

    fn waited(&self, since: Instant) {
        let core = &self.core;
        core.waited.set(core.waited.get() + since.elapsed());
        if let Some(notes) = &core.executor.notes {
            notes.note(core.setting.number as u32, Doing::WaitingForInput, since);
        }
    }
}

impl<N: Node> Core<N> {
    fn store(&self, word: usize, value: u64) {
        self.executor.board().store(self.words + word, value);
    }

    fn load(&self, word: usize) -> u64 {
        self.executor.board().load(self.words + word)
    }

    fn add(&self, word: usize, value: u64) {
        self.executor.board().add_own(self.words + word, value);
    }

    fn turn(&self) -> Option<u64> {
        self.setting.numbered.then_some(self.turn)
    }

    fn note_waits(&self) {
        let waited = self.waited.replace(Duration::ZERO);
        if !waited.is_zero() {
            self.add(words::WAIT_IN, waited.as_nanos() as u64);
        }
    }

    /// What the process that this one replaces was at when it died.
    fn look_back(&mut self) -> Option<Again> {
        if self.setting.info.restarts == 0 {
            return None;
        }
        let lane = self.load(words::LANE);
        self.ends_again = lane == words::ENDING;
        let lane = lane.checked_sub(1).filter(|_| !self.ends_again)?;
        let (message, item) = (self.load(words::MESSAGE), self.load(words::ITEM));
        let at = words::moment(message, item);
        let crashes = match self.load(words::CRASHED_AT) == at {
            true => self.load(words::CRASHES) + 1,
            false => 1,
        };
        self.store(words::CRASHED_AT, at);
        self.store(words::CRASHES, crashes);
        let too_many = crashes > u64::from(self.setting.on_error.retries());
        let skips = self.setting.on_error.skips();
        let without = (too_many && skips).then_some(item);
        Some(Again { lane, message, item, crashes, without, gives_up: too_many && !skips })
    }

    fn failure(&self, item: Option<u64>, kind: FailureKind, cause: Cause) -> Failure {
        let WorkerInfo { node, index, .. } = &self.setting.info;
        Failure::new(node, *index, item, kind, cause)
    }

    fn panic_failure(&self, item: Option<u64>, kind: FailureKind, panic: &Panic) -> Failure {
        let WorkerInfo { node, index, .. } = &self.setting.info;
        Failure::panicked(node, *index, item, kind, panic)
    }

    #[cold]
    fn fail_by_panic(&mut self, item: Option<u64>, kind: FailureKind, panic: &Panic) {
        let failure = self.panic_failure(item, kind, panic);
        self.fail_with(failure);
    }

    #[cold]
    fn fail(&mut self, item: Option<u64>, kind: FailureKind, cause: Cause) {
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
    fn check_sends(&mut self, item: Option<u64>) -> bool {
        let failure = self.outlet.exits().and_then(|exits| exits.take_failure());
        match failure {
            None => false,
            Some(reason) => {
                self.fail(item, FailureKind::Transport, reason.into());
                true
            }
        }
    }

    /// Whether it takes no more, though its inputs have not ended.
    fn is_done(&self) -> bool {
        self.ended || self.outlet.is_closed()
    }

    /// Lets a source go on for a while.
    fn produce(&mut self) -> Poll {
        let before = self.begin_to_work();
        let began = Instant::now();
        let (mut count, mut next_look) = (0_u64, 1);
        let produced = {
            let Core { node, outlet, .. } = self;
            // One door for all items: entering it costs.
            let stopped = catch_unwind(AssertUnwindSafe(|| {
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
                    outlet.breathe();
                    count += 1;
                    if outlet.is_closed() {
                        return Stop::Eos;
                    }
                    // The clock costs as much as a short item.
                    if count == next_look {
                        if count >= 256 || began.elapsed() > Duration::from_micros(50) {
                            return Stop::Through;
                        }
                        next_look *= 2;
                    }
                }
            }));
            let number = self.load(words::ITEMS_OUT) + count;
            let number = self.node.at_item().unwrap_or(number);
            match stopped {
                Ok(Stop::Through) => Poll::Worked,
                Ok(Stop::Dry) => {
                    // The next send tells.
                    let _ = self.outlet.flush();
                    if self.check_sends(Some(number)) { Poll::Ended } else { Poll::Idle }
                }
                Ok(Stop::Eos | Stop::LeftOut) => {
                    self.check_sends(Some(number));
                    Poll::Ended
                }
                Ok(Stop::Failed(cause)) if cause.is::<Closed>() => {
                    self.check_sends(Some(number));
                    Poll::Ended
                }
                Ok(Stop::Failed(_)) if self.setting.on_error.skips() => {
                    self.add(words::SKIPPED, 1);
                    Poll::Worked
                }
                Ok(Stop::Failed(cause)) => {
                    self.fail(Some(number), FailureKind::Error, cause);
                    Poll::Ended
                }
                Err(panic) => {
                    self.fail_by_panic(Some(number), FailureKind::Panic, &*panic);
                    Poll::Ended
                }
            }
        };
        self.hand_to_called();
        self.note_produced(began);
        self.note_busy(began, before);
        produced
    }

    /// Lets a node go on that waited for something beside its items. Tells whether it takes more.
    fn go_on(&mut self) -> bool {
        let (began, was) = (Instant::now(), self.begin_to_work());
        let Core { node, outlet, .. } = self;
        let called = catch_unwind(AssertUnwindSafe(|| node.svc_idle(outlet)));
        self.note_busy(began, was);
        self.note_produced(began);
        let number = self.node.at_item();
        match called {
            Ok(Ok(Flow::GoOn | Flow::Wait)) => {}
            Ok(Ok(Flow::Eos)) => {
                let _ = self.outlet.flush();
                self.outlet.close();
            }
            Ok(Err(cause)) if cause.is::<Closed>() => {
                self.check_sends(number);
            }
            Ok(Err(cause)) => self.fail(number, FailureKind::Error, cause),
            Err(panic) => {
                self.fail_by_panic(number, FailureKind::Panic, &*panic);
            }
        }
        !self.is_done()
    }

    fn note_sent(&mut self) {
        let sent = self.outlet.take_sent();
        self.add(words::ITEMS_OUT, sent);
        let notes = std::mem::take(self.outlet.notes());
        if notes.skipped + notes.retried > 0 {
            self.add(words::SKIPPED, notes.skipped);
            self.add(words::RETRIES, notes.retried);
        }
        let discarded = self.outlet.take_discarded();
        if discarded > 0 {
            self.add(words::DISCARDED, discarded);
        }
    }

    /// Notes that it worked, for those who look at a trace; `before` is who was at work then.
    fn note_busy(&self, began: Instant, before: Option<u32>) {
        if let (Some(notes), Some(before)) = (&self.executor.notes, before) {
            notes.note_current(Doing::Busy, began);
            notes.begin(before);
        }
    }

    fn begin_to_work(&self) -> Option<u32> {
        self.executor.notes.as_ref().map(|notes| notes.begin(self.setting.number as u32))
    }

    fn note_produced(&mut self, began: Instant) {
        let waited = self.executor.take_waited();
        let busy = began.elapsed().saturating_sub(waited);
        self.add(words::BUSY, busy.as_nanos() as u64);
        self.add(words::WAIT_OUT, waited.as_nanos() as u64);
        self.note_sent();
    }

    /// Handles a message. `lane` is where the words of its lane begin.
    fn handle(&mut self, input: usize, lane: usize, batch: Batch<N::In>) -> Fate {
        let Batch { head, items } = batch;
        let again =
            self.again.take().filter(|again| again.lane == lane as u64 && again.message == head.id);
        // What says that this message is handled is written first and last, so that a death in
        // between leaves nothing half said. Handled again, all of it stands there.
        let notes = self.setting.survives && again.is_none();
        if notes {
            self.store(words::LANE, 0);
            self.store(words::MESSAGE, head.id);
            self.store(words::ITEM, 0);
            self.store(words::FIRST, head.first);
        }
        if let Some(exits) = self.outlet.exits() {
            exits.begin(&head, again.is_some());
        }
        if notes {
            self.store(words::LANE, lane as u64 + 1);
        }
        if let Some(Again { crashes, item, gives_up: true, .. }) = again {
            let reason = format!("its process died {crashes} times over this item");
            self.fail(Some(head.first + item), FailureKind::Died, reason.into());
            return Fate::Keep;
        }
        let count = items.len() as u64;
        let slow = self.executor.board().load(lane + lane::COST) > SLOW;
        if let Some(exits) = self.outlet.exits() {
            exits.set_slow(slow);
        }
        let before = self.begin_to_work();
        let began = Instant::now();
        let without = again.and_then(|again| again.without);
        let fate = self.handle_items(input, &head, items.into_iter(), without);
        if fate == Fate::Done {
            self.finish(&head);
            if !head.end {
                let step = if head.last { self.setting.info.workers as u64 } else { 0 };
                self.turn = head.number + step;
            }
            if let Some(circle) = &self.setting.circle {
                // All that came of them is sent and counted before they are counted off.
                let _ = self.outlet.flush();
                circle.leave(count);
            }
        }
        self.hand_to_called();
        self.note_busy(began, before);
        let waited = self.executor.take_waited();
        let busy = began.elapsed().saturating_sub(waited).as_nanos() as u64;
        self.add(words::ITEMS_IN, count);
        self.add(words::BUSY, busy);
        self.add(words::WAIT_OUT, waited.as_nanos() as u64);
        self.note_sent();
        if let Some(each) = busy.checked_div(count) {
            // The receiver's own line: an average over the last few messages.
            let cost = lane + lane::COST;
            let (before, now) = (self.executor.board().load(cost), each.max(1));
            let average = if before == 0 { now } else { (3 * before + now) / 4 };
            self.executor.board().store(cost, average.max(1));
        }
        if self.check_sends(Some(head.first)) { Fate::Keep } else { fate }
    }

    /// Those that are called get what was gathered before this worker does anything else: their
    /// thread is this one.
    fn hand_to_called(&mut self) {
        let calls = self.outlet.exits().is_some_and(|exits| exits.calls());
        if calls && self.outlet.gathered() > 0 {
            // The next send tells.
            let _ = self.outlet.flush();
        }
    }

    /// Sends on what came of a message, where it must not mix with what comes of the next.
    fn finish(&mut self, head: &Head) {
        let waits = self.setting.survives || head.end;
        let keeps = self.outlet.exits().is_some_and(|exits| exits.keeps_order());
        if waits || keeps {
            let _ = self.outlet.flush();
        }
        if let Some(exits) = self.outlet.exits()
            && !head.end
        {
            exits.finish(head);
        }
    }

    fn handle_items(
        &mut self,
        input: usize,
        head: &Head,
        mut items: vec::IntoIter<N::In>,
        without: Option<u64>,
    ) -> Fate {
        let mut index = 0;
        loop {
            let survives = self.setting.survives;
            let (clone, item_word) = (self.setting.clone, self.words + words::ITEM);
            let holds = self.setting.on_error != OnError::fail();
            let mut kept = None;
            let Core { node, outlet, executor, .. } = self;
            let mut before = 0;
            // One door for all items of a message: entering it costs.
            let stopped = catch_unwind(AssertUnwindSafe(|| {
                for item in items.by_ref() {
                    if survives {
                        executor.board().store(item_word, index);
                        if without == Some(index) {
                            index += 1;
                            return Stop::LeftOut;
                        }
                    }
                    if let Some(clone) = clone {
                        kept = Some(clone(&item));
                    }
                    before = outlet.gathered();
                    if holds {
                        outlet.hold();
                    }
                    match node.svc_on(input, item, outlet) {
                        Ok(Flow::GoOn | Flow::Wait) if holds => outlet.let_go(),
                        Ok(Flow::GoOn | Flow::Wait) => {}
                        Ok(Flow::Eos) => return Stop::Eos,
                        Err(cause) => return Stop::Failed(cause),
                    }
                    index += 1;
                    outlet.breathe();
                    if outlet.is_closed() {
                        return Stop::Eos;
                    }
                }
                Stop::Through
            }));
            let number = self.node.at_item().unwrap_or(head.first + index);
            let (kind, cause) = match stopped {
                Ok(Stop::Through | Stop::Dry) => return Fate::Done,
                Ok(Stop::LeftOut) => {
                    self.add(words::QUARANTINED, 1);
                    continue;
                }
                Ok(Stop::Eos) => {
                    let _ = self.outlet.flush();
                    self.outlet.close();
                    return if self.executor.is_stopped() { Fate::Keep } else { Fate::Done };
                }
                Ok(Stop::Failed(cause)) if cause.is::<Closed>() => {
                    self.check_sends(Some(number));
                    return if self.executor.is_stopped() { Fate::Keep } else { Fate::Done };
                }
                Ok(Stop::Failed(cause)) => (FailureKind::Error, Ok(cause)),
                Err(panic) => (FailureKind::Panic, Err(panic)),
            };
            self.outlet.forget_since(before);
            let again = self.retry(input, kept);
            self.outlet.let_go();
            match again {
                Some(Flow::GoOn | Flow::Wait) => {}
                Some(Flow::Eos) => {
                    let _ = self.outlet.flush();
                    self.outlet.close();
                    return Fate::Done;
                }
                None if self.setting.on_error.skips() => self.add(words::SKIPPED, 1),
                None => {
                    match cause {
                        Ok(cause) => self.fail(Some(number), kind, cause),
                        Err(panic) => self.fail_by_panic(Some(number), kind, &*panic),
                    }
                    return Fate::Keep;
                }
            }
            index += 1;
        }
    }

    /// Handles an item again over which the node failed.
    #[cold]
    fn retry(&mut self, input: usize, kept: Option<N::In>) -> Option<Flow> {
        let (kept, clone) = (kept?, self.setting.clone?);
        for _ in 0..self.setting.on_error.retries() {
            self.add(words::RETRIES, 1);
            self.outlet.hold();
            let before = self.outlet.gathered();
            let item = clone(&kept);
            let Core { node, outlet, .. } = self;
            let called = catch_unwind(AssertUnwindSafe(|| node.svc_on(input, item, outlet)));
            match called {
                Ok(Ok(flow)) => return Some(flow),
                _ => self.outlet.forget_since(before),
            }
        }
        None
    }

    fn input_ended(&mut self, input: usize) {
        if self.ended {
            return;
        }
        let Core { node, outlet, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| node.input_ended(input, outlet))) {
            Ok(Ok(Flow::GoOn | Flow::Wait)) => {}
            Ok(Ok(Flow::Eos)) => {
                let _ = self.outlet.flush();
                self.outlet.close();
            }
            Ok(Err(cause)) if cause.is::<Closed>() => {}
            Ok(Err(cause)) => self.fail(None, FailureKind::Error, cause),
            Err(panic) => {
                self.fail_by_panic(None, FailureKind::Panic, &*panic);
            }
        }
    }

    /// Runs the node's `svc_end`, and says to those that follow that nothing more comes.
    fn end(&mut self) {
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
            }
            if let Some(exits) = self.outlet.exits() {
                exits.begin(&Head::default(), self.ends_again);
            }
            self.store(words::LANE, words::ENDING);
        }
        let Core { node, outlet, .. } = self;
        let ended = catch_unwind(AssertUnwindSafe(|| node.svc_end(outlet)));
        match ended {
            Ok(Err(cause)) if !cause.is::<Closed>() => {
                return self.fail(None, FailureKind::End, cause);
            }
            Ok(_) => {}
            Err(panic) => {
                return self.fail_by_panic(None, FailureKind::End, &*panic);
            }
        }
        let _ = self.outlet.flush();
        if self.check_sends(None) {
            return;
        }
        if let Some(exits) = self.outlet.exits() {
            exits.end();
        }
        self.note_sent();
        self.store(words::STATE, words::ENDED);
    }
}

/// What a panic left.
type Panic = dyn std::any::Any + Send;

/// Why a worker left the items of a message.
enum Stop {
    Through,
    /// A source has nothing to send now.
    Dry,
    Eos,
    Failed(Cause),
    /// An item that has killed too often.
    LeftOut,
}

/// What a source takes.
fn nothing<T: 'static>() -> Option<T> {
    let mut nothing = Some(());
    (&mut nothing as &mut dyn std::any::Any).downcast_mut::<Option<T>>().and_then(Option::take)
}

/// A worker, for those in the same thread who send to it: they call it.
pub(crate) trait Accept<T> {
    /// Takes a message.
    fn accept(&mut self, inlet: usize, lane: usize, batch: Batch<T>);

    /// Whether all whom it calls can be called, and its node wants what comes at this inlet. Asked
    /// before a caller does anything: in the middle of its work it cannot be held back, for others
    /// that it waits for may lie below it on the stack.
    fn can_accept(&self, inlet: usize) -> bool;
}

impl<N: Node> Accept<N::In> for Worker<N> {
    fn accept(&mut self, inlet: usize, lane: usize, batch: Batch<N::In>) {
        let (executor, rank) = (self.core.executor.clone(), self.core.setting.rank);
        let turn = self.core.turn();
        executor.enter(rank, turn, || self.called(inlet, lane, batch));
    }

    fn can_accept(&self, inlet: usize) -> bool {
        let core = &self.core;
        core.outlet.can_call() && (core.ended || core.node.wants(self.inputs[inlet]))
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
}
