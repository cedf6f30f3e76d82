//! The positions alone, on a heap region, each half-written state set by hand.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    memory::{self, Corrupt, Geometry, Kind as Header, LEAST_CAPACITY, header},
    reader::{self, Reader, Trouble},
    slots,
    table::{self, Kind},
    writer::{NoRoom, Writer, look_for_room},
};
use crate::{region::Region, sync::Ordering};

const PLACES: usize = 4;

fn ring(capacity: usize) -> (Region, Geometry) {
    let region = Region::heap(Geometry::len(capacity, PLACES));
    (region, Geometry { base: 0, capacity, places: PLACES })
}

/// Sets a role's word as a holder does.
fn hold(region: &Region, geometry: Geometry, index: usize) {
    region.u64(geometry.consumer(index).word).store(1 << 56 | 7, Ordering::Relaxed);
}

fn leave(region: &Region, geometry: Geometry, index: usize) {
    region.u64(geometry.consumer(index).word).store(3 << 56, Ordering::Relaxed);
}

fn join(region: &Region, geometry: Geometry, index: usize, kind: Kind, history: u64) -> Reader {
    hold(region, geometry, index);
    Reader::join(region, geometry, index, kind, history).unwrap()
}

fn put(region: &Region, writer: &mut Writer, bytes: &[u8]) -> Result<(), NoRoom> {
    let mut room = writer.claim(region, bytes.len())?;
    match bytes.len() % 2 {
        0 => slots::put(region, &room, bytes),
        _ => slots::room(region, &mut room).copy_from_slice(bytes),
    }
    writer.commit(region, room, bytes.len());
    Ok(())
}

fn send(region: &Region, writer: &mut Writer, bytes: &[u8]) -> Result<(), NoRoom> {
    put(region, writer, bytes)?;
    assert!(writer.publish(region));
    Ok(())
}

fn take(region: &Region, reader: &mut Reader) -> Result<Option<(u64, Vec<u8>)>, Trouble> {
    let Some(found) = reader.peek(region)? else { return Ok(None) };
    let mut copy = vec![1, 2, 3];
    slots::copy(region, found, &mut copy);
    assert_eq!(copy, slots::item(region, &found));
    let lapped = reader.kind() == Kind::Lossy && reader.is_lapped(region, found);
    assert!(!lapped, "nobody writes meanwhile");
    reader.advance(found);
    Ok(Some((found.sequence, copy)))
}

fn take_byte(region: &Region, reader: &mut Reader) -> Option<u8> {
    let (_, bytes) = take(region, reader).unwrap()?;
    reader.release(region);
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
    Some(bytes[0])
}

#[test]
fn smoke() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut readers = [Kind::Lossless, Kind::Lossy, Kind::Lossless].map(|kind| (kind, 0));
    let mut readers: Vec<Reader> = readers
        .iter_mut()
        .enumerate()
        .map(|(index, (kind, _))| join(&region, geometry, index, *kind, 0))
        .collect();
    put(&region, &mut writer, b"one").unwrap();
    assert_eq!(readers[0].peek(&region), Ok(None), "committed is not published");
    assert!(writer.publish(&region));
    assert!(!writer.publish(&region));
    for reader in &mut readers {
        assert_eq!(take(&region, reader).unwrap().unwrap(), (0, b"one".to_vec()));
        assert_eq!(take(&region, reader), Ok(None));
        assert!(reader.release(&region));
        assert!(!reader.release(&region));
    }
    let stats = memory::stats(&region, geometry);
    assert_eq!((stats.sent, stats.consumers, stats.used), (1, 3, 24));
}

