//! Words of a live segment overwritten at random, between operations of both ends: the outcome is
//! an error or wrong data, never a panic, a signal or a hang.
//!
//! The overwriting is done from outside, by writes to the memory's file. It happens while nothing
//! is claimed or being read, so that payload may be hit too.

use std::{fs::File, os::fd::AsFd, os::unix::fs::FileExt, process::ExitCode, time::Duration};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::alarm,
};
use shmring::{
    Segment,
    ring::{cells::Cells, records::Records},
};

/// Overwritings in one process, on top of each other within a segment now and then.
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

fn records(variants: u64, random: &mut Random) {
    let segment = small();
    let ring = Records::options().capacity(1024).create_in(&segment).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let memory = memory(&segment);
    for _ in 0..variants {
        overwrite(&memory, random);
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

fn cells(variants: u64, random: &mut Random) {
    let segment = small();
    let ring = Cells::<[u64; 3]>::options().capacity(16).create_in(&segment).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let memory = memory(&segment);
    for _ in 0..variants {
        overwrite(&memory, random);
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

/// All variants, each child with a seed of its own; a failure names it.
fn in_children(first_seed: u64, body: fn(u64, &mut Random)) {
    let variants = std::env::var("SHMRING_CORRUPT_VARIANTS").ok();
    let variants: u64 = variants.and_then(|text| text.parse().ok()).unwrap_or(10_000);
    for number in 0..variants.div_ceil(VARIANTS_OF_A_CHILD) {
        let seed = first_seed + number;
        let child = testkit::forked(|| {
            alarm::set(CHILD_SECONDS);
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            // A few lies on top of each other.
            for _ in 0..VARIANTS_OF_A_CHILD / 5 {
                body(5, &mut random);
            }
        });
        let status = waitpid(child, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(child, 0), "seed {seed:#x}");
    }
}

fn words_of_records() {
    in_children(0x1000_0000, records);
}

fn words_of_cells() {
    in_children(0x2000_0000, cells);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(words_of_records, timeout = 100_000),
        testkit::test!(words_of_cells, timeout = 100_000),
    ])
}
