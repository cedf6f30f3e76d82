use std::{
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    super::{Block, BlockPool, Frame, Loan, LoanError},
    BlockPools, CLASSES, COUNTERS, LEN, MAX_CLASSES, POOLS, PoolsOptions, SPILL,
    loaning::candidates,
};
use crate::{
    Segment,
    error::Error,
    layout::page,
    ring::{port, records::Records},
    sync::Ordering,
    transfer,
};

fn options() -> PoolsOptions {
    BlockPools::options().class(100, 2).class(1000, 2).class(5000, 1).prefault(false)
}

fn set() -> BlockPools {
    options().anonymous().unwrap()
}

fn in_use(set: &BlockPools) -> Vec<usize> {
    set.classes().iter().map(BlockPool::in_use).collect()
}

/// Which class a loan came from.
fn class(set: &BlockPools, loan: Loan) -> usize {
    let block = loan.freeze();
    set.classes().iter().position(|pool| pool.is_same(block.pool())).unwrap()
}

#[test]
fn the_page_says_the_same() {
    let set = [
        ("classes", CLASSES),
        ("spill", SPILL),
        ("pools", POOLS),
        ("counters", COUNTERS),
        ("end", LEN),
    ];
    page::says("Set of pools", &set);
}

#[test]
fn smoke() {
    let set = set();
    assert_eq!((set.capacity(), set.block_len(), set.spill()), (5, 5000, 1));
    for (len, expected) in [(0, 0), (1, 0), (100, 0), (101, 1), (1000, 1), (1001, 2), (5000, 2)] {
        let loan = set.try_loan(len).unwrap();
        assert_eq!(loan.len(), len);
        assert_eq!(class(&set, loan), expected, "{len} bytes");
    }
    let mut loan = set.try_loan(150).unwrap();
    loan.as_bytes_mut().fill(7);
    let block = loan.freeze();
    assert_eq!((block.len(), in_use(&set)), (150, vec![0, 1, 0]));
    assert_eq!(block.as_bytes(), [7; 150]);
    drop(block);
    assert_eq!(set.in_use(), 0);
    let stats = set.stats();
    assert_eq!(stats.iter().map(|class| class.block_len).collect::<Vec<_>>(), [100, 1000, 5000]);
    assert_eq!(stats.iter().map(|class| class.pool.loans).collect::<Vec<_>>(), [3, 3, 2]);
    assert!(stats.iter().all(|class| (class.spilled, class.refused) == (0, 0)));
}

#[test]
fn full() {
    let set = set();
    let small = [0, 1].map(|_| set.try_loan(10).unwrap());
    let spilled = [0, 1].map(|_| set.try_loan(10).unwrap());
    assert_eq!(in_use(&set), [2, 2, 0]);
    // One class up is as far as it goes.
    let error = set.try_loan(10).unwrap_err();
    assert_eq!(error, LoanError::Exhausted { blocks: 4, smallest: 100, largest: 1000 });
    assert_eq!(error.to_string(), "all 4 blocks of 100 B to 1000 B are in use");
    let late = set.loan_timeout(10, Duration::from_millis(3)).unwrap_err();
    assert_eq!(late, LoanError::TimedOut { blocks: 4, smallest: 100, largest: 1000 });
    let large = set.try_loan(500).unwrap();
    assert_eq!(in_use(&set), [2, 2, 1]);
    let error = set.try_loan(5000).unwrap_err();
    assert_eq!(error, LoanError::Exhausted { blocks: 1, smallest: 5000, largest: 5000 });
    assert_eq!(error.to_string(), "all 1 blocks of 4.9 KiB are in use");
    let counts: Vec<_> = set.stats().iter().map(|class| (class.spilled, class.refused)).collect();
    assert_eq!(counts, [(2, 2), (1, 0), (0, 1)]);
    drop((small, spilled, large));
    assert_eq!(set.in_use(), 0);
}

#[test]
fn spilling_is_bounded_as_one_says() {
    for (spill, expected) in [(0, 2), (1, 4), (2, 5), (usize::MAX, 5)] {
        let set = options().spill(spill).anonymous().unwrap();
        let loans: Vec<_> = std::iter::from_fn(|| set.try_loan(1).ok()).collect();
        assert_eq!(loans.len(), expected);
    }
}

