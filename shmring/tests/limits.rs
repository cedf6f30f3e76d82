//! What this library says, and leaves behind, where the system has no more to give or a file is
//! not what it should be.

#![allow(clippy::disallowed_methods)] // These tests are about processes.

use std::{
    ffi::CString,
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::PathBuf,
    process::ExitCode,
    ptr,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, Uid, geteuid, setuid},
};
use shmring::{
    Error, RecvError, Segment, array::SharedArray1, block::BlockPool, ring::records::Records,
};

type Failure = Box<dyn std::error::Error>;

fn ring_path(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/shmring.{name}.ring"))
}

fn array_path(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/shmring.{name}.npy"))
}

fn ring(name: &str) -> shmring::Result<Records> {
    Records::options().capacity(1 << 16).create(name)
}

/// Whether the message of an error names all of these.
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

type Way = Box<dyn Fn() -> shmring::Result<()>>;

/// Everything that makes or opens something, each under a name of its own.
fn each_way(name: &str) -> Vec<(&'static str, Way)> {
    let there = format!("{name}.there");
    let new = format!("{name}.new");
    let array_there = there.clone();
    let array_new = new.clone();
    vec![
        ("open a ring", Box::new(move || Records::open(&there).map(drop))),
        ("make a named ring", Box::new(move || ring(&new).map(drop))),
        ("make a ring", Box::new(|| Records::options().capacity(4096).anonymous().map(drop))),
        (
            "make a pool",
            Box::new(|| BlockPool::options().blocks(2).block_len(64).anonymous().map(drop)),
        ),
        (
            "take both ends",
            Box::new(|| Records::options().capacity(4096).anonymous()?.split().map(drop)),
        ),
        ("open an array", Box::new(move || SharedArray1::<u8>::open(&array_there).map(drop))),
        ("make an array", Box::new(move || SharedArray1::<u8>::create(&array_new, 10).map(drop))),
    ]
}

/// Nothing is there but what `each_way` opens.
fn nothing_left(name: &str) {
    for path in [ring_path(&format!("{name}.new")), array_path(&format!("{name}.new"))] {
        assert!(fs::symlink_metadata(&path).is_err(), "{path:?} is left");
    }
}

/// What `each_way` opens, made and held by another process until this is dropped.
struct Elsewhere {
    stop: Option<io::PipeWriter>,
    pid: Pid,
}

impl Elsewhere {
    fn new(name: &str) -> Result<Elsewhere, Failure> {
        let there = format!("{name}.there");
        let (mut until, stop) = io::pipe()?;
        let (mut ready, done) = io::pipe()?;
        let pid = testkit::forked(|| {
            // Only the parent keeps this end open.
            // SAFETY: the child's copy, which it does not use again.
            drop(unsafe { ptr::read(&raw const stop) });
            let _ring = ring(&there).unwrap();
            let _array = SharedArray1::<u8>::create(&there, 10).unwrap();
            (&done).write_all(&[1]).unwrap();
            let _ = until.read(&mut [0]);
        });
        drop((until, done));
        ready.read_exact(&mut [0])?;
        Ok(Elsewhere { stop: Some(stop), pid })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.stop.take());
        assert!(matches!(waitpid(self.pid, None), Ok(WaitStatus::Exited(_, 0))));
    }
}

