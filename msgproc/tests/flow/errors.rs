//! Errors and panics, anywhere.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Cause, Error, Failure, FailureKind, Flow, Graph, Node, OnError, Outlet, Placement, WorkerInfo,
    each, from_fn, map, try_each, try_map,
};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(an_error_anywhere_fails_the_run),
        testkit::test!(a_panic_anywhere_fails_the_run),
        testkit::test!(an_error_of_a_thread_keeps_its_type),
        testkit::test!(a_source_says_at_which_item_it_failed),
        testkit::test!(items_are_left_out),
        testkit::test!(items_are_tried_again),
        testkit::test!(what_a_failed_try_sent_is_not_there),
        testkit::test!(svc_init_fails_before_anything_flows),
        testkit::test!(constructors_fail_before_anything_flows),
        testkit::test!(a_start_takes_no_longer_than_was_said),
        testkit::test!(graphs_that_cannot_be_run),
    ]
}

fn failing(at: usize, place: Placement, fails: fn(u64) -> Result<u64, io::Error>) -> Failure {
    let mut graph = Graph::new();
    let step = move |here: usize| move |n: u64| if here == at { fails(n) } else { Ok(n) };
    let numbers = graph.source(
        "numbers",
        place,
        (0_u64..).inspect(move |n| {
            if at == 0 && *n == 700 {
                panic!("no more");
            }
        }),
    );
    let first = graph.node("first", place, move |_| try_map(step(1))).add();
    let second = graph.node("second", place, move |_| try_map(step(2))).workers(2).add();
    let last = graph
        .node("last", Placement::Same, move |_| try_each(move |n: u64| step(3)(n).map(|_| ())))
        .add();
    graph.edge(numbers.output(), first.input()).capacity(8).add();
    graph.edge(first.output(), second.input()).capacity(8).add();
    graph.edge(second.output(), last.input()).capacity(8).add();
    match graph.run().unwrap_err() {
        Error::Failed(failure) => *failure,
        error => panic!("{error}"),
    }
}

fn a_source_says_at_which_item_it_failed() {
    for place in PLACES {
        let failure = failing(0, place, Ok);
        assert_eq!((failure.node.as_str(), failure.item), ("numbers", Some(700)), "{place}");
    }
}

const NAMES: [&str; 4] = ["numbers", "first", "second", "last"];

fn an_error_anywhere_fails_the_run() {
    for place in PLACES {
        for (at, name) in NAMES.iter().enumerate().skip(1) {
            let failure = failing(at, place, |n| match n {
                700 => Err(io::Error::other("no more")),
                n => Ok(n),
            });
            assert_eq!(failure.node, *name, "{place}");
            assert_eq!(failure.message, "no more", "{place}");
            assert_eq!(failure.kind, FailureKind::Error, "{place}");
            if at == 1 {
                assert_eq!(failure.item, Some(700), "{place}");
            }
        }
    }
}

fn a_panic_anywhere_fails_the_run() {
    for place in PLACES {
        for (at, name) in NAMES.iter().enumerate() {
            let failure = failing(at, place, |n| {
                assert_ne!(n, 700, "no more");
                Ok(n)
            });
            assert_eq!(failure.node, *name, "{place}");
            assert!(failure.message.contains("no more"), "{place}: {failure}");
            assert_eq!(failure.kind, FailureKind::Panic, "{place}");
        }
    }
}

fn an_error_of_a_thread_keeps_its_type() {
    let failure = failing(2, Placement::Thread, |_| Err(io::ErrorKind::AddrInUse.into()));
    let error = failure.downcast_ref::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

fn items_are_left_out() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..1000_u64);
        let odd = |n: u64| match n % 10 {
            3 => Err("three"),
            7 => panic!("seven"),
            _ => Ok(n),
        };
        let some = graph.node("some", place, move |_| try_map(odd)).skip_errors().add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), some.input());
        graph.connect(some.output(), sink.input());
        let report = graph.run().unwrap();
        let expected: Vec<u64> = (0..1000).filter(|n| ![3, 7].contains(&(n % 10))).collect();
        assert_eq!(taken(&kept), expected, "{place}");
        assert_eq!(report.node("some").unwrap().workers[0].skipped, 200, "{place}");
    }
}

