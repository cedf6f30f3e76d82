//! Graphs with a process that is killed, called `step`, and what must come out of them.

mod blocks;
mod circles;
mod long;
mod odd;
mod several;

use msgproc::flow::{
    Cause, Flow, Graph, Node, NodeBuilder, NodeRef, Outlet, PlainProcess, Process, Same, Thread,
    each, flat_map, from_fn, map, map_async, source,
};

use self::several::{a_farm_in_a_thread, a_source_and_a_node, two_in_a_thread, two_in_two_threads};
use self::{
    blocks::{a_source_of_blocks, blocks},
    circles::{a_circle, a_forking_way, two_in_a_circle},
    long::{a_source_of_long_items, long_items, long_items_in_order, long_items_with_blocks},
    odd::{
        all_but_two, all_of_those_that_go_on, most_of_them_once, one_behind_another,
        one_that_leaves_out, one_that_speaks_at_ends, one_whose_receiver_ends, some_receivers_end,
        those_that_speak_in_order, what_is_said_at_ends, what_is_said_in_order,
    },
};
use super::words;
use crate::common::{Kept, Says, again};

pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) make: fn(&mut Graph) -> Kept<u64>,
    pub(super) check: Check,
    /// Whether its sources are told to end while the victim dies.
    pub(super) stops: bool,
    /// Whether another one is walked well that passes the same points.
    pub(super) is_like_another: bool,
}

/// What must come out.
pub(super) enum Check {
    InOrder(fn() -> Vec<u64>),
    AnyOrder(fn() -> Vec<u64>),
    /// As this says, whatever the deaths were.
    As(fn(&[u64]) -> bool),
}

const fn shape(name: &'static str, make: fn(&mut Graph) -> Kept<u64>, check: Check) -> Shape {
    Shape { name, make, check, stops: false, is_like_another: false }
}

const fn like_another(shape: Shape) -> Shape {
    Shape { is_like_another: true, ..shape }
}

const fn in_order(
    name: &'static str,
    make: fn(&mut Graph) -> Kept<u64>,
    expected: fn() -> Vec<u64>,
) -> Shape {
    shape(name, make, Check::InOrder(expected))
}

const fn unordered(
    name: &'static str,
    make: fn(&mut Graph) -> Kept<u64>,
    expected: fn() -> Vec<u64>,
) -> Shape {
    shape(name, make, Check::AnyOrder(expected))
}

pub(super) const SHAPES: &[Shape] = &[
    in_order("a_source", a_source, all),
    in_order("a_source_of_many_workers", a_source_of_many_workers, all),
    in_order("a_node", a_node, all),
    in_order("a_plain_node", a_plain_node, all),
    in_order("one_item_at_a_time", one_item_at_a_time, all),
    unordered("a_sink", a_sink, all),
    unordered("one_of_several_workers", one_of_several_workers, all),
    in_order("one_of_several_in_order", one_of_several_in_order, all),
    in_order("the_second_of_two_farms_in_order", the_second_of_two_farms_in_order, many),
    in_order("many_outputs_for_an_item", many_outputs, many),
    in_order("outputs_at_the_end", outputs_at_the_end, with_an_end),
    unordered("outputs_at_the_ends_of_inputs", one_that_speaks_at_ends, what_is_said_at_ends),
    in_order("outputs_at_the_end_in_order", those_that_speak_in_order, what_is_said_in_order),
    unordered("items_to_each_in_turn", items_to_each_in_turn, all),
    unordered("items_by_what_they_are", items_by_what_they_are, all),
    unordered("clones_to_all", clones_to_all, thrice),
    unordered("chosen_receivers_and_outputs", chosen, chosen_items),
    in_order("blocks", blocks, all),
    in_order("a_source_of_blocks", a_source_of_blocks, all),
    in_order("one_behind_another_that_dies", one_behind_another, many),
    shape("one_that_leaves_items_out", one_that_leaves_out, Check::As(all_but_two)),
    shape("one_whose_receiver_ends", one_whose_receiver_ends, Check::As(all_of_those_that_go_on)),
    shape("one_some_of_whose_receivers_end", some_receivers_end, Check::As(most_of_them_once)),
    in_order("two_in_a_thread", two_in_a_thread, many),
    in_order("two_in_two_threads", two_in_two_threads, many),
    in_order("a_source_and_a_node_in_a_thread", a_source_and_a_node, many),
    in_order("a_farm_in_order_in_a_thread", a_farm_in_a_thread, many),
    Shape {
        stops: true,
        ..shape("a_source_that_is_stopped", a_source_without_end, Check::As(some_and_the_end))
    },
    Shape {
        stops: true,
        ..shape("a_numbering_source_that_is_stopped", one_that_numbers, Check::As(some_and_the_end))
    },
    unordered("a_circle", a_circle, all),
    like_another(unordered("two_in_a_circle", two_in_a_circle, many)),
    like_another(unordered("a_forking_way", a_forking_way, all)),
    in_order("a_node_that_awaits", a_node_that_awaits, all),
    like_another(in_order("several_that_await_in_order", several_that_await_in_order, all)),
    in_order("long_items", long_items, all),
    in_order("a_source_of_long_items", a_source_of_long_items, all),
    like_another(in_order("long_items_in_order", long_items_in_order, all)),
    like_another(in_order("long_items_with_blocks", long_items_with_blocks, all)),
];

