//! Consumers that leave early, or do not read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Graph, Placement, each, flat_map,
    stage::{Stages, from_iter, process, sync, task, thread},
};

use super::{assert_clean, modes};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(a_panic_of_the_program_stops_the_stages),
        testkit::test!(a_consumer_that_stops_reading),
        testkit::test!(a_loop_that_is_left_stops_the_workers),
        testkit::test!(results_that_come_slowly_from_one_item),
    ]
}

fn endless() -> Stages<u64> {
    from_iter(0_u64..)
        | process::map(|n| n).workers(2)
        | thread::map(|n| n).workers(2)
        | task::map(async |n| n).workers(2)
        | sync::map(|n| n)
}

fn a_panic_of_the_program_stops_the_stages() {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        for (count, item) in endless().into_iter().enumerate() {
            item.unwrap();
            assert!(count < 1000, "the program's own");
        }
    }));
    assert!(panicked.is_err());
    assert_clean();
}

fn a_consumer_that_stops_reading() {
    let mut run = endless().start().unwrap();
    run.next().unwrap().unwrap();
    let sent = || run.report().unwrap().node("source").unwrap().items_out();
    let (mut before, mut since) = (sent(), Instant::now());
    let until = Instant::now() + Duration::from_secs(20);
    while since.elapsed() < Duration::from_millis(300) {
        assert!(Instant::now() < until, "what nobody reads holds the source back");
        sleep(Duration::from_millis(20));
        if sent() != before {
            (before, since) = (sent(), Instant::now());
        }
    }
    assert!(before < 30_000, "{before} items in queues");
    let began = Instant::now();
    drop(run);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_clean();
}

fn a_loop_that_is_left_stops_the_workers() {
    for item in endless() {
        if item.unwrap() > 10 {
            break;
        }
    }
    assert_clean();
    drop(endless().start().unwrap());
    assert_clean();
}

/// Each is there when it is made, and nobody makes on what nobody takes.
fn results_that_come_slowly_from_one_item() {
    let slow = |_: u64| {
        (0..).inspect(|n| {
            if *n > 0 {
                sleep(Duration::from_millis(20));
            }
        })
    };
    modes!(mode, name, {
        let began = Instant::now();
        let mut run = (from_iter(0..1) | mode::flat_map(slow)).start().unwrap();
        for n in 0..5 {
            assert_eq!(run.next().unwrap().unwrap(), n, "{name}");
        }
        let late = began.elapsed();
        assert!(late < Duration::from_secs(2), "{name}: five after {late:?}");
        drop(run);
        let late = began.elapsed();
        assert!(late < Duration::from_secs(4), "{name}: left after {late:?}");
        // What comes when its time is over is not waited for.
        let step = mode::flat_map(slow).timeout(Duration::from_millis(100));
        let all: Vec<_> = (from_iter(0..2) | step).collect().unwrap();
        assert!(all.len() == 2 && all.iter().all(Result::is_err), "{name}");
        let step = mode::flat_map(slow).retry(1);
        let run = (from_iter(0..1) | step).start().unwrap();
        sleep(Duration::from_millis(100));
        let began = Instant::now();
        drop(run);
        let late = began.elapsed();
        assert!(late < Duration::from_secs(2), "{name}: left after {late:?}");
    });
    let mut graph = Graph::new();
    let one = graph.source("one", Placement::Thread, 0..1_u64);
    let many = graph.node("many", Placement::Thread, move |_| flat_map(slow)).add();
    let (sender, seen) = mpsc::channel();
    let sink = graph.node("sink", Placement::Thread, move |_| {
        let sender = sender.clone();
        each(move |n: u64| sender.send(n).unwrap_or_default())
    });
    let sink = sink.add();
    graph.connect(one.output(), many.input());
    graph.connect(many.output(), sink.input());
    let running = graph.start().unwrap();
    assert!((0..5).all(|n| seen.recv_timeout(Duration::from_secs(2)) == Ok(n)));
    drop(running);
    assert_clean();
}
