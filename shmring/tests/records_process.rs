//! Rings of records between processes: two ends, deaths at every step, stopped peers.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{Signal, kill},
    wait::waitpid,
};
use shmring::{
    RecvError, Segment, SendError, WaitStrategy, fault, os,
    ring::{
        Policy,
        records::{Consumer, Producer, Records},
    },
};
use testkit::{died_by_kill, forked as child, join};

const LATE: Duration = Duration::from_secs(20);

/// A forked child's copy of a value of its parent, which it may drop.
fn copy_of<T>(value: &T) -> T {
    // SAFETY: only a child does this, once, and it ends without dropping the original.
    unsafe { std::ptr::read(value) }
}

fn ring(capacity: usize) -> Records {
    Records::options().capacity(capacity).anonymous().unwrap()
}

/// A record that says which it is, of a length of its own.
fn record(number: u64) -> Vec<u8> {
    let mut record = vec![number as u8; 8 + (number % 70) as usize];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record
}

fn number(record: &[u8]) -> u64 {
    let number = u64::from_le_bytes(record[..8].try_into().unwrap());
    assert_eq!(record, self::record(number), "torn");
    number
}

fn two_ends_with(strategy: WaitStrategy, items: u64) {
    let ring = Records::options().capacity(4096).wait(strategy).anonymous().unwrap();
    let (tx, mut rx) = ring.split().unwrap();
    let sender = child(|| {
        let mut tx = copy_of(&tx);
        for item in 0..items {
            tx.send(record(item)).unwrap();
        }
    });
    for item in 0..items {
        assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), item);
    }
    // The child is the producer from its first send on: its end closes, not our copy.
    assert_eq!(rx.recv_timeout(LATE).unwrap_err(), RecvError::Closed);
    join(sender);
}

fn two_ends() {
    two_ends_with(WaitStrategy::Adaptive, 200_000);
}

fn two_ends_asleep() {
    two_ends_with(WaitStrategy::Park, 20_000);
}

fn an_end_that_a_child_uses_has_left_its_parent() {
    let (mut tx, mut rx) = ring(4096).split().unwrap();
    let sender = child(|| tx.send(b"from the child").unwrap());
    join(sender);
    assert_eq!(&*rx.recv_timeout(LATE).unwrap(), b"from the child");
    assert!(matches!(tx.try_send(b"from the parent"), Err(SendError::Moved(_))));
    // The child ended without dropping its end.
    assert!(matches!(rx.recv_timeout(LATE), Err(RecvError::PeerDied { .. })));
}

const PRODUCER_POINTS: [&str; 5] = [
    "records.claimed",
    "records.committed",
    "records.zeroed",
    "records.published",
    "records.ahead",
];
const CONSUMER_POINTS: [&str; 3] = ["records.read", "records.accounted", "records.released"];

/// Something that a thread waits for between what it sends: those get ahead who do.
struct Waits {
    _tx: Producer,
    rx: Consumer,
}

impl Waits {
    fn new() -> Waits {
        let (_tx, rx) = ring(256).split().unwrap();
        Waits { _tx, rx }
    }

    fn wait(&mut self) {
        assert_eq!(self.rx.recv_timeout(Duration::ZERO).unwrap_err(), RecvError::TimedOut);
    }
}

/// Numbers that the producer confirmed, by a pipe that outlives it.
fn last_confirmed(mut confirmed: impl Read) -> u64 {
    let mut bytes = Vec::new();
    confirmed.read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(8).last().map_or(0, |last| u64::from_le_bytes(last.try_into().unwrap()))
}

fn a_producer_dies_at_every_point() {
    for point in PRODUCER_POINTS {
        for pass in [1, 2, 50] {
            // Where there is no room behind the record, the last point is not passed.
            let ring = ring(if point == "records.ahead" { 1 << 13 } else { 512 });
            let mut rx = ring.consumer().unwrap();
            let (confirmed, mut confirm) = pipe().unwrap();
            let sender = child(|| {
                let mut tx = ring.producer().unwrap();
                let mut waits = Waits::new();
                fault::arm(point, pass);
                for item in 1..=60 {
                    waits.wait();
                    tx.send(record(item)).unwrap();
                    confirm.write_all(&item.to_le_bytes()).unwrap();
                }
            });
            drop(confirm);
            let mut got = 0;
            let end = loop {
                match rx.recv_timeout(LATE) {
                    Ok(found) => {
                        assert_eq!(number(&found), got + 1, "{point} {pass}");
                        got += 1;
                    }
                    Err(end) => break end,
                }
            };
            assert!(died_by_kill(sender), "{point} is never passed");
            assert!(matches!(end, RecvError::PeerDied { .. }), "{point} {pass}: {end}");
            let confirmed = last_confirmed(confirmed);
            assert!(
                got == confirmed || got == confirmed + 1,
                "{point} {pass}: {got} of {confirmed}"
            );

            // The ring goes on with a replacement.
            let mut tx = ring.producer().unwrap();
            for item in 100..200 {
                tx.send_timeout(record(item), LATE).unwrap();
                assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), item);
            }
        }
    }
}

