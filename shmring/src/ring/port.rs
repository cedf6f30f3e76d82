//! Messages over a ring of records: values that serde can serialize, with blocks in them.
//!
//! ```
//! use shmring::{block::BlockPool, ring::{port, records::Records}};
//!
//! let pool = BlockPool::options().blocks(4).block_len(4096).anonymous()?;
//! let ring = Records::options().capacity(1 << 16).create_in(pool.segment())?;
//! let (mut tx, mut rx) = port::ends::<(u64, shmring::block::Block)>(&ring)?;
//!
//! let mut loan = pool.try_loan()?;
//! loan.as_bytes_mut()[0] = 7;
//! tx.send((1, loan.freeze())).map_err(|error| error.to_string())?;
//! let (number, block) = rx.recv()?;
//! assert_eq!((number, block.as_bytes()[0]), (1, 7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Messages are written in the format of the crate postcard: fields in their order, without names and
//! types. What serde's attributes make of a value must not hang on its content: `skip_serializing_if`
//! leaves a field out, and the next one is taken for it; `flatten`, `untagged` and `tag` are refused.
//!
//! A block in a message travels by handle; the ring must lie in the segment of its pool. The order
//! of steps, and what a death between any two of them leaves, is in `block/README.md`.

mod lease;

use std::{fmt, marker::PhantomData, os::fd::BorrowedFd, time::Duration};

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

pub use self::lease::{Lease, Leased};
use super::{
    iter::{Receive, counts, iterates},
    message::{NOT_OVER_A_RING, Patience, goes_over_a_ring, sends},
    records::{
        Claim, Consumer, Producer, Record, Records,
        cursor::{Found, Kind},
    },
    select::{Selectable, Source},
};
use crate::{
    block::{Incoming, Outgoing, TABLE_ENTRY},
    error::{Error, RecvError, Result, SendError},
    fault::fault,
    transfer::{self, Desk, Parcel},
};

/// Takes both ends of a ring for messages of one type.
///
/// # Errors
///
/// As [`Records::split`].
pub fn ends<T>(ring: &Records) -> Result<(Sender<T>, Receiver<T>)> {
    Ok((Sender::new(ring.producer()?), Receiver::new(ring.consumer()?)))
}

/// Before the message: how many blocks it has; then their table.
const HEAD: usize = 8;

/// Where a message is serialized to: a buffer that is used again and again.
pub(super) struct Buffer(pub(super) Vec<u8>);

impl Flavor for Buffer {
    type Output = Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Why a message was not sent; `T` hands it back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PortError<T> {
    /// The ring did not take it.
    #[error(transparent)]
    Ring(SendError<T>),
    /// It cannot travel this way: it does not serialize, holds descriptors, or blocks of a pool in
    /// another segment.
    #[error("the message cannot be sent: {reason}")]
    Unsendable {
        /// The message.
        item: T,
        /// What stands in the way.
        reason: String,
    },
}

impl<T> PortError<T> {
    /// Hands the message back.
    pub fn into_inner(self) -> T {
        match self {
            PortError::Ring(error) => error.into_inner(),
            PortError::Unsendable { item, .. } => item,
        }
    }

    /// The same error with another item.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> PortError<U> {
        match self {
            PortError::Ring(error) => PortError::Ring(error.map(f)),
            PortError::Unsendable { item, reason } => {
                PortError::Unsendable { item: f(item), reason }
            }
        }
    }
}

// Messages need not be Debug.
impl<T> fmt::Debug for PortError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::Ring(error) => f.debug_tuple("Ring").field(error).finish(),
            PortError::Unsendable { reason, .. } => {
                f.debug_struct("Unsendable").field("reason", reason).finish_non_exhaustive()
            }
        }
    }
}

/// Why no message was received.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The ring had none.
    #[error(transparent)]
    Ring(#[from] RecvError),
    /// There was one, which is gone now, but it was no message of this type.
    #[error("a message could not be read: {reason}")]
    Unreadable {
        /// What was wrong with it.
        reason: String,
    },
}

