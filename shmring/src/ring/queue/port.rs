//! Messages over a queue: values that serde can serialize, with blocks in them, each to one of many
//! consumers.
//!
//! ```
//! use shmring::{block::{Block, BlockPool}, ring::queue::{Queue, port}};
//!
//! let pool = BlockPool::options().blocks(4).block_len(4096).anonymous()?;
//! let queue = Queue::options().capacity(8).create_in(pool.segment())?;
//! let (mut tx, mut rx) = port::ends::<(u64, Block)>(&queue)?;
//!
//! let mut picture = pool.loan()?;
//! picture.as_bytes_mut()[0] = 7;
//! tx.send((1, picture.freeze())).map_err(|error| error.to_string())?;
//!
//! let job = rx.recv()?;
//! assert_eq!((job.0, job.1.as_bytes()[0], job.attempt()), (1, 7, 1));
//! drop(job); // Not done, or its process died: somebody gets it again, with the same block.
//!
//! let job = rx.recv()?;
//! assert_eq!((job.0, job.1.as_bytes()[0], job.attempt()), (1, 7, 2));
//! job.ack()?; // Done: the queue lets go of the block.
//! assert_eq!(pool.in_use(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A block travels by handle; the queue must lie in the segment of its pool, and takes one of the
//! pool's [carriers](crate::block::Options::carriers) for each eight items of its capacity. It holds
//! the block from the send to the acknowledgement, whoever has the message meanwhile: README.md in
//! this folder has the order of steps, and what a death between any two of them leaves.

use std::{fmt, marker::PhantomData, ops::Deref, os::fd::BorrowedFd, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{
    Queue,
    consumer::{Consumer, Taken},
    producer::Producer,
};
use crate::{
    block::{Packing, TABLE_ENTRY, Unpacking},
    error::{RecvError, Result, SendError},
    fault::fault,
    ring::{
        face::Policy,
        iter::{Receive, counts, iterates},
        message::{self, HEAD, Patience, sends},
        port::{MessageError, PortError},
        select::{Selectable, Source},
    },
    transfer::Parcel,
};

/// Takes an end of each kind, for messages of one type.
///
/// # Errors
///
/// As [`Queue::split`].
pub fn ends<T>(queue: &Queue) -> Result<(Sender<T>, Receiver<T>)> {
    Ok((Sender::new(queue.producer()?), Receiver::new(queue.consumer()?)))
}

/// An end that sends messages. Another thread or process takes one of its own, or gets this one in
/// a message.
pub struct Sender<T> {
    producer: Producer,
    /// `None` before the first message, and while it is in use.
    packing: Option<Box<Packing>>,
    bytes: Vec<u8>,
    message: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    /// Makes a port of a queue's end.
    pub fn new(producer: Producer) -> Sender<T> {
        Sender { producer, packing: None, bytes: Vec::new(), message: PhantomData }
    }

    /// The queue this is an end of.
    pub fn ring(&self) -> &Queue {
        self.producer.ring()
    }

    /// The end, for bytes as they are.
    pub fn producer(&mut self) -> &mut Producer {
        &mut self.producer
    }

    /// Whether there have been consumers, and all have closed their ends.
    pub fn is_closed(&self) -> bool {
        self.producer.is_closed()
    }

    /// A descriptor for a poll of your own; as [`Producer::bell`], after [`Sender::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.producer.bell()
    }

    /// Which rings of the segment had news for this process; as [`Producer::rung`].
    pub fn rung(&self) -> u64 {
        self.producer.rung()
    }

    /// Asks to be woken by [`Sender::bell`] when there may be room; as [`Producer::arm`].
    pub fn arm(&mut self) -> bool {
        self.producer.arm()
    }

    fn packing(&mut self) -> &mut Packing {
        let queue = self.producer.ring();
        self.packing.get_or_insert_with(|| {
            Box::new(Packing::new(&queue.segment, queue.object.index, queue.geometry.slots))
        })
    }
}

