use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use super::*;
use crate::{
    block::{Block, BlockPool},
    ring::{
        broadcast::{self, Broadcast},
        cells::Cells,
        port,
        queue::{self, Queue},
        records::Records,
    },
};

/// The same with the ends of each kind: `$tx` sends a `u64`, `$rx` receives it.
macro_rules! every_kind {
    ($body:ident) => {
        let ring = Records::options().capacity(4096).anonymous().unwrap();
        let (mut tx, rx) = port::ends::<u64>(&ring).unwrap();
        $body!(records, ring.len(), rx, |item: u64| tx.send(item).unwrap(), tx);
        let ring = Cells::<u64>::options().capacity(64).anonymous().unwrap();
        let (mut tx, rx) = ring.split().unwrap();
        $body!(cells, ring.len(), rx, |item: u64| tx.send(item).unwrap(), tx);
        let ring = Queue::options().capacity(64).anonymous().unwrap();
        let (mut tx, rx) = queue::port::ends::<u64>(&ring).unwrap();
        $body!(queue, ring.len(), rx, |item: u64| tx.send(item).unwrap(), tx);
        let ring = Broadcast::options().capacity(4096).anonymous().unwrap();
        let mut tx = broadcast::port::Sender::<u64>::new(ring.producer().unwrap(), 8);
        let rx = broadcast::port::Receiver::<u64>::new(ring.consumer().unwrap());
        $body!(broadcast, rx.len(), rx, |item: u64| tx.send(item).unwrap(), tx);
    };
}

#[test]
fn what_is_there_is_counted_and_received() {
    macro_rules! body {
        ($kind:ident, $len:expr, $rx:ident, $send:expr, $tx:ident) => {
            let mut rx = $rx;
            let kind = stringify!($kind);
            assert!(rx.is_empty() && rx.len() == 0 && rx.try_iter().next().is_none(), "{kind}");
            {
                let mut send = $send;
                (0..5).for_each(|item| send(item));
            }
            assert_eq!((rx.len(), rx.is_empty()), (5, false), "{kind}");
            let two: Vec<u64> = rx.try_iter().take(2).map(Result::unwrap).collect();
            assert_eq!((two, rx.len()), (vec![0, 1], 3), "{kind}");
            let mut rest = rx.try_iter();
            assert_eq!(rest.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [2, 3, 4], "{kind}");
            drop(rest);
            assert!(rx.is_empty(), "{kind}");
            {
                let mut send = $send;
                send(9);
            }
            drop($tx);
            // What was sent before the end comes, then the end, and it stays the end.
            let mut all = rx.iter();
            assert_eq!(all.next().unwrap().unwrap(), 9, "{kind}");
            assert!(all.next().is_none() && all.next().is_none(), "{kind}");
            drop(all);
            assert!(rx.iter().next().is_none() && rx.try_iter().next().is_none(), "{kind}");
        };
    }
    every_kind!(body);
}

