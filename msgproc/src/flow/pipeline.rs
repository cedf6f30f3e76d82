//! Pipelines: stages one behind the other.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "tokio")]
use super::placement::Task;
use super::{
    accelerator::Accelerator,
    engine::Running,
    error::Result,
    graph::Graph,
    memory::Memory,
    node::{Cause, Flow, Fused, Node, WorkerInfo, fuse},
    outlet::Outlet,
    outside::{Feed, Results},
    part::{Exit, Part},
    placement::{Place, Placement, PlainProcess, Process, Same, Thread},
    report::Report,
    source::Source,
};

/// Stages one behind the other; farms and all-to-alls among them.
///
/// Neighbours that are both placed [`Same`] become one node, with the names of both: from one to the
/// other is a call that the compiler sees through. A source is placed so by [`Pipeline::from`].
///
/// ```
/// use msgproc::flow::{Farm, Pipeline, Process, Same, Thread, filter, map};
///
/// let words = ["a", "bb", "ccc", "dddd"].map(String::from);
/// let lengths = Pipeline::from(words)
///     .stage("long", Thread, |_| filter(|word: &String| word.len() > 1))
///     .part(Farm::new("len", Process, |_| map(|word: String| word.len())).workers(2).ordered())
///     .stage("half", Same, |_| map(|len: usize| len as f64 / 2.0))
///     .run_collect()?;
/// assert_eq!(lengths, [1.0, 1.5, 2.0]);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
///
/// Items of a wrong type do not compile:
///
/// ```compile_fail
/// use msgproc::flow::{Pipeline, Same, map};
/// Pipeline::from(0..5_u64).stage("len", Same, |_| map(|text: String| text.len())).run();
/// ```
#[must_use = "a pipeline does nothing until it is run"]
pub struct Pipeline<S, F = ()> {
    graph: Graph,
    tail: S,
    feed: F,
    capacity: usize,
}

/// A stage that is not in the graph yet, because the next one may become one node with it.
pub struct Pending<P, F: MakeNode> {
    name: String,
    place: P,
    make: F,
    /// What leads to it; nothing does to a source.
    from: Option<Exit<<F::Node as Node>::In>>,
}

/// A part whose nodes are in the graph.
pub struct Added<T>(Exit<T>);

/// What makes a node: a closure, or two of them for one node of two.
pub trait MakeNode: Send + Sync + 'static {
    /// What it makes.
    type Node: Node;

    /// Makes it.
    fn make(&self, worker: &WorkerInfo) -> Self::Node;
}

impl<N: Node, F: Fn(&WorkerInfo) -> N + Send + Sync + 'static> MakeNode for F {
    type Node = N;

    fn make(&self, worker: &WorkerInfo) -> N {
        self(worker)
    }
}

/// Makes one node of two. From [`Pipeline::stage`].
pub struct Both<A, B>(A, B);

impl<A, B> MakeNode for Both<A, B>
where
    A: MakeNode,
    B: MakeNode,
    B::Node: Node<In = <A::Node as Node>::Out>,
    <A::Node as Node>::Out: 'static,
{
    type Node = Fused<A::Node, B::Node>;

    fn make(&self, worker: &WorkerInfo) -> Self::Node {
        fuse(self.0.make(worker), self.1.make(worker))
    }
}

/// Makes a source of an iterator, once.
pub struct MakeSource<I>(Mutex<Option<I>>);

