//! Blocks in messages over a queue, between processes that are killed at every step: what was
//! confirmed is delivered with its blocks, and every block comes back.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use shmring::{
    RecvError, WaitStrategy,
    block::{Block, BlockPool},
    fault,
    ring::{
        port::MessageError,
        queue::{
            Queue,
            port::{Receiver, Sender},
        },
    },
};
use testkit::{died_by_kill, forked as child};

const LATE: Duration = Duration::from_secs(20);
const BLOCKS: usize = 12;
const SLOTS: usize = 10; // More than one carrier has.

/// A number, a block of its own, and one that is in many messages.
type Job = (u64, Block, Block);

fn pool() -> BlockPool {
    BlockPool::options().blocks(BLOCKS).block_len(1024).prefault(false).anonymous().unwrap()
}

fn queue(pool: &BlockPool) -> Queue {
    let options = Queue::options().capacity(SLOTS).item_len(80).wait(WaitStrategy::Park);
    options.prefault(false).create_in(pool.segment()).unwrap()
}

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.loan_timeout(LATE).unwrap();
    loan.array_mut::<u64, _>(128).unwrap().fill(number);
    loan.freeze()
}

fn check(block: &Block, number: u64) {
    let array = block.array::<u64, _>(128).unwrap();
    assert!(array.iter().all(|element| *element == number), "block of {number} is torn");
}

fn say(pipe: &mut PipeWriter, words: [u64; 3]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    pipe.write_all(&bytes).unwrap(); // Below what a pipe takes at once: whole or not at all.
}

fn all_said(mut pipe: PipeReader) -> Vec<[u64; 3]> {
    let mut bytes = vec![];
    pipe.read_to_end(&mut bytes).unwrap();
    let words: Vec<_> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    words.chunks_exact(3).map(|three| three.try_into().unwrap()).collect()
}

/// Everything is as in the beginning: all blocks can be loaned, and all slots used.
fn check_all(pool: &BlockPool, queue: &Queue, what: &str) {
    // Whoever died holds nothing any more; who works with a queue notices that by itself.
    pool.repair();
    assert_eq!(pool.in_use(), 0, "{what}");
    let (mut tx, mut rx) = shmring::ring::queue::port::ends::<Job>(queue).unwrap();
    for round in 0..2 {
        let common = filled(pool, 99);
        for slot in 0..SLOTS as u64 {
            tx.try_send((slot, filled(pool, slot), common.clone())).unwrap();
        }
        drop(common);
        assert_eq!(pool.in_use(), SLOTS + 1, "{what} {round}");
        for slot in 0..SLOTS as u64 {
            let job = rx.try_recv().unwrap();
            assert_eq!((job.0, job.attempt()), (slot, 1));
            check(&job.1, slot);
            check(&job.2, 99);
            job.ack().unwrap();
        }
        assert_eq!(pool.in_use(), 0, "{what} {round}");
    }
}

const PRODUCER_POINTS: [&str; 14] = [
    "block.loan.claimed",
    "block.freeze.shared",
    "queue.seat.taken",
    "queue.claim.taken",
    "block.place.laid",
    "queue.port.filled",
    "queue.ready.announced",
    "queue.ready.listed",
    "queue.port.sent",
    "block.hold.counted",
    "block.release.left",
    "block.release.counted",
    "queue.free.announced",
    "queue.free.listed",
];

const CONSUMER_POINTS: [&str; 13] = [
    "queue.seat.taken",
    "queue.recv.taken",
    "block.hold.owned",
    "queue.port.taken",
    "queue.port.done",
    "block.place.lifted",
    "block.free.freed",
    "queue.free.announced",
    "queue.free.listed",
    "queue.ready.announced",
    "queue.ready.listed",
    "block.release.left",
    "queue.seat.closed",
];

const REPAIR_POINTS: [&str; 9] = [
    "repair.begun",
    "block.repair.counted",
    "block.place.lifted",
    "block.free.freed",
    "queue.port.emptied",
    "queue.free.announced",
    "queue.free.listed",
    "queue.ready.listed",
    "queue.repaired",
];

