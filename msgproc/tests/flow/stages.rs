//! Streams through stages.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use msgproc::flow::{
    Error, FailureKind, Memory, Process, Result, Same, Thread,
    stage::{
        StageStatus, Stages, Step, TimedOut, concat, from_iter, from_stream, ordered, process,
        progress_in, sync, task, thread, try_from_iter, try_from_stream,
    },
};
use testkit::{children_of, thread_count};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(modes_mix),
        testkit::test!(every_verb_in_every_mode),
        testkit::test!(no_items_and_one),
        testkit::test!(nothing_starts_before_it_is_asked_for),
        testkit::test!(all_in_the_callers_thread),
        testkit::test!(order_through_filters_floods_and_concats),
        testkit::test!(order_is_bounded),
        testkit::test!(an_error_anywhere_reaches_the_consumer),
        testkit::test!(a_panic_anywhere_reaches_the_consumer),
        testkit::test!(bounded_queues_and_an_error),
        testkit::test!(many_items_through_tasks_and_threads),
        testkit::test!(a_panic_of_the_program_stops_the_stages),
        testkit::test!(a_consumer_that_stops_reading),
        testkit::test!(a_loop_that_is_left_stops_the_workers),
        testkit::test!(an_error_while_nobody_reads),
        testkit::test!(workers_make_and_drop_what_they_need),
        testkit::test!(what_workers_made_is_dropped_after_errors),
        testkit::test!(a_start_that_fails),
        testkit::test!(the_last_worker_knows_that_it_is),
        testkit::test!(late_items),
        testkit::test!(late_items_are_begun_anew_or_dropped),
        testkit::test!(errors_are_left_out_or_tried_again),
        testkit::test!(a_killed_worker_is_replaced),
        testkit::test!(a_program_with_threads_cannot_fork),
        testkit::test!(awaited_and_streamed),
        testkit::test!(streams_as_sources),
        testkit::test!(tasks_that_finish_while_nothing_comes),
        testkit::test!(a_source_that_does_not_answer),
        testkit::test!(tasks_that_never_end_are_dropped),
        testkit::test!(bars),
        testkit::test!(blocks_go_through_processes),
        testkit::test!(reports_name_the_stages),
    ]
}

