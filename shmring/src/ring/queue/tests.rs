//! Ends in one process, on one thread and on several. Several processes are in the tests of whole
//! processes.

#![allow(clippy::disallowed_methods)] // A process to be killed.

use std::{thread, time::Duration};

use super::*;
use crate::{Error, RecvError, SendError, sync::local, transfer};

pub(super) const LATE: Duration = Duration::from_secs(20);
pub(super) const SOON: Duration = Duration::from_millis(5);

fn queue(capacity: usize) -> Queue {
    Queue::options().capacity(capacity).item_len(40).anonymous().unwrap()
}

pub(super) fn ends(capacity: usize) -> (Producer, Consumer) {
    queue(capacity).split().unwrap()
}

/// Takes an item and acknowledges it.
pub(super) fn take(rx: &mut Consumer) -> Vec<u8> {
    let item = rx.try_recv().unwrap();
    let bytes = item.to_vec();
    item.ack().unwrap();
    bytes
}

#[test]
fn smoke() {
    let (mut tx, mut rx) = ends(4);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    tx.send(b"hello").unwrap();
    let mut claim = tx.claim(10).unwrap();
    assert_eq!(claim.as_ptr() as usize % 8, 0);
    claim[..5].copy_from_slice(b"world");
    claim.commit_len(5).unwrap();
    drop(tx.claim(10).unwrap()); // Given up.
    let item = rx.recv().unwrap();
    assert_eq!((&*item, item.attempt(), item.sequence()), (&b"hello"[..], 1, 0));
    item.ack().unwrap();
    let item = rx.try_recv().unwrap();
    assert_eq!(item.as_ptr() as usize % 8, 0);
    assert_eq!((&*item, item.attempt(), item.sequence()), (&b"world"[..], 1, 1));
    item.ack().unwrap();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.recv_timeout(SOON).unwrap_err(), RecvError::TimedOut);
    let stats = rx.ring().stats();
    assert_eq!((stats.sent, stats.taken, stats.acked, stats.waiting), (2, 2, 2, 0));
}

#[test]
fn wraps() {
    for capacity in [1, 2, 3, 5] {
        let (mut tx, mut rx) = ends(capacity);
        for item in 0..200u32 {
            for part in 0..capacity as u32 {
                tx.try_send((item + part).to_le_bytes()).unwrap();
            }
            for part in 0..capacity as u32 {
                assert_eq!(take(&mut rx), (item + part).to_le_bytes());
            }
        }
    }
}

#[test]
fn full() {
    let (mut tx, mut rx) = ends(3);
    for byte in 0..3 {
        tx.try_send([byte; 40]).unwrap();
    }
    assert_eq!(tx.try_send([3; 40]).unwrap_err(), SendError::Full([3; 40]));
    assert_eq!(tx.send_timeout([3; 40], SOON).unwrap_err(), SendError::TimedOut([3; 40]));
    let item = rx.recv().unwrap();
    assert_eq!(*item, [0; 40]);
    assert!(matches!(tx.try_send([3; 40]), Err(SendError::Full(_))), "it is still in hand");
    item.ack().unwrap();
    tx.try_send([3; 40]).unwrap();
    let error = tx.try_send([0; 41]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { item: [0, ..], len: 41, limit: 40 }));
    assert!(matches!(tx.send([0; 41]), Err(SendError::TooLarge { .. })), "and does not wait");
    assert_eq!((tx.capacity(), tx.max_len(), tx.ring().len()), (3, 40, 3));
}

