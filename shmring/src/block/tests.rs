use std::{
    cell::RefCell,
    collections::HashMap,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Block, BlockPool, Loan, LoanError, ViewError, drained, word::State};
use crate::{
    Segment,
    error::{Error, SendError},
    ring::{
        Policy,
        port::{self, MessageError, PortError, Receiver, Sender},
        records::Records,
    },
    transfer,
};

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(1000).prefault(false).anonymous().unwrap()
}

fn ring<T>(pool: &BlockPool) -> (Sender<T>, Receiver<T>) {
    let ring = Records::options().capacity(4096).prefault(false).create_in(pool.segment());
    port::ends(&ring.unwrap()).unwrap()
}

fn filled(pool: &BlockPool, with: u8) -> Block {
    let mut loan = pool.try_loan().unwrap();
    loan.as_bytes_mut().fill(with);
    loan.freeze()
}

#[test]
fn smoke() {
    let pool = pool(2);
    let mut loan = pool.try_loan().unwrap();
    loan.array_mut::<u16, _>((2, 3)).unwrap().fill(7);
    loan.set_len(12);
    let block = loan.freeze();
    assert_eq!(block.array::<u16, _>((2, 3)).unwrap().sum(), 42);
    assert_eq!((block.len(), pool.in_use()), (12, 1));
    assert!(matches!(block.array::<u16, _>(7), Err(ViewError::TooShort { needed: 14, len: 12 })));
    assert!(block.array::<u64, _>((usize::MAX, 2, 0)).is_err());
    let clone = block.clone();
    drop(block);
    assert_eq!(clone.as_bytes().len(), 12);
    drop(clone);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(pool.stats().loans, 1);
}

/// The messages stay in the ring, and the counts must not go back to what they say.
#[test]
fn what_a_dropped_receiver_left_behind_counts_for_nothing() {
    for keeps in [true, false] {
        let pool = pool(1);
        let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
        let mut tx = Sender::<Block>::new(ring.producer().unwrap());
        let rx = Receiver::<Block>::new(ring.consumer().unwrap());
        let block = filled(&pool, 1);
        (0..3).for_each(|_| tx.send_ref(&block).unwrap());
        drop(rx);
        let mut block = Some(block).filter(|_| keeps);
        assert_eq!(pool.in_use(), usize::from(keeps));
        // Another life of the block, which is never sent, or the same one, which is sent on.
        let mut other = (!keeps).then(|| filled(&pool, 2));
        let mut rx = Receiver::<Block>::new(ring.consumer().unwrap());
        if let Some(block) = &block {
            tx.send_ref(block).unwrap();
        }
        for _ in 0..3 {
            match rx.try_recv() {
                Ok(block) => assert!(keeps && block.as_bytes()[0] == 1),
                Err(error) => assert!(!keeps, "{error}"),
            }
            // The first of them tells already.
            assert_eq!(pool.in_use(), usize::from(keeps || other.is_some()));
            drop(other.take());
            assert_eq!(pool.in_use(), usize::from(keeps));
        }
        block.take();
        // The one that was sent last is still on its way.
        assert_eq!(pool.in_use(), usize::from(keeps));
        if keeps {
            assert_eq!(rx.try_recv().unwrap().as_bytes()[0], 1);
        }
        assert!(rx.try_recv().is_err());
        assert_eq!(pool.in_use(), 0, "{keeps}");
        for _ in 0..600 {
            tx.send(filled(&pool, 3)).unwrap();
            assert_eq!(rx.try_recv().unwrap().as_bytes()[0], 3);
        }
    }
}

#[test]
fn full() {
    let pool = pool(2);
    let one = pool.try_loan().unwrap();
    let two = pool.try_loan().unwrap();
    assert!(matches!(pool.try_loan(), Err(LoanError::Exhausted { blocks: 2, .. })));
    let late = pool.loan_timeout(Duration::from_millis(5));
    assert!(matches!(late, Err(LoanError::TimedOut { blocks: 2, .. })));
    drop(one);
    pool.try_loan().unwrap();
    drop(two);
    assert_eq!(pool.in_use(), 0);
}

