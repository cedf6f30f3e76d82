//! Both ends, in one process and on two threads. Two processes are in the tests of whole processes.

use std::{thread, time::Duration};

use super::*;
use crate::{RecvError, SendError, transfer};

const SOON: Duration = Duration::from_millis(5);

fn ends<T: Pod>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    Cells::options().capacity(capacity).anonymous().unwrap().split().unwrap()
}

#[test]
fn smoke() {
    let (mut tx, mut rx) = ends::<[u16; 3]>(4);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    tx.send([1, 2, 3]).unwrap();
    let mut claim = tx.claim().unwrap();
    *claim = [4, 5, 6];
    claim[1] = 7;
    assert_eq!(claim[2], 6);
    claim.commit();
    let _given_up = tx.claim().unwrap();
    let item = rx.recv().unwrap();
    assert_eq!((*item, item.sequence()), ([1, 2, 3], 0));
    drop(item);
    let item = rx.try_recv().unwrap();
    assert_eq!((*item, item.sequence()), ([4, 7, 6], 1));
    drop(item);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(rx.recv_timeout(SOON).unwrap_err(), RecvError::TimedOut);
    assert_eq!(rx.run_timeout(SOON).unwrap_err(), RecvError::TimedOut);
}

#[test]
fn full() {
    let (mut tx, mut rx) = ends::<u64>(3);
    assert_eq!(tx.capacity(), 4, "rounded up");
    for item in 0..4 {
        tx.try_send(item).unwrap();
    }
    assert_eq!(tx.try_send(9).unwrap_err(), SendError::Full(9), "the item comes back");
    assert!(matches!(tx.try_claim(), Err(SendError::Full(()))));
    assert_eq!(tx.send_timeout(9, SOON).unwrap_err(), SendError::TimedOut(9));
    assert!(matches!(tx.claim_many_timeout(2, SOON), Err(SendError::TimedOut(()))));
    assert_eq!(*rx.recv().unwrap(), 0);
    tx.send(4).unwrap();
    assert_eq!(rx.run().unwrap()[..], [1, 2, 3]);
    assert_eq!(rx.run().unwrap()[..], [4]);
}

#[test]
fn each_policy_when_full() {
    let ends = |policy| {
        let options = Cells::<u8>::options().capacity(4).policy(policy);
        options.anonymous().unwrap().split().unwrap()
    };
    let (mut tx, _rx) = ends(Policy::Fail);
    while tx.send(1).is_ok() {}
    assert_eq!(tx.send(2).unwrap_err(), SendError::Full(2));
    assert!(matches!(tx.claim(), Err(SendError::Full(()))));
    assert_eq!(tx.send_timeout(2, SOON).unwrap_err(), SendError::TimedOut(2));

    let (mut tx, mut rx) = ends(Policy::DropNewest);
    for item in 0..10 {
        tx.send(item).unwrap();
    }
    assert!(matches!(tx.try_send(0), Err(SendError::Full(_))), "try_ loses nothing");
    assert!(matches!(tx.claim(), Err(SendError::Full(()))));
    let stats = tx.ring().stats();
    assert_eq!((stats.sent, stats.lost, stats.used), (4, 6, 4));
    let item = rx.recv().unwrap();
    assert_eq!((item.sequence(), *item), (0, 0));
    drop(item);
    tx.send(10).unwrap();
    // A run ends where the array does, and before a gap.
    let run = rx.run().unwrap();
    assert_eq!((run.sequence(), &run[..]), (1, &[1, 2, 3][..]));
    drop(run);
    tx.send(11).unwrap();
    let run = rx.run().unwrap();
    assert_eq!((run.sequence(), &run[..]), (10, &[10, 11][..]));
    drop(run);
    drop(rx);
    while tx.try_send(0).is_ok() {}
    assert!(matches!(tx.send(0), Err(SendError::Closed(_))), "nobody loses it by policy");
}

