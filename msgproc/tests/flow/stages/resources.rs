//! What workers make and drop, and what they are told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use msgproc::flow::stage::{StageStatus, from_iter, process, sync, task, thread};

use super::{By, Counted, assert_clean, modes, sorted};
use crate::common::allowed_cpus;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(workers_make_and_drop_what_they_need),
        testkit::test!(what_workers_made_is_dropped_after_errors),
        testkit::test!(a_start_that_fails),
        testkit::test!(the_last_worker_knows_that_it_is),
        testkit::test!(stages_use_the_processors_that_were_said),
        testkit::test!(stages_write_a_trace),
    ]
}

fn workers_make_and_drop_what_they_need() {
    modes!(mode, name, {
        let step = mode::with(|worker| (worker.index, 0_u64))
            .map(|at, n: u64| {
                at.resource.1 += 1;
                assert_eq!(at.resource.0, at.worker.index);
                (n, at.index, at.resource.0 as u64, at.resource.1)
            })
            .by(3);
        let mut all: Vec<_> = (from_iter(100..400_u64) | step).collect().unwrap();
        all.sort_unstable();
        assert!(all.iter().all(|(n, index, ..)| *n == index + 100), "{name}");
        for worker in 0..3 {
            let mut counts: Vec<_> = all.iter().filter(|i| i.2 == worker).map(|i| i.3).collect();
            counts.sort_unstable();
            assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{name}");
        }
    });
    let step = task::with(|_| std::cell::Cell::new(0_u64))
        .map(async |at, n: u64| {
            at.resource.set(at.resource.get() + 1);
            assert_eq!(at.index, n);
            at.resource.get()
        })
        .workers(3);
    assert_eq!(sorted(from_iter(0..50) | step), (1..=50).collect::<Vec<_>>());
    // The number of an item is that of the source's item which it came of.
    let stages = from_iter(0..10_u64)
        | thread::flat_map(|n| [n, n])
        | sync::filter(|n| n % 2 == 1)
        | thread::with(|_| ()).map(|at, n: u64| (n, at.index));
    let all: Vec<(u64, u64)> = stages.collect().unwrap();
    assert_eq!(all, [1, 1, 3, 3, 5, 5, 7, 7, 9, 9].map(|n| (n, n)));
    assert_clean();
}

fn stages_use_the_processors_that_were_said() {
    let on_first = |lists: Vec<String>| assert_eq!(lists, ["0", "0", "0"]);
    let numbers = || from_iter(0..3_u64);
    on_first((numbers() | process::map(allowed_cpus).cpus([0])).collect().unwrap());
    on_first((numbers() | thread::map(allowed_cpus).workers(2).cpus([0])).collect().unwrap());
    on_first((numbers() | task::map(async |n| allowed_cpus(n)).cpus([0])).collect().unwrap());
    assert_clean();
}

fn stages_write_a_trace() {
    let file = std::env::temp_dir().join(format!("trace-{}.json", std::process::id()));
    let (one, other) = (from_iter(0..30_u64).trace_to(&file), from_iter(0..30_u64));
    let stages = one.concat(other) | process::map(|n| n + 1).name("adds") | thread::map(|n| n);
    assert_eq!(stages.capacity(3).collect::<Vec<_>>().unwrap().len(), 60);
    let trace = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(trace.contains("\"adds 0\"") && trace.contains("busy"), "{trace}");
    assert_clean();
}

fn what_workers_made_is_dropped_after_errors() {
    let count = Arc::new(AtomicUsize::new(0));
    let made = |count: &Arc<AtomicUsize>| {
        let count = count.clone();
        move || Counted::new(&count)
    };
    for fails in [true, false] {
        let (a, b, c) = (made(&count), made(&count), made(&count));
        let kept = Counted::new(&count);
        let source = (0_u64..).inspect(move |_| {
            let _ = &kept;
        });
        let stages = from_iter(source)
            | thread::with(move |_| a()).map(|_, n| n).workers(2)
            | task::with(move |_| b()).map(async |at, n| {
                let _ = &at.resource;
                n
            })
            | sync::with(move |_| c()).try_map(move |_, n: u64| match n {
                500 if fails => Err("no more"),
                n => Ok(n),
            });
        for item in stages.into_iter().take(1000) {
            assert!(item.is_ok() || fails);
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
    assert_clean();
}

fn a_start_that_fails() {
    modes!(mode, name, {
        let step = mode::try_with(|worker| match worker.index + 1 == worker.workers {
            true => Err("no device"),
            false => Ok(()),
        });
        let error = (from_iter(0_u64..) | step.map(|_, n| n).by(2)).run().unwrap_err();
        assert!(format!("{error:?}").contains("no device"), "{name}: {error:?}");
        let step = mode::map(|n| n).on_start(|_| Err::<(), _>("not today"));
        let mut run = (from_iter(0_u64..) | step).into_iter();
        let error = run.next().unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("not today"), "{name}: {error:?}");
        assert!(run.next().is_none());
    });
    let step = task::try_with(|_| Err::<(), _>("no device")).map(async |_, n| n);
    let error = (from_iter(0_u64..) | step).run().unwrap_err();
    assert!(format!("{error:?}").contains("no device"), "{error:?}");
    assert_clean();
}

fn the_last_worker_knows_that_it_is() {
    let board = shmring::board::Board::options().words(8).bells(1).anonymous().unwrap();
    let count = |word: usize, by: u64| {
        let board = board.clone();
        move |status: StageStatus, sum: &mut u64| {
            board.add(word, *sum);
            board.add(word + 1, by);
            assert_eq!(status.done, status.active == 0);
            if status.done {
                board.add(word + 2, 1);
            }
        }
    };
    modes!(mode, name, {
        (0..3).for_each(|word| board.store(word, 0));
        let step = mode::with(|_| 0_u64).each(|at, n: u64| *at.resource += n).by(3);
        (from_iter(0..100) | step.on_done(count(0, 1))).run().unwrap();
        let words: Vec<u64> = (0..3).map(|word| board.load(word)).collect();
        assert_eq!(words, [4950, if name == "sync" { 1 } else { 3 }, 1], "{name}");
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    let step = task::with(|_| std::cell::Cell::new(0)).each(async |at, n: u64| {
        at.resource.set(at.resource.get() + n);
    });
    let step =
        step.workers(5).on_end(move |status, sum| tells.lock().unwrap().push((status, sum.get())));
    (from_iter(0..100) | step).run().unwrap();
    let told = told.lock().unwrap();
    assert!(matches!(&told[..], [(StageStatus { done: true, active: 0, .. }, 4950)]), "{told:?}");
}