/// The first message of a port finds out what a predecessor left, when its blocks are known already.
#[test]
fn a_message_with_blocks_of_two_pools_in_any_order() {
    let segment = Segment::options().anonymous().unwrap();
    let pools = [100, 200].map(|len| {
        BlockPool::options().blocks(2).block_len(len).prefault(false).create_in(&segment).unwrap()
    });
    for order in [[0, 1], [1, 0]] {
        let ring = Records::options().capacity(1024).prefault(false).create_in(&segment).unwrap();
        let (mut tx, mut rx) = port::ends::<[Block; 2]>(&ring).unwrap();
        tx.send(order.map(|pool| filled(&pools[pool], pool as u8 + 1))).unwrap();
        let got = rx.recv().unwrap();
        for (block, pool) in got.iter().zip(order) {
            assert_eq!(block.as_bytes(), vec![pool as u8 + 1; pools[pool].block_len()]);
        }
        drop(got);
        assert_eq!(pools.each_ref().map(BlockPool::in_use), [0, 0]);
    }
}

/// A message that the ring gives up lets go of its blocks, and is a gap for who receives.
#[test]
fn a_ring_that_drops_gives_blocks_back() {
    let pool = pool(8);
    let options = Records::options().capacity(256).prefault(false).policy(Policy::DropNewest);
    let ring = options.create_in(pool.segment()).unwrap();
    let (mut tx, mut rx) = port::ends::<(u64, Block)>(&ring).unwrap();
    for number in 0..20 {
        tx.send((number, filled(&pool, number as u8))).unwrap();
    }
    let stats = ring.stats();
    assert!(stats.lost > 0 && stats.sent + stats.lost == 20, "{stats:?}");
    assert_eq!(pool.in_use() as u64, stats.sent, "what was given up holds nothing");
    let kept = (20, filled(&pool, 20));
    let error = tx.try_send(kept).unwrap_err();
    assert!(matches!(error, PortError::Ring(SendError::Full(_))), "try_ loses nothing");
    tx.send_ref(&error.into_inner()).unwrap();
    assert_eq!(ring.stats().lost, stats.lost + 1);
    for number in 0..stats.sent {
        assert_eq!(rx.recv().unwrap().0, number);
    }
    assert_eq!(rx.sequence(), Some(stats.sent - 1));
    tx.send((21, filled(&pool, 21))).unwrap();
    assert_eq!(rx.recv().unwrap().0, 21);
    assert_eq!(rx.sequence(), Some(21), "as many were sent or given up before");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_segment_of_the_right_length_holds_them_all() {
    let rings = [256, 1 << 12, 300].map(|capacity| Records::options().capacity(capacity));
    let pools = [(3, 1000), (70, 1)]
        .map(|(blocks, len)| BlockPool::options().blocks(blocks).block_len(len).carriers(3));
    let mut len = 0;
    len += rings.iter().map(|ring| ring.len_in_segment().unwrap()).sum::<usize>();
    len += pools.iter().map(|pool| pool.len_in_segment(5).unwrap()).sum::<usize>();
    let segment = Segment::options().len(len).participants(5).anonymous().unwrap();
    for (ring, pool) in rings.into_iter().zip(pools.into_iter().cycle()).take(2) {
        ring.create_in(&segment).unwrap();
        pool.create_in(&segment).unwrap();
    }
    Records::options().capacity(300).create_in(&segment).unwrap();
    let pool = BlockPool::options().blocks(0);
    assert!(matches!(pool.len_in_segment(5), Err(Error::BadParameters { .. })));
}

#[test]
fn a_free_block_wakes_who_waits() {
    let pool = pool(1);
    let block = filled(&pool, 1);
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || {
            let began = Instant::now();
            pool.loan().map(|_| began.elapsed())
        })
    };
    thread::sleep(Duration::from_millis(30));
    drop(block);
    let waited = waiter.join().unwrap().unwrap();
    assert!(waited >= Duration::from_millis(20), "{waited:?}");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_was_freed_last_is_loaned_first() {
    let pool = pool(100);
    let mut blocks: Vec<Block> = (0..90).map(|at| filled(&pool, at)).collect();
    assert!(blocks.iter().map(Block::index).eq(0..90), "the lowest first");
    let freed = blocks.remove(70).index();
    let other = blocks.remove(3).index();
    assert_eq!(filled(&pool, 0).index(), other);
    assert_eq!(filled(&pool, 0).index(), other);
    let _held = filled(&pool, 0);
    assert_eq!(filled(&pool, 0).index(), freed);
}

