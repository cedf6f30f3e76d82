//! What holds for async ends in every runtime: dropped futures, giving way, policies, sinks.

use std::{
    future::{Future, poll_fn},
    io::{Read, Write, pipe},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_util::{
    SinkExt, StreamExt,
    future::{join, join_all},
    stream::select_all,
};
use nix::sys::signal::{Signal, kill};
use serde::{Serialize, Serializer};
use shmring::{
    RecvError, SendError,
    block::{Block, BlockPool},
    future::{Async, AsyncReady},
    ring::{
        Policy,
        broadcast::{self, Broadcast},
        cells::Cells,
        port::{self, MessageError, PortError},
        queue::{self, Queue},
        records::{Producer, Records},
    },
    tokio::{AsyncConsumer, AsyncProducer, Readiness},
};
use testkit::forked as child;

use crate::{
    LATE, join as join_process, join_killed, one_thread,
    own_reactor::{Own, block_on},
    ring, segment, soon, two_threads,
};

/// Lets what the runtime knows be heard.
async fn give_way() {
    for _ in 0..3 {
        let mut came = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut came, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Polls a future so often, in vain; then something happens; then it is dropped.
async fn poll_and_drop<F: Future>(future: F, polls: usize, happens: impl FnOnce()) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let pending = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "there is nothing to do yet");
    }
    happens();
    // The future is woken, and not polled.
    give_way().await;
}

/// Each operation is dropped before its first poll, and after some; what it waited for comes before
/// the drop. Nothing is lost, doubled or changed in order.
async fn dropped_at_each_point<R: AsyncReady>() {
    for polls in 0..3 {
        // A record that comes while somebody waits for it.
        let (mut tx, rx) = ring(&segment(1)).split().unwrap();
        let mut rx = Async::<_, R>::new(rx).unwrap();
        poll_and_drop(rx.recv(), polls, || tx.try_send(b"one").unwrap()).await;
        assert_eq!(&*rx.recv().await.unwrap(), b"one");
        poll_and_drop(rx.next(), polls, || tx.try_send(b"two").unwrap()).await;
        assert_eq!(rx.next().await.unwrap().unwrap(), b"two");
        poll_and_drop(rx.ready(), polls, || tx.try_send(b"three").unwrap()).await;
        rx.ready().await;
        assert_eq!(&*rx.recv().await.unwrap(), b"three");
        poll_and_drop(rx.recv(), polls, || drop(tx)).await;
        assert_eq!(rx.recv().await.unwrap_err(), RecvError::Closed);

        // Room that comes: what was not sent stays unsent. A record that has to begin anew at the
        // start of the ring needs the room of two.
        let (tx, mut rx) = ring(&segment(1)).split().unwrap();
        let mut tx = Async::<_, R>::new(tx).unwrap();
        let (mut sent, mut next) = (0u8, 0u8);
        let mut take = || {
            for _ in 0..2 {
                assert_eq!(*rx.try_recv().unwrap(), [next; 40]);
                next += 1;
            }
        };
        sent = fill(tx.get_mut(), sent);
        poll_and_drop(tx.claim(40), polls, &mut take).await;
        tx.send([sent; 40]).await.unwrap();
        sent = fill(tx.get_mut(), sent + 1);
        poll_and_drop(tx.send([99; 40]), polls, &mut take).await;
        tx.send([sent; 40]).await.unwrap();
        // A sink keeps what it took, also when the flush is dropped.
        sent = fill(tx.get_mut(), sent + 1);
        let mut sink = tx.into_sink();
        sink.feed([sent; 40]).await.unwrap();
        poll_and_drop(sink.flush(), polls, &mut take).await;
        sink.close().await.unwrap();
        for number in next..=sent {
            assert_eq!(*rx.try_recv().unwrap(), [number; 40]);
        }
        assert_eq!(rx.try_recv().unwrap_err(), RecvError::Closed);

        // Messages.
        let (tx, rx) = port::ends::<(u8, String)>(&ring(&segment(1))).unwrap();
        let (mut tx, mut rx) = (Async::<_, R>::new(tx).unwrap(), Async::<_, R>::new(rx).unwrap());
        let message = |number| (number, "x".repeat(40));
        poll_and_drop(rx.recv(), polls, || tx.get_mut().try_send(message(0)).unwrap()).await;
        assert_eq!(rx.recv().await.unwrap().0, 0);
        poll_and_drop(rx.next(), polls, || tx.get_mut().try_send(message(1)).unwrap()).await;
        assert_eq!(rx.next().await.unwrap().unwrap().0, 1);
        let (mut sent, mut next) = (0, 0);
        let mut take = || {
            for _ in 0..2 {
                assert_eq!(rx.get_mut().try_recv().unwrap().0, next);
                next += 1;
            }
        };
        let full = |tx: &mut port::Sender<_>, sent: &mut u8| {
            while tx.try_send(message(*sent)).is_ok() {
                *sent += 1;
            }
        };
        full(tx.get_mut(), &mut sent);
        poll_and_drop(tx.send(message(99)), polls, &mut take).await;
        tx.send(message(sent)).await.unwrap();
        sent += 1;
        full(tx.get_mut(), &mut sent);
        let kept = message(sent);
        poll_and_drop(tx.send_ref(&kept), polls, &mut take).await;
        tx.send_ref(&kept).await.unwrap();
        sent += 1;
        full(tx.get_mut(), &mut sent);
        let mut sink = tx.into_sink();
        sink.feed(message(sent)).await.unwrap();
        poll_and_drop(sink.flush(), polls, &mut take).await;
        sink.close().await.unwrap();
        for number in next..=sent {
            assert_eq!(rx.recv().await.unwrap().0, number);
        }
        assert_eq!(rx.recv().await.unwrap_err(), MessageError::Ring(RecvError::Closed));
    }
}

