//! Every verb in every mode, and the order of what comes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use msgproc::flow::{
    Memory, Result,
    stage::{concat, from_iter, ordered, process, progress_in, sync, task, thread},
};
use testkit::{children_of, thread_count};

use super::{By, assert_clean, modes, sorted};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(modes_mix),
        testkit::test!(every_verb_in_every_mode),
        testkit::test!(no_items_and_one),
        testkit::test!(nothing_starts_before_it_is_asked_for),
        testkit::test!(all_in_the_callers_thread),
        testkit::test!(order_through_filters_floods_and_concats),
        testkit::test!(order_is_bounded),
        testkit::test!(many_items_through_tasks_and_threads),
        testkit::test!(bars),
        testkit::test!(blocks_go_through_processes),
        testkit::test!(reports_name_the_stages),
    ]
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
    // Names that are asked for come before those that are not.
    let stages = from_iter(0..10_u64)
        | thread::map(|n| n)
        | thread::filter(|n| *n < 5).name("source")
        | task::map(async |n| n).name("map");
    let report = stages.run().unwrap();
    for (name, items) in [("source-2", 0), ("map-2", 10), ("source", 10), ("map", 5)] {
        assert_eq!(report.node(name).unwrap().items_in(), items, "{name}");
    }
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
