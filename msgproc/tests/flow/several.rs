//! Processes with several workers that are killed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use msgproc::flow::{
    Cause, Error, FailureKind, Flow, Graph, Node, NodeRef, OnError, Outlet, Placement, Report,
    Same, Thread, WorkerInfo, flat_map, from_fn, fuse, map, source,
};

use crate::{
    common::{Kept, again, at, keep, taken},
    death::{expected, with_kills},
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(two_in_a_thread_are_killed, timeout = 120),
        testkit::test!(two_in_two_threads_are_killed, timeout = 120),
        testkit::test!(a_whole_chain_is_killed, timeout = 120),
        testkit::test!(fused_nodes_beside_others_are_killed, timeout = 120),
        testkit::test!(a_farm_of_pipelines_is_killed, timeout = 120),
        testkit::test!(a_farm_in_order_in_one_process_is_killed, timeout = 120),
        testkit::test!(narrow_lanes_in_a_process_are_killed, timeout = 120),
        testkit::test!(one_that_has_ended_stays_so),
        testkit::test!(the_item_of_the_one_at_work_is_left_out),
        testkit::test!(the_item_of_one_of_two_at_work_is_left_out),
        testkit::test!(a_source_that_always_kills_fails_the_run),
        testkit::test!(the_one_at_work_is_told_of),
        testkit::test!(why_a_process_is_not_replaced),
    ]
}

static WORK: AtomicU64 = AtomicU64::new(0);

fn work(n: u64) -> u64 {
    for _ in 0..1000 {
        WORK.fetch_add(n, Ordering::Relaxed);
    }
    n
}

fn some(n: u64) -> Vec<u64> {
    vec![work(n); if n.is_multiple_of(3) { 2 } else { 1 }]
}

const COUNT: u64 = 40_000;

/// Numbers, one node after the other at these places, and where they are kept.
fn chain(places: &[Placement]) -> (Graph, Kept<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..COUNT);
    let mut last = numbers.output();
    for (number, place) in places.iter().enumerate() {
        let name = format!("step-{number}");
        let node = match number {
            0 => graph.node(&name, *place, |_| map(work)).on_error(again()).add(),
            1 => graph.node(&name, *place, |_| flat_map(some)).on_error(again()).add(),
            _ => graph.node(&name, *place, |_| map(|n: u64| n)).on_error(again()).add(),
        };
        graph.edge(last, node.input()).capacity(100).add();
        last = node.output();
    }
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(last, sink.input());
    (graph, kept)
}

#[track_caller]
fn kill_all_the_time(graph: Graph, kept: &Kept<u64>, expected: &[u64], seed: u64) -> Report {
    let (report, kills) = with_kills(graph, 30, seed);
    let items = taken(kept);
    let wrong = items.iter().zip(expected).position(|(one, other)| one != other);
    assert!(
        items == expected,
        "{kills} kills, {} items of {}, wrong from {wrong:?} on\n{report}",
        items.len(),
        expected.len()
    );
    assert!(kills > 3, "{kills} kills only\n{report}");
    report
}

fn two_in_a_thread_are_killed() {
    let (graph, kept) = chain(&[at(1, 0), at(1, 0)]);
    let report = kill_all_the_time(graph, &kept, &expected(COUNT), 88_172_645_463_325_252);
    let restarts = |node| report.node(node).unwrap().workers[0].restarts;
    assert!(restarts("step-0") > 2 && restarts("step-0").abs_diff(restarts("step-1")) <= 1);
}

fn two_in_two_threads_are_killed() {
    let (graph, kept) = chain(&[at(1, 2), at(1, 1)]);
    kill_all_the_time(graph, &kept, &expected(COUNT), 3_172_645_463_325_253);
}

/// Back and forth between two processes and their threads.
fn a_whole_chain_is_killed() {
    let (graph, kept) = chain(&[at(1, 0), at(2, 1), at(1, 1), at(2, 1), at(2, 0), at(1, 0)]);
    kill_all_the_time(graph, &kept, &expected(COUNT), 7_172_645_463_325_259);
}

fn fused_nodes_beside_others_are_killed() {
    let mut graph = Graph::new();
    let numbers =
        graph.node("step-numbers", at(1, 0), |_| source(0..COUNT)).on_error(again()).add();
    let both = graph.node("step-both", at(1, 0), |_| fuse(map(work), flat_map(some)));
    let both = both.on_error(again()).add();
    let last = graph.node("step-last", at(1, 1), |_| map(work)).on_error(again()).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), both.input());
    graph.connect(both.output(), last.input());
    graph.connect(last.output(), sink.input());
    kill_all_the_time(graph, &kept, &expected(COUNT), 9_172_645_463_325_257);
}