/// Nothing is left of a run.
#[track_caller]
fn assert_clean() {
    assert_eq!(children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(thread_count(), 1);
}

/// Runs it for a stage of each mode.
macro_rules! modes {
    ($mode:ident, $name:ident, $body:expr) => {{
        {
            use msgproc::flow::stage::process as $mode;
            let $name = "process";
            $body;
        }
        {
            use msgproc::flow::stage::thread as $mode;
            let $name = "thread";
            $body;
        }
        {
            use msgproc::flow::stage::sync as $mode;
            let $name = "sync";
            $body;
        }
    }};
}

/// So many workers, where there can be several.
trait By {
    fn by(self, count: usize) -> Self;
}

impl<I, O, R> By for Step<Process, I, O, R> {
    fn by(self, count: usize) -> Self {
        self.workers(count)
    }
}

impl<I, O, R> By for Step<Thread, I, O, R> {
    fn by(self, count: usize) -> Self {
        self.workers(count)
    }
}

impl<I, O, R> By for Step<Same, I, O, R> {
    fn by(self, _count: usize) -> Self {
        self
    }
}

fn sorted(stages: Stages<u64>) -> Vec<u64> {
    let mut all: Vec<u64> = stages.collect().unwrap();
    all.sort_unstable();
    all
}

fn modes_mix() {
    let stages = from_iter(0..1000_u64)
        | thread::map(|n| n + 1).workers(2)
        | process::map(|n| n * 2).workers(2)
        | task::map(async |n| n + 3).workers(8)
        | sync::filter(|n| n % 5 == 0)
        | process::flat_map(|n| [n, n + 1]).workers(2);
    let mut expected: Vec<u64> = (0..1000)
        .map(|n| (n + 1) * 2 + 3)
        .filter(|n| n % 5 == 0)
        .flat_map(|n| [n, n + 1])
        .collect();
    expected.sort_unstable();
    assert_eq!(sorted(stages), expected);
    let chain = from_iter(0..1000_u64)
        .then(task::map(async |n| n + 1).workers(3))
        .then(process::map(|n| n * 2))
        .then(thread::map(|n| n + 3))
        .then(sync::map(|n| n + 1))
        .ordered();
    let all: Vec<u64> = chain.into_iter().map(Result::unwrap).collect();
    assert!(all.into_iter().eq((0..1000).map(|n| (n + 1) * 2 + 4)));
    assert_clean();
}

fn ok(n: u64) -> io::Result<u64> {
    Ok(n)
}

fn every_verb_in_every_mode() {
    let numbers = || from_iter(0..100_u64);
    let even: Vec<u64> = (0..100).filter(|n| n % 2 == 0).collect();
    let twice: Vec<u64> = (0..100).flat_map(|n| [n, n]).collect();
    modes!(mode, name, {
        assert_eq!(
            sorted(numbers() | mode::map(|n| n + 1)),
            (1..=100).collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(sorted(numbers() | mode::try_map(ok)), (0..100).collect::<Vec<_>>(), "{name}");
        assert_eq!(sorted(numbers() | mode::filter(|n| n % 2 == 0)), even, "{name}");
        let even_if = |n: &u64| Ok::<bool, io::Error>(n.is_multiple_of(2));
        assert_eq!(sorted(numbers() | mode::try_filter(even_if)), even, "{name}");
        assert_eq!(sorted(numbers() | mode::flat_map(|n| [n, n])), twice, "{name}");
        let pair = |n: u64| Ok::<[u64; 2], io::Error>([n, n]);
        assert_eq!(sorted(numbers() | mode::try_flat_map(pair)), twice, "{name}");
        let each = (numbers() | mode::each(|_| ()).name("end")).run().unwrap();
        assert_eq!(each.node("end").unwrap().items_in(), 100, "{name}");
        assert_eq!(each.node("end").unwrap().items_out(), 0, "{name}");
        let tried = (numbers() | mode::try_each(|n: u64| ok(n).map(drop)).name("end")).run();
        assert_eq!(tried.unwrap().node("end").unwrap().items_in(), 100, "{name}");
    });
    assert_eq!(sorted(numbers() | task::map(async |n| n + 1)), (1..=100).collect::<Vec<_>>());
    assert_eq!(sorted(numbers() | task::try_map(async |n| ok(n))), (0..100).collect::<Vec<_>>());
    assert_eq!(sorted(numbers() | task::filter(async |n| n % 2 == 0)), even);
    let even_if = async |n: u64| Ok::<bool, io::Error>(n.is_multiple_of(2));
    assert_eq!(sorted(numbers() | task::try_filter(even_if)), even);
    assert_eq!(sorted(numbers() | task::flat_map(async |n| [n, n])), twice);
    let pair = async |n: u64| Ok::<[u64; 2], io::Error>([n, n]);
    assert_eq!(sorted(numbers() | task::try_flat_map(pair)), twice);
    let each = (numbers() | task::each(async |_| ()).name("end")).run().unwrap();
    assert_eq!(each.node("end").unwrap().items_in(), 100);
    let tried = numbers() | task::try_each(async |n| ok(n).map(drop)).name("end");
    assert_eq!(tried.run().unwrap().node("end").unwrap().items_in(), 100);
    assert_clean();
}

fn no_items_and_one() {
    for count in [0, 1] {
        let expected: Vec<u64> = (1..=count).collect();
        modes!(mode, name, {
            let stages = || from_iter(0..count) | mode::map(|n| n + 1).by(2) | ordered();
            assert_eq!(sorted(stages()), expected, "{name}");
            let all: Result<Vec<u64>> = stages().into_iter().collect();
            assert_eq!(all.unwrap(), expected, "{name}");
        });
        let stages = || from_iter(0..count) | task::map(async |n| n + 1).workers(2) | ordered();
        assert_eq!(sorted(stages()), expected);
        let all: Result<Vec<u64>> = stages().into_iter().collect();
        assert_eq!(all.unwrap(), expected);
        assert_eq!(sorted(from_iter(0..count)).len() as u64, count);
    }
    assert_eq!(sorted(concat([])), [] as [u64; 0]);
    assert_clean();
}

fn nothing_starts_before_it_is_asked_for() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let source = (0..20_000_u64).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let stages = from_iter(source) | process::map(|n: u64| n) | thread::map(|n| n);
    let mut run = stages.into_iter();
    assert_clean();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(run.next().unwrap().unwrap(), 0);
    assert_eq!(children_of(std::process::id()).len(), 1);
    assert!(run.report().is_some());
    assert_eq!(run.by_ref().map(Result::unwrap).count(), 19_999);
    assert_eq!(run.next().map(drop), None);
    assert_eq!(run.report().unwrap().node("source").unwrap().items_out(), 20_000);
    assert_clean();
}

fn all_in_the_callers_thread() {
    let here = std::thread::current().id();
    let is_here = move || assert_eq!(std::thread::current().id(), here);
    let stages = from_iter((0..100_u64).inspect(move |_| is_here()))
        | sync::map(move |n| {
            is_here();
            assert_eq!(thread_count(), 1);
            n + 1
        })
        | ordered();
    assert_eq!(stages.collect::<Vec<_>>().unwrap(), (1..=100).collect::<Vec<u64>>());
}

fn order_through_filters_floods_and_concats() {
    let slow = |n: u64| {
        if n.is_multiple_of(97) {
            sleep(Duration::from_micros(500));
        }
        n
    };
    let flood = |n: u64| (0..if n == 70 { 5000 } else { n % 3 }).map(move |k| n * 10_000 + k);
    let expected: Vec<u64> = (0..2000).filter(|n| n % 7 == 0).flat_map(flood).collect();
    modes!(mode, name, {
        let stages = from_iter(0..2000_u64)
            | mode::map(slow).by(3)
            | mode::filter(|n| n % 7 == 0).by(2)
            | mode::flat_map(flood).by(3).capacity(64)
            | task::map(async |n| n).workers(4)
            | ordered()
            | mode::map(|n| n);
        assert_eq!(stages.collect::<Vec<u64>>().unwrap(), expected, "{name}");
        // Unordered workers may follow ordered ones.
        let stages = from_iter(0..2000_u64)
            | mode::map(slow).by(3)
            | ordered()
            | thread::map(|n| n).workers(2);
        assert_eq!(sorted(stages), (0..2000).collect::<Vec<_>>(), "{name}");
        let low = from_iter(0..1000_u64) | mode::map(slow).by(2);
        let high = from_iter(1000..2000_u64) | mode::map(slow).by(3);
        let both = low.concat(high) | mode::map(|n| n).by(2) | ordered();
        let all: Vec<u64> = both.collect().unwrap();
        let (low, high): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|n| *n < 1000);
        assert_eq!(low, (0..1000).collect::<Vec<_>>(), "{name}");
        assert_eq!(high, (1000..2000).collect::<Vec<_>>(), "{name}");
    });
    let late = async |n: u64| {
        tokio::time::sleep(Duration::from_micros(n * 7919 % 1000)).await;
        n
    };
    let stages = from_iter(0..500_u64) | task::map(late).workers(20) | ordered();
    assert_eq!(stages.collect::<Vec<_>>().unwrap(), (0..500).collect::<Vec<u64>>());
    assert_clean();
}

