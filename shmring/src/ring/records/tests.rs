//! Both ends, in one process and on two threads. Two processes are in the tests of whole processes.

#![allow(clippy::disallowed_methods)] // A process to be killed.

use std::{thread, time::Duration};

use super::*;
use crate::{RecvError, SendError, transfer};

fn ends(capacity: usize) -> (Producer, Consumer) {
    Records::options().capacity(capacity).anonymous().unwrap().split().unwrap()
}

#[test]
fn smoke() {
    let (mut tx, mut rx) = ends(4096);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    tx.send(b"hello").unwrap();
    let mut claim = tx.claim(10).unwrap();
    claim[..5].copy_from_slice(b"world");
    claim.commit_len(5);
    let _given_up = tx.claim(10).unwrap();
    assert_eq!(&*rx.recv().unwrap(), b"hello");
    let record = rx.try_recv().unwrap();
    assert_eq!(record.as_ptr() as usize % 8, 0);
    assert_eq!(&*record, b"world");
    drop(record);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.recv_timeout(Duration::from_millis(5)).unwrap_err(), RecvError::TimedOut);
}

#[test]
fn full() {
    let (mut tx, mut rx) = ends(256);
    let mut sent = 0;
    let record = loop {
        match tx.try_send([1u8; 40]) {
            Ok(()) => sent += 1,
            Err(SendError::Full(record)) => break record,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(record, [1; 40], "the record comes back");
    assert_eq!(sent, 5);
    let error = tx.send_timeout([2u8; 40], Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, SendError::TimedOut([2; 40]));
    rx.recv().unwrap();
    // The rest of the lap is too short for it: one record's room is not enough.
    assert!(matches!(tx.try_send([3u8; 40]), Err(SendError::Full(_))));
    rx.recv().unwrap();
    tx.send([3u8; 40]).unwrap();
    let error = tx.try_send([0u8; 1000]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { len: 1000, limit: 112, .. }));
}

#[test]
fn each_policy_when_full() {
    let ends = |policy| {
        let options = Records::options().capacity(256).policy(policy);
        options.anonymous().unwrap().split().unwrap()
    };
    let (mut tx, _rx) = ends(Policy::Fail);
    while tx.send([1u8; 40]).is_ok() {}
    assert_eq!(tx.send([2u8; 40]).unwrap_err(), SendError::Full([2; 40]));
    assert!(matches!(tx.claim(40), Err(SendError::Full(()))));
    let error = tx.send_timeout([2u8; 40], Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, SendError::TimedOut([2; 40]));

    let (mut tx, mut rx) = ends(Policy::DropNewest);
    for byte in 0..10 {
        tx.send([byte; 40]).unwrap();
    }
    assert!(matches!(tx.try_send([0u8; 40]), Err(SendError::Full(_))), "try_ loses nothing");
    assert!(matches!(tx.claim(40), Err(SendError::Full(()))));
    assert!(matches!(tx.send([0u8; 1000]), Err(SendError::TooLarge { .. })));
    let stats = tx.ring().stats();
    assert_eq!((stats.sent, stats.lost), (5, 5));
    for byte in 0..5 {
        let record = rx.recv().unwrap();
        assert_eq!((record.sequence(), record[0]), (u64::from(byte), byte));
    }
    tx.send([10; 40]).unwrap();
    assert_eq!(rx.recv().unwrap().sequence(), 10);
    drop(rx);
    while tx.try_send([0u8; 40]).is_ok() {}
    assert!(matches!(tx.send([0u8; 40]), Err(SendError::Closed(_))), "nobody loses it by policy");
}

#[test]
fn closed() {
    let (mut tx, mut rx) = ends(256);
    tx.send(b"last").unwrap();
    drop(tx);
    assert_eq!(&*rx.recv().unwrap(), b"last");
    assert_eq!(rx.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);

    let (mut tx, rx) = ends(256);
    drop(rx);
    assert!(tx.is_closed());
    let error = loop {
        if let Err(error) = tx.send([0u8; 50]) {
            break error;
        }
    };
    assert_eq!(error, SendError::Closed([0; 50]));
}

#[test]
fn an_end_is_held_once_and_can_be_taken_again() {
    let ring = Records::options().anonymous().unwrap();
    let (mut tx, rx) = ring.split().unwrap();
    assert!(matches!(ring.producer(), Err(Error::Busy { .. })));
    tx.send(b"kept").unwrap();
    drop((tx, rx));
    let (_tx, mut rx) = ring.split().unwrap();
    assert_eq!(&*rx.recv().unwrap(), b"kept");
}

#[test]
fn batches_on_both_sides() {
    let (mut tx, mut rx) = ends(4096);
    let mut batch = tx.batch();
    for byte in 0..10u8 {
        batch.try_push([byte; 8]).unwrap();
    }
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    batch.publish();
    let mut run = rx.run().unwrap();
    let mut got = Vec::new();
    while let Some(record) = run.next().unwrap() {
        got.push((record.sequence(), record[0]));
    }
    assert_eq!(got, (0..10).map(|byte| (byte.into(), byte)).collect::<Vec<(u64, u8)>>());
    assert_eq!(tx.ring().stats().taken, 0, "released when the run is dropped");
    drop(run);
    assert_eq!(tx.ring().stats().taken, 10);
    assert_eq!(rx.try_run().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.run_timeout(Duration::from_millis(1)).unwrap_err(), RecvError::TimedOut);
    tx.batch().try_push(b"forgotten").unwrap();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn losses_are_gaps_in_a_run() {
    let options = Records::options().capacity(256).policy(Policy::DropNewest);
    let (mut tx, mut rx) = options.anonymous().unwrap().split().unwrap();
    for byte in 0..10 {
        tx.send([byte; 40]).unwrap();
    }
    drop(rx.recv().unwrap());
    drop(rx.recv().unwrap());
    tx.send([10; 40]).unwrap();
    let mut run = rx.try_run().unwrap();
    for number in [2, 3, 4, 10] {
        let record = run.next().unwrap().unwrap();
        assert_eq!((record.sequence(), record.bytes()), (number, &[number as u8; 40][..]));
    }
    assert!(run.next().unwrap().is_none());
}

fn two_ends(strategy: WaitStrategy) {
    const ITEMS: u64 = 20_000;
    let ring = Records::options().capacity(1024).wait(strategy).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let sender = thread::spawn(move || {
        for item in 0..ITEMS {
            let len = 8 + (item % 90) as usize;
            let mut claim = tx.claim(len).unwrap();
            claim.fill(item as u8);
            claim[..8].copy_from_slice(&item.to_le_bytes());
            claim.commit();
        }
    });
    for item in 0..ITEMS {
        let record = rx.recv().unwrap();
        assert_eq!(record[..8], item.to_le_bytes());
        assert!(record[8..].iter().all(|byte| *byte == item as u8));
        assert_eq!(record.len(), 8 + (item % 90) as usize);
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

#[test]
fn an_end_that_is_sent_leaves_with_the_message() {
    let (mut tx, rx) = ends(4096);
    tx.send(b"before").unwrap();
    assert!(postcard::to_stdvec(&rx).is_err(), "outside a port");

    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
    drop((bytes, parcel)); // Not sent after all.
    let mut rx = rx;
    assert_eq!(&*rx.recv().unwrap(), b"before");

    tx.send(b"after").unwrap();
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Moved);
    let arrived = transfer::Parcel::from_fds(fds);
    let mut there: Consumer = transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
    drop(rx);
    assert_eq!(&*there.recv().unwrap(), b"after");
    let again = transfer::Parcel::from_fds(vec![]);
    let twice = transfer::supply(again, || postcard::from_bytes::<Consumer>(&bytes));
    assert!(twice.is_err(), "it arrives once");
}

#[test]
fn a_receiver_that_dies_on_the_way_is_a_dead_peer() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let (tx, mut rx) = ends(4096);
    let send = || postcard::to_stdvec(&tx).unwrap();
    let (_bytes, parcel) = transfer::collect_for(child.id(), send);
    parcel.sent();
    assert_eq!(rx.recv_timeout(Duration::from_millis(10)).unwrap_err(), RecvError::TimedOut);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rx.recv().unwrap_err(), RecvError::PeerDied { pid: child.id() });
    drop(tx);
}

#[test]
fn a_bell_rings_for_an_armed_consumer() {
    use crate::os::{PollFd, poll};
    use std::os::fd::{AsFd, AsRawFd};
    let (mut tx, mut rx) = ends(4096);
    let bell = rx.bell().unwrap().try_clone_to_owned().unwrap();
    assert!(bell.as_raw_fd() >= 0);
    let ready = || {
        let mut fds = [PollFd::readable(bell.as_fd())];
        poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
    };
    tx.send(b"one").unwrap();
    assert!(!ready(), "nobody asked");
    assert!(!rx.arm(), "there is something");
    rx.recv().unwrap();
    // Releasing a record rings for the producer, which here is the same process.
    assert!(!rx.arm());
    assert!(rx.arm());
    tx.send(b"two").unwrap();
    assert!(ready());
    assert_eq!(&*rx.try_recv().unwrap(), b"two");
    assert!(!rx.arm(), "it rang: look again");
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert!(rx.arm());
    assert!(!ready(), "armed again, quiet again");
    drop(tx);
    assert!(ready(), "closing rings too");
}

#[test]
fn arming_one_ring_does_not_hide_the_news_of_another() {
    let segment = Segment::options().anonymous().unwrap();
    let ends = || Records::options().create_in(&segment).unwrap().split().unwrap();
    let ((mut tx, mut one), (_tx, mut two)) = (ends(), ends());
    assert!(one.arm());
    tx.send(b"news").unwrap();
    assert!(!two.arm(), "the bell has rung for the other");
    assert_ne!(one.rung() & 1 << one.ring().number(), 0);
    assert_eq!(&*one.try_recv().unwrap(), b"news");
    one.arm(); // The release has rung for the producer, which is this process too.
    assert!(one.arm() && two.arm());
}

#[test]
fn a_bell_rings_for_an_armed_producer() {
    use crate::os::{PollFd, poll};
    let (mut tx, mut rx) = ends(256);
    let bell = tx.bell().unwrap().try_clone_to_owned().unwrap();
    let ready = || {
        let mut fds = [PollFd::readable(std::os::fd::AsFd::as_fd(&bell))];
        poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
    };
    assert!(!tx.arm(40), "there is room");
    while tx.try_send([1u8; 40]).is_ok() {}
    while !tx.arm(40) {} // Sending has rung for the consumer, which here is the same process.
    assert!(!ready());
    rx.recv().unwrap();
    assert!(ready(), "room");
    assert!(tx.rung() & 1 != 0);
    rx.recv().unwrap();
    assert!(!tx.arm(40), "there is room, and the bell has rung");
    tx.try_send([1u8; 40]).unwrap();
    while !tx.arm(100) {}
    drop(rx);
    assert!(ready(), "closing rings too");
    assert!(!tx.arm(100));
}

#[test]
fn nobody_sleeps_on_a_bell_that_was_given_out() {
    use crate::os::{PollFd, poll};
    let segment = Segment::options().anonymous().unwrap();
    let parked = || Records::options().wait(WaitStrategy::Park).create_in(&segment).unwrap();
    let ((mut tx, mut rx), (mut other, mut theirs)) =
        (parked().split().unwrap(), parked().split().unwrap());
    // It begins to sleep on the bell, before the bell is given out.
    let sleeper = thread::spawn(move || while theirs.recv().is_ok() {});
    thread::sleep(Duration::from_millis(20));
    while !rx.arm() {}
    other.send(b"news").unwrap();
    thread::sleep(Duration::from_millis(20));
    while !rx.arm() {}
    tx.send(b"ours").unwrap();
    // The sleeper wakes too, since it is the same process, and must leave the bell alone.
    thread::sleep(Duration::from_millis(20));
    let mut fds = [PollFd::readable(segment.bell().unwrap())];
    assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 1);
    drop(other);
    sleeper.join().unwrap();
}

