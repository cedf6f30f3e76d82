//! The newest message, in one process.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Latest,
    port::{self, Reader, Writer},
};
use crate::{
    RecvError, SendError,
    block::{Block, BlockPool, Frame},
    ring::{
        Selector,
        port::{MessageError, PortError},
    },
};

const SOON: Duration = Duration::from_secs(20);

type One = (u64, Block);

fn pool(blocks: usize) -> BlockPool {
    BlockPool::options().blocks(blocks).block_len(256).prefault(false).anonymous().unwrap()
}

fn board(pool: &BlockPool) -> Latest<[u8]> {
    Latest::<[u8]>::options().max_len(120).prefault(false).create_in(pool.segment()).unwrap()
}

fn filled(pool: &BlockPool, number: u64) -> Block {
    let mut loan = pool.try_loan().unwrap();
    loan.array_mut::<u64, _>(32).unwrap().fill(number);
    loan.freeze()
}

fn check(message: &One) -> u64 {
    let (number, block) = message;
    assert!(block.array::<u64, _>(32).unwrap().iter().all(|element| element == number), "torn");
    *number
}

fn two() -> (BlockPool, Writer<One>, Reader<One>) {
    let pool = pool(4);
    let (writer, reader) = port::ends(&board(&pool)).unwrap();
    (pool, writer, reader)
}

#[test]
fn smoke() {
    let (pool, mut writer, mut reader) = two();
    assert_eq!(reader.try_get().unwrap_err(), MessageError::Ring(RecvError::Empty));
    writer.set((1, filled(&pool, 1))).unwrap();
    assert_eq!(pool.in_use(), 1, "the value holds it");
    assert_eq!(check(&reader.recv().unwrap()), 1);
    assert_eq!(reader.try_recv().unwrap_err(), MessageError::Ring(RecvError::Empty));
    assert_eq!(check(&reader.try_get().unwrap()), 1, "the same again");
    writer.set((2, filled(&pool, 2))).unwrap();
    writer.set((3, filled(&pool, 3))).unwrap();
    writer.set((4, filled(&pool, 4))).unwrap();
    assert_eq!(pool.in_use(), 1);
    assert_eq!(check(&reader.recv().unwrap()), 4);
    assert_eq!((reader.version(), reader.missed()), (4, 2));
    writer.clear().unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn the_writer_goes_on_while_readers_keep_what_was_replaced() {
    let (pool, mut writer, mut reader) = two();
    writer.set((1, filled(&pool, 1))).unwrap();
    let kept = reader.recv().unwrap();
    for next in 2..50 {
        writer.set((next, filled(&pool, next))).unwrap();
        assert_eq!(pool.in_use(), 2);
        assert_eq!(check(&kept), 1);
    }
    drop(kept);
    assert_eq!(pool.in_use(), 1);
}

#[test]
fn the_same_block_again_and_other_numbers_of_them() {
    let pool = pool(4);
    let (mut writer, mut reader) = port::ends::<Vec<Block>>(&board(&pool)).unwrap();
    let blocks: Vec<_> = (0..3).map(|number| filled(&pool, number)).collect();
    for count in [1, 1, 3, 0, 2, 2, 3, 1] {
        writer.set_ref(&blocks[..count].to_vec()).unwrap();
        assert_eq!(reader.recv().unwrap().len(), count);
    }
    drop(blocks);
    assert_eq!(pool.in_use(), 1);
    writer.set(vec![]).unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_cannot_be_set_is_handed_back() {
    let (pool, mut writer, mut reader) = two();
    writer.set((1, filled(&pool, 1))).unwrap();
    let other = self::pool(1);
    let error = writer.set((2, filled(&other, 2))).unwrap_err();
    assert!(error.to_string().contains("another segment"), "{error}");
    assert_eq!(check(&error.into_inner()), 2);
    let (mut long, _) = port::ends::<(Block, Vec<u8>)>(&board(&pool)).unwrap();
    let error = long.set((filled(&pool, 3), vec![0; 200])).unwrap_err();
    assert!(matches!(&error, PortError::Ring(SendError::TooLarge { limit: 120, .. })), "{error:?}");
    drop(error);
    assert_eq!((pool.in_use(), other.in_use()), (1, 0));
    assert_eq!(check(&reader.recv().unwrap()), 1);
}

#[test]
fn closed() {
    let (pool, mut writer, mut reader) = two();
    writer.set((1, filled(&pool, 1))).unwrap();
    drop(writer);
    assert!(reader.is_closed());
    assert_eq!(check(&reader.recv().unwrap()), 1);
    assert_eq!(reader.recv().unwrap_err(), MessageError::Ring(RecvError::Closed));
    assert_eq!(check(&reader.get().unwrap()), 1, "it stays");
    // Whoever follows can take it away.
    let mut writer = Writer::<One>::new(reader.latest().writer().unwrap());
    writer.clear().unwrap();
    assert_eq!(pool.in_use(), 0);
    assert_eq!(reader.try_get().unwrap_err(), MessageError::Ring(RecvError::Empty));
    assert_eq!(
        reader.get_timeout(Duration::from_millis(2)).unwrap_err(),
        MessageError::Ring(RecvError::TimedOut)
    );
    writer.set((2, filled(&pool, 2))).unwrap();
    assert_eq!(check(&reader.get().unwrap()), 2);
    writer.clear().unwrap();
    drop(writer);
    assert_eq!(reader.try_get().unwrap_err(), MessageError::Ring(RecvError::Closed));
    assert_eq!(reader.get().unwrap_err(), MessageError::Ring(RecvError::Closed));
}

#[test]
fn other_writers_come_between() {
    let (pool, mut writer, mut reader) = two();
    writer.set((1, filled(&pool, 1))).unwrap();
    let board = writer.latest().clone();
    drop(writer);
    board.writer().unwrap().set(b"bytes").unwrap();
    assert!(matches!(reader.try_recv(), Err(MessageError::Unreadable { .. })));
    let mut writer = Writer::<One>::new(board.writer().unwrap());
    writer.set((3, filled(&pool, 3))).unwrap();
    assert_eq!(check(&reader.recv().unwrap()), 3);
    writer.clear().unwrap();
    assert_eq!(pool.in_use(), 0, "also what was there before the bytes");
}

#[test]
fn frames_wait_in_a_selector() {
    let pool = BlockPool::options().blocks(3).block_len(1 << 12).anonymous().unwrap();
    let (mut writer, mut reader) = port::ends::<Frame<f32, ndarray::Ix2>>(&board(&pool)).unwrap();
    let mut selector = Selector::new();
    selector.add(5, &reader);
    let setter = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let mut frame = pool.loan_frame::<f32, _>((4, 5)).unwrap();
        frame.array_mut().fill(0.5);
        writer.set(frame.freeze()).unwrap();
        (pool, writer)
    });
    assert_eq!(selector.ready_timeout(SOON), Some(5));
    let frame = reader.try_recv().unwrap();
    assert_eq!(frame.view().unwrap()[[3, 4]], 0.5);
    let (pool, mut writer) = setter.join().unwrap();
    writer.clear().unwrap();
    drop(frame);
    assert_eq!(pool.in_use(), 0);
}

