//! What the threads and processes of a run share beside the edges: where the words of its board
//! are, and how a thread of it waits. README.md says what the words mean.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use shmring::{
    WaitStrategy,
    board::{Board, Sleeper},
};

use super::{
    circle::CirclePlan,
    edge::deal::MOST,
    trace::{Doing, Notes},
};

/// The phases of a run, in the board's first word.
pub(crate) const SETUP: u64 = 0;
pub(crate) const RUNNING: u64 = 1;
/// Sources stop; what is on its way is finished.
pub(crate) const DRAINING: u64 = 2;
/// Everybody stops where they are.
pub(crate) const STOPPING: u64 = 3;

const PHASE: usize = 0;
/// Which worker failed first, plus one.
const FAILED: usize = 1;
/// Whether sources pause.
const FROZEN: usize = 2;
const HEAD: usize = 16;

/// Words of an executor: whether it waits for items.
const EXECUTOR: usize = 8;
/// Words of a worker.
const WORKER: usize = 24;
/// Words of a worker's way out into one edge.
const OUT: usize = 8;
/// Words of a lane: a line that its sender writes, and one that its receiver does.
const LANE: usize = 16;
/// Words of a circle.
const CIRCLE: usize = 16;

/// What a worker's words are.
pub(crate) mod worker {
    pub(crate) const STATE: usize = 0;
    pub(crate) const ITEMS_IN: usize = 1;
    pub(crate) const ITEMS_OUT: usize = 2;
    pub(crate) const BUSY: usize = 3;
    pub(crate) const WAIT_IN: usize = 4;
    pub(crate) const WAIT_OUT: usize = 5;
    pub(crate) const RETRIES: usize = 6;
    pub(crate) const RESTARTS: usize = 7;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const SKIPPED: usize = 9;
    pub(crate) const QUARANTINED: usize = 10;
    pub(crate) const DROPPED: usize = 11;
    /// Items that the node left out by itself.
    pub(crate) const DISCARDED: usize = 16;
    /// Which lane the message came on that is being handled, plus one; [`ENDING`] after the last.
    pub(crate) const LANE: usize = 12;
    /// Which message of that lane.
    pub(crate) const MESSAGE: usize = 13;
    /// Which item of it; with [`CHARGED`] if no process has begun it, or a death over it has been
    /// counted and no process has begun it since.
    pub(crate) const ITEM: usize = 14;
    /// How often a process died over that item.
    pub(crate) const CRASHES: usize = 15;
    /// The item of the first crash, so that another begins to count anew.
    pub(crate) const CRASHED_AT: usize = 17;
    /// How many items came on the edge before that message.
    pub(crate) const FIRST: usize = 18;
    /// Which items of it are left out, since processes died over them: a bit for each of the first
    /// 256, in four words.
    pub(crate) const LEFT_OUT: usize = 19;
    pub(crate) const LEFT_OUT_WORDS: usize = 4;
    /// The last item of it that a process died over.
    pub(crate) const REACHED: usize = 23;

    /// In [`ITEM`].
    pub(crate) const CHARGED: u64 = 1 << 63;

    /// One item of one message of one lane, as [`CRASHED_AT`] has it. `lane` is where its words
    /// begin.
    pub(crate) fn moment(lane: u64, message: u64, item: u64) -> u64 {
        (lane / super::LANE as u64) << 48 ^ message << 16 ^ (item & 0xffff)
    }

    /// In [`LANE`]: the node's `svc_end` runs.
    pub(crate) const ENDING: u64 = u64::MAX;

    /// States.
    pub(crate) const READY: u64 = 1;
    pub(crate) const AT_WORK: u64 = 2;
    pub(crate) const ENDED: u64 = 3;
}

/// What the words of a way out are.
pub(crate) mod out {
    /// Messages sent.
    pub(crate) const SENT: usize = 0;
    /// Items sent.
    pub(crate) const FIRST: usize = 1;
    /// Items sent when the present message began to be handled.
    pub(crate) const BASE: usize = 2;
    /// The number of the message about to be sent, plus one.
    pub(crate) const INTENT: usize = 3;
    /// The lane it goes to.
    pub(crate) const INTENT_LANE: usize = 4;
    /// Items sent before it.
    pub(crate) const INTENT_FIRST: usize = 5;
    /// How many items it has; [`END`] if it ends the lane.
    pub(crate) const INTENT_ITEMS: usize = 6;

    /// In [`INTENT_ITEMS`]: it says that nothing comes after it.
    pub(crate) const END: u64 = u64::MAX;
}

