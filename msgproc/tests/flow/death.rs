//! Processes that are killed.

use std::{
    fs,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use msgproc::flow::{
    Error, FailureKind, Flow, Graph, Memory, OnError, Outlet, Placement, Process, Report, Running,
    each, flat_map, from_fn, map, source, try_map,
};
use serde::{Serialize, de::DeserializeOwned};
use shmring::block::{Block, BlockPool};

use crate::common::{keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(a_death_fails_the_run),
        testkit::test!(a_death_is_made_good),
        testkit::test!(a_death_before_the_first_item_is_made_good),
        testkit::test!(a_source_that_died_goes_on),
        testkit::test!(deaths_at_the_end_are_made_good),
        testkit::test!(kills_at_random_times, timeout = 120),
        testkit::test!(kills_at_random_times_keep_the_order, timeout = 120),
        testkit::test!(kills_while_lanes_are_full_of_bytes, timeout = 120),
        testkit::test!(blocks_come_back_after_kills, timeout = 120),
        testkit::test!(a_run_in_one_thread_makes_deaths_good),
        testkit::test!(a_run_that_was_started_makes_deaths_good),
        testkit::test!(where_replacements_come_from_may_be_killed_too),
        testkit::test!(who_replaces_others_is_replaced),
        testkit::test!(who_dies_behind_a_stop_fails_nothing),
        testkit::test!(a_panic_of_who_is_told_fails_the_run),
        testkit::test!(a_run_that_was_stopped_leaves_no_blocks),
        testkit::test!(an_item_that_kills_ends_in_quarantine),
        testkit::test!(all_items_that_kill_end_in_quarantine),
        testkit::test!(quarantine_after_so_many_deaths),
        testkit::test!(an_item_that_kills_too_often_fails_the_run),
    ]
}

/// Numbers without end, through a process of this name that may be killed, and what came of them.
fn through_one(graph: &str, node: &str) -> (Running, crate::common::Kept<u64>) {
    let mut graph = Graph::new().named(graph);
    let numbers = graph.source("numbers", Placement::Thread, 0_u64..);
    let step = graph
        .node(node, Process, |_| {
            map(|n: u64| {
                sleep(Duration::from_micros(20));
                n
            })
        })
        .on_error(OnError::retry(100))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    (graph.start().unwrap(), kept)
}

/// Then nobody is replaced any more, and that is what the error says.
fn where_replacements_come_from_may_be_killed_too() {
    let (running, kept) = through_one("few", "step");
    let is_spares = |pid: &u32| testkit::name_of(*pid).is_some_and(|name| name == "few-spares");
    let children = testkit::children_of(std::process::id());
    let (spares, workers): (Vec<u32>, Vec<u32>) = children.into_iter().partition(is_spares);
    let (&[spares], &[worker]) = (&spares[..], &workers[..]) else {
        panic!("{spares:?} are there before the run begins, and {workers:?}")
    };
    // One that is stopped makes no stand-in.
    testkit::signal(spares, libc::SIGSTOP);
    assert!(testkit::wait_until(Duration::from_secs(5), || testkit::state_of(spares) == Some('T')));
    testkit::descendants_of(spares).into_iter().filter(is_spares).for_each(|stand_in| {
        testkit::kill9(stand_in);
    });
    testkit::kill9(spares);
    testkit::kill9(worker);
    let error = running.wait().unwrap_err().to_string();
    assert!(error.contains("\"few-spares\", from which replacements come, was killed"), "{error}");
    drop(taken(&kept));
}

/// All processes that run and have this name, whoever their parents are.
fn of_name(name: &str) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().to_str()?.parse().ok()?;
        (testkit::alive(pid) && testkit::name_of(pid)? == name).then_some(pid)
    });
    numbers.collect()
}

