//! Messages with blocks over a broadcast ring, between processes that are killed at every step: each
//! consumer reads whole messages in place, and every block comes back.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    collections::BTreeSet,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::Duration,
};

use nix::sys::{
    signal::{Signal, kill},
    wait::{WaitStatus, waitpid},
};
use shmring::{
    RecvError,
    block::{Block, BlockPool},
    fault,
    ring::{
        broadcast::{
            Broadcast,
            port::{Receiver, Sender},
        },
        port::MessageError,
    },
};
use testkit::{died_by_kill, forked as child};

const LATE: Duration = Duration::from_secs(20);
const BLOCKS: usize = 12;
const KEEP: usize = 3;

/// A number, a block of its own, and one that is in each.
type Two = (u64, Block, Block);

fn pool() -> BlockPool {
    BlockPool::options().blocks(BLOCKS).block_len(1024).prefault(false).anonymous().unwrap()
}

fn ring(pool: &BlockPool) -> Broadcast {
    Broadcast::options().capacity(1024).prefault(false).create_in(pool.segment()).unwrap()
}

fn sender(ring: &Broadcast) -> Sender<Two> {
    Sender::new(ring.producer().unwrap(), KEEP)
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

/// Another sender goes on, and everything can be given back.
fn check_all(pool: &BlockPool, ring: &Broadcast, what: &str) {
    pool.repair();
    let mut tx = sender(ring);
    let mut rx = Receiver::<Two>::new(ring.consumer().unwrap());
    let common = filled(pool, 1000);
    for next in 0..2 * KEEP as u64 {
        tx.send_timeout((next, filled(pool, next), common.clone()), LATE).unwrap();
        assert_eq!(check(&rx.recv().unwrap()), next);
    }
    assert_eq!(pool.in_use(), KEEP + 1, "{what}: what is kept and no more");
    drop(common);
    tx.discard().unwrap();
    assert_eq!(pool.in_use(), 0, "{what}");
}

const SENDER_POINTS: [&str; 13] = [
    "block.loan.claimed",
    "block.freeze.shared",
    "broadcast.claimed",
    "broadcast.extended",
    "broadcast.port.passed",
    "block.place.lifted",
    "block.place.laid",
    "broadcast.port.filled",
    "broadcast.committed",
    "broadcast.zeroed",
    "broadcast.published",
    "broadcast.told",
    "broadcast.port.sent",
];

const RECEIVER_POINTS: [&str; 6] = [
    "block.hold.owned",
    "broadcast.port.held",
    "broadcast.read",
    "broadcast.released",
    "block.release.left",
    "block.release.counted",
];

fn every_point_is_in_a_table() {
    let mut points = BTreeSet::new();
    for file in ["ring/broadcast/port.rs", "block/places.rs"] {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("fault!(\"").skip(1) {
            points.insert(part.split('"').next().unwrap().to_owned());
        }
    }
    let tables = SENDER_POINTS.iter().chain(&RECEIVER_POINTS);
    let walked: BTreeSet<_> = tables.map(|point| (*point).to_owned()).collect();
    assert!(points.len() > 5);
    assert_eq!(points.difference(&walked).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn a_sender_dies_at_every_point() {
    for point in SENDER_POINTS {
        for pass in [1, 2, 4, 9] {
            a_sender_dies(point, pass);
        }
    }
}

fn a_sender_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let ring = ring(&pool);
    let mut all = [
        Receiver::<Two>::new(ring.consumer().unwrap()),
        Receiver::<Two>::new(ring.join().lossy().consumer().unwrap()),
    ];
    let (mut said, mut tell) = pipe().unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut tx = sender(&ring);
        let common = filled(&pool, 1000);
        for next in 0..20 {
            tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
            tell.write_all(&[next as u8]).unwrap();
        }
        std::mem::forget((tx, common)); // Goes without a word.
    });
    drop(tell);
    let mut counts = vec![];
    for rx in &mut all {
        let mut next = 0;
        let end = loop {
            match rx.recv_timeout(LATE) {
                Ok(message) => {
                    assert_eq!(check(&message), next, "{what}");
                    next += 1;
                }
                Err(MessageError::Ring(RecvError::Lapped { missed })) => {
                    assert!(rx.is_lossy(), "{what}");
                    next += missed;
                }
                Err(end) => break end,
            }
        };
        assert!(matches!(end, MessageError::Ring(RecvError::PeerDied { .. })), "{what}: {end}");
        counts.push(next);
    }
    let killed = died_by_kill(dies);
    assert!(killed || pass > 1, "{what} is never passed");
    let mut confirmed = vec![];
    said.read_to_end(&mut confirmed).unwrap();
    let confirmed = confirmed.len() as u64;
    assert!([confirmed, confirmed + 1].contains(&counts[0]), "{what}: {counts:?}");
    assert_eq!(counts[0], counts[1], "{what}: what it did not get it was told of");
    drop(all);
    check_all(&pool, &ring, &what);
}

