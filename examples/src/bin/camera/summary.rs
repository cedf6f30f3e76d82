//! What is said at the end.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use crate::cli::Args;
use crate::collect::Counts;
use crate::crew::Work;
use crate::failure::Failure;
use crate::output::Output;
use crate::source::Source;

/// Prints the summary: to standard output, or beside it if the CSV is there.
pub(crate) fn print(
    args: &Args,
    counts: &Counts,
    work: &Work,
    source: &Source,
    elapsed: Duration,
    signal: Option<u8>,
) -> Result<(), Failure> {
    let text = text(counts, work, source.bytes_skipped(), elapsed, signal.is_some());
    if args.csv_on_stdout() {
        // There is nobody left to tell if this fails.
        let _ = io::stderr().write_all(text.as_bytes());
        return Ok(());
    }
    match Output::stdout().write(&text) {
        Err(Failure::Closed) => Ok(()),
        other => other,
    }
}

fn text(
    counts: &Counts,
    work: &Work,
    skipped: u64,
    elapsed: Duration,
    interrupted: bool,
) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let mega = |bytes: u64| bytes as f64 / 1e6 / seconds;
    let milliseconds = |percent| counts.latency(percent).as_secs_f64() * 1e3;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    if interrupted {
        line("interrupted", "what was done so far follows, and is written".into());
    }
    line("frames", format!("{}, of which {} broken", counts.frames, counts.broken));
    if skipped > 0 {
        line("skipped", format!("{skipped} bytes between the frames"));
    }
    line("time", format!("{seconds:.2} s, {:.1} frames/s", counts.frames as f64 / seconds));
    line(
        "data",
        format!("{:.1} MB/s in, {:.1} MB/s out", mega(counts.bytes_in), mega(counts.bytes_out)),
    );
    let workers: Vec<_> = work.frames_per_worker.iter().map(u64::to_string).collect();
    line(
        "workers",
        match workers.len() {
            0 => "0, everything in one process".into(),
            n => format!("{n}, frames {}", workers.join(" ")),
        },
    );
    line(
        "latency",
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, from split to result",
            milliseconds(50.0),
            milliseconds(99.0)
        ),
    );
    line("blocks", format!("{} in use", work.blocks_in_use));
    line("restarts", work.restarts.to_string());
    text
}
