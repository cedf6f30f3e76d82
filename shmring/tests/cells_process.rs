//! Rings of cells between processes: two ends, deaths at every step, stopped peers.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{Read, Write, pipe},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use shmring::{
    RecvError, SendError, WaitStrategy, fault,
    ring::{
        Policy,
        cells::{Cells, Consumer},
    },
};
use testkit::{died_by_kill, forked as child, join};

const LATE: Duration = Duration::from_secs(20);

/// An item that cannot be a mixture of two.
type Item = [u64; 5];

fn item(number: u64) -> Item {
    [number, !number, number << 7, number.rotate_left(21), number ^ 0xa5a5]
}

fn number(item: &Item) -> u64 {
    assert_eq!(*item, self::item(item[0]), "torn");
    item[0]
}

fn ring(capacity: usize, policy: Policy) -> Cells<Item> {
    Cells::options().capacity(capacity).policy(policy).anonymous().unwrap()
}

fn two_ends_with(strategy: WaitStrategy, items: u64) {
    let ring = ring(16, Policy::Wait);
    let sender = child(|| {
        let mut tx = ring.producer().unwrap();
        tx.set_wait(strategy);
        let mut next = 0;
        while next < items {
            let mut cells = tx.claim_many((1 + next % 7).min(items - next) as usize).unwrap();
            for cell in cells.iter_mut() {
                (*cell, next) = (item(next), next + 1);
            }
            cells.commit();
        }
    });
    let mut rx = ring.consumer().unwrap();
    rx.set_wait(strategy);
    let mut next = 0;
    while next < items {
        if next % 3 == 0 {
            assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
            next += 1;
        } else {
            for item in rx.run_timeout(LATE).unwrap().iter() {
                assert_eq!(number(item), next);
                next += 1;
            }
        }
    }
    join(sender);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
}

fn two_ends() {
    two_ends_with(WaitStrategy::Adaptive, 100_000);
}

fn two_ends_asleep() {
    two_ends_with(WaitStrategy::Park, 3_000);
}

const PRODUCER_POINTS: [&str; 5] =
    ["cells.claimed", "cells.filled", "cells.marked", "cells.published", "cells.ahead"];
const CONSUMER_POINTS: [&str; 2] = ["cells.read", "cells.released"];

/// Numbers that the producer confirmed, by a pipe that outlives it.
fn last_confirmed(mut confirmed: impl Read) -> u64 {
    let mut bytes = Vec::new();
    confirmed.read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(8).last().map_or(0, |last| u64::from_le_bytes(last.try_into().unwrap()))
}

/// The policy of a ring in which this point is passed.
fn policy_of(point: &str) -> Policy {
    if point == "cells.marked" { Policy::DropNewest } else { Policy::Wait }
}

fn a_producer_dies_at_every_point() {
    for point in PRODUCER_POINTS {
        for pass in [1, 2, 50] {
            // Where there is no room behind the item, the last point is not passed.
            let capacity = if point == "cells.ahead" { 64 } else { 8 };
            let ring = ring(capacity, policy_of(point));
            let mut rx = ring.consumer().unwrap();
            let (confirmed, mut confirm) = pipe().unwrap();
            let sender = child(|| {
                let mut tx = ring.producer().unwrap();
                fault::arm(point, pass);
                for next in 1..=60 {
                    tx.send_timeout(item(next), LATE).unwrap();
                    confirm.write_all(&next.to_le_bytes()).unwrap();
                }
            });
            drop(confirm);
            let mut got = 0;
            let end = loop {
                match rx.recv_timeout(LATE) {
                    Ok(found) => {
                        assert_eq!((number(&found), found.sequence()), (got + 1, got));
                        got += 1;
                    }
                    Err(end) => break end,
                }
            };
            assert!(died_by_kill(sender), "{point} is never passed");
            assert!(matches!(end, RecvError::PeerDied { .. }), "{point} {pass}: {end}");
            let confirmed = last_confirmed(confirmed);
            assert!(
                got == confirmed || got == confirmed + 1,
                "{point} {pass}: {got} of {confirmed}"
            );

            // The ring goes on with a replacement.
            let mut tx = ring.producer().unwrap();
            for next in 100..200 {
                tx.send_timeout(item(next), LATE).unwrap();
                assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
            }
        }
    }
}