/// Sends until the ring is full; gives the number that found no room.
fn fill(tx: &mut Producer, mut number: u8) -> u8 {
    while tx.try_send([number; 40]).is_ok() {
        number += 1;
    }
    number
}

pub(crate) fn dropped_at_each_point_in_tokio() {
    one_thread().block_on(soon(dropped_at_each_point::<Readiness>()));
    two_threads().block_on(soon(dropped_at_each_point::<Readiness>()));
}

pub(crate) fn dropped_at_each_point_in_a_runtime_of_our_own() {
    block_on(dropped_at_each_point::<Own>());
}

/// Does something again and again until another future of the task has run; `step` must not wait.
async fn gives_way(mut step: impl AsyncFnMut()) {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let busy = async {
        let mut steps = 0;
        while !stop.load(Ordering::Relaxed) {
            step().await;
            steps += 1;
            assert!(began.elapsed() < LATE / 4, "it never gives way");
        }
        steps
    };
    let other = async {
        give_way().await;
        stop.store(true, Ordering::Relaxed);
    };
    let (steps, ()) = join(busy, other).await;
    assert!((1..5000).contains(&steps), "{steps}");
}

/// A ring that always has something, or room, does not keep what else its thread has to do from
/// being done.
async fn a_busy_ring_gives_way<R: AsyncReady>() {
    let (mut tx, rx) = ring(&segment(1)).split().unwrap();
    let mut rx = Async::<_, R>::new(rx).unwrap();
    gives_way(async || {
        tx.try_send(b"item").unwrap();
        rx.recv().await.unwrap();
    })
    .await;

    let (tx, mut rx) = ring(&segment(1)).split().unwrap();
    let mut tx = Async::<_, R>::new(tx).unwrap();
    gives_way(async || {
        tx.send(b"item").await.unwrap();
        rx.try_recv().unwrap();
    })
    .await;
    let mut sink = tx.into_sink();
    gives_way(async || {
        sink.feed(b"item").await.unwrap();
        rx.try_recv().unwrap();
    })
    .await;

    let (tx, mut rx) = port::ends::<u64>(&ring(&segment(1))).unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    gives_way(async || {
        sink.feed(7).await.unwrap();
        rx.try_recv().unwrap();
    })
    .await;

    // Nor does one that gives up what finds no room.
    let (tx, _rx) = ring_that_drops().split().unwrap();
    let mut tx = Async::<_, R>::new(tx).unwrap();
    gives_way(async || tx.send([0; 40]).await.unwrap()).await;
    gives_way(async || assert!(tx.claim(40).await.is_err())).await;
    let (tx, _rx) = port::ends::<[u64; 4]>(&ring_that_drops()).unwrap();
    let mut tx = Async::<_, R>::new(tx).unwrap();
    gives_way(async || tx.send([0; 4]).await.unwrap()).await;
    gives_way(async || tx.send_ref(&[0; 4]).await.unwrap()).await;
    let cells = Cells::<u64>::options().capacity(2).policy(Policy::DropNewest);
    let (tx, _rx) = cells.anonymous().unwrap().split().unwrap();
    let mut tx = Async::<_, R>::new(tx).unwrap();
    gives_way(async || tx.send(7).await.unwrap()).await;
    gives_way(async || assert!(tx.claim_many(2).await.is_err())).await;
}

