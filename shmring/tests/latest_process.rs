//! Latest values between processes: many readers, deaths at every step, stopped peers.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{Read, Write, pipe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmring::{
    Error, RecvError, Segment, Selector, SendError, WaitStrategy, fault,
    ring::latest::{Latest, Reader},
};
use testkit::{died_by_kill, forked as child, join};

const LATE: Duration = Duration::from_secs(20);

/// Every word is the version.
type Item = [u64; 12];

fn board(slots: usize) -> Latest<Item> {
    Latest::<Item>::options().slots(slots).anonymous().unwrap()
}

/// Checks a value and gives its version.
fn version(item: Item) -> u64 {
    assert!(item.iter().all(|word| *word == item[0]), "torn: {item:?}");
    item[0]
}

/// The next newer value.
fn next(rx: &mut Reader<Item>) -> Result<u64, RecvError> {
    let before = rx.version();
    let version = version(rx.recv_timeout(LATE)?);
    assert_eq!(version, rx.version());
    assert!(version > before);
    assert_eq!(rx.missed(), if before == 0 { 0 } else { version - before - 1 });
    Ok(version)
}

/// Numbers that a process wrote into a pipe, which outlives it.
fn last_number(mut pipe: impl Read) -> u64 {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(8).last().map_or(0, |last| u64::from_le_bytes(last.try_into().unwrap()))
}

fn many_readers_with(strategy: WaitStrategy, items: u64, slots: usize) {
    let board = Latest::<Item>::options().slots(slots).wait(strategy).anonymous().unwrap();
    let mut tx = board.writer().unwrap();
    let readers = [(); 3].map(|()| {
        child(|| {
            let mut rx = board.reader();
            let mut read = 0;
            let end = loop {
                match next(&mut rx) {
                    Ok(_) => read += 1,
                    Err(end) => break end,
                }
            };
            assert_eq!(end, RecvError::Closed);
            assert_eq!(rx.version(), items, "the last one is seen by all");
            assert!(read > 0);
        })
    });
    assert!(testkit::wait_until(LATE, || board.segment().participants().len() == 4));
    for item in 1..=items {
        tx.set(&[item; 12]).unwrap();
        if item % 100 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
    }
    drop(tx);
    readers.into_iter().for_each(join);
}

fn many_readers() {
    many_readers_with(WaitStrategy::Adaptive, 50_000, 8);
}

fn many_readers_asleep() {
    many_readers_with(WaitStrategy::Park, 20_000, 2);
}

fn a_value_wakes_all_who_sleep() {
    const READERS: usize = 20;
    let board = Latest::<Item>::options().wait(WaitStrategy::Park).anonymous().unwrap();
    let mut tx = board.writer().unwrap();
    let (mut ready, mut write) = pipe().unwrap();
    let readers = [(); READERS].map(|()| {
        child(|| {
            let mut rx = board.reader();
            write.write_all(&[0]).unwrap();
            for item in 1..=3 {
                assert_eq!(next(&mut rx), Ok(item));
                write.write_all(&[0]).unwrap();
            }
        })
    });
    ready.read_exact(&mut [0; READERS]).unwrap();
    for item in 1..=3 {
        thread::sleep(Duration::from_millis(30));
        tx.set(&[item; 12]).unwrap();
        let began = Instant::now();
        ready.read_exact(&mut [0; READERS]).unwrap();
        // Woken, and not found by itself after 100 ms.
        assert!(began.elapsed() < Duration::from_millis(60), "{:?}", began.elapsed());
    }
    readers.into_iter().for_each(join);
}

fn an_end_that_a_child_uses_has_left_its_parent() {
    let board = board(4);
    let mut tx = board.writer().unwrap();
    let mut rx = board.reader();
    tx.set(&[1; 12]).unwrap();
    let other = child(|| {
        // SAFETY: only the child does this, and it ends without dropping the original.
        let mut tx = unsafe { std::ptr::read(&tx) };
        tx.set(&[2; 12]).unwrap();
        tx.set(&[3; 12]).unwrap();
        std::mem::forget(tx);
    });
    join(other);
    assert_eq!(next(&mut rx), Ok(3));
    assert_eq!(tx.set(&[9; 12]), Err(SendError::Moved(())));
    // The child ended without dropping its end.
    assert!(matches!(rx.recv_timeout(LATE), Err(RecvError::PeerDied { .. })));
    let mut tx = board.writer().unwrap();
    tx.set(&[4; 12]).unwrap();
    assert_eq!(next(&mut rx), Ok(4));
}

const WRITER_POINTS: [&str; 3] = ["latest.claimed", "latest.filled", "latest.published"];

