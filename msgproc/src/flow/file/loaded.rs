//! From a graph file to a graph that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::Port;
use super::made::Made;
use super::problem::{Problem, ProblemKind};
use super::registry::{Class, Connected, Make, Maker, Making};
use super::{
    GraphFile, Location, Node as FileNode, OnError as Policy, Registry, SettingsError, Wiring,
};
use crate::error::{causes, with_causes};
use crate::flow::{
    self, Graph, Input, NodeRef, OnError, Output, Placement, Report, Running, WorkerInfo,
    error::panicked_at,
};
use crate::start::catch_here;

/// A graph file that was checked against a [`Registry`], and can be run: each run is a new graph.
///
/// From [`Registry::load`] and [`Registry::check`].
pub struct Loaded<T> {
    file: GraphFile,
    wiring: Wiring,
    nodes: Vec<Arc<Known<T>>>,
}

/// What is known of a node of the file.
struct Known<T> {
    node: FileNode,
    class: Arc<Class<T>>,
    inputs: Vec<Connected>,
    /// The inputs that something comes back to.
    back: Vec<usize>,
}

impl<T> Known<T> {
    fn making<'a>(&'a self, worker: &'a WorkerInfo) -> Making<'a> {
        Making { node: &self.node, info: &self.class.info, worker, inputs: &self.inputs }
    }

    /// The other inputs at which something comes.
    fn others(&self) -> Vec<usize> {
        let required = self.required();
        let connected = |input: &usize| !matches!(self.inputs[*input], Connected::No);
        (0..self.inputs.len()).filter(connected).filter(|input| !required.contains(input)).collect()
    }

    /// The inputs that must end before the node does. What comes back has not ended before all is
    /// done that is on its way in the cycle.
    fn required(&self) -> Vec<usize> {
        let inputs = self.class.info.inputs.iter().enumerate();
        let required = inputs.filter(|(_, port)| port.required).map(|(number, _)| number);
        match self.class.joins {
            true => Vec::new(),
            false => {
                let mut all: Vec<_> = required.collect();
                if !all.is_empty() {
                    for back in &self.back {
                        if !all.contains(back) {
                            all.push(*back);
                        }
                    }
                }
                all
            }
        }
    }
}

/// How many items may be in a cycle if nothing is said.
const CREDITS: usize = 1024;

/// A node as it is in the graph.
enum Added<T> {
    Source(NodeRef<(), T>),
    Node(NodeRef<T, T>),
    Sink(NodeRef<T, ()>),
}

impl<T> Added<T> {
    fn output(&self, port: usize) -> Option<Output<T>> {
        match self {
            Added::Source(node) => Some(node.output_at(port)),
            Added::Node(node) => Some(node.output_at(port)),
            Added::Sink(_) => None,
        }
    }

    fn input(&self, port: usize) -> Option<Input<T>> {
        match self {
            Added::Source(_) => None,
            Added::Node(node) => Some(node.input_at(port)),
            Added::Sink(node) => Some(node.input_at(port)),
        }
    }
}

