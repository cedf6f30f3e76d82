//! The description of work: nodes, and edges between them. All builders make one of these.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    circle::{Circle, Entrance},
    edge::{
        AnyEdge, Branched, Callees, Dealing, Edge, EdgeOptions, Exits, OutState, Output as WaysOut,
        Turn, Turned, Way, Wire,
    },
    error::{Death, Error, Failure, FailureKind, Result},
    memory::Memory,
    node::{Cause, Node, WorkerInfo, source},
    outlet::Outlet,
    outside::Door,
    placement::{Place, Placement, Thread},
    plan::{Executor, Unit},
    worker::{Accept, CloneFn, Failures, OnError, Setting, Worker},
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
    pub(crate) nodes: Vec<NodeEntry>,
    pub(crate) edges: Vec<EdgeEntry>,
    pub(crate) memory: Option<Memory>,
    pub(crate) name: String,
    /// Where items come in from outside, and results leave.
    pub(crate) doors: Vec<Arc<dyn Door>>,
    /// Whether the thread that runs it watches its processes too.
    pub(crate) watches_itself: bool,
    pub(crate) on_death: Option<Box<OnDeath>>,
    /// Where to write who was busy when.
    pub(crate) trace: Option<PathBuf>,
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
    pub(crate) is_source: bool,
    /// Whether it ends by itself when the run drains, after what it was given.
    pub(crate) is_fed: bool,
    pub(crate) make: Arc<Make>,
    /// Its ways out, each an [`OutMaker`] of its type of items.
    pub(crate) outs: Vec<OutEntry>,
}

