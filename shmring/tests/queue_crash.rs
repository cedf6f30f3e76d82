//! Queues whose ends are killed at every step: nobody hangs, and what was confirmed is delivered.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

mod queue;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{PipeReader, Read, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use queue::{LATE, all_said, check_slots, item, number, pairs, queue, say};
use shmring::{RecvError, SendError, fault};
use testkit::{died_by_kill, forked as child};

/// What producers pass: the point, and whether at each item. Where a claim is given back, too.
const PRODUCER_POINTS: [(&str, bool); 9] = [
    ("queue.seat.taken", false),
    ("queue.claim.taken", true),
    ("queue.ready.announced", true),
    ("queue.ready.listed", true),
    ("queue.free.announced", true),
    ("queue.free.listed", true),
    ("queue.wake.chosen", true),
    ("role.close", false),
    ("queue.seat.closed", false),
];

/// What consumers pass: with an ack, or where an item is given back.
const CONSUMER_POINTS: [(&str, bool); 9] = [
    ("queue.seat.taken", false),
    ("queue.recv.taken", true),
    ("queue.free.announced", true),
    ("queue.free.listed", true),
    ("queue.ready.announced", true),
    ("queue.ready.listed", true),
    ("queue.wake.chosen", true),
    ("role.close", false),
    ("queue.seat.closed", false),
];

/// What whoever repairs passes.
const REPAIR_POINTS: [&str; 6] = [
    "repair.begun",
    "queue.free.announced",
    "queue.free.listed",
    "queue.ready.announced",
    "queue.ready.listed",
    "queue.repaired",
];

fn every_point_is_in_a_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ring/queue");
    let mut points = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split("fault!(\"").skip(1) {
            let point = part.split('"').next().unwrap();
            // `queue_port.rs` walks those.
            if !point.starts_with("queue.port.") {
                points.insert(point.to_owned());
            }
        }
    }
    let tables = PRODUCER_POINTS.iter().chain(&CONSUMER_POINTS).map(|(point, _)| *point);
    let walked: BTreeSet<_> = tables.chain(REPAIR_POINTS).map(str::to_owned).collect();
    assert!(points.len() > 8);
    assert_eq!(points.difference(&walked).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Two producers, one of which dies.
fn a_producer_dies_at_every_point() {
    for (point, at_each_item) in PRODUCER_POINTS {
        for pass in if at_each_item { &[1, 2, 20][..] } else { &[1] } {
            a_producer_dies(point, *pass);
        }
    }
}

fn a_producer_dies(point: &str, pass: u32) {
    let queue = queue();
    let mut rx = queue.consumer().unwrap();
    let (said, mut tell) = pipe().unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut tx = queue.producer().unwrap();
        for next in 1..=60 {
            if next % 2 == 0 {
                drop(tx.claim(8).unwrap());
            }
            if point == "queue.wake.chosen" {
                thread::sleep(Duration::from_millis(1)); // The consumer falls asleep.
            }
            tx.send(item(next)).unwrap();
            say(&mut tell, [next, 0]);
        }
    });
    drop(tell);
    let lives = child(|| {
        let mut tx = queue.producer().unwrap();
        for next in 1000..1200 {
            tx.send_timeout(item(next), LATE).unwrap();
        }
    });
    let (mut got, mut running, late) = (vec![], 2, Instant::now());
    let end = loop {
        match rx.recv_timeout(Duration::from_millis(10)) {
            Ok(found) => {
                assert_eq!(found.attempt(), 1);
                got.push(number(&found));
                found.ack().unwrap();
            }
            // One may end before the other has come.
            Err(_) if running > 0 => match waitpid(None, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => {}
                WaitStatus::Signaled(pid, Signal::SIGKILL, _) if pid == dies => running -= 1,
                WaitStatus::Exited(pid, 0) if pid == lives => running -= 1,
                other => panic!("{point} {pass}: {other:?}"),
            },
            // That the others have ended is seen when they are looked at, now and then.
            Err(RecvError::TimedOut) if late.elapsed() < LATE => {}
            Err(end) => break end,
        }
    };
    // The other one has the dead one's seat, if it came later.
    let over = matches!(end, RecvError::PeerDied { .. } | RecvError::Closed);
    assert!(over && (end == RecvError::Closed || point != "queue.seat.closed"), "{point}: {end}");
    let (of_dead, of_other): (Vec<u64>, Vec<u64>) = got.iter().partition(|item| **item < 1000);
    assert_eq!(of_other, (1000..1200).collect::<Vec<_>>());
    let confirmed = all_said(said).len();
    assert!([confirmed, confirmed + 1].contains(&of_dead.len()), "{point} {pass}");
    assert_eq!(of_dead, (1..=of_dead.len() as u64).collect::<Vec<_>>());
    let skipped = u64::from(point == "queue.claim.taken");
    assert_eq!(queue.stats().skipped, skipped, "{point} {pass}");

    // A replacement joins.
    let mut tx = queue.producer().unwrap();
    for next in 2000..2100 {
        tx.send_timeout(item(next), LATE).unwrap();
        let found = rx.recv_timeout(LATE).unwrap();
        assert_eq!(number(&found), next);
        found.ack().unwrap();
    }
    check_slots(&queue);
}