#[test]
fn too_large_is_said_at_once() {
    let set = set();
    let error = set.loan(5001).unwrap_err();
    assert_eq!(error, LoanError::TooLarge { needed: 5001, limit: 5000 });
    let error = set.loan_frame::<u8, _>((usize::MAX, 2)).unwrap_err();
    assert_eq!(error, LoanError::TooLarge { needed: usize::MAX, limit: 5000 });
    assert_eq!(set.stats().iter().map(|class| class.pool.loans + class.refused).sum::<u64>(), 0);
}

#[test]
fn frames_come_from_the_class_that_fits() {
    let set = set();
    let small = set.loan_frame::<u8, _>(()).unwrap().freeze();
    assert_eq!(in_use(&set), [0, 1, 0], "the header alone is longer than the shortest blocks");
    drop(small);
    let mut large = set.try_loan_frame::<f32, _>((20, 20)).unwrap();
    large.array_mut().fill(1.5);
    let frame = large.freeze();
    assert_eq!(frame.block().pool().block_len(), 5000);
    let again = Frame::<f32, ndarray::Ix2>::open(frame.into_block()).unwrap();
    assert_eq!(again.view().unwrap().sum(), 600.0);
    let error = set.loan_frame_timeout::<f32, _>((20, 20), Duration::from_millis(2)).unwrap_err();
    assert!(matches!(error, LoanError::TimedOut { blocks: 1, .. }), "{error}");
}

/// How long somebody waited for 10 bytes, of which 30 ms until a block of class `freed` was freed.
fn waited_for(freed: usize) -> Duration {
    let set = BlockPools::options().class(100, 1).class(1000, 1).anonymous().unwrap();
    let mut blocks = [10, 900].map(|len| Some(set.try_loan(len).unwrap().freeze()));
    let waiter = {
        let set = set.clone();
        thread::spawn(move || {
            let began = Instant::now();
            let loan = set.loan(10).unwrap();
            (began.elapsed(), class(&set, loan))
        })
    };
    thread::sleep(Duration::from_millis(30));
    drop(blocks[freed].take());
    let (waited, class) = waiter.join().unwrap();
    assert_eq!(class, freed);
    drop(blocks);
    assert_eq!(set.in_use(), 0);
    waited
}

#[test]
fn a_block_of_any_of_its_classes_wakes_who_waits() {
    for freed in [0, 1] {
        // Who is not woken looks again after 100 ms.
        let woken = (0..10).any(|_| (20..90).contains(&waited_for(freed).as_millis()));
        assert!(woken, "never woken by class {freed}");
    }
}

#[test]
fn options_say_what_they_cannot_do() {
    let bad = |options: PoolsOptions| {
        let error = options.clone().anonymous().unwrap_err();
        assert!(matches!(error, Error::BadParameters { .. }), "{error}");
        assert!(matches!(options.len_in_segment(4), Err(Error::BadParameters { .. })));
        error.to_string()
    };
    assert!(bad(BlockPools::options()).contains("0 classes"));
    let many = (1..=MAX_CLASSES + 1).fold(BlockPools::options(), |all, len| all.class(len, 1));
    assert!(bad(many).contains("17 classes: 1 to 16 are possible"));
    let twice = BlockPools::options().class(64, 1).class(10, 2).class(64, 3);
    assert!(bad(twice).contains("two classes of 64 bytes"));
    bad(BlockPools::options().class(64, 0));
    bad(BlockPools::options().class(0, 1));
    bad(BlockPools::options().class(1 << 46, 2).class(usize::MAX, 1));
    bad(BlockPools::options().class(64, 1).carriers(0));
}

#[test]
fn a_segment_of_the_right_length_holds_it() {
    let options = options().spill(3);
    let len = options.len_in_segment(5).unwrap();
    let segment = |len, objects| {
        Segment::options().len(len).participants(5).objects(objects).anonymous().unwrap()
    };
    let exact = segment(len, 4);
    let set = options.clone().create_in(&exact).unwrap();
    assert!(BlockPools::open_in(&exact, set.number()).unwrap().is_same(&set));
    assert_eq!(BlockPools::open_in(&exact, set.number()).unwrap().spill(), 3);

    // Where it does not fit, nothing of it is made.
    let short = segment(len - 8192, 4);
    let error = options.clone().create_in(&short).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    let narrow = segment(len, 3);
    let error = options.create_in(&narrow).unwrap_err();
    assert!(matches!(error, Error::NoPlace { .. }), "{error}");
    for segment in [short, narrow] {
        assert_eq!(segment.objects().count(), 0);
        let error = BlockPools::open_in(&segment, 0).unwrap_err();
        assert!(matches!(error, Error::NotASegment { .. }), "{error}");
    }
}

