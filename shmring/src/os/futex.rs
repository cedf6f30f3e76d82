//! Futexes that processes share: one, or several at once.

#![allow(clippy::disallowed_types)] // The kernel waits on a real atomic, never on a model's.

use std::{io, mem, ptr, sync::atomic::AtomicU32, time::Duration};

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

/// How many words [`futex_wait_any`] can sleep on.
pub const FUTEX_WAIT_ANY_MAX: usize = libc::FUTEX_WAITV_MAX as usize;

/// Sleeps while each of `words` holds what stands beside it, at most for `timeout`. Only the first
/// [`FUTEX_WAIT_ANY_MAX`] are looked at.
///
/// Returns as [`futex_wait`] does. Tells whether the kernel can do this: Linux can since 5.16, and
/// a sandbox may forbid it.
pub fn futex_wait_any<'a>(
    words: impl Iterator<Item = (&'a AtomicU32, u32)>,
    timeout: Duration,
) -> bool {
    // SAFETY: numbers, for which zero is a value.
    let mut waits: [libc::futex_waitv; FUTEX_WAIT_ANY_MAX] = unsafe { mem::zeroed() };
    let mut count = 0;
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = expected.into();
        wait.uaddr = word.as_ptr() as u64;
        wait.flags = libc::FUTEX2_SIZE_U32 as u32;
        count += 1;
    }
    let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `until` lives through the calls; the kernel only reads `waits`, which is as long as
    // we say and whose addresses are those of words that the caller borrows.
    let woken = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut until);
        let nanoseconds = until.tv_nsec as u64 + u64::from(timeout.subsec_nanos());
        until.tv_sec += timeout.as_secs().min(i32::MAX as u64) as libc::time_t
            + (nanoseconds / 1_000_000_000) as libc::time_t;
        until.tv_nsec = (nanoseconds % 1_000_000_000) as libc::c_long;
        libc::syscall(
            libc::SYS_futex_waitv,
            waits.as_ptr(),
            count,
            0u32,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    let slept = [libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT];
    super::check_long(woken).map_or_else(
        |error| error.raw_os_error().is_some_and(|error| slept.contains(&error)),
        |_| true,
    )
}

/// Wakes everybody who sleeps on `word`, in whatever process. Returns how many.
pub fn futex_wake(word: &AtomicU32) -> io::Result<usize> {
    // SAFETY: FUTEX_WAKE uses only the address of `word`, which is mapped.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    Ok(super::check_long(woken)? as usize)
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, thread, time::Instant};

    use super::*;

    const LATE: Duration = Duration::from_secs(10);

    #[test]
    fn any_of_several_words_wakes() {
        let words = [AtomicU32::new(1), AtomicU32::new(2), AtomicU32::new(3)];
        let wait = |expected: [u32; 3], timeout| {
            let began = Instant::now();
            let able = futex_wait_any(words.iter().zip(expected), timeout);
            (able, began.elapsed())
        };
        let short = Duration::from_millis(20);
        let (able, took) = wait([1, 2, 3], short);
        if !able {
            return; // A kernel before 5.16, or a sandbox.
        }
        assert!(took >= short, "nobody woke it");
        assert!(wait([1, 2, 4], LATE).1 < LATE, "another value is no sleep");
        let waker = || {
            thread::sleep(short);
            words[1].store(7, Ordering::Relaxed);
            futex_wake(&words[1]).unwrap();
        };
        thread::scope(|scope| {
            scope.spawn(waker);
            let (able, took) = wait([1, 2, 3], LATE);
            assert!(able && took < LATE);
        });
    }
}
