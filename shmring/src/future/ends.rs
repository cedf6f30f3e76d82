//! The operations of the ends, awaited.

use std::{
    future::poll_fn,
    mem,
    task::{Context, Poll},
};

use bytemuck::Pod;
use serde::{Serialize, de::DeserializeOwned};

use super::{Async, AsyncReady, give_way};
use crate::{
    error::{RecvError, SendError},
    ring::{
        Policy, broadcast, cells, latest,
        port::{MessageError, PortError, Receiver, Sender},
        queue,
        records::{Claim, Consumer, Producer, Record, Run},
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

    /// Takes the records that are there; as [`Consumer::run`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::run`].
    pub async fn run(&mut self) -> Result<Run<'_>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, there)).await?;
        self.end.try_run()
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
        if self.end.ring().policy() == Policy::Wait {
            poll_fn(|cx| self.poll_fairly(cx, len, |end| room(end, len))).await?;
        } else {
            give_way::<R>().await;
        }
        self.end.try_claim(len)
    }

    /// Sends a record; as [`Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub async fn send<B: AsRef<[u8]>>(&mut self, record: B) -> Result<(), SendError<B>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send(record);
        }
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
        if self.end.ring().policy() == Policy::Wait {
            poll_fn(|cx| self.poll_fairly(cx, 1, cell_free)).await?;
        } else {
            give_way::<R>().await;
        }
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
        if self.end.ring().policy() == Policy::Wait {
            poll_fn(|cx| self.poll_fairly(cx, 1, cell_free)).await?;
        } else {
            give_way::<R>().await;
        }
        self.end.try_claim_many(count)
    }

    /// Sends an item; as [`cells::Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`cells::Producer::send`].
    pub async fn send(&mut self, item: T) -> Result<(), SendError<T>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send(item);
        }
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

impl<R: AsyncReady> Async<broadcast::Consumer, R> {
    /// Takes the next item; as [`broadcast::Consumer::recv`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::Consumer::recv`].
    pub async fn recv(&mut self) -> Result<broadcast::Item<'_>, RecvError> {
        let find = |end: &mut broadcast::Consumer| unless_empty(end.find());
        let found = poll_fn(|cx| self.poll_fairly(cx, 0, find)).await?;
        Ok(self.end.item(found))
    }

    /// Takes the items that are there; as [`broadcast::Consumer::run`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::Consumer::run`].
    pub async fn run(&mut self) -> Result<broadcast::Run<'_>, RecvError> {
        let find = |end: &mut broadcast::Consumer| unless_empty(end.find());
        let found = poll_fn(|cx| self.poll_fairly(cx, 0, find)).await?;
        Ok(self.end.run_from(found))
    }
}

impl<R: AsyncReady> Async<broadcast::Producer, R> {
    /// Claims room for an item of `len` bytes; as [`broadcast::Producer::claim`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::Producer::claim`].
    pub async fn claim(&mut self, len: usize) -> Result<broadcast::Claim<'_>, SendError> {
        let room = |end: &mut broadcast::Producer| match end.try_claim(len) {
            Ok(_claim) => Some(Ok(())),
            Err(SendError::Full(())) => None,
            Err(error) => Some(Err(error)),
        };
        if self.end.ring().policy() == Policy::Wait {
            poll_fn(|cx| self.poll_fairly(cx, len, room)).await?;
        } else {
            give_way::<R>().await;
        }
        self.end.try_claim(len)
    }

    /// Sends an item; as [`broadcast::Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::Producer::send`].
    pub async fn send<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send(item);
        }
        match self.claim(item.as_ref().len()).await {
            Ok(mut claim) => {
                claim.copy_from_slice(item.as_ref());
                claim.commit();
                Ok(())
            }
            Err(error) => Err(error.map(|()| item)),
        }
    }
}

