//! Frames and pools of several lengths between processes: without a copy, of the type that was
//! asked for, and back again when somebody dies.

#![allow(clippy::disallowed_methods)] // These tests are about forks.

use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use ndarray::{Array2, Ix1, Ix2};
use nix::sys::signal::{Signal, kill};
use shmring::{
    Error, Segment,
    array::{Dtype, Order},
    block::{Block, BlockPool, BlockPools, DynFrame, FRAME_HEADER, Frame, FrameError},
    fault,
    ring::{
        port::{MessageError, Receiver, Sender},
        records::Records,
    },
};
use testkit::{Test, died_by_kill, forked as child, join};

const LATE: Duration = Duration::from_secs(20);
const SHAPE: (usize, usize) = (6, 9);

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(4096).prefault(false).anonymous().unwrap()
}

fn ring(segment: &Segment) -> Records {
    Records::options().capacity(4096).prefault(false).create_in(segment).unwrap()
}

fn tx<T>(ring: &Records) -> Sender<T> {
    Sender::new(ring.producer().unwrap())
}

fn rx<T>(ring: &Records) -> Receiver<T> {
    Receiver::new(ring.consumer().unwrap())
}

/// A moment at which one process lets another go on.
struct Gate(PipeReader, PipeWriter);

impl Gate {
    fn new() -> Gate {
        let (read, write) = pipe().unwrap();
        Gate(read, write)
    }

    fn open(&self, value: u8) {
        (&self.1).write_all(&[value]).unwrap();
    }

    fn pass(&self) -> u8 {
        let mut value = [0];
        (&self.0).read_exact(&mut value).unwrap();
        value[0]
    }
}

fn picture(number: u64) -> Array2<f32> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (number as usize * 100 + row * 9 + column) as f32)
}

fn send(pool: &BlockPool, tx: &mut Sender<Frame<f32, Ix2>>, number: u64, order: Order) {
    let mut loan = pool.loan_frame_timeout::<f32, _>(SHAPE, LATE).unwrap().with_order(order);
    loan.array_mut().assign(&picture(number));
    loan.set_sequence(number);
    loan.set_time_ns(-(number as i64));
    tx.send(loan.freeze()).unwrap();
}

fn check(frame: &Frame<f32, Ix2>, number: u64) {
    assert_eq!((frame.sequence(), frame.time_ns()), (number, -(number as i64)));
    assert_eq!(frame.view().unwrap(), picture(number));
    assert_eq!(frame.copy_out().unwrap(), picture(number));
    assert!(frame.age() < LATE, "{:?}", frame.age());
}

/// There is one block, and no room for a copy.
fn forwarded_to_a_third_without_a_copy() {
    const FRAMES: u64 = 2000;
    let pool = pool(1);
    let (one, two) = (ring(pool.segment()), ring(pool.segment()));
    let middle = child(|| {
        let (mut rx, mut tx) = (rx::<Frame<f32, Ix2>>(&one), tx(&two));
        for number in 0..FRAMES {
            let frame = rx.recv_timeout(LATE).unwrap();
            check(&frame, number);
            tx.send(frame).unwrap();
        }
    });
    let last = child(|| {
        let mut rx = rx::<Frame<f32, Ix2>>(&two);
        for number in 0..FRAMES {
            let frame = rx.recv_timeout(LATE).unwrap();
            let order = if number % 2 == 0 { Order::C } else { Order::Fortran };
            assert_eq!((frame.order(), frame.block().index()), (order, 0));
            check(&frame, number);
        }
    });
    let mut tx = tx(&one);
    for number in 0..FRAMES {
        let order = if number % 2 == 0 { Order::C } else { Order::Fortran };
        send(&pool, &mut tx, number, order);
    }
    join(middle);
    join(last);
    assert_eq!((pool.in_use(), pool.stats().loans), (0, FRAMES));
}

