//! Futures that fail or do not end, and nodes that cannot await any.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use msgproc::flow::{
    Cause, Error, Failure, FailureKind, Farm, Graph, OnError, Part, Placement, Same, Task, Thread,
    each, fuse, map, map_async, stage, try_map_async,
};

use super::{Counted, assert_clean};
use crate::common::{Kept, PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(futures_that_fail),
        testkit::test!(futures_that_fail_at_the_end),
        testkit::test!(futures_that_fail_are_left_out_or_begun_again),
        testkit::test!(futures_that_never_end_are_dropped),
        testkit::test!(where_nothing_can_be_awaited),
    ]
}

/// 1000 numbers, of which `fails` says something about one, and what came of them.
fn run_with<E: Into<Cause> + 'static>(
    place: Placement,
    on_error: OnError,
    fails: impl AsyncFn(u64) -> Result<u64, E> + Copy + Send + Sync + 'static,
) -> (Result<msgproc::flow::Report, Error>, Vec<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..1000_u64);
    let make = move |_: &_| try_map_async(8, move |n| async move { fails(n).await });
    let tried = graph.node("tried", place, make).ordered(true).on_error(on_error).add();
    let (sink, kept): (_, Kept<u64>) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), tried.input());
    graph.connect(tried.output(), sink.input());
    (graph.run(), taken(&kept))
}

fn futures_that_fail() {
    let at = |run: Result<_, Error>, place| -> Failure {
        let Err(Error::Failed(failure)) = run else { panic!("{place} did not fail") };
        assert_eq!((&*failure.node, failure.item), ("tried", Some(700)), "{place}");
        *failure
    };
    for place in PLACES {
        let fails = async |n: u64| match n {
            700 => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            n => Ok(n),
        };
        let failure = at(run_with(place, OnError::fail(), fails).0, place);
        assert_eq!(failure.kind, FailureKind::Error, "{place}");
        let panics = async |n: u64| {
            tokio::task::yield_now().await;
            assert!(n != 700, "no more");
            Ok::<_, Cause>(n)
        };
        let failure = at(run_with(place, OnError::fail(), panics).0, place);
        assert_eq!(failure.kind, FailureKind::Panic, "{place}");
        assert!(failure.message.contains("no more"), "{place}: {failure}");
    }
    assert_clean();
}

/// All are on their way when the node is told that nothing more comes.
fn futures_that_fail_at_the_end() {
    let at = |run: Result<_, Error>| -> (Option<u64>, FailureKind) {
        let Err(Error::Failed(failure)) = run else { panic!("it did not fail") };
        (failure.item, failure.kind)
    };
    let late = async |n: u64| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(n != 6, "no more");
        if n == 3 { Err(io::Error::from(io::ErrorKind::AddrInUse)) } else { Ok(n) }
    };
    for place in PLACES {
        let run = |numbers: Range<u64>, ordered| {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Thread, numbers);
            let make = move |_: &_| try_map_async(100, move |n| async move { late(n).await });
            let late = graph.node("late", place, make).ordered(ordered).add();
            graph.connect(numbers.output(), late.input());
            at(graph.run())
        };
        for ordered in [false, true] {
            assert_eq!(run(0..5, ordered), (Some(3), FailureKind::Error), "{place}");
            assert_eq!(run(4..10, ordered), (Some(2), FailureKind::Panic), "{place}");
        }
    }
    let stage = stage::task::try_map(move |n| async move { late(n).await }).workers(100);
    assert_eq!(at((stage::from_iter(0..5_u64) | stage).run()), (Some(3), FailureKind::Error));
    let nobody = stage::task::map(async |n: u64| n).workers(0);
    let error = (stage::from_iter(0..5_u64) | nobody).run().unwrap_err();
    assert!(error.to_string().contains("has no workers"), "{error}");
    assert_clean();
}

fn futures_that_fail_are_left_out_or_begun_again() {
    for place in PLACES {
        let fails = async |n: u64| if n % 100 == 50 { Err("fifty") } else { Ok(n) };
        for retries in [0, 2] {
            let (run, items) = run_with(place, OnError::retry(retries).or_skip(), fails);
            assert!(items.into_iter().eq((0..1000).filter(|n| n % 100 != 50)), "{place}");
            let report = run.unwrap();
            let worker = &report.node("tried").unwrap().workers[0];
            let retries = u64::from(retries);
            assert_eq!((worker.skipped, worker.retries), (10, 10 * retries), "{place}");
        }
        let run = run_with(place, OnError::retry(2), fails).0;
        assert_eq!(run.unwrap_err().failure().unwrap().message, "fifty", "{place}");
    }
    assert_clean();
}

fn futures_that_never_end_are_dropped() {
    for place in [Placement::Task, Placement::Thread, Placement::Same] {
        let counts = Arc::<(AtomicUsize, AtomicUsize)>::default();
        let count = counts.clone();
        let never = move |_: &_| {
            let count = count.clone();
            map_async(10, move |n: u64| {
                let counted = Counted::new(&count);
                async move {
                    if n > 3 {
                        std::future::pending::<()>().await;
                    }
                    drop(counted);
                    n
                }
            })
        };
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Thread, 0_u64..);
        let never = graph.node("never", place, never).add();
        graph.connect(numbers.output(), never.input());
        let results = graph.results("results", never.output(), 8);
        let run = graph.start().unwrap();
        let mut some: Vec<u64> = (0..4).map(|_| results.result().unwrap()).collect();
        some.sort_unstable();
        assert_eq!(some, [0, 1, 2, 3]);
        drop((results, run));
        assert_eq!(counts.0.load(Ordering::Relaxed), 0, "{place}");
        assert!(counts.1.load(Ordering::Relaxed) >= 6, "{place}");
    }
    assert_clean();
}

fn where_nothing_can_be_awaited() {
    let now = async |n: u64| n;
    let refused = |run: Result<_, Error>, why: &str| {
        let Err(Error::Failed(failure)) = run else { panic!("it was begun") };
        assert_eq!(failure.kind, FailureKind::Init);
        assert!(failure.message.contains(why), "{failure}");
    };
    let fused = move || fuse(map_async(5, now), map(|n: u64| n));
    let farm = Farm::new("farm", Task, move |_| fused()).workers(2).ordered();
    refused(farm.run_collect(0..5_u64).map(drop), "nodes of their own");
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Same, 0..5_u64);
    let around = graph.node("around", Thread, move |_| map_async(5, now)).add();
    graph.connect(numbers.output(), around.input());
    graph.edge(around.output(), around.input()).feedback(5).add();
    refused(graph.run().map(drop), "cannot begin with it");
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Same, 0..5_u64);
    let both = move |_: &_| fuse(map_async(5, now), each(|_: u64| ()));
    let both = graph.node("both", Same, both).skip_errors().add();
    graph.connect(numbers.output(), both.input());
    refused(graph.run().map(drop), "a node of its own");
    assert_clean();
}
