//! The newest message: a value that serde can serialize, with blocks in it that are read in place.
//!
//! ```
//! use shmring::{block::{Block, BlockPool}, ring::latest::{Latest, port}};
//!
//! let pool = BlockPool::options().blocks(4).block_len(4096).anonymous()?;
//! let board = Latest::<[u8]>::options().max_len(64).create_in(pool.segment())?;
//! let (mut writer, mut reader) = port::ends::<(u64, Block)>(&board)?;
//!
//! for number in 1..=2 {
//!     let mut picture = pool.loan()?;
//!     picture.as_bytes_mut().fill(number);
//!     writer.set((number.into(), picture.freeze())).map_err(|error| error.to_string())?;
//! }
//! let (number, picture) = reader.recv()?;
//! assert_eq!((number, picture.as_bytes()[7], reader.version()), (2, 2, 2));
//! assert_eq!(pool.in_use(), 1, "what was replaced is free");
//!
//! drop(picture);
//! writer.clear()?;
//! assert_eq!(pool.in_use(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A block travels by handle; the value must lie in the segment of its pool, and takes one of the
//! pool's [carriers](crate::block::Options::carriers). It holds the blocks of the newest message. A
//! reader holds those of a message that it keeps: they become free when it was replaced and the last
//! reader has let go of it. So a pool needs the blocks of two messages, and those that readers keep.
//! The writer waits for none of them. README.md in this folder has the steps.

use std::{
    fmt,
    marker::PhantomData,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{Latest, cursor::TRIES, reader::Reader as Bytes, writer::Writer as BytesWriter};
use crate::{
    block::{self, Packing, TABLE_ENTRY, Unpacking},
    error::{RecvError, Result, SendError},
    fault::fault,
    ring::{
        message::{self, HEAD},
        port::{MessageError, PortError},
        select::{Selectable, Source},
    },
    wait::WaitStrategy,
};

/// Takes the writer's end and makes a reader, for messages of one type.
///
/// # Errors
///
/// As [`Latest::writer`].
pub fn ends<T>(latest: &Latest<[u8]>) -> Result<(Writer<T>, Reader<T>)> {
    Ok((Writer::new(latest.writer()?), Reader::new(latest.reader())))
}

/// The blocks of two versions lie in places at a time: the newest, and the one before or after it.
const PLACES: usize = 2;

fn place(version: u64) -> usize {
    (version % PLACES as u64) as usize
}

/// The end that replaces the message.
///
/// It never waits for anybody, and makes up for what a dead predecessor had begun. Dropping it
/// closes the value: the newest message stays readable, and its blocks held, unless it was
/// [cleared](Writer::clear).
pub struct Writer<T> {
    writer: BytesWriter<[u8]>,
    /// `None` before the first message, and while it is in use.
    packing: Option<Box<Packing>>,
    /// Where the blocks of the newest message are; `None` when another writer set it.
    newest: Option<Box<Packing>>,
    bytes: Vec<u8>,
    /// What readers copy: the table of blocks, and the bytes.
    value: Vec<u8>,
    /// The role's word when the places were last known to be in order.
    recovered: u64,
    message: PhantomData<fn(T)>,
}

impl<T> Writer<T> {
    /// Makes a port of a writer's end.
    pub fn new(writer: BytesWriter<[u8]>) -> Writer<T> {
        let (packing, newest, bytes, value) = (None, None, Vec::new(), Vec::new());
        Writer { writer, packing, newest, bytes, value, recovered: 0, message: PhantomData }
    }

    /// How many messages have been set or cleared, by all writers: the version of the newest.
    pub fn version(&self) -> u64 {
        self.writer.version()
    }

    /// The value this is an end of.
    pub fn latest(&self) -> &Latest<[u8]> {
        self.writer.latest()
    }

    /// Takes the message away, and lets go of its blocks: readers find nothing, until another is
    /// set. Also for what a dead writer has left.
    ///
    /// # Errors
    ///
    /// `Moved`; `Corrupt`.
    pub fn clear(&mut self) -> Result<(), SendError> {
        self.recover()?;
        self.writer.set(&[])?;
        self.let_go_of_replaced(None);
        Ok(())
    }

    fn packing(&mut self) -> &mut Packing {
        let board = &self.writer.latest().board;
        self.packing.get_or_insert_with(|| {
            Box::new(Packing::new(&board.segment, board.object.index, PLACES))
        })
    }

    /// Whoever has the end anew empties the place of the next version: what its predecessor had
    /// begun may lie there, or what it had replaced.
    fn recover(&mut self) -> Result<(), SendError> {
        self.writer.own()?;
        let word = self.writer.role.word();
        if self.recovered != word {
            self.newest = None;
            self.empty(self.version() + 1);
            self.recovered = word;
        }
        Ok(())
    }

    fn empty(&self, version: u64) {
        let board = &self.writer.latest().board;
        block::empty_place(&board.segment, board.object.index, place(version));
    }

    /// After a new version was published: lets go of the one before.
    fn let_go_of_replaced(&mut self, newest: Option<Box<Packing>>) {
        fault!("latest.port.replaced");
        let replaced = self.version() - 1;
        match std::mem::replace(&mut self.newest, newest) {
            Some(mut packing) => {
                packing.take_back(place(replaced));
                self.packing = Some(packing);
            }
            None => self.empty(replaced),
        }
    }
}

impl<T: Serialize> Writer<T> {
    /// Replaces the message. Readers get all of it or nothing. Its blocks are the value's from then
    /// on.
    ///
    /// # Errors
    ///
    /// [`PortError`] hands the message back, with `TooLarge`, `Moved` or `Corrupt`, or because it
    /// cannot travel; nothing in it was given up then, and the newest message is what it was.
    pub fn set(&mut self, message: T) -> Result<(), PortError<T>> {
        match self.set_ref(&message) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.map(|()| message)),
        }
    }

    /// Replaces the message by one that is kept: its blocks are then held here as well.
    ///
    /// # Errors
    ///
    /// As [`Writer::set`].
    pub fn set_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
        self.packing().clear();
        let set = message::serialize(message, &mut self.packing, &mut self.bytes)
            .and_then(|parcel| self.publish().map(|()| parcel.sent()));
        if let (Err(_), Some(packing)) = (&set, &mut self.packing) {
            packing.clear();
        }
        set
    }

    fn publish(&mut self) -> Result<(), PortError<()>> {
        self.recover().map_err(PortError::Ring)?;
        let Some(mut packing) = self.packing.take() else {
            unreachable!("`serialize` has put it back")
        };
        let blocks = packing.len();
        self.value.clear();
        self.value.resize(HEAD + blocks * TABLE_ENTRY, 0);
        self.value[..HEAD].copy_from_slice(&(blocks as u64).to_le_bytes());
        let place = place(self.version() + 1);
        if let Err(error) = packing.put(place, &mut self.value[HEAD..]) {
            self.packing = Some(packing);
            return Err(PortError::Unsendable { item: (), reason: error.to_string() });
        }
        self.value.extend_from_slice(&self.bytes);
        if let Err(error) = self.writer.set(&self.value) {
            packing.take_back(place);
            self.packing = Some(packing);
            return Err(PortError::Ring(error));
        }
        packing.clear();
        self.let_go_of_replaced(Some(packing));
        Ok(())
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("latest", self.latest()).finish_non_exhaustive()
    }
}