fn ring_that_drops() -> Records {
    Records::options().capacity(256).policy(Policy::DropNewest).anonymous().unwrap()
}

pub(crate) fn a_busy_ring_gives_way_in_tokio() {
    one_thread().block_on(a_busy_ring_gives_way::<Readiness>());
    two_threads().block_on(a_busy_ring_gives_way::<Readiness>());
}

pub(crate) fn a_busy_ring_gives_way_in_a_runtime_of_our_own() {
    block_on(a_busy_ring_gives_way::<Own>());
}

/// A sink does with what finds no room as the ring's policy says.
pub(crate) fn sinks_keep_policies() {
    one_thread().block_on(async {
        let options = Records::options().capacity(256).policy(Policy::Fail);
        let (tx, _rx) = options.anonymous().unwrap().split().unwrap();
        let mut sink = AsyncProducer::new(tx).unwrap().into_sink();
        while soon(sink.send([1; 40])).await.is_ok() {}
        assert_eq!(soon(sink.send([2; 40])).await, Err(SendError::Full([2; 40])));

        let ring = ring_that_drops();
        let (tx, _rx) = ring.split().unwrap();
        let mut sink = AsyncProducer::new(tx).unwrap().into_sink();
        for _ in 0..20 {
            soon(sink.send([1; 40])).await.unwrap();
        }
        let stats = ring.stats();
        assert!(stats.lost > 0 && stats.sent + stats.lost == 20, "{stats:?}");

        let queue = Queue::options().capacity(2).policy(Policy::DropNewest).anonymous().unwrap();
        let (tx, _rx) = queue.split().unwrap();
        let mut sink = shmring::tokio::Async::new(tx).unwrap().into_sink();
        for _ in 0..5 {
            soon(sink.send(b"item")).await.unwrap();
        }
        assert_eq!((queue.stats().sent, queue.stats().lost), (2, 3));

        let ring = Cells::<u64>::options().capacity(2).policy(Policy::DropNewest);
        let ring = ring.anonymous().unwrap();
        let (tx, _rx) = ring.split().unwrap();
        let mut sink = shmring::tokio::Async::new(tx).unwrap().into_sink();
        for item in 0..5 {
            soon(sink.send(item)).await.unwrap();
        }
        assert_eq!((ring.stats().sent, ring.stats().lost), (2, 3));
    });
}

/// A number that counts how often it is serialized.
struct Counted(u64);

static SERIALIZED: AtomicU64 = AtomicU64::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SERIALIZED.fetch_add(1, Ordering::Relaxed);
        serializer.serialize_u64(self.0)
    }
}

/// Polls something that waits for room often, then takes two, and finishes it. Tells how often a
/// message was serialized meanwhile.
async fn count_serialized(
    future: impl Future<Output: std::fmt::Debug>,
    mut take: impl FnMut(),
) -> u64 {
    let before = SERIALIZED.load(Ordering::Relaxed);
    let mut future = pin!(future);
    for _ in 0..50 {
        let pending = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "there is no room");
    }
    // The end of the ring may not do for one.
    (0..2).for_each(|_| take());
    soon(future).await;
    SERIALIZED.load(Ordering::Relaxed) - before
}