#[test]
fn as_many_classes_as_can_be() {
    let options = (0..MAX_CLASSES)
        .rev()
        .fold(BlockPools::options(), |all, class| all.class(64 << class, class + 1));
    let set = options.prefault(false).anonymous().unwrap();
    let again = BlockPools::open_in(set.segment(), set.number()).unwrap();
    assert_eq!(again.capacity(), (1..=MAX_CLASSES).sum());
    for class in 0..MAX_CLASSES {
        assert_eq!(self::class(&set, again.try_loan(64 << class).unwrap()), class);
    }
}

#[test]
fn it_travels_and_its_blocks_do() {
    let set = set();
    let (bytes, parcel) =
        transfer::collect_for(crate::os::pid(), || postcard::to_stdvec(&set).unwrap());
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    let notes = parcel.notes().to_vec();
    parcel.sent();
    let read = || postcard::from_bytes::<BlockPools>(&bytes).unwrap();
    let got = transfer::supply(crate::received(fds, &notes), read);
    assert!(got.is_same(&set));
    assert!(postcard::to_stdvec(&set).is_err(), "outside a port");

    // Blocks of all classes in one message.
    let ring = Records::options().capacity(4096).create_in(set.segment()).unwrap();
    let (mut tx, mut rx) = port::ends::<Vec<Block>>(&ring).unwrap();
    let blocks = [5, 800, 3000, 70].map(|len| {
        let mut loan = got.try_loan(len).unwrap();
        loan.as_bytes_mut().fill(len as u8);
        loan.freeze()
    });
    tx.send(blocks.into()).unwrap();
    assert_eq!(in_use(&set), [2, 1, 1]);
    for (block, len) in rx.recv().unwrap().into_iter().zip([5, 800, 3000, 70]) {
        assert_eq!(block.len(), len);
        assert!(block.as_bytes().iter().all(|byte| *byte == len as u8));
    }
    assert_eq!(set.in_use(), 0);
}

#[test]
fn found_by_its_name() {
    let name = testkit::name("pools");
    let set = options().create(&name).unwrap();
    let found = BlockPools::open(&name).unwrap();
    assert!(found.is_same(&set));
    assert!(BlockPools::open_or_wait(&name, Duration::from_secs(1)).unwrap().is_same(&set));
    drop((set, found));
    assert!(matches!(BlockPools::open(&name), Err(Error::Absent { .. })));
    let ring = Records::options().create(&name).unwrap();
    let error = BlockPools::open(&name).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
    drop(ring);
}

#[test]
fn its_pages_are_touched_in_advance() {
    use std::os::fd::AsFd;
    let touched = |set: &BlockPools| {
        let file = std::fs::File::from(set.segment().as_fd().try_clone_to_owned().unwrap());
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    };
    let options = BlockPools::options().class(1 << 16, 8).class(1 << 18, 4);
    assert!(touched(&options.clone().anonymous().unwrap()) > 3 << 19);
    let late = options.clone().prefault(false).anonymous().unwrap();
    assert!(touched(&late) < 1 << 19, "{}", touched(&late));
    late.prefault().unwrap();
    assert!(touched(&late) > 3 << 19, "{}", touched(&late));
    let segment = Segment::options().len(4 << 20).anonymous().unwrap();
    assert!(touched(&options.clone().create_in(&segment).unwrap()) < 1 << 19);
    assert!(touched(&options.prefault(true).create_in(&segment).unwrap()) > 3 << 19);
}

#[test]
fn a_loan_may_come_from_these() {
    let lengths = [100, 1000, 5000];
    let from = |spill, len| candidates(lengths.into_iter(), spill, len);
    assert_eq!(from(0, 0), Some(0..1));
    assert_eq!(from(1, 100), Some(0..2));
    assert_eq!(from(1, 101), Some(1..3));
    assert_eq!(from(usize::MAX, 101), Some(1..3));
    assert_eq!(from(9, 5000), Some(2..3));
    assert_eq!(from(9, 5001), None);
    assert_eq!(candidates([].into_iter(), 1, 0), None);
}

