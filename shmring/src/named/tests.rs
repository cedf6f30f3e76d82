use std::{fs, os::unix::fs::symlink, thread};

use super::*;
use crate::{
    names::{self, Kind},
    sync::local::{AtomicU64, Ordering},
};

/// A path of its own for each test.
fn path(tag: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    names::path(&format!("t-{}-n{number}-{tag}", os::pid()), Kind::Array).unwrap()
}

fn make(path: &Path) -> (OwnedFd, Mapping, Owner) {
    publish(path, 4096, "a test file", |_| Ok(())).unwrap()
}

#[test]
fn a_file_is_complete_when_it_appears_and_goes_with_its_owner() {
    let path = path("life");
    let (fd, map, owner) = publish(&path, 4096, "a test file", |map| {
        assert!(!path.exists(), "it has a name before it is filled");
        assert_eq!(map.len(), 4096);
        Ok(())
    })
    .unwrap();
    assert!(owned().contains(&path));
    let (other, info) = attach(&path, None).unwrap();
    assert_eq!((info.len, info.mode), (4096, MODE));
    drop((fd, map));
    drop(other);
    assert!(path.exists());
    drop(owner);
    assert!(!path.exists());
    assert!(!owned().contains(&path));
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    let path = path("middle");
    let failed = publish(&path, 4096, "a test file", |_| {
        Err(Error::NoPlace { action: "fill it".into(), limit: 0 })
    });
    assert!(matches!(failed, Err(Error::NoPlace { .. })));
    assert!(!path.exists());
    assert!(!owned().contains(&path));
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_taken() {
    let path = path("absurd");
    let error = publish(&path, 1 << 50, "array \"frames\"", |_| Ok(())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot create array \"frames\": 1024 TiB needed, "), "{text}");
    assert!(text.ends_with(" free in /dev/shm"), "{text}");
    assert!(!path.exists());
}

#[test]
fn a_name_that_is_taken_stays_with_who_has_it() {
    let path = path("taken");
    let first = make(&path);
    let second = publish(&path, 4096, "a test file", |_| Ok(()));
    assert!(matches!(second, Err(Error::Exists { .. })), "{second:?}");
    assert!(path.exists(), "the loser must not remove the winner's file");
    assert!(!remove_if_stale(&path).unwrap(), "it is in use");

    first.2.keep();
    drop((first.0, first.1));
    let third = publish(&path, 4096, "a test file", |_| Ok(()));
    assert!(matches!(third, Err(Error::Stale { .. })), "{third:?}");
    assert!(remove_if_stale(&path).unwrap());
    assert!(!remove_if_stale(&path).unwrap(), "it is gone");
    assert!(matches!(attach(&path, None), Err(Error::Absent { .. })));
}

#[test]
fn what_cannot_be_trusted_is_refused() {
    let path = path("trust");
    let kept = make(&path);
    for mode in [0o644, 0o660, 0o400, 0o700] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = attach(&path, None).unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{mode:o}: {error}");
    }
    drop(kept);

    symlink("/dev/null", &path).unwrap();
    assert!(matches!(attach(&path, None), Err(Error::NotASegment { .. })));
    assert!(matches!(remove_if_stale(&path), Err(Error::NotASegment { .. })));
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(matches!(attach(&path, None), Err(Error::NotASegment { .. })));
    fs::remove_dir(&path).unwrap();

    os::Fifo::create(&path).unwrap();
    assert!(matches!(attach(&path, None), Err(Error::NotASegment { .. })));
    assert!(remove_if_stale(&path).unwrap(), "a bell without a reader is stale");
}

