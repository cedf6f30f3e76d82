//! What all processes of a run know of it.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use shmring::{board::Board, os, ring::records::Records};

use super::{
    Failed,
    method::{check_methods, has_one_thread},
    station::Station,
    travel::{Ticket, fingerprint},
};
use crate::{
    MessageProcess, Options, StopOptions,
    flow::{
        circle::Circle,
        edge::{Callees, EdgePlan, LaneKind, MakeRing, SpillFile},
        error::{Error, Failure, FailureKind, Result},
        graph::{EdgeEntry, Graph, NodeEntry, Site},
        layout::{Layout, PlannedWorker},
        memory::Memory,
        plan::{Alone, Executor, Settings, Shared, worker},
        trace::Named,
        worker::Failures,
    },
    start::{bind_thread, note_panics},
};

/// All that a process of a run needs; a forked one has a copy.
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) layout: Layout,
    pub(super) shared: Shared,
    /// Whether there are as many processors as threads, so that they may spin.
    pub(super) spins: bool,
    /// Whether it is written down who was busy when.
    pub(super) traced: bool,
    /// Whether processes are forks where nothing else is said.
    pub(super) forks: bool,
    /// In a process that replaces one of which nobody knows whose item killed it.
    pub(super) alone: OnceLock<Arc<Alone>>,
    fingerprint: OnceLock<u64>,
    /// Keeps the segment of lanes and board.
    pub(super) memory: Memory,
}

/// Which executors have workers.
fn at_work(layout: &Layout) -> impl Iterator<Item = usize> {
    (0..layout.executors.len())
        .filter(|number| layout.workers.iter().any(|worker| worker.executor == *number))
}

/// Whether nodes there may have threads beside that of the executor. Not in a run that has one thread,
/// nor in a program that must have one to fork replacements; and not where a process may be replaced,
/// for who dies in a thread that is no worker's cannot be told from the others.
fn may_have_helpers(graph: &Graph, layout: &Layout, executor: usize) -> bool {
    let watches_itself = graph.watches_itself && layout.executors[executor].process == 0;
    let mut workers = layout.workers.iter().filter(|worker| worker.executor == executor);
    at_work(layout).nth(1).is_some() && !watches_itself && !workers.any(|worker| worker.survives)
}

impl Plan {
    pub(super) fn new(graph: Graph) -> Result<Plan> {
        note_panics();
        let layout = Layout::of(&graph)?;
        check_methods(&graph, &layout)?;
        let edges = || graph.edges.iter().zip(&layout.edges);
        let lanes = edges().map(bytes_of).fold(0, usize::saturating_add);
        let board = Board::options().words(layout.counts.words()).bells(layout.executors.len());
        let needed = board.len_in_segment().map_err(Error::start("memory"))?;
        let memory = match &graph.memory {
            Some(memory) => memory.clone(),
            None => {
                let memory = Memory::for_lanes(
                    lanes.saturating_add(needed + 4096),
                    layout.edges.iter().map(shared_of).sum(),
                );
                let most = edges().max_by_key(|edge| bytes_of(*edge)).filter(|_| lanes > 0);
                memory.map_err(Error::start(match most {
                    Some((edge, _)) => format!("memory, most of it for {}", lanes_of(&graph, edge)),
                    None => "memory".into(),
                }))?
            }
        };
        let segment = memory.segment();
        let board = board.create_in(segment).map_err(Error::start("memory"))?;
        let helpers = layout.workers.iter().filter(|worker| {
            graph.nodes[worker.node].has_helper
                && may_have_helpers(&graph, &layout, worker.executor)
        });
        let spins = os::processors() >= at_work(&layout).count() + helpers.count();
        let traced = graph.trace.is_some();
        let forks = graph.travel.is_none() || has_one_thread();
        let mut ring = |bytes| {
            let ring = Records::options().capacity(bytes).prefault(false);
            ring.create_in(segment).map_err(Error::start("a lane between processes"))
        };
        let mut lanes = layout.edges.iter().flat_map(|edge| &edge.lanes);
        let spill = lanes.any(|lane| lane.kind == LaneKind::Shared).then(SpillFile::create);
        let spill = spill.transpose().map_err(Error::start("a spill file"))?;
        let shared = open(&graph, &layout, (&memory, spill), board, &mut ring)?;
        (0..layout.circles.len()).for_each(|number| Circle::new(&shared, number).open());
        let (alone, fingerprint) = (OnceLock::new(), OnceLock::new());
        Ok(Plan { graph, layout, shared, spins, traced, forks, alone, fingerprint, memory })
    }

