//! Broadcast rings between processes: many consumers, deaths at every step, stopped peers.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{PipeReader, Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shmring::{
    RecvError, SendError, WaitStrategy, fault,
    ring::{
        Policy,
        broadcast::{Broadcast, Consumer},
    },
};
use testkit::{died_by_kill, forked as child, join};

const LATE: Duration = Duration::from_secs(20);

/// A forked child's copy of a value of its parent, which it may drop.
fn copy_of<T>(value: &T) -> T {
    // SAFETY: only a child does this, once, and it ends without dropping the original.
    unsafe { std::ptr::read(value) }
}

fn ring(capacity: usize) -> Broadcast {
    Broadcast::options().capacity(capacity).consumers(6).anonymous().unwrap()
}

/// An item that says which it is, of a length of its own.
fn item(number: u64) -> Vec<u8> {
    let mut item = vec![number as u8; 8 + (number % 70) as usize];
    item[..8].copy_from_slice(&number.to_le_bytes());
    item
}

fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, item(number), "torn");
    number
}

/// Receives until the ring ends. Tells how many came and how many were missed; each item's number
/// must be its sequence number, from `first` on, without a gap that was not told.
fn receive(rx: &mut Consumer, first: u64) -> (u64, u64, RecvError) {
    let (mut got, mut missed, lossy) = (0, 0, rx.is_lossy());
    loop {
        match rx.recv_timeout(LATE) {
            Ok(found) => {
                assert_eq!(number(&found), first + got + missed);
                assert_eq!(found.sequence(), first + got + missed);
                got += 1;
            }
            Err(RecvError::Lapped { missed: more }) => {
                assert!(lossy, "a lossless consumer misses nothing");
                missed += more;
            }
            Err(end) => return (got, missed, end),
        }
    }
}

fn every_consumer_gets_every_item(strategy: WaitStrategy, items: u64) {
    let ring = Broadcast::options().capacity(4096).wait(strategy).anonymous().unwrap();
    let mut tx = ring.producer().unwrap();
    let (mut ready, mut joined) = pipe().unwrap();
    let receivers: Vec<Pid> = (0..4)
        .map(|index| {
            child(|| {
                let join = if index < 3 { ring.join() } else { ring.join().lossy() };
                let mut rx = join.consumer().unwrap();
                joined.write_all(&[1]).unwrap();
                let (got, missed, end) = receive(&mut rx, 0);
                assert_eq!((got + missed, end), (items, RecvError::Closed));
                assert!(index == 3 || missed == 0);
            })
        })
        .collect();
    ready.read_exact(&mut [0; 4]).unwrap();
    for number in 0..items {
        tx.send_timeout(item(number), LATE).unwrap();
    }
    drop(tx);
    receivers.into_iter().for_each(join);
}

fn two_ends() {
    every_consumer_gets_every_item(WaitStrategy::Adaptive, 50_000);
}

fn two_ends_asleep() {
    every_consumer_gets_every_item(WaitStrategy::Park, 5_000);
}

/// Consumers come and go while the ring runs; each gets a piece without gaps.
fn consumers_join_and_leave_while_it_runs() {
    let ring = ring(2048);
    let receivers: Vec<Pid> = (0..4u64)
        .map(|index| {
            child(|| {
                for round in 0..150 {
                    let join = if index % 2 == 0 { ring.join() } else { ring.join().lossy() };
                    let mut rx = join.history(round % 20).consumer().unwrap();
                    let mut next = None;
                    for _ in 0..20 {
                        match rx.recv_timeout(LATE) {
                            Ok(found) => {
                                let number = number(&found);
                                assert!(next.is_none_or(|next| next == number), "a gap");
                                next = Some(number + 1);
                            }
                            Err(RecvError::Lapped { missed }) => {
                                assert!(index % 2 == 1);
                                next = next.map(|next| next + missed);
                            }
                            Err(end) => panic!("{end}"),
                        }
                    }
                }
            })
        })
        .collect();
    let mut tx = ring.producer().unwrap();
    let mut left = receivers;
    for sent in 0.. {
        tx.send_timeout(item(sent), LATE).unwrap();
        if sent % 1000 == 0 {
            left.retain(|receiver| {
                let state = waitpid(*receiver, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).unwrap();
                match state {
                    WaitStatus::StillAlive => true,
                    WaitStatus::Exited(_, 0) => false,
                    other => panic!("{other:?}"),
                }
            });
            if left.is_empty() {
                break;
            }
        }
    }
    let stats = ring.stats();
    assert_eq!((stats.consumers, stats.lost_consumers), (0, 0));
}

