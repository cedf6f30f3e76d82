//! Graphs whose items are blocks.

use msgproc::flow::{Flow, Graph, Memory, Outlet, Process, Thread, from_fn, map, try_map};
use shmring::block::{Block, BlockPool, LoanError};

use super::{COUNT, Kept, again, keep, numbers};

fn filled(pool: &BlockPool, n: u64) -> Result<Block, LoanError> {
    let mut loan = pool.loan()?;
    loan.as_bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
    Ok(loan.freeze())
}

fn content(block: &Block) -> u64 {
    u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap())
}

fn memory_of(graph: &mut Graph) -> BlockPool {
    let memory = Memory::with_blocks(48, 256).unwrap();
    graph.set_memory(&memory);
    memory.pool().unwrap().clone()
}

pub(super) fn blocks(graph: &mut Graph) -> Kept<u64> {
    let pool = memory_of(graph);
    let numbers = numbers(graph);
    let fill = graph.node("fill", Thread, move |_| {
        let pool = pool.clone();
        try_map(move |n: u64| filled(&pool, n))
    });
    let fill = fill.add();
    let step = graph.node("step", Process, |_| map(|block: Block| block)).on_error(again()).add();
    let read = graph.node("read", Thread, |_| map(|block: Block| content(&block))).add();
    let (sink, kept) = keep(graph, 1);
    graph.connect(numbers.output(), fill.input());
    graph.edge(fill.output(), step.input()).capacity(8).add();
    graph.edge(step.output(), read.input()).capacity(8).add();
    graph.connect(read.output(), sink.input());
    kept
}

pub(super) fn a_source_of_blocks(graph: &mut Graph) -> Kept<u64> {
    let pool = memory_of(graph);
    let step = graph.node("step", Process, move |_| {
        let (pool, mut next) = (pool.clone(), 0..COUNT);
        from_fn(move |(), out: &mut Outlet<Block>| {
            let Some(n) = next.next() else { return Ok(Flow::Eos) };
            out.send(filled(&pool, n)?)?;
            Ok(Flow::GoOn)
        })
    });
    let step = step.on_error(again()).add();
    let read = graph.node("read", Thread, |_| map(|block: Block| content(&block))).add();
    let (sink, kept) = keep(graph, 1);
    graph.edge(step.output(), read.input()).capacity(8).add();
    graph.connect(read.output(), sink.input());
    kept
}
