//! The one descriptor of a frontend: readable while there is something to take from its process.

#![allow(unsafe_code)] // epoll_ctl.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    sys::epoll::{Epoll, EpollCreateFlags},
    unistd,
};
use shmring::os;

use super::KeptFd;

/// An epoll over the descriptors of the process, and an eventfd that stands for what has been
/// received already and waits in memory.
#[derive(Debug)]
pub(crate) struct Bell {
    epoll: KeptFd,
    raised: KeptFd,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let bell = Bell {
            epoll: KeptFd::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0),
            raised: KeptFd::new(OwnedFd::from(os::Event::new()?)),
        };
        bell.watch(bell.raised.as_fd())?;
        Ok(bell)
    }

    /// Rings while `fd` is readable or hung up.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Whether it also rings while there is room to send by `fd`, which it watches.
    pub(crate) fn watch_room(&self, fd: BorrowedFd<'_>, wanted: bool) {
        let room = if wanted { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | room) as u32, u64: 0 };
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, &raw mut event);
    }

    /// Rings for `fd` no more.
    pub(crate) fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        event: *mut libc::epoll_event,
    ) -> io::Result<()> {
        let epoll = self.epoll.as_fd().as_raw_fd();
        // SAFETY: `event` is null or a live epoll_event.
        if unsafe { libc::epoll_ctl(epoll, operation, fd.as_raw_fd(), event) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Rings until [`Bell::quiet`]. Each call wakes an edge-triggered poll anew.
    pub(crate) fn raise(&self) {
        let _ = unistd::write(&self.raised, &1u64.to_ne_bytes());
    }

    /// Takes back all calls of [`Bell::raise`].
    pub(crate) fn quiet(&self) {
        let _ = unistd::read(&self.raised, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
