//! Joins whose senders share a thread, and what joins count.

use std::{thread, time::Duration};

use msgproc::flow::{
    Cause, Flow, Graph, Node, NodeRef, OnError, Outlet, Output, Placement, Report, WorkerInfo,
    each, flat_map, from_fn,
    join::{ByTick, Joined, Latest, Nearest, WhenFull},
    map,
};

use crate::common::{PLACES, at, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(sources_of_one_thread_meet_in_a_join, timeout = 120),
        testkit::test!(sources_of_one_thread_whose_items_go_through_others),
        testkit::test!(who_keeps_the_order_waits_nowhere_for_one_held_up_by_a_join),
        testkit::test!(the_newest_of_sources_of_one_thread),
        testkit::test!(sources_of_one_thread_with_long_items),
        testkit::test!(much_comes_of_one_item_on_the_way_to_a_join),
        testkit::test!(who_rests_before_a_join_holds_little),
        testkit::test!(rows_and_what_was_discarded_add_up),
        testkit::test!(what_a_join_holds_in_the_end_was_discarded),
        testkit::test!(an_item_without_a_time_is_left_out_alone),
        testkit::test!(sources_that_wait_end_with_their_join),
    ]
}

type Item = (u64, Vec<u8>);

/// Numbers from `from` on, each with so many bytes.
fn numbers(
    graph: &mut Graph,
    name: &str,
    place: Placement,
    (from, to): (u64, u64),
    bytes: usize,
) -> NodeRef<(), Item> {
    graph.source(name, place, (from..to).map(move |n| (n, vec![n as u8; bytes])))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ByTick,
    Latest,
    Nearest,
}

fn join(kind: Kind, when_full: WhenFull) -> Joined<Item> {
    let number = |item: &Item| Some(item.0);
    match kind {
        Kind::ByTick => Joined::by_tick(ByTick::new(2, 16), number),
        Kind::Latest => Joined::latest(Latest::new(2, msgproc::flow::join::Before::Hold(4))),
        Kind::Nearest => Joined::nearest(Nearest::new(2, 0, 16), number),
    }
    .when_full(when_full)
}

/// What a join gives of two streams of which the second begins later, and the report.
fn run(
    kind: Kind,
    (sources, between, place): (Placement, Option<Placement>, Placement),
    capacity: usize,
    (begins, to): (u64, u64),
    bytes: usize,
) -> (Vec<(u64, u64)>, Report) {
    let mut graph = Graph::new();
    let early = numbers(&mut graph, "early", sources, (0, to), bytes);
    let late = numbers(&mut graph, "late", sources, (begins, to), bytes);
    let joined = graph.node("join", place, move |_| join(kind, WhenFull::Wait)).add();
    let (sink, kept) = keep::<(u64, u64)>(&mut graph, "sink");
    let rows = graph.node("rows", place, |_| {
        map(|row: Vec<Item>| {
            assert!(row.iter().all(|(n, bytes)| bytes.iter().all(|byte| *byte == *n as u8)));
            (row[0].0, row[1].0)
        })
    });
    let rows = rows.add();
    for (input, from) in [late, early].into_iter().enumerate() {
        let output: Output<Item> = match between {
            Some(between) => {
                let name = format!("same {input}");
                let same = graph.node(&name, between, |_| map(|item: Item| item)).add();
                graph.edge(from.output(), same.input()).capacity(capacity).add();
                same.output()
            }
            None => from.output(),
        };
        graph.edge(output, joined.input_at(input)).capacity(capacity).add();
    }
    graph.connect(joined.output(), rows.input());
    graph.connect(rows.output(), sink.input());
    let report = graph.run().unwrap();
    (taken(&kept), report)
}

/// The join wants nothing of the one until the other has come so far: whoever waits for room must not
/// keep the other from going on.
fn sources_of_one_thread_meet_in_a_join() {
    let here = [Placement::Same, Placement::Task, at(1, 0), at(1, 3)];
    for kind in [Kind::ByTick, Kind::Latest, Kind::Nearest] {
        for sources in here {
            for place in PLACES {
                let ways: &[_] = match kind {
                    Kind::ByTick => &[None, Some(sources)],
                    _ => &[None],
                };
                for between in ways.iter().copied() {
                    for capacity in [1, 1024] {
                        let places = (sources, between, place);
                        let (rows, report) = run(kind, places, capacity, (600, 900), 3);
                        let told = format!("{kind:?} {places:?} {capacity}\n{report}");
                        match kind {
                            // What was the latest then is a matter of speed.
                            Kind::Latest => assert_eq!(rows.len(), 300, "{told}"),
                            _ => assert!(rows.into_iter().eq((600..900).map(|n| (n, n))), "{told}"),
                        }
                    }
                }
            }
        }
    }
}

