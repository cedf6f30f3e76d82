//! Looking at a named segment without taking part: for tools.
//!
//! An observer maps the segment for reading only, so it can change nothing in it, takes no place
//! among the participants and wakes nobody. Like any attacher it marks the file as in use, so that
//! nobody removes it as stale meanwhile.
//!
//! ```
//! use shmring::{Segment, observe::Kind, ring::records::Records};
//!
//! # let name = format!("doc-observe-{}", std::process::id());
//! let ring = Records::options().create(&name)?;
//! ring.producer()?.send(b"hello")?;
//!
//! let observer = Segment::observe(&name)?;
//! for object in observer.objects() {
//!     println!("{} {}: {} bytes, {:?}", object.number, object.name(), object.len, object.ring);
//! }
//! let records = &observer.objects()[0];
//! assert_eq!(records.kind, Some(Kind::Records));
//! assert_eq!(records.ring.unwrap().sent, 1);
//! assert_eq!(observer.participants()[0].pid, std::process::id());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, os::fd::OwnedFd};

pub use crate::segment::Kind;
use crate::{
    error::{Error, RecvError, Result},
    layout::Layout,
    liveness::{Participants, Watch},
    named, names,
    os::Mapping,
    region::Region,
    ring::{
        broadcast, cells,
        latest::{self, Value},
        queue, records,
    },
    segment::{self, Object, Segment},
};

/// A named segment, for looking only.
pub struct Observer {
    /// Mapped for reading only: nothing here stores, and loads are relaxed ones.
    region: Region,
    layout: Layout,
    name: String,
    /// Has the lock that says that the file is in use.
    _fd: OwnedFd,
}

/// A process that is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Participant {
    /// Its place among the participants.
    pub index: usize,
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// Whether it lives. One in another pid namespace cannot be asked, and counts as alive.
    pub alive: bool,
}

/// What a segment holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its number in the segment.
    pub number: u32,
    /// What it is; `None` for a kind that this version does not know.
    pub kind: Option<Kind>,
    kind_number: u32,
    /// Its size in bytes; 0 when it is corrupt.
    pub len: usize,
    /// What goes through it; `None` when it is no ring, or of a kind that this version cannot look
    /// into.
    pub ring: Option<RingStats>,
    /// Why it cannot be used, when it cannot: [`Error::Corrupt`].
    pub error: Option<Error>,
}

/// What goes through a ring; each number is a moment's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RingStats {
    /// What it holds at most: bytes of a ring of records or of a broadcast ring, items of a queue or
    /// of a ring of cells, values of a latest one.
    pub capacity: u64,
    /// How much of that is filled; in a broadcast ring with what can be read, history included.
    pub used: u64,
    /// Items published since it was made.
    pub sent: u64,
    /// Items taken; `None` where nobody counts that.
    pub taken: Option<u64>,
    /// Items that were dropped or overwritten before their consumer had them, where the kind
    /// counts that.
    pub lost: u64,
}

impl Segment {
    /// Opens a named segment for looking only.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; [`Error::Absent`]; [`Error::NotASegment`], [`Error::WrongVersion`],
    /// [`Error::TooShort`], [`Error::NotOurs`], [`Error::Corrupt`] when what is there cannot be
    /// read; [`Error::TimedOut`] while a cleaner holds it; [`Error::Io`].
    pub fn observe(name: &str) -> Result<Observer> {
        let path = names::path(name, names::Kind::Ring)?;
        let (fd, info) = named::attach_read_only(&path)?;
        let what = path.display().to_string();
        let len = usize::try_from(info.len).unwrap_or(usize::MAX);
        let mapping = Mapping::read_only(&fd, len).map_err(Error::io(format!("map {what}")))?;
        let region = Region::mapped(mapping);
        let layout = Layout::read(&region, &what)?;
        Ok(Observer { region, layout, name: name.into(), _fd: fd })
    }
}

