//! One thread of a process at a time, where it is not known which of them it was whose item killed
//! the process before.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Lets one thread of a process be at work at a time, until all are cleared that are suspected. Then
/// who dies meanwhile dies over an item of his own.
#[derive(Debug)]
pub(crate) struct Alone {
    suspects: AtomicUsize,
    taken: Mutex<bool>,
    is_free: Condvar,
}

/// Nodes may wait for each other in ways of their own, which would now be for ever: who has waited for
/// its turn so long goes on without it, and all others too.
const PATIENCE: Duration = Duration::from_secs(5);

impl Alone {
    pub(crate) fn new(suspects: usize) -> Alone {
        Alone {
            suspects: AtomicUsize::new(suspects),
            taken: Mutex::new(false),
            is_free: Condvar::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.suspects.load(Ordering::Relaxed) == 0
    }

    fn taken(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of this thread. Tells whether it has it, and has to give it back.
    pub(super) fn take(&self) -> bool {
        if self.is_over() {
            return false;
        }
        let until = Instant::now() + PATIENCE;
        let mut taken = self.taken();
        while *taken && !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.suspects.store(0, Ordering::Relaxed);
            }
            let waited = self.is_free.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !std::mem::replace(&mut *taken, true)
    }

    pub(super) fn give_back(&self) {
        *self.taken() = false;
        self.is_free.notify_one();
    }

    /// One that was suspected is no more. The last of them lets all go on.
    pub(super) fn clear_one(&self) {
        let left = |suspects: usize| suspects.checked_sub(1);
        let _ = self.suspects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if self.is_over() {
            drop(self.taken());
            self.is_free.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn one_at_a_time_until_all_are_cleared() {
        let alone = Arc::new(Alone::new(2));
        assert!(alone.take());
        let other = alone.clone();
        let waits = thread::spawn(move || other.take());
        thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished());
        alone.give_back();
        assert!(waits.join().unwrap());
        let other = alone.clone();
        let waits = thread::spawn(move || other.take());
        alone.clear_one();
        thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished());
        alone.clear_one();
        assert!(!waits.join().unwrap(), "two have it");
        assert!(!alone.take());
    }
}