fn no_descriptors() -> Result<(), Failure> {
    let name = testkit::name("fds");
    let _elsewhere = Elsewhere::new(&name)?;
    let ways = each_way(&name);
    for (what, way) in &ways {
        way().map_err(|error| format!("{what}: {error}"))?;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let before = testkit::fd_count();
    // The limit is one of numbers: below the first free one, none may be missing.
    let mut plugs = Vec::new();
    let open = loop {
        let plug = File::open("/dev/null")?;
        let highest = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .max();
        // The list itself has the next one.
        if highest == Some(plug.as_raw_fd() + 1) {
            break plug.as_raw_fd();
        }
        plugs.push(plug);
    };
    let before = before + plugs.len();
    for (what, way) in &ways {
        let mut refused = 0;
        // One descriptor more each time, so that each step meets the limit once.
        for more in 0..16 {
            setrlimit(Resource::RLIMIT_NOFILE, (open + more) as u64, hard)?;
            let result = way();
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
            nothing_left(&name);
            assert_eq!(testkit::fd_count(), before, "{what}, with {more} left: {result:?}");
            match result {
                Ok(()) => break,
                Err(error) => says(&error, &["Too many open files", "cannot "]),
            }
            refused += 1;
        }
        assert!(refused > 0, "{what} takes no descriptor at all");
        assert!(refused < 16, "{what} never worked");
        way().map_err(|error| format!("afterwards {what}: {error}"))?;
    }
    Ok(())
}

/// Where no descriptor is left to look at others by, they live.
fn no_descriptor_to_look_at_others() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let last = testkit::first_free_fd()?;
    for free in 0..4 {
        let segment = Segment::options().len(1 << 20).anonymous()?;
        let pool = BlockPool::options().blocks(2).block_len(64).create_in(&segment)?;
        let ring = Records::options().capacity(1024).create_in(&segment)?;
        let mut rx = ring.consumer()?;
        let (mut ready, done) = io::pipe()?;
        let (mut until, stop) = io::pipe()?;
        let pid = testkit::forked(|| {
            // SAFETY: the child's copy, which it does not use again.
            drop(unsafe { ptr::read(&raw const stop) });
            let _tx = ring.producer().unwrap();
            let loan = pool.loan().unwrap();
            (&done).write_all(&[1]).unwrap();
            let _ = until.read(&mut [0]);
            std::mem::forget(loan);
            shmring::os::kill_self();
        });
        ready.read_exact(&mut [0])?;
        setrlimit(Resource::RLIMIT_NOFILE, testkit::first_free_fd()? as u64 + free, hard)?;
        let received = rx.recv_timeout(Duration::from_millis(250)).map(drop);
        let repaired = segment.repair();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        assert_eq!(received, Err(RecvError::TimedOut), "with {free} left");
        assert_eq!((repaired, pool.in_use()), (0, 1), "with {free} left");
        // And its death is seen as soon as there are some.
        drop(stop);
        assert!(matches!(waitpid(pid, None)?, WaitStatus::Signaled(..)));
        assert!(matches!(rx.recv().map(drop), Err(RecvError::PeerDied { .. })), "with {free} left");
        assert_eq!((segment.repair(), pool.in_use()), (1, 0), "with {free} left");
    }
    assert_eq!(testkit::first_free_fd()?, last);
    Ok(())
}

/// A limit of files is an error, not the signal that the kernel has for it.
fn no_long_files() -> Result<(), Failure> {
    let name = testkit::name("long");
    let ways = each_way(&name);
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    for limit in [0, 100] {
        setrlimit(Resource::RLIMIT_FSIZE, limit, hard)?;
        let results: Vec<_> = ways.iter().map(|(what, way)| (what, way())).collect();
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard)?;
        nothing_left(&name);
        for (what, result) in results.into_iter().filter(|(what, _)| !what.starts_with("open")) {
            says(&result.expect_err(what), &["cannot ", "File too large"]);
        }
    }
    Ok(())
}

/// A bell of a named segment has to be opened to be rung. Where that cannot be, the next one who
/// rings tries again.
fn no_descriptor_to_ring() -> Result<(), Failure> {
    let name = testkit::name("bell");
    let ring = ring(&name)?;
    let mut rx = ring.consumer()?;
    let (mut next, go) = io::pipe()?;
    let (mut sent, said) = io::pipe()?;
    let pid = testkit::forked(|| {
        let mut tx = Records::open(&name).unwrap().producer().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        for limit in [testkit::first_free_fd().unwrap() as u64, hard] {
            next.read_exact(&mut [0]).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
            tx.send([1]).unwrap();
            (&said).write_all(&[1]).unwrap();
        }
        // Till both were looked at.
        next.read_exact(&mut [0]).unwrap();
    });
    assert!(rx.arm(), "there is something already");
    for _ in 0..2 {
        (&go).write_all(&[1])?;
        sent.read_exact(&mut [0])?;
    }
    let bell = rx.bell().expect("it was made with bells");
    let mut poll = [PollFd::new(bell, PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut poll, 10_000_u16)?, 1, "the second one rings for both");
    for _ in 0..2 {
        rx.recv()?;
    }
    (&go).write_all(&[1])?;
    assert!(matches!(waitpid(pid, None)?, WaitStatus::Exited(_, 0)));
    Ok(())
}

/// Maps single pages until the kernel allows no more; neighbours differ, so that they stay apart.
fn exhaust_maps() -> Vec<*mut libc::c_void> {
    let mut maps = Vec::with_capacity(1 << 20);
    loop {
        let protection = if maps.len() % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
        // SAFETY: a new mapping, wherever the kernel likes.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
            return maps;
        }
        maps.push(map);
    }
}

fn no_maps() -> Result<(), Failure> {
    let limit: usize = fs::read_to_string("/proc/sys/vm/max_map_count")?.trim().parse()?;
    if limit > 1 << 20 {
        testkit::ignore(format!("this system allows {limit} mappings, too many to use up"));
    }
    let name = testkit::name("maps");
    let _elsewhere = Elsewhere::new(&name)?;
    let ways = each_way(&name);
    for (what, way) in &ways {
        way().map_err(|error| format!("{what}: {error}"))?;
    }
    let before = testkit::fd_count();
    let maps = exhaust_maps();
    let results: Vec<_> = ways.iter().map(|(_, way)| way()).collect();
    for map in maps {
        // SAFETY: one of the pages made above, which nobody uses.
        unsafe { libc::munmap(map, 4096) };
    }
    nothing_left(&name);
    for ((what, way), result) in ways.iter().zip(results) {
        let error = result.expect_err(what);
        says(&error, &["cannot ", "memory"]);
        way().map_err(|error| format!("afterwards {what}: {error}"))?;
    }
    assert_eq!(testkit::fd_count(), before);
    Ok(())
}

