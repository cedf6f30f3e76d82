//! The progress bar: on a terminal only, and drawn by the calls themselves, for
//! a thread of its own would forbid to fork.

use std::fmt::Arguments;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;
use crate::source::Amount;

#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    unit: Unit,
    frames: u64,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Bytes,
    Pictures,
}

impl Progress {
    pub(crate) fn new(total: Option<Amount>) -> Self {
        let (unit, total, template) = match total {
            Some(Amount::Bytes(n)) => {
                (Unit::Bytes, Some(n), "{wide_bar} {percent:>3} %  {msg}  {eta} left")
            }
            Some(Amount::Pictures(n)) => {
                (Unit::Pictures, Some(n), "{wide_bar} {percent:>3} %  {msg}  {eta} left")
            }
            None => (Unit::Bytes, None, "{spinner} {msg}, {bytes} in {elapsed}"),
        };
        // A standard error that is no terminal gets nothing.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, unit, frames: 0 }
    }

    /// Counts one more frame of that many bytes.
    pub(crate) fn frame(&mut self, bytes: usize) {
        self.frames += 1;
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_message(format!("{} frames", self.frames));
        self.bar.inc(match self.unit {
            Unit::Bytes => bytes as u64,
            Unit::Pictures => 1,
        });
    }

    /// Writes a line to standard error, above the bar.
    pub(crate) fn error(&self, line: Arguments<'_>) {
        self.bar.suspend(|| output::error(line));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