/// What the words of a lane are.
pub(crate) mod lane {
    /// Items sent.
    pub(crate) const SENT: usize = 0;
    /// Items done with; on the receiver's line, as what follows.
    pub(crate) const DONE: usize = 8;
    /// Whether the receiver takes no more.
    pub(crate) const CLOSED: usize = 9;
    /// What an item costs the receiver, in ns.
    pub(crate) const COST: usize = 10;
    /// The number of the next message that is new.
    pub(crate) const NEXT: usize = 11;
    /// Whether the receiver has taken pieces of an item that is not complete.
    pub(crate) const IN_PIECES: usize = 12;
    /// In the first lane of an inlet that keeps order: the number that comes next.
    pub(crate) const NUMBER: usize = 13;
    /// Whether nothing comes any more.
    pub(crate) const ENDED: usize = 14;
    /// Items done with once the message is released that is being handled.
    pub(crate) const TO_BE_DONE: usize = 15;
}

/// How many there are of everything that has words.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) executors: usize,
    pub(crate) workers: usize,
    pub(crate) outs: usize,
    pub(crate) lanes: usize,
    pub(crate) circles: usize,
}

impl Counts {
    pub(crate) fn words(self) -> usize {
        HEAD + EXECUTOR * self.executors
            + WORKER * self.workers
            + OUT * self.outs
            + LANE * self.lanes
            + CIRCLE * self.circles
    }
}

/// The board of a run.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    board: Board,
    counts: Counts,
    circles: Arc<[CirclePlan]>,
    most: usize,
}

impl Shared {
    /// `blocks`: how many the run's memory has, if it has a pool of them.
    pub(crate) fn new(
        board: Board,
        counts: Counts,
        circles: &[CirclePlan],
        blocks: Option<usize>,
    ) -> Shared {
        let most =
            blocks.map_or(MOST, |blocks| (blocks / (2 * counts.workers.max(1))).clamp(1, MOST));
        Shared { board, counts, circles: circles.into(), most }
    }

    /// How many items a worker gathers at most. Where they may be blocks, all workers together gather
    /// no more than half of what there is: who waits for a block cannot send on what it has gathered.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    fn executor(&self, number: usize) -> usize {
        HEAD + EXECUTOR * number
    }

    /// Where a worker's words begin.
    pub(crate) fn worker(&self, number: usize) -> usize {
        HEAD + EXECUTOR * self.counts.executors + WORKER * number
    }

    /// Where those of a way out do.
    pub(crate) fn out(&self, number: usize) -> usize {
        self.worker(self.counts.workers) + OUT * number
    }

    /// Where those of a lane do.
    pub(crate) fn lane(&self, number: usize) -> usize {
        self.out(self.counts.outs) + LANE * number
    }

    /// Where those of a circle do.
    pub(crate) fn circle(&self, number: usize) -> usize {
        self.lane(self.counts.lanes) + CIRCLE * number
    }

    pub(crate) fn circles(&self) -> &[CirclePlan] {
        &self.circles
    }

    pub(crate) fn of_worker(&self, number: usize, word: usize) -> u64 {
        self.board.load(self.worker(number) + word)
    }

    /// Counts that a worker's process was replaced.
    pub(crate) fn count_restart(&self, number: usize) {
        self.board.add(self.worker(number) + worker::RESTARTS, 1);
    }

    pub(crate) fn phase(&self) -> u64 {
        self.board.load(PHASE)
    }

    /// Goes on to a later phase. Nothing leads back.
    pub(crate) fn advance(&self, phase: u64) {
        let mut now = self.phase();
        while now < phase {
            match self.board.change(PHASE, now, phase) {
                Ok(()) => break,
                Err(other) => now = other,
            }
        }
        self.board.ring_all();
    }

    /// Says that a worker has failed. Tells whether it was the first.
    pub(crate) fn fail(&self, worker: usize) -> bool {
        let first = self.board.change(FAILED, 0, worker as u64 + 1).is_ok();
        self.advance(STOPPING);
        first
    }

    /// Which worker failed first.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.board.load(FAILED).checked_sub(1).map(|worker| worker as usize)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.board.store(FROZEN, frozen.into());
        self.board.ring_all();
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.board.load(FROZEN) != 0
    }

    pub(crate) fn is_idle(&self, executor: usize) -> bool {
        self.board.load(self.executor(executor)) != 0
    }
}

