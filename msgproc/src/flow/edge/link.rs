//! An edge of a graph, before and while it is used.

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use shmring::ring::records::Records;

use super::{
    Bound, HeapLane, Inlet, Lanes, Manner, OutState, Rx, Size, Tx,
    deal::{Choose, Deal},
    long::LaneEnd,
    shared::Wire,
};
use crate::flow::{
    circle::Circle,
    error::{Error, Result},
    plan::{Executor, Shared},
    worker::{Accept, Direct},
};

/// How an edge behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EdgeOptions {
    pub(crate) capacity: usize,
    /// How many bytes each of its lanes may have, if that was said.
    pub(crate) bytes: Option<usize>,
    pub(crate) newest: bool,
}

/// What a builder was told of how much may lie in a lane.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Room {
    pub(crate) items: Option<usize>,
    pub(crate) bytes: Option<usize>,
}

impl Room {
    /// The smaller of both, where both were told.
    pub(crate) fn least(self, other: Room) -> Room {
        let least = |one: Option<usize>, other: Option<usize>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let (items, bytes) = (least(self.items, other.items), least(self.bytes, other.bytes));
        Room { items, bytes }
    }
}

/// How many bytes a lane between processes has if nothing is said.
pub(super) const BYTES: usize = 128 << 10;

impl EdgeOptions {
    /// What was told; the rest as it is.
    pub(crate) fn set(&mut self, room: Room) {
        self.capacity = room.items.map_or(self.capacity, |items| items.max(1));
        self.bytes = room.bytes.or(self.bytes);
    }

    /// How many bytes a lane between processes has.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.bytes.unwrap_or(BYTES)
    }
}

impl Default for EdgeOptions {
    fn default() -> EdgeOptions {
        EdgeOptions { capacity: 1024, bytes: None, newest: false }
    }
}

/// How a lane gets from its sender to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LaneKind {
    Call,
    Heap,
    Shared,
}

/// One lane of an edge, in the plan of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LanePlan {
    pub(crate) kind: LaneKind,
    /// The executors of its ends.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Gives a ring of so many bytes for a lane between processes.
pub(crate) type MakeRing<'a> = dyn FnMut(usize) -> Result<Records> + 'a;