/// Makes a worker where it runs.
type Make = dyn Fn(&mut Site<'_>, usize) -> Made + Send + Sync;

type Made = Result<Rc<RefCell<dyn Unit>>, Box<Failure>>;

/// One way out of a node.
pub(crate) struct OutEntry {
    pub(crate) output: usize,
    maker: Arc<dyn Any + Send + Sync>,
    /// How items are cloned, a `fn(&T) -> T`, where that was asked for.
    clone: Option<Arc<dyn Any + Send + Sync>>,
}

type MakeWay<T> =
    dyn Fn(&Site<'_>, usize, OutState) -> Result<Box<dyn Way<T>>, String> + Send + Sync;

struct OutMaker<T>(Box<MakeWay<T>>);

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

/// Where a worker is made.
pub(crate) struct Site<'a> {
    pub(crate) nodes: &'a [NodeEntry],
    pub(crate) edges: &'a [EdgeEntry],
    pub(crate) node: usize,
    /// The number of the node's first worker among those of the run.
    pub(crate) first_worker: usize,
    /// The number of the first way out of this worker among those of the run.
    pub(crate) first_out: usize,
    /// Whether messages that leave keep the numbers of those that came.
    pub(crate) inherits: bool,
    /// Whether its process is replaced when it dies.
    pub(crate) survives: bool,
    pub(crate) restarts: u32,
    /// The circle that it is in.
    pub(crate) circle: Option<usize>,
    /// Where it stands among the units of its executor.
    pub(crate) rank: usize,
    pub(crate) executor: &'a Rc<Executor>,
    pub(crate) failures: &'a Failures,
    pub(crate) callees: &'a mut Callees,
}

/// A node in a graph.
pub struct NodeRef<I, O> {
    node: usize,
    wire_in: Option<Wire<I>>,
    wire_out: Option<Wire<O>>,
}

impl<I, O> Clone for NodeRef<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> Copy for NodeRef<I, O> {}

/// An input of a node: where an edge ends.
pub struct Input<T> {
    node: usize,
    input: usize,
    wire: Option<Wire<T>>,
}

/// An output of a node: where an edge begins.
pub struct Output<T> {
    node: usize,
    output: usize,
    wire: Option<Wire<T>>,
    clone: Option<fn(&T) -> T>,
}

impl NodeEntry {
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

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Input<T> {}

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Output<T> {}

impl<T: Clone> Output<T> {
    /// The same output for one of several edges: each gets a clone of every item.
    pub fn cloned(self) -> Output<T> {
        Output { clone: Some(T::clone), ..self }
    }
}

impl<I, O> NodeRef<I, O> {
    /// Its input, if it has one.
    pub fn input(&self) -> Input<I> {
        self.input_at(0)
    }

    /// One of several inputs: the node is told the number by
    /// [`svc_on`](super::Node::svc_on).
    pub fn input_at(&self, input: usize) -> Input<I> {
        Input { node: self.node, input, wire: self.wire_in }
    }

    /// Its output, if it has one.
    pub fn output(&self) -> Output<O> {
        self.output_at(0)
    }

    /// One of several outputs: the node names it by [`Outlet::send_on`].
    pub fn output_at(&self, output: usize) -> Output<O> {
        Output { node: self.node, output, wire: self.wire_out, clone: None }
    }
}

/// A node that is being described; [`NodeBuilder::add`] puts it into the graph.
#[must_use = "a node is part of the graph when it has been added"]
pub struct NodeBuilder<'a, I, O> {
    graph: &'a mut Graph,
    entry: NodeEntry,
    clone: Arc<Mutex<Option<CloneFn<I>>>>,
    node: NodeRef<I, O>,
}

impl<I, O> NodeBuilder<'_, I, O> {
    /// How many workers it has; 1 if nothing is said. Each has a node of its own.
    pub fn workers(mut self, count: usize) -> Self {
        self.entry.workers = count;
        self
    }

    /// Where each of its workers is: as many as there are places.
    pub fn places(mut self, places: impl IntoIterator<Item = Placement>) -> Self {
        self.entry.places = places.into_iter().collect();
        self.entry.workers = self.entry.places.len();
        self
    }

    /// Whether its workers keep the order of the items: what comes of an item goes on before what
    /// comes of the next. Workers then get their items in turn.
    pub fn ordered(mut self, yes: bool) -> Self {
        self.entry.ordered = yes;
        self
    }

    /// What becomes of an item over which it fails.
    pub fn on_error(mut self, on_error: OnError) -> Self
    where
        I: Clone,
    {
        self.entry.on_error = on_error;
        if on_error.retries() > 0 {
            *lock(&self.clone) = Some(I::clone);
        }
        self
    }

    /// The same, where it is known only here whether items can be cloned.
    pub(crate) fn on_error_with(mut self, on_error: OnError, clone: Option<fn(&I) -> I>) -> Self {
        self.entry.on_error = on_error;
        *lock(&self.clone) = clone;
        self
    }

    /// Leaves out, and counts, items over which it fails. Items need not be cloned for this.
    pub fn skip_errors(mut self) -> Self {
        self.entry.on_error = OnError::skip();
        self
    }

    /// Which processors its processes may use; all if nothing is said.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.entry.cpus = cpus.into_iter().collect();
        self
    }

    /// Puts it into the graph.
    pub fn add(self) -> NodeRef<I, O> {
        let NodeBuilder { graph, entry, mut node, .. } = self;
        node.node = graph.nodes.len();
        if entry.workers == 0 {
            graph.is_wrong(format!("node {:?} has no workers", entry.name));
        }
        if graph.nodes.iter().any(|other| other.name == entry.name) {
            graph.is_wrong(format!("two nodes have the name {:?}", entry.name));
        }
        graph.nodes.push(entry);
        node
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An edge that is being described; [`EdgeBuilder::add`] puts it into the graph.
#[must_use = "an edge is part of the graph when it has been added"]
pub struct EdgeBuilder<'a, T, U> {
    graph: &'a mut Graph,
    from: Output<T>,
    to: Input<U>,
    turn: Turning<T, U>,
    options: EdgeOptions,
    dealing: Dealing<U>,
    feedback: Option<u64>,
}

/// How items get from the type of an output to that of an input.
enum Turning<T, U> {
    Same,
    Turned(Arc<Turn<T, U>>),
}

