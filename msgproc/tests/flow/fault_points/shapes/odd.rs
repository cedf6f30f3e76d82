//! Graphs in which something else goes wrong as well: others die, items are left out, receivers end.

use msgproc::flow::{
    Flow, Graph, NodeRef, OnError, Outlet, Process, Same, WorkerInfo, flat_map, from_fn, map,
};

use super::{COUNT, Kept, again, keep, numbers, same, some};

/// The one before dies itself, when it has put a message into a lane and not said so.
pub(super) fn one_behind_another(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let first = graph.node("first", Process, |worker| {
        let dies = worker.index == 0 && worker.restarts == 0;
        map(move |n: u64| {
            if dies && n > 6 {
                shmring::fault::arm("flow.send.put", 1);
            }
            n
        })
    });
    let first = first.workers(2).ordered(true).on_error(again()).add();
    let step = graph.node("step", Process, |_| flat_map(some));
    let step = step.workers(2).ordered(true).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), first.input()).capacity(8).add();
    graph.edge(first.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), sink.input()).capacity(4).add();
    kept
}

/// Who dies over an item a second time leaves it out, of which some has been sent.
pub(super) fn one_that_leaves_out(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", Process, |_| {
        from_fn(|n: u64, out: &mut Outlet<u64>| {
            for receiver in 0..3 {
                out.send_to(receiver, n)?;
            }
            Ok(Flow::GoOn)
        })
    });
    let step = step.on_error(OnError::retry(1).or_skip()).add();
    let (sink, kept) = keep(graph, 2);
    graph.edge(numbers.output(), step.input()).capacity(16).add();
    graph.edge(step.output(), sink.input()).capacity(4).add();
    kept
}

/// Three of each, but perhaps less of those that two of four deaths each were over.
pub(super) fn all_but_two(items: &[u64]) -> bool {
    let times = |n| items.iter().filter(|item| **item == n).count();
    let less = (0..COUNT).filter(|n| times(*n) < 3).count();
    less <= 2 && (0..COUNT).all(|n| times(n) <= 3)
}

/// Adds three workers that keep what comes; the first of them ends after some items.
fn keep_until(graph: &mut Graph) -> (NodeRef<u64, ()>, Kept<u64>) {
    let kept = Kept::default();
    let copy = kept.clone();
    let keep = move |worker: &WorkerInfo| {
        let (kept, first, mut count) = (copy.clone(), worker.index == 0, 0);
        from_fn(move |item: u64, _: &mut Outlet<()>| {
            kept.lock().unwrap().push(item);
            count += 1;
            Ok(if first && count == 3 { Flow::Eos } else { Flow::GoOn })
        })
    };
    (graph.node("sink", Same, keep).workers(3).add(), kept)
}

fn third(n: &u64) -> usize {
    *n as usize / 2 % 3
}

pub(super) fn one_whose_receiver_ends(graph: &mut Graph) -> Kept<u64> {
    let (numbers, step) = (numbers(graph), same(graph, 1, false));
    let (sink, kept) = keep_until(graph);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(2).by(third).add();
    kept
}

fn at_most_once(items: &[u64]) -> bool {
    let mut sorted = items.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|two| two[0] < two[1])
}

pub(super) fn all_of_those_that_go_on(items: &[u64]) -> bool {
    let go_on = (0..COUNT).filter(|n| third(n) != 0);
    at_most_once(items) && go_on.into_iter().all(|n| items.contains(&n))
}

pub(super) fn some_receivers_end(graph: &mut Graph) -> Kept<u64> {
    let (numbers, step) = (numbers(graph), same(graph, 1, false));
    let (sink, kept) = keep_until(graph);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(2).add();
    kept
}

/// What was in the lane of the one that ended is lost: no more than that has room for, and what was
/// put there by those who died before they counted it.
pub(super) fn most_of_them_once(items: &[u64]) -> bool {
    at_most_once(items) && items.len() as u64 >= COUNT - 2 - 4
}
