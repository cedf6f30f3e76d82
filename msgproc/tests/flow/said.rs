//! What is said of nodes and runs, and must not be said in vain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Cause, Ending, Error, Farm, Flow, Graph, Memory, Node, OnError, Outlet, Part, Pipeline,
    Placement, Process, Same, Scheduling, StartMethod, Thread, each, from_fn, map,
};

use crate::common::{allowed_cpus, at, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(items_of_nothing),
        testkit::test!(threads_use_the_processors_that_were_said),
        testkit::test!(one_process_is_started_in_one_way),
        testkit::test!(what_was_given_before_a_freeze_is_finished),
        testkit::test!(how_a_run_ended_and_what_was_left),
        testkit::test!(an_end_is_no_item_that_was_left),
        testkit::test!(who_had_ended_was_not_stopped),
        testkit::test!(sources_are_asked_again),
        testkit::test!(as_many_lanes_as_there_are_workers),
        testkit::test!(farms_that_keep_the_order_beside_others),
    ]
}

fn items_of_nothing() {
    for place in [Placement::Same, Placement::Thread, Placement::Process] {
        let farm = Farm::new("farm", place, |_| map(|()| 1_u64)).workers(2);
        assert_eq!(farm.run_collect(vec![(); 100]).unwrap(), vec![1; 100], "{place}");
        let gone = Pipeline::from(0..50_u64).stage("each", place, |_| each(|_: u64| ()));
        assert_eq!(gone.run_collect().unwrap(), [], "{place}: nothing comes out of `each`");
        let units = Pipeline::from(0..50_u64).stage("units", place, |_| map(|_: u64| ()));
        assert_eq!(units.run_collect().unwrap().len(), 50, "{place}");
    }
    let mut graph = Graph::new();
    let one = graph.source("one", Thread, vec![(); 3]);
    let other = graph.source("other", Thread, vec![(); 3]);
    graph.connect(one.output(), other.input());
    let error = graph.run().unwrap_err();
    assert!(error.to_string().contains("is a source, and an edge leads to it"), "{error}");
}

fn threads_use_the_processors_that_were_said() {
    for place in [Placement::Thread, Placement::Process, at(1, 1)] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..10_u64);
        let bound = graph.node("bound", place, |_| map(allowed_cpus)).cpus([0]).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), bound.input());
        graph.connect(bound.output(), sink.input());
        graph.run().unwrap();
        assert_eq!(taken(&kept), vec!["0"; 10], "{place}");
    }
    // Two in a thread of which one may run anywhere.
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..10_u64);
    let bound = graph.node("bound", at(0, 1), |_| map(|n: u64| n)).cpus([0]).add();
    let free = graph.node("free", at(0, 1), |_| map(allowed_cpus)).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), bound.input());
    graph.connect(bound.output(), free.input());
    graph.connect(free.output(), sink.input());
    graph.run().unwrap();
    assert_eq!(taken(&kept), vec![allowed_cpus(0); 10]);

    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..10_u64);
    let bound = graph.node("bound", Thread, |_| each(|_: u64| ())).cpus([1023]).add();
    graph.connect(numbers.output(), bound.input());
    let error = graph.run().unwrap_err();
    assert!(
        error.to_string().contains("\"bound\"") && error.to_string().contains("1023"),
        "{error}"
    );
}

fn one_process_is_started_in_one_way() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..10_u64);
    let one = graph.node("one", at(1, 0), |_| map(|n: u64| n)).start_method(StartMethod::Fork);
    let one = one.add();
    let other = graph.node("other", at(1, 1), |_| each(|_: u64| ()));
    let other = other.start_method(StartMethod::Spawn).add();
    graph.connect(numbers.output(), one.input());
    graph.connect(one.output(), other.input());
    let error = graph.run().unwrap_err().to_string();
    assert!(error.contains("\"one\" and \"other\" are in one process"), "{error}");
}

