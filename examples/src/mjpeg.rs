//! Splits a Motion-JPEG stream, which is nothing but JPEG images one after the
//! other, into its records.
//!
//! [`Splitter`] is a pure state machine over bytes: it follows the marker
//! structure of ITU-T T.81, annex B, so an end-of-image marker inside the
//! thumbnail of an APPn segment does not split a record. [`Records`] runs it
//! over any [`Read`].

use std::io::{self, Read};
use std::mem;

/// Longest record that is accepted unless said otherwise, in bytes.
pub const MAX_RECORD: usize = 64 << 20;

const START: [u8; 3] = [0xFF, SOI, 0xFF];
const CHUNK: usize = 64 << 10;

const DHT: u8 = 0xC4;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const COM: u8 = 0xFE;

/// How a record came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At its end-of-image marker.
    Complete,
    /// The next image, or the end of the stream, came first.
    Truncated,
    /// Something stands where only a marker can, or a header contradicts itself.
    Malformed,
    /// The record grew beyond the limit of the splitter.
    TooLong,
}

/// One record of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The bytes, from the start-of-image marker on.
    pub bytes: &'a [u8],
    /// How it ended. Only a complete record can be decoded.
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between images; this many bytes of `START` have matched.
    Hunt(u8),
    /// A marker must follow; whether its first 0xFF was seen.
    Marker { prefix: bool },
    /// The first, then the second byte of a segment's length.
    Length { marker: u8, high: Option<u8> },
    /// Inside a segment whose payload began at `from` of the record.
    Segment { marker: u8, from: usize, left: usize },
    /// Entropy-coded data; whether the last byte was 0xFF.
    Scan { prefix: bool },
}

/// Cuts a stream of bytes into records, whatever the chunks in which it comes.
///
/// Bytes between images are skipped. After a record that broke off, the search
/// for the next image starts inside what that record had swallowed: a header
/// that lost its end does not take the following image with it.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    state: State,
    record: Vec<u8>,
    /// The record was handed out and is dropped at the next call.
    handed_out: bool,
    /// Where in `record` the current marker begins.
    marker_at: usize,
    /// From here on `record` may hold the start of another image.
    suspect: usize,
    /// A frame header was seen.
    framed: bool,
    /// A scan was begun.
    scanned: bool,
    /// Bytes that a failed record had swallowed and that come again.
    replay: Vec<u8>,
    skipped: u64,
}