/// A message that finds no room is serialized again only when there is some.
pub(crate) fn what_waits_is_not_serialized_again() {
    /// Fills a ring, then awaits room by each verb in turn.
    macro_rules! check {
        ($tx:expr, $take:expr) => {{
            let (mut tx, mut take) = (Async::<_, Readiness>::new($tx).unwrap(), $take);
            while tx.get_mut().try_send_ref(&Counted(1)).is_ok() {}
            assert!(count_serialized(tx.send_ref(&Counted(2)), &mut take).await <= 3);
            while tx.get_mut().try_send_ref(&Counted(1)).is_ok() {}
            assert!(count_serialized(tx.send(Counted(3)), &mut take).await <= 3);
            while tx.get_mut().try_send_ref(&Counted(1)).is_ok() {}
            let mut sink = tx.into_sink();
            sink.feed(Counted(4)).await.unwrap();
            assert!(count_serialized(sink.flush(), &mut take).await <= 3);
        }};
    }
    one_thread().block_on(async {
        let (tx, rx) = ring(&segment(1)).split().unwrap();
        let mut rx = port::Receiver::<u64>::new(rx);
        check!(port::Sender::<Counted>::new(tx), || _ = rx.try_recv().unwrap());

        let ring = Broadcast::options().capacity(1024).anonymous().unwrap();
        let mut rx = broadcast::port::Receiver::<u64>::new(ring.consumer().unwrap());
        let tx = broadcast::port::Sender::<Counted>::new(ring.producer().unwrap(), 8);
        check!(tx, || _ = rx.try_recv().unwrap());

        let queue = Queue::options().capacity(2).anonymous().unwrap();
        let (tx, rx) = queue.split().unwrap();
        let mut rx = queue::port::Receiver::<u64>::new(rx);
        check!(queue::port::Sender::<Counted>::new(tx), || {
            rx.try_recv().unwrap().ack().unwrap();
        });
    });
}

/// Each kind through sinks and streams; many items, through little room.
async fn through_sinks<R: AsyncReady>(items: u64) {
    let (tx, rx) = ring(&segment(1)).split().unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let mut rx = Async::<_, R>::new(rx).unwrap();
    let send = async {
        for item in 0..items {
            sink.feed(item.to_le_bytes()).await.unwrap();
        }
        sink.close().await.unwrap();
    };
    let receive = async {
        let mut next = 0u64;
        while let Some(record) = rx.next().await {
            assert_eq!(record.unwrap(), next.to_le_bytes());
            next += 1;
        }
        assert_eq!(next, items);
    };
    join(send, receive).await;

    let (tx, rx) = Cells::<u64>::options().capacity(8).anonymous().unwrap().split().unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let rx = Async::<_, R>::new(rx).unwrap();
    let send = async {
        for item in 0..items {
            sink.feed(item).await.unwrap();
        }
        sink.close().await.unwrap();
    };
    let receive = rx.map(Result::unwrap).collect::<Vec<_>>();
    let ((), received) = join(send, receive).await;
    assert!(received.iter().copied().eq(0..items), "{}", received.len());

    let (tx, rx) = Queue::options().capacity(8).anonymous().unwrap().split().unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let mut rx = Async::<_, R>::new(rx).unwrap();
    let send = async {
        for item in 0..items {
            sink.feed(item.to_le_bytes()).await.unwrap();
        }
        sink.close().await.unwrap();
    };
    let receive = async {
        for next in 0..items {
            let item = rx.recv().await.unwrap();
            assert_eq!(*item, next.to_le_bytes());
            item.ack().unwrap();
        }
        assert_eq!(rx.recv().await.unwrap_err(), RecvError::Closed);
    };
    join(send, receive).await;

    // What is awaited and what goes through the sink follow each other.
    let ring = Broadcast::options().capacity(256).anonymous().unwrap();
    let rx = Async::<_, R>::new(ring.consumer().unwrap()).unwrap();
    let mut tx = Async::<_, R>::new(ring.producer().unwrap()).unwrap();
    let send = async {
        for item in 0..items / 2 {
            if item % 3 == 0 {
                tx.claim(8).await.unwrap().fill(7); // Not committed.
            }
            tx.send(item.to_le_bytes()).await.unwrap();
        }
        let mut sink = tx.into_sink();
        for item in items / 2..items {
            sink.feed(item.to_le_bytes()).await.unwrap();
        }
        sink.close().await.unwrap();
    };
    let receive = rx.map(Result::unwrap).collect::<Vec<_>>();
    let ((), received) = join(send, receive).await;
    let expected: Vec<_> = (0..items).map(|item| item.to_le_bytes().to_vec()).collect();
    assert!(received == expected, "{}", received.len());
}