fn an_end_that_a_child_uses_has_left_its_parent() {
    let ring = ring(512);
    let (mut tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut lossy = ring.join().lossy().consumer().unwrap();
    tx.send(item(0)).unwrap();
    tx.send(item(1)).unwrap();
    let mut parents = copy_of(&rx);
    assert_eq!(number(&parents.recv().unwrap()), 0);
    std::mem::forget(parents);
    let receiver = child(|| {
        // Its copy stands before the first item, but the cursor of the ring counts.
        let mut rx = copy_of(&rx);
        assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), 1);
        assert_eq!(number(&copy_of(&lossy).recv_timeout(LATE).unwrap()), 0);
        std::mem::forget(rx);
    });
    join(receiver);
    let mut rx = rx;
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Moved);
    assert_eq!(lossy.try_recv().unwrap_err(), RecvError::Moved);
    // It ended without leaving, so it is dropped when it is in the way.
    for number in 2..50 {
        tx.send_timeout(item(number), LATE).unwrap();
    }
    assert_eq!(ring.stats().lost_consumers, 1);
}

/// A copy whose place was closed by the parent joins again, and is told what is gone.
fn a_copy_of_what_was_closed_joins_again() {
    for sent in [1, 60] {
        let ring = ring(512);
        let (mut tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let (mut closed, mut close) = pipe().unwrap();
        let receiver = child(|| {
            closed.read_exact(&mut [0]).unwrap();
            let mut rx = copy_of(&rx);
            if sent > 1 {
                let lapped = rx.recv_timeout(LATE).unwrap_err();
                assert!(matches!(lapped, RecvError::Lapped { missed } if missed > 40));
            }
            let mut last = number(&rx.recv_timeout(LATE).unwrap());
            while last < sent - 1 {
                last += 1;
                assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), last);
            }
        });
        drop(rx);
        for number in 0..sent {
            tx.send_timeout(item(number), LATE).unwrap();
        }
        close.write_all(&[1]).unwrap();
        join(receiver);
    }
}

const PRODUCER_POINTS: [&str; 6] = [
    "broadcast.extended",
    "broadcast.claimed",
    "broadcast.committed",
    "broadcast.zeroed",
    "broadcast.published",
    "broadcast.told",
];
const CONSUMER_POINTS: [&str; 3] = ["broadcast.read", "broadcast.counted", "broadcast.released"];
const JOINER_POINTS: [&str; 4] =
    ["broadcast.join.taken", "broadcast.join.placed", "broadcast.join.raised", "broadcast.joined"];

/// Numbers that somebody confirmed, by a pipe that outlives it; how many there are.
fn confirmed(mut pipe: PipeReader) -> u64 {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    bytes.len() as u64
}

fn a_producer_dies_at_every_point() {
    for point in PRODUCER_POINTS {
        for pass in [1, 2, 30] {
            let ring = ring(512);
            let mut rx = ring.consumer().unwrap();
            let mut lossy = ring.join().lossy().consumer().unwrap();
            let (confirmed_read, mut confirm) = pipe().unwrap();
            let sender = child(|| {
                let mut tx = ring.producer().unwrap();
                fault::arm(point, pass);
                for number in 0..400 {
                    tx.send_timeout(item(number), LATE).unwrap();
                    confirm.write_all(&[1]).unwrap();
                }
            });
            drop(confirm);
            let (got, _, end) = receive(&mut rx, 0);
            assert!(died_by_kill(sender), "{point} {pass} is never passed");
            assert!(matches!(end, RecvError::PeerDied { .. }), "{point} {pass}: {end}");
            let confirmed = confirmed(confirmed_read);
            assert!(
                got == confirmed || got == confirmed + 1,
                "{point} {pass}: {got} of {confirmed}"
            );
            let (read, missed, _) = receive(&mut lossy, 0);
            // What was about to be overwritten is lost for it, and it may not know of the last.
            assert!(read + missed == got || read + missed + 1 == got, "{point} {pass}");

            // The ring goes on with a replacement, for all.
            let mut tx = ring.producer().unwrap();
            for number in got..got + 100 {
                tx.send_timeout(item(number), LATE).unwrap();
                assert_eq!(self::number(&rx.recv_timeout(LATE).unwrap()), number);
                loop {
                    match lossy.recv_timeout(LATE) {
                        Ok(found) if self::number(&found) == number => break,
                        Ok(_) | Err(RecvError::Lapped { .. }) => {}
                        Err(end) => panic!("{point} {pass}: {end}"),
                    }
                }
            }
            assert_eq!(ring.stats().sent, got + 100);
        }
    }
}

