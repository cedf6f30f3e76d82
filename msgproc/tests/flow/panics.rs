//! Panics of what is not a node: how items are dealt, cloned, measured, written, read and dropped.

use std::{panic::panic_any, process::Command};

use msgproc::flow::{
    Cause, Error, Failure, FailureKind, Flow, Graph, Node, OnError, Outlet, Placement, each, map,
    map_async, source,
    stage::{from_iter, from_stream, task, thread},
    try_map,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(where_it_was),
        testkit::test!(where_it_was_beside_a_node),
        testkit::test!(who_gets_an_item),
        testkit::test!(how_it_is_cloned),
        testkit::test!(how_many_bytes_it_has),
        testkit::test!(how_it_is_written_and_read),
        testkit::test!(how_a_node_is_dropped),
        testkit::test!(what_a_policy_covers),
        testkit::test!(where_items_are_kept_for_another_try),
        testkit::test!(how_items_are_cloned_or_dropped_beside_futures),
    ]
}

/// An item that breaks down somewhere.
#[derive(PartialEq, Debug)]
struct Fragile(u64);

const CLONED: u64 = 300;
const WRITTEN: u64 = 301;
const READ: u64 = 302;
const DEALT: u64 = 303;

impl Fragile {
    fn breaks(&self, when: u64) {
        if self.0 == when {
            panic_any(format!("it broke at {when}"));
        }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Fragile {
        self.breaks(CLONED);
        Fragile(self.0)
    }
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.breaks(WRITTEN);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fragile, D::Error> {
        let item = Fragile(u64::deserialize(deserializer)?);
        item.breaks(READ);
        Ok(item)
    }
}

fn failure(graph: Graph) -> Failure {
    match graph.run().unwrap_err() {
        Error::Failed(failure) => *failure,
        error => panic!("{error}"),
    }
}

fn broke(graph: Graph, node: &str, what: &str, place: Placement) {
    let failure = failure(graph);
    assert_eq!(failure.node, node, "{place}: {failure}");
    let travels = what.contains("at 301") || what.contains("at 302");
    let kind = if travels { FailureKind::Transport } else { FailureKind::Panic };
    assert_eq!(failure.kind, kind, "{place}: {failure}");
    assert!(failure.message.contains(what), "{place}: {failure}");
}

#[inline(never)]
fn breaks_down(n: u64) -> u64 {
    if n == 3 { panic!("it broke at {n}") } else { n }
}

/// Runs this again as a program of its own, with backtraces or without.
#[expect(clippy::disallowed_methods)]
fn with_backtraces(name: &str, test: impl Fn(bool)) {
    match std::env::var("TEST_AGAIN").as_deref() {
        Ok("1") => test(true),
        Ok("0") => test(false),
        _ => {
            for switch in ["1", "0"] {
                let mut again = Command::new(std::env::current_exe().unwrap());
                let again = again.args(["--exact", name]).env("TEST_AGAIN", switch);
                let again = again.env("RUST_BACKTRACE", switch).env_remove("RUST_LIB_BACKTRACE");
                let done = again.output().unwrap();
                assert!(
                    done.status.success(),
                    "{switch}: {}",
                    String::from_utf8_lossy(&done.stderr)
                );
            }
        }
    }
}

fn here(failure: &Failure, what: &str) {
    assert_eq!(failure.message, "panicked: it broke at 3", "{what}");
    assert!(failure.location.as_ref().unwrap().contains("panics.rs:"), "{what}");
    let said = failure.to_string();
    assert!(said.contains("it broke at 3, at ") && said.contains("panics.rs:"), "{what}: {said}");
}

fn where_it_was() {
    with_backtraces("where_it_was", |switched_on| {
        for place in PLACES {
            for on_error in [OnError::fail(), OnError::retry(2)] {
                let mut graph = Graph::new();
                let numbers = graph.source("numbers", Placement::Thread, 0..9_u64);
                let step = graph.node("step", place, |_| map(breaks_down));
                let step = step.on_error(on_error).add();
                let (sink, _) = keep(&mut graph, "sink");
                graph.connect(numbers.output(), step.input());
                graph.connect(step.output(), sink.input());
                let failure = failure(graph);
                here(&failure, &place.to_string());
                let named = failure.backtrace.map(|text| text.contains("breaks_down"));
                assert_eq!(named, switched_on.then_some(true), "{place}");
            }
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Thread, 0..9_u64);
            let step = graph.node("step", place, |_| {
                try_map(|n: u64| if n == 3 { Err("no film") } else { Ok(n) })
            });
            let step = step.add();
            let (sink, _) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), step.input());
            graph.connect(step.output(), sink.input());
            // An error does not say where it was made.
            let failure = failure(graph);
            assert_eq!((failure.location, failure.backtrace), (None, None), "{place}");
        }
    });
}

