//! The operations of the ends, awaited.

use std::{
    future::poll_fn,
    mem,
    task::{Context, Poll, ready},
};

use bytemuck::Pod;
use serde::{Serialize, de::DeserializeOwned};

use super::{Async, AsyncReady};
use crate::{
    error::{RecvError, SendError},
    ring::{
        cells,
        port::{MessageError, PortError, Receiver, Sender},
        records::{Claim, Consumer, Producer, Record},
    },
};

impl<R: AsyncReady> Async<Consumer, R> {
    /// Takes the next record; as [`Consumer::recv`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    pub async fn recv(&mut self) -> Result<Record<'_>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, there)).await?;
        self.end.try_recv()
    }
}

/// Whether there is a record, which stays.
fn there(consumer: &mut Consumer) -> Option<Result<(), RecvError>> {
    match consumer.try_recv() {
        // A record whose guard is forgotten comes again.
        Ok(record) => {
            mem::forget(record);
            Some(Ok(()))
        }
        Err(RecvError::Empty) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<R: AsyncReady> Async<Producer, R> {
    /// Claims room for a record of `len` bytes; as [`Producer::claim`].
    ///
    /// # Errors
    ///
    /// As [`Producer::claim`].
    pub async fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        poll_fn(|cx| self.poll_fairly(cx, len, |end| room(end, len))).await?;
        self.end.try_claim(len)
    }

    /// Sends a record; as [`Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub async fn send<B: AsRef<[u8]>>(&mut self, record: B) -> Result<(), SendError<B>> {
        match self.claim(record.as_ref().len()).await {
            Ok(mut claim) => {
                claim.copy_from_slice(record.as_ref());
                claim.commit();
                Ok(())
            }
            Err(error) => Err(error.map(|()| record)),
        }
    }
}

/// Whether there is room, which stays.
fn room(producer: &mut Producer, len: usize) -> Option<Result<(), SendError>> {
    match producer.try_claim(len) {
        Ok(_claim) => Some(Ok(())),
        Err(SendError::Full(())) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<T: Pod, R: AsyncReady> Async<cells::Consumer<T>, R> {
    /// Takes the next item; as [`cells::Consumer::recv`].
    ///
    /// # Errors
    ///
    /// As [`cells::Consumer::recv`].
    pub async fn recv(&mut self) -> Result<cells::Item<'_, T>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, item_there)).await?;
        self.end.try_recv()
    }

    /// Takes all items that are there and follow each other; as [`cells::Consumer::run`].
    ///
    /// # Errors
    ///
    /// As [`cells::Consumer::run`].
    pub async fn run(&mut self) -> Result<cells::Run<'_, T>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, item_there)).await?;
        self.end.try_run()
    }
}

/// Whether there is an item, which stays.
fn item_there<T: Pod>(consumer: &mut cells::Consumer<T>) -> Option<Result<(), RecvError>> {
    match consumer.try_recv() {
        // An item whose guard is forgotten comes again.
        Ok(item) => {
            mem::forget(item);
            Some(Ok(()))
        }
        Err(RecvError::Empty) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<T: Pod, R: AsyncReady> Async<cells::Producer<T>, R> {
    /// Claims the next cell; as [`cells::Producer::claim`].
    ///
    /// # Errors
    ///
    /// As [`cells::Producer::claim`].
    pub async fn claim(&mut self) -> Result<cells::Claim<'_, T>, SendError> {
        poll_fn(|cx| self.poll_fairly(cx, 1, cell_free)).await?;
        self.end.try_claim()
    }

    /// Claims up to `count` cells that follow each other; as [`cells::Producer::claim_many`].
    ///
    /// # Errors
    ///
    /// As [`cells::Producer::claim`].
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    pub async fn claim_many(&mut self, count: usize) -> Result<cells::ClaimMany<'_, T>, SendError> {
        poll_fn(|cx| self.poll_fairly(cx, 1, cell_free)).await?;
        self.end.try_claim_many(count)
    }

    /// Sends an item; as [`cells::Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`cells::Producer::send`].
    pub async fn send(&mut self, item: T) -> Result<(), SendError<T>> {
        match self.claim().await {
            Ok(mut claim) => {
                *claim = item;
                claim.commit();
                Ok(())
            }
            Err(error) => Err(error.map(|()| item)),
        }
    }
}

/// Whether a cell is free, which stays so.
fn cell_free<T: Pod>(producer: &mut cells::Producer<T>) -> Option<Result<(), SendError>> {
    match producer.try_claim() {
        Ok(_claim) => Some(Ok(())),
        Err(SendError::Full(())) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Async<Receiver<T>, R> {
    /// Receives a message; as [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<T, MessageError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, MessageError>> {
        self.poll_fairly(cx, 0, |end| match end.try_recv() {
            Err(MessageError::Ring(RecvError::Empty)) => None,
            received => Some(received),
        })
    }
}

impl<T: Serialize, R: AsyncReady> Async<Sender<T>, R> {
    /// Sends a message; as [`Sender::send`]. If the future is dropped before it is done, the message
    /// was not sent, and goes with it.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub async fn send(&mut self, message: T) -> Result<(), PortError<T>> {
        let (mut message, mut full) = (Some(message), false);
        poll_fn(|cx| self.poll_send(cx, &mut message, &mut full)).await
    }

    /// Sends a message and keeps it; as [`Sender::send_ref`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub async fn send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
        let mut full = false;
        let mut put = |end: &mut Sender<T>| match end.try_send_ref(message) {
            Err(PortError::Ring(SendError::Full(()))) => None,
            sent => Some(sent),
        };
        poll_fn(|cx| self.poll_put(cx, &mut full, &mut put)).await
    }

    /// Sends what `message` has, and leaves it empty then.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<T>,
        full: &mut bool,
    ) -> Poll<Result<(), PortError<T>>> {
        self.poll_put(cx, full, &mut |end| match end.try_send(message.take()?) {
            Err(PortError::Ring(SendError::Full(back))) => {
                *message = Some(back);
                None
            }
            sent => Some(sent),
        })
    }

    /// Polls `put`, which gives `None` where there is no room. `full` remembers that between polls:
    /// then nothing is put, and serialized for it, before there is room.
    fn poll_put<O>(
        &mut self,
        cx: &mut Context<'_>,
        full: &mut bool,
        put: &mut impl FnMut(&mut Sender<T>) -> Option<O>,
    ) -> Poll<O> {
        R::poll_fairly(cx, |cx| {
            loop {
                if *full {
                    let len = self.end.needed();
                    // What is wrong, if anything is, is said by putting.
                    let _ = ready!(self.poll_end(cx, len, |end| room(end.producer(), len)));
                    *full = false;
                }
                match put(&mut self.end) {
                    Some(done) => return Poll::Ready(done),
                    None => *full = true,
                }
            }
        })
    }
}