impl<R: AsyncReady> Async<queue::Consumer, R> {
    /// Takes the next item; as [`queue::Consumer::recv`]. A future that is dropped has taken none.
    ///
    /// # Errors
    ///
    /// As [`queue::Consumer::recv`].
    pub async fn recv(&mut self) -> Result<queue::Item<'_>, RecvError> {
        let take = |end: &mut queue::Consumer| unless_empty(end.try_take());
        let taken = poll_fn(|cx| self.poll_fairly(cx, 0, take)).await?;
        Ok(self.end.item(taken))
    }

    /// Takes the items that are there, at most `max` of them; as [`queue::Consumer::run`].
    ///
    /// # Errors
    ///
    /// As [`queue::Consumer::run`].
    pub async fn run(&mut self, max: usize) -> Result<queue::Run<'_>, RecvError> {
        let take = |end: &mut queue::Consumer| unless_empty(end.try_take());
        poll_fn(|cx| self.poll_fairly(cx, 0, take)).await?;
        Ok(self.end.run_on(max))
    }
}

impl<R: AsyncReady> Async<queue::Producer, R> {
    /// Claims a slot for an item of `len` bytes; as [`queue::Producer::claim`].
    ///
    /// # Errors
    ///
    /// As [`queue::Producer::claim`].
    pub async fn claim(&mut self, len: usize) -> Result<queue::Claim<'_>, SendError> {
        let waits = self.end.ring().policy() == Policy::Wait;
        let hold = |end: &mut queue::Producer| match end.try_hold(len) {
            Err(SendError::Full(())) if waits => None,
            held => Some(held),
        };
        let held = poll_fn(|cx| self.poll_fairly(cx, len, hold)).await?;
        Ok(self.end.show(held, len))
    }

    /// Sends an item; as [`queue::Producer::send`].
    ///
    /// # Errors
    ///
    /// As [`queue::Producer::send`].
    pub async fn send<B: AsRef<[u8]>>(&mut self, item: B) -> Result<(), SendError<B>> {
        match self.claim(item.as_ref().len()).await {
            Ok(mut claim) => {
                claim.copy_from_slice(item.as_ref());
                return claim.commit().map_err(|error| error.map(|()| item));
            }
            Err(SendError::Full(())) => {}
            Err(error) => return Err(error.map(|()| item)),
        }
        // The policy is not to wait, so this does not either.
        self.end.send(item)
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Async<queue::port::Receiver<T>, R> {
    /// Receives a message; as [`queue::port::Receiver::recv`]. A future that is dropped has taken
    /// none.
    ///
    /// # Errors
    ///
    /// As [`queue::port::Receiver::recv`].
    pub async fn recv(&mut self) -> Result<queue::port::Message<'_, T>, MessageError> {
        let take = |end: &mut queue::port::Receiver<T>| unless_empty(end.try_take());
        let taken = poll_fn(|cx| self.poll_fairly(cx, 0, take)).await?;
        self.end.open(taken)
    }
}

impl<T: Serialize, R: AsyncReady> Async<queue::port::Sender<T>, R> {
    /// Sends a message; as [`queue::port::Sender::send`]. If the future is dropped before it is
    /// done, the message was not sent, and goes with it.
    ///
    /// # Errors
    ///
    /// As [`queue::port::Sender::send`].
    pub async fn send(&mut self, message: T) -> Result<(), PortError<T>> {
        match self.send_ref(&message).await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.map(|()| message)),
        }
    }

    /// Sends a message and keeps it; as [`queue::port::Sender::send_ref`].
    ///
    /// # Errors
    ///
    /// As [`queue::port::Sender::send`].
    pub async fn send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send_ref(message);
        }
        let mut full = false;
        let put = |end: &mut queue::port::Sender<T>| unless_full(end.try_send_ref(message));
        // A slot has room for any message.
        poll_fn(|cx| self.poll_put(cx, &mut full, |_| 0, put)).await
    }
}

