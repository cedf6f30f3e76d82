//! What nodes ask of their outlets: to whom, whether there is room, and what a second attempt sends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Cause, Error, Farm, Flow, Graph, Node, OnError, Outlet, Part, Process, Same, Scheduling,
    Thread, TrySendError, each, from_fn, fuse, map,
};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(items_go_to_whom_they_are_sent),
        testkit::test!(what_goes_to_one_worker_keeps_its_order),
        testkit::test!(who_keeps_the_order_is_sent_nothing_by_number),
        testkit::test!(a_broadcast_reaches_each_once),
        testkit::test!(an_item_is_tried_to_be_sent_and_nobody_waits),
        testkit::test!(what_is_sent_goes_on_when_nothing_more_comes),
        testkit::test!(what_a_source_that_waits_has_sent_goes_on),
        testkit::test!(items_that_come_one_by_one, timeout = 120),
        testkit::test!(who_has_nothing_to_do_gets_what_is_sent_to_it),
        testkit::test!(the_newest_goes_to_whom_it_is_sent),
        testkit::test!(what_two_fused_nodes_send_on),
        testkit::test!(a_second_attempt_may_end_the_node),
        testkit::test!(what_was_left_out_before_a_death_counts_once),
    ]
}

/// A source sends two items and has nothing more for now. The second is gathered, since the first has
/// yet to wake who takes it. When the whole thread has nothing to do it goes on from the node between,
/// rather than when the source is asked again.
fn what_a_source_that_waits_has_sent_goes_on() {
    let mut graph = Graph::new();
    let one_by_one = graph.node("one by one", Same, |_| {
        let mut left = 0..20;
        from_fn(move |(), out: &mut Outlet<Instant>| {
            if left.next().is_none() {
                return Ok(Flow::Eos);
            }
            out.send(Instant::now())?;
            out.send(Instant::now())?;
            Ok(Flow::Wait)
        })
    });
    let one_by_one = one_by_one.add();
    let same = graph.node("same", Same, |_| map(|sent: Instant| sent)).add();
    let late = Arc::new(AtomicU64::new(0));
    let count = late.clone();
    let sink = graph.node("sink", Thread, move |_| {
        let count = count.clone();
        each(move |sent: Instant| {
            let is_late = sent.elapsed() > Duration::from_millis(70);
            count.fetch_add(u64::from(is_late), Ordering::Relaxed);
        })
    });
    let sink = sink.add();
    graph.connect(one_by_one.output(), same.input());
    graph.connect(same.output(), sink.input());
    graph.run().unwrap();
    let late = late.load(Ordering::Relaxed);
    assert!(late < 5, "{late} of 40 came only when the source was asked again");
}

fn items_go_to_whom_they_are_sent() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..300_u64);
        let deal = graph
            .node("deal", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    assert_eq!(out.workers(), 3);
                    out.send_to((n % 3) as usize, n)?;
                    if n == 299 {
                        out.broadcast(1000)?;
                    }
                    Ok(Flow::GoOn)
                })
            })
            .add();
        let mark = graph
            .node("mark", place, |worker| {
                let index = worker.index as u64;
                map(move |n: u64| (index, n))
            })
            .workers(3)
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), deal.input());
        graph.connect(deal.output(), mark.input());
        graph.connect(mark.output(), sink.input());
        graph.run().unwrap();
        let items = taken(&kept);
        assert_eq!(items.len(), 303);
        for worker in 0..3 {
            let mine: Vec<u64> =
                items.iter().filter(|item| item.0 == worker).map(|item| item.1).collect();
            let mut expected: Vec<u64> = (0..300).filter(|n| n % 3 == worker).collect();
            expected.push(1000);
            assert_eq!(mine, expected, "{place}");
        }
    }
}

/// A source that does this once.
fn once(
    act: impl Fn(&mut Outlet<u64>) -> Result<(), Cause> + Clone + Send + Sync + 'static,
) -> impl Node<In = (), Out = u64> {
    from_fn(move |(), out: &mut Outlet<u64>| {
        act(out)?;
        Ok(Flow::Eos)
    })
}