fn what_was_given_before_a_freeze_is_finished() {
    let squares = Farm::new("squares", Thread, |_| map(|n: u64| n * n));
    let mut squares = squares.accelerate(Thread, 8).unwrap();
    squares.offload(3).unwrap();
    squares.freeze();
    squares.stop();
    assert_eq!(squares.result(), Some(9));
    assert_eq!(squares.result(), None);
    assert_eq!(squares.wait().unwrap().ending, Ending::Whole);
}

/// Numbers without end, and one that takes them, slowly.
fn endless() -> Graph {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0_u64..);
    let slowly = |_: u64| sleep(Duration::from_micros(200));
    let sink = graph.node("sink", Thread, move |_| each(slowly)).add();
    graph.edge(numbers.output(), sink.input()).capacity(100).add();
    graph
}

fn how_a_run_ended_and_what_was_left() {
    let running = endless().start().unwrap();
    sleep(Duration::from_millis(20));
    assert_eq!(running.report().ending, Ending::Running);
    running.stop();
    let (report, ended) = running.wait_for_report();
    ended.unwrap();
    assert_eq!((report.ending, report.left), (Ending::Drained, 0), "{report}");
    assert!(report.to_string().contains("stopped, and what was on its way finished"));

    let running = endless().start().unwrap();
    while running.report().left == 0 {
        sleep(Duration::from_millis(1));
    }
    running.stop_now();
    let (report, ended) = running.wait_for_report();
    assert!(matches!(ended, Err(Error::Stopped)));
    assert_eq!(report.ending, Ending::Stopped);
    assert!((1..=100).contains(&report.left), "{report}");
    assert!(report.to_string().contains("stopped at once"), "{report}");

    for place in [Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..1000_u64);
        let fails = |n: u64| if n == 500 { Err("no more") } else { Ok(()) };
        let sink = graph.node("sink", place, move |_| msgproc::flow::try_each(fails)).add();
        graph.connect(numbers.output(), sink.input());
        let (report, ended) = graph.start().unwrap().wait_for_report();
        assert!(matches!(ended, Err(Error::Failed(_))), "{place}");
        assert_eq!(report.ending, Ending::Failed, "{place}: {report}");
    }
}

fn an_end_is_no_item_that_was_left() {
    for place in [Placement::Same, Placement::Thread, Placement::Process] {
        // It takes no more before it sees the end.
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..5_u64);
        let same = graph.node("same", place, |_| map(|n: u64| n)).add();
        let five = |n: u64, _: &mut Outlet<()>| Ok(if n == 4 { Flow::Eos } else { Flow::GoOn });
        let sink = graph.node("sink", place, move |_| from_fn(five)).add();
        graph.connect(numbers.output(), same.input());
        graph.connect(same.output(), sink.input());
        let report = graph.run().unwrap();
        assert_eq!((report.ending, report.left), (Ending::Whole, 0), "{place}: {report}");

        // Nothing ever goes round.
        let through = |n: u64, out: &mut Outlet<u64>| out.send(n).map(|()| Flow::GoOn);
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..5_u64);
        let head = graph.node("head", place, move |_| from_fn(move |n, out| Ok(through(n, out)?)));
        let head = head.add();
        let (sink, kept) = keep::<u64>(&mut graph, "sink");
        graph.connect(numbers.output(), head.input());
        graph.edge(head.output_at(1), head.input_at(1)).feedback(4).add();
        graph.connect(head.output(), sink.input());
        let report = graph.run().unwrap();
        assert_eq!(taken(&kept), [0, 1, 2, 3, 4]);
        assert_eq!((report.ending, report.left), (Ending::Whole, 0), "{place}: {report}");
    }
}

fn who_had_ended_was_not_stopped() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..10_u64);
    let sink = graph.node("sink", Process, |_| each(|_: u64| ())).add();
    graph.connect(numbers.output(), sink.input());
    let running = graph.start().unwrap();
    while !running.is_finished() {
        sleep(Duration::from_millis(1));
    }
    let before = running.report();
    sleep(Duration::from_millis(5));
    running.stop_now();
    assert_eq!(running.report().ending, Ending::Whole);
    let report = running.wait().unwrap();
    assert_eq!(report.node("sink").unwrap().items_in(), 10);
    assert_eq!((report.ending, report.elapsed), (Ending::Whole, before.elapsed));
}

