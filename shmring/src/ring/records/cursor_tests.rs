//! The positions alone, on a heap region, each half-written state set by hand.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{layout::page, ring::records::slots};

fn ring(capacity: usize) -> (Region, Geometry) {
    (Region::heap(capacity + DATA), Geometry { base: 0, capacity })
}

fn put(region: &Region, writer: &mut Writer, bytes: &[u8]) -> Result<(), NoRoom> {
    let mut room = writer.claim(region, bytes.len())?;
    slots::room(region, &mut room).copy_from_slice(bytes);
    writer.commit(region, room, Kind::Bytes, bytes.len());
    Ok(())
}

fn send(
    region: &Region,
    writer: &mut Writer,
    bytes: &[u8],
    ahead: Option<u64>,
) -> Result<(), NoRoom> {
    let mut room = writer.claim(region, bytes.len())?;
    slots::room(region, &mut room).copy_from_slice(bytes);
    assert!(writer.publish_one(region, room, Kind::Bytes, bytes.len()) > bytes.len() as u64);
    if let Some(words) = ahead {
        writer.get_ahead(region, words * WORD);
    }
    Ok(())
}

fn take(region: &Region, reader: &mut Reader) -> Option<Vec<u8>> {
    take_numbered(region, reader).map(|(_, bytes)| bytes)
}

fn take_numbered(region: &Region, reader: &mut Reader) -> Option<(u64, Vec<u8>)> {
    let found = reader.peek(region).unwrap()?;
    let bytes = slots::record(region, &found).to_vec();
    reader.advance(found);
    Some((found.sequence, bytes))
}

#[test]
fn smoke() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    assert_eq!(take(&region, &mut reader), None);
    put(&region, &mut writer, b"one").unwrap();
    assert_eq!(take(&region, &mut reader), None, "committed is not published");
    assert_eq!(writer.publish(&region), 16);
    assert_eq!(writer.publish(&region), 0);
    assert_eq!(take(&region, &mut reader).unwrap(), b"one");
    assert!(reader.release(&region));
    assert_eq!(
        stats(&region, geometry),
        Stats { sent: 1, taken: 1, lost: 0, used: 0, capacity: 256 }
    );
}

#[test]
fn the_page_says_the_same() {
    let ring = [
        ("capacity", CAPACITY),
        ("policy", POLICY),
        ("producer", ROLES),
        ("consumer", ROLES + 8),
        ("producer_destination", ROLES + 16),
        ("consumer_destination", ROLES + 24),
        ("tail", TAIL),
        ("sent", SENT),
        ("lost", LOST),
        ("head", HEAD),
        ("accounts", ACCOUNTS[0]),
        ("data", DATA),
    ];
    page::says("Ring of records", &ring);
    let account = ACCOUNTS[1] - ACCOUNTS[0];
    page::says("Account", &[("head", 0), ("taken", 8), ("missed", 16), ("end", account)]);
}

#[test]
fn full_and_too_large() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    assert_eq!(writer.claim(&region, geometry.max_len() + 1), Err(NoRoom::TooLarge));
    let mut sent = 0;
    while put(&region, &mut writer, &[7; 24]).is_ok() {
        writer.publish(&region);
        sent += 1;
    }
    assert_eq!(sent, 7, "7 records of 32 bytes, and one word for the next header");
    assert_eq!(writer.claim(&region, 24), Err(NoRoom::Full));
    take(&region, &mut reader).unwrap();
    assert_eq!(writer.claim(&region, 24), Err(NoRoom::Full), "taken is not released");
    reader.release(&region);
    assert!(writer.claim(&region, 24).is_ok());
}

#[test]
fn the_longest_record_always_fits_into_an_empty_ring() {
    for start in (0..256).step_by(8) {
        let (region, geometry) = ring(256);
        region.u64(HEAD).store(start, Ordering::Relaxed);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut reader = Reader::attach(&region, geometry).unwrap();
        let longest = vec![3; geometry.max_len()];
        put(&region, &mut writer, &longest).unwrap();
        writer.publish(&region);
        assert_eq!(take(&region, &mut reader).unwrap(), longest, "from {start}");
    }
}

#[test]
fn a_batch_appears_at_once_and_an_aborted_one_never() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    for byte in 0..3 {
        put(&region, &mut writer, &[byte; 10]).unwrap();
    }
    assert_eq!(reader.peek(&region).unwrap(), None);
    writer.abort();
    assert_eq!(writer.publish(&region), 0);
    for byte in 3..6 {
        put(&region, &mut writer, &[byte; 10]).unwrap();
    }
    writer.publish(&region);
    for byte in 3..6 {
        assert_eq!(take(&region, &mut reader).unwrap(), [byte; 10]);
    }
    assert_eq!(take(&region, &mut reader), None);
}

