//! Farms and pipelines of processes and threads, beside what others do the same work with.

use std::{hint::black_box, thread, time::Instant};

use msgproc::{
    flow::{
        Flow, Graph, Memory, Outlet, Place, Placement, PlainProcess, Process, Same, Thread,
        WorkerInfo, each, from_fn, fuse, map,
    },
    prelude::*,
};
use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use shmring::block::Block;

use super::{pair::Result, stats};

/// Turns of the loop that is the work of a task: one piece of code that keeps its sum in a register,
/// so that it is as fast wherever it is called. Nobody can know the outcome of one call from another.
#[inline(never)]
fn work(turns: u64) -> u64 {
    let turns = black_box(turns);
    black_box((0..turns).fold(turns, |sum, turn| sum.rotate_left(5) ^ turn))
}

/// How many turns take a microsecond, at best: now and then something else has the processor.
fn turns_in_a_microsecond() -> f64 {
    let turns = 2_000_000;
    let rate = |_| {
        let began = Instant::now();
        work(turns);
        turns as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    (0..20).map(rate).fold(0.0, f64::max)
}

/// The rivals run in a process of their own: their threads stay.
struct Rival;

#[backend]
impl Rival {
    /// Parallel map on two threads: seconds.
    fn c__rayon(&mut self, tasks: u64, turns: u64) -> f64 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let began = Instant::now();
        let sum: u64 = pool.install(|| {
            (0..tasks).into_par_iter().map(|task| work(turns).wrapping_add(task)).sum()
        });
        black_box(sum);
        began.elapsed().as_secs_f64()
    }

    /// Two threads between a bounded channel of tasks and one of results: seconds.
    fn c__crossbeam_farm(&mut self, tasks: u64, turns: u64) -> f64 {
        let (give, take) = crossbeam_channel::bounded::<u64>(1024);
        let (answer, answers) = crossbeam_channel::bounded::<u64>(1024);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..2 {
                let (take, answer) = (take.clone(), answer.clone());
                scope.spawn(move || {
                    for task in take {
                        answer.send(work(turns).wrapping_add(task)).unwrap();
                    }
                });
            }
            drop((take, answer));
            scope.spawn(move || (0..tasks).for_each(|task| give.send(task).unwrap()));
            assert_eq!(answers.iter().count() as u64, tasks);
        });
        began.elapsed().as_secs_f64()
    }

    /// From one thread to another through a bounded channel: seconds.
    fn c__crossbeam_pipe(&mut self, items: u64) -> f64 {
        let (tx, rx) = crossbeam_channel::bounded::<u64>(1024);
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || (0..items).for_each(|item| tx.send(item).unwrap()));
            assert_eq!(rx.iter().count() as u64, items);
        });
        began.elapsed().as_secs_f64()
    }
}

/// A farm of two workers: seconds.
fn farm<P>(place: P, tasks: u64, turns: u64, ordered: bool) -> Result<f64>
where
    P: Place<u64>,
{
    let mut graph = Graph::new();
    let numbers = graph.source("tasks", Thread, 0..tasks);
    let worker = graph
        .node("worker", place, move |_| map(move |task: u64| work(turns).wrapping_add(task)))
        .workers(2)
        .ordered(ordered)
        .add();
    let sink = graph.node("sink", Same, |_| each(|_: u64| ())).add();
    graph.connect(numbers.output(), worker.input());
    graph.connect(worker.output(), sink.input());
    let report = graph.run()?;
    assert_eq!(report.node("sink").unwrap().items_in(), tasks);
    Ok(report.elapsed.as_secs_f64())
}

/// Two short functions, called by one node, as two nodes in one, and as neighbours in a thread:
/// seconds.
fn neighbours(items: u64, how: Neighbours) -> Result<f64> {
    let first = |n: u64| black_box(n.wrapping_mul(3));
    let second = |n: u64| black_box(n ^ 7);
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Same, 0..items);
    let (input, output) = match how {
        Neighbours::Called => {
            let node = graph.node("both", Same, move |_| map(move |n| second(first(n)))).add();
            (node.input(), node.output())
        }
        Neighbours::Fused => {
            let make = move |_: &WorkerInfo| fuse(map(first), map(second));
            let node = graph.node("both", Same, make).add();
            (node.input(), node.output())
        }
        Neighbours::Same => {
            let one = graph.node("first", Same, move |_| map(first)).add();
            let other = graph.node("second", Same, move |_| map(second)).add();
            graph.connect(one.output(), other.input());
            (one.input(), other.output())
        }
    };
    let sink = graph.node("sink", Same, |_| each(|n: u64| _ = black_box(n))).add();
    graph.connect(numbers.output(), input);
    graph.connect(output, sink.input());
    Ok(graph.run()?.elapsed.as_secs_f64())
}

