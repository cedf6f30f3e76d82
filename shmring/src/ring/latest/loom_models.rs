//! Every interleaving of a writer and its readers, also when one of them dies at any step.

use loom::{sync::Arc, thread};

use super::{
    cursor::{Geometry, Miss, Reader, Writer, newest},
    sleepers::Sleepers,
};
use crate::{
    fault::model::live,
    region::Region,
    sync::{AtomicU32, Ordering},
    wait::doorbell::{Doorbell, FUTEX, published},
};

/// Two words and two slots: torn, and overtaken, as soon as can be.
const GEOMETRY: Geometry = Geometry { base: 0, limit: 16, slots: 2 };
/// Behind the object: the entries of two participants.
const ENTRIES: usize = 640;

fn region() -> Arc<Region> {
    assert_eq!(GEOMETRY.size(), ENTRIES);
    Arc::new(Region::heap(ENTRIES + 2 * 128))
}

fn model(bound: usize) -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound);
    model
}

/// Sets a value of which every byte is its version.
fn set(region: &Region, writer: &mut Writer) {
    let mut draft = writer.claim(region);
    writer.fill(region, &mut draft, &[writer.version() as u8 + 1; 16]).unwrap();
    writer.commit(region, draft);
}

/// Reads a newer value, if there is one and the writer lets us.
fn read(region: &Region, reader: &mut Reader) -> Option<u64> {
    match reader.read(region, reader.seen(), 2) {
        Ok(()) => {
            let version = reader.seen();
            assert_eq!(reader.value(), [version as u8; 16], "torn");
            Some(version)
        }
        Err(Miss::Nothing | Miss::Outrun) => None,
        Err(Miss::Corrupt) => panic!("never corrupt"),
    }
}

/// A writer that goes round, and readers, each of which reads so many times.
fn never_torn(bound: usize, sets: u64, readers: &'static [usize]) {
    model(bound).check(move || {
        let region = region();
        let spawn = |reads: &usize| {
            let (there, reads) = (region.clone(), *reads);
            thread::spawn(move || {
                let mut reader = Reader::new(GEOMETRY, 0);
                for _ in 0..reads {
                    let before = reader.seen();
                    assert!(read(&there, &mut reader).is_none_or(|now| now > before));
                }
            })
        };
        let readers: Vec<_> = readers.iter().map(spawn).collect();
        let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
        for _ in 0..sets {
            set(&region, &mut writer);
        }
        for reader in readers {
            reader.join().unwrap();
        }
        let mut last = Reader::new(GEOMETRY, 0);
        assert_eq!(read(&region, &mut last), Some(sets), "the newest");
    });
}

#[test]
fn loom_latest_is_never_torn() {
    never_torn(3, 4, &[2]);
}

#[test]
fn loom_latest_two_readers() {
    never_torn(2, 3, &[1, 1]);
}

/// A writer has set one value and dies at each step of the next; its successor sets another. A
/// reader sees whole values all the time, and the newest in the end.
#[test]
fn loom_latest_writer_dies_at_each_step() {
    for step in 0..=3 {
        model(3).check(move || {
            let region = region();
            let there = region.clone();
            let reader = thread::spawn(move || {
                let mut reader = Reader::new(GEOMETRY, 0);
                read(&there, &mut reader);
                read(&there, &mut reader);
                reader
            });
            let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
            set(&region, &mut writer);
            let died = live(step, || set(&region, &mut writer));
            assert_eq!(died, step != 0);
            // The role is taken over only from one that is seen to be dead.
            let mut next = Writer::attach(&region, GEOMETRY).unwrap();
            assert_eq!(next.version(), if step == 1 || step == 2 { 1 } else { 2 });
            set(&region, &mut next);
            let mut reader = reader.join().unwrap();
            read(&region, &mut reader);
            assert_eq!(reader.seen(), next.version());
        });
    }
}

