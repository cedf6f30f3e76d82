//! Who was busy when, as a file for Perfetto or `chrome://tracing`.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::Instant,
};

use serde::{Deserialize, Serialize};
use shmring::os::monotonic;

/// What a thread notes: as much as a viewer can show.
const MOST: usize = 200_000;

/// What a worker did for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Doing {
    Busy,
    WaitingForInput,
    WaitingForOutput,
    /// More than that was not noted.
    NotNoted,
}

/// A while of a worker. Times are those of a clock that all processes share, in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) worker: u32,
    pub(crate) doing: Doing,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What one thread notes.
#[derive(Debug)]
pub(crate) struct Notes {
    spans: RefCell<Vec<Span>>,
    /// Since when nothing has been noted any more.
    full: Cell<Option<(u32, u64)>>,
    /// Who is at work: who waits for room.
    current: Cell<u32>,
    /// The same moment by both clocks.
    instant: Instant,
    monotonic: u64,
}

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes {
            spans: RefCell::default(),
            full: Cell::new(None),
            current: Cell::new(0),
            instant: Instant::now(),
            monotonic: monotonic(),
        }
    }

    fn time(&self, at: Instant) -> u64 {
        self.monotonic + at.saturating_duration_since(self.instant).as_nanos() as u64
    }

    /// Says who is at work; gives who was.
    pub(crate) fn begin(&self, worker: u32) -> u32 {
        self.current.replace(worker)
    }

    pub(crate) fn note(&self, worker: u32, doing: Doing, from: Instant) {
        let mut spans = self.spans.borrow_mut();
        if spans.len() < MOST {
            let (from, to) = (self.time(from), self.time(Instant::now()));
            spans.push(Span { worker, doing, from, to });
        } else if self.full.get().is_none() {
            self.full.set(Some((worker, self.time(from))));
        }
    }

    /// Of whoever is at work.
    pub(crate) fn note_current(&self, doing: Doing, from: Instant) {
        self.note(self.current.get(), doing, from);
    }

    pub(crate) fn take(&self) -> Vec<Span> {
        let mut spans = self.spans.take();
        if let Some((worker, from)) = self.full.take() {
            let to = self.time(Instant::now());
            tracing::warn!(spans = MOST, "a thread of a run did more than its trace can hold");
            spans.push(Span { worker, doing: Doing::NotNoted, from, to });
        }
        spans
    }
}

/// A worker, for the names in a trace.
pub(crate) struct Named {
    pub(crate) process: usize,
    pub(crate) name: String,
}

/// Text as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a trace in Chrome's format of events.
pub(crate) fn write(path: &Path, workers: &[Named], spans: &[Span]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "{{\"displayTimeUnit\": \"ms\", \"traceEvents\": [")?;
    let began = spans.iter().map(|span| span.from).min().unwrap_or(0);
    for (number, worker) in workers.iter().enumerate() {
        writeln!(
            file,
            "{{\"ph\": \"M\", \"name\": \"thread_name\", \"pid\": {}, \"tid\": {number}, \"args\": {{\"name\": {}}}}},",
            worker.process,
            quoted(&worker.name),
        )?;
    }
    for span in spans {
        let (name, color) = match span.doing {
            Doing::Busy => ("busy", "good"),
            Doing::WaitingForInput => ("waiting for input", "grey"),
            Doing::WaitingForOutput => ("waiting for output", "terrible"),
            Doing::NotNoted => ("more than a trace can hold", "black"),
        };
        let process = workers.get(span.worker as usize).map_or(0, |worker| worker.process);
        let micros = |time: u64| time as f64 / 1e3;
        writeln!(
            file,
            "{{\"ph\": \"X\", \"name\": \"{name}\", \"cname\": \"{color}\", \"pid\": {process}, \"tid\": {}, \"ts\": {:.3}, \"dur\": {:.3}}},",
            span.worker,
            micros(span.from - began),
            micros(span.to.saturating_sub(span.from)),
        )?;
    }
    // Something without a comma ends the list.
    writeln!(
        file,
        "{{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": 0, \"args\": {{\"name\": \"the program\"}}}}"
    )?;
    writeln!(file, "]}}")?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_it_is_full() {
        let notes = Notes::new();
        let began = Instant::now();
        for _ in 0..MOST + 5 {
            notes.note(1, Doing::Busy, began);
        }
        let spans = notes.take();
        assert_eq!(spans.len(), MOST + 1);
        let Span { worker, doing, from, to } = spans[MOST];
        assert_eq!((worker, doing), (1, Doing::NotNoted));
        assert!(from <= to);
        assert!(notes.take().is_empty());
    }

    #[test]
    fn names_are_json() {
        assert_eq!(quoted("a \"b\" \\ \n ä"), "\"a \\\"b\\\" \\\\ \\u000a ä\"");
    }
}