/// Puts a small file system of its own in the place of `/dev/shm`, for this process alone.
fn small_shm(bytes: u64) -> Result<(), String> {
    let check = |result: libc::c_int, what: &str| match result {
        -1 => Err(format!("{what}: {}", io::Error::last_os_error())),
        _ => Ok(()),
    };
    let root = geteuid().is_root();
    let spaces = libc::CLONE_NEWNS | if root { 0 } else { libc::CLONE_NEWUSER };
    let options = CString::new(format!("size={bytes},mode=1777")).expect("no zero in it");
    // SAFETY: each call takes numbers and C strings that live through it.
    unsafe {
        check(libc::unshare(spaces), "unshare")?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()), "mount")?;
        check(
            libc::mount(
                c"tmpfs".as_ptr(),
                c"/dev/shm".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            ),
            "mount",
        )
    }
}

fn no_room() -> Result<(), Failure> {
    if let Err(reason) = small_shm(1 << 20) {
        testkit::ignore(format!("no /dev/shm of its own: {reason}"));
    }
    let name = testkit::name("room");
    let full = |error: Error, needed: u64| {
        says(&error, &["needed", "free in /dev/shm"]);
        match error {
            Error::OutOfShm { needed: said, free, .. } => {
                assert!(said >= needed && free < said, "{said} needed, {free} free");
            }
            other => panic!("{other}"),
        }
        assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0, "something is left");
    };
    full(Records::options().capacity(2 << 20).create(&name).unwrap_err(), 2 << 20);
    full(SharedArray1::<u8>::create(&name, 2 << 20).unwrap_err(), 2 << 20);
    // Just too much: what is filled is filled by others, not by the size asked for.
    let file = File::create("/dev/shm/other")?;
    file.set_len(0)?;
    drop(file);
    fs::write("/dev/shm/other", vec![1; 700 << 10])?;
    let error = ring_of(&name, 512 << 10).unwrap_err();
    says(&error, &["free in /dev/shm"]);
    assert_eq!(fs::read_dir("/dev/shm")?.count(), 1);
    fs::remove_file("/dev/shm/other")?;
    // With room again, all works; and what a ring was given, it has.
    let ring = ring_of(&name, 512 << 10)?;
    assert!(fs::write("/dev/shm/other", vec![1; 700 << 10]).is_err(), "there is too much room");
    let (mut tx, mut rx) = ring.split()?;
    for _ in 0..64 {
        let filled = [7; 16 << 10];
        tx.send(&filled[..]).map_err(|error| error.map(drop))?;
        assert!(*rx.recv()? == filled);
    }
    Ok(())
}

/// What several make at once is too much, though there is room for what one of them makes.
fn room_for_one() -> Result<(), Failure> {
    const LEN: usize = 24 << 20;
    if let Err(reason) = small_shm(40 << 20) {
        testkit::ignore(format!("no /dev/shm of its own: {reason}"));
    }
    type Make = fn(&str) -> shmring::Result<Box<dyn std::any::Any>>;
    let make_ring: Make =
        |name| Ok(Box::new(Records::options().capacity(LEN).create_or_open(name)?));
    let make_array: Make = |name| {
        Ok(Box::new(SharedArray1::<u8>::open_or_create(name, LEN, Duration::from_secs(20))?))
    };
    for make in [make_ring, make_array].repeat(4) {
        let name = testkit::name("one");
        let (go, begin) = io::pipe()?;
        let (until, stop) = io::pipe()?;
        let (mut ready, done) = io::pipe()?;
        let mut ends = Some((begin, stop));
        let children: Vec<_> = (0..4)
            .map(|_| {
                testkit::forked(|| {
                    drop(ends.take());
                    let wait = |mut pipe: &io::PipeReader| pipe.read(&mut [0]).unwrap();
                    wait(&go);
                    let made = make(&name);
                    (&done).write_all(&[u8::from(made.is_ok())]).unwrap();
                    // Who has made it keeps its name until all have it.
                    wait(&until);
                    made.unwrap();
                })
            })
            .collect();
        let (begin, stop) = ends.take().expect("only the children dropped theirs");
        drop(begin);
        let mut made = [0; 4];
        ready.read_exact(&mut made)?;
        drop(stop);
        children.into_iter().for_each(testkit::join);
        assert_eq!(made, [1; 4]);
    }
    // Where there is none for anybody, nobody waits for others.
    let since = Instant::now();
    let error = Records::options().capacity(2 * LEN).create_or_open(&testkit::name("one"));
    says(&error.unwrap_err(), &["free in /dev/shm"]);
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    Ok(())
}

