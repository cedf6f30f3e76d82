//! Async ends: in tokio, in a runtime of our own, and between processes.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

mod async_deaths;
mod async_kinds;
mod async_ports;
mod async_rules;
mod own_reactor;

use std::{
    future::Future,
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use ::tokio::{
    runtime::{Builder, Runtime},
    task::{JoinSet, LocalSet, yield_now},
    time::{sleep, timeout},
};
use futures_util::{SinkExt, StreamExt};
use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    signal::{Signal, kill},
    time::TimeValLike,
};
use own_reactor::{Own, block_on};
use shmring::{
    Error, RecvError, Segment, SendError, WaitStrategy,
    block::{Block, BlockPool},
    fault,
    future::Async,
    ring::{
        Policy,
        cells::Cells,
        port::{self, MessageError, PortError},
        records::{Consumer, Producer, Records},
    },
    tokio::{AsyncConsumer, AsyncProducer, AsyncReceiver, AsyncSender},
};
use testkit::{forked as child, join, join_killed};

const LATE: Duration = Duration::from_secs(20);

fn segment(rings: usize) -> Segment {
    Segment::options().len(rings * 1024).objects(rings).anonymous().unwrap()
}

fn ring(segment: &Segment) -> Records {
    Records::options().capacity(256).create_in(segment).unwrap()
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LATE, future).await.expect("nobody woke it")
}

/// Waits for a ring that never ends, and must not hold up the others.
fn never(segment: &Segment) -> (Producer, AsyncConsumer) {
    let (tx, rx) = ring(segment).split().unwrap();
    (tx, AsyncConsumer::new(rx).unwrap())
}

// ---------------------------------------------------------------------- two ends

async fn exchange(mut tx: AsyncProducer, mut rx: AsyncConsumer, items: u64, spawn: impl Spawn) {
    let sender = spawn.spawn(async move {
        for item in 0..items {
            soon(tx.send(item.to_le_bytes())).await.unwrap();
        }
    });
    let mut next = 0;
    while next < items / 2 {
        assert_eq!(*soon(rx.recv()).await.unwrap(), next.to_le_bytes());
        next += 1;
    }
    while next < items {
        let mut run = soon(rx.run()).await.unwrap();
        while let Some(record) = run.next().unwrap() {
            assert_eq!(*record, next.to_le_bytes());
            next += 1;
        }
    }
    assert_eq!(soon(rx.recv()).await.unwrap_err(), RecvError::Closed);
    sender.await.unwrap();
}

trait Spawn {
    fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> ::tokio::task::JoinHandle<()>;
}

struct Anywhere;

impl Spawn for Anywhere {
    fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> ::tokio::task::JoinHandle<()> {
        ::tokio::spawn(future)
    }
}

struct Here;

impl Spawn for Here {
    fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> ::tokio::task::JoinHandle<()> {
        ::tokio::task::spawn_local(future)
    }
}

fn ends() -> (AsyncProducer, AsyncConsumer) {
    let (tx, rx) = ring(&segment(1)).split().unwrap();
    (AsyncProducer::new(tx).unwrap(), AsyncConsumer::new(rx).unwrap())
}

fn two_ends_on_one_thread() {
    one_thread().block_on(async {
        let (tx, rx) = ends();
        exchange(tx, rx, 20_000, Anywhere).await;
    });
}

fn two_ends_on_two_threads() {
    two_threads().block_on(async {
        let (tx, rx) = ends();
        exchange(tx, rx, 100_000, Anywhere).await;
    });
}

fn two_ends_on_a_local_set() {
    LocalSet::new().block_on(&one_thread(), async {
        let (tx, rx) = ends();
        exchange(tx, rx, 20_000, Here).await;
    });
}

