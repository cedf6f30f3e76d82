//! Stages that are awaited, streams as sources, and tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use msgproc::flow::{
    Result,
    stage::{from_iter, from_stream, ordered, process, task, thread, try_from_stream},
};
use testkit::{children_of, thread_count};

use super::{Counted, assert_clean, sorted};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(awaited_and_streamed),
        testkit::test!(streams_as_sources),
        testkit::test!(tasks_that_finish_while_nothing_comes),
        testkit::test!(a_source_that_does_not_answer),
        testkit::test!(tasks_that_never_end_are_dropped),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn awaited_and_streamed() {
    let stages = || {
        from_iter(0..1000_u64)
            | process::map(|n| n + 1)
            | task::map(async |n| n * 2).workers(4)
            | thread::map(|n| n).workers(2)
            | ordered()
    };
    let expected: Vec<u64> = (0..1000).map(|n| (n + 1) * 2).collect();
    runtime().block_on(async {
        assert_eq!(stages().await.unwrap(), expected);
        let mut stream = stages().into_stream();
        let mut all = Vec::new();
        while let Some(item) = stream.next().await {
            all.push(item.unwrap());
        }
        assert_eq!(all, expected);
        assert!(stream.report().is_some());
        // Left early.
        assert_eq!(stages().into_stream().take(3).count().await, 3);
        let fails =
            from_iter(0_u64..) | thread::try_map(|n| if n == 9 { Err("no more") } else { Ok(n) });
        assert_eq!(fails.await.unwrap_err().failure().unwrap().item, Some(9));
        // Other tasks go on meanwhile.
        let slow = from_iter(0..10_u64)
            | thread::map(|n| {
                sleep(Duration::from_millis(10));
                n
            });
        let ticks = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Instant::now()
        };
        let awaited = async { (slow.await.unwrap(), Instant::now()) };
        let (ticked, (all, ended)) = futures_util::future::join(ticks, awaited).await;
        assert_eq!(all.len(), 10);
        assert!(ticked < ended);
    });
    assert_clean();
}

fn streams_as_sources() {
    let timed = stream::iter(0..100_u64).then(async |n| {
        tokio::time::sleep(Duration::from_micros(100)).await;
        n
    });
    let stages = from_stream(timed) | process::map(|n| n + 1) | thread::map(|n| n).workers(2);
    assert_eq!(sorted(stages | ordered()), (1..=100).collect::<Vec<_>>());
    let many = from_stream(stream::iter(0..100_000_u64)) | thread::map(|n| n);
    assert_eq!(many.collect::<Vec<_>>().unwrap(), (0..100_000).collect::<Vec<_>>());
    let fails =
        try_from_stream(stream::iter([Ok(1), Ok(2), Err("three")])) | thread::map(|n: u64| n);
    assert_eq!(fails.run().unwrap_err().failure().unwrap().message, "three");
    let panics =
        from_stream(stream::iter(0..9_u64).map(|n| if n == 5 { panic!("five") } else { n }));
    let failure = panics.run().unwrap_err();
    assert!(failure.failure().unwrap().message.contains("five"), "{failure}");
    // No more is asked for than may wait.
    let asked = Arc::new(AtomicU64::new(0));
    let copy = asked.clone();
    let counted =
        stream::iter(0..1000_u64).inspect(move |_| _ = copy.fetch_add(1, Ordering::Relaxed));
    let mut run =
        (from_stream(counted).capacity(1) | thread::map(|n| n).capacity(1)).start().unwrap();
    assert_eq!(run.next().unwrap().unwrap(), 0);
    sleep(Duration::from_millis(20));
    assert!(asked.load(Ordering::Relaxed) < 12, "{}", asked.load(Ordering::Relaxed));
    drop(run);
    // One that never gives anything is dropped where it waits.
    for item in [0, 1] {
        let silent = stream::iter(0..item).chain(stream::pending::<u64>());
        let mut run = (from_stream(silent) | thread::map(|n| n)).start().unwrap();
        if item == 1 {
            assert_eq!(run.next().unwrap().unwrap(), 0);
        }
        let began = Instant::now();
        drop(run);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    assert_clean();
}

/// What is finished goes on though no further item comes, at once and without a busy thread.
fn tasks_that_finish_while_nothing_comes() {
    let (give, given) = std::sync::mpsc::channel();
    // A source that never answered would hold up the end of a test that fails.
    let given = std::iter::from_fn(move || given.recv_timeout(Duration::from_secs(5)).ok());
    let stages = from_iter(given)
        | task::map(async |n: u64| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            n
        })
        .workers(8);
    let mut run = stages.start().unwrap();
    let mut quickest = Duration::MAX;
    for n in 0..5 {
        let began = Instant::now();
        give.send(n).unwrap();
        assert_eq!(run.next().unwrap().unwrap(), n);
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_millis(60), "{quickest:?}");
    let used = || {
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
        let usage = usage.unwrap();
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        micros(usage.user_time()) + micros(usage.system_time())
    };
    let before = used();
    sleep(Duration::from_millis(500));
    let micros = used() - before;
    assert!(micros < 50_000, "{micros} µs of work while nothing comes");
    drop(give);
    assert!(run.next().is_none());
    assert_clean();
}

/// What it gave goes on, and it does not hold up the end for ever.
fn a_source_that_does_not_answer() {
    let (give, given) = std::sync::mpsc::channel();
    let mut run = (from_iter(given) | process::map(|n: u64| n + 1)).start().unwrap();
    for n in 0..100 {
        give.send(2 * n).unwrap();
        give.send(2 * n + 1).unwrap();
        assert_eq!(run.next().unwrap().unwrap(), 2 * n + 1);
        assert_eq!(run.next().unwrap().unwrap(), 2 * n + 2);
    }
    let began = Instant::now();
    drop(run);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(thread_count(), 2);
    drop(give);
    let until = Instant::now() + Duration::from_secs(5);
    while thread_count() > 1 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(1));
    }
}

fn tasks_that_never_end_are_dropped() {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    let never = move |n: u64| {
        let counted = Counted::new(&counts);
        async move {
            if n > 3 {
                std::future::pending::<()>().await;
            }
            drop(counted);
            n
        }
    };
    let mut run = (from_iter(0_u64..) | task::map(never).workers(10)).start().unwrap();
    let mut some: Vec<u64> = run.by_ref().take(4).map(Result::unwrap).collect();
    some.sort_unstable();
    assert_eq!(some, [0, 1, 2, 3]);
    drop(run);
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert_clean();
}
