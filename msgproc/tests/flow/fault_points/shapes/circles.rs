//! Graphs with a circle in which a process is killed; it begins in the program.

use msgproc::flow::{
    Around, Farm, Flow, Graph, NodeRef, Outlet, Part, Pipeline, Placement, Process, Same, Thread,
    each, flat_map, from_fn, map,
};

use super::{COUNT, Kept, again, keep, numbers, some};

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

/// What goes round and what goes on are of two types, so that its way out forks.
pub(super) fn a_forking_way(graph: &mut Graph) -> Kept<u64> {
    let forks = |n: u64| match n < 2 * ROUND {
        true => Around::Back(n + ROUND),
        false => Around::On((n % ROUND) as u32),
    };
    let circle = Farm::new("step", Process, move |_| map(forks))
        .workers(2)
        .on_error(again())
        .wrap_around(Process, 5);
    let kept = Kept::default();
    let keeps = kept.clone();
    *graph = Pipeline::source("numbers", Thread, 0..COUNT)
        .part(circle)
        .stage("sink", Same, move |_| {
            let keeps = keeps.clone();
            each(move |n: u32| keeps.lock().unwrap().push(n.into()))
        })
        .graph();
    kept
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
