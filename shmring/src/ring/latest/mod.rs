//! The newest value, from one writer to any number of readers: a blackboard.
//!
//! ```
//! use shmring::ring::latest::Latest;
//!
//! // Plain data of one type; `#[derive(bytemuck::Pod)]` for types of your own.
//! let board = Latest::<[f32; 3]>::options().anonymous()?;
//! let mut writer = board.writer()?;
//! let mut reader = board.reader();
//!
//! writer.set(&[1.0, 2.0, 3.0])?;
//! writer.set(&[4.0, 5.0, 6.0])?;
//! assert_eq!(reader.recv()?, [4.0, 5.0, 6.0]);
//! assert_eq!((reader.version(), reader.missed()), (2, 0));
//!
//! for x in [7.0, 8.0, 9.0] {
//!     writer.set(&[x; 3])?;
//! }
//! assert_eq!(reader.recv()?, [9.0; 3]);
//! assert_eq!((reader.version(), reader.missed()), (5, 2));
//! assert_eq!(reader.get()?, [9.0; 3], "also the same again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The writer never waits, and does not know its readers: they may be many, slow, stopped or
//! killed. So each reader copies the value out. Give big values, whose copy takes long compared
//! with the time between two of them, more slots. What is to be read in place is a block of a
//! [pool](crate::block), and goes through a [`port`].
//!
//! `Latest<[u8]>` holds bytes of a length that changes.

mod cursor;
#[cfg(all(test, shmring_loom))]
mod loom_models;
pub mod port;
#[cfg(all(test, not(shmring_loom)))]
mod port_tests;
mod reader;
mod sleepers;
mod source;
mod value;
mod writer;

use std::{fmt, marker::PhantomData};

use self::cursor::{
    DATA, FORM, Geometry, LEAST_SLOTS, LIMIT, MOST_LIMIT, MOST_SLOTS, ROLE, SLOTS, TRIES,
};
use self::sleepers::Sleepers;
pub(crate) use self::writer::UnreadWriter;
pub use self::{
    reader::Reader,
    value::Value,
    writer::{Claim, Writer},
};
use super::{
    face::{Make, Ring, Room, ring_verbs},
    register_repairers,
    role::{self, Place, Role, State},
};
use crate::{
    error::{Error, RecvError, Result},
    liveness::Id,
    region::{LINE, Region},
    segment::{Kind, Object, Segment},
    sync::Ordering,
    wait::{self, WaitStrategy},
};

/// What the writer's end is called in errors.
const WRITER: &str = "the writer of a latest value";

/// A latest value: from it come its writer and its readers. Cloning gives another handle of it.
pub struct Latest<V: Value + ?Sized> {
    board: Board,
    value: PhantomData<fn(&V)>,
}

/// A latest value of whatever type.
#[derive(Clone)]
pub(crate) struct Board {
    segment: Segment,
    object: Object,
    geometry: Geometry,
    form: u32,
    strategy: WaitStrategy,
}

/// How a latest value is made. From [`Latest::options`].
#[must_use = "options do nothing until a value is made with them"]
pub struct Options<V: Value + ?Sized> {
    limit: usize,
    slots: usize,
    participants: usize,
    strategy: WaitStrategy,
    prefault: bool,
    replace_stale: bool,
    value: PhantomData<fn(&V)>,
}

impl Options<[u8]> {
    /// The longest value in bytes, up to 2³⁰. Default 1024.
    pub fn max_len(mut self, bytes: usize) -> Options<[u8]> {
        self.limit = bytes;
        self
    }
}

impl<V: Value + ?Sized> Options<V> {
    /// How many values have a place, 2 to 1024. Default 8. A reader has to begin again when the
    /// writer sets so many less one, and begins another, while it copies one.
    pub fn slots(mut self, count: usize) -> Options<V> {
        self.slots = count;
        self
    }

    /// How many processes can be attached at once, 1 to 255, to what [`Options::anonymous`] and
    /// [`Options::create`] make. Default 32.
    pub fn participants(mut self, count: usize) -> Options<V> {
        self.participants = count;
        self
    }