/// By whatever verb they were sent.
fn what_goes_to_one_worker_keeps_its_order() {
    for place in PLACES {
        for on_error in [OnError::fail(), OnError::retry(1)] {
            let mut graph = Graph::new();
            let mix = |out: &mut Outlet<u64>| {
                for n in 0..1000 {
                    match n % 7 {
                        0 | 4 => out.send_to(0, n)?,
                        1 => out.broadcast(n)?,
                        2 => out.send_on(0, n)?,
                        _ => out.send(n)?,
                    }
                }
                Ok(())
            };
            let mixed = graph.node("mixed", place, move |_| once(mix)).on_error(on_error).add();
            let same = graph.node("same", place, |_| map(|n: u64| n)).on_error(on_error).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(mixed.output(), same.input());
            graph.connect(same.output(), sink.input());
            graph.run().unwrap();
            assert_eq!(taken(&kept), (0..1000).collect::<Vec<_>>(), "{place}, {on_error:?}");
        }
    }
}

/// The edge says there who gets what: to ask for somebody else is a failure, with a word on what to
/// do. One worker is whoever gets it anyhow.
fn who_keeps_the_order_is_sent_nothing_by_number() {
    for (broadcasts, workers) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..20_u64);
        let deal = graph
            .node("deal", Thread, move |_| {
                from_fn(move |n: u64, out: &mut Outlet<u64>| {
                    match (n.is_multiple_of(3), broadcasts) {
                        (true, true) => out.broadcast(n)?,
                        (true, false) => out.send_to(n as usize, n)?,
                        _ => out.send(n)?,
                    }
                    Ok(Flow::GoOn)
                })
            })
            .workers(2)
            .ordered(true)
            .add();
        let next = graph.node("next", Thread, |_| map(|n: u64| n)).workers(workers).ordered(true);
        let next = next.add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), deal.input());
        graph.connect(deal.output(), next.input());
        graph.connect(next.output(), sink.input());
        let ran = graph.run();
        let items = taken(&kept);
        if workers == 1 {
            ran.unwrap();
            assert_eq!(items, (0..20).collect::<Vec<_>>());
            continue;
        }
        let Err(Error::Failed(failure)) = ran else { panic!("{items:?} came through") };
        assert_eq!(failure.node, "deal");
        assert!(failure.message.contains("one of the 2 workers that follow"), "{failure}");
    }
}

fn a_broadcast_reaches_each_once() {
    for place in PLACES {
        let mut graph = Graph::new();
        let all = |out: &mut Outlet<u64>| (0..50).try_for_each(|n| Ok(out.broadcast(n)?));
        let all = graph.node("all", place, move |_| once(all)).add();
        let mark = |worker: &msgproc::flow::WorkerInfo| {
            let from = worker.index as u64 * 100;
            map(move |n: u64| from + n)
        };
        let three = graph.node("three", place, mark).workers(3).add();
        let one = graph.node("one", place, mark).add();
        let (sink, kept) = keep(&mut graph, "sink");
        let (other, others) = keep(&mut graph, "other");
        graph.connect(all.output(), three.input());
        graph.connect(all.output().cloned(), one.input());
        graph.connect(three.output(), sink.input());
        graph.connect(one.output(), other.input());
        graph.run().unwrap();
        let mut items = taken(&kept);
        items.sort_unstable();
        let expected = (0..3).flat_map(|worker| (0..50).map(move |n| worker * 100 + n));
        assert_eq!(items, expected.collect::<Vec<u64>>(), "{place}");
        assert_eq!(taken(&others), (0..50).collect::<Vec<_>>(), "{place}");
    }
}