#[test]
fn a_run_ends_before_a_gap() {
    let ring = Cells::<u8>::options().capacity(4).policy(Policy::DropNewest).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    for item in 0..5 {
        tx.send(item).unwrap();
    }
    rx.run().unwrap().release(2);
    tx.send(5).unwrap();
    let run = rx.run().unwrap();
    assert_eq!((run.sequence(), &run[..]), (2, &[2, 3][..]));
    drop(run);
    for item in 6..10 {
        let _ = tx.send(item);
    }
    let run = rx.run().unwrap();
    assert_eq!((run.sequence(), &run[..]), (5, &[5, 6, 7, 8][..]), "9 did not fit");
}

#[test]
fn closed() {
    let (mut tx, mut rx) = ends::<u32>(4);
    tx.send(7).unwrap();
    drop(tx);
    assert!(rx.is_closed());
    assert_eq!(*rx.recv().unwrap(), 7);
    assert_eq!(rx.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
    assert_eq!(rx.run().unwrap_err(), RecvError::Closed);

    let (mut tx, rx) = ends::<u32>(4);
    drop(rx);
    assert!(tx.is_closed());
    let error = (0..).find_map(|item| tx.send(item).err()).unwrap();
    assert_eq!(error, SendError::Closed(4));
}

#[test]
fn an_end_is_held_once_and_can_be_taken_again() {
    let ring = Cells::<u8>::options().anonymous().unwrap();
    let (mut tx, rx) = ring.split().unwrap();
    assert!(matches!(ring.producer(), Err(Error::Busy { .. })));
    assert!(matches!(ring.consumer(), Err(Error::Busy { .. })));
    tx.send(3).unwrap();
    drop((tx, rx));
    let (_tx, mut rx) = ring.split().unwrap();
    assert_eq!(*rx.recv().unwrap(), 3);
}

#[test]
fn batches_on_both_sides() {
    let (mut tx, mut rx) = ends::<u64>(16);
    let mut cells = tx.claim_many(10).unwrap();
    for (at, cell) in cells.iter_mut().enumerate() {
        *cell = at as u64;
    }
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    cells.publish(4);
    assert_eq!((cells.len(), cells[0]), (6, 4), "the rest stays claimed");
    assert_eq!(rx.run().unwrap()[..], [0, 1, 2, 3]);
    cells.commit();
    let run = rx.run().unwrap();
    assert_eq!((&run[..], run.sequence()), (&[4, 5, 6, 7, 8, 9][..], 4));
    assert_eq!(tx.ring().stats().taken, 4, "released when the run is dropped");
    run.release(5);
    assert_eq!(tx.ring().stats().taken, 9);
    assert_eq!(*rx.recv().unwrap(), 9, "what was not released comes again");
    drop(tx.claim_many(3).unwrap());
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty, "a claim that is dropped is nothing");
    assert_eq!(tx.claim_many(100).unwrap().len(), 6, "as far as the end of the array");
    std::mem::forget(rx.try_run());
}

#[test]
fn a_batch_goes_over_the_end_of_the_array() {
    let options = Cells::<u64>::options().capacity(8).policy(Policy::DropNewest);
    let (mut tx, mut rx) = options.anonymous().unwrap().split().unwrap();
    let mut next = 0;
    for round in 0..10 {
        let mut batch = tx.batch();
        assert!(batch.is_empty());
        for _ in 0..5 {
            batch.try_push(next).unwrap();
            next += 1;
        }
        assert_eq!(batch.len(), 5);
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty, "round {round}");
        batch.publish();
        let got: Vec<u64> = rx.try_iter().map(Result::unwrap).collect();
        assert_eq!(got, (next - 5..next).collect::<Vec<_>>());
    }
    // As long as the ring and no longer; forgotten, it is as if it had never been.
    for _ in 0..2 {
        let mut batch = tx.batch();
        for item in 0..8 {
            batch.try_push(item).unwrap();
        }
        assert_eq!(batch.try_push(8).unwrap_err(), SendError::Full(8));
    }
    tx.batch().publish();
    assert_eq!(rx.try_run().unwrap_err(), RecvError::Empty);
    drop(rx);
    let mut batch = tx.batch();
    for item in 0..8 {
        batch.try_push(item).unwrap();
    }
    assert_eq!(batch.try_push(8).unwrap_err(), SendError::Closed(8));
}

