//! The positions alone, on a heap region, against an ordinary queue.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{layout::page, ring::cells::slots};

fn ring(capacity: usize, marked: bool) -> (Region, Geometry) {
    let size = Geometry::size(capacity, 4, marked).unwrap();
    (Region::heap(size), Geometry::new(0, capacity, 4, marked))
}

fn put(region: &Region, writer: &mut Writer, items: &[u32]) -> Result<usize, NoRoom> {
    let mut cells = writer.claim(region, items.len())?;
    let count = cells.count;
    slots::fill(region, &mut cells).copy_from_slice(&items[..count]);
    writer.publish(region, count);
    Ok(count)
}

/// Takes a run, with the number of its first item.
fn take(region: &Region, reader: &mut Reader) -> Option<(u64, Vec<u32>)> {
    let found = reader.peek_run(region).unwrap()?;
    let items = slots::read::<u32>(region, &found.cells).to_vec();
    reader.advance(found.cells.count);
    reader.release(region);
    Some((found.sequence, items))
}

#[test]
fn smoke() {
    let (region, geometry) = ring(8, false);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry);
    assert_eq!(take(&region, &mut reader), None);
    assert!(!reader.is_ready(&region));
    assert_eq!(put(&region, &mut writer, &[1, 2, 3]), Ok(3));
    assert!(reader.is_ready(&region));
    assert_eq!(take(&region, &mut reader), Some((0, vec![1, 2, 3])));
    assert!(!reader.release(&region), "there is nothing more to release");
    assert_eq!(
        stats(&region, geometry),
        Stats { sent: 3, taken: 3, lost: 0, used: 0, capacity: 8 }
    );
}

#[test]
fn the_page_says_the_same() {
    let ring = [
        ("capacity", CAPACITY),
        ("item_len", ITEM_LEN),
        ("item_align", ITEM_ALIGN),
        ("policy", POLICY),
        ("label_len", LABEL_LEN),
        ("label", LABEL),
        ("producer", ROLES),
        ("consumer", ROLES + 8),
        ("producer_destination", ROLES + 16),
        ("consumer_destination", ROLES + 24),
        ("tail", TAIL),
        ("lost", LOST),
        ("head", HEAD),
        ("data", DATA),
    ];
    page::says("Ring of cells", &ring);
}

#[test]
fn wraps() {
    let (region, geometry) = ring(8, false);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry);
    put(&region, &mut writer, &[0; 6]).unwrap();
    take(&region, &mut reader).unwrap();
    assert_eq!(put(&region, &mut writer, &[1, 2, 3, 4]), Ok(2), "as far as the end");
    assert_eq!(put(&region, &mut writer, &[3, 4]), Ok(2));
    assert_eq!(take(&region, &mut reader), Some((6, vec![1, 2])));
    assert_eq!(take(&region, &mut reader), Some((8, vec![3, 4])));
}

#[test]
fn full() {
    let (region, geometry) = ring(4, false);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry);
    put(&region, &mut writer, &[1, 2, 3]).unwrap();
    assert_eq!(put(&region, &mut writer, &[4, 5]), Ok(1));
    assert_eq!(put(&region, &mut writer, &[5]), Err(NoRoom::Full));
    assert!(!has_room(&region, geometry));
    let found = reader.peek(&region).unwrap().unwrap();
    reader.advance(found.cells.count);
    assert_eq!(put(&region, &mut writer, &[5]), Err(NoRoom::Full), "taken is not released");
    reader.release(&region);
    assert!(has_room(&region, geometry));
    assert_eq!(put(&region, &mut writer, &[5]), Ok(1));
}

#[test]
fn positions_may_wrap() {
    let (region, geometry) = ring(4, true);
    for at in [HEAD, TAIL] {
        region.u64(at).store(u64::MAX - 1, Ordering::Relaxed);
    }
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry);
    for round in 0..9 {
        put(&region, &mut writer, &[round]).unwrap();
        let sequence = (u64::MAX - 1).wrapping_add(u64::from(round));
        assert_eq!(take(&region, &mut reader), Some((sequence, vec![round])));
    }
}