#[test]
fn it_waits_for_each() {
    macro_rules! body {
        ($kind:ident, $len:expr, $rx:ident, $send:expr, $tx:ident) => {
            let mut rx = $rx;
            let receiver = thread::spawn(move || {
                let mut sum = 0;
                for item in &mut rx {
                    sum += item.unwrap();
                }
                sum
            });
            {
                let mut send = $send;
                for item in 0..20 {
                    send(item);
                    if item % 7 == 0 {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            drop($tx);
            assert_eq!(receiver.join().unwrap(), 190, stringify!($kind));
        };
    }
    every_kind!(body);
}

#[test]
fn what_is_sent_while_somebody_looks_is_found_by_asking_again() {
    let ring = Cells::<u64>::options().anonymous().unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    let mut there = rx.try_iter();
    assert!(there.next().is_none());
    tx.send(1).unwrap();
    assert_eq!(there.next().unwrap().unwrap(), 1);
    assert!(there.next().is_none());
}

#[test]
fn errors_that_are_no_end_are_passed() {
    let ring = Records::options().capacity(4096).anonymous().unwrap();
    let (mut tx, rx) = ring.split().unwrap();
    let mut rx = port::Receiver::<u64>::new(rx);
    tx.send(b"no message at all").unwrap();
    let mut tx = port::Sender::<u64>::new(tx);
    tx.send(5).unwrap();
    drop(tx);
    let mut all = rx.iter();
    assert!(matches!(all.next(), Some(Err(MessageError::Unreadable { .. }))));
    assert_eq!(all.next().unwrap().unwrap(), 5);
    assert!(all.next().is_none());

    let ring = Broadcast::options().capacity(256).anonymous().unwrap();
    let mut tx = broadcast::port::Sender::<u64>::new(ring.producer().unwrap(), 8);
    let rx = ring.join().lossy().consumer().unwrap();
    let mut rx = broadcast::port::Receiver::<u64>::new(rx);
    (0..100).for_each(|item| tx.send(item).unwrap());
    drop(tx);
    assert_eq!((rx.len(), rx.is_empty()), (100, false));
    let mut all = rx.iter();
    let Some(Err(MessageError::Ring(RecvError::Lapped { missed }))) = all.next() else {
        panic!("it was lapped");
    };
    let rest: Vec<u64> = all.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest, (missed..100).collect::<Vec<_>>());
}

#[test]
fn an_end_that_is_corrupt_is_told_once() {
    assert_eq!(RecvError::Corrupt.means(), Means::Over);
    assert_eq!(RecvError::PeerDied { pid: 1 }.means(), Means::Over);
    struct Broken;
    impl Receive for Broken {
        type Received = u64;
        type Error = RecvError;
        fn receive(&mut self, _: bool) -> Result<u64, RecvError> {
            Err(RecvError::Corrupt)
        }
    }
    let mut end = Broken;
    let mut all = Iter::new(&mut end, true);
    assert_eq!(all.next(), Some(Err(RecvError::Corrupt)));
    assert_eq!(all.next(), None);
}

#[test]
fn a_queues_message_is_done_with_when_the_next_is_asked_for() {
    let pool = BlockPool::options().blocks(4).block_len(64).anonymous().unwrap();
    let queue = Queue::options().capacity(8).create_in(pool.segment()).unwrap();
    let (mut tx, mut rx) = queue::port::ends::<(u64, Block)>(&queue).unwrap();
    for number in 0..4 {
        tx.send((number, pool.try_loan().unwrap().freeze())).unwrap();
    }
    let mut all = rx.try_iter();
    assert_eq!(all.next().unwrap().unwrap().0, 0);
    assert_eq!((queue.stats().acked, pool.in_use()), (0, 4), "it may come again");
    let (number, kept) = all.next().unwrap().unwrap();
    assert_eq!((number, queue.stats().acked, pool.in_use()), (1, 1, 3));
    // Who goes on is done with it, who panics may not be.
    drop(all);
    assert_eq!((queue.stats().acked, pool.in_use()), (2, 3));
    drop(kept);
    assert_eq!(pool.in_use(), 2);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        for job in &mut rx {
            assert_ne!(job.unwrap().0, 2, "as the test means it");
        }
    }));
    assert!(panicked.is_err());
    let again = rx.try_recv().unwrap();
    assert_eq!(again.0, 3);
    again.ack().unwrap();
    let again = rx.try_recv().unwrap();
    assert_eq!((again.0, again.attempt()), (2, 2));
    again.ack().unwrap();
    assert_eq!(pool.in_use(), 0);

    // An iterator that is forgotten acknowledges nothing.
    for number in 0..2 {
        tx.send((number, pool.try_loan().unwrap().freeze())).unwrap();
    }
    let mut forgotten = rx.iter();
    let _ = forgotten.next().unwrap().unwrap();
    std::mem::forget(forgotten);
    assert_eq!(rx.try_recv().unwrap().0, 1);
    let mut numbers: Vec<_> = rx.try_iter().map(|job| job.unwrap().0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(pool.in_use(), 0);
}