impl<T> Loaded<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    /// Tells what is wrong with the nodes themselves. To which input each connection leads is told
    /// where that is known.
    pub(super) fn new(
        registry: &Registry<T>,
        file: GraphFile,
        wiring: Wiring,
        ends: Option<&[Option<Port>]>,
        problems: &mut Vec<Problem>,
    ) -> Loaded<T> {
        let mut nodes = Vec::new();
        for (number, node) in file.nodes.iter().enumerate() {
            let Some(class) = registry.get(&node.class) else { continue };
            let mut inputs = vec![Connected::No; class.info.inputs.len()];
            let mut back = Vec::new();
            for (to, connection) in ends.into_iter().flatten().zip(&file.connections) {
                if let Some(to) = to.filter(|to| to.node == number) {
                    inputs[to.port] =
                        if connection.sticky { Connected::Sticky } else { Connected::Yes };
                    back.extend(connection.feedback.then_some(to.port));
                }
            }
            // All that leads to it is known: no end that is not could be meant for it.
            let is_meant = |name: &str| name == node.name || file.get(name).is_none();
            let is_wired = ends.is_some_and(|ends| {
                let mut all = ends.iter().zip(&file.connections);
                all.all(|(to, connection)| to.is_some() || !is_meant(&connection.to.node))
                    && file.nodes.iter().filter(|other| other.name == node.name).count() == 1
            });
            let known = Known { node: node.clone(), class: class.clone(), inputs, back };
            // Without it, a join knows nothing of its inputs.
            if is_wired || !class.joins {
                problems.extend(known.problem(is_wired));
            }
            nodes.push(Arc::new(known));
        }
        for connection in &file.connections {
            let ends = connection.ends();
            if connection.sticky {
                let to = nodes.iter().find(|known| known.node.name == connection.to.node);
                if let Some(known) = to.filter(|known| !known.class.joins) {
                    let class = known.node.class.clone();
                    let kind = ProblemKind::Sticky { connection: ends, class };
                    problems.push(Problem::at(connection.line, kind));
                }
            }
        }
        Loaded { file, wiring, nodes }
    }

    /// What it was made of.
    pub fn file(&self) -> &GraphFile {
        &self.file
    }

    /// The graph, to be run.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        let places = Places::of(&self.file);
        let added: Vec<_> =
            self.nodes.iter().map(|known| add(&mut graph, known, &places)).collect();
        for (wire, connection) in self.wiring.wires.iter().zip(&self.file.connections) {
            let from = added[wire.from.node].output(wire.from.port);
            let to = added[wire.to.node].input(wire.to.port);
            // Sources have no inputs, and sinks no outputs, that a wire could lead to.
            let (Some(from), Some(to)) = (from, to) else { continue };
            let mut edge = graph.edge(from.cloned(), to);
            if let Some(capacity) = connection.capacity {
                edge = edge.capacity(capacity.get());
            }
            if let Some(bytes) = connection.bytes {
                edge = edge.capacity_bytes(bytes.get());
            }
            if connection.latest {
                edge = edge.newest();
            }
            if connection.feedback {
                edge = edge.feedback(connection.credits.map_or(CREDITS, NonZeroUsize::get));
            }
            edge.add();
        }
        graph
    }

    /// Runs it from its start to its end.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn run(&self) -> flow::Result<Report> {
        self.graph().run()
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// As [`Graph::start`].
    pub fn start(&self) -> flow::Result<Running> {
        self.graph().start()
    }
}

impl<T: 'static> Known<T> {
    /// Makes the node, to see whether that can be done.
    fn problem(&self, is_wired: bool) -> Option<Problem> {
        let FileNode { name, class, line, .. } = &self.node;
        let (node, class) = (name.clone(), class.clone());
        let names = self.class.info.inputs.iter().map(|port| port.name.clone());
        let unconnected = self.inputs.iter().all(|input| *input == Connected::No);
        // Of inputs that must be connected it was said before.
        let must = self.class.info.inputs.iter().any(|port| port.required);
        if is_wired && !self.inputs.is_empty() && unconnected && !must {
            return Some(Problem::at(*line, ProblemKind::Idle { node, inputs: names.collect() }));
        }
        let worker = WorkerInfo {
            node: name.clone(),
            index: 0,
            workers: self.node.worker_count(),
            restarts: 0,
        };
        let making = self.making(&worker);
        // To drop it may panic as well.
        let made = catch_here(|| match &self.class.make {
            Make::Source(make) => make(&making).map(drop),
            Make::Node(make) => make(&making).map(drop),
            Make::Sink(make) => make(&making).map(drop),
        });
        let cause = match made {
            Ok(made) => made.err()?,
            Err(panic) => panicked_at(&panic).into(),
        };
        Some(match cause.downcast_ref::<SettingsError>() {
            Some(error) => {
                let reason = error.without_line();
                Problem::at(error.line().or(*line), ProblemKind::Settings { node, reason })
            }
            None => {
                let reason = with_causes(cause.to_string(), causes(&*cause));
                Problem::at(*line, ProblemKind::Constructor { node, class, reason })
            }
        })
    }
}

