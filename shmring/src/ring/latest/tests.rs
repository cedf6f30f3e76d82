//! Writer and readers in one process, on threads. Processes are in the tests of whole processes.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{SendError, ring::Selector, transfer};

fn board<V: Value + ?Sized>(slots: usize) -> (Writer<V>, Reader<V>) {
    let latest = Latest::<V>::options().slots(slots).anonymous().unwrap();
    (latest.writer().unwrap(), latest.reader())
}

#[test]
fn smoke() {
    let (mut tx, mut rx) = board::<[u64; 3]>(2);
    assert_eq!(rx.try_get(), Err(RecvError::Empty));
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    assert_eq!(rx.get_timeout(Duration::from_millis(5)), Err(RecvError::TimedOut));
    tx.set(&[1, 2, 3]).unwrap();
    assert_eq!(rx.try_recv(), Ok([1, 2, 3]));
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "nothing newer");
    assert_eq!(rx.try_get(), Ok([1, 2, 3]), "the same again");
    assert_eq!(rx.get(), Ok([1, 2, 3]));
    assert_eq!(rx.recv_timeout(Duration::from_millis(5)), Err(RecvError::TimedOut));
    assert_eq!((rx.version(), rx.missed(), tx.version()), (1, 0, 1));
    assert_eq!(tx.latest().stats(), Stats { set: 1, slots: 2, max_len: 24 });
}

#[test]
fn wraps() {
    let (mut tx, mut rx) = board::<u32>(3);
    let mut other = rx.clone();
    for item in 1..=100 {
        tx.set(&item).unwrap();
        assert_eq!(rx.recv(), Ok(item));
        assert_eq!(rx.missed(), 0);
        if item % 10 == 0 {
            assert_eq!(other.recv(), Ok(item));
            assert_eq!(other.missed(), if item == 10 { 0 } else { 9 });
        }
    }
}

#[test]
fn bytes_of_any_length() {
    let latest = Latest::<[u8]>::options().max_len(11).anonymous().unwrap();
    let (mut tx, mut rx) = (latest.writer().unwrap(), latest.reader());
    assert_eq!(tx.max_len(), 11);
    tx.set(b"").unwrap();
    assert_eq!(rx.recv().unwrap(), b"");
    tx.set(b"hello world").unwrap();
    assert_eq!(rx.recv().unwrap(), b"hello world");
    let error = tx.set(b"hello worlds").unwrap_err();
    assert_eq!(error, SendError::TooLarge { item: (), len: 12, limit: 11 });
    assert_eq!(rx.get().unwrap(), b"hello world");

    let mut claim = tx.claim().unwrap();
    claim.write_all(b"given ").unwrap();
    drop(claim);
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    let mut claim = tx.claim().unwrap();
    write!(claim, "{}-{}", 12, 345).unwrap();
    assert_eq!(claim.len(), 6);
    assert_eq!(claim.write(b"6789abcdef").unwrap(), 5);
    assert!(claim.write_all(b"x").is_err());
    claim.commit();
    assert_eq!(rx.recv().unwrap(), b"12-3456789a");
}

#[test]
fn values_without_bytes_are_events() {
    let (mut tx, mut rx) = board::<()>(2);
    tx.set(&()).unwrap();
    assert_eq!(rx.recv(), Ok(()));
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
}

#[test]
fn closed() {
    let (mut tx, mut rx) = board::<u8>(2);
    let mut late = rx.clone();
    tx.set(&7).unwrap();
    drop(tx);
    assert!(rx.is_closed());
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
    assert_eq!(rx.get(), Ok(7), "the last value stays");
    assert_eq!(late.try_recv(), Ok(7));

    let (tx, mut rx) = board::<u8>(2);
    drop(tx);
    assert_eq!(rx.get(), Err(RecvError::Closed));
    assert_eq!(rx.try_get(), Err(RecvError::Closed));
}

#[test]
fn the_writer_is_held_once_and_can_be_taken_again() {
    let latest = Latest::<u64>::options().anonymous().unwrap();
    let mut tx = latest.writer().unwrap();
    assert!(matches!(latest.writer(), Err(Error::Busy { .. })));
    tx.set(&1).unwrap();
    drop(tx);
    let mut rx = latest.reader();
    assert_eq!(rx.recv(), Ok(1));
    let mut tx = latest.writer().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty), "open again");
    tx.set(&2).unwrap();
    assert_eq!((rx.recv(), rx.version()), (Ok(2), 2));
}

