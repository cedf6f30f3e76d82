//! From a graph to a plan: which worker runs in which thread of which process, and how the lanes
//! between them get there. Decisions alone.

mod loss;
mod order;

use std::collections::BTreeMap;

pub(crate) use self::loss::Loss;
use self::{
    loss::loss,
    order::{numbered_from, receivers_first},
};
use super::{
    circle::CirclePlan,
    edge::{EdgePlan, LaneKind, LanePlan},
    error::{Error, Result},
    graph::{EdgeEntry, Graph, NodeEntry},
    placement::Placement,
    plan::{Counts, Rank},
};

/// A thread of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Location {
    /// 0 is the program itself.
    pub(crate) process: usize,
    /// 0 is the main thread of the process.
    pub(crate) thread: usize,
}

/// A worker in a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlannedWorker {
    pub(crate) node: usize,
    pub(crate) index: usize,
    pub(crate) executor: usize,
    /// The number of its first edge out among those of the run.
    pub(crate) first_out: usize,
    /// Whether messages that leave keep the numbers of those that came.
    pub(crate) inherits: bool,
    /// Whether its process is replaced when it dies.
    pub(crate) survives: bool,
    /// The circle that it is in.
    pub(crate) circle: Option<usize>,
}

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) executors: Vec<Location>,
    /// The executor that has a runtime of tokio's.
    #[cfg(feature = "tokio")]
    pub(crate) tasks: Option<usize>,
    pub(crate) workers: Vec<PlannedWorker>,
    /// The number of each node's first worker.
    pub(crate) first_worker: Vec<usize>,
    pub(crate) edges: Vec<EdgePlan>,
    pub(crate) counts: Counts,
    pub(crate) processes: usize,
    /// By process: what its death means.
    pub(crate) losses: Vec<Loss>,
    /// Receivers before senders, so that whoever is called is there before its callers.
    pub(crate) order: Vec<(usize, Rank)>,
    pub(crate) circles: Vec<CirclePlan>,
}

impl Layout {
    /// The workers in a process, by their numbers.
    pub(crate) fn workers_of(
        &self,
        process: usize,
    ) -> impl Iterator<Item = (usize, &PlannedWorker)> + Clone {
        let here = move |executor: usize| self.executors[executor].process == process;
        self.workers.iter().enumerate().filter(move |(_, worker)| here(worker.executor))
    }

