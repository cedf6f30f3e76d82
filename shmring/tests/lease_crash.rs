//! Kills a receiver that leases its messages at each point that it passes, and its successor there
//! again: what it has not released comes again, in order and whole, and every block comes back.

#![allow(clippy::disallowed_methods)] // These tests are about what a fork leaves.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
    sync::OnceLock,
};

use shmring::{
    RecvError,
    block::{Block, BlockPool},
    board::Board,
    fault,
    ring::{
        port::{MessageError, Receiver, Sender},
        records::Records,
    },
};
use testkit::died_by_kill;

type Message = (u64, Vec<Block>);

const BLOCKS: usize = 24;
const MESSAGES: u64 = 8;

/// All that a test shares.
struct Bench {
    pool: BlockPool,
    ring: Records,
    /// Where what was leased goes on to.
    onward: Records,
    /// In its word 0: how many messages have been released for certain.
    board: Board,
}

impl Bench {
    fn new() -> Bench {
        let pool =
            BlockPool::options().blocks(BLOCKS).block_len(64).prefault(false).anonymous().unwrap();
        let ring = || {
            let ring = Records::options().capacity(4096).prefault(false);
            ring.create_in(pool.segment()).unwrap()
        };
        let (ring, onward) = (ring(), ring());
        let board = Board::options().words(1).bells(1).anonymous().unwrap();
        Bench { pool, ring, onward, board }
    }

    fn filled(&self, byte: u8) -> Block {
        let mut loan = self.pool.try_loan().unwrap();
        loan.as_bytes_mut().fill(byte);
        loan.freeze()
    }

    /// Messages without blocks, with one that moves, with one that is held here too, with two, and
    /// with the same block twice.
    fn send_all(&self) -> (Sender<Message>, Vec<Block>) {
        let mut tx = Sender::<Message>::new(self.ring.producer().unwrap());
        let mut held = Vec::new();
        for number in 0..MESSAGES {
            let block = || self.filled(number as u8);
            let blocks = match number % 5 {
                0 => vec![block()],
                1 => {
                    held.push(block());
                    vec![held[held.len() - 1].clone()]
                }
                2 => vec![],
                3 => vec![block(), block()],
                _ => {
                    let block = block();
                    vec![block.clone(), block]
                }
            };
            tx.send((number, blocks)).unwrap();
        }
        (tx, held)
    }

    /// Leases and releases until nothing is left. What it leases it drops before the release,
    /// after it, or sends on before.
    fn lease_all(&self) {
        let mut rx = Receiver::<Message>::new(self.ring.consumer().unwrap());
        let mut tx = Sender::<Message>::new(self.onward.producer().unwrap());
        loop {
            // Leased once more, it is the same.
            match rx.try_lease() {
                Ok(leased) => check(&leased),
                Err(MessageError::Ring(RecvError::Empty)) => break,
                Err(error) => panic!("{error}"),
            }
            let (message, lease) = rx.try_lease().unwrap().split();
            check(&message);
            let number = message.0;
            match number % 3 {
                0 => {
                    drop(message);
                    lease.release().unwrap();
                }
                1 => {
                    lease.release().unwrap();
                    drop(message);
                }
                _ => {
                    tx.send(message).unwrap();
                    lease.release().unwrap();
                }
            }
            self.board.store(0, number + 1);
        }
        std::mem::forget((rx, tx)); // They die with it, rather than closing their rings.
    }
}

fn check((number, blocks): &Message) {
    assert_eq!(blocks.len(), [1, 1, 0, 2, 2][*number as usize % 5], "message {number}");
    let whole = |block: &Block| block.as_bytes().iter().all(|byte| u64::from(*byte) == *number);
    assert!(blocks.iter().all(whole), "message {number} is torn");
}

static PASSED: OnceLock<File> = OnceLock::new();

fn look(point: &'static str) {
    if let Some(mut passed) = PASSED.get() {
        passed.write_all(format!("{point}\n").as_bytes()).unwrap();
    }
}

/// All points that a receiver passes, and how often.
fn points() -> BTreeMap<String, u32> {
    let bench = Bench::new();
    let _sent = bench.send_all();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let child = testkit::forked(|| {
        PASSED.set(File::from(OwnedFd::from(writing.try_clone().unwrap()))).unwrap();
        fault::watch(look);
        bench.lease_all();
    });
    drop(writing);
    let mut names = String::new();
    reading.read_to_string(&mut names).unwrap();
    assert!(!died_by_kill(child));
    let mut points = BTreeMap::new();
    names.lines().for_each(|name| *points.entry(name.to_owned()).or_default() += 1);
    points
}

/// Kills as many receivers at the `n`-th pass of a point, one after the other.
fn kill(point: &str, n: u32, receivers: usize) {
    let what = format!("{receivers} killed at {point}, pass {n}");
    let bench = Bench::new();
    let (mut tx, held) = bench.send_all();
    for receiver in 0..receivers {
        let child = testkit::forked(|| {
            fault::arm(point, n);
            bench.lease_all();
        });
        assert!(died_by_kill(child) || receiver > 0, "{what}");
        bench.pool.repair();
    }
    let released = bench.board.load(0);
    let mut rx = Receiver::<Message>::new(bench.ring.consumer().unwrap());
    let mut next = None;
    while let Ok(leased) = rx.try_lease() {
        check(&leased);
        // The last release of each of them may have been, and nobody heard of it.
        let first = leased.0 >= released && leased.0 <= released + receivers as u64;
        assert!(next.map_or(first, |next| leased.0 == next), "{what}: {} comes", leased.0);
        next = Some(leased.0 + 1);
        leased.release().unwrap();
    }
    assert!(
        next.map_or(released + receivers as u64 >= MESSAGES, |next| next == MESSAGES),
        "{what}"
    );
    // What was sent on is whole, and not more than once for each who sent it.
    let mut onward = Receiver::<Message>::new(bench.onward.consumer().unwrap());
    let mut times = BTreeMap::<u64, usize>::new();
    while let Ok(message) = onward.try_recv() {
        check(&message);
        *times.entry(message.0).or_default() += 1;
    }
    assert!(times.values().all(|times| *times <= receivers), "{what}: {times:?}");
    // The ring goes on.
    tx.send((5, vec![bench.filled(5)])).unwrap();
    check(&rx.try_lease().unwrap().release().unwrap());
    // Those who sent on have died: a successor undoes what they had begun.
    let mut tx = Sender::<Message>::new(bench.onward.producer().unwrap());
    tx.send((5, vec![bench.filled(5)])).unwrap();
    check(&onward.try_recv().unwrap());
    drop(held);
    bench.pool.repair();
    assert_eq!(bench.pool.in_use(), 0, "{what}");
}

fn a_lessee_dies_at_every_point() {
    let points = points();
    for point in ["port.lease.read", "port.lease.arrived", "port.lease.done"] {
        assert!(points.contains_key(point), "{point} is never passed");
    }
    for (point, passes) in &points {
        for n in 1..=(*passes).min(12) {
            kill(point, n, 1);
        }
        kill(point, 1, 2);
        kill(point, 2.min(*passes), 3);
    }
    println!("{} points", points.len());
}

fn main() -> ExitCode {
    testkit::run([testkit::test!(a_lessee_dies_at_every_point, timeout = 120)])
}
