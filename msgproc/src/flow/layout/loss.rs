//! Which processes are replaced when they die, and why others are not.

use super::PlannedWorker;
use crate::flow::{
    circle::CirclePlan,
    graph::{EdgeEntry, Graph},
};

/// What becomes of the run when a process dies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// It fails.
    Fails,
    /// It fails, though some node there says otherwise: why, and what to do.
    FailsFor(String),
    /// The process is replaced.
    IsMadeGood,
}

/// What the death of a process means in which these workers are.
pub(super) fn loss<'a>(
    graph: &Graph,
    circles: &[CirclePlan],
    process: usize,
    workers: impl Iterator<Item = &'a PlannedWorker>,
) -> Loss {
    let mut nodes: Vec<usize> = workers.map(|worker| worker.node).collect();
    nodes.dedup();
    let replaces = |node: &usize| graph.nodes[*node].on_error.replaces();
    let Some(says) = nodes.iter().copied().find(replaces).filter(|_| process != 0) else {
        return Loss::Fails;
    };
    let name = |node: usize| &graph.nodes[node].name;
    let mut reasons = nodes.iter().filter_map(|node| {
        Some(if !replaces(node) {
            format!(
                "node {:?}, which is in it with {:?}, does not say what becomes of items over which a process dies: say `OnError::retry` or `quarantine` of it too (in a graph file `on_error`), or let it be in another process",
                name(*node),
                name(says)
            )
        } else if circles.iter().any(|circle| circle.head == *node) {
            format!(
                "a circle begins with node {:?} in it, and what came back to that was in its memory: let the circle begin with a node in the program (an emitter at `Thread`)",
                name(*node)
            )
        } else {
            return None;
        })
    });
    if let Some(reason) = reasons.next() {
        return Loss::FailsFor(reason);
    }
    let within = |edge: &&EdgeEntry| nodes.contains(&edge.from) && nodes.contains(&edge.to);
    match graph.edges.iter().filter(within).find(|edge| !edge.edge.can_travel()) {
        Some(edge) => Loss::FailsFor(format!(
            "items from {:?} to {:?}, which are both in it, were in its memory alone, for there is no way for their type: give one of the two nodes the placement `Process`, or a `Placement`",
            name(edge.from),
            name(edge.to)
        )),
        None => Loss::IsMadeGood,
    }
}
