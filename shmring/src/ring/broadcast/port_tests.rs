//! Messages over a broadcast ring, in one process.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Broadcast,
    port::{Receiver, Sender},
};
use crate::{
    RecvError, Selector, SendError,
    block::{Block, BlockPool},
    ring::{
        Policy,
        port::{MessageError, PortError},
    },
};

const SOON: Duration = Duration::from_secs(20);
const KEEP: usize = 3;

type One = (u64, Block);

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(256).prefault(false).anonymous().unwrap()
}

fn ring(pool: &BlockPool, policy: Policy) -> Broadcast {
    let options = Broadcast::options().capacity(1024).policy(policy).prefault(false);
    options.create_in(pool.segment()).unwrap()
}

fn sender(ring: &Broadcast) -> Sender<One> {
    Sender::new(ring.producer().unwrap(), KEEP)
}

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.try_loan().unwrap();
    loan.array_mut::<u64, _>(32).unwrap().fill(number);
    loan.freeze()
}

fn check(message: &One) -> u64 {
    let (number, block) = message;
    assert!(block.array::<u64, _>(32).unwrap().iter().all(|element| element == number), "torn");
    *number
}

fn lapped(missed: u64) -> MessageError {
    MessageError::Ring(RecvError::Lapped { missed })
}

/// Looked at from outside, as from within: there is no room before all have read the message whose
/// place the next one takes, however many bytes are free.
#[test]
fn what_is_kept_holds_back_who_looks_from_outside() {
    const NOW: Duration = Duration::ZERO;
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    let mut selector = Selector::new();
    selector.add_room(5, &tx, 64);
    let mut all = [(); 2].map(|()| Receiver::<One>::new(ring.consumer().unwrap()));
    for next in 0..KEEP as u64 {
        assert_eq!(selector.ready_timeout(NOW), Some(5));
        tx.send((next, filled(&pool, next))).unwrap();
    }
    for read in 0..20 {
        let next = read + KEEP as u64;
        assert_eq!(selector.ready_timeout(NOW), None);
        let full = tx.try_send((next, filled(&pool, next)));
        assert!(matches!(full, Err(PortError::Ring(SendError::Full(_)))), "{full:?}");
        assert!(tx.needed() > 16 && tx.needed() < 64, "{}", tx.needed());
        for rx in &mut all {
            assert_eq!(selector.ready_timeout(NOW), None);
            assert_eq!(check(&rx.recv().unwrap()), read);
        }
        assert_eq!(selector.ready_timeout(NOW), Some(5));
        tx.try_send((next, filled(&pool, next))).unwrap();
    }
    // One that is woken later, by a reader in another thread.
    let [mut one, other] = all;
    drop(other);
    let reads = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        check(&one.recv().unwrap());
        one
    });
    let began = Instant::now();
    assert_eq!(selector.ready_timeout(SOON), Some(5));
    assert!(began.elapsed() > Duration::from_millis(20));
    drop(reads.join().unwrap());
    tx.discard().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn smoke() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    let mut all = [(); 2].map(|()| Receiver::<One>::new(ring.consumer().unwrap()));
    for next in 0..50 {
        tx.send((next, filled(&pool, next))).unwrap();
        for rx in &mut all {
            assert_eq!(check(&rx.recv().unwrap()), next);
            assert_eq!(rx.sequence(), Some(next));
        }
        assert_eq!(pool.in_use(), KEEP.min(next as usize + 1));
    }
    tx.discard().unwrap();
    assert_eq!(pool.in_use(), 0);
    assert_eq!(all[0].recv().unwrap_err(), MessageError::Ring(RecvError::Closed));
}

#[test]
fn full() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    let mut rx = Receiver::<One>::new(ring.consumer().unwrap());
    for next in 0..3 {
        tx.try_send((next, filled(&pool, next))).unwrap();
    }
    // There is room in the ring, and none for the blocks.
    let error = tx.try_send((3, filled(&pool, 3))).unwrap_err();
    assert!(matches!(&error, PortError::Ring(SendError::Full((3, _)))), "{error:?}");
    let error = tx.send_timeout(error.into_inner(), Duration::from_millis(2)).unwrap_err();
    assert!(matches!(&error, PortError::Ring(SendError::TimedOut(_))), "{error:?}");
    assert_eq!(check(&rx.recv().unwrap()), 0);
    tx.try_send(error.into_inner()).unwrap();
    for next in 1..4 {
        assert_eq!(check(&rx.recv().unwrap()), next);
    }
    tx.discard().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_lossy_receiver_is_told_what_it_missed() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    let mut rx = Receiver::<One>::new(ring.join().lossy().consumer().unwrap());
    for next in 0..5 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    // The ring has all five, the blocks of three are there.
    assert_eq!(rx.try_recv().unwrap_err(), lapped(2));
    for next in 2..5 {
        assert_eq!(check(&rx.try_recv().unwrap()), next);
    }
    assert_eq!(rx.try_recv().unwrap_err(), MessageError::Ring(RecvError::Empty));
    // Now the ring is overwritten too.
    for next in 5..200 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    let mut next = 5;
    loop {
        match rx.try_recv() {
            Ok(message) => {
                assert_eq!(check(&message), next);
                next += 1;
            }
            Err(MessageError::Ring(RecvError::Lapped { missed })) => next += missed,
            Err(error) => break assert_eq!(error, MessageError::Ring(RecvError::Empty)),
        }
    }
    assert_eq!(next, 200, "what it did not get it was told of");
    for next in 200..204 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    tx.discard().unwrap();
    assert_eq!(rx.recv().unwrap_err(), lapped(4));
    assert_eq!(rx.recv().unwrap_err(), MessageError::Ring(RecvError::Closed));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn history_is_as_long_as_the_blocks_are_kept() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    for next in 0..6 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    let mut rx = Receiver::<One>::new(ring.join().history(2).consumer().unwrap());
    for next in 4..6 {
        assert_eq!(check(&rx.recv().unwrap()), next);
    }
    drop(rx);
    let mut rx = Receiver::<One>::new(ring.join().history(6).consumer().unwrap());
    assert_eq!(rx.recv().unwrap_err(), lapped(3));
    for next in 3..6 {
        assert_eq!(check(&rx.recv().unwrap()), next);
    }
    // What a receiver keeps stays, whatever the ring does.
    tx.send((6, filled(&pool, 6))).unwrap();
    let kept = rx.recv().unwrap();
    for next in 7..20 {
        tx.send((next, filled(&pool, next))).unwrap();
        rx.recv().unwrap();
        check(&kept);
    }
    assert_eq!(pool.in_use(), KEEP + 1);
}

