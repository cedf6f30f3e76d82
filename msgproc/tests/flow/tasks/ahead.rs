//! Futures whose messages stay in their lanes: where processes are replaced, where several workers
//! keep the order, and in circles.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use msgproc::flow::{
    Error, FailureKind, Farm, Flow, Graph, Memory, Node, OnError, Outlet, Part, Placement, Process,
    Report, Task, Thread, WorkerInfo, each_async, flat_map_async, from_fn,
    join::{ByTick, Joined, WhenFull},
    map, map_async, try_map_async,
};
use shmring::block::Block;
use tokio::time::sleep;

use super::{Counted, assert_clean};
use crate::{
    common::{again, at, fill, keep, taken},
    death::{with_kills, with_quick_kills},
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(processes_with_futures_are_replaced),
        testkit::test!(blocks_are_awaited_in_processes_that_die),
        testkit::test!(an_item_that_kills_is_found_among_those_on_their_way),
        testkit::test!(what_dies_beside_futures_is_found),
        testkit::test!(a_future_that_fails_in_a_process_that_is_replaced),
        testkit::test!(as_many_are_on_their_way_as_may_be),
        testkit::test!(several_workers_that_await_keep_the_order),
        testkit::test!(those_of_one_thread_await_in_turn),
        testkit::test!(what_is_finished_goes_on_when_a_join_wants_it),
        testkit::test!(futures_in_a_circle),
        testkit::test!(long_items_are_awaited),
        testkit::test!(what_is_in_a_box_awaits_too),
    ]
}

/// Some take longer than those behind them.
async fn wait(n: u64) -> u64 {
    if n.is_multiple_of(3) {
        sleep(Duration::from_micros(n % 7 * 300)).await;
    }
    n
}

/// Numbers through one awaiting node, in processes that are killed.
fn through<N>(
    place: Placement,
    workers: usize,
    make: impl Fn() -> N + Send + Sync + 'static,
) -> (Report, u64, Vec<u64>)
where
    N: Node<In = u64, Out = u64>,
{
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..3000_u64);
    let step = graph.node("step-awaits", place, move |_| make()).workers(workers);
    let step = step.on_error(again()).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.edge(numbers.output(), step.input()).capacity(100).add();
    graph.edge(step.output(), sink.input()).capacity(100).add();
    let (report, kills) = with_quick_kills(graph, 7);
    (report, kills, taken(&kept))
}

fn processes_with_futures_are_replaced() {
    for (place, workers) in [(Placement::Process, 1), (Placement::Process, 2), (at(1, 1), 1)] {
        let (report, kills, mut items) = through(place, workers, || map_async(20, wait));
        assert!(kills > 0);
        if workers > 1 {
            items.sort_unstable();
        }
        // In their order: which of them were finished first is not known to one that comes later.
        assert_eq!(items, (0..3000).collect::<Vec<_>>(), "{place}, {kills} kills\n{report}");
    }
    let some = |n: u64| async move { vec![wait(n).await; n as usize % 3] };
    let (report, kills, items) = through(Placement::Process, 1, move || flat_map_async(5, some));
    let expected: Vec<u64> = (0..3000).flat_map(|n| vec![n; n as usize % 3]).collect();
    assert_eq!(items, expected, "{kills} kills\n{report}");
    assert_clean();
}

fn blocks_are_awaited_in_processes_that_die() {
    let memory = Memory::with_blocks(64, 64).unwrap();
    let pool = memory.pool().unwrap().clone();
    let mut graph = Graph::new();
    graph.set_memory(&memory);
    let numbers = graph.source("numbers", Thread, 0..1500_u64);
    let fill = graph.node("fill", Thread, move |_| fill(&pool)).add();
    let read = |block: &Block| u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap());
    let on = move |block: Block| async move {
        wait(read(&block)).await;
        block
    };
    let step = graph.node("step-blocks", Process, move |_| map_async(10, on));
    let step = step.on_error(again()).add();
    let reads = graph.node("reads", Thread, move |_| map(move |block: Block| read(&block))).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), fill.input());
    graph.edge(fill.output(), step.input()).capacity(20).add();
    graph.edge(step.output(), reads.input()).capacity(20).add();
    graph.connect(reads.output(), sink.input());
    let (report, kills) = with_quick_kills(graph, 3);
    assert_eq!(taken(&kept), (0..1500).collect::<Vec<_>>(), "{kills} kills\n{report}");
    assert_eq!(report.blocks_in_use, 0, "{report}");
    assert_clean();
}

