//! How runs end: early, by a stop, by what nobody takes.

use std::{
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Cause, Closed, Error, Feed, Flow, Graph, Node, OnError, Outlet, Placement, Results, Running,
    TrySendError, each, from_fn, map,
};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(an_end_that_has_enough_ends_the_source),
        testkit::test!(an_end_of_what_is_ordered_ends_the_source),
        testkit::test!(a_stop_finishes_what_is_on_its_way),
        testkit::test!(a_stop_finishes_what_was_given),
        testkit::test!(a_stop_at_once),
        testkit::test!(a_dropped_handle_stops_the_run),
        testkit::test!(a_node_drops_the_handle),
        testkit::test!(sources_pause),
        testkit::test!(svc_end_may_send),
        testkit::test!(what_is_sent_at_the_end_keeps_the_order),
        testkit::test!(dropped_results_end_those_who_feed),
        testkit::test!(who_feeds_after_the_end_is_told),
        testkit::test!(nobody_waits_for_what_never_runs),
        testkit::test!(who_says_closed_takes_no_more),
    ]
}

fn an_end_that_has_enough_ends_the_source() {
    for a in PLACES {
        for b in PLACES {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", a, 0_u64..);
            let same = graph.node("same", b, |_| map(|n: u64| n)).workers(2).add();
            let enough = graph
                .node("enough", Placement::Same, |_| {
                    let mut left = 1000;
                    from_fn(move |n: u64, out: &mut Outlet<u64>| {
                        left -= 1;
                        out.send(n)?;
                        Ok(if left == 0 { Flow::Eos } else { Flow::GoOn })
                    })
                })
                .add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), same.input());
            graph.connect(same.output(), enough.input());
            graph.connect(enough.output(), sink.input());
            graph.run().unwrap();
            assert_eq!(taken(&kept).len(), 1000, "{a} {b}");
        }
    }
}

/// Also where its senders keep the order, one message for each that they got: however short.
fn an_end_of_what_is_ordered_ends_the_source() {
    for place in PLACES {
        for capacity in [1, 50, 1000] {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", Placement::Thread, 0_u64..);
            let same = graph.node("same", place, |_| map(|n: u64| n)).workers(2).ordered(true);
            let same = same.add();
            let again = graph.node("again", place, |_| map(|n: u64| n)).workers(2).ordered(true);
            let again = again.add();
            let enough = graph.node("enough", Placement::Same, |_| {
                let mut next = 0;
                from_fn(move |n: u64, _: &mut Outlet<()>| {
                    assert_eq!(n, next);
                    next += 1;
                    Ok(if next == 300 { Flow::Eos } else { Flow::GoOn })
                })
            });
            let enough = enough.add();
            graph.edge(numbers.output(), same.input()).capacity(capacity).add();
            graph.connect(same.output(), again.input());
            graph.edge(again.output(), enough.input()).capacity(capacity).add();
            let report = graph.run().unwrap();
            assert!(report.node("numbers").unwrap().items_out() < 100_000, "{place}: {report}");
        }
    }
}

fn endless(place: Placement) -> (Graph, crate::common::Kept<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", place, 0_u64..);
    let same = graph.node("same", place, |_| map(|n: u64| n)).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), same.input());
    graph.connect(same.output(), sink.input());
    (graph, kept)
}

fn a_stop_finishes_what_is_on_its_way() {
    for place in [Placement::Thread, Placement::Process] {
        let (graph, kept) = endless(place);
        let running = graph.start().unwrap();
        sleep(Duration::from_millis(20));
        running.stop();
        let report = running.wait().unwrap();
        let items = taken(&kept);
        assert!(items.iter().copied().eq(0..items.len() as u64), "{place}");
        assert_eq!(report.node("numbers").unwrap().items_out(), items.len() as u64, "{place}");
    }
}

fn a_stop_finishes_what_was_given() {
    for place in PLACES {
        for frozen in [false, true] {
            let mut graph = Graph::new();
            let (feed, numbers) = graph.feed::<u64, _>("numbers", place, 100);
            let same = graph.node("same", place, |_| map(|n: u64| n)).add();
            graph.connect(numbers.output(), same.input());
            let results = graph.results("results", same.output(), 100);
            let running = graph.start().unwrap();
            if frozen {
                running.freeze();
            }
            (0..100).for_each(|n| feed.offload(n).unwrap());
            running.stop();
            assert!(results.eq(0..100), "{place} {frozen}");
            running.wait().unwrap();
        }
    }
}