    /// How readers wait, unless they are told otherwise. Default adaptive.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options<V> {
        self.strategy = strategy;
        self
    }

    /// Touches every page now. Default yes.
    pub fn prefault(mut self, yes: bool) -> Options<V> {
        self.prefault = yes;
        self
    }

    /// How many bytes it takes of a segment, at most.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`].
    pub fn len_in_segment(&self) -> Result<usize> {
        // It begins on a multiple of two lines.
        Ok(self.geometry()?.size() + 2 * LINE)
    }

    fn geometry(&self) -> Result<Geometry> {
        let bad = |reason| Error::BadParameters { action: "create a latest value".into(), reason };
        if self.limit > MOST_LIMIT {
            return Err(bad(format!("{} bytes: at most {MOST_LIMIT} are possible", self.limit)));
        }
        if !(LEAST_SLOTS..=MOST_SLOTS).contains(&self.slots) {
            return Err(bad(format!(
                "{} slots: {LEAST_SLOTS} to {MOST_SLOTS} are possible",
                self.slots
            )));
        }
        Ok(Geometry { base: 0, limit: self.limit, slots: self.slots })
    }
}

impl<V: Value + ?Sized> Latest<V> {
    /// Begins to describe a latest value.
    pub fn options() -> Options<V> {
        Options {
            limit: V::SIZE.unwrap_or(1024),
            slots: 8,
            participants: 32,
            strategy: WaitStrategy::default(),
            prefault: true,
            replace_stale: false,
            value: PhantomData,
        }
    }

    /// Takes the writer's end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while a living process has it; [`Error::Corrupt`].
    pub fn writer(&self) -> Result<Writer<V>> {
        let role = Role::take(&self.board.segment, self.board.place(), WRITER)?;
        Writer::new(self.clone(), role)
    }

    /// Makes a reader, which has seen nothing yet.
    pub fn reader(&self) -> Reader<V> {
        Reader::new(self.clone(), 0)
    }

    /// Whether the writer has closed its end, and nobody has taken it since.
    pub fn is_closed(&self) -> bool {
        role::state_of(&self.board.segment, self.board.place()) == State::Closed
    }

    /// What has been set, and what there is room for.
    pub fn stats(&self) -> Stats {
        stats(&self.board.segment.0.region, self.board.geometry)
    }
}

impl Board {
    fn region(&self) -> &Region {
        &self.segment.0.region
    }

    fn place(&self) -> Place {
        let word = self.geometry.base + ROLE;
        Place { word, destination: word + 8 }
    }

    fn sleepers(&self) -> Sleepers<'_> {
        Sleepers::at(self.region(), self.geometry.sleepers())
    }

    /// Wakes all who sleep until there is news.
    #[inline]
    fn ring_sleepers(&self) {
        self.sleepers().take(|index| {
            // A doorbell is found by the index alone.
            wait::ring(&self.segment, Id(index as u32), self.object.index);
        });
    }
}

/// The constants of an object, copied once and checked, and its form.
fn read_geometry(region: &Region, object: Object) -> Result<(Geometry, u32)> {
    let corrupt = |reason: &str| Error::Corrupt {
        what: format!("object {} of a segment, a latest value", object.index),
        reason: reason.into(),
    };
    if object.size < DATA {
        return Err(corrupt("it is too short"));
    }
    let limit = region.u64(object.offset + LIMIT).load(Ordering::Relaxed);
    let slots = region.u32(object.offset + SLOTS).load(Ordering::Relaxed) as usize;
    let form = region.u32(object.offset + FORM).load(Ordering::Relaxed);
    let limit = usize::try_from(limit).ok().filter(|limit| *limit <= MOST_LIMIT);
    let limit = limit.ok_or_else(|| corrupt("its limit is impossible"))?;
    if !(LEAST_SLOTS..=MOST_SLOTS).contains(&slots) {
        return Err(corrupt("its number of slots is impossible"));
    }
    let geometry = Geometry { base: object.offset, limit, slots };
    if geometry.size() > object.size {
        return Err(corrupt("its slots do not fit into it"));
    }
    if form > 1 {
        return Err(corrupt("its form is unknown"));
    }
    Ok((geometry, form))
}

fn check_form<V: Value + ?Sized>(number: u32, geometry: Geometry, form: u32) -> Result<()> {
    let same = match V::SIZE {
        Some(size) => form == 1 && size == geometry.limit,
        None => form == 0,
    };
    if same {
        return Ok(());
    }
    Err(Error::WrongType {
        what: format!("object {number} of a segment"),
        found: match form {
            0 => format!("a latest value of up to {} bytes", geometry.limit),
            _ => format!("latest values of {} bytes", geometry.limit),
        },
        expected: V::what(),
    })
}

/// What an onlooker sees; each number is a moment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Values set since it was made: the version of the newest.
    pub set: u64,
    /// Values that have a place.
    pub slots: u64,
    /// The longest value in bytes.
    pub max_len: u64,
}

/// The same, also where memory may only be read.
pub(crate) fn observe(region: &Region, object: Object) -> Result<Stats> {
    Ok(stats(region, read_geometry(region, object)?.0))
}

