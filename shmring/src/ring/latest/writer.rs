//! The writer's end of a latest value.

use std::{fmt, io};

use super::{
    Latest, Value,
    cursor::{self, Corrupt, Draft, TooLong},
    sleepers::Sleepers,
};
use crate::{
    error::{Error, Result, SendError},
    liveness::Id,
    ring::role::{Owned, Role},
    wait,
};

/// The end that replaces the value. It can go to another process, and is held by one at a time.
///
/// It never waits for anybody. Dropping it closes the value: readers that wait for a newer one get
/// `Closed`; the newest one stays readable.
pub struct Writer<V: Value + ?Sized> {
    writer: cursor::Writer,
    latest: Latest<V>,
    role: Role,
}

impl<V: Value + ?Sized> Writer<V> {
    pub(super) const WHAT: &str = "the writer of a latest value";

    pub(super) fn new(latest: Latest<V>, role: Role) -> Result<Writer<V>> {
        let region = &latest.segment.0.region;
        let writer =
            cursor::Writer::attach(region, latest.geometry).map_err(|Corrupt| Error::Corrupt {
                what: "a latest value".into(),
                reason: "its version is impossible".into(),
            })?;
        Ok(Writer { writer, latest, role })
    }

    /// Replaces the value. Readers see all of it or nothing.
    ///
    /// # Errors
    ///
    /// `TooLarge`, for bytes; `Moved`; `Corrupt`, after this end came from another process.
    #[inline]
    pub fn set(&mut self, value: &V) -> Result<(), SendError> {
        let bytes = value.bytes();
        let limit = self.latest.geometry.limit;
        if bytes.len() > limit {
            return Err(SendError::TooLarge { item: (), len: bytes.len(), limit });
        }
        self.own()?;
        let region = &self.latest.segment.0.region;
        let mut draft = self.writer.claim(region);
        let fits = self.writer.fill(region, &mut draft, bytes);
        debug_assert_eq!(fits, Ok(()), "compared with the limit before");
        self.commit(draft);
        Ok(())
    }

    /// How many values have been set, by all writers: the version of the newest.
    pub fn version(&self) -> u64 {
        self.writer.version()
    }

    /// The value this is an end of.
    pub fn latest(&self) -> &Latest<V> {
        &self.latest
    }

    #[inline]
    fn own(&mut self) -> Result<(), SendError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(SendError::Moved(())),
            Owned::Anew => {
                let region = &self.latest.segment.0.region;
                let writer = cursor::Writer::attach(region, self.latest.geometry);
                self.writer = writer.map_err(|Corrupt| SendError::Corrupt(()))?;
                Ok(())
            }
        }
    }

    #[inline]
    fn commit(&mut self, draft: Draft) {
        self.writer.commit(&self.latest.segment.0.region, draft);
        self.ring_sleepers();
    }

    #[inline]
    fn ring_sleepers(&self) {
        let Latest { segment, geometry, object, .. } = &self.latest;
        Sleepers::at(&segment.0.region, geometry.sleepers()).take(|index| {
            // A doorbell is found by the index alone.
            wait::ring(segment, Id(index as u32), object.index);
        });
    }
}

impl Writer<[u8]> {
    /// Begins to write the next value in place: write to the claim, as to a file, then commit it.
    ///
    /// ```
    /// use std::io::Write;
    /// use shmring::ring::latest::Latest;
    ///
    /// let board = Latest::<[u8]>::options().max_len(64).anonymous()?;
    /// let (mut writer, mut reader) = (board.writer()?, board.reader());
    /// let mut claim = writer.claim()?;
    /// write!(claim, "{} of {}", 1, 2)?;
    /// claim.commit();
    /// assert_eq!(reader.try_get()?, b"1 of 2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Writer::set`].
    pub fn claim(&mut self) -> Result<Claim<'_>, SendError> {
        self.own()?;
        let draft = self.writer.claim(&self.latest.segment.0.region);
        Ok(Claim { writer: self, draft })
    }

    /// The longest value in bytes.
    pub fn max_len(&self) -> usize {
        self.latest.geometry.limit
    }
}

impl<V: Value + ?Sized> Drop for Writer<V> {
    fn drop(&mut self) {
        if self.role.close() {
            self.ring_sleepers();
        }
    }
}

impl<V: Value + ?Sized> fmt::Debug for Writer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("latest", &self.latest).finish_non_exhaustive()
    }
}

/// The next value, being written. Dropping it leaves the value as it was.
#[must_use = "dropping a claim gives it up"]
pub struct Claim<'a> {
    writer: &'a mut Writer<[u8]>,
    draft: Draft,
}

impl Claim<'_> {
    /// Bytes written so far.
    #[allow(clippy::len_without_is_empty)] // Nobody asks for that.
    pub fn len(&self) -> usize {
        self.draft.len()
    }

    /// Makes what was written the newest value.
    pub fn commit(self) {
        let Claim { writer, draft } = self;
        writer.commit(draft);
    }
}

impl io::Write for Claim<'_> {
    /// Takes as many bytes as fit; none when the value has its longest length.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Claim { writer, draft } = self;
        let latest = &writer.latest;
        let count = bytes.len().min(latest.geometry.limit - draft.len());
        let region = &latest.segment.0.region;
        match writer.writer.fill(region, draft, &bytes[..count]) {
            Ok(()) => Ok(count),
            Err(TooLong) => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len()).finish_non_exhaustive()
    }
}