/// A node between, alone in its thread, waits for room in the middle of its step: who sends to it must
/// not do so for that.
fn sources_of_one_thread_whose_items_go_through_others() {
    for sources in [Placement::Same, Placement::Task, at(1, 0)] {
        for between in [Placement::Thread, Placement::Process, at(0, 1)] {
            for place in [Placement::Same, Placement::Thread, Placement::Process] {
                for (kind, capacity) in [(Kind::ByTick, 1), (Kind::Nearest, 50)] {
                    let places = (sources, Some(between), place);
                    let (rows, report) = run(kind, places, capacity, (600, 900), 3);
                    let told = format!("{kind:?} {places:?} {capacity}\n{report}");
                    assert!(rows.into_iter().eq((600..900).map(|n| (n, n))), "{told}");
                }
            }
        }
    }
}

/// Of three workers that keep the order one is held up by the join, which lacks what is still to come
/// from a node of another's thread. A sink behind the same three waits for the one that is held up, so
/// the other must not wait for the sink.
fn who_keeps_the_order_waits_nowhere_for_one_held_up_by_a_join() {
    const COUNT: u64 = 200;
    // Much comes of the second worker's items, so that it has no room while the others have.
    let parts = |n: u64| (0..if n % 3 == 2 { 100 } else { 1 }).map(move |part| n * 1000 + part);
    for is_first in [true, false] {
        let mut graph = Graph::new();
        let source = graph.source("numbers", Placement::Thread, 0..COUNT);
        let here = Placement::Thread;
        let all = [at(0, 1), here, here];
        let cut = graph.node("cut", here, move |_| flat_map(parts)).places(all).ordered(true).add();
        let late = graph.node("late", here, |_| {
            map(|n| {
                thread::sleep(Duration::from_millis(if n < 30 { 3 } else { 0 }));
                n
            })
        });
        let late = late.add();
        let beside = graph.node("beside", at(0, 1), move |_| flat_map(parts)).add();
        let by_tick = |_: &WorkerInfo| {
            Joined::by_tick(ByTick::new(2, 1), |n: &u64| Some(*n)).when_full(WhenFull::Wait)
        };
        let joined = graph.node("join", here, by_tick).add();
        let (sink, kept) = keep::<Vec<u64>>(&mut graph, "rows");
        let count = graph.node("count", here, |_| each(|_: u64| ())).add();
        graph.edge(source.output().cloned(), cut.input()).capacity(4).add();
        graph.edge(source.output().cloned(), late.input()).capacity(4).add();
        graph.edge(late.output(), beside.input()).capacity(1).add();
        let ways = [(cut.output().cloned(), 0), (beside.output().cloned(), 1)];
        let (one, other) = if is_first { (0, 1) } else { (1, 0) };
        for (output, input) in [&ways[one], &ways[other]] {
            graph.edge(*output, joined.input_at(*input)).capacity(50).add();
        }
        graph.edge(cut.output().cloned(), count.input()).capacity(1).add();
        graph.connect(joined.output(), sink.input());
        let report = graph.run().unwrap();
        let rows = taken(&kept).into_iter();
        assert!(rows.eq((0..COUNT).flat_map(parts).map(|n| vec![n, n])), "{report}");
    }
}

/// At the end the newest goes on, whether the join wants it by then or not.
fn the_newest_of_sources_of_one_thread() {
    for place in PLACES {
        for (from, capacity) in [(2000, 1), (2999, 50)] {
            let mut graph = Graph::new();
            let early = graph.source("early", Placement::Same, 0..3000_u64);
            let late = graph.source("late", Placement::Same, from..3000_u64);
            let joined = graph
                .node("join", place, |_| Joined::by_tick(ByTick::new(2, 16), |n: &u64| Some(*n)));
            let joined = joined.add();
            let (sink, kept) = keep::<Vec<u64>>(&mut graph, "sink");
            for (input, from) in [late, early].into_iter().enumerate() {
                graph.edge(from.output(), joined.input_at(input)).capacity(capacity).newest().add();
            }
            graph.connect(joined.output(), sink.input());
            let report = graph.run().unwrap();
            // What comes between is a matter of speed.
            assert_eq!(taken(&kept).pop(), Some(vec![2999; 2]), "{place}\n{report}");
        }
    }
}

