//! One of several that are received at once.

use std::{fmt, ops::Deref};

/// A record or an item of a run, read in place: it derefs to its bytes. The run releases it, with
/// all the others.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    bytes: &'a [u8],
    sequence: u64,
}

impl<'a> Part<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], sequence: u64) -> Part<'a> {
        Part { bytes, sequence }
    }

    /// How many were sent into this ring before it, those that were lost included: a step of more
    /// than one is a loss, as where it is received alone.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its bytes, for as long as the run is not asked for the next.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl Deref for Part<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("sequence", &self.sequence)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