/// The end that sends messages.
///
/// It takes over what a dead predecessor had begun and not published. Dropping it closes the ring.
pub struct Sender<T> {
    producer: Producer,
    /// With the [`Outgoing`] blocks. `None` before the first message, and while it is in use.
    desk: Option<Box<Desk>>,
    bytes: Vec<u8>,
    /// The role's word when the journals were last known to be in order.
    recovered: u64,
    /// The room that the last message needed.
    needed: usize,
    message: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    /// Makes a port of a ring's end.
    pub fn new(producer: Producer) -> Sender<T> {
        let needed = producer.max_len();
        Sender {
            producer,
            desk: None,
            bytes: Vec::new(),
            recovered: 0,
            needed,
            message: PhantomData,
        }
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Records {
        self.producer.ring()
    }

    /// The end, for bytes as they are.
    pub fn producer(&mut self) -> &mut Producer {
        &mut self.producer
    }

    /// A descriptor for a poll of your own; as [`Producer::bell`], after [`Sender::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.producer.bell()
    }

    /// Which rings of the segment had news for this process; as [`Consumer::rung`].
    pub fn rung(&self) -> u64 {
        self.producer.rung()
    }

    /// Asks to be woken by [`Sender::bell`] when there may be room for a message as long as the
    /// last one, which [`Sender::try_send`] handed back; before the first, for the longest. Tells
    /// whether one may go to sleep, as [`Producer::arm`].
    pub fn arm(&mut self) -> bool {
        self.producer.arm(self.needed)
    }

    /// Bytes of room that the last message needed, sent or not; before the first, what the longest
    /// can need. For [`crate::Selector::add_room`].
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Ends the ring when nobody reads it any more: lets go of all blocks that lie in it. Tells
    /// how many became free.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has the other end.
    pub fn discard(mut self) -> Result<usize> {
        let ring = self.ring();
        let consumer = ring.consumer()?;
        incoming_of(ring).recover(consumer.released());
        let freed = outgoing(&mut self.desk, self.producer.ring()).empty();
        drop(consumer);
        Ok(freed)
    }
}

fn incoming_of(ring: &Records) -> Incoming {
    Incoming::new(ring.segment(), ring.as_carrier())
}

/// The blocks of a message that is sent.
fn outgoing<'a>(desk: &'a mut Option<Box<Desk>>, ring: &Records) -> &'a mut Outgoing {
    desk.get_or_insert_with(|| sending_desk(ring)).cargo().expect("it was made with that")
}

#[cold]
fn sending_desk(ring: &Records) -> Box<Desk> {
    Desk::to_collect(Box::new(Outgoing::new(ring.segment(), ring.as_carrier())))
}

/// Those of a message that is received.
fn incoming<'a>(desk: &'a mut Option<Box<Desk>>, ring: &Records) -> &'a mut Incoming {
    desk.get_or_insert_with(|| receiving_desk(ring)).cargo().expect("it was made with that")
}

/// The desk at which a message is read; it comes back from [`deserialize`].
#[inline]
fn take_desk(desk: &mut Option<Box<Desk>>, ring: &Records) -> Box<Desk> {
    desk.take().unwrap_or_else(|| receiving_desk(ring))
}

#[cold]
fn receiving_desk(ring: &Records) -> Box<Desk> {
    Desk::to_supply(Box::new(incoming_of(ring)))
}

sends! {
    /// Sends a message, waiting for room as long as the consumer lives, unless the ring's
    /// [`Policy`](super::Policy) is another. Its blocks are let go of before it becomes visible, so
    /// that the receiver alone touches them then.
}

