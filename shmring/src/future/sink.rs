//! Producers as sinks.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytemuck::Pod;
use futures_sink::Sink;

use super::{Async, AsyncReady};
use crate::{
    error::SendError,
    ring::{Policy, broadcast, cells, queue, records, select::Selectable},
};

/// An end that sends items of type `I`: what [`ItemSink`] needs of it.
pub trait Put<I>: Selectable {
    /// Sends an item if there is room now; gives it back if not.
    ///
    /// # Errors
    ///
    /// As the end's `try_send`.
    fn try_put(&mut self, item: I) -> Result<(), SendError<I>>;

    /// Whether one waits for room here; otherwise [`Put::put`] says what becomes of an item that
    /// finds none.
    fn waits(&self) -> bool;

    /// Sends an item as the ring's policy says.
    ///
    /// # Errors
    ///
    /// As the end's `send`.
    fn put(&mut self, item: I) -> Result<(), SendError<I>>;

    /// How much room the item needs; as for [`crate::Selector::add_room`].
    fn want(item: &I) -> usize;
}

/// A kind of producers whose items are bytes.
macro_rules! puts_bytes {
    ($producer:ty) => {
        impl<B: AsRef<[u8]>> Put<B> for $producer {
            fn try_put(&mut self, item: B) -> Result<(), SendError<B>> {
                self.try_send(item)
            }

            fn waits(&self) -> bool {
                self.ring().policy() == Policy::Wait
            }

            fn put(&mut self, item: B) -> Result<(), SendError<B>> {
                self.send(item)
            }

            fn want(item: &B) -> usize {
                item.as_ref().len()
            }
        }

        impl<R> Async<$producer, R> {
            /// Makes a sink of it.
            pub fn into_sink<B: AsRef<[u8]>>(self) -> ItemSink<$producer, B, R> {
                ItemSink { producer: Some(self), parked: None }
            }
        }
    };
}

puts_bytes!(records::Producer);
puts_bytes!(queue::Producer);
puts_bytes!(broadcast::Producer);

impl<T: Pod> Put<T> for cells::Producer<T> {
    fn try_put(&mut self, item: T) -> Result<(), SendError<T>> {
        self.try_send(item)
    }

    fn waits(&self) -> bool {
        self.ring().policy() == Policy::Wait
    }

    fn put(&mut self, item: T) -> Result<(), SendError<T>> {
        self.send(item)
    }

    fn want(_: &T) -> usize {
        1
    }
}

/// A producer as a sink. From `into_sink`.
///
/// An item that finds no room waits here; flush before dropping it. Closing the sink closes the
/// ring.
pub struct ItemSink<E, I, R> {
    /// `None` once closed.
    producer: Option<Async<E, R>>,
    parked: Option<I>,
}

impl<T: Pod, R> Async<cells::Producer<T>, R> {
    /// Makes a sink of it.
    pub fn into_sink(self) -> ItemSink<cells::Producer<T>, T, R> {
        ItemSink { producer: Some(self), parked: None }
    }
}

impl<E, I, R> ItemSink<E, I, R> {
    /// Gives the producer back, if it is not closed, and the item that found no room.
    pub fn into_inner(self) -> (Option<Async<E, R>>, Option<I>) {
        (self.producer, self.parked)
    }
}

// Nothing in it is ever pinned.
impl<E, I, R> Unpin for ItemSink<E, I, R> {}

impl<E: Put<I>, I, R: AsyncReady> Sink<I> for ItemSink<E, I, R> {
    /// Hands the item back.
    type Error = SendError<I>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<I>>> {
        ready!(self.poll_flush(cx))?;
        // Items that always find room do not pass by there.
        R::poll_fairly(cx, |_| Poll::Ready(Ok(())))
    }

    /// # Panics
    ///
    /// When the sink was not ready, or is closed.
    fn start_send(self: Pin<&mut Self>, item: I) -> Result<(), SendError<I>> {
        let this = self.get_mut();
        assert!(this.parked.is_none(), "the sink is not ready: poll_ready comes first");
        let producer = this.producer.as_mut().expect("the sink is closed");
        match put(producer.get_mut(), item) {
            Ok(sent) => sent,
            Err(item) => {
                this.parked = Some(item);
                Ok(())
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<I>>> {
        let ItemSink { producer, parked } = self.get_mut();
        let (Some(producer), Some(item)) = (producer, &*parked) else { return Poll::Ready(Ok(())) };
        producer.poll_fairly(cx, E::want(item), |end| match put(end, parked.take()?) {
            Ok(sent) => Some(sent),
            Err(item) => {
                *parked = Some(item);
                None
            }
        })
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<I>>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.producer = None;
        Poll::Ready(Ok(()))
    }
}

/// Sends an item as the policy says, or gives it back to wait.
fn put<E: Put<I>, I>(end: &mut E, item: I) -> Result<Result<(), SendError<I>>, I> {
    match end.try_put(item) {
        Err(SendError::Full(item)) if end.waits() => Err(item),
        Err(SendError::Full(item)) => Ok(end.put(item)),
        sent => Ok(sent),
    }
}

impl<E, I, R> fmt::Debug for ItemSink<E, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSink").finish_non_exhaustive()
    }
}
