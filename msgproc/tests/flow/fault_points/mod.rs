//! Processes of a run that are killed at each step of the engine's protocol, one after the other.
//!
//! Which steps there are is seen and not listed here: a run tells all the points that its victim
//! passes, those of the rings and blocks underneath too. Then it is killed at each of them: at its
//! first pass, at a later one, its replacement there again, and its replacement wherever only that
//! one comes by. `every_step_is_killed_at` holds the points that were seen against those that the
//! engine has.

mod shapes;
mod victim;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::flow::Graph;
use shmring::fault;

use self::{
    shapes::{COUNT, Check, SHAPES, Shape},
    victim::{TEST, look},
};
use crate::{common::taken, long::spilled};

pub(crate) fn tests() -> Vec<testkit::Test> {
    // With the time for everything, everything is tried.
    let soaks = testkit::soak_time() > Duration::from_secs(4);
    let shapes = SHAPES.iter().map(|shape| {
        let name = format!("killed_at_every_step_of_{}", shape.name);
        testkit::Test::new(name, move || {
            let how = match (soaks, shape.is_like_another) {
                (true, _) => How::Wholly,
                (false, true) => How::Once,
                (false, false) => How::Well,
            };
            drop(walk(shape, how))
        })
        .timeout(Duration::from_secs(600))
    });
    shapes.chain([testkit::test!(every_step_is_killed_at, timeout = 600)]).collect()
}

/// A death: at which point, and the how manieth pass.
type DeathAt<'a> = (&'a str, u64);

/// How often each point was passed.
type Passed = BTreeMap<String, u64>;

