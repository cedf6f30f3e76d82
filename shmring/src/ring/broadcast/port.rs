//! Messages over a broadcast ring: values that serde can serialize, with blocks in them, which every
//! consumer reads in place.
//!
//! ```
//! use shmring::{block::{Block, BlockPool}, ring::broadcast::{Broadcast, port}};
//!
//! let pool = BlockPool::options().blocks(8).block_len(4096).anonymous()?;
//! let ring = Broadcast::options().capacity(1 << 12).create_in(pool.segment())?;
//! // The blocks of the last four messages are kept for those who have not read them.
//! let mut tx = port::Sender::<(u64, Block)>::new(ring.producer()?, 4);
//! let mut one = port::Receiver::<(u64, Block)>::new(ring.consumer()?);
//! let mut other = port::Receiver::<(u64, Block)>::new(ring.consumer()?);
//!
//! let mut picture = pool.loan()?;
//! picture.as_bytes_mut()[0] = 7;
//! tx.send((1, picture.freeze())).map_err(|error| error.to_string())?;
//! let (first, second) = (one.recv()?, other.recv()?);
//! assert_eq!((first.1.as_bytes()[0], second.1.as_bytes()[0]), (7, 7));
//! assert_eq!(first.1.index(), second.1.index(), "one block for both");
//!
//! drop((first, second));
//! tx.discard()?;
//! assert_eq!(pool.in_use(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A block travels by handle; the ring must lie in the segment of its pool, and takes one of the
//! pool's [carriers](crate::block::Options::carriers) for each eight messages that are kept. README.md
//! in this folder has the steps.
//!
//! The ring holds the blocks of the last messages, as many as its sender was told to keep. A message
//! that would be one more replaces the oldest of them, and waits as for room until all lossless
//! consumers have read that one. So a pool needs as many blocks as the messages that are kept have,
//! those that are being filled, and those that consumers keep for themselves. A lossy consumer whose
//! message was replaced before it could take the blocks is told
//! [`Lapped`](crate::RecvError::Lapped), as where the ring was overwritten; so is any consumer about
//! messages that were sent before it joined, where it began with history.