#[derive(Clone, Debug)]
enum Action {
    Loan(usize),
    Drop(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![0usize..130, 0usize..1100, 0usize..6000];
    prop_oneof![3 => len.prop_map(Action::Loan), 2 => (0usize..12).prop_map(Action::Drop)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Against a table of how many blocks of each class are left.
    #[test]
    fn it_does_what_a_table_of_classes_does(
        spill in 0usize..4,
        actions in prop::collection::vec(action(), 1..100),
    ) {
        let (lengths, mut left) = ([100, 1000, 5000], [2, 2, 1]);
        let (mut spilled, mut refused) = ([0; 3], [0; 3]);
        let set = options().spill(spill).anonymous().unwrap();
        let mut blocks = Vec::<(Block, usize)>::new();
        for action in actions {
            match action {
                Action::Loan(len) => {
                    let Some(first) = lengths.iter().position(|length| *length >= len) else {
                        let error = set.try_loan(len).unwrap_err();
                        prop_assert_eq!(error, LoanError::TooLarge { needed: len, limit: 5000 });
                        continue;
                    };
                    let expected = (first..=first + spill).find(|at| left.get(*at) > Some(&0));
                    match (set.try_loan(len), expected) {
                        (Ok(loan), Some(class)) => {
                            left[class] -= 1;
                            spilled[first] += u64::from(class != first);
                            let block = loan.freeze();
                            prop_assert!(block.pool().is_same(&set.classes()[class]));
                            prop_assert_eq!(block.len(), len);
                            blocks.push((block, class));
                        }
                        (Err(LoanError::Exhausted { smallest, .. }), None) => {
                            refused[first] += 1;
                            prop_assert_eq!(smallest, lengths[first]);
                        }
                        (got, expected) => prop_assert!(false, "{:?} for {:?}", got, expected),
                    }
                }
                Action::Drop(at) if at < blocks.len() => left[blocks.remove(at).1] += 1,
                Action::Drop(_) => {}
            }
            prop_assert_eq!(in_use(&set), [2 - left[0], 2 - left[1], 1 - left[2]]);
        }
        for (class, stats) in set.stats().iter().enumerate() {
            prop_assert_eq!((stats.spilled, stats.refused), (spilled[class], refused[class]));
        }
    }

    /// Whatever stands in the words of a set, it is opened or refused, and what is opened works.
    #[test]
    fn lies_are_survived(
        lies in prop::collection::vec((0usize..LEN / 8, prop_oneof![0u64..9, any::<u64>()]), 1..8),
    ) {
        let set = set();
        let base = set.0.object.offset;
        for (word, lie) in lies {
            set.segment().0.region.u64(base + 8 * word).store(lie, Ordering::Relaxed);
        }
        if let Ok(opened) = BlockPools::open_in(set.segment(), set.number()) {
            prop_assert!((1..=3).contains(&opened.classes().len()));
            for len in [0, 100, 101, 5000, usize::MAX] {
                let _ = opened.try_loan(len).map(Loan::freeze);
            }
            let _ = (opened.stats(), format!("{opened:?}"));
            opened.repair();
        }
        // Who opened it before does not look again.
        prop_assert_eq!(set.try_loan(1000).unwrap().len(), 1000);
        prop_assert_eq!(set.in_use(), 0);
    }
}

#[test]
fn each_lie_is_told_apart() {
    let set = set();
    let word = |at| set.segment().0.region.u64(set.0.object.offset + at);
    let told = |at, lie: u64| {
        let truth = word(at).swap(lie, Ordering::Relaxed);
        let error = BlockPools::open_in(set.segment(), set.number()).unwrap_err();
        word(at).store(truth, Ordering::Relaxed);
        error
    };
    assert!(matches!(told(CLASSES, 0), Error::Corrupt { .. }));
    assert!(matches!(told(CLASSES, MAX_CLASSES as u64 + 1), Error::Corrupt { .. }));
    assert!(matches!(told(POOLS, 1 << 32), Error::Corrupt { .. }));
    let itself = u64::from(set.0.object.index);
    assert!(matches!(told(POOLS, itself), Error::WrongType { .. }));
    assert!(matches!(told(POOLS + 8, itself + 1), Error::NotASegment { .. }));
    let first = word(POOLS).load(Ordering::Relaxed);
    let error = told(POOLS + 8, first);
    assert!(error.to_string().contains("in the order of their lengths"), "{error}");
    word(SPILL).store(u64::MAX, Ordering::Relaxed);
    word(COUNTERS).store(u64::MAX, Ordering::Relaxed);
    let opened = BlockPools::open_in(set.segment(), set.number()).unwrap();
    let loans: Vec<_> = (0..5).map(|_| opened.try_loan(1).unwrap()).collect();
    assert_eq!(in_use(&opened), [2, 2, 1]);
    drop(loans);
}
