//! What a node has for edges: inputs and outputs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::flow::edge::Wire;

/// Tells graphs of this process apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GraphId(u64);

impl Default for GraphId {
    fn default() -> GraphId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        GraphId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A node in a graph.
pub struct NodeRef<I, O> {
    pub(super) graph: GraphId,
    pub(super) node: usize,
    pub(super) wire_in: Option<Wire<I>>,
    pub(super) wire_out: Option<Wire<O>>,
}

impl<I, O> Clone for NodeRef<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> Copy for NodeRef<I, O> {}

/// An input of a node: where an edge ends.
pub struct Input<T> {
    pub(super) graph: GraphId,
    pub(super) node: usize,
    pub(super) input: usize,
    pub(super) wire: Option<Wire<T>>,
}

/// An output of a node: where an edge begins.
pub struct Output<T> {
    pub(super) graph: GraphId,
    pub(super) node: usize,
    pub(super) output: usize,
    pub(super) wire: Option<Wire<T>>,
    pub(super) clone: Option<fn(&T) -> T>,
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
    /// [`svc_on`](crate::flow::Node::svc_on). They are numbered up to 1023.
    pub fn input_at(&self, input: usize) -> Input<I> {
        Input { graph: self.graph, node: self.node, input, wire: self.wire_in }
    }

    /// Its output, if it has one.
    pub fn output(&self) -> Output<O> {
        self.output_at(0)
    }

    /// One of several outputs: the node names it by [`Outlet::send_on`](crate::flow::Outlet::send_on).
    /// They are numbered up to 1023.
    pub fn output_at(&self, output: usize) -> Output<O> {
        Output { graph: self.graph, node: self.node, output, wire: self.wire_out, clone: None }
    }
}
