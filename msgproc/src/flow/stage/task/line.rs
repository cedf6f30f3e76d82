//! The thread in which the futures of a stage run.

use std::{
    any::Any,
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    task::Poll,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use super::{At, Await, Made};
use crate::flow::{
    Cause, OnError, WorkerInfo,
    plan::Bell,
    stage::{
        item::{Item, StageStatus},
        step::{Clones, Ender, Starter},
    },
};

/// What a stage does.
pub(super) struct Work<I, O, R> {
    pub(super) body: Await<I, O, R>,
    pub(super) start: Starter<R>,
    pub(super) end: Option<Ender<R>>,
    pub(super) on_error: OnError,
    pub(super) clone: Option<Clones<I>>,
}

/// Why an item failed for good.
pub(super) enum Trouble {
    Error(Cause),
    Panic(Box<dyn Any + Send>),
}

impl Trouble {
    /// Goes on here as if it had happened here.
    pub(super) fn raise(self) -> Cause {
        match self {
            Trouble::Error(cause) => cause,
            Trouble::Panic(panic) => std::panic::resume_unwind(panic),
        }
    }
}

enum Job<I> {
    /// An item, and its place among those that came here.
    Item(u64, Item<I>),
    /// No more come, and all that came are done with.
    End,
}

/// What came of an item, with its place among those that came here.
pub(super) struct Finished<O> {
    pub(super) place: u64,
    pub(super) index: u64,
    pub(super) made: Result<Made<O>, Trouble>,
}

/// What the two threads share.
struct Desk<O> {
    finished: Mutex<VecDeque<Finished<O>>>,
    bell: OnceLock<Bell>,
}

impl<O> Desk<O> {
    fn put(&self, finished: Finished<O>) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push_back(finished);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }
}

/// The thread, from outside. Dropping it cancels what runs there, and waits for its end.
pub(super) struct Line<I, O> {
    jobs: Option<UnboundedSender<Job<I>>>,
    desk: Arc<Desk<O>>,
    thread: Option<JoinHandle<Result<(), Trouble>>>,
}

impl<I: Send + 'static, O: Send + 'static> Line<I, O> {
    pub(super) fn start<R: 'static>(
        work: Arc<Work<I, O, R>>,
        worker: &WorkerInfo,
    ) -> Result<Line<I, O>, Cause> {
        let (jobs, queue) = unbounded_channel();
        let desk = Arc::new(Desk { finished: Mutex::default(), bell: OnceLock::new() });
        let (ready, is_ready) = mpsc::channel();
        let (there, worker) = (desk.clone(), worker.clone());
        let name = format!("{}-tasks", worker.node);
        let body = move || serve(&work, &worker, queue, &there, ready);
        let thread = thread::Builder::new().name(name).spawn(body)?;
        let mut line = Line { jobs: Some(jobs), desk, thread: Some(thread) };
        match is_ready.recv() {
            Ok(()) => Ok(line),
            Err(_) => Err(line.join().err().map_or("its thread ended".into(), Trouble::raise)),
        }
    }
}

impl<I, O> Line<I, O> {
    /// Says who waits for what is finished.
    pub(super) fn set_bell(&self, bell: impl FnOnce() -> Option<Bell>) {
        if self.desk.bell.get().is_none()
            && let Some(bell) = bell()
        {
            let _ = self.desk.bell.set(bell);
        }
    }

    pub(super) fn submit(&self, place: u64, item: Item<I>) -> Result<(), Cause> {
        let jobs = self.jobs.as_ref().ok_or("its thread has ended")?;
        jobs.send(Job::Item(place, item)).map_err(|_| "its thread has ended".into())
    }

    pub(super) fn take(&self) -> Option<Finished<O>> {
        self.desk.finished.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.desk.finished.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends it, after all that was submitted is finished.
    pub(super) fn end(&mut self) -> Result<(), Cause> {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job::End);
        }
        self.join().map_err(Trouble::raise)
    }

    fn join(&mut self) -> Result<(), Trouble> {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => Err(Trouble::Panic(panic)),
            None => Ok(()),
        }
    }
}

impl<I, O> Drop for Line<I, O> {
    fn drop(&mut self) {
        // Whatever it says, the run has ended by now.
        let _ = self.join();
    }
}

/// What the thread does.
fn serve<I: Send + 'static, O: Send + 'static, R: 'static>(
    work: &Arc<Work<I, O, R>>,
    worker: &WorkerInfo,
    mut queue: UnboundedReceiver<Job<I>>,
    desk: &Arc<Desk<O>>,
    ready: mpsc::Sender<()>,
) -> Result<(), Trouble> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::Error(error.into()))?;
    let entered = runtime.enter();
    let mut resource = Rc::new((work.start)(worker).map_err(Trouble::Error)?);
    let _ = ready.send(());
    drop(entered);
    let tasks = LocalSet::new();
    let is_done = tasks.block_on(&runtime, async {
        while let Some(job) = queue.recv().await {
            let Job::Item(place, item) = job else { return true };
            let (work, desk) = (work.clone(), desk.clone());
            let at = At { resource: resource.clone(), index: item.index };
            drop(tokio::task::spawn_local(async move {
                let index = at.index;
                let made = handle(&work, at, item).await;
                desk.put(Finished { place, index, made });
            }));
        }
        false
    });
    drop(tasks);
    let Some(end) = work.end.as_ref().filter(|_| is_done) else { return Ok(()) };
    let _entered = runtime.enter();
    let resource = Rc::get_mut(&mut resource)
        .ok_or_else(|| Trouble::Error("a task kept what the stage made for all".into()))?;
    end(StageStatus { done: true, active: 0 }, resource).map_err(Trouble::Error)
}

/// Awaits the future of an item, again if it fails and that is asked for.
async fn handle<I, O, R>(
    work: &Work<I, O, R>,
    at: At<R>,
    item: Item<I>,
) -> Result<Made<O>, Trouble> {
    let mut item = Some(item);
    let mut tried = 0;
    loop {
        let again = work.clone.filter(|_| tried < work.on_error.retries());
        let now = match (again, &item) {
            (Some(clone), Some(item)) => Some(clone(item)),
            _ => item.take(),
        };
        let Some(now) = now else {
            return Err(Trouble::Error("an item was begun too often".into()));
        };
        let trouble = match attempt(work, at.clone(), now.value).await {
            Ok(made) => return Ok(Made { retried: made.retried + u64::from(tried), ..made }),
            Err(trouble) => trouble,
        };
        if item.is_none() {
            return match work.on_error.skips() {
                true => Ok(Made { items: Vec::new(), skipped: 1, retried: u64::from(tried) }),
                false => Err(trouble),
            };
        }
        tried += 1;
    }
}

/// Awaits the future once, and catches its panic.
async fn attempt<I, O, R>(work: &Work<I, O, R>, at: At<R>, item: I) -> Result<Made<O>, Trouble> {
    let making = catch_unwind(AssertUnwindSafe(|| (work.body)(at, item)));
    let mut making = making.map_err(Trouble::Panic)?;
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| making.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(made)) => Poll::Ready(made.map_err(Trouble::Error)),
        Err(panic) => Poll::Ready(Err(Trouble::Panic(panic))),
    })
    .await
}
