//! The same graph in every place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use msgproc::flow::{
    EdgeBuilder, Error, FailureKind, Graph, Memory, Placement, PlainProcess, Report, each,
    file::{ClassInfo, GraphFile, Registry},
    filter, flat_map, map, source,
    stage::{from_iter, thread},
};
use serde::{Deserialize, Serialize};
use shmring::{block::Block, board::Board};

use crate::common::{PLACES, fill, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(every_pair_of_places),
        testkit::test!(many_items),
        testkit::test!(no_items),
        testkit::test!(one_item),
        testkit::test!(long_items),
        testkit::test!(several_workers_everywhere),
        testkit::test!(plain_data),
        testkit::test!(few_blocks),
        testkit::test!(a_slow_consumer_bounds_the_bytes),
        testkit::test!(plain_items_have_their_size),
        testkit::test!(long_items_go_by_themselves),
        testkit::test!(bytes_are_bounded_by_whom_they_are_said_to),
    ]
}

/// source at `a` → map at `b` → filter at `c` → here.
fn chain(a: Placement, b: Placement, c: Placement, count: u64) -> (Vec<u64>, Report) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", a, 0..count);
    let tripled = graph.node("tripled", b, |_| map(|n: u64| 3 * n)).add();
    let even = graph.node("even", c, |_| filter(|n: &u64| n.is_multiple_of(2))).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), tripled.input());
    graph.connect(tripled.output(), even.input());
    graph.connect(even.output(), sink.input());
    let report = graph.run().unwrap();
    (taken(&kept), report)
}

fn expected(count: u64) -> Vec<u64> {
    (0..count).map(|n| 3 * n).filter(|n| n % 2 == 0).collect()
}

fn every_pair_of_places() {
    for a in PLACES {
        for b in PLACES {
            for c in PLACES {
                let (items, report) = chain(a, b, c, 500);
                assert_eq!(items, expected(500), "{a} {b} {c}");
                assert_eq!(report.node("tripled").unwrap().items_in(), 500, "{a} {b} {c}");
                assert_eq!(report.node("tripled").unwrap().items_out(), 500, "{a} {b} {c}");
                assert_eq!(report.node("sink").unwrap().items_in(), 250, "{a} {b} {c}");
            }
        }
    }
}

fn many_items() {
    use Placement::{Process, Same, Task, Thread};
    for (a, b, c) in [
        (Thread, Thread, Thread),
        (Process, Process, Process),
        (Thread, Process, Same),
        (Process, Thread, Process),
        (Same, Process, Thread),
        (Task, Task, Task),
        (Process, Task, Thread),
        (Task, Process, Task),
    ] {
        assert_eq!(chain(a, b, c, 100_000).0, expected(100_000), "{a} {b} {c}");
    }
}

fn no_items() {
    for place in PLACES {
        assert!(chain(place, place, place, 0).0.is_empty(), "{place}");
    }
}

fn one_item() {
    for place in PLACES {
        assert_eq!(chain(place, place, place, 1).0, [0], "{place}");
    }
}

/// Items of no byte to many more than fit into a lane.
fn long_items() {
    let lengths = [0, 1, 1000, 60_000, 70_000, 1 << 20, 64 << 20, 5];
    for place in PLACES {
        let mut graph = Graph::new();
        let source = graph.source("source", Placement::Thread, lengths);
        let texts = graph.node("texts", place, |_| map(|len: usize| "x".repeat(len))).add();
        let lens = graph.node("lens", place, |_| map(|text: String| text.len())).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(source.output(), texts.input());
        graph.connect(texts.output(), lens.input());
        graph.connect(lens.output(), sink.input());
        graph.run().unwrap();
        assert_eq!(taken(&kept), lengths, "{place}");
    }
}

fn several_workers_everywhere() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..3000_u64);
        let twice =
            graph.node("twice", place, |_| flat_map(|n: u64| [n, n + 10_000])).workers(3).add();
        let next = graph.node("next", place, |_| map(|n: u64| n + 1)).workers(2).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), twice.input());
        graph.connect(twice.output(), next.input());
        graph.connect(next.output(), sink.input());
        let report = graph.run().unwrap();
        let mut items = taken(&kept);
        items.sort_unstable();
        let all: Vec<u64> = (1..=3000).chain(10_001..=13_000).collect();
        assert_eq!(items, all, "{place}");
        let workers = &report.node("twice").unwrap().workers;
        assert_eq!(workers.iter().map(|worker| worker.items_in).sum::<u64>(), 3000);
    }
}

