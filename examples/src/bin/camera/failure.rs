//! What ends the program before its time.

use std::fmt::Display;
use std::io;

/// An error for the user: what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something went wrong on the way.
    #[error("{0}")]
    Run(String),
    /// Whoever read our standard output has had enough.
    #[error("standard output was closed")]
    Closed,
}

impl Failure {
    /// Makes one from an operation that failed on an object.
    pub(crate) fn io(what: impl Display, error: &io::Error) -> Self {
        Self::Run(format!("cannot {what}: {error}"))
    }

    /// The same for an error that says by itself what to do.
    pub(crate) fn other(what: impl Display, error: &dyn std::error::Error) -> Self {
        Self::Run(format!("cannot {what}: {error}"))
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
            Self::Closed => 0,
        }
    }
}
