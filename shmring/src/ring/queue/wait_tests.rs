//! Ends that wait, and what wakes them.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    tests::{LATE, SOON, ends, take},
    *,
};
use crate::{RecvError, Selector, ring::select::Selectable};

/// Less than a sleeper takes to look by itself.
const WOKEN: Duration = Duration::from_millis(90);

#[test]
fn it_is_open_while_another_consumer_may_give_an_item_back() {
    let (mut tx, mut one) = ends(4);
    let mut two = one.ring().consumer().unwrap();
    tx.send(b"once more").unwrap();
    drop(tx);
    let item = one.try_recv().unwrap();
    assert_eq!(two.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(two.recv_timeout(SOON).unwrap_err(), RecvError::TimedOut);
    drop(item);
    let item = two.try_recv().unwrap();
    assert_eq!(item.attempt(), 2);
    let waits = thread::spawn(move || one.recv_timeout(LATE).map(drop).unwrap_err());
    thread::sleep(Duration::from_millis(20));
    let began = Instant::now();
    item.ack().unwrap();
    assert_eq!(waits.join().unwrap(), RecvError::Closed);
    assert!(began.elapsed() < WOKEN, "the last ack wakes who waits for it");
}

#[test]
fn each_item_wakes_a_sleeper() {
    let queue = Queue::options().capacity(8).wait(WaitStrategy::Park).anonymous().unwrap();
    let mut tx = queue.producer().unwrap();
    let mut quick = 0;
    for _ in 0..10 {
        let sleeper = |_| {
            let mut rx = queue.consumer().unwrap();
            thread::spawn(move || {
                let began = Instant::now();
                rx.recv_timeout(LATE).unwrap().ack().unwrap();
                began.elapsed()
            })
        };
        let sleepers: Vec<_> = (0..3).map(sleeper).collect();
        thread::sleep(Duration::from_millis(20));
        for byte in 0..3u8 {
            tx.send([byte]).unwrap();
        }
        let slept = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap());
        quick += usize::from(slept.max() < Some(WOKEN));
    }
    // A machine that does other things can be late, but not most of the time.
    assert!(quick >= 8, "{quick} of 10: the others looked by themselves");
}

#[test]
fn a_bell_rings_for_armed_ends() {
    use crate::os::{PollFd, poll};
    let (mut tx, mut rx) = ends(1);
    let bell = rx.bell().unwrap().try_clone_to_owned().unwrap();
    let ready = || {
        let mut fds = [PollFd::readable(std::os::fd::AsFd::as_fd(&bell))];
        poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
    };
    tx.send(b"one").unwrap();
    assert!(!ready(), "nobody asked");
    assert!(!rx.arm(), "there is something");
    take(&mut rx);
    while !rx.arm() {} // The ack has rung for the producer, which here is the same process.
    assert!(!ready());
    tx.send(b"two").unwrap();
    assert!(ready(), "an item");
    assert!(rx.rung() & 1 << rx.ring().number() != 0);
    while !tx.arm() {}
    assert!(!ready());
    take(&mut rx);
    assert!(ready(), "room");
    assert!(!tx.arm(), "it rang: look again");
    while !rx.arm() {}
    drop(tx);
    assert!(ready(), "closing rings too");
    assert!(!rx.arm());
}

#[test]
fn a_selector_waits_for_many() {
    let segment = Segment::options().len(1 << 20).anonymous().unwrap();
    let make = || Queue::options().capacity(2).create_in(&segment).unwrap();
    let (queues, mut selector) = ([make(), make(), make()], Selector::new());
    let mut tx: Vec<_> = queues.iter().map(|queue| queue.producer().unwrap()).collect();
    let mut rx: Vec<_> = queues.iter().map(|queue| queue.consumer().unwrap()).collect();
    for (token, rx) in rx.iter().enumerate() {
        selector.add(token, rx);
    }
    assert_eq!(selector.ready_timeout(SOON), None);
    tx[1].send(b"one").unwrap();
    assert_eq!(selector.ready(), Some(1));
    take(&mut rx[1]);
    assert_eq!(selector.try_ready(), None);
    let mut last = tx.pop().unwrap();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        last.send(b"two").unwrap();
        thread::sleep(Duration::from_millis(20));
    });
    assert_eq!(selector.ready_timeout(LATE), Some(2));
    assert_eq!(take(&mut rx[2]), b"two");
    let began = Instant::now();
    assert_eq!(selector.ready_timeout(LATE), Some(2), "closed");
    assert!(began.elapsed() < WOKEN);
    assert_eq!(rx[2].try_recv().unwrap_err(), RecvError::Closed);
    sender.join().unwrap();
    selector.remove(2);

    // Room, too.
    tx[0].send(b"1").unwrap();
    tx[0].send(b"2").unwrap();
    selector.remove(0);
    selector.add(7, &tx[0]);
    assert_eq!(selector.try_ready(), None);
    take(&mut rx[0]);
    assert_eq!(selector.ready_timeout(LATE), Some(7));
    tx[0].send(b"3").unwrap();
    rx[0].ask_again();
    drop(rx.remove(0));
    assert_eq!(selector.ready_timeout(LATE), Some(7), "closed");
}

#[test]
fn one_that_polls_does_not_keep_an_item_from_one_that_sleeps() {
    let (mut tx, mut polls) = ends(4);
    let mut sleeps = polls.ring().consumer().unwrap();
    sleeps.set_wait(WaitStrategy::Park);
    while !polls.arm() {}
    let sleeper = thread::spawn(move || {
        let began = Instant::now();
        sleeps.recv_timeout(LATE).unwrap().ack().unwrap();
        began.elapsed()
    });
    thread::sleep(Duration::from_millis(20));
    tx.send(b"one").unwrap(); // The one that polls is busy elsewhere, and never asks.
    assert!(sleeper.join().unwrap() < WOKEN);
}
