//! One descriptor for several, and a timer as a descriptor.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use super::check;

/// A set of descriptors that is a descriptor: readable while one of them has news.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Makes an empty one.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: touches no memory of ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor, under a number of the caller's. It is told each time it becomes readable,
    /// once.
    pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: number };
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Takes a descriptor out again.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: removing reads no event.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) })?;
        Ok(())
    }

    /// Takes all the news there are, without waiting: gives the numbers of those descriptors to
    /// `each`.
    pub fn take(&self, mut each: impl FnMut(u64)) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        let (epoll, len) = (self.0.as_raw_fd(), events.len() as libc::c_int);
        loop {
            // SAFETY: the array lives through the call and is as long as we say.
            let count = check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), len, 0) })?;
            events[..count as usize].iter().for_each(|event| each(event.u64));
            if count < len {
                return Ok(());
            }
        }
    }

    /// Another descriptor of the same set.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A clock that makes its descriptor readable again and again.
#[derive(Debug)]
pub struct Ticker(OwnedFd);

impl Ticker {
    /// Makes one that stands still.
    pub fn new() -> io::Result<Ticker> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: touches no memory of ours.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Ticker(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Lets it tick each `period` from now on; `None` stops it.
    pub fn set(&self, period: Option<Duration>) -> io::Result<()> {
        let period = period.unwrap_or_default();
        let period = libc::timespec {
            tv_sec: period.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: period.subsec_nanos() as libc::c_long,
        };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: `times` lives through the call, and nothing is written.
        check(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &times, ptr::null_mut()) })?;
        Ok(())
    }

    /// Makes it unreadable until it ticks again; tells whether it was readable.
    pub fn clear(&self) -> bool {
        let mut ticks = [0u8; 8];
        // SAFETY: the buffer is as long as we say.
        let got = unsafe { libc::read(self.0.as_raw_fd(), ticks.as_mut_ptr().cast(), ticks.len()) };
        got == ticks.len() as isize
    }
}

impl AsFd for Ticker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{Event, PollFd, poll};

    #[test]
    fn a_set_has_the_news_of_its_members() {
        let set = Epoll::new().unwrap();
        let (event, ticker) = (Event::new().unwrap(), Ticker::new().unwrap());
        set.add(event.as_fd(), 1).unwrap();
        set.add(ticker.as_fd(), 2).unwrap();
        let news = || {
            let mut numbers = vec![];
            set.take(|number| numbers.push(number)).unwrap();
            numbers
        };
        assert_eq!(news(), []);
        event.set();
        assert_eq!(news(), [1]);
        assert_eq!(news(), [], "told once");
        event.set();
        assert_eq!(news(), [1], "and told again, though nobody has cleared it");
        ticker.set(Some(Duration::from_millis(1))).unwrap();
        let fd = set.try_clone_fd().unwrap();
        let late = Some(Duration::from_secs(10));
        assert_eq!(poll(&mut [PollFd::readable(fd.as_fd())], late).unwrap(), 1);
        assert_eq!(news(), [2]);
        ticker.set(None).unwrap();
        ticker.clear();
        assert!(!ticker.clear());
        set.remove(event.as_fd()).unwrap();
        event.set();
        assert_eq!(news(), []);
        let many: Vec<_> = (0..20).map(|_| Event::new().unwrap()).collect();
        for (number, event) in many.iter().enumerate() {
            set.add(event.as_fd(), number as u64).unwrap();
            event.set();
        }
        assert_eq!(news().len(), 20);
    }
}
