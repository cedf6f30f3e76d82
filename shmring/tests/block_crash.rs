//! Kills a process at each named point of the blocks' protocol, then looks at what the survivor
//! sees: every block comes back, and no message that was confirmed is lost.

#![allow(unsafe_code)] // fork
#![allow(clippy::disallowed_methods)] // These tests are about what a fork leaves.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getppid},
};
use shmring::{
    RecvError, Segment,
    block::{Block, BlockPool, drained},
    fault,
    os::kill_self,
    ring::{
        port::{MessageError, Receiver, Sender},
        records::Records,
    },
    transfer::{collect_for, supply},
};
use testkit::Test;

type Message = (u32, Block);

const BLOCKS: usize = 4;

fn pool() -> BlockPool {
    BlockPool::options().blocks(BLOCKS).block_len(4096).prefault(false).anonymous().unwrap()
}

fn ring(pool: &BlockPool) -> Records {
    Records::options().capacity(4096).prefault(false).create_in(pool.segment()).unwrap()
}

fn filled(pool: &BlockPool, number: u32) -> Block {
    let mut loan = pool.loan().unwrap();
    loan.array_mut::<u32, _>(1024).unwrap().fill(number);
    loan.freeze()
}

fn check(message: &Message) {
    let (number, block) = message;
    let array = block.array::<u32, _>(1024).unwrap();
    assert!(array.iter().all(|element| element == number), "message {number} is torn");
}

/// Runs `child` in a forked process that dies when it passes `point` for the `n`-th time. Tells
/// whether it got there, and its pid.
fn killed_at(point: &str, n: u32, child: impl FnOnce()) -> (bool, u32) {
    // SAFETY: this process has one thread; the child ends with `_exit` and returns nowhere.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            fault::arm(point, n);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the child without running the destructors of its parent's values.
            unsafe { nix::libc::_exit(i32::from(done.is_err())) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => (true, child.as_raw() as u32),
            WaitStatus::Exited(_, 0) => (false, child.as_raw() as u32),
            other => panic!("the child ended with {other:?}"),
        },
    }
}

/// What a producer does: among it everything that loans, freezes, gives back and sends. Its ring
/// counts the blocks, since they are held here as well.
fn produce(pool: &BlockPool, ring: &Records) {
    let mut tx = Sender::<Message>::new(ring.producer().unwrap());
    for number in 0..3 {
        drop(pool.loan().unwrap());
        let block = filled(pool, number);
        let other = block.clone();
        tx.send((number, block)).unwrap();
        drop(other);
    }
    drop(filled(pool, 99));
    std::mem::forget(tx); // Dies with it, rather than closing the ring.
}

/// The same with blocks that nobody else has, so that they move.
fn produce_moving(pool: &BlockPool, ring: &Records) {
    let mut tx = Sender::<Message>::new(ring.producer().unwrap());
    for number in 0..3 {
        tx.send((number, filled(pool, number))).unwrap();
    }
    std::mem::forget(tx);
}

fn a_producer_dies(point: &'static str, n: u32) {
    a_producer_dies_that(point, n, produce);
}

fn a_producer_dies_that_moves(point: &'static str, n: u32) {
    a_producer_dies_that(point, n, produce_moving);
}

