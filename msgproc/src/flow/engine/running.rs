//! The handle of what runs.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    Ended, Started, Told, finish, first_failure, lock, plan::Plan, report, station::Station,
    station::is_called_by,
};
use crate::flow::{
    error::{Error, Result},
    plan::{DRAINING, RUNNING, STOPPING},
    report::{Ending, Report},
};

/// A graph that runs. From [`Graph::start`](crate::flow::Graph::start).
///
/// Dropping it stops the run as [`Running::stop_now`] does, and waits until it has ended; but not in
/// one of its own nodes.
pub struct Running {
    pub(super) plan: Arc<Plan>,
    pub(super) began: Instant,
    pub(super) done: Arc<(Mutex<Option<Ended>>, Condvar)>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn new(started: Started) -> Result<Running> {
        let Started { plan, processes, began } = started;
        let done = Arc::new((Mutex::new(None), Condvar::new()));
        let (ready, is_ready) = mpsc::channel();
        let (copy, other) = (plan.clone(), done.clone());
        let body = move || {
            let mut local = Station::new(copy.clone(), 0);
            let all = match local.set_up() {
                Ok(()) => local.run_with(processes, || {
                    copy.shared.advance(RUNNING);
                    let _ = ready.send(Ok(()));
                }),
                Err(failed) => {
                    let _ = ready.send(Err(failed));
                    Told::default()
                }
            };
            copy.graph.doors.shut();
            let (result, changed) = &*other;
            *lock(result) = Some(Ended::now(&copy, all, began));
            changed.notify_all();
        };
        let name = format!("{}-main", plan.graph.name);
        let thread =
            thread::Builder::new().name(name).spawn(body).map_err(Error::start("a thread"))?;
        match is_ready.recv() {
            Ok(Err(failed)) => {
                let error = first_failure(&plan, failed).unwrap_or(Error::Stopped);
                let _ = thread.join();
                Err(error)
            }
            _ => Ok(Running { plan, began, done, thread: Some(thread) }),
        }
    }

    /// Stops sources, and lets what is on its way be finished.
    pub fn stop(&self) {
        self.plan.graph.doors.drain();
        self.plan.shared.advance(DRAINING);
    }

    /// Stops everybody where they are: what is on its way is lost.
    pub fn stop_now(&self) {
        self.plan.shared.advance(STOPPING);
        self.plan.graph.doors.shut();
    }

    /// Lets sources pause. What is on its way goes on.
    pub fn freeze(&self) {
        self.plan.shared.set_frozen(true);
    }

    /// Lets sources go on.
    pub fn thaw(&self) {
        self.plan.shared.set_frozen(false);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.done.0).is_some()
    }

    /// What has been done up to now.
    pub fn report(&self) -> Report {
        let ended = lock(&self.done.0).as_ref().map(|ended| (ended.elapsed, ended.ending));
        let (elapsed, ending) = ended.unwrap_or_else(|| (self.began.elapsed(), Ending::Running));
        report(&self.plan, elapsed, ending)
    }

    /// Waits until all nodes have ended.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`](crate::flow::Graph::run).
    pub fn wait(self) -> Result<Report> {
        let (report, ended) = self.wait_for_report();
        ended.map(|()| report)
    }

    /// The same, and tells what was done whatever became of it: also by a run that failed or was
    /// stopped, how it ended, and how many items were left between nodes.
    ///
    /// ```
    /// use msgproc::flow::{Ending, Error, Graph, Same, Thread, each};
    ///
    /// let mut graph = Graph::new();
    /// let numbers = graph.source("numbers", Thread, 0_u64..);
    /// let sink = graph.node("sink", Same, |_| each(|_: u64| ())).add();
    /// graph.connect(numbers.output(), sink.input());
    /// let running = graph.start()?;
    /// running.stop_now();
    /// let (report, ended) = running.wait_for_report();
    /// assert!(matches!(ended, Err(Error::Stopped)));
    /// assert_eq!(report.ending, Ending::Stopped);
    /// # Ok::<(), msgproc::flow::Error>(())
    /// ```
    pub fn wait_for_report(mut self) -> (Report, Result<()>) {
        self.join()
    }

    pub(super) fn join(&mut self) -> (Report, Result<()>) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let nothing = || Ended::now(&self.plan, Told::default(), self.began);
        let ended = lock(&self.done.0).take().unwrap_or_else(nothing);
        finish(&self.plan, ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop_now();
            if is_called_by(&self.plan) {
                // By one of its nodes: who waits here would wait for itself.
                self.thread = None;
            } else {
                let _ = self.join();
            }
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
