//! Graphs with a circle in which a process is killed; it begins in the program.

use msgproc::flow::{
    Flow, Graph, NodeRef, Outlet, Placement, Process, Thread, flat_map, from_fn, map,
};

use super::{Kept, again, keep, numbers, some};

/// What is added for each time that an item went round.
const ROUND: u64 = 1000;

fn head(graph: &mut Graph) -> NodeRef<u64, u64> {
    let numbers = numbers(graph);
    let head = graph.node("head", Thread, |_| map(|n: u64| n)).add();
    graph.edge(numbers.output(), head.input()).capacity(8).add();
    head
}

/// Twice round, and on.
fn go_round(n: u64, out: &mut Outlet<u64>) -> Result<Flow, msgproc::flow::Cause> {
    match n < 2 * ROUND {
        true => out.send_on(1, n + ROUND)?,
        false => out.send(n % ROUND)?,
    }
    Ok(Flow::GoOn)
}

fn close(graph: &mut Graph, head: NodeRef<u64, u64>, tail: NodeRef<u64, u64>) -> Kept<u64> {
    let (sink, kept) = keep(graph, 1);
    graph.edge(tail.output_at(1), head.input()).capacity(4).feedback(5).add();
    graph.edge(tail.output(), sink.input()).capacity(4).add();
    kept
}

/// The second of its workers goes on while the first dies.
pub(super) fn a_circle(graph: &mut Graph) -> Kept<u64> {
    let head = head(graph);
    let step = graph.node("step", Process, |_| from_fn(go_round));
    let step = step.workers(2).on_error(again()).add();
    graph.edge(head.output(), step.input()).capacity(4).add();
    close(graph, head, step)
}

/// Two in the process, and some items become two.
pub(super) fn two_in_a_circle(graph: &mut Graph) -> Kept<u64> {
    let head = head(graph);
    let place = Placement::At { process: 1, thread: 0 };
    let split = |n: u64| if n < ROUND { some(n) } else { vec![n] };
    let step = graph.node("step", place, move |_| flat_map(split)).on_error(again()).add();
    let tail = graph.node("tail", place, |_| from_fn(go_round)).on_error(again()).add();
    graph.edge(head.output(), step.input()).capacity(4).add();
    graph.edge(step.output(), tail.input()).capacity(2).add();
    close(graph, head, tail)
}
