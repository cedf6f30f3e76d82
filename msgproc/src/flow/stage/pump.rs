//! The thread that asks an iterator. It is apart from the worker that sends what comes: so items go
//! on while the iterator lets the next one wait, and a run can end meanwhile.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    flow::{Cause, plan::Bell},
    start::{Panic, catch_here},
};

/// How many items are asked for ahead, if nothing is said.
const AHEAD: usize = 256;
/// How long an iterator that is being asked may hold up the end of a run.
const GRACE: Duration = Duration::from_secs(2);

/// What the thread has fetched.
struct Shelf<T> {
    state: Mutex<State<T>>,
    /// There is room, or the thread has ended.
    changed: Condvar,
    most: usize,
}

struct State<T> {
    items: Vec<T>,
    /// Nobody wants more.
    is_closed: bool,
    /// No more come; with the panic of the iterator, if that was why.
    ended: Option<Result<(), Panic>>,
}

impl<T> Shelf<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item there, when there is room. Tells whether it was the first, or nothing when
    /// nobody wants more.
    fn put(&self, item: T) -> Option<bool> {
        let mut state = self.state();
        while state.items.len() >= self.most && !state.is_closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return None;
        }
        state.items.push(item);
        Some(state.items.len() == 1)
    }
}

/// The thread, from outside.
pub(super) struct Pump<T> {
    shelf: Arc<Shelf<T>>,
    thread: Option<JoinHandle<()>>,
}

/// What there is to take.
pub(super) enum Fetched {
    Some,
    End,
}

impl<T: Send + 'static> Pump<T> {
    pub(super) fn start<I>(
        items: impl FnOnce() -> I + Send + 'static,
        ahead: Option<usize>,
        bell: Option<Bell>,
    ) -> Result<Pump<T>, Cause>
    where
        I: Iterator<Item = T>,
    {
        let state = State { items: Vec::new(), is_closed: false, ended: None };
        // As many are in the hands of the worker, and the thread fetches as many meanwhile.
        let most = ahead.unwrap_or(AHEAD).div_ceil(2).max(1);
        let shelf = Arc::new(Shelf { state: Mutex::new(state), changed: Condvar::new(), most });
        let there = shelf.clone();
        let body = move || {
            let ring = || bell.iter().for_each(Bell::ring);
            let fetch = || {
                for item in items() {
                    match there.put(item) {
                        Some(true) => ring(),
                        Some(false) => {}
                        None => break,
                    }
                }
            };
            let ended = catch_here(fetch);
            there.state().ended = Some(ended);
            there.changed.notify_all();
            ring();
        };
        let thread = thread::Builder::new().name("stages-source".into()).spawn(body)?;
        Ok(Pump { shelf, thread: Some(thread) })
    }
}

impl<T> Pump<T> {
    /// Takes all that was fetched into an empty vector; `None` while there is nothing.
    pub(super) fn take(&self, into: &mut Vec<T>) -> Option<Fetched> {
        let mut state = self.shelf.state();
        if state.items.is_empty() {
            return state.ended.is_some().then_some(Fetched::End);
        }
        let was_full = state.items.len() >= self.shelf.most;
        std::mem::swap(&mut state.items, into);
        drop(state);
        if was_full {
            self.shelf.changed.notify_one();
        }
        Some(Fetched::Some)
    }

    /// After the end: the panic of the iterator goes on here.
    pub(super) fn finish(&mut self) {
        let ended = self.shelf.state().ended.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // What it has to say was said.
        }
        if let Some(Err(panic)) = ended {
            panic.raise();
        }
    }
}

impl<T> Drop for Pump<T> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + GRACE;
        let mut state = self.shelf.state();
        state.is_closed = true;
        let dropped = std::mem::take(&mut state.items);
        self.shelf.changed.notify_all();
        while state.ended.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Its iterator does not answer. It ends when that does.
                tracing::warn!("the source of a stream does not answer; its thread is left");
                return;
            }
            let waited = self.shelf.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        drop(dropped);
        let _ = thread.join();
    }
}