fn every_point_is_in_a_table() {
    let mut points = BTreeSet::new();
    for file in
        ["ring/queue/lists.rs", "ring/queue/port.rs", "ring/queue/seats.rs", "block/places.rs"]
    {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("fault!(\"").skip(1) {
            points.insert(part.split('"').next().unwrap().to_owned());
        }
    }
    let tables = PRODUCER_POINTS.iter().chain(&CONSUMER_POINTS).chain(&REPAIR_POINTS);
    let walked: BTreeSet<_> = tables.map(|point| (*point).to_owned()).collect();
    assert!(points.len() > 10);
    assert_eq!(points.difference(&walked).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn a_producer_dies_at_every_point() {
    for point in PRODUCER_POINTS {
        for pass in [1, 2, 3, 8] {
            a_producer_dies(point, pass);
        }
    }
}

fn a_producer_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let queue = queue(&pool);
    let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
    let (said, mut tell) = pipe().unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut tx = Sender::<Job>::new(queue.producer().unwrap());
        let common = filled(&pool, 1000);
        for next in 0..30 {
            drop(pool.loan_timeout(LATE).unwrap());
            let other = common.clone();
            if next % 3 == 2 {
                drop(tx.producer().claim(8).unwrap()); // Gives a slot back.
            }
            tx.send_timeout((next, filled(&pool, next), other), LATE).unwrap();
            say(&mut tell, [next, 0, 0]);
        }
        std::mem::forget((tx, common)); // Goes without a word.
    });
    drop(tell);
    let mut got = 0;
    let end = loop {
        match rx.recv_timeout(LATE) {
            Ok(job) => {
                assert_eq!((job.0, job.attempt()), (got, 1), "{what}");
                check(&job.1, got);
                check(&job.2, 1000);
                got += 1;
                job.ack().unwrap();
            }
            Err(end) => break end,
        }
    };
    let over = matches!(end, MessageError::Ring(RecvError::PeerDied { .. }));
    assert!(over, "{what}: {end}");
    let killed = died_by_kill(dies);
    let confirmed = all_said(said).len() as u64;
    assert!(killed || confirmed == 30, "{what}");
    assert!(killed || pass > 1 || point.starts_with("block"), "{what} is never passed");
    assert!([confirmed, confirmed + 1].contains(&got), "{what}: {got} of {confirmed}");
    drop(rx);
    check_all(&pool, &queue, &what);
}

fn a_consumer_dies_at_every_point() {
    for point in CONSUMER_POINTS {
        for pass in [1, 2, 3, 7] {
            a_consumer_dies(point, pass);
        }
    }
}

fn a_consumer_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let queue = queue(&pool);
    let mut tx = Sender::<Job>::new(queue.producer().unwrap());
    let (said, mut tell) = pipe().unwrap();
    let mut blocks = BTreeMap::new();
    {
        let common = filled(&pool, 1000);
        for next in 0..SLOTS as u64 {
            let block = filled(&pool, next);
            blocks.insert(next, block.index());
            tx.send((next, block, common.clone())).unwrap();
        }
    }
    let dies = child(|| {
        fault::arm(point, pass);
        let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
        for _ in 0..8 {
            let job = rx.recv_timeout(LATE).unwrap();
            let number = job.0;
            check(&job.1, number);
            check(&job.2, 1000);
            say(&mut tell, [number, 0, 0]);
            if job.attempt() == 1 && number.is_multiple_of(3) {
                job.nack().unwrap();
                continue;
            }
            drop(job.ack().unwrap());
            say(&mut tell, [number, 1, 0]);
        }
    });
    drop(tell);
    let killed = died_by_kill(dies);
    assert!(killed || pass > 1 || point.starts_with("block"), "{what} is never passed");
    let mut acked = BTreeMap::new();
    for [number, done, _] in all_said(said) {
        *acked.entry(number).or_insert(0) |= done;
    }
    let taken: BTreeSet<u64> = acked.keys().copied().collect();
    acked.retain(|_, done| *done == 1);
    // The replacement gets everything that was not acknowledged, in the same blocks.
    let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
    drop(tx);
    let mut rest = BTreeSet::new();
    let end = loop {
        match rx.recv_timeout(LATE) {
            Ok(job) => {
                let number = job.0;
                assert!(!acked.contains_key(&number), "{what}: {number} was acknowledged");
                assert!(rest.insert(number), "{what}: {number} came twice");
                assert_eq!(job.1.index(), blocks[&number], "{what}: another block");
                check(&job.1, number);
                check(&job.2, 1000);
                job.ack().unwrap();
            }
            Err(end) => break end,
        }
    };
    assert_eq!(end, MessageError::Ring(RecvError::Closed), "{what}");
    // It may have acknowledged one and had no time to say so.
    let missing = (0..SLOTS as u64).filter(|job| !rest.contains(job) && !acked.contains_key(job));
    let missing: Vec<_> = missing.collect();
    assert!(
        missing.len() <= 1 && missing.iter().all(|job| taken.contains(job)),
        "{what}: {missing:?}"
    );
    if ["queue.recv.taken", "block.hold.owned", "queue.port.taken"].contains(&point) {
        assert_eq!(missing, [], "{what}");
    }
    drop(rx);
    check_all(&pool, &queue, &what);
}

