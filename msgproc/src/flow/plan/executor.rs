//! One thread of a run: its workers, and how it waits.

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
    alone::Alone,
    clock::Clock,
    words::{SETUP, STOPPING, Shared},
};
use crate::flow::trace::{Doing, Notes};

/// Something that an executor runs.
pub(crate) trait Unit {
    /// Does what there is to do now, and not for long.
    fn poll(&mut self) -> Poll;

    /// Whether there is something to do, as far as one sees without doing it.
    fn is_ready(&self) -> bool;

    /// Whether a poll would do nothing at all: of one that is only called, between calls. To ask
    /// costs less than [`Unit::can_run`], which asks all whom it calls in turn.
    fn rests(&self) -> bool {
        false
    }

    /// Whether all whom it calls can be called.
    fn can_run(&self) -> bool;

    /// Which number it handles next, if its node keeps the order.
    fn turn(&self) -> Option<u64> {
        None
    }

    /// Whether something that it has sent and that found no room may find some now.
    fn can_send_late(&self) -> bool {
        false
    }

    /// Sends that. Tells whether there was room for something.
    fn send_late(&mut self) -> bool {
        false
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
/// Where a unit stands among those of its thread. Those that receive have lower ranks than those that
/// send to them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Rank {
    /// Nodes whose workers keep the order, one behind the other, have one rank in common.
    pub(crate) block: usize,
    /// Its own.
    pub(crate) node: usize,
}

/// A unit, with its rank. While one waits for room, others run on top of it on the stack, but none of
/// a higher rank: that might wait in turn for what the first has yet to do, and could not be left for
/// it. For the same reason, of workers that keep the order only those run whose turn is before its
/// own, wherever they stand among these, and of those with the same turn who receive.
type Ranked = (Rank, Rc<RefCell<dyn Unit>>);

/// What a thread looks after beside its workers.
type Aside = Box<dyn FnMut()>;

/// How a thread of a run is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// Whether it looks for something to do for a while before it sleeps.
    pub(crate) spins: bool,
    /// Whether it writes down who was busy when.
    pub(crate) traced: bool,
    /// Whether nodes may have threads beside this one.
    pub(crate) may_have_helpers: bool,
}