/// Each worker of a farm is two nodes in a process of their own.
fn farm_of_pipelines(ordered: bool) -> (Graph, Kept<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..COUNT);
    let first = graph.node("step-first", at(1, 0), |_| map(work));
    let first = first.places([at(1, 0), at(2, 0)]).ordered(ordered).on_error(again()).add();
    let second = graph.node("step-second", at(1, 0), |_| flat_map(some));
    let second = second.places([at(1, 0), at(2, 1)]).ordered(ordered).on_error(again()).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), first.input());
    graph.edge(first.output(), second.input()).straight().add();
    graph.connect(second.output(), sink.input());
    (graph, kept)
}

fn a_farm_of_pipelines_is_killed() {
    let (graph, kept) = farm_of_pipelines(true);
    kill_all_the_time(graph, &kept, &expected(COUNT), 18_172_645_463_325_252);
    let (graph, kept) = farm_of_pipelines(false);
    let (report, kills) = with_kills(graph, 30, 88_172_645_463_325_255);
    let mut items = taken(&kept);
    items.sort_unstable();
    assert!(items == expected(COUNT), "{kills} kills, {} items\n{report}", items.len());
}

/// Three workers in one thread, whose turns are known again after a death.
fn a_farm_in_order_in_one_process_is_killed() {
    let count = 10_000;
    for thread in [0, 1] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Thread, 0..count);
        let first = graph.node("step-first", at(1, 0), |_| map(work));
        let first = first.workers(3).ordered(true).on_error(again()).add();
        let second = graph.node("step-second", at(1, thread), |_| flat_map(some));
        let second = second.workers(2).ordered(true).on_error(again()).add();
        let last = graph.node("step-last", at(1, 0), |_| map(work)).on_error(again()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(numbers.output(), first.input()).capacity(20).add();
        graph.edge(first.output(), second.input()).capacity(2).add();
        graph.edge(second.output(), last.input()).capacity(1).add();
        graph.edge(last.output(), sink.input()).capacity(3).add();
        kill_all_the_time(graph, &kept, &expected(count), 28_172_645_463_325_252);
    }
}

/// Their senders wait all the time, and the receiver is in the same thread, or in another one.
fn narrow_lanes_in_a_process_are_killed() {
    for thread in [0, 1] {
        let mut graph = Graph::new();
        let count = 1500;
        let numbers =
            graph.node("step-numbers", at(1, 0), move |_| source(0..count)).on_error(again()).add();
        let many = graph.node("step-many", at(1, thread), |_| flat_map(|n| vec![work(n); 5]));
        let many = many.on_error(again()).add();
        let last = graph.node("step-last", at(1, 0), |_| map(work)).on_error(again()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(numbers.output(), many.input()).capacity(1).add();
        graph.edge(many.output(), last.input()).capacity(2).add();
        graph.edge(last.output(), sink.input()).capacity(1).add();
        let expected: Vec<u64> = (0..count).flat_map(|n| [n; 5]).collect();
        kill_all_the_time(graph, &kept, &expected, 38_172_645_463_325_252);
    }
}

/// Says how often it began and ended, and ends early if it is to.
struct Counted {
    began: Arc<Mutex<shmring::board::Board>>,
    last: Option<u64>,
}

impl Node for Counted {
    type In = u64;
    type Out = u64;

    fn svc_init(&mut self, _: &WorkerInfo) -> Result<(), Cause> {
        self.began.lock().unwrap().add(0, 1);
        Ok(())
    }

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(item)?;
        Ok(if Some(item) == self.last { Flow::Eos } else { Flow::GoOn })
    }

    fn svc_end(&mut self, _: &mut Outlet<u64>) -> Result<(), Cause> {
        self.began.lock().unwrap().add(1, 1);
        Ok(())
    }
}

