//! Graphs in which something else goes wrong as well: others die, items are left out, receivers end.

use msgproc::flow::{
    Cause, Flow, Graph, Node, NodeRef, OnError, Outlet, Process, Same, Thread, WorkerInfo,
    flat_map, from_fn, map,
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

/// Says of each end of an input more than goes into a message.
struct Speaks;

const SAID: u64 = 5;

impl Node for Speaks {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(item)?;
        Ok(Flow::GoOn)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        for number in 0..SAID {
            out.send(1000 * (1 + input as u64) + number)?;
        }
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        Ok(out.send(5000)?)
    }
}

/// Two of its three inputs end while the third goes on.
pub(super) fn one_that_speaks_at_ends(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let few = graph.source("few", Thread, 100..103_u64);
    let none = graph.source("none", Thread, 0..0_u64);
    let step = graph.node("step", Process, |_| Speaks).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(none.output(), step.input_at(1)).add();
    graph.edge(few.output(), step.input_at(2)).add();
    graph.edge(numbers.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), sink.input()).capacity(4).add();
    kept
}

pub(super) fn what_is_said_at_ends() -> Vec<u64> {
    let said = (1..4).flat_map(|input| (0..SAID).map(move |number| 1000 * input + number));
    (0..COUNT).chain(100..103).chain(said).chain([5000]).collect()
}

/// Two workers that keep the order, and two behind them.
pub(super) fn those_that_speak_in_order(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", Process, |_| Speaks);
    let step = step.workers(2).ordered(true).on_error(again()).add();
    let behind = graph.node("behind", Thread, |_| Speaks);
    let behind = behind.workers(2).ordered(true).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), behind.input()).capacity(4).add();
    graph.edge(behind.output(), sink.input()).capacity(4).add();
    kept
}

/// Each of four workers says the same, and those in front first.
pub(super) fn what_is_said_in_order() -> Vec<u64> {
    let said = (0..SAID).map(|number| 1000 + number).chain([5000]);
    (0..COUNT).chain([0; 4].into_iter().flat_map(|_| said.clone())).collect()
}
