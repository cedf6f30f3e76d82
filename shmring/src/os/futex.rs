//! The futex that processes share.

#![allow(clippy::disallowed_types)] // The kernel waits on a real atomic, never on a model's.

use std::{io, ptr, sync::atomic::AtomicU32, time::Duration};

/// Sleeps while `word` holds `expected`, at most for `timeout`.
///
/// Returns when woken, when the word differs, after the time-out, or early for a signal: the
/// caller looks again in every case.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `word` and `timeout` live through the call; FUTEX_WAIT only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const timeout,
            ptr::null::<u32>(),
            0u32,
        );
    }
}

/// Wakes everybody who sleeps on `word`, in whatever process. Returns how many.
pub fn futex_wake(word: &AtomicU32) -> io::Result<usize> {
    // SAFETY: FUTEX_WAKE uses only the address of `word`, which is mapped.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    Ok(super::check_long(woken)? as usize)
}