#[test]
fn a_new_producer_starts_behind_what_the_dead_one_published() {
    let (region, geometry) = ring(256);
    let mut reader = Reader::attach(&region, geometry).unwrap();
    for lap in 0..20u8 {
        // Each producer dies with a batch half written behind what it published.
        let mut writer = Writer::attach(&region, geometry).unwrap();
        put(&region, &mut writer, &[lap; 50]).unwrap();
        writer.publish(&region);
        put(&region, &mut writer, &[0xff; 9]).unwrap();
        put(&region, &mut writer, &[0xff; 17]).unwrap();
        assert_eq!(take(&region, &mut reader).unwrap(), [lap; 50]);
        assert_eq!(take(&region, &mut reader), None);
        reader.release(&region);
    }
}

#[test]
fn a_new_consumer_gets_what_the_dead_one_had_not_released() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    put(&region, &mut writer, b"one").unwrap();
    put(&region, &mut writer, b"two").unwrap();
    writer.publish(&region);
    let mut dead = Reader::attach(&region, geometry).unwrap();
    take(&region, &mut dead).unwrap();
    dead.release(&region);
    take(&region, &mut dead).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    assert_eq!(take(&region, &mut reader).unwrap(), b"two");
}

#[test]
fn an_end_that_was_written_ahead_is_one_while_nothing_is_put_there() {
    let (region, geometry) = ring(256);
    let mut reader = Reader::attach(&region, geometry).unwrap();
    let mut writer = Writer::attach(&region, geometry).unwrap();
    for byte in 0..40 {
        put(&region, &mut writer, &[0xff; 16]).unwrap();
        let bytes = writer.publish(&region);
        take(&region, &mut reader).unwrap();
        reader.release(&region);
        writer.get_ahead(&region, bytes);
        // A claim that is given up, longer than what is sent then, or none.
        let given_up = [None, Some(8), Some(16), Some(56)][byte % 4];
        if let Some(mut room) = given_up.and_then(|len| writer.claim(&region, len).ok()) {
            slots::room(&region, &mut room).fill(0xff);
        }
        put(&region, &mut writer, &[0xff; 24][..[16, 3, 24][byte % 3]]).unwrap();
        writer.publish(&region);
        take(&region, &mut reader).unwrap();
        assert_eq!(take(&region, &mut reader), None, "{byte}");
        reader.release(&region);
    }
}

#[test]
fn lies_are_corrupt() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    for word in [
        u64::MAX,
        1,
        header(Kind::Bytes, 8, 3),                   // of another place
        header(Kind::Bytes, 256, 3) ^ 0xff << 56,    // of no kind
        header(Kind::Bytes, 0, u64::from(u32::MAX)), // longer than the ring
        header(Kind::Pad, 0, 3),                     // a pad that ends in the middle
    ] {
        region.u64(DATA).store(word, Ordering::Relaxed);
        assert_eq!(reader.peek(&region), Err(Corrupt), "{word:#x}");
    }
    for head in [1, u64::MAX, u64::MAX - 7] {
        region.u64(HEAD).store(head, Ordering::Relaxed);
        assert_eq!(fill(&region, &mut writer), NoRoom::Corrupt, "{head}");
        writer = Writer::attach(&Region::heap(256 + DATA), geometry).unwrap();
    }
}

fn fill(region: &Region, writer: &mut Writer) -> NoRoom {
    loop {
        if let Err(error) = put(region, writer, &[1; 40]) {
            return error;
        }
        writer.publish(region);
    }
}

/// Sequence numbers of all that can be taken now.
fn sequences(region: &Region, reader: &mut Reader) -> Vec<u64> {
    let mut all = vec![];
    while let Some(found) = reader.peek(region).unwrap() {
        all.push(found.sequence);
        reader.advance(found);
    }
    all
}

#[test]
fn what_was_lost_is_a_gap_in_the_sequence() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry).unwrap();
    let put = |writer: &mut Writer| {
        put(&region, writer, &[1; 24]).unwrap();
        writer.publish(&region);
    };
    put(&mut writer);
    writer.lose(&region);
    writer.lose(&region);
    put(&mut writer);
    put(&mut writer);
    assert_eq!(sequences(&region, &mut reader), [0, 3, 4]);
    reader.release(&region);
    writer.lose(&region);
    assert_eq!(stats(&region, geometry).lost, 3);
    // A new producer tells again what it does not know to be told; a new consumer goes on counting.
    let mut writer = Writer::attach(&region, geometry).unwrap();
    put(&mut writer);
    let mut reader = Reader::attach(&region, geometry).unwrap();
    assert_eq!(sequences(&region, &mut reader), [6]);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    put(&mut writer);
    assert_eq!(sequences(&region, &mut reader), [7]);
    assert_eq!(stats(&region, geometry).taken, 3, "the others are not released");
}

#[test]
fn a_consumer_that_dies_before_it_releases_has_taken_nothing() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    for _ in 0..3 {
        put(&region, &mut writer, &[1; 24]).unwrap();
        writer.publish(&region);
    }
    let mut dead = Reader::attach(&region, geometry).unwrap();
    take(&region, &mut dead).unwrap();
    dead.release(&region);
    take(&region, &mut dead).unwrap();
    // It wrote its account, and died.
    let at = ACCOUNTS[dead.account];
    region.u64(at).store(dead.next, Ordering::Relaxed);
    region.u64(at + 8).store(dead.taken, Ordering::Relaxed);
    assert_eq!(stats(&region, geometry).taken, 1);
    let mut reader = Reader::attach(&region, geometry).unwrap();
    assert_eq!(sequences(&region, &mut reader), [1, 2]);
}