fn a_writer_dies_at_every_point() {
    for slots in [2, 8] {
        for point in WRITER_POINTS {
            for pass in [1, 2, 50] {
                let board = board(slots);
                let mut rx = board.reader();
                let (confirmed, mut confirm) = pipe().unwrap();
                let writer = child(|| {
                    let mut tx = board.writer().unwrap();
                    fault::arm(point, pass);
                    for item in 1..=60u64 {
                        tx.set(&[item; 12]).unwrap();
                        confirm.write_all(&item.to_le_bytes()).unwrap();
                    }
                });
                drop(confirm);
                let end = loop {
                    if let Err(end) = next(&mut rx) {
                        break end;
                    }
                };
                assert!(died_by_kill(writer), "{point} is never passed");
                assert!(matches!(end, RecvError::PeerDied { .. }), "{point} {pass}: {end}");
                let confirmed = last_number(confirmed);
                let published = u64::from(point == "latest.published");
                assert_eq!(rx.version(), confirmed + published, "{point} {pass}");
                if rx.version() > 0 {
                    assert_eq!(version(rx.try_get().unwrap()), rx.version(), "it stays readable");
                }

                // A successor goes on from there.
                let mut tx = board.writer().unwrap();
                assert_eq!(tx.version(), rx.version());
                for item in tx.version() + 1..tx.version() + 20 {
                    tx.set(&[item; 12]).unwrap();
                    assert_eq!(next(&mut rx), Ok(item));
                }
            }
        }
    }
}

/// The value is out, and somebody sleeps who has not been woken.
fn a_writer_dies_while_it_wakes() {
    for point in ["latest.taken", "doorbell.armed", "doorbell.swapped", "doorbell.futex.woken"] {
        let segment = Segment::options().bells(0).anonymous().unwrap();
        let options = Latest::<Item>::options().wait(WaitStrategy::Park);
        let board = options.create_in(&segment).unwrap();
        let (mut ready, mut write) = pipe().unwrap();
        let readers = [(); 2].map(|()| {
            child(|| {
                let mut rx = board.reader();
                write.write_all(&[0]).unwrap();
                assert_eq!(next(&mut rx), Ok(1), "{point}");
                let died = next(&mut rx).unwrap_err();
                assert!(matches!(died, RecvError::PeerDied { .. }), "{point}: {died}");
                write.write_all(&[0]).unwrap();
                while next(&mut rx) != Ok(2) {
                    thread::sleep(Duration::from_millis(1));
                }
            })
        });
        ready.read_exact(&mut [0; 2]).unwrap();
        thread::sleep(Duration::from_millis(30));
        let writer = child(|| {
            let mut tx = board.writer().unwrap();
            fault::arm(point, 1);
            tx.set(&[1; 12]).unwrap();
        });
        assert!(died_by_kill(writer), "{point} is never passed");
        // Both find the value by themselves, before they ask who lives.
        ready.read_exact(&mut [0; 2]).unwrap();
        let mut tx = board.writer().unwrap();
        tx.set(&[2; 12]).unwrap();
        readers.into_iter().for_each(join);
    }
}

fn a_reader_dies_at_every_point() {
    for point in ["latest.copied", "latest.asleep", "wait.sleep.futex"] {
        let segment = Segment::options().bells(0).participants(4).anonymous().unwrap();
        let options = Latest::<Item>::options().slots(2).wait(WaitStrategy::Park);
        let board = options.create_in(&segment).unwrap();
        let mut tx = board.writer().unwrap();
        // Its place is used again, more often than there are places.
        for _ in 0..6 {
            let dying = child(|| {
                let mut rx = board.reader();
                fault::arm(point, 2);
                loop {
                    next(&mut rx).unwrap();
                }
            });
            let other = child(|| {
                let mut rx = board.reader();
                let last = board.stats().set;
                while next(&mut rx).unwrap() < last + 5 {}
            });
            let began = Instant::now();
            let mut after = 0;
            while after < 100 {
                tx.set(&[tx.version() + 1; 12]).unwrap();
                thread::sleep(Duration::from_micros(500));
                let dead = testkit::state_of(dying.as_raw() as u32) == Some('Z');
                after += u32::from(dead);
                assert!(began.elapsed() < LATE, "{point} is never passed");
            }
            assert!(died_by_kill(dying), "{point}");
            join(other);
        }
    }
}

fn death_ends_a_wait(strategy: WaitStrategy, bells: usize, within: Duration) {
    let segment = Segment::options().bells(bells).anonymous().unwrap();
    let board = Latest::<Item>::options().wait(strategy).create_in(&segment).unwrap();
    let mut rx = board.reader();
    let (mut ready, mut write) = pipe().unwrap();
    let writer = child(|| {
        let _tx = board.writer().unwrap();
        write.write_all(&[1]).unwrap();
        thread::sleep(LATE);
    });
    ready.read_exact(&mut [0]).unwrap();
    let killer = child(|| {
        thread::sleep(Duration::from_millis(50));
        kill(writer, Signal::SIGKILL).unwrap();
    });
    let began = Instant::now();
    let error = rx.recv_timeout(LATE).unwrap_err();
    assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(50) + within, "{took:?}");
    assert!(died_by_kill(writer));
    join(killer);
}