fn another_type_is_an_error_and_the_next_one_comes() {
    let pool = pool(4);
    let ring = ring(pool.segment());
    let receiver = child(|| {
        let mut rx = rx::<Frame<f32, Ix2>>(&ring);
        for found in ["uint8 of shape (3,)", "float32 of shape (2, 2, 2)"] {
            match rx.recv_timeout(LATE) {
                Err(MessageError::Unreadable { reason }) => assert_eq!(
                    reason,
                    format!("a frame holds {found}, but was opened as float32 of 2 dimensions")
                ),
                other => panic!("{other:?}"),
            }
        }
        let Err(MessageError::Unreadable { reason }) = rx.recv_timeout(LATE) else {
            panic!("a block that is no frame was received as one");
        };
        assert!(reason.contains("not a frame"), "{reason}");
        check(&rx.recv_timeout(LATE).unwrap(), 5);
        drop(rx);
        assert_eq!(pool.in_use(), 0);
    });
    let mut blocks = tx::<Block>(&ring);
    blocks.send(pool.loan_frame::<u8, _>(3).unwrap().freeze().into_block()).unwrap();
    blocks.send(pool.loan_frame::<f32, _>((2, 2, 2)).unwrap().freeze().into_block()).unwrap();
    let mut plain = pool.loan().unwrap();
    plain.as_bytes_mut().fill(9);
    blocks.send(plain.freeze()).unwrap();
    let mut loan = pool.loan_frame::<f32, _>(SHAPE).unwrap();
    loan.array_mut().assign(&picture(5));
    loan.set_sequence(5);
    loan.set_time_ns(-5);
    blocks.send(loan.freeze().into_block()).unwrap();
    join(receiver);
    assert_eq!(pool.in_use(), 0);
}

fn a_tool_gets_frames_of_every_type() {
    let pool = pool(3);
    let ring = ring(pool.segment());
    let tool = child(|| {
        let mut rx = rx::<(u8, DynFrame)>(&ring);
        for (dtype, shape) in [(Dtype::U8, &[3][..]), (Dtype::F64, &[]), (Dtype::I16, &[2, 5])] {
            let (_, frame) = rx.recv_timeout(LATE).unwrap();
            assert_eq!((frame.dtype(), frame.shape()), (dtype, shape));
            assert_eq!(frame.values().unwrap().len(), frame.len());
        }
    });
    let mut tx = tx::<(u8, DynFrame)>(&ring);
    let one = pool.loan_frame::<u8, _>(3).unwrap().freeze().into_dyn();
    let two = pool.loan_frame::<f64, _>(()).unwrap().freeze().into_dyn();
    let three = pool.loan_frame::<i16, _>((2, 5)).unwrap().freeze().into_dyn();
    for frame in [one, two, three] {
        tx.send((1, frame)).unwrap();
    }
    join(tool);
    assert_eq!(pool.in_use(), 0);
}

fn a_receiver_sees_the_length_in_use() {
    let pool = pool(2);
    let ring = ring(pool.segment());
    let lengths = [0, 1, 63, 64, 65, 1000, 4095, 4096];
    let receiver = child(|| {
        let mut rx = rx::<Block>(&ring);
        for len in lengths {
            let block = rx.recv_timeout(LATE).unwrap();
            assert_eq!((block.len(), block.as_bytes().len()), (len, len));
            assert!(block.as_bytes().iter().all(|byte| *byte == len as u8));
            assert!(block.array::<u8, _>(len + 1).is_err());
        }
    });
    let mut tx = tx::<Block>(&ring);
    for len in lengths {
        let mut loan = pool.loan_timeout(LATE).unwrap();
        loan.as_bytes_mut().fill(!(len as u8));
        loan.set_len(len);
        assert_eq!(loan.as_bytes_mut().len(), len);
        loan.as_bytes_mut().fill(len as u8);
        tx.send(loan.freeze()).unwrap();
    }
    join(receiver);
}

fn what_was_freed_last_is_loaned_first() {
    let pool = pool(100);
    let ring = ring(pool.segment());
    let (freed, loaned) = (Gate::new(), Gate::new());
    let other = child(|| {
        let mut rx = rx::<Block>(&ring);
        for _ in 0..20 {
            // Theirs is ours next ...
            freed.pass();
            let loan = pool.try_loan().unwrap();
            loaned.open(loan.freeze().index() as u8);
            // ... and ours is theirs.
            freed.pass();
            let block = rx.recv_timeout(LATE).unwrap();
            let index = block.index();
            drop(block);
            loaned.open(index as u8);
        }
    });
    let mut tx = tx::<Block>(&ring);
    let mut blocks: Vec<_> = (0..60).map(|_| pool.try_loan().unwrap().freeze()).collect();
    for round in 0..20 {
        // Two are freed, and the later one counts.
        drop(blocks.remove(round * 7 % blocks.len()));
        let last = blocks.remove(round * 13 % blocks.len());
        let index = last.index();
        drop(last);
        freed.open(0);
        assert_eq!(loaned.pass() as usize, index, "round {round}");

        let sent = blocks.remove(round * 5 % blocks.len());
        let index = sent.index();
        tx.send(sent).unwrap();
        freed.open(0);
        assert_eq!(loaned.pass() as usize, index);
        let next = pool.try_loan().unwrap().freeze();
        assert_eq!(next.index(), index, "round {round}");
        blocks.push(next);
    }
    join(other);
}

