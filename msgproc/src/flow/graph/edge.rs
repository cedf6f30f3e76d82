//! Edges, as they are described.

use std::{any::Any, sync::Arc};

use super::{EdgeEntry, Graph, Input, NodeRef, OutEntry, Output, Site, make::OutMaker};
use crate::flow::{
    Flow, Outlet, Thread,
    edge::{
        Branched, Dealing, Edge, EdgeOptions, Lanes, OutState, Room, Size, Turn, Turned, Way, Wire,
    },
    from_fn,
};

/// An edge that is being described; [`EdgeBuilder::add`] puts it into the graph.
#[must_use = "an edge is part of the graph when it has been added"]
pub struct EdgeBuilder<'a, T, U> {
    graph: &'a mut Graph,
    from: Output<T>,
    to: Input<U>,
    turn: Turning<T, U>,
    options: EdgeOptions,
    dealing: Dealing<U>,
    size: Option<Size<U>>,
    feedback: Option<u64>,
}

/// How items get from the type of an output to that of an input.
enum Turning<T, U> {
    Same,
    Turned(Arc<Turn<T, U>>),
}

impl<T: 'static, U: Send + 'static> EdgeBuilder<'_, T, U> {
    /// How many items may lie in each of its lanes; 1024 if nothing is said. It is a bound alone: no
    /// memory is set aside for them.
    ///
    /// On the way to a node with several inputs, of which it may want one and not the other, senders
    /// that share a thread rest while the lane is full, and what they were at goes into it beyond the
    /// bound: so none of them keeps the others from sending. Between processes it waits in the memory of
    /// its sender until the lane has room ([`capacity_bytes`](Self::capacity_bytes)). Only in a process
    /// that is replaced when it dies ([`OnError::retry`](crate::flow::OnError::retry)) it cannot: there
    /// what comes of one item, or of an end, should have fewer bytes than half of the lane's room.
    pub fn capacity(mut self, items: usize) -> Self {
        self.options.capacity = items.max(1);
        self
    }

    /// How many bytes may lie in each of its lanes, besides the bound on their number: whoever sends
    /// waits while so many do. What a worker gathers to send it together is besides, a quarter of
    /// that at most.
    ///
    /// - Between processes it is the room of the lane, 128 KiB if nothing is said and 2 GiB at most,
    ///   rounded up to a power of two: there has to be that memory. An item of more
    ///   than about half of that lies beside it, in a file in memory: two of them at most for each
    ///   lane, one that is handled and one that waits, and while the next is being written, that.
    ///   Plain data (at a [`PlainProcess`](crate::flow::PlainProcess)) must not be as long.
    /// - Within the program items stay where they are, and it holds where it is known how long they
    ///   are: of plain types (without a `Drop`), and where [`sized_by`](Self::sized_by) says it. An
    ///   item that is longer than all goes by itself.
    /// - To a worker in the same thread nothing lies in a lane: it is called.
    /// - In a process that is replaced when it dies ([`OnError::retry`](crate::flow::OnError::retry))
    ///   it is as between processes.
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.options.bytes = Some(bytes);
        self
    }

    /// Both, where they were told.
    pub(crate) fn room(mut self, room: Room) -> Self {
        self.options.set(room);
        self
    }

    /// How many bytes an item has within the program, with all that it owns: so that
    /// [`capacity_bytes`](Self::capacity_bytes) holds there too, which is 128 KiB if nothing else is
    /// said.
    ///
    /// ```
    /// use msgproc::flow::{Graph, Same, Thread, each};
    ///
    /// let mut graph = Graph::new();
    /// let images = graph.source("images", Thread, (0..20).map(|n| vec![n as u8; 1 << 20]));
    /// let view = graph.node("view", Same, |_| each(|image: Vec<u8>| drop(image))).add();
    /// let edge = graph.edge(images.output(), view.input());
    /// edge.capacity_bytes(4 << 20).sized_by(Vec::len).add();
    /// graph.run()?;
    /// # Ok::<(), msgproc::flow::Error>(())
    /// ```
    pub fn sized_by(mut self, size: impl Fn(&U) -> usize + Send + Sync + 'static) -> Self {
        self.size = Some(Arc::new(size));
        self
    }

    /// Only the newest item matters, as for a view: it never holds its sender back, and an item
    /// that was not taken before the next one came is dropped, and counted. Of several workers,
    /// whoever has nothing to do gets it; with [`to_all`](Self::to_all) or [`by`](Self::by) each has a
    /// newest one of its own.
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
    /// it. A process in a circle may be replaced when it dies
    /// ([`OnError::retry`](crate::flow::OnError::retry)), but not that of the node to which this edge
    /// leads: let that be in the program.
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
        let EdgeBuilder { graph, from, to, turn, options, dealing, size, feedback } = self;
        let is_turned = matches!(turn, Turning::Turned(_));
        let wire = if is_turned { to.wire } else { to.wire.or_else(|| same_wire(from.wire)) };
        let how = How { dealing, options, size, feedback };
        let edge = graph.put_edge(&from, &to, wire, how);
        let make_way = move |site: &Site<'_>, sender: usize, states: &[OutState]| {
            let lanes = edge.lanes(site.executor, site.callees, sender, states[0])?;
            let way: Box<dyn Way<T>> = match &turn {
                Turning::Turned(turn) => Box::new(Turned::new(turn.clone(), lanes)),
                Turning::Same => {
                    let lanes: Box<dyn Any> = Box::new(Some(Box::new(lanes)));
                    take_lanes::<T>(lanes).ok_or("an edge has another type than its output")?
                }
            };
            Ok(way)
        };
        graph.put_way(&from, 1, make_way);
    }
}