fn a_producer_dies_in_the_middle_of_a_batch() {
    for point in PRODUCER_POINTS {
        let ring = ring(4096);
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            tx.send(record(1)).unwrap();
            Waits::new().wait();
            fault::arm(point, if point == "records.claimed" { 2 } else { 1 });
            let mut batch = tx.batch();
            for item in 2..=9 {
                batch.try_push(record(item)).unwrap();
            }
            batch.publish();
        });
        assert!(died_by_kill(sender));
        let mut got = vec![];
        while let Ok(found) = rx.recv_timeout(LATE) {
            got.push(number(&found));
        }
        let whole: Vec<u64> = (1..=9).collect();
        let published = ["records.published", "records.ahead"].contains(&point);
        let expected = if published { &whole[..] } else { &whole[..1] };
        assert_eq!(got, expected, "{point}: all of a batch or nothing");
    }
}

fn a_consumer_dies_at_every_point() {
    for point in CONSUMER_POINTS {
        for pass in [1, 2, 30] {
            let ring = ring(512);
            let mut tx = ring.producer().unwrap();
            let (seen, mut see) = pipe().unwrap();
            let receiver = child(|| {
                let mut rx = ring.consumer().unwrap();
                fault::arm(point, pass);
                loop {
                    let found = rx.recv_timeout(LATE).unwrap();
                    see.write_all(&number(&found).to_le_bytes()).unwrap();
                }
            });
            drop(see);
            let mut sent = 0;
            let end = loop {
                match tx.send_timeout(record(sent + 1), LATE) {
                    Ok(()) => sent += 1,
                    Err(end) => break end,
                }
            };
            assert!(matches!(end, SendError::PeerDied { .. }), "{point} {pass}: {end:?}");
            assert!(died_by_kill(receiver));
            let seen = last_confirmed(seen);
            // The replacement gets all that was not released: at least once, in order.
            let mut rx = ring.consumer().unwrap();
            let first = rx.recv_timeout(LATE).unwrap();
            let mut next = number(&first);
            assert_eq!(first.sequence() + 1, next, "{point} {pass}: it goes on counting");
            drop(first);
            assert!(next == seen || next == seen + 1, "{point} {pass}: {next} after {seen}");
            while next < sent {
                next += 1;
                assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), next);
            }
            assert_eq!(rx.try_recv().unwrap_err(), RecvError::Empty);
        }
    }
}

/// A producer that drops what does not fit dies while it counts a loss. What was sent is what was
/// received, and the gaps.
fn losses_are_counted_across_a_death() {
    for pass in [1, 7] {
        let ring = Records::options().capacity(256).policy(Policy::DropNewest).anonymous().unwrap();
        let mut rx = ring.consumer().unwrap();
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            fault::arm("records.lost", pass);
            for item in 1.. {
                tx.send(record(item)).unwrap();
            }
        });
        assert!(died_by_kill(sender));
        let stats = ring.stats();
        assert_eq!(stats.lost, u64::from(pass));
        let mut tx = ring.producer().unwrap();
        let mut sequences = vec![];
        while let Ok(found) = rx.try_recv() {
            sequences.push(found.sequence());
        }
        assert_eq!(sequences, (0..stats.sent).collect::<Vec<_>>());
        tx.send(record(1)).unwrap();
        assert_eq!(rx.recv_timeout(LATE).unwrap().sequence(), stats.sent + stats.lost);
    }
}

