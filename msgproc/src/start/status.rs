//! What the kernel tells of this process by one file: its threads, and what it does with signals.

use std::{fs::File, io::Read, str};

/// Of this process, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    pub(super) threads: usize,
    /// The lowest bit is signal 1.
    handled: u64,
    ignored: u64,
}

impl Status {
    /// `None` where the kernel does not tell.
    pub(super) fn read() -> Option<Status> {
        // What is looked for stands in its first 1200 bytes, unless there are many groups.
        let mut text = [0; 2048];
        let len = File::open("/proc/self/status").ok()?.read(&mut text).ok()?;
        Status::parse(&text[..len])
    }

    fn parse(text: &[u8]) -> Option<Status> {
        let mut lines = text.split(|byte| *byte == b'\n');
        // They stand in this order, after the name, which has no end of a line in it.
        let mut after = |name: &[u8]| {
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            Some(str::from_utf8(value).ok()?.trim())
        };
        let threads = after(b"Threads:")?.parse().ok()?;
        let ignored = u64::from_str_radix(after(b"SigIgn:")?, 16).ok()?;
        let handled = u64::from_str_radix(after(b"SigCgt:")?, 16).ok()?;
        Some(Status { threads, handled, ignored })
    }

    pub(super) fn handles(&self, signal: i32) -> bool {
        self.handled & bit(signal) != 0
    }

    pub(super) fn ignores(&self, signal: i32) -> bool {
        self.ignored & bit(signal) != 0
    }
}

#[inline]
fn bit(signal: i32) -> u64 {
    1u64.checked_shl(signal.wrapping_sub(1) as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Signals, fork::set_disposition},
        *,
    };

    #[test]
    fn says_which_signals_are_handled_and_which_ignored() {
        let _handled = Signals::new(&[libc::SIGUSR2]).unwrap();
        set_disposition(libc::SIGWINCH, libc::SIG_IGN);
        let status = Status::read().unwrap();
        assert!(status.threads > 1, "the test runs on a thread of its own");
        assert!(status.handles(libc::SIGUSR2) && !status.ignores(libc::SIGUSR2));
        assert!(status.ignores(libc::SIGWINCH) && !status.handles(libc::SIGWINCH));
        assert!(!status.handles(libc::SIGURG) && !status.ignores(libc::SIGURG));
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = b"Name:\tThreads: 9\nThreads:\t1\nSigBlk:\t0\nSigIgn:\t0000000000001000\nSigCgt:\t8000000000000400\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.threads, status.handles(11), status.handles(64)), (1, true, true));
        assert!(status.ignores(13) && !status.handles(13) && !status.ignores(0));
        assert_eq!(Status::parse(b"Threads:\t1\nSigIgn:\t0\n"), None);
        assert_eq!(Status::parse(b""), None);
    }
}
