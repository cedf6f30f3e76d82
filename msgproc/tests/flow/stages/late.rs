//! Items that take too long.

use std::{thread::sleep, time::Duration};

use msgproc::flow::{
    Result,
    stage::{TimedOut, from_iter, ordered, task},
};

use super::{By, assert_clean, modes};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![testkit::test!(late_items), testkit::test!(late_items_are_begun_anew_or_dropped)]
}

const LIMIT: Duration = Duration::from_millis(40);
const LATE: Duration = Duration::from_millis(80);

fn late_items() {
    let expected = |all: Vec<std::result::Result<u64, TimedOut>>| {
        assert_eq!(all.len(), 20);
        for (n, item) in all.into_iter().enumerate() {
            match item {
                Ok(item) => assert!(item == n as u64 && n % 10 != 3),
                Err(late) => assert!(late.index == n as u64 && n % 10 == 3 && late.limit == LIMIT),
            }
        }
    };
    let slow = |n: u64| {
        if n % 10 == 3 {
            sleep(LATE);
        }
        n
    };
    modes!(mode, name, {
        let _ = name;
        let stages = from_iter(0..20) | mode::map(slow).timeout(LIMIT).by(2) | ordered();
        expected(stages.collect().unwrap());
    });
    let never = async |n: u64| {
        if n % 10 == 3 {
            std::future::pending::<()>().await;
        }
        n
    };
    let stages = from_iter(0..20) | task::map(never).timeout(LIMIT).workers(2) | ordered();
    expected(stages.collect().unwrap());
    assert_clean();
}

fn late_items_are_begun_anew_or_dropped() {
    let slow_once = |tries: &mut u64, n: u64| {
        if n == 3 {
            *tries += 1;
            if *tries == 1 {
                sleep(LATE);
            }
        }
        n
    };
    modes!(mode, name, {
        let step = mode::with(|_| 0).map(move |at, n| slow_once(at.resource, n));
        let stages = from_iter(0..6) | step.timeout_retry(LIMIT, 2).name("slow");
        let mut run = stages.into_iter();
        let all: Vec<u64> = run.by_ref().map(|item| item.unwrap().unwrap()).collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5], "{name}");
        let report = run.report().unwrap();
        assert_eq!(report.node("slow").unwrap().workers[0].retries, 1, "{name}");
        let step = mode::with(|_| 0).map(move |at, n| slow_once(at.resource, n));
        let mut run = (from_iter(0..6) | step.timeout_drop(LIMIT).name("slow")).into_iter();
        let all: Vec<u64> = run.by_ref().map(Result::unwrap).collect();
        assert_eq!(all, [0, 1, 2, 4, 5], "{name}");
        let report = run.report().unwrap();
        assert_eq!(report.node("slow").unwrap().workers[0].skipped, 1, "{name}");
    });
    let step = || {
        task::with(|_| std::cell::Cell::new(0)).map(async |at, n: u64| {
            if n == 3 && at.resource.replace(1) == 0 {
                std::future::pending::<()>().await;
            }
            n
        })
    };
    let mut run = (from_iter(0..6) | step().timeout_retry(LIMIT, 1).name("slow")).into_iter();
    let all: Vec<u64> = run.by_ref().map(|item| item.unwrap().unwrap()).collect();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    assert_eq!(run.report().unwrap().node("slow").unwrap().workers[0].retries, 1);
    let mut run = (from_iter(0..6) | step().timeout_drop(LIMIT).name("slow")).into_iter();
    assert_eq!(run.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    assert_eq!(run.report().unwrap().node("slow").unwrap().workers[0].skipped, 1);
}
