//! Every interleaving of a producer and those who join, read and sleep, also when one of them dies
//! at any step.

use loom::{sync::Arc, thread};

use super::{
    memory::{Geometry, newest},
    reader::{Reader, Trouble},
    slots,
    table::{self, Kind},
    writer::{NoRoom, Room, Writer},
};
use crate::{
    fault::{fault, model::live},
    region::Region,
    sync::Ordering,
    wait::{
        doorbell::{Doorbell, FUTEX},
        published,
    },
};

/// Two items of one word, and a pad, are a lap.
const GEOMETRY: Geometry = Geometry { base: 0, capacity: 64, places: 2 };
/// Where a model's doorbell is.
const DOORBELL: usize = 1024;

fn region() -> Arc<Region> {
    assert!(Geometry::len(GEOMETRY.capacity, GEOMETRY.places) <= DOORBELL);
    Arc::new(Region::heap(DOORBELL + 256))
}

fn model(bound: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound);
    model.check(f);
}

fn hold(region: &Region, index: usize) {
    region.u64(GEOMETRY.consumer(index).word).store(1 << 56 | 7, Ordering::Release);
}

fn join(region: &Region, index: usize, kind: Kind, history: u64) -> Reader {
    hold(region, index);
    Reader::join(region, GEOMETRY, index, kind, history).unwrap()
}

/// Claims room for a word, once there is some.
fn claim(region: &Region, writer: &mut Writer) -> Room {
    loop {
        match writer.claim(region, 8) {
            Ok(room) => return room,
            Err(NoRoom::Full) => thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Sends an item that says its number, in place or by words.
fn send(region: &Region, writer: &mut Writer, number: u64, kind: Kind) {
    let mut room = claim(region, writer);
    match kind {
        Kind::Lossless => slots::room(region, &mut room).copy_from_slice(&number.to_ne_bytes()),
        Kind::Lossy => slots::put(region, &room, &number.to_ne_bytes()),
    }
    writer.commit(region, room, 8);
    assert!(writer.publish(region));
}

/// Takes an item, if there is one: what it is must be what its number says.
fn take(region: &Region, reader: &mut Reader) -> Result<Option<u64>, Trouble> {
    let Some(found) = reader.peek(region)? else { return Ok(None) };
    let mut copy = vec![];
    match reader.kind() {
        Kind::Lossless => copy.extend_from_slice(slots::item(region, &found)),
        Kind::Lossy => slots::copy(region, found, &mut copy),
    }
    if reader.kind() == Kind::Lossy && reader.is_lapped(region, found) {
        return Ok(None);
    }
    assert_eq!(copy, found.sequence.to_ne_bytes(), "torn");
    reader.advance(found);
    reader.release(region);
    Ok(Some(found.sequence))
}

/// Takes until the item with this number has come; without gaps that were not told.
fn take_until(region: &Region, reader: &mut Reader, mut next: Option<u64>, last: u64) {
    loop {
        match take(region, reader) {
            Ok(Some(number)) => {
                assert!(next.is_none_or(|next| next == number), "{number} after {next:?}");
                if number == last {
                    return;
                }
                next = Some(number + 1);
            }
            Ok(None) => thread::yield_now(),
            Err(Trouble::Lapped { missed }) if reader.kind() == Kind::Lossy => {
                next = next.map(|next| next + missed);
            }
            Err(trouble) => panic!("{trouble:?}"),
        }
    }
}

#[test]
fn loom_broadcast_lossless_gets_all() {
    model(3, || {
        let region = region();
        let mut reader = join(&region, 1, Kind::Lossless, 0);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            for number in 0..4 {
                send(&there, &mut writer, number, Kind::Lossless);
            }
        });
        take_until(&region, &mut reader, Some(0), 3);
        producer.join().unwrap();
    });
}

#[test]
fn loom_broadcast_lossy_is_never_torn() {
    model(3, || {
        let region = region();
        let mut reader = join(&region, 0, Kind::Lossy, 0);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            for number in 0..4 {
                send(&there, &mut writer, number, Kind::Lossy);
            }
        });
        take_until(&region, &mut reader, Some(0), 3);
        producer.join().unwrap();
    });
}

/// Somebody joins while the producer overwrites: either one of the two notices.
#[test]
fn loom_broadcast_joins_while_it_runs() {
    for history in [1, 2] {
        model(3, move || {
            let region = region();
            let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
            send(&region, &mut writer, 0, Kind::Lossless);
            send(&region, &mut writer, 1, Kind::Lossless);
            let there = region.clone();
            let producer = thread::spawn(move || {
                for number in 2..5 {
                    send(&there, &mut writer, number, Kind::Lossless);
                }
            });
            let mut reader = join(&region, 1, Kind::Lossless, history);
            take_until(&region, &mut reader, None, 4);
            producer.join().unwrap();
        });
    }
}

