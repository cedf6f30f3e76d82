//! Waiting for descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::Failure;

/// How long a signal may stay unseen that comes just before we begin to wait, and a death.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(100);

/// Sleeps until a descriptor is readable, a signal comes, or that time has passed.
pub(crate) fn until_readable(descriptor: BorrowedFd<'_>, time: Duration) -> Result<(), Failure> {
    let mut fds = [PollFd::new(descriptor, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(Failure::io("wait for input", &error.into())),
    }
}

/// Asks whether reading would not wait: there is something, or nothing will come.
pub(crate) fn is_readable(file: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(ready) => Ok(ready > 0),
        Err(error) => Err(error.into()),
    }
}
