//! The newest message with blocks in it, between processes that are killed at every step: readers
//! get whole messages, and every block comes back.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    collections::BTreeSet,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use shmring::{
    RecvError,
    block::{Block, BlockPool},
    fault,
    ring::{
        latest::{
            Latest,
            port::{Reader, Writer},
        },
        port::MessageError,
    },
};
use testkit::{died_by_kill, forked as child};

const LATE: Duration = Duration::from_secs(20);
const BLOCKS: usize = 8;

/// A number, a block of its own, and one that is in each.
type Two = (u64, Block, Block);

fn pool() -> BlockPool {
    BlockPool::options().blocks(BLOCKS).block_len(1024).prefault(false).anonymous().unwrap()
}

fn board(pool: &BlockPool) -> Latest<[u8]> {
    Latest::<[u8]>::options().max_len(80).prefault(false).create_in(pool.segment()).unwrap()
}

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.loan_timeout(LATE).unwrap();
    loan.array_mut::<u64, _>(128).unwrap().fill(number);
    loan.freeze()
}

fn check(message: &Two) -> u64 {
    let whole = |block: &Block, number| {
        let array = block.array::<u64, _>(128).unwrap();
        assert!(array.iter().all(|element| *element == number), "block of {number} is torn");
    };
    whole(&message.1, message.0);
    whole(&message.2, 1000);
    message.0
}

/// Another writer goes on, and everything can be given back.
fn check_all(pool: &BlockPool, board: &Latest<[u8]>, what: &str) {
    pool.repair();
    let mut writer = Writer::<Two>::new(board.writer().unwrap());
    let mut reader = Reader::<Two>::new(board.reader());
    let common = filled(pool, 1000);
    for next in 1..5 {
        writer.set((next, filled(pool, next), common.clone())).unwrap();
        assert_eq!(pool.in_use(), 2, "{what}: the newest and no more");
        assert_eq!(check(&reader.recv().unwrap()), next);
    }
    drop(common);
    writer.clear().unwrap();
    assert_eq!(pool.in_use(), 0, "{what}");
    assert_eq!(pool.stats().blocks, BLOCKS);
}

const WRITER_POINTS: [&str; 10] = [
    "block.loan.claimed",
    "block.freeze.shared",
    "block.place.laid",
    "latest.claimed",
    "latest.filled",
    "latest.published",
    "latest.port.replaced",
    "block.place.lifted",
    "block.free.freed",
    "block.release.left",
];

const READER_POINTS: [&str; 6] = [
    "latest.copied",
    "latest.port.copied",
    "block.hold.owned",
    "latest.port.held",
    "block.release.left",
    "block.free.freed",
];

fn every_point_is_in_a_table() {
    let mut points = BTreeSet::new();
    for file in ["ring/latest/cursor.rs", "ring/latest/port.rs", "block/places.rs"] {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("fault!(\"").skip(1) {
            points.insert(part.split('"').next().unwrap().to_owned());
        }
    }
    let tables = WRITER_POINTS.iter().chain(&READER_POINTS);
    let walked: BTreeSet<_> = tables.map(|point| (*point).to_owned()).collect();
    assert!(points.len() > 7);
    assert_eq!(points.difference(&walked).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn a_writer_dies_at_every_point() {
    for point in WRITER_POINTS {
        for pass in [1, 2, 3, 6] {
            a_writer_dies(point, pass);
        }
    }
}

fn a_writer_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let board = board(&pool);
    let (mut said, mut tell) = pipe().unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut writer = Writer::<Two>::new(board.writer().unwrap());
        let common = filled(&pool, 1000);
        for next in 1..=10 {
            writer.set((next, filled(&pool, next), common.clone())).unwrap();
            tell.write_all(&[next as u8]).unwrap();
        }
        std::mem::forget((writer, common)); // Goes without a word.
    });
    drop(tell);
    let killed = died_by_kill(dies);
    assert!(killed || pass > 1 || point.starts_with("block"), "{what} is never passed");
    let mut confirmed = vec![];
    said.read_to_end(&mut confirmed).unwrap();
    let confirmed = confirmed.len() as u64;
    pool.repair();
    // The newest message is whole, and held although its writer is dead.
    let mut reader = Reader::<Two>::new(board.reader());
    match reader.try_get() {
        Ok(message) => {
            let number = check(&message);
            assert!([confirmed, confirmed + 1].contains(&number), "{what}: {number}");
        }
        Err(_) => assert_eq!(confirmed, 0, "{what}"),
    }
    // At most what it had begun or not let go of is held besides.
    assert!(pool.in_use() <= 4, "{what}: {}", pool.in_use());
    check_all(&pool, &board, &what);
}