#[test]
fn another_type_is_refused() {
    let latest = Latest::<[u32; 2]>::options().anonymous().unwrap();
    let again = |latest: &Latest<[u32; 2]>| latest.segment().clone();
    let segment = again(&latest);
    let strategy = WaitStrategy::default();
    let error = Latest::<u32>::attach(&segment, 0, strategy).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "object 0 of a segment holds latest values of 8 bytes, but was opened as values of 4 bytes (u32)"
    );
    let error = Latest::<[u8]>::attach(&segment, 0, strategy).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    assert!(Latest::<u64>::attach(&segment, 0, strategy).is_ok(), "as long, and plain data");
    let ring = crate::ring::records::Records::options().anonymous().unwrap();
    let error = Latest::<u64>::attach(ring.segment(), 0, strategy).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
}

#[test]
fn impossible_parameters_and_headers_are_refused() {
    for slots in [0, 1, 1025] {
        let error = Latest::<u8>::options().slots(slots).anonymous().unwrap_err();
        assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    }
    let error = Latest::<[u8]>::options().max_len((1 << 30) + 1).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    for (at, lie) in
        [(LIMIT, 1 << 20), (LIMIT, u64::MAX), (SLOTS, 1), (SLOTS, 9), (SLOTS, 2 << 32 | 2)]
    {
        let latest = Latest::<u64>::options().slots(2).anonymous().unwrap();
        let base = latest.board.geometry.base;
        if at == LIMIT {
            latest.board.region().u64(base + at).store(lie, Ordering::Relaxed);
        } else {
            latest.board.region().u32(base + SLOTS).store(lie as u32, Ordering::Relaxed);
            latest.board.region().u32(base + FORM).store((lie >> 32) as u32, Ordering::Relaxed);
        }
        let error = Latest::<u64>::attach(latest.segment(), 0, WaitStrategy::Park).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{lie:#x}: {error}");
    }
}

/// A writer at full speed and readers that all see whole values, never older than the last.
fn two_ends(strategy: WaitStrategy, slots: usize) {
    const LAST: u64 = 30_000;
    let latest = Latest::<[u64; 9]>::options().slots(slots).wait(strategy).anonymous().unwrap();
    let mut tx = latest.writer().unwrap();
    let readers = [(); 3].map(|()| {
        let mut rx = latest.reader();
        thread::spawn(move || {
            let (mut last, mut read, mut missed) = (0, 0, 0);
            loop {
                match rx.recv() {
                    Ok(value) => {
                        assert!(value.iter().all(|word| *word == value[0]), "torn: {value:?}");
                        assert_eq!(value[0], rx.version());
                        assert_eq!(rx.missed(), if last == 0 { 0 } else { value[0] - last - 1 });
                        missed += if last == 0 { value[0] - 1 } else { rx.missed() };
                        assert!(value[0] > last);
                        last = value[0];
                        read += 1;
                    }
                    Err(end) => {
                        assert_eq!(end, RecvError::Closed);
                        break;
                    }
                }
            }
            assert_eq!((last, read + missed), (LAST, LAST), "all are read or missed");
        })
    });
    for value in 1..=LAST {
        tx.set(&[value; 9]).unwrap();
        if value % 500 == 0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
    drop(tx);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn two_ends_adaptive() {
    two_ends(WaitStrategy::Adaptive, 8);
}

#[test]
fn two_ends_park() {
    two_ends(WaitStrategy::Park, 2);
}

#[test]
fn two_ends_spin() {
    two_ends(WaitStrategy::Spin, 3);
}

#[test]
fn a_bell_rings_for_an_armed_reader() {
    use crate::os::{PollFd, poll};
    let (mut tx, mut rx) = board::<u64>(4);
    let bell = rx.bell().unwrap().try_clone_to_owned().unwrap();
    let ready = || {
        use std::os::fd::AsFd;
        let mut fds = [PollFd::readable(bell.as_fd())];
        poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
    };
    tx.set(&1).unwrap();
    assert!(!ready(), "nobody asked");
    assert!(!rx.arm(), "there is something");
    rx.recv().unwrap();
    assert!(rx.arm());
    tx.set(&2).unwrap();
    assert!(ready());
    assert_ne!(rx.rung() & 1 << rx.latest().number(), 0);
    assert_eq!(rx.recv(), Ok(2));
    assert!(!rx.arm(), "it rang: look again");
    assert!(rx.arm());
    assert!(!ready(), "armed again, quiet again");
    drop(tx);
    assert!(ready(), "closing rings too");
    assert!(!rx.arm(), "closed");
}

fn copies(parcel: &transfer::Parcel) -> Vec<std::os::fd::OwnedFd> {
    parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect()
}

#[test]
fn a_writer_that_is_sent_leaves_with_the_message() {
    let (mut tx, mut rx) = board::<u64>(4);
    tx.set(&1).unwrap();
    assert!(postcard::to_stdvec(&tx).is_err(), "outside a port");
    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    drop((bytes, parcel)); // Not sent after all.
    tx.set(&2).unwrap();

    let (bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    let fds = copies(&parcel);
    parcel.sent();
    assert_eq!(tx.set(&9), Err(SendError::Moved(())));
    let arrived = transfer::Parcel::from_fds(fds);
    let mut there: Writer<u64> =
        transfer::supply(arrived, || postcard::from_bytes(&bytes)).unwrap();
    drop(tx);
    there.set(&3).unwrap();
    assert_eq!((rx.recv(), rx.version()), (Ok(3), 3));
    let again = transfer::Parcel::from_fds(vec![]);
    let twice = transfer::supply(again, || postcard::from_bytes::<Writer<u64>>(&bytes));
    assert!(twice.is_err(), "it arrives once");
}

#[test]
fn a_writer_that_nobody_reads_out_of_its_message_is_closed() {
    let (mut tx, mut rx) = board::<[u8]>(4);
    tx.set(b"last").unwrap();
    let (_bytes, parcel) = transfer::collect(|| postcard::to_stdvec(&tx).unwrap());
    let (notes, fds) = (parcel.notes().to_vec(), copies(&parcel));
    parcel.sent();
    let message = crate::received(fds, &notes);
    assert_eq!(rx.recv(), Ok(&b"last"[..]));
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    let sleeper = thread::spawn(move || rx.recv_timeout(Duration::from_secs(20)).unwrap_err());
    thread::sleep(Duration::from_millis(20));
    drop(message);
    assert_eq!(sleeper.join().unwrap(), RecvError::Closed);
}

#[test]
fn a_reader_that_is_sent_has_seen_the_same() {
    let (mut tx, mut rx) = board::<u64>(4);
    tx.set(&1).unwrap();
    rx.recv().unwrap();
    let send = || postcard::to_stdvec(&(&rx, rx.latest())).unwrap();
    let (bytes, parcel) = transfer::collect(send);
    let arrived = transfer::Parcel::from_fds(copies(&parcel));
    let read = || postcard::from_bytes::<(Reader<u64>, Latest<u64>)>(&bytes);
    let (mut there, latest) = transfer::supply(arrived, read).unwrap();
    assert_eq!(there.try_recv(), Err(RecvError::Empty));
    assert_eq!(latest.reader().recv(), Ok(1));
    tx.set(&2).unwrap();
    assert_eq!((there.recv(), rx.recv()), (Ok(2), Ok(2)), "it stays here too");
    let arrived = transfer::Parcel::from_fds(copies(&parcel));
    let wrong = transfer::supply(arrived, || postcard::from_bytes::<Reader<u32>>(&bytes));
    assert!(wrong.is_err(), "of another type");
}

#[test]
fn whoever_comes_first_makes_it() {
    let name = testkit::name("first");
    let first = Latest::<u64>::options().slots(3).create_or_open(&name).unwrap();
    let second = Latest::<u64>::options().create_or_open(&name).unwrap();
    assert_eq!(second.stats().slots, 3);
    let error = Latest::<u32>::options().create_or_open(&name).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    first.writer().unwrap().set(&7).unwrap();
    assert_eq!(second.reader().recv(), Ok(7));
}

#[test]
fn a_selector_tells_what_a_reader_has_not_seen() {
    let segment = Segment::options().bells(0).anonymous().unwrap();
    let boards = [(); 2].map(|()| Latest::<u64>::options().create_in(&segment).unwrap());
    let mut writers = boards.each_ref().map(|board| board.writer().unwrap());
    let mut readers = boards.each_ref().map(Latest::reader);
    let mut selector = Selector::new();
    for (token, reader) in readers.iter().enumerate() {
        selector.add(token, reader);
    }
    assert_eq!(selector.try_ready(), None);
    assert_eq!(selector.ready_timeout(Duration::from_millis(5)), None);
    writers[1].set(&7).unwrap();
    assert_eq!(selector.ready(), Some(1));
    let other = readers[1].clone();
    assert_eq!(readers[1].recv(), Ok(7));
    assert_eq!(selector.try_ready(), None, "it has been seen");
    selector.add(2, &other);
    assert_eq!(selector.try_ready(), Some(2), "but not by the other");
    drop(other);
    assert_eq!(selector.try_ready(), None, "which is gone");
    assert!(selector.remove(2));

    let [first, mut second] = writers;
    // On a busy machine not each time at once.
    let mut quickest = Duration::MAX;
    for value in 8..13 {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                second.set(&value).unwrap();
            });
            let began = Instant::now();
            assert_eq!(selector.ready_timeout(Duration::from_secs(20)), Some(1));
            quickest = quickest.min(began.elapsed());
        });
        assert_eq!(readers[1].recv(), Ok(value));
    }
    assert!(quickest < Duration::from_millis(90), "woken: {quickest:?}");
    drop(second);
    assert_eq!(selector.try_ready(), Some(1), "closed");
    assert_eq!(readers[1].try_recv(), Err(RecvError::Closed));
    assert!(selector.remove(1));
    drop(first);
    assert_eq!(selector.ready(), Some(0));
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Puts something into one of the words of an object: anything, or something near to the truth.
/// Gives the offset of the word, and the truth.
fn lie(board: &Board, state: &mut u64) -> (usize, u64) {
    let len = board.geometry.size();
    // Mostly control words.
    let len = if random(state).is_multiple_of(4) { len } else { DATA + LINE };
    let at = random(state) as usize % (len / 8) * 8;
    let at = board.geometry.base + at;
    let word = board.region().u64(at);
    let truth = word.load(Ordering::Relaxed);
    let lie = match random(state) % 4 {
        0 => random(state),
        1 => random(state) % 16,
        2 => truth ^ 1 << (random(state) % 64),
        _ => truth.wrapping_add(random(state) % 5).wrapping_sub(2),
    };
    word.store(lie, Ordering::Relaxed);
    (at, truth)
}

/// Uses a value in both roles, whatever its words say: each call ends.
fn use_once(writer: &mut Writer<[u8]>, reader: &mut Reader<[u8]>) {
    let board = writer.latest().board.clone();
    let _ = writer.set(b"some value");
    if let Ok(mut claim) = writer.claim() {
        let _ = claim.write(b"another");
        claim.commit();
    }
    if let Ok(value) = reader.try_get() {
        assert!(value.len() <= 40);
    }
    let _ = reader.try_recv().map(<[u8]>::len);
    let _ = reader.recv_timeout(Duration::ZERO).map(<[u8]>::len);
    reader.arm();
    reader.is_closed();
    let _ = Latest::<[u8]>::attach(&board.segment, 0, WaitStrategy::Park).map(|latest| {
        let stats = latest.stats();
        let mut reader = Reader::<[u8]>::new(latest.clone(), 0);
        let _ = reader.try_get().map(<[u8]>::len);
        drop(latest.writer());
        stats
    });
}

/// 100 000 lies, one after the other, each told to both ends.
#[test]
fn every_word_may_lie() {
    let seed = &mut 0x9e37_79b9_7f4a_7c15;
    for round in 0..1000 {
        let latest = Latest::<[u8]>::options().max_len(40).slots(3).prefault(false);
        let latest = latest.anonymous().unwrap();
        let (mut writer, mut reader) = (latest.writer().unwrap(), latest.reader());
        use_once(&mut writer, &mut reader);
        for lie_number in 0..100 {
            let (at, truth) = lie(&latest.board, seed);
            let began = Instant::now();
            use_once(&mut writer, &mut reader);
            // Half of the lies stay, and meet others.
            if lie_number % 2 == 0 {
                latest.board.region().u64(at).store(truth, Ordering::Relaxed);
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{round} {lie_number}");
        }
    }
}

/// The same while both ends are at work.
#[test]
fn words_may_lie_at_any_moment() {
    for round in 1..=30 {
        let latest = Latest::<[u8]>::options().max_len(40).slots(3).anonymous().unwrap();
        let (mut writer, mut reader) = (latest.writer().unwrap(), latest.reader());
        thread::scope(|scope| {
            let board = latest.board.clone();
            let liar = scope.spawn(move || {
                let seed = &mut u64::wrapping_mul(round, 0x9e37_79b9_7f4a_7c15);
                for _ in 0..2000 {
                    lie(&board, seed);
                }
            });
            while !liar.is_finished() {
                use_once(&mut writer, &mut reader);
            }
        });
    }
}