fn a_producer_dies_that(point: &'static str, n: u32, produce: fn(&BlockPool, &Records)) {
    let pool = pool();
    let ring = ring(&pool);
    let mut rx = Receiver::<Message>::new(ring.consumer().unwrap());
    let (killed, _) = killed_at(point, n, || produce(&pool, &ring));
    assert!(killed || n > 1, "{point} was never passed");
    let mut next = 0;
    let end = loop {
        match rx.recv() {
            Ok(message) => {
                assert_eq!(message.0, next);
                check(&message);
                next += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(end, MessageError::Ring(RecvError::PeerDied { .. })), "{end:?}");
    // A successor undoes what was begun; the ring then goes on.
    let mut tx = Sender::<Message>::new(ring.producer().unwrap());
    pool.repair();
    tx.send((7, filled(&pool, 7))).unwrap();
    check(&rx.recv().unwrap());
    assert_eq!(pool.in_use(), 0, "{point}, pass {n}");
    let loans: Vec<_> = (0..BLOCKS).map(|_| pool.try_loan().unwrap()).collect();
    drop(loans);
}

fn a_producer_dies_and_nobody_follows(point: &'static str, n: u32) {
    nobody_follows_one_that(point, n, produce);
}

fn a_producer_dies_that_moves_and_nobody_follows(point: &'static str, n: u32) {
    nobody_follows_one_that(point, n, produce_moving);
}

fn nobody_follows_one_that(point: &'static str, n: u32, produce: fn(&BlockPool, &Records)) {
    let pool = pool();
    let ring = ring(&pool);
    let rx = Receiver::<Message>::new(ring.consumer().unwrap());
    let (killed, _) = killed_at(point, n, || produce(&pool, &ring));
    assert!(killed || n > 1, "{point} was never passed");
    drop(rx);
    pool.repair();
    assert_eq!(pool.in_use(), 0, "{point}, pass {n}");
}

fn a_successor_of_a_producer_dies(point: &'static str, n: u32) {
    let pool = pool();
    let ring = ring(&pool);
    let mut rx = Receiver::<Message>::new(ring.consumer().unwrap());
    let (killed, _) = killed_at("port.send.moved", 1, || produce_moving(&pool, &ring));
    assert!(killed);
    let (killed, _) = killed_at(point, n, || produce_moving(&pool, &ring));
    assert!(killed || n > 1, "{point} was never passed");
    let mut tx = Sender::<Message>::new(ring.producer().unwrap());
    tx.send((7, filled(&pool, 7))).unwrap();
    pool.repair();
    while {
        let message = rx.recv().unwrap();
        check(&message);
        message.0 != 7
    } {}
    assert_eq!(pool.in_use(), 0, "{point}, pass {n}");
}

fn a_consumer_dies(point: &'static str, n: u32) {
    a_consumer_dies_while(point, n, Beside::Nothing, Repaired::First);
}

fn a_consumer_dies_and_is_followed_before_it_is_repaired(point: &'static str, n: u32) {
    a_consumer_dies_while(point, n, Beside::Nothing, Repaired::Last);
}

/// The ring counts its blocks, and nobody holds them beside it.
fn a_consumer_dies_with_what_was_counted(point: &'static str, n: u32) {
    a_consumer_dies_while(point, n, Beside::Briefly, Repaired::First);
}

fn a_consumer_dies_while_the_producer_holds_the_same(point: &'static str, n: u32) {
    a_consumer_dies_while(point, n, Beside::Long, Repaired::First);
}

/// What the producer has beside the message that it sends.
enum Beside {
    Nothing,
    /// Until it is sent.
    Briefly,
    /// Until the consumer is dead.
    Long,
}

/// When the dead one is repaired.
enum Repaired {
    First,
    /// After its successor has received all.
    Last,
}

fn a_consumer_dies_while(point: &'static str, n: u32, beside: Beside, repaired: Repaired) {
    let pool = pool();
    let ring = ring(&pool);
    let mut tx = Sender::<Message>::new(ring.producer().unwrap());
    let mut rx = Receiver::<Message>::new(ring.consumer().unwrap());
    let mut kept = Vec::new();
    for number in 0..3 {
        let block = filled(&pool, number);
        let other = match beside {
            Beside::Nothing => None,
            Beside::Briefly | Beside::Long => Some(block.clone()),
        };
        tx.send((number, block)).unwrap();
        kept.extend(other.filter(|_| matches!(beside, Beside::Long)));
    }
    let (killed, _) = killed_at(point, n, || {
        let mut kept = Vec::new();
        for _ in 0..3 {
            let message = rx.recv().unwrap();
            check(&message);
            kept.push(message.1.clone());
            kept.truncate(2);
        }
    });
    assert!(killed || n > 1, "{point} was never passed");
    drop(kept);
    let taken = ring.stats().taken as u32;
    // What it had not released, the ring still holds.
    if matches!(repaired, Repaired::First) {
        pool.repair();
    }
    let mut rx = Receiver::<Message>::new(ring.consumer().unwrap());
    tx.send((3, filled(&pool, 3))).unwrap();
    for number in taken..4 {
        let message = rx.recv().unwrap();
        assert_eq!(message.0, number);
        check(&message);
    }
    if matches!(repaired, Repaired::Last) {
        pool.repair();
    }
    assert_eq!(pool.in_use(), 0, "{point}, pass {n}");
}

fn a_repairer_dies(point: &'static str, n: u32) {
    let pool = pool();
    let (killed, _) = killed_at("block.freeze.shared", 2, || {
        let _kept = filled(&pool, 1);
        let _loan = pool.try_loan().unwrap();
        filled(&pool, 2);
    });
    assert!(killed);
    assert_eq!(pool.in_use(), 3);
    let (killed, _) = killed_at(point, n, || pool.repair());
    assert!(killed || n > 1, "{point} was never passed");
    pool.repair();
    assert_eq!(pool.in_use(), 0);
}

fn a_sender_over_a_channel_dies(point: &'static str, n: u32) {
    let pool = pool();
    let me = std::process::id();
    let (killed, child) = killed_at(point, n, || {
        for number in 0..2 {
            let block = filled(&pool, number);
            let (result, parcel) = collect_for(me, || postcard::to_stdvec(&block));
            result.unwrap();
            parcel.sent();
        }
    });
    assert!(killed || n > 1, "{point} was never passed");
    pool.repair();
    drained(child);
    assert_eq!(pool.in_use(), 0);
    // Its carrier can be used again: there are 16.
    for _ in 0..20 {
        let (_, child) = killed_at("none", 1, || {
            let block = filled(&pool, 1);
            let (result, parcel) = collect_for(me, || postcard::to_stdvec(&block));
            result.unwrap();
            parcel.sent();
        });
        drained(child);
        pool.repair();
    }
    assert_eq!(pool.in_use(), 0);
}

fn a_receiver_over_a_channel_dies(point: &'static str, n: u32) {
    a_receiver_over_a_channel_dies_while(point, n, |_| ());
}

fn a_receiver_over_a_channel_dies_while_the_sender_holds_the_same(point: &'static str, n: u32) {
    a_receiver_over_a_channel_dies_while(point, n, Block::clone);
}

fn a_receiver_over_a_channel_dies_while<K>(
    point: &'static str,
    n: u32,
    keep: impl Fn(&Block) -> K,
) {
    let pool = pool();
    let block = filled(&pool, 4);
    let kept = keep(&block);
    // The child does not exist yet, so the message goes to a process that will be its child.
    let (mut ours, mut theirs) = std::io::pipe().map(|(read, write)| (write, read)).unwrap();
    let (killed, _) = {
        use std::io::{Read, Write};
        // SAFETY: as in `killed_at`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop(ours);
                let mut bytes = Vec::new();
                theirs.read_to_end(&mut bytes).unwrap();
                fault::arm(point, n);
                // The segment was inherited; any descriptor of it will do.
                use std::os::fd::AsFd;
                let fd = pool.segment().as_fd().try_clone_to_owned().unwrap();
                let null = || std::fs::File::open("/dev/null").unwrap().into();
                // One number stands for the block; the notes follow it.
                let parcel = shmring::received(vec![fd, null(), null()], &bytes[1..]);
                let got: Block = supply(parcel, || postcard::from_bytes(&bytes)).unwrap();
                assert_eq!(got.array::<u32, _>(1024).unwrap()[7], 4);
                drop(got);
                // SAFETY: as in `killed_at`.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                let pid = child.as_raw() as u32;
                let (bytes, parcel) = collect_for(pid, || postcard::to_stdvec(&block).unwrap());
                drop(block);
                ours.write_all(&bytes).unwrap();
                ours.write_all(parcel.notes()).unwrap();
                parcel.sent();
                drop(ours);
                match waitpid(child, None).unwrap() {
                    WaitStatus::Signaled(_, Signal::SIGKILL, _) => (true, pid),
                    WaitStatus::Exited(_, 0) => (false, pid),
                    other => panic!("the child ended with {other:?}"),
                }
            }
        }
    };
    assert!(killed || n > 1, "{point} was never passed");
    drop(kept);
    pool.repair();
    assert_eq!(pool.in_use(), 0, "{point}, pass {n}");
}