#[derive(Clone, Copy)]
enum Neighbours {
    Called,
    Fused,
    Same,
}

/// From one place to another: seconds.
fn pipe<T, P>(place: P, items: u64, item: T) -> Result<f64>
where
    T: Clone + Send + Sync + 'static,
    P: Place<T> + Place<()>,
{
    let mut graph = Graph::new();
    let source = graph.source("source", place, std::iter::repeat_n(item, usize::try_from(items)?));
    let sink = graph.node("sink", place, |_| each(|_: T| ())).add();
    graph.connect(source.output(), sink.input());
    let report = graph.run()?;
    assert_eq!(report.node("sink").unwrap().items_in(), items);
    Ok(report.elapsed.as_secs_f64())
}

/// Blocks of 1 MiB of which the first bytes are touched, through two workers: seconds.
fn blocks(tasks: u64, touch_all: bool) -> Result<f64> {
    let memory = Memory::with_blocks(32, 1 << 20)?;
    let pool = memory.pool().ok_or("it has blocks")?.clone();
    pool.prefault()?;
    let mut graph = Graph::new();
    graph.set_memory(&memory);
    let numbers = graph.source("tasks", Same, 0..tasks);
    let fill = graph
        .node("fill", Same, move |_| {
            let pool = pool.clone();
            from_fn(move |task: u64, out: &mut Outlet<Block>| {
                let mut loan = out.wait_for(|| pool.try_loan().ok())?;
                if touch_all {
                    loan.as_bytes_mut().fill(task as u8);
                } else {
                    loan.as_bytes_mut()[..8].copy_from_slice(&task.to_le_bytes());
                }
                out.send(loan.freeze())?;
                Ok(Flow::GoOn)
            })
        })
        .add();
    let read = graph
        .node("read", Process, move |_| {
            map(move |block: Block| {
                let bytes = block.as_bytes();
                if touch_all {
                    bytes.chunks_exact(8).fold(0, |sum: u64, word| {
                        sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap()))
                    })
                } else {
                    u64::from(bytes[0])
                }
            })
        })
        .workers(2)
        .add();
    let sink = graph.node("sink", Same, |_| each(|_: u64| ())).add();
    graph.connect(numbers.output(), fill.input());
    graph.connect(fill.output(), read.input());
    graph.connect(read.output(), sink.input());
    let report = graph.run()?;
    assert_eq!(report.blocks_in_use, 0);
    Ok(report.elapsed.as_secs_f64())
}

/// The same graph with items of 64 bytes in the place of the blocks: seconds.
fn small_items(tasks: u64) -> Result<f64> {
    let mut graph = Graph::new();
    let numbers = graph.source("tasks", Same, 0..tasks);
    let fill = graph
        .node("fill", Same, |_| {
            from_fn(|task: u64, out: &mut Outlet<[u64; 8]>| {
                out.send([task; 8])?;
                Ok(Flow::GoOn)
            })
        })
        .add();
    let read = graph.node("read", Process, |_| map(|item: [u64; 8]| item[0])).workers(2).add();
    let sink = graph.node("sink", Same, |_| each(|_: u64| ())).add();
    graph.connect(numbers.output(), fill.input());
    graph.connect(fill.output(), read.input());
    graph.connect(read.output(), sink.input());
    Ok(graph.run()?.elapsed.as_secs_f64())
}

/// Start and stop of three stages, each a process: seconds.
fn start_and_stop() -> Result<f64> {
    let place = Placement::Process;
    let mut graph = Graph::new();
    let source = graph.source("source", place, 0..1_u64);
    let step = graph.node("step", place, |_| map(|item: u64| item)).add();
    let sink = graph.node("sink", place, |_| each(|_: u64| ())).add();
    graph.connect(source.output(), step.input());
    graph.connect(step.output(), sink.input());
    let began = Instant::now();
    graph.run()?;
    Ok(began.elapsed().as_secs_f64())
}

/// A process that does nothing, until it has been waited for.
fn bare_fork() -> Result {
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        // SAFETY: ends the process without its parent's destructors.
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => waitpid(child, None)?,
    };
    Ok(())
}

