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
        latest::{self, Latest},
        port::MessageError,
        queue::{Queue, port},
    },
    tokio::Async,
};
use testkit::forked as child;
use tokio::time::{sleep, timeout};

use super::{LATE, join, join_killed, one_thread, soon, two_threads};

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
    let pool = BlockPool::options().blocks(4).block_len(128).create().unwrap();
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
        let pool = BlockPool::options().blocks(8).block_len(128).create().unwrap();
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
