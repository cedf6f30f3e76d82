//! Descriptors that wake a poll: eventfd, named pipe, and the poll itself.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::Duration,
};

use super::check;

/// An eventfd: a counter that makes a descriptor readable.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Makes one, unset.
    pub fn new() -> io::Result<Event> {
        // SAFETY: touches no memory of ours.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Event(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes a descriptor that is known to be an eventfd.
    pub fn from_fd(fd: OwnedFd) -> Event {
        Event(fd)
    }

    /// Makes the descriptor readable.
    pub fn set(&self) {
        set(self.0.as_fd());
    }

    /// Makes it unreadable until the next [`Event::set`]; tells whether it was readable.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is as long as we say.
        let got = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        got == count.len() as isize
    }

    /// A second descriptor of the same eventfd.
    pub fn try_clone(&self) -> io::Result<Event> {
        Ok(Event(self.0.try_clone()?))
    }
}

fn set(fd: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // A full counter (EAGAIN) is readable already, and nothing else can fail here.
    // SAFETY: the buffer is as long as we say.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Event> for OwnedFd {
    fn from(event: Event) -> OwnedFd {
        event.0
    }
}

/// A named pipe used as a bell: one byte makes the reader's poll return.
#[derive(Debug)]
pub struct Fifo(OwnedFd);

impl Fifo {
    /// Makes the named pipe, with mode 0600. Fails with `AlreadyExists` when the name is taken.
    pub fn create(path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))?;
        // SAFETY: `path` is a live C string.
        check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) })?;
        Ok(())
    }

    /// Opens it for both directions, so that it neither blocks nor ends when a peer closes.
    pub fn open(path: &Path) -> io::Result<Fifo> {
        Ok(Fifo(super::open_read_write(path)?))
    }

    /// Makes the reader's end readable.
    pub fn set(&self) {
        // A full pipe (EAGAIN) is readable already.
        // SAFETY: the buffer is as long as we say.
        unsafe { libc::write(self.0.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
    }

    /// Empties it; tells whether there was anything.
    pub fn clear(&self) -> bool {
        let mut bytes = [0u8; 512];
        let mut any = false;
        loop {
            // SAFETY: the buffer is as long as we say.
            let got =
                unsafe { libc::read(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            any |= got > 0;
            if got < bytes.len() as isize {
                return any;
            }
        }
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One descriptor to wait on, and afterwards whether it is ready.
#[derive(Debug)]
pub struct PollFd<'a> {
    fd: BorrowedFd<'a>,
    events: i16,
    ready: bool,
}

impl<'a> PollFd<'a> {
    /// Waits for data, or for the other side to hang up.
    pub fn readable(fd: BorrowedFd<'a>) -> PollFd<'a> {
        PollFd { fd, events: libc::POLLIN, ready: false }
    }

    /// Waits for room to write, or for the other side to hang up.
    pub fn writable(fd: BorrowedFd<'a>) -> PollFd<'a> {
        PollFd { fd, events: libc::POLLOUT, ready: false }
    }

    /// Whether the last [`poll`] found it ready, hung up or failed.
    pub fn is_ready(&self) -> bool {
        self.ready
    }
}

/// Waits until one of `fds` is ready, at most for `timeout` (for ever without one). Tells how many are.
///
/// A signal ends the wait early with 0: the caller looks again.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let mut raw: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd { fd: fd.fd.as_raw_fd(), events: fd.events, revents: 0 })
        .collect();
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let pointer = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const _);
    // SAFETY: `raw` and `timeout` live through the call and have the lengths we say.
    let result = check(unsafe {
        libc::ppoll(raw.as_mut_ptr(), raw.len() as libc::nfds_t, pointer, std::ptr::null())
    });
    let count = match result {
        Ok(count) => count as usize,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        Err(error) => return Err(error),
    };
    for (fd, raw) in fds.iter_mut().zip(&raw) {
        fd.ready = count > 0 && raw.revents != 0;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_makes_a_poll_return() {
        let event = Event::new().unwrap();
        let mut fds = [PollFd::readable(event.as_fd())];
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 0);
        event.set();
        event.set();
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(fds[0].is_ready());
        assert!(event.clear());
        assert!(!event.clear());
    }
}