impl<T: Serialize> Sender<T> {
    #[inline]
    fn send_owned(&mut self, message: T, patience: Patience) -> Result<(), PortError<T>> {
        match self.prepare(&message, patience, true) {
            Ok(prepared) => {
                prepared.send(|| drop(message));
                Ok(())
            }
            Err(error) => self.lose(error, patience).map_err(|error| error.map(|()| message)),
        }
    }

    #[inline]
    fn send_borrowed(&mut self, message: &T, patience: Patience) -> Result<(), PortError<()>> {
        match self.prepare(message, patience, false) {
            Ok(prepared) => {
                prepared.send(|| ());
                Ok(())
            }
            Err(error) => self.lose(error, patience),
        }
    }

    /// Gives a message up for which there is no room, where the ring is for that.
    #[cold]
    fn lose(&mut self, error: PortError<()>, patience: Patience) -> Result<(), PortError<()>> {
        match (error, patience) {
            (PortError::Ring(error), Patience::Policy) => {
                self.producer.lose(error).map_err(PortError::Ring)
            }
            (error, _) => Err(error),
        }
    }

    /// Everything that can fail.
    #[inline]
    fn prepare(
        &mut self,
        message: &T,
        patience: Patience,
        by_value: bool,
    ) -> Result<Prepared<'_>, PortError<()>> {
        let parcel = self.serialize(message)?;
        let Sender { producer, desk, bytes, recovered, needed, .. } = self;
        let blocks = match desk {
            Some(desk) if desk.was_touched() => {
                desk.cargo().map_or(0, |out: &mut Outgoing| out.len())
            }
            _ => 0,
        };
        let table = blocks * TABLE_ENTRY;
        let len = HEAD + table + bytes.len();
        *needed = len.min(producer.max_len());
        let claim = match patience {
            Patience::None => producer.try_claim(len),
            Patience::Bounded(timeout) => producer.claim_timeout(len, timeout),
            Patience::Policy => producer.claim(len),
        };
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(error) => {
                give_up(desk);
                return Err(PortError::Ring(error));
            }
        };
        if *recovered != claim.producer().role().word() {
            recover(&claim, outgoing(desk, claim.producer().ring()), recovered);
        }
        let mut outgoing = match desk {
            Some(desk) if blocks > 0 => desk.cargo::<Outgoing>(),
            _ => None,
        };
        if let Some(outgoing) = &mut outgoing {
            // Until it is published, whoever sends next finds the journal.
            *recovered = 0;
            let position = claim.position();
            if let Err(error) = outgoing.put(position, &mut claim[HEAD..HEAD + table], by_value) {
                recover(&claim, outgoing, recovered);
                outgoing.clear();
                return Err(unsendable(error.to_string()));
            }
        }
        Ok(Prepared { claim, outgoing, bytes, blocks, recovered, parcel })
    }

    /// What the message's values put beside the bytes, if they did.
    #[inline]
    fn serialize(&mut self, message: &T) -> Result<Option<Parcel>, PortError<()>> {
        let desk = match self.desk.take() {
            Some(mut desk) => {
                // What a send left that was broken off.
                if desk.was_touched() {
                    clear(&mut desk);
                }
                desk
            }
            None => sending_desk(self.producer.ring()),
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let (result, desk) =
            transfer::at_desk(desk, || postcard::serialize_with_flavor(message, Buffer(bytes)));
        self.desk = desk;
        match result {
            Ok(bytes) => self.bytes = bytes,
            Err(error) => {
                give_up(&mut self.desk);
                return Err(unsendable(transfer::take_reason().unwrap_or(error.to_string())));
            }
        }
        match &self.desk {
            Some(desk) if desk.has_parcel() => take_parcel(&mut self.desk).map(Some),
            _ => Ok(None),
        }
    }
}

#[cold]
fn take_parcel(desk: &mut Option<Box<Desk>>) -> Result<Parcel, PortError<()>> {
    let parcel = desk.as_mut().map(|desk| desk.take_parcel()).unwrap_or_default();
    if !goes_over_a_ring(&parcel) {
        drop(parcel);
        give_up(desk);
        return Err(unsendable(NOT_OVER_A_RING.into()));
    }
    Ok(parcel)
}

