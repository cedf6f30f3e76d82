//! Errors, panics and deaths.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::{
    Error, FailureKind, Result,
    stage::{Stages, from_iter, ordered, process, sync, task, thread, try_from_iter},
};
use testkit::children_of;

use super::{assert_clean, modes};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(an_error_anywhere_reaches_the_consumer),
        testkit::test!(a_panic_anywhere_reaches_the_consumer),
        testkit::test!(bounded_queues_and_an_error),
        testkit::test!(an_error_while_nobody_reads),
        testkit::test!(errors_are_left_out_or_tried_again),
        testkit::test!(a_killed_worker_is_replaced),
        testkit::test!(a_program_with_threads_cannot_fork),
    ]
}

/// The step that fails, the source being step 0.
fn failing(at: usize, fails: fn(u64) -> io::Result<u64>) -> Stages<u64> {
    let step = move |here: usize| move |n: u64| if here == at { fails(n) } else { Ok(n) };
    try_from_iter((0_u64..).map(step(0))).capacity(8)
        | thread::try_map(step(1)).name("thread").workers(2).capacity(8)
        | process::try_map(step(2)).name("process").workers(2).capacity(8)
        | task::try_map(move |n| async move { step(3)(n) }).name("task").workers(4).capacity(8)
        | sync::try_map(step(4)).name("sync").capacity(8)
}

const NAMES: [&str; 5] = ["source", "thread", "process", "task", "sync"];

fn an_error_anywhere_reaches_the_consumer() {
    for (at, name) in NAMES.iter().enumerate() {
        let no_more = |n: u64| match n {
            700 => Err(io::ErrorKind::AddrInUse.into()),
            n => Ok(n),
        };
        for order in [false, true] {
            let stages = || {
                let stages = failing(at, no_more);
                if order { stages.ordered() } else { stages }
            };
            let began = Instant::now();
            let errors: Vec<Error> = stages().into_iter().filter_map(Result::err).collect();
            let collected = stages().collect::<Vec<_>>().unwrap_err();
            let ran = stages().run().unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
            assert_eq!(errors.len(), 1);
            for error in errors.iter().chain([&collected, &ran]) {
                let failure = error.failure().unwrap();
                assert_eq!(failure.node, *name);
                assert_eq!(failure.kind, FailureKind::Error);
                assert_eq!(failure.item, Some(700), "{failure}");
                if *name != "process" {
                    let cause: &io::Error = failure.downcast_ref().unwrap();
                    assert_eq!(cause.kind(), io::ErrorKind::AddrInUse);
                }
            }
        }
        assert_clean();
    }
}

fn a_panic_anywhere_reaches_the_consumer() {
    for (at, name) in NAMES.iter().enumerate() {
        for item in [0, 700] {
            let panics: fn(u64) -> io::Result<u64> = match item {
                0 => |n| if n == 0 { panic!("no more") } else { Ok(n) },
                _ => |n| if n == 700 { panic!("no more") } else { Ok(n) },
            };
            let error = failing(at, panics).into_iter().find_map(Result::err).unwrap();
            let failure = error.failure().unwrap();
            assert_eq!(failure.node, *name);
            assert_eq!(failure.kind, FailureKind::Panic);
            assert!(failure.message.contains("no more"), "{failure}");
        }
        assert_clean();
    }
}