fn add<T>(graph: &mut Graph, known: &Arc<Known<T>>, places: &Places) -> Added<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    match &known.class.make {
        Make::Source(make) => Added::Source(add_as(graph, known, make, places)),
        Make::Node(make) => Added::Node(add_as(graph, known, make, places)),
        Make::Sink(make) => Added::Sink(add_as(graph, known, make, places)),
    }
}

fn add_as<T, I, O>(
    graph: &mut Graph,
    known: &Arc<Known<T>>,
    make: &Maker<I, O>,
    places: &Places,
) -> NodeRef<I, O>
where
    T: 'static,
    I: Serialize + DeserializeOwned + Clone + Send + 'static,
    O: Serialize + DeserializeOwned + Send + 'static,
{
    let FileNode { name, ordered, on_error, compute_on, .. } = &known.node;
    let (known, make) = (known.clone(), make.clone());
    let place = places.placement(&known.node.location_of(0));
    let keeps = known.class.keeps;
    let node = graph.node(name, place, {
        let known = known.clone();
        move |worker: &WorkerInfo| Made {
            node: make(&known.making(worker)).map_err(Some),
            required: known.required(),
            others: known.others(),
            ended: false,
        }
    });
    let node = match &compute_on[..] {
        [] | [_] => node.workers(known.node.worker_count()),
        several => node.places(several.iter().map(|location| places.placement(location))),
    };
    let on_error = match on_error {
        Policy::Fail => OnError::fail(),
        Policy::Skip => OnError::skip(),
        Policy::Retry(times) => OnError::retry(*times),
        Policy::Quarantine(times) => OnError::quarantine(*times),
    };
    node.ordered(*ordered).on_error(on_error).keeps(keeps).add()
}

/// The numbers of the processes and threads that a file names.
struct Places {
    processes: BTreeMap<String, u32>,
    threads: BTreeMap<(u32, String), u32>,
}

impl Places {
    fn of(file: &GraphFile) -> Places {
        let locations = || file.nodes.iter().flat_map(|node| &node.compute_on);
        let processes = numbered(locations().filter_map(|at| Some(((), at.process()?))));
        let processes: BTreeMap<_, _> =
            processes.into_iter().map(|(((), name), number)| (name, number)).collect();
        let process = |at: &Location| at.process().map_or(0, |name| processes[name]);
        let threads = numbered(locations().filter_map(|at| Some((process(at), at.thread()?))));
        Places { processes, threads }
    }

    fn placement(&self, at: &Location) -> Placement {
        #[cfg(feature = "tokio")]
        if at.process().is_none() && at.thread() == Some("task") {
            return Placement::Task;
        }
        let process = at.process().map_or(0, |name| self.processes[name]);
        let thread = at.thread().map_or(0, |name| self.threads[&(process, name.to_owned())]);
        match (process, thread) {
            (0, 0) => Placement::Same,
            _ => Placement::At { process, thread },
        }
    }
}

/// Numbers names, each within its group: one that is a number has that, and others one that is free.
fn numbered<'a, G: Ord + Copy>(
    names: impl Iterator<Item = (G, &'a str)>,
) -> BTreeMap<(G, String), u32> {
    let names: BTreeSet<(G, &str)> = names.collect();
    let number = |name: &str| name.parse::<u32>().ok();
    let taken: BTreeSet<(G, u32)> =
        names.iter().filter_map(|(group, name)| Some((*group, number(name)?))).collect();
    let mut free = (1..).filter(|candidate| !taken.iter().any(|(_, number)| number == candidate));
    let mut place = |name: &str| number(name).or_else(|| free.next()).unwrap_or(u32::MAX);
    names.iter().map(|(group, name)| ((*group, (*name).to_owned()), place(name))).collect()
}

impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("file", &self.file).finish_non_exhaustive()
    }
}
