//! Runs whose processes are no forks of the program.

mod stages;

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use msgproc::{
    ForkServer,
    flow::{
        Accelerator, Error, FailureKind, Farm, Feed, Graph, Memory, OnError, Pipeline, Placement,
        PlainProcess, Process, Report, Results, StartMethod, WorkerInfo, each, file::GraphFile,
        map,
    },
};
use shmring::block::Block;

use crate::{
    common::{Kept, keep, taken},
    death::{expected, two_stages, with_kills},
    files::{Item, registry},
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    let tests = vec![
        testkit::test!(however_processes_are_started_the_values_are_the_same),
        testkit::test!(each_node_may_say_how_it_is_started),
        testkit::test!(in_a_program_with_threads_they_are_spawned),
        testkit::test!(what_cannot_travel_is_told_what_to_do),
        testkit::test!(blocks_travel_to_spawned_processes),
        testkit::test!(a_run_is_fed_from_outside),
        testkit::test!(a_farm_takes_what_it_is_given),
        testkit::test!(a_graph_file_runs_in_a_program_with_threads),
        testkit::test!(spawned_processes_that_are_killed_are_replaced, timeout = 120),
        testkit::test!(served_processes_that_are_killed_are_replaced, timeout = 120),
        testkit::test!(a_process_that_makes_another_graph_is_refused),
        testkit::test!(what_goes_wrong_in_the_making_is_told),
        testkit::test!(a_failure_in_a_spawned_process_is_the_runs),
        testkit::test!(a_start_that_fails_is_the_runs),
        testkit::test!(a_trace_has_what_spawned_processes_did),
    ];
    [tests, stages::tests()].into_iter().flatten().collect()
}

/// A thread beside the run, so that nothing can be forked.
struct Beside(Option<mpsc::Sender<()>>, Option<JoinHandle<()>>);

impl Beside {
    fn start() -> Beside {
        let (end, ends) = mpsc::channel();
        Beside(
            Some(end),
            Some(thread::spawn(move || {
                let _ = ends.recv();
            })),
        )
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.0 = None;
        self.1.take().unwrap().join().unwrap();
    }
}

/// Three nodes in processes, one with several workers, and an end here.
fn three((count, factor): (u64, u64)) -> (Graph, Kept<(u32, u64)>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", PlainProcess, 0..count);
    let times = graph
        .node("times", Process, move |_| map(move |n: u64| n * factor))
        .workers(2)
        .ordered(true)
        .add();
    let who = graph.node("who", Process, |_| map(|n: u64| (std::process::id(), n))).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), times.input());
    graph.connect(times.output(), who.input());
    graph.connect(who.output(), sink.input());
    (graph, kept)
}

fn are_three(kept: &Kept<(u32, u64)>) {
    let items = taken(kept);
    assert!(items.iter().all(|(pid, _)| *pid != std::process::id()));
    assert!(items.iter().map(|(_, n)| *n).eq((0..5000).map(|n| n * 7)), "{} items", items.len());
}

fn however_processes_are_started_the_values_are_the_same() {
    let server = ForkServer::start().unwrap();
    let methods = [
        StartMethod::Auto,
        StartMethod::Fork,
        StartMethod::ForkServer(server.clone()),
        StartMethod::Spawn,
    ];
    for method in methods {
        let (mut graph, kept) = Graph::travelling((5000_u64, 7_u64), three);
        graph.start_method(method);
        graph.run().unwrap();
        are_three(&kept);
    }
}

fn refusing((): ()) -> (Graph, ()) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0_u64..);
    let same = graph.node("same", Process, |_| map(|n: u64| n)).add();
    let refuses = graph.node("refuses", Process, |info: &WorkerInfo| {
        assert_eq!(info.index, 0, "no device");
        each(|_: u64| ())
    });
    let refuses = refuses.workers(2).on_error(OnError::retry(3)).add();
    graph.connect(numbers.output(), same.input());
    graph.connect(same.output(), refuses.input());
    (graph, ())
}

fn a_start_that_fails_is_the_runs() {
    let server = ForkServer::start().unwrap();
    let methods = [StartMethod::Fork, StartMethod::ForkServer(server), StartMethod::Spawn];
    for method in methods {
        let (mut graph, ()) = Graph::travelling((), refusing);
        graph.start_method(method);
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        let told = (&*failure.node, failure.worker, failure.item, failure.kind);
        assert_eq!(told, ("refuses", 1, None, FailureKind::Init), "{failure}");
        assert!(failure.message.contains("no device"), "{failure}");
    }
}