fn a_consumer_dies_at_every_point() {
    for (point, at_each_item) in CONSUMER_POINTS {
        for pass in if at_each_item { &[1, 2, 15][..] } else { &[1] } {
            a_consumer_dies(point, *pass);
        }
    }
}

fn a_consumer_dies(point: &str, pass: u32) {
    let queue = queue();
    let mut tx = queue.producer().unwrap();
    let (said, mut tell) = pipe().unwrap();
    let dies = child(|| {
        fault::arm(point, pass);
        let mut rx = queue.consumer().unwrap();
        for _ in 0..60 {
            if point == "queue.wake.chosen" {
                thread::sleep(Duration::from_millis(2)); // The producer falls asleep.
            }
            let found = rx.recv_timeout(LATE).unwrap();
            let number = number(&found);
            say(&mut tell, [number, 0]);
            if found.attempt() == 1 && number.is_multiple_of(3) {
                drop(found);
                continue;
            }
            found.ack().unwrap();
            say(&mut tell, [number, 1]);
        }
    });
    drop(tell);
    let mut sent = 0;
    let end = loop {
        match tx.send_timeout(item(sent + 1), LATE) {
            Ok(()) => sent += 1,
            Err(end) => break end,
        }
    };
    match point {
        "queue.seat.closed" => assert!(matches!(end, SendError::Closed(_)), "{end:?}"),
        _ => assert!(matches!(end, SendError::PeerDied { .. }), "{point} {pass}: {end:?}"),
    }
    assert!(died_by_kill(dies), "{point} {pass} is never passed");
    let mut acked = BTreeMap::new();
    for [number, done] in all_said(said) {
        *acked.entry(number).or_insert(0) |= done;
    }
    let taken: BTreeSet<u64> = acked.keys().copied().collect();
    acked.retain(|_, done| *done == 1);

    // The replacement gets everything that was not acknowledged.
    let mut rx = queue.consumer().unwrap();
    drop(tx);
    let mut rest = BTreeSet::new();
    let end = loop {
        match rx.recv_timeout(LATE) {
            Ok(found) => {
                let number = number(&found);
                assert!(!acked.contains_key(&number), "{number} was acknowledged");
                if found.attempt() == 1 {
                    assert!(!taken.contains(&number), "{number} was handed out before");
                }
                assert!(rest.insert(number), "{number} came twice");
                found.ack().unwrap();
            }
            Err(end) => break end,
        }
    };
    assert_eq!(end, RecvError::Closed);
    // It may have acknowledged one and had no time to say so.
    let missing = (1..=sent).filter(|item| !rest.contains(item) && !acked.contains_key(item));
    let missing: Vec<_> = missing.collect();
    assert!(missing.len() <= 1 && missing.iter().all(|item| taken.contains(item)), "{missing:?}");
    if ["queue.recv.taken", "queue.ready.announced"].contains(&point) {
        assert_eq!(missing, [], "{point} {pass}");
    }
    check_slots(&queue);
}

/// One dies with a claim and an item in hand, and then whoever repairs it, at each step.
fn a_repairer_dies_at_every_point() {
    for point in REPAIR_POINTS {
        let queue = queue();
        let mut tx = queue.producer().unwrap();
        for next in 0..3 {
            tx.send(item(next)).unwrap();
        }
        let dies = child(|| {
            let (mut tx, mut rx) = queue.split().unwrap();
            let _claim = tx.try_claim(8).unwrap();
            let _found = rx.try_recv().unwrap();
            shmring::os::kill_self();
        });
        assert!(died_by_kill(dies));
        let repairs = child(|| {
            fault::arm(point, 1);
            queue.segment().repair();
        });
        assert!(died_by_kill(repairs), "{point}");
        let mut rx = queue.consumer().unwrap();
        let mut got = vec![];
        while got.len() < 3 {
            let found = rx.recv_timeout(LATE).unwrap();
            got.push((number(&found), found.attempt()));
            found.ack().unwrap();
        }
        assert_eq!(got, [(1, 1), (2, 1), (0, 2)], "{point}");
        drop(tx);
        assert_eq!(queue.stats().waiting, 0);
        check_slots(&queue);
    }
}

