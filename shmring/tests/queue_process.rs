//! Queues between processes: many ends, forks, stopped ends, deaths that are noticed.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

mod queue;

use std::{
    collections::BTreeMap,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use queue::{LATE, SLOTS, all_said, check_slots, item, number, queue, say};
use shmring::{
    RecvError, Segment, SendError, WaitStrategy,
    ring::queue::{Consumer, Producer, Queue},
};
use testkit::{died_by_kill, forked as child, join};

fn many_processes() {
    const ITEMS: u64 = 3000;
    const ENDS: u64 = 4;
    let queue = Queue::options().capacity(32).item_len(80).anonymous().unwrap();
    let (said, tell) = pipe().unwrap();
    let kept = queue.producer().unwrap();
    let producers: Vec<_> = (0..ENDS)
        .map(|number| {
            child(|| {
                let mut tx = queue.producer().unwrap();
                for next in 0..ITEMS {
                    tx.send_timeout(item(number << 32 | next), LATE).unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..ENDS)
        .map(|_| {
            let (mut tell, queue) = (tell.try_clone().unwrap(), &queue);
            child(move || {
                let mut rx = queue.consumer().unwrap();
                let (mut last, mut count, mut sum) = (BTreeMap::new(), 0, 0);
                loop {
                    let found = match rx.recv_timeout(LATE) {
                        Ok(found) => found,
                        Err(error) => break assert_eq!(error, RecvError::Closed),
                    };
                    let number = number(&found);
                    assert_eq!(found.attempt(), 1);
                    if let Some(before) = last.insert(number >> 32, number) {
                        assert!(before < number, "not in order");
                    }
                    (count, sum) = (count + 1, sum + (number & 0xffff_ffff));
                    found.ack().unwrap();
                }
                say(&mut tell, [count, sum]);
            })
        })
        .collect();
    drop(tell);
    producers.into_iter().for_each(join);
    drop(kept);
    consumers.into_iter().for_each(join);
    let (counts, sums): (Vec<_>, Vec<_>) =
        all_said(said).iter().map(|said| (said[0], said[1])).unzip();
    assert_eq!(counts.iter().sum::<u64>(), ENDS * ITEMS);
    assert_eq!(sums.iter().sum::<u64>(), ENDS * (0..ITEMS).sum::<u64>());
}

fn an_end_that_a_child_uses_becomes_another() {
    let (mut tx, mut rx) = queue().split().unwrap();
    tx.send(item(1)).unwrap();
    {
        let mut found = Some(rx.try_recv().unwrap());
        let mut claim = Some(tx.try_claim(8).unwrap());
        join(child(|| {
            let (found, mut claim) = (found.take().unwrap(), claim.take().unwrap());
            assert_eq!((found.len(), claim.len()), (0, 0), "they are the parent's");
            claim.fill(7);
            assert_eq!(claim.commit().unwrap_err(), SendError::Moved(()));
            assert_eq!(found.ack().unwrap_err(), RecvError::Moved);
        }));
        claim.take().unwrap().commit_len(0).unwrap();
        found.take().unwrap().ack().unwrap();
    }
    join(child(|| {
        tx.send(item(2)).unwrap();
        let found = rx.try_recv().unwrap();
        assert_eq!(found.len(), 0);
        found.ack().unwrap();
        std::mem::forget(rx.try_recv().unwrap());
    }));
    // It ended with an item in hand, and did not say that it goes.
    let found = rx.recv_timeout(LATE).unwrap();
    assert_eq!((number(&found), found.attempt(), found.sequence()), (2, 2, 0));
    found.ack().unwrap();
    tx.send(item(3)).unwrap();
    let found = rx.recv_timeout(LATE).unwrap();
    assert_eq!((number(&found), found.sequence()), (3, 2));
    found.ack().unwrap();
    drop(tx);
    let end = rx.recv_timeout(LATE).map(drop).unwrap_err();
    assert!(matches!(end, RecvError::PeerDied { .. }), "the child's producer: {end}");
}

/// What a dead consumer held comes to one that sleeps; and it is not told of the death of one
/// producer while another lives.
fn the_dead_are_noticed_by_those_who_sleep() {
    for bells in [0, 4] {
        let segment = Segment::options().bells(bells).anonymous().unwrap();
        let options = Queue::options().capacity(SLOTS).item_len(80).wait(WaitStrategy::Park);
        let queue = options.create_in(&segment).unwrap();
        let (mut tx, mut rx) = queue.split().unwrap();
        tx.send(item(5)).unwrap();
        let (mut ready, mut tell) = pipe().unwrap();
        let holds = child(|| {
            let (_tx, mut rx) = queue.split().unwrap();
            let _found = rx.try_recv().unwrap();
            tell.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        ready.read_exact(&mut [0]).unwrap();
        let killer = child(|| {
            thread::sleep(Duration::from_millis(50));
            kill(holds, Signal::SIGKILL).unwrap();
        });
        let began = Instant::now();
        let found = rx.recv_timeout(LATE).unwrap();
        assert_eq!((number(&found), found.attempt()), (5, 2));
        found.ack().unwrap();
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
        assert!(died_by_kill(holds));
        join(killer);
        let error = rx.recv_timeout(Duration::from_millis(250)).map(drop).unwrap_err();
        assert_eq!(error, RecvError::TimedOut, "a producer is left");
    }
}

fn death_ends_a_wait(strategy: WaitStrategy) {
    let queue = Queue::options().wait(strategy).anonymous().unwrap();
    let mut rx = queue.consumer().unwrap();
    let (mut ready, mut tell) = pipe().unwrap();
    let sender = child(|| {
        let _tx = queue.producer().unwrap();
        tell.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    let killer = child(|| {
        thread::sleep(Duration::from_millis(50));
        kill(sender, Signal::SIGKILL).unwrap();
    });
    let began = Instant::now();
    let error = rx.recv_timeout(LATE).map(drop).unwrap_err();
    assert_eq!(error, RecvError::PeerDied { pid: sender.as_raw() as u32 });
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(died_by_kill(sender));
    join(killer);
}

fn death_ends_a_sleep() {
    death_ends_a_wait(WaitStrategy::Park);
}

fn death_ends_a_spin() {
    death_ends_a_wait(WaitStrategy::Spin);
}

fn a_stopped_consumer_keeps_its_item() {
    let queue = queue();
    let (mut tx, mut rx) = queue.split().unwrap();
    tx.send(item(0)).unwrap();
    let (mut ready, mut tell) = pipe().unwrap();
    let slow = child(|| {
        let mut slow: Consumer = queue.consumer().unwrap();
        let found = slow.recv_timeout(LATE).unwrap();
        tell.write_all(&[1]).unwrap();
        thread::sleep(Duration::from_millis(20));
        assert_eq!((number(&found), found.attempt()), (0, 1));
        found.ack().unwrap();
    });
    ready.read_exact(&mut [0]).unwrap();
    kill(slow, Signal::SIGSTOP).unwrap();
    let end = Instant::now() + Duration::from_millis(500);
    let mut next = 1;
    while Instant::now() < end {
        tx.send_timeout(item(next), LATE).unwrap();
        let found = rx.recv_timeout(LATE).unwrap();
        assert_eq!((number(&found), found.attempt()), (next, 1));
        found.ack().unwrap();
        next += 1;
    }
    drop(tx);
    let error = rx.recv_timeout(Duration::from_millis(250)).map(drop).unwrap_err();
    assert_eq!(error, RecvError::TimedOut, "it may come back");
    assert_eq!(queue.stats().redelivered, 0, "nothing is stolen");
    kill(slow, Signal::SIGCONT).unwrap();
    assert_eq!(rx.recv_timeout(LATE).map(drop).unwrap_err(), RecvError::Closed);
    join(slow);
    assert_eq!(queue.stats().acked, next);
    check_slots(&queue);
}

fn a_stopped_producer_keeps_its_slot() {
    let queue = queue();
    let (mut tx, mut rx) = queue.split().unwrap();
    let (mut ready, mut tell) = pipe().unwrap();
    let slow = child(|| {
        let mut slow: Producer = queue.producer().unwrap();
        let mut claim = slow.claim(item(1_000_003).len()).unwrap();
        claim[..4].copy_from_slice(&item(1_000_003)[..4]);
        tell.write_all(&[1]).unwrap();
        thread::sleep(Duration::from_millis(20));
        claim[4..].copy_from_slice(&item(1_000_003)[4..]);
        claim.commit().unwrap();
    });
    ready.read_exact(&mut [0]).unwrap();
    kill(slow, Signal::SIGSTOP).unwrap();
    let end = Instant::now() + Duration::from_millis(500);
    let mut next = 0;
    while Instant::now() < end {
        for part in 0..SLOTS as u64 - 1 {
            tx.try_send(item(next + part)).unwrap();
        }
        assert!(matches!(tx.try_send(item(0)), Err(SendError::Full(_))), "one slot is its own");
        for part in 0..SLOTS as u64 - 1 {
            let found = rx.try_recv().unwrap();
            assert_eq!(number(&found), next + part);
            found.ack().unwrap();
        }
        next += 1;
    }
    assert_eq!(queue.stats().skipped, 0);
    kill(slow, Signal::SIGCONT).unwrap();
    let found = rx.recv_timeout(LATE).unwrap();
    assert_eq!(number(&found), 1_000_003);
    found.ack().unwrap();
    join(slow);
    check_slots(&queue);
}

fn a_named_queue_joins_unrelated_processes() {
    let name = testkit::name("queue");
    // The children open what does not exist yet.
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let name = name.clone();
            child(move || {
                let queue = Queue::open_or_wait(&name, LATE).unwrap();
                let mut rx = queue.consumer().unwrap();
                loop {
                    match rx.recv_timeout(LATE) {
                        Ok(found) => {
                            number(&found);
                            found.ack().unwrap();
                        }
                        Err(error) => break assert_eq!(error, RecvError::Closed),
                    }
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    let queue = Queue::options().capacity(SLOTS).create(&name).unwrap();
    let mut tx = queue.producer().unwrap();
    for next in 0..1000 {
        tx.send_timeout(item(next), LATE).unwrap();
    }
    drop(tx);
    workers.into_iter().for_each(join);
    assert_eq!(queue.stats().acked, 1000);
}

fn a_segments_places_are_used_again() {
    let segment = Segment::options().participants(3).anonymous().unwrap();
    let options = Queue::options().capacity(SLOTS).item_len(80).ends(2);
    let queue = options.create_in(&segment).unwrap();
    let mut rx = queue.consumer().unwrap();
    for next in 0..20 {
        let sender = child(|| {
            let mut tx = queue.producer().unwrap();
            tx.send(item(next)).unwrap();
            let _claim = tx.claim(1).unwrap();
            shmring::os::kill_self();
        });
        assert!(died_by_kill(sender));
        let found = rx.recv_timeout(LATE).unwrap();
        assert_eq!((number(&found), found.attempt()), (next, 1));
        found.ack().unwrap();
    }
    let mut tx = queue.producer().unwrap();
    assert!(testkit::wait_until(LATE, || {
        let _ = rx.try_recv().map(drop);
        queue.stats().skipped == 20
    }));
    for next in 0..SLOTS as u64 {
        tx.try_send(item(next)).unwrap();
    }
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(many_processes),
        testkit::test!(an_end_that_a_child_uses_becomes_another),
        testkit::test!(the_dead_are_noticed_by_those_who_sleep),
        testkit::test!(death_ends_a_sleep),
        testkit::test!(death_ends_a_spin),
        testkit::test!(a_stopped_consumer_keeps_its_item),
        testkit::test!(a_stopped_producer_keeps_its_slot),
        testkit::test!(a_named_queue_joins_unrelated_processes),
        testkit::test!(a_segments_places_are_used_again),
    ])
}
