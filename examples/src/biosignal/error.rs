//! What can go wrong between a recording and its vital signs.

use std::fmt::Display;
use std::io;

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// A line of the recording is not what it must be.
    #[error("cannot read {name}: line {line}: {problem}")]
    Line {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The recording as a whole cannot be used.
    #[error("cannot use {name}: {problem}")]
    Recording {
        /// The file.
        name: String,
        /// Why.
        problem: String,
    },
    /// A setting is out of its range.
    #[error("{setting} cannot be {value}: {problem}")]
    Setting {
        /// Its name, as in a file of settings.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        problem: String,
    },
    /// Samples are missing, came twice or in another order.
    #[error(
        "sample {found} came where sample {expected} was due: a step takes every chunk once, in order"
    )]
    Order {
        /// The first sample that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// An item that a step was given contradicts itself or those before it.
    #[error("cannot go on with {item}: {problem}")]
    Item {
        /// Which item.
        item: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There is not even one window.
    #[error(
        "the recording lasts {seconds:.1} s, and a window {needed:.1} s: \
         record for longer, or set window.length to less"
    )]
    TooShort {
        /// How long the recording is.
        seconds: f64,
        /// How long a window is.
        needed: f64,
    },
    /// The chart could not be drawn.
    #[error("cannot draw the chart: {0}")]
    Plot(String),
}

impl Error {
    /// Makes one from a setting, its value and what it has to be.
    pub(super) fn setting(
        setting: &'static str,
        value: impl Display,
        problem: impl Into<String>,
    ) -> Self {
        Self::Setting { setting, value: value.to_string(), problem: problem.into() }
    }

    /// Makes one from an item and what is wrong with it.
    pub(super) fn item(item: &'static str, problem: impl Into<String>) -> Self {
        Self::Item { item, problem: problem.into() }
    }
}
