//! Order that is kept, and items that are bounded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Flow, Graph, Outlet, Placement, Same, Thread, each, filter, flat_map, from_fn, map,
};

use crate::common::{PLACES, Says, at, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(several_workers_keep_the_order),
        testkit::test!(order_goes_through_filters_and_floods),
        testkit::test!(every_item_floods),
        testkit::test!(smaller_numbers_go_first_in_a_thread),
        testkit::test!(what_is_said_at_the_end_has_its_turn),
        testkit::test!(a_slow_end_holds_the_source_back),
        testkit::test!(items_go_by_key),
        testkit::test!(views_get_the_newest),
        testkit::test!(several_views_get_the_newest),
        testkit::test!(what_a_slow_source_gave_does_not_wait_with_it),
    ]
}

fn several_workers_keep_the_order() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..2000_u64);
        let slow = move |n: u64| {
            if n.is_multiple_of(97) {
                sleep(Duration::from_micros(300));
            }
            n * 2
        };
        let twice = graph.node("twice", place, move |_| map(slow)).workers(3).ordered(true).add();
        let next =
            graph.node("next", place, |_| map(|n: u64| n + 1)).workers(2).ordered(true).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), twice.input());
        graph.connect(twice.output(), next.input());
        graph.connect(next.output(), sink.input());
        graph.run().unwrap();
        let expected: Vec<u64> = (0..2000).map(|n| n * 2 + 1).collect();
        assert_eq!(taken(&kept), expected, "{place}");
    }
}

fn order_goes_through_filters_and_floods() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..1000_u64);
        let some = graph
            .node("some", place, |_| filter(|n: &u64| n.is_multiple_of(7)))
            .workers(2)
            .ordered(true)
            .add();
        let flood = |n: u64| (0..if n == 70 { 5000 } else { n % 3 }).map(move |k| n * 10_000 + k);
        let flooded =
            graph.node("flooded", place, move |_| flat_map(flood)).workers(3).ordered(true).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), some.input());
        graph.connect(some.output(), flooded.input());
        graph.connect(flooded.output(), sink.input());
        graph.run().unwrap();
        let expected: Vec<u64> = (0..1000).filter(|n| n % 7 == 0).flat_map(flood).collect();
        assert_eq!(taken(&kept), expected, "{place}");
    }
}

/// Each item becomes more than a lane holds, whoever has it.
fn every_item_floods() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..30_u64);
        let flood = |n: u64| (0..300).map(move |k| n * 1000 + k);
        let first =
            graph.node("first", place, move |_| flat_map(flood)).workers(3).ordered(true).add();
        let second =
            graph.node("second", place, |_| map(|n: u64| n)).workers(2).ordered(true).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(numbers.output(), first.input()).capacity(4).add();
        graph.edge(first.output(), second.input()).capacity(16).add();
        graph.edge(second.output(), sink.input()).capacity(16).add();
        graph.run().unwrap();
        let expected: Vec<u64> = (0..30).flat_map(flood).collect();
        assert_eq!(taken(&kept), expected, "{place}");
    }
}

/// Workers that are called by who sends to them, in their thread, end one after the other: the one
/// whose turn it is first must not come after one that waits for room.
fn what_is_said_at_the_end_has_its_turn() {
    for place in [Placement::Same, Placement::Task, at(1, 0), at(0, 1)] {
        for (workers, capacity, says) in [(2, 1, 0), (3, 1, 7), (2, 1024, 5000)] {
            for count in [0, 1, 2, 100] {
                for behind in [None, Some(place), Some(Placement::Thread)] {
                    let mut graph = Graph::new();
                    let numbers = graph.source("numbers", place, 0..count);
                    let said = 1_000_000..1_000_000 + says;
                    let says =
                        graph.node("says", place, move |_| Says(said.clone())).workers(workers);
                    let says = says.ordered(true).add();
                    let (sink, kept) = keep::<u64>(&mut graph, "sink");
                    graph.connect(numbers.output(), says.input());
                    let output = match behind {
                        Some(place) => {
                            let next = graph.node("next", place, |_| map(|n: u64| n));
                            let next = next.workers(2).ordered(true).add();
                            graph.edge(says.output(), next.input()).capacity(capacity).add();
                            next.output()
                        }
                        None => says.output(),
                    };
                    graph.edge(output, sink.input()).capacity(capacity).add();
                    let report = graph.run().unwrap();
                    let (kept, told) = (taken(&kept), format!("{place} {behind:?}\n{report}"));
                    let (items, rest) = kept.split_at(count as usize);
                    assert!(items.iter().copied().eq(0..count), "{told}");
                    assert!(rest.iter().all(|n| *n >= 1_000_000), "{told}");
                    let said = report.node("says").unwrap().items_out() - count;
                    assert_eq!(rest.len() as u64, said, "{told}");
                }
            }
        }
    }
}

/// An endless source does not run ahead of what is taken.
/// One that waits for room in the middle of an item lets nobody of its thread begin with what comes
/// later, though it receives.
fn smaller_numbers_go_first_in_a_thread() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..20_u64);
    let flood = |n: u64| (0..50).map(move |k| n * 100 + k);
    let first = graph.node("first", Thread, move |_| {
        flat_map(move |n: u64| {
            if n.is_multiple_of(2) {
                sleep(Duration::from_millis(10)); // So that what comes of the next is there before.
            }
            flood(n)
        })
    });
    let first = first.places([Placement::Same, Placement::Thread]).ordered(true).add();
    let second = graph.node("second", Same, |_| flat_map(|n: u64| [n; 20]));
    let second = second.workers(2).ordered(true).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.edge(numbers.output(), first.input()).capacity(1).add();
    graph.edge(first.output(), second.input()).capacity(2).add();
    graph.edge(second.output(), sink.input()).capacity(1).add();
    let running = graph.start().unwrap();
    let began = Instant::now();
    while !running.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(20), "it hangs:\n{}", running.report());
        sleep(Duration::from_millis(1));
    }
    running.wait().unwrap();
    let expected: Vec<u64> = (0..20).flat_map(flood).flat_map(|n| [n; 20]).collect();
    assert_eq!(taken(&kept), expected);
}