/// A writer that never stops, and readers that are overtaken: no block is torn or foreign.
#[test]
fn two_ends() {
    let pool = pool(8);
    let board = board(&pool);
    let mut writer = Writer::<One>::new(board.writer().unwrap());
    writer.set((0, filled(&pool, 0))).unwrap();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = Reader::<One>::new(board.reader());
                scope.spawn(move || {
                    let (mut last, mut count, mut kept) = (0, 0, None::<One>);
                    let end = loop {
                        let message = match reader.recv_timeout(SOON) {
                            Ok(message) => message,
                            Err(end) => break end,
                        };
                        let number = check(&message);
                        assert!(count == 0 || number > last, "{number} after {last}");
                        (last, count) = (number, count + 1);
                        // What is kept stays as it is.
                        kept.replace(message).as_ref().map(check);
                    };
                    assert_eq!(end, MessageError::Ring(RecvError::Closed));
                    (last, count)
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_millis(300);
        let mut next = 1;
        while Instant::now() < until {
            // Readers keep one each, and are about to take another.
            let Ok(mut loan) = pool.try_loan() else { continue };
            loan.array_mut::<u64, _>(32).unwrap().fill(next);
            writer.set((next, loan.freeze())).unwrap();
            next += 1;
        }
        drop(writer);
        for reader in readers {
            let (last, count) = reader.join().unwrap();
            assert_eq!(last, next - 1, "everybody gets the newest");
            assert!(count > 10);
        }
    });
    assert_eq!(pool.in_use(), 1);
    Writer::<One>::new(board.writer().unwrap()).clear().unwrap();
    assert_eq!(pool.in_use(), 0);
}
