//! Kernel locks: `flock` says that a file is in use, OFD range locks guard what is in it.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{FileId, check, retry};

/// Marks an open file description as a user of its file. Tells whether that succeeded: it does
/// not while somebody holds the exclusive lock.
///
/// The lock lives as long as the description or a mapping made from it does, however its holders
/// end. It is never released by hand: that would strip a forked child that shares it.
pub fn flock_shared(fd: BorrowedFd<'_>) -> io::Result<bool> {
    flock(fd, libc::LOCK_SH)
}

/// Tries to be the only user of a file. Tells whether nobody else is.
pub fn flock_exclusive(fd: BorrowedFd<'_>) -> io::Result<bool> {
    flock(fd, libc::LOCK_EX)
}

fn flock(fd: BorrowedFd<'_>, operation: libc::c_int) -> io::Result<bool> {
    // SAFETY: touches no memory of ours.
    match retry(|| check(unsafe { libc::flock(fd.as_raw_fd(), operation | libc::LOCK_NB) })) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// The files that carry a `flock`, as `/proc/locks` shows them: a look that takes no lock itself.
///
/// Inside a pid namespace of its own, a process does not see the locks of processes outside, nor
/// those whose first holder has ended and left them to a child. It is for reports; whoever wants
/// to remove a file asks [`flock_exclusive`].
pub fn flocked() -> io::Result<HashSet<FileId>> {
    let locks = std::fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().filter_map(parse_flock).collect())
}

/// Reads a line like `3: FLOCK  ADVISORY  READ  1234 00:17:42 0 EOF`.
fn parse_flock(line: &str) -> Option<FileId> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    // Somebody who waits has "->" here, and no lock.
    if fields.next()? != "FLOCK" {
        return None;
    }
    let mut place = fields.nth(3)?.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    let inode = place.next()?.parse().ok()?;
    Some(FileId { device: libc::makedev(major, minor), inode })
}

/// What a range lock lets others do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Others may read too.
    Read,
    /// Nobody else may have any lock.
    Write,
}

/// A range of bytes of a file; `len` 0 means up to its end, wherever that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeLock {
    /// First byte.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

impl RangeLock {
    /// The whole file.
    pub const ALL: RangeLock = RangeLock { start: 0, len: 0 };

    fn raw(self, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self.start as libc::off_t,
            l_len: self.len as libc::off_t,
            l_pid: 0,
        }
    }
}

/// Tries to lock a range for this open file description (Linux's OFD locks). Tells whether it
/// was free. A second lock by the same description replaces the first.
pub fn range_lock(fd: BorrowedFd<'_>, range: RangeLock, kind: LockKind) -> io::Result<bool> {
    let kind = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
    };
    match set(fd, range, kind) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN) | Some(libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Gives a range up again.
pub fn range_unlock(fd: BorrowedFd<'_>, range: RangeLock) -> io::Result<()> {
    set(fd, range, libc::F_UNLCK)
}

fn set(fd: BorrowedFd<'_>, range: RangeLock, kind: libc::c_int) -> io::Result<()> {
    let raw = range.raw(kind);
    // SAFETY: `raw` lives through the call; F_OFD_SETLK only reads it.
    retry(|| check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const raw) }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{super::*, *};

    #[test]
    fn a_flock_shows_in_proc_locks() {
        let fd = memfd("shmring-test").unwrap();
        let id = file_info(fd.as_fd()).unwrap().id;
        assert!(!flocked().unwrap().contains(&id));
        assert!(flock_shared(fd.as_fd()).unwrap());
        assert!(flocked().unwrap().contains(&id));
        assert_eq!(parse_flock("9: -> FLOCK  ADVISORY  WRITE 7 00:01:5 0 EOF"), None);
        assert_eq!(parse_flock("9: POSIX  ADVISORY  WRITE 7 00:01:5 0 EOF"), None);
    }

    #[test]
    fn locks_of_two_descriptions_exclude_each_other() {
        let one = memfd("shmring-test").unwrap();
        let two = reopen(one.as_fd()).unwrap();
        assert!(range_lock(one.as_fd(), RangeLock::ALL, LockKind::Read).unwrap());
        assert!(range_lock(two.as_fd(), RangeLock::ALL, LockKind::Read).unwrap());
        assert!(!range_lock(two.as_fd(), RangeLock::ALL, LockKind::Write).unwrap());
        range_unlock(one.as_fd(), RangeLock::ALL).unwrap();
        assert!(range_lock(two.as_fd(), RangeLock::ALL, LockKind::Write).unwrap());
        assert!(!range_lock(one.as_fd(), RangeLock::ALL, LockKind::Read).unwrap());

        assert!(flock_shared(one.as_fd()).unwrap());
        assert!(!flock_exclusive(two.as_fd()).unwrap());
        drop(one);
        assert!(flock_exclusive(two.as_fd()).unwrap());
    }
}
