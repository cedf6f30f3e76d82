//! What somebody writes who may not.

use std::ops::Range;

use ndarray::{Dimension, Ix1, Ix3, IxDyn};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    DynFrame, FRAME_HEADER, Frame, MAX_FRAME_RANK,
    tests::{parse, pool},
};
use crate::{
    array::{Dtype, Element},
    sync::Ordering,
};

/// Numbers that a liar would think of.
fn lie() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..600,
        (0u32..64).prop_map(|shift| 1 << shift),
        (0u32..64).prop_map(|shift| u64::MAX >> shift),
        // Some that are nearly right: each byte of the words that say what it is.
        (0u64..4, 0u64..10, 0usize..15, 0u64..3).prop_map(|(order, rank, dtype, version)| {
            let mut descr = [0; 4];
            if let Some(dtype) = Dtype::ALL.get(dtype) {
                descr[..dtype.descr().len()].copy_from_slice(dtype.descr().as_bytes());
            }
            version | order << 16 | rank << 24 | u64::from(u32::from_le_bytes(descr)) << 32
        }),
    ]
}

/// Looks at every byte that a view reaches, and at where that is.
fn look_at<T: Element, D: Dimension>(frame: &Frame<T, D>, block: Range<usize>) -> u8 {
    let view = frame.view().unwrap();
    let mut sum = 0u8;
    for element in view.iter() {
        let at = std::ptr::from_ref(element).addr();
        assert!(at >= block.start + FRAME_HEADER && at + size_of::<T>() <= block.end);
        sum = bytemuck::bytes_of(element).iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
    }
    assert_eq!(view.len(), frame.copy_out().unwrap().len());
    sum
}

/// Whatever stands in the words of a header, the outcome is an error or a view within the block.
#[test]
fn lies_are_survived() {
    let pool = pool(1);
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    // The same lies each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let lies = prop::collection::vec((0usize..FRAME_HEADER / 8, lie()), 1..5);
    let opened = std::cell::Cell::new(0);
    let result = TestRunner::new_with_rng(config, rng).run(&lies, |lies| {
        let mut loan = pool.try_loan_frame::<u16, _>((3, 4, 5)).unwrap();
        loan.array_mut().fill(1);
        let frame = loan.freeze();
        let base = pool.geometry().payload(frame.block().index());
        for (word, lie) in lies {
            pool.region().u64(base + 8 * word).store(lie, Ordering::Relaxed);
        }
        // What was opened before does not look again.
        let start = frame.block().as_bytes().as_ptr().addr();
        let range = start..start + frame.block().len();
        assert_eq!(look_at(&frame, range.clone()), 60);
        let _ = Frame::<f64, Ix1>::open(frame.block().clone())
            .map(|as_f64| look_at(&as_f64, range.clone()));
        let _ = Frame::<u16, Ix3>::open(frame.block().clone())
            .map(|as_u16| look_at(&as_u16, range.clone()));
        match DynFrame::open(frame.into_block()) {
            Ok(frame) => {
                opened.set(opened.get() + 1);
                assert_eq!(frame.bytes().unwrap().len(), frame.nbytes());
                assert!(frame.nbytes() + FRAME_HEADER <= range.len());
                assert_eq!(frame.values().unwrap().len(), frame.len());
                let _ = (frame.time(), frame.age(), frame.sequence());
                let _ = frame.typed::<u8, IxDyn>().map(|as_u8| look_at(&as_u8, range));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        prop_assert_eq!(pool.in_use(), 0);
        Ok(())
    });
    result.unwrap();
    assert!((500..9_500).contains(&opened.get()), "{} of 10000 were believed", opened.get());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), FRAME_HEADER - 8),
        shape in prop::collection::vec(lie(), MAX_FRAME_RANK),
        what in lie(),
        len in 0usize..5000,
    ) {
        let mut all = b"SHMFRAME".to_vec();
        all.extend_from_slice(&bytes);
        all[8..16].copy_from_slice(&what.to_le_bytes());
        all[8..10].copy_from_slice(&[1, 0]);
        for (at, side) in shape.iter().enumerate() {
            all[64 + 8 * at..72 + 8 * at].copy_from_slice(&side.to_le_bytes());
        }
        if let Ok(header) = parse(&all, len) {
            prop_assert!(header.len_in_block() <= len);
            let elements = header.shape().iter().try_fold(1usize, |all, side| all.checked_mul(*side));
            prop_assert!(elements == Some(header.elements()) || header.shape().contains(&0));
        }
    }
}