fn nobody_follows_but_to_clear() {
    for point in WRITER_POINTS {
        let pool = pool();
        let board = board(&pool);
        let dies = child(|| {
            fault::arm(point, 5);
            let mut writer = Writer::<Two>::new(board.writer().unwrap());
            let common = filled(&pool, 1000);
            for next in 1..=10 {
                writer.set((next, filled(&pool, next), common.clone())).unwrap();
            }
            shmring::os::kill_self();
        });
        assert!(died_by_kill(dies));
        pool.repair();
        Writer::<Two>::new(board.writer().unwrap()).clear().unwrap();
        assert_eq!(pool.in_use(), 0, "{point}");
    }
}

fn a_reader_dies_at_every_point() {
    for point in READER_POINTS {
        for pass in [1, 2, 5] {
            a_reader_dies(point, pass);
        }
    }
}

fn a_reader_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let board = board(&pool);
    let mut writer = Writer::<Two>::new(board.writer().unwrap());
    let common = filled(&pool, 1000);
    writer.set((1, filled(&pool, 1), common.clone())).unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut reader = Reader::<Two>::new(board.reader());
        let mut kept = None;
        while let Ok(message) = reader.recv() {
            check(&message);
            kept = Some(message);
        }
        drop(kept);
    });
    // The writer waits for nobody, and always finds a block: a reader has two at most.
    for next in 2..300 {
        writer.set((next, filled(&pool, next), common.clone())).unwrap();
        if next % 16 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop((writer, common));
    let killed = died_by_kill(dies);
    assert!(killed || pass > 1 || point.starts_with("block"), "{what} is never passed");
    pool.repair();
    assert_eq!(pool.in_use(), 2, "{what}: the newest message, which stays");
    check_all(&pool, &board, &what);
}

/// Readers in other processes, some of which are stopped or killed with a message in hand, while
/// the writer goes on.
fn readers_come_and_go() {
    let pool = BlockPool::options().blocks(16).block_len(1024).anonymous().unwrap();
    let board = board(&pool);
    let mut writer = Writer::<Two>::new(board.writer().unwrap());
    let common = filled(&pool, 1000);
    let reader = || {
        child(|| {
            let mut reader = Reader::<Two>::new(board.reader());
            let (mut last, mut kept) = (0, None::<Two>);
            let end = loop {
                let message = match reader.recv_timeout(LATE) {
                    Ok(message) => message,
                    Err(end) => break end,
                };
                let number = check(&message);
                assert!(number > last);
                last = number;
                kept.replace(message).as_ref().map(check);
            };
            assert_eq!(end, MessageError::Ring(RecvError::Closed));
        })
    };
    let all = [reader(), reader(), reader(), reader()];
    let until = Instant::now() + Duration::from_millis(400);
    let (mut next, mut killed) = (1, false);
    while Instant::now() < until {
        writer.set((next, filled(&pool, next), common.clone())).unwrap();
        if next == 100 {
            kill(all[0], Signal::SIGSTOP).unwrap();
        }
        if next == 500 {
            kill(all[1], Signal::SIGKILL).unwrap();
            killed = died_by_kill(all[1]);
        }
        next += 1;
    }
    kill(all[0], Signal::SIGCONT).unwrap();
    assert!(killed, "after {next} messages");
    drop((writer, common));
    for pid in [all[0], all[2], all[3]] {
        assert!(!died_by_kill(pid));
    }
    pool.repair();
    assert_eq!(pool.in_use(), 2);
    Writer::<Two>::new(board.writer().unwrap()).clear().unwrap();
    assert_eq!(pool.in_use(), 0);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(every_point_is_in_a_table),
        testkit::test!(a_writer_dies_at_every_point),
        testkit::test!(nobody_follows_but_to_clear),
        testkit::test!(a_reader_dies_at_every_point),
        testkit::test!(readers_come_and_go),
    ])
}