fn a_producer_dies_in_the_middle_of_a_batch() {
    for point in PRODUCER_POINTS {
        let ring = ring(16, policy_of(point));
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            tx.send(item(1)).unwrap();
            fault::arm(point, 1);
            let mut cells = tx.claim_many(8).unwrap();
            for (cell, next) in cells.iter_mut().zip(2..) {
                *cell = item(next);
            }
            cells.commit();
        });
        assert!(died_by_kill(sender), "{point} is never passed");
        let mut got = vec![];
        while let Ok(run) = rx.run_timeout(LATE) {
            got.extend(run.iter().map(number));
        }
        let whole: Vec<u64> = (1..=9).collect();
        let published = ["cells.published", "cells.ahead"].contains(&point);
        let expected = if published { &whole[..] } else { &whole[..1] };
        assert_eq!(got, expected, "{point}: all of a batch or nothing");
    }
}

fn a_consumer_dies_at_every_point() {
    for point in CONSUMER_POINTS {
        for pass in [1, 2, 30] {
            for runs in [false, true] {
                a_consumer_dies(point, pass, runs);
            }
        }
    }
}

fn a_consumer_dies(point: &str, pass: u32, runs: bool) {
    let ring = ring(8, Policy::Wait);
    let mut tx = ring.producer().unwrap();
    let (seen, mut see) = pipe().unwrap();
    let receiver = child(|| {
        let mut rx = ring.consumer().unwrap();
        fault::arm(point, pass);
        loop {
            if runs {
                let run = rx.run_timeout(LATE).unwrap();
                see.write_all(&number(run.last().unwrap()).to_le_bytes()).unwrap();
            } else {
                let found = rx.recv_timeout(LATE).unwrap();
                see.write_all(&number(&found).to_le_bytes()).unwrap();
            }
        }
    });
    drop(see);
    let mut sent = 0;
    let end = loop {
        match tx.send_timeout(item(sent + 1), LATE) {
            Ok(()) => sent += 1,
            Err(end) => break end,
        }
    };
    assert!(matches!(end, SendError::PeerDied { .. }), "{point} {pass}: {end:?}");
    assert!(died_by_kill(receiver));
    let seen = last_confirmed(seen);
    // The replacement gets all that was not released: at least once, in order.
    let mut rx = ring.consumer().unwrap();
    let first = rx.recv_timeout(LATE).unwrap();
    let mut next = number(&first);
    assert_eq!(first.sequence() + 1, next, "{point} {pass}: it goes on counting");
    drop(first);
    assert!(next <= seen + 1, "{point} {pass}: {next} after {seen}");
    if point == "cells.released" {
        assert_eq!(next, seen + 1, "what was released does not come again");
    }
    while next < sent {
        next += 1;
        assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
    }
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
}

/// A producer that drops what does not fit dies while it counts a loss.
fn losses_are_counted_across_a_death() {
    for pass in [1, 7] {
        let ring = ring(4, Policy::DropNewest);
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            fault::arm("cells.lost", pass);
            for next in 1.. {
                tx.send(item(next)).unwrap();
            }
        });
        assert!(died_by_kill(sender));
        let stats = ring.stats();
        assert_eq!(stats.lost, u64::from(pass));
        let mut tx = ring.producer().unwrap();
        let mut sequences = vec![];
        while let Ok(found) = rx.try_recv() {
            sequences.push(found.sequence());
        }
        assert_eq!(sequences, (0..stats.sent).collect::<Vec<_>>());
        tx.send(item(1)).unwrap();
        assert_eq!(rx.recv_timeout(LATE).unwrap().sequence(), stats.sent + stats.lost);
    }
}

