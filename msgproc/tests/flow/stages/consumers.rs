//! Consumers that leave early, or do not read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::stage::{Stages, from_iter, process, sync, task, thread};

use super::assert_clean;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(a_panic_of_the_program_stops_the_stages),
        testkit::test!(a_consumer_that_stops_reading),
        testkit::test!(a_loop_that_is_left_stops_the_workers),
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
