//! A counter to poll for, that belongs to one process and none of its forks.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::unistd;
use shmring::os;

use super::KeptFd;

/// An eventfd of this process.
#[derive(Debug)]
pub(crate) struct KeptEvent(KeptFd);

impl KeptEvent {
    pub(crate) fn new() -> io::Result<KeptEvent> {
        Ok(KeptEvent(KeptFd::new(OwnedFd::from(os::Event::new()?))))
    }

    /// Makes it readable; each call wakes an edge-triggered poll anew.
    pub(crate) fn set(&self) {
        let _ = unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes back all calls of [`KeptEvent::set`].
    pub(crate) fn clear(&self) {
        let _ = unistd::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for KeptEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
