//! Farms: several workers that share the work.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{
    edge::Dealing,
    graph::Graph,
    node::{Node, WorkerInfo},
    part::{Ends, Part},
    placement::Place,
    worker::OnError,
    workers::Workers,
};

/// How items are dealt to workers.
pub struct Scheduling<T>(pub(crate) Dealing<T>);

impl<T: 'static> Scheduling<T> {
    /// To whoever has the least to do. So if nothing is said.
    pub fn on_demand() -> Scheduling<T> {
        Scheduling(Dealing::OnDemand)
    }

    /// One after the other.
    pub fn round_robin() -> Scheduling<T> {
        Scheduling(Dealing::RoundRobin)
    }

    /// A clone to each.
    pub fn broadcast() -> Scheduling<T>
    where
        T: Clone,
    {
        Scheduling(Dealing::All(T::clone))
    }

    /// Items with the same key to the same worker.
    pub fn by_key<K: Hash>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> Scheduling<T> {
        Scheduling::custom(move |item| {
            // The same in all processes of a program.
            let mut hasher = DefaultHasher::new();
            key(item).hash(&mut hasher);
            (hasher.finish() >> 32) as usize
        })
    }

    /// To the worker that the function says: the number, modulo that of the workers.
    pub fn custom(choose: impl Fn(&T) -> usize + Send + Sync + 'static) -> Scheduling<T> {
        Scheduling(Dealing::By(Arc::new(choose)))
    }
}

/// Workers that share the work.
///
/// Each of them is a node, or a chain of nodes ([`Farm::of`]). Items are dealt on demand if nothing
/// else is said. A node before them ([`Part::emitter`]) or behind them ([`Part::collector`]) can be
/// added and need not be.
///
/// ```
/// use msgproc::flow::{Farm, Part, Process, Same, Scheduling, each, map};
///
/// // By itself:
/// let farm = Farm::new("square", Process, |_| map(|n: u64| n * n)).workers(2).ordered();
/// assert_eq!(farm.run_collect(0..4)?, [0, 1, 4, 9]);
///
/// // As a part of a pipeline:
/// use msgproc::flow::Pipeline;
/// let farm = Farm::new("square", Process, |_| map(|n: u64| n * n))
///     .workers(2)
///     .scheduling(Scheduling::by_key(|n: &u64| n % 10));
/// let report = Pipeline::from(0..100_u64)
///     .part(farm)
///     .stage("check", Same, |_| each(|n: u64| assert!(n < 10_000)))
///     .run()?;
/// assert_eq!(report.node("square").unwrap().items_in(), 100);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub struct Farm<I, O, L = I> {
    workers: Workers<I, O, L>,
    scheduling: Scheduling<I>,
}

impl<I: Send + 'static, O: Send + 'static> Farm<I, O> {
    /// A farm of one worker; [`Farm::workers`] says how many.
    pub fn new<N, P, F>(name: &str, place: P, make: F) -> Farm<I, O>
    where
        N: Node<In = I, Out = O>,
        P: Place<I> + Place<O> + Send + 'static,
        F: Fn(&WorkerInfo) -> N + Send + Sync + 'static,
    {
        Farm::of(Workers::new(name, place, make))
    }
}

impl<I: Send + 'static, O: Send + 'static, L: 'static> Farm<I, O, L> {
    /// A farm of these workers.
    pub fn of(workers: Workers<I, O, L>) -> Farm<I, O, L> {
        Farm { workers, scheduling: Scheduling::on_demand() }
    }

    /// How many workers it has.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = self.workers.count(count);
        self
    }

    /// How items are dealt to them. Where order is kept, they are dealt in turn, and nothing else
    /// can be said.
    pub fn scheduling(mut self, scheduling: Scheduling<I>) -> Self {
        self.scheduling = scheduling;
        self
    }

    /// Keeps the order of the items: what comes of an item leaves before what comes of the next. What
    /// is done before its turn waits in the lanes, so their capacity bounds it.
    pub fn ordered(mut self) -> Self {
        self.workers.crew.ordered = true;
        self
    }

    /// How many items may wait for each worker; 1024 if nothing is said.
    pub fn capacity(mut self, items: usize) -> Self {
        self.workers = self.workers.capacity(items);
        self
    }

    /// How many bytes may wait for each worker, as
    /// [`EdgeBuilder::capacity_bytes`](super::EdgeBuilder::capacity_bytes) says.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.workers = self.workers.capacity_bytes(bytes);
        self
    }

    /// What becomes of an item over which a worker fails, in the last node of its chain.
    pub fn on_error(mut self, on_error: OnError) -> Self
    where
        L: Clone,
    {
        self.workers = self.workers.on_error(on_error);
        self
    }

    /// Leaves out, and counts, items over which it fails. They need not be cloned for this.
    pub fn skip_errors(mut self) -> Self {
        self.workers = self.workers.skip_errors();
        self
    }
}

impl<I: Send + 'static, O: Send + 'static, L: 'static> Part for Farm<I, O, L> {
    type In = I;
    type Out = O;

    fn add_to(self, graph: &mut Graph) -> Ends<I, O> {
        let mut ends = self.workers.add_to(graph);
        ends.entry.dealing = self.scheduling.0;
        ends
    }
}