fn median(repetitions: u32, mut one: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut all = (0..repetitions).map(|_| one()).collect::<Result<Vec<_>>>()?;
    Ok(stats::median(&mut all))
}

pub(crate) fn measure(repetitions: u32) -> Result {
    let repetitions = repetitions.min(7);
    let rival =
        || -> Result<MessageProcess<Rival>> { Ok(MessageProcess::fork("bench-rival", |_| Rival)?) };
    let turns = turns_in_a_microsecond();
    println!("\nFarms of two workers, time of a task:");
    println!(
        "  {:>8} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "task", "processes", "ordered", "threads", "crossbeam", "rayon"
    );
    for (micros, tasks) in [(0.0, 2_000_000_u64), (1.0, 400_000), (10.0, 100_000), (100.0, 20_000)]
    {
        let turns = (micros * turns) as u64;
        let each = |seconds: f64| stats::time(seconds * 1e9 / tasks as f64);
        let mut sums: [Vec<f64>; 5] = Default::default();
        for _ in 0..repetitions {
            sums[0].push(farm(Process, tasks, turns, false)?);
            sums[1].push(farm(Process, tasks, turns, true)?);
            sums[2].push(farm(Thread, tasks, turns, false)?);
            let mut rival = rival()?;
            sums[3].push(rival.crossbeam_farm(tasks, turns).wait()?);
            sums[4].push(rival.rayon(tasks, turns).wait()?);
            rival.stop()?;
        }
        let [processes, ordered, threads, crossbeam, rayon] =
            sums.map(|mut all| stats::median(&mut all));
        println!(
            "  {:>6}us {:>12} {:>12} {:>12} {:>12} {:>12}   {:.3} of rayon's throughput, ordered {:.2}",
            micros,
            each(processes),
            each(ordered),
            each(threads),
            each(crossbeam),
            each(rayon),
            rayon / processes,
            ordered / processes,
        );
    }
    println!("\nPipelines, time of an item:");
    let items = 3_000_000;
    let each = |seconds: f64| stats::time(seconds * 1e9 / items as f64);
    let plain = median(repetitions, || pipe(PlainProcess, items, [1_u64; 8]))?;
    let processes = median(repetitions, || pipe(Process, items, [1_u64; 8]))?;
    let small = median(repetitions, || pipe(Process, items, 1_u64))?;
    let threads = median(repetitions, || pipe(Thread, items, 1_u64))?;
    let channel = median(repetitions, || {
        let mut rival = rival()?;
        let seconds = rival.crossbeam_pipe(items).wait()?;
        rival.stop()?;
        Ok(seconds)
    })?;
    println!(
        "  processes, 64 B as plain data {}, by serde {}, 8 B by serde {}",
        each(plain),
        each(processes),
        each(small)
    );
    println!("  threads {}, crossbeam-channel {}", each(threads), each(channel));
    let [called, fused, same] = [Neighbours::Called, Neighbours::Fused, Neighbours::Same]
        .map(|how| median(repetitions, || neighbours(items, how)));
    println!(
        "  one thread: two functions called by a node {}, fused {}, as neighbours {}",
        each(called?),
        each(fused?),
        each(same?)
    );
    let tasks = 20_000;
    let (mut heads, mut smalls) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        heads.push(blocks(tasks, false)? * 1e9 / tasks as f64);
        smalls.push(small_items(tasks)? * 1e9 / tasks as f64);
    }
    let (head, small) = (stats::median(&mut heads), stats::median(&mut smalls));
    let whole = median(repetitions, || blocks(tasks / 10, true))? * 1e10 / tasks as f64;
    println!("\nBlocks of 1 MiB through two workers:");
    println!(
        "  head only {}, {:.2} of the same with items of 64 B, {}; written and read {}, {:.1} GB/s",
        stats::time(head),
        head / small,
        stats::time(small),
        stats::time(whole),
        1.048_576e6 / whole
    );
    let run = median(repetitions, start_and_stop)?;
    let forks = median(repetitions, || {
        let began = Instant::now();
        for _ in 0..3 {
            bare_fork()?;
        }
        Ok(began.elapsed().as_secs_f64())
    })?;
    println!("\nThree stages, each a process, start to stop:");
    println!(
        "  {} beside {} for three bare forks: {:.2}",
        stats::time(run * 1e9),
        stats::time(forks * 1e9),
        run / forks
    );
    Ok(())
}
