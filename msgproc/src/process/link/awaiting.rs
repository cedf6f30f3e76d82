//! Tasks that await something of a process, in tokio.
//!
//! They share one place in the reactor of their runtime, however many they are: the kernel takes only
//! some hundreds for one process. Whatever rings the bell of the process is news for all of them, and
//! each looks for itself.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use shmring::{future::AsyncReady, os, tokio::Readiness};

use super::Link;

/// Those who await something of one process.
#[derive(Debug, Default)]
pub(super) struct Awaiting(Mutex<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    last: u64,
    waiting: BTreeMap<u64, Task>,
    /// One for each runtime in which somebody waits.
    watches: Vec<Arc<Readiness>>,
}

#[derive(Debug, Default)]
struct Task {
    /// The bell has rung since it was told so the last time.
    has_news: bool,
    waker: Option<Waker>,
}

/// The place of one of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Awaits {
    link: Arc<Link>,
    number: u64,
}

impl Link {
    /// A place among those who await something. News is what comes from here on.
    pub(in crate::process) fn awaits(self: &Arc<Self>) -> Awaits {
        let mut tasks = self.awaiting.tasks();
        tasks.last += 1;
        let number = tasks.last;
        tasks.waiting.insert(number, Task::default());
        drop(tasks);
        Awaits { link: self.clone(), number }
    }
}

impl Awaiting {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let mut tasks = self.tasks();
        let wakers: Vec<Waker> = tasks.waiting.values_mut().filter_map(Task::ring).collect();
        drop(tasks);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Awaiting {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

impl Task {
    fn ring(&mut self) -> Option<Waker> {
        self.has_news = true;
        self.waker.take()
    }
}

impl Awaits {
    /// Ready when the bell has rung since the last time, or since this place was taken.
    ///
    /// # Errors
    ///
    /// The kernel's, and that there is no runtime.
    pub(crate) fn poll_news(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let awaiting = &self.link.awaiting;
        if self.take_news(Some(cx.waker())) {
            return Poll::Ready(Ok(()));
        }
        let watch = match self.watch() {
            Ok(watch) => watch,
            Err(error) => return Poll::Ready(Err(error)),
        };
        // Whoever asks does it for all: what rings later wakes all, and one of them asks again.
        let waker = Waker::from(awaiting.clone());
        loop {
            match watch.poll_readable(&mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(())) => awaiting.ring(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        match self.take_news(None) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Takes what it needs in the runtime that it will be polled in.
    ///
    /// # Errors
    ///
    /// As [`Awaits::poll_news`].
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.watch().map(drop)
    }

    /// Whether there is news; wakes by this when there is some later.
    fn take_news(&self, waker: Option<&Waker>) -> bool {
        let mut tasks = self.link.awaiting.tasks();
        let task = tasks.waiting.entry(self.number).or_default();
        match waker {
            Some(waker) if !task.has_news => task.waker = Some(waker.clone()),
            _ => {}
        }
        std::mem::take(&mut task.has_news)
    }

    /// The watch of the runtime that this is polled in.
    fn watch(&self) -> io::Result<Arc<Readiness>> {
        let mut tasks = self.link.awaiting.tasks();
        if let Some(watch) = tasks.watches.iter().find(|watch| watch.is_here()) {
            return Ok(watch.clone());
        }
        let watch = Arc::new(Readiness::new(os::duplicate(self.link.bell.as_fd())?)?);
        tasks.watches.push(watch.clone());
        Ok(watch)
    }
}

impl Drop for Awaits {
    fn drop(&mut self) {
        let mut tasks = self.link.awaiting.tasks();
        tasks.waiting.remove(&self.number);
        let watches = match tasks.waiting.is_empty() {
            true => std::mem::take(&mut tasks.watches),
            false => Vec::new(),
        };
        drop(tasks);
        drop(watches);
    }
}
