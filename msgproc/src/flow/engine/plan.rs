//! What all processes of a run know of it.

use std::{cell::RefCell, rc::Rc, sync::OnceLock};

use shmring::{board::Board, os, ring::records::Records};

use super::{
    Failed,
    method::has_one_thread,
    station::Station,
    travel::{Ticket, fingerprint},
};
use crate::{
    Exit, MessageProcess, Options,
    flow::{
        circle::Circle,
        edge::{Callees, LaneKind, MakeRing, SpillFile},
        error::{Death, Error, Failure, FailureKind, Result},
        graph::{Graph, NodeEntry, Site},
        layout::{Layout, PlannedWorker},
        memory::Memory,
        plan::{Executor, STOPPING, Shared, lane, worker},
        trace::Named,
        worker::Failures,
    },
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
    fingerprint: OnceLock<u64>,
    /// Keeps the segment of lanes and board.
    pub(super) memory: Memory,
}

impl Plan {
    pub(super) fn new(graph: Graph) -> Result<Plan> {
        let layout = Layout::of(&graph)?;
        let lanes: usize = graph
            .edges
            .iter()
            .zip(&layout.edges)
            .map(|(edge, plan)| (edge.edge.options().ring_bytes() + 1024) * plan.lanes.len())
            .sum();
        let board = Board::options().words(layout.counts.words()).bells(layout.executors.len());
        let needed = board.len_in_segment().map_err(Error::start("memory"))?;
        let memory = match &graph.memory {
            Some(memory) => memory.clone(),
            // A ring is rounded up to a power of two.
            None => Memory::for_lanes(2 * lanes + needed + 4096).map_err(Error::start("memory"))?,
        };
        let segment = memory.segment();
        let board = board.create_in(segment).map_err(Error::start("memory"))?;
        let at_work = (0..layout.executors.len())
            .filter(|number| layout.workers.iter().any(|worker| worker.executor == *number));
        let spins = os::processors() >= at_work.count();
        let traced = graph.trace.is_some();
        let forks = graph.travel.is_none() || has_one_thread();
        let mut ring = |bytes| {
            let ring = Records::options().capacity(bytes).prefault(false);
            ring.create_in(segment).map_err(Error::start("a lane between processes"))
        };
        let mut lanes = layout.edges.iter().flat_map(|edge| &edge.lanes);
        let spill = lanes.any(|lane| lane.kind == LaneKind::Shared).then(SpillFile::create);
        let spill = spill.transpose().map_err(Error::start("make the spill file of the run"))?;
        let shared = open(&graph, &layout, (&memory, spill), board, &mut ring)?;
        (0..layout.circles.len()).for_each(|number| Circle::new(&shared, number).open());
        let fingerprint = OnceLock::new();
        Ok(Plan { graph, layout, shared, spins, traced, forks, fingerprint, memory })
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
        let (forks, fingerprint) = (false, OnceLock::new());
        Ok(Plan { graph, layout, shared, spins, traced, forks, fingerprint, memory })
    }

