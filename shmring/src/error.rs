//! What can go wrong: [`Error`] for set-up, small values that hand the item back for the hot path.

use std::{fmt, io, path::PathBuf, time::Duration};

/// Why something could not be set up. Says what was tried, on what, and what to do.
///
/// Its `Debug` is the same sentence, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that cannot be the name of a segment.
    #[error("{name:?} cannot name a segment: {reason}")]
    BadName {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// Parameters that cannot work, whatever the state of the machine.
    #[error("cannot {action}: {reason}")]
    BadParameters {
        /// What was tried.
        action: String,
        /// Why it cannot work.
        reason: String,
    },
    /// A named segment that should be made exists already.
    #[error("{} exists already: choose another name, open it, or, if it is stale, remove it (shmring::cleanup, scripts/cleanup-shm)", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// A named segment that should be made exists already, and nobody uses it.
    #[error("{} exists already, but no process uses it: its creator was killed. Remove it (shmring::cleanup, scripts/cleanup-shm), replace it (replace_stale) or open it", path.display())]
    Stale {
        /// Its file.
        path: PathBuf,
    },
    /// There is no such segment.
    #[error("{} does not exist", path.display())]
    Absent {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The segment did not appear before the deadline.
    #[error("{} was not there after {waited:?}", path.display())]
    NotReady {
        /// The file that was waited for.
        path: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// The file is not one of ours, or not what it claims to be.
    #[error("{what} is not a usable segment: {reason}")]
    NotASegment {
        /// The file or descriptor.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It was made by another version of the layout.
    #[error("{what} has layout version {found}, this library reads {expected}")]
    WrongVersion {
        /// The file or descriptor.
        what: String,
        /// The version found.
        found: u32,
        /// The version this library reads and writes.
        expected: u32,
    },
    /// It holds something else than what it was opened as.
    #[error("{what} holds {found}, but was opened as {expected}")]
    WrongType {
        /// The file or object.
        what: String,
        /// What it holds.
        found: String,
        /// What the caller asked for.
        expected: String,
    },
    /// It is shorter than its own header says.
    #[error("{what} is {found} bytes long, {needed} are needed")]
    TooShort {
        /// The file or descriptor.
        what: String,
        /// Its length in bytes.
        found: u64,
        /// The length its header promises.
        needed: u64,
    },
    /// It belongs to another user, or others may write to it.
    #[error("{what} cannot be trusted: {reason}")]
    NotOurs {
        /// The file.
        what: String,
        /// Owner or mode.
        reason: String,
    },
    /// No memory left in `/dev/shm`.
    #[error("cannot create {what}: {} needed, {} free in /dev/shm", Bytes(*.needed), Bytes(*.free))]
    OutOfShm {
        /// What should be made.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// No memory left for an anonymous segment.
    #[error("cannot create {what}: {} needed, {} of memory available", Bytes(*.needed), Bytes(*.available))]
    OutOfMemory {
        /// What should be made.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes available to this process.
        available: u64,
    },
    /// A fixed table of a segment has no free place.
    #[error("cannot {action}: all {limit} places are taken")]
    NoPlace {
        /// What was tried.
        action: String,
        /// How many there are.
        limit: usize,
    },
    /// Somebody else has it.
    #[error("{what} is {}", taken(*pid))]
    Busy {
        /// The role, the lock.
        what: String,
        /// Who has it; 0 where it only is not ours any more.
        pid: u32,
    },
    /// It did not become free before the deadline.
    #[error("{what} was not free after {waited:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A value that can travel only inside a port's `send` was serialized or read elsewhere.
    #[error("{what} can travel only inside a message that a port sends")]
    OutsidePort {
        /// The kind of value.
        what: &'static str,
    },
    /// What a peer wrote contradicts itself.
    #[error("{what} is corrupt: {reason}")]
    Corrupt {
        /// Where.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// Puts what was tried beside the kernel's reason.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}

/// Of a role or a lock that has a holder.
fn taken(pid: u32) -> String {
    match pid {
        0 => "not held by this process any more: it was sent away, and travels once".into(),
        pid => format!("taken by process {pid}"),
    }
}

/// The result of setting something up.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A number of bytes, as people read it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 || value.fract() == 0.0 {
            write!(f, "{value:.0} {}", units[unit])
        } else {
            write!(f, "{value:.1} {}", units[unit])
        }
    }
}

/// Why a producer could not put an item; `T` hands it back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T = ()> {
    /// No room now.
    #[error("the ring is full")]
    Full(T),
    /// No room before the deadline.
    #[error("the ring was full until the deadline")]
    TimedOut(T),
    /// It can never fit.
    #[error("the item of {len} bytes is larger than the ring's limit of {limit}")]
    TooLarge {
        /// The item.
        item: T,
        /// Its length in bytes.
        len: usize,
        /// The longest item of this ring.
        limit: usize,
    },
    /// The consumer has closed its end.
    #[error("the ring is closed")]
    Closed(T),
    /// This end was sent to another process, or a forked child has taken it over.
    #[error("this end of the ring now belongs to another process")]
    Moved(T),
    /// The consumer died.
    #[error("the consumer, process {pid}, died")]
    PeerDied {
        /// The item.
        item: T,
        /// The consumer's process id.
        pid: u32,
    },
    /// What the consumer wrote into the ring contradicts itself.
    #[error("the ring is corrupt")]
    Corrupt(T),
}

impl<T> SendError<T> {
    /// Hands the item back.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(item)
            | SendError::TimedOut(item)
            | SendError::Closed(item)
            | SendError::Moved(item)
            | SendError::Corrupt(item)
            | SendError::TooLarge { item, .. }
            | SendError::PeerDied { item, .. } => item,
        }
    }

    /// The same error with another item.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            SendError::Full(item) => SendError::Full(f(item)),
            SendError::TimedOut(item) => SendError::TimedOut(f(item)),
            SendError::Closed(item) => SendError::Closed(f(item)),
            SendError::Moved(item) => SendError::Moved(f(item)),
            SendError::Corrupt(item) => SendError::Corrupt(f(item)),
            SendError::TooLarge { item, len, limit } => {
                SendError::TooLarge { item: f(item), len, limit }
            }
            SendError::PeerDied { item, pid } => SendError::PeerDied { item: f(item), pid },
        }
    }
}