#[test]
fn full_and_too_large() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = join(&region, geometry, 2, Kind::Lossless, 0);
    assert_eq!(writer.claim(&region, geometry.max_len() + 1), Err(NoRoom::TooLarge));
    let mut sent = 0;
    while send(&region, &mut writer, &[7; 24]).is_ok() {
        sent += 1;
        assert!(sent < 100);
    }
    assert_eq!(sent, 6, "6 items of 40 bytes, and a word for the next header");
    assert_eq!(writer.slowest(), 2);
    assert!(!look_for_room(&region, geometry, 24, 0).0);
    take(&region, &mut reader).unwrap();
    assert_eq!(writer.claim(&region, 24), Err(NoRoom::Full), "taken is not released");
    reader.release(&region);
    while take_byte(&region, &mut reader).is_some() {}
    assert!(look_for_room(&region, geometry, 24, 0).0);
    assert!(look_for_room(&region, geometry, 24, writer.published()).0, "all was read");
    assert!(!look_for_room(&region, geometry, 24, writer.published() + 8).0);
    send(&region, &mut writer, &[7; 24]).unwrap();
    leave(&region, geometry, 2);
    for _ in 0..100 {
        send(&region, &mut writer, &[7; 24]).expect("nobody to wait for");
    }
}

#[test]
fn the_longest_item_always_fits_when_all_is_read() {
    for before in 0..32 {
        let (region, geometry) = ring(256);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut reader = join(&region, geometry, 0, Kind::Lossless, 0);
        for _ in 0..before {
            send(&region, &mut writer, &[]).unwrap();
            assert_eq!(take(&region, &mut reader).unwrap().unwrap().1, []);
            reader.release(&region);
        }
        let longest = vec![3; geometry.max_len()];
        send(&region, &mut writer, &longest).unwrap();
        assert_eq!(take(&region, &mut reader).unwrap().unwrap().1, longest, "after {before}");
    }
}

#[test]
fn a_batch_appears_at_once_and_an_aborted_one_never() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = join(&region, geometry, 0, Kind::Lossless, 0);
    for byte in 0..3 {
        put(&region, &mut writer, &[byte; 10]).unwrap();
    }
    assert_eq!(reader.peek(&region), Ok(None));
    writer.abort();
    assert!(!writer.publish(&region));
    for byte in 3..6 {
        put(&region, &mut writer, &[byte; 10]).unwrap();
    }
    writer.publish(&region);
    for byte in 3..6 {
        assert_eq!(take_byte(&region, &mut reader), Some(byte));
    }
    assert_eq!(take_byte(&region, &mut reader), None);
    // A batch as long as the ring is full, whoever reads.
    leave(&region, geometry, 0);
    let full = (0..20).map_while(|_| put(&region, &mut writer, &[1; 10]).ok()).count();
    assert_eq!(full, 7, "with a pad, of 32 bytes each");
    writer.publish(&region);
    put(&region, &mut writer, &[1; 10]).unwrap();
}

#[test]
fn a_lossy_one_is_told_how_much_it_missed() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = join(&region, geometry, 1, Kind::Lossy, 0);
    for byte in 0..3 {
        send(&region, &mut writer, &[byte; 16]).unwrap();
    }
    assert_eq!(take_byte(&region, &mut reader), Some(0));
    for byte in 3..100 {
        send(&region, &mut writer, &[byte; 16]).unwrap();
    }
    let found = Err(Trouble::Lapped { missed: 92 });
    assert_eq!(reader.peek(&region), found, "seven of 32 bytes are left, and the room for one");
    for byte in 93..100 {
        assert_eq!(take_byte(&region, &mut reader), Some(byte));
    }
    assert_eq!(take_byte(&region, &mut reader), None);
    assert_eq!(reader.missed_at_the_end(&region), 0);
}

#[test]
fn what_is_overwritten_while_it_is_copied_is_thrown_away() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = join(&region, geometry, 0, Kind::Lossy, 0);
    send(&region, &mut writer, &[1; 100]).unwrap();
    let found = reader.peek(&region).unwrap().unwrap();
    assert!(!reader.is_lapped(&region, found));
    send(&region, &mut writer, &[2; 100]).unwrap();
    // Room that was claimed may be written to.
    writer.claim(&region, 100).unwrap();
    assert!(reader.is_lapped(&region, found));
}