#[cold]
fn unsendable(reason: String) -> PortError<()> {
    PortError::Unsendable { item: (), reason }
}

/// Lets go of the blocks of a message that is not sent.
#[cold]
fn give_up(desk: &mut Option<Box<Desk>>) {
    if let Some(desk) = desk {
        drop(desk.take_parcel());
        clear(desk);
    }
}

#[inline]
fn clear(desk: &mut Desk) {
    if let Some(outgoing) = desk.cargo::<Outgoing>() {
        outgoing.clear();
    }
}

/// Takes over from a predecessor, or from a send of ours that was broken off.
#[cold]
fn recover(claim: &Claim<'_>, outgoing: &mut Outgoing, recovered: &mut u64) {
    outgoing.recover(claim.producer().published());
    *recovered = claim.producer().role().word();
}

/// A message that has its record. From here on nothing fails.
struct Prepared<'a> {
    claim: Claim<'a>,
    bytes: &'a [u8],
    blocks: usize,
    /// If it has blocks.
    outgoing: Option<&'a mut Outgoing>,
    recovered: &'a mut u64,
    parcel: Option<Parcel>,
}

impl Prepared<'_> {
    /// Publishes it. `last` drops the message before that, so that the receiver alone touches its
    /// blocks then.
    #[inline]
    fn send(self, last: impl FnOnce()) {
        let Prepared { mut claim, outgoing, bytes, blocks, recovered, parcel } = self;
        let len = claim.len();
        // At the end and all at once: the receiver may watch the same line, and would fetch it again
        // and again.
        let write = |claim: &mut Claim<'_>| {
            let record = &mut **claim;
            record[..HEAD].copy_from_slice(&(blocks as u64).to_le_bytes());
            record[HEAD + blocks * TABLE_ENTRY..].copy_from_slice(bytes);
        };
        match outgoing {
            None => {
                last();
                write(&mut claim);
                fault!("port.send.dropped");
                claim.commit_as(Kind::Message, len);
                fault!("port.send.published");
            }
            Some(outgoing) => {
                let word = claim.producer().role().word();
                outgoing.outlive(last);
                outgoing.depart(&mut claim[HEAD..]);
                write(&mut claim);
                fault!("port.send.dropped");
                let producer = claim.commit_as(Kind::Message, len);
                fault!("port.send.published");
                outgoing.published();
                *recovered = word;
                if producer.is_closed() {
                    // Nobody will read it.
                    outgoing.empty();
                }
            }
        }
        if let Some(parcel) = parcel {
            parcel.sent();
        }
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

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.producer.is_closed() && self.producer.role().is_held() {
            outgoing(&mut self.desk, self.producer.ring()).empty();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("ring", self.ring()).finish_non_exhaustive()
    }
}