fn a_producer_dies_in_the_middle_of_a_batch() {
    for point in PRODUCER_POINTS {
        let ring = ring(1024);
        let mut rx = ring.consumer().unwrap();
        let mut tx = ring.producer().unwrap();
        // Some laps, so that the window has to be extended for the batch.
        for number in 0..280 {
            tx.send(item(number)).unwrap();
            rx.recv().unwrap();
        }
        drop(tx);
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            tx.send(item(280)).unwrap();
            fault::arm(point, if point == "broadcast.claimed" { 2 } else { 1 });
            let mut batch = tx.batch();
            for number in 281..292 {
                batch.try_push(item(number)).unwrap();
            }
            batch.publish();
        });
        assert!(died_by_kill(sender), "{point}");
        let (got, ..) = receive(&mut rx, 280);
        let whole = ["broadcast.published", "broadcast.told"].contains(&point);
        assert_eq!(got, if whole { 12 } else { 1 }, "{point}: all of a batch or nothing");
    }
}

/// A producer dies after it took the bits of the sleepers, or after it disarmed a doorbell: those
/// who sleep find the items, and its successor wakes them again.
fn a_producer_dies_while_it_wakes() {
    for point in
        ["broadcast.sleepers.taken", "doorbell.armed", "doorbell.swapped", "doorbell.futex.woken"]
    {
        let ring = Broadcast::options().wait(WaitStrategy::Park).anonymous().unwrap();
        let (mut ready, mut joined) = pipe().unwrap();
        let receivers: Vec<Pid> = (0..3)
            .map(|_| {
                child(|| {
                    let mut rx = ring.consumer().unwrap();
                    joined.write_all(&[1]).unwrap();
                    let mut next = 0;
                    while next < 20 {
                        match rx.recv_timeout(LATE) {
                            Ok(found) => {
                                assert_eq!(number(&found), next);
                                next += 1;
                            }
                            Err(RecvError::PeerDied { .. }) => {
                                thread::sleep(Duration::from_millis(1))
                            }
                            Err(end) => panic!("{point}: {end}"),
                        }
                    }
                })
            })
            .collect();
        ready.read_exact(&mut [0; 3]).unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            fault::arm(point, 2);
            for number in 0..20 {
                thread::sleep(Duration::from_millis(5));
                tx.send(item(number)).unwrap();
            }
        });
        assert!(died_by_kill(sender), "{point} is never passed");
        let mut tx = ring.producer().unwrap();
        for number in ring.stats().sent..20 {
            tx.send(item(number)).unwrap();
        }
        receivers.into_iter().for_each(join);
    }
}

