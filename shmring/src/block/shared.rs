//! What the clones of one `Block` share: an `Arc` without weak references. Whoever is alone with it
//! lets go without an atomic read-modify-write, as does one of two on the same thread, and its memory
//! is used again by the next one of the thread. Blocks come and go with each message, some dozens at
//! once where items are sent by the batch.

#![allow(unsafe_code)] // A counted pointer.

use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    process,
    ptr::{self, NonNull},
};

use super::held::Held;
use crate::sync::local::{AtomicU64, Ordering, fence};

/// More clones than memory can hold: a count that leaks.
const LIMIT: u64 = 1 << 62;

/// How much memory a thread keeps: for as many blocks as are on their way to some workers.
const MOST_SPARE: usize = 256;

pub(super) struct Shared {
    inner: NonNull<Inner>,
    owns: PhantomData<Inner>,
}

struct Inner {
    count: AtomicU64,
    held: Held,
}

// What is inside is used by reference by several threads, and dropped by the last of them.
const _: () = {
    const fn may_cross_threads<T: Send + Sync>() {}
    may_cross_threads::<Held>();
};
// SAFETY: as for an `Arc`, since `Held` is Send and Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[allow(clippy::vec_box)] // What is in them is pointed to.
type Spare = Vec<Box<MaybeUninit<Inner>>>;

thread_local! {
    /// The memory of those that were dropped last.
    static SPARE: RefCell<Spare> = const { RefCell::new(Vec::new()) };
    /// Of which this thread has one that nobody uses: see [`Shared::outlive`].
    static OUTLIVED: Cell<*const Inner> = const { Cell::new(ptr::null()) };
}

/// Puts back what was there, also when the work in between panics.
struct Outlived(*const Inner);

impl Drop for Outlived {
    #[inline]
    fn drop(&mut self) {
        OUTLIVED.set(self.0);
    }
}

impl Shared {
    #[inline]
    pub(super) fn new(held: Held) -> Shared {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let memory = spare.unwrap_or_else(Box::new_uninit);
        let inner = Box::write(memory, Inner { count: AtomicU64::new(1), held });
        Shared { inner: NonNull::from(Box::leak(inner)), owns: PhantomData }
    }

    /// Runs what probably drops the only other one, which then costs less.
    #[inline]
    pub(super) fn outlive(&mut self, work: impl FnOnce()) {
        let _before = Outlived(OUTLIVED.replace(self.inner.as_ptr()));
        work();
    }

    /// How many there are. One means that nobody else has it, nor can get it; and what others did
    /// with it has been done.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        // SYNC let go: Acquire here, Release in `drop`.
        self.inner().count.load(Ordering::Acquire)
    }

    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: it is there as long as anybody is counted, and we are.
        unsafe { self.inner.as_ref() }
    }

    #[inline]
    fn free(&mut self) {
        // SAFETY: nobody else is counted, so the value is ours, and nobody uses it after this.
        unsafe { ptr::drop_in_place(self.inner.as_ptr()) };
        // SAFETY: it came out of such a box, and what was in it is gone.
        let memory = unsafe { Box::from_raw(self.inner.as_ptr().cast::<MaybeUninit<Inner>>()) };
        // At the end of a thread there may be no place for it: then it is freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(memory);
            }
        });
    }
}

impl Deref for Shared {
    type Target = Held;

    #[inline]
    fn deref(&self) -> &Held {
        &self.inner().held
    }
}

impl Clone for Shared {
    #[inline]
    fn clone(&self) -> Shared {
        if self.inner().count.fetch_add(1, Ordering::Relaxed) > LIMIT {
            process::abort();
        }
        Shared { inner: self.inner, owns: PhantomData }
    }
}

impl Drop for Shared {
    #[inline]
    fn drop(&mut self) {
        match self.count() {
            1 => return self.free(),
            // Of the two, one is this and the other is borrowed by `outlive` up this thread's stack:
            // nobody else can look at the count.
            2 if ptr::eq(OUTLIVED.get(), self.inner.as_ptr()) => {
                return self.inner().count.store(1, Ordering::Relaxed);
            }
            _ => {}
        }
        // SYNC let go: Release here, Acquire below and in `count`.
        if self.inner().count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.free();
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use std::thread;

    use crate::block::BlockPool;

    #[test]
    fn threads_share_a_block_and_the_last_lets_go() {
        let pool = BlockPool::options().blocks(2).block_len(64).anonymous().unwrap();
        for _ in 0..1000 {
            let block = pool.try_loan().unwrap().freeze();
            let clones: Vec<_> = (0..3).map(|_| block.clone()).collect();
            thread::scope(|scope| {
                for clone in clones {
                    let again = move || (0..10).map(|_| clone.clone().len()).sum::<usize>();
                    scope.spawn(again);
                }
                drop(block);
            });
            assert_eq!(pool.in_use(), 0);
        }
    }
}