impl Splitter {
    /// Makes a splitter that gives up on records longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(START.len()),
            state: State::Hunt(0),
            record: Vec::new(),
            handed_out: false,
            marker_at: 0,
            suspect: 0,
            framed: false,
            scanned: false,
            replay: Vec::new(),
            skipped: 0,
        }
    }

    /// Takes bytes up to the end of a record at most.
    ///
    /// Returns how many bytes of `input` were used and, if a record ended, how;
    /// its bytes are then in [`record`](Self::record) until the next call.
    /// A record may end without any byte of `input` being used.
    pub fn advance(&mut self, input: &[u8]) -> (usize, Option<Ending>) {
        if mem::take(&mut self.handed_out) {
            self.record.clear();
        }
        while !self.replay.is_empty() {
            let replay = mem::take(&mut self.replay);
            let (used, ending) = self.step(&replay);
            self.replay.extend_from_slice(&replay[used..]);
            if ending.is_some() {
                return (0, ending);
            }
        }
        self.step(input)
    }

    /// Says that the stream has ended. Call it until it returns `None`.
    pub fn finish(&mut self) -> Option<Ending> {
        let (_, ending) = self.advance(&[]);
        if ending.is_some() {
            return ending;
        }
        match mem::replace(&mut self.state, State::Hunt(0)) {
            State::Hunt(2) => {
                self.record.extend_from_slice(&START[..2]);
                self.handed_out = true;
                Some(Ending::Truncated)
            }
            State::Hunt(matched) => {
                self.skipped += u64::from(matched);
                None
            }
            _ => Some(self.fail(Ending::Truncated)),
        }
    }

    /// Returns the bytes of the record that ended with the last call.
    pub fn record(&self) -> &[u8] {
        if self.handed_out { &self.record } else { &[] }
    }

    /// Counts the bytes that belonged to no record.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn step(&mut self, input: &[u8]) -> (usize, Option<Ending>) {
        let mut at = 0;
        while at < input.len() {
            let (used, ending) = match self.state {
                State::Hunt(matched) => (self.hunt(matched, &input[at..]), None),
                State::Marker { prefix } => (1, self.marker(prefix, input[at])),
                State::Length { marker, high } => (1, self.length(marker, high, input[at])),
                State::Segment { marker, from, left } => {
                    self.segment(marker, from, left, &input[at..])
                }
                State::Scan { prefix } => self.scan(prefix, &input[at..]),
            };
            at += used;
            let ending = match ending {
                None if self.record.len() > self.limit => Some(self.fail(Ending::TooLong)),
                other => other,
            };
            if ending.is_some() {
                return (at, ending);
            }
        }
        (at, None)
    }

    fn hunt(&mut self, matched: u8, input: &[u8]) -> usize {
        let byte = input[0];
        self.state = match (matched, byte) {
            (0, _) => {
                let garbage = memchr::memchr(0xFF, input).unwrap_or(input.len());
                self.skipped += garbage as u64;
                if garbage == input.len() {
                    return garbage;
                }
                self.state = State::Hunt(1);
                return garbage + 1;
            }
            (1, SOI) => State::Hunt(2),
            (1, 0xFF) => {
                self.skipped += 1;
                State::Hunt(1)
            }
            (2, 0xFF) => {
                self.record.extend_from_slice(&START);
                self.marker_at = 2;
                self.suspect = 2;
                self.framed = false;
                self.scanned = false;
                State::Marker { prefix: true }
            }
            _ => {
                self.skipped += u64::from(matched) + 1;
                State::Hunt(0)
            }
        };
        1
    }

    fn marker(&mut self, prefix: bool, byte: u8) -> Option<Ending> {
        if !prefix && byte == 0xFF {
            self.marker_at = self.record.len();
        }
        self.record.push(byte);
        if !prefix && self.record.ends_with(&START) {
            // A segment cut off two bytes before the length that it claims has
            // swallowed just the marker of the next image.
            self.suspect = self.record.len() - START.len();
            return Some(self.fail(Ending::Truncated));
        }
        match (prefix, byte) {
            (_, 0xFF) => {
                self.state = State::Marker { prefix: true };
                None
            }
            (false, _) => Some(self.fail(Ending::Malformed)),
            (true, code) => self.code(code),
        }
    }

    /// Acts on the code of a marker, which is already part of the record.
    fn code(&mut self, code: u8) -> Option<Ending> {
        match code {
            SOI => {
                self.trust();
                return Some(self.fail(Ending::Truncated));
            }
            EOI if self.scanned => {
                self.state = State::Hunt(0);
                self.handed_out = true;
                return Some(Ending::Complete);
            }
            // TEM stands alone.
            0x01 => self.state = State::Marker { prefix: false },
            _ if is_frame(code) && self.framed => return Some(self.fail(Ending::Malformed)),
            0xC0..=0xC7 | 0xC9..=0xCF | SOS..=0xFE => {
                self.framed |= is_frame(code);
                self.state = State::Length { marker: code, high: None };
            }
            _ => return Some(self.fail(Ending::Malformed)),
        }
        self.trust();
        None
    }

    /// Takes what stands before the current marker as proper, for it led to one.
    /// In and after a scan it stays under suspicion: entropy-coded data cannot
    /// hide an image, but a segment that a damaged byte made up can.
    fn trust(&mut self) {
        if !self.scanned {
            self.suspect = self.marker_at;
        }
    }

    fn length(&mut self, marker: u8, high: Option<u8>, byte: u8) -> Option<Ending> {
        self.record.push(byte);
        let Some(high) = high else {
            self.state = State::Length { marker, high: Some(byte) };
            return None;
        };
        match usize::from(u16::from_be_bytes([high, byte])) {
            0 | 1 => Some(self.fail(Ending::Malformed)),
            2 => self.segment_end(marker, self.record.len()),
            length => {
                let (from, left) = (self.record.len(), length - 2);
                self.state = State::Segment { marker, from, left };
                None
            }
        }
    }

    fn segment(
        &mut self,
        marker: u8,
        from: usize,
        left: usize,
        input: &[u8],
    ) -> (usize, Option<Ending>) {
        let used = left.min(input.len()).min(self.room());
        self.record.extend_from_slice(&input[..used]);
        if used < left {
            self.state = State::Segment { marker, from, left: left - used };
            return (used, None);
        }
        (used, self.segment_end(marker, from))
    }

    /// Goes on behind a segment whose payload began at `from`.
    fn segment_end(&mut self, marker: u8, from: usize) -> Option<Ending> {
        let payload = &self.record[from..];
        let plausible = match marker {
            SOS => payload.len() == payload.first().map_or(0, |&n| 4 + 2 * usize::from(n)),
            _ if is_frame(marker) => {
                payload.len() == payload.get(5).map_or(0, |&n| 6 + 3 * usize::from(n))
            }
            _ => true,
        };
        if !plausible {
            return Some(self.fail(Ending::Malformed));
        }
        // Images of one camera look alike: a table that was cut off can reach
        // just to a marker of the next image. Only free data hold an image.
        let free = matches!(marker, 0xE0..=0xEF | COM);
        if !free && holds_start(payload) {
            return Some(self.fail(Ending::Truncated));
        }
        self.state = if marker == SOS {
            self.scanned = true;
            State::Scan { prefix: false }
        } else {
            State::Marker { prefix: false }
        };
        None
    }

    fn scan(&mut self, prefix: bool, input: &[u8]) -> (usize, Option<Ending>) {
        if !prefix {
            let run = memchr::memchr(0xFF, input).map_or(input.len(), |at| at + 1).min(self.room());
            self.marker_at = self.record.len() + run - 1;
            self.record.extend_from_slice(&input[..run]);
            self.state = State::Scan { prefix: input[run - 1] == 0xFF };
            return (run, None);
        }
        self.record.push(input[0]);
        let ending = match input[0] {
            0x00 | 0xD0..=0xD7 => {
                self.state = State::Scan { prefix: false };
                None
            }
            0xFF => None,
            code => self.code(code),
        };
        (1, ending)
    }

    /// How many bytes the record may take before it is over the limit, which it
    /// then exceeds by one whatever the chunks.
    fn room(&self) -> usize {
        self.limit + 1 - self.record.len()
    }

    /// Ends the record early: what may belong to another image comes again.
    fn fail(&mut self, ending: Ending) -> Ending {
        let record = &self.record;
        let from = self.suspect.max(1);
        let cut = memchr::memmem::find(&record[from..], &START)
            .map(|at| from + at)
            .or_else(|| {
                (1..START.len())
                    .rev()
                    .map(|n| record.len() - n)
                    .find(|&at| at >= from && START.starts_with(&record[at..]))
            })
            .unwrap_or(record.len());
        // `advance` puts what is left of an older replay behind these.
        self.replay.extend_from_slice(&self.record[cut..]);
        self.record.truncate(cut);
        self.state = State::Hunt(0);
        self.handed_out = true;
        ending
    }
}

