//! Edges that lead back.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Around, Cause, Error, Farm, Flow, Graph, Node, NodeRef, OnError, Outlet, Part, Pipeline,
    Placement, Process, Same, Thread, WorkerInfo, each, flat_map, from_fn, map, try_map,
};

use crate::{
    common::{Kept, PLACES, keep, taken},
    death::with_kills,
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(items_go_round_until_they_are_done),
        testkit::test!(a_worker_sends_to_itself),
        testkit::test!(items_that_become_many),
        testkit::test!(credits_bound_what_is_in_the_circle),
        testkit::test!(nothing_comes_in),
        testkit::test!(an_end_inside_of_the_circle),
        testkit::test!(an_error_inside_of_the_circle),
        testkit::test!(a_slow_circle_does_not_end_too_early),
        testkit::test!(ends_are_sent_on_once_the_circle_is_at_rest),
        testkit::test!(what_ends_send_round_holds_nobody_up),
        testkit::test!(processes_in_a_circle_are_killed, timeout = 120),
        testkit::test!(killed_where_the_way_forks, timeout = 120),
        testkit::test!(where_a_circle_begins_is_not_replaced),
        testkit::test!(order_is_kept_in_a_circle),
        testkit::test!(circles_that_cannot_be_run),
        testkit::test!(a_chain_that_leaves_a_thread_and_comes_back),
        testkit::test!(long_items_to_one_that_has_ended),
    ]
}

/// Through the head and the tail to where it is kept; from the tail's second output back to an input
/// of the head.
fn go_round<T: Send + 'static>(
    graph: &mut Graph,
    numbers: NodeRef<(), T>,
    (head, back): (NodeRef<T, T>, usize),
    tail: NodeRef<T, T>,
    credits: usize,
) -> Kept<T> {
    let (sink, kept) = keep(graph, "sink");
    graph.connect(numbers.output(), head.input());
    graph.connect(head.output(), tail.input());
    graph.edge(tail.output_at(1), head.input_at(back)).feedback(credits).add();
    graph.connect(tail.output(), sink.input());
    kept
}

/// One step of Collatz: how many are left is counted in the second number.
fn step((start, n, steps): (u64, u64, u64)) -> (u64, u64, u64) {
    (start, if n % 2 == 0 { n / 2 } else { 3 * n + 1 }, steps + 1)
}

fn steps_of(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = step((0, n, 0)).1;
        steps += 1;
    }
    steps
}

fn items_go_round_until_they_are_done() {
    for place in PLACES {
        for other in PLACES {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", place, (2..60_u64).map(|n| (n, n, 0)));
            let head = graph.node("head", place, |_| map(step)).add();
            let tail = graph
                .node("tail", other, |_| {
                    from_fn(|item: (u64, u64, u64), out: &mut Outlet<(u64, u64, u64)>| {
                        out.send_on(usize::from(item.1 != 1), item)?;
                        Ok(Flow::GoOn)
                    })
                })
                .workers(2)
                .add();
            let kept = go_round(&mut graph, numbers, (head, 0), tail, 10);
            let report = graph.run().unwrap();
            let mut items = taken(&kept);
            items.sort_unstable();
            let expected: Vec<_> = (2..60).map(|n| (n, 1, steps_of(n))).collect();
            assert_eq!(items, expected, "{place} {other}");
            let total: u64 = (2..60).map(steps_of).sum();
            assert_eq!(report.node("head").unwrap().items_in(), total, "{place} {other}");
        }
    }
}

fn a_worker_sends_to_itself() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..500_u64);
        let down = graph
            .node("down", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    match n % 10 {
                        0 => out.send(n)?,
                        _ => out.send_on(1, n - 1)?,
                    }
                    Ok(Flow::GoOn)
                })
            })
            .workers(3)
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), down.input());
        graph.edge(down.output_at(1), down.input()).feedback(4).add();
        graph.connect(down.output(), sink.input());
        graph.run().unwrap();
        let mut items = taken(&kept);
        items.sort_unstable();
        let expected: Vec<u64> = (0..500).map(|n| n / 10 * 10).collect();
        assert_eq!(items, expected, "{place}");
    }
}