sends! {
    /// Sends a message, waiting for room as long as a consumer lives or none has come yet, unless
    /// the queue's [`Policy`] is another. Its blocks are the queue's from then on, and let go of
    /// here.
}

impl<T: Serialize> Sender<T> {
    fn send_owned(&mut self, message: T, patience: Patience) -> Result<(), PortError<T>> {
        match self.send_borrowed(&message, patience) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.map(|()| message)),
        }
    }

    fn send_borrowed(&mut self, message: &T, patience: Patience) -> Result<(), PortError<()>> {
        self.packing().clear();
        let sent = message::serialize(message, &mut self.packing, &mut self.bytes)
            .and_then(|parcel| self.put_bytes(parcel, &patience));
        self.packing().clear();
        let drops = matches!(patience, Patience::Policy)
            && self.producer.ring().policy() == Policy::DropNewest;
        match sent {
            Err(PortError::Ring(SendError::Full(()))) if drops => {
                self.producer.lose_newest();
                Ok(())
            }
            sent => sent,
        }
    }

    fn put_bytes(&mut self, parcel: Parcel, patience: &Patience) -> Result<(), PortError<()>> {
        let Sender { producer, packing: Some(packing), bytes, .. } = self else {
            unreachable!("`serialize` has put it back")
        };
        let blocks = packing.len();
        let body = HEAD + blocks * TABLE_ENTRY;
        let len = body + bytes.len();
        let claim = match patience {
            Patience::None => producer.try_claim(len),
            Patience::Bounded(timeout) => producer.claim_timeout(len, *timeout),
            Patience::Policy => producer.claim(len),
        };
        let mut claim = claim.map_err(PortError::Ring)?;
        let slot = claim.slot();
        if let Err(error) = packing.put(slot, &mut claim[HEAD..body]) {
            return Err(PortError::Unsendable { item: (), reason: error.to_string() });
        }
        claim[..HEAD].copy_from_slice(&(blocks as u64).to_le_bytes());
        claim[body..].copy_from_slice(bytes);
        fault!("queue.port.filled");
        if let Err(error) = claim.commit_message() {
            packing.take_back(slot);
            return Err(PortError::Ring(error));
        }
        fault!("queue.port.sent");
        parcel.sent();
        Ok(())
    }
}

impl<T> Selectable for Sender<T> {
    fn source(&self) -> Source {
        self.producer.source()
    }

    fn ask_again(&mut self) {
        self.producer.ask_again();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queue", self.ring()).finish_non_exhaustive()
    }
}

/// An end that receives messages. Another thread or process takes one of its own, or gets this one
/// in a message.
///
/// Its iterators acknowledge a message when they are asked for the next, or dropped: a message is
/// handed out again if the process dies, or a panic ends the loop, before its turn of the loop is
/// over. To say of each whether it is done, [`recv`](Receiver::recv) it.
pub struct Receiver<T> {
    consumer: Consumer,
    /// As the sender's [`Packing`]; while a message is in hand, with its blocks.
    unpacking: Option<Box<Unpacking>>,
    /// What an iterator has given last, and is not acknowledged yet.
    given: Option<Taken>,
    message: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    /// Makes a port of a queue's end.
    pub fn new(consumer: Consumer) -> Receiver<T> {
        Receiver { consumer, unpacking: None, given: None, message: PhantomData }
    }

    /// The queue this is an end of.
    pub fn ring(&self) -> &Queue {
        self.consumer.ring()
    }

    /// The end, for bytes as they are. Blocks are let go of with the item they came with.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// Whether there have been producers, and all have closed their ends. Messages may still be
    /// there.
    pub fn is_closed(&self) -> bool {
        self.consumer.is_closed()
    }