fn sources_of_one_thread_with_long_items() {
    for sources in [Placement::Same, at(1, 3)] {
        for place in [Placement::Thread, Placement::Process] {
            for bytes in [500, 10_000, 40_000, 300_000] {
                let places = (sources, None, place);
                // More than a ring has room for.
                let begins = 300_000 / bytes as u64 + 20;
                let numbers = (begins, begins + 20);
                let (rows, report) = run(Kind::ByTick, places, 1024, numbers, bytes);
                assert_eq!(rows.len(), 20, "{sources} {place} {bytes}\n{report}");
            }
        }
    }
}

/// More comes of one item, or of an end, than the ring has room for, before the join wants any of it:
/// what it lacks is to come from the same thread.
fn much_comes_of_one_item_on_the_way_to_a_join() {
    const COUNT: u64 = 3000;
    /// Sends all it has at its end.
    struct AtEnd;
    impl Node for AtEnd {
        type In = u64;
        type Out = Item;

        fn svc(&mut self, _: u64, _: &mut Outlet<Item>) -> Result<Flow, Cause> {
            Ok(Flow::GoOn)
        }

        fn svc_end(&mut self, out: &mut Outlet<Item>) -> Result<(), Cause> {
            for n in 0..COUNT {
                out.send((n, vec![n as u8; 100]))?;
            }
            Ok(())
        }
    }
    let all = |_: u64| (0..COUNT).map(|n| (n, vec![n as u8; if n % 500 == 7 { 5000 } else { 0 }]));
    for here in [at(0, 1), at(1, 0)] {
        for there in [at(2, 0), at(0, 2)] {
            let mut graph = Graph::new();
            let one = graph.source("one", Placement::Thread, [0_u64]);
            let much = graph.node("much", here, move |_| flat_map(all)).add();
            let at_end = graph.node("at end", here, |_| AtEnd).add();
            let joined = graph.node("join", there, |_| join(Kind::ByTick, WhenFull::Wait)).add();
            let rows = graph.node("rows", there, |_| map(|row: Vec<Item>| (row[0].0, row[1].0)));
            let rows = rows.add();
            let (sink, kept) = keep::<(u64, u64)>(&mut graph, "sink");
            graph.connect(one.output().cloned(), much.input());
            graph.connect(one.output().cloned(), at_end.input());
            graph.edge(much.output(), joined.input_at(0)).capacity_bytes(4000).add();
            graph.edge(at_end.output(), joined.input_at(1)).capacity_bytes(4000).add();
            graph.connect(joined.output(), rows.input());
            graph.connect(rows.output(), sink.input());
            let report = graph.run().unwrap();
            let told = format!("{here} {there}\n{report}");
            assert!(taken(&kept).into_iter().eq((0..COUNT).map(|n| (n, n))), "{told}");
            assert_eq!(report.left, 0, "{told}");
        }
    }
}

/// One without end, whose items the join does not want for long.
fn who_rests_before_a_join_holds_little() {
    for place in [Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let endless = graph.source("endless", Placement::Same, 0_u64..);
        let slow = graph.node("slow", Placement::Same, |_| {
            let mut next = 0;
            from_fn(move |(), out: &mut msgproc::flow::Outlet<u64>| {
                std::thread::sleep(Duration::from_millis(1));
                out.send(next)?;
                out.flush()?;
                next += 10;
                Ok(if next == 1000 { msgproc::flow::Flow::Eos } else { msgproc::flow::Flow::GoOn })
            })
        });
        let slow = slow.add();
        let join =
            graph.node("join", place, |_| Joined::by_tick(ByTick::new(2, 16), |n: &u64| Some(*n)));
        let join = join.add();
        let (sink, kept) = keep::<Vec<u64>>(&mut graph, "sink");
        graph.edge(endless.output(), join.input_at(0)).capacity(20).add();
        graph.edge(slow.output(), join.input_at(1)).capacity(20).add();
        graph.connect(join.output(), sink.input());
        let report = graph.run().unwrap();
        assert_eq!(taken(&kept).len(), 100, "{place}: {report}");
        let ahead = report.node("endless").unwrap().items_out() - 990;
        assert!(ahead < 200, "{place}: {ahead} ahead\n{report}");
    }
}