/// While those who take items do not, for they wait until it was told that there is no room.
fn an_item_is_tried_to_be_sent_and_nobody_waits() {
    for (deal, workers) in [("demand", 1), ("demand", 2), ("turns", 2), ("key", 2), ("all", 2)] {
        let mut graph = Graph::new();
        let (is_open, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (opens, counts) = (is_open.clone(), count.clone());
        let tries = move |out: &mut Outlet<u64>| {
            // Some are quick, so that many are gathered.
            out.send(0)?;
            let (mut sent, mut in_a_row) = (1, 0);
            while in_a_row < 20 {
                match out.try_send(sent) {
                    Ok(()) => (sent, in_a_row) = (sent + 1, 0),
                    Err(TrySendError::Full(item)) => {
                        assert_eq!(item, sent);
                        in_a_row += 1;
                        sleep(Duration::from_millis(1));
                    }
                    Err(error) => return Err(error.into()),
                }
                assert!(sent < 100_000, "there is always room");
            }
            counts.store(sent, Ordering::Relaxed);
            opens.store(true, Ordering::Relaxed);
            Ok(())
        };
        let numbers = graph.node("numbers", Thread, move |_| once(tries.clone())).add();
        let slow = graph
            .node("slow", Thread, move |_| {
                let is_open = is_open.clone();
                map(move |n: u64| {
                    while !is_open.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(1));
                    }
                    n
                })
            })
            .workers(workers)
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        let edge = graph.edge(numbers.output(), slow.input()).capacity(40);
        match deal {
            "demand" => edge.add(),
            "turns" => edge.round_robin().add(),
            "key" => edge.by(|n| usize::from(*n == 7)).add(),
            _ => edge.to_all().add(),
        }
        graph.connect(slow.output(), sink.input());
        graph.run().unwrap();
        let mut items = taken(&kept);
        items.sort_unstable();
        if deal == "all" {
            items.dedup();
        }
        let sent = count.load(Ordering::Relaxed);
        assert_eq!(items, (0..sent).collect::<Vec<_>>(), "{deal}");
    }
}

/// Each of the workers gets the last one at the end, however busy it was.
/// Items that are sent to one worker, or to all, do not wait for more.
fn what_is_sent_goes_on_when_nothing_more_comes() {
    for place in PLACES {
        let deal = Farm::new("deal", place, |_| {
            from_fn(|n: u64, out: &mut Outlet<u64>| {
                match n % 3 {
                    0 => out.send_to(n as usize, n)?,
                    1 => out.broadcast(n)?,
                    _ => {
                        out.send(n)?;
                        out.send_to(1, n)?;
                    }
                }
                Ok(Flow::GoOn)
            })
        });
        let same = Farm::new("same", place, |_| map(|n: u64| n)).workers(2);
        let run = deal.then(same).accelerate(place, 16).unwrap();
        for n in 0..30 {
            run.offload(n).unwrap();
            for _ in 0..if n % 3 == 0 { 1 } else { 2 } {
                assert_eq!(run.result_timeout(Duration::from_secs(5)), Some(n), "{place}");
            }
        }
        run.wait().unwrap();
    }
}

/// However items are dealt, each goes on though no other comes.
fn items_that_come_one_by_one() {
    let dealings: [fn() -> Scheduling<u64>; 5] = [
        Scheduling::on_demand,
        Scheduling::round_robin,
        Scheduling::broadcast,
        || Scheduling::by_key(|n: &u64| n % 5),
        || Scheduling::custom(|n: &u64| *n as usize),
    ];
    for place in PLACES {
        for (at, dealing) in dealings.iter().enumerate() {
            let farm = |name: &str| {
                let farm = Farm::new(name, place, |_| map(|n: u64| n + 1)).workers(2);
                farm.scheduling(dealing()).capacity(3)
            };
            let run = farm("first").then(farm("second")).accelerate(place, 2).unwrap();
            for n in 0..300 {
                run.offload(n).unwrap();
                for _ in 0..if at == 2 { 4 } else { 1 } {
                    let result = run.result_timeout(Duration::from_secs(5));
                    assert_eq!(result, Some(n + 2), "{place}, dealing {at}");
                }
            }
            run.wait().unwrap();
        }
    }
}

/// Who takes long to make items does not keep those back for which somebody waits.
fn who_has_nothing_to_do_gets_what_is_sent_to_it() {
    let begun = Arc::new(AtomicU64::new(0));
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..60_u64);
    let seen = begun.clone();
    let deal = graph
        .node("deal", Thread, move |_| {
            let seen = seen.clone();
            from_fn(move |n: u64, out: &mut Outlet<u64>| {
                sleep(Duration::from_millis(10));
                if n == 50 {
                    assert!(seen.load(Ordering::Relaxed) > 20, "they wait for more");
                }
                out.send_to((n % 2) as usize, n)?;
                Ok(Flow::GoOn)
            })
        })
        .add();
    let count = graph
        .node("count", Thread, move |_| {
            let begun = begun.clone();
            each(move |_: u64| {
                begun.fetch_add(1, Ordering::Relaxed);
            })
        })
        .workers(2)
        .add();
    graph.connect(numbers.output(), deal.input());
    graph.connect(deal.output(), count.input());
    graph.run().unwrap();
}

