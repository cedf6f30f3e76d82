//! Lanes between threads of one process.

use std::sync::{Mutex, PoisonError};

use super::{Batch, Fate, Refused, Rx, Tx};

/// A ring on the heap, until its two ends are taken.
pub(crate) struct HeapLane<T>(Mutex<Ends<T>>);

type Ends<T> = (Option<rtrb::Producer<Batch<T>>>, Option<rtrb::Consumer<Batch<T>>>);

impl<T> HeapLane<T> {
    pub(crate) fn new(messages: usize) -> HeapLane<T> {
        let (tx, rx) = rtrb::RingBuffer::new(messages);
        HeapLane(Mutex::new((Some(tx), Some(rx))))
    }

    pub(crate) fn tx(&self) -> Option<HeapTx<T>> {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.0.take().map(HeapTx)
    }

    pub(crate) fn rx(&self) -> Option<HeapRx<T>> {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.1.take().map(HeapRx)
    }
}

pub(crate) struct HeapTx<T>(rtrb::Producer<Batch<T>>);

impl<T> Tx<T> for HeapTx<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        match self.0.push(batch) {
            Ok(()) => Ok(0),
            Err(rtrb::PushError::Full(batch)) => Err(Refused::Full(batch)),
        }
    }
}

pub(crate) struct HeapRx<T>(rtrb::Consumer<Batch<T>>);

impl<T> Rx<T> for HeapRx<T> {
    fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }

    fn take(
        &mut self,
        _piece: &mut dyn FnMut(),
        handle: &mut dyn FnMut(Batch<T>) -> Fate,
    ) -> Result<Option<Fate>, String> {
        // Threads die together, so nobody would get a message again.
        Ok(self.0.pop().ok().map(handle))
    }
}
