//! Who may touch an array: an open file description lock over its whole file.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crate::{
    error::{Error, Result},
    named::Patience,
    os::{self, LockKind, RangeLock},
};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The lock of one handle.
///
/// The kernel knows one lock per open file description, and one unlock drops it whoever else
/// counts on it. So each handle has a description that nothing else uses, and counts its readers;
/// the mapping comes from another one, for a forked child keeps that.
#[derive(Debug)]
pub(super) struct FileLock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fd: OwnedFd,
    /// In which process the description was opened.
    generation: u32,
    readers: usize,
    /// Whether somebody holds a lock, or forgot the guard of one.
    is_locked: bool,
}

/// Says that a lock was taken, and in which process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    kind: LockKind,
    range: RangeLock,
    generation: u32,
}

impl Held {
    /// Whether it was taken in this process, and not by the parent of a forked child.
    #[inline]
    pub(super) fn is_ours(self) -> bool {
        self.generation == os::forks()
    }
}

/// The locks of this process, so that a forked child can leave all of them at once.
static LOCKS: Mutex<Vec<Weak<FileLock>>> = Mutex::new(Vec::new());

impl FileLock {
    /// A lock on the file behind `fd`, in a new description.
    pub(super) fn new(fd: BorrowedFd<'_>) -> io::Result<Arc<FileLock>> {
        let lock = Arc::new(FileLock {
            state: Mutex::new(State {
                fd: os::reopen(fd)?,
                generation: os::fork_generation(),
                readers: 0,
                is_locked: false,
            }),
        });
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it would grow, what has ended makes place: each entry is looked at rarely.
        if locks.len() == locks.capacity() {
            locks.retain(|lock| lock.strong_count() > 0);
        }
        locks.push(Arc::downgrade(&lock));
        Ok(lock)
    }

    /// Another lock on the same file.
    pub(super) fn another(&self) -> io::Result<Arc<FileLock>> {
        FileLock::new(self.state()?.fd.as_fd())
    }

    /// Another description of the same file that has no range locks, marked as in use.
    pub(super) fn description(&self) -> io::Result<OwnedFd> {
        let fd = os::reopen(self.state()?.fd.as_fd())?;
        // Nobody holds the file exclusively while our mapping is marked as well.
        os::flock_shared(fd.as_fd())?;
        Ok(fd)
    }

    /// Runs `f` with a descriptor of the file.
    pub(super) fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> io::Result<R> {
        Ok(f(self.state()?.fd.as_fd()))
    }

    /// Takes the lock if it is free.
    ///
    /// The caller holds the handle exclusively for `LockKind::Write`. Guards that were forgotten,
    /// so that their lock is still held, then have no user any more: the new lock replaces it.
    pub(super) fn try_acquire(&self, kind: LockKind) -> io::Result<Option<Held>> {
        let mut state = self.state()?;
        let held = Held { kind, range: RangeLock::ALL, generation: state.generation };
        if kind == LockKind::Read && state.readers > 0 {
            state.readers += 1;
            return Ok(Some(held));
        }
        if !os::range_lock(state.fd.as_fd(), RangeLock::ALL, kind)? {
            return Ok(None);
        }
        state.readers = usize::from(kind == LockKind::Read);
        state.is_locked = true;
        Ok(Some(held))
    }

    /// Takes the lock for writing of some bytes of the file, if they are free. The caller holds the
    /// handle exclusively.
    fn try_acquire_bytes(&self, range: RangeLock) -> io::Result<Option<Held>> {
        let mut state = self.state()?;
        if state.is_locked {
            // By guards that were forgotten: they have no user any more.
            os::range_unlock(state.fd.as_fd(), RangeLock::ALL)?;
            (state.readers, state.is_locked) = (0, false);
        }
        let is_free = os::range_lock(state.fd.as_fd(), range, LockKind::Write)?;
        state.is_locked = is_free;
        let held = Held { kind: LockKind::Write, range, generation: state.generation };
        Ok(is_free.then_some(held))
    }

    /// Takes the lock as soon as it is free; `limit` bounds the wait.
    pub(super) fn acquire(
        &self,
        kind: LockKind,
        limit: Option<Duration>,
        what: impl Fn() -> String,
    ) -> Result<Held> {
        FileLock::wait(limit, what, || self.try_acquire(kind))
    }

    /// Takes the lock for writing of some bytes as soon as they are free.
    pub(super) fn acquire_bytes(
        &self,
        range: RangeLock,
        what: impl Fn() -> String,
    ) -> Result<Held> {
        FileLock::wait(None, what, || self.try_acquire_bytes(range))
    }

    fn wait(
        limit: Option<Duration>,
        what: impl Fn() -> String,
        mut take: impl FnMut() -> io::Result<Option<Held>>,
    ) -> Result<Held> {
        let mut patience = Patience::new(limit, LONGEST_PAUSE);
        loop {
            let held = take().map_err(|source| lock_failed(source, &what()))?;
            if let Some(held) = held {
                return Ok(held);
            }
            if !patience.pause() {
                return Err(Error::TimedOut { what: what(), waited: patience.waited() });
            }
        }
    }

    /// Gives a lock up. Does nothing in a forked child, which has only a copy of the guard.
    pub(super) fn release(&self, held: Held) {
        if !held.is_ours() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if held.kind == LockKind::Read {
            state.readers = state.readers.saturating_sub(1);
        }
        if state.readers == 0 {
            // Fails only for a descriptor that is not one; closing it frees the lock as well.
            let _ = os::range_unlock(state.fd.as_fd(), held.range);
            state.is_locked = false;
        }
    }

    /// The state, in a forked child with a description of its own: the parent's stays the
    /// parent's, and is left here so that the parent's death frees its locks.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let generation = os::fork_generation();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            let fd = os::reopen(state.fd.as_fd())?;
            *state = State { fd, generation, readers: 0, is_locked: false };
        }
        Ok(state)
    }
}

pub(super) fn lock_failed(source: io::Error, what: &str) -> Error {
    Error::Io { action: format!("lock {what}"), source }
}

/// Leaves the locks of the parent process, in a forked child.
///
/// A child that never uses an array it inherited would otherwise keep its parent's lock on it
/// held after the parent was killed inside a guard. Handles do this by themselves at first use;
/// whoever starts children by `fork` calls this at the beginning of each. It needs `/proc`.
pub fn after_fork() {
    let locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    for lock in locks.iter().filter_map(Weak::upgrade) {
        // One that cannot be opened again stays as it is, and tells its user at first use.
        drop(lock.state());
    }
}