impl<V: latest::Value + ?Sized, R: AsyncReady> Async<latest::Reader<V>, R> {
    /// Copies the newest value, once there is one; as [`latest::Reader::get`].
    ///
    /// # Errors
    ///
    /// As [`latest::Reader::get`].
    pub async fn get(&mut self) -> Result<V::Read<'_>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, |end| unless_outrun(end.find()))).await?;
        Ok(self.end.value())
    }

    /// Copies the newest value, once it is newer than the last that this reader saw; as
    /// [`latest::Reader::recv`].
    ///
    /// # Errors
    ///
    /// As [`latest::Reader::recv`].
    pub async fn recv(&mut self) -> Result<V::Read<'_>, RecvError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, |end| unless_outrun(end.find_newer()))).await?;
        Ok(self.end.value())
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Async<latest::port::Reader<T>, R> {
    /// Takes the newest message, once there is one; as [`latest::port::Reader::get`].
    ///
    /// # Errors
    ///
    /// As [`latest::port::Reader::get`].
    pub async fn get(&mut self) -> Result<T, MessageError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, |end| unless_none(end.try_get()))).await
    }

    /// Takes the newest message, once it is newer than the last that this reader got; as
    /// [`latest::port::Reader::recv`].
    ///
    /// # Errors
    ///
    /// As [`latest::port::Reader::recv`].
    pub async fn recv(&mut self) -> Result<T, MessageError> {
        poll_fn(|cx| self.poll_fairly(cx, 0, |end| unless_none(end.try_recv()))).await
    }
}

impl<T: DeserializeOwned, R: AsyncReady> Async<broadcast::port::Receiver<T>, R> {
    /// Receives a message; as [`broadcast::port::Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::port::Receiver::recv`].
    pub async fn recv(&mut self) -> Result<T, MessageError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, MessageError>> {
        self.poll_fairly(cx, 0, |end| unless_none(end.try_recv()))
    }
}

impl<T: Serialize, R: AsyncReady> Async<broadcast::port::Sender<T>, R> {
    /// Sends a message; as [`broadcast::port::Sender::send`]. If the future is dropped before it is
    /// done, the message was not sent, and goes with it.
    ///
    /// # Errors
    ///
    /// As [`broadcast::port::Sender::send`].
    pub async fn send(&mut self, message: T) -> Result<(), PortError<T>> {
        match self.send_ref(&message).await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.map(|()| message)),
        }
    }

    /// Sends a message and keeps it; as [`broadcast::port::Sender::send_ref`].
    ///
    /// # Errors
    ///
    /// As [`broadcast::port::Sender::send`].
    pub async fn send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send_ref(message);
        }
        let mut full = false;
        let put = |end: &mut broadcast::port::Sender<T>| unless_full(end.try_send_ref(message));
        poll_fn(|cx| self.poll_put(cx, &mut full, broadcast::port::Sender::needed, put)).await
    }
}

/// The same of messages.
fn unless_none<T>(received: Result<T, MessageError>) -> Option<Result<T, MessageError>> {
    match received {
        Err(MessageError::Ring(RecvError::Empty | RecvError::Outrun)) => None,
        received => Some(received),
    }
}

/// What came of sending a message, if there was room.
fn unless_full(sent: Result<(), PortError<()>>) -> Option<Result<(), PortError<()>>> {
    match sent {
        Err(PortError::Ring(SendError::Full(()))) => None,
        sent => Some(sent),
    }
}

/// What was received, if there was anything.
pub(super) fn unless_empty<T>(received: Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    match received {
        Err(RecvError::Empty) => None,
        received => Some(received),
    }
}

/// The same where the writer may be quicker: it has set a value since we armed, so it wakes us.
fn unless_outrun(received: Result<(), RecvError>) -> Option<Result<(), RecvError>> {
    match received {
        Err(RecvError::Outrun) => None,
        received => unless_empty(received),
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
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send(message);
        }
        let (mut message, mut full) = (Some(message), false);
        let mut put = |end: &mut Sender<T>| match end.try_send(message.take()?) {
            Err(PortError::Ring(SendError::Full(back))) => {
                message = Some(back);
                None
            }
            sent => Some(sent),
        };
        poll_fn(|cx| self.poll_put(cx, &mut full, Sender::needed, &mut put)).await
    }

    /// Sends a message and keeps it; as [`Sender::send_ref`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub async fn send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
        if self.end.ring().policy() != Policy::Wait {
            give_way::<R>().await;
            return self.end.send_ref(message);
        }
        let mut full = false;
        let put = |end: &mut Sender<T>| unless_full(end.try_send_ref(message));
        poll_fn(|cx| self.poll_put(cx, &mut full, Sender::needed, put)).await
    }
}
