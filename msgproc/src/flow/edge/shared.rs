//! Lanes between processes: rings of records in shared memory.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use shmring::{
    RecvError, SendError,
    ring::{
        port::{self, MessageError, PortError, Receiver, Sender},
        records::Records,
    },
};

use super::{Batch, Fate, Head, Refused, Rx, Tx};
use crate::flow::error::panicked;

type OpenTx<T> = fn(&Records) -> Result<Box<dyn Tx<T>>, shmring::Error>;
type OpenRx<T> = fn(&Records) -> Result<Box<dyn Rx<T>>, shmring::Error>;

/// How items of a type travel between processes.
pub struct Wire<T> {
    pub(crate) tx: OpenTx<T>,
    pub(crate) rx: OpenRx<T>,
}

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Wire<T> {
        *self
    }
}

impl<T> Copy for Wire<T> {}

impl<T: Serialize + DeserializeOwned + 'static> Wire<T> {
    pub(crate) fn new() -> Wire<T> {
        Wire {
            tx: |ring| Ok(Box::new(SharedTx { port: Sender::new(ring.producer()?), rest: None })),
            rx: |ring| {
                let port = Receiver::new(ring.consumer()?);
                Ok(Box::new(SharedRx { port, pieces: Vec::new() }))
            },
        }
    }
}

/// A message as it stands in its record.
#[derive(Serialize, Deserialize)]
enum Message<T> {
    Items(Head, Vec<T>),
    /// A part of one item that is too long for a record: where it begins, how long the item is.
    Piece(Head, u64, u64, Bytes),
}

/// Bytes that serde takes as such, and not one by one.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

struct SharedTx<T> {
    port: Sender<Message<T>>,
    /// What of a long item has not been sent yet.
    rest: Option<Rest>,
}

struct Rest {
    head: Head,
    bytes: Vec<u8>,
    sent: usize,
}