/// An edge whose type of items is not known here.
pub(crate) trait AnyEdge: Send + Sync {
    /// Makes its lanes. `ring` gives those between processes.
    fn open(&self, plan: EdgePlan, ring: &mut MakeRing<'_>) -> Result<()>;

    /// Its lanes between processes, in the order in which they were asked for.
    fn rings(&self) -> Vec<Records>;

    /// Whether its items can go from one process to another.
    fn can_travel(&self) -> bool;

    fn options(&self) -> EdgeOptions;

    /// Drops what a run that is over has left in lanes between processes, and its blocks with it.
    fn clear(&self, shared: &Shared);

    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

/// Where the lanes of an edge are.
#[derive(Clone, Debug)]
pub(crate) struct EdgePlan {
    pub(crate) number: usize,
    /// What its node's inputs number among its edges.
    pub(crate) inlet: usize,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
    /// By sender, then receiver.
    pub(crate) lanes: Vec<LanePlan>,
    /// The number of its first lane among those of the run.
    pub(crate) first_lane: usize,
    /// Whether messages are numbered, and taken in that order.
    pub(crate) ordered: bool,
    /// The circle that it is in.
    pub(crate) circle: Option<usize>,
    /// Whether its senders rest while it is full, rather than wait in the middle of what they do.
    pub(crate) is_gated: bool,
}

/// What was said of an edge about who gets an item.
pub(crate) enum Dealing<T> {
    OnDemand,
    RoundRobin,
    By(Arc<Choose<T>>),
    All(fn(&T) -> T),
    /// Each sender sends to the receiver with its own number.
    Straight,
}

impl<T> Clone for Dealing<T> {
    fn clone(&self) -> Dealing<T> {
        match self {
            Dealing::OnDemand => Dealing::OnDemand,
            Dealing::RoundRobin => Dealing::RoundRobin,
            Dealing::By(choose) => Dealing::By(choose.clone()),
            Dealing::All(clone) => Dealing::All(*clone),
            Dealing::Straight => Dealing::Straight,
        }
    }
}

/// An edge.
pub(crate) struct Edge<T> {
    wire: Option<Wire<T>>,
    dealing: Dealing<T>,
    options: EdgeOptions,
    /// How many bytes an item has within the program, if that was said.
    size: Option<Size<T>>,
    opened: OnceLock<Opened<T>>,
}

struct Opened<T> {
    plan: EdgePlan,
    lanes: Vec<Lane<T>>,
}

enum Lane<T> {
    Call,
    Heap(HeapLane<T>),
    Shared(Records),
}

impl<T: 'static> Edge<T> {
    pub(crate) fn new(
        wire: Option<Wire<T>>,
        dealing: Dealing<T>,
        options: EdgeOptions,
        size: Option<Size<T>>,
    ) -> Edge<T> {
        Edge { wire, dealing, options, size, opened: OnceLock::new() }
    }

    /// How many bytes a lane within the program may have, where it is known how many an item has:
    /// because that was said, or because it has nothing but itself.
    fn bound(&self) -> Option<Bound<T>> {
        if let Some(size) = &self.size {
            return Some(Bound { bytes: self.options.ring_bytes(), size: size.clone() });
        }
        let bytes = self.options.bytes.filter(|_| !std::mem::needs_drop::<T>())?;
        Some(Bound { bytes, size: Arc::new(|_| size_of::<T>()) })
    }

    fn opened(&self) -> &Opened<T> {
        self.opened.get().expect("a run opens its edges before it makes workers")
    }

    fn deal(&self, plan: &EdgePlan, sender: usize) -> Deal<T> {
        match &self.dealing {
            Dealing::By(choose) => Deal::By(choose.clone()),
            Dealing::All(clone) => Deal::All(*clone),
            // Straight edges are so anyhow then.
            _ if plan.ordered => Deal::Ordered,
            Dealing::Straight => Deal::By(Arc::new(move |_| sender)),
            _ if self.options.newest => Deal::Newest,
            Dealing::RoundRobin => Deal::RoundRobin,
            Dealing::OnDemand => Deal::OnDemand,
        }
    }

    /// The ends of one sender.
    pub(crate) fn lanes(
        &self,
        executor: &Rc<Executor>,
        callees: &Callees,
        sender: usize,
        state: OutState,
    ) -> Result<Lanes<T>, String> {
        let Opened { plan, lanes } = self.opened();
        let capacity = self.options.capacity as u64;
        let what = Manner {
            in_circle: plan.circle.is_some(),
            newest: self.options.newest,
            is_gated: plan.is_gated,
        };
        let mut ends = Lanes::new(executor, self.deal(plan, sender), capacity, state, what);
        for receiver in 0..plan.receivers {
            let at = sender * plan.receivers + receiver;
            let words = executor.shared.lane(plan.first_lane + at);
            let tx: Box<dyn Tx<T>> = match &lanes[at] {
                Lane::Call => {
                    let target = callees.find::<T>(plan.number, receiver);
                    let target = target.ok_or("a node that is called is not there")?;
                    Box::new(Direct::new(target, plan.inlet, sender))
                }
                Lane::Heap(lane) => {
                    Box::new(lane.tx().ok_or("the end of a lane was taken before")?)
                }
                Lane::Shared(ring) => {
                    let wire = self.wire.ok_or("its items cannot travel")?;
                    let end = LaneEnd { shared: executor.shared.clone(), words };
                    (wire.tx)(ring, &end).map_err(|error| error.to_string())?
                }
            };
            let bytes = match &lanes[at] {
                Lane::Call => None,
                Lane::Heap(_) => self.bound().map(|bound| bound.bytes),
                // A message is to find room where half of the ring is free.
                Lane::Shared(_) if plan.is_gated => Some(self.options.ring_bytes()),
                Lane::Shared(_) => self.options.bytes,
            };
            let first = executor.shared.lane(plan.first_lane + receiver);
            ends.add(tx, (words, first), &plan.lanes[at], bytes);
        }
        Ok(ends)
    }

    /// The ends of one receiver.
    pub(crate) fn inlet(
        &self,
        executor: &Rc<Executor>,
        receiver: usize,
    ) -> Result<Inlet<T>, String> {
        let Opened { plan, lanes } = self.opened();
        let numbers = plan.ordered.then_some((receiver as u64, plan.receivers as u64));
        let circle = plan.circle.map(|circle| Circle::new(&executor.shared, circle));
        let mut inlet = Inlet::new(numbers, circle);
        for sender in 0..plan.senders {
            let at = sender * plan.receivers + receiver;
            let words = executor.shared.lane(plan.first_lane + at);
            let rx: Option<Box<dyn Rx<T>>> = match &lanes[at] {
                Lane::Call => None,
                Lane::Heap(lane) => {
                    Some(Box::new(lane.rx().ok_or("the end of a lane was taken before")?))
                }
                Lane::Shared(ring) => {
                    let wire = self.wire.ok_or("its items cannot travel")?;
                    let end = LaneEnd { shared: executor.shared.clone(), words };
                    Some((wire.rx)(ring, &end).map_err(|error| error.to_string())?)
                }
            };
            inlet.add(rx, words, plan.lanes[at].from);
        }
        Ok(inlet)
    }
}

impl<T: Send + 'static> AnyEdge for Edge<T> {
    fn open(&self, plan: EdgePlan, ring: &mut MakeRing<'_>) -> Result<()> {
        let lane = |lane: &LanePlan| {
            Ok(match lane.kind {
                LaneKind::Call => Lane::Call,
                LaneKind::Heap => {
                    let messages = self.options.capacity.max(1).saturating_add(1);
                    Lane::Heap(HeapLane::new(messages, self.bound(), plan.is_gated))
                }
                LaneKind::Shared => Lane::Shared(ring(self.options.ring_bytes())?),
            })
        };
        let lanes = plan.lanes.iter().map(lane).collect::<Result<_>>()?;
        let opened = self.opened.set(Opened { plan, lanes });
        opened.map_err(|_| Error::Graph("it was run before".into()))
    }