/// One dies while its message is half written, with one in hand, and with one that is over; then
/// whoever repairs it, at each step.
fn a_repairer_dies_at_every_point() {
    for point in REPAIR_POINTS {
        for pass in [1, 2, 3] {
            a_repairer_dies(point, pass);
        }
    }
}

fn a_repairer_dies(point: &str, pass: u32) {
    let what = format!("{point} {pass}");
    let pool = pool();
    let queue = queue(&pool);
    let mut tx = Sender::<Job>::new(queue.producer().unwrap());
    let common = filled(&pool, 1000);
    for next in 0..3 {
        tx.send((next, filled(&pool, next), common.clone())).unwrap();
    }
    let half = child(|| {
        fault::arm("queue.port.filled", 1);
        let mut tx = Sender::<Job>::new(queue.producer().unwrap());
        let _ = tx.send((3, filled(&pool, 3), common.clone()));
    });
    assert!(died_by_kill(half));
    let over = child(|| {
        fault::arm("queue.port.done", 1);
        let mut one = Receiver::<Job>::new(queue.consumer().unwrap());
        let mut other = Receiver::<Job>::new(queue.consumer().unwrap());
        let _in_hand = one.recv().unwrap();
        let _ = other.recv().unwrap().ack();
    });
    assert!(died_by_kill(over));
    drop(common);
    let repairs = child(|| {
        fault::arm(point, pass);
        queue.segment().repair();
    });
    assert!(died_by_kill(repairs) || pass > 1, "{what} is never passed");
    let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
    let mut got = vec![];
    while got.len() < 2 {
        let job = rx.recv_timeout(LATE).unwrap();
        check(&job.1, job.0);
        check(&job.2, 1000);
        got.push((job.0, job.attempt()));
        job.ack().unwrap();
    }
    assert_eq!(got, [(2, 1), (0, 2)], "{what}");
    drop(tx);
    // What was half written is counted unless the repairer died before it could.
    assert!(queue.stats().skipped <= 1, "{what}");
    drop(rx);
    check_all(&pool, &queue, &what);
}

/// A frontend sends pictures to workers; one of them is killed in the middle of one, and another
/// gets the same block.
fn a_worker_is_killed_and_another_gets_the_same_block() {
    let pool = pool();
    let queue = queue(&pool);
    let (said, tell) = pipe().unwrap();
    let (mut began, begin) = pipe().unwrap();
    let worker = |stuck: bool| {
        let (mut tell, mut begin) = (tell.try_clone().unwrap(), begin.try_clone().unwrap());
        child(|| {
            let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
            while let Ok(job) = rx.recv_timeout(LATE) {
                check(&job.1, job.0);
                if stuck {
                    begin.write_all(&[1]).unwrap();
                    thread::sleep(LATE);
                }
                say(&mut tell, [job.0, job.1.index() as u64, u64::from(job.attempt())]);
                job.ack().unwrap();
            }
        })
    };
    let mut tx = Sender::<Job>::new(queue.producer().unwrap());
    let common = filled(&pool, 1000);
    let stuck = worker(true);
    let first = filled(&pool, 0);
    let index = first.index() as u64;
    tx.send((0, first, common.clone())).unwrap();
    began.read_exact(&mut [0]).unwrap();
    let others = [worker(false), worker(false), worker(false)];
    for next in 1..200 {
        if next == 100 {
            kill(stuck, Signal::SIGKILL).unwrap();
            assert!(died_by_kill(stuck));
        }
        tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
    }
    drop((tx, common, tell));
    for other in others {
        assert!(!died_by_kill(other));
    }
    let said: BTreeMap<u64, _> = all_said(said)
        .into_iter()
        .map(|[number, index, attempt]| (number, (index, attempt)))
        .collect();
    assert_eq!(said.len(), 200);
    assert_eq!(said[&0], (index, 2));
    assert!(said.iter().all(|(number, (_, attempt))| *number == 0 || *attempt == 1));
    check_all(&pool, &queue, "after the farm");
}

