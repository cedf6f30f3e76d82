//! Holds of a process beyond those that its row of a block can count.
//!
//! A row counts to 255. Up to 254 any thread raises and lowers it as the protocol says; the last step,
//! to 255 and back, is taken under a lock of this process, and what comes after it is counted beside
//! that lock. So while anything is counted here the row is at 255, and the block is held for all of
//! them; who lets go finds the row at 255 and comes here. Other processes see one row, as always, and
//! the count dies with the process, as its holds do.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use super::{
    BlockPool,
    word::{Handle, NotHeld},
    words::Words,
};
use crate::{os, region::Region};

/// A block of a pool in a segment, and the participant that this process is there; and the process,
/// since a forked child has the counts of its parent, but not its holds.
type Key = (u64, u32, u32, usize, u32);

static BESIDE: Mutex<BTreeMap<Key, u64>> = Mutex::new(BTreeMap::new());

fn key(pool: &BlockPool, me: usize, block: u32) -> Key {
    (pool.segment().0.layout.uid, pool.object(), block, me, os::forks())
}

/// Rule H for participant `me`, as often as it likes.
#[inline]
pub(super) fn hold(pool: &BlockPool, me: usize, handle: Handle) -> Result<(), NotHeld> {
    match pool.words().hold_some(me, handle) {
        Err(NotHeld::TooMany) => hold_more(pool, me, handle),
        Err(NotHeld::Owed) => {
            if release_more(&pool.words(), pool, me, handle.block) {
                pool.wake();
            }
            Err(NotHeld::Stale)
        }
        done => done,
    }
}

#[cold]
fn hold_more(pool: &BlockPool, me: usize, handle: Handle) -> Result<(), NotHeld> {
    let mut beside = BESIDE.lock().unwrap_or_else(PoisonError::into_inner);
    match pool.words().hold(me, handle) {
        Err(NotHeld::TooMany) => {
            *beside.entry(key(pool, me, handle.block)).or_default() += 1;
            Ok(())
        }
        done => done,
    }
}

/// Lets go of one hold of `me`; rule F. Tells whether the block was freed.
#[inline]
pub(super) fn release(pool: &BlockPool, me: usize, block: u32) -> bool {
    release_by(&pool.words(), pool, me, block)
}

/// The same by words that may [note](Words::noting) what becomes free.
#[inline]
pub(super) fn release_by(
    words: &Words<'_, Region>,
    pool: &BlockPool,
    me: usize,
    block: u32,
) -> bool {
    words.release_some(me, block).unwrap_or_else(|| release_more(words, pool, me, block))
}

#[cold]
fn release_more(words: &Words<'_, Region>, pool: &BlockPool, me: usize, block: u32) -> bool {
    let mut beside = BESIDE.lock().unwrap_or_else(PoisonError::into_inner);
    match beside.entry(key(pool, me, block)) {
        Entry::Occupied(mut count) if *count.get() > 1 => {
            *count.get_mut() -= 1;
            false
        }
        Entry::Occupied(count) => {
            count.remove();
            false
        }
        Entry::Vacant(_) => words.release(me, block),
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        block::Block,
        ring::{port, records::Records},
    };

    fn pool() -> BlockPool {
        BlockPool::options().blocks(2).block_len(64).anonymous().unwrap()
    }

    #[test]
    fn a_block_of_a_thousand_messages() {
        let pool = pool();
        let ring = Records::options().capacity(4096).create_in(pool.segment()).unwrap();
        let (mut tx, mut rx) = port::ends::<(u64, Block)>(&ring).unwrap();
        let mut loan = pool.try_loan().unwrap();
        loan.as_bytes_mut().fill(7);
        let block = loan.freeze();
        let mut kept: Vec<_> = (0..1000)
            .map(|number| {
                tx.send_ref(&(number, block.clone())).unwrap();
                rx.recv().unwrap()
            })
            .collect();
        drop(block);
        assert!(kept.iter().map(|(number, _)| *number).eq(0..1000));
        while let Some((number, block)) = kept.pop() {
            assert_eq!(pool.in_use(), 1, "at {number}");
            assert_eq!(block.as_bytes(), [7; 64]);
        }
        assert_eq!(pool.in_use(), 0);
        assert!(pool.try_loan().is_ok() && BESIDE.lock().unwrap().is_empty());
    }

    #[test]
    fn threads_hold_it_again_and_again() {
        let pool = pool();
        let block = pool.try_loan().unwrap().freeze();
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (pool, handle) = (&pool, block.handle());
                scope.spawn(move || {
                    let (mut held, mut random) = (Vec::new(), thread + 1);
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                        // About 64 for each of them, so that all come to the end of the row.
                        if held.len() < 48 || held.len() < 80 && random >> 63 == 0 {
                            held.push(Block::take(pool, handle).unwrap());
                        } else {
                            held.pop();
                        }
                    }
                });
            }
        });
        assert_eq!(pool.in_use(), 1);
        drop(block);
        assert_eq!(pool.in_use(), 0);
    }
}