fn a_consumer_dies_at_every_point() {
    for lossy in [false, true] {
        for point in CONSUMER_POINTS {
            for pass in [1, 2, 30] {
                let ring = ring(512);
                let mut tx = ring.producer().unwrap();
                let mut other = ring.consumer().unwrap();
                let (mut seen, mut see) = pipe().unwrap();
                let receiver = child(|| {
                    let join = if lossy { ring.join().lossy() } else { ring.join() };
                    let mut rx = join.consumer().unwrap();
                    see.write_all(&[0]).unwrap();
                    fault::arm(point, pass);
                    while !matches!(rx.recv_timeout(LATE), Err(RecvError::Closed)) {}
                });
                drop(see);
                seen.read_exact(&mut [0]).unwrap();
                // Nobody is in the way after it has died, and the other gets everything.
                for number in 0..400 {
                    tx.send_timeout(item(number), LATE).unwrap();
                    assert_eq!(self::number(&other.recv_timeout(LATE).unwrap()), number);
                    if lossy {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                assert!(died_by_kill(receiver), "{point} {pass} {lossy} is never passed");
                let stats = ring.stats();
                assert_eq!(stats.lost_consumers, u64::from(!lossy), "{point} {pass}");
                // A replacement joins.
                let mut next = ring.consumer().unwrap();
                for number in 400..450 {
                    tx.send_timeout(item(number), LATE).unwrap();
                    assert_eq!(self::number(&next.recv_timeout(LATE).unwrap()), number);
                    assert_eq!(self::number(&other.recv_timeout(LATE).unwrap()), number);
                }
            }
        }
    }
}

fn a_joiner_dies_at_every_point() {
    for lossy in [false, true] {
        for history in [0, 5] {
            for point in JOINER_POINTS {
                if lossy && point != "broadcast.join.taken" {
                    continue; // Nobody waits for it, so it does not go there.
                }
                let ring = ring(512);
                let mut tx = ring.producer().unwrap();
                for number in 0..20 {
                    tx.send(item(number)).unwrap();
                }
                let joiner = child(|| {
                    fault::arm(point, 1);
                    let join = if lossy { ring.join().lossy() } else { ring.join() };
                    join.history(history).consumer().unwrap();
                });
                assert!(died_by_kill(joiner), "{point} is never passed");
                for number in 20..120 {
                    tx.send_timeout(item(number), LATE).unwrap();
                }
                let mut rx = ring.join().history(1).consumer().unwrap();
                assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), 119, "{point}");
                // Who was not in the way keeps its place until somebody needs it.
                let kept = ["broadcast.join.taken", "broadcast.join.placed"].contains(&point);
                let kept = u64::from(kept);
                let stats = ring.stats();
                assert_eq!(
                    (stats.consumers, stats.lost_consumers),
                    (1 + kept, 1 - kept),
                    "{point}"
                );
            }
        }
    }
}

/// The producer dies after it has dropped a dead consumer, and before it counted it.
fn a_producer_dies_while_it_drops_the_dead() {
    let ring = ring(512);
    let (mut ready, mut joined) = pipe().unwrap();
    let receiver = child(|| {
        let _rx = ring.consumer().unwrap();
        joined.write_all(&[1]).unwrap();
        shmring::os::kill_self();
    });
    ready.read_exact(&mut [0]).unwrap();
    assert!(died_by_kill(receiver));
    let sender = child(|| {
        let mut tx = ring.producer().unwrap();
        fault::arm("broadcast.buried", 1);
        for number in 0..100 {
            tx.send_timeout(item(number), LATE).unwrap();
        }
    });
    assert!(died_by_kill(sender));
    let mut tx = ring.producer().unwrap();
    for number in ring.stats().sent..100 {
        tx.send_timeout(item(number), LATE).unwrap();
    }
    assert_eq!(ring.stats().consumers, 0);
}

fn losses_are_counted_across_a_death() {
    for pass in [1, 7] {
        let options = Broadcast::options().capacity(256).policy(Policy::DropNewest);
        let ring = options.anonymous().unwrap();
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            fault::arm("broadcast.dropped", pass);
            for number in 0.. {
                tx.send(item(number)).unwrap();
            }
        });
        assert!(died_by_kill(sender));
        let stats = ring.stats();
        assert_eq!(stats.dropped, u64::from(pass));
        let mut tx = ring.producer().unwrap();
        for sent in 0..stats.sent {
            assert_eq!(rx.try_recv().unwrap().sequence(), sent);
        }
        tx.send(item(1)).unwrap();
        assert_eq!(rx.recv_timeout(LATE).unwrap().sequence(), stats.sent + stats.dropped);
    }
}

fn announcing_and_sleeping_may_be_the_last_thing() {
    for point in ["broadcast.announced", "wait.sleep.bell"] {
        let ring = Broadcast::options().wait(WaitStrategy::Park).anonymous().unwrap();
        let receiver = child(|| {
            let mut rx = ring.join().lossy().consumer().unwrap();
            fault::arm(point, 1);
            let _ = rx.recv_timeout(LATE);
        });
        assert!(died_by_kill(receiver), "{point} is never passed");
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for number in 0..100 {
                tx.send(item(number)).unwrap();
            }
        });
        let (got, ..) = receive(&mut rx, 0);
        assert_eq!(got, 100);
        join(sender);
    }
}