fn plain_data() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", PlainProcess, 0..50_000_u64);
    let pair = graph.node("pair", PlainProcess, |_| map(|n: u64| [n, n + 1])).workers(2);
    let pair = pair.ordered(true).add();
    let sum = graph.node("sum", PlainProcess, |_| map(|[a, b]: [u64; 2]| a + b)).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), pair.input());
    graph.connect(pair.output(), sum.input());
    graph.connect(sum.output(), sink.input());
    graph.run().unwrap();
    assert_eq!(taken(&kept), (0..50_000).map(|n| 2 * n + 1).collect::<Vec<_>>());

    // What is too long for a message is said; plain data goes in messages alone.
    let mut graph = Graph::new();
    let long = graph.source("long", PlainProcess, [[7_u8; 1024]]);
    let (sink, _kept) = keep(&mut graph, "sink");
    graph.edge(long.output(), sink.input()).capacity_bytes(1024).add();
    let Err(Error::Failed(failure)) = graph.run() else { panic!("it was sent") };
    assert_eq!((failure.kind, &*failure.node), (FailureKind::Transport, "long"));
    assert!(failure.message.contains("what it sent as item 0"), "{failure}");
}

/// A node that waits for a block has not gathered all of them.
fn few_blocks() {
    for place in [Placement::Process, Placement::Thread, Placement::Task, Placement::Same] {
        for blocks in [4, 8, 32] {
            let memory = Memory::with_blocks(blocks, 64).unwrap();
            let pool = memory.pool().unwrap().clone();
            let mut graph = Graph::new();
            graph.set_memory(&memory);
            let numbers = graph.source("numbers", Placement::Same, 0..5000_u64);
            let fill = graph.node("fill", Placement::Same, move |_| fill(&pool)).add();
            let read = graph
                .node("read", place, |_| {
                    map(|block: Block| {
                        u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap())
                    })
                })
                .workers(2)
                .add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), fill.input());
            graph.connect(fill.output(), read.input());
            graph.connect(read.output(), sink.input());
            let report = graph.run().unwrap();
            let mut items = taken(&kept);
            items.sort_unstable();
            assert_eq!(items, (0..5000).collect::<Vec<_>>(), "{place}, {blocks} blocks");
            assert_eq!(report.blocks_in_use, 0, "{place}, {blocks} blocks");
        }
    }
}

/// Bytes that somebody has, counted in words that all processes of a run share.
#[derive(Serialize, Deserialize)]
struct Counted {
    bytes: Vec<u8>,
    #[serde(skip)]
    board: Option<Board>,
}

const NOW: usize = 0;
const MOST: usize = 1;

impl Counted {
    fn new(len: usize, board: &Board) -> Counted {
        let now = board.add(NOW, len as u64) + len as u64;
        if now > board.load(MOST) {
            board.store(MOST, now);
        }
        Counted { bytes: vec![7; len], board: Some(board.clone()) }
    }
}

/// What is said of an edge.
type Deal = for<'a> fn(EdgeBuilder<'a, Counted, Counted>) -> EdgeBuilder<'a, Counted, Counted>;

/// Items of these lengths, from a source at `from` to one at `to` that takes 1 ms for each: how many
/// bytes there are at most that were made and are not done with.
fn most_bytes(
    (from, to): (Placement, Placement),
    lengths: Vec<usize>,
    capacity_bytes: usize,
    deal: Deal,
) -> u64 {
    let board = Board::options().words(2).bells(1).anonymous().unwrap();
    let (making, done) = (board.clone(), board.clone());
    let whole: usize = lengths.iter().sum();
    let mut graph = Graph::new();
    let items = lengths.into_iter().map(move |len| Counted::new(len, &making));
    let items = graph.source("items", from, items);
    let slow = move |_: &_| {
        let done = done.clone();
        each(move |item: Counted| {
            std::thread::sleep(Duration::from_millis(1));
            done.add(NOW, (item.bytes.len() as u64).wrapping_neg());
            assert!(item.board.is_none() || !item.bytes.is_empty());
        })
    };
    let slow = graph.node("slow", to, slow).workers(2).add();
    let edge = graph.edge(items.output(), slow.input()).capacity_bytes(capacity_bytes);
    deal(edge).sized_by(|item: &Counted| item.bytes.len()).add();
    graph.run().unwrap();
    assert_eq!(board.load(NOW), 0, "{from} {to}");
    assert!(whole as u64 > 2 * board.load(MOST), "{from} {to}: it shows nothing");
    board.load(MOST)
}