    pub(crate) fn of(graph: &Graph) -> Result<Layout> {
        check(graph)?;
        let order = receivers_first(graph)?;
        let mut circles = circles(graph)?;
        let circle_of = |node: usize| circles.iter().position(|each| each.nodes.contains(&node));
        let mut places = Places::default();
        let mut workers = Vec::new();
        let mut first_worker = Vec::new();
        let mut outs = 0;
        for (number, node) in graph.nodes.iter().enumerate() {
            first_worker.push(workers.len());
            let inherits = is_numbered(graph, number);
            for index in 0..node.workers {
                let executor = places.executor(node.place_of(index));
                workers.push(PlannedWorker {
                    node: number,
                    index,
                    executor,
                    first_out: outs,
                    inherits,
                    survives: false,
                    circle: circle_of(number),
                });
                outs += node.edges_out();
            }
        }
        let executors = places.executors;
        #[cfg(feature = "tokio")]
        let at_tasks = |at: &Location| at.process == 0 && Some(at.thread) == places.tasks;
        #[cfg(feature = "tokio")]
        let tasks = executors.iter().position(at_tasks);
        let processes = places.processes.max(1);
        let process_of = |worker: &PlannedWorker| executors[worker.executor].process;
        let losses: Vec<Loss> = (0..processes)
            .map(|process| {
                let here = workers.iter().filter(|worker| process_of(worker) == process);
                loss(graph, &circles, process, here)
            })
            .collect();
        for worker in &mut workers {
            worker.survives = losses[process_of(worker)] == Loss::IsMadeGood;
        }
        for circle in &mut circles {
            let workers = workers.iter().filter(|worker| worker.node == circle.head);
            circle.executors = workers.map(|worker| worker.executor).collect();
            circle.entrances = circle.executors.len() as u64;
            circle.executors.dedup();
        }
        let circle_of = |node: usize| circles.iter().position(|each| each.nodes.contains(&node));
        let mut lanes = 0;
        let mut edges = Vec::new();
        for (number, edge) in graph.edges.iter().enumerate() {
            let senders = graph.nodes[edge.from].workers;
            let receivers = graph.nodes[edge.to].workers;
            let ordered = keeps_order(graph, number);
            let executor = |node: usize, index: usize| workers[first_worker[node] + index].executor;
            let mut planned = Vec::new();
            for sender in 0..senders {
                for receiver in 0..receivers {
                    let (from, to) = (executor(edge.from, sender), executor(edge.to, receiver));
                    let merges = ordered && senders > 1;
                    let enters = circles.iter().any(|circle| circle.head == edge.to);
                    // What begins before its turn is not called.
                    let is_ahead = graph.nodes[edge.to].keeps
                        && (is_numbered(graph, edge.to) || circle_of(edge.to).is_some());
                    let process = executors[from].process;
                    let within = process == executors[to].process;
                    let kind = match from == to {
                        // What goes from one worker to another is to outlive them.
                        _ if !within || losses[process] == Loss::IsMadeGood => LaneKind::Shared,
                        // What is called cannot be told to wait for its turn.
                        true if !merges && !enters && !is_ahead => LaneKind::Call,
                        _ => LaneKind::Heap,
                    };
                    planned.push(LanePlan { kind, from, to });
                }
            }
            let travels = planned.iter().any(|lane| lane.kind == LaneKind::Shared);
            if travels && !edge.edge.can_travel() {
                let (from, to) = (&graph.nodes[edge.from].name, &graph.nodes[edge.to].name);
                return Err(Error::graph(format!(
                    "items from {from:?} to {to:?} would go to another process, and there is no way for their type: give one of the two nodes the placement `Process`, or a `Placement`"
                )));
            }
            let inlet = graph.edges[..number].iter().filter(|other| other.to == edge.to).count();
            let count = planned.len();
            let circle = circle_of(edge.from).filter(|circle| circle_of(edge.to) == Some(*circle));
            let is_shared =
                |at: usize| workers.iter().filter(|other| other.executor == at).nth(1).is_some();
            // One that keeps the order is held up with those whose numbers come before.
            let first = match is_numbered(graph, edge.from) {
                true => numbered_from(graph, edge.from),
                false => edge.to,
            };
            let comes_to_choice =
                || reached(graph, first, false).iter().any(|node| chooses_inputs(graph, *node));
            let is_gated = circle.is_none()
                && comes_to_choice()
                && (0..senders).any(|sender| is_shared(executor(edge.from, sender)));
            edges.push(EdgePlan {
                number,
                inlet,
                senders,
                receivers,
                lanes: planned,
                first_lane: lanes,
                ordered,
                circle,
                is_gated,
            });
            lanes += count;
        }
        for edge in &edges {
            let Some(circle) = edge.circle else { continue };
            let lies = |at: &usize| edge.lanes[*at].kind != LaneKind::Call;
            let here = (0..edge.lanes.len()).filter(lies).map(|at| edge.first_lane + at);
            circles[circle].lanes.extend(here);
        }
        let counts = Counts {
            executors: executors.len(),
            workers: workers.len(),
            outs,
            lanes,
            circles: circles.len(),
        };
        Ok(Layout {
            executors,
            #[cfg(feature = "tokio")]
            tasks,
            workers,
            first_worker,
            edges,
            counts,
            processes,
            losses,
            order,
            circles,
        })
    }
}

/// Numbers threads and processes as they are asked for.
struct Places {
    executors: Vec<Location>,
    processes: usize,
    threads: usize,
    /// The thread of those that are tasks.
    #[cfg(feature = "tokio")]
    tasks: Option<usize>,
    /// Processes that were named by a number.
    named: BTreeMap<u32, usize>,
    /// Threads that were.
    named_threads: BTreeMap<(usize, u32), usize>,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            executors: vec![Location { process: 0, thread: 0 }],
            processes: 1,
            threads: 1,
            #[cfg(feature = "tokio")]
            tasks: None,
            named: BTreeMap::new(),
            named_threads: BTreeMap::new(),
        }
    }
}

impl Places {
    fn executor(&mut self, placement: Placement) -> usize {
        let location = match placement {
            Placement::Same => Location { process: 0, thread: 0 },
            Placement::Thread => {
                self.threads += 1;
                Location { process: 0, thread: self.threads - 1 }
            }
            #[cfg(feature = "tokio")]
            Placement::Task => {
                let next = &mut self.threads;
                let thread = *self.tasks.get_or_insert_with(|| {
                    *next += 1;
                    *next - 1
                });
                Location { process: 0, thread }
            }
            Placement::Process => {
                self.processes += 1;
                Location { process: self.processes - 1, thread: 0 }
            }
            Placement::At { process, thread } => {
                let process = if process == 0 {
                    0
                } else {
                    let next = &mut self.processes;
                    *self.named.entry(process).or_insert_with(|| {
                        *next += 1;
                        *next - 1
                    })
                };
                let thread = if thread == 0 {
                    0
                } else {
                    let next = &mut self.threads;
                    *self.named_threads.entry((process, thread)).or_insert_with(|| {
                        *next += 1;
                        *next - 1
                    })
                };
                Location { process, thread }
            }
        };
        match self.executors.iter().position(|known| *known == location) {
            Some(executor) => executor,
            None => {
                // The main thread of a process comes first.
                if location.thread != 0 {
                    let main = Location { thread: 0, ..location };
                    if !self.executors.contains(&main) {
                        self.executors.push(main);
                    }
                }
                self.executors.push(location);
                self.executors.len() - 1
            }
        }
    }
}

