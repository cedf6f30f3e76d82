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
    block::{Block, BlockPool},
    ring::{
        broadcast::{self, Broadcast},
        cells::Cells,
        latest::{self, Latest},
        queue::{self, Queue},
        records::Records,
    },
};

/// Overwritings in one process, five on top of each other in each segment.
const VARIANTS_OF_A_CHILD: u64 = 100;
/// A child that takes as long as this hangs.
const CHILD_SECONDS: u32 = 20;

/// How long anything is waited for.
const SHORT: Duration = Duration::from_micros(30);

/// What is overwritten while it is in use.
#[derive(Clone, Copy)]
enum Subject {
    Ring(Kind),
    /// Blocks that lie in the places of a queue, a latest value and a broadcast ring.
    Places,
}

impl Subject {
    /// The seeds of one are none of another's.
    fn number(self) -> u64 {
        match self {
            Subject::Ring(kind) => kind as u64,
            Subject::Places => Kind::ALL.len() as u64,
        }
    }

    fn name(self) -> String {
        match self {
            Subject::Ring(kind) => format!("{kind:?}").to_lowercase(),
            Subject::Places => "places".into(),
        }
    }

    fn run(self, rounds: u64, random: &mut Random, lie: &mut dyn FnMut(&File)) {
        match self {
            Subject::Ring(kind) => use_ring(kind, rounds, random, lie),
            Subject::Places => use_places(rounds, lie),
        }
    }
}

fn use_places(rounds: u64, lie: &mut dyn FnMut(&File)) {
    type Message = (u32, Block);
    let segment = Segment::options().len(24 << 10).participants(3).objects(5).bells(1);
    let segment = segment.anonymous().unwrap();
    let memory = memory::file_of(&segment).unwrap();
    let pool = BlockPool::options().blocks(6).block_len(256).carriers(4).create_in(&segment);
    let pool = pool.unwrap();
    let queue = Queue::options().capacity(4).item_len(40).ends(2).create_in(&segment).unwrap();
    let (mut jobs, mut job) = queue::port::ends::<Message>(&queue).unwrap();
    let latest = Latest::<[u8]>::options().max_len(64).slots(2).create_in(&segment).unwrap();
    let (mut writer, mut reader) = latest::port::ends::<Message>(&latest).unwrap();
    let ring = Broadcast::options().capacity(512).create_in(&segment).unwrap();
    let mut tx = broadcast::port::Sender::<Message>::new(ring.producer().unwrap(), 2);
    let mut rx = broadcast::port::Receiver::<Message>::new(ring.consumer().unwrap());
    let lossy = ring.join().lossy().consumer().unwrap();
    let mut lossy = broadcast::port::Receiver::<Message>::new(lossy);
    let sum = |(_, block): &Message| block.as_bytes().iter().fold(0, |sum, at| sum ^ at);
    let mut kept = None;
    for _ in 0..rounds {
        lie(&memory);
        for round in 0..4 {
            if let Ok(mut loan) = pool.try_loan() {
                loan.as_bytes_mut().fill(7);
                let message = (round, loan.freeze());
                let _ = jobs.try_send_ref(&message);
                let _ = writer.set_ref(&message);
                let _ = tx.try_send_ref(&message);
                let _ = jobs.send_timeout(message, SHORT);
            }
            if let Ok(message) = job.try_recv() {
                std::hint::black_box(sum(&message));
                let _ = message.ack();
            }
            let _ = job.recv_timeout(SHORT).map(|message| message.nack());
            let _ = reader.try_get().map(|message| sum(&message));
            kept = reader.recv_timeout(SHORT).ok();
            let _ = rx.try_recv().map(|message| sum(&message));
            let _ = lossy.recv_timeout(SHORT).map(|message| sum(&message));
        }
        let _ = (job.discard(), writer.clear());
        pool.repair();
        let _ = (pool.in_use(), queue.stats(), latest.stats(), ring.stats());
    }
    let _ = tx.discard();
    drop(kept);
}

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
fn between(subject: Subject) {
    in_children((1 + subject.number()) << 28, |random| {
        for _ in 0..VARIANTS_OF_A_CHILD / 5 {
            let mut liar = Random::new(random.any());
            subject.run(5, random, &mut |memory| memory::overwrite(memory, &mut liar));
        }
    });
}

/// Another process that overwrites all the time, for some milliseconds.
fn meanwhile(subject: Subject) {
    let first_seed = (17 + subject.number()) << 28;
    for seed in first_seed..first_seed + 40 {
        let worker = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            let mut liar = None;
            let until = Instant::now() + Duration::from_millis(25);
            subject.run(100, &mut Random::new(seed), &mut |memory| {
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
    let test = |what: &str, subject: Subject, body: fn(Subject)| {
        let name = format!("{what}_{}", subject.name());
        testkit::Test::new(name, move || body(subject)).timeout(Duration::from_secs(100_000))
    };
    let subjects = || Kind::ALL.into_iter().map(Subject::Ring).chain([Subject::Places]);
    let words = subjects().map(|subject| test("words_of", subject, between));
    let live = subjects().map(|subject| test("words_meanwhile_of", subject, meanwhile));
    let attaching = testkit::test!(words_before_attaching, timeout = 100_000);
    testkit::run(words.chain(live).chain([attaching]))
}