/// Each item becomes two, down to the leaves: far more than there is room for in the lanes.
fn items_that_become_many() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, [14_u32, 3, 0]);
        let head = graph.node("head", place, |_| map(|depth: u32| depth)).add();
        let split = graph
            .node("split", place, |_| {
                from_fn(|depth: u32, out: &mut Outlet<u32>| {
                    if depth == 0 {
                        out.send(depth)?;
                    } else {
                        out.send_on(1, depth - 1)?;
                        out.send_on(1, depth - 1)?;
                    }
                    Ok(Flow::GoOn)
                })
            })
            .workers(2)
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(numbers.output(), head.input()).capacity(4).add();
        graph.edge(head.output(), split.input()).capacity(4).capacity_bytes(4096).add();
        graph
            .edge(split.output_at(1), head.input())
            .capacity(4)
            .capacity_bytes(4096)
            .feedback(1)
            .add();
        graph.connect(split.output(), sink.input());
        graph.run().unwrap();
        assert_eq!(taken(&kept).len(), (1 << 14) + (1 << 3) + 1, "{place}");
    }
}

fn credits_bound_what_is_in_the_circle() {
    for credits in [1, 7, 100] {
        let (inside, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Thread, (0..2000_u64).map(|n| (n, 0)));
        let (count, peak) = (inside.clone(), most.clone());
        let head = graph
            .node("head", Thread, move |_| {
                let (count, peak) = (count.clone(), peak.clone());
                map(move |(n, round): (u64, u32)| {
                    if round == 0 {
                        peak.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    }
                    (n, round + 1)
                })
            })
            .add();
        let count = inside.clone();
        let tail = graph
            .node("tail", Thread, move |_| {
                let count = count.clone();
                from_fn(move |item: (u64, u32), out: &mut Outlet<(u64, u32)>| {
                    if item.1 < 5 {
                        out.send_on(1, item)?;
                    } else {
                        count.fetch_sub(1, Ordering::SeqCst);
                        out.send(item)?;
                    }
                    Ok(Flow::GoOn)
                })
            })
            .workers(2)
            .add();
        let kept = go_round(&mut graph, numbers, (head, 0), tail, credits);
        graph.run().unwrap();
        assert_eq!(taken(&kept).len(), 2000);
        let most = most.load(Ordering::SeqCst);
        assert!(most <= credits as u64 && most > 0, "{most} of {credits}");
    }
}

fn nothing_comes_in() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..0_u64);
        let head = graph.node("head", place, |_| map(|n: u64| n)).workers(2).add();
        let tail = graph.node("tail", place, |_| map(|n: u64| n)).add();
        graph.connect(numbers.output(), head.input());
        graph.connect(head.output(), tail.input());
        graph.edge(tail.output(), head.input()).feedback(3).add();
        let report = graph.run().unwrap();
        assert_eq!(report.node("head").unwrap().items_in(), 0, "{place}");
    }
}

/// Nobody waits for what goes to one that has enough.
fn an_end_inside_of_the_circle() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..u64::MAX);
        let head = graph.node("head", place, |_| map(|n: u64| n)).add();
        let tail = graph
            .node("tail", place, |_| {
                let mut left = 5000;
                from_fn(move |n: u64, out: &mut Outlet<u64>| {
                    left -= 1;
                    out.send_on(left % 2, n)?;
                    Ok(if left == 0 { Flow::Eos } else { Flow::GoOn })
                })
            })
            .add();
        let kept = go_round(&mut graph, numbers, (head, 0), tail, 10);
        graph.run().unwrap();
        assert_eq!(taken(&kept).len(), 2500, "{place}");
    }
}

fn an_error_inside_of_the_circle() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..u64::MAX);
        let head = graph.node("head", place, |_| map(|n: u64| n + 1)).add();
        let wrong = |n: u64| if n < 1000 { Ok(n) } else { Err("too large") };
        let tail = graph.node("tail", place, move |_| try_map(wrong)).add();
        graph.connect(numbers.output(), head.input());
        graph.connect(head.output(), tail.input());
        graph.edge(tail.output(), head.input()).feedback(10).add();
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        assert_eq!((&*failure.node, &*failure.message), ("tail", "too large"), "{place}");
    }
}