/// In a future, in the iterator of a source, and in a constructor.
fn where_it_was_beside_a_node() {
    with_backtraces("where_it_was_beside_a_node", |switched_on| {
        let named = |failure: &Failure, what: &str| {
            here(failure, what);
            let named = failure.backtrace.as_ref().map(|text| text.contains("breaks_down"));
            assert_eq!(named, switched_on.then_some(true), "{what}");
        };
        for place in [Placement::Task, Placement::Thread, Placement::Process] {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Thread, 0..9_u64);
            let step = graph.node("step", place, |_| map_async(2, async |n| breaks_down(n))).add();
            let (sink, _) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), step.input());
            graph.connect(step.output(), sink.input());
            named(&failure(graph), &format!("a future, {place}"));

            let mut graph = Graph::new();
            let numbers = graph.node("numbers", place, |_| source(breaks_down(3)..9));
            let numbers = numbers.add();
            let (sink, _) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), sink.input());
            named(&failure(graph), &format!("a constructor, {place}"));
        }
        let run = from_iter((0..9).map(breaks_down)).then(thread::map(|n: u64| n));
        let Err(Error::Failed(failure)) = run.collect::<Vec<_>>() else { panic!("it ended well") };
        named(&failure, "a source");
        let stream = futures_util::stream::iter((0..9).map(breaks_down));
        let run = from_stream(stream).then(thread::map(|n: u64| n));
        let Err(Error::Failed(failure)) = run.collect::<Vec<_>>() else { panic!("it ended well") };
        named(&failure, "a stream");
    });
}

fn who_gets_an_item() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..1000_u64);
        let step = graph.node("step", place, |_| map(|n: u64| n)).add();
        let (sink, _kept) = keep(&mut graph, "sink");
        let to = graph.node("to", Placement::Thread, |_| map(|n: u64| n)).workers(2).add();
        graph.connect(numbers.output(), step.input());
        let choose = |n: &u64| if *n == 500 { panic!("nobody gets {n}") } else { *n as usize };
        graph.edge(step.output(), to.input()).by(choose).add();
        graph.connect(to.output(), sink.input());
        broke(graph, "step", "nobody gets 500", place);
    }
}

fn how_it_is_cloned() {
    for place in PLACES {
        let mut graph = Graph::new();
        let items = graph.source("items", place, (0..1000).map(Fragile));
        let sink = graph.node("sink", place, |_| each(|_: Fragile| ())).workers(2).add();
        graph.edge(items.output(), sink.input()).to_all().add();
        broke(graph, "items", "it broke at 300", place);
    }
}

fn how_many_bytes_it_has() {
    let mut graph = Graph::new();
    let texts = graph.source("texts", Placement::Thread, (0..1000).map(|n: u64| n.to_string()));
    let sink = graph.node("sink", Placement::Thread, |_| each(|_: String| ())).add();
    let size = |text: &String| if text == "500" { panic!("no size") } else { text.len() };
    graph.edge(texts.output(), sink.input()).sized_by(size).add();
    broke(graph, "texts", "no size", Placement::Thread);
}

fn how_it_is_written_and_read() {
    for (place, other) in [
        (Placement::Thread, Placement::Process),
        (Placement::Process, Placement::Same),
        (Placement::Process, Placement::Process),
        (Placement::At { process: 1, thread: 2 }, Placement::At { process: 2, thread: 2 }),
    ] {
        for (first, node, what) in [(WRITTEN, "items", "at 301"), (READ, "sink", "at 302")] {
            let mut graph = Graph::new();
            let items = graph.source("items", place, (first..1000).map(Fragile));
            let sink = graph.node("sink", other, |_| each(|_: Fragile| ())).add();
            graph.connect(items.output(), sink.input());
            broke(graph, node, what, place);
        }
    }
}

struct Bomb;

impl Node for Bomb {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(item)?;
        Ok(Flow::GoOn)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("tick");
    }
}

fn how_a_node_is_dropped() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Process, 0..1000_u64);
        let bomb = graph.node("bomb", place, |_| Bomb).add();
        let sink = graph.node("sink", Placement::Thread, |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), bomb.input());
        graph.connect(bomb.output(), sink.input());
        let failure = failure(graph);
        assert!(failure.message.contains("tick"), "{place}: {failure}");
    }
}