/// Messages with blocks through sinks over rings of which each has many receivers.
async fn messages_through_sinks<R: AsyncReady>(items: u64) {
    let pool = BlockPool::options().blocks(16).block_len(64).anonymous().unwrap();
    let message = |item: u64| {
        let mut loan = pool.try_loan().unwrap();
        loan.as_bytes_mut()[..8].copy_from_slice(&item.to_le_bytes());
        (item, loan.freeze())
    };
    let looks_right = |(item, block): &(u64, Block)| block.as_bytes()[..8] == item.to_le_bytes();

    let queue = Queue::options().capacity(4).item_len(256).create_in(pool.segment()).unwrap();
    let (tx, rx) = queue::port::ends::<(u64, Block)>(&queue).unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let mut rx = Async::<_, R>::new(rx).unwrap();
    let send = async {
        for item in 0..items {
            sink.feed(message(item)).await.unwrap();
        }
        sink.close().await.unwrap();
    };
    let receive = async {
        let mut next = 0;
        while let Ok(message) = rx.recv().await {
            assert!(message.0 == next && looks_right(&message));
            next += 1;
            message.ack().unwrap();
        }
        assert_eq!(next, items);
    };
    join(send, receive).await;
    assert_eq!(pool.in_use(), 0);

    let ring = Broadcast::options().capacity(1 << 10).create_in(pool.segment()).unwrap();
    let receiver = || broadcast::port::Receiver::<(u64, Block)>::new(ring.consumer().unwrap());
    let receivers = [receiver(), receiver()].map(|rx| Async::<_, R>::new(rx).unwrap());
    let tx = broadcast::port::Sender::<(u64, Block)>::new(ring.producer().unwrap(), 4);
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let send = async {
        for item in 0..items {
            sink.send(message(item)).await.unwrap();
        }
        sink.flush().await.unwrap();
        let (tx, parked) = sink.into_inner();
        assert!(parked.is_none());
        tx.unwrap()
    };
    let receive = async |mut rx: Async<broadcast::port::Receiver<(u64, Block)>, R>| {
        for next in 0..items {
            let message = match next % 2 {
                0 => rx.recv().await.unwrap(),
                _ => rx.next().await.unwrap().unwrap(),
            };
            assert!(message.0 == next && looks_right(&message));
        }
        rx
    };
    let [one, other] = receivers;
    let (tx, (mut one, _)) = join(send, join(receive(one), receive(other))).await;
    tx.into_inner().discard().unwrap();
    assert!(one.next().await.is_none());
    assert_eq!(pool.in_use(), 0);
}

pub(crate) fn every_kind_through_sinks() {
    one_thread().block_on(soon(through_sinks::<Readiness>(20_000)));
    two_threads().block_on(soon(through_sinks::<Readiness>(20_000)));
    block_on(through_sinks::<Own>(20_000));

    one_thread().block_on(soon(messages_through_sinks::<Readiness>(5_000)));
    block_on(messages_through_sinks::<Own>(5_000));

    // A sink hands back what finds nobody.
    one_thread().block_on(async {
        let (tx, rx) = port::ends::<u64>(&ring(&segment(1))).unwrap();
        drop(rx);
        let mut sink = shmring::tokio::AsyncSender::new(tx).unwrap().into_sink();
        let error = loop {
            if let Err(error) = soon(sink.send(5)).await {
                break error;
            }
        };
        assert!(matches!(error, PortError::Ring(SendError::Closed(5))), "{error:?}");
    });
}

/// A stream of a hundred thousand records of another process.
pub(crate) fn a_long_stream_between_processes() {
    const ITEMS: u64 = 100_000;
    for runtime in [one_thread, two_threads] {
        let ring = Records::options().capacity(1 << 14).create_in(&segment(40)).unwrap();
        let rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for item in 0..ITEMS {
                tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
            }
        });
        runtime().block_on(soon(async {
            let mut rx = AsyncConsumer::new(rx).unwrap();
            let mut next = 0u64;
            while let Some(record) = rx.next().await {
                assert_eq!(record.unwrap(), next.to_le_bytes());
                next += 1;
            }
            assert_eq!(next, ITEMS);
        }));
        join_process(sender);
    }
}

