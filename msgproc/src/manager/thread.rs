//! Waking a manager from elsewhere, and running it on a thread.

use std::{
    any::Any,
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::Manager;
use crate::{
    error::{Error, Result},
    process::Backend,
    start::KeptEvent,
};

/// What a manager shares with those who wake it.
#[derive(Debug)]
pub(super) struct Wake {
    event: KeptEvent,
    stop: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake { event: KeptEvent::new()?, stop: AtomicBool::new(false) })
    }

    pub(super) fn clear(&self) {
        self.event.clear();
    }

    pub(super) fn stops(&self) -> bool {
        // SYNC stop: Acquire here, Release in `ManagerThread::stop`.
        self.stop.load(Ordering::Acquire)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Wakes a manager from any thread; made by [`Manager::waker`].
#[derive(Clone, Debug)]
pub struct Waker(pub(super) Arc<Wake>);

impl Waker {
    /// Lets [`Manager::next`] give [`Happening::Woken`](super::Happening::Woken). Calls that come
    /// before it does are one.
    pub fn wake(&self) {
        self.0.event.set();
    }
}

/// A manager that runs on a thread; made by [`Manager::run_on_thread`]. Dropping it stops it and
/// waits for it.
#[must_use = "dropping it stops the manager"]
pub struct ManagerThread<R> {
    wake: Arc<Wake>,
    handle: Option<JoinHandle<Result<R>>>,
}

impl<R> ManagerThread<R> {
    /// Asks the function that runs the manager to return, by
    /// [`Happening::Stop`](super::Happening::Stop). Does not wait for that.
    pub fn stop(&self) {
        self.wake.stop.store(true, Ordering::Release);
        self.wake.event.set();
    }

    /// Whether the function has returned and all processes have ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the function has returned and all processes have ended; gives what it
    /// returned.
    ///
    /// # Errors
    ///
    /// That of the function; [`Error::Other`] with the message when it panicked.
    pub fn join(mut self) -> Result<R> {
        self.wait()
    }

    fn wait(&mut self) -> Result<R> {
        let Some(handle) = self.handle.take() else {
            return Err("the manager's thread has been joined".into());
        };
        handle.join().unwrap_or_else(|panic| {
            Err(format!("the manager's thread panicked: {}", text_of(&*panic)).into())
        })
    }
}

impl<R> Drop for ManagerThread<R> {
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.stop();
            let _ = self.wait();
        }
    }
}

impl<R> fmt::Debug for ManagerThread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerThread")
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl<B: Backend> Manager<B> {
    /// Gives something that wakes this manager from any thread.
    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    /// Whether somebody asked for the end by [`ManagerThread::stop`].
    pub fn is_stopping(&self) -> bool {
        self.wake.stops()
    }

    /// Runs the manager on a thread of its own: `work` is what would run here otherwise, and
    /// returns when it is told [`Happening::Stop`](super::Happening::Stop). Then what is left of
    /// the processes is stopped.
    ///
    /// All processes are to be added before: from now on this program has more than one thread,
    /// so no process can be forked, and a restart fails with [`Error::MultiThreaded`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there can be no more threads; the processes are then stopped.
    pub fn run_on_thread<R, F>(self, work: F) -> Result<ManagerThread<R>>
    where
        R: Send + 'static,
        F: FnOnce(&mut Manager<B>) -> Result<R> + Send + 'static,
    {
        self.check_ours()?;
        let wake = self.wake.clone();
        let mut manager = self;
        let handle = thread::Builder::new()
            .name("manager".into())
            .spawn(move || work(&mut manager))
            .map_err(Error::io("start a thread for the manager"))?;
        Ok(ManagerThread { wake, handle: Some(handle) })
    }
}