    /// A descriptor for a poll of your own; as [`Consumer::bell`], after [`Receiver::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.consumer.bell()
    }

    /// Which rings of the segment had news for this process; as [`Consumer::rung`].
    pub fn rung(&self) -> u64 {
        self.consumer.rung()
    }

    /// Asks to be woken by [`Receiver::bell`] when there may be a message; as [`Consumer::arm`].
    pub fn arm(&mut self) -> bool {
        self.consumer.arm()
    }

    /// Ends all messages that wait now, unread, and lets go of their blocks. Tells how many there
    /// were. For a queue that nobody will work on any more: what waits in it stays held, since
    /// another consumer may come.
    ///
    /// # Errors
    ///
    /// `Moved`, `Corrupt`.
    pub fn discard(&mut self) -> Result<usize, RecvError> {
        let mut count = 0;
        // Others may send meanwhile.
        while count < self.ring().capacity() {
            match self.consumer.try_recv() {
                Ok(item) => item.ack()?,
                Err(error @ (RecvError::Moved | RecvError::Corrupt)) => return Err(error),
                Err(_) => break,
            }
            count += 1;
        }
        Ok(count)
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a message, waiting for it as [`Consumer::recv`] does. It is nobody else's until the
    /// guard is gone: acknowledge it, or it is handed out again, with the same blocks.
    ///
    /// # Errors
    ///
    /// [`MessageError`]. A message that cannot be read is gone, with its blocks.
    pub fn recv(&mut self) -> Result<Message<'_, T>, MessageError> {
        let taken = self.consumer.recv_within(None)?;
        self.open(taken)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`], and `Empty`.
    pub fn try_recv(&mut self) -> Result<Message<'_, T>, MessageError> {
        let taken = self.try_take()?;
        self.open(taken)
    }

    /// Receives a message if one comes until the deadline.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`], and `TimedOut`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, T>, MessageError> {
        let taken = self.consumer.recv_within(Some(timeout))?;
        self.open(taken)
    }

    /// Takes a message in hand, if there is one now, for [`Receiver::open`].
    pub(crate) fn try_take(&mut self) -> Result<Taken, RecvError> {
        self.consumer.try_take()
    }

    /// Reads the message that was taken last.
    pub(crate) fn open(&mut self, taken: Taken) -> Result<Message<'_, T>, MessageError> {
        // Of an iterator that was forgotten: it was given back before this one was taken.
        self.given = None;
        let message = self.read(&taken);
        fault!("queue.port.taken");
        match message {
            Ok(message) => Ok(Message { receiver: self, taken, message: Some(message) }),
            Err(error) => {
                // It would be so the next time too.
                self.consumer.taken.pop();
                self.consumer.ack(&taken)?;
                Err(error)
            }
        }
    }

    fn read(&mut self, taken: &Taken) -> Result<T, MessageError> {
        let Receiver { consumer, unpacking, .. } = self;
        let queue = consumer.ring();
        let opened = unpacking
            .get_or_insert_with(|| Box::new(Unpacking::new(&queue.segment, queue.object.index)));
        let parts = message::open(consumer.bytes(taken)).filter(|_| taken.message);
        let (table, bytes) = parts.ok_or_else(|| message::unreadable("it is no message"))?;
        if !opened.read(taken.held.slot as usize, table) {
            return Err(message::unreadable("its table of blocks contradicts itself"));
        }
        message::deserialize(bytes, unpacking)
    }
}

impl<T> Receiver<T> {
    /// Ends a message.
    fn ack(&mut self, taken: &Taken) -> Result<(), RecvError> {
        let Receiver { consumer, unpacking, .. } = self;
        match unpacking {
            Some(unpacking) if !unpacking.is_empty() => {
                consumer.finish(taken, |_, slot| unpacking.release(slot))
            }
            _ => consumer.let_go(taken.held),
        }
    }

    /// Ends what an iterator gave last, or lets it be handed out again.
    fn finish(&mut self, done: bool) -> Result<(), RecvError> {
        let Some(taken) = self.given.take() else { return Ok(()) };
        if !self.consumer.seat.is_ours() {
            return Err(RecvError::Moved);
        }
        // Another is there where an iterator was forgotten and the end was then used by itself.
        if self.consumer.taken.pop_if(|last| last.held == taken.held).is_none() {
            return Ok(());
        }
        if done { self.ack(&taken) } else { self.consumer.nack(&taken) }
    }
}