#[test]
fn history_is_what_is_still_there() {
    let (region, geometry) = ring(1024);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    for byte in 0..100 {
        send(&region, &mut writer, &[byte; 16]).unwrap();
    }
    for kind in [Kind::Lossless, Kind::Lossy] {
        for (history, first) in [(1, 99), (5, 95), (20, 80)] {
            let mut reader = join(&region, geometry, 0, kind, history);
            assert_eq!(reader.behind(&region), history);
            assert_eq!(take_byte(&region, &mut reader), Some(first));
        }
        let mut reader = join(&region, geometry, 0, kind, u64::MAX);
        let all: Vec<u8> = std::iter::from_fn(|| take_byte(&region, &mut reader)).collect();
        assert!((28..=31).contains(&all.len()), "{} of 32 bytes each", all.len());
        assert_eq!(all, (100 - all.len() as u8..100).collect::<Vec<_>>());
        let mut reader = join(&region, geometry, 0, kind, 0);
        assert_eq!(take_byte(&region, &mut reader), None);
    }
}

#[test]
fn a_new_producer_starts_behind_what_the_dead_one_published() {
    let (region, geometry) = ring(256);
    let mut reader = join(&region, geometry, 0, Kind::Lossless, 0);
    for lap in 0..20u8 {
        // Each producer dies with a batch half written behind what it published.
        let mut writer = Writer::attach(&region, geometry).unwrap();
        send(&region, &mut writer, &[lap; 50]).unwrap();
        put(&region, &mut writer, &[0xff; 9]).unwrap();
        put(&region, &mut writer, &[0xff; 17]).unwrap();
        let (sequence, bytes) = take(&region, &mut reader).unwrap().unwrap();
        assert_eq!((sequence, bytes), (u64::from(lap), vec![lap; 50]));
        assert_eq!(take(&region, &mut reader), Ok(None));
        reader.release(&region);
    }
}

#[test]
fn a_new_producer_finds_what_was_published_and_not_told() {
    let (region, geometry) = ring(256);
    let mut reader = join(&region, geometry, 0, Kind::Lossless, 0);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    writer.drop_one(&region);
    send(&region, &mut writer, &[1; 8]).unwrap();
    let told = [memory::TAIL, memory::SENT].map(|at| region.u64(at).load(Ordering::Relaxed));
    send(&region, &mut writer, &[2; 8]).unwrap();
    for (at, word) in [memory::TAIL, memory::SENT].into_iter().zip(told) {
        region.u64(at).store(word, Ordering::Relaxed);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        assert_eq!(memory::stats(&region, geometry).sent, 2);
        if at == memory::SENT {
            send(&region, &mut writer, &[3; 8]).unwrap();
        }
        region.u64(memory::TAIL).store(told[0], Ordering::Relaxed);
    }
    let all: Vec<_> = std::iter::from_fn(|| take(&region, &mut reader).unwrap()).collect();
    let numbers: Vec<_> = all.iter().map(|(number, bytes)| (*number, bytes[0])).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3)]);
    let stats = memory::stats(&region, geometry);
    assert_eq!((stats.sent, stats.dropped), (3, 1));
}

#[test]
fn a_place_that_was_handed_on_goes_on_where_it_was() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    for kind in [Kind::Lossless, Kind::Lossy] {
        let mut reader = join(&region, geometry, 0, kind, 0);
        send(&region, &mut writer, b"one").unwrap();
        send(&region, &mut writer, b"two").unwrap();
        take(&region, &mut reader).unwrap();
        reader.release(&region);
        take(&region, &mut reader).unwrap();
        let mut next = Reader::resume(&region, geometry, 0).unwrap();
        assert_eq!(next.kind(), kind);
        assert_eq!(take(&region, &mut next).unwrap().unwrap().1, b"two");
    }
}

