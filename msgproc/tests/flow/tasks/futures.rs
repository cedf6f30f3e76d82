//! Futures at every place: what comes of them, how many there are, and in which order.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use msgproc::flow::{
    Farm, Graph, Part, Pipeline, Placement, Process, Same, Task, each_async, filter_async,
    flat_map_async, fuse, map, map_async, try_each_async, try_map_async,
};
use testkit::thread_count;
use tokio::{runtime::Handle, time::sleep};

use super::{Counted, assert_clean};
use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(futures_at_every_pair_of_places),
        testkit::test!(every_verb),
        testkit::test!(as_many_at_a_time_as_are_asked_for),
        testkit::test!(results_go_on_when_they_are_there),
        testkit::test!(order_is_kept_where_it_is_asked_for),
        testkit::test!(slow_futures_hold_the_source_back),
        testkit::test!(what_is_at_task_shares_a_thread_and_a_runtime),
        testkit::test!(neighbours_that_await),
        testkit::test!(farms_that_await),
    ]
}

/// numbers at `a` → awaited at `b` → here.
fn awaited(a: Placement, b: Placement, count: u64, ordered: bool) -> Vec<u64> {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", a, 0..count);
    let make = |_: &_| {
        map_async(16, async |n: u64| {
            if n.is_multiple_of(7) {
                tokio::task::yield_now().await;
            }
            n + 1
        })
    };
    let plus = graph.node("plus", b, make).ordered(ordered).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), plus.input());
    graph.connect(plus.output(), sink.input());
    let report = graph.run().unwrap();
    assert_eq!(report.node("plus").unwrap().items_in(), count, "{a} {b}");
    assert_eq!(report.node("plus").unwrap().items_out(), count, "{a} {b}");
    taken(&kept)
}

fn futures_at_every_pair_of_places() {
    for a in PLACES {
        for b in PLACES {
            for count in [0, 1, 2000] {
                let expected: Vec<u64> = (1..=count).collect();
                assert_eq!(awaited(a, b, count, true), expected, "{a} {b}");
                let mut items = awaited(a, b, count, false);
                items.sort_unstable();
                assert_eq!(items, expected, "{a} {b}");
            }
        }
    }
    assert_clean();
}

fn every_verb() {
    let even = async |n: u64| n.is_multiple_of(2);
    let none = async |_: Option<u64>| ();
    let sum = Arc::new(Mutex::new(0));
    let sums = sum.clone();
    let report = Pipeline::from(0..100_u64)
        .stage("even", Task, move |_| filter_async(4, even))
        .stage("twice", Task, |_| flat_map_async(4, async |n: u64| [n, n]))
        .stage("tried", Task, |_| try_map_async(4, async |n: u64| Ok::<_, io::Error>(n + 1)))
        .stage("sum", Task, move |_| {
            let sums = sums.clone();
            map_async(4, move |n: u64| {
                let sums = sums.clone();
                async move {
                    *sums.lock().unwrap() += n;
                    Some(n)
                }
            })
        })
        .stage("none", Task, move |_| each_async(4, none))
        .run()
        .unwrap();
    assert_eq!(
        *sum.lock().unwrap(),
        (0..100).filter(|n| n % 2 == 0).map(|n| 2 * (n + 1)).sum::<u64>()
    );
    assert_eq!(report.node("none").unwrap().items_in(), 100);
    assert_eq!(report.node("none").unwrap().items_out(), 0);
    let fails = async |n: u64| if n == 7 { Err("seven") } else { Ok(()) };
    let run =
        Pipeline::from(0..100_u64).stage("end", Task, move |_| try_each_async(4, fails)).run();
    assert_eq!(run.unwrap_err().failure().unwrap().message, "seven");
    assert_clean();
}

fn as_many_at_a_time_as_are_asked_for() {
    for place in [Placement::Task, Placement::Thread, Placement::Same] {
        for most in [1, 10] {
            let counts = Arc::<(AtomicUsize, AtomicUsize)>::default();
            let count = counts.clone();
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Thread, 0..40_u64);
            let waits = move |_: &_| {
                let count = count.clone();
                each_async(most, move |_: u64| {
                    let counted = Counted::new(&count);
                    async move {
                        sleep(Duration::from_millis(5)).await;
                        drop(counted);
                    }
                })
            };
            let waits = graph.node("waits", place, waits).add();
            graph.connect(numbers.output(), waits.input());
            graph.run().unwrap();
            assert_eq!(counts.1.load(Ordering::Relaxed), most, "{place}");
            assert_eq!(counts.0.load(Ordering::Relaxed), 0, "{place}");
        }
    }
    assert_clean();
}

/// Also while nothing more comes.
fn results_go_on_when_they_are_there() {
    for place in [Placement::Task, Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let (feed, source) = graph.feed::<u64, _>("feed", Placement::Thread, 8);
        let wait = |_: &_| {
            map_async(8, async |n: u64| {
                sleep(Duration::from_millis(20)).await;
                n
            })
        };
        let waits = graph.node("waits", place, wait).add();
        graph.connect(source.output(), waits.input());
        let results = graph.results("results", waits.output(), 8);
        let run = graph.start().unwrap();
        let mut quickest = Duration::MAX;
        for n in 0..5 {
            let began = Instant::now();
            feed.offload(n).unwrap();
            assert_eq!(results.result(), Some(n), "{place}");
            quickest = quickest.min(began.elapsed());
        }
        assert!(quickest < Duration::from_millis(60), "{place}: {quickest:?}");
        feed.end();
        assert_eq!(results.result(), None, "{place}");
        run.wait().unwrap();
    }
    assert_clean();
}