impl<T: 'static, U: Send + 'static> EdgeBuilder<'_, T, U> {
    /// How many items may lie in each of its lanes; 1024 if nothing is said.
    pub fn capacity(mut self, items: usize) -> Self {
        self.options.capacity = items.max(1);
        self
    }

    /// How many bytes each of its lanes between processes has; 128 KiB if nothing is said. An item
    /// of more than half of that goes in pieces.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.options.bytes = bytes;
        self
    }

    /// Only the newest item matters, as for a view: it never holds its sender back, and an item
    /// that was not taken before the next one came is dropped, and counted.
    pub fn newest(mut self) -> Self {
        self.options.newest = true;
        self
    }

    /// Gives items to the workers that follow one after the other, and not to whoever has the least
    /// to do.
    pub fn round_robin(mut self) -> Self {
        self.dealing = Dealing::RoundRobin;
        self
    }

    /// Gives a clone of each item to each of the workers that follow.
    pub fn to_all(mut self) -> Self
    where
        U: Clone,
    {
        self.dealing = Dealing::All(U::clone);
        self
    }

    /// Each worker sends to the one with its own number among those that follow, modulo theirs: so
    /// several nodes with as many workers are as many chains.
    pub fn straight(mut self) -> Self {
        self.dealing = Dealing::Straight;
        self
    }

    /// Leads back to a node further up, in a circle. While `credits` items or more are on their way
    /// in the circle, nothing new comes into it; its first node's input ends when all that leads
    /// there from outside has ended and nothing is on its way in the circle any more.
    ///
    /// What a node in a circle keeps to itself, rather than send it on before it returns, is not on
    /// its way. When such a node ends early, what is on its way to it is lost, and nobody waits for
    /// it. A process in a circle is not replaced when it dies: the run fails.
    pub fn feedback(mut self, credits: usize) -> Self {
        self.feedback = Some(credits.max(1) as u64);
        self
    }

    /// Says which worker gets an item: the number, modulo that of the workers.
    pub fn by(mut self, choose: impl Fn(&U) -> usize + Send + Sync + 'static) -> Self {
        self.dealing = Dealing::By(Arc::new(choose));
        self
    }

    /// Puts it into the graph.
    pub fn add(self) {
        let EdgeBuilder { graph, from, to, turn, options, dealing, feedback } = self;
        let is_turned = matches!(turn, Turning::Turned(_));
        let wire = if is_turned { to.wire } else { to.wire.or_else(|| same_wire(from.wire)) };
        let edge = graph.put_edge(&from, &to, wire, (dealing, options, feedback));
        let make_way = move |site: &Site<'_>, sender: usize, state: OutState| {
            let lanes = edge.lanes(site.executor, site.callees, sender, state)?;
            let way: Box<dyn Way<T>> = match &turn {
                Turning::Turned(turn) => Box::new(Turned::new(turn.clone(), lanes)),
                Turning::Same => {
                    let lanes: Box<dyn Any> = Box::new(Some(Box::new(lanes)));
                    take_lanes::<T>(lanes).ok_or("an edge has another type than its output")?
                }
            };
            Ok(way)
        };
        graph.put_way(&from, make_way);
    }
}

/// Where an edge leads, and how its items get there.
pub(crate) struct Target<T> {
    pub(crate) to: Input<T>,
    /// How they travel, if the input does not say.
    pub(crate) wire: Option<Wire<T>>,
    pub(crate) dealing: Dealing<T>,
    pub(crate) options: EdgeOptions,
    pub(crate) feedback: Option<u64>,
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Target<T> {
        Target { dealing: self.dealing.clone(), ..*self }
    }
}