#[test]
fn two_ends() {
    let pool = pool(4);
    let (mut tx, mut rx) = ring::<(u32, Vec<Block>)>(&pool);
    let (one, two) = (filled(&pool, 1), filled(&pool, 2));
    tx.send((9, vec![one, two.clone(), two.clone()])).unwrap();
    assert_eq!(pool.in_use(), 2);
    drop(two);
    let (nine, got) = rx.recv().unwrap();
    let firsts: Vec<_> = got.iter().map(|block| block.as_bytes()[0]).collect();
    assert_eq!((nine, firsts), (9, vec![1, 2, 2]));
    drop(got);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_failed_send_gives_nothing_up() {
    let pool = pool(2);
    let (mut tx, mut rx) = ring::<(Block, Vec<u8>)>(&pool);
    let mut sent = 0;
    let block = filled(&pool, 5);
    let back = loop {
        match tx.try_send((block.clone(), vec![0; 300])) {
            Ok(()) => sent += 1,
            Err(PortError::Ring(error)) => break error.into_inner(),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(sent > 3, "{sent}");
    assert_eq!(back.0.as_bytes()[0], 5);
    drop((back, block));
    for left in (0..sent).rev() {
        assert_eq!(rx.recv().unwrap().0.as_bytes()[999], 5);
        assert_eq!(pool.in_use(), usize::from(left > 0));
    }
}

#[test]
fn sent_by_reference_it_is_held_by_both() {
    let pool = pool(1);
    let (mut tx, mut rx) = ring::<Block>(&pool);
    let block = filled(&pool, 3);
    tx.send_ref(&block).unwrap();
    let other = rx.recv().unwrap();
    drop(block);
    assert_eq!((pool.in_use(), other.as_bytes()[7]), (1, 3));
    drop(other);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn forwarded_without_a_copy() {
    let pool = pool(1);
    let (mut tx, rx) = ring::<Block>(&pool);
    let (tx2, mut last) = ring::<Block>(&pool);
    let middle = thread::spawn(move || {
        let (mut rx, mut tx2) = (rx, tx2);
        while let Ok(block) = rx.recv() {
            tx2.send(block).unwrap();
        }
    });
    for round in 0..100 {
        let block = loop {
            // The middle may be about to let go of the one before.
            if let Ok(mut loan) = pool.try_loan() {
                loan.as_bytes_mut()[0] = round;
                break loan.freeze();
            }
        };
        tx.send(block).unwrap();
        assert_eq!(last.recv().unwrap().as_bytes()[0], round);
    }
    drop(tx);
    middle.join().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_a_reader_does_not_take_is_released() {
    let pool = pool(2);
    let (tx, rx) = ring::<(u8, Block)>(&pool);
    let mut tx = tx;
    tx.send((1, filled(&pool, 1))).unwrap();
    tx.send((2, filled(&pool, 2))).unwrap();
    assert_eq!(pool.in_use(), 2);
    let consumer = {
        let mut rx = rx;
        assert_eq!(rx.try_recv().unwrap().0, 1);
        rx
    };
    assert_eq!(pool.in_use(), 1);
    drop(consumer);
    assert_eq!(pool.in_use(), 0, "a receiver that closes lets go of the rest");
    let error = tx.try_send((3, filled(&pool, 3)));
    assert!(error.is_ok() || matches!(error, Err(PortError::Ring(_))));
    drop(error);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_message_of_another_type_is_an_error_and_loses_no_block() {
    let pool = pool(1);
    let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
    let mut tx = Sender::<(u8, Block)>::new(ring.producer().unwrap());
    let mut rx = Receiver::<(Block, String)>::new(ring.consumer().unwrap());
    tx.send((5, filled(&pool, 1))).unwrap();
    assert!(matches!(rx.recv(), Err(MessageError::Unreadable { .. })));
    assert_eq!(pool.in_use(), 0);
    tx.producer().send(b"bytes").unwrap();
    assert!(matches!(rx.recv(), Err(MessageError::Unreadable { .. })));
    drop(tx);
    assert!(matches!(rx.recv(), Err(MessageError::Ring(crate::RecvError::Closed))));
}

#[test]
fn only_over_rings_of_its_own_segment() {
    let (pool, other) = (pool(1), pool(1));
    let (mut tx, _rx) = ring::<Block>(&other);
    let Err(PortError::Unsendable { item, reason }) = tx.send(filled(&pool, 1)) else {
        panic!("sent to a ring of another segment");
    };
    assert!(reason.contains("another segment"), "{reason}");
    drop(item);
    assert_eq!(pool.in_use(), 0);
    assert!(postcard::to_stdvec(&filled(&pool, 1)).is_err(), "outside a port");
}

#[test]
fn over_a_control_channel() {
    let pool = pool(2);
    let block = filled(&pool, 8);
    let pid = crate::os::pid();
    let pack = |block: &Block| {
        let (bytes, parcel) =
            transfer::collect_for(pid, || postcard::to_stdvec(&(1u8, block)).unwrap());
        assert!(!parcel.fds().is_empty(), "the pool's segment goes with it");
        (bytes, parcel)
    };
    let (_, unsent) = pack(&block);
    let (bytes, parcel) = pack(&block);
    drop(block);
    assert_eq!(pool.in_use(), 1);
    drop(unsent);
    assert_eq!(pool.in_use(), 1, "the other message still carries it");
    let read = || postcard::from_bytes::<(u8, Block)>(&bytes);
    let (_, got) = transfer::supply(deliver(parcel), read).unwrap();
    assert_eq!(got.as_bytes()[999], 8);
    assert!(got.pool().is_same(&pool));
    drop(got);
    assert_eq!(pool.in_use(), 0);
}

/// Whoever sends learns of it from the channel, and not from the blocks.
#[test]
fn to_a_process_that_has_just_ended() {
    let pool = pool(2);
    let blocks = [filled(&pool, 1), filled(&pool, 2)];
    let gone = u32::MAX >> 1;
    let (bytes, parcel) = transfer::collect_for(gone, || postcard::to_stdvec(&blocks));
    assert!(bytes.is_ok(), "{:?}", transfer::take_reason());
    drop(blocks);
    assert_eq!(pool.in_use(), 2);
    drop(parcel);
    assert_eq!(pool.in_use(), 0);
}

fn deliver(parcel: transfer::Parcel) -> transfer::Parcel {
    let fds = parcel.fds().iter().map(|fd| fd.try_clone().unwrap()).collect();
    let notes = parcel.notes().to_vec();
    parcel.sent();
    crate::received(fds, &notes)
}

#[test]
fn what_is_not_taken_out_of_a_message_is_let_go_of() {
    let (pool, other) = (pool(3), pool(2));
    let pid = crate::os::pid();
    let pack = || {
        let blocks = (filled(&pool, 1), filled(&other, 2), filled(&pool, 3));
        // The same block twice in one message travels once.
        let message = (&blocks.0, &blocks.1, &blocks.2, &blocks.0);
        transfer::collect_for(pid, || postcard::to_stdvec(&message).unwrap())
    };
    let (_, parcel) = pack();
    drop(deliver(parcel));
    assert_eq!((pool.in_use(), other.in_use()), (0, 0), "never read");

    let (bytes, parcel) = pack();
    let read = || postcard::from_bytes::<(Block, Block, bool)>(&bytes).is_err();
    assert!(transfer::supply(deliver(parcel), read));
    assert_eq!((pool.in_use(), other.in_use()), (0, 0), "read in part");

    let (bytes, parcel) = pack();
    let read = || postcard::from_bytes::<(Block, Block, Block, Block)>(&bytes).unwrap();
    let got = transfer::supply(deliver(parcel), read);
    assert_eq!((pool.in_use(), other.in_use()), (2, 1));
    assert_eq!(got.0.index(), got.3.index());
    assert_eq!(got.2.as_bytes()[0], 3);
    drop(got);
    assert_eq!((pool.in_use(), other.in_use()), (0, 0));
}

#[test]
#[allow(clippy::disallowed_methods)] // A process that ends, to be dead.
fn a_message_that_fails_after_its_receiver_died_takes_back_what_is_left() {
    let pool = pool(1);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let block = filled(&pool, 1);
    let pack = || transfer::collect_for(child.id(), || postcard::to_stdvec(&block).unwrap()).1;
    let (before, sent) = (pack(), pack());
    sent.sent();
    child.kill().unwrap();
    child.wait().unwrap();
    drained(child.id());
    drop(before);
    drop(block);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn pools_and_segments_say_what_they_cannot_do() {
    let error = BlockPool::options().blocks(0).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    let error = BlockPool::options().block_len(usize::MAX).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. }), "{error}");
    let error = BlockPool::options().blocks(1 << 20).block_len(1 << 30).anonymous().unwrap_err();
    assert!(matches!(error, Error::BadParameters { .. } | Error::OutOfMemory { .. }), "{error}");
    let small = Segment::options().len(4096).anonymous().unwrap();
    let error = BlockPool::options().create_in(&small).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

#[test]
fn only_a_pool_that_shall_be_is_touched_in_advance() {
    use std::os::fd::AsFd;
    let segment = Segment::options().len(4 << 20).anonymous().unwrap();
    let touched = || {
        let file = std::fs::File::from(segment.as_fd().try_clone_to_owned().unwrap());
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    };
    let options = BlockPool::options().blocks(16).block_len(1 << 16);
    let late = options.clone().create_in(&segment).unwrap();
    assert!(touched() < 1 << 19, "{}", touched());
    options.prefault(true).create_in(&segment).unwrap();
    assert!((1 << 20..3 << 19).contains(&touched()), "{}", touched());
    late.prefault().unwrap();
    assert!((2 << 20..3 << 20).contains(&touched()), "{}", touched());
}

#[test]
fn threads_share_a_row() {
    let pool = pool(8);
    let (tx, rx) = mpsc::channel::<Block>();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            let tx = tx.clone();
            thread::spawn(move || {
                for round in 0..2000 {
                    let Ok(mut loan) = pool.loan() else { continue };
                    loan.as_bytes_mut().fill(round as u8);
                    let block = loan.freeze();
                    if round % 3 == 0 {
                        tx.send(block.clone()).unwrap();
                    }
                    assert!(block.as_bytes().iter().all(|byte| *byte == round as u8));
                }
            })
        })
        .collect();
    drop(tx);
    for block in rx {
        let first = block.as_bytes()[0];
        assert!(block.as_bytes().iter().all(|byte| *byte == first));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(pool.in_use(), 0);
}

#[derive(Clone, Debug)]
enum Action {
    Loan,
    Freeze(usize),
    Cancel(usize),
    Clone(usize),
    Drop(usize),
    Send(usize),
    Recv,
}

fn action() -> impl Strategy<Value = Action> {
    let at = 0usize..8;
    prop_oneof![
        3 => Just(Action::Loan),
        3 => at.clone().prop_map(Action::Freeze),
        1 => at.clone().prop_map(Action::Cancel),
        1 => at.clone().prop_map(Action::Clone),
        3 => at.clone().prop_map(Action::Drop),
        2 => at.prop_map(Action::Send),
        2 => Just(Action::Recv),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Against a table of what each block should hold and how often it is held.
    #[test]
    fn it_does_what_a_table_of_holds_does(actions in prop::collection::vec(action(), 1..200)) {
        let pool = pool(4);
        let (mut tx, mut rx) = ring::<Block>(&pool);
        let (mut loans, mut blocks) = (Vec::<(Loan, u8)>::new(), Vec::<Block>::new());
        // Of each block in use: its content, and how often it is held or in flight.
        let mut table = HashMap::<usize, (u8, usize)>::new();
        let mut in_flight = 0;
        for (round, action) in actions.into_iter().enumerate() {
            match action {
                Action::Loan => match pool.try_loan() {
                    Ok(mut loan) => {
                        prop_assert!(table.len() + loans.len() < 4);
                        loan.as_bytes_mut().fill(round as u8);
                        loans.push((loan, round as u8));
                    }
                    Err(_) => prop_assert_eq!(table.len() + loans.len(), 4),
                },
                Action::Freeze(at) if at < loans.len() => {
                    let (loan, content) = loans.remove(at);
                    let block = loan.freeze();
                    prop_assert!(table.insert(block.index(), (content, 1)).is_none());
                    blocks.push(block);
                }
                Action::Cancel(at) if at < loans.len() => drop(loans.remove(at)),
                Action::Clone(at) if at < blocks.len() && blocks.len() < 8 => {
                    let block = blocks[at].clone();
                    table.get_mut(&block.index()).unwrap().1 += 1;
                    blocks.push(block);
                }
                Action::Drop(at) if at < blocks.len() => {
                    let block = blocks.remove(at);
                    let held = &mut table.get_mut(&block.index()).unwrap().1;
                    *held -= 1;
                    if *held == 0 {
                        table.remove(&block.index());
                    }
                }
                Action::Send(at) if at < blocks.len() && in_flight < 20 => {
                    tx.try_send(blocks.remove(at)).unwrap();
                    in_flight += 1;
                }
                Action::Recv if in_flight > 0 => {
                    blocks.push(rx.try_recv().unwrap());
                    in_flight -= 1;
                }
                _ => {}
            }
            for block in &blocks {
                let (content, _) = table[&block.index()];
                prop_assert!(block.as_bytes().iter().all(|byte| *byte == content));
            }
            prop_assert_eq!(pool.in_use(), table.len() + loans.len());
        }
        drop((loans, blocks, rx, tx));
        prop_assert_eq!(pool.in_use(), 0);
    }

    /// Whatever stands in the control words, the outcome is an error or wrong data.
    #[test]
    fn lies_are_survived(words in prop::collection::vec((0usize..400, any::<u64>()), 1..30)) {
        let pool = pool(2);
        let (mut tx, mut rx) = ring::<Block>(&pool);
        let block = filled(&pool, 1);
        tx.send(filled(&pool, 2)).unwrap();
        let base = pool.geometry().base;
        let end = pool.geometry().payload(0);
        for (at, word) in words {
            let at = base + 64 + at * 8;
            if at < end {
                pool.region().u64(at).store(word, crate::sync::Ordering::Relaxed);
            }
        }
        let _ = rx.try_recv();
        let _ = tx.try_send(block.clone());
        let _ = (pool.in_use(), block.as_bytes().len(), pool.stats());
        drop(block);
        if let Ok(loan) = pool.try_loan() {
            drop(loan.freeze());
        }
        pool.repair();
        for at in 0..2 {
            let _ = pool.words().word(at).state() == State::Moving;
        }
    }
}

#[test]
fn any_number_of_participants_is_made_or_refused() {
    for participants in [0, 256, usize::MAX] {
        let options = BlockPool::options().block_len(64).participants(participants);
        let error = options.clone().anonymous().unwrap_err();
        assert!(error.to_string().contains("participants: 1 to 255"), "{error}");
        let error = options.len_in_segment(participants).unwrap_err();
        assert!(error.to_string().contains("participants: 1 to 255"), "{error}");
    }
    for participants in [1, 255] {
        BlockPool::options().block_len(64).participants(participants).anonymous().unwrap();
        Segment::options().participants(participants).anonymous().unwrap();
    }
}

/// From a destructor of a thread-local value, whichever was first used in that thread.
#[test]
fn blocks_are_sent_while_a_thread_ends() {
    struct Farewell(Option<(Sender<Block>, Block)>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            let (mut tx, block) = self.0.take().unwrap();
            tx.send(block).unwrap();
        }
    }
    thread_local!(static LAST: RefCell<Option<Farewell>> = const { RefCell::new(None) });

    for sends_before in [false, true] {
        let pool = pool(4);
        let (mut tx, mut rx) = ring::<Block>(&pool);
        let ends = thread::spawn(move || {
            let (first, last) = (filled(&pool, 1), filled(&pool, 2));
            if sends_before {
                tx.send(first).unwrap();
                LAST.set(Some(Farewell(Some((tx, last)))));
            } else {
                LAST.set(Some(Farewell(None)));
                tx.send(first).unwrap();
                LAST.with_borrow_mut(|farewell| farewell.as_mut().unwrap().0 = Some((tx, last)));
            }
        });
        ends.join().unwrap();
        let received = [1, 2].map(|_| rx.try_recv().unwrap().as_bytes()[0]);
        assert_eq!(received, [1, 2]);
    }
}