fn rows_and_what_was_discarded_add_up() {
    for place in PLACES {
        for when_full in [WhenFull::Wait, WhenFull::Discard] {
            for sources in [Placement::Same, Placement::Thread] {
                let mut graph = Graph::new();
                let short = numbers(&mut graph, "short", sources, (0, 1000), 0);
                let long = numbers(&mut graph, "long", sources, (0, 3000), 0);
                let join = graph.node("join", place, move |_| join(Kind::ByTick, when_full)).add();
                let (sink, kept) = keep::<Vec<Item>>(&mut graph, "sink");
                graph.connect(short.output(), join.input_at(0));
                graph.connect(long.output(), join.input_at(1));
                graph.connect(join.output(), sink.input());
                let report = graph.run().unwrap();
                let (rows, join) = (taken(&kept).len() as u64, report.node("join").unwrap());
                let discarded: u64 = join.workers[0].discarded;
                assert_eq!(
                    join.items_in(),
                    2 * rows + discarded,
                    "{place} {when_full:?}\n{report}"
                );
            }
        }
    }
}

/// A sticky input that ends without a value: no row comes of what the others gave.
fn what_a_join_holds_in_the_end_was_discarded() {
    for kind in [Kind::ByTick, Kind::Nearest] {
        for place in PLACES {
            let mut graph = Graph::new();
            let one = numbers(&mut graph, "one", Placement::Thread, (0, 30), 0);
            let two = numbers(&mut graph, "two", Placement::Thread, (0, 20), 0);
            let nothing = std::iter::from_fn(|| {
                std::thread::sleep(Duration::from_millis(30));
                None::<Item>
            });
            let never = graph.source("never", Placement::Thread, nothing);
            let join = move |_: &WorkerInfo| join(kind, WhenFull::Wait).sticky(1, 4);
            let join = graph.node("join", place, join).add();
            let (sink, kept) = keep::<Vec<Item>>(&mut graph, "sink");
            graph.connect(one.output(), join.input_at(0));
            graph.connect(two.output(), join.input_at(1));
            graph.connect(never.output(), join.input_at(2));
            graph.connect(join.output(), sink.input());
            let report = graph.run().unwrap();
            assert!(taken(&kept).is_empty(), "{kind:?} {place}");
            let join = report.node("join").unwrap();
            // A row that was discarded is of two items.
            let single: u64 = join.workers[0].discarded_at.iter().sum();
            let items = single + 2 * (join.workers[0].discarded - single);
            assert_eq!(join.items_in(), items, "{kind:?} {place}\n{report}");
        }
    }
}

/// It comes behind others of its message, which the join has no room for yet.
fn an_item_without_a_time_is_left_out_alone() {
    let time = |item: &Item| item.1.is_empty().then_some(item.0);
    for place in PLACES {
        let mut graph = Graph::new();
        let items = (0..100).map(|n| (n, vec![0; usize::from(n == 50)]));
        let leading = graph.source("leading", Placement::Thread, items);
        let far = numbers(&mut graph, "far", Placement::Thread, (1000, 1001), 0);
        let nearest = move || Joined::nearest(Nearest::new(2, 10_000, 8), time);
        let join = graph.node("join", place, move |_| nearest());
        let join = join.on_error(OnError::skip()).add();
        let (sink, kept) = keep::<Vec<Item>>(&mut graph, "sink");
        graph.connect(leading.output(), join.input_at(0));
        graph.connect(far.output(), join.input_at(1));
        graph.connect(join.output(), sink.input());
        let report = graph.run().unwrap();
        let led: Vec<u64> = taken(&kept).iter().map(|row| row[0].0).collect();
        let expected: Vec<u64> = (0..100).filter(|n| *n != 50).collect();
        assert_eq!(led, expected, "{place}\n{report}");
        assert_eq!(report.node("join").unwrap().workers[0].skipped, 1, "{place}\n{report}");
    }
}

/// One input has ended, so no row can come; the other one's source has nothing, and never will.
fn sources_that_wait_end_with_their_join() {
    for place in PLACES {
        for between in [false, true] {
            let mut graph = Graph::new();
            let wait = |(), _: &mut Outlet<Item>| Ok(Flow::Wait);
            let waits = graph.node("waits", Placement::Thread, move |_| from_fn(wait)).add();
            let ends = numbers(&mut graph, "ends", Placement::Thread, (0, 0), 0);
            let join = graph.node("join", place, |_| join(Kind::ByTick, WhenFull::Wait)).add();
            let (sink, kept) = keep::<Vec<Item>>(&mut graph, "sink");
            if between {
                let same = graph.node("same", place, |_| map(|item: Item| item)).add();
                graph.connect(waits.output(), same.input());
                graph.connect(same.output(), join.input_at(0));
            } else {
                graph.connect(waits.output(), join.input_at(0));
            }
            graph.connect(ends.output(), join.input_at(1));
            graph.connect(join.output(), sink.input());
            let report = graph.run().unwrap();
            assert!(taken(&kept).is_empty(), "{place}\n{report}");
        }
    }
}
