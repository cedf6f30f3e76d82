//! The writer's end of a latest value.

use std::{fmt, io};

use super::{
    Board, Latest, Value, WRITER,
    cursor::{self, Corrupt, Draft, TooLong},
};
use crate::{
    error::{Error, Result, SendError},
    ring::{
        face::{End, Which, end_travels},
        role::{Owned, Role},
    },
};

/// The end that replaces the value. It can go to another process, and is held by one at a time.
///
/// It never waits for anybody. Dropping it closes the value: readers that wait for a newer one get
/// `Closed`; the newest one stays readable.
pub struct Writer<V: Value + ?Sized> {
    writer: cursor::Writer,
    latest: Latest<V>,
    pub(super) role: Role,
}

impl<V: Value + ?Sized> Writer<V> {
    pub(super) fn new(latest: Latest<V>, role: Role) -> Result<Writer<V>> {
        let board = &latest.board;
        let writer = cursor::Writer::attach(board.region(), board.geometry).map_err(|Corrupt| {
            Error::Corrupt {
                what: "a latest value".into(),
                reason: "its version is impossible".into(),
            }
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
        let limit = self.latest.board.geometry.limit;
        if bytes.len() > limit {
            return Err(SendError::TooLarge { item: (), len: bytes.len(), limit });
        }
        self.own()?;
        let region = self.latest.board.region();
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
    pub(super) fn own(&mut self) -> Result<(), SendError> {
        match self.role.own() {
            Owned::Still => Ok(()),
            Owned::Not => Err(SendError::Moved(())),
            Owned::Anew => {
                let region = self.latest.board.region();
                let writer = cursor::Writer::attach(region, self.latest.board.geometry);
                self.writer = writer.map_err(|Corrupt| SendError::Corrupt(()))?;
                Ok(())
            }
        }
    }

    #[inline]
    fn commit(&mut self, draft: Draft) {
        // A copy of a claim, in a forked child, has nothing to commit.
        if self.role.is_ours() {
            self.writer.commit(self.latest.board.region(), draft);
            self.latest.board.ring_sleepers();
        }
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
        let draft = self.writer.claim(self.latest.board.region());
        Ok(Claim { writer: self, draft })
    }

    /// The longest value in bytes.
    pub fn max_len(&self) -> usize {
        self.latest.board.geometry.limit
    }
}

impl<V: Value + ?Sized> Drop for Writer<V> {
    fn drop(&mut self) {
        if self.role.close() {
            self.latest.board.ring_sleepers();
        }
    }
}

impl<V: Value + ?Sized> End for Writer<V> {
    type Ring = Latest<V>;
    const WHAT: &'static str = WRITER;

    fn ring(&self) -> &Latest<V> {
        &self.latest
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(latest: Latest<V>, _: u32, from: u64) -> Result<Writer<V>> {
        let role = Role::receive(&latest.board.segment, latest.board.place(), from, WRITER)?;
        Writer::new(latest, role)
    }
}

end_travels!([V: Value + ?Sized] Writer<V>);

/// A writer's end that came in a message which nobody has read, so that nobody knows the type of
/// its values. Dropping it closes it.
pub(crate) struct UnreadWriter {
    board: Board,
    role: Role,
}

impl End for UnreadWriter {
    type Ring = Board;
    const WHAT: &'static str = WRITER;

    fn ring(&self) -> &Board {
        &self.board
    }

    fn role(&self) -> &Role {
        &self.role
    }

    fn which(&self) -> Which {
        Which::PRODUCER
    }

    fn receive(board: Board, _: u32, from: u64) -> Result<UnreadWriter> {
        let role = Role::receive(&board.segment, board.place(), from, WRITER)?;
        Ok(UnreadWriter { board, role })
    }
}

impl Drop for UnreadWriter {
    fn drop(&mut self) {
        if self.role.close() {
            self.board.ring_sleepers();
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
        let board = &writer.latest.board;
        let count = bytes.len().min(board.geometry.limit - draft.len());
        match writer.writer.fill(board.region(), draft, &bytes[..count]) {
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
