//! What a run tells of itself.

use std::{fs, time::Duration};

use msgproc::flow::{
    Cause, Error, Flow, Graph, Node, Outlet, Placement, Report, from_fn,
    join::{ByTick, Joined},
    map, try_each,
};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(figures_and_pictures),
        testkit::test!(a_trace),
        testkit::test!(a_trace_that_cannot_be_written),
        testkit::test!(discarded_items_stand_by_input),
        testkit::test!(each_moment_is_of_one_worker),
        testkit::test!(what_is_done_at_the_end_counts),
    ]
}

fn graph(count: u64) -> Graph {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..count);
    let work = graph
        .node("the \"work\"", Placement::Process, |_| {
            map(|n: u64| {
                std::thread::sleep(Duration::from_micros(200));
                n
            })
        })
        .workers(2)
        .add();
    let (sink, _kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), work.input());
    graph.connect(work.output(), sink.input());
    graph
}

fn figures_and_pictures() {
    let report = graph(200).run().unwrap();
    let work = report.node("the \"work\"").unwrap();
    assert_eq!((work.items_in(), work.items_out(), work.workers.len()), (200, 200, 2));
    assert!(work.busy() >= Duration::from_millis(40), "{report}");
    assert!(work.busy() <= 2 * report.elapsed, "{report}");
    assert!(work.workers.iter().all(|worker| worker.bytes > 0), "{report}");
    let idle = report.node("sink").unwrap().workers[0].waiting_for_input;
    assert!(idle > Duration::ZERO && idle <= report.elapsed, "{report}");
    assert!(report.to_string().contains("numbers"));
    let dot = report.to_dot();
    assert!(dot.starts_with("digraph") && dot.contains("n0 -> n1;"), "{dot}");
    assert!(dot.contains("the 'work' (2 × process)\\nin 200, out 200"), "{dot}");
    let mermaid = report.to_mermaid();
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("n1 --> n2"), "{mermaid}");
    assert!(mermaid.contains("#quot;work#quot;"), "{mermaid}");
    let bytes = postcard_of(&report);
    assert!(!bytes.is_empty());
}

fn postcard_of(report: &Report) -> String {
    serde_json::to_string(report).unwrap()
}

fn a_trace() {
    let name = testkit::name("trace");
    let path = format!("/dev/shm/{name}");
    let mut graph = graph(50);
    graph.trace_to(&path);
    graph.run().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |number: u64, what: &str| {
        events
            .iter()
            .filter(|event| event["tid"] == number && event["name"] == what)
            .map(|event| event["dur"].as_f64().unwrap())
            .sum::<f64>()
    };
    // Two workers, 50 items of 0.2 ms.
    assert!(of(1, "busy") + of(2, "busy") >= 50.0 * 200.0, "{text}");
    assert!(of(3, "waiting for input") > 0.0, "{text}");
    let named = events.iter().filter(|event| event["name"] == "thread_name").count();
    assert_eq!(named, 4);
}

/// It hides nothing that went before.
fn a_trace_that_cannot_be_written() {
    for fails in [false, true] {
        let mut graph = Graph::new();
        graph.trace_to("/nowhere/trace.json");
        let numbers = graph.source("numbers", Placement::Thread, 0..10_u64);
        let step = graph.node("step", Placement::Process, move |_| {
            try_each(move |n: u64| if fails && n == 5 { Err("no film") } else { Ok(()) })
        });
        let step = step.add();
        graph.connect(numbers.output(), step.input());
        match (fails, graph.run()) {
            (false, Err(Error::Trace { file, .. })) => {
                assert_eq!(file.to_str(), Some("/nowhere/trace.json"));
            }
            (true, Err(Error::Failed(failure))) => assert_eq!(failure.message, "no film"),
            (_, ended) => panic!("{ended:?}"),
        }
    }
    let mut graph = graph(1_000_000);
    graph.trace_to("/nowhere/trace.json");
    let run = graph.start().unwrap();
    run.stop_now();
    assert!(matches!(run.wait(), Err(Error::Stopped)));
}