fn ring(region: &Region) {
    Sleepers::at(region, GEOMETRY.sleepers()).take(|index| {
        published();
        let doorbell = Doorbell::at(region, ENTRIES + 128 * index);
        if doorbell.is_armed() {
            doorbell.take_armed(0);
        }
    });
}

/// Sleeps until the newest version is `version`. A lost wake-up is a loop without end, which loom
/// reports. `ended` says that the writer's death can be seen, which a real sleeper asks now and
/// then.
fn wait(region: &Region, index: usize, version: u64, ended: &AtomicU32) -> bool {
    let doorbell = Doorbell::at(region, ENTRIES + 128 * index);
    loop {
        if newest(region, GEOMETRY) >= version {
            return true;
        }
        let epoch = doorbell.arm(FUTEX);
        Sleepers::at(region, GEOMETRY.sleepers()).add(index);
        if newest(region, GEOMETRY) >= version {
            return true;
        }
        while doorbell.epoch().load(Ordering::Acquire) == epoch {
            if ended.load(Ordering::Acquire) == 1 {
                return newest(region, GEOMETRY) >= version;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn loom_latest_wakes_a_sleeper() {
    model(3).check(|| {
        let region = region();
        let there = region.clone();
        let writer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            for _ in 0..2 {
                set(&there, &mut writer);
                ring(&there);
            }
        });
        let never = AtomicU32::new(0);
        assert!(wait(&region, 0, 1, &never));
        assert!(wait(&region, 0, 2, &never));
        writer.join().unwrap();
    });
}

/// Goes to sleep, unless the first version is there. Gives the epoch it sleeps on.
fn fall_asleep(region: &Region, index: usize) -> Option<u32> {
    let epoch = Doorbell::at(region, ENTRIES + 128 * index).arm(FUTEX);
    Sleepers::at(region, GEOMETRY.sleepers()).add(index);
    (newest(region, GEOMETRY) == 0).then_some(epoch)
}

#[test]
fn loom_latest_wakes_two_sleepers() {
    model(3).check(|| {
        let region = region();
        let sleepers = [0, 1].map(|index| {
            let there = region.clone();
            thread::spawn(move || fall_asleep(&there, index))
        });
        let mut writer = Writer::attach(&region, GEOMETRY).unwrap();
        set(&region, &mut writer);
        ring(&region);
        for (index, sleeper) in sleepers.into_iter().enumerate() {
            let slept_on = sleeper.join().unwrap();
            let epoch = Doorbell::at(&region, ENTRIES + 128 * index).epoch();
            assert_ne!(Some(epoch.load(Ordering::Acquire)), slept_on, "nobody woke {index}");
        }
    });
}

/// A writer that dies between publishing and waking: the value is found when its death is seen.
#[test]
fn loom_latest_writer_dies_before_it_wakes() {
    for step in 3..=6 {
        model(3).check(move || {
            let region = region();
            let ended = Arc::new(AtomicU32::new(0));
            let (there, end) = (region.clone(), ended.clone());
            let writer = thread::spawn(move || {
                live(step, || {
                    let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
                    set(&there, &mut writer);
                    ring(&there);
                });
                end.store(1, Ordering::Release);
            });
            assert!(wait(&region, 0, 1, &ended), "what was published is found");
            writer.join().unwrap();
        });
    }
}

/// A sleeper that dies leaves a bit; the writer and another sleeper do not mind.
#[test]
fn loom_latest_sleeper_dies() {
    model(2).check(|| {
        let region = region();
        let (there, dies) = (region.clone(), region.clone());
        let dying = thread::spawn(move || {
            let never = AtomicU32::new(0);
            live(1, || assert!(wait(&dies, 1, 1, &never)));
        });
        let writer = thread::spawn(move || {
            let mut writer = Writer::attach(&there, GEOMETRY).unwrap();
            set(&there, &mut writer);
            ring(&there);
        });
        let never = AtomicU32::new(0);
        assert!(wait(&region, 0, 1, &never));
        dying.join().unwrap();
        writer.join().unwrap();
    });
}