fn stats(region: &Region, geometry: Geometry) -> Stats {
    Stats {
        set: cursor::newest(region, geometry),
        slots: geometry.slots as u64,
        max_len: geometry.limit as u64,
    }
}

/// A copy of the newest value, for those who only look: also where memory may only be read.
pub(crate) struct Snapshot<V: Value + ?Sized> {
    reader: cursor::Reader,
    value: PhantomData<fn(&V)>,
}

impl<V: Value + ?Sized> Snapshot<V> {
    pub(crate) fn new(region: &Region, object: Object) -> Result<Snapshot<V>> {
        let (geometry, form) = read_geometry(region, object)?;
        check_form::<V>(object.index, geometry, form)?;
        let reader = cursor::Reader::new(geometry, 0).of_size(V::SIZE);
        Ok(Snapshot { reader, value: PhantomData })
    }

    /// Takes the newest value, or one that is newer than the last.
    pub(crate) fn take(&mut self, region: &Region, newer: bool) -> Result<V::Read<'_>, RecvError> {
        let than = if newer { self.reader.seen() } else { 0 };
        self.reader.read(region, than, TRIES)?;
        Ok(V::read(self.reader.value()))
    }

    pub(crate) fn version(&self) -> u64 {
        self.reader.seen()
    }

    pub(crate) fn missed(&self) -> u64 {
        self.reader.missed()
    }
}

impl<V: Value + ?Sized> Make for Options<V> {
    type Ring = Latest<V>;

    fn room(&self) -> Result<Room> {
        let len = self.len_in_segment()?;
        Ok(Room {
            len,
            participants: self.participants,
            objects: 1,
            prefault: self.prefault,
            replace_stale: self.replace_stale,
        })
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    fn make_in(self, segment: &Segment) -> Result<Latest<V>> {
        let geometry = self.geometry()?;
        let object = segment.add(Kind::Latest, geometry.size(), |object| {
            let region = &segment.0.region;
            let form = u32::from(V::SIZE.is_some());
            region.u64(object.offset + LIMIT).store(geometry.limit as u64, Ordering::Relaxed);
            region.u32(object.offset + SLOTS).store(geometry.slots as u32, Ordering::Relaxed);
            region.u32(object.offset + FORM).store(form, Ordering::Relaxed);
            Ok(())
        })?;
        Latest::attach(segment, object.index, self.strategy)
    }
}

impl Ring for Board {
    const KIND: Kind = Kind::Latest;

    fn attach(segment: &Segment, number: u32, strategy: WaitStrategy) -> Result<Board> {
        let object = segment.object(number, Kind::Latest)?;
        register_repairers(segment);
        let (geometry, form) = read_geometry(&segment.0.region, object)?;
        Ok(Board { segment: segment.clone(), object, geometry, form, strategy })
    }

    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn number(&self) -> u32 {
        self.object.index
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }
}

impl<V: Value + ?Sized> Ring for Latest<V> {
    const KIND: Kind = Kind::Latest;

    fn attach(segment: &Segment, number: u32, strategy: WaitStrategy) -> Result<Latest<V>> {
        let board = Board::attach(segment, number, strategy)?;
        check_form::<V>(number, board.geometry, board.form)?;
        Ok(Latest { board, value: PhantomData })
    }

    fn segment(&self) -> &Segment {
        self.board.segment()
    }

    fn number(&self) -> u32 {
        self.board.number()
    }

    fn strategy(&self) -> WaitStrategy {
        self.board.strategy()
    }
}

ring_verbs!([V: Value + ?Sized] Options<V> => Latest<V>);

impl<V: Value + ?Sized> Clone for Latest<V> {
    fn clone(&self) -> Latest<V> {
        Latest { board: self.board.clone(), value: PhantomData }
    }
}

impl<V: Value + ?Sized> fmt::Debug for Latest<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest")
            .field("object", &self.board.object.index)
            .field("stats", &self.stats())
            .finish()
    }
}

impl<V: Value + ?Sized> fmt::Debug for Options<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_len", &self.limit)
            .field("slots", &self.slots)
            .field("participants", &self.participants)
            .finish_non_exhaustive()
    }
}

impl<V: Value + ?Sized> Clone for Options<V> {
    fn clone(&self) -> Options<V> {
        let Options { limit, slots, participants, strategy, prefault, replace_stale, value } = self;
        Options {
            limit: *limit,
            slots: *slots,
            participants: *participants,
            strategy: *strategy,
            prefault: *prefault,
            replace_stale: *replace_stale,
            value: *value,
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests;
