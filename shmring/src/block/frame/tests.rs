use std::{
    ops::Range,
    thread,
    time::{Duration, SystemTime},
};

use ndarray::{Array2, Array3, Dimension, Ix0, Ix1, Ix2, Ix3, IxDyn, array};
use proptest::prelude::*;

use super::{
    super::{Block, BlockPool, LoanError, geometry::LENGTH},
    DynFrame, FRAME_HEADER, Frame, FrameError, FrameLoan, Header, MAX_FRAME_RANK,
};
use crate::{
    array::{Bool, Dtype, Element, Order, Scalar},
    error::Error,
    ring::{
        port::{self, MessageError, Receiver, Sender},
        records::Records,
    },
    sync::Ordering,
    transfer,
};

pub(super) fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(4096).prefault(false).anonymous().unwrap()
}

fn counted(pool: &BlockPool, shape: (usize, usize), order: Order) -> FrameLoan<u16, Ix2> {
    let mut loan = pool.try_loan_frame::<u16, _>(shape).unwrap().with_order(order);
    loan.array_mut().assign(&counting(shape));
    loan
}

fn counting((rows, columns): (usize, usize)) -> Array2<u16> {
    Array2::from_shape_fn((rows, columns), |(row, column)| (row * columns + column) as u16)
}

#[test]
fn smoke() {
    let pool = pool(2);
    let mut loan = counted(&pool, (3, 4), Order::C);
    loan.set_sequence(7);
    loan.set_time_ns(-5);
    assert_eq!((loan.shape(), loan.order()), (&[3, 4][..], Order::C));
    let frame = loan.freeze();
    assert_eq!(frame.view().unwrap(), counting((3, 4)));
    assert_eq!((frame.sequence(), frame.time_ns()), (7, -5));
    assert_eq!(frame.time(), SystemTime::UNIX_EPOCH - Duration::from_nanos(5));
    assert_eq!((frame.dtype(), frame.shape(), frame.ndim()), (Dtype::U16, &[3, 4][..], 2));
    assert_eq!((frame.len(), frame.nbytes(), frame.is_empty()), (12, 24, false));
    assert_eq!(frame.block().len(), FRAME_HEADER + 24);

    // Opened from its block it is the same.
    let again = Frame::<u16, Ix2>::open(frame.clone().into_block()).unwrap();
    assert_eq!(again.to_array().unwrap(), counting((3, 4)));
    assert_eq!(again.copy_out().unwrap(), counting((3, 4)));
    assert_eq!((again.sequence(), again.time_ns()), (7, -5));
    assert_eq!(again.frame.header, frame.frame.header);
    drop((frame, again));
    assert_eq!(pool.in_use(), 0);
    drop(pool.try_loan_frame::<u8, _>(1).unwrap());
    assert_eq!(pool.in_use(), 0, "a loan that is dropped gives the block back");
}

#[test]
fn both_orders() {
    let pool = pool(2);
    let c = counted(&pool, (3, 4), Order::C).freeze();
    let fortran = counted(&pool, (3, 4), Order::Fortran).freeze();
    assert_eq!((c.order(), fortran.order()), (Order::C, Order::Fortran));
    let fortran = Frame::<u16, Ix2>::open(fortran.into_block()).unwrap();
    assert_eq!(fortran.order(), Order::Fortran);
    assert_eq!(fortran.view().unwrap(), c.view().unwrap());
    assert_eq!(fortran.copy_out().unwrap(), c.copy_out().unwrap());
    assert_eq!(fortran.view().unwrap().strides(), [1, 3]);
    assert_eq!(fortran.copy_out().unwrap().strides(), [1, 3]);
    let bytes = fortran.clone().into_dyn();
    assert_eq!(bytes.bytes().unwrap()[..8], [0, 0, 4, 0, 8, 0, 1, 0]);
    assert_eq!(bytes.copy_bytes().unwrap(), bytes.bytes().unwrap());
    let values = bytes.values().unwrap();
    assert_eq!(values[[2, 1]], Scalar::Uint(9));
}

