//! Every interleaving of a producer and a consumer, also when one of them dies at any step.

use loom::{sync::Arc, thread};

use super::{
    cursor::{Geometry, NoRoom, Reader, Writer},
    slots,
};
use crate::{fault::model::live, region::Region};

fn ring(capacity: usize, marked: bool) -> (Arc<Region>, Geometry) {
    let size = Geometry::size(capacity, 8, marked).unwrap();
    (Arc::new(Region::heap(size)), Geometry::new(0, capacity, 8, marked))
}

/// Sends all of these, in as few steps as there is room for.
fn put(region: &Region, writer: &mut Writer, mut items: &[u64]) {
    while !items.is_empty() {
        match writer.claim(region, items.len()) {
            Ok(mut cells) => {
                let (now, later) = items.split_at(cells.count);
                slots::fill(region, &mut cells).copy_from_slice(now);
                writer.publish(region, now.len());
                items = later;
            }
            Err(NoRoom::Full) => thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn take(region: &Region, reader: &mut Reader) -> Option<(u64, u64)> {
    let found = reader.peek(region).expect("never corrupt")?;
    let item = slots::read::<u64>(region, &found.cells)[0];
    reader.advance(1);
    reader.release(region);
    Some((found.sequence, item))
}

fn take_waiting(region: &Region, reader: &mut Reader) -> (u64, u64) {
    loop {
        match take(region, reader) {
            Some(item) => return item,
            None => thread::yield_now(),
        }
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

#[test]
fn loom_cells_in_order_and_used_again() {
    model(|| {
        let (region, geometry) = ring(2, false);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, geometry).unwrap();
            put(&there, &mut writer, &[1]);
            put(&there, &mut writer, &[2, 3, 4]);
        });
        let mut reader = Reader::attach(&region, geometry);
        for item in 1..=4 {
            assert_eq!(take_waiting(&region, &mut reader), (item - 1, item));
        }
        producer.join().unwrap();
        assert_eq!(take(&region, &mut reader), None);
    });
}

#[test]
fn loom_cells_runs() {
    model(|| {
        let (region, geometry) = ring(4, false);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, geometry).unwrap();
            put(&there, &mut writer, &[1, 2]);
            put(&there, &mut writer, &[3]);
        });
        let mut reader = Reader::attach(&region, geometry);
        let mut got = vec![];
        while got.len() < 3 {
            match reader.peek_run(&region).expect("never corrupt") {
                Some(found) => {
                    got.extend_from_slice(slots::read::<u64>(&region, &found.cells));
                    reader.advance(found.cells.count);
                    reader.release(&region);
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(got, [1, 2, 3]);
        producer.join().unwrap();
    });
}

#[test]
fn loom_cells_losses_are_gaps() {
    model(|| {
        let (region, geometry) = ring(2, true);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, geometry).unwrap();
            put(&there, &mut writer, &[1]);
            writer.lose(&there);
            put(&there, &mut writer, &[3]);
        });
        let mut reader = Reader::attach(&region, geometry);
        assert_eq!(take_waiting(&region, &mut reader), (0, 1));
        assert_eq!(take_waiting(&region, &mut reader), (2, 3));
        producer.join().unwrap();
    });
}

/// A producer has published one item and dies at each step of the next two, which become visible
/// together. Its replacement goes on: the consumer sees all of them or none, and then its items.
#[test]
fn loom_cells_producer_dies_at_each_step() {
    for step in 0..=5 {
        model(move || {
            let (region, geometry) = ring(4, true);
            let there = region.clone();
            let producer = thread::spawn(move || {
                let mut writer = Writer::attach(&there, geometry).unwrap();
                put(&there, &mut writer, &[1]);
                let first = there.clone();
                let died = live(step, || {
                    let mut writer = Writer::attach(&first, geometry).unwrap();
                    put(&first, &mut writer, &[2, 3]);
                });
                let mut writer = Writer::attach(&there, geometry).unwrap();
                put(&there, &mut writer, &[4]);
                died
            });
            let mut reader = Reader::attach(&region, geometry);
            let mut got = vec![];
            while got.last() != Some(&4) {
                let (sequence, item) = take_waiting(&region, &mut reader);
                assert_eq!(sequence, got.len() as u64);
                got.push(item);
            }
            let died = producer.join().unwrap();
            assert_eq!(died, step != 0, "{step} is a step");
            match got.as_slice() {
                [1, 4] => assert!(died && step < 4, "confirmed items are delivered"),
                [1, 2, 3, 4] => assert!(step == 0 || step >= 4),
                other => panic!("{other:?}"),
            }
        });
    }
}

/// A consumer dies at each step of taking; its replacement gets everything that was not released.
#[test]
fn loom_cells_consumer_dies_at_each_step() {
    for step in 0..=2 {
        model(move || {
            let (region, geometry) = ring(2, false);
            let there = region.clone();
            let producer = thread::spawn(move || {
                let mut writer = Writer::attach(&there, geometry).unwrap();
                put(&there, &mut writer, &[1, 2, 3]);
            });
            let mut seen = 0;
            let died = live(step, || {
                let mut reader = Reader::attach(&region, geometry);
                seen = take_waiting(&region, &mut reader).1;
            });
            assert_eq!(died, step != 0);
            let mut reader = Reader::attach(&region, geometry);
            let first = take_waiting(&region, &mut reader).1;
            assert!(first == 1 || first == 2, "at least once: {first}");
            assert!(first == 1 || seen == 1 || step == 2, "released only after it was read");
            for item in first + 1..=3 {
                assert_eq!(take_waiting(&region, &mut reader).1, item);
            }
            producer.join().unwrap();
        });
    }
}
