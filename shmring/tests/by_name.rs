//! Two programs of which neither started the other with anything but a name: what one has made in a
//! named segment, the other opens.
//!
//! The other program is this file run again, with its part and the name in its environment.

#![allow(clippy::disallowed_methods)] // Starts another program.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shmring::{
    Error, Segment,
    block::{Block, BlockPool, BlockPools},
    board::Board,
    cleanup, fault, named, names, os,
    ring::{
        broadcast::Broadcast,
        cells::Cells,
        latest::Latest,
        port,
        queue::{self, Queue},
        records::Records,
    },
};

const LATE: Duration = Duration::from_secs(20);
const PART: &str = "SHMRING_TEST_PART";
const NAME: &str = "SHMRING_TEST_NAME";

type Part = fn(&str);

/// What the other program can be asked to do.
const PARTS: [(&str, Part); 6] = [
    ("doubles", doubles),
    ("holds", holds),
    ("adds", adds),
    ("opens_all", opens_all),
    ("hundred", hundred),
    ("comes_too", comes_too),
];

fn other(part: &str, name: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(PART, part).env(NAME, name).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn join(mut other: Child) {
    assert!(other.wait().unwrap().success());
}

fn pool() -> shmring::block::Options {
    BlockPool::options().blocks(4).block_len(4096)
}

/// A pool, and a ring for each direction, made before anybody sees them.
fn pool_and_rings(name: &str) -> (BlockPool, Records, Records) {
    let options = Segment::options().len(1 << 20).participants(4);
    let make = |segment: &Segment| {
        let pool = pool().create_in(segment)?;
        let there = Records::options().create_in(segment)?;
        let back = Records::options().create_in(segment)?;
        Ok((pool, there, back))
    };
    let (_, made) = options.create_with(name, make).unwrap();
    assert_eq!([made.0.number(), made.1.number(), made.2.number()], [0, 1, 2]);
    made
}

/// Answers each block by another with its numbers doubled.
fn doubles(name: &str) {
    let segment = Segment::open_or_wait(name, LATE).unwrap();
    let pool = BlockPool::open_in(&segment, 0).unwrap();
    let there = Records::open_in(&segment, 1).unwrap().consumer().unwrap();
    let back = Records::open_in(&segment, 2).unwrap().producer().unwrap();
    let mut rx = port::Receiver::<Block>::new(there);
    let mut tx = port::Sender::<Block>::new(back);
    while let Ok(block) = rx.recv_timeout(LATE) {
        let mut answer = pool.loan_timeout(LATE).unwrap();
        let doubled: Vec<u8> = block.as_bytes().iter().map(|byte| byte * 2).collect();
        answer.as_bytes_mut().copy_from_slice(&doubled);
        tx.send(answer.freeze()).unwrap();
    }
}

fn blocks_go_there_and_back() {
    let name = testkit::name("blocks");
    let other = other("doubles", &name);
    let (pool, there, back) = pool_and_rings(&name);
    let mut tx = port::Sender::<Block>::new(there.producer().unwrap());
    let mut rx = port::Receiver::<Block>::new(back.consumer().unwrap());
    for number in 0..100 {
        let mut block = pool.loan_timeout(LATE).unwrap();
        block.as_bytes_mut().fill(number);
        tx.send(block.freeze()).unwrap();
        let answer = rx.recv_timeout(LATE).unwrap();
        assert!(answer.as_bytes().iter().all(|byte| *byte == 2 * number));
    }
    drop(tx);
    join(other);
    drop(rx);
    assert_eq!(pool.in_use(), 0);
}

/// Takes what there is, says so, and never gives it back.
fn holds(name: &str) {
    let segment = Segment::open_or_wait(name, LATE).unwrap();
    let there = Records::open_in(&segment, 1).unwrap().consumer().unwrap();
    let back = Records::open_in(&segment, 2).unwrap().producer().unwrap();
    let mut rx = port::Receiver::<Block>::new(there);
    let mut tx = port::Sender::<u64>::new(back);
    let held: Vec<_> = (0..3).map(|_| rx.recv_timeout(LATE).unwrap()).collect();
    tx.send(held.len() as u64).unwrap();
    std::thread::sleep(LATE);
}

fn what_a_killed_program_held_comes_back() {
    let name = testkit::name("held");
    let (pool, there, back) = pool_and_rings(&name);
    let mut other = other("holds", &name);
    let mut tx = port::Sender::<Block>::new(there.producer().unwrap());
    for _ in 0..3 {
        tx.send(pool.try_loan().unwrap().freeze()).unwrap();
    }
    let mut rx = port::Receiver::<u64>::new(back.consumer().unwrap());
    assert_eq!(rx.recv_timeout(LATE).unwrap(), 3);
    assert_eq!(pool.in_use(), 3);
    other.kill().unwrap();
    other.wait().unwrap();
    let blocks: Vec<_> = (0..4).map(|_| pool.loan_timeout(LATE).unwrap()).collect();
    drop(blocks);
    assert_eq!(pool.in_use(), 0);
}

/// Opens the pools and the ring beside them by the name alone.
fn adds(name: &str) {
    let pools = BlockPools::open(name).unwrap();
    let ring = Records::open(name).unwrap();
    assert!(ring.segment().name() == Some(name) && ring.number() == pools.number() + 1);
    let mut tx = port::Sender::<Block>::new(ring.producer().unwrap());
    for len in [10, 5000] {
        let mut block = pools.try_loan(len).unwrap();
        block.as_bytes_mut().fill(7);
        tx.send(block.freeze()).unwrap();
    }
}

fn pools_by_name_and_a_ring_beside_them() {
    let name = testkit::name("pools");
    let pools = BlockPools::options().class(8192, 2).class(100, 2).create(&name).unwrap();
    let ring = Records::options().capacity(4096).create_in(pools.segment()).unwrap();
    let other = other("adds", &name);
    let mut rx = port::Receiver::<Block>::new(ring.consumer().unwrap());
    for len in [10, 5000] {
        let block = rx.recv_timeout(LATE).unwrap();
        assert_eq!(block.as_bytes(), vec![7; len]);
    }
    join(other);
    assert_eq!(pools.in_use(), 0);
}

/// Two of each kind: the first are opened by the name of the segment, the second by their numbers.
fn opens_all(name: &str) {
    let segment = Segment::open(name).unwrap();
    // What is not there, and what is something else: never the wrong ring.
    macro_rules! both {
        ($at:expr, $kind:ty, $size:expr) => {
            assert_eq!(<$kind>::open(name).unwrap().number(), $at);
            let first = <$kind>::open_in(&segment, $at).unwrap();
            let second = <$kind>::open_in(&segment, $at + 1).unwrap();
            assert_eq!((second.number(), second.segment().name()), ($at + 1, Some(name)));
            let size: fn(&$kind) -> usize = $size;
            assert_eq!((size(&first), size(&second)), (256, 512));
            for number in 0..16 {
                let found = <$kind>::open_in(&segment, number);
                match (number == $at || number == $at + 1, found) {
                    (true, Ok(ring)) => assert_eq!(ring.number(), number),
                    (false, Err(Error::WrongType { .. })) => {}
                    (_, other) => panic!("{number}: {other:?}"),
                }
            }
            let error = <$kind>::open_in(&segment, 16).unwrap_err();
            assert!(matches!(error, Error::NotASegment { .. }), "{error}");
            let error = <$kind>::open_in(&segment, 99).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        };
    }
    both!(0, Records, Records::capacity);
    both!(2, Cells<u64>, Cells::capacity);
    both!(4, Queue, Queue::capacity);
    both!(6, Broadcast, Broadcast::capacity);
    both!(8, Latest<[u8]>, |latest| latest.reader().get().unwrap().len());
    both!(10, Board, Board::words);
    // A pool of the set comes before the set.
    let pools = BlockPools::open(name).unwrap();
    assert_eq!((pools.number(), pools.block_len()), (15, 512));
    assert_eq!(BlockPool::open(name).unwrap().block_len(), 256);
    let error = Cells::<f32>::open_in(&segment, 2).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    let error = Latest::<u64>::open_in(&segment, 8).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
}

fn all_kinds_by_their_numbers() {
    let name = testkit::name("kinds");
    let segment = Segment::options().len(1 << 20).objects(17).create(&name).unwrap();
    for size in [256, 512] {
        Records::options().capacity(size).create_in(&segment).unwrap();
    }
    for size in [256, 512] {
        Cells::<u64>::options().capacity(size).create_in(&segment).unwrap();
    }
    for size in [256, 512] {
        Queue::options().capacity(size).create_in(&segment).unwrap();
    }
    for size in [256, 512] {
        Broadcast::options().capacity(size).create_in(&segment).unwrap();
    }
    for size in [256, 512] {
        let latest = Latest::<[u8]>::options().max_len(size).create_in(&segment).unwrap();
        latest.writer().unwrap().set(&vec![0; size]).unwrap();
    }
    for size in [256, 512] {
        Board::options().words(size).create_in(&segment).unwrap();
    }
    for size in [256, 512] {
        BlockPool::options().blocks(1).block_len(size).create_in(&segment).unwrap();
    }
    BlockPools::options().class(512, 1).create_in(&segment).unwrap();
    join(other("opens_all", &name));
}

const HUNDRED: u32 = 100;

/// A word from each ring, over one descriptor and one map.
fn hundred(name: &str) {
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let (descriptors, before) = (testkit::fd_count(), maps());
    let segment = Segment::open(name).unwrap();
    let rings: Vec<_> = (0..HUNDRED)
        .map(|number| Records::open_in(&segment, number).unwrap().consumer().unwrap())
        .collect();
    for (number, mut ring) in rings.into_iter().enumerate() {
        let word = ring.recv_timeout(LATE).unwrap();
        assert_eq!(*word, number.to_le_bytes());
        drop(word);
        assert!(testkit::fd_count() - descriptors <= 4, "{number}");
        assert!(maps() - before <= 8, "{}", maps() - before);
    }
}

fn a_hundred_rings_over_one_map() {
    let name = testkit::name("hundred");
    let ring = || Records::options().capacity(256);
    let len = HUNDRED as usize * ring().len_in_segment().unwrap();
    let segment = Segment::options().len(len).objects(HUNDRED as usize).create(&name).unwrap();
    let _ends: Vec<_> = (0..HUNDRED as usize)
        .map(|number| {
            let mut tx = ring().create_in(&segment).unwrap().producer().unwrap();
            tx.send(number.to_le_bytes()).unwrap();
            tx
        })
        .collect();
    join(other("hundred", &name));
}

/// Has the pool and the ring, whoever makes them, and takes one block.
fn comes_too(name: &str) {
    let pools = BlockPools::options().class(64, 2).create_or_open(name).unwrap();
    let one = BlockPool::open(name).unwrap();
    assert!(one.is_same(&pools.classes()[0]));
    drop(pools.loan_timeout(10, LATE).unwrap());
    // The name may be ours, and the other may not have found it yet.
    assert!(testkit::wait_until(LATE, || one.stats().loans == 2));
}

fn whoever_comes_first_makes_the_pools() {
    for round in 0..10 {
        let name = testkit::name(&format!("either{round}"));
        let other = other("comes_too", &name);
        comes_too(&name);
        join(other);
    }
    let name = testkit::name("either-pool");
    let first = pool().create_or_open(&name).unwrap();
    let second = pool().blocks(9).create_or_open(&name).unwrap();
    assert!(second.is_same(&first) && second.capacity() == 4);
    assert!(BlockPool::open_or_wait(&name, LATE).unwrap().is_same(&first));
    drop((first, second));
    assert!(matches!(BlockPool::open(&name), Err(Error::Absent { .. })));
    let error = BlockPool::open_or_wait(&name, Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
}

/// A file that is not what it should be, each lie with an error of its own.
fn lies_are_told_apart() {
    let name = testkit::name("lies");
    let path = names::path(&name, names::Kind::Ring).unwrap();
    let told = |lie: &dyn Fn(&File)| {
        let pool = pool().create(&name).unwrap();
        pool.segment().keep();
        drop(pool);
        lie(&File::options().write(true).open(&path).unwrap());
        let error = BlockPool::open(&name).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        error
    };
    let word =
        |at, word: u32| move |file: &File| file.write_all_at(&u32::to_le_bytes(word), at).unwrap();
    // By LAYOUT.md: magic, version, places for objects; then object 0, behind 16 participants.
    let object = 128 + 16 * 128;
    assert!(matches!(told(&word(0, 0)), Error::NotASegment { .. }));
    assert!(matches!(told(&word(8, 99)), Error::WrongVersion { found: 99, .. }));
    assert!(matches!(told(&|file| file.set_len(8192).unwrap()), Error::TooShort { .. }));
    assert!(matches!(told(&word(28, 0)), Error::Corrupt { .. }));
    assert!(matches!(told(&word(object, 1)), Error::NotASegment { .. }), "being made");
    assert!(matches!(told(&word(object + 8, 1)), Error::WrongType { .. }));
    assert!(matches!(told(&word(object + 16, 1)), Error::Corrupt { .. }));
}

/// Runs `body` in a process that is then killed.
fn killed(body: impl FnOnce()) {
    let pid = testkit::forked(|| {
        body();
        os::kill_self();
    });
    let status = waitpid(pid, None).unwrap();
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
}

fn join_forked(pid: Pid) {
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}

/// The files of a segment: its own, and its bells.
fn files_of(name: &str) -> Vec<String> {
    let names = std::fs::read_dir("/dev/shm").unwrap();
    let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
    let of = |file: &String| names::parse(file).is_some_and(|(segment, _)| segment == name);
    names.filter(of).collect()
}

/// What a run left that was killed as a whole is replaced by the next, and nothing of either stays.
fn a_dead_run_is_replaced() {
    macro_rules! replaced {
        ($kind:ty, $options:expr) => {
            let name = testkit::name("dead");
            killed(|| std::mem::forget($options.create(&name).unwrap()));
            let error = $options.create(&name).unwrap_err();
            assert!(matches!(error, Error::Stale { .. }), "{error}");
            assert!(error.to_string().contains("shmring::cleanup"), "{error}");
            let old = os::file_id(&names::path(&name, names::Kind::Ring).unwrap()).unwrap();
            let id = || os::file_id(&names::path(&name, names::Kind::Ring).unwrap()).unwrap();

            let first = $options.create_or_open(&name).unwrap();
            let fresh = id();
            assert_ne!(fresh, old);
            let second = $options.create_or_open(&name).unwrap();
            let third = $options.replace_stale(true).create(&name);
            assert!(matches!(third, Err(Error::Exists { .. })), "it is in use");
            assert_eq!(id(), fresh);
            drop((first, second));
            assert_eq!(files_of(&name), [""; 0]);

            killed(|| std::mem::forget($options.create(&name).unwrap()));
            let revived = <$kind>::open(&name).unwrap();
            drop(revived);
            assert!(matches!($options.create(&name), Err(Error::Stale { .. })));
            drop($options.replace_stale(true).create(&name).unwrap());
            assert_eq!(files_of(&name), [""; 0]);
        };
    }
    replaced!(Records, Records::options());
    replaced!(Cells<u64>, Cells::<u64>::options());
    replaced!(Queue, Queue::options());
    replaced!(Broadcast, Broadcast::options());
    replaced!(Latest<u64>, Latest::<u64>::options());
    replaced!(Board, Board::options());
    replaced!(BlockPool, pool());
    replaced!(BlockPools, BlockPools::options().class(64, 2));
    replaced!(Segment, Segment::options());
}

/// A run of two processes, which had more bells than the next has.
fn leave_a_record(name: &str) {
    let ring = Records::options().create(name).unwrap();
    killed(|| Records::open(name).unwrap().producer().unwrap().send(b"old").unwrap());
    std::mem::forget(ring);
}

fn a_dead_runs_records_are_received_by_who_opens_it_only() {
    let name = testkit::name("records");
    killed(|| leave_a_record(&name));
    assert!(files_of(&name).len() > 2, "a ring and two bells");
    let revived = Records::open_or_wait(&name, LATE).unwrap();
    // While somebody has it, it is not replaced.
    let joined = Records::options().create_or_open(&name).unwrap();
    assert_eq!(&*joined.consumer().unwrap().recv().unwrap(), b"old");
    drop((revived, joined));

    killed(|| {
        let ring = Records::open(&name).unwrap();
        ring.producer().unwrap().send(b"again").unwrap();
    });
    let fresh = Records::options().create_or_open(&name).unwrap();
    assert!(fresh.consumer().unwrap().try_recv().is_err());
    drop(fresh);
    assert_eq!(files_of(&name), [""; 0]);
}

/// A run whose only place is that of a process that was killed.
fn leave_a_block(name: &str) {
    let pool = BlockPool::options().blocks(4).block_len(64).participants(1).create(name).unwrap();
    let records = Records::options().create_in(pool.segment()).unwrap();
    let jobs = Queue::options().create_in(pool.segment()).unwrap();
    let mut tx = port::Sender::<Block>::new(records.producer().unwrap());
    let mut loan = pool.try_loan().unwrap();
    loan.as_bytes_mut().fill(7);
    tx.send(loan.freeze()).unwrap();
    jobs.producer().unwrap().send(b"job").unwrap();
    std::mem::forget(jobs.consumer().unwrap().recv().unwrap());
    std::mem::forget((pool.try_loan().unwrap(), tx, records, jobs, pool));
}

fn a_dead_runs_places_are_given_to_those_who_come() {
    for first in 0..3 {
        let name = testkit::name("places");
        killed(|| leave_a_block(&name));
        let segment = Segment::open(&name).unwrap();
        assert_eq!(Segment::open(&name).unwrap().participants().len(), 1, "the dead one");
        // In any order: who has met all of which the dead held something comes in.
        let (mut pool, mut jobs) = (None, None);
        for number in (0..3).map(|step| (first + step) % 3) {
            match number {
                0 => pool = Some(BlockPool::open_in(&segment, 0).unwrap()),
                1 => drop(Records::open_in(&segment, 1).unwrap()),
                _ => jobs = Some(Queue::open_in(&segment, 2).unwrap()),
            }
        }
        let (pool, jobs) = (pool.unwrap(), jobs.unwrap());
        let ring = Records::open(&name).unwrap();
        let mut rx = port::Receiver::<Block>::new(ring.consumer().unwrap());
        assert_eq!(segment.participants(), [std::process::id()]);
        assert_eq!(rx.recv().unwrap().as_bytes(), [7; 64]);
        let mut worker = jobs.consumer().unwrap();
        let job = worker.recv().unwrap();
        assert_eq!((&*job, job.attempt()), (&b"job"[..], 2));
        job.ack().unwrap();
        assert_eq!(pool.in_use(), 0);
        drop((rx, ring, worker, jobs, pool, segment));
        drop(Segment::options().replace_stale(true).create(&name).unwrap());
        assert_eq!(files_of(&name), [""; 0]);
    }
}

/// Who uses a ring knows how to give back also what was held in a pool that it never looks at.
fn who_opens_one_ring_has_a_dead_ones_place() {
    let name = testkit::name("ring-only");
    killed(|| leave_a_block(&name));
    let ring = Records::open(&name).unwrap();
    let mut rx = ring.consumer().unwrap();
    assert_eq!(ring.segment().participants(), [std::process::id()]);
    rx.recv().unwrap();
    drop((rx, ring));
    drop(Segment::options().replace_stale(true).create(&name).unwrap());
}

/// What is sent is the segment, and not whatever has its name when it arrives.
fn a_name_that_others_have_by_now_is_not_what_was_sent() {
    let (name, way) = (testkit::name("sent"), testkit::name("way"));
    let make = || Records::options().capacity(4096).create(&name).unwrap();
    let ring = make();
    let way = Records::options().capacity(4096).create(&way).unwrap();
    let mut tx = port::Sender::<Records>::new(way.producer().unwrap());
    let (mut next, go) = io::pipe().unwrap();
    let (mut looked, seen) = io::pipe().unwrap();
    let child = testkit::forked(|| {
        let mut rx = port::Receiver::<Records>::new(way.consumer().unwrap());
        let mut step = || {
            (&seen).write_all(&[1]).unwrap();
            next.read_exact(&mut [0]).unwrap();
        };
        // A forked child has its parent's rings already.
        let first = rx.recv().unwrap();
        assert_eq!(first.segment().name(), Some(&*name));
        step();
        assert!(rx.recv().unwrap().segment().name() == Some(&*name), "it is still attached");
        step();
        let error = rx.recv().unwrap_err().to_string();
        assert!(error.contains("has lost that name"), "{error}");
    });
    tx.send(ring.clone()).unwrap();
    looked.read_exact(&mut [0]).unwrap();
    assert!(ring.segment().unlink().unwrap());
    tx.send(ring).unwrap();
    (&go).write_all(&[1]).unwrap();
    looked.read_exact(&mut [0]).unwrap();
    // One that the child does not have, and that has gone when it looks.
    let gone = make();
    tx.send(gone.clone()).unwrap();
    assert!(gone.segment().unlink().unwrap());
    let _other = make();
    (&go).write_all(&[1]).unwrap();
    assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)));
}