/// Whoever is stopped keeps its message and the blocks in it.
fn a_worker_that_is_stopped_is_not_robbed() {
    let pool = pool();
    let queue = queue(&pool);
    let mut tx = Sender::<Job>::new(queue.producer().unwrap());
    let (mut began, mut begin) = pipe().unwrap();
    let common = filled(&pool, 1000);
    tx.send((0, filled(&pool, 0), common.clone())).unwrap();
    let stopped = child(|| {
        let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
        let job = rx.recv_timeout(LATE).unwrap();
        begin.write_all(&[1]).unwrap();
        nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
        check(&job.1, 0);
        job.ack().unwrap();
    });
    began.read_exact(&mut [0]).unwrap();
    let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
    let until = Instant::now() + Duration::from_millis(400);
    let mut next = 1;
    while Instant::now() < until {
        tx.send_timeout((next, filled(&pool, next), common.clone()), LATE).unwrap();
        let job = rx.recv_timeout(LATE).unwrap();
        assert_eq!((job.0, job.attempt()), (next, 1));
        job.ack().unwrap();
        next += 1;
    }
    assert_eq!(pool.in_use(), 2);
    kill(stopped, Signal::SIGCONT).unwrap();
    assert!(!died_by_kill(stopped));
    drop((tx, rx, common));
    check_all(&pool, &queue, "after the stop");
}

/// Processes are killed at random moments; then everything is counted.
fn random_kills() {
    let (pool, mut seed) = (pool(), 7u64);
    let queue = queue(&pool);
    let mut random = move |below: u64| {
        // xorshift64, Marsaglia 2003.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut confirmed, mut kills) = (0, 0);
    let mut done = BTreeSet::new();
    for round in 0..20u64 {
        let (sent, mut tell_sent) = pipe().unwrap();
        let (acked, tell_acked) = pipe().unwrap();
        let producer = child(|| {
            let mut tx = Sender::<Job>::new(queue.producer().unwrap());
            let common = filled(&pool, 1000);
            for next in 0.. {
                let number = round << 32 | next;
                let job = (number, filled(&pool, number), common.clone());
                if tx.send_timeout(job, LATE).is_err() {
                    return;
                }
                say(&mut tell_sent, [number, 0, 0]);
            }
        });
        let consumers = [0, 1].map(|_| {
            let mut tell = tell_acked.try_clone().unwrap();
            let (queue, round) = (&queue, round);
            child(move || {
                let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
                let end = Instant::now() + LATE;
                while Instant::now() < end {
                    // It may be here before the producer of this round, and after its death.
                    let Ok(job) = rx.recv_timeout(LATE) else {
                        thread::sleep(Duration::from_micros(100));
                        continue;
                    };
                    check(&job.1, job.0);
                    if job.0 % 5 == 0 && job.attempt() == 1 && job.0 >> 32 == round {
                        continue; // Handed out again.
                    }
                    let number = job.0;
                    if job.ack().is_ok() {
                        say(&mut tell, [number, 0, 0]);
                    }
                }
            })
        });
        drop((tell_sent, tell_acked));
        thread::sleep(Duration::from_micros(2000 + random(30_000)));
        let mut all = vec![producer, consumers[0], consumers[1]];
        while !all.is_empty() {
            let pid = all.swap_remove(random(all.len() as u64) as usize);
            kill(pid, Signal::SIGKILL).unwrap();
            // Where the consumers go first, the producer may have heard of it.
            kills += usize::from(died_by_kill(pid));
            thread::sleep(Duration::from_micros(random(3000)));
        }
        confirmed += all_said(sent).len();
        for [number, ..] in all_said(acked) {
            assert!(done.insert(number), "{number} was acknowledged twice");
        }
    }
    let mut rx = Receiver::<Job>::new(queue.consumer().unwrap());
    pool.repair();
    let mut rest = 0;
    while let Ok(job) = rx.try_recv() {
        check(&job.1, job.0);
        check(&job.2, 1000);
        assert!(done.insert(job.0), "{} was acknowledged", job.0);
        job.ack().unwrap();
        rest += 1;
    }
    // Each death of a producer may hide one that was sent, and each of a consumer one that is done.
    let difference = done.len() as i64 - confirmed as i64;
    assert!((-40..=20).contains(&difference), "{confirmed} sent, {} done, {rest} left", done.len());
    assert!(confirmed > 100 && kills > 20, "{confirmed} {kills}");
    drop(rx);
    check_all(&pool, &queue, "after the kills");
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(every_point_is_in_a_table),
        testkit::test!(a_producer_dies_at_every_point),
        testkit::test!(a_consumer_dies_at_every_point),
        testkit::test!(a_repairer_dies_at_every_point),
        testkit::test!(a_worker_is_killed_and_another_gets_the_same_block),
        testkit::test!(a_worker_that_is_stopped_is_not_robbed),
        testkit::test!(random_kills),
    ])
}