/// One thread of a run: what its workers share.
pub(crate) struct Executor {
    pub(crate) shared: Shared,
    pub(crate) number: usize,
    sleeper: RefCell<Sleeper>,
    /// What else this thread looks after, and when it did so last.
    aside: RefCell<Option<(Aside, Instant)>>,
    units: RefCell<Vec<Ranked>>,
    /// How many messages its units have sent that have yet to find room.
    late: Cell<usize>,
    /// Units below may run now: their blocks, then their turns, then their own ranks.
    limit: Cell<(usize, u64, usize)>,
    /// Which worker is at work, if that is to be known when its process dies. One that waits is not.
    at_work: Cell<Option<usize>>,
    /// Where one thread of the process at a time is at work, and whether it is this one.
    alone: RefCell<Option<Arc<Alone>>>,
    has_turn: Cell<bool>,
    pub(crate) clock: Clock,
    spins: bool,
    /// Whether nodes may have threads beside this one.
    pub(crate) may_have_helpers: bool,
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
        Settings { spins, traced, may_have_helpers }: Settings,
    ) -> Result<Rc<Executor>, shmring::Error> {
        let mut sleeper = shared.board().sleeper(number)?;
        shared.set_idle(number, false); // One that died may have said so.
        if !spins {
            sleeper.set_wait(WaitStrategy::Park);
        }
        Ok(Rc::new(Executor {
            shared,
            number,
            sleeper: RefCell::new(sleeper),
            units: RefCell::new(Vec::new()),
            aside: RefCell::new(None),
            late: Cell::new(0),
            limit: Cell::new((0, 0, 0)),
            at_work: Cell::new(None),
            alone: RefCell::new(None),
            has_turn: Cell::new(false),
            clock: Clock::default(),
            spins,
            may_have_helpers,
            notes: traced.then(Notes::new),
        }))
    }

    pub(crate) fn board(&self) -> &Board {
        self.shared.board()
    }

    pub(crate) fn add(&self, rank: Rank, unit: Rc<RefCell<dyn Unit>>) {
        self.units.borrow_mut().push((rank, unit));
    }

    /// Whether it has no workers.
    pub(crate) fn is_empty(&self) -> bool {
        self.units.borrow().is_empty()
    }

    /// Calls what a unit does, which has this rank and turn.
    pub(crate) fn enter<R>(&self, rank: Rank, turn: Option<u64>, act: impl FnOnce() -> R) -> R {
        let limit = match turn {
            Some(turn) => (rank.block, turn, rank.node),
            // Other workers of the same node do not mind.
            None => (rank.block, 1, 0),
        };
        let outer = self.limit.replace(limit);
        let result = act();
        self.limit.set(outer);
        result
    }

    /// Calls what a worker does whose process is replaced when it dies, and says meanwhile that it is
    /// at work.
    pub(crate) fn at_work<R>(&self, worker: usize, act: impl FnOnce() -> R) -> R {
        let before = self.at_work.get();
        self.set_at_work(Some(worker));
        let result = act();
        self.set_at_work(before);
        result
    }

    fn set_at_work(&self, worker: Option<usize>) {
        let before = self.at_work.replace(worker);
        if before == worker {
            return;
        }
        if before.is_none()
            && let Some(alone) = &*self.alone.borrow()
        {
            self.has_turn.set(alone.take());
        }
        self.shared.set_at_work(self.number, worker);
        if worker.is_none()
            && self.has_turn.take()
            && let Some(alone) = &*self.alone.borrow()
        {
            alone.give_back();
        }
    }

    /// Lets it be at work when no other thread of its process is.
    pub(crate) fn set_alone(&self, alone: &Arc<Alone>) {
        *self.alone.borrow_mut() = Some(alone.clone());
    }

    /// Whether this worker may have been the one that killed the process before.
    pub(crate) fn suspects(&self, worker: usize) -> bool {
        self.alone.borrow().is_some() && self.shared.suspect(self.number) == Some(worker)
    }

    /// The worker that was suspected has got further than it was then.
    pub(crate) fn clear_suspect(&self) {
        self.shared.set_suspect(self.number, None);
        if let Some(alone) = &*self.alone.borrow() {
            alone.clear_one();
        }
    }

    /// So many messages more, or less, have yet to find room.
    pub(crate) fn note_late(&self, messages: isize) {
        self.late.set(self.late.get().saturating_add_signed(messages));
    }

    fn is_below(&self, rank: Rank, unit: &dyn Unit) -> bool {
        let own = unit.turn().map_or((rank.block, 0, 0), |turn| (rank.block, turn, rank.node));
        own < self.limit.get()
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
        self.limit.set((usize::MAX, 0, 0));
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
        if self.late.get() > 0 {
            // Whatever their rank: nobody waits for that, nor is called.
            for (_, unit) in &units {
                if unit.try_borrow_mut().is_ok_and(|mut unit| unit.send_late()) {
                    outcome = Poll::Worked;
                }
            }
        }
        for (rank, unit) in units {
            let polled = match unit.try_borrow_mut() {
                Ok(mut unit) if self.is_below(rank, &*unit) && !unit.rests() && unit.can_run() => {
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

    /// Whether all workers rest but the one that is at it.
    pub(crate) fn others_rest(&self) -> bool {
        let units = self.units.borrow();
        units.iter().all(|(_, unit)| unit.try_borrow().map_or(true, |unit| unit.rests()))
    }

    fn any_ready(&self) -> bool {
        let some_late = self.late.get() > 0;
        self.units.borrow().iter().any(|(rank, unit)| {
            unit.try_borrow().is_ok_and(|unit| {
                (self.is_below(*rank, &*unit) && unit.is_ready() && unit.can_run())
                    || (some_late && unit.can_send_late())
            })
        })
    }

    /// Waits until `look` finds something, for a worker in the middle of its work; the others go on
    /// meanwhile. Gives how long that took.
    pub(crate) fn wait_for<T>(&self, look: impl FnMut() -> Option<T>) -> Result<T, Stopped> {
        let span = self.clock.begin();
        let (began, at_work) = (span.began, self.at_work.get());
        self.set_at_work(None);
        let found = self.wait_until(look);
        self.set_at_work(at_work);
        self.clock.end_wait(span);
        if let Some(notes) = self.notes.as_ref().filter(|_| found.is_ok()) {
            notes.note_current(Doing::WaitingForOutput, began);
        }
        found
    }

    /// The same, but nobody else goes on meanwhile, and the worker stays at work.
    #[cfg(feature = "tokio")]
    pub(crate) fn wait_at_work<T>(
        &self,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Stopped> {
        loop {
            if self.is_stopped() {
                return Err(Stopped);
            }
            if let Some(found) = look().or_else(|| self.sleep(None, &mut look)) {
                return Ok(found);
            }
            self.look_aside();
        }
    }

    fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> Result<T, Stopped> {
        loop {
            if self.is_stopped() {
                return Err(Stopped);
            }
            if let Some(found) = look() {
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
                return Ok(found);
            }
        }
    }

    /// Sleeps until `look` finds something or the run is stopped.
    fn sleep<T>(
        &self,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let Ok(mut sleeper) = self.sleeper.try_borrow_mut() else { return look() };
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
                self.shared.set_idle(self.number, true);
            }
            looks = looks.saturating_sub(1);
            match look() {
                Some(found) => Some(Some(found)),
                None => self.is_stopped().then_some(None),
            }
        });
        if idle {
            self.shared.set_idle(self.number, false);
        }
        found.flatten()
    }
}
