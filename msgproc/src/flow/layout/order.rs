//! In which order nodes stand: those that receive before those that send to them.

use super::{forward, is_numbered};
use crate::flow::{
    error::{Error, Result},
    graph::Graph,
    plan::Rank,
};

/// The first of the nodes through which the numbers go that a node keeps; itself, if it keeps none.
pub(super) fn numbered_from(graph: &Graph, mut node: usize) -> usize {
    // One edge leads to a node that keeps the order, and none of them leads back.
    while let Some(edge) = forward(graph).find(|edge| edge.to == node)
        && is_numbered(graph, node)
        && is_numbered(graph, edge.from)
    {
        node = edge.from;
    }
    node
}

/// The nodes, those that receive before those that send to them, and together those through which
/// the same numbers go.
pub(super) fn receivers_first(graph: &Graph) -> Result<Vec<(usize, Rank)>> {
    let order = in_order(graph, |node| node)?;
    let place = |node: &usize| order.iter().position(|other| other == node);
    // What leaves such nodes does not come back to them, so they are a circle no more than others.
    let blocks = in_order(graph, |node| numbered_from(graph, node))?;
    let mut nodes: Vec<(usize, Rank)> = Vec::new();
    for (block, first) in blocks.iter().enumerate() {
        let all = order.iter().copied().filter(|node| numbered_from(graph, *node) == *first);
        // What only takes things in stands below all nodes.
        nodes.extend(all.map(|node| {
            (node, Rank { block: block + 1, node: place(&node).map_or(0, |place| place + 1) })
        }));
    }
    Ok(nodes)
}

/// Groups of nodes, those that receive before those that send to them.
fn in_order(graph: &Graph, group: impl Fn(usize) -> usize) -> Result<Vec<usize>> {
    let edges: Vec<(usize, usize)> = forward(graph)
        .map(|edge| (edge.from == edge.to, group(edge.from), group(edge.to)))
        .filter_map(|(same, from, to)| (same || from != to).then_some((from, to)))
        .collect();
    let groups = || (0..graph.nodes.len()).filter(|node| group(*node) == *node);
    let mut left: Vec<usize> = (0..graph.nodes.len())
        .map(|node| edges.iter().filter(|(from, _)| *from == node).count())
        .collect();
    let mut order: Vec<usize> = groups().filter(|node| left[*node] == 0).collect();
    let mut next = 0;
    while let Some(&node) = order.get(next) {
        next += 1;
        for (from, _) in edges.iter().filter(|(_, to)| *to == node) {
            left[*from] -= 1;
            if left[*from] == 0 {
                order.push(*from);
            }
        }
    }
    if order.len() < groups().count() {
        let names: Vec<_> = groups()
            .filter(|node| !order.contains(node))
            .map(|node| format!("{:?}", graph.nodes[node].name))
            .collect();
        return Err(Error::graph(format!(
            "its edges lead in a circle through {}: say `feedback` of the edge that leads back",
            names.join(", ")
        )));
    }
    Ok(order)
}
