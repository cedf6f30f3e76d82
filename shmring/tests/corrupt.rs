//! Words of a segment overwritten at random, between operations of both ends, meanwhile by another
//! process, and before somebody attaches: the outcome is an error or wrong data, never a panic, a
//! signal or a hang. Other kinds of rings have such tests of their own beside their code.
//!
//! The overwriting is done from outside, by writes to the memory's file.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    process::ExitCode,
    time::{Duration, Instant},
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
        port,
        queue::{self, Queue},
        records::Records,
    },
};

/// Overwritings in one process, five on top of each other in each segment.
const VARIANTS_OF_A_CHILD: u64 = 100;
/// A child that takes as long as this hangs.
const CHILD_SECONDS: u32 = 20;
const SHORT: Duration = Duration::from_micros(50);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn memory(segment: &Segment) -> File {
    segment.as_fd().try_clone_to_owned().unwrap().into()
}

fn read(memory: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}

/// Overwrites one word that is in use: those that are zero mostly are not.
fn overwrite(memory: &File, random: &mut Random) {
    let words = memory.metadata().unwrap().len() / 8;
    let any_word = |random: &mut Random| {
        let tries = (0..64).map(|_| random.below(words) * 8);
        let tries: Vec<u64> = tries.collect();
        let used = tries.iter().find(|at| read(memory, **at) != 0);
        *used.unwrap_or(&tries[0])
    };
    let at = any_word(random);
    let (old, any) = (read(memory, at), random.next());
    let new = match random.below(7) {
        0 => 0,
        1 => u64::MAX,
        2 => any,
        3 => old ^ 1 << (any % 64),
        4 => any % 300,
        5 => read(memory, any_word(random)),
        _ => old.wrapping_add(any % 9).wrapping_sub(4),
    };
    let bytes = new.to_le_bytes();
    match random.below(4) {
        0 => memory.write_all_at(&bytes[..1], at + any % 8),
        1 => memory.write_all_at(&bytes[..4], at + 4 * (any % 2)),
        _ => memory.write_all_at(&bytes, at),
    }
    .unwrap();
}

fn small() -> Segment {
    Segment::options().len(16 << 10).participants(3).objects(4).bells(1).anonymous().unwrap()
}

/// Tells lies one by one, or has told them already for as long as the body runs.
type Lie<'a> = &'a mut dyn FnMut(&Segment);

fn records(variants: u64, random: &mut Random, lie: Lie<'_>) {
    let segment = small();
    let ring = Records::options().capacity(1024).create_in(&segment).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    for _ in 0..variants {
        lie(&segment);
        for _ in 0..4 {
            let len = random.below(200) as usize;
            let _ = tx.try_send(vec![1; len]);
            let _ = tx.send_timeout([2; 8], SHORT);
            let mut batch = tx.batch();
            let _ = batch.try_push([3; 8]);
            batch.publish();
            let _ = rx.try_recv().map(|record| record.iter().fold(0, |sum, byte| sum ^ byte));
            let _ = rx.recv_timeout(SHORT).map(|record| record.len());
            tx.arm(len);
            rx.arm();
        }
        let _ = (ring.stats(), segment.participants(), tx.is_closed(), rx.is_closed());
        let _ = (ring.producer().is_ok(), ring.consumer().is_ok());
    }
}

fn cells(variants: u64, random: &mut Random, lie: Lie<'_>) {
    let segment = small();
    let ring = Cells::<[u64; 3]>::options().capacity(16).create_in(&segment).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    for _ in 0..variants {
        lie(&segment);
        for _ in 0..4 {
            let _ = tx.try_send([1; 3]);
            let _ = tx.send_timeout([2; 3], SHORT);
            let count = 1 + random.below(16) as usize;
            let _ = tx.try_claim_many(count).map(|cells| cells.commit());
            let _ = rx.try_recv().map(|item| item[0]);
            let _ = rx.run_timeout(SHORT).map(|run| run.iter().map(|item| item[2] >> 8).max());
            tx.arm();
            rx.arm();
        }
        let _ = (ring.stats(), tx.is_closed(), rx.is_closed());
        let _ = (ring.producer().is_ok(), ring.consumer().is_ok());
    }
}