/// So many inputs and outputs a node may have: there are tables of them.
const MOST_PORTS: usize = 1024;

fn check_ports(graph: &Graph) -> Result<()> {
    let inputs = graph.edges.iter().map(|edge| ("input", edge.input, edge.to));
    let outputs =
        graph.nodes.iter().enumerate().flat_map(|(number, node)| {
            node.outs.iter().map(move |out| ("output", out.output, number))
        });
    match inputs.chain(outputs).find(|(_, port, _)| *port >= MOST_PORTS) {
        Some((what, port, node)) => Err(Error::graph(format!(
            "an edge is at {what} {port} of node {:?}, which has {MOST_PORTS} at most",
            graph.nodes[node].name
        ))),
        None => Ok(()),
    }
}

/// What is wrong before anything is placed.
fn check(graph: &Graph) -> Result<()> {
    if let Some(fault) = &graph.fault {
        return Err(Error::graph(fault.clone()));
    }
    if graph.nodes.is_empty() {
        return Err(Error::graph("it has no nodes"));
    }
    check_ports(graph)?;
    check_size(graph)?;
    let names = graph.nodes.iter().map(|node| &node.name);
    if let Some(name) = names.chain([&graph.name]).find(|name| name.contains('\0')) {
        return Err(Error::graph(format!("threads and processes cannot be called {name:?}")));
    }
    for (number, node) in graph.nodes.iter().enumerate() {
        let mut inward = graph.edges.iter().filter(|edge| edge.feedback.is_none());
        let has_input = inward.any(|edge| edge.to == number);
        // One that takes `()` is a source if nothing leads to it.
        if if has_input { node.only_gives } else { !node.is_source } {
            return Err(Error::graph(if has_input {
                format!("node {:?} is a source, and an edge leads to it", node.name)
            } else {
                format!("nothing leads to node {:?}, which takes items", node.name)
            }));
        }
        for output in node.outs.iter().map(|out| out.output) {
            let ways = || node.outs.iter().filter(|out| out.output == output);
            if ways().count() > 1 && !ways().any(|out| out.clones()) {
                return Err(Error::graph(format!(
                    "several edges leave output {output} of node {:?}: say `output().cloned()` for one of them, so that each gets a clone of every item",
                    node.name
                )));
            }
        }
        if node.ordered && node.workers > 1 {
            check_order(graph, number)?;
        }
    }
    Ok(())
}

/// So many workers and lanes a graph has at most: far more than any machine has use for, and few
/// enough that there is memory to lay them out.
const MOST_WORKERS: usize = 1 << 16;
const MOST_LANES: usize = 1 << 18;

fn check_size(graph: &Graph) -> Result<()> {
    let workers = |node: &NodeEntry| node.workers;
    let all = graph.nodes.iter().map(workers).fold(0, usize::saturating_add);
    if all > MOST_WORKERS {
        let largest = graph.nodes.iter().max_by_key(|node| workers(node));
        return Err(Error::graph(format!(
            "it has {all} workers, {:?} most of them, and can have {MOST_WORKERS}",
            largest.map_or("", |node| &node.name)
        )));
    }
    let mut lanes = 0_usize;
    for edge in &graph.edges {
        let (from, to) = (&graph.nodes[edge.from], &graph.nodes[edge.to]);
        lanes = lanes.saturating_add(from.workers * to.workers);
        if lanes > MOST_LANES {
            return Err(Error::graph(format!(
                "there is a lane from each of the {} workers of {:?} to each of the {} of {:?}, and {MOST_LANES} lanes are the most",
                from.workers, from.name, to.workers, to.name
            )));
        }
    }
    Ok(())
}

/// Whether a node has several inputs: so it may want nothing of the one until something comes at
/// another.
fn chooses_inputs(graph: &Graph, node: usize) -> bool {
    let mut inputs = forward(graph).filter(|edge| edge.to == node).map(|edge| edge.input);
    let first = inputs.next();
    inputs.any(|input| Some(input) != first)
}

/// Whether a node has several workers that keep the order.
fn is_numbered(graph: &Graph, node: usize) -> bool {
    let node = &graph.nodes[node];
    node.ordered && node.workers > 1
}