/// An endless source does not run ahead of a consumer that is slow, or of an item that is.
fn order_is_bounded() {
    let made = Arc::new(AtomicU64::new(0));
    let endless = |made: &Arc<AtomicU64>| {
        let made = made.clone();
        (0_u64..).inspect(move |_| {
            made.fetch_add(1, Ordering::Relaxed);
        })
    };
    let first_is_slow = |n: u64| {
        if n == 0 {
            sleep(Duration::from_millis(300));
        }
        n
    };
    let stages = from_iter(endless(&made)).capacity(16)
        | thread::map(first_is_slow).workers(3).capacity(16)
        | process::filter(|n| n % 2 == 0).workers(2).capacity(16)
        | task::flat_map(async |n| [n, n]).workers(4).capacity(16)
        | ordered();
    for (count, item) in stages.into_iter().take(2000).enumerate() {
        assert_eq!(item.unwrap(), count as u64 / 2 * 2);
        if count % 500 == 0 {
            sleep(Duration::from_millis(20));
        }
        let ahead = made.load(Ordering::Relaxed) - count as u64;
        assert!(ahead < 1000, "{ahead} items ahead");
    }
    assert_clean();
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

fn many_items_through_tasks_and_threads() {
    let stages = from_iter(0..100_000_u64)
        | task::map(async |n| {
            tokio::task::yield_now().await;
            n + 1
        })
        .workers(100)
        | thread::map(|n| n * 2).workers(3)
        | task::filter(async |n| n % 4 == 0).workers(10)
        | thread::map(|n| n / 4).workers(2);
    assert_eq!(sorted(stages), (1..=50_000).collect::<Vec<_>>());
    assert_clean();
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

/// Counts how many of it there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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

fn bars() {
    let bar = indicatif::ProgressBar::hidden();
    let stages = from_iter(0..500_u64).concat(from_iter(0..100))
        | thread::map(|n| n).workers(2)
        | progress_in(&bar);
    assert_eq!(stages.collect::<Vec<_>>().unwrap().len(), 600);
    assert_eq!((bar.position(), bar.length()), (600, Some(600)));
    assert!(bar.is_finished());
    let bar = indicatif::ProgressBar::no_length();
    bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    let stages = from_iter(0..500_u64) | thread::filter(|n| n % 2 == 0) | progress_in(&bar);
    stages.run().unwrap();
    assert_eq!((bar.position(), bar.length()), (250, None));
    from_iter(0..3_u64).progress("three").run().unwrap();
}

fn blocks_go_through_processes() {
    let memory = Memory::with_blocks(8, 1 << 20).unwrap();
    let pool = memory.pool().unwrap().clone();
    let fill = move |n: u8| {
        let mut loan = loop {
            match pool.loan() {
                Ok(loan) => break loan,
                Err(_) => sleep(Duration::from_micros(100)),
            }
        };
        loan.as_bytes_mut().fill(n);
        loan.freeze()
    };
    let check = |block: shmring::block::Block| {
        let bytes = block.as_bytes();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        u64::from(bytes[0])
    };
    let stages =
        from_iter(0..100_u8) | process::map(fill).capacity(2) | process::map(check).workers(2);
    assert_eq!(stages.memory(&memory).collect::<Vec<u64>>().unwrap().iter().sum::<u64>(), 4950);
    assert_clean();
}

fn reports_name_the_stages() {
    let stages = from_iter(0..10_u64)
        | thread::map(|n| n)
        | thread::map(|n| n)
        | process::filter(|n| n % 2 == 0).name("even").workers(2);
    let report = stages.run().unwrap();
    for (name, items) in [("source", 0), ("map", 10), ("map-2", 10), ("even", 10)] {
        assert_eq!(report.node(name).unwrap().items_in(), items, "{name}");
    }
    assert_eq!(report.node("even").unwrap().workers.len(), 2);
}