/// Several come first at once, where a dead run left something: all of them get the same.
fn all_who_replace_get_the_same() {
    for round in 0..40 {
        let name = testkit::name(&format!("race{round}"));
        killed(|| {
            let board = Board::options().create(&name).unwrap();
            board.store(0, 1000);
            std::mem::forget(board);
        });
        let come = || {
            let board = Board::options().create_or_open(&name).unwrap();
            board.add(0, 1);
            let all = testkit::wait_until(LATE, || board.load(0) >= 4);
            assert!(all && board.load(0) == 4, "round {round}: {}", board.load(0));
        };
        let others = [(); 3].map(|()| testkit::forked(come));
        come();
        for other in others {
            join_forked(other);
        }
        assert_eq!(files_of(&name), [""; 0]);
    }
}

fn a_replacer_dies(point: &'static str) {
    let name = testkit::name("replacer");
    killed(|| leave_a_record(&name));
    killed(|| {
        fault::arm(point, 1);
        let made = Records::options().create_or_open(&name);
        panic!("it passed {point}: {made:?}");
    });
    let ring = Records::options().create_or_open(&name).unwrap();
    assert!(ring.consumer().unwrap().try_recv().is_err());
    drop(ring);
    // What a dead replacer left of the bells is taken over or cleaned up.
    for stale in cleanup::stale().unwrap().into_iter().filter(|stale| stale.name == name) {
        stale.remove().unwrap();
    }
    assert_eq!(files_of(&name), [""; 0]);
}

