//! The clocks that never jump.

/// Nanoseconds of `CLOCK_MONOTONIC`: the same for all processes of a machine, but for those in
/// another time namespace.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours to write. This clock always exists, and then the call does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds of a clock that all processes share and that costs no more than a load: it moves
/// on a few hundred times a second.
pub fn coarse_millis() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure, and never fails for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::monotonic;

    #[test]
    fn it_goes_on() {
        let before = monotonic();
        thread::sleep(Duration::from_millis(2));
        let passed = monotonic() - before;
        assert!((2_000_000..60_000_000_000).contains(&passed), "{passed} ns");
    }
}
