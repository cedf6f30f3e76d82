//! The thread that asks an iterator. It is apart from the worker that sends what comes: so items go
//! on while the iterator lets the next one wait, and a run can end meanwhile.
//!
//! Items lie in a ring between the two. Who finds nothing there to do waits: the worker at its bell,
//! which is rung after each item; the thread for room, which the worker says when it has taken half of
//! what there may be, and when it finds nothing. Each says that it waits before it looks a last time,
//! and each looks whether the other waits after what it did, with a fence between the two; so one of
//! them sees the other.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Cause, plan::Bell};
use crate::start::{Panic, catch_here};

/// How long an iterator that is being asked may hold up the end of a run.
const GRACE: Duration = Duration::from_secs(2);

/// What the two have in common beside the ring.
struct Shelf {
    /// How many items may lie there.
    most: AtomicUsize,
    /// The thread waits for room.
    waits: AtomicBool,
    /// Nobody wants more.
    is_closed: AtomicBool,
    /// There is something in `state` for the worker.
    is_told: AtomicBool,
    state: Mutex<State>,
    /// There is room, nobody wants more, what was told was taken, or the thread has ended.
    changed: Condvar,
}

struct State {
    /// When the thread began, or went on after it had waited; `None` while it waits.
    at_work_since: Option<Instant>,
    /// How long it was at work before.
    busy: Duration,
    /// The iterator panicked, and is asked again when this was taken and the next item is wanted.
    panic: Option<Panic>,
    /// It waits to be asked again.
    has_panicked: bool,
    has_ended: bool,
}