#[test]
fn whoever_comes_first_makes_it() {
    let name = testkit::name("either");
    let options = || Records::options().capacity(512).wait(WaitStrategy::Park);
    let first = options().create_or_open(&name).unwrap();
    let mut tx = first.producer().unwrap();
    tx.send(b"before").unwrap();
    let second = Records::options().capacity(4096).create_or_open(&name).unwrap();
    assert_eq!(second.capacity(), 512, "that of the ring that is there");
    assert_eq!(&*second.consumer().unwrap().recv().unwrap(), b"before");
    drop((first, second, tx));
    assert!(matches!(Records::open(&name), Err(Error::Absent { .. })));

    let ring = options().create(&name).unwrap();
    let same = options().open(&name).unwrap();
    assert_eq!(Ring::strategy(&same), WaitStrategy::Park, "of the options");
    assert_eq!(Ring::strategy(&Records::open(&name).unwrap()), WaitStrategy::Adaptive);
    drop((ring, same));

    let _other = Segment::options().create(&name).unwrap();
    assert!(matches!(options().create_or_open(&name), Err(Error::NotASegment { .. })));
}

#[test]
fn making_and_removing_one_name_at_once() {
    let name = testkit::name("coming-and-going");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let ring = Records::options().capacity(256).create_or_open(&name).unwrap();
                    assert_eq!(ring.capacity(), 256);
                }
            });
        }
    });
}

/// The sender of an end may come to say where it went after its receiver has sent it on.
#[test]
fn sent_on_before_it_was_said_where_it_went() {
    let ring = Records::options().capacity(1024).anonymous().unwrap();
    let (me, gone) = (crate::os::pid(), u32::MAX >> 1);
    let pack =
        |pid, end: &Producer| transfer::collect_for(pid, || postcard::to_stdvec(end).unwrap());
    for late in [false, true] {
        let sender = ring.producer().unwrap();
        let (bytes, first) = pack(me, &sender);
        let fds = first.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
        let came = crate::received(fds, first.notes());
        let end = transfer::supply(came, || postcard::from_bytes::<Producer>(&bytes)).unwrap();
        let (_, second) = pack(gone, &end);
        if late {
            second.sent();
            first.sent();
        } else {
            first.sent();
            second.sent();
        }
        // It went to who has ended, so nobody has it.
        drop(ring.producer().unwrap());
    }
}