fn a_child_adopts_its_copy() {
    let pool = pool();
    let block = filled(&pool, 6);
    let early = filled(&pool, 8);
    let (to_child, from_parent) = std::io::pipe().unwrap();
    let (to_parent, from_child) = std::io::pipe().unwrap();
    use std::io::{Read, Write};
    let (mut to_child, mut from_parent) = (to_child, from_parent);
    let (mut to_parent, mut from_child) = (to_parent, from_child);
    // SAFETY: as in `killed_at`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop((from_parent, to_parent));
            let ok = block.adopt().is_ok();
            from_child.write_all(&[1]).unwrap();
            let _ = to_child.read(&mut [0]).unwrap();
            // The parent has let go of both by now.
            let ok = ok
                && block.array::<u32, _>(1024).is_ok_and(|array| array[0] == 6)
                && early.adopt().is_err()
                && early.as_bytes().is_empty();
            drop((block, early));
            let ok = ok && pool.in_use() == 0;
            // SAFETY: as in `killed_at`.
            unsafe { nix::libc::_exit(i32::from(!ok)) }
        }
        ForkResult::Parent { child } => {
            drop((to_child, from_child));
            to_parent.read_exact(&mut [0]).unwrap();
            drop((block, early));
            assert_eq!(pool.in_use(), 1);
            from_parent.write_all(&[1]).unwrap();
            drop(from_parent);
            assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))));
            assert_eq!(pool.in_use(), 0);
        }
    }
}