/// Kills whichever end at random moments, for a while. What was confirmed arrives, in order.
fn soak() {
    let end = Instant::now() + testkit::soak_time();
    let ring = ring(2048);
    let (mut confirmed_read, mut confirm) = pipe().unwrap();
    let (mut seen_read, mut see) = pipe().unwrap();
    let (mut kills, mut confirmed, mut seen) = (0u32, 0u64, 0u64);
    let mut random = std::process::id();
    let mut random = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    while Instant::now() < end {
        let sender = child(|| {
            let mut tx = ring.producer().unwrap();
            for item in confirmed + 1.. {
                tx.send(record(item)).unwrap();
                confirm.write_all(&item.to_le_bytes()).unwrap();
            }
        });
        let receiver = child(|| {
            let mut rx = ring.consumer().unwrap();
            loop {
                let found = rx.recv().unwrap();
                see.write_all(&number(&found).to_le_bytes()).unwrap();
            }
        });
        // The pipes are read meanwhile, or both would block.
        let until = Instant::now() + Duration::from_micros(u64::from(random() % 3000));
        let victims = if random() % 2 == 0 { [sender, receiver] } else { [receiver, sender] };
        let mut dead = 0;
        loop {
            if dead < 2 && Instant::now() >= until {
                kill(victims[dead], Signal::SIGKILL).unwrap();
                waitpid(victims[dead], None).unwrap();
                dead += 1;
                kills += 1;
            }
            confirmed = drain(&mut confirmed_read).unwrap_or(confirmed);
            seen = drain(&mut seen_read).map_or(seen, |seen| seen);
            if dead == 2 {
                break;
            }
        }
        confirmed = drain(&mut confirmed_read).unwrap_or(confirmed);
        seen = drain(&mut seen_read).unwrap_or(seen);
        // What is in the ring now begins at most one behind what was seen, and ends at most one
        // after what was confirmed: the dead had no time to say so.
        let mut rx = ring.consumer().unwrap();
        let mut last = seen;
        while let Ok(found) = rx.try_recv() {
            let item = number(&found);
            assert!(item == last + 1 || (last == seen && item == seen), "{item} after {last}");
            last = item;
        }
        assert!(last == confirmed || last == confirmed + 1, "{last} of {confirmed} confirmed");
        (confirmed, seen) = (last, last);
    }
    println!("{kills} kills, {confirmed} items, none lost");
    assert!(kills > 20 && confirmed > 100);
}

/// The last number in a pipe, if there is any now.
fn drain(pipe: &mut std::io::PipeReader) -> Option<u64> {
    use std::os::fd::AsFd;
    let mut last = None;
    loop {
        let mut ready = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO).unwrap() == 0 {
            return last;
        }
        let mut bytes = [0; 8];
        pipe.read_exact(&mut bytes).unwrap();
        last = Some(u64::from_le_bytes(bytes));
    }
}

fn death_ends_a_wait(strategy: WaitStrategy, bells: usize, within: Duration) {
    let segment = shmring::Segment::options().bells(bells).anonymous().unwrap();
    let ring = Records::options().wait(strategy).create_in(&segment).unwrap();
    let mut rx = ring.consumer().unwrap();
    let (mut ready, mut write) = pipe().unwrap();
    let sender = child(|| {
        let _tx = ring.producer().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    let killer = child(|| {
        thread::sleep(Duration::from_millis(50));
        kill(sender, Signal::SIGKILL).unwrap();
    });
    let began = Instant::now();
    let error = rx.recv_timeout(LATE).unwrap_err();
    assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(50) + within, "{took:?}");
    assert!(died_by_kill(sender));
    join(killer);
}

fn death_ends_a_wait_on_the_bell() {
    death_ends_a_wait(WaitStrategy::Park, 2, Duration::from_millis(80));
}

fn death_ends_a_wait_on_the_futex() {
    death_ends_a_wait(WaitStrategy::Park, 0, Duration::from_millis(400));
}

fn death_ends_a_spin() {
    death_ends_a_wait(WaitStrategy::Spin, 0, Duration::from_millis(400));
}

fn a_stopped_peer_is_not_dead() {
    let ring = ring(512);
    let mut tx = ring.producer().unwrap();
    let receiver = child(|| {
        let mut rx = ring.consumer().unwrap();
        for item in 0..200 {
            assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), item);
        }
    });
    tx.send(record(0)).unwrap();
    assert!(testkit::wait_until(LATE, || ring.stats().taken == 1));
    kill(receiver, Signal::SIGSTOP).unwrap();
    let mut sent = 1;
    let error = loop {
        match tx.send_timeout(record(sent), Duration::from_millis(300)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SendError::TimedOut(_)), "{error:?}");
    assert!(ring.consumer().is_err(), "nobody takes its end");
    kill(receiver, Signal::SIGCONT).unwrap();
    for item in sent..200 {
        tx.send_timeout(record(item), LATE).unwrap();
    }
    join(receiver);
}

fn a_named_ring_joins_unrelated_processes() {
    let name = testkit::name("records");
    let there = name.clone();
    // The child opens what does not exist yet.
    let receiver = child(move || {
        let ring = Records::open_or_wait(&there, LATE).unwrap();
        let mut rx: Consumer = ring.consumer().unwrap();
        rx.set_wait(WaitStrategy::Park);
        for item in 0..1000 {
            assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), item);
        }
    });
    thread::sleep(Duration::from_millis(20));
    let ring = Records::options().capacity(4096).create(&name).unwrap();
    let mut tx: Producer = ring.producer().unwrap();
    for item in 0..1000 {
        tx.send_timeout(record(item), LATE).unwrap();
    }
    join(receiver);
}