fn a_forked_copy_is_the_childs_own_or_stale() {
    let pool = pool(3);
    let frame = |number| {
        let mut loan = pool.loan_frame::<f32, _>(SHAPE).unwrap();
        loan.array_mut().assign(&picture(number));
        loan.freeze()
    };
    let (kept, early) = (frame(1), frame(2));
    let mut loan = pool.loan_frame::<f32, _>(SHAPE).unwrap();
    let (adopted, dropped) = (Gate::new(), Gate::new());
    let other = child(|| {
        assert_eq!(kept.view().unwrap(), picture(1));
        adopted.open(0);
        dropped.pass();
        // The parent has let go of both by now.
        assert_eq!(kept.copy_out().unwrap(), picture(1));
        assert!(early.view().is_err() && early.to_array().is_err());
        assert!(matches!(early.copy_out(), Err(Error::BadParameters { .. })));
        let error = DynFrame::open(early.block().clone()).unwrap_err();
        assert!(matches!(error, FrameError::Stale(_)), "{error}");
        assert!(catch_unwind(AssertUnwindSafe(|| loan.array_mut().fill(0.0))).is_err());
    });
    adopted.pass();
    drop((kept, early, loan));
    assert_eq!(pool.in_use(), 1);
    dropped.open(0);
    join(other);
    // The child ended without letting go.
    pool.repair();
    assert_eq!(pool.in_use(), 0);
}

fn set() -> BlockPools {
    BlockPools::options()
        .class(200, 2)
        .class(1000, 2)
        .class(4000, 1)
        .prefault(false)
        .anonymous()
        .unwrap()
}

/// All blocks can be loaned again.
fn whole(set: &BlockPools) {
    assert_eq!(set.in_use(), 0);
    let loans: Vec<_> =
        [200, 200, 1000, 1000, 4000].map(|len| set.try_loan(len).unwrap()).into_iter().collect();
    assert_eq!(set.in_use(), 5);
    drop(loans);
}

fn a_filler_dies(point: &'static str, n: u32) {
    let set = set();
    let ring = ring(set.segment());
    let filler = child(|| {
        let mut tx = tx::<DynFrame>(&ring);
        fault::arm(point, n);
        for side in [4usize, 10, 20] {
            let mut loan = set.loan_frame::<f32, _>((side, side)).unwrap();
            loan.array_mut().fill(side as f32);
            tx.send(loan.freeze().into_dyn()).unwrap();
        }
        std::mem::forget(tx); // Dies with it, rather than closing the ring.
    });
    assert!(died_by_kill(filler), "{point} is not passed {n} times");
    let mut rx = rx::<Frame<f32, Ix2>>(&ring);
    let mut got = 0;
    while let Ok(frame) = rx.recv_timeout(LATE) {
        let side = [4, 10, 20][got];
        assert_eq!(frame.view().unwrap(), Array2::from_elem((side, side), side as f32));
        got += 1;
    }
    assert!(got == n as usize - 1, "{point}: {got} frames before pass {n}");
    // Without being asked.
    let loan = set.loan_timeout(4000, LATE).unwrap();
    drop(loan);
    set.repair();
    whole(&set);
}

fn a_reader_dies() {
    let set = set();
    let ring = ring(set.segment());
    let taken = Gate::new();
    let reader = child(|| {
        let mut rx = rx::<Frame<u8, Ix1>>(&ring);
        let frames: Vec<_> = (0..4).map(|_| rx.recv_timeout(LATE).unwrap()).collect();
        taken.open(frames.len() as u8);
        thread::sleep(LATE);
    });
    let mut tx = tx::<Frame<u8, Ix1>>(&ring);
    for len in [50, 60, 700, 3000] {
        tx.send(set.loan_frame::<u8, _>(len).unwrap().freeze()).unwrap();
    }
    taken.pass();
    assert_eq!(set.in_use(), 4);
    // One who is merely stopped keeps what it has.
    kill(reader, Signal::SIGSTOP).unwrap();
    set.repair();
    assert!(set.loan_timeout(4000, Duration::from_millis(50)).is_err());
    assert_eq!(set.in_use(), 4);
    kill(reader, Signal::SIGKILL).unwrap();
    assert!(died_by_kill(reader));
    // A waiting loan finds the dead by itself.
    drop(set.loan_timeout(4000, LATE).unwrap());
    set.repair();
    whole(&set);
}