fn a_receiver_dies_at_every_point() {
    for point in RECEIVER_POINTS {
        for pass in [1, 2, 5] {
            for lossy in [false, true] {
                a_receiver_dies(point, pass, lossy);
            }
        }
    }
}

fn a_receiver_dies(point: &str, pass: u32, lossy: bool) {
    let what = format!("{point} {pass} {lossy}");
    let pool = pool();
    let ring = ring(&pool);
    let mut rx = Receiver::<Two>::new(ring.consumer().unwrap());
    let (mut ready, mut tell) = pipe().unwrap();
    let dies = child(|| {
        let join = ring.join();
        let join = if lossy { join.lossy() } else { join };
        let mut rx = Receiver::<Two>::new(join.consumer().unwrap());
        fault::arm(point, pass);
        tell.write_all(&[1]).unwrap();
        let mut kept = None;
        loop {
            match rx.recv_timeout(LATE) {
                Ok(message) => {
                    check(&message);
                    kept = Some(message);
                }
                Err(MessageError::Ring(RecvError::Lapped { .. })) if lossy => {}
                Err(end) => break assert_eq!(end, MessageError::Ring(RecvError::Closed)),
            }
        }
        drop(kept);
    });
    ready.read_exact(&mut [0]).unwrap();
    let mut tx = sender(&ring);
    let common = filled(&pool, 1000);
    for next in 0..100 {
        tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
        assert_eq!(check(&rx.recv_timeout(LATE).unwrap()), next);
        if next % 8 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop((tx, common));
    let killed = died_by_kill(dies);
    assert!(killed || pass > 1 || lossy || point.starts_with("block"), "{what} is never passed");
    drop(rx);
    check_all(&pool, &ring, &what);
}

/// One that is stopped holds the sender back, and gets its blocks; one that is killed does not.
fn the_slow_are_waited_for_and_the_dead_are_not() {
    let pool = pool();
    let ring = ring(&pool);
    let (mut ready, tell) = pipe().unwrap();
    let receiver = || {
        let mut tell = tell.try_clone().unwrap();
        child(|| {
            let mut rx = Receiver::<Two>::new(ring.consumer().unwrap());
            tell.write_all(&[1]).unwrap();
            let mut next = 0;
            loop {
                match rx.recv_timeout(LATE) {
                    Ok(message) => assert_eq!(check(&message), next),
                    Err(end) => break assert_eq!(end, MessageError::Ring(RecvError::Closed)),
                }
                next += 1;
            }
        })
    };
    let (stopped, killed) = (receiver(), receiver());
    ready.read_exact(&mut [0; 2]).unwrap();
    kill(stopped, Signal::SIGSTOP).unwrap();
    assert!(matches!(
        waitpid(stopped, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap(),
        WaitStatus::Stopped(..)
    ));
    let mut tx = sender(&ring);
    let common = filled(&pool, 1000);
    for next in 0..KEEP as u64 {
        tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
    }
    let next = (KEEP as u64, filled(&pool, KEEP as u64), common.clone());
    let back = tx.send_timeout(next, Duration::from_millis(300)).unwrap_err();
    kill(killed, Signal::SIGKILL).unwrap();
    assert!(died_by_kill(killed));
    kill(stopped, Signal::SIGCONT).unwrap();
    tx.send_timeout(back.into_inner(), LATE).unwrap();
    for next in KEEP as u64 + 1..50 {
        tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
    }
    drop((tx, common));
    assert!(!died_by_kill(stopped));
    check_all(&pool, &ring, "after the stop");
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(every_point_is_in_a_table),
        testkit::test!(a_sender_dies_at_every_point),
        testkit::test!(a_receiver_dies_at_every_point),
        testkit::test!(the_slow_are_waited_for_and_the_dead_are_not),
    ])
}