/// A lossless consumer is held for dead, its place is taken over, and the next holder joins.
#[test]
fn loom_broadcast_joiner_dies_at_each_step() {
    for step in 0..=6 {
        model(2, move || {
            let region = region();
            let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
            send(&region, &mut writer, 0, Kind::Lossless);
            send(&region, &mut writer, 1, Kind::Lossless);
            let there = region.clone();
            let joiner = thread::spawn(move || {
                let died = live(step, || {
                    join(&there, 1, Kind::Lossless, 1);
                });
                assert_eq!(died, step != 0, "{step} is a step");
                // Its death is seen, by whoever waits for it.
                role_ends(&there, 1);
            });
            for number in 2..5 {
                send(&region, &mut writer, number, Kind::Lossless);
            }
            joiner.join().unwrap();
            let mut next = join(&region, 1, Kind::Lossless, 1);
            take_until(&region, &mut next, Some(4), 4);
        });
    }
}

/// A lossless consumer dies at each step of giving its room back. Its place is taken over, or a
/// forked child goes on there.
#[test]
fn loom_broadcast_reader_dies_while_it_releases() {
    for (step, adopted) in [1, 2, 3].into_iter().flat_map(|step| [(step, false), (step, true)]) {
        model(2, move || {
            let region = region();
            let mut reader = join(&region, 1, Kind::Lossless, 0);
            let there = region.clone();
            let consumer = thread::spawn(move || {
                let died = live(step, || take_until(&there, &mut reader, Some(0), 0));
                assert!(died, "{step} is a step");
                if adopted {
                    let mut next = Reader::resume(&there, GEOMETRY, 1).unwrap();
                    let first = if step == 3 { 1 } else { 0 };
                    take_until(&there, &mut next, Some(first), 2);
                }
                // Its death is seen, by whoever waits for it.
                role_ends(&there, 1);
            });
            let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
            for number in 0..4 {
                send(&region, &mut writer, number, Kind::Lossless);
            }
            consumer.join().unwrap();
            let mut next = join(&region, 1, Kind::Lossless, 1);
            take_until(&region, &mut next, Some(3), 3);
        });
    }
}

fn role_ends(region: &Region, index: usize) {
    region.u64(GEOMETRY.consumer(index).word).store(3 << 56, Ordering::Release);
}

/// A producer has sent one item and dies at each step of the next. Its replacement goes on.
#[test]
fn loom_broadcast_producer_dies_at_each_step() {
    for kind in [Kind::Lossless, Kind::Lossy] {
        for step in 0..=6 {
            model(2, move || {
                let region = region();
                let mut reader = join(&region, 0, kind, 0);
                let there = region.clone();
                let producer = thread::spawn(move || {
                    let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                    send(&there, &mut writer, 0, kind);
                    let dying = there.clone();
                    let died = live(step, move || {
                        let mut writer = Writer::attach(&dying, GEOMETRY).unwrap();
                        send(&dying, &mut writer, 1, kind);
                    });
                    assert_eq!(died, step != 0, "{step} is a step");
                    // The role is taken over only from one that is seen to be dead.
                    let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                    let next = 1 + u64::from(step == 0 || step >= 5);
                    for number in next..3 {
                        send(&there, &mut writer, number, kind);
                    }
                });
                take_until(&region, &mut reader, Some(0), 2);
                producer.join().unwrap();
            });
        }
    }
}

/// A lost wake-up is a loop without end, which loom reports.
#[test]
fn loom_broadcast_wakes_who_sleeps() {
    for successor in [false, true] {
        model(3, move || {
            let region = region();
            let mut reader = join(&region, 1, Kind::Lossless, 0);
            if successor {
                table::all_may_sleep(&region, GEOMETRY);
            }
            let there = region.clone();
            let producer = thread::spawn(move || {
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                for number in 0..2 {
                    send(&there, &mut writer, number, Kind::Lossless);
                    let bits = table::take_sleepers(&there, GEOMETRY);
                    for index in table::places_in(bits, GEOMETRY) {
                        published();
                        let doorbell = Doorbell::at(&there, DOORBELL);
                        if index == 1 && doorbell.is_armed() {
                            doorbell.take_armed(0);
                        }
                    }
                }
            });
            let doorbell = Doorbell::at(&region, DOORBELL);
            let mut next = 0;
            while next < 2 {
                if take(&region, &mut reader).unwrap().is_some() {
                    next += 1;
                    continue;
                }
                let epoch = doorbell.arm(FUTEX);
                table::announce(&region, GEOMETRY, 1);
                if take(&region, &mut reader).unwrap().is_some() {
                    next += 1;
                    continue;
                }
                while doorbell.epoch().load(Ordering::Acquire) == epoch {
                    thread::yield_now();
                }
            }
            producer.join().unwrap();
        });
    }
}