fn death_ends_a_wait_on_the_bell() {
    death_ends_a_wait(WaitStrategy::Park, 2, Duration::from_millis(80));
}

fn death_ends_a_wait_on_the_futex() {
    death_ends_a_wait(WaitStrategy::Park, 0, Duration::from_millis(400));
}

fn a_stopped_reader_holds_nobody_up() {
    let board = board(2);
    let mut tx = board.writer().unwrap();
    let stopped = child(|| {
        let mut rx = board.reader();
        while next(&mut rx) != Ok(10_001) {}
    });
    assert!(testkit::wait_until(LATE, || board.segment().participants().len() == 2));
    tx.set(&[1; 12]).unwrap();
    kill(stopped, Signal::SIGSTOP).unwrap();
    let mut rx = board.reader();
    for item in 2..=10_000 {
        tx.set(&[item; 12]).unwrap();
        assert_eq!(next(&mut rx), Ok(item));
    }
    kill(stopped, Signal::SIGCONT).unwrap();
    tx.set(&[10_001; 12]).unwrap();
    join(stopped);
}

fn a_stopped_writer_is_not_dead() {
    let board = board(2);
    let mut rx = board.reader();
    let writer = child(|| {
        let mut tx = board.writer().unwrap();
        for item in 1..=2000 {
            tx.set(&[item; 12]).unwrap();
            thread::sleep(Duration::from_micros(100));
        }
    });
    next(&mut rx).unwrap();
    kill(writer, Signal::SIGSTOP).unwrap();
    let error = loop {
        if let Err(error) = rx.recv_timeout(Duration::from_millis(300)) {
            break error;
        }
    };
    assert_eq!(error, RecvError::TimedOut);
    assert_eq!(version(rx.get().unwrap()), rx.version());
    assert!(matches!(board.writer(), Err(Error::Busy { .. })), "nobody takes its end");
    kill(writer, Signal::SIGCONT).unwrap();
    while next(&mut rx).unwrap() < 2000 {}
    join(writer);
}

/// It has claimed and half filled a value, in the only other slot, when it is stopped.
fn a_writer_that_is_stopped_in_the_middle_of_a_value() {
    let board = Latest::<[u8]>::options().max_len(4096).slots(2).anonymous().unwrap();
    let mut rx = board.reader();
    let (mut half, mut write) = pipe().unwrap();
    let (mut go, mut wake) = pipe().unwrap();
    let writer = child(|| {
        let mut tx = board.writer().unwrap();
        for version in 1..=3 {
            tx.set(&[version; 4096]).unwrap();
        }
        let mut claim = tx.claim().unwrap();
        claim.write_all(&[4; 2048]).unwrap();
        write.write_all(&[0]).unwrap();
        // Woken only when it is continued.
        go.read_exact(&mut [0]).unwrap();
        claim.write_all(&[4; 2048]).unwrap();
        claim.commit();
    });
    half.read_exact(&mut [0]).unwrap();
    kill(writer, Signal::SIGSTOP).unwrap();
    let pid = writer.as_raw() as u32;
    assert!(testkit::wait_until(LATE, || testkit::state_of(pid) == Some('T')));
    wake.write_all(&[0]).unwrap();
    let mut readers = [board.reader(), rx.clone()];
    for _ in 0..1000 {
        for reader in &mut readers {
            assert_eq!(reader.try_get(), Ok(&[3; 4096][..]));
            assert_eq!(reader.version(), 3);
        }
    }
    assert_eq!(rx.recv(), Ok(&[3; 4096][..]));
    assert_eq!(rx.recv_timeout(Duration::from_millis(150)), Err(RecvError::TimedOut));
    assert!(matches!(board.writer(), Err(Error::Busy { .. })), "nobody takes its end");
    kill(writer, Signal::SIGCONT).unwrap();
    assert_eq!(rx.recv_timeout(LATE), Ok(&[4; 4096][..]));
    assert_eq!((rx.version(), rx.missed()), (4, 0));
    join(writer);
}