use std::{
    fmt,
    marker::PhantomData,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{Broadcast, consumer::Consumer, memory::Corrupt, producer::Producer};
use crate::{
    block::{self, Laid, Packing, TABLE_ENTRY, Unpacking},
    error::{RecvError, Result, SendError},
    fault::fault,
    ring::{
        iter::{Receive, counts, iterates},
        message::{self, HEAD, Patience, sends},
        port::{MessageError, PortError},
        select::{Selectable, Source},
    },
    sync::local::{self, AtomicU64},
    transfer::Parcel,
};

/// How many messages' blocks can be kept at most.
pub const MOST_KEPT: usize = 4096;

/// A place for the blocks of a message, and what lies there.
#[derive(Default)]
struct Kept {
    /// Who has not gone past this position may still take them.
    until: u64,
    /// `None` when another sender laid them there.
    laid: Option<Laid>,
}

/// The end that sends messages.
///
/// It takes over what a dead predecessor had begun. Dropping it closes the ring: the consumers get
/// what was sent, and then `Closed`; the last blocks stay held for them, until another sender
/// [discards](Sender::discard) them.
pub struct Sender<T> {
    producer: Producer,
    keep: usize,
    /// `None` before the first message, and while it is in use.
    packing: Option<Box<Packing>>,
    kept: Vec<Kept>,
    bytes: Vec<u8>,
    /// Bytes of room that the last message needed.
    needed: usize,
    /// Who has not gone past this position holds the next message back; for those who look from
    /// outside.
    floor: Arc<AtomicU64>,
    /// The role's word when the places were last known.
    recovered: u64,
    message: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    /// Makes a port of a producer's end, which keeps the blocks of the last `keep` messages. All
    /// senders of a ring keep as many.
    ///
    /// # Panics
    ///
    /// When `keep` is 0 or more than [`MOST_KEPT`].
    pub fn new(producer: Producer, keep: usize) -> Sender<T> {
        assert!((1..=MOST_KEPT).contains(&keep), "keep {keep}: 1 to {MOST_KEPT} are possible");
        Sender {
            needed: producer.max_len(),
            producer,
            keep,
            packing: None,
            kept: Vec::new(),
            bytes: Vec::new(),
            floor: Arc::default(),
            recovered: 0,
            message: PhantomData,
        }
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Broadcast {
        self.producer.ring()
    }

    /// Of how many messages the blocks are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Whether there is no consumer now; as [`Producer::is_alone`].
    pub fn is_alone(&self) -> bool {
        self.producer.is_alone()
    }

    /// A descriptor for a poll of your own; as [`Producer::bell`], after [`Sender::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.producer.bell()
    }

    /// Which rings of the segment had news for this process; as [`Producer::rung`].
    pub fn rung(&self) -> u64 {
        self.producer.rung()
    }

    /// Asks to be woken by [`Sender::bell`] when there may be room for a message as long as the
    /// last; as [`Producer::arm`].
    pub fn arm(&mut self) -> bool {
        self.producer.arm(self.needed)
    }

    /// Bytes of room that the last message needed, sent or not; before the first, what the longest
    /// can need. For [`crate::Selector::add_room`].
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Closes the ring and lets go of all blocks, whoever has not read them. Also for what a sender
    /// that closed or died has left.
    ///
    /// # Errors
    ///
    /// `Moved`; `Corrupt`.
    pub fn discard(mut self) -> Result<(), SendError> {
        self.producer.own()?;
        let ring = self.producer.ring();
        block::empty_ring(&ring.segment, ring.object.index);
        Ok(())
    }

    fn packing(&mut self) -> &mut Packing {
        let (ring, keep) = (self.producer.ring(), self.keep);
        self.packing
            .get_or_insert_with(|| Box::new(Packing::new(&ring.segment, ring.object.index, keep)))
    }

    /// Whoever has the end anew finds out what lies where: by the records, as far as they are there.
    /// What is not there any more was read by all who had come to the oldest one.
    fn recover(&mut self) -> Result<(), PortError<()>> {
        self.producer.own().map_err(PortError::Ring)?;
        let word = self.producer.role().word();
        if self.recovered == word {
            return Ok(());
        }
        let (writer, region) = (&self.producer.writer, &self.producer.ring().segment.0.region);
        let corrupt = |Corrupt| PortError::Ring(SendError::Corrupt(()));
        let records = writer.records(region).map_err(corrupt)?;
        let until = writer.oldest();
        self.kept = (0..self.keep).map(|_| Kept { until, laid: None }).collect();
        for (sequence, end, first) in records {
            let keep = first >> 32;
            if keep != self.keep as u64 {
                let reason = format!(
                    "the messages in this ring were sent by a port that keeps {keep}, not {}",
                    self.keep
                );
                return Err(PortError::Unsendable { item: (), reason });
            }
            self.kept[(sequence % keep) as usize].until = end;
        }
        self.recovered = word;
        Ok(())
    }

    /// Holds the next message back until all that counts has read the one whose place it takes.
    fn mind_next_place(&mut self) {
        let place = (self.producer.writer.sequence() % self.keep as u64) as usize;
        let until = self.kept.get(place).map_or(0, |kept| kept.until);
        self.producer.writer.wait_until_passed(until);
        self.floor.store(until, local::Ordering::Relaxed);
    }
}

sends! {
    /// Sends a message, waiting for the slowest lossless consumer as long as that lives, unless the
    /// ring's [`Policy`](crate::ring::Policy) is another. Its blocks are the ring's from then on.
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
        match (sent, patience) {
            (Err(PortError::Ring(error)), Patience::Policy) => {
                self.producer.lose(error).map_err(PortError::Ring)
            }
            (sent, _) => sent,
        }
    }

    fn put_bytes(&mut self, parcel: Parcel, patience: &Patience) -> Result<(), PortError<()>> {
        self.recover()?;
        self.mind_next_place();
        let place = (self.producer.writer.sequence() % self.keep as u64) as usize;
        let Sender { producer, packing: Some(packing), bytes, needed, kept, keep, .. } = self
        else {
            unreachable!("`serialize` has put it back")
        };
        let (blocks, kept) = (packing.len(), &mut kept[place]);
        let body = HEAD + blocks * TABLE_ENTRY;
        let len = body + bytes.len();
        *needed = len;
        let (segment, number) = (producer.ring().segment.clone(), producer.ring().object.index);
        let claim = match patience {
            Patience::None => producer.try_claim(len),
            Patience::Bounded(timeout) => producer.claim_timeout(len, *timeout),
            Patience::Policy => producer.claim(len),
        };
        let mut claim = claim.map_err(PortError::Ring)?;
        fault!("broadcast.port.passed");
        match kept.laid.replace(Laid::new()) {
            Some(laid) => packing.lift(place, &laid),
            None => block::empty_place(&segment, number, place),
        }
        if let Err(error) = packing.put(place, &mut claim[HEAD..body]) {
            return Err(PortError::Unsendable { item: (), reason: error.to_string() });
        }
        let head = (*keep as u64) << 32 | blocks as u64;
        claim[..HEAD].copy_from_slice(&head.to_le_bytes());
        claim[body..].copy_from_slice(bytes);
        kept.laid = Some(packing.take_laid());
        fault!("broadcast.port.filled");
        claim.commit();
        fault!("broadcast.port.sent");
        kept.until = producer.writer.published();
        self.mind_next_place();
        parcel.sent();
        Ok(())
    }
}