// Items need not be Debug: what matters is which error it is.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => f.write_str("Full(..)"),
            SendError::TimedOut(_) => f.write_str("TimedOut(..)"),
            SendError::Closed(_) => f.write_str("Closed(..)"),
            SendError::Moved(_) => f.write_str("Moved(..)"),
            SendError::Corrupt(_) => f.write_str("Corrupt(..)"),
            SendError::TooLarge { len, limit, .. } => f
                .debug_struct("TooLarge")
                .field("len", len)
                .field("limit", limit)
                .finish_non_exhaustive(),
            SendError::PeerDied { pid, .. } => {
                f.debug_struct("PeerDied").field("pid", pid).finish_non_exhaustive()
            }
        }
    }
}

/// Why a consumer has no item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// Nothing there now.
    #[error("the ring is empty")]
    Empty,
    /// Nothing came before the deadline.
    #[error("the ring was empty until the deadline")]
    TimedOut,
    /// The producer has closed its end, and everything before that has been taken.
    #[error("the ring is closed")]
    Closed,
    /// The producer died, and everything it confirmed has been taken.
    #[error("the producer, process {pid}, died")]
    PeerDied {
        /// Its process id.
        pid: u32,
    },
    /// This end was sent to another process, or a forked child has taken it over.
    #[error("this end of the ring now belongs to another process")]
    Moved,
    /// What the producer wrote into the ring contradicts itself.
    #[error("the ring is corrupt")]
    Corrupt,
    /// The producer has overwritten what this lossy consumer had not read in time. The next receive
    /// goes on behind the gap.
    #[error("the producer was too fast: {missed} items were overwritten before they were read")]
    Lapped {
        /// How many items are lost, those that the producer dropped by itself included.
        missed: u64,
    },
    /// The value was replaced again and again while it was copied: look again, or give it more
    /// slots.
    #[error("the value was replaced faster than it could be copied")]
    Outrun,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let error =
            Error::OutOfShm { what: "array \"frames\"".into(), needed: 512 << 20, free: 64 << 20 };
        assert_eq!(
            error.to_string(),
            "cannot create array \"frames\": 512 MiB needed, 64 MiB free in /dev/shm"
        );
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(17).to_string(), "17 B");
    }
}
