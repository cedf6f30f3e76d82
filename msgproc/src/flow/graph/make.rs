//! Workers, as they are made where they run.

use std::{cell::RefCell, rc::Rc};

use super::{EdgeEntry, NodeEntry};
use crate::{
    flow::{
        circle::{Circle, Entrance},
        edge::{Callees, Edge, Exits, OutState, Output as WaysOut, Way},
        error::{Failure, FailureKind, Result},
        node::{Duties, Node, WorkerInfo},
        outlet::Outlet,
        plan::{Executor, Rank, Unit, out},
        worker::{Accept, CloneFn, Failures, OnError, Setting, Worker},
    },
    start::catch_here,
};

/// Makes a worker where it runs.
pub(super) type Make = dyn Fn(&mut Site<'_>, usize) -> Made + Send + Sync;

pub(super) type Made = Result<Rc<RefCell<dyn Unit>>, Box<Failure>>;

pub(super) type MakeWay<T> =
    dyn Fn(&Site<'_>, usize, &[OutState]) -> Result<Box<dyn Way<T>>, String> + Send + Sync;

pub(super) struct OutMaker<T>(pub(super) Box<MakeWay<T>>);

/// Where a worker is made.
pub(crate) struct Site<'a> {
    pub(crate) nodes: &'a [NodeEntry],
    pub(crate) edges: &'a [EdgeEntry],
    pub(crate) node: usize,
    /// The number of the node's first worker among those of the run.
    pub(crate) first_worker: usize,
    /// The number of the first edge out of this worker among those of the run.
    pub(crate) first_out: usize,
    /// Whether messages that leave keep the numbers of those that came.
    pub(crate) inherits: bool,
    /// Whether its process is replaced when it dies.
    pub(crate) survives: bool,
    pub(crate) restarts: u32,
    /// The circle that it is in.
    pub(crate) circle: Option<usize>,
    /// Where it stands among the units of its executor.
    pub(crate) rank: Rank,
    pub(crate) executor: &'a Rc<Executor>,
    pub(crate) failures: &'a Failures,
    pub(crate) callees: &'a mut Callees,
}

/// Makes a worker, with the ends of all its lanes.
pub(super) fn make_worker<N, F>(
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
    let (mut returning, mut words_of_inputs) = (Vec::new(), Vec::new());
    for (number, edge) in site.edges.iter().enumerate().filter(|(_, edge)| edge.to == site.node) {
        let typed = edge.edge.as_any().downcast_ref::<Edge<N::In>>();
        let typed = typed.ok_or_else(|| transport("an edge has another type".into()))?;
        let mut inlet = typed.inlet(site.executor, index).map_err(transport)?;
        if site.restarts > 0 {
            inlet.go_on(site.executor);
        }
        if !words_of_inputs.iter().any(|(input, _)| *input == edge.input) {
            words_of_inputs.push((edge.input, inlet.words(0)));
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
    let mut number = site.first_out;
    for out in &entry.outs {
        let state = |number| OutState {
            words: site.executor.shared.out(number),
            survives: site.survives,
            worker: words,
            inherits: site.inherits,
            from_the_first: inlets.is_empty() && site.restarts > 0,
        };
        let states: Vec<OutState> = (number..number + out.edges).map(state).collect();
        number += out.edges;
        let maker = out.maker.downcast_ref::<OutMaker<N::Out>>();
        let maker = maker.ok_or_else(|| transport("an edge has another type".into()))?;
        let clone = out.clone.as_ref().and_then(|clone| clone.downcast_ref());
        let output = &mut ways[out.output];
        output.ways.push((maker.0)(site, index, &states).map_err(transport)?);
        output.clone = output.clone.or(clone.copied());
    }
    let made = catch_here(|| make(&info));
    let mut node = made
        .map_err(|panic| Failure::panicked(&entry.name, index, None, FailureKind::Init, panic))
        .map_err(Box::new)?;
    let init = |cause| Box::new(Failure::new(&entry.name, index, None, FailureKind::Init, cause));
    let (ordered, on_error) = (entry.ordered, entry.on_error);
    let ahead = site.survives || site.inherits || site.circle.is_some();
    let keeps = node.take_over(Duties { on_error, clone, ordered, ahead }).map_err(init)?;
    let ahead = keeps && ahead;
    if ahead {
        let is_head = !returning.is_empty();
        check_keeper(is_head, node.ahead().is_some()).map_err(|why| init(why.into()))?;
    }
    let on_death = on_error;
    let (on_error, clone) = if keeps { (OnError::fail(), None) } else { (on_error, clone) };
    let setting = Setting {
        info,
        number: site.first_worker + index,
        on_error,
        on_death,
        clone,
        ahead,
        survives: site.survives,
        rank: site.rank,
        numbered: site.inherits,
        is_fed: entry.is_fed,
        circle: site.circle.map(|circle| Circle::new(&site.executor.shared, circle)),
        sent: (0..entry.edges_out())
            .map(|number| site.executor.shared.out(site.first_out + number) + out::SENT)
            .collect(),
        inputs: words_of_inputs,
    };
    let entrance = match &setting.circle {
        Some(circle) if !returning.is_empty() => {
            let (entrance, returns) = Entrance::new(site.executor, circle.clone(), returning);
            // What only takes things in stands below all nodes.
            site.executor.add(Rank::default(), Rc::new(RefCell::new(returns)));
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

/// Whether a node can be there whose items are awaited in their lanes. `can`: whether it sees to that.
fn check_keeper(is_head: bool, can: bool) -> Result<(), &'static str> {
    if is_head {
        Err(
            "it awaits futures, and a circle cannot begin with it: let the circle begin with a node before it",
        )
    } else if can {
        Ok(())
    } else {
        Err(
            "it awaits futures and is fused with another one. Where what is on its way must count (in a circle, where several workers keep the order, where processes are replaced), let the two be nodes of their own",
        )
    }
}
