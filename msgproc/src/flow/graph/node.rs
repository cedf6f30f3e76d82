//! Nodes, as they are described.

use std::{
    any::TypeId,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Graph, NodeEntry, NodeRef, Site, make::make_worker};
use crate::flow::{
    node::{Node, WorkerInfo},
    placement::{Place, Placement, Thread},
    source::Source,
    start_method::StartMethod,
    worker::{CloneFn, OnError},
};

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

    #[cfg(feature = "graph-files")]
    /// Whether its nodes keep items, where that is known only here.
    pub(crate) fn keeps(mut self, yes: bool) -> Self {
        self.entry.keeps = yes;
        self
    }

    /// Leaves out, and counts, items over which it fails. Items need not be cloned for this.
    pub fn skip_errors(mut self) -> Self {
        self.entry.on_error = OnError::skip();
        self
    }

    /// Which processors its workers may use; all if nothing is said. Several nodes in a thread may use
    /// those of all of them, if each says so. The thread that runs the graph ([`Same`](crate::flow::Same))
    /// is left where it may be.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.entry.cpus = cpus.into_iter().collect();
        self
    }

    /// How its processes are started; as those of the graph if nothing is said.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.entry.start_method = Some(method);
        self
    }

    /// Puts it into the graph.
    pub fn add(self) -> NodeRef<I, O> {
        let NodeBuilder { graph, entry, mut node, .. } = self;
        node.node = graph.nodes.len();
        graph.check_workers(&entry.name, entry.workers);
        if graph.nodes.iter().any(|other| other.name == entry.name) {
            graph.is_wrong(format!("two nodes have the name {:?}", entry.name));
        }
        graph.nodes.push(entry);
        node
    }
}

impl Graph {
    /// How many workers a node was said to have.
    pub(crate) fn check_workers(&mut self, name: &str, workers: usize) {
        if workers == 0 {
            self.is_wrong(format!("node {name:?} has no workers"));
        }
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
        let is_source = TypeId::of::<N::In>() == TypeId::of::<()>();
        NodeBuilder {
            entry: NodeEntry {
                name: name.into(),
                placement: Place::<N::In>::placement(place),
                places: Vec::new(),
                workers: 1,
                ordered: false,
                on_error: OnError::default(),
                cpus: Vec::new(),
                start_method: None,
                is_source,
                only_gives: false,
                is_fed: false,
                keeps: N::keeps_items(),
                has_helper: is_source && N::has_helper(),
                make: Arc::new(make),
                outs: Vec::new(),
            },
            node: NodeRef { graph: self.id, node: 0, wire_in, wire_out },
            graph: self,
            clone,
        }
    }

    /// Adds a source: a node that sends what an iterator gives.
    ///
    /// An iterator may wait for its items, as that of a channel does: see [`source`](crate::flow::source).
    /// It is asked in a thread of its own then, in a run of one thread and where processes may be
    /// replaced in that of the source. There, while it waits, neither a stop nor a failure elsewhere
    /// ends the run, unless the source is in a process, which is killed.
    ///
    /// With [`OnError::retry`](crate::flow::OnError::retry) a source that failed is asked again, as
    /// often in a row; one that skips errors, as long as it goes on.
    pub fn source<I, P>(&mut self, name: &str, place: P, items: I) -> NodeRef<(), I::Item>
    where
        I: IntoIterator + Send + 'static,
        I::IntoIter: 'static,
        I::Item: Send + 'static,
        P: Place<I::Item> + Place<()>,
    {
        // It is taken where the source runs: in a process, out of that one's copy.
        let items = Mutex::new(Some(items));
        let make = move |_: &WorkerInfo| Source::of(lock(&items).take());
        let mut node = self.node(name, place, make);
        node.entry.only_gives = true;
        node.add()
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
        node.entry.only_gives = true;
        let mut node = node.add();
        node.wire_out = place.wire();
        node
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