impl Graph {
    fn put_edge<T, U: Send + 'static>(
        &mut self,
        from: &Output<T>,
        to: &Input<U>,
        wire: Option<Wire<U>>,
        (dealing, options, feedback): (Dealing<U>, EdgeOptions, Option<u64>),
    ) -> Arc<Edge<U>> {
        let chooses = !matches!(dealing, Dealing::OnDemand | Dealing::Straight) || options.newest;
        let edge = Arc::new(Edge::<U>::new(wire, dealing, options));
        if from.node >= self.nodes.len() || to.node >= self.nodes.len() {
            self.is_wrong("an edge connects nodes of another graph".into());
            return edge;
        }
        self.edges.push(EdgeEntry {
            from: from.node,
            to: to.node,
            input: to.input,
            edge: edge.clone(),
            chooses,
            feedback,
        });
        edge
    }

    fn put_way<T: 'static>(
        &mut self,
        from: &Output<T>,
        make_way: impl Fn(&Site<'_>, usize, OutState) -> Result<Box<dyn Way<T>>, String>
        + Send
        + Sync
        + 'static,
    ) {
        let maker: Arc<dyn Any + Send + Sync> = Arc::new(OutMaker::<T>(Box::new(make_way)));
        let clone = from.clone.map(|clone| Arc::new(clone) as Arc<dyn Any + Send + Sync>);
        if let Some(node) = self.nodes.get_mut(from.node) {
            node.outs.push(OutEntry { output: from.output, maker, clone });
        }
    }

    /// An edge to a target.
    pub(crate) fn lead<T: Send + 'static>(&mut self, from: Output<T>, target: Target<T>) {
        let Target { to, wire, dealing, options, feedback } = target;
        let to = Input { wire: to.wire.or(wire), ..to };
        EdgeBuilder { graph: self, from, to, turn: Turning::Same, options, dealing, feedback }
            .add();
    }

    /// Two edges from one output: `choose` says which an item goes, and as what. Without a second
    /// one, items for it are dropped.
    pub(crate) fn branch<T, A, B>(
        &mut self,
        from: &Output<T>,
        choose: fn(T) -> std::result::Result<A, B>,
        first: Target<A>,
        second: Option<Target<B>>,
    ) where
        T: Send + 'static,
        A: Send + 'static,
        B: Send + 'static,
    {
        let first = self.put_target(from, first);
        let second = second.map(|second| self.put_target(from, second));
        self.put_way(from, move |site, sender, state| {
            let first = first.lanes(site.executor, site.callees, sender, state)?;
            let second = match &second {
                Some(edge) => Some(edge.lanes(site.executor, site.callees, sender, state)?),
                None => None,
            };
            Ok(Box::new(Branched::new(choose, first, second)))
        });
    }

    fn put_target<T, U: Send + 'static>(
        &mut self,
        from: &Output<T>,
        target: Target<U>,
    ) -> Arc<Edge<U>> {
        let Target { to, wire, dealing, options, feedback } = target;
        self.put_edge(from, &to, to.wire.or(wire), (dealing, options, feedback))
    }
}

/// A wire of the same type under another name: the compiler does not know that they are the same.
fn same_wire<T: 'static, U: 'static>(wire: Option<Wire<T>>) -> Option<Wire<U>> {
    let wire: Box<dyn Any> = Box::new(wire);
    wire.downcast::<Option<Wire<U>>>().ok().and_then(|wire| *wire)
}

