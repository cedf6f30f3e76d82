//! Ends as streams and sinks.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytemuck::Pod;
use futures_core::Stream;
use futures_sink::Sink;
use serde::{Serialize, de::DeserializeOwned};

use super::{Async, AsyncReady};
use crate::{
    error::{RecvError, SendError},
    ring::{
        cells,
        port::{MessageError, PortError, Receiver, Sender},
        records::Consumer,
    },
};

impl<R: AsyncReady> Stream for Async<Consumer, R> {
    /// A copy of the record: an item of a stream outlives its place in the ring.
    type Item = Result<Vec<u8>, RecvError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.over) {
            return Poll::Ready(None);
        }
        let received = ready!(this.poll_fairly(cx, 0, |end| match end.try_recv() {
            Ok(record) => Some(Ok(record.to_vec())),
            Err(RecvError::Empty) => None,
            Err(error) => Some(Err(error)),
        }));
        this.over = received.is_err();
        Poll::Ready(match received {
            Err(RecvError::Closed) => None,
            other => Some(other),
        })
    }
}

impl<T: Pod, R: AsyncReady> Stream for Async<cells::Consumer<T>, R> {
    type Item = Result<T, RecvError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.over) {
            return Poll::Ready(None);
        }
        let received = ready!(this.poll_fairly(cx, 0, |end| match end.try_recv() {
            Ok(item) => Some(Ok(*item)),
            Err(RecvError::Empty) => None,
            Err(error) => Some(Err(error)),
        }));
        this.over = received.is_err();
        Poll::Ready(match received {
            Err(RecvError::Closed) => None,
            other => Some(other),
        })
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Stream for Async<Receiver<T>, R> {
    type Item = Result<T, MessageError>;

    /// Ends when the ring is closed. Any other end is told by one error, and then the stream ends;
    /// a message that cannot be read is an error in between.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.over) {
            return Poll::Ready(None);
        }
        let received = ready!(this.poll_recv(cx));
        this.over = matches!(received, Err(MessageError::Ring(_)));
        Poll::Ready(match received {
            Err(MessageError::Ring(RecvError::Closed)) => None,
            other => Some(other),
        })
    }
}

/// A sender as a sink. From [`Async::into_sink`].
///
/// A message that finds no room waits here; flush before dropping it. Closing the sink closes the
/// ring.
pub struct MessageSink<T, R> {
    /// `None` once closed.
    sender: Option<Async<Sender<T>, R>>,
    parked: Option<T>,
    full: bool,
}

impl<T, R> Async<Sender<T>, R> {
    /// Makes a sink of it.
    pub fn into_sink(self) -> MessageSink<T, R> {
        MessageSink { sender: Some(self), parked: None, full: false }
    }
}

impl<T, R> MessageSink<T, R> {
    /// Gives the sender back, if it is not closed, and the message that found no room.
    pub fn into_inner(self) -> (Option<Async<Sender<T>, R>>, Option<T>) {
        (self.sender, self.parked)
    }
}

// Nothing in it is ever pinned.
impl<T, R> Unpin for MessageSink<T, R> {}

impl<T: Serialize, R: AsyncReady> Sink<T> for MessageSink<T, R> {
    /// Hands the message back.
    type Error = PortError<T>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), PortError<T>>> {
        self.poll_flush(cx)
    }

    /// # Panics
    ///
    /// When the sink was not ready, or is closed.
    fn start_send(self: Pin<&mut Self>, message: T) -> Result<(), PortError<T>> {
        let this = self.get_mut();
        assert!(this.parked.is_none(), "the sink is not ready: poll_ready comes first");
        let sender = this.sender.as_mut().expect("the sink is closed");
        match sender.get_mut().try_send(message) {
            Err(PortError::Ring(SendError::Full(message))) => {
                (this.parked, this.full) = (Some(message), true);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), PortError<T>>> {
        let MessageSink { sender, parked, full } = self.get_mut();
        match sender {
            Some(sender) if parked.is_some() => sender.poll_send(cx, parked, full),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PortError<T>>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

impl<T, R> fmt::Debug for MessageSink<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSink").finish_non_exhaustive()
    }
}
