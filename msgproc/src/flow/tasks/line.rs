//! Where futures run: in a thread of their own with a runtime, or in the runtime that all nodes at
//! [`Placement::Task`](crate::flow::Placement::Task) have together.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use super::{
    here,
    trouble::{Finished, Made, Trouble, caught},
};
use crate::{
    flow::{Cause, plan::Bell},
    start::Panic,
};

/// What a line does: for each job a future.
pub(crate) trait Work: Send + 'static {
    type Job: Send + 'static;
    /// What comes of an item.
    type Value: Send + 'static;
    /// What goes on of that.
    type Out: 'static;
    /// What its futures share: made, used and dropped in their thread.
    type Shared: 'static;

    fn start(self) -> Result<Self::Shared, Cause>;

    /// The number of the item.
    fn number(job: &Self::Job) -> u64;

    fn handle(
        shared: &Self::Shared,
        job: Self::Job,
    ) -> impl Future<Output = Result<Made<Self::Value>, Trouble>> + 'static;

    /// What goes on of the item with this number.
    fn out(number: u64, value: Self::Value) -> Self::Out;

    /// Comes after the last job, if the line was not dropped before.
    fn end(shared: Self::Shared) -> Result<(), Cause>;
}

enum Job<J> {
    /// Something to do, and its place among all that came here.
    Do(u64, J),
    /// No more come, and all that came are done with.
    End,
}

/// What the two threads share.
struct Desk<D> {
    finished: Mutex<VecDeque<(u64, D)>>,
    bell: OnceLock<Bell>,
}

impl<D> Desk<D> {
    fn put(&self, place: u64, done: D) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push_back((place, done));
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }
}

/// A line, from outside. Dropping it cancels what runs there, and waits for its end.
pub(crate) struct Line<W: Work> {
    jobs: Option<UnboundedSender<Job<W::Job>>>,
    desk: Arc<Desk<Finished<W::Value>>>,
    ended: mpsc::Receiver<Result<(), Trouble>>,
    /// Its own thread, if it has one.
    thread: Option<JoinHandle<()>>,
}

impl<W: Work> Line<W> {
    /// Starts it, and waits until its work has begun: in the runtime that the calling thread has,
    /// else in a thread of this name.
    pub(crate) fn start(work: W, name: String) -> Result<Line<W>, Cause> {
        let (jobs, queue) = unbounded_channel();
        let desk = Arc::new(Desk { finished: Mutex::default(), bell: OnceLock::new() });
        let (ready, is_ready) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let server = Server { work, queue, desk: desk.clone(), ready };
        let thread = match here() {
            Some(here) => {
                here.spawn(move || async move {
                    let _ = ends.send(server.serve().await);
                })?;
                None
            }
            None => {
                let body = move || {
                    let _ = ends.send(server.serve_alone());
                };
                Some(thread::Builder::new().name(name).spawn(body)?)
            }
        };
        let mut line = Line { jobs: Some(jobs), desk, ended, thread };
        match is_ready.recv() {
            Ok(()) => Ok(line),
            Err(_) => Err(line.join().err().map_or("its runtime has ended".into(), Trouble::raise)),
        }
    }

    /// Says who waits for what is finished.
    pub(super) fn set_bell(&self, bell: impl FnOnce() -> Option<Bell>) {
        if self.desk.bell.get().is_none()
            && let Some(bell) = bell()
        {
            let _ = self.desk.bell.set(bell);
        }
    }

    pub(super) fn submit(&self, place: u64, job: W::Job) -> Result<(), Cause> {
        let jobs = self.jobs.as_ref().ok_or("its runtime has ended")?;
        jobs.send(Job::Do(place, job)).map_err(|_| "its runtime has ended".into())
    }

    pub(super) fn take(&self) -> Option<(u64, Finished<W::Value>)> {
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
        if self.jobs.take().is_none() {
            return Ok(());
        }
        let ended = self.ended.recv();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            return Err(Trouble::Panic(Panic::of(panic)));
        }
        // One that does not say how it ended was dropped with its runtime.
        ended.unwrap_or(Ok(()))
    }
}

impl<W: Work> Drop for Line<W> {
    fn drop(&mut self) {
        // Whatever it says, the run has ended by now.
        let _ = self.join();
    }
}

/// A line, from inside.
struct Server<W: Work> {
    work: W,
    queue: UnboundedReceiver<Job<W::Job>>,
    desk: Arc<Desk<Finished<W::Value>>>,
    ready: mpsc::Sender<()>,
}

impl<W: Work> Server<W> {
    /// In a thread of its own.
    fn serve_alone(self) -> Result<(), Trouble> {
        let Server { work, mut queue, desk, ready } = self;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::Error(error.into()))?;
        let entered = runtime.enter();
        let shared = Trouble::of(|| work.start())?;
        let _ = ready.send(());
        drop(entered);
        if !runtime.block_on(futures::<W>(&shared, &mut queue, &desk)) {
            return Ok(());
        }
        let _entered = runtime.enter();
        Trouble::of(|| W::end(shared))
    }

    /// Among others.
    async fn serve(self) -> Result<(), Trouble> {
        let Server { work, mut queue, desk, ready } = self;
        let shared = Trouble::of(|| work.start())?;
        let _ = ready.send(());
        match futures::<W>(&shared, &mut queue, &desk).await {
            true => Trouble::of(|| W::end(shared)),
            false => Ok(()),
        }
    }
}

/// Runs what comes, until the last has come or nobody wants any. Tells which.
async fn futures<W: Work>(
    shared: &W::Shared,
    queue: &mut UnboundedReceiver<Job<W::Job>>,
    desk: &Arc<Desk<Finished<W::Value>>>,
) -> bool {
    let all = LocalSet::new();
    let jobs = async {
        while let Some(job) = queue.recv().await {
            let Job::Do(place, job) = job else { return true };
            let (number, desk) = (W::number(&job), desk.clone());
            let future = W::handle(shared, job);
            drop(tokio::task::spawn_local(async move {
                // Whatever it does, the node is told: it would wait for ever.
                let made = caught(future).await.and_then(|made| made);
                desk.put(place, Finished { number, made });
            }));
        }
        false
    };
    all.run_until(jobs).await
}