#[test]
#[should_panic(expected = "publishing 5 cells of 4 claimed")]
fn more_than_was_claimed() {
    let (mut tx, _rx) = ends::<u8>(8);
    tx.claim_many(4).unwrap().publish(5);
}

#[test]
#[should_panic(expected = "releasing 2 cells of 1")]
fn more_than_there_are() {
    let (mut tx, mut rx) = ends::<u8>(8);
    tx.send(1).unwrap();
    rx.run().unwrap().release(2);
}

#[test]
fn items_are_aligned() {
    #[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
    #[repr(C, align(64))]
    struct Line([u8; 64]);

    let segment = Segment::options().anonymous().unwrap();
    for policy in [Policy::Wait, Policy::DropNewest] {
        let options = Cells::<Line>::options().capacity(2).policy(policy);
        assert!(options.len_in_segment().unwrap() >= 2 * 64);
        let (mut tx, mut rx) = options.create_in(&segment).unwrap().split().unwrap();
        for byte in 0..5 {
            tx.send(Line([byte; 64])).unwrap();
            let item = rx.recv().unwrap();
            assert_eq!(std::ptr::from_ref(&*item).addr() % 64, 0);
            assert_eq!(item.0, [byte; 64]);
        }
    }
}

#[test]
fn another_type_is_refused_with_both_named() {
    let ring = Cells::<u64>::options().capacity(8).anonymous().unwrap();
    let (segment, number) = (ring.segment().clone(), ring.number());
    let error = Cells::<u32>::attach(&segment, number, WaitStrategy::Park).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "ring {number} of a segment holds items of 8 bytes, aligned to 8, but was opened as \
             items of 4 bytes, aligned to 4"
        )
    );
    assert!(Cells::<[u32; 2]>::attach(&segment, number, WaitStrategy::Park).is_err(), "alignment");
    assert!(Cells::<i64>::attach(&segment, number, WaitStrategy::Park).is_ok());
    let error = crate::ring::records::Records::attach(&segment, number, WaitStrategy::Park);
    assert!(matches!(error, Err(Error::WrongType { .. })));
}

#[test]
fn labels() {
    let name = format!("t-{}-cells-label", std::process::id());
    let named = |label: &str| Cells::<u64>::options().capacity(8).label(label);
    let ring = named("nanoseconds").create(&name).unwrap();
    assert_eq!(ring.label(), "nanoseconds");
    assert_eq!(Cells::<u64>::open(&name).unwrap().label(), "nanoseconds");
    assert!(named("nanoseconds").open(&name).is_ok());
    let error = named("metres").open(&name).unwrap_err();
    assert!(error.to_string().contains("\"nanoseconds\""), "{error}");
    assert!(error.to_string().contains("\"metres\""), "{error}");
    let error = named(&"long".repeat(17)).anonymous().unwrap_err();
    assert!(error.to_string().contains("64 bytes"), "{error}");
    assert_eq!(named(&"x".repeat(64)).anonymous().unwrap().label(), "x".repeat(64));
}