/// Whether an image begins in `payload`, as nearly all do: with a table or with
/// application data.
fn holds_start(payload: &[u8]) -> bool {
    memchr::memmem::find_iter(payload, &START).any(|at| {
        matches!(payload.get(at + 3), Some(0xC0 | &DHT | 0xDB | 0xDD | 0xE0..=0xEF | &COM))
    })
}

/// Whether a marker begins a frame header (SOF0 to SOF15).
fn is_frame(code: u8) -> bool {
    matches!(code, 0xC0..=0xCF) && !matches!(code, DHT | 0xC8 | 0xCC)
}

/// The records of a [`Read`], one after the other, with bounded memory.
#[derive(Debug)]
pub struct Records<R> {
    input: R,
    splitter: Splitter,
    chunk: Vec<u8>,
    filled: usize,
    used: usize,
    read: u64,
    ended: bool,
}

impl<R: Read> Records<R> {
    /// Splits `input`; see [`Splitter::new`] for `limit`.
    pub fn new(input: R, limit: usize) -> Self {
        Self {
            input,
            splitter: Splitter::new(limit),
            chunk: vec![0; CHUNK],
            filled: 0,
            used: 0,
            read: 0,
            ended: false,
        }
    }

    /// Returns the next record, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        let ending = self.advance()?;
        Ok(ending.map(|ending| Record { bytes: self.splitter.record(), ending }))
    }

    /// Goes on to the next record, whose bytes are then in
    /// [`record`](Self::record). Returns how it ended, or `None` at the end of
    /// the stream.
    ///
    /// # Errors
    ///
    /// Whatever the input says, [`io::ErrorKind::Interrupted`] included; the
    /// call can be repeated.
    pub fn advance(&mut self) -> io::Result<Option<Ending>> {
        loop {
            let (used, ending) = self.splitter.advance(&self.chunk[self.used..self.filled]);
            self.used += used;
            if ending.is_some() {
                return Ok(ending);
            }
            if self.ended {
                return Ok(self.splitter.finish());
            }
            self.used = 0;
            self.filled = 0;
            self.filled = self.input.read(&mut self.chunk)?;
            self.read += self.filled as u64;
            self.ended = self.filled == 0;
        }
    }

    /// Returns the bytes of the record that [`advance`](Self::advance) found.
    pub fn record(&self) -> &[u8] {
        self.splitter.record()
    }

    /// Counts the bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Counts the bytes that belonged to no record.
    pub fn skipped(&self) -> u64 {
        self.splitter.skipped()
    }
}

#[cfg(test)]
mod tests;