#[test]
fn each_policy_when_full() {
    let ends = |policy| {
        let options = Queue::options().capacity(3).item_len(40).policy(policy);
        options.anonymous().unwrap().split().unwrap()
    };
    let (mut tx, _rx) = ends(Policy::Fail);
    while tx.send([1u8; 40]).is_ok() {}
    assert_eq!(tx.send([2u8; 40]).unwrap_err(), SendError::Full([2; 40]));
    assert!(matches!(tx.claim(40), Err(SendError::Full(()))));
    assert_eq!(tx.send_timeout([2u8; 40], SOON).unwrap_err(), SendError::TimedOut([2; 40]));

    let (mut tx, mut rx) = ends(Policy::DropNewest);
    for byte in 0..8 {
        tx.send([byte; 40]).unwrap();
    }
    assert!(matches!(tx.try_send([0u8; 40]), Err(SendError::Full(_))), "try_ loses nothing");
    assert!(matches!(tx.claim(40), Err(SendError::Full(()))));
    assert!(matches!(tx.send([0u8; 41]), Err(SendError::TooLarge { .. })));
    assert_eq!((tx.ring().stats().sent, tx.ring().stats().lost), (3, 5));
    for byte in 0..3 {
        let item = rx.recv().unwrap();
        assert_eq!((item.sequence(), item[0]), (u64::from(byte), byte));
        item.ack().unwrap();
    }
    tx.send([9; 40]).unwrap();
    let item = rx.recv().unwrap();
    assert_eq!(item.sequence(), 8, "a gap for what was lost");
    item.ack().unwrap();
    drop(rx);
    while tx.try_send([0u8; 40]).is_ok() {}
    assert!(matches!(tx.send([0u8; 40]), Err(SendError::Closed(_))), "nobody loses it by policy");
}

#[test]
fn closed() {
    let (mut tx, mut rx) = ends(4);
    tx.send(b"last").unwrap();
    assert!(!rx.is_closed());
    drop(tx);
    assert!(rx.is_closed());
    assert_eq!(take(&mut rx), b"last");
    assert_eq!(rx.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);

    let (mut tx, rx) = ends(4);
    drop(rx);
    assert!(tx.is_closed());
    let error = loop {
        if let Err(error) = tx.send([0u8; 40]) {
            break error;
        }
    };
    assert_eq!(error, SendError::Closed([0; 40]));
    // A new consumer opens it again, and gets what was sent.
    let mut rx = tx.ring().consumer().unwrap();
    assert_eq!(take(&mut rx), [0; 40]);
    tx.send([1u8; 40]).unwrap();
}

#[test]
fn a_producer_that_is_left_keeps_it_open() {
    let (one, mut rx) = ends(4);
    let mut two = one.ring().producer().unwrap();
    drop(one);
    assert!(!rx.is_closed());
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    two.send(b"two").unwrap();
    drop(two);
    assert_eq!(take(&mut rx), b"two");
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn items_that_are_not_acknowledged_come_again() {
    let (mut tx, mut rx) = ends(4);
    for byte in 0..3u8 {
        tx.send([byte]).unwrap();
    }
    rx.recv().unwrap().nack().unwrap();
    drop(rx.recv().unwrap());
    std::mem::forget(rx.recv().unwrap()); // Given back when the next is asked for.
    let mut got = vec![];
    for _ in 0..3 {
        let item = rx.try_recv().unwrap();
        got.push((item[0], item.attempt()));
        item.ack().unwrap();
    }
    assert_eq!(got, [(0, 2), (1, 2), (2, 2)], "behind what was sent before they came back");
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.ring().stats().redelivered, 3);

    tx.send([7]).unwrap();
    for attempt in 1..300 {
        let item = rx.recv().unwrap();
        assert_eq!(item.attempt(), attempt.min(256));
    }
    std::mem::forget(rx.recv().unwrap());
    let mut other = rx.ring().consumer().unwrap();
    drop(rx);
    assert_eq!(take(&mut other), [7], "given back when its consumer goes");
}