/// The same for the ends of lanes.
fn take_lanes<T: 'static>(mut lanes: Box<dyn Any>) -> Option<Box<dyn Way<T>>> {
    let lanes = lanes.downcast_mut::<Option<Box<super::edge::Lanes<T>>>>()?;
    lanes.take().map(|lanes| lanes as Box<dyn Way<T>>)
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

    /// Lets [`Graph::run`] watch over the processes in the thread that calls it, so that the run
    /// has no other: for a program that is to have one thread only. Processes that died are noticed
    /// when no node of that thread is at work, and replaced by forks of the program itself.
    pub fn watch_in_run(&mut self) {
        self.watches_itself = true;
    }

    /// Has this called for each process that dies while it is at work and that could be replaced,
    /// in the thread that watches over the processes. It answers whether to replace the process: if
    /// not, it is not missed either, and what it had stays where it is. An error fails the run.
    pub fn on_death<F>(&mut self, told: F)
    where
        F: Fn(&Death) -> std::result::Result<bool, Cause> + Send + Sync + 'static,
    {
        self.on_death = Some(Box::new(told));
    }

    /// Writes into this file, at the end of the run, which worker was busy, waited for items or
    /// waited for room, and when: for <https://ui.perfetto.dev> or `chrome://tracing`. What a process
    /// noted that was killed is not there.
    pub fn trace_to(&mut self, file: impl Into<PathBuf>) {
        self.trace = Some(file.into());
    }

    pub(crate) fn is_wrong(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// Begins to describe a node. `make` makes it, where it runs, once for each of its workers.
    pub fn node<N, P, F>(&mut self, name: &str, place: P, make: F) -> NodeBuilder<'_, N::In, N::Out>
    where
        N: Node,
        N::In: Send + 'static,
        N::Out: Send + 'static,
        P: Place<N::In> + Place<N::Out>,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        let clone = Arc::new(Mutex::new(None));
        let (wire_in, wire_out) = (Place::<N::In>::wire(place), Place::<N::Out>::wire(place));
        let cloning = clone.clone();
        let make = move |site: &mut Site<'_>, index: usize| {
            let clone = *lock(&cloning);
            make_worker(site, index, clone, &make)
        };
        let is_source = std::any::TypeId::of::<N::In>() == std::any::TypeId::of::<()>();
        NodeBuilder {
            entry: NodeEntry {
                name: name.into(),
                placement: Place::<N::In>::placement(place),
                places: Vec::new(),
                workers: 1,
                ordered: false,
                on_error: OnError::default(),
                cpus: Vec::new(),
                is_source,
                is_fed: false,
                make: Arc::new(make),
                outs: Vec::new(),
            },
            graph: self,
            clone,
            node: NodeRef { node: 0, wire_in, wire_out },
        }
    }

    /// Adds a source: a node that sends what an iterator gives.
    pub fn source<I, P>(&mut self, name: &str, place: P, items: I) -> NodeRef<(), I::Item>
    where
        I: IntoIterator + Send + 'static,
        I::IntoIter: 'static,
        I::Item: Send + 'static,
        P: Place<I::Item> + Place<()>,
    {
        // It is taken where the source runs: in a process, out of that one's copy.
        let items = Mutex::new(Some(items));
        let make = move |_: &WorkerInfo| {
            let items = lock(&items).take();
            source(items.into_iter().flatten())
        };
        self.node(name, place, make).add()
    }

    /// Adds a source in a thread of this program, whose items travel as the place says of those who
    /// take them.
    pub(crate) fn node_with_wire<N, P, F>(
        &mut self,
        name: &str,
        place: P,
        make: F,
    ) -> NodeRef<(), N::Out>
    where
        N: Node<In = ()>,
        N::Out: Send + 'static,
        P: Place<N::Out>,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        let mut node = self.node(name, Thread, make);
        node.entry.is_fed = true;
        let mut node = node.add();
        node.wire_out = place.wire();
        node
    }

    /// Shuts all doors: the run ends.
    pub(crate) fn shut(&self) {
        self.doors.iter().for_each(|door| door.shut());
    }

    /// Lets nothing more in.
    pub(crate) fn drain(&self) {
        self.doors.iter().for_each(|door| door.drain());
    }

    /// Connects two nodes by an edge as it is if nothing is said.
    pub fn connect<T: Send + 'static>(&mut self, from: Output<T>, to: Input<T>) {
        self.edge(from, to).add();
    }

    /// Begins to describe an edge.
    pub fn edge<T: Send + 'static>(
        &mut self,
        from: Output<T>,
        to: Input<T>,
    ) -> EdgeBuilder<'_, T, T> {
        EdgeBuilder {
            graph: self,
            from,
            to,
            turn: Turning::Same,
            options: EdgeOptions::default(),
            dealing: Dealing::OnDemand,
            feedback: None,
        }
    }

    /// Begins to describe an edge that makes items of another type of some of those that are sent:
    /// of those for which the function gives one. So one node has outputs of several types, or
    /// inputs.
    pub fn edge_with<T: Send + 'static, U: Send + 'static>(
        &mut self,
        from: Output<T>,
        to: Input<U>,
        turn: impl Fn(T) -> Option<U> + Send + Sync + 'static,
    ) -> EdgeBuilder<'_, T, U> {
        EdgeBuilder {
            graph: self,
            from,
            to,
            turn: Turning::Turned(Arc::new(turn)),
            options: EdgeOptions::default(),
            dealing: Dealing::OnDemand,
            feedback: None,
        }
    }
}

