//! The run: processes, threads and the workers in them, from start to end. README.md has the order
//! in which things start and stop.

mod death;
mod method;
mod plan;
mod running;
mod spares;
mod station;
mod travel;
mod watch;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use self::{
    method::Method,
    plan::Plan,
    spares::Spares,
    station::Station,
    watch::{InVain, Watch},
};
pub use self::{running::Running, travel::Made};
use super::{
    error::{Error, Failure, FailureKind, Result},
    graph::Graph,
    plan::{RUNNING, STOPPING},
    report::{Ending, Report},
    trace::{self, Span},
};
use crate::{MessageProcess, start::Panic};

type Failed = Vec<(usize, Failure)>;

/// What a thread or a process tells at its end.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    failed: Failed,
    spans: Vec<Span>,
}

impl Told {
    fn failure(failure: Failure) -> Told {
        Told { failed: vec![(0, failure)], spans: Vec::new() }
    }

    /// What no node answers for has panicked.
    fn panicked(panic: Panic) -> Told {
        Told::failure(Failure::panicked("the run", 0, None, FailureKind::Panic, panic))
    }

    fn add(&mut self, other: Told) {
        self.failed.extend(other.failed);
        self.spans.extend(other.spans);
    }
}

impl Graph {
    /// Runs it: from here on until all nodes have ended. Nodes that are placed
    /// [`Same`](super::Same) run in the thread that calls this.
    ///
    /// # Errors
    ///
    /// [`Error`]: that of the first node that failed.
    pub fn run(self) -> Result<Report> {
        let started = Started::new(self)?;
        started.run()
    }

    /// Starts it, and gives a handle of what runs. Nodes that are placed [`Same`](super::Same) run
    /// in one thread.
    ///
    /// # Errors
    ///
    /// [`Error`] when it cannot begin.
    pub fn start(mut self) -> Result<Running> {
        self.watches_itself = false;
        Running::new(Started::new(self)?)
    }
}

/// A run whose processes have been started and are set up.
struct Started {
    plan: Arc<Plan>,
    processes: Processes,
    began: Instant,
}

/// Those of a run, by number, and where others come from.
struct Processes {
    handles: Vec<(usize, MessageProcess<Station>)>,
    spares: Option<Spares>,
}

impl Started {
    fn new(graph: Graph) -> Result<Started> {
        let plan = Arc::new(Plan::new(graph)?);
        let began = Instant::now();
        let mut starting = Vec::new();
        let mut spares = Spares::prepare(&plan).map_err(|error| start_failed(&plan, 0, error))?;
        for process in 1..plan.layout.processes {
            let copy = plan.clone();
            let begun = plan.options(process).begin(|options| match plan.method(process) {
                Method::Fork => options.fork(move |_| Station::new(copy.clone(), process)),
                Method::Travel(server) => plan.travel(options, server, process),
            });
            match begun {
                Ok(begun) => starting.push((process, begun)),
                Err(error) => {
                    plan.shared.advance(STOPPING);
                    return Err(start_failed(&plan, process, error));
                }
            }
        }
        let mut processes = Vec::new();
        let mut failed = None;
        for (process, begun) in starting {
            let ready = match begun.wait() {
                Err(died @ crate::Error::PeerDied { .. }) => InVain::default()
                    .replace(&plan, process, spares.as_mut(), Ok)
                    .unwrap_or(Err(died)),
                ready => ready,
            };
            match ready {
                Ok(ready) => processes.push((process, ready)),
                Err(error) => {
                    plan.shared.advance(STOPPING);
                    failed.get_or_insert((process, error));
                }
            }
        }
        let processes = Processes { handles: processes, spares };
        if plan.shared.phase() == STOPPING {
            // One that could not be set up says why when it is to run, and the others end at once.
            let told = watch::supervise(&plan, processes);
            return Err(match (first_failure(&plan, told.failed), failed) {
                (Some(error), _) => error,
                (None, Some((process, error))) => start_failed(&plan, process, error),
                (None, None) => Error::Stopped,
            });
        }
        Ok(Started { plan, processes, began })
    }

