//! Graphs that are made again in each of their processes, so that these need not be forks.
//!
//! What a run has in shared memory travels as a [`Ticket`]; the nodes and their closures do not
//! travel at all. The process calls the function that made the graph here, with the same state, and
//! takes of it the nodes that it is to run. The layout is a pure function of the graph, so both have
//! the same; a fingerprint of it tells when they do not.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shmring::{board::Board, ring::records::Records};

use super::{plan::Plan, station::Station};
use crate::{
    ForkServer, MessageProcess, Options, Start,
    flow::{edge::SpillFile, graph::Graph, layout::Layout, memory::Memory, node::Cause},
};

/// What a function gives that makes a graph: the graph alone, or with more beside it, as the ends
/// by which the program feeds it; or an error.
pub trait Made: Sized {
    #[doc(hidden)]
    fn graph_mut(&mut self) -> Option<&mut Graph>;

    #[doc(hidden)]
    fn into_graph(self) -> Result<Graph, Cause>;
}

impl Made for Graph {
    fn graph_mut(&mut self) -> Option<&mut Graph> {
        Some(self)
    }

    fn into_graph(self) -> Result<Graph, Cause> {
        Ok(self)
    }
}

impl<T> Made for (Graph, T) {
    fn graph_mut(&mut self) -> Option<&mut Graph> {
        Some(&mut self.0)
    }

    fn into_graph(self) -> Result<Graph, Cause> {
        Ok(self.0)
    }
}

impl<M: Made, E: Into<Cause>> Made for Result<M, E> {
    fn graph_mut(&mut self) -> Option<&mut Graph> {
        self.as_mut().ok().and_then(Made::graph_mut)
    }

    fn into_graph(self) -> Result<Graph, Cause> {
        self.map_err(Into::into)?.into_graph()
    }
}

/// What a process needs of a run that it is not a fork of.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) process: usize,
    pub(super) spins: bool,
    pub(super) traced: bool,
    pub(super) memory: Memory,
    pub(super) spill: Option<SpillFile>,
    pub(super) board: Board,
    /// The lanes between processes, of all edges.
    pub(super) rings: Vec<Records>,
    fingerprint: u64,
}

impl Ticket {
    pub(super) fn new(plan: &Plan, process: usize) -> Ticket {
        Ticket {
            process,
            spins: plan.spins,
            traced: plan.traced,
            memory: plan.memory.clone(),
            spill: plan.shared.spill().cloned(),
            board: plan.shared.board().clone(),
            rings: plan.graph.edges.iter().flat_map(|edge| edge.edge.rings()).collect(),
            fingerprint: plan.fingerprint(),
        }
    }

    /// Whether it is of a run of this graph.
    pub(super) fn suits(&self, graph: &Graph, layout: &Layout) -> bool {
        self.fingerprint == fingerprint(graph, layout)
    }
}

/// A number that differs where graphs differ in what their processes have to agree on.
pub(super) fn fingerprint(graph: &Graph, layout: &Layout) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{layout:?}").hash(&mut hasher);
    for node in &graph.nodes {
        (&node.name, node.workers, node.outs.len()).hash(&mut hasher);
    }
    for edge in &graph.edges {
        let options = edge.edge.options();
        (edge.from, edge.to, edge.input, edge.feedback, options.newest).hash(&mut hasher);
    }
    hasher.finish()
}

/// How a process of a run that is no fork of this program makes its graph.
pub(super) trait Travel: Send + Sync {
    /// Starts one, by a fork server or by executing this program anew.
    fn start(
        &self,
        options: Options<Station>,
        server: Option<&ForkServer>,
        ticket: Ticket,
    ) -> crate::Result<MessageProcess<Station>>;
}

struct Again<S, F> {
    state: S,
    make: F,
}

impl<S, F> Travel for Again<S, F>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    F: Fn(S) -> Result<Graph, Cause> + Copy + Send + Sync + 'static,
{
    fn start(
        &self,
        options: Options<Station>,
        server: Option<&ForkServer>,
        ticket: Ticket,
    ) -> crate::Result<MessageProcess<Station>> {
        let (own, make) = (self.state.clone(), self.make);
        let state = move |_: &Start| (own.clone(), ticket.clone());
        let enter = move |(state, ticket): (S, Ticket), _: &Start| -> crate::Result<Station> {
            let graph = make(state).map_err(crate::Error::other)?;
            Station::arrived(graph, ticket)
        };
        match server {
            Some(server) => options.fork_from_with(server, state, enter),
            None => options.spawn_with(state, enter),
        }
    }
}

impl Graph {
    /// Says how processes make it, which are no forks.
    pub(crate) fn travels<S, F>(&mut self, state: S, make: F)
    where
        S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: Fn(S) -> Result<Graph, Cause> + Copy + Send + Sync + 'static,
    {
        let travel: Arc<dyn Travel> = Arc::new(Again { state, make });
        self.travel = Some(Box::new(travel));
    }

    pub(super) fn travel(&self) -> Option<&dyn Travel> {
        self.travel.as_ref()?.downcast_ref::<Arc<dyn Travel>>().map(|travel| &**travel)
    }
}

impl Graph {
    /// A graph that `make` makes of a state, here and again in each process of its run: so these
    /// need not be forks of the program, and may be started while it has threads. The function
    /// captures nothing; what it needs is in the state, which travels by serde, with the
    /// [`Memory`] of blocks, arrays or ends of rings if there are any in it.
    ///
    /// It gives what the function gives: a graph, a graph and something else beside it (as a
    /// [`Feed`](crate::flow::Feed)), or the [`Result`] of either. Each process makes all of the
    /// graph, and runs of it what is placed there; so the function only describes, and opens and
    /// starts nothing. Where it makes another graph in a process than here, the run cannot begin.
    ///
    /// [`Graph::start_method`] says how processes are started. If nothing is said, they are forked
    /// while the program has one thread, and spawned when it has more. Processes that are spawned
    /// execute the program anew: it calls [`init`](crate::init) first in `main`.
    ///
    /// ```no_run
    /// use msgproc::flow::{Error, Graph, Process, Same, each, map};
    ///
    /// fn main() -> Result<(), Error> {
    ///     msgproc::init();
    ///     std::thread::spawn(|| ()); // It may have threads.
    ///     let graph = Graph::travelling(3_u64, |factor| {
    ///         let mut graph = Graph::new();
    ///         let numbers = graph.source("numbers", Same, 0..10_u64);
    ///         let times = graph.node("times", Process, move |_| map(move |n: u64| n * factor)).add();
    ///         let print = graph.node("print", Same, |_| each(|n: u64| println!("{n}"))).add();
    ///         graph.connect(numbers.output(), times.input());
    ///         graph.connect(times.output(), print.input());
    ///         graph
    ///     });
    ///     println!("{}", graph.run()?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A function that captures something does not compile:
    ///
    /// ```compile_fail
    /// use msgproc::flow::Graph;
    ///
    /// let name = String::from("mine");
    /// let graph = Graph::travelling((), |()| Graph::new().named(&name));
    /// ```
    pub fn travelling<S, F, M>(state: S, make: F) -> M
    where
        S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: Fn(S) -> M + Copy + Send + Sync + 'static,
        M: Made,
    {
        let mut made = make(state.clone());
        if let Some(graph) = made.graph_mut() {
            graph.travels(state, move |state| make(state).into_graph());
        }
        made
    }
}
