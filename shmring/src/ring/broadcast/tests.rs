//! The ends, in one process and on threads. Processes are in the tests of whole processes.

#![allow(clippy::disallowed_methods)] // A process to be killed.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{RecvError, Selector, SendError, sync::Ordering, transfer};

const LATE: Duration = Duration::from_secs(20);

fn ring(capacity: usize) -> Broadcast {
    Broadcast::options().capacity(capacity).consumers(4).anonymous().unwrap()
}

fn ends(capacity: usize) -> (Producer, Consumer, Consumer) {
    let ring = ring(capacity);
    let lossy = ring.join().lossy().consumer().unwrap();
    (ring.producer().unwrap(), ring.consumer().unwrap(), lossy)
}

#[test]
fn smoke() {
    let (mut tx, mut rx, mut lossy) = ends(4096);
    assert!(lossy.is_lossy() && !rx.is_lossy());
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(lossy.try_recv().unwrap_err(), RecvError::Empty);
    tx.send(b"hello").unwrap();
    let mut claim = tx.claim(10).unwrap();
    claim[..5].copy_from_slice(b"world");
    claim.commit_len(5);
    let _given_up = tx.claim(10).unwrap();
    for rx in [&mut rx, &mut lossy] {
        assert_eq!(rx.behind(), 2);
        assert_eq!(&*rx.recv().unwrap(), b"hello");
        let item = rx.try_recv().unwrap();
        assert_eq!(item.sequence(), 1);
        assert_eq!(&*item, b"world");
        drop(item);
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
        assert_eq!(rx.recv_timeout(Duration::from_millis(5)).unwrap_err(), RecvError::TimedOut);
    }
    let stats = tx.ring().stats();
    assert_eq!((stats.sent, stats.consumers, stats.lost_consumers), (2, 2, 0));
    assert!(!tx.is_alone());
    drop((rx, lossy));
    assert!(tx.is_alone());
}

