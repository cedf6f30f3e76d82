use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::{
    cleanup, layout, os,
    ring::{Policy, broadcast::Broadcast, latest::Latest as LatestValue, records::Records},
};

fn path(name: &str) -> PathBuf {
    names::path(name, names::Kind::Ring).unwrap()
}

#[test]
fn smoke() {
    let name = testkit::name("observed");
    let segment = Segment::options().participants(3).create(&name).unwrap();
    let ring = Records::options().capacity(1024).create_in(&segment).unwrap();
    let board = LatestValue::<[u64; 2]>::options().slots(4).create_in(&segment).unwrap();
    segment.add(Kind::Pool, 100, |_| Ok(())).unwrap();
    let (mut tx, mut rx) = ring.split().unwrap();
    for _ in 0..3 {
        tx.send(b"12345678").unwrap();
    }
    rx.recv().unwrap();
    let mut writer = board.writer().unwrap();
    writer.set(&[7, 8]).unwrap();

    let observer = Segment::observe(&name).unwrap();
    assert_eq!((observer.name(), observer.len(), observer.places()), (&*name, segment.len(), 3));
    let me = Participant { index: 0, pid: os::pid(), alive: true };
    assert_eq!(observer.participants(), [me], "it takes no place");
    let objects = observer.objects();
    let kinds: Vec<_> = objects.iter().map(|object| (object.number, object.kind)).collect();
    assert_eq!(kinds, [(0, Some(Kind::Records)), (1, Some(Kind::Latest)), (2, Some(Kind::Pool))]);
    let used = Some(RingStats { capacity: 1024, used: 32, sent: 3, taken: Some(1), lost: 0 });
    assert_eq!((objects[0].ring, objects[0].len), (used, 1024 + 512));
    let set = Some(RingStats { capacity: 4, used: 1, sent: 1, taken: None, lost: 0 });
    assert_eq!((objects[1].ring, objects[1].name()), (set, "a latest value".into()));
    assert_eq!((objects[2].ring, objects[2].len), (None, 100));
    assert!(objects.iter().all(|object| object.error.is_none()));
    assert_eq!(observer.records(0).unwrap(), ring.stats());

    let mut looker = observer.latest::<[u64; 2]>(1).unwrap();
    assert_eq!(looker.try_recv(), Ok([7, 8]));
    assert_eq!(looker.try_recv(), Err(RecvError::Empty));
    for item in 0..5 {
        writer.set(&[item; 2]).unwrap();
    }
    assert_eq!(looker.try_get(), Ok([4, 4]));
    assert_eq!((looker.version(), looker.missed()), (6, 4));
}

