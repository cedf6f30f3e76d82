//! Ends as streams.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytemuck::Pod;
use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::{Async, AsyncReady, ends::unless_empty};
use crate::{
    error::RecvError,
    ring::{
        Means, Told, broadcast, cells,
        port::{MessageError, Receiver},
        records::Consumer,
    },
};

impl<E, R> Async<E, R> {
    /// The next item of a stream. It ends where the ring is closed, and after the first error after
    /// which nothing comes.
    fn next_of<T, X: Told>(
        &mut self,
        poll: impl FnOnce(&mut Self) -> Poll<Result<T, X>>,
    ) -> Poll<Option<Result<T, X>>> {
        if mem::take(&mut self.over) {
            return Poll::Ready(None);
        }
        let received = ready!(poll(self));
        self.over = received.as_ref().is_err_and(|error| error.means() != Means::GoOn);
        Poll::Ready(match received {
            Err(error) if error.means() == Means::Closed => None,
            other => Some(other),
        })
    }
}

impl<R: AsyncReady> Stream for Async<Consumer, R> {
    /// A copy of the record: an item of a stream outlives its place in the ring.
    type Item = Result<Vec<u8>, RecvError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let copy = |end: &mut Consumer| unless_empty(end.try_recv().map(|item| item.to_vec()));
        self.get_mut().next_of(|this| this.poll_fairly(cx, 0, copy))
    }
}

impl<T: Pod, R: AsyncReady> Stream for Async<cells::Consumer<T>, R> {
    type Item = Result<T, RecvError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let copy = |end: &mut cells::Consumer<T>| unless_empty(end.try_recv().map(|item| *item));
        self.get_mut().next_of(|this| this.poll_fairly(cx, 0, copy))
    }
}

impl<R: AsyncReady> Stream for Async<broadcast::Consumer, R> {
    /// A copy of the item: it outlives its place in the ring.
    type Item = Result<Vec<u8>, RecvError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends;
    /// that a lossy consumer was lapped is an error in between.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let copy =
            |end: &mut broadcast::Consumer| unless_empty(end.try_recv().map(|item| item.to_vec()));
        self.get_mut().next_of(|this| this.poll_fairly(cx, 0, copy))
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Stream for Async<Receiver<T>, R> {
    type Item = Result<T, MessageError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends;
    /// a message that cannot be read is an error in between.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().next_of(|this| this.poll_recv(cx))
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Stream for Async<broadcast::port::Receiver<T>, R> {
    type Item = Result<T, MessageError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends;
    /// that a receiver was lapped, or a message cannot be read, is an error in between.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().next_of(|this| this.poll_recv(cx))
    }
}
