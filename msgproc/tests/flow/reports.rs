//! What a run tells of itself.

use std::{fs, time::Duration};

use msgproc::flow::{Graph, Placement, Report, map};

use crate::common::keep;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![testkit::test!(figures_and_pictures), testkit::test!(a_trace)]
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