/// One that waits for several values, in one wait.
fn a_selector_sleeps_and_is_woken() {
    let segment = Segment::options().anonymous().unwrap();
    let boards = [(); 3].map(|()| Latest::<Item>::options().create_in(&segment).unwrap());
    let mut readers = boards.each_ref().map(Latest::reader);
    let mut selector = Selector::new();
    selector.set_wait(WaitStrategy::Park);
    for (token, reader) in readers.iter().enumerate() {
        selector.add(token, reader);
    }
    let writer = child(|| {
        let mut writers = boards.each_ref().map(|board| board.writer().unwrap());
        for item in 1..=20 {
            thread::sleep(Duration::from_millis(3));
            writers[item as usize % 3].set(&[item; 12]).unwrap();
        }
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    });
    let began = Instant::now();
    let (mut read, mut died) = (0, 0);
    while let Some(token) = selector.ready_timeout(LATE) {
        match readers[token].try_recv() {
            Ok(item) => read = version(item).max(read),
            Err(RecvError::Empty) => {}
            Err(error) => {
                assert!(matches!(error, RecvError::PeerDied { .. }), "{error}");
                assert!(selector.remove(token));
                died += 1;
            }
        }
        if died < 3 && read < 20 {
            // Woken for each, and not found by itself after 100 ms.
            assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        }
    }
    assert_eq!((read, died), (20, 3));
    assert!(died_by_kill(writer));
}

fn a_named_board_joins_unrelated_processes() {
    let name = testkit::name("latest");
    let there = name.clone();
    // The child opens what does not exist yet.
    let reader = child(move || {
        let board = Latest::<Item>::open_or_wait(&there, LATE).unwrap();
        let mut rx = board.reader();
        rx.set_wait(WaitStrategy::Park);
        assert!(matches!(Latest::<[u32; 3]>::open(&there), Err(Error::WrongType { .. })));
        while next(&mut rx).unwrap() < 500 {}
    });
    thread::sleep(Duration::from_millis(20));
    let board = Latest::<Item>::options().create(&name).unwrap();
    let mut tx = board.writer().unwrap();
    for item in 1..=500 {
        tx.set(&[item; 12]).unwrap();
        thread::sleep(Duration::from_micros(50));
    }
    join(reader);
}

/// Kills the writer or a reader at random moments, for a while. What was confirmed is read, whole
/// and in order, by those who survive.
fn soak() {
    let end = Instant::now() + testkit::soak_time();
    let board = board(3);
    let mut rx = board.reader();
    let (mut random, mut kills, mut confirmed) = (std::process::id(), 0, 0);
    let mut random = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    while Instant::now() < end {
        let (confirm_read, mut confirm) = pipe().unwrap();
        let writer = child(|| {
            let mut tx = board.writer().unwrap();
            assert!(tx.version() >= confirmed);
            for item in tx.version() + 1.. {
                tx.set(&[item; 12]).unwrap();
                // Not for each: the pipe is read only later.
                if item % 512 == 0 {
                    confirm.write_all(&item.to_le_bytes()).unwrap();
                }
            }
        });
        drop(confirm);
        let readers = [WaitStrategy::Park, WaitStrategy::Adaptive].map(|strategy| {
            child(|| {
                let mut rx = board.reader();
                rx.set_wait(strategy);
                loop {
                    // Its writer dies before or after it.
                    let _ = next(&mut rx);
                }
            })
        });
        let until = Instant::now() + Duration::from_micros(u64::from(random() % 5000));
        while Instant::now() < until {
            let _ = rx.recv_timeout(Duration::from_millis(1)).map(version);
        }
        let mut victims = [writer, readers[0], readers[1]];
        victims.rotate_left(random() as usize % 3);
        for victim in victims {
            kill(victim, Signal::SIGKILL).unwrap();
            assert!(died_by_kill(victim));
            kills += 1;
        }
        let newest = version_or_zero(&mut rx);
        confirmed = last_number(confirm_read).max(confirmed);
        assert!(newest >= confirmed, "{newest}, and {confirmed} was confirmed");
        assert_eq!(newest, board.stats().set);
    }
    println!("{kills} kills, {confirmed} values");
    assert!(kills > 20 && confirmed > 1000);
}

fn version_or_zero(rx: &mut Reader<Item>) -> u64 {
    match rx.try_get() {
        Ok(item) => version(item),
        Err(RecvError::PeerDied { .. } | RecvError::Empty) => 0,
        Err(error) => panic!("{error}"),
    }
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(many_readers),
        testkit::test!(many_readers_asleep),
        testkit::test!(a_value_wakes_all_who_sleep),
        testkit::test!(an_end_that_a_child_uses_has_left_its_parent),
        testkit::test!(a_writer_dies_at_every_point),
        testkit::test!(a_writer_dies_while_it_wakes),
        testkit::test!(a_reader_dies_at_every_point),
        testkit::test!(death_ends_a_wait_on_the_bell),
        testkit::test!(death_ends_a_wait_on_the_futex),
        testkit::test!(a_stopped_reader_holds_nobody_up),
        testkit::test!(a_stopped_writer_is_not_dead),
        testkit::test!(a_writer_that_is_stopped_in_the_middle_of_a_value),
        testkit::test!(a_selector_sleeps_and_is_woken),
        testkit::test!(a_named_board_joins_unrelated_processes),
        testkit::test!(soak, timeout = testkit::soak_time().as_secs() + 600),
    ])
}
