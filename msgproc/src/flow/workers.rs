//! Workers of a farm or an all-to-all.

use super::{
    edge::{Dealing, Room},
    graph::{Graph, Input, Output, Target},
    node::{Node, WorkerInfo},
    part::{Ends, Part},
    placement::Place,
    worker::OnError,
};

/// Some workers that all do the same: each is a node, or a chain of several nodes of its own.
///
/// `L` is what the last node of a chain takes.
///
/// ```
/// use msgproc::flow::{Farm, Part, Process, Thread, Workers, map};
///
/// let workers = Workers::new("parse", Thread, |_| map(|text: &str| text.len() as u64))
///     .next("square", Process, |_| map(|len: u64| len * len))
///     .count(2);
/// let squares = Farm::of(workers).ordered().run_collect(["a", "bcd", "ef"])?;
/// assert_eq!(squares, [1, 9, 4]);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub struct Workers<I, O, L = I> {
    add: Box<Add<I, O, L>>,
    last: Tuning<L>,
    pub(crate) crew: Crew,
}

type Add<I, O, L> = dyn FnOnce(&mut Graph, Crew, Tuning<L>) -> (Input<I>, Output<O>);

/// What is said of all nodes of the workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    pub(crate) count: usize,
    pub(crate) ordered: bool,
    pub(crate) room: Room,
}

/// What is said of one node.
struct Tuning<L> {
    on_error: OnError,
    clone: Option<fn(&L) -> L>,
    cpus: Vec<usize>,
}

impl<L> Default for Tuning<L> {
    fn default() -> Tuning<L> {
        Tuning { on_error: OnError::default(), clone: None, cpus: Vec::new() }
    }
}

/// Adds one node.
fn put<N, P, F>(
    graph: &mut Graph,
    (name, place, make): (&str, P, F),
    crew: Crew,
    tuning: Tuning<N::In>,
) -> (Input<N::In>, Output<N::Out>)
where
    N: Node,
    N::In: Send + 'static,
    N::Out: Send + 'static,
    P: Place<N::In> + Place<N::Out>,
    F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
{
    let Tuning { on_error, clone, cpus } = tuning;
    let node = graph.node(name, place, make).workers(crew.count).ordered(crew.ordered);
    let node = node.on_error_with(on_error, clone).cpus(cpus).add();
    (node.input(), node.output())
}

impl<I: Send + 'static, O: Send + 'static> Workers<I, O> {
    /// One worker; [`Workers::count`] says how many.
    pub fn new<N, P, F>(name: &str, place: P, make: F) -> Workers<I, O>
    where
        N: Node<In = I, Out = O>,
        P: Place<I> + Place<O> + Send + 'static,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        let name = name.to_owned();
        let add =
            move |graph: &mut Graph, crew, tuning| put(graph, (&name, place, make), crew, tuning);
        let crew = Crew { count: 1, ordered: false, room: Room::default() };
        Workers { add: Box::new(add), last: Tuning::default(), crew }
    }
}

impl<I: Send + 'static, O: Send + 'static, L: 'static> Workers<I, O, L> {
    /// Adds a node to the chain of each worker.
    pub fn next<N, P, F>(self, name: &str, place: P, make: F) -> Workers<I, N::Out, O>
    where
        N: Node<In = O>,
        N::Out: Send + 'static,
        P: Place<O> + Place<N::Out> + Send + 'static,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        let Workers { add, last, crew } = self;
        let name = name.to_owned();
        let add = move |graph: &mut Graph, crew: Crew, tuning| {
            let (input, output) = add(graph, crew, last);
            let (to, next) = put(graph, (&name, place, make), crew, tuning);
            let mut target = Target::from(to);
            target.dealing = Dealing::Straight;
            target.options.set(crew.room);
            graph.lead(output, target);
            (input, next)
        };
        Workers { add: Box::new(add), last: Tuning::default(), crew }
    }

    /// How many workers there are.
    pub fn count(mut self, workers: usize) -> Self {
        self.crew.count = workers;
        self
    }

    /// How many items may wait for each of them; 1024 if nothing is said.
    pub fn capacity(mut self, items: usize) -> Self {
        self.crew.room.items = Some(items);
        self
    }

    /// How many bytes may wait for each of them, as
    /// [`EdgeBuilder::capacity_bytes`](super::EdgeBuilder::capacity_bytes) says.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.crew.room.bytes = Some(bytes);
        self
    }

    /// What becomes of an item over which the last node of their chain fails so far.
    pub fn on_error(mut self, on_error: OnError) -> Self
    where
        L: Clone,
    {
        self.last.on_error = on_error;
        self.last.clone = (on_error.retries() > 0).then_some(L::clone);
        self
    }

    /// Leaves out, and counts, items over which that node fails. They need not be cloned for this.
    pub fn skip_errors(mut self) -> Self {
        self.last.on_error = OnError::skip();
        self
    }

    /// Which processors the workers of that node may use; all if nothing is said. As
    /// [`NodeBuilder::cpus`](super::NodeBuilder::cpus).
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.last.cpus = cpus.into_iter().collect();
        self
    }
}

impl<I: Send + 'static, O: Send + 'static, L: 'static> Part for Workers<I, O, L> {
    type In = I;
    type Out = O;

    fn add_to(self, graph: &mut Graph) -> Ends<I, O> {
        let room = self.crew.room;
        let (input, output) = (self.add)(graph, self.crew, self.last);
        let mut ends = Ends::new(input, output);
        ends.entry.options.set(room);
        ends
    }
}
