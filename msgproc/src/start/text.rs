//! What a backend writes to its standard streams, kept in memory for whoever asks.

#![allow(unsafe_code)] // A file flag.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::fs::FileExt,
};

use shmring::os;

/// Beyond this much, the older text is given back to the system.
const KEPT: u64 = 256 * 1024;

/// A file in memory that only grows at its end, unless a writer cuts it. Writing to it never blocks, and
/// it can be read after the writer's death.
#[derive(Debug)]
pub(crate) struct TextFile {
    file: File,
    /// How long it was when somebody last looked for more.
    seen: u64,
}

impl TextFile {
    pub(crate) fn new() -> io::Result<TextFile> {
        let file = os::memfd("msgproc-text")?;
        // SAFETY: F_SETFL takes a number and touches no memory of ours.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(TextFile::from_fd(file))
    }

    /// The file that another process made.
    pub(crate) fn from_fd(fd: OwnedFd) -> TextFile {
        TextFile { file: fd.into(), seen: 0 }
    }

    /// A descriptor of it: a standard stream that means it writes into it.
    pub(crate) fn to_fd(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    fn len(&self) -> u64 {
        os::file_info(self.file.as_fd()).map_or(0, |info| info.len)
    }

    /// Whether it has grown since the last look; gives the memory of text back that is too old.
    ///
    /// For the process that writes.
    pub(crate) fn has_grown(&mut self) -> bool {
        let len = self.len();
        if len > 2 * KEPT {
            let _ = os::punch_to_zero(self.file.as_fd(), 0, len - KEPT);
        }
        std::mem::replace(&mut self.seen, len) != len
    }

    /// The lines that have come since the last look, whole ones only unless this is the last look;
    /// and how many bytes were given back before anybody looked.
    pub(crate) fn new_lines(&mut self, last: bool) -> (Vec<String>, u64) {
        let len = self.len();
        // A program may cut it: a shell does, for `> /dev/stdout`.
        self.seen = if len < self.seen { 0 } else { self.seen };
        let from = self.seen.max(len.saturating_sub(KEPT)).min(len);
        let lost = from.saturating_sub(self.seen);
        let mut bytes = self.read(from, len);
        if !last {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.truncate(whole);
        }
        self.seen = from + bytes.len() as u64;
        (String::from_utf8_lossy(&bytes).lines().map(ToOwned::to_owned).collect(), lost)
    }

    /// The last lines of it, at most `count`.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let len = self.len();
        let bytes = self.read(len.saturating_sub(KEPT), len);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_start_matches('\0').lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(ToString::to_string).collect()
    }

    fn read(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        match self.file.read_exact_at(&mut bytes, from) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn keeps_the_last_lines_and_gives_the_rest_back() {
        let mut text = TextFile::new().unwrap();
        let mut file = File::from(text.to_fd().unwrap());
        assert!(text.last_lines(3).is_empty() && !text.has_grown());
        for number in 0..100_000 {
            writeln!(file, "line {number}").unwrap();
        }
        assert!(text.has_grown() && !text.has_grown());
        assert_eq!(text.last_lines(2), ["line 99998", "line 99999"]);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(blocks * 512 <= KEPT + 2 * os::page_size() as u64);
    }

    #[test]
    fn gives_each_line_once_when_it_is_whole() {
        let mut text = TextFile::new().unwrap();
        let mut file = File::from(text.to_fd().unwrap());
        let none: [&str; 0] = [];
        write!(file, "one\ntw").unwrap();
        assert_eq!(text.new_lines(false), (vec!["one".into()], 0));
        assert_eq!(text.new_lines(false).0, none);
        write!(file, "o\n\nthr").unwrap();
        assert_eq!(text.new_lines(false).0, ["two", ""]);
        assert_eq!(text.new_lines(true).0, ["thr"]);
        assert_eq!(text.new_lines(true).0, none);
    }

    #[test]
    fn begins_again_when_it_was_cut() {
        let mut text = TextFile::new().unwrap();
        let mut file = File::from(text.to_fd().unwrap());
        writeln!(file, "one\ntwo").unwrap();
        assert_eq!(text.new_lines(false).0, ["one", "two"]);
        file.set_len(0).unwrap();
        writeln!(file, "three").unwrap();
        assert_eq!(text.new_lines(false), (vec!["three".into()], 0));
    }

    #[test]
    fn counts_what_nobody_has_read_in_time() {
        let mut text = TextFile::new().unwrap();
        let mut file = File::from(text.to_fd().unwrap());
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..300 {
            file.write_all(line.as_bytes()).unwrap();
        }
        let (lines, lost) = text.new_lines(false);
        assert_eq!((lines.len(), lost), (256, 44 * 1024));
    }
}