    fn rings(&self) -> Vec<Records> {
        let lanes = self.opened.get().map(|opened| opened.lanes.as_slice()).unwrap_or_default();
        let shared = |lane: &Lane<T>| match lane {
            Lane::Shared(ring) => Some(ring.clone()),
            Lane::Call | Lane::Heap(_) => None,
        };
        lanes.iter().filter_map(shared).collect()
    }

    fn can_travel(&self) -> bool {
        self.wire.is_some()
    }

    fn options(&self) -> EdgeOptions {
        self.options
    }

    fn clear(&self, shared: &Shared) {
        let (Some(wire), Some(opened)) = (self.wire, self.opened.get()) else { return };
        for (at, lane) in opened.lanes.iter().enumerate() {
            let Lane::Shared(ring) = lane else { continue };
            let words = shared.lane(opened.plan.first_lane + at);
            let end = LaneEnd { shared: shared.clone(), words };
            // Without an end nothing can be dropped; the memory goes with the last who has it.
            let Ok(mut rx) = (wire.rx)(ring, &end) else { continue };
            // A long item goes without being read: it is the message that has its blocks.
            while let Ok(Some(batch)) = rx.look(&|_| true)
                && rx.release().is_ok()
            {
                drop(batch);
            }
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The workers of one thread that are called by others of it, by edge and number.
#[derive(Default)]
pub(crate) struct Callees(HashMap<(usize, usize), Box<dyn Any>>);

impl Callees {
    pub(crate) fn add<T: 'static>(
        &mut self,
        edge: usize,
        receiver: usize,
        worker: Rc<RefCell<dyn Accept<T>>>,
    ) {
        self.0.insert((edge, receiver), Box::new(worker));
    }

    fn find<T: 'static>(&self, edge: usize, receiver: usize) -> Option<Rc<RefCell<dyn Accept<T>>>> {
        self.0.get(&(edge, receiver))?.downcast_ref::<Rc<RefCell<dyn Accept<T>>>>().cloned()
    }
}