/// Every queue has room for one item, and the last worker fails while all others wait for it.
fn bounded_queues_and_an_error() {
    for _ in 0..20 {
        let fails = |n: u64| if n == 50 { Err("fifty") } else { Ok(n) };
        let stages = from_iter(0_u64..).maxsize(1)
            | process::map(|n| n).workers(2).maxsize(1)
            | thread::map(|n| n).workers(2).maxsize(1)
            | task::map(async |n| n).workers(2).maxsize(1)
            | process::try_map(fails).maxsize(1)
            | thread::map(|n| n).maxsize(1);
        let began = Instant::now();
        let error = stages.run().unwrap_err();
        assert_eq!(error.failure().unwrap().message, "fifty");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    assert_clean();
}

/// The run ends though its results wait for a consumer that is at something else.
fn an_error_while_nobody_reads() {
    let fails = |n: u64| if n == 5000 { Err("no more") } else { Ok(n) };
    let stages = from_iter(0_u64..).maxsize(4)
        | process::try_map(fails).maxsize(4)
        | thread::map(|n| n).maxsize(4)
        | sync::map(|n| n).maxsize(10_000);
    let mut run = stages.start().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !children_of(std::process::id()).is_empty() {
        assert!(Instant::now() < until, "it goes on");
        sleep(Duration::from_millis(10));
    }
    assert_eq!(run.find_map(Result::err).unwrap().failure().unwrap().message, "no more");
    assert_clean();
}

fn errors_are_left_out_or_tried_again() {
    let flaky = |tries: &mut u64, n: u64| match n {
        30 => {
            *tries += 1;
            if *tries < 3 { Err("not yet") } else { Ok(n) }
        }
        31 => panic!("never"),
        n => Ok(n),
    };
    let expected: Vec<u64> = (0..100).filter(|n| *n != 31).collect();
    modes!(mode, name, {
        let step = mode::with(|_| 0).try_map(move |at, n| flaky(at.resource, n));
        let mut run = (from_iter(0..100) | step.retry(2).skip_errors().name("flaky")).into_iter();
        assert_eq!(run.by_ref().map(Result::unwrap).collect::<Vec<_>>(), expected, "{name}");
        let report = run.report().unwrap();
        let worker = &report.node("flaky").unwrap().workers[0];
        assert_eq!((worker.retries, worker.skipped), (4, 1), "{name}");
    });
    let step =
        task::with(|_| std::cell::Cell::new(0)).try_map(move |at: task::At<_>, n| async move {
            let mut tries = at.resource.get();
            let made = flaky(&mut tries, n);
            at.resource.set(tries);
            made
        });
    let mut run = (from_iter(0..100) | step.skip_errors().retry(2).name("flaky")).into_iter();
    assert_eq!(run.by_ref().map(Result::unwrap).collect::<Vec<_>>(), expected);
    let report = run.report().unwrap();
    let worker = &report.node("flaky").unwrap().workers[0];
    assert_eq!((worker.retries, worker.skipped), (4, 1));
    assert_clean();
}

fn a_killed_worker_is_replaced() {
    let board = shmring::board::Board::options().words(8).bells(1).anonymous().unwrap();
    let deadly = move |n: u64| {
        if n.is_multiple_of(300) && board.add((n / 300) as usize, 1) == 0 {
            testkit::kill9(std::process::id());
        }
        n * 2
    };
    let stages = from_iter(0..1000_u64)
        | process::map(deadly.clone()).workers(2).retry(2)
        | thread::map(|n| n + 1)
        | ordered();
    assert!(stages.collect::<Vec<_>>().unwrap().into_iter().eq((0..1000).map(|n| n * 2 + 1)));
    assert_clean();
    let kills = |n: u64| {
        if n == 700 {
            testkit::kill9(std::process::id());
        }
        n
    };
    let error = (from_iter(0_u64..) | process::map(kills).name("deadly")).run().unwrap_err();
    assert_eq!(error.failure().unwrap().kind, FailureKind::Died);
    assert_eq!(error.failure().unwrap().node, "deadly");
    assert_clean();
}

fn a_program_with_threads_cannot_fork() {
    let (stop, stops) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stops.recv());
    let stages = || from_iter(0..10_u64) | process::map(|n| n);
    let error = stages().run().unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("2 threads") && text.contains("before the first thread"), "{text}");
    let mut run = stages().into_iter();
    assert!(matches!(run.next(), Some(Err(Error::Start { .. }))));
    assert!(run.next().is_none());
    assert!(stages().start().is_err());
    // Begun in time, it does not matter.
    drop(stop);
    let _ = other.join().unwrap();
    let run = stages().start().unwrap();
    std::thread::spawn(|| ()).join().unwrap();
    assert_eq!(run.map(Result::unwrap).sum::<u64>(), 45);
    assert_clean();
}