#[test]
fn each_policy_when_full() {
    for policy in [Policy::Fail, Policy::DropNewest] {
        let pool = pool(8);
        let ring = ring(&pool, policy);
        let mut tx = sender(&ring);
        let mut rx = Receiver::<One>::new(ring.consumer().unwrap());
        for next in 0..3 {
            tx.send((next, filled(&pool, next))).unwrap();
        }
        let sent = tx.send((3, filled(&pool, 3)));
        assert_eq!(sent.is_ok(), policy == Policy::DropNewest);
        drop(sent);
        assert_eq!(pool.in_use(), 3);
        for next in 0..3 {
            assert_eq!(check(&rx.recv().unwrap()), next);
        }
        tx.send((4, filled(&pool, 4))).unwrap();
        assert_eq!(check(&rx.recv().unwrap()), 4);
        let dropped = u64::from(policy == Policy::DropNewest);
        assert_eq!(rx.sequence(), Some(3 + dropped));
        tx.discard().unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn another_sender_goes_on() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut rx = Receiver::<One>::new(ring.consumer().unwrap());
    let mut tx = sender(&ring);
    for next in 0..2 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    drop(tx);
    let mut other = Sender::<One>::new(ring.producer().unwrap(), KEEP + 1);
    let error = other.send((2, filled(&pool, 2))).unwrap_err();
    assert!(error.to_string().contains("keeps 3, not 4"), "{error}");
    drop((error, other));
    let mut tx = sender(&ring);
    tx.send((2, filled(&pool, 2))).unwrap();
    // It respects what its predecessor sent and nobody has read.
    assert!(tx.try_send((3, filled(&pool, 3))).is_err());
    assert_eq!(check(&rx.recv().unwrap()), 0);
    tx.try_send((3, filled(&pool, 3))).unwrap();
    for next in 1..4 {
        assert_eq!(check(&rx.recv().unwrap()), next);
    }
    assert_eq!(pool.in_use(), KEEP);
    drop(tx);
    // One that keeps another number can still end it.
    Sender::<One>::new(ring.producer().unwrap(), 1).discard().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_cannot_be_sent_is_handed_back() {
    let pool = pool(8);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    let other = self::pool(1);
    let error = tx.send((0, filled(&other, 0))).unwrap_err();
    assert!(error.to_string().contains("another segment"), "{error}");
    drop(error);
    let mut long = Receiver::<One>::new(ring.consumer().unwrap());
    tx.send((1, filled(&pool, 1))).unwrap();
    assert_eq!(check(&long.recv().unwrap()), 1);
    tx.discard().unwrap();
    ring.producer().unwrap().send(b"no message").unwrap();
    assert!(matches!(long.recv(), Err(MessageError::Unreadable { .. })));
    assert_eq!((pool.in_use(), other.in_use()), (0, 0));
}

/// A quick sender, two that miss nothing and two that may: no block is torn or foreign.
#[test]
fn two_ends() {
    let pool = pool(12);
    let ring = ring(&pool, Policy::Wait);
    let mut tx = sender(&ring);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..4)
            .map(|at| {
                let join = ring.join();
                let join = if at % 2 == 0 { join } else { join.lossy() };
                let mut rx = Receiver::<One>::new(join.consumer().unwrap());
                scope.spawn(move || {
                    let (mut next, mut got, mut kept) = (0, 0, None::<One>);
                    loop {
                        match rx.recv_timeout(SOON) {
                            Ok(message) => {
                                assert_eq!((check(&message), rx.sequence()), (next, Some(next)));
                                (next, got) = (next + 1, got + 1);
                                kept.replace(message).as_ref().map(check);
                            }
                            Err(MessageError::Ring(RecvError::Lapped { missed })) => {
                                assert!(rx.is_lossy());
                                next += missed;
                            }
                            Err(end) => {
                                break assert_eq!(end, MessageError::Ring(RecvError::Closed));
                            }
                        }
                    }
                    (next, got)
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_millis(300);
        let mut next = 0;
        while Instant::now() < until {
            let mut loan = pool.loan_timeout(SOON).unwrap();
            loan.array_mut::<u64, _>(32).unwrap().fill(next);
            tx.send((next, loan.freeze())).unwrap();
            next += 1;
        }
        drop(tx);
        for receiver in receivers {
            let (told, got) = receiver.join().unwrap();
            assert_eq!(told, next);
            assert!(got > 10);
        }
    });
    assert_eq!(pool.in_use(), KEEP);
    sender(&ring).discard().unwrap();
    assert_eq!(pool.in_use(), 0);
}