/// Where a model of ports has the place of the blocks of a message: the number of the message whose
/// blocks lie there, plus one. One place is the hardest case: each message replaces the one before.
const PLACE: usize = DOORBELL + 192;

/// Sends as a port that keeps the blocks of one message: steps P1 to P3. `until` is where the message
/// ends whose blocks lie in the place.
fn send_with_blocks(region: &Region, writer: &mut Writer, number: u64, until: &mut u64) {
    writer.wait_until_passed(*until);
    let mut room = claim(region, writer);
    fault!("broadcast.port.passed");
    region.u64(PLACE).swap(0, Ordering::AcqRel);
    fault!("block.place.lifted");
    region.u64(PLACE).swap(number + 1, Ordering::AcqRel);
    fault!("block.place.laid");
    slots::room(region, &mut room).copy_from_slice(&number.to_ne_bytes());
    fault!("broadcast.port.filled");
    writer.commit(region, room, 8);
    assert!(writer.publish(region));
    fault!("broadcast.port.sent");
    *until = writer.published();
}

/// Where the message ends whose blocks may lie in the place, for a sender that finds it so.
fn recovered(region: &Region, writer: &Writer) -> u64 {
    let records = writer.records(region).unwrap();
    records.last().map_or(writer.oldest(), |(_, end, _)| *end)
}

/// Receives until the message with this number has come, and tells how many had no blocks any more.
/// Of those numbered from `surely` on, that must not be.
fn receive_until(region: &Region, reader: &mut Reader, surely: u64, last: u64) -> u64 {
    let mut gone = 0;
    loop {
        let Some(found) = reader.peek(region).unwrap() else {
            thread::yield_now();
            continue;
        };
        let number = found.sequence;
        assert_eq!(slots::item(region, &found), number.to_ne_bytes(), "torn");
        if region.u64(PLACE).fetch_add(0, Ordering::AcqRel) != number + 1 {
            assert!(number < surely, "the blocks of {number} are gone");
            gone += 1;
        }
        reader.advance(found);
        reader.release(region);
        if number == last {
            return gone;
        }
    }
}

/// Nobody lifts the blocks of a message that somebody has yet to read.
#[test]
fn loom_broadcast_ports_keep_blocks() {
    model(3, || {
        let region = region();
        let mut reader = join(&region, 1, Kind::Lossless, 0);
        let there = region.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            let mut until = 0;
            for number in 0..3 {
                send_with_blocks(&there, &mut writer, number, &mut until);
            }
        });
        assert_eq!(receive_until(&region, &mut reader, 0, 2), 0);
        producer.join().unwrap();
    });
}

/// Who joins finds the blocks of all messages that were not there yet when it had joined.
#[test]
fn loom_broadcast_ports_keep_blocks_for_those_who_join() {
    for history in [0, 1] {
        model(3, move || {
            let region = region();
            let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
            let mut until = 0;
            send_with_blocks(&region, &mut writer, 0, &mut until);
            let there = region.clone();
            let producer = thread::spawn(move || {
                for number in 1..4 {
                    send_with_blocks(&there, &mut writer, number, &mut until);
                }
            });
            let mut reader = join(&region, 1, Kind::Lossless, history);
            let surely = newest(&region, GEOMETRY).unwrap();
            if surely < 4 {
                receive_until(&region, &mut reader, surely, 3);
            }
            producer.join().unwrap();
        });
    }
}

/// A sender dies at each step of its second message. The next one sends after what was published.
#[test]
fn loom_broadcast_ports_sender_dies_at_each_step() {
    for step in 0..=STEPS_OF_A_PORT {
        model(2, move || {
            let region = region();
            let mut reader = join(&region, 0, Kind::Lossless, 0);
            let there = region.clone();
            let producer = thread::spawn(move || {
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                let mut until = 0;
                send_with_blocks(&there, &mut writer, 0, &mut until);
                let dying = there.clone();
                let died = live(step, move || {
                    let mut writer = Writer::attach(&dying, GEOMETRY).unwrap();
                    let mut until = recovered(&dying, &writer);
                    send_with_blocks(&dying, &mut writer, 1, &mut until);
                });
                assert_eq!(died, step != 0, "{step} is a step");
                // The role is taken over only from one that is seen to be dead.
                let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                let mut until = recovered(&there, &writer);
                for number in writer.sequence()..3 {
                    send_with_blocks(&there, &mut writer, number, &mut until);
                }
            });
            assert_eq!(receive_until(&region, &mut reader, 0, 2), 0);
            producer.join().unwrap();
        });
    }
}

/// How many steps a send of a port has here, those of the ring included.
const STEPS_OF_A_PORT: u32 = 11;