/// One after the other, and each time there is another one soon.
fn who_replaces_others_is_replaced() {
    let pid = std::process::id();
    let (graph, step) = (format!("r{pid}"), format!("step{pid}"));
    let (running, kept) = through_one(&graph, &step);
    let spares = format!("{graph}-spares");
    for round in 0..8 {
        let mut both = Vec::new();
        assert!(
            testkit::wait_until(Duration::from_secs(10), || {
                both = of_name(&spares);
                both.len() == 2
            }),
            "round {round}: {both:?} stand by"
        );
        // Whoever is there may still be greeted, and goes with who forked it until then.
        sleep(Duration::from_millis(100));
        testkit::kill9(both[round / 2 % 2]);
        let workers = of_name(&step);
        assert_eq!(workers.len(), 1, "round {round}");
        testkit::kill9(workers[0]);
        let is_replaced = || of_name(&step).iter().any(|pid| *pid != workers[0]);
        assert!(testkit::wait_until(Duration::from_secs(10), is_replaced), "round {round}");
    }
    running.stop();
    let report = running.wait().unwrap();
    let items = taken(&kept);
    assert!(items.iter().copied().eq(0..items.len() as u64), "{report}");
    assert!(!items.is_empty());
    let is_gone = || of_name(&spares).is_empty() && of_name(&step).is_empty();
    assert!(testkit::wait_until(Duration::from_secs(2), is_gone));
}

fn who_dies_behind_a_stop_fails_nothing() {
    for on_error in [OnError::fail(), OnError::retry(1)] {
        for _ in 0..20 {
            let mut graph = Graph::new().named("still");
            let numbers = graph.node("numbers", Process, |_| source(0_u64..));
            let numbers = numbers.on_error(on_error).add();
            let same = graph.node("same", Process, |_| map(|n: u64| n)).on_error(on_error).add();
            let (sink, kept) = keep(&mut graph, "sink");
            graph.connect(numbers.output(), same.input());
            graph.connect(same.output(), sink.input());
            let running = graph.start().unwrap();
            let children = testkit::children_of(std::process::id());
            running.stop_now();
            for child in children {
                testkit::kill9(child);
            }
            let ended = running.wait();
            assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
            drop(taken(&kept));
        }
    }
}

fn a_death_fails_the_run() {
    for at in 0..3 {
        let mut graph = Graph::new();
        let kill = move |here: usize| {
            move |n: u64| {
                if here == at && n == 5000 {
                    testkit::kill9(std::process::id());
                }
                n
            }
        };
        let place = Placement::Process;
        let numbers = graph.source("numbers", place, (0_u64..).map(kill(0)));
        let first = graph.node("first", place, move |_| map(kill(1))).workers(2).add();
        let second = graph.node("second", place, move |_| map(kill(2))).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), first.input());
        graph.connect(first.output(), second.input());
        graph.connect(second.output(), sink.input());
        let began = Instant::now();
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        assert_eq!(failure.kind, FailureKind::Died, "{failure}");
        assert_eq!(failure.node, ["numbers", "first", "second"][at]);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop(taken(&kept));
    }
}

/// Kills this process at item `n`, but only once: a file says that it was done.
fn kill_once(name: String, at: u64) -> impl Fn(u64) -> u64 + Clone + Send + Sync {
    move |n| {
        if n == at {
            let done = format!("/dev/shm/{name}");
            if fs::metadata(&done).is_err() {
                fs::write(&done, "").unwrap();
                testkit::kill9(std::process::id());
            }
        }
        n
    }
}

fn a_death_is_made_good() {
    for (round, at) in [0, 1, 700, 1999].into_iter().enumerate() {
        let name = testkit::name(&format!("once-{round}"));
        let mut graph = Graph::new();
        let numbers = graph.source("numbers", Placement::Thread, 0..2000_u64);
        let kill = kill_once(name.clone(), at);
        let step = graph
            .node("step", Process, move |_| {
                let kill = kill.clone();
                flat_map(move |n: u64| [kill(n), n + 10_000])
            })
            .on_error(OnError::retry(2))
            .add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        let report = graph.run().unwrap();
        fs::remove_file(format!("/dev/shm/{name}")).unwrap();
        assert_eq!(taken(&kept), (0..2000).flat_map(|n| [n, n + 10_000]).collect::<Vec<_>>());
        assert_eq!(report.node("step").unwrap().workers[0].restarts, 1);
    }
}

fn a_death_before_the_first_item_is_made_good() {
    let name = testkit::name("made");
    let kill = kill_once(name.clone(), 0);
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 1..500_u64);
    let step = graph
        .node("step", Process, move |_| {
            kill(0);
            map(|n: u64| n)
        })
        .on_error(OnError::retry(1))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    let report = graph.run().unwrap();
    fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    assert_eq!(taken(&kept), (1..500).collect::<Vec<_>>());
    assert_eq!(report.node("step").unwrap().workers[0].restarts, 1);
    // One that always dies is not begun for ever.
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 1..500_u64);
    let sink = graph
        .node("sink", Process, |_| {
            testkit::kill9(std::process::id());
            each(|_: u64| ())
        })
        .on_error(OnError::retry(1))
        .add();
    graph.connect(numbers.output(), sink.input());
    assert!(matches!(graph.run(), Err(Error::Start { .. })));
}