/// A stopped lossless consumer holds the producer back, a stopped lossy one does not, and nobody
/// takes anything from either.
fn a_stopped_consumer_is_not_dead() {
    for lossy in [false, true] {
        let ring = ring(512);
        let mut tx = ring.producer().unwrap();
        let (mut ready, mut joined) = pipe().unwrap();
        let receiver = child(|| {
            let join = if lossy { ring.join().lossy() } else { ring.join() };
            let mut rx = join.consumer().unwrap();
            joined.write_all(&[1]).unwrap();
            let (got, missed, end) = receive(&mut rx, 0);
            assert_eq!((got + missed, end), (300, RecvError::Closed));
            assert_eq!(missed > 100, lossy, "{missed} missed");
        });
        ready.read_exact(&mut [0]).unwrap();
        kill(receiver, Signal::SIGSTOP).unwrap();
        let mut sent = 0;
        let error = loop {
            match tx.send_timeout(item(sent), Duration::from_millis(300)) {
                Ok(()) if sent == 199 => break None,
                Ok(()) => sent += 1,
                Err(error) => break Some(error),
            }
        };
        match error {
            Some(error) => assert!(!lossy && matches!(error, SendError::TimedOut(_)), "{error:?}"),
            None => {
                assert!(lossy, "it waits for a lossless one");
                sent += 1;
            }
        }
        let stats = ring.stats();
        assert_eq!((stats.consumers, stats.lost_consumers), (1, 0), "it keeps its place");
        kill(receiver, Signal::SIGCONT).unwrap();
        for number in sent..300 {
            if lossy {
                thread::sleep(Duration::from_millis(1));
            }
            tx.send_timeout(item(number), LATE).unwrap();
        }
        drop(tx);
        join(receiver);
    }
}

/// The producer sleeps when the one it waits for dies.
fn death_ends_a_wait_for_room() {
    let ring = Broadcast::options().capacity(512).wait(WaitStrategy::Park).anonymous().unwrap();
    let mut tx = ring.producer().unwrap();
    let (mut ready, mut joined) = pipe().unwrap();
    let receivers = [(); 2].map(|()| {
        child(|| {
            let _rx = ring.consumer().unwrap();
            joined.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        })
    });
    ready.read_exact(&mut [0; 2]).unwrap();
    let killer = child(|| {
        for receiver in receivers {
            thread::sleep(Duration::from_millis(50));
            kill(receiver, Signal::SIGKILL).unwrap();
        }
    });
    let began = Instant::now();
    for number in 0..100 {
        tx.send(item(number)).unwrap();
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(90) && took < Duration::from_millis(600), "{took:?}");
    assert_eq!(ring.stats().lost_consumers, 2);
    receivers.into_iter().for_each(|receiver| assert!(died_by_kill(receiver)));
    join(killer);
}

/// Consumers that sleep in processes of their own are woken, each, and not found by looking.
fn sleepers_are_woken() {
    let ring = Broadcast::options().wait(WaitStrategy::Park).anonymous().unwrap();
    let began = Instant::now();
    let (mut ready, mut joined) = pipe().unwrap();
    let receivers: Vec<Pid> = (0..4)
        .map(|index| {
            child(|| {
                let join = if index % 2 == 0 { ring.join() } else { ring.join().lossy() };
                let mut rx = join.consumer().unwrap();
                joined.write_all(&[1]).unwrap();
                let mut late = 0;
                for _ in 0..50 {
                    let found = rx.recv_timeout(LATE).unwrap();
                    let sent =
                        Duration::from_nanos(u64::from_le_bytes((*found).try_into().unwrap()));
                    late += u32::from(began.elapsed() - sent > Duration::from_millis(8));
                }
                // A loaded machine is late now and then; who is not woken is late each time.
                assert!(late < 25, "{late} of 50 were late");
            })
        })
        .collect();
    ready.read_exact(&mut [0; 4]).unwrap();
    let mut tx = ring.producer().unwrap();
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(10));
        tx.send((began.elapsed().as_nanos() as u64).to_le_bytes()).unwrap();
    }
    receivers.into_iter().for_each(join);
}

fn a_segments_places_are_used_again() {
    let segment = shmring::Segment::options().participants(3).anonymous().unwrap();
    let ring = Broadcast::options().capacity(1024).consumers(1).create_in(&segment).unwrap();
    let mut tx = ring.producer().unwrap();
    for number in 0..20 {
        let receiver = child(|| {
            let mut rx = ring.join().history(1).consumer().unwrap();
            if number > 0 {
                assert_eq!(self::number(&rx.recv_timeout(LATE).unwrap()), number - 1);
            }
            shmring::os::kill_self();
        });
        assert!(died_by_kill(receiver));
        tx.send_timeout(item(number), LATE).unwrap();
    }
    assert_eq!(ring.stats().lost_consumers, 19, "those whose place somebody took over");
}

