//! Waiting for descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::Failure;

/// How long a signal may stay unseen that comes just before we begin to wait.
const LOOK_UP: u8 = 200; // milliseconds

/// Sleeps until one of the descriptors is readable, a signal comes, or some time
/// has passed. Returns which are readable.
pub(crate) fn readable(descriptors: &[Option<BorrowedFd<'_>>]) -> Result<Vec<bool>, Failure> {
    let mut fds: Vec<_> =
        descriptors.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, LOOK_UP) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(Failure::io("wait", &error.into())),
    }
    // A poll that was interrupted has written nothing there.
    let mut answers = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(descriptors.iter().map(|fd| fd.is_some() && answers.next().unwrap_or(false)).collect())
}

/// Asks whether reading would not wait: there is something, or nothing will come.
pub(crate) fn is_readable(file: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(ready) => Ok(ready > 0),
        Err(error) => Err(error.into()),
    }
}