/// Blocks that travel in messages over a ring.
fn blocks(variants: u64, _: &mut Random, lie: Lie<'_>) {
    let segment = small();
    let pool = BlockPool::options().blocks(4).block_len(256).carriers(2).create_in(&segment);
    let pool = pool.unwrap();
    let ring = Records::options().capacity(1024).create_in(&segment).unwrap();
    let (mut tx, mut rx) = port::ends::<(u32, Block)>(&ring).unwrap();
    let mut kept = None;
    for _ in 0..variants {
        lie(&segment);
        for round in 0..4 {
            if let Ok(mut loan) = pool.try_loan() {
                loan.as_bytes_mut().fill(7);
                let block = loan.freeze();
                let _ = tx.try_send((round, block.clone()));
                let _ = tx.send_timeout((round, block), SHORT);
            }
            let sum =
                |(_, block): &(u32, Block)| block.as_bytes().iter().fold(0, |sum, at| sum ^ at);
            let _ = rx.try_recv().map(|message| sum(&message));
            kept = rx.recv_timeout(SHORT).ok();
            let _ = pool.loan_timeout(SHORT).map(drop);
        }
        pool.repair();
        let _ = (pool.stats(), pool.in_use(), ring.stats());
        let _ = ring.consumer().is_ok();
    }
    drop(kept);
}

/// Blocks that lie in the places of a queue, a latest value and a broadcast ring.
fn places(variants: u64, _: &mut Random, lie: Lie<'_>) {
    type Message = (u32, Block);
    let segment = Segment::options().len(24 << 10).participants(3).objects(5).bells(1);
    let segment = segment.anonymous().unwrap();
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
    for _ in 0..variants {
        lie(&segment);
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

/// All variants, each child with a seed of its own; a failure names it.
fn in_children(first_seed: u64, mut body: impl FnMut(&mut Random)) {
    let variants = std::env::var("SHMRING_CORRUPT_VARIANTS").ok();
    let variants: u64 = variants.and_then(|text| text.parse().ok()).unwrap_or(10_000);
    for number in 0..variants.div_ceil(VARIANTS_OF_A_CHILD) {
        let seed = first_seed + number;
        let child = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            body(&mut random);
        });
        let status = waitpid(child, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(child, 0), "seed {seed:#x}");
    }
}

type Body = fn(u64, &mut Random, Lie<'_>);

/// Lies between the operations, five on top of each other.
fn between(first_seed: u64, body: Body) {
    in_children(first_seed, |random| {
        for _ in 0..VARIANTS_OF_A_CHILD / 5 {
            let mut liar = Random(random.next() | 1);
            let mut file = None;
            body(5, random, &mut |segment| {
                overwrite(file.get_or_insert_with(|| memory(segment)), &mut liar);
            });
        }
    });
}

/// Another process that overwrites all the time, for some milliseconds.
fn meanwhile(first_seed: u64, body: Body) {
    for seed in first_seed..first_seed + 40 {
        let worker = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut liar = None;
            let until = Instant::now() + Duration::from_millis(25);
            body(100, &mut random, &mut |segment| {
                if Instant::now() < until {
                    liar.get_or_insert_with(|| {
                        let (memory, parent) = (memory(segment), std::process::id());
                        testkit::forked(move || {
                            let mut random = Random(seed | 1);
                            while nix::unistd::getppid().as_raw() as u32 == parent {
                                (0..16).for_each(|_| overwrite(&memory, &mut random));
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

fn words_of_records() {
    between(0x1000_0000, records);
}

fn words_of_cells() {
    between(0x2000_0000, cells);
}

fn words_of_blocks() {
    between(0x3000_0000, blocks);
}

fn words_of_places() {
    between(0x8000_0000, places);
}

fn places_meanwhile() {
    meanwhile(0x9000_0000, places);
}

fn records_meanwhile() {
    meanwhile(0x4000_0000, records);
}

fn cells_meanwhile() {
    meanwhile(0x5000_0000, cells);
}

fn blocks_meanwhile() {
    meanwhile(0x6000_0000, blocks);
}

/// A named segment of each kind, overwritten while nobody uses it, and then opened as what it was.
fn words_before_attaching() {
    in_children(0x7000_0000, |random| {
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
            let memory = File::options().read(true).write(true).open(&path).unwrap();
            for _ in 0..=random.below(3) {
                overwrite(&memory, random);
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
    testkit::run([
        testkit::test!(words_of_records, timeout = 100_000),
        testkit::test!(words_of_cells, timeout = 100_000),
        testkit::test!(words_of_blocks, timeout = 100_000),
        testkit::test!(words_of_places, timeout = 100_000),
        testkit::test!(places_meanwhile),
        testkit::test!(records_meanwhile),
        testkit::test!(cells_meanwhile),
        testkit::test!(blocks_meanwhile),
        testkit::test!(words_before_attaching, timeout = 100_000),
    ])
}