impl<I> MakeNode for MakeSource<I>
where
    I: IntoIterator + Send + 'static,
    I::IntoIter: 'static,
    I::Item: Send + 'static,
{
    type Node = Source<I>;

    fn make(&self, _: &WorkerInfo) -> Self::Node {
        Source::of(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

/// What a pipeline ends with so far.
pub trait Tail {
    /// What that sends.
    type Out: Send + 'static;

    /// Adds it to the graph, if it is not there yet.
    #[doc(hidden)]
    fn add_to(self, graph: &mut Graph) -> Added<Self::Out>;
}

impl<T: Send + 'static> Tail for Added<T> {
    type Out = T;

    fn add_to(self, _: &mut Graph) -> Added<T> {
        self
    }
}

impl<P, F> Tail for Pending<P, F>
where
    F: MakeNode,
    <F::Node as Node>::In: Send + 'static,
    <F::Node as Node>::Out: Send + 'static,
    P: Place<<F::Node as Node>::In> + Place<<F::Node as Node>::Out>,
{
    type Out = <F::Node as Node>::Out;

    fn add_to(self, graph: &mut Graph) -> Added<Self::Out> {
        let Pending { name, place, make, from } = self;
        let node = graph.node(&name, place, move |worker: &WorkerInfo| make.make(worker)).add();
        if let Some(from) = from {
            from.lead(graph, Some(node.input().into()));
        }
        Added(Exit::Output(node.output()))
    }
}

/// How a stage follows what is there: as a node of its own, or as one with the last one.
pub trait Then<P, F> {
    /// What the pipeline ends with then.
    type Next;

    #[doc(hidden)]
    fn then(self, graph: &mut Graph, name: &str, place: P, make: F) -> Self::Next;
}

impl<A, B> Then<Same, B> for Pending<Same, A>
where
    A: MakeNode,
    B: MakeNode,
    B::Node: Node<In = <A::Node as Node>::Out>,
    <A::Node as Node>::Out: 'static,
{
    type Next = Pending<Same, Both<A, B>>;

    fn then(self, _: &mut Graph, name: &str, place: Same, make: B) -> Self::Next {
        let name = format!("{}+{name}", self.name);
        Pending { name, place, make: Both(self.make, make), from: self.from }
    }
}

/// The stage behind another one, as a node of its own.
fn follow<S: Tail, P, F>(tail: S, graph: &mut Graph, name: &str, place: P, make: F) -> Pending<P, F>
where
    F: MakeNode,
    F::Node: Node<In = S::Out>,
{
    let Added(exit) = tail.add_to(graph);
    Pending { name: name.into(), place, make, from: Some(exit) }
}

impl<T, P, F> Then<P, F> for Added<T>
where
    T: Send + 'static,
    F: MakeNode,
    F::Node: Node<In = T>,
{
    type Next = Pending<P, F>;

    fn then(self, graph: &mut Graph, name: &str, place: P, make: F) -> Pending<P, F> {
        follow(self, graph, name, place, make)
    }
}

macro_rules! nodes_of_their_own {
    ($($before:ty => $place:ty),* $(,)?) => {$(
        impl<A, F> Then<$place, F> for Pending<$before, A>
        where
            A: MakeNode,
            Pending<$before, A>: Tail,
            F: MakeNode,
            F::Node: Node<In = <Pending<$before, A> as Tail>::Out>,
        {
            type Next = Pending<$place, F>;

            fn then(self, graph: &mut Graph, name: &str, place: $place, make: F) -> Self::Next {
                follow(self, graph, name, place, make)
            }
        }
    )*};
}

nodes_of_their_own! {
    Same => Thread, Same => Process, Same => PlainProcess, Same => Placement,
    Thread => Same, Thread => Thread, Thread => Process, Thread => PlainProcess, Thread => Placement,
    Process => Same, Process => Thread, Process => Process, Process => PlainProcess, Process => Placement,
    PlainProcess => Same, PlainProcess => Thread, PlainProcess => Process, PlainProcess => PlainProcess, PlainProcess => Placement,
    Placement => Same, Placement => Thread, Placement => Process, Placement => PlainProcess, Placement => Placement,
}

#[cfg(feature = "tokio")]
nodes_of_their_own! {
    Same => Task, Thread => Task, Task => Task, Process => Task, PlainProcess => Task, Placement => Task,
    Task => Same, Task => Thread, Task => Process, Task => PlainProcess, Task => Placement,
}

/// How many results may wait to be taken, if nothing is said.
const CAPACITY: usize = 1024;

impl Pipeline<()> {
    /// Begins with what an iterator gives, placed [`Same`].
    pub fn from<I>(items: I) -> Pipeline<Pending<Same, MakeSource<I>>>
    where
        I: IntoIterator + Send + 'static,
        I::IntoIter: 'static,
        I::Item: Send + 'static,
    {
        Pipeline::source("source", Same, items)
    }

    /// Begins with what an iterator gives, at this place.
    pub fn source<I, P>(name: &str, place: P, items: I) -> Pipeline<Pending<P, MakeSource<I>>>
    where
        I: IntoIterator + Send + 'static,
        I::IntoIter: 'static,
        I::Item: Send + 'static,
    {
        let make = MakeSource(Mutex::new(Some(items)));
        let tail = Pending { name: name.into(), place, make, from: None };
        Pipeline { graph: Graph::new(), tail, feed: (), capacity: CAPACITY }
    }

    /// Begins with what is given while it runs: at most `capacity` items wait, and as many results.
    /// `place` is that of the stage that takes the items, and says how they travel.
    pub fn feed<T, P>(place: P, capacity: usize) -> Pipeline<Added<T>, Feed<T>>
    where
        T: Send + 'static,
        P: Place<T>,
    {
        let mut graph = Graph::new();
        let (feed, node) = graph.feed("feed", place, capacity);
        Pipeline { graph, tail: Added(Exit::Output(node.output())), feed, capacity }
    }
}

impl<S, F> Pipeline<S, F> {
    /// What its processes and threads are called after.
    pub fn named(mut self, name: &str) -> Self {
        self.graph = self.graph.named(name);
        self
    }

    /// The memory in which its lanes between processes are made: where items have blocks in them,
    /// that of their pool.
    pub fn memory(mut self, memory: &Memory) -> Self {
        self.graph.set_memory(memory);
        self
    }

    /// Adds a stage: a node with one worker. `make` makes it where it runs.
    pub fn stage<N, P, M>(mut self, name: &str, place: P, make: M) -> Pipeline<S::Next, F>
    where
        N: Node,
        M: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
        S: Then<P, M>,
    {
        let tail = self.tail.then(&mut self.graph, name, place, make);
        Pipeline { graph: self.graph, tail, feed: self.feed, capacity: self.capacity }
    }
}

impl<S: Tail, F> Pipeline<S, F> {
    /// Adds a part: a [`Farm`](super::Farm), an [`AllToAll`](super::AllToAll), or any other.
    pub fn part<B: Part<In = S::Out>>(mut self, part: B) -> Pipeline<Added<B::Out>, F> {
        let Added(exit) = self.tail.add_to(&mut self.graph);
        let ends = part.add_to(&mut self.graph);
        exit.lead(&mut self.graph, Some(ends.entry));
        let tail = Added(ends.exit);
        Pipeline { graph: self.graph, tail, feed: self.feed, capacity: self.capacity }
    }

    /// Gives the graph that it is. What the last stage sends goes nowhere.
    fn into_graph(mut self) -> (Graph, F) {
        let Added(exit) = self.tail.add_to(&mut self.graph);
        exit.lead(&mut self.graph, None);
        (self.graph, self.feed)
    }
}

impl<S: Tail> Pipeline<S> {
    /// Gives the graph that it is, for those who want to add to it.
    pub fn graph(self) -> Graph {
        self.into_graph().0
    }

    /// Runs it until its end. What the last stage sends is dropped.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn run(self) -> Result<Report> {
        self.graph().run()
    }

    /// Starts it, and gives a handle of what runs. What the last stage sends is dropped.
    ///
    /// # Errors
    ///
    /// As [`Graph::start`].
    pub fn start(self) -> Result<Running> {
        self.graph().start()
    }

    /// Runs it until its end, and gives what the last stage sends.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn run_collect(self) -> Result<Vec<S::Out>> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let copy = kept.clone();
        let Pipeline { mut graph, tail, .. } = self;
        let make = move |_: &WorkerInfo| Collect { items: Vec::new(), kept: copy.clone() };
        follow(tail, &mut graph, "collect", Same, make).add_to(&mut graph);
        graph.run()?;
        let items = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(items)
    }
}