fn items_are_tried_again() {
    static TRIES: AtomicU64 = AtomicU64::new(0);
    for place in PLACES {
        for retries in [1, 3] {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", place, 0..100_u64);
            let flaky = |n: u64| {
                let tries = TRIES.fetch_add(1, Ordering::Relaxed);
                if n == 50 && tries < 52 { Err("not yet") } else { Ok(n) }
            };
            TRIES.store(0, Ordering::Relaxed);
            let node = graph.node("flaky", place, move |_| try_map(flaky));
            let flaky = node.on_error(OnError::retry(retries)).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), flaky.input());
            graph.connect(flaky.output(), sink.input());
            match graph.run() {
                Ok(report) => {
                    assert_eq!(retries, 3);
                    assert_eq!(report.node("flaky").unwrap().workers[0].retries, 2, "{place}");
                    assert_eq!(taken(&kept), (0..100).collect::<Vec<_>>(), "{place}");
                }
                Err(error) => {
                    assert_eq!(retries, 1);
                    assert_eq!(error.failure().unwrap().item, Some(50), "{place}");
                }
            }
        }
    }
}

/// Much comes of an item before it fails, and nothing of that goes on.
fn what_a_failed_try_sent_is_not_there() {
    for place in PLACES {
        for skips in [false, true] {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", place, 0..20_u64);
            let flood = graph
                .node("flood", place, move |_| {
                    let mut tries = 0;
                    from_fn(move |n: u64, out: &mut Outlet<u64>| {
                        for k in 0..1000 {
                            out.send(n * 1000 + k)?;
                        }
                        tries += u64::from(n == 7);
                        if n == 7 && (skips || tries < 3) {
                            Err("not yet")?
                        } else {
                            Ok(Flow::GoOn)
                        }
                    })
                })
                .on_error(if skips { OnError::skip() } else { OnError::retry(2) })
                .add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), flood.input());
            graph.connect(flood.output(), sink.input());
            graph.run().unwrap();
            let left_out = |n: &u64| skips && n / 1000 == 7;
            let expected: Vec<u64> = (0..20_000).filter(|n| !left_out(n)).collect();
            assert!(taken(&kept) == expected, "{place}, {skips}");
        }
    }
}

struct Refuses;

impl Node for Refuses {
    type In = u64;
    type Out = ();

    fn svc_init(&mut self, worker: &WorkerInfo) -> Result<(), Cause> {
        if worker.index == 1 { Err("no device".into()) } else { Ok(()) }
    }

    fn svc(&mut self, _: u64, _: &mut Outlet<()>) -> Result<Flow, Cause> {
        unreachable!("nothing flows")
    }
}

fn svc_init_fails_before_anything_flows() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Thread, 0_u64..);
        let refuses = graph.node("refuses", place, |_| Refuses).workers(2).add();
        graph.connect(numbers.output(), refuses.input());
        let began = Instant::now();
        let Err(Error::Failed(failure)) = graph.run() else { panic!("{place}: it ended well") };
        let told = (&*failure.node, failure.worker, failure.item, failure.kind, &*failure.message);
        assert_eq!(told, ("refuses", 1, None, FailureKind::Init, "no device"), "{place}");
        assert!(began.elapsed() < Duration::from_secs(1), "{place}: {:?}", began.elapsed());
    }
}

fn constructors_fail_before_anything_flows() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0_u64..);
        let step = graph.node("step", place, |_| map(|n: u64| n)).add();
        let refuses = graph.node("refuses", place, |info: &WorkerInfo| {
            assert_eq!(info.index, 0, "no device");
            each(|_: u64| ())
        });
        let refuses = refuses.workers(2).add();
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), refuses.input());
        let run = graph.start();
        let Err(Error::Failed(failure)) = run.map(drop) else { panic!("{place}: it began") };
        let told = (&*failure.node, failure.worker, failure.item, failure.kind);
        assert_eq!(told, ("refuses", 1, None, FailureKind::Init), "{place}");
        assert!(failure.message.contains("no device"), "{place}: {failure}");
        assert!(failure.location.is_some(), "{place}: {failure}");
    }
}

/// Takes its time to begin.
struct Slow(Duration);

impl Node for Slow {
    type In = u64;
    type Out = ();

    fn svc_init(&mut self, _: &WorkerInfo) -> Result<(), Cause> {
        sleep(self.0);
        Ok(())
    }

    fn svc(&mut self, _: u64, _: &mut Outlet<()>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }
}