/// How items get over an edge.
struct How<T> {
    dealing: Dealing<T>,
    options: EdgeOptions,
    size: Option<Size<T>>,
    feedback: Option<u64>,
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

/// An edge to this input, as it is if nothing is said.
impl<T> From<Input<T>> for Target<T> {
    fn from(to: Input<T>) -> Target<T> {
        let (dealing, options) = (Dealing::OnDemand, EdgeOptions::default());
        Target { to, wire: None, dealing, options, feedback: None }
    }
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Target<T> {
        Target { dealing: self.dealing.clone(), ..*self }
    }
}

impl Graph {
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
            size: None,
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
            size: None,
            feedback: None,
        }
    }

    fn put_edge<T, U: Send + 'static>(
        &mut self,
        from: &Output<T>,
        to: &Input<U>,
        wire: Option<Wire<U>>,
        how: How<U>,
    ) -> Arc<Edge<U>> {
        let How { dealing, options, size, feedback } = how;
        let chooses = !matches!(dealing, Dealing::OnDemand | Dealing::Straight) || options.newest;
        let edge = Arc::new(Edge::<U>::new(wire, dealing, options, size));
        if from.graph != self.id || to.graph != self.id {
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
        edges: usize,
        make_way: impl Fn(&Site<'_>, usize, &[OutState]) -> Result<Box<dyn Way<T>>, String>
        + Send
        + Sync
        + 'static,
    ) {
        let maker: Arc<dyn Any + Send + Sync> = Arc::new(OutMaker::<T>(Box::new(make_way)));
        let clone = from.clone.map(|clone| Arc::new(clone) as Arc<dyn Any + Send + Sync>);
        if let Some(node) = self.nodes.get_mut(from.node) {
            // What needs no drop holds nothing.
            let may_hold = std::mem::needs_drop::<T>();
            node.outs.push(OutEntry { output: from.output, edges, maker, clone, may_hold });
        }
    }

    /// An edge to a target. Where several workers that keep the order meet several that do not, or
    /// that get items by what these are, one worker between them takes what comes and sends it on.
    pub(crate) fn lead<T: Send + 'static>(&mut self, from: Output<T>, target: Target<T>) {
        let from = if self.needs_relay(&from, &target) { self.relay(from, &target) } else { from };
        let Target { to, wire, dealing, options, feedback } = target;
        let to = Input { wire: to.wire.or(wire), ..to };
        let turn = Turning::Same;
        EdgeBuilder { graph: self, from, to, turn, options, dealing, size: None, feedback }.add();
    }

    fn needs_relay<T, U>(&self, from: &Output<T>, target: &Target<U>) -> bool {
        let (from, to) = (&self.nodes[from.node], &self.nodes[target.to.node]);
        let several = from.workers > 1 && to.workers > 1 && target.feedback.is_none();
        let straight = matches!(target.dealing, Dealing::Straight);
        let chooses = !matches!(target.dealing, Dealing::OnDemand) || target.options.newest;
        several
            && !straight
            && ((from.ordered && (!to.ordered || chooses)) || (to.ordered && !from.ordered))
    }

    /// One worker that sends on what comes.
    pub(crate) fn add_relay<T: Send + 'static>(&mut self, name: &str) -> NodeRef<T, T> {
        let relay = |item: T, out: &mut Outlet<T>| {
            out.send(item)?;
            Ok(Flow::GoOn)
        };
        self.node(name, Thread, move |_| from_fn(relay)).add()
    }

    fn relay_to<T: Send + 'static>(&mut self, target: &Target<T>) -> NodeRef<T, T> {
        let name = format!("relay to {}", self.nodes[target.to.node].name);
        self.add_relay(&name)
    }

    fn relay<T: Send + 'static>(&mut self, from: Output<T>, target: &Target<T>) -> Output<T> {
        let relay = self.relay_to(target);
        let (to, turn, dealing) = (relay.input(), Turning::Same, Dealing::OnDemand);
        let options = EdgeOptions { newest: false, ..target.options };
        EdgeBuilder { graph: self, from, to, turn, options, dealing, size: None, feedback: None }
            .add();
        relay.output()
    }

    /// Where a circle begins that leads to this target: there, or, if the process of that may be
    /// replaced, at one worker in the program, for what came back is in the memory of who it came to.
    pub(crate) fn begin_in_program<T: Send + 'static>(
        &mut self,
        target: Target<T>,
        there: Option<Wire<T>>,
    ) -> Target<T> {
        let node = &self.nodes[target.to.node];
        let in_program = |worker| node.place_of(worker).is_in_program();
        if !node.on_error.replaces() || (0..node.workers).all(in_program) {
            return target;
        }
        let relay = self.relay_to(&target);
        self.lead(relay.output(), Target { wire: target.wire.or(there), ..target });
        relay.input().into()
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
        let edges = 1 + usize::from(second.is_some());
        self.put_way(from, edges, move |site, sender, states| {
            let first = first.lanes(site.executor, site.callees, sender, states[0])?;
            let second = match &second {
                Some(edge) => Some(edge.lanes(site.executor, site.callees, sender, states[1])?),
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
        let needs_relay = self.needs_relay(from, &target);
        let wire = target.to.wire.or(target.wire);
        if needs_relay {
            let relay = self.relay_to(&target);
            let options = EdgeOptions { newest: false, ..target.options };
            let how = How { dealing: Dealing::OnDemand, options, size: None, feedback: None };
            let edge = self.put_edge(from, &relay.input(), wire, how);
            self.lead(relay.output(), target);
            return edge;
        }
        let Target { to, dealing, options, feedback, .. } = target;
        let how = How { dealing, options, size: None, feedback };
        self.put_edge(from, &to, wire, how)
    }
}

/// A wire of the same type under another name: the compiler does not know that they are the same.
fn same_wire<T: 'static, U: 'static>(wire: Option<Wire<T>>) -> Option<Wire<U>> {
    let wire: Box<dyn Any> = Box::new(wire);
    wire.downcast::<Option<Wire<U>>>().ok().and_then(|wire| *wire)
}

/// The same for the ends of lanes.
fn take_lanes<T: 'static>(mut lanes: Box<dyn Any>) -> Option<Box<dyn Way<T>>> {
    let lanes = lanes.downcast_mut::<Option<Box<Lanes<T>>>>()?;
    lanes.take().map(|lanes| lanes as Box<dyn Way<T>>)
}