/// Its name is gone before it is seen to be unused: nobody could tell it from a dead run's.
fn who_lets_go_is_never_stale() {
    let name = testkit::name("owner");
    let path = names::path(&name, names::Kind::Ring).unwrap();
    let maker = testkit::forked(|| {
        for _ in 0..3000 {
            drop(Records::options().capacity(256).create(&name).unwrap());
        }
    });
    loop {
        assert!(!named::remove_if_stale(&path).unwrap());
        match waitpid(maker, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => {}
            status => return assert_eq!(status, WaitStatus::Exited(maker, 0)),
        }
    }
}

/// Neither an anonymous nor a named ring's: it is refused, and stays what it was.
fn ends_do_not_travel_over_rings() {
    let name = testkit::name("ends");
    let named = Segment::options().len(1 << 16).create(&name).unwrap();
    for segment in [named, Segment::options().len(1 << 16).anonymous().unwrap()] {
        let ring = Records::options().capacity(1024).create_in(&segment).unwrap();
        let (tx, mut rx) = ring.split().unwrap();
        let over = Records::options().capacity(4096).create_in(&segment).unwrap();
        let (mut carrier, mut carried) = port::ends(&over).unwrap();
        let Err(port::PortError::Unsendable { item: tx, reason }) = carrier.send(tx) else {
            panic!("it was sent");
        };
        assert!(reason.contains("not over a ring"), "{reason}");
        assert!(carried.try_recv().is_err());
        let queue = Queue::options().capacity(4).item_len(1000).create_in(&segment).unwrap();
        let (mut carrier, _carried) = queue::port::ends(&queue).unwrap();
        let Err(port::PortError::Unsendable { item: mut tx, .. }) = carrier.send(tx) else {
            panic!("it was sent");
        };
        tx.send(b"still here").unwrap();
        assert_eq!(&*rx.recv().unwrap(), b"still here");
    }
}