/// An item that cannot be kept for a second try is left out as one that fails. What cannot be
/// written, read or dealt is no matter of a node: the run fails, and nothing is left out silently.
fn what_a_policy_covers() {
    let chosen = |n: &u64| if *n == DEALT { panic!("nobody gets {n}") } else { *n as usize };
    for (fragile, from, to) in [
        (CLONED, Placement::Thread, Placement::Process),
        (CLONED, Placement::Process, Placement::Process),
        (WRITTEN, Placement::Process, Placement::Thread),
        (READ, Placement::Thread, Placement::Process),
        (DEALT, Placement::Thread, Placement::Process),
        (DEALT, Placement::Process, Placement::Process),
    ] {
        let mut graph = Graph::new();
        let all = (0..50).chain([fragile]).chain(50..100);
        let numbers = graph.source("numbers", Placement::Same, all);
        let items = graph.node("items", from, |_| map(Fragile));
        let items = items.on_error(OnError::retry(1).or_skip()).add();
        let back = graph.node("back", to, |_| map(|item: Fragile| item.0));
        let back = back.on_error(OnError::retry(1).or_skip()).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), items.input());
        graph.connect(items.output(), back.input());
        graph.edge(back.output(), sink.input()).by(chosen).add();
        let outcome = graph.run();
        if fragile == CLONED {
            outcome.unwrap();
            assert_eq!(taken(&kept), (0..100).collect::<Vec<_>>());
            continue;
        }
        let Err(Error::Failed(failure)) = outcome else { panic!("{fragile}: {outcome:?}") };
        let node = if fragile == WRITTEN { "items" } else { "back" };
        assert_eq!(failure.node, node, "{failure}");
        assert!(failure.message.contains(&fragile.to_string()), "{failure}");
    }
}

/// One that cannot be cloned is the one that failed, and no other in its place.
fn where_items_are_kept_for_another_try() {
    let run = |place, on_error| {
        let mut graph = Graph::new();
        let items = graph.source("items", Placement::Thread, (290..310).map(Fragile));
        let step = graph.node("step", place, |_| map(|item: Fragile| item.0));
        let step = step.on_error(on_error).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(items.output(), step.input());
        graph.connect(step.output(), sink.input());
        (graph.run(), taken(&kept))
    };
    // Between processes its clone is made of its bytes.
    for place in [Placement::Thread, Placement::Same] {
        let Err(Error::Failed(failure)) = run(place, OnError::retry(2)).0 else {
            panic!("{place}: an item was lost");
        };
        assert_eq!((&*failure.node, failure.item), ("step", Some(10)), "{place}: {failure}");
        assert!(failure.message.contains("it broke at 300"), "{place}: {failure}");
        let (report, items) = run(place, OnError::retry(2).or_skip());
        assert_eq!(report.unwrap().node("step").unwrap().workers[0].skipped, 1, "{place}");
        assert!(items.into_iter().eq((290..310).filter(|n| *n != CLONED)), "{place}");
    }
    let stages = from_iter((295..305).map(Fragile)) | thread::map(|item: Fragile| item.0).retry(1);
    let Err(Error::Failed(failure)) = stages.collect::<Vec<_>>() else { panic!("one was lost") };
    assert!(failure.message.contains("it broke at 300"), "{failure}");
}

/// An item that is dropped only where nobody counts on it.
#[derive(Serialize, Deserialize)]
struct Sour(u64);

impl Drop for Sour {
    fn drop(&mut self) {
        if self.0 == 300 && !std::thread::panicking() {
            panic_any("it went sour");
        }
    }
}

fn how_items_are_cloned_or_dropped_beside_futures() {
    for place in [Placement::Task, Placement::Thread, Placement::Same] {
        for on_error in [OnError::retry(1), OnError::retry(1).or_skip()] {
            let mut graph = Graph::new();
            let items = graph.source("items", Placement::Thread, (295..305).map(Fragile));
            let step = graph.node("step", place, |_| map_async(2, async |item: Fragile| item.0));
            let step = step.ordered(true).on_error(on_error).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(items.output(), step.input());
            graph.connect(step.output(), sink.input());
            // Given away at the last try, it need not be cloned.
            graph.run().unwrap();
            assert!(taken(&kept).into_iter().eq(295..305), "{place}");
        }
        let mut graph = Graph::new();
        let items = graph.source("items", Placement::Thread, (295..305).map(Sour));
        let step = graph.node("step", place, |_| map_async(2, async |item: Sour| item.0)).add();
        let (sink, _kept) = keep(&mut graph, "sink");
        graph.connect(items.output(), step.input());
        graph.connect(step.output(), sink.input());
        broke(graph, "step", "it went sour", place);
    }
    let map = task::map(async |item: Fragile| item.0).retry(1);
    let all = (from_iter((295..305).map(Fragile)) | map).collect::<Vec<_>>().unwrap();
    assert_eq!(all.len(), 10);
}