    /// That of a run which another process has begun.
    pub(super) fn attach(graph: Graph, ticket: Ticket) -> Result<Plan> {
        let layout = Layout::of(&graph)?;
        if !ticket.suits(&graph, &layout) {
            return Err(Error::graph(
                "its process makes another graph than the program: the function that makes it must make the same of the same state",
            ));
        }
        let Ticket { spins, traced, memory, spill, board, rings, .. } = ticket;
        let mut rings = rings.into_iter();
        let missing = || Error::graph("a lane did not come with its process");
        let mut ring = |_| rings.next().ok_or_else(missing);
        let shared = open(&graph, &layout, (&memory, spill), board, &mut ring)?;
        let (forks, alone, fingerprint) = (false, OnceLock::new(), OnceLock::new());
        Ok(Plan { graph, layout, shared, spins, traced, forks, alone, fingerprint, memory })
    }

    /// What tells whether a process has the same graph: one for all of them.
    pub(super) fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| fingerprint(&self.graph, &self.layout))
    }

    /// Makes the workers of one thread.
    pub(super) fn executor(&self, number: usize) -> Result<(Rc<Executor>, Failures), Failed> {
        let failures: Failures = Rc::new(RefCell::new(Vec::new()));
        let settings = Settings {
            spins: self.spins,
            traced: self.traced,
            may_have_helpers: may_have_helpers(&self.graph, &self.layout, number),
        };
        let executor = Executor::new(self.shared.clone(), number, settings);
        let executor = executor.map_err(|error| {
            let kind = FailureKind::Init;
            vec![(0, Failure::new("the run", 0, None, kind, error.into()))]
        })?;
        if let Some(alone) = self.alone.get() {
            executor.set_alone(alone);
        }
        let mut callees = Callees::default();
        let Layout { workers, first_worker, order, .. } = &self.layout;
        for (node, rank) in order {
            let here = workers.iter().filter(|each| each.node == *node && each.executor == number);
            for planned in here {
                let worker = first_worker[*node] + planned.index;
                let restarts = self.shared.of_worker(worker, worker::RESTARTS) as u32;
                if self.worker_has_ended(worker) {
                    self.close_lanes_to(worker);
                    continue;
                }
                let mut site = Site {
                    nodes: &self.graph.nodes,
                    edges: &self.graph.edges,
                    node: *node,
                    first_worker: first_worker[*node],
                    first_out: planned.first_out,
                    inherits: planned.inherits,
                    survives: planned.survives,
                    circle: planned.circle,
                    rank: *rank,
                    restarts,
                    executor: &executor,
                    failures: &failures,
                    callees: &mut callees,
                };
                let made = (self.graph.nodes[*node].make)(&mut site, planned.index);
                let made = made.map_err(|failure| {
                    executor.release();
                    self.shared.fail(worker);
                    vec![(worker, *failure)]
                })?;
                executor.add(*rank, made);
            }
        }
        Ok((executor, failures))
    }

    /// How a process of the run is started.
    pub(super) fn options(&self, process: usize) -> Options<Station> {
        let workers = || self.layout.workers_of(process).map(|(_, worker)| worker);
        let name = match workers().next() {
            Some(worker) => {
                let node = &self.graph.nodes[worker.node];
                match node.workers {
                    1 => node.name.clone(),
                    _ => format!("{}-{}", node.name, worker.index),
                }
            }
            None => format!("{}-{process}", self.graph.name),
        };
        // One that does not do what it is told ends soon: it had its time before.
        let stop = StopOptions::default().graceful(Duration::ZERO);
        let mut options = MessageProcess::options(&name).stop_timeouts(stop);
        if let Some(timeout) = self.graph.start_timeout {
            options = options.start_timeout(timeout);
        }
        match self.cpus_of(workers()) {
            Some(cpus) => options.cpus(cpus),
            None => options,
        }
    }

    /// Which processors these workers may use, if all of them say so.
    fn cpus_of<'a>(
        &'a self,
        workers: impl Iterator<Item = &'a PlannedWorker>,
    ) -> Option<Vec<usize>> {
        let mut cpus = Vec::new();
        for worker in workers {
            let its = &self.graph.nodes[worker.node].cpus;
            if its.is_empty() {
                return None;
            }
            cpus.extend(its);
        }
        (!cpus.is_empty()).then_some(cpus)
    }

    /// Lets the calling thread, which is of the run alone, use the processors that were said for its
    /// workers.
    pub(super) fn bind_thread(&self, executor: usize) -> Result<(), Failed> {
        let workers = &self.layout.workers;
        let is_here = |each: &PlannedWorker| each.executor == executor;
        let here = workers.iter().filter(|each| is_here(each));
        let Some(cpus) = self.cpus_of(here) else { return Ok(()) };
        bind_thread(&cpus).map_err(|error| {
            let worker = workers.iter().position(is_here).unwrap_or(0);
            self.shared.fail(worker);
            let node = &self.graph.nodes[workers[worker].node].name;
            let cause = format!("it cannot use the processors {cpus:?}: {error}").into();
            vec![(worker, Failure::new(node, 0, None, FailureKind::Init, cause))]
        })
    }

    /// Its workers, for those who look at a trace.
    pub(super) fn named_workers(&self) -> Vec<Named> {
        let named = |worker: &PlannedWorker| Named {
            process: self.layout.executors[worker.executor].process,
            name: format!("{} {}", self.graph.nodes[worker.node].name, worker.index),
        };
        self.layout.workers.iter().map(named).collect()
    }

    pub(super) fn executors_of(&self, process: usize) -> impl Iterator<Item = usize> {
        let executors = self.layout.executors.iter().enumerate();
        executors.filter(move |(_, at)| at.process == process).map(|(number, _)| number)
    }
}

