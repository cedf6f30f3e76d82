//! Items that are too long for a message.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use msgproc::{
    ForkServer,
    flow::{Graph, OnError, Process, Same, StartMethod, Thread, each, map},
};
use shmring::block::BlockPool;

use crate::{
    common::{Kept, keep, taken},
    death::{leaves_no_blocks_when_stopped, with_some_kills},
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(kills_over_items_of_any_length, timeout = 120),
        testkit::test!(kills_over_items_of_any_length_keep_the_order, timeout = 120),
        testkit::test!(spawned_processes_are_killed_over_long_items, timeout = 120),
        testkit::test!(served_processes_are_killed_over_long_items, timeout = 120),
        testkit::test!(memory_comes_back, timeout = 60),
        testkit::test!(few_long_items_lie_in_a_lane),
        testkit::test!(a_run_that_was_stopped_leaves_no_blocks_in_long_items),
        testkit::test!(two_runs_in_turn),
    ]
}

/// How many bytes lie in the spill files that this process has open, and how many such files.
pub(crate) fn spilled() -> (u64, usize) {
    let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let files = fds.filter(|fd| {
        fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("msgproc-spill"))
    });
    let blocks: Vec<u64> = files.map(|fd| fs::metadata(fd.path()).unwrap().blocks()).collect();
    (blocks.iter().sum::<u64>() * 512, blocks.len())
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// From nothing to 8 MiB, most of them short; and what is in them tells which it is.
fn item(n: u64) -> String {
    let len = match n % 23 {
        0 => 8 << 20,
        1 | 7 => 1 << 20,
        2 | 11 => 70_000,
        3 | 5 | 9 => 60_000,
        4 => 0,
        rest => 100 * rest as usize,
    };
    let mut text = format!("{n:7}").repeat(len / 7 + 1);
    text.truncate(len);
    text
}

/// Two stages of processes that hand on what they get.
fn stages((ordered, count): (bool, u64)) -> (Graph, Kept<u64>) {
    let mut graph = Graph::new();
    let items = graph.source("items", Thread, (0..count).map(|n| (n, item(n))));
    let same = |item: (u64, String)| item;
    let first = graph.node("step-one", Process, move |_| map(same)).workers(2).ordered(ordered);
    let first = first.on_error(OnError::retry(1000)).add();
    let second = graph.node("step-two", Process, move |_| map(same)).workers(2).ordered(ordered);
    let second = second.on_error(OnError::retry(1000)).add();
    let check = graph.node("check", Thread, |_| {
        map(|(n, content): (u64, String)| {
            assert!(content == item(n), "{n} is torn");
            n
        })
    });
    let check = check.add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(items.output(), first.input());
    graph.connect(first.output(), second.input());
    graph.connect(second.output(), check.input());
    graph.connect(check.output(), sink.input());
    (graph, kept)
}

fn killed(ordered: bool, method: Option<StartMethod>, seed: u64) {
    let count = 300;
    let (mut graph, kept) = Graph::travelling((ordered, count), stages);
    if let Some(method) = method {
        graph.start_method(method);
    }
    // Whoever dies a hundred times before it has done anything is not replaced any more, and the
    // longest items take their time.
    let (report, kills) = with_some_kills(90, graph, 60, seed);
    let mut items = taken(&kept);
    if !ordered {
        items.sort_unstable();
    }
    assert!(items.iter().copied().eq(0..count), "{kills} kills: {items:?}\n{report}");
    assert!(kills > 3, "{kills} kills only\n{report}");
    assert_eq!(spilled().1, 0);
}

fn kills_over_items_of_any_length() {
    killed(false, None, 88_172_645_463_325_252);
}

fn kills_over_items_of_any_length_keep_the_order() {
    killed(true, None, 3_172_645_463_325_253);
}

fn spawned_processes_are_killed_over_long_items() {
    killed(true, Some(StartMethod::Spawn), 5_172_645_463_325_251);
}

fn served_processes_are_killed_over_long_items() {
    let server = ForkServer::start().unwrap();
    killed(true, Some(StartMethod::ForkServer(server)), 5_172_645_463_325_257);
}

/// Whatever has gone through, the file has no more than what is on its way.
fn memory_comes_back() {
    const LEN: usize = 3 << 20;
    let mut graph = Graph::new();
    let items = graph.source("items", Process, (0..100).map(|n| format!("{n:7}").repeat(LEN / 7)));
    let step = graph.node("step", Process, |_| map(|item: String| item)).add();
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    let sink = graph.node("sink", Same, move |_| {
        let (seen, mut first) = (seen.clone(), None);
        each(move |_: String| {
            let (bytes, files) = spilled();
            assert_eq!(files, 1);
            seen.fetch_max(bytes, Ordering::Relaxed);
            // Those of processes that start and end come and go, but not one with each item.
            assert!(descriptors() < *first.get_or_insert_with(descriptors) + 30);
        })
    });
    let sink = sink.add();
    graph.connect(items.output(), step.input());
    graph.connect(step.output(), sink.input());
    let running = graph.start().unwrap();
    while !running.is_finished() {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(spilled(), (0, 1));
    running.wait().unwrap();
    assert_eq!(spilled(), (0, 0));
    // In each of two lanes one that is handled, one that waits, and one whose memory goes.
    let most = most.load(Ordering::Relaxed) / LEN as u64;
    assert!((1..=6).contains(&most), "{most} items");
}

/// However many items a lane may have.
fn few_long_items_lie_in_a_lane() {
    const LEN: usize = 1 << 20;
    let mut graph = Graph::new();
    let items = graph.source("items", Process, (0..30).map(|n| vec![n as u8; LEN]));
    let slow = graph.node("slow", Same, |_| {
        each(|_: Vec<u8>| {
            sleep(Duration::from_millis(10));
            let (bytes, _) = spilled();
            // One more may be written before the memory of the first is gone.
            assert!(bytes <= 3 * (LEN as u64 + 65_536), "{bytes} bytes");
        })
    });
    let slow = slow.add();
    graph.edge(items.output(), slow.input()).capacity(1000).add();
    let report = graph.run().unwrap();
    assert_eq!(report.node("slow").unwrap().items_in(), 30);
}

fn a_run_that_was_stopped_leaves_no_blocks_in_long_items() {
    let block = |pool: &BlockPool| pool.loan().unwrap().freeze();
    leaves_no_blocks_when_stopped(4, move |pool| {
        (vec![1_u8; 300_000], [(); 3].map(|()| block(pool)))
    });
}

/// Each has a file of its own.
fn two_runs_in_turn() {
    let mut first = None;
    for _ in 0..3 {
        let (graph, kept) = stages((true, 30));
        graph.run().unwrap();
        assert!(taken(&kept).into_iter().eq(0..30));
        assert_eq!(spilled(), (0, 0));
        assert_eq!(descriptors(), *first.get_or_insert_with(descriptors));
    }
}