fn a_slow_circle_does_not_end_too_early() {
    for place in [Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 0..20_u64);
        let head = graph.node("head", place, |_| map(|n: u64| n)).add();
        let tail = graph
            .node("tail", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    sleep(Duration::from_millis(2));
                    out.send_on(usize::from(n < 100), n + 20)?;
                    Ok(Flow::GoOn)
                })
            })
            .workers(2)
            .add();
        let kept = go_round(&mut graph, numbers, (head, 0), tail, 3);
        graph.run().unwrap();
        let mut items = taken(&kept);
        items.sort_unstable();
        assert_eq!(items, (120..140).collect::<Vec<_>>(), "{place}");
    }
}

/// Sends what it was given when its input ends.
struct Late {
    items: Vec<u64>,
    ended: u32,
}

impl Node for Late {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, _: &mut Outlet<u64>) -> Result<Flow, Cause> {
        self.items.push(item);
        Ok(Flow::GoOn)
    }

    fn svc_on(&mut self, input: usize, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        match input {
            0 => self.svc(item, out),
            _ if item == 0 => Ok(Flow::GoOn),
            _ => {
                out.send(item)?;
                Ok(Flow::GoOn)
            }
        }
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        assert_eq!(input as u32, self.ended, "the one from outside ends first");
        self.ended += 1;
        for item in self.items.drain(..) {
            out.send(item)?;
        }
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        assert_eq!(self.ended, 2);
        Ok(out.send(1_000_000)?)
    }
}

fn ends_are_sent_on_once_the_circle_is_at_rest() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, 1..50_u64);
        let head = graph.node("head", place, |_| Late { items: Vec::new(), ended: 0 }).add();
        let tail = graph
            .node("tail", place, |_| {
                from_fn(|n: u64, out: &mut Outlet<u64>| {
                    out.send(n)?;
                    if n < 1_000_000 {
                        out.send_on(1, n - 1)?;
                    }
                    Ok(Flow::GoOn)
                })
            })
            .add();
        let kept = go_round(&mut graph, numbers, (head, 1), tail, 3);
        graph.run().unwrap();
        let items = taken(&kept);
        assert_eq!(items.len(), 49 * 50 / 2 + 1, "{place}");
        assert_eq!(items.last(), Some(&1_000_000), "{place}");
    }
}

/// Of several workers that the circle begins with one ends first. What it sends then comes back to
/// any of them, or to nobody.
fn what_ends_send_round_holds_nobody_up() {
    for place in PLACES {
        for _ in 0..20 {
            let mut graph = Graph::new();
            let numbers = graph.source("numbers", place, 1..20_u64);
            let head = graph
                .node("head", place, |_| Late { items: Vec::new(), ended: 0 })
                .workers(3)
                .add();
            let tail = graph
                .node("tail", place, |_| {
                    from_fn(|n: u64, out: &mut Outlet<u64>| {
                        out.send(n)?;
                        // Nobody may take it any more.
                        let _ = out.send_on(1, if n > 1000 { 5 } else { n - 1 });
                        Ok(Flow::GoOn)
                    })
                })
                .workers(2)
                .add();
            let kept = go_round(&mut graph, numbers, (head, 1), tail, 3);
            let running = graph.start().unwrap();
            let until = Instant::now() + Duration::from_secs(10);
            while !running.is_finished() {
                assert!(Instant::now() < until, "{place}:\n{}", running.report());
                sleep(Duration::from_micros(100));
            }
            running.wait().unwrap();
            let ends = taken(&kept).into_iter().filter(|n| *n == 1_000_000).count();
            assert_eq!(ends, 3, "{place}");
        }
    }
}