/// Reads the newest message. There can be any number of them; cloning gives another that has seen
/// the same.
///
/// `get` gives the newest message, also the same again; `recv` gives one that is newer than what
/// this reader got last.
pub struct Reader<T> {
    reader: Bytes<[u8]>,
    /// `None` before the first message, and while it is in use.
    unpacking: Option<Box<Unpacking>>,
    /// The version that was got last; 0 before the first.
    seen: u64,
    missed: u64,
    message: PhantomData<fn() -> T>,
}

/// What became of a message that was copied.
enum Opened<T> {
    Message(T),
    /// There is none now.
    Cleared,
    /// It was replaced before its blocks were held.
    Replaced,
}

#[derive(Clone, Copy)]
enum Which {
    Any,
    Newer,
}

impl<T> Reader<T> {
    /// Makes a port of a reader.
    pub fn new(reader: Bytes<[u8]>) -> Reader<T> {
        let seen = reader.version();
        Reader { reader, unpacking: None, seen, missed: 0, message: PhantomData }
    }

    /// The version of the message that was got last; 0 before the first. Counted from 1.
    pub fn version(&self) -> u64 {
        self.seen
    }

    /// How many versions were replaced between the last message and the one before it; 0 for the
    /// first.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether the writer has closed its end. There may be a message that this reader has not seen.
    pub fn is_closed(&self) -> bool {
        self.reader.is_closed()
    }

    /// Changes how this reader waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.reader.set_wait(strategy);
    }

    /// The value this reads.
    pub fn latest(&self) -> &Latest<[u8]> {
        self.reader.latest()
    }

    /// A descriptor for a poll of your own; as [`super::Reader::bell`], after [`Reader::arm`].
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.reader.bell()
    }

    /// Which objects of the segment had news for this process; as [`super::Reader::rung`].
    pub fn rung(&self) -> u64 {
        self.reader.rung()
    }

    /// Asks to be woken by [`Reader::bell`]; as [`super::Reader::arm`].
    pub fn arm(&mut self) -> bool {
        self.reader.arm()
    }
}