/// Each consumer takes an item for itself, so nobody counts that.
#[test]
fn a_broadcast_ring_is_looked_at() {
    let name = testkit::name("observed-broadcast");
    let options = Broadcast::options().capacity(256).consumers(3).policy(Policy::DropNewest);
    let ring = options.create(&name).unwrap();
    let observer = Segment::observe(&name).unwrap();
    let stats = || observer.objects()[0].ring.unwrap();
    let none = RingStats { capacity: 256, used: 0, sent: 0, taken: None, lost: 0 };
    assert_eq!(stats(), none);

    let (mut tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let _lossy = ring.join().lossy().consumer().unwrap();
    for _ in 0..2 {
        tx.send([7; 16]).unwrap();
    }
    assert_eq!(stats(), RingStats { used: 64, sent: 2, ..none });
    for _ in 0..8 {
        tx.send([7; 16]).unwrap();
    }
    let RingStats { used, sent, lost, .. } = stats();
    assert_eq!((used, sent + lost), (32 * sent, 10));
    assert!(lost > 0, "the lossless consumer is a ring behind");
    let told = observer.broadcast(0).unwrap();
    assert_eq!((told, told.consumers), (ring.stats(), 2));
    drop(rx);
    assert_eq!(observer.broadcast(0).unwrap().consumers, 1);
    assert!(matches!(observer.records(0), Err(Error::WrongType { .. })));

    let region = &ring.segment().0.region;
    let object = ring.segment().object(0, Kind::Broadcast).unwrap();
    region.u64(object.offset).store(3, crate::sync::Ordering::Relaxed); // Its capacity.
    let objects = observer.objects();
    assert!(matches!(objects[0].error, Some(Error::Corrupt { .. })), "{objects:?}");
}

#[test]
fn what_is_no_such_object_is_told_apart() {
    let name = testkit::name("kinds");
    let segment = Segment::options().create(&name).unwrap();
    Records::options().create_in(&segment).unwrap();
    LatestValue::<u64>::options().create_in(&segment).unwrap();
    let observer = Segment::observe(&name).unwrap();
    assert!(matches!(observer.records(1), Err(Error::WrongType { .. })));
    assert!(matches!(observer.latest::<u64>(0), Err(Error::WrongType { .. })));
    assert!(matches!(observer.latest::<u32>(1), Err(Error::WrongType { .. })));
    assert!(matches!(observer.latest::<[u8]>(1), Err(Error::WrongType { .. })));
    assert!(matches!(observer.records(2), Err(Error::NotASegment { .. })));
    assert!(matches!(observer.records(9999), Err(Error::Corrupt { .. })));
}

#[test]
fn an_observed_file_is_in_use_and_read_only() {
    let name = testkit::name("in-use");
    let segment = Segment::options().bells(0).create(&name).unwrap();
    segment.keep();
    let observer = Segment::observe(&name).unwrap();
    drop(segment);
    assert!(!named::remove_if_stale(&path(&name)).unwrap());
    assert!(cleanup::stale().unwrap().iter().all(|stale| stale.name != name));
    assert_eq!(observer.participants(), []);
    drop(observer);
    assert!(named::remove_if_stale(&path(&name)).unwrap());
}

#[test]
fn each_unusable_file_is_told_apart() {
    let name = testkit::name("broken");
    assert!(matches!(Segment::observe(&name), Err(Error::Absent { .. })));
    assert!(matches!(Segment::observe("a/b"), Err(Error::BadName { .. })));

    let write = |bytes: &[u8]| {
        fs::write(path(&name), bytes).unwrap();
        fs::set_permissions(path(&name), fs::Permissions::from_mode(0o600)).unwrap();
        let error = Segment::observe(&name).unwrap_err();
        fs::remove_file(path(&name)).unwrap();
        error
    };
    assert!(matches!(write(b""), Error::TooShort { .. }));
    assert!(matches!(write(&[0; 100]), Error::TooShort { .. }));
    assert!(matches!(write(&[0; 4096]), Error::NotASegment { .. }));
    let mut header = [0; 4096];
    header[..8].copy_from_slice(b"SHMRING\0");
    assert!(matches!(write(&header), Error::WrongVersion { found: 0, .. }));
    header[8] = layout::VERSION as u8;
    assert!(matches!(write(&header), Error::Corrupt { .. }));
    header[24] = 1; // Participants.
    header[28] = 1; // Objects.
    header[17] = 0x20; // Size: 8192.
    assert!(matches!(write(&header), Error::TooShort { found: 4096, needed: 8192, .. }));

    std::os::unix::fs::symlink("/dev/null", path(&name)).unwrap();
    assert!(matches!(Segment::observe(&name), Err(Error::NotASegment { .. })));
    fs::remove_file(path(&name)).unwrap();
    fs::write(path(&name), [0; 4096]).unwrap();
    fs::set_permissions(path(&name), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Segment::observe(&name), Err(Error::NotOurs { .. })));
    fs::remove_file(path(&name)).unwrap();
}

#[test]
fn corrupt_objects_are_listed_with_the_reason() {
    let name = testkit::name("corrupt");
    let segment = Segment::options().create(&name).unwrap();
    let (region, layout) = (&segment.0.region, &segment.0.layout);
    for _ in 0..3 {
        Records::options().create_in(&segment).unwrap();
    }
    let relaxed = crate::sync::Ordering::Relaxed;
    region.u32(layout.object(0) + crate::layout::OBJECT_KIND).store(77, relaxed);
    region.u64(layout.object(1) + crate::layout::OBJECT_OFFSET).store(1 << 40, relaxed);
    let third = segment.object(2, Kind::Records).unwrap();
    region.u64(third.offset).store(3, relaxed); // Its capacity.

    let objects = Segment::observe(&name).unwrap().objects();
    assert_eq!((objects[0].kind, objects[0].name()), (None, "an object of unknown kind 77".into()));
    assert!(matches!(objects[1].error, Some(Error::Corrupt { .. })), "{objects:?}");
    assert!(matches!(objects[2].error, Some(Error::Corrupt { .. })), "{objects:?}");
    assert!(objects.iter().all(|object| object.ring.is_none()));
}