/// Something that an executor runs.
pub(crate) trait Unit {
    /// Does what there is to do now, and not for long.
    fn poll(&mut self) -> Poll;

    /// Whether there is something to do, as far as one sees without doing it.
    fn is_ready(&self) -> bool;

    /// Whether all whom it calls can be called.
    fn can_run(&self) -> bool;

    /// Which number it handles next, if its node keeps the order.
    fn turn(&self) -> Option<u64> {
        None
    }

    /// It has waited for items since then.
    fn waited(&self, since: Instant);
}

/// How a poll went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Poll {
    Worked,
    Idle,
    Ended,
}

/// The run is being stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stopped;

/// Wakes a thread of a run, from any thread of its process.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    board: Board,
    number: usize,
}

impl Bell {
    /// Wakes it. What it is to see was written before.
    pub(crate) fn ring(&self) {
        self.board.ring(self.number);
    }
}
/// A unit, with its rank: those that receive have lower ones than those that send to them. While one
/// waits for room, others run on top of it on the stack, but none of a higher rank: that might wait
/// in turn for what the first has yet to do, and could not be left for it. For the same reason, of
/// workers that keep the order only those run whose turn is before its own.
type Ranked = (usize, Rc<RefCell<dyn Unit>>);

/// What a thread looks after beside its workers.
type Aside = Box<dyn FnMut()>;

/// One thread of a run: what its workers share.
pub(crate) struct Executor {
    pub(crate) shared: Shared,
    pub(crate) number: usize,
    sleeper: RefCell<Sleeper>,
    /// What else this thread looks after, and when it did so last.
    aside: RefCell<Option<(Aside, Instant)>>,
    units: RefCell<Vec<Ranked>>,
    /// Units below may run now: their ranks, then their turns.
    limit: Cell<(usize, u64)>,
    waited: Cell<Duration>,
    spins: bool,
    /// If the run is traced.
    pub(crate) notes: Option<Notes>,
}

/// So many looks in vain, and an executor that spins has nothing to do: about 5 µs. Who sends to it
/// then does not wait for more to send together.
const LOOKS: u32 = 128;
/// How long it takes at least until an executor looks again at what is aside of its workers.
const ASIDE: Duration = Duration::from_millis(5);
/// How often an executor that does not spin lets others run before it sleeps.
const YIELDS: u32 = 4;

impl Executor {
    pub(crate) fn new(
        shared: Shared,
        number: usize,
        spins: bool,
        traced: bool,
    ) -> Result<Rc<Executor>, shmring::Error> {
        let mut sleeper = shared.board().sleeper(number)?;
        if !spins {
            sleeper.set_wait(WaitStrategy::Park);
        }
        Ok(Rc::new(Executor {
            shared,
            number,
            sleeper: RefCell::new(sleeper),
            units: RefCell::new(Vec::new()),
            aside: RefCell::new(None),
            limit: Cell::new((0, 0)),
            waited: Cell::new(Duration::ZERO),
            spins,
            notes: traced.then(Notes::new),
        }))
    }

    pub(crate) fn board(&self) -> &Board {
        self.shared.board()
    }

    pub(crate) fn add(&self, rank: usize, unit: Rc<RefCell<dyn Unit>>) {
        self.units.borrow_mut().push((rank, unit));
    }

    /// Calls what a unit does, which has this rank and turn.
    pub(crate) fn enter<R>(&self, rank: usize, turn: Option<u64>, act: impl FnOnce() -> R) -> R {
        let outer = self.limit.replace((rank, turn.unwrap_or(1)));
        let result = act();
        self.limit.set(outer);
        result
    }

    fn is_below(&self, rank: usize, unit: &dyn Unit) -> bool {
        (rank, unit.turn().unwrap_or(0)) < self.limit.get()
    }

    /// Has this called now and then, whatever the workers are at.
    pub(crate) fn set_aside(&self, aside: Option<Aside>) {
        *self.aside.borrow_mut() = aside.map(|aside| (aside, Instant::now()));
    }