/// Each number goes round some times, and becomes two on its way.
fn processes_in_a_circle_are_killed() {
    const COUNT: u64 = 4000;
    const ROUND: u64 = 1 << 32;
    let again = || OnError::retry(1000);
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..COUNT);
    let head = graph.node("head", Thread, |_| map(|n: u64| n)).workers(2).add();
    let first = graph
        .node("step-one", Placement::Process, |_| {
            flat_map(|n: u64| vec![n + ROUND; if n / ROUND == 1 { 2 } else { 1 }])
        })
        .workers(2)
        .on_error(again())
        .add();
    let second = graph
        .node("step-two", Placement::Process, |_| {
            from_fn(|n: u64, out: &mut Outlet<u64>| {
                // Some work, so that not all is over at once.
                (0..2000).for_each(|k| {
                    black_box(k);
                });
                match n / ROUND {
                    4 => out.send(n % ROUND)?,
                    _ => out.send_on(1, n)?,
                }
                Ok(Flow::GoOn)
            })
        })
        .workers(2)
        .on_error(again())
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.edge(numbers.output(), head.input()).capacity(50).add();
    graph.edge(head.output(), first.input()).capacity(20).add();
    graph.edge(first.output(), second.input()).capacity(20).add();
    graph.edge(second.output_at(1), head.input()).capacity(10).feedback(100).add();
    graph.edge(second.output(), sink.input()).capacity(10).add();
    let (report, kills) = with_kills(graph, 30, 88_172_645_463_325_252);
    let mut items = taken(&kept);
    items.sort_unstable();
    let expected: Vec<u64> = (0..COUNT).flat_map(|n| [n; 2]).collect();
    assert!(items == expected, "{kills} kills, {} items on\n{report}", items.len());
    assert!(kills > 3, "{kills} kills only\n{report}");
}

/// The same where the results that go round and those that leave are of two types: each has its own
/// account of what was sent.
fn killed_where_the_way_forks() {
    const COUNT: u64 = 3000;
    const ROUND: u64 = 1 << 32;
    let forks = |n: u64, work: u32| {
        (0..work).for_each(|k| {
            black_box(k);
        });
        match n / ROUND {
            3 => Around::On((n % ROUND) as u32),
            _ => Around::Back(n + ROUND),
        }
    };
    // Over the first it gets that has come round once; then at random.
    for (dies, workers, credits) in [(true, 1, 1), (true, 2, 8), (false, 2, 20)] {
        let make = move |me: &WorkerInfo| {
            let dies = dies && me.restarts == 0;
            map(move |n: u64| {
                if dies && n > ROUND {
                    testkit::kill9(std::process::id());
                }
                forks(n, if dies { 0 } else { 5000 })
            })
        };
        let circle = Farm::new("step", Process, make)
            .workers(workers)
            .on_error(OnError::retry(1000))
            .emitter("deal", Thread, |_| map(|n: u64| n))
            .wrap_around(Process, credits);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeps = kept.clone();
        let graph = Pipeline::source("numbers", Thread, 0..COUNT)
            .part(circle)
            .stage("sink", Thread, move |_| {
                let keeps = keeps.clone();
                each(move |n: u32| keeps.lock().unwrap().push(n))
            })
            .graph();
        let (report, kills) = match dies {
            true => (graph.run().unwrap(), 1),
            false => with_kills(graph, 30, 88_172_645_463_325_252),
        };
        let mut items = kept.lock().unwrap().clone();
        items.sort_unstable();
        assert!(
            items.iter().copied().eq(0..COUNT as u32),
            "{kills} kills, {workers} workers: {} items\n{report}",
            items.len()
        );
        assert_eq!(report.left, 0, "{report}");
        let workers = &report.node("step").unwrap().workers;
        assert!(workers.iter().any(|worker| worker.restarts > 0), "{kills} kills\n{report}");
    }
}

fn where_a_circle_begins_is_not_replaced() {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Thread, 0..50_u64);
    let head = graph.node("head", Placement::Process, |_| {
        map(|n: u64| if n == 10 { std::process::abort() } else { n })
    });
    let head = head.on_error(OnError::retry(3)).add();
    let tail = graph.node("tail", Thread, |_| {
        from_fn(|n: u64, out: &mut Outlet<u64>| {
            out.send_on(usize::from(n % 2 == 1), n / 2 * 2)?;
            Ok(Flow::GoOn)
        })
    });
    let tail = tail.add();
    go_round(&mut graph, numbers, (head, 0), tail, 3);
    let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
    let says = "a circle begins with node \"head\" in it";
    assert!(failure.message.contains(says), "{failure}");
}

