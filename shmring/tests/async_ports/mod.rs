//! Messages with blocks over queues and as latest values, awaited in tokio.

use std::{
    io::{Read, Write, pipe},
    thread,
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use shmring::{
    RecvError,
    block::{Block, BlockPool},
    ring::{
        broadcast::{self, Broadcast},
        latest::{self, Latest},
        port::MessageError,
        queue::{Queue, port},
    },
    tokio::Async,
};
use testkit::forked as child;
use tokio::time::{Instant, sleep, timeout};

use super::{LATE, join, join_killed, one_thread, soon, time_used, two_threads};

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.loan_timeout(LATE).unwrap();
    loan.array_mut::<u64, _>(16).unwrap().fill(number);
    loan.freeze()
}

fn check(number: u64, block: &Block) {
    assert!(block.array::<u64, _>(16).unwrap().iter().all(|element| *element == number));
}

/// A task sends jobs to workers: one is killed with one in hand, which an awaiting task gets, with
/// the same block.
pub(crate) fn jobs_are_awaited() {
    let pool = BlockPool::options().blocks(4).block_len(128).anonymous().unwrap();
    let queue = Queue::options().capacity(2).create_in(pool.segment()).unwrap();
    let (mut tx, rx) = port::ends::<(u64, Block)>(&queue).unwrap();
    let first = filled(&pool, 0);
    let index = first.index();
    tx.send((0, first)).unwrap();
    let (mut ready, mut write) = pipe().unwrap();
    let dies = child(|| {
        let mut rx = port::Receiver::<(u64, Block)>::new(queue.consumer().unwrap());
        let _job = rx.recv().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    one_thread().block_on(async {
        let (mut tx, mut rx) = (Async::new(tx).unwrap(), Async::new(rx).unwrap());
        assert!(timeout(Duration::from_millis(50), rx.recv()).await.is_err(), "it is in hand");
        kill(dies, Signal::SIGKILL).unwrap();
        let job = soon(rx.recv()).await.unwrap();
        assert_eq!((job.0, job.attempt(), job.1.index()), (0, 2, index));
        job.ack().unwrap();
        let sends = async {
            for next in 1..200 {
                soon(tx.send((next, filled(&pool, next)))).await.unwrap();
            }
            drop(tx);
        };
        let receives = async {
            for next in 1..200 {
                let job = soon(rx.recv()).await.unwrap();
                assert_eq!(job.0, next);
                check(next, &job.1);
                // A future that is dropped has taken nothing; a job that is dropped comes again.
                if next % 50 == 0 {
                    drop(job);
                    sleep(Duration::from_millis(1)).await;
                    break;
                }
                job.ack().unwrap();
            }
            let mut rest = vec![];
            while let Ok(job) = soon(rx.recv()).await {
                check(job.0, &job.1);
                rest.push(job.ack().unwrap().0);
            }
            rest.sort_unstable();
            assert!(rest.into_iter().eq(50..200));
        };
        ::tokio::join!(sends, receives);
    });
    join_killed(dies);
    assert_eq!(pool.in_use(), 0);
}

/// Newer messages are awaited by tasks, while another process sets them.
pub(crate) fn newer_blocks_are_awaited() {
    for runtime in [one_thread, two_threads] {
        let pool = BlockPool::options().blocks(8).block_len(128).anonymous().unwrap();
        let board = Latest::<[u8]>::options().create_in(pool.segment()).unwrap();
        let readers = [board.reader(), board.reader()];
        let sets = child(|| {
            let mut writer = latest::port::Writer::new(board.writer().unwrap());
            for next in 1..=500u64 {
                writer.set((next, filled(&pool, next))).unwrap();
                if next % 20 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        runtime().block_on(async {
            let tasks = readers.map(|reader| {
                ::tokio::spawn(async move {
                    let reader = latest::port::Reader::<(u64, Block)>::new(reader);
                    let mut reader = Async::new(reader).unwrap();
                    let mut last = 0;
                    loop {
                        match soon(reader.recv()).await {
                            Ok((number, block)) => {
                                assert!(number > last);
                                check(number, &block);
                                last = number;
                            }
                            Err(end) => {
                                break assert_eq!(end, MessageError::Ring(RecvError::Closed));
                            }
                        }
                    }
                    assert_eq!(last, 500);
                    assert_eq!(soon(reader.get()).await.unwrap().0, 500);
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        });
        join(sets);
        latest::port::Writer::<()>::new(board.writer().unwrap()).clear().unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}

type One = (u64, Block);

/// Tasks and a process that see every message of a task, in place.
pub(crate) fn every_message_is_awaited_by_all() {
    const MESSAGES: u64 = 300;
    for runtime in [one_thread, two_threads] {
        let pool = BlockPool::options().blocks(8).block_len(128).anonymous().unwrap();
        let ring = Broadcast::options().capacity(1 << 12).create_in(pool.segment()).unwrap();
        let tx = broadcast::port::Sender::<One>::new(ring.producer().unwrap(), 2);
        let receiver = || broadcast::port::Receiver::<One>::new(ring.consumer().unwrap());
        let receivers = [receiver(), receiver()];
        let (mut ready, mut write) = pipe().unwrap();
        let other = child(|| {
            let mut rx = receiver();
            write.write_all(&[1]).unwrap();
            for next in 0..MESSAGES {
                let (number, block) = rx.recv_timeout(LATE).unwrap();
                assert_eq!(number, next);
                check(number, &block);
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        runtime().block_on(async {
            let tasks = receivers.map(|rx| {
                let mut rx = Async::new(rx).unwrap();
                tokio::spawn(async move {
                    for next in 0..MESSAGES {
                        let (number, block) = soon(rx.recv()).await.unwrap();
                        assert_eq!(number, next);
                        check(number, &block);
                    }
                    let end = soon(rx.recv()).await.unwrap_err();
                    assert_eq!(end, MessageError::Ring(RecvError::Closed));
                })
            });
            let mut tx = Async::new(tx).unwrap();
            for next in 0..MESSAGES {
                // Two are kept, one is in the hands of each of three at most, and this one.
                let mut loan = pool.try_loan().unwrap();
                loan.array_mut::<u64, _>(16).unwrap().fill(next);
                soon(tx.send((next, loan.freeze()))).await.unwrap();
            }
            drop(tx);
            for task in tasks {
                task.await.unwrap();
            }
        });
        join(other);
        let last = broadcast::port::Sender::<One>::new(ring.producer().unwrap(), 2);
        last.discard().unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}

/// A sender that is held back by what is kept sleeps, although the ring has room; a future that is
/// dropped has sent nothing; a reader that dies holds nobody back.
pub(crate) fn what_is_kept_holds_a_task_back() {
    let pool = BlockPool::options().blocks(4).block_len(128).anonymous().unwrap();
    let ring = Broadcast::options().capacity(1 << 12).create_in(pool.segment()).unwrap();
    let tx = broadcast::port::Sender::<One>::new(ring.producer().unwrap(), 1);
    let mut rx = broadcast::port::Receiver::<One>::new(ring.consumer().unwrap());
    let (mut ready, mut write) = pipe().unwrap();
    let dies = child(|| {
        let mut rx = broadcast::port::Receiver::<One>::new(ring.consumer().unwrap());
        write.write_all(&[1]).unwrap();
        let (number, _block) = rx.recv().unwrap();
        assert_eq!(number, 0);
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    one_thread().block_on(async {
        let mut tx = Async::new(tx).unwrap();
        soon(tx.send((0, filled(&pool, 0)))).await.unwrap();
        let (before, pause) = (time_used(), Duration::from_millis(300));
        assert!(timeout(pause, tx.send((7, filled(&pool, 7)))).await.is_err(), "not yet read");
        let used = time_used() - before;
        assert!(used < pause / 5, "it is busy while it waits: {used:?}");
        check(0, &rx.recv().unwrap().1);
        soon(tx.send((1, filled(&pool, 1)))).await.unwrap();
        // The other one reads no more.
        check(1, &rx.recv().unwrap().1);
        let sends = async {
            soon(tx.send((2, filled(&pool, 2)))).await.unwrap();
            Instant::now()
        };
        let kills = async {
            sleep(Duration::from_millis(50)).await;
            kill(dies, Signal::SIGKILL).unwrap();
            Instant::now()
        };
        let (sent, killed) = tokio::join!(sends, kills);
        assert!(sent >= killed && sent < killed + Duration::from_secs(1), "{:?}", sent - killed);
        check(2, &rx.recv().unwrap().1);
        tx.into_inner().discard().unwrap();
    });
    join_killed(dies);
    pool.repair(); // What the dead one had in its hands.
    assert_eq!(pool.in_use(), 0);
}