/// 300 numbers, of which some kill whoever awaits them.
fn with_killers(on_error: OnError, killers: &'static [u64]) -> (Result<Report, Error>, Vec<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..300_u64);
    let kills = move |n: u64| async move {
        if killers.contains(&n) {
            sleep(Duration::from_millis(1)).await;
            testkit::kill9(std::process::id());
        }
        wait(n).await
    };
    let step = graph.node("awaits", Process, move |_| map_async(20, kills)).on_error(on_error);
    let step = step.add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    (graph.run(), taken(&kept))
}

fn an_item_that_kills_is_found_among_those_on_their_way() {
    let (run, items) = with_killers(OnError::quarantine(2), &[77, 78, 250]);
    let report = run.unwrap();
    let expected: Vec<u64> = (0..300).filter(|n| ![77, 78, 250].contains(n)).collect();
    assert_eq!(items, expected, "{report}");
    let awaits = report.node("awaits").unwrap();
    assert_eq!(awaits.workers[0].quarantined, 3, "{report}");
    // For each of them, once among others and twice by itself, or twice where it came next.
    let restarts = awaits.workers[0].restarts;
    assert!((6..=9).contains(&restarts), "{report}");
    let (run, items) = with_killers(OnError::retry(2), &[120]);
    let Err(Error::Failed(failure)) = run else { panic!("it went on") };
    assert_eq!((failure.kind, failure.item), (FailureKind::Died, Some(120)), "{failure}");
    assert!(items.len() <= 120 && items.iter().copied().eq(0..items.len() as u64));
    assert_clean();
}

/// A node in the same process dies over an item while futures of another one are on their way.
fn what_dies_beside_futures_is_found() {
    for (awaits, dies) in [(at(1, 0), at(1, 0)), (at(1, 0), at(1, 1))] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..300_u64);
        let waits = |n: u64| async move {
            sleep(Duration::from_millis(1)).await;
            n
        };
        let awaits = graph.node("awaits", awaits, move |_| map_async(20, waits));
        let awaits = awaits.on_error(OnError::quarantine(2)).add();
        let kills = |n: u64| {
            if n == 99 {
                testkit::kill9(std::process::id());
            }
            n
        };
        let dies = graph.node("dies", dies, move |_| map(kills));
        let dies = dies.on_error(OnError::quarantine(2)).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), awaits.input());
        graph.connect(awaits.output(), dies.input());
        graph.connect(dies.output(), sink.input());
        let report = graph.run().unwrap();
        let expected: Vec<u64> = (0..300).filter(|n| *n != 99).collect();
        assert_eq!(taken(&kept), expected, "{report}");
        assert_eq!(report.node("awaits").unwrap().workers[0].quarantined, 0, "{report}");
        assert_eq!(report.node("dies").unwrap().workers[0].quarantined, 1, "{report}");
    }
    assert_clean();
}

fn a_future_that_fails_in_a_process_that_is_replaced() {
    let run = |on_error: OnError| {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..300_u64);
        let fails = |n: u64| async move {
            match wait(n).await {
                120 => Err("no more"),
                n => Ok(n),
            }
        };
        let step = graph.node("tries", Process, move |_| try_map_async(20, fails));
        let step = step.on_error(on_error).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        (graph.run(), taken(&kept))
    };
    let (failed, items) = run(OnError::retry(2));
    let Err(Error::Failed(failure)) = failed else { panic!("it went on") };
    assert_eq!((failure.kind, failure.item), (FailureKind::Error, Some(120)), "{failure}");
    assert!(items.iter().copied().eq(0..items.len() as u64));
    let (report, items) = run(OnError::quarantine(2));
    let report = report.unwrap();
    assert_eq!(items, (0..300).filter(|n| *n != 120).collect::<Vec<_>>(), "{report}");
    assert_eq!(report.node("tries").unwrap().workers[0].skipped, 1, "{report}");
    assert_clean();
}