fn dropped_results_end_those_who_feed() {
    for place in PLACES {
        let mut graph = Graph::new();
        let (feed, numbers) = graph.feed::<u64, _>("numbers", place, 10);
        let same = graph.node("same", place, |_| map(|n: u64| n)).add();
        graph.connect(numbers.output(), same.input());
        let results = graph.results("results", same.output(), 10);
        let running = graph.start().unwrap();
        feed.offload(1).unwrap();
        assert_eq!(results.result(), Some(1), "{place}");
        drop(results);
        let began = Instant::now();
        while feed.offload(2).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "{place}");
        }
        running.wait().unwrap();
    }
}

/// By a stop, or by somebody else's word that nothing more comes. All that was accepted goes through.
fn who_feeds_after_the_end_is_told() {
    for round in 0..200 {
        let mut graph = Graph::new();
        let (feed, numbers) = graph.feed::<u64, _>("numbers", Placement::Thread, 1 + round % 16);
        let counts = graph.node("counts", Placement::Thread, |_| each(|_: u64| ())).add();
        graph.edge(numbers.output(), counts.input()).capacity(1 + round % 3).add();
        let running = graph.start().unwrap();
        let other = feed.clone();
        let feeder = std::thread::spawn(move || {
            let mut given = 0;
            while feed.offload(given).is_ok() {
                given += 1;
            }
            assert!(matches!(feed.try_offload(0), Err(TrySendError::Closed(0))));
            given
        });
        sleep(Duration::from_micros(round as u64 * 20));
        if round.is_multiple_of(2) {
            running.stop()
        } else {
            other.end()
        }
        let given = feeder.join().unwrap();
        let report = running.wait().unwrap();
        assert_eq!(report.node("counts").unwrap().items_in(), given, "{round}\n{report}");
    }
}

/// A graph that is dropped, one that cannot be, and one that does not begin.
fn nobody_waits_for_what_never_runs() {
    let doors = |place: Placement, fails: bool| {
        let mut graph = Graph::new();
        let (feed, numbers) = graph.feed::<u64, _>("numbers", place, 1);
        let same = graph.node("same", place, move |_| {
            assert!(!fails, "no device");
            map(|n: u64| n)
        });
        let same = same.add();
        graph.connect(numbers.output(), same.input());
        let results = graph.results("results", same.output(), 1);
        (graph, feed, results)
    };
    let ended = |feed: Feed<u64>, results: Results<u64>| {
        while feed.offload(1).is_ok() {}
        assert_eq!(results.result(), None);
    };
    for place in PLACES {
        let (graph, feed, results) = doors(place, false);
        feed.offload(1).unwrap();
        drop(graph);
        ended(feed, results);

        let (mut graph, feed, results) = doors(place, false);
        graph.node("alone", place, |_| map(|n: u64| n)).add();
        graph.start().map(drop).unwrap_err();
        ended(feed, results);

        for start in [|graph: Graph| graph.run().map(drop), |graph: Graph| graph.start().map(drop)]
        {
            let (graph, feed, results) = doors(place, true);
            start(graph).unwrap_err();
            ended(feed, results);
        }
    }
}

/// Also if it is not its own outlet that said so.
fn who_says_closed_takes_no_more() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0_u64..);
        let (sink, kept) = keep(&mut graph, "sink");
        let enough = graph
            .node("enough", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    if n == 1000 {
                        return Err(Closed.into());
                    }
                    out.send(n)?;
                    Ok(Flow::GoOn)
                })
            })
            .add();
        graph.connect(numbers.output(), enough.input());
        graph.connect(enough.output(), sink.input());
        graph.run().unwrap();
        assert!(taken(&kept).into_iter().eq(0..1000), "{place}");
    }
}

fn a_stop_at_once() {
    for place in PLACES {
        let (graph, _kept) = endless(place);
        let running = graph.start().unwrap();
        sleep(Duration::from_millis(10));
        assert!(!running.is_finished());
        assert!(running.report().node("numbers").unwrap().items_out() > 0);
        let began = Instant::now();
        running.stop_now();
        assert!(matches!(running.wait(), Err(Error::Stopped)), "{place}");
        assert!(began.elapsed() < Duration::from_secs(2), "{place}: {:?}", began.elapsed());
    }
}

fn a_dropped_handle_stops_the_run() {
    for place in PLACES {
        drop(endless(place).0.start().unwrap());
    }
}

