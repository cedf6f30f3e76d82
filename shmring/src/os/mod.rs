//! Every kernel call this library makes, each a thin safe function.
//!
//! Nothing above this module calls libc. The functions are public so that
//! `msgproc` builds on the same ones; they are not part of the stable interface.

#![allow(unsafe_code)] // Calls into the C library.

mod barrier;
mod clock;
mod epoll;
mod event;
mod futex;
mod lock;
mod process;
mod shm;

pub use barrier::{barrier, in_barriers, join_barriers};
pub use clock::{coarse_millis, monotonic};
pub use epoll::{Epoll, Ticker};
pub use event::{Event, Fifo, PollFd, poll};
pub use futex::{FUTEX_WAIT_ANY_MAX, futex_wait, futex_wait_any, futex_wake};
pub use lock::{
    LockKind, RangeLock, flock_exclusive, flock_shared, flocked, range_lock, range_unlock,
};
pub use process::{
    PidFd, fork_generation, forks, kill_self, one_processor, page_size, pid, pid_namespace,
    processors, start_time, thread_count,
};
pub use shm::{
    FileId, FileInfo, Mapping, SHM_DIR, Shared, allocate, duplicate, file_id, file_info, free_in,
    link, memfd, memory_available, memory_for, open_read_only, open_read_write, punch_to_zero,
    read_at, remove, reopen, resize, same_file, seal, sealed, tmpfile, user_id,
};

use std::io;

/// Turns the C library's `-1` into the last error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a `long`.
fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether a call failed for want of what will be there again: a descriptor, or memory for it.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