/// A process that holds a block more often than its row counts forks a child, which then has its
/// place: what is counted beside the row is not the child's.
fn a_child_does_not_have_what_its_parent_holds_beside_its_row() {
    let segment = Segment::options().len(1 << 20).participants(2).anonymous().unwrap();
    let pool = BlockPool::options().blocks(1).block_len(64).create_in(&segment).unwrap();
    let ring = Records::options().capacity(1 << 12).create_in(&segment).unwrap();
    let block = RefCell::new(Some(pool.loan().unwrap().freeze()));
    let (mut childs, done) = io::pipe().unwrap();
    let (mut until, stop) = io::pipe().unwrap();
    let hold_often = || {
        let mut tx = Sender::<Block>::new(ring.producer().unwrap());
        let mut rx = Receiver::<Block>::new(ring.consumer().unwrap());
        let one = |_| {
            tx.send_ref(block.borrow().as_ref().unwrap()).unwrap();
            rx.recv().unwrap()
        };
        (0..300).map(one).collect::<Vec<_>>()
    };
    let parent = testkit::forked(|| {
        let held = hold_often();
        let parent = Pid::this();
        testkit::forked(|| {
            while getppid() == parent {
                thread::sleep(Duration::from_millis(1));
            }
            // Copies of what somebody else held.
            drop(held);
            drop(hold_often());
            drop(block.take());
            (&done).write_all(&process::id().to_ne_bytes()).unwrap();
            let _ = until.read(&mut [0]);
        });
        kill_self();
    });
    assert!(matches!(waitpid(parent, None).unwrap(), WaitStatus::Signaled(..)));
    let mut child = [0; 4];
    childs.read_exact(&mut child).unwrap();
    assert_eq!(pool.in_use(), 1);
    drop(block.take());
    assert_eq!(pool.in_use(), 0, "the child holds it");
    (&stop).write_all(&[1]).unwrap();
    while testkit::alive(u32::from_ne_bytes(child)) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> ExitCode {
    let producing = [
        "block.loan.claimed",
        "block.free.freed",
        "block.freeze.shared",
        "block.release.left",
        "port.send.journal",
        "port.send.put",
        "port.send.dropped",
        "port.send.published",
    ];
    let moving = [
        "block.freeze.shared",
        "port.send.journal",
        "port.send.moved",
        "port.send.dropped",
        "port.send.published",
    ];
    let succeeding = ["block.move.left", "block.free.freed", "port.send.moved"];
    let consuming = [
        "block.free.freed",
        "port.recv.journal",
        "port.recv.moved",
        "port.recv.taken",
        "port.recv.released",
    ];
    let counting = [
        "block.hold.owned",
        "block.free.freed",
        "port.recv.journal",
        "port.recv.taken",
        "port.recv.released",
        "port.recv.got",
    ];
    let sharing = ["block.hold.counted", "block.hold.held", "block.release.counted"];
    let repairing = [
        "block.repair.counted",
        "block.repair.disowned",
        "block.repair.freed",
        "block.free.freed",
        "repair.begun",
        "repair.objects",
    ];
    let posting = ["block.post.claimed", "block.post.put"];
    let taking = ["block.post.got", "block.hold.owned"];
    let sharing_from_a_post = ["block.post.got", "block.hold.counted", "block.hold.held"];

    let mut tests = vec![
        testkit::test!(a_child_adopts_its_copy),
        testkit::test!(a_child_does_not_have_what_its_parent_holds_beside_its_row),
    ];
    let mut add = |what: &str, points: &[&'static str], test: fn(&'static str, u32)| {
        for point in points.iter().copied() {
            for n in 1..=3 {
                let name = format!("{what}::{point}::{n}");
                tests.push(Test::new(name, move || test(point, n)));
            }
        }
    };
    add("a_producer_dies", &producing, a_producer_dies);
    add("a_producer_dies_and_nobody_follows", &producing, a_producer_dies_and_nobody_follows);
    add("a_producer_dies_that_moves", &moving, a_producer_dies_that_moves);
    add(
        "a_producer_dies_that_moves_and_nobody_follows",
        &moving,
        a_producer_dies_that_moves_and_nobody_follows,
    );
    add("a_successor_of_a_producer_dies", &succeeding, a_successor_of_a_producer_dies);
    add("a_consumer_dies", &consuming, a_consumer_dies);
    add(
        "a_consumer_dies_and_is_followed_before_it_is_repaired",
        &consuming,
        a_consumer_dies_and_is_followed_before_it_is_repaired,
    );
    add("a_consumer_dies_with_what_was_counted", &counting, a_consumer_dies_with_what_was_counted);
    add(
        "a_consumer_dies_while_the_producer_holds_the_same",
        &sharing,
        a_consumer_dies_while_the_producer_holds_the_same,
    );
    add("a_repairer_dies", &repairing, a_repairer_dies);
    add("a_sender_over_a_channel_dies", &posting, a_sender_over_a_channel_dies);
    add("a_receiver_over_a_channel_dies", &taking, a_receiver_over_a_channel_dies);
    add(
        "a_receiver_over_a_channel_dies_while_the_sender_holds_the_same",
        &sharing_from_a_post,
        a_receiver_over_a_channel_dies_while_the_sender_holds_the_same,
    );
    testkit::run(tests)
}