/// Kills whichever end at random moments, for a while: what was sent is what was received, and the
/// losses that were counted.
fn soak() {
    let end = Instant::now() + testkit::soak_time();
    let ring = ring(8, Policy::DropNewest);
    let mut random = std::process::id();
    let mut random = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    let (mut kills, mut next) = (0u32, 0);
    let mut rx = ring.consumer().unwrap();
    while Instant::now() < end {
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for number in 0.. {
                tx.send(item(number)).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_micros(u64::from(random() % 3000));
        let mut take = |rx: &mut Consumer<Item>, wait| match rx.run_timeout(wait) {
            Ok(run) => {
                assert!(run.iter().all(|item| number(item) < u64::MAX));
                assert!(run.sequence() >= next, "{} comes again", run.sequence());
                next = run.sequence() + run.len() as u64;
                true
            }
            Err(_) => false,
        };
        while Instant::now() < until {
            take(&mut rx, Duration::from_micros(50));
        }
        kill(sender, Signal::SIGKILL).unwrap();
        assert!(died_by_kill(sender));
        kills += 1;
        while take(&mut rx, Duration::ZERO) {}
        let stats = ring.stats();
        assert_eq!((stats.sent, stats.used), (stats.taken, 0));
        assert!(next <= stats.sent + stats.lost);
    }
    let mut tx = ring.producer().unwrap();
    let stats = ring.stats();
    tx.send(item(1)).unwrap();
    let last = rx.recv_timeout(LATE).unwrap();
    assert_eq!(last.sequence(), stats.sent + stats.lost, "each is received, or a counted loss");
    let (sent, lost) = (stats.sent + stats.lost, stats.lost);
    println!("{kills} kills, {sent} sent = {} received + {lost} counted as lost", stats.taken);
    assert_eq!(sent, stats.taken + lost);
}

fn a_stopped_peer_is_not_dead() {
    let ring = ring(8, Policy::Wait);
    let mut tx = ring.producer().unwrap();
    let receiver = child(|| {
        let mut rx = ring.consumer().unwrap();
        for next in 0..200 {
            assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
        }
    });
    tx.send(item(0)).unwrap();
    assert!(testkit::wait_until(LATE, || ring.stats().taken == 1));
    kill(receiver, Signal::SIGSTOP).unwrap();
    let mut sent = 1;
    let error = loop {
        match tx.send_timeout(item(sent), Duration::from_millis(300)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SendError::TimedOut(_)), "{error:?}");
    assert!(ring.consumer().is_err(), "nobody takes its end");
    kill(receiver, Signal::SIGCONT).unwrap();
    for next in sent..200 {
        tx.send_timeout(item(next), LATE).unwrap();
    }
    join(receiver);
}

fn a_named_ring_joins_unrelated_processes() {
    let name = testkit::name("cells");
    let receiver = child(|| {
        let ring = Cells::<Item>::open_or_wait(&name, LATE).unwrap();
        let mut rx = ring.consumer().unwrap();
        for next in 0..1000 {
            assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
        }
        assert!(Cells::<u32>::open(&name).is_err(), "another type");
    });
    let ring = Cells::options().capacity(16).create_or_open(&name).unwrap();
    let mut tx = ring.producer().unwrap();
    for next in 0..1000 {
        tx.send_timeout(item(next), LATE).unwrap();
    }
    join(receiver);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(two_ends),
        testkit::test!(two_ends_asleep),
        testkit::test!(a_producer_dies_at_every_point),
        testkit::test!(a_producer_dies_in_the_middle_of_a_batch),
        testkit::test!(a_consumer_dies_at_every_point),
        testkit::test!(losses_are_counted_across_a_death),
        testkit::test!(soak, timeout = testkit::soak_time().as_secs() + 600),
        testkit::test!(a_stopped_peer_is_not_dead),
        testkit::test!(a_named_ring_joins_unrelated_processes),
    ])
}