#[test]
fn lies_about_positions_are_seen() {
    let (region, geometry) = ring(4, false);
    let mut writer = Writer::attach(&region, geometry).unwrap();
    let mut reader = Reader::attach(&region, geometry);
    put(&region, &mut writer, &[1, 2, 3, 4]).unwrap();
    for head in [5, u64::MAX, 1 << 40] {
        region.u64(HEAD).store(head, Ordering::Relaxed);
        assert_eq!(put(&region, &mut writer, &[5]), Err(NoRoom::Corrupt));
        assert!(Writer::attach(&region, geometry).is_err());
    }
    region.u64(HEAD).store(0, Ordering::Relaxed);
    for tail in [5, u64::MAX, 1 << 40] {
        region.u64(TAIL).store(tail, Ordering::Relaxed);
        assert_eq!(reader.peek_run(&region), Err(Corrupt));
        assert_eq!(reader.peek(&region), Err(Corrupt));
        assert!(Writer::attach(&region, geometry).is_err());
    }
}

#[test]
fn sizes_that_no_memory_has() {
    assert_eq!(Geometry::size(usize::MAX / 2 + 1, 8, false), None);
    assert_eq!(Geometry::size(1 << 61, 1, true), None);
    assert_eq!(Geometry::size(1 << 62, 1, false), Some((1 << 62) + DATA));
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Lose,
    TakeOne,
    TakeRun,
    NewWriter,
    NewReader,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..12).prop_map(Step::Send),
        1 => Just(Step::Lose),
        3 => Just(Step::TakeOne),
        2 => Just(Step::TakeRun),
        1 => Just(Step::NewWriter),
        1 => Just(Step::NewReader),
    ]
}

proptest! {
    /// Against a queue of numbered items; an end may be replaced at any time.
    #[test]
    fn as_a_queue(
        shift in 0u32..5,
        marked in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let capacity = 1usize << shift;
        let (region, geometry) = ring(capacity, marked);
        let mut writer = Writer::attach(&region, geometry).unwrap();
        let mut reader = Reader::attach(&region, geometry);
        let mut queue = VecDeque::new();
        let (mut item, mut sent, mut lost) = (0u32, 0u64, 0u64);
        for step in steps {
            match step {
                Step::Send(count) => {
                    let items: Vec<u32> = (0..count as u32).map(|ahead| item + ahead).collect();
                    let put = put(&region, &mut writer, &items);
                    let free = capacity - queue.len();
                    let rest = capacity - (sent % capacity as u64) as usize;
                    match free.min(rest).min(count) {
                        0 => prop_assert_eq!(put, Err(NoRoom::Full)),
                        fits => prop_assert_eq!(put, Ok(fits)),
                    }
                    for _ in 0..put.unwrap_or(0) {
                        let gap = if marked { lost } else { 0 };
                        queue.push_back((sent + gap, item));
                        (sent, item) = (sent + 1, item + 1);
                    }
                }
                Step::Lose => {
                    writer.lose(&region);
                    lost += 1;
                }
                Step::TakeOne => {
                    let found = reader.peek(&region).unwrap();
                    prop_assert_eq!(has_item(&region, geometry), found.is_some());
                    let got = found.map(|found| {
                        (found.sequence, slots::read::<u32>(&region, &found.cells)[0])
                    });
                    prop_assert_eq!(got, queue.pop_front());
                    reader.advance(usize::from(found.is_some()));
                    reader.release(&region);
                }
                Step::TakeRun => match take(&region, &mut reader) {
                    None => prop_assert!(queue.is_empty()),
                    Some((sequence, items)) => {
                        for (ahead, item) in items.into_iter().enumerate() {
                            let expected = (sequence + ahead as u64, item);
                            prop_assert_eq!(queue.pop_front(), Some(expected));
                        }
                    }
                },
                Step::NewWriter => writer = Writer::attach(&region, geometry).unwrap(),
                Step::NewReader => reader = Reader::attach(&region, geometry),
            }
            let stats = stats(&region, geometry);
            prop_assert_eq!((stats.sent, stats.lost), (sent, lost));
            prop_assert_eq!(stats.used, queue.len() as u64);
        }
    }
}