#[test]
fn full() {
    let (mut tx, mut rx, mut lossy) = ends(256);
    let mut sent = 0;
    let item = loop {
        match tx.try_send([1u8; 40]) {
            Ok(()) => sent += 1,
            Err(SendError::Full(item)) => break item,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((item, sent), ([1; 40], 4), "the item comes back");
    let error = tx.send_timeout([2u8; 40], Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, SendError::TimedOut([2; 40]));
    rx.recv().unwrap();
    rx.recv().unwrap();
    tx.send([3u8; 40]).unwrap();
    let error = tx.try_send([0u8; 1000]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { len: 1000, limit: 112, .. }));
    // Whoever leaves does not hold it back any more.
    drop(rx);
    for _ in 0..20 {
        tx.try_send([4u8; 40]).unwrap();
    }
    assert!(matches!(lossy.recv(), Err(RecvError::Lapped { missed }) if missed > 15));
    assert_eq!(&*lossy.recv().unwrap(), [4; 40]);
}

#[test]
fn each_policy_when_full() {
    let make = |policy| Broadcast::options().capacity(256).policy(policy).anonymous().unwrap();
    let ring = make(Policy::Fail);
    let (mut tx, _rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    while tx.send([1u8; 40]).is_ok() {}
    assert_eq!(tx.send([2u8; 40]).unwrap_err(), SendError::Full([2; 40]));
    assert!(matches!(tx.claim(40), Err(SendError::Full(()))));
    let error = tx.send_timeout([2u8; 40], Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, SendError::TimedOut([2; 40]));

    let ring = make(Policy::DropNewest);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for byte in 0..10 {
        tx.send([byte; 40]).unwrap();
    }
    assert!(matches!(tx.try_send([0u8; 40]), Err(SendError::Full(_))), "try_ loses nothing");
    assert!(matches!(tx.send([0u8; 1000]), Err(SendError::TooLarge { .. })));
    let stats = ring.stats();
    assert_eq!((stats.sent, stats.dropped), (4, 6));
    for byte in 0..4 {
        let item = rx.recv().unwrap();
        assert_eq!((item.sequence(), item[0]), (u64::from(byte), byte));
    }
    tx.send([10; 40]).unwrap();
    assert_eq!(rx.recv().unwrap().sequence(), 10, "what was dropped is a gap");
}

#[test]
fn closed() {
    let (mut tx, mut rx, mut lossy) = ends(256);
    tx.send(b"last").unwrap();
    drop(tx);
    for rx in [&mut rx, &mut lossy] {
        assert!(rx.is_closed());
        assert_eq!(&*rx.recv().unwrap(), b"last");
        assert_eq!(rx.recv().unwrap_err(), RecvError::Closed);
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
    }
    // A new producer opens it again.
    let mut tx = rx.ring().producer().unwrap();
    tx.send(b"more").unwrap();
    assert_eq!(&*rx.recv().unwrap(), b"more");
    assert_eq!(&*lossy.recv().unwrap(), b"more");
}

#[test]
fn what_was_missed_is_said_before_the_end() {
    let (mut tx, rx, mut lossy) = ends(256);
    drop(rx);
    for _ in 0..50 {
        tx.send([1; 40]).unwrap();
    }
    // All that was there may be overwritten, and nothing is.
    tx.claim(112).map(drop).unwrap();
    tx.claim(112).map(drop).unwrap();
    drop(tx);
    let (mut missed, mut got) = (0, 0);
    loop {
        match lossy.recv() {
            Ok(_) => got += 1,
            Err(RecvError::Lapped { missed: more }) => missed += more,
            Err(end) => break assert_eq!(end, RecvError::Closed),
        }
    }
    assert_eq!(missed + got, 50);
    assert!(missed > 40);
}

#[test]
fn an_end_is_held_once_and_can_be_taken_again() {
    let ring = Broadcast::options().consumers(2).anonymous().unwrap();
    let tx = ring.producer().unwrap();
    assert!(matches!(ring.producer(), Err(Error::Busy { .. })));
    drop(tx);
    drop(ring.producer().unwrap());
    let _one = ring.consumer().unwrap();
    let two = ring.join().lossy().consumer().unwrap();
    assert!(matches!(ring.consumer(), Err(Error::NoPlace { limit: 2, .. })));
    drop(two);
    ring.consumer().unwrap();
    for consumers in [0, 65] {
        let error = Broadcast::options().consumers(consumers).anonymous().unwrap_err();
        assert!(matches!(error, Error::BadParameters { .. }));
    }
}

#[test]
fn late_joiners_get_history() {
    let (mut tx, _rx, _lossy) = ends(4096);
    for byte in 0..20 {
        tx.send([byte]).unwrap();
    }
    let ring = tx.ring().clone();
    for join in [ring.join(), ring.join().lossy()] {
        let mut late = join.history(3).consumer().unwrap();
        for byte in 17..20 {
            assert_eq!(&*late.try_recv().unwrap(), [byte]);
        }
        assert_eq!(late.try_recv().unwrap_err(), RecvError::Empty);
    }
    assert_eq!(ring.consumer().unwrap().try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn batches_on_both_sides() {
    let (mut tx, mut rx, mut lossy) = ends(4096);
    let mut batch = tx.batch();
    for byte in 0..10u8 {
        batch.try_push([byte; 8]).unwrap();
    }
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    batch.publish();
    for rx in [&mut rx, &mut lossy] {
        let mut run = rx.run().unwrap();
        let mut got = Vec::new();
        while let Some(item) = run.next().unwrap() {
            got.push((item.sequence(), item[0]));
        }
        assert_eq!(got, (0..10).map(|byte| (byte.into(), byte)).collect::<Vec<(u64, u8)>>());
        drop(run);
        assert_eq!(rx.try_run().unwrap_err(), RecvError::Empty);
        let error = rx.run_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error, RecvError::TimedOut);
    }
    tx.batch().try_push(b"forgotten").unwrap();
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    // A run is released when it is dropped.
    while tx.try_send([1; 100]).is_ok() {}
    let mut run = rx.try_run().unwrap();
    while run.next().unwrap().is_some() {}
    assert!(matches!(tx.try_send([1; 100]), Err(SendError::Full(_))));
    drop(run);
    tx.try_send([1; 100]).unwrap();
}

#[test]
fn losses_are_gaps_in_a_run() {
    let options = Broadcast::options().capacity(256).policy(Policy::DropNewest);
    let ring = options.anonymous().unwrap();
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut lossy = ring.join().lossy().consumer().unwrap();
    for byte in 0..10 {
        tx.send([byte; 40]).unwrap();
    }
    for rx in [&mut rx, &mut lossy] {
        drop(rx.recv().unwrap());
        drop(rx.recv().unwrap());
    }
    tx.send([10; 40]).unwrap();
    for rx in [&mut rx, &mut lossy] {
        let mut run = rx.try_run().unwrap();
        for number in [2, 3, 10] {
            let item = run.next().unwrap().unwrap();
            assert_eq!((item.sequence(), item.bytes()), (number, &[number as u8; 40][..]));
        }
        assert!(run.next().unwrap().is_none());
    }
}

fn receive_all(mut rx: Consumer, items: u64) -> (u64, u64) {
    let (mut got, mut missed, mut next) = (0, 0, 0);
    loop {
        match rx.recv() {
            Ok(item) => {
                let number = u64::from_le_bytes(item[..8].try_into().unwrap());
                assert_eq!((item.sequence(), number), (next, next));
                assert_eq!(item.len(), 8 + (number % 90) as usize);
                assert!(item[8..].iter().all(|byte| *byte == number as u8), "torn");
                got += 1;
                next += 1;
            }
            Err(RecvError::Lapped { missed: more }) => {
                missed += more;
                next += more;
            }
            Err(end) => {
                assert_eq!((end, next), (RecvError::Closed, items));
                return (got, missed);
            }
        }
    }
}

fn two_ends(strategy: WaitStrategy) {
    // Five threads that spin take turns on few processors.
    let items = if strategy == WaitStrategy::Spin { 4_000 } else { 20_000 };
    let ring = Broadcast::options().capacity(1024).wait(strategy).anonymous().unwrap();
    let mut tx = ring.producer().unwrap();
    let receivers: Vec<_> = (0..4)
        .map(|index| {
            let join = if index % 2 == 0 { ring.join() } else { ring.join().lossy() };
            let rx = join.consumer().unwrap();
            thread::spawn(move || receive_all(rx, items))
        })
        .collect();
    for item in 0..items {
        let mut record = vec![item as u8; 8 + (item % 90) as usize];
        record[..8].copy_from_slice(&item.to_le_bytes());
        tx.send(record).unwrap();
    }
    drop(tx);
    for (index, receiver) in receivers.into_iter().enumerate() {
        let (got, missed) = receiver.join().unwrap();
        assert_eq!(got + missed, items);
        assert!(index % 2 == 1 || missed == 0);
    }
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
fn one_that_sleeps_is_woken_soon() {
    let began = Instant::now();
    let ring = Broadcast::options().wait(WaitStrategy::Park).anonymous().unwrap();
    let mut tx = ring.producer().unwrap();
    let mut receivers = vec![];
    for _ in 0..3 {
        let mut rx = ring.consumer().unwrap();
        receivers.push(thread::spawn(move || {
            let mut took = vec![];
            while let Ok(item) = rx.recv() {
                let sent = u64::from_le_bytes((*item).try_into().unwrap());
                took.push(began.elapsed() - Duration::from_nanos(sent));
            }
            took.sort_unstable();
            took
        }));
    }
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(5));
        tx.send((began.elapsed().as_nanos() as u64).to_le_bytes()).unwrap();
    }
    drop(tx);
    for receiver in receivers {
        // Those whom nobody wakes look after 100 ms; on a busy machine, some wait for a processor.
        let took = receiver.join().unwrap();
        assert_eq!(took.len(), 20);
        assert!(took[10] < Duration::from_millis(20), "{took:?}");
    }
}

#[test]
fn an_end_that_is_sent_leaves_with_the_message() {
    let (mut tx, rx, lossy) = ends(4096);
    for mut rx in [rx, lossy] {
        tx.send(b"before").unwrap();
        assert!(postcard::to_stdvec(&rx).is_err(), "outside a port");
        let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
        drop((bytes, parcel)); // Not sent after all.
        assert_eq!(&*rx.recv().unwrap(), b"before");

        tx.send(b"after").unwrap();
        let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
        let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
        parcel.sent();
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Moved);
        let arrived = transfer::Parcel::from_fds(fds);
        let mut there: Consumer =
            transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
        assert_eq!((there.index(), there.is_lossy()), (rx.index(), rx.is_lossy()));
        drop(rx);
        assert_eq!(&*there.recv().unwrap(), b"after");
    }
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    assert!(matches!(tx.try_send(b"no"), Err(SendError::Moved(_))));
    let arrived = transfer::Parcel::from_fds(fds);
    let mut there: Producer = transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
    there.send(b"yes").unwrap();
}

#[test]
fn ends_that_nobody_reads_are_closed() {
    let (mut tx, rx, _lossy) = ends(256);
    let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
    let notes = parcel.notes().to_vec();
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    let message = crate::received(fds, &notes);
    while tx.try_send([1; 40]).is_ok() {}
    drop(message);
    tx.try_send([1; 40]).expect("nobody to wait for");
}

#[test]
fn a_receiver_that_dies_on_the_way_is_dropped() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let (mut tx, rx, _lossy) = ends(256);
    let send = || postcard::to_stdvec(&rx).unwrap();
    let (_bytes, parcel) = transfer::collect_for(child.id(), send);
    parcel.sent();
    while tx.try_send([1; 40]).is_ok() {}
    let error = tx.send_timeout([1; 40], Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, SendError::TimedOut(_)));
    child.kill().unwrap();
    child.wait().unwrap();
    tx.send_timeout([1; 40], LATE).unwrap();
    assert_eq!(tx.ring().stats().lost_consumers, 1);
}