#[test]
fn claims_that_are_forgotten_are_given_back() {
    let (mut tx, mut rx) = ends(2);
    for _ in 0..10 {
        std::mem::forget(tx.try_claim(1).unwrap());
    }
    let mut batch = tx.batch();
    batch.try_push(b"one").unwrap();
    std::mem::forget(batch.try_claim(1).unwrap());
    batch.try_push(b"two").unwrap();
    assert!(matches!(batch.try_push(b"three"), Err(SendError::Full(_))));
    std::mem::forget(batch);
    tx.try_send(b"sent").unwrap();
    assert_eq!(take(&mut rx), b"sent");
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    std::mem::forget(tx.try_claim(1).unwrap());
    drop(tx);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed, "nothing is in hand");
}

#[test]
fn batches_on_both_sides() {
    let (mut tx, mut rx) = ends(16);
    let mut batch = tx.batch();
    for byte in 0..10u8 {
        batch.try_push([byte]).unwrap();
    }
    drop(batch.try_claim(1).unwrap());
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    batch.publish().unwrap();
    let mut run = rx.try_run(6).unwrap();
    assert_eq!(run.iter().map(|item| item[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    run.ack_first(2).unwrap();
    assert_eq!((run.len(), run.get(0).unwrap()[0]), (4, 2));
    drop(run); // The other four come again.
    let run = rx.run(100).unwrap();
    let got: Vec<_> = run.iter().map(|item| (item[0], item.attempt())).collect();
    let again = [(2, 2), (3, 2), (4, 2), (5, 2)];
    assert_eq!(got, [[(6, 1), (7, 1), (8, 1), (9, 1)], again].concat());
    run.ack().unwrap();
    assert_eq!(rx.run_timeout(5, SOON).unwrap_err(), RecvError::TimedOut);
    assert_eq!(rx.ring().stats().acked, 10);
    tx.batch().try_push(b"forgotten").unwrap();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.ring().stats().waiting, 0);
}

fn two_ends(strategy: WaitStrategy) {
    const ITEMS: u64 = 20_000;
    let options = Queue::options().capacity(8).item_len(100).wait(strategy);
    let (mut tx, mut rx) = options.anonymous().unwrap().split().unwrap();
    let sender = thread::spawn(move || {
        for item in 0..ITEMS {
            let mut claim = tx.claim(8 + (item % 90) as usize).unwrap();
            claim.fill(item as u8);
            claim[..8].copy_from_slice(&item.to_le_bytes());
            claim.commit().unwrap();
        }
    });
    for number in 0..ITEMS {
        let item = rx.recv().unwrap();
        assert_eq!(item[..8], number.to_le_bytes());
        assert!(item[8..].iter().all(|byte| *byte == number as u8));
        assert_eq!(item.len(), 8 + (number % 90) as usize);
        assert_eq!(item.sequence(), number);
        item.ack().unwrap();
    }
    sender.join().unwrap();
    assert_eq!(rx.recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn two_ends_adaptive() {
    two_ends(WaitStrategy::Adaptive);
}

#[test]
fn two_ends_park() {
    two_ends(WaitStrategy::Park);
}

#[test]
fn two_ends_spin() {
    two_ends(WaitStrategy::Spin);
}

/// Every item comes to one consumer, and those of a producer in their order.
fn many_ends(strategy: WaitStrategy, capacity: usize) {
    const ITEMS: u64 = 4_000;
    const ENDS: u64 = 4;
    let queue = Queue::options().capacity(capacity).item_len(16).wait(strategy);
    let queue = queue.anonymous().unwrap();
    let (sum, count) = (local::AtomicU64::new(0), local::AtomicU64::new(0));
    thread::scope(|scope| {
        let producers: Vec<_> = (0..ENDS).map(|_| queue.producer().unwrap()).collect();
        let consumers: Vec<_> = (0..ENDS).map(|_| queue.consumer().unwrap()).collect();
        for (number, mut tx) in producers.into_iter().enumerate() {
            scope.spawn(move || {
                for item in 0..ITEMS {
                    let word = (number as u64) << 32 | item;
                    tx.send([word.to_le_bytes(), (!word).to_le_bytes()].concat()).unwrap();
                }
            });
        }
        for mut rx in consumers {
            let (sum, count) = (&sum, &count);
            scope.spawn(move || {
                let mut last = [None; ENDS as usize];
                loop {
                    let item = match rx.recv_timeout(LATE) {
                        Ok(item) => item,
                        Err(error) => return assert_eq!(error, RecvError::Closed),
                    };
                    let word = u64::from_le_bytes(item[..8].try_into().unwrap());
                    assert_eq!(item[8..], (!word).to_le_bytes(), "torn");
                    let last = &mut last[(word >> 32) as usize];
                    assert!(last.is_none_or(|last| last < word), "not in order");
                    *last = Some(word);
                    assert_eq!(item.sequence(), word & 0xffff_ffff);
                    sum.fetch_add(word & 0xffff_ffff, local::Ordering::Relaxed);
                    count.fetch_add(1, local::Ordering::Relaxed);
                    item.ack().unwrap();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), ENDS * ITEMS);
    assert_eq!(sum.into_inner(), ENDS * (0..ITEMS).sum::<u64>());
    let stats = queue.stats();
    assert_eq!((stats.sent, stats.acked, stats.redelivered), (ENDS * ITEMS, ENDS * ITEMS, 0));
}

#[test]
fn many_ends_adaptive() {
    many_ends(WaitStrategy::Adaptive, 16);
}

#[test]
fn many_ends_park() {
    many_ends(WaitStrategy::Park, 3);
}

#[test]
fn many_ends_of_one_slot() {
    many_ends(WaitStrategy::Park, 1);
}

#[test]
fn ends_come_and_go() {
    let queue = Queue::options().capacity(4).ends(2).anonymous().unwrap();
    let (one, mut rx) = queue.split().unwrap();
    let mut two = queue.producer().unwrap();
    assert!(matches!(queue.producer(), Err(Error::NoPlace { limit: 2, .. })));
    drop(one);
    let mut three = queue.producer().unwrap();
    two.send(b"two").unwrap();
    three.send(b"three").unwrap();
    let first = rx.recv().unwrap();
    let number = first.producer();
    first.ack().unwrap();
    let second = rx.recv().unwrap();
    assert_ne!(second.producer(), number, "each has a number of its own");
    second.ack().unwrap();
    for _ in 0..100 {
        let mut guest = queue.consumer().unwrap();
        two.send(b"again").unwrap();
        assert_eq!(take(&mut guest), b"again");
    }
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn an_end_that_is_sent_leaves_with_the_message() {
    let (mut tx, mut rx) = ends(4);
    tx.send(b"before").unwrap();
    assert!(postcard::to_stdvec(&rx).is_err(), "outside a port");
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
    drop((bytes, parcel)); // Not sent after all.
    assert_eq!(take(&mut rx), b"before");

    tx.send(b"after").unwrap();
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&(&tx, &rx)).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Moved);
    assert_eq!(tx.try_send(b"no").unwrap_err(), SendError::Moved(b"no"));
    let arrived = transfer::Parcel::from_fds(fds);
    let there = transfer::supply(arrived, || postcard::from_bytes(&bytes));
    let (tx_there, mut rx_there): (Producer, Consumer) = there.unwrap();
    drop((tx, rx));
    assert_eq!(take(&mut rx_there), b"after");
    assert_eq!(rx_there.try_recv().unwrap_err(), RecvError::Empty);
    drop(tx_there);
    assert_eq!(rx_there.try_recv().unwrap_err(), RecvError::Closed);
    let again = transfer::Parcel::from_fds(vec![]);
    let twice = transfer::supply(again, || postcard::from_bytes::<(Producer, Consumer)>(&bytes));
    assert!(twice.is_err(), "they arrive once");
}

#[test]
fn an_end_that_nobody_reads_is_closed() {
    let (tx, mut rx) = ends(4);
    let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    let notes = parcel.notes().to_vec();
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    let message = crate::received(fds, &notes);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    drop(message);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn a_receiver_that_dies_on_the_way_is_a_dead_peer() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let (tx, mut rx) = ends(4);
    let send = || postcard::to_stdvec(&tx).unwrap();
    let (_bytes, parcel) = transfer::collect_for(child.id(), send);
    parcel.sent();
    assert_eq!(rx.recv_timeout(SOON).unwrap_err(), RecvError::TimedOut);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rx.recv().unwrap_err(), RecvError::PeerDied { pid: child.id() });
    drop(tx);
}

#[test]
fn whoever_comes_first_makes_it() {
    let name = testkit::name("queue");
    let options = || Queue::options().capacity(5).item_len(16).policy(Policy::Fail);
    let first = options().create_or_open(&name).unwrap();
    first.producer().unwrap().send(b"before").unwrap();
    let second = Queue::options().capacity(9).create_or_open(&name).unwrap();
    assert_eq!((second.capacity(), second.max_len(), second.policy()), (5, 16, Policy::Fail));
    assert_eq!(take(&mut second.consumer().unwrap()), b"before");
    assert!(matches!(crate::ring::records::Records::open(&name), Err(Error::WrongType { .. })));
    drop((first, second));
    assert!(matches!(Queue::open(&name), Err(Error::Absent { .. })));
}

#[test]
fn an_observer_changes_nothing() {
    let name = testkit::name("observed-queue");
    let queue = Queue::options().capacity(3).item_len(40).create(&name).unwrap();
    let (mut tx, mut rx) = queue.split().unwrap();
    for _ in 0..7 {
        tx.send(b"one").unwrap();
        rx.recv().unwrap().ack().unwrap();
    }
    tx.send(b"two").unwrap();
    rx.recv().unwrap().nack().unwrap();
    // Hints that are behind.
    for side in [Side::Producer, Side::Consumer] {
        for hint in [queue.geometry.head(side), queue.geometry.tail(side)] {
            let word = queue.segment.0.region.u64(hint);
            word.store(word.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
    }
    let observer = Segment::observe(&name).unwrap();
    let stats = observer.queue(0).unwrap();
    assert_eq!((stats.sent, stats.taken, stats.acked, stats.waiting), (8, 8, 7, 1));
    assert_eq!(stats, queue.stats());
    let seen = observer.objects()[0].ring.unwrap();
    assert_eq!((seen.capacity, seen.used, seen.sent, seen.taken), (3, 1, 8, Some(8)));
    queue.segment.0.region.u64(queue.geometry.base).store(0, Ordering::Relaxed);
    assert!(matches!(observer.queue(0), Err(Error::Corrupt { .. })));
    assert!(observer.objects()[0].error.is_some());
    assert!(matches!(Queue::open(&name), Err(Error::Corrupt { .. })));
}

#[test]
fn it_fits_where_it_says() {
    for (capacity, item_len) in [(1, 0), (5, 41), (300, 1000)] {
        let options = Queue::options().capacity(capacity).item_len(item_len).ends(3);
        let len = options.len_in_segment().unwrap();
        let segment = Segment::options().len(2 * len).objects(2).anonymous().unwrap();
        for _ in 0..2 {
            let queue = options.clone().create_in(&segment).unwrap();
            let (mut tx, mut rx) = queue.split().unwrap();
            for _ in 0..capacity {
                tx.try_send(vec![7; item_len]).unwrap();
            }
            assert_eq!(rx.try_run(usize::MAX).unwrap().len(), capacity);
        }
    }
}

#[test]
fn a_queue_of_its_own_has_room_for_the_processes_of_all_ends() {
    let places = |ends| {
        let queue = Queue::options().ends(ends).capacity(4).anonymous().unwrap();
        queue.segment.0.layout.participants
    };
    assert_eq!([1, 64, 100, 256].map(places), [3, 129, 201, 255]);
}
