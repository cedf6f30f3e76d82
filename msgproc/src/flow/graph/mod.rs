//! The description of work: nodes, and edges between them. All builders make one of these.

mod edge;
mod make;
mod node;
mod ports;

use std::{any::Any, fmt, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    edge::EdgeBuilder,
    node::NodeBuilder,
    ports::{Input, NodeRef, Output},
};
pub(crate) use self::{edge::Target, make::Site};
use self::{make::Make, ports::GraphId};
use super::{
    edge::AnyEdge,
    error::{Death, Error},
    memory::Memory,
    node::Cause,
    outside::Doors,
    placement::Placement,
    start_method::StartMethod,
    worker::OnError,
};

/// Work as a graph: nodes that take and send items, and edges between them.
///
/// ```
/// use msgproc::flow::{Graph, Same, Thread, each, map};
///
/// let mut graph = Graph::new();
/// let numbers = graph.source("numbers", Same, 0..5_u64);
/// let squares = graph.node("squares", Thread, |_| map(|n: u64| n * n)).workers(2).add();
/// let print = graph.node("print", Same, |_| each(|n: u64| println!("{n}"))).add();
/// graph.connect(numbers.output(), squares.input());
/// graph.connect(squares.output(), print.input());
/// let report = graph.run()?;
/// assert_eq!(report.node("print").unwrap().items_in(), 5);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
#[derive(Default)]
pub struct Graph {
    id: GraphId,
    pub(crate) nodes: Vec<NodeEntry>,
    pub(crate) edges: Vec<EdgeEntry>,
    pub(crate) memory: Option<Memory>,
    pub(crate) name: String,
    /// Where items come in from outside, and results leave.
    pub(crate) doors: Doors,
    /// Whether the thread that runs it watches its processes too.
    pub(crate) watches_itself: bool,
    pub(crate) on_death: Option<Box<OnDeath>>,
    /// Where to write who was busy when.
    pub(crate) trace: Option<PathBuf>,
    /// How its processes make it, if they are no forks: the engine knows the type.
    pub(crate) travel: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) start_method: StartMethod,
    /// How long a process may take to be set up, if that was said.
    pub(crate) start_timeout: Option<Duration>,
    /// What is wrong with it, said when it is run.
    pub(crate) fault: Option<String>,
}

/// Is told of a process that died.
pub(crate) type OnDeath = dyn Fn(&Death) -> std::result::Result<bool, Cause> + Send + Sync;

/// A node of a graph.
pub(crate) struct NodeEntry {
    pub(crate) name: String,
    pub(crate) placement: Placement,
    /// Where each of its workers is, if they are not all at the placement.
    pub(crate) places: Vec<Placement>,
    pub(crate) workers: usize,
    pub(crate) ordered: bool,
    pub(crate) on_error: OnError,
    pub(crate) cpus: Vec<usize>,
    /// How its processes are started, if not as those of the graph.
    pub(crate) start_method: Option<StartMethod>,
    pub(crate) is_source: bool,
    /// Whether it gives what an iterator gives, and takes nothing.
    pub(crate) only_gives: bool,
    /// Whether it ends by itself when the run drains, after what it was given.
    pub(crate) is_fed: bool,
    /// Whether it keeps items that it has taken.
    pub(crate) keeps: bool,
    /// Whether it is a source that may have a thread of its own beside its worker's.
    pub(crate) has_helper: bool,
    pub(crate) make: Arc<Make>,
    /// Its ways out, each an [`OutMaker`] of its type of items.
    pub(crate) outs: Vec<OutEntry>,
}

/// One way out of a node.
pub(crate) struct OutEntry {
    pub(crate) output: usize,
    /// How many edges it leads into; each has words of its own on the board.
    edges: usize,
    maker: Arc<dyn Any + Send + Sync>,
    /// How items are cloned, a `fn(&T) -> T`, where that was asked for.
    clone: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether its items may hold something, such as blocks.
    pub(crate) may_hold: bool,
}

/// An edge of a graph.
pub(crate) struct EdgeEntry {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) input: usize,
    pub(crate) edge: Arc<dyn AnyEdge>,
    /// Whether it chooses its receivers by itself, so that no order is kept over it.
    pub(crate) chooses: bool,
    /// If it leads back: new items come to its receiver while fewer than these are in the circle.
    pub(crate) feedback: Option<u64>,
}

impl NodeEntry {
    /// How many edges lead away from it, each of which has words on the board.
    pub(crate) fn edges_out(&self) -> usize {
        self.outs.iter().map(|out| out.edges).sum()
    }

    /// Where the worker of this number is.
    pub(crate) fn place_of(&self, worker: usize) -> Placement {
        self.places.get(worker).copied().unwrap_or(self.placement)
    }
}

impl OutEntry {
    /// Whether it says how items are cloned.
    pub(crate) fn clones(&self) -> bool {
        self.clone.is_some()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph { name: "flow".into(), ..Graph::default() }
    }

    /// What its processes and threads are called after.
    pub fn named(mut self, name: &str) -> Graph {
        self.name = name.into();
        self
    }

    /// The memory in which its lanes between processes are made: where items have blocks in them,
    /// that of their pool.
    pub fn set_memory(&mut self, memory: &Memory) {
        self.memory = Some(memory.clone());
    }

    /// How its processes are started, if nothing is said of their nodes.
    pub fn start_method(&mut self, method: StartMethod) {
        self.start_method = method;
    }

    /// How long each of its processes may take to start, however it does, with the constructors and
    /// [`svc_init`](super::Node::svc_init) of its nodes: 30 seconds if nothing is said. A run with one
    /// that takes longer does not begin. Nodes in threads of the program may take as long as they like.
    pub fn set_start_timeout(&mut self, timeout: Duration) {
        self.start_timeout = Some(timeout);
    }

    /// Lets [`Graph::run`] watch over the processes in the thread that calls it, so that the run
    /// has no other: for a program that is to have one thread only. Processes that died are noticed
    /// when no node of that thread is at work, and replaced by forks of the program itself. Of no
    /// meaning for [`Graph::start`], which has a thread of its own in any case.
    pub fn watch_in_run(&mut self) {
        self.watches_itself = true;
    }

    /// Has this called for each process that dies while it is at work and that could be replaced,
    /// in the thread that watches over the processes. Of a process with several workers it is told
    /// which one was at work.
    ///
    /// It answers whether to replace the process. An error or a panic fails the run: so answers who
    /// does not want it replaced. `Ok(false)` is for a run that is ending anyway: the process is not
    /// missed, what it had stays where it is, and whoever needs that waits until the run is stopped,
    /// by [`Running::stop_now`](super::Running::stop_now) or a node that fails.
    pub fn on_death<F>(&mut self, told: F)
    where
        F: Fn(&Death) -> std::result::Result<bool, Cause> + Send + Sync + 'static,
    {
        self.on_death = Some(Box::new(told));
    }

    /// Writes into this file, at the end of the run, which worker was busy, waited for items or
    /// waited for room, and when: for <https://ui.perfetto.dev> or `chrome://tracing`. What a process
    /// noted that was killed is not there; and of each thread there are the first 200 000 entries,
    /// then one that says that there were more.
    pub fn trace_to(&mut self, file: impl Into<PathBuf>) {
        self.trace = Some(file.into());
    }

    pub(crate) fn is_wrong(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.nodes.iter().map(|node| &node.name).collect::<Vec<_>>())
            .field("edges", &self.edges.len())
            .finish_non_exhaustive()
    }
}

impl Error {
    pub(crate) fn graph(what: impl Into<String>) -> Error {
        Error::Graph(what.into())
    }
}