fn a_slow_end_holds_the_source_back() {
    for (place, ordered) in [(Thread, false), (Thread, true)] {
        let made = Arc::new(AtomicU64::new(0));
        let count = made.clone();
        let mut graph = Graph::new();
        let numbers = graph.source(
            "numbers",
            place,
            (0_u64..).inspect(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        let same = graph.node("same", place, |_| map(|n: u64| n)).workers(2).ordered(ordered).add();
        let seen = made.clone();
        let end = graph
            .node("end", Same, move |_| {
                let (made, mut count) = (seen.clone(), 0_u64);
                from_fn(move |_: u64, _: &mut Outlet<()>| {
                    count += 1;
                    if count.is_multiple_of(100) {
                        sleep(Duration::from_millis(5));
                    }
                    // Two edges, two lanes each, and what is in hand.
                    let ahead = made.load(Ordering::Relaxed) - count;
                    assert!(ahead < 6000, "{ahead} items ahead");
                    Ok(if count == 5000 { Flow::Eos } else { Flow::GoOn })
                })
            })
            .add();
        graph.connect(numbers.output(), same.input());
        graph.connect(same.output(), end.input());
        graph.run().unwrap();
    }
}

fn items_go_by_key() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..1000_usize);
    let mark = graph
        .node("mark", Thread, |worker| {
            let index = worker.index;
            each(move |n: usize| assert_eq!(n / 10 % 4, index))
        })
        .workers(4)
        .add();
    graph.edge(numbers.output(), mark.input()).by(|n| n / 10).capacity(16).add();
    let report = graph.run().unwrap();
    assert_eq!(report.node("mark").unwrap().items_in(), 1000);
}

fn views_get_the_newest() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source(
            "numbers",
            Thread,
            (0..200_u64).inspect(|_| {
                sleep(Duration::from_micros(100));
            }),
        );
        let view = graph
            .node("view", place, |_| {
                map(|n: u64| {
                    sleep(Duration::from_millis(2));
                    n
                })
            })
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        // The graph knows of the way into a process by the node there.
        graph.edge(numbers.output(), view.input()).newest().add();
        graph.connect(view.output(), sink.input());
        let report = graph.run().unwrap();
        let items = taken(&kept);
        assert!(items.is_sorted() && items.last() == Some(&199), "{place}: {items:?}");
        assert!(items.len() < 150, "{place}: {} items", items.len());
        let dropped = report.node("numbers").unwrap().workers[0].dropped;
        assert_eq!(dropped + items.len() as u64, 200, "{place}");
    }
}

/// Each of them, and nobody is held back.
fn several_views_get_the_newest() {
    for (place, by) in PLACES.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        if place == Placement::Same {
            continue; // Two that are called are never behind.
        }
        let mut graph = Graph::new();
        let waits = |_: &u64| sleep(Duration::from_micros(100));
        let numbers = graph.source("numbers", Thread, (0..300_u64).inspect(waits));
        let slow = |n: u64| {
            sleep(Duration::from_millis(2));
            n
        };
        let view = graph.node("view", place, move |_| map(slow)).workers(2).add();
        let (sink, kept) = keep(&mut graph, "sink");
        let edge = graph.edge(numbers.output(), view.input()).newest();
        if by {
            edge.by(|n| *n as usize % 2).add()
        } else {
            edge.to_all().add()
        }
        graph.connect(view.output(), sink.input());
        let report = graph.run().unwrap();
        let mut items = taken(&kept);
        let (all, sent) = if by { (300, vec![298, 299]) } else { (600, vec![299, 299]) };
        let dropped = report.node("numbers").unwrap().workers[0].dropped;
        assert_eq!(dropped + items.len() as u64, all, "{place}: {report}");
        assert!(dropped > 100, "{place}: {report}");
        let held_back = report.node("numbers").unwrap().workers[0].waiting_for_output;
        assert!(held_back < Duration::from_millis(60), "{place}: {report}");
        items.sort_unstable();
        assert_eq!(items.split_off(items.len() - 2), sent, "{place}: {report}");
    }
}

/// An item goes on before its source waits for the next, also to somebody who is busy.
fn what_a_slow_source_gave_does_not_wait_with_it() {
    const LONG: Duration = Duration::from_secs(1);
    for place in [Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let waits = [Duration::ZERO, Duration::from_millis(2), LONG];
        let numbers = graph.source(
            "numbers",
            place,
            waits.into_iter().enumerate().map(|(n, wait)| {
                sleep(wait);
                n as u64
            }),
        );
        let busy = graph
            .node("busy", place, |_| {
                map(|n: u64| {
                    sleep(Duration::from_millis(if n == 0 { 30 } else { 0 }));
                    n
                })
            })
            .add();
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = came.clone();
        let sink = graph.node("sink", Placement::Same, move |_| {
            let kept = kept.clone();
            each(move |n: u64| kept.lock().unwrap().push((n, Instant::now())))
        });
        let sink = sink.add();
        graph.connect(numbers.output(), busy.input());
        graph.connect(busy.output(), sink.input());
        graph.run().unwrap();
        let came = came.lock().unwrap();
        let [(0, _), (1, second), (2, third)] = came[..] else { panic!("{place}: {came:?}") };
        assert!(third - second > LONG / 2, "{place}: {came:?}");
    }
}
