//! A process whose start has begun.

use std::os::fd::{AsFd, BorrowedFd};

use super::{backend::Backend, frontend::MessageProcess};
use crate::error::Result;

/// A process that has been started and need not be ready yet, of
/// [`Options::begin`](crate::Options::begin).
///
/// Its descriptor is readable when it has become ready, or will not. In tokio it is awaited.
/// Dropping it stops the process.
#[derive(Debug)]
#[must_use = "dropping it stops the process: `wait` for it"]
pub struct Starting<B: Backend>(MessageProcess<B>);

impl<B: Backend> Starting<B> {
    pub(super) fn new(process: MessageProcess<B>) -> Starting<B> {
        Starting(process)
    }

    /// Waits until it is ready, at most for what is left of its start timeout.
    ///
    /// # Errors
    ///
    /// As [`MessageProcess::fork`].
    pub fn wait(self) -> Result<MessageProcess<B>> {
        self.0.finish_start()?;
        Ok(self.0)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn into_inner(self) -> MessageProcess<B> {
        self.0
    }
}

impl<B: Backend> AsFd for Starting<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