fn every_type_of<T: Element + PartialEq + std::fmt::Debug>(one: T) {
    let pool = pool(1);
    let mut loan = pool.try_loan_frame::<T, _>((2, 2)).unwrap();
    loan.array_mut().fill(T::zeroed());
    loan.array_mut()[[1, 0]] = one;
    let frame = DynFrame::open(loan.freeze().into_block()).unwrap();
    assert_eq!(frame.dtype(), T::DTYPE);
    assert_eq!(
        frame.values().unwrap().mapv(Scalar::to_f64),
        array![[0.0, 0.0], [1.0, 0.0]].into_dyn()
    );
    let frame = frame.typed::<T, Ix2>().unwrap();
    assert_eq!(frame.view().unwrap()[[1, 0]], one);
    assert_eq!(frame.copy_out().unwrap()[[1, 0]], one);
}

#[test]
fn every_type() {
    every_type_of(Bool::TRUE);
    every_type_of(1i8);
    every_type_of(1i16);
    every_type_of(1i32);
    every_type_of(1i64);
    every_type_of(1u8);
    every_type_of(1u16);
    every_type_of(1u32);
    every_type_of(1u64);
    every_type_of(half::f16::ONE);
    every_type_of(1f32);
    every_type_of(1f64);
    every_type_of(num_complex::Complex::new(1f32, 0.0));
    every_type_of(num_complex::Complex::new(1f64, 0.0));
}

#[test]
fn every_rank() {
    let pool = pool(1);
    for shape in [&[][..], &[0], &[7], &[3, 0, 5], &[2, 3, 4], &[1, 2, 1, 2, 1, 2], &[2; 8]] {
        let mut loan = pool.try_loan_frame::<f32, _>(shape).unwrap();
        loan.array_mut().fill(2.5);
        let frame = DynFrame::open(loan.freeze().into_block()).unwrap();
        assert_eq!(frame.shape(), shape);
        let frame = frame.typed::<f32, IxDyn>().unwrap();
        assert_eq!(frame.raw_dim().slice(), shape);
        let len = shape.iter().product::<usize>();
        assert_eq!((frame.len(), frame.is_empty()), (len, len == 0));
        assert_eq!(frame.view().unwrap().sum(), 2.5 * len as f32);
        assert_eq!(frame.copy_out().unwrap().sum(), 2.5 * len as f32);
    }
    let mut loan = pool.try_loan_frame::<i64, Ix0>(ndarray::Dim(())).unwrap();
    loan.array_mut()[()] = -3;
    assert_eq!(loan.freeze().view().unwrap()[()], -3);
}

#[test]
fn what_cannot_be_a_frame_is_said_before_a_block_is_taken() {
    let pool = pool(1);
    let limit = 4096;
    let error = pool.try_loan_frame::<u8, _>(limit - FRAME_HEADER + 1).unwrap_err();
    assert_eq!(error, LoanError::TooLarge { needed: limit + 1, limit });
    let error = pool.loan_frame::<f64, _>((usize::MAX, 0, 3)).unwrap_err();
    assert_eq!(error, LoanError::TooLarge { needed: usize::MAX, limit });
    for rank in [MAX_FRAME_RANK + 1, 65] {
        let error = pool.try_loan_frame::<u8, _>(vec![1; rank]).unwrap_err();
        assert_eq!(error, LoanError::TooManyDimensions { rank });
    }
    assert_eq!(pool.stats().loans, 0);
    let whole = pool.try_loan_frame::<u8, _>(limit - FRAME_HEADER).unwrap();
    let error = pool.try_loan_frame::<u8, _>(1).unwrap_err();
    assert!(matches!(error, LoanError::Exhausted { blocks: 1, .. }), "{error}");
    let error = pool.loan_frame_timeout::<u8, _>(1, Duration::from_millis(2)).unwrap_err();
    assert!(matches!(error, LoanError::TimedOut { blocks: 1, .. }), "{error}");
    drop(whole);

    assert_eq!(Frame::<f32, _>::len_in_block((10, 10)).unwrap(), FRAME_HEADER + 400);
    let error = Frame::<f32, _>::len_in_block((usize::MAX, 2)).unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
}