fn a_source_that_died_goes_on() {
    let name = testkit::name("source");
    let kill = kill_once(name.clone(), 1234);
    let mut graph = Graph::new();
    let numbers = graph
        .node("numbers", Process, move |_| {
            let kill = kill.clone();
            source((0..3000_u64).map(kill))
        })
        .on_error(OnError::retry(1))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), sink.input());
    graph.run().unwrap();
    fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    assert_eq!(taken(&kept), (0..3000).collect::<Vec<_>>());
}

/// Dies in `svc_end`, after it has sent.
struct DiesAtEnd(String);

impl msgproc::flow::Node for DiesAtEnd {
    type In = u64;
    type Out = u64;

    fn svc(
        &mut self,
        item: u64,
        out: &mut msgproc::flow::Outlet<u64>,
    ) -> Result<msgproc::flow::Flow, msgproc::flow::Cause> {
        out.send(item)?;
        Ok(msgproc::flow::Flow::GoOn)
    }

    fn svc_end(
        &mut self,
        out: &mut msgproc::flow::Outlet<u64>,
    ) -> Result<(), msgproc::flow::Cause> {
        for n in 1000..1010 {
            out.send(n)?;
            out.flush()?;
            if n == 1006 {
                kill_once(self.0.clone(), n)(n);
            }
        }
        Ok(())
    }
}

fn deaths_at_the_end_are_made_good() {
    let name = testkit::name("end");
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..1000_u64);
    let file = name.clone();
    let step = graph
        .node("step", Process, move |_| DiesAtEnd(file.clone()))
        .on_error(OnError::retry(1))
        .add();
    let after = graph.node("after", Process, |_| map(|n: u64| n)).on_error(OnError::retry(1)).add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), after.input());
    graph.connect(after.output(), sink.input());
    graph.run().unwrap();
    fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    assert_eq!(taken(&kept), (0..1010).collect::<Vec<_>>());
}

/// Runs a graph, and kills processes of it at random until it ends: less and less often, so that
/// whoever replaces them gets somewhere, however busy the machine is.
pub(crate) fn with_kills(graph: Graph, seconds: u64, seed: u64) -> (Report, u64) {
    with_some_kills(u64::MAX, graph, seconds, seed)
}

/// So many deaths in a row nobody is given up for, though none of them got anywhere.
const NOT_GIVEN_UP: u64 = 100;

/// The same for graphs that do not run for long. A replacement may take longer to start than the time
/// until the next kill, and not get anywhere: so there are not more of those than it is allowed.
pub(crate) fn with_quick_kills(graph: Graph, seed: u64) -> (Report, u64) {
    kill_while_it_runs(
        graph,
        NOT_GIVEN_UP,
        Duration::from_micros(500)..Duration::from_millis(8),
        30,
        seed,
    )
}

/// The same with so many kills at most.
pub(crate) fn with_some_kills(most: u64, graph: Graph, seconds: u64, seed: u64) -> (Report, u64) {
    let pace = Duration::from_millis(5)..Duration::from_millis(45);
    kill_while_it_runs(graph, most, pace, seconds, seed)
}

fn kill_while_it_runs(
    graph: Graph,
    most: u64,
    pace: Range<Duration>,
    seconds: u64,
    mut seed: u64,
) -> (Report, u64) {
    let range = (pace.end - pace.start).as_micros() as u64;
    let running = graph.start().unwrap();
    let mut kills = 0;
    let until = Instant::now() + Duration::from_secs(seconds + 60);
    while !running.is_finished() {
        assert!(Instant::now() < until, "{}", running.report());
        // xorshift: any numbers will do.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let pause = pace.start + Duration::from_micros(seed % range);
        sleep(pause * (1 + kills as u32 / 40));
        if kills == most {
            continue;
        }
        let children: Vec<_> = testkit::children_of(std::process::id())
            .into_iter()
            .flat_map(|child| {
                let mut all = testkit::children_of(child);
                all.push(child);
                all
            })
            .filter(|child| testkit::name_of(*child).is_some_and(|name| name.starts_with("step")))
            .collect();
        if let Some(victim) = children.get(seed as usize % children.len().max(1)) {
            testkit::kill9(*victim);
            kills += 1;
        }
    }
    (running.wait().unwrap(), kills)
}