/// What is on its way at a time is told by the items, since it is counted in another process.
fn as_many_are_on_their_way_as_may_be() {
    const AT_ONCE: usize = 20;
    for (place, workers) in [(Placement::Process, 1), (Placement::Process, 2), (at(1, 1), 1)] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..400_u64);
        let make = |_: &_| {
            let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
            map_async(AT_ONCE, move |_: u64| {
                let counts = counts.clone();
                async move {
                    let one = Counted::new(&counts);
                    sleep(Duration::from_millis(5)).await;
                    drop(one);
                    counts.1.load(Ordering::Relaxed) as u64
                }
            })
        };
        let step = graph.node("awaits", place, make).workers(workers).on_error(again()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        let report = graph.run().unwrap();
        let items = taken(&kept);
        assert_eq!(items.len(), 400);
        assert_eq!(items.iter().max(), Some(&(AT_ONCE as u64)), "{place}\n{report}");
        // Most of the time: all of it takes 400 * 5 ms / 20 with one worker.
        assert!(report.elapsed < Duration::from_millis(1000), "{place}\n{report}");
    }
    assert_clean();
}

/// Workers of one thread that wait for room lie on each other: what is finished at once does not all
/// have its turn at once.
fn those_of_one_thread_await_in_turn() {
    let some = |n: u64| async move {
        if n.is_multiple_of(5) {
            sleep(Duration::from_micros(50)).await;
        }
        n
    };
    for place in [Placement::Same, Placement::Task, at(1, 0)] {
        for round in 0..20 {
            let count = [1000, 1, 3, 50][round % 4];
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Thread, 0..count);
            let awaits = graph.node("awaits", place, move |_| map_async(3, some)).workers(3);
            let awaits = awaits.ordered(true).add();
            let (sink, kept) = keep::<u64>(&mut graph, "sink");
            graph.edge(numbers.output(), awaits.input()).capacity(50).add();
            graph.edge(awaits.output(), sink.input()).capacity(3).add();
            let report = graph.run().unwrap();
            assert!(taken(&kept).into_iter().eq(0..count), "{place}\n{report}");
        }
    }
    assert_clean();
}

/// Several messages are finished at once, and the join wants the next when it has taken the first:
/// whoever has it hears of that, rather than look again after a while.
fn what_is_finished_goes_on_when_a_join_wants_it() {
    const COUNT: u64 = 1000;
    let some = |n: u64| async move {
        if n % 7 == 3 {
            sleep(Duration::from_micros(50)).await;
        }
        n
    };
    let mut graph = Graph::new();
    let source = graph.source("numbers", Thread, 0..COUNT);
    let awaits = graph.node("awaits", Thread, move |_| map_async(4, some));
    let awaits = awaits.places([at(0, 1), at(0, 2)]).ordered(true).add();
    let before = graph.node("before", at(0, 2), |_| map(|n: u64| n)).add();
    let beside = graph.node("beside", at(0, 1), |_| map(|n: u64| n)).add();
    let by_tick = |_: &WorkerInfo| {
        Joined::by_tick(ByTick::new(2, 100), |n: &u64| Some(*n)).when_full(WhenFull::Wait)
    };
    let joined = graph.node("join", Thread, by_tick).add();
    let (sink, kept) = keep::<Vec<u64>>(&mut graph, "sink");
    graph.connect(source.output().cloned(), before.input());
    graph.connect(source.output().cloned(), beside.input());
    graph.edge(before.output(), awaits.input()).capacity(4).add();
    graph.edge(beside.output(), joined.input_at(0)).capacity(1).add();
    graph.edge(awaits.output(), joined.input_at(1)).capacity(1).add();
    graph.connect(joined.output(), sink.input());
    let report = graph.run().unwrap();
    assert!(taken(&kept).into_iter().eq((0..COUNT).map(|n| vec![n, n])), "{report}");
    // So it takes a few seconds if it takes a tenth of one for each ten of them.
    assert!(report.elapsed < Duration::from_secs(3), "{report}");
}

fn several_workers_that_await_keep_the_order() {
    for place in [Placement::Same, Placement::Thread, Placement::Task, Placement::Process] {
        let farm = Farm::new("farm", place, |_| map_async(20, wait)).workers(3).ordered();
        let items = farm.run_collect(0..3000_u64).unwrap();
        assert_eq!(items, (0..3000).collect::<Vec<_>>(), "{place}");
        let some = |n: u64| async move { vec![wait(n).await; n as usize % 3] };
        let farm = Farm::new("farm", place, move |_| flat_map_async(2, some)).workers(2).ordered();
        let items = farm.run_collect(0..300_u64).unwrap();
        let expected: Vec<u64> = (0..300).flat_map(|n| vec![n; n as usize % 3]).collect();
        assert_eq!(items, expected, "{place}");
    }
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..3000_u64);
    let first = graph.node("step-first", Process, |_| map_async(3, wait)).workers(2).ordered(true);
    let first = first.on_error(again()).add();
    let second = graph.node("step-second", Process, |_| map_async(7, wait)).workers(3);
    let second = second.ordered(true).on_error(again()).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.edge(numbers.output(), first.input()).capacity(50).add();
    graph.edge(first.output(), second.input()).capacity(50).add();
    graph.edge(second.output(), sink.input()).capacity(50).add();
    let (report, kills) = with_quick_kills(graph, 5);
    assert_eq!(taken(&kept), (0..3000).collect::<Vec<_>>(), "{kills} kills\n{report}");
    assert_clean();
}