/// One of two nodes in a process ends early, and those who send to it go on to others after a death.
fn one_that_has_ended_stays_so() {
    for thread in [0, 1] {
        let board = shmring::board::Board::options().words(2).bells(1).anonymous().unwrap();
        let shared = Arc::new(Mutex::new(board.clone()));
        let mut graph = Graph::new();
        let numbers = graph.source(
            "numbers",
            Thread,
            (0..2000_u64).inspect(|_| sleep(Duration::from_micros(50))),
        );
        let short = graph.node("step-short", at(1, thread), move |_| Counted {
            began: shared.clone(),
            last: Some(99),
        });
        let short = short.on_error(again()).add();
        let kill = |worker: &WorkerInfo| {
            let restarts = worker.restarts;
            map(move |n: u64| {
                if n >= 500 && restarts < 3 {
                    testkit::kill9(std::process::id());
                }
                n
            })
        };
        let step = graph.node("step-long", at(1, 0), kill).on_error(again()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        let (other, short_ones) = keep(&mut graph, "other");
        graph.connect(numbers.output().cloned(), short.input());
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        graph.connect(short.output(), other.input());
        let report = graph.run().unwrap();
        assert!(taken(&kept).into_iter().eq(0..2000), "{report}");
        assert!(taken(&short_ones).into_iter().eq(0..100), "{report}");
        assert_eq!((board.load(0), board.load(1)), (1, 1), "{report}");
        assert_eq!(report.node("step-short").unwrap().workers[0].restarts, 0);
        assert_eq!(report.node("step-long").unwrap().workers[0].restarts, 3);
    }
}

/// Two nodes in one thread of a process, of which the second kills at some items.
fn deadly(
    items: &'static [u64],
    on_error: OnError,
    (first, second): (Placement, Placement),
) -> (Result<Report, Error>, Vec<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..500_u64);
    let before = graph.node("step-before", first, |_| map(work)).on_error(on_error).add();
    let step = graph.node("step-deadly", second, |_| {
        map(|n: u64| {
            if items.contains(&n) {
                testkit::kill9(std::process::id());
                sleep(Duration::from_secs(10));
            }
            n
        })
    });
    let step = step.on_error(on_error).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), before.input());
    graph.connect(before.output(), step.input());
    graph.connect(step.output(), sink.input());
    let result = graph.run();
    (result, taken(&kept))
}

fn the_item_of_the_one_at_work_is_left_out() {
    let kill = &[3, 4, 320, 321, 499];
    let left = || (0..500).filter(|n| !kill.contains(n));
    let here = (at(1, 1), at(1, 1));
    for (on_error, times) in [(OnError::retry(1).or_skip(), 2), (OnError::quarantine(3), 3)] {
        let (report, items) = deadly(kill, on_error, here);
        let report = report.unwrap();
        assert!(items.into_iter().eq(left()), "{report}");
        let of = |node| &report.node(node).unwrap().workers[0];
        assert_eq!((of("step-before").quarantined, of("step-deadly").quarantined), (0, 5));
        // The one before may have ended by then.
        assert!(of("step-before").restarts <= 5 * times, "{report}");
        assert_eq!(of("step-deadly").restarts, 5 * times, "{report}");
    }
    let Err(Error::Failed(failure)) = deadly(kill, OnError::retry(2), here).0 else {
        panic!("it ended well")
    };
    assert_eq!((failure.kind, failure.item), (FailureKind::Died, Some(3)), "{failure}");
    assert_eq!(failure.node, "step-deadly", "{failure}");
    assert!(failure.message.contains("3 times"), "{failure}");
}

/// Both are at work all the time, so that it takes a second death to know whose item it is.
fn the_item_of_one_of_two_at_work_is_left_out() {
    let kill = &[3, 4, 320, 321, 499];
    for (first, second) in [(at(1, 0), at(1, 1)), (at(1, 2), at(1, 1))] {
        let slow = |n: u64| {
            sleep(Duration::from_millis(1));
            n
        };
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Thread, 0..2000_u64);
        let busy = graph.node("busy", first, move |_| map(slow)).on_error(OnError::quarantine(2));
        let busy = busy.add();
        let others = graph.source("others", Placement::Thread, 0..500_u64);
        let step = graph.node("deadly", second, |_| {
            map(|n: u64| {
                if kill.contains(&n) {
                    testkit::kill9(std::process::id());
                    sleep(Duration::from_secs(10));
                }
                n
            })
        });
        let step = step.on_error(OnError::quarantine(2)).add();
        let (sink, kept) = keep(&mut graph, "sink");
        let (other, left) = keep(&mut graph, "other");
        graph.connect(numbers.output(), busy.input());
        graph.connect(busy.output(), sink.input());
        graph.connect(others.output(), step.input());
        graph.connect(step.output(), other.input());
        let report = graph.run().unwrap();
        assert!(taken(&left).into_iter().eq((0..500).filter(|n| !kill.contains(n))), "{report}");
        assert!(taken(&kept).into_iter().eq(0..2000), "{report}");
        let of = |node| &report.node(node).unwrap().workers[0];
        assert_eq!((of("busy").quarantined, of("deadly").quarantined), (0, 5), "{report}");
        assert!((10..=20).contains(&of("deadly").restarts), "{report}");
    }
}