/// One side async, the other in a process that is not; in both directions at once.
fn two_ends_in_two_processes() {
    for runtime in [one_thread, two_threads] {
        let segment = segment(2);
        let (there, back) = (ring(&segment), ring(&segment));
        const ITEMS: u64 = 5000;
        let mirror = child(|| {
            let (mut rx, mut tx) = (there.consumer().unwrap(), back.producer().unwrap());
            for _ in 0..ITEMS {
                let item = rx.recv_timeout(LATE).unwrap().to_vec();
                tx.send_timeout(item, LATE).unwrap();
            }
        });
        runtime().block_on(async {
            let mut tx = AsyncProducer::new(there.producer().unwrap()).unwrap();
            let mut rx = AsyncConsumer::new(back.consumer().unwrap()).unwrap();
            let sender = ::tokio::spawn(async move {
                for item in 0..ITEMS {
                    soon(tx.send(item.to_le_bytes())).await.unwrap();
                    if item % 100 == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                tx
            });
            for item in 0..ITEMS {
                assert_eq!(*soon(rx.recv()).await.unwrap(), item.to_le_bytes());
            }
            drop(sender.await.unwrap());
        });
        join(mirror);
    }
}

// ---------------------------------------------------------------------- many ends

/// A task for each of many rings of another process; they share all descriptors.
fn many_tasks(count: usize) {
    let segment = segment(count);
    let rings: Vec<_> = (0..count).map(|_| ring(&segment)).collect();
    const ROUNDS: usize = 3;
    let sender = child(|| {
        let mut tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        for round in 0..ROUNDS {
            for tx in &mut tx {
                tx.send_timeout(round.to_le_bytes(), LATE).unwrap();
                thread::sleep(Duration::from_micros(20));
            }
        }
    });
    let runtime = one_thread();
    let before = testkit::fd_count();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for ring in &rings {
            let mut rx = AsyncConsumer::new(ring.consumer().unwrap()).unwrap();
            tasks.spawn(async move {
                for round in 0..ROUNDS {
                    assert_eq!(*soon(rx.recv()).await.unwrap(), round.to_le_bytes());
                }
                rx
            });
        }
        let kept = tasks.join_all().await;
        assert_eq!(kept.len(), count);
        // The set, the same in the reactor, a ticker, a pidfd.
        let after = testkit::fd_count();
        assert!(after <= before + 5, "{before} {after}");
    });
    join(sender);
}

fn a_hundred_tasks() {
    many_tasks(100);
}

fn a_thousand_tasks() {
    many_tasks(1000);
}