/// Tries again while somebody else is giving back the places of the dead, which takes long when it
/// has no processor.
fn patiently<T>(mut take: impl FnMut() -> shmring::Result<T>) -> T {
    let began = Instant::now();
    loop {
        match take() {
            Ok(end) => return end,
            Err(shmring::Error::NoPlace { .. }) if began.elapsed() < LATE => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Kills whichever end at random moments, for a while. Lossless consumers get all from where they
/// joined, without gaps; what lossy ones miss is told; all that was sent is numbered without gaps.
fn soak() {
    let end = Instant::now() + testkit::soak_time();
    let ring = ring(2048);
    let mut random = std::process::id();
    let mut random = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    let consumer = |lossy: bool, history: u64| {
        child(|| {
            let join = if lossy { ring.join().lossy() } else { ring.join() };
            let mut rx = patiently(|| join.clone().history(history).consumer());
            let mut next = None;
            loop {
                match rx.recv() {
                    Ok(found) => {
                        let number = number(&found);
                        assert_eq!(found.sequence(), number);
                        assert!(next.is_none_or(|next| next == number), "a gap");
                        next = Some(number + 1);
                    }
                    Err(RecvError::Lapped { missed }) if lossy => {
                        next = next.map(|next| next + missed);
                    }
                    Err(RecvError::PeerDied { .. }) => thread::yield_now(),
                    Err(end) => panic!("{end}"),
                }
            }
        })
    };
    let producer = || {
        child(|| {
            let mut tx = patiently(|| ring.producer());
            for number in ring.stats().sent.. {
                tx.send(item(number)).unwrap();
            }
        })
    };
    let (mut sender, mut kills) = (producer(), 0u32);
    let mut consumers: Vec<Pid> = (0..4).map(|index| consumer(index % 2 == 0, 0)).collect();
    while Instant::now() < end {
        thread::sleep(Duration::from_micros(u64::from(random(3000))));
        let victim = random(5) as usize;
        let pid = consumers.get(victim).copied().unwrap_or(sender);
        kill(pid, Signal::SIGKILL).unwrap();
        // One that failed by itself says so here.
        assert!(died_by_kill(pid));
        kills += 1;
        match consumers.get_mut(victim) {
            Some(place) => *place = consumer(random(2) == 0, u64::from(random(30))),
            None => sender = producer(),
        }
    }
    for pid in consumers.into_iter().chain([sender]) {
        kill(pid, Signal::SIGKILL).unwrap();
        assert!(died_by_kill(pid));
    }
    // It still works.
    let mut rx = ring.consumer().unwrap();
    let mut tx = ring.producer().unwrap();
    let sent = ring.stats().sent;
    tx.send_timeout(item(sent), LATE).unwrap();
    assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), sent);
    println!("{kills} kills, {sent} items, none lost");
    assert!(kills > 50 && sent > 100);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(two_ends),
        testkit::test!(two_ends_asleep),
        testkit::test!(consumers_join_and_leave_while_it_runs),
        testkit::test!(an_end_that_a_child_uses_has_left_its_parent),
        testkit::test!(a_copy_of_what_was_closed_joins_again),
        testkit::test!(a_producer_dies_at_every_point),
        testkit::test!(a_producer_dies_in_the_middle_of_a_batch),
        testkit::test!(a_producer_dies_while_it_wakes),
        testkit::test!(a_consumer_dies_at_every_point),
        testkit::test!(a_joiner_dies_at_every_point),
        testkit::test!(a_producer_dies_while_it_drops_the_dead),
        testkit::test!(losses_are_counted_across_a_death),
        testkit::test!(announcing_and_sleeping_may_be_the_last_thing),
        testkit::test!(a_stopped_consumer_is_not_dead),
        testkit::test!(death_ends_a_wait_for_room),
        testkit::test!(sleepers_are_woken),
        testkit::test!(a_segments_places_are_used_again),
        testkit::test!(soak, timeout = testkit::soak_time().as_secs() + 600),
    ])
}
