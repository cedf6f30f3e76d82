//! Every interleaving of a producer and a consumer, also when one of them dies at any step.

use loom::{sync::Arc, thread};

use super::{
    cursor::{DATA, Geometry, Kind, NoRoom, Reader, Room, Writer},
    slots,
};
use crate::{fault::model::live, region::Region};

const GEOMETRY: Geometry = Geometry { base: 0, capacity: 256 };

fn region() -> Arc<Region> {
    Arc::new(Region::heap(GEOMETRY.capacity + DATA))
}

fn put(region: &Region, writer: &mut Writer, byte: u8, len: usize) {
    let room = filled(region, writer, byte, len);
    writer.commit(region, room, Kind::Bytes, len);
}

/// Puts one and publishes it, at once.
fn send(region: &Region, writer: &mut Writer, byte: u8, len: usize) {
    let room = filled(region, writer, byte, len);
    let bytes = writer.publish_one(region, room, Kind::Bytes, len);
    writer.get_ahead(region, bytes);
}

fn filled(region: &Region, writer: &mut Writer, byte: u8, len: usize) -> Room {
    let mut room = loop {
        match writer.claim(region, len) {
            Ok(room) => break room,
            Err(NoRoom::Full) => thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    };
    slots::room(region, &mut room).fill(byte);
    room
}

fn publish(region: &Region, writer: &mut Writer) {
    let bytes = writer.publish(region);
    writer.get_ahead(region, bytes);
}

/// Takes one record, if there is one; its bytes must all be the same.
fn take(region: &Region, reader: &mut Reader) -> Option<u8> {
    let found = reader.peek(region).expect("never corrupt")?;
    let record = slots::record(region, &found);
    let byte = record[0];
    assert!(record.iter().all(|other| *other == byte), "torn");
    reader.advance(found);
    reader.release(region);
    Some(byte)
}

fn take_waiting(region: &Region, reader: &mut Reader) -> u8 {
    loop {
        match take(region, reader) {
            Some(byte) => return byte,
            None => thread::yield_now(),
        }
    }
}

#[test]
fn loom_records_in_order() {
    loom::model(|| {
        let region = region();
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            send(&there, &mut writer, 1, 8);
            put(&there, &mut writer, 2, 8);
            put(&there, &mut writer, 3, 8);
            publish(&there, &mut writer);
        });
        let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
        for byte in 1..=3 {
            assert_eq!(take_waiting(&region, &mut reader), byte);
        }
        producer.join().unwrap();
        assert_eq!(take(&region, &mut reader), None);
    });
}

#[test]
fn loom_records_room_is_used_again() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let region = region();
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            for byte in 1..=3 {
                send(&there, &mut writer, byte, 100); // Two fill the ring.
            }
        });
        let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
        for byte in 1..=3 {
            assert_eq!(take_waiting(&region, &mut reader), byte);
        }
        producer.join().unwrap();
    });
}

/// A producer has published one record and dies at each step of the next two, which form a batch.
/// Its replacement goes on. The consumer sees a prefix of what the dead one sent, and then the
/// replacement's.
#[test]
fn loom_records_producer_dies_at_each_step() {
    for step in 0..=6 {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let region = region();
            let there = region.clone();
            let producer = thread::spawn(move || {
                let first = there.clone();
                live(0, || {
                    let mut writer = Writer::attach(&first, GEOMETRY).unwrap();
                    send(&first, &mut writer, 1, 8);
                });
                let died = live(step, || {
                    let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                    put(&there, &mut writer, 2, 8);
                    put(&there, &mut writer, 3, 8);
                    publish(&there, &mut writer);
                });
                // The role is taken over only from one that is seen to be dead.
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                put(&there, &mut writer, 4, 8);
                writer.publish(&there);
                died
            });
            let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
            let mut got = Vec::new();
            while got.last() != Some(&4) {
                got.push(take_waiting(&region, &mut reader));
            }
            let died = producer.join().unwrap();
            assert_eq!(died, step != 0, "{step} is a step");
            match got.as_slice() {
                [1, 4] => assert!(died, "confirmed records are delivered"),
                [1, 2, 3, 4] => {}
                other => panic!("{other:?}"),
            }
        });
    }
}

/// The same for one record that is sent at once.
#[test]
fn loom_records_producer_dies_at_each_step_of_one() {
    for step in 0..=5 {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let region = region();
            let there = region.clone();
            let producer = thread::spawn(move || {
                let died = live(step, || {
                    let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                    send(&there, &mut writer, 1, 8);
                });
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                send(&there, &mut writer, 2, 8);
                died
            });
            let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
            let mut got = Vec::new();
            while got.last() != Some(&2) {
                got.push(take_waiting(&region, &mut reader));
            }
            let died = producer.join().unwrap();
            assert_eq!(died, step != 0, "{step} is a step");
            match got.as_slice() {
                [2] => assert!((1..=3).contains(&step), "confirmed records are delivered"),
                [1, 2] => assert!(step == 0 || step >= 4, "{step}"),
                other => panic!("{other:?}"),
            }
        });
    }
}

/// A consumer dies at each step of taking; its replacement gets everything that was not released.
#[test]
fn loom_records_consumer_dies_at_each_step() {
    for step in 0..=2 {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let region = region();
            let there = region.clone();
            let producer = thread::spawn(move || {
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                for byte in 1..=3 {
                    put(&there, &mut writer, byte, 100);
                    writer.publish(&there);
                }
            });
            let mut seen = 0;
            let died = live(step, || {
                let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
                seen = take_waiting(&region, &mut reader);
            });
            assert_eq!(died, step != 0);
            let mut reader = Reader::attach(&region, GEOMETRY).unwrap();
            let first = take_waiting(&region, &mut reader);
            assert!(first == 1 || first == 2, "at least once: {first}");
            assert!(first == 1 || seen == 1 || step == 2, "released only after it was read");
            for byte in first + 1..=3 {
                assert_eq!(take_waiting(&region, &mut reader), byte);
            }
            producer.join().unwrap();
        });
    }
}