/// The end that receives messages.
///
/// It takes over what a dead predecessor had begun; a message that was read and not released comes
/// again. Dropping it closes the ring and lets go of the blocks that lie in it, so that nobody waits
/// for those: whoever has this end after that finds the messages that have none, and an
/// [`Unreadable`](MessageError::Unreadable) one for each of the others.
///
/// ```
/// use shmring::ring::{port, records::Records};
///
/// let (mut tx, mut rx) = port::ends::<u64>(&Records::options().anonymous()?)?;
/// for number in 1..=4 {
///     tx.send(number).map_err(|error| error.to_string())?;
/// }
/// assert_eq!((rx.len(), rx.try_iter().count()), (4, 4));
/// tx.send(5).map_err(|error| error.to_string())?;
/// drop(tx);
/// for number in &mut rx {
///     // An error here says that the sender died, for example; the loop ends where it is closed.
///     assert_eq!(number?, 5);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T> {
    consumer: Option<Consumer>,
    /// As the sender's, with the [`Incoming`] blocks.
    desk: Option<Box<Desk>>,
    recovered: u64,
    sequence: Option<u64>,
    /// What was read ahead last, if it can be read again.
    ahead: Option<Found>,
    message: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    /// Makes a port of a ring's end.
    pub fn new(consumer: Consumer) -> Receiver<T> {
        Receiver {
            consumer: Some(consumer),
            desk: None,
            recovered: 0,
            sequence: None,
            ahead: None,
            message: PhantomData,
        }
    }

    /// The ring this is an end of.
    pub fn ring(&self) -> &Records {
        self.end().ring()
    }

    /// How many messages were sent into this ring before the one that was received last, those that
    /// were lost included: a step of more than one is a loss
    /// ([`Policy::DropNewest`](super::Policy::DropNewest)). `None` before the first.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether there is a message now; as [`Consumer::is_ready`].
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.end().is_ready()
    }

    /// A descriptor for a poll of your own; as [`Consumer::bell`], after [`Receiver::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.end().bell()
    }

    /// Which rings of the segment had news for this process; as [`Consumer::rung`].
    pub fn rung(&self) -> u64 {
        self.end().rung()
    }

    /// Asks to be woken by [`Receiver::bell`] when there may be a message; as [`Consumer::arm`].
    pub fn arm(&mut self) -> bool {
        self.consumer().arm()
    }

    /// The end, for bytes as they are.
    pub fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("only drop takes it")
    }

    fn end(&self) -> &Consumer {
        self.consumer.as_ref().expect("only drop takes it")
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a message, waiting for it as long as the producer lives.
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    #[inline]
    pub fn recv(&mut self) -> Result<T, MessageError> {
        let Receiver { consumer, desk, recovered, sequence, .. } = self;
        let record = consumer.as_mut().expect("only drop takes it").recv()?;
        *sequence = Some(record.sequence());
        read(record, desk, recovered)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, MessageError> {
        let Receiver { consumer, desk, recovered, sequence, .. } = self;
        let record = consumer.as_mut().expect("only drop takes it").try_recv()?;
        *sequence = Some(record.sequence());
        read(record, desk, recovered)
    }

    /// Receives a message if one comes until the deadline.
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, MessageError> {
        let Receiver { consumer, desk, recovered, sequence, .. } = self;
        let record = consumer.as_mut().expect("only drop takes it").recv_timeout(timeout)?;
        *sequence = Some(record.sequence());
        read(record, desk, recovered)
    }
}

#[inline]
fn read<T: DeserializeOwned>(
    record: Record<'_>,
    desk: &mut Option<Box<Desk>>,
    recovered: &mut u64,
) -> Result<T, MessageError> {
    if *recovered != record.consumer().role().word() {
        take_over(record.consumer(), desk, recovered);
    }
    let (bytes, blocks) =
        open(&record, record.kind()).ok_or_else(|| unreadable("it is no message"))?;
    if blocks > 0 {
        return read_with_blocks(record, desk, recovered, blocks);
    }
    let at = take_desk(desk, record.consumer().ring());
    let message = deserialize(&bytes[HEAD..], at, desk);
    fault!("port.recv.taken");
    drop(record);
    message
}

/// What of a message is copied out of its record, to release that before it is read.
const KEPT: usize = 64;

#[inline]
fn read_with_blocks<T: DeserializeOwned>(
    record: Record<'_>,
    desk: &mut Option<Box<Desk>>,
    recovered: &mut u64,
    blocks: usize,
) -> Result<T, MessageError> {
    let word = record.consumer().role().word();
    let ring = record.consumer().ring();
    let (table, body) = record[HEAD..].split_at(blocks * TABLE_ENTRY);
    let incoming = incoming(desk, ring);
    // Until all is done, whoever reads next finds the journal.
    *recovered = 0;
    // Most messages have one, and are short.
    if let Ok(table) = table.try_into()
        && body.len() <= KEPT
        && let Some(coming) = incoming.coming(table)
    {
        // While the block's lines are on their way.
        let mut kept = [0; KEPT];
        let kept = &mut kept[..body.len()];
        kept.copy_from_slice(body);
        incoming.arrive_alone(coming, record.end());
        drop(record);
        incoming.released();
        *recovered = word;
        let message = deserialize(kept, desk.take().expect("it has come"), desk);
        fault!("port.recv.taken");
        if let Some(incoming) = desk.as_mut().and_then(|desk| desk.cargo::<Incoming>()) {
            incoming.clear_alone();
        }
        return message;
    }
    let message = match incoming.read(table) {
        true => {
            incoming.arrive(record.end());
            deserialize(body, take_desk(desk, ring), desk)
        }
        false => Err(unreadable("its table of blocks contradicts itself")),
    };
    fault!("port.recv.taken");
    drop(record);
    if let Some(incoming) = desk.as_mut().and_then(|desk| desk.cargo::<Incoming>()) {
        incoming.released();
        *recovered = word;
    }
    message
}

/// Reads a message at a desk, which comes back.
#[inline]
fn deserialize<T: DeserializeOwned>(
    body: &[u8],
    at: Box<Desk>,
    back: &mut Option<Box<Desk>>,
) -> Result<T, MessageError> {
    let message;
    (message, *back) = transfer::at_desk(at, || postcard::take_from_bytes::<T>(body));
    match message {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(unreadable("bytes are left after its end")),
        Err(error) => Err(unreadable(&transfer::take_reason().unwrap_or(error.to_string()))),
    }
}

#[cold]
fn unreadable(reason: &str) -> MessageError {
    MessageError::Unreadable { reason: reason.into() }
}

/// Takes over from a predecessor, or from a read of ours that was broken off.
#[cold]
fn take_over(consumer: &Consumer, desk: &mut Option<Box<Desk>>, recovered: &mut u64) {
    incoming(desk, consumer.ring()).recover(consumer.released());
    *recovered = consumer.role().word();
}

/// The bytes of a message and how many blocks it has; checked.
#[inline]
fn open(bytes: &[u8], kind: Kind) -> Option<(&[u8], usize)> {
    let head = bytes.first_chunk::<HEAD>().filter(|_| kind == Kind::Message)?;
    let blocks = usize::try_from(u64::from_le_bytes(*head)).ok()?;
    let fits = blocks <= (bytes.len() - HEAD) / TABLE_ENTRY;
    (fits && blocks <= crate::block::MAX_BLOCKS_PER_MESSAGE).then_some((bytes, blocks))
}

impl<T> Selectable for Receiver<T> {
    fn source(&self) -> Source {
        self.end().source()
    }

    fn ask_again(&mut self) {
        self.consumer().ask_again();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        if !consumer.role().is_held() {
            return; // Another process's: it was sent there, or we are a copy in a forked child.
        }
        if self.recovered != consumer.role().word() {
            take_over(&consumer, &mut self.desk, &mut self.recovered);
        }
        let ring = consumer.ring().clone();
        drop(consumer);
        // Closed first: what the producer publishes later it lets go of itself.
        incoming(&mut self.desk, &ring).empty();
    }
}

counts!([T] Receiver<T>, |end| end.ring().len());
iterates!([T: DeserializeOwned] Receiver<T>);

impl<T: DeserializeOwned> Receive for Receiver<T> {
    type Received = T;
    type Error = MessageError;

    #[inline]
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
        self.producer.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        Producer::deserialize(deserializer).map(Sender::new)
    }
}

impl<T> Serialize for Receiver<T> {
    /// Travels as its ring's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.consumer {
            Some(consumer) => consumer.serialize(serializer),
            None => Err(serde::ser::Error::custom(Error::OutsidePort { what: "a receiver" })),
        }
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        Consumer::deserialize(deserializer).map(Receiver::new).map_err(de::Error::custom)
    }
}