impl State {
    fn busy(&self) -> Duration {
        self.busy + self.at_work_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn note_busy(&mut self) {
        self.busy = self.busy();
        self.at_work_since = None;
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Waits for the worker, until then or as long as that one wants something.
    fn wait_until(&self, mut until: impl FnMut(&State) -> bool) {
        let mut state = self.state();
        state.note_busy();
        while !until(&state) && !self.is_closed() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.at_work_since = Some(Instant::now());
    }

    /// Says something to the worker.
    fn tell(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        what(&mut state);
        // What lies in the ring was put there before.
        self.is_told.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Says something to the thread, which may be about to wait: with the lock.
    fn wake(&self) {
        drop(self.state());
        self.changed.notify_all();
    }
}

/// The thread's end.
struct Filler<T> {
    ring: rtrb::Producer<T>,
    /// For so many there was room.
    room: usize,
    shelf: Arc<Shelf>,
    bell: Option<Bell>,
}

impl<T> Filler<T> {
    fn ring(&self) {
        self.bell.iter().for_each(Bell::ring);
    }

    /// Puts an item there, when there is room. Tells whether somebody wants more.
    fn put(&mut self, item: T) -> bool {
        if self.room == 0 {
            self.wait_for_room();
        }
        self.room = self.room.saturating_sub(1);
        // One more than may lie there finds room always: it is not lost where nobody wants more.
        let is_put = self.ring.push(item).is_ok();
        self.ring();
        is_put && !self.shelf.is_closed()
    }

    fn look_for_room(&self) -> usize {
        let lying = self.ring.buffer().capacity() - self.ring.slots();
        self.shelf.most.load(Ordering::Relaxed).saturating_sub(lying)
    }

    #[cold]
    fn wait_for_room(&mut self) {
        self.room = self.look_for_room();
        if self.room > 0 {
            return;
        }
        self.shelf.waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.shelf.wait_until(|_| self.look_for_room() > 0);
        self.shelf.waits.store(false, Ordering::Relaxed);
        self.room = self.look_for_room();
    }

    /// Puts all that an iterator gives.
    fn put_all(&mut self, items: &mut impl Iterator<Item = T>) {
        for item in items {
            if !self.put(item) {
                break;
            }
        }
    }

    /// Says that the iterator panicked, and waits to ask it again.
    fn tell_panic(&self, panic: Panic) {
        self.shelf.tell(|state| (state.panic, state.has_panicked) = (Some(panic), true));
        self.ring();
        self.shelf.wait_until(|state| !state.has_panicked);
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        self.shelf.tell(|state| {
            state.note_busy();
            state.has_ended = true;
        });
        self.ring();
    }
}

/// The thread, from outside.
pub(super) struct Pump<T> {
    ring: rtrb::Consumer<T>,
    shelf: Arc<Shelf>,
    /// How many were taken since the thread was told of room.
    taken: usize,
    /// When it was told that nobody wants more.
    closed: Option<Instant>,
    thread: Option<JoinHandle<()>>,
}

/// What there is to take.
pub(super) enum Taken<T> {
    Item(T),
    /// Not now.
    Nothing,
    End,
}

impl<T: Send + 'static> Pump<T> {
    /// A thread that asks for so many items ahead, until another number is said, which is not to be more
    /// than the second. The bell is rung when there is something to take.
    pub(super) fn start<I>(
        items: impl FnOnce() -> I + Send + 'static,
        (ahead, most): (usize, usize),
        bell: Option<Bell>,
    ) -> Result<Pump<T>, Cause>
    where
        I: Iterator<Item = T>,
    {
        let most = most.max(ahead).max(1);
        let (tx, rx) = rtrb::RingBuffer::new(most + 1);
        let shelf = Arc::new(Shelf {
            most: AtomicUsize::new(ahead.max(1)),
            waits: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            state: Mutex::new(State {
                at_work_since: Some(Instant::now()),
                busy: Duration::ZERO,
                panic: None,
                has_panicked: false,
                has_ended: false,
            }),
            changed: Condvar::new(),
        });
        let mut filler = Filler { ring: tx, room: 0, shelf: shelf.clone(), bell };
        let body = move || {
            let mut asked = match catch_here(items) {
                Ok(items) => items,
                Err(panic) => return filler.tell_panic(panic),
            };
            while let Err(panic) = catch_here(|| filler.put_all(&mut asked)) {
                filler.tell_panic(panic);
                if filler.shelf.is_closed() {
                    break;
                }
            }
            // The iterator is dropped here as well, whatever that does, before the end is said.
            if let Err(panic) = catch_here(|| drop(asked)) {
                filler.tell_panic(panic);
            }
        };
        let thread = thread::Builder::new().name("flow-source".into()).spawn(body)?;
        Ok(Pump { ring: rx, shelf, taken: 0, closed: None, thread: Some(thread) })
    }
}

impl<T> Pump<T> {
    /// The next item, or what there is in its place.
    ///
    /// # Panics
    ///
    /// As the iterator did. It is asked again then.
    #[inline]
    pub(super) fn take(&mut self) -> Taken<T> {
        match self.ring.pop() {
            Ok(item) => {
                self.taken += 1;
                if self.taken * 2 >= self.shelf.most.load(Ordering::Relaxed) {
                    self.tell_of_room();
                }
                Taken::Item(item)
            }
            Err(_) => self.take_what_was_told(),
        }
    }

    #[cold]
    fn take_what_was_told(&mut self) -> Taken<T> {
        self.tell_of_room();
        if !self.shelf.is_told.load(Ordering::Acquire) {
            return Taken::Nothing;
        }
        // Put before that was told.
        if let Ok(item) = self.ring.pop() {
            return Taken::Item(item);
        }
        let mut state = self.shelf.state();
        if let Some(panic) = state.panic.take() {
            drop(state);
            panic.raise();
        }
        if state.has_ended {
            return Taken::End;
        }
        if std::mem::take(&mut state.has_panicked) {
            self.shelf.is_told.store(false, Ordering::Relaxed);
            self.shelf.changed.notify_all();
        }
        Taken::Nothing
    }

    fn tell_of_room(&mut self) {
        self.taken = 0;
        fence(Ordering::SeqCst);
        if self.shelf.waits.load(Ordering::Relaxed) {
            self.shelf.wake();
        }
    }

    /// Whether there is something to take.
    pub(super) fn is_ready(&self) -> bool {
        !self.ring.is_empty() || self.shelf.is_told.load(Ordering::Relaxed)
    }

    /// How long the thread was at work: it asked the iterator.
    pub(super) fn busy(&self) -> Duration {
        self.shelf.state().busy()
    }

    /// How many items may lie there from now on.
    pub(super) fn set_most(&self, most: usize) {
        self.shelf.most.store(most.max(1), Ordering::Relaxed);
    }

    /// Has the thread ask for no more. What it has can still be taken, until its end; gives how long
    /// that may take.
    pub(super) fn close(&mut self) -> Instant {
        self.shelf.is_closed.store(true, Ordering::Relaxed);
        self.shelf.wake();
        *self.closed.get_or_insert_with(Instant::now) + GRACE
    }

    /// Waits for the end. Tells whether it comes before that time.
    fn wait_for_end(&self, until: Instant) -> bool {
        let mut state = self.shelf.state();
        while !state.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shelf.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl<T> Drop for Pump<T> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let until = self.close();
        match self.wait_for_end(until) {
            true => drop(thread.join()), // What it has to say was said.
            // It ends when its iterator answers.
            false => tracing::warn!("an iterator does not answer; the thread that asks it is left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::AtomicU64,
        thread::sleep,
    };

    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    fn wait<T>(pump: &mut Pump<T>) -> Option<T> {
        loop {
            match pump.take() {
                Taken::Item(item) => return Some(item),
                Taken::End => return None,
                Taken::Nothing => thread::yield_now(),
            }
        }
    }

    #[test]
    fn all_come_whatever_may_lie_there() {
        for (ahead, most) in [(1, 1), (1, 7), (2, 2), (64, 1024)] {
            let mut pump = Pump::start(|| 0..50_000, (ahead, most), None).unwrap();
            for n in 0..50_000 {
                pump.set_most(if n % 100 < 50 { ahead } else { most });
                assert_eq!(wait(&mut pump), Some(n));
            }
            assert_eq!(wait(&mut pump), None);
            assert_eq!(wait(&mut pump), None);
        }
    }

    #[test]
    fn no_more_is_asked_for_than_may_lie_there() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let counted = move || {
            (0..).inspect(move |_| {
                let _ = count.fetch_add(1, Ordering::Relaxed);
            })
        };
        let mut pump: Pump<u64> = Pump::start(counted, (4, 16), None).unwrap();
        sleep(STEP);
        assert_eq!(asked.load(Ordering::Relaxed), 5, "with the one in hand");
        let before = pump.busy();
        sleep(STEP);
        assert_eq!(pump.busy(), before, "it waits");
        pump.set_most(16);
        assert_eq!(wait(&mut pump), Some(0));
        (1..8).for_each(|n| assert_eq!(wait(&mut pump), Some(n)));
        sleep(STEP);
        let before = asked.load(Ordering::Relaxed);
        assert!((8 + 16 / 2..=8 + 16 + 1).contains(&before), "{before}");
        // What it has by then comes, and nothing else.
        pump.close();
        (8..before).for_each(|n| assert_eq!(wait(&mut pump), Some(n)));
        assert_eq!(wait(&mut pump), None);
        assert_eq!(asked.load(Ordering::Relaxed), before);
    }

    #[test]
    fn panics_go_on_where_items_are_taken() {
        let mut n = 0;
        let items = std::iter::from_fn(move || {
            n += 1;
            assert!(n % 3 != 0, "at {n}");
            (n < 8).then_some(n)
        });
        let mut pump = Pump::start(move || items, (64, 64), None).unwrap();
        for expected in [Ok(1), Ok(2), Err(()), Ok(4), Ok(5), Err(()), Ok(7)] {
            let came = catch_unwind(AssertUnwindSafe(|| wait(&mut pump).unwrap()));
            assert_eq!(came.map_err(drop), expected);
        }
        assert_eq!(wait(&mut pump), None);
        // Where nobody takes it, it goes with the thread.
        let items = || -> std::ops::Range<u64> { panic!("at once") };
        drop(Pump::start(items, (1, 1), None).unwrap());
    }

    #[test]
    fn one_that_does_not_answer_is_left() {
        let (give, given) = std::sync::mpsc::channel::<u64>();
        let mut pump = Pump::start(|| given.into_iter(), (8, 8), None).unwrap();
        give.send(1).unwrap();
        assert_eq!(wait(&mut pump), Some(1));
        sleep(STEP); // it asks for the next one
        let until = pump.close();
        assert!(matches!(pump.take(), Taken::Nothing));
        sleep(until.saturating_duration_since(Instant::now()).saturating_sub(10 * STEP));
        let began = Instant::now();
        drop(pump);
        let took = began.elapsed();
        assert!(took >= 5 * STEP && took < 100 * STEP, "{took:?}");
        drop(give);
    }

    #[test]
    fn it_is_busy_while_it_asks() {
        let items = || {
            (0..5).inspect(|_| {
                sleep(STEP);
            })
        };
        let mut pump = Pump::start(items, (64, 64), None).unwrap();
        while wait(&mut pump).is_some() {}
        let busy = pump.busy();
        assert!(busy >= 5 * STEP && busy < 50 * STEP, "{busy:?}");
        sleep(STEP);
        assert_eq!(pump.busy(), busy);
    }
}