/// Whether the messages of an edge are numbered.
fn keeps_order(graph: &Graph, edge: usize) -> bool {
    let edge = &graph.edges[edge];
    !edge.chooses && (is_numbered(graph, edge.from) || is_numbered(graph, edge.to))
}

fn check_order(graph: &Graph, number: usize) -> Result<()> {
    let node = &graph.nodes[number];
    let wrong = |what: String| {
        Err(Error::graph(format!(
            "node {:?} cannot keep the order of its items: {what}",
            node.name
        )))
    };
    let mut inward = graph.edges.iter().filter(|edge| edge.to == number);
    match (inward.next(), inward.next()) {
        (Some(edge), None) => {
            let from = &graph.nodes[edge.from];
            if edge.chooses {
                return wrong("the edge to it says by itself which worker gets an item".into());
            }
            if from.workers > 1 && !from.ordered {
                return wrong(format!(
                    "they come from the {} workers of {:?}, which do not keep it",
                    from.workers, from.name
                ));
            }
        }
        (Some(_), Some(_)) => {
            return wrong("several edges lead to it: let one node with one worker take what comes, and send it on".into());
        }
        (None, _) => return wrong("a source has one worker".into()),
    }
    for edge in graph.edges.iter().filter(|edge| edge.from == number) {
        let to = &graph.nodes[edge.to];
        if edge.chooses && to.workers > 1 {
            return wrong("the edge behind it says by itself which worker gets an item".into());
        }
        if to.workers > 1 && !to.ordered {
            return wrong(format!(
                "the {} workers of {:?}, which follow, do not keep it: let them be ordered too",
                to.workers, to.name
            ));
        }
    }
    Ok(())
}

/// The edges that do not lead back.
fn forward(graph: &Graph) -> impl Iterator<Item = &EdgeEntry> {
    graph.edges.iter().filter(|edge| edge.feedback.is_none())
}

/// The nodes that are reached from one, itself included; or those from which it is reached.
fn reached(graph: &Graph, from: usize, backward: bool) -> Vec<usize> {
    let mut found = vec![from];
    let mut next = 0;
    while let Some(&node) = found.get(next) {
        next += 1;
        for edge in forward(graph) {
            let (here, there) = if backward { (edge.to, edge.from) } else { (edge.from, edge.to) };
            if here == node && !found.contains(&there) {
                found.push(there);
            }
        }
    }
    found
}

/// The circles that feedback edges close, one for each node that they lead to.
fn circles(graph: &Graph) -> Result<Vec<CirclePlan>> {
    let mut circles: Vec<CirclePlan> = Vec::new();
    for edge in &graph.edges {
        let Some(credits) = edge.feedback else { continue };
        let (from, to) = (&graph.nodes[edge.from].name, &graph.nodes[edge.to].name);
        let behind = reached(graph, edge.to, false);
        if !behind.contains(&edge.from) {
            return Err(Error::graph(format!(
                "the edge from {from:?} to {to:?} is said to lead back, and nothing leads from {to:?} to {from:?}"
            )));
        }
        let before = reached(graph, edge.from, true);
        let nodes = behind.into_iter().filter(|node| before.contains(node));
        match circles.iter_mut().find(|circle| circle.head == edge.to) {
            Some(circle) => {
                circle.credits = circle.credits.min(credits);
                let new: Vec<_> = nodes.filter(|node| !circle.nodes.contains(node)).collect();
                circle.nodes.extend(new);
            }
            None => circles.push(CirclePlan {
                head: edge.to,
                nodes: nodes.collect(),
                credits,
                executors: Vec::new(),
                entrances: 0,
                lanes: Vec::new(),
            }),
        }
    }
    for (number, circle) in circles.iter().enumerate() {
        let shares = |node: &&usize| circles[..number].iter().any(|each| each.nodes.contains(node));
        if let Some(node) = circle.nodes.iter().find(shares) {
            return Err(Error::graph(format!(
                "node {:?} is in two circles: let all edges that lead back there lead to one node",
                graph.nodes[*node].name
            )));
        }
        let inside = |node: usize| circle.nodes.contains(&node);
        let newest = |edge: &&EdgeEntry| edge.edge.options().newest;
        let mut edges = graph.edges.iter().filter(|edge| inside(edge.from) && inside(edge.to));
        if let Some(edge) = edges.find(newest) {
            return Err(Error::graph(format!(
                "the edge from {:?} to {:?} drops items, which cannot be in a circle",
                graph.nodes[edge.from].name, graph.nodes[edge.to].name
            )));
        }
    }
    Ok(circles)
}
