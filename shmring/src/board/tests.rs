use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::layout::page;

#[test]
fn smoke() {
    let board = Board::options().words(3).bells(1).anonymous().unwrap();
    assert_eq!((board.words(), board.bells(), board.load(2)), (3, 1, 0));
    board.store(0, 7);
    assert_eq!(board.add(0, 2), 7);
    assert_eq!(board.change(0, 9, 11), Ok(()));
    assert_eq!(board.change(0, 9, 12), Err(11));
    board.add_own(1, 4);
    assert_eq!((board.load(0), board.load(1), board.load(2)), (11, 4, 0));
}

#[test]
#[should_panic(expected = "word 3 of a board of 3")]
fn there_are_no_other_words() {
    Board::options().words(3).anonymous().unwrap().load(3);
}

#[test]
fn there_are_no_other_bells() {
    let board = Board::options().bells(2).anonymous().unwrap();
    assert!(board.sleeper(1).is_ok());
    assert!(matches!(board.sleeper(2), Err(Error::BadParameters { .. })));
}

#[test]
fn too_many_are_refused() {
    let error = Board::options().words(usize::MAX).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
}

#[test]
fn a_wait_ends_in_time() {
    let board = Board::options().anonymous().unwrap();
    let began = Instant::now();
    let mut sleeper = board.sleeper(0).unwrap();
    assert_eq!(sleeper.wait(Some(Duration::from_millis(20)), || None::<()>), None);
    assert!(began.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_ring_wakes_the_sleeper() {
    for strategy in [WaitStrategy::Park, WaitStrategy::Adaptive, WaitStrategy::Spin] {
        let board = Board::options().wait(strategy).anonymous().unwrap();
        let rounds = 2000;
        let other = board.clone();
        let pong = thread::spawn(move || {
            let mut sleeper = other.sleeper(1).unwrap();
            for round in 1..=rounds {
                sleeper.wait(None, || (other.load(0) >= round).then_some(()));
                other.store(1, round);
                other.ring(0);
            }
        });
        let mut sleeper = board.sleeper(0).unwrap();
        let began = Instant::now();
        for round in 1..=rounds {
            board.store(0, round);
            board.ring(1);
            sleeper.wait(None, || (board.load(1) >= round).then_some(()));
        }
        pong.join().unwrap();
        // One that slept through a ring looks again after 100 ms.
        assert!(began.elapsed() < Duration::from_secs(20), "{strategy:?}: {:?}", began.elapsed());
    }
}

#[test]
fn a_board_shares_a_segment_with_rings() {
    let segment = Segment::options().len(1 << 16).objects(4).anonymous().unwrap();
    let board = Board::options().words(5).create_in(&segment).unwrap();
    board.store(4, 9);
    let same = Board::attach(&segment, board.number(), WaitStrategy::Park).unwrap();
    assert_eq!((same.load(4), same.words()), (9, 5));
    let ring = crate::ring::records::Records::options().capacity(1024).create_in(&segment).unwrap();
    assert!(matches!(
        Board::attach(&segment, ring.number(), WaitStrategy::Park),
        Err(Error::WrongType { .. })
    ));
}

#[test]
fn what_cannot_be_a_board_is_corrupt() {
    let board = Board::options().words(5).bells(1).anonymous().unwrap();
    for (at, value) in [(WORDS, u64::MAX), (WORDS, 1 << 20), (BELLS, u64::MAX), (BELLS, 5)] {
        let word = board.segment.0.region.u64(board.object.offset + at);
        let before = word.swap(value, Ordering::Relaxed);
        let error = Board::attach(&board.segment, 0, WaitStrategy::Park).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{at} {value}: {error}");
        word.store(before, Ordering::Relaxed);
    }
}

#[test]
fn the_page_says_the_same() {
    page::says("Board", &[("words", WORDS), ("bells", BELLS), ("end", DATA)]);
}