    /// What tells whether a process has the same graph: one for all of them.
    pub(super) fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| fingerprint(&self.graph, &self.layout))
    }

    /// Makes the workers of one thread.
    pub(super) fn executor(
        &self,
        number: usize,
        restarts: &dyn Fn(usize) -> u32,
    ) -> Result<(Rc<Executor>, Failures), Failed> {
        let failures: Failures = Rc::new(RefCell::new(Vec::new()));
        let executor = Executor::new(self.shared.clone(), number, self.spins, self.traced);
        let executor = executor.map_err(|error| {
            let kind = FailureKind::Init;
            vec![(0, Failure::new("the run", 0, None, kind, error.into()))]
        })?;
        let mut callees = Callees::default();
        let Layout { workers, first_worker, order, .. } = &self.layout;
        for (rank, node) in order.iter().enumerate() {
            // What only takes things in stands below all nodes.
            let rank = rank + 1;
            let here = workers.iter().filter(|each| each.node == *node && each.executor == number);
            for planned in here {
                let worker = first_worker[*node] + planned.index;
                let mut site = Site {
                    nodes: &self.graph.nodes,
                    edges: &self.graph.edges,
                    node: *node,
                    first_worker: first_worker[*node],
                    first_out: planned.first_out,
                    inherits: planned.inherits,
                    survives: planned.survives,
                    circle: planned.circle,
                    rank,
                    restarts: restarts(worker),
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
                executor.add(rank, made);
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
        let cpus: Vec<usize> =
            workers().flat_map(|each| self.graph.nodes[each.node].cpus.clone()).collect();
        let options = MessageProcess::options(&name);
        if cpus.is_empty() { options } else { options.cpus(cpus) }
    }

    /// Its workers, for those who look at a trace.
    pub(super) fn named_workers(&self) -> Vec<Named> {
        let named = |worker: &PlannedWorker| Named {
            process: self.layout.executors[worker.executor].process,
            name: format!("{} {}", self.graph.nodes[worker.node].name, worker.index),
        };
        self.layout.workers.iter().map(named).collect()
    }

    /// Whether all workers of a process have ended.
    pub(super) fn has_ended(&self, process: usize) -> bool {
        let ended = |number| self.shared.of_worker(number, worker::STATE) == worker::ENDED;
        self.layout.workers_of(process).all(|(number, _)| ended(number))
    }

    /// Tells of a death whoever wants to know. Gives whether the process is to be missed.
    pub(super) fn tell_death(
        &self,
        process: usize,
        exit: &Exit,
    ) -> Result<bool, Box<(usize, Failure)>> {
        let survivor = self.layout.workers_of(process).find(|(_, worker)| worker.survives);
        let (Some(told), Some((number, planned))) = (&self.graph.on_death, survivor) else {
            return Ok(true);
        };
        if self.shared.phase() >= STOPPING {
            return Ok(true);
        }
        let word = |word| self.shared.of_worker(number, word);
        let lane = word(worker::LANE).checked_sub(1).filter(|lane| lane + 1 != worker::ENDING);
        // The words of a message stay until the next one comes.
        let next = |lane: u64| self.shared.board().load(lane as usize + lane::NEXT);
        let item = word(worker::ITEM);
        let begun = item & worker::CHARGED == 0;
        let at_one = begun && lane.is_some_and(|lane| next(lane) <= word(worker::MESSAGE));
        let at = worker::moment(lane.unwrap_or(0), word(worker::MESSAGE), item);
        let before = if word(worker::CRASHED_AT) == at { word(worker::CRASHES) } else { 0 };
        let PlannedWorker { node, index, .. } = *planned;
        let node = &self.graph.nodes[node].name;
        let death = Death {
            node: node.clone(),
            worker: index,
            item: at_one.then(|| word(worker::FIRST) + item),
            times: if at_one { before + 1 } else { 0 },
            exit: exit.clone(),
        };
        told(&death).map_err(|cause| {
            self.shared.fail(number);
            Box::new((number, Failure::new(node, index, death.item, FailureKind::Died, cause)))
        })
    }

    pub(super) fn executors_of(&self, process: usize) -> impl Iterator<Item = usize> {
        let executors = self.layout.executors.iter().enumerate();
        executors.filter(move |(_, at)| at.process == process).map(|(number, _)| number)
    }
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
        edge.edge.open(plan.clone(), ring)?;
    }
    let holding = |node: &NodeEntry| node.outs.iter().filter(|way| way.may_hold).count();
    let ways = graph.nodes.iter().map(|node| node.workers * holding(node)).sum();
    let blocks = memory.pool().map(|pool| (pool.capacity(), ways));
    let mut shared = Shared::new(board, layout.counts, &layout.circles, blocks);
    shared.set_spill(spill);
    graph.doors.iter().for_each(|door| door.open(&shared));
    Ok(shared)
}