/// The processor time of this process.
fn time_used() -> Duration {
    let usage: Usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// Hundreds of tasks that wait for a process that does nothing take a thousandth of a processor, also
/// without optimisation.
fn idle_costs_nothing() {
    let segment = segment(300);
    let rings: Vec<_> = (0..300).map(|_| ring(&segment)).collect();
    let (mut ready, mut write) = pipe().unwrap();
    let sender = child(|| {
        let _tx: Vec<_> = rings.iter().map(|ring| ring.producer().unwrap()).collect();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    one_thread().block_on(async {
        let mut tasks = JoinSet::new();
        for ring in &rings {
            let mut rx = AsyncConsumer::new(ring.consumer().unwrap()).unwrap();
            tasks.spawn(async move { rx.recv().await.map(drop) });
        }
        sleep(Duration::from_millis(200)).await;
        const TIME: Duration = Duration::from_secs(3);
        let mut least = Duration::MAX;
        // On a machine that is busy with other things the same work takes longer.
        for _ in 0..4 {
            let before = time_used();
            sleep(TIME).await;
            least = least.min(time_used() - before);
            println!("{least:?} in {TIME:?}");
            if least <= TIME / testkit::IDLE {
                break;
            }
        }
        assert!(least <= TIME / testkit::IDLE, "{least:?}");
        kill(sender, Signal::SIGKILL).unwrap();
        let began = Instant::now();
        while let Some(ended) = soon(tasks.join_next()).await {
            assert!(matches!(ended.unwrap(), Err(RecvError::PeerDied { .. })));
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
    join_killed(sender);
}

// ---------------------------------------------------------------------- deaths

fn death_ends_an_await() {
    for runtime in [one_thread, two_threads] {
        let segment = segment(3);
        let (here, there) = (ring(&segment), ring(&segment));
        let (mut ready, mut write) = pipe().unwrap();
        let dies = child(|| {
            let _ends = (here.producer().unwrap(), there.consumer().unwrap());
            write.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        ready.read_exact(&mut [0]).unwrap();
        runtime().block_on(async {
            let (_tx, mut quiet) = never(&segment);
            let quiet = ::tokio::spawn(async move { quiet.recv().await.map(drop) });
            let mut rx = AsyncConsumer::new(here.consumer().unwrap()).unwrap();
            let mut tx = AsyncProducer::new(there.producer().unwrap()).unwrap();
            while tx.get_mut().try_send([0; 40]).is_ok() {}
            let waits = async {
                let received = rx.recv().await.map(drop).unwrap_err();
                (received, Instant::now())
            };
            let sends = async { (tx.send([0; 40]).await.unwrap_err(), Instant::now()) };
            let kills = async {
                sleep(Duration::from_millis(50)).await;
                kill(dies, Signal::SIGKILL).unwrap();
                Instant::now()
            };
            let (waited, sent, killed) = soon(async { ::tokio::join!(waits, sends, kills) }).await;
            assert!(matches!(waited.0, RecvError::PeerDied { .. }), "{:?}", waited.0);
            assert!(matches!(sent.0, SendError::PeerDied { .. }), "{:?}", sent.0);
            for ended in [waited.1, sent.1] {
                let took = ended - killed;
                assert!(took < Duration::from_millis(80), "{took:?}");
            }
            assert!(!quiet.is_finished());
            quiet.abort();
        });
        join_killed(dies);
    }
}

/// A producer that comes while we wait, and dies.
fn death_of_a_newcomer_ends_an_await() {
    let segment = segment(1);
    let ring = ring(&segment);
    let dies = child(|| {
        thread::sleep(Duration::from_millis(100));
        let _tx = ring.producer().unwrap();
        shmring::os::kill_self();
    });
    one_thread().block_on(async {
        let mut rx = AsyncConsumer::new(ring.consumer().unwrap()).unwrap();
        let error = soon(rx.recv()).await.map(drop).unwrap_err();
        assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
    });
    join_killed(dies);
}

fn a_ringer_dies_at_every_point() {
    for point in ["records.published", "doorbell.armed", "doorbell.swapped", "doorbell.futex.woken"]
    {
        let segment = segment(2);
        let (one, two) = (ring(&segment), ring(&segment));
        let mut rx = one.consumer().unwrap();
        let other = two.consumer().unwrap();
        let dies = child(|| {
            let mut tx = one.producer().unwrap();
            thread::sleep(Duration::from_millis(30));
            fault::arm(point, 1);
            for item in 0u64..10 {
                tx.send(item.to_le_bytes()).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let sends = child(|| {
            let mut tx = two.producer().unwrap();
            thread::sleep(Duration::from_millis(30));
            tx.send(b"one").unwrap();
            thread::sleep(Duration::from_millis(200));
        });
        // It is there before we begin to wait for it.
        assert!(testkit::wait_until(LATE, || segment.participants().len() == 3));
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        one_thread().block_on(async {
            let (mut rx, mut other) =
                (AsyncConsumer::new(rx).unwrap(), AsyncConsumer::new(other).unwrap());
            let began = Instant::now();
            let lives = ::tokio::spawn(async move {
                assert_eq!(&*soon(other.recv()).await.unwrap(), b"one");
                Instant::now()
            });
            let mut got = 0;
            let error = loop {
                match soon(rx.recv()).await {
                    Ok(record) => {
                        assert_eq!(*record, u64::to_le_bytes(got));
                        got += 1;
                    }
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, RecvError::PeerDied { .. }), "{point}: {error}");
            assert!(got > 0, "{point}");
            let took = lives.await.unwrap() - began;
            assert!(took < Duration::from_secs(2), "{point}: {took:?}");
        });
        join_killed(dies);
        join(sends);
    }
}

/// A process that dies while it awaits leaves the ring to its successor.
fn an_awaiter_dies_at_every_point() {
    for point in ["hub.registered", "hub.heard", "records.read", "records.released"] {
        let segment = segment(1);
        let ring = ring(&segment);
        let dies = child(|| {
            one_thread().block_on(async {
                let mut rx = AsyncConsumer::new(ring.consumer().unwrap()).unwrap();
                fault::arm(point, 1);
                // Until it has to wait: some may be there when it comes.
                for _ in 0..10_000 {
                    soon(rx.recv()).await.unwrap();
                }
            });
        });
        let mut tx = ring.producer().unwrap();
        let mut sent = 0u64;
        let error = loop {
            match tx.send_timeout(sent.to_le_bytes(), LATE) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            thread::sleep(Duration::from_millis(1));
        };
        assert!(matches!(error, SendError::PeerDied { .. }), "{point}: {error:?}");
        join_killed(dies);
        let mut rx = ring.consumer().unwrap();
        let mut next = None;
        while let Ok(record) = rx.try_recv() {
            let item = u64::from_le_bytes(record[..].try_into().unwrap());
            assert!(next.is_none_or(|next| next == item), "{point}");
            next = Some(item + 1);
        }
        assert_eq!(next, Some(sent), "{point}: nothing that was confirmed is lost");
    }
}

// ---------------------------------------------------------------------- dropped futures

/// A small pseudo-random number.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Futures of both ends are dropped at any time; each item arrives once, in order.
fn dropped_futures_lose_nothing() {
    for runtime in [one_thread, two_threads] {
        runtime().block_on(async {
            const ITEMS: u64 = 3000;
            let segment = segment(2);
            let (_tx, mut quiet) = never(&segment);
            let (tx, rx) = port::ends::<(u64, String)>(&ring(&segment)).unwrap();
            let (mut tx, mut rx) = (AsyncSender::new(tx).unwrap(), AsyncReceiver::new(rx).unwrap());
            let sender = ::tokio::spawn(async move {
                let (mut seed, mut dropped) = (1, 0);
                for item in 0..ITEMS {
                    let message = (item, "x".repeat((item % 60) as usize));
                    loop {
                        let pause = Duration::from_micros(random(&mut seed) % 300);
                        ::tokio::select! {
                            biased;
                            sent = tx.send_ref(&message) => break sent.unwrap(),
                            () = async { if pause.is_zero() { yield_now().await } else { sleep(pause).await } } => dropped += 1,
                        }
                    }
                }
                dropped
            });
            let (mut seed, mut dropped) = (2, 0);
            for item in 0..ITEMS {
                let (number, text) = loop {
                    let yields = random(&mut seed) % 4;
                    ::tokio::select! {
                        received = rx.recv() => break received.unwrap(),
                        other = quiet.recv() => panic!("{:?}", other.map(drop)),
                        () = async { for _ in 0..yields { yield_now().await } } => dropped += 1,
                    }
                };
                assert_eq!((number, text.len() as u64), (item, item % 60));
                if item % 64 == 0 {
                    sleep(Duration::from_millis(2)).await;
                }
            }
            let sender_dropped = soon(sender).await.unwrap();
            println!("{dropped} and {sender_dropped} futures dropped");
            assert!(dropped > 100 && sender_dropped > 10);
            assert_eq!(soon(rx.recv()).await.unwrap_err(), MessageError::Ring(RecvError::Closed));
        });
    }
}

fn dropped_claims_give_their_room_back() {
    one_thread().block_on(async {
        let (mut tx, mut rx) = ends();
        for _ in 0..100 {
            tx.claim(100).await.unwrap().fill(7); // Not committed.
        }
        tx.send(b"one").await.unwrap();
        assert_eq!(&*rx.recv().await.unwrap(), b"one");
        assert!(matches!(tx.claim(1000).await, Err(SendError::TooLarge { limit: 112, .. })));
        // A record whose guard is dropped has been received; one that was never polled has not.
        tx.send(b"two").await.unwrap();
        drop(rx.recv());
        assert_eq!(&*rx.recv().await.unwrap(), b"two");
        let nothing = timeout(Duration::from_millis(5), rx.recv()).await;
        assert!(nothing.is_err());
    });
}

/// The message comes back with what was wrong, and blocks in it with it.
fn blocks_travel() {
    one_thread().block_on(async {
        let pool = BlockPool::options().blocks(2).block_len(4096).anonymous().unwrap();
        let ring = Records::options().create_in(pool.segment()).unwrap();
        let (tx, rx) = port::ends::<Block>(&ring).unwrap();
        let (mut tx, mut rx) = (AsyncSender::new(tx).unwrap(), AsyncReceiver::new(rx).unwrap());
        for number in 0..10u8 {
            let mut loan = pool.try_loan().unwrap();
            loan.as_bytes_mut()[0] = number;
            tx.send(loan.freeze()).await.unwrap();
            assert_eq!(rx.recv().await.unwrap().as_bytes()[0], number);
        }
        drop(rx);
        let block = pool.try_loan().unwrap().freeze();
        // Closed is said when there is no room.
        let mut block = Some(block);
        for _ in 0..10_000 {
            match tx.send(block.take().unwrap()).await {
                Ok(()) => block = Some(pool.try_loan().expect("it is let go of").freeze()),
                Err(error) => {
                    assert!(matches!(&error, PortError::Ring(SendError::Closed(_))), "{error:?}");
                    return;
                }
            }
        }
        panic!("a closed ring takes everything");
    });
}

// ---------------------------------------------------------------------- runtimes

fn without_a_bell_is_an_error() {
    let segment = Segment::options().bells(0).anonymous().unwrap();
    let (tx, rx) = ring(&segment).split().unwrap();
    one_thread().block_on(async {
        let error = AsyncConsumer::new(rx).unwrap_err();
        assert!(matches!(error, Error::NoPlace { limit: 0, .. }), "{error}");
        assert!(error.to_string().contains("bell"), "{error}");
        assert!(tx.is_closed(), "the end is gone with the error");
    });
    let (_tx, rx) = ring(&self::segment(1)).split().unwrap();
    let error = AsyncConsumer::new(rx).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "outside of a runtime: {error}");
}

/// A runtime that is not driven does not hold up another, and one that is gone can be followed.
fn several_runtimes() {
    let segment = segment(3);
    let rings = [ring(&segment), ring(&segment), ring(&segment)];
    let [one, two, three] = [one_thread(), one_thread(), two_threads()];
    let [(mut tx_one, rx_one), (mut tx_two, rx_two), (mut tx, rx)] =
        rings.map(|ring| ring.split().unwrap());
    // Its reactor is the first to know the segment, and then nobody drives it.
    let (mut rx_one, waits) = one.block_on(async {
        let rx_one = AsyncConsumer::new(rx_one).unwrap();
        let mut rx = AsyncConsumer::new(rx).unwrap();
        let waits = ::tokio::spawn(async move { rx.recv().await.map(|record| record.len()) });
        yield_now().await;
        (rx_one, waits)
    });
    let mut rx_two = two.block_on(async { AsyncConsumer::new(rx_two).unwrap() });
    let sender = thread::spawn(move || {
        for item in 0u64..20 {
            thread::sleep(Duration::from_millis(2));
            tx_two.send(item.to_le_bytes()).unwrap();
        }
        tx_two
    });
    two.block_on(async {
        for item in 0u64..20 {
            assert_eq!(*soon(rx_two.recv()).await.unwrap(), item.to_le_bytes());
        }
    });
    drop(sender.join().unwrap());
    // What was waited for there goes on when it is driven again.
    tx.send(b"four").unwrap();
    assert_eq!(one.block_on(soon(waits)).unwrap().unwrap(), 4);
    // An end outlives its runtime, in another one.
    drop((one, two));
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        tx_one.send(b"late").unwrap();
        tx_one
    });
    three.block_on(async {
        assert_eq!(&*soon(rx_one.recv()).await.unwrap(), b"late");
    });
    drop(sender.join().unwrap());
}

/// Blocking waits of other threads in the same segment go on beside it.
fn threads_wait_beside_tasks() {
    let segment = segment(2);
    let (mut tx, mut rx) = ring(&segment).split().unwrap();
    let (mut other, far) = ring(&segment).split().unwrap();
    const ITEMS: u64 = 2000;
    rx.set_wait(WaitStrategy::Park);
    let receiver = thread::spawn(move || {
        (0..ITEMS).all(|item| *rx.recv_timeout(LATE).unwrap() == item.to_le_bytes())
    });
    let sender = thread::spawn(move || {
        for item in 0..ITEMS {
            tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
            other.send_timeout(item.to_le_bytes(), LATE).unwrap();
        }
    });
    one_thread().block_on(async {
        let mut far = AsyncConsumer::new(far).unwrap();
        for item in 0..ITEMS {
            assert_eq!(*soon(far.recv()).await.unwrap(), item.to_le_bytes());
        }
    });
    sender.join().unwrap();
    assert!(receiver.join().unwrap());
}

/// What has no async operations of its own can still be waited for.
fn readiness() {
    one_thread().block_on(async {
        let (mut tx, mut rx) = ends();
        let sender = ::tokio::spawn(async move {
            sleep(Duration::from_millis(10)).await;
            tx.get_mut().try_send(b"news").unwrap();
            while tx.get_mut().try_send([0; 40]).is_ok() {}
            soon(tx.ready()).await;
            let len = tx.get_ref().max_len();
            tx.get_mut().try_send(vec![0; len]).unwrap();
            drop(tx.into_inner());
        });
        soon(rx.ready()).await;
        assert_eq!(&*rx.get_mut().try_recv().unwrap(), b"news");
        loop {
            soon(rx.ready()).await;
            match rx.get_mut().try_recv() {
                Ok(_) => {}
                Err(error) => break assert_eq!(error, RecvError::Closed),
            }
        }
        sender.await.unwrap();
    });
}

// ---------------------------------------------------------------------- streams and sinks

type Message = (u64, Vec<u8>);

fn message(seed: &mut u64, number: u64) -> Message {
    (number, vec![number as u8; (random(seed) % 90) as usize])
}

async fn stream_and_sink<R: shmring::future::AsyncReady>(items: u64) {
    let (tx, rx) = port::ends::<Message>(&ring(&segment(1))).unwrap();
    let mut sink = Async::<_, R>::new(tx).unwrap().into_sink();
    let rx = Async::<_, R>::new(rx).unwrap();
    let (mut seed, mut again) = (3, 3);
    let send = async {
        for number in 0..items {
            let message = message(&mut seed, number);
            match number % 3 {
                0 => sink.send(message).await.unwrap(),
                1 => sink.feed(message).await.unwrap(),
                _ => {
                    sink.feed(message).await.unwrap();
                    sink.flush().await.unwrap();
                }
            }
        }
        sink.close().await.unwrap();
    };
    let receive = async {
        let received: Vec<_> = rx.map(Result::unwrap).collect().await;
        assert_eq!(received.len() as u64, items);
        for (number, received) in (0..items).zip(received) {
            assert_eq!(received, message(&mut again, number));
        }
    };
    futures_util::future::join(send, receive).await;
}

fn streams_and_sinks_in_tokio() {
    one_thread().block_on(soon(stream_and_sink::<shmring::tokio::Readiness>(2000)));
    two_threads().block_on(soon(stream_and_sink::<shmring::tokio::Readiness>(2000)));
}

fn streams_and_sinks_in_a_runtime_of_our_own() {
    block_on(stream_and_sink::<Own>(2000));
}

fn a_runtime_of_our_own_between_processes() {
    let segment = segment(1);
    let ring = ring(&segment);
    let rx: Consumer = ring.consumer().unwrap();
    let dies = child(|| {
        let mut tx = ring.producer().unwrap();
        for item in 0u64..500 {
            tx.send_timeout(item.to_le_bytes(), LATE).unwrap();
            if item % 50 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        shmring::os::kill_self();
    });
    block_on(async {
        let mut records = Async::<_, Own>::new(rx).unwrap();
        let mut got = 0u64;
        let error = loop {
            match records.next().await.expect("a death is not the end of a stream") {
                Ok(record) => {
                    assert_eq!(record, got.to_le_bytes());
                    got += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
        assert_eq!(got, 500);
        assert!(records.next().await.is_none(), "after its error it ends");
    });
    join_killed(dies);
}

/// A sink hands back what finds nobody.
fn cells_are_awaited_and_streamed() {
    one_thread().block_on(async {
        let ring = Cells::<u64>::options().capacity(8).anonymous().unwrap();
        let (tx, rx) = ring.split().unwrap();
        let mut tx = shmring::tokio::Async::new(tx).unwrap();
        let mut rx = shmring::tokio::Async::new(rx).unwrap();
        let sender = tokio::spawn(async move {
            let mut next = 0;
            while next < 10_000 {
                if next % 3 == 0 {
                    tx.send(next).await.unwrap();
                    next += 1;
                    continue;
                }
                let mut cells = tx.claim_many(5).await.unwrap();
                for cell in cells.iter_mut() {
                    (*cell, next) = (next, next + 1);
                }
                cells.commit();
            }
        });
        let mut next = 0;
        while next < 5_000 {
            if next % 2 == 0 {
                assert_eq!(*soon(rx.recv()).await.unwrap(), next);
                next += 1;
            } else {
                for item in soon(rx.run()).await.unwrap().iter() {
                    assert_eq!(*item, next);
                    next += 1;
                }
            }
        }
        let rest: Vec<u64> = soon(rx.map(Result::unwrap).collect()).await;
        assert!(rest.iter().copied().eq(next..rest.last().unwrap() + 1));
        assert!(*rest.last().unwrap() >= 9_999);
        sender.await.unwrap();
    });
}

/// Awaiting changes nothing about what a ring does when it is full.
fn policies_hold() {
    one_thread().block_on(async {
        let options = |policy| Records::options().capacity(256).policy(policy);
        let (tx, _rx) = options(Policy::Fail).anonymous().unwrap().split().unwrap();
        let mut tx = AsyncProducer::new(tx).unwrap();
        while soon(tx.send([1; 40])).await.is_ok() {}
        assert_eq!(soon(tx.send([2; 40])).await, Err(SendError::Full([2; 40])));
        assert!(matches!(soon(tx.claim(40)).await, Err(SendError::Full(()))));

        let ring = options(Policy::DropNewest).anonymous().unwrap();
        let (mut tx, rx) = port::ends::<u64>(&ring).unwrap();
        tx.try_send(0).unwrap();
        let mut tx = AsyncSender::new(tx).unwrap();
        for number in 1..50 {
            soon(tx.send(number)).await.unwrap();
        }
        let mut sink = tx.into_sink();
        soon(sink.send(50)).await.unwrap();
        let stats = ring.stats();
        assert!(stats.lost > 0 && stats.sent + stats.lost == 51, "{stats:?}");
        drop(sink);
        let got: Vec<_> = soon(AsyncReceiver::new(rx).unwrap().collect()).await;
        assert_eq!(got.len() as u64, stats.sent);

        let options = Cells::<u8>::options().capacity(2).policy(Policy::DropNewest);
        let (tx, _rx) = options.anonymous().unwrap().split().unwrap();
        let mut tx = shmring::tokio::Async::new(tx).unwrap();
        for item in 0..5 {
            soon(tx.send(item)).await.unwrap();
        }
        assert_eq!(tx.get_ref().ring().stats().lost, 3);
        assert!(matches!(soon(tx.claim()).await, Err(SendError::Full(()))));
    });
}

fn a_sink_whose_reader_is_gone() {
    one_thread().block_on(async {
        let (tx, rx) = port::ends::<Message>(&ring(&segment(1))).unwrap();
        let mut sink = AsyncSender::new(tx).unwrap().into_sink();
        let mut last = 0;
        loop {
            let fed = timeout(Duration::from_millis(20), sink.feed((last, vec![0; 60]))).await;
            let Ok(fed) = fed else { break };
            fed.unwrap();
            last += 1;
        }
        drop(rx);
        let error = soon(sink.flush()).await.unwrap_err();
        let PortError::Ring(SendError::Closed((number, _))) = error else { panic!("{error:?}") };
        assert_eq!(number, last - 1, "the one that found no room");
        let (sender, parked) = sink.into_inner();
        assert!(sender.is_some() && parked.is_none());
    });
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(two_ends_on_one_thread),
        testkit::test!(two_ends_on_two_threads),
        testkit::test!(two_ends_on_a_local_set),
        testkit::test!(two_ends_in_two_processes),
        testkit::test!(a_hundred_tasks),
        testkit::test!(a_thousand_tasks),
        testkit::test!(idle_costs_nothing),
        testkit::test!(death_ends_an_await),
        testkit::test!(death_of_a_newcomer_ends_an_await),
        testkit::test!(a_ringer_dies_at_every_point),
        testkit::test!(an_awaiter_dies_at_every_point),
        testkit::test!(dropped_futures_lose_nothing),
        testkit::test!(dropped_claims_give_their_room_back),
        testkit::test!(blocks_travel),
        testkit::test!(without_a_bell_is_an_error),
        testkit::test!(several_runtimes),
        testkit::test!(threads_wait_beside_tasks),
        testkit::test!(async_rules::a_busy_ring_gives_way_in_tokio),
        testkit::test!(async_rules::a_busy_ring_gives_way_in_a_runtime_of_our_own),
        testkit::test!(async_rules::dropped_at_each_point_in_tokio),
        testkit::test!(async_rules::dropped_at_each_point_in_a_runtime_of_our_own),
        testkit::test!(async_rules::a_waker_may_make_another_end),
        testkit::test!(async_rules::sinks_keep_policies),
        testkit::test!(async_rules::what_waits_is_not_serialized_again),
        testkit::test!(async_rules::every_kind_through_sinks),
        testkit::test!(async_rules::a_long_stream_between_processes),
        testkit::test!(async_rules::one_task_awaits_fifty_rings),
        testkit::test!(async_rules::death_of_the_slowest_makes_room),
        testkit::test!(readiness),
        testkit::test!(streams_and_sinks_in_tokio),
        testkit::test!(streams_and_sinks_in_a_runtime_of_our_own),
        testkit::test!(a_runtime_of_our_own_between_processes),
        testkit::test!(cells_are_awaited_and_streamed),
        testkit::test!(policies_hold),
        testkit::test!(a_sink_whose_reader_is_gone),
        testkit::test!(async_kinds::a_broadcast_is_awaited_and_streamed),
        testkit::test!(async_kinds::a_queue_between_tasks_and_processes),
        testkit::test!(async_kinds::what_a_dead_consumer_had_is_awaited),
        testkit::test!(async_deaths::death_of_the_last_of_many_ends_an_await),
        testkit::test!(async_deaths::what_one_of_many_had_comes_back_soon),
        testkit::test!(async_deaths::death_of_who_became_the_slowest_makes_room),
        testkit::test!(async_kinds::policies_are_kept),
        testkit::test!(async_kinds::newer_values_are_awaited),
        testkit::test!(async_kinds::death_ends_an_await),
        testkit::test!(async_kinds::dropped_futures_lose_nothing),
        testkit::test!(async_ports::jobs_are_awaited),
        testkit::test!(async_ports::newer_blocks_are_awaited),
        testkit::test!(async_ports::every_message_is_awaited_by_all),
        testkit::test!(async_ports::what_is_kept_holds_a_task_back),
    ])
}
