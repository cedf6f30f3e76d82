//! Deaths of one of many, awaited in tokio.

use std::{
    any::Any,
    io::{Read, Write, pipe},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmring::{
    RecvError, Segment, SendError,
    ring::{broadcast::Broadcast, queue::Queue},
    tokio::Async,
};
use testkit::forked as child;
use tokio::time::sleep;

use super::{LATE, join_killed, one_thread, soon, two_threads};

/// Far less than the time after which everything is looked at in any case.
const SOON: Duration = Duration::from_millis(80);

/// Children that hold something and sleep.
fn idle_children(count: usize, hold: impl Fn() -> Box<dyn Any>) -> Vec<Pid> {
    let one = |_| {
        let (mut ready, mut write) = pipe().unwrap();
        let pid = child(|| {
            let _held = hold();
            write.write_all(&[1]).unwrap();
            thread::sleep(LATE);
        });
        ready.read_exact(&mut [0]).unwrap();
        pid
    };
    (0..count).map(one).collect()
}

async fn kill_in_turn(pids: &[Pid]) -> Instant {
    for pid in pids {
        sleep(Duration::from_millis(60)).await;
        kill(*pid, Signal::SIGKILL).unwrap();
    }
    Instant::now()
}

/// Whoever waits for many learns of the death of the last as soon as of that of an only one.
pub(crate) fn death_of_the_last_of_many_ends_an_await() {
    for runtime in [one_thread, two_threads] {
        let segment = Segment::options().len(1 << 16).anonymous().unwrap();
        let queue = || Queue::options().capacity(2).ends(4).create_in(&segment).unwrap();
        let (work, filled) = (queue(), queue());
        let mut consumer = work.consumer().unwrap();
        let mut producer = filled.producer().unwrap();
        let pids =
            idle_children(3, || Box::new((work.producer().unwrap(), filled.consumer().unwrap())));
        assert!(matches!(consumer.try_recv(), Err(RecvError::Empty)));
        while producer.try_send(b"item").is_ok() {}
        runtime().block_on(async {
            let mut rx = Async::new(consumer).unwrap();
            let mut tx = Async::new(producer).unwrap();
            let receives = async { (rx.recv().await.map(drop), Instant::now()) };
            let sends = async { (tx.send(b"item").await, Instant::now()) };
            let all = async { ::tokio::join!(kill_in_turn(&pids), receives, sends) };
            let (killed, received, sent) = soon(all).await;
            assert!(matches!(received.0, Err(RecvError::PeerDied { .. })), "{:?}", received.0);
            assert!(matches!(sent.0, Err(SendError::PeerDied { .. })), "{:?}", sent.0);
            for ended in [received.1, sent.1] {
                assert!(ended > killed - SOON, "before the last died");
                assert!(ended < killed + SOON, "{:?}", ended - killed);
            }
        });
        pids.into_iter().for_each(join_killed);
    }
}

/// The same where others live who could send: what the dead one had in its hands comes back.
pub(crate) fn what_one_of_many_had_comes_back_soon() {
    let queue = Queue::options().ends(4).anonymous().unwrap();
    let mut tx = queue.producer().unwrap();
    tx.send(b"work").unwrap();
    let pids = idle_children(3, || {
        let rx = Box::leak(Box::new(queue.consumer().unwrap()));
        Box::new(rx.try_recv())
    });
    one_thread().block_on(async {
        let mut rx = Async::new(queue.consumer().unwrap()).unwrap();
        let receives = async {
            let item = rx.recv().await.unwrap();
            assert_eq!((&*item, item.attempt()), (&b"work"[..], 2));
            item.ack().unwrap();
            Instant::now()
        };
        let (received, killed) = soon(join(receives, kill_in_turn(&pids[..1]))).await;
        assert!(received < killed + SOON, "{:?}", received - killed);
    });
    for pid in &pids[1..] {
        kill(*pid, Signal::SIGKILL).unwrap();
    }
    pids.into_iter().for_each(join_killed);
}

/// The one that was the slowest when a producer began to wait has read all; now it is another one.
pub(crate) fn death_of_who_became_the_slowest_makes_room() {
    let ring = Broadcast::options().capacity(256).anonymous().unwrap();
    let mut first = ring.consumer().unwrap();
    let pids = idle_children(1, || Box::new(ring.consumer().unwrap()));
    one_thread().block_on(async {
        let mut tx = Async::new(ring.producer().unwrap()).unwrap();
        while tx.get_mut().try_send([0; 40]).is_ok() {}
        let reads = async {
            sleep(Duration::from_millis(30)).await;
            while first.try_recv().is_ok() {}
            kill_in_turn(&pids).await
        };
        let sends = async { (tx.send([1; 40]).await, Instant::now()) };
        let ((sent, at), killed) = soon(join(sends, reads)).await;
        sent.unwrap();
        assert!(at > killed - SOON && at < killed + SOON, "{:?}", at.duration_since(killed));
    });
    pids.into_iter().for_each(join_killed);
}