    /// Runs it in this thread and others.
    fn run(self) -> Result<Report> {
        let Started { plan, processes, began } = self;
        let mut local = Station::new(plan.clone(), 0);
        if let Err(failed) = local.set_up() {
            return Err(first_failure(&plan, failed).unwrap_or(Error::Stopped));
        }
        if plan.graph.watches_itself {
            let told = local.run_and_watch(Watch::new(&plan, processes));
            return whole(finish(&plan, Ended::now(&plan, told, began)));
        }
        let told = local.run_with(processes, || plan.shared.advance(RUNNING));
        whole(finish(&plan, Ended::now(&plan, told, began)))
    }
}

fn whole((report, ended): (Report, Result<()>)) -> Result<Report> {
    ended.map(|()| report)
}

/// The end of a run: what was told, how long it took, and how it ended. Who stops it afterwards has not
/// stopped it.
struct Ended {
    told: Told,
    elapsed: Duration,
    ending: Ending,
}

impl Ended {
    fn now(plan: &Plan, told: Told, began: Instant) -> Ended {
        let (elapsed, ending) = (began.elapsed(), Ending::of(&plan.layout, &plan.shared));
        Ended { told, elapsed, ending }
    }
}

/// Gives what was done, and whether that was all.
fn finish(plan: &Plan, ended: Ended) -> (Report, Result<()>) {
    let Ended { told, elapsed, ending } = ended;
    if plan.shared.phase() == STOPPING {
        plan.memory.segment().repair();
        plan.graph.edges.iter().for_each(|edge| edge.edge.clear(&plan.shared));
    }
    let report = report(plan, elapsed, ending);
    let ended = how_it_ended(plan, told, ending);
    (report, ended)
}

fn how_it_ended(plan: &Plan, told: Told, ending: Ending) -> Result<()> {
    let Told { failed, spans } = told;
    let written = plan.graph.trace.as_ref().map_or(Ok(()), |file| {
        let written = trace::write(file, &plan.named_workers(), &spans);
        written.map_err(|cause| Error::Trace { file: file.clone(), cause })
    });
    let ended = match first_failure(plan, failed) {
        Some(error) => Err(error),
        // One that had come to its end before it was told to stop was not stopped.
        None if ending == Ending::Stopped => Err(Error::Stopped),
        None => Ok(()),
    };
    match (ended, written) {
        (Err(first), Err(error)) => {
            tracing::warn!(%error, "a run that has failed");
            Err(first)
        }
        (ended, written) => ended.and(written),
    }
}

fn report(plan: &Plan, elapsed: Duration, ending: Ending) -> Report {
    Report::read(&plan.graph, &plan.layout, &plan.shared, &plan.memory, elapsed, ending)
}

/// The failure that came first, where that is known.
fn first_failure(plan: &Plan, mut failed: Failed) -> Option<Error> {
    let first = plan.shared.failed();
    let at = failed.iter().position(|(worker, _)| Some(*worker) == first).unwrap_or(0);
    (at < failed.len()).then(|| failed.swap_remove(at).1.into())
}

/// A process could not be had: this one, if it is one of the run.
fn start_failed(plan: &Plan, process: usize, error: crate::Error) -> Error {
    let workers = plan.layout.workers_of(process).filter(|_| process != 0);
    let mut nodes: Vec<_> =
        workers.map(|(_, worker)| format!("{:?}", plan.graph.nodes[worker.node].name)).collect();
    nodes.dedup();
    let what = match (&error, &nodes[..]) {
        (crate::Error::MultiThreaded { .. }, _) => {
            "processes (make the graph by `Graph::travelling`, or the stages by `Stages::through`, with all that follows the source in its function, and they need not be forks)".into()
        }
        (_, []) => "processes".into(),
        (_, [node]) => format!("a process for node {node}"),
        (_, nodes) => format!("a process for nodes {}", nodes.join(", ")),
    };
    Error::start(what)(error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
