//! What a backend writes to stderr, kept in memory for whoever asks why it ended.

#![allow(unsafe_code)] // dup2, a file flag.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::fs::FileExt,
};

use shmring::os;

/// Beyond this much, the older text is given back to the system.
const KEPT: u64 = 256 * 1024;

/// A file in memory that only grows at its end. Writing to it never blocks, and it can be read
/// after the writer's death.
#[derive(Debug)]
pub(crate) struct StderrFile {
    file: OwnedFd,
}

impl StderrFile {
    pub(crate) fn new() -> io::Result<StderrFile> {
        let file = os::memfd("msgproc-stderr")?;
        // SAFETY: F_SETFL takes a number and touches no memory of ours.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(StderrFile { file })
    }

    pub(crate) fn try_clone(&self) -> io::Result<StderrFile> {
        Ok(StderrFile { file: self.file.try_clone()? })
    }

    /// In a new child: what it writes to descriptor 2 goes here.
    pub(super) fn become_stderr(&self) -> io::Result<()> {
        // SAFETY: descriptor 2 stays open, it only means another file.
        if unsafe { libc::dup2(self.file.as_raw_fd(), 2) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Gives the memory of text back that nobody will read.
    pub(crate) fn trim(&self) {
        if let Ok(info) = os::file_info(self.file.as_fd())
            && info.len > 2 * KEPT
        {
            let _ = os::punch_to_zero(self.file.as_fd(), 0, info.len - KEPT);
        }
    }

    /// The last lines of it, at most `count`.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let read = || -> io::Result<Vec<u8>> {
            let len = os::file_info(self.file.as_fd())?.len;
            let start = len.saturating_sub(KEPT);
            let mut bytes = vec![0; (len - start) as usize];
            File::from(self.file.try_clone()?).read_exact_at(&mut bytes, start)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_start_matches('\0').lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn keeps_the_last_lines_and_gives_the_rest_back() {
        let stderr = StderrFile::new().unwrap();
        let mut file = File::from(stderr.file.try_clone().unwrap());
        assert!(stderr.last_lines(3).is_empty());
        for number in 0..100_000 {
            writeln!(file, "line {number}").unwrap();
        }
        stderr.trim();
        assert_eq!(stderr.last_lines(2), ["line 99998", "line 99999"]);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(blocks * 512 <= KEPT + 2 * os::page_size() as u64);
    }
}