/// Those that go round at once come out in the order in which they came.
fn order_is_kept_in_a_circle() {
    for place in PLACES {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", place, (0..500_u64).map(|n| (n, 0)));
        let head = graph.node("head", place, |_| map(|item: (u64, u32)| item)).add();
        let work = graph
            .node("work", place, |_| map(|(n, round): (u64, u32)| (n, round + 1)))
            .workers(3)
            .ordered(true)
            .add();
        let tail = graph
            .node("tail", place, |_| {
                from_fn(|item: (u64, u32), out: &mut Outlet<(u64, u32)>| {
                    out.send_on(usize::from(item.1 < 3), item)?;
                    Ok(Flow::GoOn)
                })
            })
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), head.input());
        graph.connect(head.output(), work.input());
        graph.connect(work.output(), tail.input());
        graph.edge(tail.output_at(1), head.input()).feedback(20).add();
        graph.connect(tail.output(), sink.input());
        graph.run().unwrap();
        let items = taken(&kept);
        assert_eq!(items.len(), 500, "{place}");
        assert!(items.iter().all(|item| item.1 == 3), "{place}");
    }
}

fn circles_that_cannot_be_run() {
    let says = |graph: Graph, words: &str| {
        let error = graph.run().unwrap_err();
        assert!(matches!(&error, Error::Graph(what) if what.contains(words)), "{error}");
    };
    let chain = || {
        let mut graph = Graph::new();
        let source = graph.source("source", Same, 0..5_u64);
        let a = graph.node("a", Same, |_| map(|n: u64| n)).add();
        let b = graph.node("b", Same, |_| map(|n: u64| n)).add();
        graph.connect(source.output(), a.input());
        graph.connect(a.output(), b.input());
        (graph, a, b)
    };
    let (mut graph, a, b) = chain();
    graph.edge(a.output_at(1), b.input()).feedback(1).add();
    says(graph, "is said to lead back");

    let (mut graph, a, b) = chain();
    graph.edge(b.output_at(1), b.input()).feedback(1).add();
    graph.edge(b.output_at(2), a.input()).feedback(1).add();
    says(graph, "in two circles");

    let (mut graph, a, b) = chain();
    graph.edge(b.output(), a.input()).newest().feedback(1).add();
    says(graph, "drops items");

    let mut graph = Graph::new();
    let a = graph.node("a", Same, |_| map(|n: u64| n)).add();
    graph.edge(a.output(), a.input()).feedback(1).add();
    says(graph, "nothing leads to node \"a\"");
}

/// What waits here must not lie under what waits for it.
fn a_chain_that_leaves_a_thread_and_comes_back() {
    for place in [Placement::Thread, Placement::Process] {
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Same, 0..50_000_u64);
        let away = graph.node("away", place, |_| map(|n: u64| n)).add();
        let back = graph.node("back", Same, |_| map(|n: u64| n)).add();
        let slow = graph
            .node("slow", place, |_| {
                map(|n: u64| {
                    if n.is_multiple_of(1000) {
                        sleep(Duration::from_millis(1));
                    }
                    n
                })
            })
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        for (from, to) in [(numbers.output(), away.input()), (away.output(), back.input())] {
            graph.edge(from, to).capacity(64).add();
        }
        graph.edge(back.output(), slow.input()).capacity(64).add();
        graph.connect(slow.output(), sink.input());
        graph.run().unwrap();
        assert_eq!(taken(&kept).len(), 50_000, "{place}");
    }
}

/// The lane is full when its receiver ends: the sender's end does not wait for room in it.
fn long_items_to_one_that_has_ended() {
    let mut graph = Graph::new();
    let texts = graph.source("texts", Placement::Process, (0..).map(|n| "x".repeat(n % 30_000)));
    let enough = graph
        .node("enough", Placement::Process, |_| {
            let mut left = 100;
            from_fn(move |_: String, _: &mut Outlet<()>| {
                left -= 1;
                sleep(Duration::from_millis(1));
                Ok(if left == 0 { Flow::Eos } else { Flow::GoOn })
            })
        })
        .add();
    graph.connect(texts.output(), enough.input());
    graph.run().unwrap();
}
