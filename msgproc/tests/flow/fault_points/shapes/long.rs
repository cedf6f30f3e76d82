//! Graphs whose items are too long for a message.

use msgproc::flow::{Graph, Input, Memory, NodeRef, Output, Process, Thread, map, source, try_map};
use shmring::block::{Block, LoanError};

use super::{COUNT, Kept, again, keep, numbers};

/// Longer than half of this is long; so some of the items are, one after the other and by themselves.
const ROOM: usize = 16 << 10;

/// An item that is of this number alone.
fn long(n: u64) -> Vec<u64> {
    let len = [1, 3000, 9000, 5000, 0][n as usize % 5];
    (0..=len).map(|at| n * 1000 + at).collect()
}

fn number(item: &[u64]) -> u64 {
    let n = item[0] / 1000;
    assert!(item == long(n), "{n} is torn");
    n
}

fn narrow<T: Send + 'static>(graph: &mut Graph, from: Output<T>, to: Input<T>) {
    graph.edge(from, to).capacity(8).capacity_bytes(ROOM).add();
}

fn read_from<I, T: Send + 'static>(
    graph: &mut Graph,
    step: &NodeRef<I, T>,
    read: &NodeRef<T, u64>,
) -> Kept<u64> {
    let (sink, kept) = keep(graph, 1);
    narrow(graph, step.output(), read.input());
    graph.connect(read.output(), sink.input());
    kept
}

/// It takes long items, and sends them.
pub(super) fn long_items(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let fill = graph.node("fill", Thread, |_| map(long)).add();
    let step = graph.node("step", Process, |_| map(|item: Vec<u64>| item));
    let step = step.on_error(again()).add();
    let read = graph.node("read", Thread, |_| map(|item: Vec<u64>| number(&item))).add();
    graph.connect(numbers.output(), fill.input());
    narrow(graph, fill.output(), step.input());
    read_from(graph, &step, &read)
}

pub(super) fn a_source_of_long_items(graph: &mut Graph) -> Kept<u64> {
    let step = graph.node("step", Process, |_| source((0..COUNT).map(long)));
    let step = step.on_error(again()).add();
    let read = graph.node("read", Thread, |_| map(|item: Vec<u64>| number(&item))).add();
    read_from(graph, &step, &read)
}

/// Several workers that keep the order.
pub(super) fn long_items_in_order(graph: &mut Graph) -> Kept<u64> {
    let numbers = numbers(graph);
    let fill = graph.node("fill", Thread, |_| map(long)).add();
    let step = graph.node("step", Process, |_| map(|item: Vec<u64>| item));
    let step = step.workers(2).ordered(true).on_error(again()).add();
    let read = graph.node("read", Thread, |_| map(|item: Vec<u64>| number(&item)));
    let read = read.workers(2).ordered(true).add();
    graph.connect(numbers.output(), fill.input());
    narrow(graph, fill.output(), step.input());
    read_from(graph, &step, &read)
}

/// Each has blocks in it besides.
pub(super) fn long_items_with_blocks(graph: &mut Graph) -> Kept<u64> {
    let memory = Memory::with_blocks(96, 256).unwrap();
    let pool = memory.pool().unwrap().clone();
    graph.set_memory(&memory);
    let numbers = numbers(graph);
    let fill = graph.node("fill", Thread, move |_| {
        let pool = pool.clone();
        try_map(move |n: u64| -> Result<(Vec<u64>, [Block; 2]), LoanError> {
            let block = |n: u64| {
                let mut loan = pool.loan()?;
                loan.as_bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
                Ok(loan.freeze())
            };
            Ok((long(n), [block(n)?, block(n + 1)?]))
        })
    });
    let fill = fill.add();
    let step = graph.node("step", Process, |_| map(|item: (Vec<u64>, [Block; 2])| item));
    let step = step.on_error(again()).add();
    let read = graph.node("read", Thread, |_| {
        map(|(item, blocks): (Vec<u64>, [Block; 2])| {
            let n = number(&item);
            for (block, is) in blocks.iter().zip(n..) {
                assert_eq!(block.as_bytes()[..8], is.to_le_bytes());
            }
            n
        })
    });
    let read = read.add();
    graph.connect(numbers.output(), fill.input());
    narrow(graph, fill.output(), step.input());
    read_from(graph, &step, &read)
}