    fn look_aside(&self) {
        if let Ok(mut aside) = self.aside.try_borrow_mut()
            && let Some((aside, last)) = &mut *aside
            && last.elapsed() >= ASIDE
        {
            aside();
            *last = Instant::now();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.phase() >= STOPPING
    }

    pub(crate) fn bell(&self) -> Bell {
        Bell { board: self.board().clone(), number: self.number }
    }

    /// Drops its workers with their nodes: they hold it as it holds them.
    pub(crate) fn release(&self) {
        let units = std::mem::take(&mut *self.units.borrow_mut());
        drop(units);
    }

    /// Waits for the run to begin, and does nothing meanwhile. Tells whether it does.
    pub(crate) fn wait_for_begin(&self) -> bool {
        let begun = || (self.shared.phase() != SETUP).then_some(());
        while begun().is_none() {
            self.sleep(None, begun);
        }
        if self.is_stopped() {
            self.release();
            return false;
        }
        true
    }

    /// Runs its workers until all have ended, or the run is stopped.
    pub(crate) fn run(&self) {
        self.run_units();
        self.release();
    }

    fn run_units(&self) {
        self.limit.set((usize::MAX, 0));
        loop {
            if self.is_stopped() {
                return;
            }
            match self.round() {
                Poll::Worked => {}
                Poll::Ended => return,
                Poll::Idle => {
                    let began = Instant::now();
                    self.sleep(None, || self.any_ready().then_some(()));
                    for (_, unit) in self.units.borrow().iter() {
                        if let Ok(unit) = unit.try_borrow() {
                            unit.waited(began);
                        }
                    }
                }
            }
        }
    }

    /// Lets each worker do something that is not in the middle of it.
    fn round(&self) -> Poll {
        self.look_aside();
        let units: Vec<_> = self.units.borrow().clone();
        let mut outcome = if units.is_empty() { Poll::Ended } else { Poll::Idle };
        for (rank, unit) in units {
            let polled = match unit.try_borrow_mut() {
                Ok(mut unit) if self.is_below(rank, &*unit) && unit.can_run() => {
                    self.enter(rank, unit.turn(), || unit.poll())
                }
                _ => continue,
            };
            match polled {
                Poll::Worked => outcome = Poll::Worked,
                Poll::Idle => {}
                Poll::Ended => {
                    let mut units = self.units.borrow_mut();
                    units.retain(|(_, other)| !Rc::ptr_eq(other, &unit));
                    if units.is_empty() {
                        return Poll::Ended;
                    }
                    outcome = Poll::Worked;
                }
            }
        }
        outcome
    }

    fn any_ready(&self) -> bool {
        self.units.borrow().iter().any(|(rank, unit)| {
            unit.try_borrow()
                .is_ok_and(|unit| self.is_below(*rank, &*unit) && unit.is_ready() && unit.can_run())
        })
    }

    /// Waits until `look` finds something, for a worker in the middle of its work; the others go on
    /// meanwhile. Gives how long that took.
    pub(crate) fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> Result<T, Stopped> {
        let began = Instant::now();
        loop {
            if self.is_stopped() {
                return Err(Stopped);
            }
            if let Some(found) = look() {
                self.note_wait(began);
                return Ok(found);
            }
            if self.round() == Poll::Worked {
                continue;
            }
            let found = self.sleep(None, || match look() {
                Some(found) => Some(Some(found)),
                None => self.any_ready().then_some(None),
            });
            if let Some(Some(found)) = found {
                self.note_wait(began);
                return Ok(found);
            }
        }
    }

    fn note_wait(&self, began: Instant) {
        self.waited.set(self.waited.get() + began.elapsed());
        if let Some(notes) = &self.notes {
            notes.note_current(Doing::WaitingForOutput, began);
        }
    }

    /// How long its workers waited for room since the last call.
    pub(crate) fn take_waited(&self) -> Duration {
        self.waited.replace(Duration::ZERO)
    }

    /// Sleeps until `look` finds something or the run is stopped.
    fn sleep<T>(
        &self,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let Ok(mut sleeper) = self.sleeper.try_borrow_mut() else { return look() };
        let board = self.board();
        let word = self.shared.executor(self.number);
        // Where others need the processor, it is theirs before this one says that it sleeps: so it
        // need not be woken, and finds more together.
        for _ in 0..if self.spins { 0 } else { YIELDS } {
            thread::yield_now();
            if let Some(found) = look() {
                return Some(found);
            }
            if self.is_stopped() {
                return None;
            }
        }
        let slice = timeout.unwrap_or(Duration::from_millis(100));
        let mut looks = if self.spins { LOOKS } else { 0 };
        let mut idle = false;
        let found = sleeper.wait(Some(slice), || {
            if !idle && looks == 0 {
                idle = true;
                board.store(word, 1);
            }
            looks = looks.saturating_sub(1);
            match look() {
                Some(found) => Some(Some(found)),
                None => self.is_stopped().then_some(None),
            }
        });
        if idle {
            board.store(word, 0);
        }
        found.flatten()
    }
}