/// Each number is halved until it is 1, and waits in between.
fn futures_in_a_circle() {
    let circle = |place: Placement, workers: usize, count: u64| {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 1..=count);
        let head = graph.node("head", Thread, |_| map(|n: u64| n)).add();
        let waits = graph.node("step-waits", place, |_| map_async(5, wait)).workers(workers);
        let waits = waits.on_error(again()).add();
        let tail = graph.node("tail", Thread, |_| {
            from_fn(|n: u64, out: &mut Outlet<u64>| {
                if n > 1 {
                    out.send_on(1, n / 2)?
                } else {
                    out.send(n)?
                }
                Ok(Flow::GoOn)
            })
        });
        let tail = tail.add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(numbers.output(), head.input()).capacity(50).add();
        graph.edge(head.output(), waits.input()).capacity(20).add();
        graph.edge(waits.output(), tail.input()).capacity(20).add();
        graph.edge(tail.output_at(1), head.input()).feedback(30).add();
        graph.edge(tail.output(), sink.input()).capacity(10).add();
        (graph, kept)
    };
    for place in [Placement::Same, Placement::Thread, Placement::Task, Placement::Process] {
        for workers in [1, 3] {
            let (graph, kept) = circle(place, workers, 200);
            let report = graph.run().unwrap();
            assert_eq!(taken(&kept), vec![1; 200], "{place}\n{report}");
        }
    }
    let (graph, kept) = circle(Placement::Process, 2, 1000);
    let (report, kills) = with_quick_kills(graph, 9);
    assert_eq!(taken(&kept), vec![1; 1000], "{kills} kills\n{report}");
    assert_clean();
}

fn long_items_are_awaited() {
    let mut graph = Graph::new();
    let long = |n: u64| vec![n as u8; if n.is_multiple_of(4) { 300_000 } else { 10 }];
    let items = graph.source("items", Thread, (0..60_u64).map(long));
    let ends = |item: &[u8]| item.len() as u64 + u64::from(item[item.len() - 1]);
    let measure = move |item: Vec<u8>| async move {
        wait(item.len() as u64).await;
        ends(&item)
    };
    let step = graph.node("step-long", Process, move |_| map_async(6, measure));
    let step = step.on_error(again()).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(items.output(), step.input());
    graph.connect(step.output(), sink.input());
    let (report, kills) = with_kills(graph, 30, 11);
    let expected: Vec<u64> = (0..60).map(|n| ends(&long(n))).collect();
    assert_eq!(taken(&kept), expected, "{kills} kills\n{report}");
    assert_clean();
}

/// What is in a box says only when it is made that it awaits.
fn what_is_in_a_box_awaits_too() {
    let boxed = || -> Box<dyn Node<In = u64, Out = u64>> { Box::new(map_async(5, wait)) };
    let (report, kills, items) = through(Placement::Process, 1, boxed);
    assert_eq!(items, (0..3000).collect::<Vec<_>>(), "{kills} kills\n{report}");
    let farm = Farm::new("farm", Placement::Same, move |_| boxed()).workers(2).ordered();
    assert_eq!(farm.run_collect(0..50_u64).unwrap(), (0..50).collect::<Vec<_>>());
    // And one that sends nothing.
    let began = Instant::now();
    let seen: BTreeSet<u64> = (0..50).collect();
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Task, 0..50_u64);
    let each = move |n: u64| {
        let known = seen.contains(&n);
        async move { assert!(known) }
    };
    let sink = graph.node("sink", Process, move |_| each_async(5, each.clone()));
    let sink = sink.on_error(again()).add();
    graph.connect(numbers.output(), sink.input());
    assert_eq!(graph.run().unwrap().node("sink").unwrap().items_in(), 50);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_clean();
}