/// Two stages of processes, with some work for each item.
pub(crate) fn two_stages(ordered: bool, count: u64) -> (Graph, crate::common::Kept<u64>) {
    static WORK: AtomicU64 = AtomicU64::new(0);
    let work = |n: u64| {
        for _ in 0..2000 {
            WORK.fetch_add(n, Ordering::Relaxed);
        }
        n
    };
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..count);
    let first = graph
        .node("step-one", Process, move |_| map(work))
        .workers(2)
        .ordered(ordered)
        .on_error(OnError::retry(1000))
        .add();
    let second = graph
        .node("step-two", Process, move |_| {
            flat_map(move |n: u64| if n.is_multiple_of(3) { vec![work(n); 2] } else { vec![n] })
        })
        .workers(2)
        .ordered(ordered)
        .on_error(OnError::retry(1000))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), first.input());
    graph.connect(first.output(), second.input());
    graph.connect(second.output(), sink.input());
    (graph, kept)
}

pub(crate) fn expected(count: u64) -> Vec<u64> {
    (0..count).flat_map(|n| vec![n; if n % 3 == 0 { 2 } else { 1 }]).collect()
}

fn kills_at_random_times() {
    let count = 60_000;
    let (graph, kept) = two_stages(false, count);
    let (report, kills) = with_kills(graph, 30, 88_172_645_463_325_252);
    let mut items = taken(&kept);
    items.sort_unstable();
    assert!(items == expected(count), "{kills} kills, {} items\n{report}", items.len());
    assert!(kills > 3, "{kills} kills only\n{report}");
}

fn kills_at_random_times_keep_the_order() {
    let count = 60_000;
    let (graph, kept) = two_stages(true, count);
    let (report, kills) = with_kills(graph, 30, 3_172_645_463_325_253);
    let items = taken(&kept);
    assert!(items == expected(count), "{kills} kills, {} items\n{report}", items.len());
    assert!(kills > 3, "{kills} kills only\n{report}");
}

/// A lane has room for a few of these items only, so its sender waits while its receiver is dead.
fn kills_while_lanes_are_full_of_bytes() {
    let count = 2000;
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, (0..count).map(|n| vec![n; 5000]));
    let step = graph
        .node("step", Process, |_| {
            map(|item: Vec<u32>| {
                sleep(Duration::from_micros(500));
                item
            })
        })
        .on_error(OnError::retry(1000))
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    let (report, kills) = with_kills(graph, 30, 7_172_645_463_325_259);
    let items = taken(&kept);
    assert!(items.iter().map(|item| item[0]).eq(0..count), "{} items\n{report}", items.len());
    assert!(kills > 3, "{kills} kills only\n{report}");
}