fn each_node_may_say_how_it_is_started() {
    let server = ForkServer::start().unwrap();
    let (mut graph, kept) = Graph::travelling(server.pid(), |server: u32| {
        // How a process is started is asked in the program alone.
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Process, 0..100_u64);
        let is_served = move || std::os::unix::process::parent_id() == server;
        let spawned = graph
            .node("spawned", Process, move |_| map(move |n: u64| (n, is_served())))
            .start_method(StartMethod::Spawn)
            .add();
        let served = graph
            .node("served", Process, move |_| map(move |(n, was)| (n, was, is_served())))
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), spawned.input());
        graph.connect(spawned.output(), served.input());
        graph.connect(served.output(), sink.input());
        (graph, kept)
    });
    graph.start_method(StartMethod::ForkServer(server));
    graph.run().unwrap();
    assert!(taken(&kept).into_iter().eq((0..100).map(|n| (n, false, true))));
}

fn in_a_program_with_threads_they_are_spawned() {
    let _beside = Beside::start();
    let (graph, kept) = Graph::travelling((5000_u64, 7_u64), three);
    graph.run().unwrap();
    are_three(&kept);
    // The same from a run that is handled from outside.
    let (graph, kept) = Graph::travelling((5000_u64, 7_u64), three);
    graph.start().unwrap().wait().unwrap();
    are_three(&kept);
}

fn what_cannot_travel_is_told_what_to_do() {
    let _beside = Beside::start();
    let error = three((10, 1)).0.run().unwrap_err();
    assert!(format!("{error:?}").contains("`Graph::travelling`"), "{error:?}");
    let mut graph = three((10, 1)).0;
    graph.start_method(StartMethod::Spawn);
    let error = graph.run().unwrap_err();
    assert!(format!("{error:?}").contains("`Graph::travelling`"), "{error:?}");
}

fn blocks_travel_to_spawned_processes() {
    let _beside = Beside::start();
    let memory = Memory::with_blocks(16, 4096).unwrap();
    let (graph, kept) = Graph::travelling(memory, |memory: Memory| {
        let pool = memory.pool().unwrap().clone();
        let mut graph = Graph::new();
        graph.set_memory(&memory);
        let numbers = graph.source("numbers", Process, 0..500_u64);
        let fill = graph
            .node("fill", Process, move |_| {
                let pool = pool.clone();
                msgproc::flow::from_fn(move |n: u64, out: &mut msgproc::flow::Outlet<Block>| {
                    let mut loan = out.wait_for(|| pool.try_loan().ok())?;
                    loan.as_bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
                    out.send(loan.freeze())?;
                    Ok(msgproc::flow::Flow::GoOn)
                })
            })
            .add();
        let read = graph
            .node("read", Process, |_| {
                map(|block: Block| u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap()))
            })
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), fill.input());
        graph.connect(fill.output(), read.input());
        graph.connect(read.output(), sink.input());
        (graph, kept)
    });
    let report = graph.run().unwrap();
    assert!(taken(&kept).into_iter().eq(0..500));
    assert_eq!(report.blocks_in_use, 0);
}

fn a_run_is_fed_from_outside() {
    type Ends = (Feed<u64>, Results<u64>);
    let _beside = Beside::start();
    let (graph, (feed, results)) = Graph::travelling((), |()| -> (Graph, Ends) {
        let mut graph = Graph::new();
        let (feed, fed) = graph.feed("in", Process, 10);
        let double = graph.node("double", Process, |_| map(|n: u64| 2 * n)).add();
        graph.connect(fed.output(), double.input());
        let results = graph.results("out", double.output(), 10);
        (graph, (feed, results))
    });
    let running = graph.start().unwrap();
    let feeder = thread::spawn(move || {
        for n in 0..1000 {
            feed.offload(n).unwrap();
        }
    });
    let came: Vec<u64> = std::iter::from_fn(|| results.result()).collect();
    assert!(came.into_iter().eq((0..1000).map(|n| 2 * n)));
    feeder.join().unwrap();
    running.wait().unwrap();
}