counts!([T] Receiver<T>, |end| end.ring().len());
iterates!([T: DeserializeOwned] Receiver<T>);

/// What an iterator gave is acknowledged when it is asked for the next, or goes.
impl<T: DeserializeOwned> Receive for Receiver<T> {
    type Received = T;
    type Error = MessageError;

    fn receive(&mut self, wait: bool) -> Result<T, MessageError> {
        self.finish(true)?;
        let mut message = if wait { self.recv()? } else { self.try_recv()? };
        let (taken, given) = (message.taken, message.message.take());
        drop(message); // It has nothing left to give back.
        self.given = Some(taken);
        Ok(given.expect("it was read just now"))
    }

    fn leave(&mut self, done: bool) {
        // What cannot be acknowledged is handed out again.
        let _ = self.finish(done);
    }
}

impl<T> Selectable for Receiver<T> {
    fn source(&self) -> Source {
        self.consumer.source()
    }

    fn ask_again(&mut self) {
        self.consumer.ask_again();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queue", self.ring()).finish_non_exhaustive()
    }
}

/// A message in hand. [`Message::ack`] ends it; dropping it is [`Message::nack`], so that a message
/// whose handler fails or panics is handed out again.
///
/// One whose guard is forgotten (`mem::forget`) is handed out again when its receiver asks for the
/// next, or is dropped. A forked child's copy can be read, and ends nothing.
#[must_use = "a message that is not acknowledged is handed out again"]
pub struct Message<'a, T> {
    receiver: &'a mut Receiver<T>,
    taken: Taken,
    /// `None` once it is over.
    message: Option<T>,
}

impl<T> Message<'_, T> {
    /// Says that the message is done with: nobody gets it again, and the queue lets go of its
    /// blocks. Hands it over; blocks that are kept from it stay held.
    ///
    /// # Errors
    ///
    /// `Moved` in a forked child, `Corrupt`; then it may be handed out again.
    pub fn ack(mut self) -> Result<T, RecvError> {
        let message = self.take()?;
        self.receiver.ack(&self.taken)?;
        Ok(message)
    }

    /// Lets the message be handed out again, behind those that wait now, with an attempt more.
    ///
    /// # Errors
    ///
    /// As [`Message::ack`].
    pub fn nack(mut self) -> Result<(), RecvError> {
        self.give_back()
    }

    /// Which time it is that this message is handed out: 1 is the first. Counts up to 256.
    pub fn attempt(&self) -> u32 {
        self.taken.attempt()
    }

    /// Which producer sent it: each end has a number of its own.
    pub fn producer(&self) -> u32 {
        self.taken.producer
    }

    /// Which of its producer's items it is, from 0 on. A gap is one that was dropped.
    pub fn sequence(&self) -> u64 {
        self.taken.sequence
    }

    /// Takes the message out, of which the caller then ends the item.
    fn take(&mut self) -> Result<T, RecvError> {
        let message = self.message.take();
        if !self.receiver.consumer.seat.is_ours() {
            return Err(RecvError::Moved);
        }
        self.receiver.consumer.taken.pop();
        message.ok_or(RecvError::Moved)
    }

    fn give_back(&mut self) -> Result<(), RecvError> {
        let message = self.take()?;
        let done = self.receiver.consumer.nack(&self.taken);
        // The item holds its blocks, so letting go of them frees none.
        drop(message);
        done
    }
}

impl<T> Deref for Message<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.message.as_ref().expect("it is taken out only by what ends the guard")
    }
}

impl<T> Drop for Message<'_, T> {
    fn drop(&mut self) {
        if self.message.is_some() {
            let _ = self.give_back();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("message", &self.message)
            .field("attempt", &self.attempt())
            .field("producer", &self.taken.producer)
            .field("sequence", &self.taken.sequence)
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    /// Travels as its queue's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.producer.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        Producer::deserialize(deserializer).map(Sender::new)
    }
}

impl<T> Serialize for Receiver<T> {
    /// Travels as its queue's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.consumer.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        Consumer::deserialize(deserializer).map(Receiver::new)
    }
}