fn order_is_kept_where_it_is_asked_for() {
    let late_first = async |n: u64| {
        sleep(Duration::from_millis(if n == 0 { 100 } else { 0 })).await;
        n
    };
    for place in PLACES {
        for ordered in [true, false] {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Same, 0..10_u64);
            let late = graph.node("late", place, move |_| map_async(10, late_first));
            let late = late.ordered(ordered).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), late.input());
            graph.connect(late.output(), sink.input());
            graph.run().unwrap();
            let items = taken(&kept);
            assert_eq!(items.len(), 10);
            match ordered {
                true => assert!(items.is_sorted(), "{place}: {items:?}"),
                false => assert_eq!(items.last(), Some(&0), "{place}: {items:?}"),
            }
        }
    }
    assert_clean();
}

fn slow_futures_hold_the_source_back() {
    for place in PLACES {
        let mut graph = Graph::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let endless = (0_u64..).inspect(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let numbers = graph.source("numbers", Placement::Thread, endless);
        let never = |_: &_| each_async(5, async |_: u64| std::future::pending::<()>().await);
        let never = graph.node("never", place, never).add();
        graph.edge(numbers.output(), never.input()).capacity(20).add();
        let run = graph.start().unwrap();
        thread::sleep(Duration::from_millis(100));
        let sent = sent.load(Ordering::Relaxed);
        assert!((5..200).contains(&sent), "{place}: {sent} items");
        let began = Instant::now();
        drop(run);
        assert!(began.elapsed() < Duration::from_secs(1), "{place}: {:?}", began.elapsed());
    }
    assert_clean();
}

/// Neighbours at the same place are one node, of which both may await.
fn neighbours_that_await() {
    let slow = async |n: u64| {
        sleep(Duration::from_micros(n * 7919 % 500)).await;
        n
    };
    let both = || {
        Pipeline::from(0..500_u64)
            .stage("first", Same, move |_| map_async(20, slow))
            .stage("double", Same, |_| map(|n: u64| 2 * n))
            .stage("second", Same, move |_| map_async(10, slow))
    };
    let mut items = both().run_collect().unwrap();
    items.sort_unstable();
    assert!(items.into_iter().eq((0..500).map(|n| 2 * n)));
    let fails = async |n: u64| if n == 400 { Err("no more") } else { Ok(n) };
    let run = both().stage("third", Same, move |_| try_map_async(4, fails)).run();
    assert_eq!(run.unwrap_err().failure().unwrap().message, "no more");
    assert_clean();
}

fn farms_that_await() {
    let slow = async |n: u64| {
        sleep(Duration::from_micros(n * 7919 % 500)).await;
        n
    };
    let farm = Farm::new("farm", Task, move |_| map_async(5, slow)).workers(4);
    let mut items = farm.run_collect(0..500_u64).unwrap();
    items.sort_unstable();
    assert!(items.into_iter().eq(0..500));
    let farm = Farm::new("farm", Process, move |_| map_async(20, slow)).workers(1).ordered();
    assert!(farm.run_collect(0..500_u64).unwrap().into_iter().eq(0..500));
    assert_clean();
}

fn what_is_at_task_shares_a_thread_and_a_runtime() {
    type Seen = Arc<Mutex<BTreeSet<(String, String)>>>;
    let seen = Seen::default();
    let see = |seen: &Seen, of: ThreadId| {
        let runtime = format!("{:?}", Handle::current().id());
        seen.lock().unwrap().insert((format!("{of:?}"), runtime));
    };
    let threads = Arc::new(AtomicUsize::new(0));
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Task, 0..100_u64);
    // A node that awaits nothing finds the runtime, spawns there, and may wait for it.
    let (seen_by, count) = (seen.clone(), threads.clone());
    let blocks = move |_: &_| {
        let (seen, count) = (seen_by.clone(), count.clone());
        map(move |n: u64| {
            see(&seen, thread::current().id());
            count.fetch_max(thread_count(), Ordering::Relaxed);
            let spawned = tokio::spawn(async move {
                sleep(Duration::from_micros(10)).await;
                n + 1
            });
            Handle::current().block_on(spawned).unwrap()
        })
    };
    let blocks = graph.node("blocks", Task, blocks).workers(10).add();
    let inside = Seen::default();
    let (seen_by, inside_of) = (seen.clone(), inside.clone());
    let waits = move |_: &_| {
        let inside = inside_of.clone();
        let outside = seen_by.clone();
        let first = map(move |n: u64| {
            see(&outside, thread::current().id());
            n
        });
        let second = map_async(4, move |n: u64| {
            let inside = inside.clone();
            async move {
                sleep(Duration::from_micros(10)).await;
                see(&inside, thread::current().id());
                n + 1
            }
        });
        fuse(first, second)
    };
    let waits = graph.node("waits", Task, waits).workers(10).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), blocks.input());
    graph.connect(blocks.output(), waits.input());
    graph.connect(waits.output(), sink.input());
    graph.run().unwrap();
    assert_eq!(taken(&kept).into_iter().sum::<u64>(), (2..102).sum::<u64>());
    let (seen, inside) = (seen.lock().unwrap(), inside.lock().unwrap());
    assert_eq!((seen.len(), inside.len()), (1, 1), "{seen:?} {inside:?}");
    let (outside, inside) = (seen.first().unwrap(), inside.first().unwrap());
    assert_eq!(outside.1, inside.1, "one runtime");
    assert_ne!(outside.0, inside.0, "futures go on while a node blocks");
    // The test itself, the thread of these nodes and that of the runtime.
    assert_eq!(threads.load(Ordering::Relaxed), 3);
    assert_clean();
}