#[test]
fn opened_as_something_else_it_says_what_it_is() {
    let pool = pool(1);
    let block = counted(&pool, (3, 4), Order::C).freeze().into_block();
    let error = Frame::<f32, Ix2>::open(block.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the frame holds uint16 of shape (3, 4), but was opened as float32 of 2 dimensions"
    );
    let error = Frame::<u16, Ix1>::open(block.clone()).unwrap_err();
    assert!(matches!(error, FrameError::WrongType { .. }), "{error}");
    assert!(matches!(Error::from(error), Error::WrongType { .. }));
    assert_eq!(Frame::<u16, IxDyn>::open(block).unwrap().shape(), [3, 4]);
}

#[test]
fn a_block_that_is_no_frame_is_refused() {
    let pool = pool(1);
    let block = |fill: &dyn Fn(&mut [u8]), len| {
        let mut loan = pool.try_loan().unwrap();
        loan.as_bytes_mut().fill(0);
        fill(loan.as_bytes_mut());
        loan.set_len(len);
        DynFrame::open(loan.freeze()).unwrap_err()
    };
    assert_eq!(block(&|_| (), 4096), FrameError::NotAFrame);
    let header = Header::new(Dtype::F64, Order::C, &[3, 5]).unwrap();
    let written = |at: Range<usize>, with: &'static [u8], len| {
        let fill = |bytes: &mut [u8]| {
            bytes[..FRAME_HEADER].copy_from_slice(&header.write());
            bytes[at.clone()].copy_from_slice(with);
        };
        block(&fill, len)
    };
    assert_eq!(written(0..0, b"", FRAME_HEADER - 1), FrameError::NotAFrame);
    let short = FRAME_HEADER + 119;
    let error = written(0..0, b"", short);
    assert_eq!(error, FrameError::TooShort { needed: FRAME_HEADER + 120, len: short });
    assert_eq!(written(7..8, b"x", 4096), FrameError::NotAFrame);
    assert_eq!(written(8..10, &[2, 1], 4096), FrameError::Version { found: 258 });
    assert_eq!(written(10..11, &[2], 4096), FrameError::Order(2));
    assert_eq!(written(11..12, &[9], 4096), FrameError::Rank(9));
    assert_eq!(written(12..16, b">f8\0", 4096), FrameError::Dtype(">f8".into()));
    assert_eq!(written(12..16, b"\0\0\0\0", 4096), FrameError::Dtype("".into()));
    let error = written(64..72, &[0xff; 8], 4096);
    assert_eq!(error, FrameError::TooShort { needed: usize::MAX, len: 4096 });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn stamps_are_those_of_now_unless_somebody_says() {
    let pool = pool(1);
    let before = SystemTime::now();
    let frame = pool.try_loan_frame::<u8, _>(1).unwrap().freeze();
    assert!((before..=SystemTime::now()).contains(&frame.time()));
    assert_eq!(frame.sequence(), 0);
    thread::sleep(Duration::from_millis(2));
    let age = frame.age();
    assert!((Duration::from_millis(2)..Duration::from_secs(60)).contains(&age), "{age:?}");
    drop(frame);

    let exactly = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000_000_000);
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(20_000_000_000);
    for (time, ns) in [(exactly, 1_700_000_000_123_456_789), (far, i64::MAX), (early, i64::MIN)] {
        let mut loan = pool.try_loan_frame::<u8, _>(1).unwrap();
        loan.set_time(time);
        let frame = Frame::<u8, Ix1>::open(loan.freeze().into_block()).unwrap();
        assert_eq!(frame.time_ns(), ns);
        assert_eq!(frame.time() == time, time == exactly);
    }
}

