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

/// What lies in a ring.
enum Slot<T> {
    /// A message, and how many bytes it has where they are counted.
    Message(Batch<T>, usize),
    /// The last one: what comes after it lies there.
    Next(rtrb::Consumer<Slot<T>>),
}

/// How many messages a ring has room for. A lane that may have more of them gets another ring when
/// its ring is full, so that it has no more memory than it needs.
const RING: usize = 4096;

impl<T> HeapLane<T> {
    /// A lane that has room for so many messages. One that is gated takes more: its sender sees
    /// before it begins whether there is room.
    pub(crate) fn new(messages: usize, bound: Option<Bound<T>>, gated: bool) -> HeapLane<T> {
        let messages = if gated { usize::MAX } else { messages };
        HeapLane::of_rings(messages, RING, bound, gated)
    }

    fn of_rings(messages: usize, most: usize, bound: Option<Bound<T>>, gated: bool) -> HeapLane<T> {
        let (tx, rx) = rtrb::RingBuffer::new(messages.min(most));
        let bytes = Arc::new(AtomicUsize::new(0));
        let next = (messages > most).then_some(most);
        let tx = HeapTx { ring: tx, next, bound, gated, bytes: bytes.clone() };
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
    ring: rtrb::Producer<Slot<T>>,
    /// How long the next ring is, if there may be one.
    next: Option<usize>,
    bound: Option<Bound<T>>,
    gated: bool,
    /// Of all messages that were put and are not done with. It is the messages that tell others what
    /// was written before; this is a number alone.
    bytes: Arc<AtomicUsize>,
}

impl<T> HeapTx<T> {
    /// Puts a message into the ring, or gives it back if there is no room.
    fn push(&mut self, message: Slot<T>) -> Result<(), Slot<T>> {
        let given_back = |rtrb::PushError::Full(slot)| slot;
        match self.next {
            Some(len) if self.ring.slots() == 1 => {
                let (mut tx, rx) = rtrb::RingBuffer::new(len);
                // Who finds the way to the next ring finds a message there.
                tx.push(message).map_err(given_back)?;
                self.ring.push(Slot::Next(rx)).map_err(given_back)?; // There is a slot.
                self.ring = tx;
                Ok(())
            }
            _ => self.ring.push(message).map_err(given_back),
        }
    }
}

impl<T> Tx<T> for HeapTx<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        let mut bytes = 0;
        if let Some(bound) = &self.bound {
            let each = batch.items.iter().map(|item| (bound.size)(item));
            bytes = each.fold(0, usize::saturating_add);
            if bytes > bound.bytes && batch.items.len() > 1 && !self.gated {
                return Err(Refused::TooMany(batch));
            }
            // An item that is longer than all goes by itself.
            let before = self.bytes.load(Ordering::Relaxed);
            let sum = before.checked_add(bytes).filter(|sum| *sum <= bound.bytes);
            if bytes > 0 && before > 0 && sum.is_none() && !self.gated {
                return Err(Refused::Full(batch));
            }
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        match self.push(Slot::Message(batch, bytes)) {
            Err(Slot::Message(batch, _)) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(Refused::Full(batch))
            }
            Ok(()) | Err(Slot::Next(_)) => Ok(bytes),
        }
    }

    fn is_roomy(&self) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.bound.as_ref().is_none_or(|bound| bytes < bound.bytes)
    }
}

pub(crate) struct HeapRx<T> {
    ring: rtrb::Consumer<Slot<T>>,
    bytes: Arc<AtomicUsize>,
    /// How many bytes those have that were looked at.
    looked_at: VecDeque<usize>,
}

impl<T> HeapRx<T> {
    fn pop(&mut self) -> Option<(Batch<T>, usize)> {
        loop {
            match self.ring.pop().ok()? {
                Slot::Message(batch, bytes) => return Some((batch, bytes)),
                Slot::Next(ring) => self.ring = ring,
            }
        }
    }
}

/// One ring after the other, for each would drop the next from within.
impl<T> Drop for HeapRx<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T> Rx<T> for HeapRx<T> {
    fn is_ready(&self) -> bool {
        !self.ring.is_empty()
    }

    fn look(&mut self, _: &dyn Fn(&Head) -> bool) -> Result<Option<Batch<T>>, String> {
        // Threads die together, so nobody would get a message again.
        let Some((batch, bytes)) = self.pop() else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: u64) -> Batch<u64> {
        Batch { head: Head { id, ..Head::default() }, items: vec![id] }
    }

    #[test]
    fn a_lane_without_bound_grows_as_it_needs() {
        let lane = HeapLane::of_rings(usize::MAX, 4, None, false);
        let (mut tx, mut rx) = (lane.tx().unwrap(), lane.rx().unwrap());
        let (mut puts, mut takes) = (0.., 0..);
        for (put, taken) in [(3, 3), (100, 0), (4, 90), (1, 15)] {
            for id in puts.by_ref().take(put) {
                assert!(matches!(tx.try_put(batch(id)), Ok(0)));
            }
            for id in takes.by_ref().take(taken) {
                assert!(rx.is_ready());
                assert_eq!(rx.look(&|_| false).unwrap().unwrap().head.id, id);
                rx.release().unwrap();
            }
        }
        assert!(!rx.is_ready() && rx.look(&|_| false).unwrap().is_none());
    }

    #[test]
    fn a_long_chain_of_rings_is_dropped() {
        let lane = HeapLane::of_rings(usize::MAX, 2, None, false);
        let mut tx = lane.tx().unwrap();
        for id in 0..100_000 {
            assert!(tx.try_put(batch(id)).is_ok());
        }
        drop(tx);
        drop(lane);
    }

    #[test]
    fn a_lane_with_a_bound_is_full() {
        let lane = HeapLane::of_rings(3, 4, None, false);
        let (mut tx, mut rx) = (lane.tx().unwrap(), lane.rx().unwrap());
        for id in 0..3 {
            assert!(tx.try_put(batch(id)).is_ok());
        }
        assert!(matches!(tx.try_put(batch(3)), Err(Refused::Full(back)) if back.items == [3]));
        assert_eq!(rx.look(&|_| false).unwrap().unwrap().items, [0]);
        assert!(tx.try_put(batch(3)).is_ok());
    }

    #[test]
    fn sizes_beyond_all_numbers_do_no_harm() {
        let bound = Bound { bytes: usize::MAX, size: Arc::new(|_: &u64| usize::MAX) };
        let lane = HeapLane::new(usize::MAX, Some(bound), false);
        let (mut tx, mut rx) = (lane.tx().unwrap(), lane.rx().unwrap());
        let two = Batch { head: Head::default(), items: vec![1, 2] };
        assert!(matches!(tx.try_put(two), Ok(usize::MAX)));
        assert!(matches!(tx.try_put(batch(1)), Err(Refused::Full(_))));
        rx.look(&|_| false).unwrap().unwrap();
        rx.release().unwrap();
        assert!(tx.try_put(batch(1)).is_ok());
    }
}
