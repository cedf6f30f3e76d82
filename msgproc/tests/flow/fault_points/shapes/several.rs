//! Graphs in which several workers are in the process that is killed.

use msgproc::flow::{Graph, Placement, flat_map, map, source};

use super::{COUNT, Kept, again, keep, numbers, some};

fn at(thread: u32) -> Placement {
    Placement::At { process: 1, thread }
}

fn two(graph: &mut Graph, other: Placement) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", at(0), |_| map(|n: u64| n)).on_error(again()).add();
    let behind = graph.node("behind", other, |_| flat_map(some)).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), behind.input()).capacity(2).add();
    graph.edge(behind.output(), sink.input()).capacity(4).add();
    kept
}

pub(super) fn two_in_a_thread(graph: &mut Graph) -> Kept<u64> {
    two(graph, at(0))
}

pub(super) fn two_in_two_threads(graph: &mut Graph) -> Kept<u64> {
    two(graph, at(1))
}

pub(super) fn a_source_and_a_node(graph: &mut Graph) -> Kept<u64> {
    let step = graph.node("step", at(0), |_| source(0..COUNT)).on_error(again()).add();
    let behind = graph.node("behind", at(0), |_| flat_map(some)).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), behind.input()).capacity(8).add();
    graph.edge(behind.output(), sink.input()).capacity(4).add();
    kept
}

/// The second of two farms, and what follows.
pub(super) fn a_farm_in_a_thread(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", at(0), |_| map(|n: u64| n));
    let step = step.workers(2).ordered(true).on_error(again()).add();
    let behind = graph.node("behind", at(0), |_| flat_map(some));
    let behind = behind.workers(2).ordered(true).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), behind.input()).capacity(1).add();
    graph.edge(behind.output(), sink.input()).capacity(1).add();
    kept
}