fn two_that_come_at_once_meet() {
    for round in 0..50 {
        let name = testkit::name(&format!("meet{round}"));
        let options = || Records::options().capacity(1024);
        let sender = child(|| {
            let ring = options().create_or_open(&name).unwrap();
            ring.producer().unwrap().send_timeout(record(round), LATE).unwrap();
            // The name may be ours, and the other may not have found it yet.
            assert!(testkit::wait_until(LATE, || ring.stats().taken == 1));
        });
        let ring = options().create_or_open(&name).unwrap();
        let mut rx = ring.consumer().unwrap();
        assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), round);
        join(sender);
    }
}

fn a_segments_places_are_used_again() {
    let segment = shmring::Segment::options().participants(3).anonymous().unwrap();
    let ring = Records::options().create_in(&segment).unwrap();
    let mut rx = ring.consumer().unwrap();
    for item in 0..20 {
        let sender = child(|| {
            ring.producer().unwrap().send(record(item)).unwrap();
            shmring::os::kill_self();
        });
        assert!(died_by_kill(sender));
        assert_eq!(number(&rx.recv_timeout(LATE).unwrap()), item);
    }
}

/// One that comes while all bells are taken gets that of the next who leaves.
fn a_bell_that_comes_free_is_taken() {
    let name = testkit::name("bells");
    let segment = Segment::options().len(4096).participants(4).bells(2).create(&name).unwrap();
    assert!(segment.bell().is_some());
    let (mut is_there, mut there) = pipe().unwrap();
    let (mut leave, mut may_leave) = pipe().unwrap();
    let holder = child(|| {
        assert!(segment.bell().is_some());
        there.write_all(&[1]).unwrap();
        leave.read_exact(&mut [0]).unwrap();
    });
    is_there.read_exact(&mut [0]).unwrap();
    let comes = child(|| {
        assert!(segment.bell().is_none());
        may_leave.write_all(&[1]).unwrap();
        let has_one = || segment.bell().is_some();
        assert!(testkit::wait_until(LATE, has_one));
    });
    join(holder);
    join(comes);
}

/// Also where it inherited one from a parent that has let go of it since.
fn a_child_has_a_bell_of_its_own() {
    let name = testkit::name("own-bell");
    let made = Segment::options().len(1 << 14).participants(4).bells(2).create(&name).unwrap();
    let ring = Records::options().capacity(1024).create_in(&made).unwrap();
    let (mut tx, rx) = ring.split().unwrap();
    let (mut is_gone, mut gone) = pipe().unwrap();
    let (mut waits, mut waiting) = pipe().unwrap();
    let parent = child(|| {
        let all = (copy_of(&made), copy_of(&ring), copy_of(&tx), copy_of(&rx));
        assert!(all.3.bell().is_some());
        let grandchild = child(|| {
            let mut rx = copy_of(&all.3);
            is_gone.read_exact(&mut [0]).unwrap();
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
            while !rx.arm() {}
            waiting.write_all(&[1]).unwrap();
            let bell = rx.bell().expect("one is free");
            let mut fds = [os::PollFd::readable(bell)];
            assert!(os::poll(&mut fds, Some(LATE)).unwrap() == 1, "it did not ring");
            assert_eq!(&*rx.try_recv().unwrap(), b"ring");
        });
        drop(all);
        gone.write_all(&[1]).unwrap();
        join(grandchild);
    });
    waits.read_exact(&mut [0]).unwrap();
    tx.send(b"ring").unwrap();
    join(parent);
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(a_bell_that_comes_free_is_taken),
        testkit::test!(a_child_has_a_bell_of_its_own),
        testkit::test!(two_ends),
        testkit::test!(two_ends_asleep),
        testkit::test!(an_end_that_a_child_uses_has_left_its_parent),
        testkit::test!(a_producer_dies_at_every_point),
        testkit::test!(a_producer_dies_in_the_middle_of_a_batch),
        testkit::test!(a_consumer_dies_at_every_point),
        testkit::test!(death_ends_a_wait_on_the_bell),
        testkit::test!(death_ends_a_wait_on_the_futex),
        testkit::test!(death_ends_a_spin),
        testkit::test!(a_stopped_peer_is_not_dead),
        testkit::test!(a_named_ring_joins_unrelated_processes),
        testkit::test!(two_that_come_at_once_meet),
        testkit::test!(a_segments_places_are_used_again),
        testkit::test!(losses_are_counted_across_a_death),
        testkit::test!(soak, timeout = testkit::soak_time().as_secs() + 600),
    ])
}