#[test]
fn a_bell_rings_for_an_armed_consumer() {
    use crate::os::{PollFd, poll};
    use std::os::fd::AsFd;
    let (mut tx, mut rx, mut lossy) = ends(4096);
    for rx in [&mut rx, &mut lossy] {
        let bell = rx.bell().unwrap().try_clone_to_owned().unwrap();
        let ready = || {
            let mut fds = [PollFd::readable(bell.as_fd())];
            poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
        };
        tx.send(b"one").unwrap();
        assert!(!rx.arm(), "there is something");
        while rx.try_recv().is_ok() {}
        while !rx.arm() {} // Releasing rings for the producer, which here is the same process.
        assert!(!ready());
        tx.send(b"two").unwrap();
        assert!(ready());
        assert_eq!(&*rx.try_recv().unwrap(), b"two");
        while !rx.arm() {}
        assert!(!ready(), "armed again, quiet again");
    }
    while rx.try_recv().is_ok() {}
    while !rx.arm() {}
    drop(tx);
    let mut fds = [PollFd::readable(rx.bell().unwrap())];
    assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 1, "closing rings too");
    assert!(!rx.arm());
}

#[test]
fn arming_does_not_hide_a_loss() {
    let (mut tx, rx, mut lossy) = ends(256);
    drop(rx);
    for _ in 0..50 {
        tx.send([1; 40]).unwrap();
    }
    drop(tx);
    assert!(!lossy.arm() && !lossy.arm());
    assert!(matches!(lossy.try_recv(), Err(RecvError::Lapped { .. })));
}