pub(super) const COUNT: u64 = 30;

fn all() -> Vec<u64> {
    (0..COUNT).collect()
}

/// Adds a node here, or several, that keep what comes to them.
fn keep(graph: &mut Graph, workers: usize) -> (NodeRef<u64, ()>, Kept<u64>) {
    let kept = Kept::default();
    (keep_more(graph, "sink", &kept, 0).workers(workers).add(), kept)
}

fn keep_more<'a>(
    graph: &'a mut Graph,
    name: &str,
    kept: &Kept<u64>,
    more: u64,
) -> NodeBuilder<'a, u64, ()> {
    let kept = kept.clone();
    graph.node(name, Same, move |_| {
        let kept = kept.clone();
        each(move |item: u64| kept.lock().unwrap().push(item + more))
    })
}

fn numbers(graph: &mut Graph) -> NodeRef<(), u64> {
    graph.source("numbers", Thread, 0..COUNT)
}

/// Puts a node between the numbers and where they are kept, with lanes of some items each.
fn between(
    graph: &mut Graph,
    add: impl FnOnce(&mut Graph) -> NodeRef<u64, u64>,
    (before, behind): (usize, usize),
) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = add(graph);
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), step.input()).capacity(before).add();
    graph.edge(step.output(), sink.input()).capacity(behind).add();
    kept
}

fn a_source(graph: &mut Graph) -> Kept<u64> {
    let step = graph.node("step", Process, |_| source(0..COUNT)).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), sink.input()).capacity(8).add();
    kept
}

fn a_source_of_many_workers(graph: &mut Graph) -> Kept<u64> {
    let step = graph.node("step", Process, |_| source(0..COUNT)).on_error(again()).add();
    let farm = graph.node("farm", Thread, |_| map(|n: u64| n)).workers(2).ordered(true).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), farm.input()).capacity(8).add();
    graph.edge(farm.output(), sink.input()).capacity(8).add();
    kept
}

fn same(graph: &mut Graph, workers: usize, ordered: bool) -> NodeRef<u64, u64> {
    let step = graph.node("step", Process, |_| map(|n: u64| n));
    step.workers(workers).ordered(ordered).on_error(again()).add()
}

fn a_node(graph: &mut Graph) -> Kept<u64> {
    between(graph, |graph| same(graph, 1, false), (12, 8))
}

fn one_item_at_a_time(graph: &mut Graph) -> Kept<u64> {
    between(graph, |graph| same(graph, 1, false), (1, 1))
}

fn a_plain_node(graph: &mut Graph) -> Kept<u64> {
    let step = |graph: &mut Graph| {
        graph.node("step", PlainProcess, |_| map(|n: u64| n)).on_error(again()).add()
    };
    between(graph, step, (12, 8))
}

fn one_of_several_workers(graph: &mut Graph) -> Kept<u64> {
    between(graph, |graph| same(graph, 2, false), (12, 8))
}

fn one_of_several_in_order(graph: &mut Graph) -> Kept<u64> {
    between(graph, |graph| same(graph, 2, true), (12, 8))
}

/// Some take longer than those behind them.
async fn wait(n: u64) -> u64 {
    if n.is_multiple_of(3) {
        tokio::time::sleep(std::time::Duration::from_micros(100)).await;
    }
    n
}

fn a_node_that_awaits(graph: &mut Graph) -> Kept<u64> {
    let step = |graph: &mut Graph| {
        graph.node("step", Process, |_| map_async(4, wait)).on_error(again()).add()
    };
    between(graph, step, (12, 8))
}

fn several_that_await_in_order(graph: &mut Graph) -> Kept<u64> {
    let step = |graph: &mut Graph| {
        let step = graph.node("step", Process, |_| map_async(4, wait)).workers(2).ordered(true);
        step.on_error(again()).add()
    };
    between(graph, step, (12, 8))
}

/// What it has done stands in words that outlive it.
fn a_sink(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", Process, |_| each(words::note)).on_error(again()).add();
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    Kept::default()
}