fn a_start_takes_no_longer_than_was_said() {
    let run = |place, takes: u64, limit| {
        let mut graph = Graph::new();
        graph.set_start_timeout(limit);
        let numbers = graph.source("numbers", Placement::Thread, 0..10_u64);
        let slow = graph.node("slow", place, move |_| Slow(Duration::from_millis(takes))).add();
        graph.connect(numbers.output(), slow.input());
        graph.run().map(drop)
    };
    let began = Instant::now();
    for place in [Placement::Process, Placement::At { process: 1, thread: 1 }] {
        let error = run(place, 60_000, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Error::Start { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("for want of a process for node \"slow\": "), "{text}");
        assert!(text.contains("become ready within 2"), "{text}");
    }
    // Of several, all that are in the process.
    let mut graph = Graph::new();
    graph.set_start_timeout(Duration::from_millis(200));
    let there = Placement::At { process: 1, thread: 0 };
    let numbers = graph.source("numbers", there, 0..10_u64);
    let slow = graph.node("slow", there, |_| Slow(Duration::from_secs(60))).add();
    graph.connect(numbers.output(), slow.input());
    let text = graph.run().unwrap_err().to_string();
    assert!(text.contains("a process for nodes \"numbers\", \"slow\": "), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    run(Placement::Process, 100, Duration::MAX).unwrap();
    // Threads have none.
    run(Placement::Thread, 100, Duration::from_millis(1)).unwrap();
}

fn graphs_that_cannot_be_run() {
    let says = |graph: Graph, words: &str| {
        let error = graph.run().unwrap_err();
        assert!(matches!(&error, Error::Graph(what) if what.contains(words)), "{error}");
    };
    says(Graph::new(), "no nodes");

    let mut graph = Graph::new();
    graph.node("alone", Placement::Same, |_| map(|n: u64| n)).add();
    says(graph, "nothing leads to node \"alone\"");

    let mut graph = Graph::new();
    graph.source("twice", Placement::Same, 0..1);
    graph.source("twice", Placement::Same, 0..1);
    says(graph, "two nodes have the name");

    for (input, output) in [(usize::MAX, 0), (0, 1 << 40), (1024, 1024)] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Same, 0..5_u64);
        let (sink, _) = keep(&mut graph, "sink");
        graph.connect(numbers.output_at(output), sink.input_at(input));
        says(graph, "which has 1024 at most");
    }

    let mut other = Graph::new();
    let stranger = other.source("stranger", Placement::Same, 0..5_u64);
    let mut graph = Graph::new();
    let (sink, _) = keep(&mut graph, "sink");
    graph.connect(stranger.output(), sink.input());
    says(graph, "nodes of another graph");

    let mut graph = Graph::new();
    let a = graph.node("a", Placement::Same, |_| map(|n: u64| n)).add();
    let b = graph.node("b", Placement::Same, |_| map(|n: u64| n)).add();
    graph.connect(a.output(), b.input());
    graph.connect(b.output(), a.input());
    says(graph, "in a circle");

    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Same, 0..5_u64);
    let (one, _) = keep(&mut graph, "one");
    let (two, _) = keep(&mut graph, "two");
    graph.connect(numbers.output(), one.input());
    graph.connect(numbers.output(), two.input());
    says(graph, "several edges leave output 0");

    let mut graph = Graph::new();
    let numbers = graph.source("numbers", msgproc::flow::Thread, 0..5_u64);
    let (sink, _) = keep::<u64>(&mut graph, "sink");
    let text = graph.node("text", msgproc::flow::Thread, |_| map(|n: u64| n)).workers(2).add();
    let late =
        graph.node("late", Placement::Same, |_| map(|n: u64| n)).workers(2).ordered(true).add();
    graph.connect(numbers.output(), text.input());
    graph.connect(text.output(), late.input());
    graph.connect(late.output(), sink.input());
    says(graph, "cannot keep the order");

    let many = |workers: [usize; 2]| {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Same, 0..5_u64);
        let [from, to] = workers;
        let a = graph.node("a", Placement::Thread, |_| map(|n: u64| n)).workers(from).add();
        let b = graph.node("b", Placement::Thread, |_| each(|_: u64| ())).workers(to).add();
        graph.connect(numbers.output(), a.input());
        graph.connect(a.output(), b.input());
        graph
    };
    says(many([1, usize::MAX]), "\"b\" most of them");
    says(many([usize::MAX, 2]), "\"a\" most of them");
    says(many([1000, 1000]), "from each of the 1000 workers of \"a\" to each of the 1000 of \"b\"");

    for name in ["flow\0", "flow"] {
        let mut graph = Graph::new().named(name);
        let numbers = graph.source("numbers", Placement::Thread, 0..5_u64);
        let sink = graph.node("sink\0", Placement::Thread, |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), sink.input());
        says(graph, "cannot be called \"sink\\0\"");
    }
    let mut graph = Graph::new().named("flow\0");
    graph.source("numbers", Placement::Thread, 0..5_u64);
    says(graph, "cannot be called \"flow\\0\"");
}
