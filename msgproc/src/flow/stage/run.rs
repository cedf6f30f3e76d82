//! A stream that runs, and what comes out of it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Stages,
    build::{Build, Open},
    item::Item,
    through::Ending,
};
use crate::flow::{
    Flow, Graph, Outlet, Report, Result, Results, Running, Same, WorkerInfo, from_fn,
};

/// How many results wait for whoever takes them.
const WAITING: usize = 1024;

impl<T: Send + 'static> Stages<T> {
    fn build(self, ending: Ending) -> (Build, Open<T>) {
        let Stages { build: upstream, is_local, said, travel, .. } = self;
        // Whose results are taken one by one has a thread for its stages: the program may give the
        // iterator its next item for what came of the one before, so another asks that.
        let mut build = Build::new(is_local && !matches!(ending, Ending::Taken));
        if let Some(memory) = said.memory {
            build.graph.set_memory(&memory);
        }
        if let Some(file) = said.trace {
            build.graph.trace_to(file);
        }
        let open = upstream(&mut build, false);
        if let Some(travel) = travel {
            travel(&mut build.graph, ending);
        }
        (build, open)
    }

    /// The graph with such an end that nobody looks at: as a process makes it.
    pub(super) fn graph(self, ending: Ending) -> Graph {
        match ending {
            Ending::Dropped => self.build(ending).0.graph,
            Ending::Kept => self.kept().0,
            Ending::Taken => self.taken().0.graph,
        }
    }

    fn kept(self) -> (Graph, Arc<Mutex<Vec<T>>>) {
        let (mut build, open) = self.build(Ending::Kept);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeps = kept.clone();
        let make = move |_: &WorkerInfo| {
            let kept = keeps.clone();
            from_fn(move |item: Item<T>, _: &mut Outlet<()>| {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(item.value);
                Ok(Flow::GoOn)
            })
        };
        let node = build.graph.node("results", Same, make).add();
        build.connect(open, node.input());
        (build.graph, kept)
    }

    fn taken(self) -> (Build, Results<Item<T>>) {
        let (mut build, open) = self.build(Ending::Taken);
        let capacity = open.room.items.unwrap_or(WAITING);
        let (results, input) = build.graph.results_of("results", capacity);
        build.connect(open, input);
        (build, results)
    }

    /// Runs it to its end, and drops what comes out.
    ///
    /// # Errors
    ///
    /// [`Error`](crate::flow::Error): the first that a stage gave, with the name of the stage and the number of the
    /// item; or that of a run that cannot begin.
    pub fn run(self) -> Result<Report> {
        self.graph(Ending::Dropped).run()
    }

    /// Runs it to its end, and gives what comes out.
    ///
    /// # Errors
    ///
    /// As [`Stages::run`].
    pub fn collect<C: FromIterator<T>>(self) -> Result<C> {
        let (graph, kept) = self.kept();
        graph.run()?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *kept).into_iter().collect())
    }

    /// Begins to run it now. Iterating begins by itself, with the first item that is asked for; this
    /// is for a program that is about to start threads, or wants to know at once that it runs.
    ///
    /// # Errors
    ///
    /// [`Error`](crate::flow::Error) when it cannot begin.
    pub fn start(self) -> Result<Run<T>> {
        let mut run = Run(State::Waiting(self));
        run.begin()?;
        Ok(run)
    }
}

impl<T: Send + 'static> IntoIterator for Stages<T> {
    type Item = Result<T>;
    type IntoIter = Run<T>;

    fn into_iter(self) -> Run<T> {
        Run(State::Waiting(self))
    }
}

/// What comes out of a stream, as it comes: from [`Stages::start`], or by iterating.
///
/// After an error nothing more comes. Dropping it before its end stops the run: when the drop
/// returns no process and no thread of it is left, but it waits for calls that threads are in the
/// middle of.
pub struct Run<T>(pub(super) State<T>);

pub(super) enum State<T> {
    Waiting(Stages<T>),
    // Dropped in this order: the run is stopped, and then nobody waits for room.
    Running {
        running: Running,
        results: Results<Item<T>>,
        #[cfg(feature = "tokio")]
        ending: Arc<ending::Ending>,
    },
    Ended(Option<Report>),
}

impl<T: Send + 'static> Run<T> {
    pub(super) fn begin(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.0, State::Ended(None)) {
            State::Waiting(stages) => {
                #[cfg_attr(
                    not(feature = "tokio"),
                    expect(unused_mut, reason = "only an ending changes it")
                )]
                let (mut build, results) = stages.taken();
                #[cfg(feature = "tokio")]
                let ending = ending::Ending::of(&mut build.graph);
                let running = build.graph.start()?;
                self.0 = State::Running {
                    running,
                    results,
                    #[cfg(feature = "tokio")]
                    ending,
                };
            }
            other => self.0 = other,
        }
        Ok(())
    }

    /// After the last result: how it ended.
    pub(super) fn end(&mut self) -> Option<Result<T>> {
        let State::Running { running, .. } = std::mem::replace(&mut self.0, State::Ended(None))
        else {
            return None;
        };
        match running.wait() {
            Ok(report) => {
                self.0 = State::Ended(Some(report));
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// What has been done up to now, or in all; `None` before it begins and after it failed.
    pub fn report(&self) -> Option<Report> {
        match &self.0 {
            State::Waiting(_) => None,
            State::Running { running, .. } => Some(running.report()),
            State::Ended(report) => report.clone(),
        }
    }
}

impl<T: Send + 'static> Iterator for Run<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if let Err(error) = self.begin() {
            return Some(Err(error));
        }
        let State::Running { results, .. } = &self.0 else { return None };
        match results.result() {
            Some(item) => Some(Ok(item.value)),
            None => self.end(),
        }
    }
}

impl<T: Send + 'static> std::iter::FusedIterator for Run<T> {}

impl<T> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Waiting(_) => "waiting",
            State::Running { .. } => "running",
            State::Ended(_) => "ended",
        };
        f.debug_tuple("Run").field(&state).finish()
    }
}

/// Tells those who await that the run is over: its last result comes before that.
#[cfg(feature = "tokio")]
pub(super) mod ending {
    use std::{
        sync::{Arc, Mutex, PoisonError},
        task::Waker,
    };

    use crate::flow::{Graph, outside::Door};

    #[derive(Default)]
    pub(crate) struct Ending(Mutex<(bool, Option<Waker>)>);

    impl Ending {
        pub(crate) fn of(graph: &mut Graph) -> Arc<Ending> {
            let ending = Arc::new(Ending::default());
            graph.doors.add(ending.clone());
            ending
        }

        /// Whether it is; if not, the waker is woken when it is.
        pub(crate) fn poll(&self, waker: &Waker) -> bool {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 = Some(waker.clone());
            state.0
        }
    }

    impl Door for Ending {
        fn shut(&self) {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            let waker = state.1.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }

        fn drain(&self) {}
    }
}
