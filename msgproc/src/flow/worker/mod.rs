//! The step: take, handle, put. Every node runs by this, whatever it is and wherever.
//!
//! | file | what is in it |
//! |---|---|
//! | `intake` | where the next message comes from: an inlet, a circle, or nothing for a source |
//! | `step` | a message is handled, item by item |
//! | `produce` | what a node does without an item: a source, and one that waited for something |
//! | `end` | an input ends, and the node |
//! | `recovery` | what a worker finds that replaces another |
//! | `notes` | the words of a worker: what it has done, and how it failed |
//! | `calls` | lanes within a thread |
//! | `ahead` | a node that begins with items before their turn |

mod ahead;
mod calls;
mod end;
mod intake;
mod notes;
mod on_error;
mod produce;
mod recovery;
mod step;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

pub(crate) use self::calls::{Accept, Direct};
pub use self::on_error::OnError;
use self::{ahead::Early, recovery::Again};
use super::{
    circle::{Circle, Entrance},
    edge::{Head, Inlet},
    error::{Failure, FailureKind},
    node::{Cause, Node, WorkerInfo},
    outlet::Outlet,
    plan::{
        DRAINING, Executor, Poll, Rank, Unit,
        worker::{self as words, At},
    },
    trace::Doing,
};
use crate::{fault::fault, start::catch_here};

/// How items are cloned.
pub(crate) type CloneFn<T> = fn(&T) -> T;

/// What a worker is, beside its node.
pub(crate) struct Setting<T> {
    pub(crate) info: WorkerInfo,
    /// Which of all workers of the run.
    pub(crate) number: usize,
    pub(crate) on_error: OnError,
    /// What becomes of items over which its process dies.
    pub(crate) on_death: OnError,
    /// Whether its node begins with items before their turn.
    pub(crate) ahead: bool,
    /// How to keep an item that may have to be handled again.
    pub(crate) clone: Option<CloneFn<T>>,
    /// Whether a process that died is replaced.
    pub(crate) survives: bool,
    /// Where it stands among the units of its executor.
    pub(crate) rank: Rank,
    /// Whether its node has several workers that keep the order.
    pub(crate) numbered: bool,
    /// Whether it is a source that ends by itself when the run drains.
    pub(crate) is_fed: bool,
    /// The circle that it is in.
    pub(crate) circle: Option<Circle>,
    /// The words that count the messages of its ways out.
    pub(crate) sent: Vec<usize>,
    /// Its inputs, and where the words of the first lane of each begin.
    pub(crate) inputs: Vec<(usize, usize)>,
}

/// Where failures of an executor's workers are put.
pub(crate) type Failures = Rc<RefCell<Vec<(usize, Failure)>>>;

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
    /// Whether its node has yet to hear which inputs had ended for the worker that it replaces.
    owes_ends: bool,
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
    /// What that process was at.
    found: At,
    /// How many messages had been sent before.
    sent_before: u64,
    ended: bool,
    /// Whether it is a source that had nothing to send.
    dry: bool,
    /// How often a source has failed in a row.
    failed_in_a_row: u32,
    /// How many items of the message at hand it has left, since it takes no more.
    not_handled: u64,
    waited: Cell<Duration>,
    /// How long its node's own thread was at work, as far as that was counted.
    helper_busy: Duration,
    /// Which number it handles next, where order is kept.
    turn: u64,
    /// What has begun before its turn.
    early: Early,
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
        let turn = inlets.first().and_then(Inlet::turn).unwrap_or(setting.info.index as u64);
        let mut core = Core {
            executor: executor.clone(),
            node,
            outlet,
            setting,
            words,
            failures: failures.clone(),
            again: None,
            found: At::Nothing,
            sent_before: 0,
            ended: false,
            dry: false,
            failed_in_a_row: 0,
            not_handled: 0,
            waited: Cell::new(Duration::ZERO),
            helper_busy: Duration::ZERO,
            turn,
            early: Early::default(),
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
        core.sent_before = core.sent();
        let owes_ends = core.setting.info.restarts > 0;
        Worker { core, inlets, inputs, cursor, entrance, owes_ends }
    }

    /// Runs the node's `svc_init`.
    pub(crate) fn init(&mut self) -> Result<(), Box<Failure>> {
        let core = &mut self.core;
        let (node, info) = (&mut core.node, &core.setting.info);
        let outcome = match catch_here(|| node.svc_init(info)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(Box::new(core.failure(None, FailureKind::Init, cause))),
            Err(panic) => Err(Box::new(core.panic_failure(None, FailureKind::Init, panic))),
        };
        if outcome.is_ok() {
            core.begin_early(&self.inlets);
            core.store(words::STATE, words::READY);
            if core.setting.info.restarts > 0 {
                fault!(RECOVER_READY);
            }
        }
        outcome
    }
}