fn a_slow_consumer_bounds_the_bytes() {
    use Placement::{Process, Same, Task, Thread};
    let (len, bytes) = (4000, 64 << 10);
    let deals: [Deal; 2] = [|edge| edge, |edge| edge.round_robin()];
    for deal in deals {
        for places in [
            (Thread, Thread),
            (Thread, Same),
            (Same, Thread),
            (Task, Thread),
            (Process, Process),
            (Thread, Process),
            (Process, Thread),
        ] {
            let most = most_bytes(places, vec![len; 400], bytes, deal);
            // Two lanes, what is gathered for each, what is asked for ahead, and in every hand one.
            let bound = 2 * (bytes + bytes / 4) + bytes / 4 + 5 * len;
            assert!(most <= bound as u64, "{places:?}: {most} of {bound}");
        }
    }
}

fn long_items_go_by_themselves() {
    use Placement::{Same, Thread};
    let lengths: Vec<usize> = (0..300).map(|n| [10, 1, 900, 5000, 40][n % 5]).collect();
    for places in [(Thread, Thread), (Same, Thread)] {
        let most = most_bytes(places, lengths.clone(), 1000, |edge| edge);
        // In each of two lanes and three hands the longest, and what is gathered by what was short.
        assert!(most <= 7 * 5000, "{places:?}: {most}");
    }
}

/// How far those who make items are ahead of those who take them.
#[derive(Clone, Default)]
struct Ahead(Arc<[AtomicUsize; 3]>);

impl Ahead {
    fn made(&self, n: u64) -> Plain {
        self.0[0].fetch_add(1, Ordering::Relaxed);
        Plain([n as u8; 1000])
    }

    fn taken(&self) {
        std::thread::sleep(Duration::from_micros(500));
        let [made, taken, most] = &*self.0;
        let ahead = made.load(Ordering::Relaxed) - taken.fetch_add(1, Ordering::Relaxed);
        most.fetch_max(ahead, Ordering::Relaxed);
    }

    fn items(&self) -> impl Iterator<Item = Plain> + Send + use<> {
        let ahead = self.clone();
        (0..300).map(move |n| ahead.made(n))
    }

    fn check(&self, how: &str) {
        let [_, taken, most] = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(taken, 300, "{how}");
        // In the lane, gathered, and asked for ahead.
        assert!((10..36).contains(&most), "{how}: {most} items");
    }
}

/// A type that owns nothing says by itself how long it is.
fn plain_items_have_their_size() {
    for place in [Placement::Thread, Placement::Task] {
        let (mut graph, ahead) = (Graph::new(), Ahead::default());
        let items = graph.source("items", Placement::Thread, ahead.items());
        let copy = ahead.clone();
        let slow = move |_: &_| {
            let ahead = copy.clone();
            each(move |_: Plain| ahead.taken())
        };
        let slow = graph.node("slow", place, slow).add();
        graph.edge(items.output(), slow.input()).capacity_bytes(20_000).add();
        graph.run().unwrap();
        ahead.check(&place.to_string());
    }
}

fn bytes_are_bounded_by_whom_they_are_said_to() {
    use msgproc::flow::{Farm, Pipeline, Thread};
    let ahead = Ahead::default();
    let copy = ahead.clone();
    let slow = move |_: &_| {
        let ahead = copy.clone();
        map(move |_: Plain| ahead.taken())
    };
    let farm = Farm::new("slow", Thread, slow).capacity_bytes(20_000);
    Pipeline::source("items", Thread, ahead.items()).part(farm).run().unwrap();
    ahead.check("a farm");

    let ahead = Ahead::default();
    let (made, taken) = (ahead.clone(), ahead.clone());
    let stages = from_iter(0..300).capacity_bytes(1 << 10)
        | thread::map(move |n| made.made(n)).capacity_bytes(20_000)
        | thread::each(move |_: Plain| taken.taken());
    stages.run().unwrap();
    ahead.check("a stage");

    let ahead = Ahead::default();
    let (made, taken) = (ahead.clone(), ahead.clone());
    let registry = Registry::new()
        .source("Items", ClassInfo::new().output("out", "Plain"), move |_| Ok(source(made.items())))
        .sink("Slow", ClassInfo::new().input("in", "Plain"), move |_| {
            let taken = taken.clone();
            Ok(each(move |_: Plain| taken.taken()))
        });
    let file = "
nodes:
  items: {class: Items, compute_on: a}
  slow: {class: Slow, compute_on: b}
connections:
  - items -> slow (bytes 20000)
";
    let file = GraphFile::from_yaml(file).unwrap();
    registry.check(file).unwrap().run().unwrap();
    ahead.check("a file");
}

#[derive(Clone, Copy)]
struct Plain([u8; 1000]);

impl Serialize for Plain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        bytes.try_into().map(Plain).map_err(|_| serde::de::Error::custom("not 1000 bytes"))
    }
}