/// Of each worker and each of its inputs, at every place.
fn discarded_items_stand_by_input() {
    for place in PLACES {
        let mut graph = Graph::new();
        let all = graph.source("all", Placement::Thread, 0..1000_u64);
        let tenth = graph.source("tenth", place, (0..100_u64).map(|n| 10 * n));
        let later = graph.source("later", Placement::Same, 500..1000_u64);
        let join = graph
            .node("join", place, |_| Joined::by_tick(ByTick::new(3, 16), |n: &u64| Some(*n)))
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(all.output(), join.input_at(0));
        graph.connect(tenth.output(), join.input_at(2));
        graph.connect(later.output(), join.input_at(1));
        graph.connect(join.output(), sink.input());
        let report = graph.run().unwrap();
        let rows: Vec<Vec<u64>> = taken(&kept);
        assert!(rows.into_iter().eq((50..100).map(|n| vec![10 * n; 3])), "{place}");
        let worker = &report.node("join").unwrap().workers[0];
        // What follows the last row may not be read any more: the join has ended by then.
        let [first, second, third] = worker.discarded_at[..] else { panic!("{worker:?}") };
        assert!(
            (941..=950).contains(&first) && (441..=450).contains(&second),
            "{place} {worker:?}"
        );
        assert_eq!(third, 50, "{place}");
        assert_eq!(worker.discarded, first + second + third, "{place}");
        let line = format!("discarded {first} at input 0, {second} at input 1, 50 at input 2");
        for text in [report.to_string(), report.to_dot(), report.to_mermaid()] {
            assert!(text.contains(&line), "{place}: {text}");
        }
        let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(back, report, "{place}");
        assert!(report.node("all").unwrap().workers[0].discarded_at.is_empty());
    }
    // Several workers, and what is of no input in particular.
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Same, 0..100_u64);
    let drops = graph.node("drops", Placement::Process, |worker| {
        let index = worker.index;
        from_fn(move |n: u64, out: &mut Outlet<u64>| {
            if n.is_multiple_of(10) {
                out.discard(1)
            } else {
                out.discard_at(index, 1)
            }
            Ok(Flow::GoOn)
        })
    });
    let drops = drops.workers(2).add();
    graph.edge(numbers.output().cloned(), drops.input()).to_all().add();
    graph.edge(numbers.output().cloned(), drops.input_at(1)).to_all().add();
    let report = graph.run().unwrap();
    let workers = &report.node("drops").unwrap().workers;
    assert_eq!(workers[0].discarded_at, [180, 0]);
    assert_eq!(workers[1].discarded_at, [0, 180]);
    assert!(workers.iter().all(|worker| worker.discarded == 200));
    let text = report.to_string();
    assert!(text.contains("discarded 180 at input 0, 20\n"), "{text}");
    assert!(report.to_dot().contains("discarded 180 at input 0, 180 at input 1, 40"));
}

/// Three nodes that each take 1 ms for an item, at their places.
fn three(places: [Placement; 3], capacity: usize) -> Report {
    const STEP: Duration = Duration::from_millis(1);
    let step = |n: u64| {
        std::thread::sleep(STEP);
        n
    };
    let mut graph = Graph::new();
    // One that is asked by its worker. Of others, which have a thread more, see `sources`.
    let first = graph.node("first", places[0], move |_| {
        let mut next = 0;
        from_fn(move |(), out: &mut Outlet<u64>| {
            out.send(step(next))?;
            next += 1;
            Ok(if next < 100 { Flow::GoOn } else { Flow::Eos })
        })
    });
    let first = first.add();
    let second = graph.node("second", places[1], move |_| map(step)).add();
    let third = graph.node("third", places[2], move |_| map(step)).add();
    graph.edge(first.output(), second.input()).capacity(capacity).add();
    graph.edge(second.output(), third.input()).capacity(capacity).add();
    graph.run().unwrap()
}

/// Those that call each other, and those that go on while one of the same thread waits for room.
fn each_moment_is_of_one_worker() {
    use Placement::{Process, Same, Task, Thread};
    let whole = Duration::from_millis(100);
    for places in [
        [Same, Same, Same],
        [Same, Thread, Same],
        [Same, Process, Same],
        [Thread, Same, Same],
        [Task, Task, Task],
        [Process, Thread, Process],
    ] {
        let report = three(places, 1);
        let mut threads = std::collections::BTreeMap::<String, (Duration, Duration)>::new();
        for (node, place) in report.nodes.iter().zip(places) {
            let worker = &node.workers[0];
            assert!(worker.busy >= whole, "{places:?}: {report}");
            let thread = match place {
                Same | Task => place.to_string(),
                _ => node.name.clone(),
            };
            let (spent, idle) = threads.entry(thread).or_default();
            *spent += worker.busy + worker.waiting_for_output;
            *idle = (*idle).max(worker.waiting_for_input);
        }
        for (spent, idle) in threads.into_values() {
            assert!(spent + idle <= report.elapsed, "{places:?}: {report}");
            // What is not counted is what the engine does itself, and the start, which of processes
            // takes long on a machine that is busy.
            let rest = report.elapsed - spent - idle;
            let starts = places.contains(&Process);
            assert!(starts || rest < report.elapsed / 2, "{places:?}: {rest:?} of {report}");
        }
    }
}

struct AtEnd;

impl Node for AtEnd {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, _: u64, _: &mut Outlet<u64>) -> Result<Flow, Cause> {
        Ok(Flow::GoOn)
    }

    fn input_ended(&mut self, _: usize, _: &mut Outlet<u64>) -> Result<Flow, Cause> {
        std::thread::sleep(Duration::from_millis(20));
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        std::thread::sleep(Duration::from_millis(20));
        Ok(out.send(1)?)
    }
}

fn what_is_done_at_the_end_counts() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Same, 0..10_u64);
        let end = graph.node("end", place, |_| AtEnd).add();
        graph.connect(numbers.output(), end.input());
        let report = graph.run().unwrap();
        let busy = |name| report.node(name).unwrap().busy();
        assert!(busy("end") >= Duration::from_millis(40), "{place}: {report}");
        assert!(busy("end") <= report.elapsed, "{place}: {report}");
        if place == Placement::Same {
            assert!(busy("numbers") + busy("end") <= report.elapsed, "{place}: {report}");
        }
    }
}