/// Whatever it has sent before, and whoever else is in its process and goes on.
fn a_source_that_always_kills_fails_the_run() {
    for place in [at(1, 0), at(1, 1)] {
        let mut graph = Graph::new();
        let numbers = graph.node("numbers", place, |_| {
            source((0..5000_u64).inspect(|n| {
                if *n == 3000 {
                    testkit::kill9(std::process::id());
                    sleep(Duration::from_secs(10));
                }
            }))
        });
        let numbers = numbers.on_error(again()).add();
        let step = graph.node("step", at(1, 0), |_| map(work)).on_error(again()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        assert_eq!((failure.kind, &*failure.node), (FailureKind::Died, "numbers"), "{failure}");
        assert!(taken(&kept).into_iter().zip(0..3000).all(|(one, other)| one == other));
    }
}

fn the_one_at_work_is_told_of() {
    let mut graph = Graph::new();
    let deaths = Arc::new(Mutex::new(Vec::new()));
    let told = deaths.clone();
    graph.on_death(move |death| {
        told.lock().unwrap().push((death.node.clone(), death.item, death.times));
        Ok(true)
    });
    let numbers = graph.source("numbers", Placement::Thread, 0..200_u64);
    let kill = |at: u64| {
        move |_: &WorkerInfo| {
            map(move |n: u64| {
                if n == at {
                    testkit::kill9(std::process::id());
                }
                n
            })
        }
    };
    let add = |graph: &mut Graph, name: &str, item| -> NodeRef<u64, u64> {
        graph.node(name, at(1, 0), kill(item)).on_error(OnError::quarantine(2)).add()
    };
    let first = add(&mut graph, "first", 150);
    let second = add(&mut graph, "second", 50);
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), first.input());
    graph.connect(first.output(), second.input());
    graph.connect(second.output(), sink.input());
    let report = graph.run().unwrap();
    assert!(taken(&kept).into_iter().eq((0..200).filter(|n| ![50, 150].contains(n))), "{report}");
    let mut deaths = deaths.lock().unwrap().clone();
    deaths.sort();
    let death = |node: &str, item, times| (node.to_owned(), Some(item), times);
    let expected = [
        death("first", 150, 1),
        death("first", 150, 2),
        death("second", 50, 1),
        death("second", 50, 2),
    ];
    assert_eq!(deaths, expected);
}

/// A graph whose process dies at once, with two nodes in it.
fn not_replaced(add: impl FnOnce(&mut Graph) -> NodeRef<u64, u64>) -> String {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..200_u64);
    let step = graph.node("step", at(1, 0), |_| {
        map(|n: u64| {
            if n == 100 {
                testkit::kill9(std::process::id());
                sleep(Duration::from_secs(10));
            }
            n
        })
    });
    let step = step.on_error(again()).add();
    let other = add(&mut graph);
    let (sink, _kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), other.input());
    graph.connect(other.output(), sink.input());
    let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
    assert_eq!(failure.kind, FailureKind::Died, "{failure}");
    failure.to_string()
}

fn why_a_process_is_not_replaced() {
    let says = |text: String, parts: &[&str]| {
        assert!(text.contains("It was not replaced"), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    let text = not_replaced(|graph| graph.node("other", at(1, 1), |_| map(|n: u64| n)).add());
    says(text, &["\"other\"", "\"step\"", "OnError::retry"]);
    // A node of which is only said later where it is does not say how its items travel.
    let mut graph = Graph::new();
    let kill = |n: u64| {
        if n == 100 {
            testkit::kill9(std::process::id());
            sleep(Duration::from_secs(10));
        }
        n
    };
    let numbers = graph.source("numbers", Same, 0..1000_u64);
    let near = graph.node("near", Placement::Process, move |_| map(kill));
    let near = near.places([at(3, 0)]).on_error(again()).add();
    let typed = graph.node("typed", Thread, |_| {
        from_fn(|n: u64, out: &mut Outlet<(u64, u8)>| {
            out.send((n, 0))?;
            Ok(Flow::GoOn)
        })
    });
    let typed = typed.places([at(3, 0)]).on_error(again()).add();
    let back = graph.node("back", Thread, |_| map(|(n, _): (u64, u8)| n));
    let back = back.places([at(3, 0)]).on_error(again()).add();
    let last = graph.node("last", Placement::Process, |_| map(|n: u64| n)).add();
    graph.connect(numbers.output(), near.input());
    graph.connect(near.output(), typed.input());
    graph.connect(typed.output(), back.input());
    graph.connect(back.output(), last.input());
    let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
    says(failure.to_string(), &["\"typed\"", "\"back\"", "no way for their type"]);
}
