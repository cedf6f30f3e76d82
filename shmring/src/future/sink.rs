//! Producers as sinks.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytemuck::Pod;
use futures_sink::Sink;
use serde::Serialize;

use super::{Async, AsyncReady};
use crate::{
    error::SendError,
    ring::{
        Policy, broadcast, cells,
        port::{self, PortError},
        queue, records,
        select::Selectable,
    },
};

/// An end that sends items of type `I`: what [`ItemSink`] needs of it.
pub trait Put<I>: Selectable {
    /// Why an item was not sent, with the item.
    type Error;

    /// Sends an item if there is room now; gives it back if not.
    ///
    /// # Errors
    ///
    /// As the end's `try_send`.
    fn try_put(&mut self, item: I) -> Result<(), Self::Error>;

    /// Takes the item out of an error that says that there was no room.
    ///
    /// # Errors
    ///
    /// Any other error.
    fn no_room(error: Self::Error) -> Result<I, Self::Error>;

    /// Whether one waits for room here; otherwise [`Put::put`] says what becomes of an item that
    /// finds none.
    fn waits(&self) -> bool;

    /// Sends an item as the ring's policy says.
    ///
    /// # Errors
    ///
    /// As the end's `send`.
    fn put(&mut self, item: I) -> Result<(), Self::Error>;

    /// How much room an item needs that has just found none; as for [`crate::Selector::add_room`].
    fn want(&self, item: &I) -> usize;
}

/// What the senders of all kinds have in common.
macro_rules! puts {
    (($($generics:tt)*), $sender:ty, $item:ty, $error:ident, $full:pat => $back:expr, $want:expr) => {
        impl<$($generics)*> Put<$item> for $sender {
            type Error = $error<$item>;

            fn try_put(&mut self, item: $item) -> Result<(), $error<$item>> {
                self.try_send(item)
            }

            fn no_room(error: $error<$item>) -> Result<$item, $error<$item>> {
                match error {
                    $full => Ok($back),
                    other => Err(other),
                }
            }

            fn waits(&self) -> bool {
                self.ring().policy() == Policy::Wait
            }

            fn put(&mut self, item: $item) -> Result<(), $error<$item>> {
                self.send(item)
            }

            fn want(&self, item: &$item) -> usize {
                let want: fn(&$sender, &$item) -> usize = $want;
                want(self, item)
            }
        }
    };
}

/// A kind of producers whose items are bytes.
macro_rules! puts_bytes {
    ($producer:ty) => {
        puts!((B: AsRef<[u8]>), $producer, B, SendError, SendError::Full(item) => item,
            |_, item| item.as_ref().len());

        impl<R> Async<$producer, R> {
            /// Makes a sink of it.
            pub fn into_sink<B: AsRef<[u8]>>(self) -> ItemSink<$producer, B, R> {
                ItemSink::new(self)
            }
        }
    };
}

/// A kind of senders of messages.
macro_rules! puts_messages {
    ($sender:ty, $want:expr) => {
        puts!((T: Serialize), $sender, T, PortError,
            PortError::Ring(SendError::Full(message)) => message, $want);

        impl<T, R> Async<$sender, R> {
            /// Makes a sink of it.
            pub fn into_sink(self) -> ItemSink<$sender, T, R> {
                ItemSink::new(self)
            }
        }
    };
}

puts_bytes!(records::Producer);
puts_bytes!(queue::Producer);
puts_bytes!(broadcast::Producer);
puts!((T: Pod), cells::Producer<T>, T, SendError, SendError::Full(item) => item, |_, _| 1);
puts_messages!(port::Sender<T>, |sender, _| sender.needed());
puts_messages!(broadcast::port::Sender<T>, |sender, _| sender.needed());
// A slot of a queue has room for any message.
puts_messages!(queue::port::Sender<T>, |_, _| 0);

/// A producer, or a sender of messages, as a sink. From `into_sink`.
///
/// An item that finds no room waits here; flush before dropping it. Closing the sink closes the
/// ring, or leaves it where others send into it too.
pub struct ItemSink<E, I, R> {
    /// `None` once closed.
    producer: Option<Async<E, R>>,
    parked: Option<I>,
}

impl<T: Pod, R> Async<cells::Producer<T>, R> {
    /// Makes a sink of it.
    pub fn into_sink(self) -> ItemSink<cells::Producer<T>, T, R> {
        ItemSink::new(self)
    }
}

impl<E, I, R> ItemSink<E, I, R> {
    fn new(producer: Async<E, R>) -> ItemSink<E, I, R> {
        ItemSink { producer: Some(producer), parked: None }
    }

    /// Gives the producer back, if it is not closed, and the item that found no room.
    pub fn into_inner(self) -> (Option<Async<E, R>>, Option<I>) {
        (self.producer, self.parked)
    }
}

// Nothing in it is ever pinned.
impl<E, I, R> Unpin for ItemSink<E, I, R> {}

impl<E: Put<I>, I, R: AsyncReady> Sink<I> for ItemSink<E, I, R> {
    /// Hands the item back.
    type Error = E::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        ready!(self.poll_flush(cx))?;
        // Items that always find room do not pass by there.
        R::poll_fairly(cx, |_| Poll::Ready(Ok(())))
    }

    /// # Panics
    ///
    /// When the sink was not ready, or is closed.
    fn start_send(self: Pin<&mut Self>, item: I) -> Result<(), E::Error> {
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let ItemSink { producer, parked } = self.get_mut();
        let (Some(producer), Some(item)) = (producer, &*parked) else { return Poll::Ready(Ok(())) };
        let want = producer.get_ref().want(item);
        // It is here because it has found no room.
        producer.poll_put(
            cx,
            &mut true,
            |_| want,
            |end| match put(end, parked.take()?) {
                Ok(sent) => Some(sent),
                Err(item) => {
                    *parked = Some(item);
                    None
                }
            },
        )
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.producer = None;
        Poll::Ready(Ok(()))
    }
}

/// Sends an item as the policy says, or gives it back to wait.
fn put<E: Put<I>, I>(end: &mut E, item: I) -> Result<Result<(), E::Error>, I> {
    if !end.waits() {
        return Ok(end.put(item));
    }
    match end.try_put(item) {
        Ok(()) => Ok(Ok(())),
        Err(error) => match E::no_room(error) {
            Ok(item) => Err(item),
            Err(error) => Ok(Err(error)),
        },
    }
}

impl<E, I, R> fmt::Debug for ItemSink<E, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSink").finish_non_exhaustive()
    }
}