#[test]
fn a_selector_waits_for_its_ends() {
    let (mut tx, mut rx, mut lossy) = ends(256);
    let mut selector = Selector::new();
    selector.add(0, &rx);
    selector.add(1, &lossy);
    let mut sending = Selector::new();
    sending.add_room(2, &tx, 40);
    assert_eq!(selector.try_ready(), None);
    assert_eq!(sending.try_ready(), Some(2));
    tx.send([0; 40]).unwrap();
    let mut tokens = vec![];
    selector.ready_many(&mut tokens, Some(LATE));
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1]);
    lossy.recv().unwrap();
    assert_eq!(selector.ready(), Some(0));
    while tx.try_send([0; 40]).is_ok() {}
    assert_eq!(sending.try_ready(), None);
    while rx.try_recv().is_ok() {}
    assert_eq!(sending.try_ready(), Some(2));
    while lossy.try_recv().is_ok() {}
    assert_eq!(selector.try_ready(), None);
    // From another thread, while it sleeps; on a busy machine not each time at once.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            tx.send([1; 40]).unwrap();
            tx
        });
        let began = Instant::now();
        assert!(selector.ready_timeout(LATE).is_some());
        quickest = quickest.min(began.elapsed());
        tx = sender.join().unwrap();
        rx.recv().unwrap();
        lossy.recv().unwrap();
    }
    assert!(quickest < Duration::from_millis(80), "woken, not by looking now and then");
    drop(tx);
    assert!(selector.ready().is_some(), "closed");
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn a_forgotten_item_comes_again_and_a_forgotten_run_is_released() {
    let (mut tx, mut rx, _lossy) = ends(256);
    tx.send([1; 40]).unwrap();
    std::mem::forget(rx.recv().unwrap());
    assert_eq!(&*rx.recv().unwrap(), [1; 40]);
    while tx.try_send([2; 40]).is_ok() {}
    let mut run = rx.try_run().unwrap();
    while run.next().unwrap().is_some() {}
    std::mem::forget(run);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    tx.try_send([3; 40]).unwrap();
}

