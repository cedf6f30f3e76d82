//! Waiting for many rings between processes: what it costs, deaths, stopped and forked processes.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    fs,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    signal::{Signal, kill},
    time::TimeValLike,
};
use shmring::{
    RecvError, Segment, Selector, SendError, WaitStrategy, fault,
    ring::{
        queue::Queue,
        records::{Consumer, Records},
    },
};
use testkit::{forked as child, join, join_killed};

const LATE: Duration = Duration::from_secs(20);

fn segment(rings: usize) -> Segment {
    Segment::options().len(rings * 1024).objects(rings).anonymous().unwrap()
}

fn rings(segment: &Segment, count: usize) -> Vec<Records> {
    (0..count).map(|_| Records::options().capacity(256).create_in(segment).unwrap()).collect()
}

fn selector(consumers: &[Consumer]) -> Selector {
    let mut selector = Selector::new();
    for (token, consumer) in consumers.iter().enumerate() {
        selector.add(token, consumer);
    }
    selector
}

fn consumers(rings: &[Records]) -> Vec<Consumer> {
    rings.iter().map(|ring| ring.consumer().unwrap()).collect()
}

fn maps() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Items to `count` rings from one process, in an order that goes through all of them.
fn many_rings(count: usize) {
    const ITEMS: usize = 3000;
    let before = (testkit::fd_count(), maps());
    let segment = segment(count);
    let rings = rings(&segment, count);
    let sender = child(|| {
        let mut tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        for item in 0..ITEMS {
            tx[item * 7 % count].send_timeout(item.to_le_bytes(), LATE).unwrap();
            if item % 100 == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
    });
    let mut rx = consumers(&rings);
    let mut selector = selector(&rx);
    let mut last = vec![None; count];
    let mut got = 0;
    while let Some(token) = selector.ready_timeout(LATE) {
        let record = match rx[token].try_recv() {
            Ok(record) => record,
            Err(error) => {
                assert_eq!(error, RecvError::Closed);
                assert!(selector.remove(token));
                continue;
            }
        };
        let item = usize::from_le_bytes(record[..].try_into().unwrap());
        assert_eq!(item * 7 % count, token);
        assert!(last[token].replace(item) < Some(item), "in order");
        got += 1;
    }
    assert_eq!(got, ITEMS);
    assert!(selector.is_empty());
    join(sender);
    let after = (testkit::fd_count(), maps());
    // The memory and two bells, a pidfd; the vectors of the test may take a mapping as well.
    assert!(after.0 <= before.0 + 4, "descriptors: {before:?} {after:?}");
    assert!(after.1 <= before.1 + 4, "mappings: {before:?} {after:?}");
}

fn one_ring() {
    many_rings(1);
}

fn a_hundred_rings() {
    many_rings(100);
}

fn a_thousand_rings() {
    many_rings(1000);
}

/// The processor time and the sleeps of this process.
fn usage() -> (Duration, i64) {
    let usage: Usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    (Duration::from_micros(micros as u64), usage.voluntary_context_switches())
}

/// An idle selector over a thousand rings of a living process wakes ten times a second, and takes
/// a thousandth of a processor at most.
fn idle_costs_nothing() {
    let segment = segment(1000);
    let rings = rings(&segment, 1000);
    let (mut ready, mut write) = pipe().unwrap();
    let sender = child(|| {
        let _tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    let rx = consumers(&rings);
    let mut selector = selector(&rx);
    assert_eq!(selector.ready_timeout(Duration::from_millis(200)), None);
    const TIME: Duration = Duration::from_secs(3);
    let mut least = Duration::MAX;
    // On a machine that is busy with other things the same work takes longer.
    for _ in 0..4 {
        let before = usage();
        assert_eq!(selector.ready_timeout(TIME), None);
        let after = usage();
        let (time, sleeps) = (after.0 - before.0, after.1 - before.1);
        println!("{time:?} and {sleeps} sleeps in {TIME:?}");
        assert!(sleeps <= 40, "{sleeps}");
        least = least.min(time);
        if least <= TIME / testkit::IDLE {
            break;
        }
    }
    assert!(least <= TIME / testkit::IDLE, "{least:?}");
    kill(sender, Signal::SIGKILL).unwrap();
    join_killed(sender);
}

/// A peer's death is told by the token of its ring alone, also while another ring is never quiet.
fn death_ends_a_wait() {
    for busy in [false, true] {
        let segment = segment(3);
        let rings = rings(&segment, 3);
        let (mut ready, mut write) = pipe().unwrap();
        let dies = child(|| {
            let _tx = rings[1].producer().unwrap();
            write.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        let (mut lives, mut keep) = (rings[0].producer().unwrap(), rings[2].producer().unwrap());
        ready.read_exact(&mut [0]).unwrap();
        let mut rx = consumers(&rings);
        let mut selector = selector(&rx);
        let began = Instant::now();
        kill(dies, Signal::SIGKILL).unwrap();
        let error = loop {
            if busy {
                let _ = lives.try_send(b"item");
            }
            let token = selector.ready_timeout(LATE).expect("its death was not seen");
            match rx[token].try_recv() {
                Ok(_) => assert!(busy && token == 0),
                Err(RecvError::Empty) => {}
                Err(error) => {
                    assert_eq!(token, 1);
                    break error;
                }
            }
        };
        assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        join_killed(dies);
        assert!(selector.remove(1));
        keep.send(b"goes on").unwrap();
        while selector.ready_timeout(LATE).expect("the others are told") != 2 {
            let _ = rx[0].try_recv();
        }
    }
}

/// A consumer's death ends a wait for room.
fn death_ends_a_wait_for_room() {
    let segment = segment(1);
    let ring = &rings(&segment, 1)[0];
    let mut tx = ring.producer().unwrap();
    let (mut ready, mut write) = pipe().unwrap();
    let dies = child(|| {
        let _rx = ring.consumer().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    let mut selector = Selector::new();
    selector.add_room(5, &tx, 40);
    while tx.try_send([0; 40]).is_ok() {
        assert!(selector.len() == 1);
    }
    assert_eq!(selector.ready_timeout(Duration::from_millis(20)), None);
    kill(dies, Signal::SIGKILL).unwrap();
    loop {
        assert_eq!(selector.ready_timeout(LATE), Some(5));
        match tx.try_send([0; 40]) {
            Err(SendError::Full(_)) => {}
            Err(SendError::PeerDied { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    join_killed(dies);
}

/// A ringer that dies between publishing and waking: the item is found all the same, and that of
/// another ringer, who saw that the bell was being rung.
fn a_ringer_dies_at_every_point() {
    for strategy in [WaitStrategy::Park, WaitStrategy::Adaptive] {
        for point in ["records.published", "doorbell.armed", "doorbell.swapped"] {
            let segments = [segment(2), segment(1)];
            let mut rings = rings(&segments[0], 2);
            rings.extend(self::rings(&segments[1], 1));
            let mut rx = consumers(&rings);
            let mut selector = selector(&rx);
            selector.set_wait(strategy);
            let dies = child(|| {
                let mut tx = rings[0].producer().unwrap();
                thread::sleep(Duration::from_millis(20));
                fault::arm(point, 1);
                // It passes the point when the other one sleeps.
                for item in 0u64..300 {
                    tx.send(item.to_le_bytes()).unwrap();
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let sends = child(|| {
                thread::sleep(Duration::from_millis(20));
                let mut tx = rings[1].producer().unwrap();
                let mut far = rings[2].producer().unwrap();
                tx.send(b"one").unwrap();
                far.send(b"two").unwrap();
            });
            let mut got = [0; 3];
            let began = Instant::now();
            while let Some(token) = selector.ready_timeout(LATE) {
                match rx[token].try_recv() {
                    Ok(_) => got[token] += 1,
                    Err(RecvError::Empty) => {}
                    Err(RecvError::Closed) => assert!(token > 0 && selector.remove(token)),
                    Err(RecvError::PeerDied { .. }) => assert!(selector.remove(token)),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(began.elapsed() < Duration::from_secs(3), "{point}: {:?}", began.elapsed());
            assert!(got[0] > 0 && got[1..] == [1, 1], "{point}: {got:?}");
            join_killed(dies);
            join(sends);
        }
    }
}

/// A sleeper that dies leaves the ring to its successor.
fn a_sleeper_dies() {
    let segment = segment(2);
    let rings = rings(&segment, 2);
    let mut tx = rings[1].producer().unwrap();
    let dies = child(|| {
        let rx = consumers(&rings);
        let mut selector = selector(&rx);
        selector.set_wait(WaitStrategy::Park);
        fault::arm("wait.sleep.any", 1);
        selector.ready();
    });
    join_killed(dies);
    tx.send(b"news").unwrap();
    let mut rx = consumers(&rings);
    assert_eq!(selector(&rx).ready_timeout(LATE), Some(1));
    assert_eq!(&*rx[1].recv().unwrap(), b"news");
}

/// A forked child that goes on with a copy of the selector takes the ends over.
fn a_forked_child_takes_over() {
    let segment = segment(2);
    let rings = rings(&segment, 2);
    let mut tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
    let mut rx = consumers(&rings);
    let mut selector = selector(&rx);
    assert_eq!(selector.try_ready(), None);
    let receiver = child(|| {
        let mut got = 0;
        let mut tokens = vec![];
        while got < 20 {
            assert!(selector.ready_many(&mut tokens, Some(LATE)) > 0);
            for token in &tokens {
                got += usize::from(rx[*token].try_recv().is_ok());
            }
        }
    });
    for item in 0..20u64 {
        tx[item as usize % 2].send_timeout(item.to_le_bytes(), LATE).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    join(receiver);
    assert!(matches!(rx[0].try_recv(), Err(RecvError::Moved)));
}

/// Also one by one; and what it has dropped it is not told of.
fn a_forked_child_is_told_of_each() {
    let segment = segment(3);
    let rings = rings(&segment, 3);
    let _tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
    let rx = consumers(&rings);
    let mut selector = selector(&rx);
    assert_eq!(selector.try_ready(), None);
    join(child(|| {
        // SAFETY: the child ends without dropping the originals.
        let mut rx: Vec<Option<Consumer>> =
            rx.iter().map(|rx| Some(unsafe { std::ptr::read(rx) })).collect();
        let mut told: Vec<_> = (0..3).map(|_| selector.try_ready().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2]);
        for rx in rx.iter_mut().flatten() {
            assert!(rx.try_recv().is_err());
        }
        assert_eq!(selector.try_ready(), None);
        drop(rx[1].take());
        assert_eq!(selector.ready_timeout(Duration::from_millis(20)), None);
        drop((rx[0].take(), rx[2].take()));
        assert_eq!(selector.ready(), None);
        std::mem::forget(rx);
    }));
}

/// Of a queue, where the child has another seat than its parent.
fn a_forked_child_is_rung_at_its_own_seat() {
    let ring = Queue::options().capacity(8).anonymous().unwrap();
    let (mut tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut selector = Selector::new();
    selector.add(0, &rx);
    assert_eq!(selector.try_ready(), None);
    let (mut waits, mut waiting) = pipe().unwrap();
    let receiver = child(|| {
        // SAFETY: the child ends without dropping the original.
        let mut rx = unsafe { std::ptr::read(&rx) };
        assert_eq!(selector.try_ready(), Some(0));
        assert!(rx.try_recv().is_err());
        for _ in 0..20 {
            waiting.write_all(&[1]).unwrap();
            assert_eq!(selector.ready_timeout(LATE), Some(0));
            rx.try_recv().unwrap().ack().unwrap();
            waiting.write_all(&[2]).unwrap();
        }
        drop(rx);
        assert_eq!(selector.ready(), None);
    });
    let mut quick = 0;
    for _ in 0..20 {
        waits.read_exact(&mut [0]).unwrap();
        thread::sleep(Duration::from_millis(2));
        let sent = Instant::now();
        tx.send(b"item").unwrap();
        waits.read_exact(&mut [0]).unwrap();
        // A sleep that nobody ends lasts 100 ms.
        quick += u32::from(sent.elapsed() < Duration::from_millis(10));
    }
    join(receiver);
    assert!(quick > 10, "{quick} of 20 items were rung for");
}

/// A stopped producer is waited for, and holds nobody up.
fn a_stopped_peer_is_not_dead() {
    let segment = segment(2);
    let rings = rings(&segment, 2);
    let (mut ready, mut write) = pipe().unwrap();
    let stopped = child(|| {
        let mut tx = rings[0].producer().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(Duration::from_millis(300));
        tx.send(b"late").unwrap();
    });
    ready.read_exact(&mut [0]).unwrap();
    kill(stopped, Signal::SIGSTOP).unwrap();
    let mut tx = rings[1].producer().unwrap();
    let mut rx = consumers(&rings);
    let mut selector = selector(&rx);
    for _ in 0..5 {
        tx.send(b"soon").unwrap();
        assert_eq!(selector.ready_timeout(LATE), Some(1));
        rx[1].try_recv().unwrap();
        assert_eq!(selector.ready_timeout(Duration::from_millis(150)), None);
    }
    kill(stopped, Signal::SIGCONT).unwrap();
    assert_eq!(selector.ready_timeout(LATE), Some(0));
    assert_eq!(&*rx[0].try_recv().unwrap(), b"late");
    join(stopped);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(one_ring),
        testkit::test!(a_hundred_rings),
        testkit::test!(a_thousand_rings),
        testkit::test!(idle_costs_nothing),
        testkit::test!(death_ends_a_wait),
        testkit::test!(death_ends_a_wait_for_room),
        testkit::test!(a_ringer_dies_at_every_point),
        testkit::test!(a_sleeper_dies),
        testkit::test!(a_forked_child_takes_over),
        testkit::test!(a_forked_child_is_told_of_each),
        testkit::test!(a_forked_child_is_rung_at_its_own_seat),
        testkit::test!(a_stopped_peer_is_not_dead),
    ])
}
