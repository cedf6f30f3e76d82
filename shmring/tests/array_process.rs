//! Arrays between processes: forked children, killed holders, killed makers.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    fs,
    io::{Read, Write, pipe},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use shmring::{
    Error,
    array::{SharedArray1, after_fork},
    cleanup, fault,
    named::{self, Ledger},
};
use testkit::{forked as child, join};

const LATE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(50);

/// A forked child's copy of a value of its parent, which it may drop.
fn copy_of<T>(value: &T) -> T {
    // SAFETY: only a child does this, once, and it ends without dropping the original.
    unsafe { std::ptr::read(value) }
}

fn kill(pid: Pid) {
    assert!(testkit::kill9(pid.as_raw() as u32));
    waitpid(pid, None).unwrap();
}

/// A child that has done `body`, and lives until it is killed.
fn sleeper(body: impl FnOnce()) -> Pid {
    let (mut ready, mut write) = pipe().unwrap();
    let pid = child(|| {
        body();
        write.write_all(&[1]).unwrap();
        loop {
            thread::sleep(LATE);
        }
    });
    ready.read_exact(&mut [0]).unwrap();
    pid
}

fn path_of(name: &str) -> PathBuf {
    shmring::names::path(name, shmring::names::Kind::Array).unwrap()
}

fn a_killed_writer_frees_the_lock() {
    let name = testkit::name("writer");
    let array = SharedArray1::<u64>::create(&name, 64).unwrap();
    let writer = sleeper(|| {
        let mut theirs = SharedArray1::<u64>::open(&name).unwrap();
        let mut guard = theirs.write().unwrap();
        guard.fill(1);
        std::mem::forget(guard);
        std::mem::forget(theirs);
    });
    assert!(array.try_read().unwrap().is_none());
    kill(writer);
    assert_eq!(array.read_timeout(LATE).unwrap().sum(), 64);
}

fn a_killed_reader_frees_the_lock() {
    let mut array = SharedArray1::<u64>::anonymous(64).unwrap();
    // Inherited, so the child opens a description of its own at first use.
    let reader = sleeper(|| std::mem::forget(array.read().unwrap()));
    assert!(array.try_write().unwrap().is_none());
    assert!(array.try_read().unwrap().is_some());
    kill(reader);
    assert!(array.write_timeout(LATE).is_ok());
}

fn a_forked_childs_copy_of_a_guard_locks_nothing() {
    let mut array = SharedArray1::<u8>::anonymous(4).unwrap();
    let other = array.try_clone().unwrap();
    let guard = array.write().unwrap();
    join(child(|| {
        // The child has no lock, so it sees and writes nothing by it.
        let mut copy = copy_of(&guard);
        assert!(catch_unwind(AssertUnwindSafe(|| copy[0])).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| copy.fill(1))).is_err());
        // Its end in the child must not free the parent's lock.
        drop(copy);
        assert!(other.try_read().unwrap().is_none());
    }));
    assert!(other.try_read().unwrap().is_none());
    drop(guard);
    assert!(other.try_read().unwrap().is_some());
}

fn a_childs_guards_do_not_touch_its_parents() {
    let mut array = SharedArray1::<u8>::anonymous(4).unwrap();
    let guard = array.read().unwrap();
    join(child(|| {
        // The very same handle, inherited: reads beside its parent, and its end frees its own lock.
        drop(array.read().unwrap());
    }));
    let mut other = array.try_clone().unwrap();
    assert!(other.try_write().unwrap().is_none(), "the child's end freed our lock");
    drop(guard);
    let _writing = array.write().unwrap();
    join(child(|| assert!(other.try_write().unwrap().is_none())));
}

/// A holder that forks and is then killed, while the child lives on and does not use the array.
fn holder_with_child(in_child: fn()) -> (SharedArray1<u8>, u32) {
    let name = testkit::name("holder");
    let mut array = SharedArray1::<u8>::create(&name, 4).unwrap();
    let (mut pids, mut write) = pipe().unwrap();
    let holder = sleeper(|| {
        let mut theirs = SharedArray1::<u8>::open(&name).unwrap();
        let idle = sleeper(in_child);
        write.write_all(&idle.as_raw().to_ne_bytes()).unwrap();
        std::mem::forget(theirs.write().unwrap());
        std::mem::forget(theirs);
    });
    let mut idle = [0; 4];
    pids.read_exact(&mut idle).unwrap();
    assert!(array.try_write().unwrap().is_none());
    kill(holder);
    (array, u32::from_ne_bytes(idle))
}

fn a_child_that_left_its_parents_locks_holds_none() {
    let (mut array, idle) = holder_with_child(after_fork);
    assert!(array.write_timeout(LATE).is_ok());
    assert!(testkit::kill9(idle));
}

fn a_child_that_did_not_holds_them_until_it_ends() {
    let (mut array, idle) = holder_with_child(|| {});
    assert!(array.write_timeout(SOON).is_err());
    assert!(testkit::kill9(idle));
    assert!(array.write_timeout(LATE).is_ok());
}

fn a_killed_maker_leaves_nothing_or_a_stale_file(point: &'static str, leaves: bool) {
    let name = testkit::name("maker");
    let path = path_of(&name);
    let maker = child(|| {
        fault::arm(point, 1);
        let made = SharedArray1::<u8>::create(&name, 4);
        panic!("it passed {point}: {made:?}");
    });
    let status = waitpid(maker, None).unwrap();
    assert!(
        matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)),
        "{status:?}"
    );
    assert_eq!(path.exists(), leaves);
    if leaves {
        // What is there is complete, and everybody can tell that it is stale.
        assert!(cleanup::stale().unwrap().iter().any(|stale| stale.path == path));
        assert!(SharedArray1::<u8>::open(&name).is_ok());
        let refused = SharedArray1::<u8>::create(&name, 4);
        assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
        assert!(named::remove_if_stale(&path).unwrap());
    }
    let made = SharedArray1::<u8>::create(&name, 4).unwrap();
    drop(made);
    assert!(!path.exists());
}