/// By one of its own nodes, which cannot wait for itself.
fn a_node_drops_the_handle() {
    for place in [Placement::Same, Placement::Thread, Placement::Task] {
        let handle = Arc::new(Mutex::new(None::<Running>));
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0_u64..);
        let held = handle.clone();
        let ends = graph.node("ends", place, move |_| {
            let held = held.clone();
            each(move |_: u64| drop(held.lock().unwrap().take()))
        });
        let ends = ends.add();
        graph.connect(numbers.output(), ends.input());
        *handle.lock().unwrap() = Some(graph.start().unwrap());
        let ended = || Arc::strong_count(&handle) == 1;
        assert!(testkit::wait_until(Duration::from_secs(10), ended), "{place}");
    }
}

fn sources_pause() {
    let (graph, _kept) = endless(Placement::Thread);
    let running = graph.start().unwrap();
    sleep(Duration::from_millis(10));
    running.freeze();
    sleep(Duration::from_millis(50));
    let before = running.report().node("sink").unwrap().items_in();
    sleep(Duration::from_millis(50));
    assert_eq!(running.report().node("sink").unwrap().items_in(), before);
    running.thaw();
    let until = Instant::now() + Duration::from_secs(10);
    while running.report().node("sink").unwrap().items_in() == before {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(1));
    }
    running.stop();
    running.wait().unwrap();
}

struct Total(u64);

impl msgproc::flow::Node for Total {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, _: &mut Outlet<u64>) -> Result<Flow, msgproc::flow::Cause> {
        self.0 += item;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), msgproc::flow::Cause> {
        Ok(out.send(self.0)?)
    }
}

/// Says which of its node's workers it is, when its input ends and at the end.
struct Signs(u64);

impl Node for Signs {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(item)?;
        Ok(Flow::GoOn)
    }

    fn input_ended(&mut self, _: usize, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        // More than goes into a message.
        (0..300).try_for_each(|_| out.send(self.0))?;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        Ok(out.send(self.0 + 10)?)
    }
}

/// Behind all items, one worker after the other, and those of the node in front first.
fn what_is_sent_at_the_end_keeps_the_order() {
    const FIRST: u64 = 1 << 20;
    const SECOND: u64 = 1 << 21;
    for place in PLACES {
        for other in PLACES {
            for retries in [0, 1] {
                for count in [0, 1, 5, 1000] {
                    let mut graph = Graph::new();
                    let numbers = graph.source("numbers", place, 0..count);
                    let first = graph.node("first", place, |me| Signs(FIRST + me.index as u64));
                    let first = first.workers(3).ordered(true).on_error(OnError::retry(retries));
                    let first = first.add();
                    let second = graph.node("second", other, |me| Signs(SECOND + me.index as u64));
                    let second = second.workers(2).ordered(true).on_error(OnError::retry(retries));
                    let second = second.add();
                    let (sink, kept) = keep(&mut graph, "sink");
                    graph.connect(numbers.output(), first.input());
                    graph.connect(first.output(), second.input());
                    graph.connect(second.output(), sink.input());
                    graph.run().unwrap();
                    let items = taken(&kept);
                    let what =
                        || format!("{count} items at {place} and {other}, {retries} retries");
                    assert_eq!(items.len() as u64, count + 5 * 301, "{}", what());
                    assert!(items[..count as usize].iter().copied().eq(0..count), "{}", what());
                    let mut signed = items[count as usize..].chunks(301);
                    for (from, workers) in [(FIRST, 3), (SECOND, 2)] {
                        let mut signers: Vec<u64> = signed
                            .by_ref()
                            .take(workers)
                            .map(|all| {
                                assert!(all[..300].iter().all(|one| *one == all[0]), "{}", what());
                                assert_eq!(all[300], all[0] + 10, "{}", what());
                                all[0]
                            })
                            .collect();
                        signers.sort_unstable();
                        let expected: Vec<u64> = (from..from + workers as u64).collect();
                        assert_eq!(signers, expected, "{}", what());
                    }
                }
            }
        }
    }
}

fn svc_end_may_send() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..1000_u64);
        let totals = graph.node("totals", place, |_| Total(0)).workers(3).add();
        let total = graph.node("total", place, |_| Total(0)).add();
        let check = graph.node("check", place, |_| each(|n: u64| assert_eq!(n, 499_500))).add();
        graph.connect(numbers.output(), totals.input());
        graph.connect(totals.output(), total.input());
        graph.connect(total.output(), check.input());
        let report = graph.run().unwrap();
        assert_eq!(report.node("check").unwrap().items_in(), 1, "{place}");
        assert_eq!(report.node("total").unwrap().items_in(), 3, "{place}");
    }
}