impl<T: DeserializeOwned> Reader<T> {
    /// Takes the newest message there is now, seen or not. It can be read as long as the segment is
    /// there and it is not cleared, also when the writer has ended.
    ///
    /// # Errors
    ///
    /// As [`super::Reader::try_get`]; [`MessageError::Unreadable`] when it is no message of this type.
    pub fn try_get(&mut self) -> Result<T, MessageError> {
        self.look(Which::Any)
    }

    /// The same, but waits for the first message as long as the writer lives, or is yet to come.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_get`], but never `Empty` or `Outrun`.
    pub fn get(&mut self) -> Result<T, MessageError> {
        self.wait(Which::Any, None)
    }

    /// The same with a bound: `TimedOut` when there was none until then.
    ///
    /// # Errors
    ///
    /// As [`Reader::get`].
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<T, MessageError> {
        self.wait(Which::Any, Some(timeout))
    }

    /// Takes the newest message if it is newer than the last one that this reader got.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_get`], and `Closed` and `PeerDied` when none will come from this writer.
    pub fn try_recv(&mut self) -> Result<T, MessageError> {
        self.look(Which::Newer)
    }

    /// The same, but waits for a newer message as long as the writer lives, or is yet to come.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_recv`], but never `Empty` or `Outrun`.
    pub fn recv(&mut self) -> Result<T, MessageError> {
        self.wait(Which::Newer, None)
    }

    /// The same with a bound: `TimedOut` when there was none until then.
    ///
    /// # Errors
    ///
    /// As [`Reader::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, MessageError> {
        self.wait(Which::Newer, Some(timeout))
    }

    fn look(&mut self, which: Which) -> Result<T, MessageError> {
        for _ in 0..TRIES {
            match which {
                Which::Any => self.reader.try_get()?,
                Which::Newer => self.reader.try_recv()?,
            };
            match self.open()? {
                Opened::Message(message) => return Ok(message),
                Opened::Replaced => {}
                Opened::Cleared => {
                    // The same look says whether another one can come.
                    self.reader.try_recv()?;
                }
            }
        }
        Err(RecvError::Outrun.into())
    }

    fn wait(&mut self, which: Which, timeout: Option<Duration>) -> Result<T, MessageError> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let rest = || until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut newer = matches!(which, Which::Newer);
        loop {
            match (newer, rest()) {
                (false, None) => self.reader.get()?,
                (false, Some(rest)) => self.reader.get_timeout(rest)?,
                (true, None) => self.reader.recv()?,
                (true, Some(rest)) => self.reader.recv_timeout(rest)?,
            };
            match self.open()? {
                Opened::Message(message) => return Ok(message),
                // Whoever replaces or clears it sets a newer one.
                Opened::Replaced | Opened::Cleared => newer = true,
            }
        }
    }

    /// Reads what was copied last.
    fn open(&mut self) -> Result<Opened<T>, MessageError> {
        fault!("latest.port.copied");
        let Reader { reader, unpacking, .. } = self;
        let (board, version) = (&reader.latest.board, reader.version());
        let opened = unpacking
            .get_or_insert_with(|| Box::new(Unpacking::new(&board.segment, board.object.index)));
        let bytes = reader.value();
        if bytes.is_empty() {
            return Ok(Opened::Cleared);
        }
        let parts = message::open(bytes);
        let (table, bytes) = parts.ok_or_else(|| message::unreadable("it is no message"))?;
        if !opened.read(place(version), table) {
            return Err(message::unreadable("its table of blocks contradicts itself"));
        }
        let held = opened.hold();
        fault!("latest.port.held");
        match held {
            Ok(true) => {}
            Ok(false) if reader.latest.stats().set > version => return Ok(Opened::Replaced),
            Ok(false) => return Err(message::unreadable("a block of it is not held any more")),
            Err(error) => return Err(message::unreadable(error.to_string())),
        }
        let message = message::deserialize(bytes, unpacking);
        if let Some(unpacking) = unpacking {
            unpacking.clear();
        }
        let message = message?;
        let before = std::mem::replace(&mut self.seen, version);
        self.missed = match before {
            0 => 0,
            before => version.saturating_sub(before).saturating_sub(1),
        };
        Ok(Opened::Message(message))
    }
}

impl<T> Selectable for Reader<T> {
    /// It is ready when there is a newer message than the last one got.
    fn source(&self) -> Source {
        self.reader.source()
    }

    fn ask_again(&mut self) {
        self.reader.ask_again();
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Reader<T> {
        Reader { missed: self.missed, seen: self.seen, ..Reader::new(self.reader.clone()) }
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("latest", self.latest())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Writer<T> {
    /// Travels as the writer's end does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.writer.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Writer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Writer<T>, D::Error> {
        BytesWriter::deserialize(deserializer).map(Writer::new)
    }
}

impl<T> Serialize for Reader<T> {
    /// Travels as the reader does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.reader.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Reader<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reader<T>, D::Error> {
        Bytes::deserialize(deserializer).map(Reader::new)
    }
}