fn ring_of(name: &str, capacity: usize) -> shmring::Result<Records> {
    Records::options().capacity(capacity).create(name)
}

/// Files of all kinds in the place of a segment.
fn not_a_segment() -> Result<(), Failure> {
    let name = testkit::name("other");
    let (ring_path, array_path) = (ring_path(&name), array_path(&name));
    for path in [&ring_path, &array_path] {
        let open = || match path.extension().and_then(|extension| extension.to_str()) {
            Some("ring") => Records::open(&name).map(drop).unwrap_err(),
            _ => SharedArray1::<u8>::open(&name).map(drop).unwrap_err(),
        };
        let create = || match path.extension().and_then(|extension| extension.to_str()) {
            Some("ring") => ring(&name).map(drop).unwrap_err(),
            _ => SharedArray1::<u8>::create(&name, 3).map(drop).unwrap_err(),
        };
        let shown = path.to_str().expect("a plain path");

        let target = testkit::name("target");
        let target = PathBuf::from(format!("/dev/shm/{target}"));
        symlink(&target, path)?;
        says(&open(), &[shown, "symbolic link"]);
        says(&create(), &[shown, "symbolic link"]);
        assert!(!target.exists(), "the link was followed");
        fs::remove_file(path)?;

        fs::create_dir(path)?;
        says(&open(), &[shown, "directory"]);
        says(&create(), &[shown, "directory"]);
        fs::remove_dir(path)?;

        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?;
        let since = Instant::now();
        says(&open(), &[shown, "not a regular file"]);
        says(&create(), &[shown, "not a regular file"]);
        assert!(since.elapsed() < Duration::from_secs(5));
        fs::remove_file(path)?;

        fs::write(path, "")?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        says(&open(), &[shown]);
        says(&create(), &[shown, "exists"]);
        fs::write(path, vec![0xa5; 9000])?;
        says(&open(), &[shown]);
        assert_eq!(fs::read(path)?, vec![0xa5; 9000], "a file of somebody else was changed");

        fs::set_permissions(path, Permissions::from_mode(0o644))?;
        says(&open(), &[shown, "0644", "0600"]);
        fs::remove_file(path)?;
    }
    Ok(())
}

fn needs_root() -> Option<&'static str> {
    (!geteuid().is_root()).then_some("only root can make files of other users")
}

const NOBODY: u32 = 65534;

fn of_another_user() -> Result<(), Failure> {
    let name = testkit::name("user");
    let foreign = ring(&name)?;
    chown(ring_path(&name), Some(NOBODY), None)?;
    says(&Records::open(&name).unwrap_err(), &["belongs to user 65534", "we are user 0"]);
    drop(foreign);
    assert!(!ring_path(&name).exists());

    // And seen from the other side: it may not even be opened.
    let _ring = ring(&format!("{name}.root"))?;
    let child = testkit::forked(|| {
        setuid(Uid::from_raw(NOBODY)).expect("root may become anybody");
        let error = Records::open(&format!("{name}.root")).unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{error}");
        says(&error, &["cannot be trusted", "may not be opened"]);
    });
    assert!(matches!(waitpid(child, None)?, WaitStatus::Exited(_, 0)));
    Ok(())
}

/// A directory that takes no new files.
fn no_permission() -> Result<(), Failure> {
    if small_shm(1 << 20).is_err() {
        testkit::ignore("no /dev/shm of its own");
    }
    if !geteuid().is_root() {
        testkit::ignore("only root can give the directory to somebody else");
    }
    fs::set_permissions("/dev/shm", Permissions::from_mode(0o755))?;
    setuid(Uid::from_raw(NOBODY))?;
    let name = testkit::name("closed");
    says(&ring(&name).unwrap_err(), &["cannot ", "ermission denied"]);
    says(&SharedArray1::<u8>::create(&name, 3).unwrap_err(), &["cannot ", "ermission denied"]);
    // What needs no name still works.
    Segment::options().len(4096).anonymous()?;
    Ok(())
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(no_descriptors),
        testkit::test!(no_descriptor_to_look_at_others),
        testkit::test!(no_descriptor_to_ring),
        testkit::test!(no_long_files),
        testkit::test!(no_maps),
        testkit::test!(no_room),
        testkit::test!(room_for_one),
        testkit::test!(not_a_segment),
        testkit::test!(of_another_user, ignore_if = needs_root),
        testkit::test!(no_permission),
    ])
}