fn main() -> ExitCode {
    if let (Ok(part), Ok(name)) = (env::var(PART), env::var(NAME)) {
        let (_, part) = PARTS.into_iter().find(|(known, _)| *known == part).unwrap();
        part(&name);
        return ExitCode::SUCCESS;
    }
    let mut tests = vec![
        testkit::test!(blocks_go_there_and_back),
        testkit::test!(what_a_killed_program_held_comes_back),
        testkit::test!(pools_by_name_and_a_ring_beside_them),
        testkit::test!(all_kinds_by_their_numbers),
        testkit::test!(ends_do_not_travel_over_rings),
        testkit::test!(a_hundred_rings_over_one_map),
        testkit::test!(whoever_comes_first_makes_the_pools),
        testkit::test!(lies_are_told_apart),
        testkit::test!(a_dead_run_is_replaced),
        testkit::test!(a_dead_runs_records_are_received_by_who_opens_it_only),
        testkit::test!(a_dead_runs_places_are_given_to_those_who_come),
        testkit::test!(who_opens_one_ring_has_a_dead_ones_place),
        testkit::test!(a_name_that_others_have_by_now_is_not_what_was_sent),
        testkit::test!(all_who_replace_get_the_same),
        testkit::test!(who_lets_go_is_never_stale),
    ];
    for point in ["segment.replaced", "named.made", "named.filled", "named.linked"] {
        tests.push(testkit::Test::new(format!("a_replacer_dies::{point}"), move || {
            a_replacer_dies(point);
        }));
    }
    testkit::run(tests)
}
