//! Messages over a queue, in one process.

use std::{collections::VecDeque, thread, time::Duration};

use proptest::prelude::*;

use super::{
    Queue,
    port::{self, Message, Receiver, Sender},
};
use crate::{
    RecvError, Segment, SendError,
    block::{Block, BlockPool},
    ring::{
        Policy,
        port::{MessageError, PortError},
    },
};

const SOON: Duration = Duration::from_secs(20);

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(64).prefault(false).anonymous().unwrap()
}

fn queue(pool: &BlockPool, slots: usize) -> Queue {
    let options = Queue::options().capacity(slots).item_len(120).ends(4);
    options.prefault(false).create_in(pool.segment()).unwrap()
}

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.try_loan().unwrap();
    loan.as_bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
    loan.freeze()
}

fn number(block: &Block) -> u64 {
    u64::from_le_bytes(block.as_bytes()[..8].try_into().unwrap())
}

type One = (u64, Block);

fn two(slots: usize) -> (BlockPool, Sender<One>, Receiver<One>) {
    let pool = pool(8);
    let (tx, rx) = port::ends(&queue(&pool, slots)).unwrap();
    (pool, tx, rx)
}

#[test]
fn smoke() {
    let (pool, mut tx, mut rx) = two(4);
    tx.send((1, filled(&pool, 1))).unwrap();
    assert_eq!(pool.in_use(), 1, "the queue holds it");
    let job = rx.recv().unwrap();
    assert_eq!((job.0, number(&job.1), job.attempt(), job.sequence()), (1, 1, 1, 0));
    let (_, kept) = job.ack().unwrap();
    assert_eq!((pool.in_use(), number(&kept)), (1, 1), "what is kept stays held");
    drop(kept);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn wraps() {
    let (pool, mut tx, mut rx) = two(3);
    for next in 0..100 {
        tx.try_send((next, filled(&pool, next))).unwrap();
        let job = rx.try_recv().unwrap();
        assert_eq!((job.0, number(&job.1)), (next, next));
        job.ack().unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn full() {
    let (pool, mut tx, mut rx) = two(2);
    tx.try_send((0, filled(&pool, 0))).unwrap();
    tx.try_send((1, filled(&pool, 1))).unwrap();
    let error = tx.try_send((2, filled(&pool, 2))).unwrap_err();
    assert!(matches!(&error, PortError::Ring(SendError::Full((2, back))) if number(back) == 2));
    let error = tx.send_timeout(error.into_inner(), Duration::from_millis(1)).unwrap_err();
    assert!(matches!(&error, PortError::Ring(SendError::TimedOut(_))), "{error:?}");
    drop(error);
    assert_eq!(pool.in_use(), 2, "nothing of what was not sent is held");
    assert_eq!(rx.discard().unwrap(), 2);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn closed() {
    let (pool, mut tx, mut rx) = two(2);
    tx.send((0, filled(&pool, 0))).unwrap();
    drop(tx);
    assert!(rx.is_closed());
    rx.recv().unwrap().ack().unwrap();
    assert_eq!(rx.recv().unwrap_err(), MessageError::Ring(RecvError::Closed));
}

#[test]
fn handed_out_again() {
    let (pool, mut tx, mut rx) = two(4);
    tx.send((0, filled(&pool, 0))).unwrap();
    tx.send((1, filled(&pool, 1))).unwrap();
    drop(rx.recv().unwrap());
    rx.recv().unwrap().nack().unwrap();
    drop(rx.recv().unwrap());
    for expected in [(1, 2), (0, 3)] {
        let job = rx.recv().unwrap();
        assert_eq!((job.0, job.attempt(), number(&job.1)), (expected.0, expected.1, expected.0));
        job.ack().unwrap();
    }
    assert_eq!(pool.in_use(), 0);
    assert_eq!(rx.ring().stats().redelivered, 3);
}

#[test]
fn two_ends() {
    let (pool, mut tx, mut rx) = two(4);
    let sender = thread::spawn(move || {
        for next in 0..500 {
            let mut loan = pool.loan().unwrap();
            loan.as_bytes_mut()[..8].copy_from_slice(&u64::to_le_bytes(next));
            tx.send((next, loan.freeze())).unwrap();
        }
        pool
    });
    for next in 0..500 {
        let job = rx.recv_timeout(SOON).unwrap();
        assert_eq!((job.0, number(&job.1)), (next, next));
        job.ack().unwrap();
    }
    assert_eq!(sender.join().unwrap().in_use(), 0);
}

#[test]
fn one_block_in_many_messages_and_often_in_one() {
    let pool = pool(2);
    // More than one carrier's places.
    let (mut tx, mut rx) = port::ends::<Vec<Block>>(&queue(&pool, 20)).unwrap();
    let block = filled(&pool, 7);
    for _ in 0..20 {
        tx.send_ref(&vec![block.clone(), block.clone(), block.clone()]).unwrap();
    }
    drop(block);
    for left in (0..20).rev() {
        let job = rx.recv().unwrap();
        assert!(job.len() == 3 && job.iter().all(|block| number(block) == 7));
        job.ack().unwrap();
        assert_eq!(pool.in_use(), usize::from(left > 0));
    }
}

#[test]
fn many_blocks_in_one() {
    let pool = pool(40);
    let options = Queue::options().capacity(2).item_len(1000).prefault(false);
    let (mut tx, mut rx) =
        port::ends::<Vec<Block>>(&options.create_in(pool.segment()).unwrap()).unwrap();
    let blocks = |count| (0..count).map(|next| filled(&pool, next)).collect::<Vec<_>>();
    tx.send(blocks(31)).unwrap();
    let job = rx.recv().unwrap().ack().unwrap();
    assert!((0..31).eq(job.iter().map(number)));
    drop(job);
    let error = tx.send(blocks(32)).unwrap_err();
    assert!(matches!(&error, PortError::Unsendable { .. }), "{error}");
    drop(error);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_cannot_travel_is_refused() {
    let pool = pool(2);
    let elsewhere = Queue::options().capacity(2).anonymous().unwrap();
    let (mut tx, _rx) = port::ends::<One>(&elsewhere).unwrap();
    let error = tx.send((0, filled(&pool, 0))).unwrap_err();
    assert!(error.to_string().contains("another segment"), "{error}");
    drop(error);

    let few = BlockPool::options().blocks(1).block_len(8).carriers(2).anonymous().unwrap();
    let (mut tx, _rx) = port::ends::<One>(&queue(&few, 17)).unwrap();
    let error = tx.send((0, few.try_loan().unwrap().freeze())).unwrap_err();
    assert!(error.to_string().contains("3 carriers"), "{error}");
    drop(error);
    let (mut tx, mut rx) = port::ends::<One>(&queue(&few, 16)).unwrap();
    tx.send((0, few.try_loan().unwrap().freeze())).unwrap();
    rx.recv().unwrap().ack().unwrap();
    assert_eq!((pool.in_use(), few.in_use()), (0, 0));
}

#[test]
fn what_is_no_message_is_told_and_gone() {
    let pool = pool(4);
    let queue = queue(&pool, 4);
    let (mut tx, mut rx) = port::ends::<One>(&queue).unwrap();
    tx.producer().send([1, 2, 3]).unwrap();
    assert!(matches!(rx.try_recv(), Err(MessageError::Unreadable { .. })));
    // Another type's message, with a block in it.
    let mut other = Sender::<(Block, String)>::new(queue.producer().unwrap());
    other.send((filled(&pool, 1), "and more".into())).unwrap();
    assert!(matches!(rx.try_recv(), Err(MessageError::Unreadable { .. })));
    assert_eq!(pool.in_use(), 0);
    assert!(matches!(rx.try_recv(), Err(MessageError::Ring(RecvError::Empty))));
    assert_eq!(queue.stats().acked, 2);
}

#[test]
fn whoever_takes_it_as_bytes_lets_go_of_its_blocks() {
    let (pool, mut tx, mut rx) = two(4);
    for next in 0..3 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    rx.consumer().try_recv().unwrap().ack().unwrap();
    assert_eq!(pool.in_use(), 2);
    rx.consumer().try_run(9).unwrap().ack().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let pool = pool(8);
    let options = Queue::options().capacity(1).policy(Policy::DropNewest).prefault(false);
    let (mut tx, mut rx) = port::ends::<One>(&options.create_in(pool.segment()).unwrap()).unwrap();
    for next in 0..3 {
        tx.send((next, filled(&pool, next))).unwrap();
    }
    assert_eq!((pool.in_use(), tx.ring().stats().lost), (1, 2));
    rx.recv().unwrap().ack().unwrap();
    tx.send((3, filled(&pool, 3))).unwrap();
    let job = rx.recv().unwrap();
    assert_eq!((job.0, job.sequence()), (3, 3), "a gap of two");
}

#[test]
fn pools_of_several_segments_stay_apart() {
    let segment = Segment::options().len(1 << 20).anonymous().unwrap();
    let pools =
        [(); 2].map(|()| BlockPool::options().blocks(4).block_len(64).create_in(&segment).unwrap());
    let queue = Queue::options().capacity(4).item_len(200).create_in(&segment).unwrap();
    let (mut tx, mut rx) = port::ends::<Vec<Block>>(&queue).unwrap();
    let blocks = (0..6).map(|next| filled(&pools[next as usize % 2], next)).collect();
    tx.send(blocks).unwrap();
    assert_eq!(pools.each_ref().map(BlockPool::in_use), [3, 3]);
    let job = rx.recv().unwrap();
    assert!((0..6).eq(job.iter().map(number)));
    job.ack().unwrap();
    assert_eq!(pools.each_ref().map(BlockPool::in_use), [0, 0]);
}

#[test]
fn a_message_that_panics_while_it_is_read_comes_again() {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    #[derive(Debug)]
    struct Fragile(#[allow(dead_code)] Block);
    impl Serialize for Fragile {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Fragile {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fragile, D::Error> {
            drop(Block::deserialize(deserializer)?);
            panic!("it cannot be read");
        }
    }
    let pool = pool(2);
    let queue = queue(&pool, 2);
    let (mut tx, mut rx) = port::ends::<Fragile>(&queue).unwrap();
    tx.send(Fragile(filled(&pool, 1))).unwrap();
    let read = std::panic::AssertUnwindSafe(|| drop(rx.recv()));
    assert!(std::panic::catch_unwind(read).is_err());
    assert_eq!(pool.in_use(), 1);
    drop(rx);
    let mut rx = Receiver::<Block>::new(queue.consumer().unwrap());
    let job = rx.recv().unwrap();
    assert_eq!((number(&job), job.attempt()), (1, 2));
    job.ack().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_stale_handle_is_refused() {
    let (pool, mut tx, mut rx) = two(2);
    let block = filled(&pool, 1);
    tx.send_ref(&(1, block.clone())).unwrap();
    // A liar takes the queue's hold away.
    crate::block::empty_place(&rx.ring().segment, rx.ring().object.index, 0);
    drop(block);
    assert_eq!(pool.in_use(), 0);
    let _other = filled(&pool, 2);
    let error = rx.try_recv().map(Message::ack).unwrap_err();
    assert!(matches!(error, MessageError::Unreadable { .. }), "{error}");
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Ack,
    Nack,
    Keep,
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0u8..4, 0..4).prop_map(Step::Send),
        3 => Just(Step::Ack),
        1 => Just(Step::Nack),
        1 => Just(Step::Keep),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against a model: what waits, and who holds which block.
    #[test]
    fn holds_are_those_of_what_waits(steps in steps(), slots in 1usize..12) {
        let pool = pool(4);
        let mine: Vec<_> = (0..4).map(|next| filled(&pool, next)).collect();
        let mut mine: Vec<_> = mine.into_iter().map(Some).collect();
        let (mut tx, mut rx) = port::ends::<Vec<Block>>(&queue(&pool, slots)).unwrap();
        let (mut waiting, mut kept) = (VecDeque::new(), Vec::new());
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(which) => {
                    let which: Vec<_> =
                        which.into_iter().filter(|at| mine[usize::from(*at)].is_some()).collect();
                    let blocks = which.iter().filter_map(|at| mine[usize::from(*at)].clone());
                    match tx.try_send(blocks.collect()) {
                        Ok(()) => waiting.push_back(which),
                        Err(error) => {
                            let full = matches!(error, PortError::Ring(SendError::Full(_)));
                            prop_assert!(full && waiting.len() == slots);
                        }
                    }
                }
                Step::Forget => mine[at % 4] = None,
                step => {
                    let Ok(job) = rx.try_recv() else {
                        prop_assert!(waiting.is_empty());
                        continue;
                    };
                    let expected = waiting.pop_front().unwrap();
                    let found: Vec<_> = job.iter().map(|block| number(block) as u8).collect();
                    prop_assert_eq!(&found, &expected);
                    match step {
                        Step::Ack => drop(job.ack().unwrap()),
                        Step::Keep => kept.push((found, job.ack().unwrap())),
                        _ => {
                            drop(job);
                            waiting.push_back(expected);
                        }
                    }
                }
            }
            let in_use = (0..4u8).filter(|block| {
                mine[usize::from(*block)].is_some()
                    || waiting.iter().any(|which| which.contains(block))
                    || kept.iter().any(|(which, _)| which.contains(block))
            });
            prop_assert_eq!(pool.in_use(), in_use.count());
        }
        drop((mine, kept));
        rx.discard().unwrap();
        prop_assert_eq!(pool.in_use(), 0);
    }
}