#[test]
fn a_cleaners_probe_delays_an_attacher_and_no_more() {
    let path = path("probe");
    let kept = make(&path);
    kept.2.keep();
    drop((kept.0, kept.1));
    let cleaner = os::open_read_write(&path).unwrap();
    assert!(os::flock_exclusive(cleaner.as_fd()).unwrap());
    let early = attach(&path, Some(Duration::from_millis(30)));
    assert!(matches!(early, Err(Error::TimedOut { .. })), "{early:?}");
    thread::scope(|scope| {
        let attacher = scope.spawn(|| attach(&path, Some(Duration::from_secs(20))));
        thread::sleep(Duration::from_millis(30));
        // While it holds the lock, another file takes the name; in one step, or the attacher might
        // find none in between and say so.
        let other = self::path("probe.other");
        let (fd, _map, owner) = make(&other);
        fs::rename(&other, &path).unwrap();
        drop(cleaner);
        let (_fd, info) = attacher.join().unwrap().unwrap();
        assert_eq!(info.id, os::file_info(fd.as_fd()).unwrap().id);
        drop(owner);
    });
    fs::remove_file(&path).unwrap();
}

#[test]
fn either_side_may_come_first() {
    let path = path("either");
    let error = open_or_wait(&path, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    let made = AtomicU64::new(0);
    thread::scope(|scope| {
        let open_or_make = || {
            open_or_create(
                &path,
                Duration::from_secs(20),
                |(fd, _)| Ok((fd, None)),
                || {
                    let (fd, _, owner) = publish(&path, 4096, "a test file", |_| Ok(()))?;
                    made.fetch_add(1, Ordering::Relaxed);
                    Ok((fd, Some(owner)))
                },
            )
            .unwrap()
        };
        let waiting = scope.spawn(|| open_or_wait(&path, Duration::from_secs(20)).unwrap());
        let both: Vec<_> = [0; 4].map(|_| scope.spawn(open_or_make)).into_iter().collect();
        let both: Vec<_> = both.into_iter().map(|side| side.join().unwrap()).collect();
        let (_, info) = waiting.join().unwrap();
        for (fd, _) in &both {
            assert_eq!(os::file_info(fd.as_fd()).unwrap().id, info.id);
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[test]
fn unlink_removes_only_the_same_file() {
    let path = path("unlink");
    let first = make(&path);
    assert!(unlink(first.0.as_fd(), &path).unwrap());
    assert!(!unlink(first.0.as_fd(), &path).unwrap());
    let second = make(&path);
    assert!(!unlink(first.0.as_fd(), &path).unwrap());
    drop(first);
    assert!(path.exists(), "the first owner removed the second one's file");
    drop(second);
    assert!(!path.exists());
}

#[test]
fn another_process_reads_the_ledger_by_its_descriptor() {
    let path = path("ledger");
    let (_fd, _map, owner) = make(&path);
    let ours = Ledger::ours().unwrap();
    let theirs = Ledger::from_fd(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let id = os::file_id(&path).unwrap();
    assert!(theirs.entries().any(|entry| entry == (path.clone(), id)));
    drop(owner);
    assert!(theirs.entries().all(|entry| entry.0 != path));
    assert!(Ledger::from_fd(os::memfd("shmring-test").unwrap()).is_err());
}

#[test]
fn a_full_ledger_does_not_hinder() {
    let path = path("full");
    let id = FileId { device: 0, inode: 0 };
    let mut entries = Vec::new();
    let ledger = Ledger::ours().unwrap();
    entries.extend(std::iter::from_fn(|| ledger.enter(&path, id)));
    assert!(!entries.is_empty());
    let (fd, map, owner) = make(&path);
    for at in entries {
        ledger.strike(at);
    }
    drop((fd, map, owner));
    assert!(!path.exists());
}

#[test]
fn what_somebody_replaces_is_left_to_them() {
    let path = path("left");
    let (fd, map, owner) = make(&path);
    let id = os::file_id(&path).unwrap();
    assert!(!remove_left(&path, FileId { inode: id.inode + 1, ..id }).unwrap(), "another file");
    owner.keep();
    drop((fd, map));
    let replacer = os::open_read_write(&path).unwrap();
    assert!(os::flock_exclusive(replacer.as_fd()).unwrap());
    assert!(!remove_left(&path, id).unwrap());
    drop(replacer);
    assert!(remove_left(&path, id).unwrap());
    assert!(!remove_left(&path, id).unwrap());
}