/// Everything that children have said so far.
fn drain(pipe: &mut PipeReader, into: &mut Vec<u8>) {
    use std::os::fd::AsFd;
    loop {
        let mut ready = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO).unwrap() == 0 {
            return;
        }
        let mut bytes = [0; 4096];
        let count = pipe.read(&mut bytes).unwrap();
        into.extend_from_slice(&bytes[..count]);
    }
}

struct Random(u32);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % bound
    }
}

/// Kills and stops any of three producers and three consumers at random moments, for a while, and
/// replaces them. What was confirmed is handled, at least once.
fn soak() {
    let end = Instant::now() + testkit::soak_time();
    let queue = queue();
    let (mut sent_read, sent_tell) = pipe().unwrap();
    let (mut seen_read, seen_tell) = pipe().unwrap();
    let (mut sent, mut seen) = (vec![], vec![]);
    let mut random = Random(std::process::id());
    let (mut kills, mut lives) = (0u32, 0u64);
    let mut start = |consumer: bool| {
        lives += 1;
        let life = lives << 32;
        let mut tell = if consumer { &seen_tell } else { &sent_tell }.try_clone().unwrap();
        let queue = &queue;
        child(move || match consumer {
            true => {
                let mut rx = queue.consumer().unwrap();
                loop {
                    let found = rx.recv().unwrap();
                    say(&mut tell, [number(&found), u64::from(found.attempt())]);
                    found.ack().unwrap();
                }
            }
            false => {
                let mut tx = queue.producer().unwrap();
                for next in life.. {
                    tx.send(item(next)).unwrap();
                    say(&mut tell, [next, 0]);
                }
            }
        })
    };
    let mut running: Vec<_> = (0..6u32).map(|number| start(number.is_multiple_of(2))).collect();
    let mut stopped: Option<Pid> = None;
    while Instant::now() < end {
        let until = Instant::now() + Duration::from_micros(u64::from(random.below(4000)));
        while Instant::now() < until {
            drain(&mut sent_read, &mut sent);
            drain(&mut seen_read, &mut seen);
        }
        let victim = random.below(6) as usize;
        if random.below(3) == 0 {
            if let Some(stopped) = stopped.replace(running[victim]) {
                let _ = kill(stopped, Signal::SIGCONT);
            }
            kill(running[victim], Signal::SIGSTOP).unwrap();
            continue;
        }
        kill(running[victim], Signal::SIGKILL).unwrap();
        waitpid(running[victim], None).unwrap();
        stopped = stopped.filter(|stopped| *stopped != running[victim]);
        running[victim] = start(victim.is_multiple_of(2));
        kills += 1;
    }
    for pid in running {
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, None).unwrap();
    }
    drain(&mut sent_read, &mut sent);
    drain(&mut seen_read, &mut seen);
    // What is left goes to a last consumer, until it is told that the producers died.
    let mut rx = queue.consumer().unwrap();
    let mut rest = vec![];
    let last = loop {
        match rx.recv_timeout(LATE) {
            Ok(found) => {
                rest.push([number(&found), u64::from(found.attempt())]);
                found.ack().unwrap();
            }
            Err(last) => break last,
        }
    };
    assert!(matches!(last, RecvError::PeerDied { .. } | RecvError::Closed), "{last}");
    let confirmed: BTreeSet<u64> = pairs(&sent).map(|said| said[0]).collect();
    let mut handled = BTreeMap::<u64, Vec<u64>>::new();
    for [item, attempt] in pairs(&seen).chain(rest) {
        handled.entry(item).or_default().push(attempt);
    }
    let lost: Vec<_> = confirmed.iter().filter(|item| !handled.contains_key(item)).collect();
    assert!(lost.is_empty(), "lost: {lost:x?}");
    let unconfirmed = handled.keys().filter(|item| !confirmed.contains(item)).count();
    assert!(unconfirmed as u64 <= lives, "{unconfirmed} that nobody confirmed, {lives} lives");
    let mut again = 0;
    for (item, mut attempts) in handled {
        attempts.sort_unstable();
        again += attempts.len() - 1;
        attempts.dedup_by(|one, other| one == other);
        assert!(attempts.len() == 1 || attempts.is_sorted(), "{item:x}: {attempts:?}");
    }
    let stats = queue.stats();
    println!(
        "{kills} kills, {} confirmed items, {again} handled again, {stats:?}",
        confirmed.len()
    );
    assert!(kills > 20 && confirmed.len() > 100);
    assert!(again as u64 <= stats.redelivered, "twice only where it was handed out again");
    check_slots(&queue);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(every_point_is_in_a_table),
        testkit::test!(a_producer_dies_at_every_point),
        testkit::test!(a_consumer_dies_at_every_point),
        testkit::test!(a_repairer_dies_at_every_point),
        testkit::test!(soak, timeout = testkit::soak_time().as_secs() + 600),
    ])
}