impl<T> Selectable for Sender<T> {
    /// Ready where there is room, and the blocks of the message whose place the next one takes may
    /// go.
    fn source(&self) -> Source {
        self.producer.source_above(self.floor.clone())
    }

    fn ask_again(&mut self) {
        self.producer.ask_again();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("ring", self.ring()).finish_non_exhaustive()
    }
}

/// An end that receives messages.
pub struct Receiver<T> {
    consumer: Consumer,
    /// `None` before the first message, and while it is in use.
    unpacking: Option<Box<Unpacking>>,
    sequence: Option<u64>,
    /// Messages whose blocks were gone, since it was last told.
    missed: u64,
    message: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    /// Makes a port of a consumer's end.
    pub fn new(consumer: Consumer) -> Receiver<T> {
        Receiver { consumer, unpacking: None, sequence: None, missed: 0, message: PhantomData }
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Broadcast {
        self.consumer.ring()
    }

    /// How many messages were sent into this ring before the one that was received last, those that
    /// were dropped included. `None` before the first.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether the sender has closed its end. Messages may still be there.
    pub fn is_closed(&self) -> bool {
        self.consumer.is_closed()
    }

    /// Whether messages are replaced that this receiver has not read in time.
    pub fn is_lossy(&self) -> bool {
        self.consumer.is_lossy()
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
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a message, waiting for it as long as the sender lives. Its blocks are held by this
    /// process from now on.
    ///
    /// # Errors
    ///
    /// [`MessageError`]; `Lapped` once after messages were missed.
    pub fn recv(&mut self) -> Result<T, MessageError> {
        self.recv_within(|consumer| consumer.recv().map(drop_later))
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`], and `Empty`.
    pub fn try_recv(&mut self) -> Result<T, MessageError> {
        self.recv_within(|consumer| consumer.try_recv().map(drop_later))
    }

    /// Receives a message if one comes until the deadline.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`], and `TimedOut`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, MessageError> {
        let until = Instant::now().checked_add(timeout);
        self.recv_within(|consumer| match until {
            Some(until) => {
                let rest = until.saturating_duration_since(Instant::now());
                consumer.recv_timeout(rest).map(drop_later)
            }
            None => consumer.recv().map(drop_later),
        })
    }

    /// `wait` finds that there is an item, which stays.
    fn recv_within(
        &mut self,
        mut wait: impl FnMut(&mut Consumer) -> Result<(), RecvError>,
    ) -> Result<T, MessageError> {
        loop {
            let there = wait(&mut self.consumer);
            let found = match there.and_then(|()| self.consumer.find()) {
                Ok(found) => found,
                // It was overwritten since.
                Err(RecvError::Empty) if there.is_ok() => continue,
                // It is told of all at once, and of the end afterwards.
                Err(RecvError::Lapped { missed }) => {
                    let missed = missed + std::mem::take(&mut self.missed);
                    return Err(RecvError::Lapped { missed }.into());
                }
                Err(RecvError::Closed | RecvError::PeerDied { .. }) if self.missed > 0 => {
                    let missed = std::mem::take(&mut self.missed);
                    return Err(RecvError::Lapped { missed }.into());
                }
                Err(error) => return Err(error.into()),
            };
            let Receiver { consumer, unpacking, .. } = self;
            let (segment, number) = (consumer.ring().segment.clone(), consumer.ring().object.index);
            let opened =
                unpacking.get_or_insert_with(|| Box::new(Unpacking::new(&segment, number)));
            let item = consumer.item(found);
            let sequence = item.sequence();
            let unpacked = take_hold(&item, sequence, opened);
            fault!("broadcast.port.held");
            match unpacked {
                Ok(true) if self.missed > 0 => {
                    // The message stays where it is, until this was told.
                    std::mem::forget(item);
                    opened.clear();
                    let missed = std::mem::take(&mut self.missed);
                    return Err(RecvError::Lapped { missed }.into());
                }
                Ok(true) => {
                    let (_, body) = parts(&item).unwrap_or_default();
                    let message = message::deserialize(body, unpacking);
                    drop(item);
                    if let Some(unpacking) = unpacking {
                        unpacking.clear();
                    }
                    self.sequence = Some(sequence);
                    return message;
                }
                Ok(false) => {
                    drop(item);
                    self.missed += 1;
                    if self.missed >= MOST_KEPT as u64 {
                        let missed = std::mem::take(&mut self.missed);
                        return Err(RecvError::Lapped { missed }.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// An item whose guard is forgotten stays.
fn drop_later(item: super::Item<'_>) {
    std::mem::forget(item);
}

/// The table and the message, and of how many messages the blocks are kept.
fn parts_and_keep(item: &[u8]) -> Option<(&[u8], &[u8], u64)> {
    let (head, rest) = item.split_first_chunk::<HEAD>()?;
    let head = u64::from_le_bytes(*head);
    let (table, body) = message::open_rest(head & u64::from(u32::MAX), rest)?;
    let keep = head >> 32;
    (1..=MOST_KEPT as u64).contains(&keep).then_some((table, body, keep))
}

fn parts(item: &[u8]) -> Option<(&[u8], &[u8])> {
    parts_and_keep(item).map(|(table, body, _)| (table, body))
}

/// Takes hold of the blocks of a message. False when they were replaced before.
fn take_hold(item: &[u8], sequence: u64, into: &mut Unpacking) -> Result<bool, MessageError> {
    let (table, _, keep) =
        parts_and_keep(item).ok_or_else(|| message::unreadable("it is no message"))?;
    if !into.read((sequence % keep) as usize, table) {
        return Err(message::unreadable("its table of blocks contradicts itself"));
    }
    into.hold().map_err(|error| message::unreadable(error.to_string()))
}

impl<T> Selectable for Receiver<T> {
    fn source(&self) -> Source {
        self.consumer.source()
    }

    fn ask_again(&mut self) {
        self.consumer.ask_again();
    }
}

counts!([T] Receiver<T>, |end| end.consumer.len());
iterates!([T: DeserializeOwned] Receiver<T>);

impl<T: DeserializeOwned> Receive for Receiver<T> {
    type Received = T;
    type Error = MessageError;

    fn receive(&mut self, wait: bool) -> Result<T, MessageError> {
        if wait { self.recv() } else { self.try_recv() }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ring", self.ring()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    /// Travels as its ring's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.producer, self.keep).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        let (producer, keep) = <(Producer, usize)>::deserialize(deserializer)?;
        let possible = (1..=MOST_KEPT).contains(&keep);
        let refused = || serde::de::Error::custom(format!("a sender that keeps {keep} messages"));
        possible.then(|| Sender::new(producer, keep)).ok_or_else(refused)
    }
}

impl<T> Serialize for Receiver<T> {
    /// Travels as its ring's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.consumer.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        Consumer::deserialize(deserializer).map(Receiver::new)
    }
}