impl<T: Serialize> SharedTx<T> {
    /// Sends as many pieces as there is room for. Tells whether that was all.
    fn put_pieces(&mut self) -> Result<bool, String> {
        let Some(rest) = &mut self.rest else { return Ok(true) };
        // The header of a message and of a piece take less than this.
        let most = self.port.producer().max_len().saturating_sub(96).max(1);
        while rest.sent < rest.bytes.len() {
            let end = rest.bytes.len().min(rest.sent + most);
            let (at, len) = (rest.sent as u64, rest.bytes.len() as u64);
            let piece = Bytes(rest.bytes[rest.sent..end].to_vec());
            match self.port.try_send(Message::Piece(rest.head, at, len, piece)) {
                Ok(()) => rest.sent = end,
                Err(PortError::Ring(error)) if is_for_now(&error) => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.rest = None;
        Ok(true)
    }
}

impl<T: Serialize> Tx<T> for SharedTx<T> {
    fn try_put(&mut self, batch: Batch<T>) -> Result<usize, Refused<T>> {
        let Batch { head, items } = batch;
        if let Some(rest) = &self.rest {
            debug_assert!(rest.head.id == head.id);
            let bytes = rest.bytes.len();
            return match self.put_pieces() {
                Ok(true) => Ok(bytes),
                Ok(false) => Err(Refused::Full(Batch { head, items })),
                Err(reason) => Err(Refused::Unsendable(reason)),
            };
        }
        let sent = try_send(&mut self.port, Message::Items(head, items));
        match sent.map_err(Refused::Unsendable)? {
            Ok(()) => Ok(self.port.needed()),
            Err(PortError::Ring(error)) if is_for_now(&error) => match error.into_inner() {
                Message::Items(head, items) => Err(Refused::Full(Batch { head, items })),
                Message::Piece(..) => Err(Refused::Unsendable("a piece came back".into())),
            },
            Err(PortError::Ring(SendError::TooLarge {
                item: Message::Items(head, items), ..
            })) if items.len() == 1 => {
                let bytes = postcard::to_stdvec(&items[0])
                    .map_err(|error| Refused::Unsendable(error.to_string()))?;
                self.rest = Some(Rest { head, bytes, sent: 0 });
                self.try_put(Batch { head, items })
            }
            Err(error) if error_is_of_many(&error) => match error.into_inner() {
                Message::Items(head, items) => Err(Refused::TooMany(Batch { head, items })),
                Message::Piece(..) => Err(Refused::Unsendable("a piece came back".into())),
            },
            Err(error) => Err(Refused::Unsendable(error.to_string())),
        }
    }
}

/// Whether to wait for the receiver. One that has ended may have closed its ring after the sender
/// looked whether its lane is open; one that died is replaced, or fails the run.
pub(super) fn is_for_now<T>(error: &SendError<T>) -> bool {
    matches!(error, SendError::Full(_) | SendError::Closed(_) | SendError::PeerDied { .. })
}

/// Whether half as many items could be sent.
fn error_is_of_many<T>(error: &PortError<Message<T>>) -> bool {
    let message = match error {
        PortError::Ring(SendError::TooLarge { item, .. }) | PortError::Unsendable { item, .. } => {
            item
        }
        _ => return false,
    };
    matches!(message, Message::Items(_, items) if items.len() > 1)
}

/// Gives how it panicked, if it did: how an item is written is no matter of its node, which would be
/// replaced, and die of it again and again.
fn try_send<T: Serialize>(
    port: &mut Sender<Message<T>>,
    message: Message<T>,
) -> Result<Result<(), PortError<Message<T>>>, String> {
    let sent = catch_unwind(AssertUnwindSafe(|| port.try_send(message)));
    sent.map_err(|panic| panicked(&*panic))
}

type Leased<'a, T> = Result<port::Leased<'a, Message<T>>, MessageError>;

/// The same of how it is read.
fn try_lease<T: DeserializeOwned>(
    port: &mut Receiver<Message<T>>,
) -> Result<Leased<'_, T>, String> {
    let leased = catch_unwind(AssertUnwindSafe(move || {
        let port = port;
        port.try_lease()
    }));
    leased.map_err(|panic| panicked(&*panic))
}

struct SharedRx<T> {
    port: Receiver<Message<T>>,
    pieces: Vec<u8>,
}

impl<T: DeserializeOwned> Rx<T> for SharedRx<T> {
    fn is_ready(&self) -> bool {
        self.port.is_ready()
    }

    fn take(
        &mut self,
        piece: &mut dyn FnMut(),
        handle: &mut dyn FnMut(Batch<T>) -> Fate,
    ) -> Result<Option<Fate>, String> {
        loop {
            let leased = match try_lease(&mut self.port)? {
                Ok(leased) => leased,
                // Whether more comes is said by the board and by the message that ends a lane.
                Err(MessageError::Ring(
                    RecvError::Empty | RecvError::Closed | RecvError::PeerDied { .. },
                )) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
            let (message, lease) = leased.split();
            let batch = match message {
                Message::Items(head, items) => Batch { head, items },
                Message::Piece(head, at, len, Bytes(bytes)) => {
                    if at == 0 {
                        self.pieces.clear(); // Its sender may have died over another.
                    }
                    if at != self.pieces.len() as u64 {
                        return Err("a piece of a long item is missing".into());
                    }
                    self.pieces.extend_from_slice(&bytes);
                    if (self.pieces.len() as u64) < len {
                        lease.release().map_err(|error| error.to_string())?;
                        piece();
                        continue;
                    }
                    let item = postcard::from_bytes(&std::mem::take(&mut self.pieces))
                        .map_err(|error| error.to_string())?;
                    Batch { head, items: vec![item] }
                }
            };
            let fate = handle(batch);
            if fate == Fate::Done {
                lease.release().map_err(|error| error.to_string())?;
            }
            return Ok(Some(fate));
        }
    }
}