/// Runs a shape with these deaths, the later ones those of replacements, and looks at what comes
/// out. Gives what was passed, and how many of the deaths there were.
fn run(shape: &Shape, deaths: &[DeathAt<'_>]) -> (Passed, usize) {
    words::clear();
    let board = words::of_this_test();
    for (number, (point, pass)) in deaths.iter().enumerate() {
        let plan = words::PLANS + number * words::ENTRY;
        board.store(plan, *pass);
        words::write_name(plan, point);
    }
    board.store(words::PLANNED, deaths.len() as u64);
    let what = || format!("{} killed at {deaths:?}", shape.name);

    let mut graph = Graph::new();
    let kept = (shape.make)(&mut graph);
    let began = Instant::now();
    board.store(words::STOPS, shape.stops.into());
    let running = graph.start().unwrap();
    while !running.is_finished() {
        let late = began.elapsed() > Duration::from_secs(10);
        assert!(!late, "{} hangs:\n{}", what(), running.report());
        if shape.stops && (board.load(words::HELD) != 0 || kept.lock().unwrap().len() > 60) {
            running.stop();
            board.store(words::GO, 1);
        }
        sleep(Duration::from_micros(200));
    }
    // Whoever died at what, no memory of a long item is left; and nobody reads what is in a lane
    // whose receiver has ended.
    assert_eq!(spilled().0, 0, "{}", what());
    let report = running.wait().unwrap_or_else(|error| panic!("{}: {error}", what()));
    let mut items = taken(&kept);
    let died = board.load(words::DIED);
    if items.is_empty() {
        for item in 0..COUNT {
            // Who dies while it handles an item handles it again.
            let times = board.load(words::ITEMS + item as usize);
            assert!(times >= 1 && times <= died + 1, "{}: {item} {times} times", what());
            items.push(item);
        }
    }
    match shape.check {
        Check::InOrder(expected) => assert_eq!(items, expected(), "{}\n{report}", what()),
        Check::AnyOrder(expected) => {
            items.sort_unstable();
            assert_eq!(items, expected(), "{}\n{report}", what());
        }
        Check::As(right) => assert!(right(&items), "{}: {items:?}\n{report}", what()),
    }
    assert_eq!(report.blocks_in_use, 0, "{}\n{report}", what());
    // One that dies after its last word is not missed.
    let step = report.node("step").unwrap();
    let few = step.workers.iter().all(|worker| worker.restarts <= died);
    assert!(few, "{}\n{report}", what());
    let entry = |number: u64| words::POINTS + number as usize * words::ENTRY;
    let seen = (0..board.load(words::SEEN)).map(entry);
    (seen.map(|entry| (words::name(entry), board.load(entry))).collect(), died as usize)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// At a few points: that shows most of those that there are.
    Briefly,
    /// Once at each point of the engine: that shows all of them.
    Once,
    /// At each point.
    Well,
    /// At each point, and at each that only a replacement passes after each of them.
    Wholly,
}

/// Kills the victim of a shape wherever it comes by. Gives the points that were passed.
fn walk(shape: &'static Shape, how: How) -> BTreeSet<String> {
    TEST.store(std::process::id(), Ordering::Relaxed);
    fault::watch(look);
    let began = Instant::now();
    let mut runs = 0;
    let mut kill = |deaths: &[DeathAt<'_>]| {
        runs += 1;
        run(shape, deaths)
    };
    let (quiet, _) = kill(&[]);
    assert!(quiet.keys().any(|point| point.starts_with("flow.")), "{quiet:?}");
    let mut all: BTreeSet<String> = quiet.keys().cloned().collect();
    // What only a replacement passes, and the deaths before.
    let mut of_replacements: BTreeMap<String, Vec<Vec<DeathAt<'_>>>> = BTreeMap::new();
    for (point, passes) in &quiet {
        // What lies underneath has tests of its own at each pass.
        let ours = point.starts_with("flow.");
        let later = (passes / 2).max(1);
        let passes = match (how, ours) {
            (How::Briefly, _) if !point.starts_with("flow.item.") => &[][..],
            (How::Once, false) => &[][..],
            (How::Briefly | How::Once, _) | (How::Well, false) => &[1][..],
            _ => &[1, later][..],
        };
        for (at, pass) in passes.iter().enumerate() {
            let once = vec![(&**point, *pass)];
            let mut twice = once.clone();
            twice.push((point, 1));
            let again = match how {
                How::Briefly | How::Once => point.starts_with("flow.item."),
                How::Well => ours && at == 0,
                How::Wholly => true,
            };
            for deaths in [Some(once), Some(twice).filter(|_| again)].into_iter().flatten() {
                let (mut passed, mut died) = kill(&deaths);
                // Whether anybody sleeps at a bell, or comes late, is a matter of luck.
                let mut tries = if at == 0 && ours { 5 } else { 0 };
                while died == 0 && tries > 0 {
                    (passed, died) = kill(&deaths);
                    tries -= 1;
                }
                let seen = died > 0 || at > 0 || !ours || point == "flow.take.late";
                assert!(seen, "{point} is passed in one run only");
                for new in passed.into_keys().filter(|other| !quiet.contains_key(other)) {
                    of_replacements.entry(new).or_default().push(deaths.clone());
                }
            }
        }
    }
    for (then, origins) in &of_replacements {
        all.insert(then.clone());
        let most = match how {
            How::Briefly | How::Once => 0,
            How::Well => 1,
            How::Wholly => usize::MAX,
        };
        let step = origins.len().div_ceil(most.max(1)).max(1);
        for origin in origins.iter().step_by(step).take(most) {
            kill(&[&origin[..], &[(then, 1), (then, 1)]].concat());
        }
    }
    println!("{}: {runs} runs in {:?}, {} points", shape.name, began.elapsed(), all.len());
    all
}

/// What the engine has of points is passed in one shape at least, and so killed at in the other
/// tests.
fn every_step_is_killed_at() {
    let mut passed: BTreeSet<String> =
        SHAPES.iter().flat_map(|shape| walk(shape, How::Briefly)).collect();
    let missed = |passed: &BTreeSet<String>| -> Vec<&str> {
        msgproc::fault::ALL.iter().copied().filter(|point| !passed.contains(*point)).collect()
    };
    // The rare ones are in the last shapes.
    for shape in SHAPES.iter().rev() {
        if missed(&passed).is_empty() {
            break;
        }
        passed.extend(walk(shape, How::Once));
    }
    let missed = missed(&passed);
    assert!(missed.is_empty(), "no shape passes {missed:?}");
}