/// Fails or panics before each of its numbers.
struct Reluctant {
    next: u64,
    asked: u64,
    refusals: u64,
    panics: bool,
}

impl Node for Reluctant {
    type In = ();
    type Out = u64;

    fn svc(&mut self, (): (), out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        if self.next == 20 {
            return Ok(Flow::Eos);
        }
        self.asked += 1;
        if self.asked <= self.refusals {
            assert!(!self.panics, "not yet");
            return Err("not yet".into());
        }
        self.asked = 0;
        out.send(self.next)?;
        self.next += 1;
        Ok(Flow::GoOn)
    }
}

fn sources_are_asked_again() {
    for panics in [false, true] {
        let run = |on_error: OnError| {
            let mut graph = Graph::new();
            let make = move |_: &_| Reluctant { next: 0, asked: 0, refusals: 2, panics };
            let source = graph.node("source", Thread, make).on_error(on_error).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(source.output(), sink.input());
            (graph.run(), taken(&kept))
        };
        let (report, items) = run(OnError::retry(2));
        let source = report.unwrap().node("source").unwrap().workers[0].clone();
        assert_eq!((items.len(), source.retries, source.skipped), (20, 40, 0));
        let (report, items) = run(OnError::skip());
        let source = report.unwrap().node("source").unwrap().workers[0].clone();
        assert_eq!((items.len(), source.retries, source.skipped), (20, 0, 40));
        let (failed, items) = run(OnError::retry(1));
        let Err(Error::Failed(failure)) = failed else { panic!("it went on") };
        assert_eq!((&*failure.node, items.len()), ("source", 0));
    }
}

fn farms_that_keep_the_order_beside_others() {
    let farm = |name: &str, place: Placement, ordered: bool| {
        let farm = Farm::new(name, place, |_| map(|n: u64| n + 1)).workers(2);
        if ordered { farm.ordered() } else { farm }
    };
    for place in [Placement::Thread, Placement::Process] {
        let pairs = [
            farm("one", place, true).then(farm("other", place, false)),
            farm("one", place, false).then(farm("other", place, true)),
            farm("one", place, true)
                .then(farm("other", place, false).scheduling(Scheduling::by_key(|n: &u64| *n))),
        ];
        for pair in pairs {
            let mut items = pair.run_collect(0..1000_u64).unwrap();
            items.sort_unstable();
            assert_eq!(items, (2..1002).collect::<Vec<_>>(), "{place}");
        }
        let both = farm("one", place, true).then(farm("other", place, true));
        assert_eq!(both.run_collect(0..1000_u64).unwrap(), (2..1002).collect::<Vec<_>>());
    }
}

/// More of them than a segment has places for if nothing is said.
fn as_many_lanes_as_there_are_workers() {
    let memory = Memory::with_blocks(4, 100).unwrap();
    [None, Some(&memory)].into_iter().for_each(many_lanes);
}

fn many_lanes(memory: Option<&Memory>) {
    let sum = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut graph = Graph::new();
    if let Some(memory) = memory {
        graph.set_memory(memory);
    }
    let numbers = graph.source("numbers", Thread, 0..1000_u64);
    let one = graph.node("one", at(1, 0), |_| map(|n: u64| n)).workers(40).add();
    let other = graph.node("other", at(2, 0), |_| map(|n: u64| n)).workers(40).add();
    let copy = sum.clone();
    let sink = graph.node("sink", Same, move |_| {
        let sum = copy.clone();
        each(move |n: u64| _ = sum.fetch_add(n, Ordering::Relaxed))
    });
    let sink = sink.add();
    graph.edge(numbers.output(), one.input()).capacity_bytes(4096).add();
    graph.edge(one.output(), other.input()).capacity_bytes(4096).add();
    graph.edge(other.output(), sink.input()).capacity_bytes(4096).add();
    let report = graph.run().unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), 999 * 500, "{report}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