/// A frontend makes an array after it started its backend, and is killed at `point` or later.
fn a_killed_owners_child_removes_its_names(point: Option<&'static str>) {
    let (early, late) = (testkit::name("early"), testkit::name("late"));
    let foreign = testkit::name("foreign");
    let (mut removed, write) = pipe().unwrap();
    let (died, alive) = pipe().unwrap();
    let frontend = || {
        let early = SharedArray1::<u8>::create(&early, 4).unwrap();
        let ledger = Ledger::ours().unwrap();
        let backend = child(|| {
            drop(copy_of(&alive));
            // The pipe ends when the frontend does.
            let _ = (&died).read(&mut [0]);
            // Names of the backend itself stand in a ledger of its own.
            let own = SharedArray1::<u8>::create(&foreign, 4).unwrap();
            let count = ledger.remove_all();
            assert_eq!(ledger.remove_all(), 0);
            assert!(own.path().unwrap().exists());
            drop(own);
            (&write).write_all(&[count as u8]).unwrap();
        });
        let _ = backend;
        if let Some(point) = point {
            fault::arm(point, 1);
        }
        let late = SharedArray1::<u8>::create(&late, 4).unwrap();
        let mut kept = SharedArray1::<u8>::create(&testkit::name("kept"), 4).unwrap();
        kept.keep();
        kept.unlink().unwrap();
        std::mem::forget((early, late));
        testkit::kill9(std::process::id());
    };
    let frontend = child(frontend);
    drop((died, alive, write));
    waitpid(frontend, None).unwrap();
    let mut count = Vec::new();
    removed.read_to_end(&mut count).unwrap();
    let expected = if point == Some("named.entered") { 1 } else { 2 };
    assert_eq!(count, [expected]);
    assert!(!path_of(&early).exists());
    assert!(!path_of(&late).exists());
}

fn a_forked_child_does_not_remove_its_parents_name() {
    let name = testkit::name("fork");
    let path = path_of(&name);
    let array = SharedArray1::<u8>::create(&name, 4).unwrap();
    join(child(|| drop(copy_of(&array))));
    assert!(path.exists());
    drop(array);
    assert!(!path.exists());
}

fn in_use_is_seen_through_a_childs_mapping() {
    let name = testkit::name("mapping");
    let path = path_of(&name);
    let mut array = SharedArray1::<u8>::create(&name, 4).unwrap();
    array.keep();
    let user = sleeper(|| {});
    drop(array);
    assert!(!named::remove_if_stale(&path).unwrap(), "the forked child still uses it");
    assert!(path.exists());
    kill(user);
    assert!(named::remove_if_stale(&path).unwrap());
}

fn cleaners_never_take_what_is_in_use() {
    let name = testkit::name("race");
    let path = path_of(&name);
    let end = Instant::now() + Duration::from_millis(700);
    let cleaner = child(|| {
        let mut removed = 0;
        while Instant::now() < end {
            removed += u32::from(named::remove_if_stale(&path).unwrap());
        }
        assert!(removed > 10, "{removed}");
    });
    let users = [0; 2].map(|_| {
        child(|| {
            let mut used = 0;
            while Instant::now() < end {
                let options = SharedArray1::<u8>::options().keep(true);
                let array = options.open_or_create(&name, 4, LATE).unwrap();
                assert!(!named::remove_if_stale(&path).unwrap());
                assert!(path.exists());
                drop(array);
                used += 1;
                // Lets the cleaner have its turn.
                thread::sleep(Duration::from_micros(200));
            }
            assert!(used > 10, "{used}");
        })
    });
    join(cleaner);
    for user in users {
        join(user);
    }
    let _ = fs::remove_file(&path);
}

fn main() -> ExitCode {
    let mut tests = vec![
        testkit::test!(a_killed_writer_frees_the_lock),
        testkit::test!(a_killed_reader_frees_the_lock),
        testkit::test!(a_forked_childs_copy_of_a_guard_locks_nothing),
        testkit::test!(a_childs_guards_do_not_touch_its_parents),
        testkit::test!(a_child_that_left_its_parents_locks_holds_none),
        testkit::test!(a_child_that_did_not_holds_them_until_it_ends),
        testkit::test!(a_forked_child_does_not_remove_its_parents_name),
        testkit::test!(in_use_is_seen_through_a_childs_mapping),
        testkit::test!(cleaners_never_take_what_is_in_use),
    ];
    for (point, leaves) in [
        ("named.made", false),
        ("named.allocated", false),
        ("named.locked", false),
        ("named.filled", false),
        ("named.entered", false),
        ("named.linked", true),
        ("array.owned", true),
    ] {
        tests.push(testkit::Test::new(format!("a_maker_killed_at_{point}"), move || {
            a_killed_maker_leaves_nothing_or_a_stale_file(point, leaves);
        }));
    }
    for point in [None, Some("named.entered"), Some("named.linked"), Some("array.owned")] {
        let name = format!("an_owner_killed_at_{}", point.unwrap_or("the_end"));
        tests.push(testkit::Test::new(name, move || {
            a_killed_owners_child_removes_its_names(point);
        }));
    }
    testkit::run(tests)
}
