//! Each kind of ring whose ends come and go, awaited in tokio.

use std::{
    io::{Read, Write, pipe},
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nix::sys::signal::{Signal, kill};
use shmring::{
    RecvError, Segment, SendError,
    ring::{Policy, broadcast::Broadcast, latest::Latest, queue::Queue},
    tokio::Async,
};
use testkit::forked as child;
use tokio::{
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use super::{LATE, join, join_killed, one_thread, random, soon, two_threads};

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Two that miss nothing, and one that may, of a producer in another process.
pub(crate) fn a_broadcast_is_awaited_and_streamed() {
    for runtime in [one_thread, two_threads] {
        const ITEMS: u64 = 3000;
        let ring = Broadcast::options().capacity(1024).anonymous().unwrap();
        let (every, streamed) = (ring.consumer().unwrap(), ring.consumer().unwrap());
        let some = ring.join().lossy().consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for item in 0..ITEMS {
                tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
                if item % 100 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        runtime().block_on(async {
            let mut every = Async::new(every).unwrap();
            let every = ::tokio::spawn(async move {
                let mut next = 0;
                while next < ITEMS / 2 {
                    let got = soon(every.recv()).await.unwrap();
                    assert_eq!((got.sequence(), number(&got)), (next, next));
                    next += 1;
                }
                while next < ITEMS {
                    let mut run = soon(every.run()).await.unwrap();
                    while let Some(got) = run.next().unwrap() {
                        assert_eq!((got.sequence(), number(&got)), (next, next));
                        next += 1;
                    }
                }
                assert_eq!(soon(every.run()).await.unwrap_err(), RecvError::Closed);
            });
            let mut some = Async::new(some).unwrap();
            let some = ::tokio::spawn(async move {
                let mut next = 0;
                loop {
                    match soon(some.recv()).await {
                        Ok(item) => {
                            assert_eq!((item.sequence(), number(&item)), (next, next));
                            next += 1;
                        }
                        Err(RecvError::Lapped { missed }) => next += missed,
                        Err(end) => break assert_eq!(end, RecvError::Closed),
                    }
                }
                assert_eq!(next, ITEMS, "what it did not get it was told of");
            });
            let streamed = Async::new(streamed).unwrap();
            let streamed: Vec<_> =
                soon(streamed.map(|item| number(&item.unwrap())).collect()).await;
            assert!(streamed.into_iter().eq(0..ITEMS));
            every.await.unwrap();
            some.await.unwrap();
        });
        join(sender);
    }
}

/// Tasks and processes at both ends of a small queue: each item goes to one of them, once, and
/// each of them sees those of one producer in their order.
pub(crate) fn a_queue_between_tasks_and_processes() {
    for runtime in [one_thread, two_threads] {
        const ITEMS: u64 = 1000;
        let segment = Segment::options().len(1 << 16).anonymous().unwrap();
        let queue = Queue::options().capacity(8).item_len(8).create_in(&segment).unwrap();
        let done = Queue::options().capacity(256).item_len(8).create_in(&segment).unwrap();
        // Held until all have begun: otherwise the queue is over when the first has sent all.
        let (held, told) = (queue.producer().unwrap(), done.producer().unwrap());
        let (mut ready, mut write) = pipe().unwrap();
        let sends = child(|| {
            let mut tx = queue.producer().unwrap();
            write.write_all(&[1]).unwrap();
            for item in 0..ITEMS {
                tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
            }
        });
        let takes = child(|| {
            let (mut rx, mut tx) = (queue.consumer().unwrap(), done.producer().unwrap());
            write.write_all(&[1]).unwrap();
            while let Ok(item) = rx.recv() {
                tx.send_timeout(&*item, LATE).unwrap();
                item.ack().unwrap();
            }
        });
        ready.read_exact(&mut [0; 2]).unwrap();
        runtime().block_on(async {
            let mut tasks = JoinSet::new();
            for first in [ITEMS, 2 * ITEMS] {
                let mut tx = Async::new(queue.producer().unwrap()).unwrap();
                tasks.spawn(async move {
                    for item in first..first + ITEMS {
                        soon(tx.send(item.to_le_bytes())).await.unwrap();
                    }
                });
            }
            for at_once in [1, 4] {
                let mut rx = Async::new(queue.consumer().unwrap()).unwrap();
                let mut tx = Async::new(done.producer().unwrap()).unwrap();
                tasks.spawn(async move {
                    let mut last = std::collections::HashMap::new();
                    loop {
                        let run = match soon(rx.run(at_once)).await {
                            Ok(run) => run,
                            Err(end) => break assert_eq!(end, RecvError::Closed),
                        };
                        for part in &run {
                            let before = last.insert(part.producer(), part.sequence());
                            assert!(before.is_none_or(|before| before < part.sequence()));
                            assert_eq!(part.attempt(), 1);
                            soon(tx.send(&*part)).await.unwrap();
                        }
                        run.ack().unwrap();
                    }
                });
            }
            drop((held, told));
            let mut done = Async::new(done.consumer().unwrap()).unwrap();
            let mut seen = vec![];
            let end = loop {
                match soon(done.recv()).await {
                    Ok(item) => {
                        seen.push(number(&item));
                        item.ack().unwrap();
                    }
                    Err(end) => break end,
                }
            };
            seen.sort_unstable();
            let missing: Vec<u64> = (0..3 * ITEMS).filter(|at| !seen.contains(at)).collect();
            assert_eq!((seen.len() as u64, missing), (3 * ITEMS, vec![]), "{end}");
            tasks.join_all().await;
        });
        join(sends);
        join(takes);
        let stats = queue.stats();
        assert_eq!((stats.sent, stats.acked, stats.redelivered), (3 * ITEMS, 3 * ITEMS, 0));
    }
}

/// An item that another consumer was killed with comes to one that awaits.
pub(crate) fn what_a_dead_consumer_had_is_awaited() {
    let queue = Queue::options().anonymous().unwrap();
    let mut tx = queue.producer().unwrap();
    tx.send(b"work").unwrap();
    let (mut ready, mut write) = pipe().unwrap();
    let dies = child(|| {
        let mut rx = queue.consumer().unwrap();
        let _item = rx.recv().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    one_thread().block_on(async {
        let mut rx = Async::new(queue.consumer().unwrap()).unwrap();
        assert!(timeout(Duration::from_millis(50), rx.recv()).await.is_err(), "it is in hand");
        let receives = async {
            let item = soon(rx.recv()).await.unwrap();
            assert_eq!((&*item, item.attempt()), (&b"work"[..], 2));
            item.ack().unwrap();
        };
        let kills = async {
            sleep(Duration::from_millis(20)).await;
            kill(dies, Signal::SIGKILL).unwrap();
        };
        ::tokio::join!(receives, kills);
    });
    join_killed(dies);
    assert_eq!(queue.stats().redelivered, 1);
}

pub(crate) fn policies_are_kept() {
    one_thread().block_on(async {
        let full = |policy| {
            let queue = Queue::options().capacity(2).policy(policy).anonymous().unwrap();
            let (tx, rx) = queue.split().unwrap();
            (queue, Async::new(tx).unwrap(), rx)
        };
        let (_queue, mut tx, _rx) = full(Policy::Fail);
        for _ in 0..2 {
            tx.send(b"item").await.unwrap();
        }
        assert!(matches!(soon(tx.send(b"more")).await, Err(SendError::Full(b"more"))));
        assert!(matches!(soon(tx.claim(1)).await, Err(SendError::Full(()))));

        let (queue, mut tx, _rx) = full(Policy::DropNewest);
        for _ in 0..5 {
            soon(tx.send(b"item")).await.unwrap();
        }
        assert_eq!((queue.stats().sent, queue.stats().lost), (2, 3));

        let (_queue, mut tx, mut rx) = full(Policy::Wait);
        for _ in 0..100 {
            tx.claim(4).await.unwrap().fill(7); // Not committed.
        }
        assert!(matches!(tx.claim(1000).await, Err(SendError::TooLarge { len: 1000, .. })));
        for _ in 0..2 {
            soon(tx.send(b"item")).await.unwrap();
        }
        assert!(timeout(Duration::from_millis(20), tx.send(b"more")).await.is_err());
        let acks = ::tokio::spawn(async move {
            sleep(Duration::from_millis(10)).await;
            rx.try_recv().unwrap().ack().unwrap();
            rx
        });
        soon(tx.send(b"last")).await.unwrap();
        let mut rx = Async::new(acks.await.unwrap()).unwrap();
        for expected in [b"item", b"last"] {
            let item = soon(rx.recv()).await.unwrap();
            assert_eq!(&*item, expected);
            item.ack().unwrap();
        }
        drop(tx);
        assert_eq!(soon(rx.recv()).await.unwrap_err(), RecvError::Closed);
    });
}

/// Versions only go up, and the last value is seen before the end.
pub(crate) fn newer_values_are_awaited() {
    for runtime in [one_thread, two_threads] {
        const VALUES: u64 = 2000;
        let board = Latest::<[u64; 3]>::options().slots(3).anonymous().unwrap();
        let writer = child(|| {
            let mut writer = board.writer().unwrap();
            thread::sleep(Duration::from_millis(20));
            for value in 1..=VALUES {
                writer.set(&[value; 3]).unwrap();
                if value % 20 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        runtime().block_on(async {
            let read = |_| async {
                let mut reader = Async::new(board.reader()).unwrap();
                let first = soon(reader.get()).await.unwrap();
                assert!(first[0] > 0);
                assert!(soon(reader.get()).await.unwrap()[0] >= first[0], "also the same again");
                let mut last = reader.get_ref().version();
                loop {
                    match soon(reader.recv()).await {
                        Ok(value) => {
                            let version = reader.get_ref().version();
                            assert!(version > last);
                            assert_eq!(value, [version; 3]);
                            last = version;
                        }
                        Err(end) => break assert_eq!(end, RecvError::Closed),
                    }
                }
                assert_eq!(last, VALUES);
                assert_eq!(reader.get().await, Ok([VALUES; 3]));
            };
            stream::iter(0..5).map(read).buffer_unordered(5).collect::<Vec<_>>().await;
        });
        join(writer);
    }
}

/// Whoever waits for a process that is killed is told at once, whatever it waits at.
pub(crate) fn death_ends_an_await() {
    for runtime in [one_thread, two_threads] {
        let segment = Segment::options().len(1 << 16).anonymous().unwrap();
        let ring = Broadcast::options().capacity(256).create_in(&segment).unwrap();
        let queue = || Queue::options().capacity(2).create_in(&segment).unwrap();
        let (work, filled) = (queue(), queue());
        let board = Latest::<u64>::options().create_in(&segment).unwrap();
        let (every, some) = (ring.consumer().unwrap(), ring.join().lossy().consumer().unwrap());
        let (mut ready, mut write) = pipe().unwrap();
        let dies = child(|| {
            let (mut tx, _work) = (ring.producer().unwrap(), work.producer().unwrap());
            let (_filled, mut writer) = (filled.consumer().unwrap(), board.writer().unwrap());
            tx.send(b"last").unwrap();
            writer.set(&7).unwrap();
            write.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        ready.read_exact(&mut [0]).unwrap();
        runtime().block_on(async {
            let (mut every, mut some) = (Async::new(every).unwrap(), Async::new(some).unwrap());
            let mut work = Async::new(work.consumer().unwrap()).unwrap();
            let mut filled = Async::new(filled.producer().unwrap()).unwrap();
            let mut reader = Async::new(board.reader()).unwrap();
            assert_eq!(&*soon(every.recv()).await.unwrap(), b"last");
            assert_eq!(&*soon(some.recv()).await.unwrap(), b"last");
            assert_eq!(soon(reader.recv()).await, Ok(7));
            while filled.get_mut().try_send(b"item").is_ok() {}
            let kills = async {
                sleep(Duration::from_millis(50)).await;
                kill(dies, Signal::SIGKILL).unwrap();
                Instant::now()
            };
            let every = async { (every.recv().await.map(drop), Instant::now()) };
            let some = async { (some.recv().await.map(drop), Instant::now()) };
            let work = async { (work.recv().await.map(drop), Instant::now()) };
            let reader = async { (reader.recv().await.map(drop), Instant::now()) };
            let sends = async { (filled.send(b"item").await, Instant::now()) };
            let all = async { ::tokio::join!(kills, every, some, work, reader, sends) };
            let (killed, every, some, work, reader, (sent, at)) = soon(all).await;
            assert!(matches!(sent, Err(SendError::PeerDied { .. })), "{sent:?}");
            for (what, (received, _)) in [("every", &every), ("some", &some), ("work", &work)] {
                assert!(matches!(received, Err(RecvError::PeerDied { .. })), "{what} {received:?}");
            }
            assert!(matches!(reader.0, Err(RecvError::PeerDied { .. })), "{:?}", reader.0);
            for ended in [every.1, some.1, work.1, reader.1, at] {
                assert!(ended - killed < Duration::from_millis(80), "{:?}", ended - killed);
            }
        });
        join_killed(dies);
    }
}

/// Futures of all ends are dropped at any time: each item arrives once, at the first attempt, in
/// its order.
pub(crate) fn dropped_futures_lose_nothing() {
    for runtime in [one_thread, two_threads] {
        const ITEMS: u64 = 2000;
        let segment = Segment::options().len(1 << 16).anonymous().unwrap();
        let queue = Queue::options().capacity(4).create_in(&segment).unwrap();
        let ring = Broadcast::options().capacity(256).create_in(&segment).unwrap();
        let board = Latest::<u64>::options().create_in(&segment).unwrap();
        let (rx, every) = (queue.consumer().unwrap(), ring.consumer().unwrap());
        let mut writer = board.writer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for item in 0..ITEMS {
                tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
                if item % 8 == 0 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        runtime().block_on(async {
            let mut tx = Async::new(queue.producer().unwrap()).unwrap();
            let sends = ::tokio::spawn(async move {
                let (mut seed, mut dropped) = (5, 0);
                for item in 0..ITEMS {
                    loop {
                        let yields = random(&mut seed) % 3;
                        ::tokio::select! {
                            biased;
                            sent = tx.send(item.to_le_bytes()) => break sent.unwrap(),
                            () = yields_for(yields) => dropped += 1,
                        }
                    }
                    writer.set(&(item + 1)).unwrap();
                }
                dropped
            });
            let (mut rx, mut every) = (Async::new(rx).unwrap(), Async::new(every).unwrap());
            let mut reader = Async::new(board.reader()).unwrap();
            let (mut next, mut next_of_all, mut last, mut dropped) = (0, 0, 0, 0);
            let mut seed = 6;
            let began = Instant::now();
            while (next, next_of_all, last) != (ITEMS, ITEMS, ITEMS) {
                assert!(began.elapsed() < LATE, "{next} {next_of_all} {last}");
                let yields = random(&mut seed) % 3;
                ::tokio::select! {
                    item = rx.recv(), if next < ITEMS => {
                        let item = item.unwrap();
                        assert_eq!((number(&item), item.attempt()), (next, 1));
                        item.ack().unwrap();
                        next += 1;
                    }
                    item = every.recv(), if next_of_all < ITEMS => {
                        assert_eq!(number(&item.unwrap()), next_of_all);
                        next_of_all += 1;
                    }
                    value = reader.recv(), if last < ITEMS => {
                        let value = value.unwrap();
                        assert!(value > last);
                        last = value;
                    }
                    () = yields_for(yields) => dropped += 1,
                }
                if next % 64 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            assert_eq!(soon(rx.recv()).await.unwrap_err(), RecvError::Closed);
            assert_eq!(soon(every.recv()).await.unwrap_err(), RecvError::Closed);
            assert_eq!(soon(reader.recv()).await.unwrap_err(), RecvError::Closed);
            let dropped_sends = soon(sends).await.unwrap();
            println!("{dropped} and {dropped_sends} futures dropped");
            assert!(dropped > 50 && dropped_sends > 10, "{dropped} {dropped_sends}");
        });
        join(sender);
        let stats = queue.stats();
        assert_eq!((stats.sent, stats.acked, stats.redelivered), (ITEMS, ITEMS, 0));
    }
}

async fn yields_for(count: u64) {
    for _ in 0..count {
        yield_now().await;
    }
}
