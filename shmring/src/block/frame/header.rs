//! The first 128 bytes of a frame; FRAME.md has the layout.

use super::super::Stale;
use crate::{
    array::{
        Dtype, Order,
        npy::{NpyError, Shape, elements},
    },
    error::Error,
};

/// Bytes before the elements of a [`Frame`](super::Frame).
pub const FRAME_HEADER: usize = 128;
/// The most dimensions a [`Frame`](super::Frame) can have.
pub const MAX_FRAME_RANK: usize = 8;

const MAGIC: [u8; 8] = *b"SHMFRAME";
const VERSION: u16 = 1;

const VERSION_AT: usize = 8;
const ORDER: usize = 10;
const DTYPE: usize = 12;
const SEQUENCE: usize = 16;
const TIME: usize = 24;
const FROZEN: usize = 32;
const SHAPE: usize = 64;

/// Why a block is not the frame that it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It does not begin as a frame does.
    #[error("the block is not a frame")]
    NotAFrame,
    /// It was made by another version of the layout.
    #[error("the frame has layout version {found}, this library reads {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Elements of a type that is not known, or in another machine's byte order.
    #[error("the frame has elements of type {0:?}, which is not known here")]
    Dtype(String),
    /// An order that is neither C's nor Fortran's.
    #[error("the frame lies in an order with number {0}: 0 and 1 are possible")]
    Order(u8),
    /// More dimensions than a frame can have.
    #[error("the frame has {0} dimensions: at most {MAX_FRAME_RANK} are possible")]
    Rank(usize),
    /// Fewer bytes than it says it has.
    #[error("the frame takes {needed} bytes, its block has {len}")]
    TooShort {
        /// Bytes of header and elements; the largest number when that does not fit into one.
        needed: usize,
        /// Bytes of the block that are in use.
        len: usize,
    },
    /// It holds something else than what it was opened as.
    #[error("the frame holds {found}, but was opened as {expected}")]
    WrongType {
        /// Type and shape of what it holds.
        found: String,
        /// What the caller asked for.
        expected: String,
    },
    /// The block is not held: it was let go of before a forked child used its copy.
    #[error(transparent)]
    Stale(#[from] Stale),
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Error {
        let what = || "a frame".into();
        match error {
            FrameError::WrongType { found, expected } => {
                Error::WrongType { what: what(), found, expected }
            }
            FrameError::Version { found } => {
                Error::WrongVersion { what: what(), found: found.into(), expected: VERSION.into() }
            }
            FrameError::TooShort { needed, len } => {
                Error::TooShort { what: what(), found: len as u64, needed: needed as u64 }
            }
            other => Error::Corrupt { what: what(), reason: other.to_string() },
        }
    }
}

/// What a header says, checked against the length of its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) order: Order,
    pub(super) sequence: u64,
    /// Nanoseconds since the epoch.
    pub(super) time: i64,
    /// Nanoseconds of the monotonic clock, when it was frozen.
    pub(super) frozen: u64,
    rank: usize,
    shape: [usize; MAX_FRAME_RANK],
    elements: usize,
}

impl Header {
    /// One for elements of this type and shape; its stamps are zero.
    pub(super) fn new(dtype: Dtype, order: Order, shape: &[usize]) -> Result<Header, FrameError> {
        if shape.len() > MAX_FRAME_RANK {
            return Err(FrameError::Rank(shape.len()));
        }
        let mut sides = [0; MAX_FRAME_RANK];
        sides[..shape.len()].copy_from_slice(shape);
        let elements = elements(dtype, shape).map_err(|error| match error {
            NpyError::Rank => FrameError::Rank(shape.len()),
            _ => FrameError::TooShort { needed: usize::MAX, len: 0 },
        })?;
        Ok(Header {
            dtype,
            order,
            sequence: 0,
            time: 0,
            frozen: 0,
            rank: shape.len(),
            shape: sides,
            elements,
        })
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Bytes of the elements.
    pub(super) fn bytes(&self) -> usize {
        // Neither product nor sum overflows: `elements` leaves room for more than this header.
        self.elements * self.dtype.size()
    }

    /// Bytes of header and elements.
    pub(super) fn len_in_block(&self) -> usize {
        FRAME_HEADER + self.bytes()
    }

    pub(super) fn write(&self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(VERSION_AT, &VERSION.to_le_bytes());
        put(ORDER, &[(self.order == Order::Fortran).into(), self.rank as u8]);
        put(DTYPE, &self.dtype.tag());
        put(SEQUENCE, &self.sequence.to_le_bytes());
        put(TIME, &self.time.to_le_bytes());
        put(FROZEN, &self.frozen.to_le_bytes());
        for (at, side) in self.shape().iter().enumerate() {
            put(SHAPE + 8 * at, &(*side as u64).to_le_bytes());
        }
        bytes
    }

    /// Reads the header of a block with `len` bytes in use. `word` gives the eight bytes at an
    /// offset; none is asked for twice, and nothing in them is believed.
    pub(super) fn parse(word: impl Fn(usize) -> u64, len: usize) -> Result<Header, FrameError> {
        if len < FRAME_HEADER || word(0) != u64::from_le_bytes(MAGIC) {
            return Err(FrameError::NotAFrame);
        }
        let [v0, v1, order, rank, tag @ ..] = word(VERSION_AT).to_le_bytes();
        let found = u16::from_le_bytes([v0, v1]);
        if found != VERSION {
            return Err(FrameError::Version { found });
        }
        let dtype = Dtype::from_tag(tag).ok_or_else(|| {
            let text = String::from_utf8_lossy(&tag);
            FrameError::Dtype(text.trim_end_matches('\0').into())
        })?;
        let order = match order {
            0 => Order::C,
            1 => Order::Fortran,
            other => return Err(FrameError::Order(other)),
        };
        let rank = usize::from(rank);
        if rank > MAX_FRAME_RANK {
            return Err(FrameError::Rank(rank));
        }
        let mut shape = [0; MAX_FRAME_RANK];
        for (at, side) in shape[..rank].iter_mut().enumerate() {
            // One that does not fit is too large in any case.
            *side = usize::try_from(word(SHAPE + 8 * at)).unwrap_or(usize::MAX);
        }
        let mut header =
            Header::new(dtype, order, &shape[..rank]).map_err(|error| match error {
                FrameError::TooShort { needed, .. } => FrameError::TooShort { needed, len },
                other => other,
            })?;
        header.sequence = word(SEQUENCE);
        header.time = word(TIME) as i64;
        header.frozen = word(FROZEN);
        let needed = header.len_in_block();
        if needed > len {
            return Err(FrameError::TooShort { needed, len });
        }
        Ok(header)
    }
}

/// "float32 of shape (480, 640)".
impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of shape {}", self.dtype, Shape(self.shape()))
    }
}