/// Makes a worker, with the ends of all its lanes.
fn make_worker<N, F>(
    site: &mut Site<'_>,
    index: usize,
    clone: Option<CloneFn<N::In>>,
    make: &F,
) -> Made
where
    N: Node,
    N::In: Send + 'static,
    N::Out: Send + 'static,
    F: Fn(&WorkerInfo) -> N,
{
    let entry = &site.nodes[site.node];
    let info = WorkerInfo {
        node: entry.name.clone(),
        index,
        workers: entry.workers,
        restarts: site.restarts,
    };
    let transport = |reason: String| {
        Box::new(Failure::new(&entry.name, index, None, FailureKind::Transport, reason.into()))
    };
    let (mut inlets, mut inputs, mut inward) = (Vec::new(), Vec::new(), Vec::new());
    let mut returning = Vec::new();
    for (number, edge) in site.edges.iter().enumerate().filter(|(_, edge)| edge.to == site.node) {
        let typed = edge.edge.as_any().downcast_ref::<Edge<N::In>>();
        let typed = typed.ok_or_else(|| transport("an edge has another type".into()))?;
        let mut inlet = typed.inlet(site.executor, index).map_err(transport)?;
        if site.restarts > 0 {
            inlet.go_on(site.executor).map_err(transport)?;
        }
        if edge.feedback.is_some() {
            returning.push((edge.input, inlet));
            continue;
        }
        inlets.push(inlet);
        inputs.push(edge.input);
        inward.push(number);
    }
    let words = site.executor.shared.worker(site.first_worker + index);
    let outputs = entry.outs.iter().map(|out| out.output + 1).max().unwrap_or(0);
    let mut ways: Vec<WaysOut<N::Out>> = Vec::new();
    ways.resize_with(outputs, || WaysOut { ways: Vec::new(), clone: None });
    for (number, out) in entry.outs.iter().enumerate() {
        let state = OutState {
            words: site.executor.shared.out(site.first_out + number),
            survives: site.survives,
            worker: words,
            inherits: site.inherits,
            from_the_first: entry.is_source && site.restarts > 0,
        };
        let maker = out.maker.downcast_ref::<OutMaker<N::Out>>();
        let maker = maker.ok_or_else(|| transport("an edge has another type".into()))?;
        let clone = out.clone.as_ref().and_then(|clone| clone.downcast_ref());
        let output = &mut ways[out.output];
        output.ways.push((maker.0)(site, index, state).map_err(transport)?);
        output.clone = output.clone.or(clone.copied());
    }
    let made = catch_unwind(AssertUnwindSafe(|| make(&info)));
    let node = made
        .map_err(|panic| Failure::panicked(&entry.name, index, None, FailureKind::Init, &*panic))
        .map_err(Box::new)?;
    let setting = Setting {
        info,
        number: site.first_worker + index,
        on_error: entry.on_error,
        clone,
        survives: site.survives,
        rank: site.rank,
        numbered: site.inherits,
        is_fed: entry.is_fed,
        circle: site.circle.map(|circle| Circle::new(&site.executor.shared, circle)),
    };
    let entrance = match &setting.circle {
        Some(circle) if !returning.is_empty() => {
            let (entrance, returns) = Entrance::new(site.executor, circle.clone(), returning);
            site.executor.add(0, Rc::new(RefCell::new(returns)));
            Some(entrance)
        }
        _ => None,
    };
    let mut worker = Worker::new(
        site.executor,
        node,
        Outlet::new(Exits::new(ways), site.executor),
        (inlets, inputs),
        entrance,
        setting,
        site.failures,
    );
    worker.init()?;
    let worker = Rc::new(RefCell::new(worker));
    for edge in inward {
        let target: Rc<RefCell<dyn Accept<N::In>>> = worker.clone();
        site.callees.add(edge, index, target);
    }
    Ok(worker)
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
