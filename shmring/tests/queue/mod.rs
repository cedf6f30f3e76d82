//! What the tests of queues between processes share.

use std::{
    io::{PipeReader, PipeWriter, Read, Write},
    time::Duration,
};

use shmring::{RecvError, SendError, WaitStrategy, ring::queue::Queue};

pub(crate) const LATE: Duration = Duration::from_secs(20);
pub(crate) const SLOTS: usize = 8;

pub(crate) fn queue() -> Queue {
    Queue::options().capacity(SLOTS).item_len(80).wait(WaitStrategy::Park).anonymous().unwrap()
}

/// An item that says which it is, of a length of its own.
pub(crate) fn item(number: u64) -> Vec<u8> {
    let mut item = vec![number as u8; 8 + (number % 70) as usize];
    item[..8].copy_from_slice(&number.to_le_bytes());
    item
}

pub(crate) fn number(item: &[u8]) -> u64 {
    let number = u64::from_le_bytes(item[..8].try_into().unwrap());
    assert_eq!(item, self::item(number), "torn");
    number
}

pub(crate) fn say(pipe: &mut PipeWriter, words: [u64; 2]) {
    // Below what a pipe takes at once: whole or not at all.
    pipe.write_all(&[words[0].to_le_bytes(), words[1].to_le_bytes()].concat()).unwrap();
}

pub(crate) fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u64; 2]> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(16).map(move |pair| [word(&pair[..8]), word(&pair[8..])])
}

pub(crate) fn all_said(mut pipe: PipeReader) -> Vec<[u64; 2]> {
    let mut bytes = vec![];
    pipe.read_to_end(&mut bytes).unwrap();
    pairs(&bytes).collect()
}

/// All slots of the queue can be used, each for one item.
pub(crate) fn check_slots(queue: &Queue) {
    let (mut tx, mut rx) = queue.split().unwrap();
    assert_eq!(rx.try_recv().map(drop).unwrap_err(), RecvError::Empty);
    for round in 0..3 {
        for slot in 0..SLOTS as u64 {
            tx.try_send(item(round + slot)).unwrap();
        }
        assert!(matches!(tx.try_send(item(0)), Err(SendError::Full(_))));
        for slot in 0..SLOTS as u64 {
            let found = rx.try_recv().unwrap();
            assert_eq!((number(&found), found.attempt()), (round + slot, 1));
            found.ack().unwrap();
        }
    }
}