fn a_farm_takes_what_it_is_given() {
    let _beside = Beside::start();
    let (graph, ends) = Graph::travelling(3, |factor: u64| {
        let times = Farm::new("times", Process, move |_| map(move |n: u64| n * factor));
        Pipeline::feed(Process, 64).part(times.workers(2).ordered()).with_ends()
    });
    let times = Accelerator::start(graph, ends).unwrap();
    for n in 0..100 {
        times.offload(n).unwrap();
        assert_eq!(times.result(), Some(3 * n));
    }
    times.wait().unwrap();
}

fn a_graph_file_runs_in_a_program_with_threads() {
    let _beside = Beside::start();
    let yaml = "
nodes:
  count: {class: Count, settings: {to: 300}, compute_on: '1'}
  tenfold: {class: Tenfold, compute_on: '2:1'}
  keep: {class: Keep}
connections:
  - count -> tenfold
  - tenfold -> keep
";
    let (graph, kept) = Graph::travelling(yaml.to_owned(), |yaml| {
        let (registry, kept) = registry();
        (registry.check(GraphFile::from_yaml(&yaml).unwrap()).unwrap().graph(), kept)
    });
    graph.run().unwrap();
    assert!(taken(&kept).into_iter().eq((0..300).map(|n| Item::Number(10 * n))));
}

/// Kills processes at random, in a program that has threads.
fn are_replaced(method: StartMethod) {
    let _beside = Beside::start();
    let count = 30_000;
    let (mut graph, kept) = Graph::travelling(count, |count| two_stages(true, count));
    graph.start_method(method);
    let (report, kills) = with_kills(graph, 30, 5_172_645_463_325_251);
    let items = taken(&kept);
    assert!(items == expected(count), "{kills} kills, {} items\n{report}", items.len());
    assert!(kills > 3, "{kills} kills only\n{report}");
}

fn spawned_processes_that_are_killed_are_replaced() {
    are_replaced(StartMethod::Spawn);
}

fn served_processes_that_are_killed_are_replaced() {
    are_replaced(StartMethod::ForkServer(ForkServer::start().unwrap()));
}

fn a_process_that_makes_another_graph_is_refused() {
    static HERE: AtomicBool = AtomicBool::new(false);
    HERE.store(true, Ordering::Relaxed);
    let mut graph = Graph::travelling((), |()| {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Process, 0..10_u64);
        let name = if HERE.load(Ordering::Relaxed) { "here" } else { "there" };
        let sink = graph.node(name, Process, |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), sink.input());
        graph
    });
    graph.start_method(StartMethod::Spawn);
    let error = graph.run().unwrap_err();
    assert!(format!("{error:?}").contains("makes another graph than the program"), "{error:?}");
}

fn what_goes_wrong_in_the_making_is_told() {
    static HERE: AtomicBool = AtomicBool::new(false);
    HERE.store(true, Ordering::Relaxed);
    let make = |panics: bool| -> Result<Graph, String> {
        if !HERE.load(Ordering::Relaxed) {
            assert!(!panics, "it fell over");
            return Err("there is no such thing".into());
        }
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Process, 0..10_u64);
        let sink = graph.node("sink", Process, |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), sink.input());
        Ok(graph)
    };
    for (panics, says) in [(false, "there is no such thing"), (true, "it fell over")] {
        let mut graph = Graph::travelling(panics, make).unwrap();
        graph.start_method(StartMethod::Spawn);
        let error = graph.run().unwrap_err();
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }
    HERE.store(false, Ordering::Relaxed);
    assert_eq!(Graph::travelling(false, make).unwrap_err(), "there is no such thing");
}

fn a_failure_in_a_spawned_process_is_the_runs() {
    let _beside = Beside::start();
    let graph = Graph::travelling(70_u64, |at| {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Process, 0_u64..);
        let step = graph
            .node("step", Process, move |_| {
                msgproc::flow::try_map(move |n: u64| match n == at {
                    true => Err("not this one"),
                    false => Ok(n),
                })
            })
            .add();
        let sink = graph.node("sink", Placement::Thread, |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        graph
    });
    let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
    assert_eq!((failure.kind, &*failure.node), (FailureKind::Error, "step"));
    assert_eq!(failure.item, Some(70));
}

fn a_trace_has_what_spawned_processes_did() {
    let file = std::env::temp_dir().join(testkit::name("trace"));
    let (mut graph, _kept) = Graph::travelling((5000_u64, 7_u64), three);
    graph.start_method(StartMethod::Spawn);
    graph.trace_to(&file);
    let report: Report = graph.run().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(text.contains("times 1"), "{text}");
    assert!(report.elapsed > Duration::ZERO);
}