/// How many lanes of an edge are between processes.
fn shared_of(plan: &EdgePlan) -> usize {
    plan.lanes.iter().filter(|lane| lane.kind == LaneKind::Shared).count()
}

/// How many bytes of shared memory the lanes of an edge have: those between processes.
fn bytes_of((edge, plan): (&EdgeEntry, &EdgePlan)) -> usize {
    let lanes = shared_of(plan);
    // A ring is rounded up to a power of two.
    let ring = edge.edge.options().ring_bytes().saturating_add(1024).saturating_mul(2);
    ring.saturating_mul(lanes)
}

/// What they are called in an error.
fn lanes_of(graph: &Graph, edge: &EdgeEntry) -> String {
    let name = |node: usize| &graph.nodes[node].name;
    format!("the lanes between processes from {:?} to {:?}", name(edge.from), name(edge.to))
}

/// Opens the edges and doors of a graph, in the memory of its run.
fn open(
    graph: &Graph,
    layout: &Layout,
    (memory, spill): (&Memory, Option<SpillFile>),
    board: Board,
    ring: &mut MakeRing<'_>,
) -> Result<Shared> {
    for (edge, plan) in graph.edges.iter().zip(&layout.edges) {
        edge.edge.open(plan.clone(), ring).map_err(|error| match error {
            Error::Start { cause, .. } => Error::start(lanes_of(graph, edge))(cause),
            error => error,
        })?;
    }
    let holding = |node: &NodeEntry| node.outs.iter().filter(|way| way.may_hold).count();
    let ways = graph.nodes.iter().map(|node| node.workers * holding(node)).sum();
    let blocks = memory.pool().map(|pool| (pool.capacity(), ways));
    let mut shared = Shared::new(board, layout.counts, &layout.circles, blocks);
    shared.set_spill(spill);
    graph.doors.open(&shared);
    Ok(shared)
}
