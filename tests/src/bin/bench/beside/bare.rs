//! The same loops on bare shared memory: what there is to gain at most.

use std::{
    hint::spin_loop,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use shmring::os::{self, Mapping};

use super::{
    pair::Result,
    system::{Rx, System, Tx},
};

struct Shared {
    mapping: Mapping,
    len: usize,
    slots: usize,
}

/// Where the messages begin; before that, each direction's two counters on lines of their own.
const DATA: usize = 4096;

impl Shared {
    fn new(len: usize, slots: usize) -> Result<Arc<Shared>> {
        let size = DATA + 2 * slots * len.next_multiple_of(64);
        let fd = os::memfd("compare")?;
        os::resize(fd.as_fd(), size as u64)?;
        let mapping = Mapping::new(&fd, size)?;
        mapping.prefault()?;
        Ok(Arc::new(Shared { mapping, len, slots }))
    }

    fn word(&self, way: usize, number: usize) -> &AtomicU32 {
        let offset = way * 512 + number * 128;
        // SAFETY: inside of the first page, aligned, and used as an atomic only.
        unsafe { AtomicU32::from_ptr(self.mapping.as_ptr().as_ptr().add(offset).cast()) }
    }

    #[allow(clippy::mut_from_ref)] // The counters say whose slot it is.
    fn slot(&self, way: usize, count: u32) -> &mut [u8] {
        let slot = way * self.slots + count as usize % self.slots;
        let offset = DATA + slot * self.len.next_multiple_of(64);
        // SAFETY: inside of the mapping; sender and receiver take turns by the counters.
        unsafe {
            let base = self.mapping.as_ptr().as_ptr().add(offset);
            std::slice::from_raw_parts_mut(base, self.len)
        }
    }
}

pub(crate) struct End {
    shared: Arc<Shared>,
    way: usize,
    count: u32,
    wait: fn(&AtomicU32, u32),
    wake: fn(&AtomicU32),
}

fn spin(_: &AtomicU32, _: u32) {
    spin_loop();
}

fn sleep(word: &AtomicU32, seen: u32) {
    os::futex_wait(word, seen, Duration::from_secs(1));
}

fn ring(word: &AtomicU32) {
    let _ = os::futex_wake(word);
}

const SENT: usize = 0;
const TAKEN: usize = 1;

impl Tx for End {
    fn send(&mut self, mut fill: impl FnMut(&mut [u8])) -> Result {
        let taken = self.shared.word(self.way, TAKEN);
        loop {
            let seen = taken.load(Ordering::Acquire);
            if self.count.wrapping_sub(seen) < self.shared.slots as u32 {
                break;
            }
            (self.wait)(taken, seen);
        }
        fill(self.shared.slot(self.way, self.count));
        self.count = self.count.wrapping_add(1);
        let sent = self.shared.word(self.way, SENT);
        sent.store(self.count, Ordering::Release);
        (self.wake)(sent);
        Ok(())
    }
}

impl Rx for End {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result {
        let sent = self.shared.word(self.way, SENT);
        while sent.load(Ordering::Acquire) == self.count {
            (self.wait)(sent, self.count);
        }
        read(self.shared.slot(self.way, self.count));
        self.count = self.count.wrapping_add(1);
        self.shared.word(self.way, TAKEN).store(self.count, Ordering::Release);
        Ok(())
    }
}

/// So many slots by turns. Two stay in the cache.
pub(crate) struct Pages<const SLOTS: usize>(Arc<Shared>);

impl<const SLOTS: usize> System for Pages<SLOTS> {
    type Tx = End;
    type Rx = End;

    fn new(len: usize) -> Result<Self> {
        Ok(Pages(Shared::new(len, SLOTS)?))
    }

    fn tx(&self, way: usize) -> Result<End> {
        Ok(End { shared: self.0.clone(), way, count: 0, wait: spin, wake: |_| () })
    }

    fn rx(&self, way: usize) -> Result<End> {
        self.tx(way)
    }
}

/// Sleeps on the counter itself.
pub(crate) struct Futex(Arc<Shared>);

impl System for Futex {
    type Tx = End;
    type Rx = End;

    fn new(len: usize) -> Result<Futex> {
        Ok(Futex(Shared::new(len, 2)?))
    }

    fn tx(&self, way: usize) -> Result<End> {
        Ok(End { shared: self.0.clone(), way, count: 0, wait: sleep, wake: ring })
    }

    fn rx(&self, way: usize) -> Result<End> {
        self.tx(way)
    }
}