impl Observer {
    /// The name of the segment.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes, tables included.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.layout.size
    }

    /// How many processes can be attached.
    pub fn places(&self) -> usize {
        self.layout.participants
    }

    /// The processes that are attached now, and those that died and whose place was not given back
    /// yet.
    pub fn participants(&self) -> Vec<Participant> {
        Participants::new(&self.region, &self.layout)
            .attached()
            .map(|(id, state, process)| Participant {
                index: id.index(),
                pid: state.pid(),
                alive: Watch::new(process).is_alive(),
            })
            .collect()
    }

    /// The objects in it, by number. One that is corrupt is listed with the reason.
    pub fn objects(&self) -> Vec<ObjectInfo> {
        let all = segment::ready(&self.region, &self.layout);
        all.map(|(number, kind)| self.info(number, kind)).collect()
    }

    /// Looks at a ring of records.
    ///
    /// # Errors
    ///
    /// [`Error::NotASegment`] when there is no such object; [`Error::WrongType`];
    /// [`Error::Corrupt`].
    pub fn records(&self, number: u32) -> Result<records::Stats> {
        records::observe(&self.region, self.object(number, Kind::Records)?)
    }

    /// Looks at a broadcast ring.
    ///
    /// # Errors
    ///
    /// As [`Observer::records`].
    pub fn broadcast(&self, number: u32) -> Result<broadcast::Stats> {
        broadcast::observe(&self.region, self.object(number, Kind::Broadcast)?)
    }

    /// Looks at a queue.
    ///
    /// # Errors
    ///
    /// As [`Observer::records`].
    pub fn queue(&self, number: u32) -> Result<queue::Stats> {
        queue::observe(&self.region, self.object(number, Kind::Queue)?)
    }

    /// Looks at a latest value: a reader that takes no place and cannot sleep.
    ///
    /// # Errors
    ///
    /// As [`Observer::records`]; [`Error::WrongType`] also when it holds other values.
    pub fn latest<V: Value + ?Sized>(&self, number: u32) -> Result<Onlooker<'_, V>> {
        let object = self.object(number, Kind::Latest)?;
        let snapshot = latest::Snapshot::new(&self.region, object)?;
        Ok(Onlooker { observer: self, snapshot })
    }

    fn object(&self, number: u32, kind: Kind) -> Result<Object> {
        segment::object(&self.region, &self.layout, number, kind)
    }

    fn info(&self, number: u32, kind_number: u32) -> ObjectInfo {
        let kind = Kind::from_number(kind_number);
        let mut info = ObjectInfo { number, kind, kind_number, len: 0, ring: None, error: None };
        let Some(kind) = kind else { return info };
        let looked = self.object(number, kind).and_then(|object| {
            info.len = object.size;
            self.ring_stats(kind, object)
        });
        match looked {
            Ok(ring) => info.ring = ring,
            Err(error) => info.error = Some(error),
        }
        info
    }

    /// What goes through a ring: a line for each kind.
    fn ring_stats(&self, kind: Kind, object: Object) -> Result<Option<RingStats>> {
        match kind {
            Kind::Records => records::observe(&self.region, object).map(|stats| Some(stats.into())),
            Kind::Latest => latest::observe(&self.region, object).map(|stats| Some(stats.into())),
            Kind::Cells => cells::observe(&self.region, object).map(|stats| Some(stats.into())),
            Kind::Queue => queue::observe(&self.region, object).map(|stats| Some(stats.into())),
            Kind::Broadcast => {
                broadcast::observe(&self.region, object).map(|stats| Some(stats.into()))
            }
            Kind::Pool | Kind::Pools | Kind::Board => Ok(None),
        }
    }
}

impl From<cells::Stats> for RingStats {
    fn from(stats: cells::Stats) -> RingStats {
        let cells::Stats { sent, taken, lost, used, capacity } = stats;
        RingStats { capacity, used, sent, taken: Some(taken), lost }
    }
}

impl From<records::Stats> for RingStats {
    fn from(stats: records::Stats) -> RingStats {
        let records::Stats { sent, taken, lost, used, capacity } = stats;
        RingStats { capacity, used, sent, taken: Some(taken), lost }
    }
}

impl From<broadcast::Stats> for RingStats {
    fn from(stats: broadcast::Stats) -> RingStats {
        let broadcast::Stats { sent, dropped, used, capacity, .. } = stats;
        RingStats { capacity, used, sent, taken: None, lost: dropped }
    }
}

impl From<queue::Stats> for RingStats {
    fn from(stats: queue::Stats) -> RingStats {
        let queue::Stats { sent, taken, lost, waiting, capacity, .. } = stats;
        RingStats { capacity, used: waiting, sent, taken: Some(taken), lost }
    }
}

impl From<latest::Stats> for RingStats {
    fn from(stats: latest::Stats) -> RingStats {
        let latest::Stats { set, slots, .. } = stats;
        RingStats { capacity: slots, used: set.min(slots), sent: set, taken: None, lost: 0 }
    }
}

impl ObjectInfo {
    /// What it is, in words.
    pub fn name(&self) -> String {
        Kind::name(self.kind_number)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("name", &self.name)
            .field("participants", &self.participants())
            .field("objects", &self.objects())
            .finish_non_exhaustive()
    }
}

/// A latest value that is looked at. From [`Observer::latest`].
pub struct Onlooker<'a, V: Value + ?Sized> {
    observer: &'a Observer,
    snapshot: latest::Snapshot<V>,
}

impl<V: Value + ?Sized> Onlooker<'_, V> {
    /// Copies the newest value.
    ///
    /// # Errors
    ///
    /// `Empty` before the first; `Outrun` when the writer replaced it 64 times while it was
    /// copied; `Corrupt`. Whether the writer lives is not asked.
    pub fn try_get(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.snapshot.take(&self.observer.region, false)
    }

    /// Copies the newest value, if it is newer than the last one copied.
    ///
    /// # Errors
    ///
    /// As [`Onlooker::try_get`].
    pub fn try_recv(&mut self) -> Result<V::Read<'_>, RecvError> {
        self.snapshot.take(&self.observer.region, true)
    }

    /// The version of the value that was last copied; 0 before the first.
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// How many versions were replaced between the last value copied and the one before it.
    pub fn missed(&self) -> u64 {
        self.snapshot.missed()
    }
}

impl<V: Value + ?Sized> fmt::Debug for Onlooker<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onlooker").field("version", &self.version()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shmring_loom)))]
mod tests;
