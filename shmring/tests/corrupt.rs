//! Words of a segment overwritten at random, between operations of both ends, meanwhile by another
//! process, and before somebody attaches: the outcome is an error or wrong data, never a panic, a
//! signal or a hang.
//!
//! The overwriting is done from outside, by writes to the memory's file.

use std::{
    fs::File,
    process::ExitCode,
    time::{Duration, Instant},
};

use liar::{
    Random, memory,
    rings::{Kind, Ring, small_segment},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::alarm,
};
use shmring::{
    Segment,
    ring::{broadcast::Broadcast, cells::Cells, latest::Latest, queue::Queue, records::Records},
};

/// Overwritings in one process, five on top of each other in each segment.
const VARIANTS_OF_A_CHILD: u64 = 100;
/// A child that takes as long as this hangs.
const CHILD_SECONDS: u32 = 20;

/// A ring of this kind in use; a lie before each of the rounds.
fn use_ring(kind: Kind, rounds: u64, random: &mut Random, lie: &mut dyn FnMut(&File)) {
    let segment = small_segment().unwrap();
    let ring = Ring::make(kind, &segment).unwrap();
    let memory = memory::file_of(&segment).unwrap();
    let mut ends = ring.ends();
    for _ in 0..rounds {
        lie(&memory);
        for _ in 0..4 {
            ends.round(random);
        }
        ends.look();
    }
}

/// All variants, each child with a seed of its own; a failure names it.
fn in_children(first_seed: u64, mut body: impl FnMut(&mut Random)) {
    let variants = std::env::var("SHMRING_CORRUPT_VARIANTS").ok();
    let variants: u64 = variants.and_then(|text| text.parse().ok()).unwrap_or(5_000);
    for number in 0..variants.div_ceil(VARIANTS_OF_A_CHILD) {
        let seed = first_seed + number;
        let child = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            body(&mut Random::new(seed));
        });
        let status = waitpid(child, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(child, 0), "seed {seed:#x}");
    }
}

/// Lies between the operations, five on top of each other.
fn between(kind: Kind) {
    in_children((1 + kind as u64) << 28, |random| {
        for _ in 0..VARIANTS_OF_A_CHILD / 5 {
            let mut liar = Random::new(random.any());
            use_ring(kind, 5, random, &mut |memory| memory::overwrite(memory, &mut liar));
        }
    });
}

/// Another process that overwrites all the time, for some milliseconds.
fn meanwhile(kind: Kind) {
    let first_seed = (17 + kind as u64) << 28;
    for seed in first_seed..first_seed + 40 {
        let worker = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            let mut liar = None;
            let until = Instant::now() + Duration::from_millis(25);
            use_ring(kind, 100, &mut Random::new(seed), &mut |memory| {
                if Instant::now() < until {
                    liar.get_or_insert_with(|| {
                        let parent = std::process::id();
                        testkit::forked(move || {
                            let mut random = Random::new(!seed);
                            while nix::unistd::getppid().as_raw() as u32 == parent {
                                (0..16).for_each(|_| memory::overwrite(memory, &mut random));
                            }
                        })
                    });
                }
            });
            if let Some(liar) = liar {
                let _ = kill(liar, Signal::SIGKILL);
                let _ = waitpid(liar, None);
            }
        });
        let status = waitpid(worker, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(worker, 0), "seed {seed:#x}");
    }
}

/// A named segment of each kind, overwritten while nobody uses it, and then opened as what it was.
fn words_before_attaching() {
    in_children(33 << 28, |random| {
        let name = testkit::name("corrupt");
        let path = format!("/dev/shm/shmring.{name}.ring");
        for _ in 0..VARIANTS_OF_A_CHILD {
            let kind = random.below(5);
            let segment = match kind {
                0 => Records::options().capacity(256).create(&name).unwrap().segment().clone(),
                1 => Cells::<u64>::options().capacity(8).create(&name).unwrap().segment().clone(),
                2 => Queue::options().capacity(4).create(&name).unwrap().segment().clone(),
                3 => Broadcast::options().capacity(256).create(&name).unwrap().segment().clone(),
                _ => Latest::<u64>::options().create(&name).unwrap().segment().clone(),
            };
            segment.keep();
            drop(segment);
            let file = File::options().read(true).write(true).open(&path).unwrap();
            for _ in 0..=random.below(3) {
                memory::overwrite(&file, random);
            }
            let _ = Segment::observe(&name).map(|observer| observer.objects().len());
            let opened = match kind {
                0 => Records::open(&name).and_then(|ring| ring.split()).map(drop),
                1 => Cells::<u64>::open(&name).and_then(|ring| ring.split()).map(drop),
                2 => Queue::open(&name).and_then(|ring| ring.consumer()).map(drop),
                3 => Broadcast::open(&name).and_then(|ring| ring.consumer()).map(drop),
                _ => Latest::<u64>::open(&name).and_then(|value| value.writer()).map(drop),
            };
            if let Err(error) = opened {
                assert!(!error.to_string().is_empty());
            }
            std::fs::remove_file(&path).unwrap();
        }
    });
}

fn main() -> ExitCode {
    let test = |what: &str, kind: Kind, body: fn(Kind)| {
        let name = format!("{what}_{kind:?}").to_lowercase();
        testkit::Test::new(name, move || body(kind)).timeout(Duration::from_secs(100_000))
    };
    let words = Kind::ALL.map(|kind| test("words_of", kind, between));
    let live = Kind::ALL.map(|kind| test("words_meanwhile_of", kind, meanwhile));
    let attaching = testkit::test!(words_before_attaching, timeout = 100_000);
    testkit::run(words.into_iter().chain(live).chain([attaching]))
}