fn the_newest_goes_to_whom_it_is_sent() {
    for (place, to_all) in PLACES.iter().flat_map(|place| [(*place, false), (*place, true)]) {
        let mut graph = Graph::new();
        let deals = |out: &mut Outlet<u64>| {
            for n in 0..2000_u64 {
                match n % 500 {
                    250 => out.broadcast(n)?,
                    _ => out.send_to((n % 2) as usize, n)?,
                }
            }
            Ok(())
        };
        let deals = graph.node("deals", place, move |_| once(deals)).add();
        let views = graph
            .node("views", place, |worker| {
                let index = worker.index as u64;
                map(move |n: u64| {
                    sleep(Duration::from_micros(200));
                    (index, n)
                })
            })
            .workers(2)
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        let edge = graph.edge(deals.output(), views.input()).newest();
        if to_all {
            edge.to_all().add()
        } else {
            edge.add()
        };
        graph.connect(views.output(), sink.input());
        graph.run().unwrap();
        let items = taken(&kept);
        for worker in 0..2 {
            let mine = items.iter().filter(|item| item.0 == worker).map(|item| item.1);
            let mine: Vec<u64> = mine.collect();
            assert!(mine.is_sorted(), "{place}: {mine:?}");
            assert_eq!(mine.last(), Some(&(1998 + worker)), "{place}");
        }
    }
}

/// The second takes what the first sends from output 0, and nobody what it sends from another.
fn what_two_fused_nodes_send_on() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..10_u64);
    let both = graph
        .node("both", Thread, |_| {
            let first = from_fn(|n: u64, out: &mut Outlet<u64>| {
                out.send_on((n % 2) as usize, n)?;
                Ok(Flow::GoOn)
            });
            fuse(first, map(|n: u64| n + 100))
        })
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), both.input());
    graph.connect(both.output(), sink.input());
    graph.run().unwrap();
    assert_eq!(taken(&kept), [100, 102, 104, 106, 108]);
}

/// By its own word, or because nobody takes what it sends: neither is a failure.
fn a_second_attempt_may_end_the_node() {
    for by_its_word in [true, false] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, 0..1000_u64);
        let ends = graph
            .node("ends", Thread, move |_| {
                let mut attempts = 0;
                from_fn(move |n: u64, out: &mut Outlet<u64>| {
                    out.send(n)?;
                    if n == 5 {
                        attempts += 1;
                        match (attempts, by_its_word) {
                            (1, _) => return Err("not yet".into()),
                            (_, true) => return Ok(Flow::Eos),
                            (_, false) => loop {
                                out.send(n)?;
                                out.flush()?;
                            },
                        }
                    }
                    Ok(Flow::GoOn)
                })
            })
            .on_error(OnError::retry(2).or_skip())
            .add();
        let some = graph
            .node("some", Thread, |_| {
                let mut count = 0;
                from_fn(move |_: u64, _: &mut Outlet<()>| {
                    count += 1;
                    Ok(if count == 20 { Flow::Eos } else { Flow::GoOn })
                })
            })
            .add();
        graph.connect(numbers.output(), ends.input());
        graph.connect(ends.output(), some.input());
        let report = graph.run().unwrap();
        let ends = &report.node("ends").unwrap().workers[0];
        assert_eq!((ends.items_in, ends.skipped, ends.retries), (6, 0, 1), "{report}");
    }
}

/// The message is handled once more, and what was left out of it is again.
fn what_was_left_out_before_a_death_counts_once() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..2000_u64);
    let step = graph
        .node("step", Process, |_| {
            from_fn(|n: u64, out: &mut Outlet<u64>| match n % 100 {
                7 | 30 | 80 => Err("no".into()),
                50 => {
                    testkit::kill9(std::process::id());
                    unreachable!()
                }
                _ => {
                    out.send(n)?;
                    Ok(Flow::GoOn)
                }
            })
        })
        .on_error(OnError::quarantine(2))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    let report = graph.run().unwrap();
    let items = taken(&kept);
    let expected = (0..2000).filter(|n| ![7, 30, 50, 80].contains(&(n % 100)));
    assert_eq!(items, expected.collect::<Vec<_>>());
    let step = &report.node("step").unwrap().workers[0];
    let counts = (step.items_in, step.skipped, step.quarantined, step.retries, step.items_out);
    assert_eq!(counts, (2000, 60, 20, 60, 1920), "{report}");
}