#[test]
fn impossible_rings_are_refused() {
    let error = Cells::<()>::options().anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    let error = Cells::<u64>::options().capacity(usize::MAX / 4).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let ring = Cells::<u64>::options().capacity(8).anonymous().unwrap();
    let (segment, object) = (ring.segment().clone(), ring.board.object);
    let region = &segment.0.region;
    let attach = || Board::attach(&segment, object.index, WaitStrategy::Park);
    for (at, lies) in [
        (CAPACITY, &[0, 3, 16, 1 << 20, 1 << 63, u64::MAX][..]),
        (ITEM_LEN, &[0, 12, 1 << 40, u64::MAX]),
        (ITEM_ALIGN, &[0, 3, 16, 256, u64::MAX]),
    ] {
        let word = region.u64(object.offset + at);
        let right = word.load(Ordering::Relaxed);
        for lie in lies {
            word.store(*lie, Ordering::Relaxed);
            assert!(matches!(attach(), Err(Error::Corrupt { .. })), "{at} {lie}");
        }
        word.store(right, Ordering::Relaxed);
    }
    region.u32(object.offset + POLICY).store(9, Ordering::Relaxed);
    assert!(matches!(attach(), Err(Error::Corrupt { .. })));
    region.u32(object.offset + POLICY).store(0, Ordering::Relaxed);
    region.u32(object.offset + LABEL_LEN).store(u32::MAX, Ordering::Relaxed);
    assert_eq!(attach().unwrap().label.len(), LABEL_MAX);
    region.u64(object.offset + LABEL).store(u64::MAX, Ordering::Relaxed);
    assert!(matches!(attach(), Err(Error::Corrupt { .. })));
}

fn two_ends(strategy: WaitStrategy) {
    const ITEMS: u64 = 20_000;
    let ring = Cells::<u64>::options().capacity(32).wait(strategy).anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let sender = thread::spawn(move || {
        let mut item = 0;
        while item < ITEMS {
            match item % 3 {
                0 => {
                    tx.send(item).unwrap();
                    item += 1;
                }
                _ => {
                    let many = (ITEMS - item).min(20) as usize;
                    let mut cells = tx.claim_many(many).unwrap();
                    for cell in cells.iter_mut() {
                        (*cell, item) = (item, item + 1);
                    }
                    cells.commit();
                }
            }
        }
    });
    let mut next = 0;
    while next < ITEMS {
        if next % 5 == 0 {
            assert_eq!(*rx.recv().unwrap(), next);
            next += 1;
        } else {
            for item in rx.run().unwrap().iter() {
                assert_eq!(*item, next);
                next += 1;
            }
        }
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
    let (mut tx, rx) = ends::<u32>(8);
    tx.send(1).unwrap();
    assert!(postcard::to_stdvec(&rx).is_err(), "outside a port");
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&rx).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    let mut rx = rx;
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Moved);
    let arrived = transfer::Parcel::from_fds(fds);
    let mut there: Consumer<u32> =
        transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
    drop(rx);
    assert_eq!(*there.recv().unwrap(), 1);
}

#[test]
fn ends_that_nobody_reads_are_closed() {
    let ring = Cells::<u32>::options().anonymous().unwrap();
    let (tx, mut rx) = ring.split().unwrap();
    let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    let notes = parcel.notes().to_vec();
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    parcel.sent();
    let (unread, _) = transfer::lend(fds, || crate::ring::UnreadEnd::read(&notes[1..]).unwrap().0);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
    drop(unread);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn waits_in_a_selector_and_by_its_bell() {
    let segment = Segment::options().anonymous().unwrap();
    let options = || Cells::<u8>::options().capacity(2);
    let (mut tx, mut rx) = options().create_in(&segment).unwrap().split().unwrap();
    let (mut other, mut quiet) = options().create_in(&segment).unwrap().split().unwrap();
    let mut selector = crate::ring::Selector::new();
    selector.add(1, &rx);
    selector.add(2, &quiet);
    assert_eq!(selector.ready_timeout(SOON), None);
    tx.send(1).unwrap();
    assert_eq!(selector.ready_timeout(SOON), Some(1));
    assert!(!rx.arm(), "there is something");
    rx.recv().unwrap();
    other.send(1).unwrap();
    assert_eq!(selector.ready_timeout(SOON), Some(2));
    quiet.recv().unwrap();
    rx.arm();
    assert!(rx.arm());
    assert!(rx.bell().is_some());
    while tx.try_send(3).is_ok() {}
    tx.arm();
    assert!(tx.arm(), "full");
    rx.recv().unwrap();
    assert!(!tx.arm());
}
