//! Lanes between threads of one process.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Batch, Head, Refused, Rx, Tx};

/// How many bytes an item has.
pub(crate) type Size<T> = Arc<dyn Fn(&T) -> usize + Send + Sync>;

/// How many bytes a lane may have, and how to count them.
pub(crate) struct Bound<T> {
    pub(crate) bytes: usize,
    pub(crate) size: Size<T>,
}

/// A ring on the heap, until its two ends are taken.
pub(crate) struct HeapLane<T>(Mutex<Ends<T>>);

type Ends<T> = (Option<HeapTx<T>>, Option<HeapRx<T>>);

/// A message, and how many bytes it has where they are counted.
type Counted<T> = (Batch<T>, usize);

impl<T> HeapLane<T> {
    pub(crate) fn new(messages: usize, bound: Option<Bound<T>>) -> HeapLane<T> {
        let (tx, rx) = rtrb::RingBuffer::new(messages);
        let bytes = Arc::new(AtomicUsize::new(0));
        let tx = HeapTx { ring: tx, bound, bytes: bytes.clone() };
        HeapLane(Mutex::new((
            Some(tx),
            Some(HeapRx { ring: rx, bytes, looked_at: VecDeque::new() }),
        )))
    }

    pub(crate) fn tx(&self) -> Option<HeapTx<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(crate) fn rx(&self) -> Option<HeapRx<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }
}

pub(crate) struct HeapTx<T> {
    ring: rtrb::Producer<Counted<T>>,
    bound: Option<Bound<T>>,
    /// Of all messages that were put and are not done with. It is the messages that tell others what
    /// was written before; this is a number alone.
    bytes: Arc<AtomicUsize>,
}

impl<T> Tx<T> for HeapTx<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        let mut bytes = 0;
        if let Some(bound) = &self.bound {
            bytes = batch.items.iter().map(|item| (bound.size)(item)).sum();
            if bytes > bound.bytes && batch.items.len() > 1 {
                return Err(Refused::TooMany(batch));
            }
            // An item that is longer than all goes by itself.
            let before = self.bytes.load(Ordering::Relaxed);
            if bytes > 0 && before > 0 && before.saturating_add(bytes) > bound.bytes {
                return Err(Refused::Full(batch));
            }
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        match self.ring.push((batch, bytes)) {
            Ok(()) => Ok(bytes),
            Err(rtrb::PushError::Full((batch, _))) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(Refused::Full(batch))
            }
        }
    }
}

pub(crate) struct HeapRx<T> {
    ring: rtrb::Consumer<Counted<T>>,
    bytes: Arc<AtomicUsize>,
    /// How many bytes those have that were looked at.
    looked_at: VecDeque<usize>,
}

impl<T> Rx<T> for HeapRx<T> {
    fn is_ready(&self) -> bool {
        !self.ring.is_empty()
    }

    fn look(&mut self, _: &dyn Fn(&Head) -> bool) -> Result<Option<Batch<T>>, String> {
        // Threads die together, so nobody would get a message again.
        let Ok((batch, bytes)) = self.ring.pop() else { return Ok(None) };
        self.looked_at.push_back(bytes);
        Ok(Some(batch))
    }

    fn release(&mut self) -> Result<(), String> {
        if let Some(bytes @ 1..) = self.looked_at.pop_front() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}