impl<S: Tail, T: Send + 'static> Pipeline<S, Feed<T>> {
    /// Starts it, and gives a handle that takes items and gives results.
    ///
    /// # Errors
    ///
    /// As [`Graph::start`].
    pub fn start(self) -> Result<Accelerator<T, S::Out>> {
        let (graph, ends) = self.with_ends();
        Accelerator::start(graph, ends)
    }

    /// Gives the graph that it is, and the ends at which items are given and results are taken: for
    /// [`Graph::travelling`], and then [`Accelerator::start`].
    pub fn with_ends(mut self) -> (Graph, (Feed<T>, Results<S::Out>)) {
        let Added(exit) = self.tail.add_to(&mut self.graph);
        let (results, input) = self.graph.results_of("results", self.capacity);
        exit.lead(&mut self.graph, Some(input.into()));
        (self.graph, (self.feed, results))
    }
}

/// Keeps what comes, and gives it at the end.
struct Collect<T> {
    items: Vec<T>,
    kept: Arc<Mutex<Vec<T>>>,
}

impl<T: 'static> Node for Collect<T> {
    type In = T;
    type Out = ();

    #[inline]
    fn svc(&mut self, item: T, _: &mut Outlet<()>) -> Result<Flow, Cause> {
        self.items.push(item);
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, _: &mut Outlet<()>) -> Result<(), Cause> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.append(&mut self.items);
        Ok(())
    }
}