fn a_maker_of_pools_dies(point: &'static str, n: u32) {
    let options = BlockPools::options().class(200, 2).class(1000, 2).class(4000, 1);
    let len = 2 * options.len_in_segment(16).unwrap();
    let segment = Segment::options().len(len).anonymous().unwrap();
    let maker = child(|| {
        fault::arm(point, n);
        options.clone().create_in(&segment).unwrap();
    });
    assert!(died_by_kill(maker), "{point} is not passed {n} times");
    for number in 0..8 {
        assert!(BlockPools::open_in(&segment, number).is_err(), "half a set was seen: {number}");
    }
    // Who comes next makes it.
    let set = options.create_in(&segment).unwrap();
    assert!(BlockPools::open_in(&segment, set.number()).unwrap().is_same(&set));
    whole(&set);
    segment.repair();
    assert_eq!(segment.participants(), [std::process::id()]);
}

/// The process that makes the pools and one that only knows their name.
fn by_name_from_another_process() {
    let name = testkit::name("pools");
    let (waiting, free) = (Gate::new(), Gate::new());
    let other = child(|| {
        let set = BlockPools::open_or_wait(&name, LATE).unwrap();
        let lengths: Vec<_> = set.classes().iter().map(BlockPool::block_len).collect();
        assert_eq!((lengths, set.spill()), (vec![200, 1000, 4000], 0));
        let loans = [set.loan(10).unwrap(), set.loan(200).unwrap()];
        assert!(set.try_loan(10).is_err(), "it may not go up");
        let large = set.loan(999).unwrap();
        waiting.open(0);
        free.pass();
        drop((loans, large));
        thread::sleep(Duration::from_millis(1));
    });
    let options = BlockPools::options().class(4000, 1).class(200, 2).class(1000, 2);
    let set = options.spill(0).prefault(false).create(&name).unwrap();
    waiting.pass();
    assert_eq!(set.in_use(), 3);
    assert!(set.try_loan(1).is_err());
    let began = Instant::now();
    free.open(0);
    drop(set.loan_timeout(1, LATE).unwrap());
    assert!(began.elapsed() < LATE / 2);
    join(other);
    let counts: Vec<_> = set.stats().iter().map(|class| class.refused).collect();
    assert_eq!(counts, [2, 0, 0], "counted for all processes");
    whole(&set);
}

/// So many that each third one belongs to the same class.
fn elements(number: usize) -> usize {
    [number % 37, 100 + number % 300, 600 + number % 1300][number % 3]
}

fn every_class_carries_frames_to_a_child() {
    let set = set();
    let ring = ring(set.segment());
    let reader = child(|| {
        let mut rx = rx::<Frame<u16, Ix1>>(&ring);
        for number in 0..600usize {
            let len = elements(number);
            let frame = rx.recv_timeout(LATE).unwrap();
            assert_eq!((frame.sequence(), frame.len()), (number as u64, len));
            assert_eq!(frame.block().len(), FRAME_HEADER + 2 * len);
            assert!(frame.view().unwrap().iter().all(|element| *element == number as u16));
        }
    });
    let mut tx = tx::<Frame<u16, Ix1>>(&ring);
    for number in 0..600usize {
        let len = elements(number);
        let mut loan = set.loan_frame_timeout::<u16, _>(len, LATE).unwrap();
        loan.array_mut().fill(number as u16);
        loan.set_sequence(number as u64);
        tx.send(loan.freeze()).unwrap();
    }
    join(reader);
    assert_eq!(set.in_use(), 0);
    assert!(set.stats().iter().all(|class| class.pool.loans > 50), "{:?}", set.stats());
}

fn main() -> ExitCode {
    let mut tests = vec![
        testkit::test!(forwarded_to_a_third_without_a_copy),
        testkit::test!(another_type_is_an_error_and_the_next_one_comes),
        testkit::test!(a_tool_gets_frames_of_every_type),
        testkit::test!(a_receiver_sees_the_length_in_use),
        testkit::test!(what_was_freed_last_is_loaned_first),
        testkit::test!(a_forked_copy_is_the_childs_own_or_stale),
        testkit::test!(a_reader_dies),
        testkit::test!(by_name_from_another_process),
        testkit::test!(every_class_carries_frames_to_a_child),
    ];
    for point in ["block.loan.claimed", "block.frame.header", "block.freeze.shared"] {
        for n in 1..=3 {
            let name = format!("a_filler_dies::{point}::{n}");
            tests.push(Test::new(name, move || a_filler_dies(point, n)));
        }
    }
    let passes = [("segment.add.reserved", 4), ("segment.add.filled", 4), ("block.pools.made", 1)];
    for (point, times) in passes {
        for n in 1..=times {
            let name = format!("a_maker_of_pools_dies::{point}::{n}");
            tests.push(Test::new(name, move || a_maker_of_pools_dies(point, n)));
        }
    }
    testkit::run(tests)
}