#[test]
fn who_joins_again_is_told_what_is_gone() {
    let (region, geometry) = ring(256);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    for kind in [Kind::Lossless, Kind::Lossy] {
        let mut reader = join(&region, geometry, 0, kind, 0);
        send(&region, &mut writer, &[1; 16]).unwrap();
        assert_eq!(take_byte(&region, &mut reader), Some(1));
        leave(&region, geometry, 0);
        send(&region, &mut writer, &[2; 16]).unwrap();
        hold(&region, geometry, 0);
        reader.rejoin(&region).unwrap();
        assert_eq!(take_byte(&region, &mut reader), Some(2), "it is still there");
        leave(&region, geometry, 0);
        for byte in 3..50 {
            send(&region, &mut writer, &[byte; 16]).unwrap();
        }
        hold(&region, geometry, 0);
        reader.rejoin(&region).unwrap();
        assert!(matches!(reader.peek(&region), Err(Trouble::Lapped { missed }) if missed > 30));
        let first = take_byte(&region, &mut reader).unwrap();
        for byte in first + 1..50 {
            assert_eq!(take_byte(&region, &mut reader), Some(byte));
        }
        leave(&region, geometry, 0);
    }
}

#[test]
fn sleepers_are_taken_once() {
    let (region, geometry) = ring(256);
    assert_eq!(table::take_sleepers(&region, geometry), 0);
    table::announce(&region, geometry, 3);
    table::announce(&region, geometry, 1);
    table::announce(&region, geometry, 3);
    let bits = table::take_sleepers(&region, geometry);
    assert_eq!(table::places_in(bits, geometry).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(table::take_sleepers(&region, geometry), 0);
    table::all_may_sleep(&region, geometry);
    let bits = table::take_sleepers(&region, geometry);
    assert_eq!(table::places_in(bits, geometry).count(), PLACES);
}

#[test]
fn lies_are_corrupt() {
    let (region, geometry) = ring(256);
    let mut reader = join(&region, geometry, 0, Kind::Lossless, 0);
    for word in [
        u64::MAX,
        1,
        header(Header::Bytes, 8, 3),                   // of another place
        header(Header::Bytes, 256, 3) ^ 0xff << 56,    // of no kind
        header(Header::Bytes, 0, u64::from(u32::MAX)), // longer than the ring
        header(Header::Pad, 0, 3),                     // a pad that ends in the middle
    ] {
        region.u64(geometry.at(0)).store(word, Ordering::Relaxed);
        assert_eq!(reader.peek(&region), Err(Trouble::Corrupt), "{word:#x}");
        assert!(reader::has_item(&region, geometry, 0));
        assert_eq!(Writer::attach(&region, geometry).unwrap_err(), Corrupt);
    }
    let (region, geometry) = ring(256);
    for at in [memory::OLDEST, memory::TAIL, memory::SENT, memory::DROPPED, memory::LAST] {
        region.u64(at).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(Writer::attach(&region, geometry).unwrap_err(), Corrupt);
        if at != memory::LAST {
            let history = u64::from(at != memory::TAIL); // Otherwise it begins elsewhere.
            let joined = Reader::join(&region, geometry, 0, Kind::Lossless, history);
            assert_eq!(joined.unwrap_err(), Corrupt);
        }
        region.u64(at).store(0, Ordering::Relaxed);
    }
    // A cursor in the middle of a record holds the producer back, and no more.
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let reader = join(&region, geometry, 0, Kind::Lossless, 0);
    send(&region, &mut writer, &[1; 40]).unwrap();
    region.u64(geometry.place(reader.index()) + memory::CURSOR).store(8, Ordering::Relaxed);
    let last = (0..100).find_map(|_| send(&region, &mut writer, &[1; 40]).err());
    assert_eq!(last, Some(NoRoom::Full));
    assert_eq!(LEAST_CAPACITY, 256);
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Publish,
    Abort,
    Drop,
    NewProducer,
    Join(usize, Kind, u64),
    Leave(usize),
    Take(usize),
    Release(usize),
    Hand(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || 0..PLACES;
    let kind = prop_oneof![Just(Kind::Lossless), Just(Kind::Lossy)];
    prop_oneof![
        8 => (0usize..60).prop_map(Step::Put),
        1 => (0usize..130).prop_map(Step::Put),
        6 => Just(Step::Publish),
        1 => Just(Step::Abort),
        1 => Just(Step::Drop),
        1 => Just(Step::NewProducer),
        3 => (place(), kind, 0u64..8).prop_map(|(place, kind, history)| Step::Join(place, kind, history)),
        1 => place().prop_map(Step::Leave),
        9 => place().prop_map(Step::Take),
        5 => place().prop_map(Step::Release),
        1 => place().prop_map(Step::Hand),
    ]
}

/// What a consumer must get.
struct Model {
    geometry: Geometry,
    reader: Reader,
    kind: Kind,
    queue: VecDeque<(u64, Vec<u8>)>,
    unreleased: Vec<(u64, Vec<u8>)>,
    /// The number after that of its last item, and the same of the last one released.
    expected: u64,
    released: u64,
    /// Handed on since its last item: it takes for missed what was dropped.
    handed: bool,
}

impl Model {
    fn take(&mut self, region: &Region) -> Result<(), TestCaseError> {
        match take(region, &mut self.reader) {
            Ok(None) if self.queue.is_empty() => {}
            Ok(None) => {
                // All is gone, and what comes next will tell how much that is.
                prop_assert_eq!(self.kind, Kind::Lossy);
                prop_assert_eq!(memory::stats(region, self.geometry).used, 0);
            }
            Ok(Some(item)) => {
                prop_assert_eq!(Some(&item), self.queue.front());
                self.queue.pop_front();
                self.expected = item.0 + 1;
                self.handed = false;
                self.unreleased.push(item);
            }
            Err(Trouble::Lapped { missed }) => {
                prop_assert_eq!(self.kind, Kind::Lossy);
                self.expected += missed;
                self.released = self.expected;
                self.unreleased.clear();
                self.handed = false;
                let expected = self.expected;
                self.queue.retain(|(number, _)| *number >= expected);
                prop_assert_eq!(self.queue.front().map(|(number, _)| *number), Some(expected));
            }
            Err(Trouble::Corrupt) => prop_assert!(false, "corrupt"),
        }
        Ok(())
    }
}

proptest! {
    /// Whatever is done in whatever order, the ring is a queue for each consumer.
    #[test]
    fn behaves_as_a_queue_for_each(steps in prop::collection::vec(step(), 1..300)) {
        let (region, geometry) = ring(256);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut models: [Option<Model>; PLACES] = [const { None }; PLACES];
        let (mut committed, mut log) = (VecDeque::new(), Vec::new());
        let (mut byte, mut number) = (0u8, 0);
        for step in steps {
            match step {
                Step::Put(len) => {
                    byte = byte.wrapping_add(1);
                    let item = vec![byte; len];
                    match put(&region, &mut writer, &item) {
                        Ok(()) => committed.push_back(item),
                        Err(NoRoom::TooLarge) => prop_assert!(len > geometry.max_len()),
                        Err(NoRoom::Full) => {
                            let holds = |model: &Model| {
                                let behind = model.queue.len() + model.unreleased.len();
                                model.kind == Kind::Lossless && behind > 0
                            };
                            let held = models.iter().flatten().any(holds);
                            prop_assert!(held || !committed.is_empty(), "nobody holds it back");
                        }
                        Err(NoRoom::Corrupt) => prop_assert!(false),
                    }
                }
                Step::Publish => {
                    prop_assert_eq!(writer.publish(&region), !committed.is_empty());
                    for item in committed.drain(..) {
                        for model in models.iter_mut().flatten() {
                            model.queue.push_back((number, item.clone()));
                        }
                        log.push((number, item));
                        number += 1;
                    }
                }
                Step::Abort => {
                    writer.abort();
                    committed.clear();
                }
                Step::Drop if committed.is_empty() => {
                    writer.drop_one(&region);
                    number += 1;
                }
                Step::Drop => {}
                Step::NewProducer => {
                    writer = Writer::attach(&region, geometry).unwrap();
                    committed.clear();
                }
                Step::Join(index, kind, history) => {
                    let mut reader = join(&region, geometry, index, kind, history);
                    let first = reader.peek(&region).unwrap().map_or(number, |found| found.sequence);
                    prop_assert!(first >= number.saturating_sub(history));
                    let queue = log.iter().filter(|(at, _)| *at >= first).cloned().collect();
                    models[index] = Some(Model {
                        geometry, reader, kind, queue, unreleased: vec![], expected: first, released: first, handed: false,
                    });
                }
                Step::Leave(index) => {
                    leave(&region, geometry, index);
                    models[index] = None;
                }
                Step::Take(index) => {
                    if let Some(model) = &mut models[index] {
                        if !reader::has_item(&region, geometry, index) {
                            prop_assert_eq!(take(&region, &mut model.reader), Ok(None));
                        }
                        model.take(&region)?;
                    }
                }
                Step::Release(index) => {
                    if let Some(model) = &mut models[index] {
                        model.reader.release(&region);
                        model.unreleased.clear();
                        model.released = model.expected;
                    }
                }
                Step::Hand(index) => {
                    if let Some(model) = &mut models[index] {
                        model.reader = Reader::resume(&region, geometry, index).unwrap();
                        for item in model.unreleased.drain(..).rev() {
                            model.queue.push_front(item);
                        }
                        model.expected = model.released;
                        let expected = model.expected;
                        if model.kind == Kind::Lossy {
                            // What it had been told to be lost comes again as such.
                            model.handed = true;
                            model.queue = log.iter().filter(|(at, _)| *at >= expected).cloned().collect();
                        }
                    }
                }
            }
        }
        for model in models.iter_mut().flatten() {
            while !model.queue.is_empty() {
                let before = model.expected;
                model.take(&region)?;
                if model.expected == before {
                    break;
                }
            }
            let nothing = model.queue.is_empty() && !model.handed;
            let missed = if nothing { 0 } else { number - model.expected };
            prop_assert_eq!(model.reader.missed_at_the_end(&region), missed);
            prop_assert_eq!(take(&region, &mut model.reader), Ok(None));
        }
    }

    /// Random control words end in an error or in wrong data.
    #[test]
    fn survives_any_words(words in prop::collection::vec(any::<u64>(), 180), mask in any::<u64>(), lens in prop::collection::vec(0usize..130, 20)) {
        let (region, geometry) = ring(256);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut readers: Vec<Reader> = [Kind::Lossless, Kind::Lossy].into_iter().enumerate()
            .map(|(index, kind)| join(&region, geometry, index, kind, 0)).collect();
        for (at, word) in words.into_iter().enumerate() {
            if at * 8 + 8 <= region.len() {
                region.u64(at * 8).store(word & mask, Ordering::Relaxed);
            }
            if at % 9 == 0 {
                for reader in &mut readers {
                    if let Ok(Some(found)) = reader.peek(&region) {
                        prop_assert!(slots::item(&region, &found).len() <= geometry.max_len());
                        slots::copy(&region, found, &mut vec![]);
                        reader.advance(found);
                        reader.release(&region);
                    }
                    reader.behind(&region);
                }
                let len = lens[at / 9 % lens.len()];
                if put(&region, &mut writer, &vec![1; len]).is_ok() {
                    writer.publish(&region);
                }
                look_for_room(&region, geometry, len, 0);
                memory::stats(&region, geometry);
            }
            if at % 40 == 0 {
                if let Ok(other) = Writer::attach(&region, geometry) {
                    writer = other;
                }
                for (index, kind) in [(2, Kind::Lossless), (3, Kind::Lossy)] {
                    readers.extend(Reader::join(&region, geometry, index, kind, at as u64));
                    readers.extend(Reader::resume(&region, geometry, index));
                    reader::has_item(&region, geometry, index);
                }
            }
        }
    }
}