/// One task waits for many rings of one process at once, also for its death; no thread helps.
pub(crate) fn one_task_awaits_fifty_rings() {
    const RINGS: usize = 50;
    const ROUNDS: u64 = 100;
    let segment = segment(RINGS);
    let rings: Vec<_> = (0..RINGS).map(|_| ring(&segment)).collect();
    let (mut ready, mut write) = pipe().unwrap();
    let sender = child(|| {
        let mut tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        write.write_all(&[1]).unwrap();
        for round in 0..ROUNDS {
            for tx in &mut tx {
                tx.send_timeout(round.to_le_bytes(), LATE).unwrap();
            }
            if round % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    one_thread().block_on(async {
        let threads = testkit::thread_count();
        let ends = rings.iter().enumerate().map(|(number, ring)| {
            let rx = AsyncConsumer::new(ring.consumer().unwrap()).unwrap();
            rx.map(move |record| (number, record))
        });
        let mut all = select_all(ends);
        let mut next = [0u64; RINGS];
        while next.iter().sum::<u64>() < ROUNDS * RINGS as u64 {
            let (number, record) = soon(all.next()).await.unwrap();
            assert_eq!(record.unwrap(), next[number].to_le_bytes(), "of ring {number}");
            next[number] += 1;
        }
        assert_eq!(next, [ROUNDS; RINGS]);
        assert_eq!(testkit::thread_count(), threads);

        // All wait when it dies.
        let kills = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            kill(sender, Signal::SIGKILL).unwrap();
        };
        let (ended, ()) = join(soon(all.collect::<Vec<_>>()), kills).await;
        assert_eq!(ended.len(), RINGS, "each says it once");
        for (number, record) in ended {
            assert!(matches!(record, Err(RecvError::PeerDied { .. })), "{number}: {record:?}");
        }

        // Its rings can be awaited by the next.
        let ends = rings.iter().map(|ring| {
            let (mut tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
            let mut rx = AsyncConsumer::new(rx).unwrap();
            async move {
                let send = async {
                    give_way().await;
                    tx.try_send(b"again").unwrap();
                };
                let (received, ()) = join(async { rx.recv().await.unwrap().to_vec() }, send).await;
                received
            }
        });
        for received in soon(join_all(ends)).await {
            assert_eq!(received, b"again");
        }
    });
    join_killed(sender);
}

/// A lossless consumer that reads nothing dies while a producer awaits room: the ring goes on.
pub(crate) fn death_of_the_slowest_makes_room() {
    for runtime in [one_thread, two_threads] {
        let ring = Broadcast::options().capacity(256).anonymous().unwrap();
        let (mut ready, mut write) = pipe().unwrap();
        let slow = child(|| {
            let _rx = ring.consumer().unwrap();
            write.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        ready.read_exact(&mut [0]).unwrap();
        runtime().block_on(async {
            let mut tx = shmring::tokio::Async::new(ring.producer().unwrap()).unwrap();
            while tx.get_mut().try_send([0; 40]).is_ok() {}
            let kills = async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                kill(slow, Signal::SIGKILL).unwrap();
                Instant::now()
            };
            let sends = async { (tx.send([1; 40]).await, Instant::now()) };
            let ((sent, at), killed) = soon(join(sends, kills)).await;
            sent.unwrap();
            assert!(at > killed, "there was room before");
            assert!(at - killed < Duration::from_secs(2), "{:?}", at - killed);
        });
        join_killed(slow);
    }
}

/// Runs whatever it likes in the thread that wakes it.
struct Acts<F>(F);

impl<F: Fn() + Send + Sync> Wake for Acts<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// As a waker does that runs its task on the spot.
pub(crate) fn a_waker_may_make_another_end() {
    let runtime = two_threads();
    let (segment, (woken, wakes)) = (segment(8), mpsc::channel());
    let ring = || ring(&segment).split().unwrap();
    let (mut tx, rx) = ring();
    let (_other, again) = ring();
    let entered = runtime.enter();
    let mut rx = AsyncConsumer::new(rx).unwrap();
    drop(entered);
    let (handle, again) = (runtime.handle().clone(), Mutex::new(Some(again)));
    let waker = Waker::from(Arc::new(Acts(move || {
        let _entered = handle.enter();
        if let Some(again) = again.lock().unwrap().take() {
            woken.send(AsyncConsumer::new(again).is_ok()).unwrap();
        }
    })));
    let mut waits = pin!(rx.recv());
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    tx.send(b"news").unwrap();
    assert_eq!(wakes.recv_timeout(LATE), Ok(true));
}