fn blocks_come_back_after_kills() {
    let memory = Memory::with_blocks(64, 4096).unwrap();
    let pool = memory.pool().unwrap().clone();
    let mut graph = Graph::new();
    graph.set_memory(&memory);
    let filled = pool.clone();
    let numbers = graph.source(
        "numbers",
        Placement::Thread,
        (0..20_000_u64).inspect(|_| thread::yield_now()),
    );
    let fill = graph
        .node("fill", Placement::Thread, move |_| {
            let pool = filled.clone();
            try_map(move |n: u64| {
                let mut loan = pool.loan()?;
                loan.as_bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
                Ok::<Block, shmring::block::LoanError>(loan.freeze())
            })
        })
        .add();
    let same = graph
        .node("step", Placement::Process, |_| map(|block: Block| block))
        .workers(2)
        .ordered(true)
        .on_error(OnError::retry(1000))
        .add();
    let read = graph
        .node("read", Placement::Thread, |_| {
            map(|block: Block| u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap()))
        })
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), fill.input());
    graph.edge(fill.output(), same.input()).capacity(16).add();
    graph.edge(same.output(), read.input()).capacity(16).add();
    graph.connect(read.output(), sink.input());
    let (report, kills) = with_kills(graph, 30, 9_172_645_463_325_257);
    let items = taken(&kept);
    assert!(items.iter().copied().eq(0..20_000), "{kills} kills, {} items\n{report}", items.len());
    assert_eq!(report.blocks_in_use, 0, "{kills} kills");
    assert!(kills > 3, "{kills} kills only\n{report}");
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn a_run_in_one_thread_makes_deaths_good() {
    let mut graph = Graph::new();
    graph.watch_in_run();
    let deaths = Arc::new(Mutex::new(Vec::new()));
    let told = deaths.clone();
    graph.on_death(move |death| {
        told.lock().unwrap().push((death.worker, death.item, death.times));
        Ok(true)
    });
    let (back, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = back.clone();
    // No more than four at a time are on their way, but for one that is left out.
    let numbers = graph.node("numbers", Placement::Same, move |_| {
        let (seen, mut next) = (seen.clone(), 0);
        from_fn(move |(), out: &mut Outlet<u64>| {
            assert_eq!(threads(), 1);
            if next == 200 {
                return Ok(Flow::Eos);
            }
            if next - seen.load(Ordering::Relaxed) > 4 {
                return Ok(Flow::Wait);
            }
            out.send(next)?;
            out.flush()?;
            next += 1;
            Ok(Flow::GoOn)
        })
    });
    let numbers = numbers.add();
    let kill = |n: u64| {
        if n == 77 {
            testkit::kill9(std::process::id());
        }
        n
    };
    let on_error = OnError::retry(2).or_skip();
    let step = graph.node("step", Process, move |_| map(kill)).workers(2).ordered(true);
    let step = step.on_error(on_error).add();
    let sum = taken.clone();
    let sink = graph.node("sink", Placement::Same, move |_| {
        let (back, sum) = (back.clone(), sum.clone());
        each(move |n: u64| {
            back.fetch_add(1, Ordering::Relaxed);
            sum.fetch_add(n, Ordering::Relaxed);
        })
    });
    let sink = sink.add();
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    let report = graph.run().unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), (0..200).sum::<u64>() - 77);
    let deaths: Vec<_> = deaths.lock().unwrap().clone();
    assert_eq!(deaths, [(1, Some(77), 1), (1, Some(77), 2), (1, Some(77), 3)], "{report}");
    assert_eq!(report.node("step").unwrap().workers[1].restarts, 3);
}

/// Who starts a graph has a thread that watches, whatever was said.
fn a_run_that_was_started_makes_deaths_good() {
    let mut graph = Graph::new();
    graph.watch_in_run();
    let numbers = graph.source("numbers", Placement::Same, 0..100_u64);
    let kill = |n: u64| {
        if n == 77 {
            testkit::kill9(std::process::id());
        }
    };
    let step = graph.node("step", Process, move |_| each(kill)).workers(2);
    let step = step.on_error(OnError::retry(1).or_skip()).add();
    graph.connect(numbers.output(), step.input());
    let report = graph.start().unwrap().wait().unwrap();
    let workers = &report.node("step").unwrap().workers;
    assert_eq!(workers.iter().map(|worker| worker.restarts).sum::<u64>(), 2, "{report}");
}

fn a_panic_of_who_is_told_fails_the_run() {
    for (watches, place) in [
        (false, Placement::Same),
        (false, Placement::Thread),
        (false, Placement::Process),
        (true, Placement::Same),
    ] {
        let mut graph = Graph::new();
        if watches {
            graph.watch_in_run();
        }
        graph.on_death(|death| panic!("no book for item {:?}", death.item));
        let numbers = graph.source("numbers", place, 0..10_000_u64);
        let kill = |n: u64| {
            if n == 77 {
                testkit::kill9(std::process::id());
            }
            n
        };
        let step = graph.node("step", Process, move |_| map(kill));
        let step = step.on_error(OnError::retry(2)).add();
        let sink = graph.node("sink", place, move |_| each(|_: u64| ())).add();
        graph.connect(numbers.output(), step.input());
        graph.connect(step.output(), sink.input());
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        let told = (&*failure.node, failure.worker, failure.item, failure.kind);
        assert_eq!(told, ("step", 0, Some(77), FailureKind::Died), "{place}: {failure}");
        let what = "who is told of its death panicked: no book for item Some(77)";
        assert!(failure.message.contains(what), "{place}: {failure}");
    }
}