/// Nothing comes of some items, and much of others.
fn some(n: u64) -> Vec<u64> {
    vec![n; [0, 1, 7][n as usize % 3]]
}

fn many() -> Vec<u64> {
    all().into_iter().flat_map(some).collect()
}

fn many_outputs(graph: &mut Graph) -> Kept<u64> {
    let step =
        |graph: &mut Graph| graph.node("step", Process, |_| flat_map(some)).on_error(again()).add();
    between(graph, step, (12, 4))
}

fn the_second_of_two_farms_in_order(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let first = graph.node("first", Process, |_| map(|n: u64| n));
    let first = first.workers(2).ordered(true).on_error(again()).add();
    let step = graph.node("step", Process, |_| flat_map(some));
    let step = step.workers(3).ordered(true).on_error(again()).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(numbers.output(), first.input()).capacity(8).add();
    graph.edge(first.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), sink.input()).capacity(4).add();
    kept
}

/// What a node has left to say.
const LAST: std::ops::Range<u64> = 1000..1010;

fn with_an_end() -> Vec<u64> {
    (0..COUNT).chain(LAST).collect()
}

fn outputs_at_the_end(graph: &mut Graph) -> Kept<u64> {
    let step =
        |graph: &mut Graph| graph.node("step", Process, |_| Says(LAST)).on_error(again()).add();
    between(graph, step, (12, 3))
}

fn items_to_each_in_turn(graph: &mut Graph) -> Kept<u64> {
    let (numbers, step) = (numbers(graph), same(graph, 1, false));
    let (sink, kept) = keep(graph, 3);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(4).round_robin().add();
    kept
}

fn items_by_what_they_are(graph: &mut Graph) -> Kept<u64> {
    let (numbers, step) = (numbers(graph), same(graph, 1, false));
    let (sink, kept) = keep(graph, 3);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(4).by(|n| *n as usize / 3).add();
    kept
}

fn thrice() -> Vec<u64> {
    all().into_iter().flat_map(|n| [n; 3]).collect()
}

fn clones_to_all(graph: &mut Graph) -> Kept<u64> {
    let (numbers, step) = (numbers(graph), same(graph, 1, false));
    let (sink, kept) = keep(graph, 3);
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(4).to_all().add();
    kept
}

fn chosen_items() -> Vec<u64> {
    let mut items: Vec<u64> =
        all().into_iter().flat_map(|n| [n, n + 100, n + 200, n + 300]).collect();
    items.sort_unstable();
    items
}

/// It says itself who gets an item, and sends others to whoever the edge chooses, of two outputs;
/// two edges leave the second.
fn chosen(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let step = graph.node("step", Process, |_| {
        from_fn(|n: u64, out: &mut Outlet<u64>| {
            out.send_to(n as usize / 2, n)?;
            out.send(n + 100)?;
            out.send_on(1, n + 200)?;
            Ok(Flow::GoOn)
        })
    });
    let step = step.on_error(again()).add();
    let (sink, kept) = keep(graph, 2);
    let other = keep_more(graph, "other", &kept, 0).workers(2).add();
    let third = keep_more(graph, "third", &kept, 100).add();
    graph.edge(numbers.output(), step.input()).capacity(12).add();
    graph.edge(step.output(), sink.input()).capacity(4).add();
    graph.edge(step.output_at(1).cloned(), other.input()).capacity(4).add();
    graph.edge(step.output_at(1), third.input()).capacity(4).add();
    kept
}

/// A source that goes on until it is stopped, and then has something left to say.
struct WithoutEnd(u64);

impl Node for WithoutEnd {
    type In = ();
    type Out = u64;

    fn svc(&mut self, (): (), out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(self.0)?;
        self.0 += 1;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        for n in LAST {
            out.send(MANY + n)?;
        }
        Ok(())
    }
}

/// More than a source without end has.
const MANY: u64 = 1 << 40;

fn without_end(graph: &mut Graph) -> NodeRef<(), u64> {
    graph.node("step", Process, |_| WithoutEnd(0)).on_error(again()).add()
}

fn a_source_without_end(graph: &mut Graph) -> Kept<u64> {
    let step = without_end(graph);
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), sink.input()).capacity(8).add();
    kept
}

fn one_that_numbers(graph: &mut Graph) -> Kept<u64> {
    let step = without_end(graph);
    let farm = graph.node("farm", Thread, |_| map(|n: u64| n)).workers(2).ordered(true).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), farm.input()).capacity(8).add();
    graph.edge(farm.output(), sink.input()).capacity(8).add();
    kept
}

fn some_and_the_end(items: &[u64]) -> bool {
    let count = items.iter().filter(|n| **n < MANY).count() as u64;
    items.iter().copied().eq((0..count).chain(LAST.map(|n| MANY + n)))
}