fn ring<T>(pool: &BlockPool) -> (Sender<T>, Receiver<T>) {
    let ring = Records::options().capacity(4096).prefault(false).create_in(pool.segment());
    port::ends(&ring.unwrap()).unwrap()
}

#[test]
fn two_ends() {
    type Message = (u32, Vec<Frame<u16, Ix2>>, Option<DynFrame>);
    let pool = pool(3);
    let (mut tx, mut rx) = ring::<Message>(&pool);
    let frames = vec![
        counted(&pool, (2, 3), Order::C).freeze(),
        counted(&pool, (5, 1), Order::Fortran).freeze(),
    ];
    let any = pool.try_loan_frame::<f64, _>(()).unwrap().freeze().into_dyn();
    tx.send((1, frames, Some(any))).unwrap();
    let (one, frames, any) = rx.recv().unwrap();
    assert_eq!((one, any.unwrap().dtype()), (1, Dtype::F64));
    assert_eq!(frames[0].view().unwrap(), counting((2, 3)));
    assert_eq!(frames[1].view().unwrap(), counting((5, 1)));
    drop(frames);
    assert_eq!(pool.in_use(), 0);
    assert!(postcard::to_stdvec(&counted(&pool, (1, 1), Order::C).freeze()).is_err());
}

#[test]
fn received_as_another_type_it_is_an_error_that_loses_no_block() {
    let pool = pool(1);
    let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
    let mut tx = Sender::<Frame<u16, Ix2>>::new(ring.producer().unwrap());
    let mut rx = Receiver::<Frame<f32, Ix3>>::new(ring.consumer().unwrap());
    tx.send(counted(&pool, (2, 3), Order::C).freeze()).unwrap();
    let Err(MessageError::Unreadable { reason }) = rx.recv() else {
        panic!("received as what it is not");
    };
    assert_eq!(
        reason,
        "a frame holds uint16 of shape (2, 3), but was opened as float32 of 3 dimensions"
    );
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_block_is_received_as_a_frame_and_a_frame_as_a_block() {
    let pool = pool(1);
    let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
    let mut tx = Sender::<Frame<u16, Ix2>>::new(ring.producer().unwrap());
    let mut rx = Receiver::<Block>::new(ring.consumer().unwrap());
    tx.send(counted(&pool, (2, 3), Order::C).freeze()).unwrap();
    let block = rx.recv().unwrap();
    assert_eq!(block.len(), FRAME_HEADER + 12);
    drop((tx, rx));

    let (mut tx, rx) = self::ring::<Block>(&pool);
    tx.send(block).unwrap();
    let mut rx = rx;
    let frame = DynFrame::open(rx.recv().unwrap()).unwrap();
    assert_eq!(frame.shape(), [2, 3]);
}

#[test]
fn over_a_control_channel() {
    let pool = pool(2);
    let frame = counted(&pool, (3, 4), Order::Fortran).freeze();
    let (bytes, parcel) =
        transfer::collect_for(crate::os::pid(), || postcard::to_stdvec(&(1u8, &frame)).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    let notes = parcel.notes().to_vec();
    parcel.sent();
    drop(frame);
    let read = || postcard::from_bytes::<(u8, Frame<u16, Ix2>)>(&bytes);
    let (_, got) = transfer::supply(crate::received(fds, &notes), read).unwrap();
    assert_eq!(got.view().unwrap(), counting((3, 4)));
    drop(got);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_copy_is_made_while_somebody_writes_who_may_not() {
    let pool = pool(1);
    let mut loan = pool.try_loan_frame::<u64, _>(400).unwrap();
    loan.array_mut().fill(0);
    let frame = loan.freeze();
    let at = pool.geometry().payload(frame.block().index()) + FRAME_HEADER;
    thread::scope(|scope| {
        let liar = scope.spawn(|| {
            for round in 0..20_000 {
                pool.region().u64(at + 8 * (round % 400)).store(u64::MAX, Ordering::Relaxed);
            }
        });
        while !liar.is_finished() {
            let copy = frame.copy_out().unwrap();
            assert!(copy.iter().all(|value| [0, u64::MAX].contains(value)));
        }
    });
    assert!(frame.copy_out().unwrap().iter().all(|value| *value == u64::MAX));
}

#[test]
fn the_length_of_a_block_is_no_proof_either() {
    let pool = pool(1);
    let (mut tx, mut rx) = ring::<DynFrame>(&pool);
    for length in [0, 8, FRAME_HEADER as u64, FRAME_HEADER as u64 + 119, 1 << 40, u64::MAX] {
        let mut loan = pool.try_loan_frame::<f64, _>((3, 5)).unwrap();
        loan.array_mut().fill(0.5);
        let frame = loan.freeze();
        let at = pool.geometry().control(frame.block().index()) + LENGTH;
        tx.send(frame.into_dyn()).unwrap();
        pool.region().u64(at).store(length, Ordering::Relaxed);
        match rx.recv() {
            Ok(frame) => {
                assert!(length > 4096);
                assert_eq!(frame.bytes().unwrap().len(), 120);
            }
            Err(error) => {
                assert!(length < 4096, "{error}");
                assert!(matches!(error, MessageError::Unreadable { .. }), "{error}");
            }
        }
        assert_eq!(pool.in_use(), 0);
    }
}

/// Reads a header of bytes as it is read of shared memory: no word twice.
pub(super) fn parse(bytes: &[u8], len: usize) -> Result<Header, FrameError> {
    let asked = std::cell::RefCell::new(std::collections::HashSet::new());
    let word = |at: usize| {
        assert!(asked.borrow_mut().insert(at), "byte {at} is read twice");
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    Header::parse(word, len)
}

fn any_dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL)
}

fn any_order() -> impl Strategy<Value = Order> {
    prop::sample::select(&[Order::C, Order::Fortran][..])
}

proptest! {
    #[test]
    fn written_headers_read_back(
        dtype in any_dtype(),
        order in any_order(),
        shape in prop::collection::vec(0usize..6, 0..=MAX_FRAME_RANK),
        stamps in any::<(u64, i64, u64)>(),
        spare in 0usize..100,
    ) {
        let mut header = Header::new(dtype, order, &shape).unwrap();
        (header.sequence, header.time, header.frozen) = stamps;
        let len = header.len_in_block() + spare;
        prop_assert_eq!(parse(&header.write(), len).unwrap(), header);
        prop_assert_eq!(header.bytes(), shape.iter().product::<usize>() * dtype.size());
        let short = parse(&header.write(), header.len_in_block() - 1);
        // Without a whole header it is none.
        let is_short = match short {
            Err(FrameError::TooShort { .. }) => header.bytes() > 0,
            Err(FrameError::NotAFrame) => header.bytes() == 0,
            _ => false,
        };
        prop_assert!(is_short, "{:?}", short);
    }

    /// Against an ordinary array.
    #[test]
    fn it_holds_what_an_array_does(shape in (0usize..7, 0usize..7, 0usize..7), order in any_order(), seed in any::<i32>()) {
        let pool = pool(1);
        let wanted = Array3::from_shape_fn(shape, |(i, j, k)| {
            seed.wrapping_mul((i * 49 + j * 7 + k) as i32)
        });
        let mut loan = pool.try_loan_frame::<i32, _>(shape).unwrap().with_order(order);
        loan.array_mut().assign(&wanted);
        let frame = Frame::<i32, Ix3>::open(loan.freeze().into_block()).unwrap();
        prop_assert_eq!(frame.view().unwrap(), wanted.view());
        prop_assert_eq!(frame.copy_out().unwrap(), wanted.clone());
        prop_assert_eq!(frame.clone().into_dyn().typed::<i32, IxDyn>().unwrap().to_array().unwrap(), wanted.into_dyn());
    }
}