#[test]
fn a_named_ring_is_found_and_made_once() {
    let name = testkit::name("broadcast");
    let options = || Broadcast::options().capacity(512).consumers(3);
    let first = options().create_or_open(&name).unwrap();
    let mut tx = first.producer().unwrap();
    let second = Broadcast::options().create_or_open(&name).unwrap();
    assert_eq!((second.capacity(), second.places()), (512, 3), "that of the ring that is there");
    let mut rx = second.consumer().unwrap();
    tx.send(b"one").unwrap();
    assert_eq!(&*rx.recv().unwrap(), b"one");
    assert!(matches!(crate::ring::records::Records::open(&name), Err(Error::WrongType { .. })));
    drop((first, second, tx, rx));
    assert!(matches!(Broadcast::open(&name), Err(Error::Absent { .. })));
}

#[test]
fn it_lies_in_a_segment_with_others() {
    let len = Broadcast::options().len_in_segment().unwrap();
    let segment = Segment::options().len(2 * len).objects(2).anonymous().unwrap();
    let rings = [(); 2].map(|()| Broadcast::options().create_in(&segment).unwrap());
    let mut ends: Vec<_> =
        rings.iter().map(|ring| (ring.producer().unwrap(), ring.consumer().unwrap())).collect();
    for (number, (tx, _)) in ends.iter_mut().enumerate() {
        tx.send([number as u8]).unwrap();
    }
    for (number, (_, rx)) in ends.iter_mut().enumerate() {
        assert_eq!(&*rx.recv().unwrap(), [number as u8]);
    }
}

/// Every control word of a living ring is overwritten with random values, again and again, while
/// all ends are used. What follows is an error or wrong data.
#[test]
fn survives_any_control_words() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..1500 {
        let (mut tx, mut rx, mut lossy) = ends(256);
        let ring = tx.ring().clone();
        let (region, object) = (&ring.segment.0.region, ring.object);
        let mut selector = Selector::new();
        selector.add(0, &rx);
        selector.add(1, &lossy);
        selector.add(2, &tx);
        for _ in 0..20 {
            let at = object.offset + 8 * (next() % (object.size as u64 / 8)) as usize;
            let old = region.u64(at).load(Ordering::Relaxed);
            let word = match next() % 4 {
                0 => next(),
                1 => next() % 4096,
                2 => old.wrapping_add((next() % 64).wrapping_sub(32)),
                _ => old ^ 1 << (next() % 64),
            };
            region.u64(at).store(word, Ordering::Relaxed);
            let _ = tx.try_send(vec![1; (next() % 100) as usize]);
            for rx in [&mut rx, &mut lossy] {
                if let Ok(item) = rx.try_recv() {
                    assert!(item.len() <= 112);
                }
                rx.behind();
                rx.arm();
            }
            selector.try_ready();
            ring.stats();
            if next() % 8 == 0 {
                let soon = Duration::from_micros(50);
                let _ = tx.send_timeout([1; 30], soon);
                let _ = rx.recv_timeout(soon);
                let _ = lossy.recv_timeout(soon);
                let _ = ring.join().history(next()).consumer();
                if let Ok(mut run) = rx.run_timeout(soon) {
                    for _ in 0..100 {
                        if !matches!(run.next(), Ok(Some(_))) {
                            break;
                        }
                    }
                }
            }
        }
        if round % 2 == 0 {
            drop(tx);
            let _ = Broadcast::attach(&ring.segment, ring.number(), WaitStrategy::Park)
                .and_then(|ring| Ok((ring.producer()?, ring.consumer()?)));
        }
    }
}