impl<N: Node> Worker<N> {
    fn work(&mut self) -> Poll {
        if !self.core.setting.survives {
            let polled = if self.core.ended { Poll::Ended } else { self.step() };
            return if polled == Poll::Ended && self.is_late() { Poll::Idle } else { polled };
        }
        if self.core.ended {
            return Poll::Ended;
        }
        let (executor, number) = (self.core.executor.clone(), self.core.setting.number);
        executor.at_work(number, || {
            fault!(WORK_BEGUN);
            let polled = self.step();
            if executor.suspects(number) && (polled == Poll::Ended || self.has_got_further()) {
                executor.clear_suspect();
            }
            polled
        })
    }
}

impl<N: Node> Unit for Worker<N> {
    fn poll(&mut self) -> Poll {
        match catch_here(|| self.work()) {
            Ok(polled) => polled,
            // Not the node, but how items are dealt, cloned, measured or dropped.
            Err(panic) => {
                self.core.fail_by_panic(None, FailureKind::Panic, panic);
                Poll::Ended
            }
        }
    }

    fn is_ready(&self) -> bool {
        let core = &self.core;
        let shared = &core.executor.shared;
        if core.ended || core.outlet.is_closed() {
            return !self.is_late();
        }
        match self.inlets.is_empty() {
            true => {
                let has_some = !core.dry || core.node.is_ready();
                (has_some && !shared.is_frozen()) || shared.phase() >= DRAINING
            }
            false => {
                let mut inlets = self.inlets.iter().zip(&self.inputs);
                let mut outside =
                    || inlets.any(|(inlet, input)| inlet.is_ready() && core.node.wants(*input));
                let has_items = match &self.entrance {
                    None if core.is_ahead() => self.can_go_on_early(),
                    None => outside(),
                    Some(entrance) => entrance.is_ready(|| outside() || self.inputs_ended()),
                };
                has_items
                    || (self.entrance.is_none() && self.inputs_ended())
                    || core.outlet.can_send_pending()
                    // What it was called with may have come after it was asked what it has to do.
                    || core.outlet.has_gathered()
                    || core.node.is_ready()
            }
        }
    }

    fn rests(&self) -> bool {
        let is_called = !self.inlets.is_empty() && self.inlets.iter().all(Inlet::is_only_called);
        is_called && !self.owes_ends && !self.core.outlet.has_gathered() && !self.is_ready()
    }

    fn can_run(&self) -> bool {
        self.core.outlet.can_call()
    }

    fn turn(&self) -> Option<u64> {
        self.core.turn()
    }

    fn can_send_late(&self) -> bool {
        self.core.outlet.can_send_late()
    }

    fn send_late(&mut self) -> bool {
        let sent = self.core.outlet.send_late();
        if sent {
            self.core.check_sends();
        }
        sent
    }

    fn waited(&self, since: Instant) {
        let core = &self.core;
        // It waited for the node's own thread, which was at work and counts that itself.
        let was_helped = core.node.helper_busy().is_some();
        if !was_helped {
            core.waited.set(core.waited.get() + since.elapsed());
        }
        if let Some(notes) = &core.executor.notes {
            let doing = if was_helped { Doing::Busy } else { Doing::WaitingForInput };
            notes.note(core.setting.number as u32, doing, since);
        }
    }
}

impl<N: Node> Worker<N> {
    /// Whether it has ended, and something that it has sent, the end itself perhaps, has yet to find
    /// room.
    fn is_late(&self) -> bool {
        self.core.ended && !self.core.executor.is_stopped() && self.core.outlet.has_late()
    }

    /// Whether it has done what the process was at that it replaces.
    fn has_got_further(&self) -> bool {
        match self.inlets.is_empty() {
            // It sends again what was sent then.
            true => self.core.sent() > self.core.sent_before,
            false => self.core.again.is_none(),
        }
    }

    fn step(&mut self) -> Poll {
        self.core.note_waits();
        self.core.store(words::STATE, words::AT_WORK);
        if self.owes_ends {
            self.note_ends();
        }
        match self.inlets.is_empty() {
            true => self.poll_source(),
            false if self.core.is_ahead() => self.poll_ahead(),
            // One that is only called has nothing to do by itself.
            false => self.poll_inlets(),
        }
    }
}

impl<N: Node> Core<N> {
    /// Says what it is at, for one that replaces it.
    fn store_at(&self, at: At) {
        self.store(words::LANE, at.word());
    }

    fn store(&self, word: usize, value: u64) {
        self.executor.board().store(self.words + word, value);
    }

    fn load(&self, word: usize) -> u64 {
        self.executor.board().load(self.words + word)
    }

    fn add(&self, word: usize, value: u64) {
        self.executor.board().add_own(self.words + word, value);
    }

    /// How many messages its ways out have sent.
    fn sent(&self) -> u64 {
        self.setting.sent.iter().map(|word| self.executor.board().load(*word)).sum()
    }

    fn turn(&self) -> Option<u64> {
        self.setting.numbered.then_some(self.turn)
    }

    /// What is said of what comes at the end. Where order is kept, it has the number that this worker
    /// would have handled next.
    fn end_head(&self, last: bool) -> Head {
        Head { number: self.turn, last, ..Head::default() }
    }
}

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