#[derive(Clone, Debug)]
enum Step {
    Lose,
    Put(usize),
    /// And gets ahead by so many words.
    Publish(Option<u64>),
    /// Both at once, with what was put before.
    Send(usize, Option<u64>),
    Abort,
    Take,
    Release,
    NewProducer,
    NewConsumer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..130).prop_map(Step::Put),
        3 => prop::option::of(0u64..40).prop_map(Step::Publish),
        3 => (0usize..130, prop::option::of(0u64..40)).prop_map(|(len, ahead)| Step::Send(len, ahead)),
        1 => Just(Step::Abort),
        1 => Just(Step::Lose),
        4 => Just(Step::Take),
        2 => Just(Step::Release),
        1 => Just(Step::NewProducer),
        1 => Just(Step::NewConsumer),
    ]
}

proptest! {
    /// Whatever is done in whatever order, the ring is a queue.
    #[test]
    fn behaves_as_a_queue(steps in prop::collection::vec(step(), 1..200), start in 0u64..1000) {
        let (region, geometry) = ring(256);
        region.u64(HEAD).store(start * 8, Ordering::Relaxed);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut reader = Reader::attach(&region, geometry).unwrap();
        let mut committed = VecDeque::new();
        let mut published: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let mut unreleased = VecDeque::new();
        let mut byte = 0u8;
        let (mut number, mut lost) = (0, 0);
        for step in steps {
            match step {
                Step::Lose => {
                    writer.lose(&region);
                    lost += 1;
                }
                Step::Put(len) | Step::Send(len, _) => {
                    byte = byte.wrapping_add(1);
                    let record = vec![byte; len];
                    if committed.is_empty() && len <= geometry.max_len() {
                        // Who only looks says the same.
                        let untold = writer.untold().load(local::Ordering::Relaxed);
                        let is_full = writer.claim(&region, len) == Err(NoRoom::Full);
                        prop_assert_eq!(has_room(&region, geometry, untold, len), !is_full);
                    }
                    let put = match step {
                        Step::Send(_, ahead) => send(&region, &mut writer, &record, ahead),
                        _ => put(&region, &mut writer, &record),
                    };
                    match put {
                        Ok(()) => {
                            // A loss in the middle of a batch stands before what comes after it.
                            committed.push_back((number + lost, record));
                            number += 1;
                            if matches!(step, Step::Send(..)) {
                                published.append(&mut committed);
                            }
                        }
                        Err(NoRoom::TooLarge) => prop_assert!(len > geometry.max_len()),
                        Err(NoRoom::Full) => {
                            let held = committed.len() + published.len() + unreleased.len();
                            prop_assert!(held > 0, "an empty ring is never full");
                        }
                        Err(NoRoom::Corrupt) => prop_assert!(false),
                    }
                }
                Step::Publish(ahead) => {
                    let bytes = writer.publish(&region);
                    prop_assert_eq!(bytes > 0, !committed.is_empty());
                    published.append(&mut committed);
                    if let Some(words) = ahead {
                        writer.get_ahead(&region, words * WORD);
                    }
                }
                Step::Abort => {
                    writer.abort();
                    number -= committed.len() as u64;
                    committed.clear();
                }
                Step::Take => {
                    let taken = take_numbered(&region, &mut reader);
                    prop_assert_eq!(&taken, &published.pop_front());
                    unreleased.extend(taken);
                }
                Step::Release => {
                    reader.release(&region);
                    unreleased.clear();
                }
                Step::NewProducer => {
                    writer = Writer::attach(&region, geometry).unwrap();
                    number -= committed.len() as u64;
                    committed.clear();
                }
                Step::NewConsumer => {
                    reader = Reader::attach(&region, geometry).unwrap();
                    while let Some(record) = unreleased.pop_back() {
                        published.push_front(record);
                    }
                }
            }
        }
    }

    /// Random control words end in an error or in wrong data.
    #[test]
    fn survives_any_words(words in prop::collection::vec(any::<u64>(), 96), lens in prop::collection::vec(0usize..200, 20)) {
        let (region, geometry) = ring(256);
        for (at, word) in words.into_iter().enumerate() {
            if at * 8 < region.len() {
                region.u64(at * 8).store(word, Ordering::Relaxed);
            }
        }
        if let Ok(mut reader) = Reader::attach(&region, geometry) {
            for _ in 0..20 {
                if let Ok(Some(found)) = reader.peek(&region) {
                    prop_assert!(slots::record(&region, &found).len() <= geometry.max_len());
                    reader.advance(found);
                    reader.release(&region);
                }
            }
        }
        if let Ok(mut writer) = Writer::attach(&region, geometry) {
            for len in lens {
                if put(&region, &mut writer, &vec![1; len]).is_ok() {
                    let bytes = writer.publish(&region);
                    writer.get_ahead(&region, bytes);
                }
            }
        }
    }
}
