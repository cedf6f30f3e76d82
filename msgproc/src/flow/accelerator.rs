//! Work that is given to a run, and its results, by one handle.

use std::{fmt, time::Duration};

use super::{
    engine::Running,
    error::Result,
    graph::Graph,
    outlet::{Closed, TrySendError},
    outside::{Feed, Results},
    report::Report,
};

/// A run that takes items and gives results while it goes on: what others call an accelerator.
///
/// From [`Pipeline::start`](super::Pipeline::start) and [`Part::accelerate`](super::Part::accelerate).
/// Dropping it stops the run as [`Accelerator::stop_now`] does.
///
/// ```
/// use msgproc::flow::{Farm, Part, Thread, map};
///
/// let squares = Farm::new("squares", Thread, |_| map(|n: u64| n * n)).workers(2).ordered();
/// let mut squares = squares.accelerate(Thread, 64)?;
/// squares.offload(3)?;
/// squares.offload(4)?;
/// assert_eq!(squares.result(), Some(9));
/// squares.stop();
/// assert_eq!(squares.result(), Some(16));
/// assert_eq!(squares.result(), None);
/// squares.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Accelerator<I, O> {
    feed: Option<Feed<I>>,
    results: Results<O>,
    running: Running,
}

impl<I, O> Accelerator<I, O> {
    /// Starts a graph that has these ends, as [`Pipeline::with_ends`](super::Pipeline::with_ends)
    /// gives them.
    ///
    /// In a program that has threads, its processes are no forks:
    ///
    /// ```no_run
    /// use msgproc::flow::{Accelerator, Farm, Graph, Pipeline, Process, map};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     msgproc::init();
    ///     let (graph, ends) = Graph::travelling(3, |factor: u64| {
    ///         let times = Farm::new("times", Process, move |_| map(move |n: u64| n * factor));
    ///         Pipeline::feed(Process, 64).part(times.workers(2)).with_ends()
    ///     });
    ///     let mut times = Accelerator::start(graph, ends)?;
    ///     times.offload(14)?;
    ///     assert_eq!(times.result(), Some(42));
    ///     times.wait()?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Graph::start`].
    pub fn start(
        graph: Graph,
        (feed, results): (Feed<I>, Results<O>),
    ) -> Result<Accelerator<I, O>> {
        Ok(Accelerator { feed: Some(feed), results, running: graph.start()? })
    }

    /// Gives an item, waiting for room. Whoever gives items and takes none must leave room for the
    /// results: what is on its way is bounded.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the run takes nothing any more: [`Accelerator::wait`] tells why.
    pub fn offload(&self, item: I) -> Result<(), Closed> {
        match &self.feed {
            Some(feed) => feed.offload(item),
            None => Err(Closed),
        }
    }

    /// Gives an item if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] hands it back.
    pub fn try_offload(&self, item: I) -> Result<(), TrySendError<I>> {
        match &self.feed {
            Some(feed) => feed.try_offload(item),
            None => Err(TrySendError::Closed(item)),
        }
    }

    /// The next result, waiting for it. `None` when no more comes, since the run has ended or
    /// failed: [`Accelerator::wait`] tells which.
    pub fn result(&self) -> Option<O> {
        self.results.result()
    }

    /// The next result if there is one now.
    pub fn try_result(&self) -> Option<O> {
        self.results.try_result()
    }

    /// The next result if one comes within that time.
    pub fn result_timeout(&self, timeout: Duration) -> Option<O> {
        self.results.result_timeout(timeout)
    }

    /// Whether no more results come, and all that came were taken.
    pub fn is_ended(&self) -> bool {
        self.results.is_ended()
    }

    /// Lets nothing more begin. What is on its way goes on.
    pub fn freeze(&self) {
        self.running.freeze();
    }

    /// Goes on after [`Accelerator::freeze`].
    pub fn thaw(&self) {
        self.running.thaw();
    }

    /// Takes no more items. What was given is finished, and its results can be taken: also after
    /// [`Accelerator::freeze`], since a frozen run would never come to its end.
    pub fn stop(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.end();
        }
        self.running.thaw();
    }

    /// Stops everybody where they are: what is on its way is lost.
    pub fn stop_now(&self) {
        self.running.stop_now();
    }

    /// What has been done up to now.
    pub fn report(&self) -> Report {
        self.running.report()
    }

    /// Takes no more items, and waits until all that was given is finished. Results that were not
    /// taken are dropped.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn wait(mut self) -> Result<Report> {
        self.stop();
        while self.result().is_some() {}
        self.running.wait()
    }

    /// The same, and gives the results that were not taken.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn collect(mut self) -> Result<Vec<O>> {
        self.stop();
        let results = self.results.by_ref().collect();
        self.running.wait()?;
        Ok(results)
    }
}

impl<I, O> fmt::Debug for Accelerator<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accelerator").field("running", &self.running).finish_non_exhaustive()
    }
}