fn a_run_that_was_stopped_leaves_no_blocks() {
    leaves_no_blocks_when_stopped(16, |pool| pool.loan().unwrap().freeze());
}

/// Through a process and on, by edges of that capacity.
pub(crate) fn leaves_no_blocks_when_stopped<T>(
    capacity: usize,
    item: impl Fn(&BlockPool) -> T + Send + 'static,
) where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let memory = Memory::with_blocks(64, 4096).unwrap();
    let pool = memory.pool().unwrap().clone();
    let mut graph = Graph::new();
    graph.set_memory(&memory);
    let filled = pool.clone();
    let items = std::iter::repeat_with(move || item(&filled));
    let fill = graph.source("fill", Placement::Thread, items);
    let step = graph.node("step", Placement::Process, |_| map(|item: T| item)).add();
    let slow = graph
        .node("slow", Placement::Thread, |_| each(|_: T| sleep(Duration::from_millis(1))))
        .add();
    graph.edge(fill.output(), step.input()).capacity(capacity).add();
    graph.edge(step.output(), slow.input()).capacity(capacity).add();
    let running = graph.start().unwrap();
    while running.report().node("slow").unwrap().items_in() < 20 {
        sleep(Duration::from_millis(1));
    }
    running.stop_now();
    assert!(matches!(running.wait(), Err(Error::Stopped)));
    pool.repair();
    assert_eq!(pool.in_use(), 0);
}

fn deadly(items: &'static [u64], on_error: OnError) -> (Result<Report, Error>, Vec<u64>) {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..500_u64);
    let step = graph
        .node("step", Process, |_| {
            map(|n: u64| {
                if items.contains(&n) {
                    testkit::kill9(std::process::id());
                }
                n
            })
        })
        .workers(2)
        .on_error(on_error)
        .add();
    let (sink, kept) = keep(&mut graph, "sink");
    graph.connect(numbers.output(), step.input());
    graph.connect(step.output(), sink.input());
    let result = graph.run();
    let mut items = taken(&kept);
    items.sort_unstable();
    (result, items)
}

fn an_item_that_kills_ends_in_quarantine() {
    let (report, items) = deadly(&[321], OnError::retry(2).or_skip());
    let report = report.unwrap();
    assert_eq!(items, (0..500).filter(|n| *n != 321).collect::<Vec<_>>());
    let workers = &report.node("step").unwrap().workers;
    assert_eq!(workers.iter().map(|worker| worker.quarantined).sum::<u64>(), 1, "{report}");
    assert_eq!(workers.iter().map(|worker| worker.restarts).sum::<u64>(), 3, "{report}");
}

/// Some of them are in the same message.
fn all_items_that_kill_end_in_quarantine() {
    let kill = &[3, 4, 320, 321, 323, 324, 340, 499];
    let (report, items) = deadly(kill, OnError::retry(1).or_skip());
    let report = report.unwrap();
    assert_eq!(items, (0..500).filter(|n| !kill.contains(n)).collect::<Vec<_>>());
    let workers = &report.node("step").unwrap().workers;
    assert_eq!(workers.iter().map(|worker| worker.quarantined).sum::<u64>(), 8, "{report}");
    assert_eq!(workers.iter().map(|worker| worker.restarts).sum::<u64>(), 16, "{report}");
}

/// After exactly as many deaths as are said.
fn quarantine_after_so_many_deaths() {
    for times in 1..4 {
        let (report, items) = deadly(&[321], OnError::quarantine(times));
        let report = report.unwrap();
        assert_eq!(items, (0..500).filter(|n| *n != 321).collect::<Vec<_>>(), "{times}");
        let workers = &report.node("step").unwrap().workers;
        let sum = |of: fn(&msgproc::flow::WorkerReport) -> u64| workers.iter().map(of).sum::<u64>();
        assert_eq!(sum(|worker| worker.quarantined), 1, "{times}: {report}");
        assert_eq!(sum(|worker| worker.restarts), u64::from(times), "{report}");
    }
}

fn an_item_that_kills_too_often_fails_the_run() {
    let Err(Error::Failed(failure)) = deadly(&[321], OnError::retry(2)).0 else {
        panic!("it ended well")
    };
    assert_eq!((failure.kind, failure.item), (FailureKind::Died, Some(321)), "{failure}");
    assert!(failure.message.contains("3 times"), "{failure}");
}
