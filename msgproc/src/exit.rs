//! How a backend ended.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::kernel::Busy;

/// How a process ended, and what is known about why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exit {
    /// Its process id; that of the whole program where the backend ran on a thread.
    pub pid: u32,
    /// Its exit code, or the signal that ended it.
    pub how: How,
    /// The text of its last panic, with the place, where there was one.
    pub panic: Option<String>,
    /// Which step of a stop it took, where it was stopped by its frontend.
    pub stopped_by: Option<StopStep>,
    /// What it was doing for too long when it was killed for that: see
    /// [`OnTimeout::Kill`](crate::OnTimeout::Kill).
    pub overdue: Option<Box<Busy>>,
    /// The last lines it wrote to stdout, where that was captured.
    pub stdout: Vec<String>,
    /// The last lines it wrote to stderr, where that was captured.
    pub stderr: Vec<String>,
}

impl Exit {
    /// Whether it ended in order: with exit code 0, whoever wished it to end.
    pub fn is_clean(&self) -> bool {
        self.how == How::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.how)?;
        if let Some(step) = self.stopped_by {
            write!(f, ", stopped {step}")?;
        }
        if let Some(busy) = &self.overdue {
            write!(f, ", because it had been {busy}")?;
        }
        if let Some(panic) = &self.panic {
            write!(f, "; it panicked: {panic}")?;
        }
        if !self.stderr.is_empty() {
            write!(f, "; it last wrote: {}", self.stderr.join("\n"))?;
        }
        Ok(())
    }
}

/// What the kernel says about the end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum How {
    /// It ended by itself, with this exit code. A panic that nobody caught gives 101.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The number of the signal.
        number: i32,
        /// Whether it left a core file.
        core: bool,
    },
    /// Somebody else took its exit status: a `waitpid(-1)`, or SIGCHLD set to be ignored.
    Unknown,
}

impl How {
    /// The name of the signal, such as `SIGKILL`, where one ended it.
    pub fn signal_name(&self) -> Option<&'static str> {
        match *self {
            How::Signal { number, .. } => Some(
                Signal::try_from(number).map_or("a real-time signal", |signal| signal.as_str()),
            ),
            _ => None,
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Code(code) => write!(f, "exit code {code}"),
            How::Signal { number, core } => {
                let name = self.signal_name().unwrap_or_default();
                write!(f, "killed by signal {number} ({name})")?;
                if *core {
                    write!(f, ", core dumped")?;
                }
                Ok(())
            }
            How::Unknown => write!(f, "ended, but its exit status was taken by somebody else"),
        }
    }
}

/// The four steps of a stop, in their order. Each is tried when the one before did not do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum StopStep {
    /// The backend finishes what is queued, then leaves.
    Graceful,
    /// The backend leaves after the handler that runs now.
    Urgent,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl fmt::Display for StopStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopStep::Graceful => "gracefully",
            StopStep::Urgent => "urgently",
            StopStep::Terminate => "by SIGTERM",
            StopStep::Kill => "by SIGKILL",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_sentence() {
        let exit = Exit {
            pid: 7,
            how: How::Signal { number: 9, core: false },
            panic: Some("no film (src/camera.rs:3)".into()),
            stopped_by: Some(StopStep::Kill),
            overdue: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        assert_eq!(
            exit.to_string(),
            "killed by signal 9 (SIGKILL), stopped by SIGKILL; it panicked: no film (src/camera.rs:3)"
        );
        assert!(!exit.is_clean());
    }
}
