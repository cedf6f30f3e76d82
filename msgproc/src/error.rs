//! What can go wrong between a frontend and its backend.

use std::{error::Error as StdError, fmt, io, time::Duration};

use crate::{exit::Exit, kernel::Busy};

/// The result of whatever concerns a process.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Boxed = Box<dyn StdError + Send + Sync>;

/// Why something with a process failed. Says what was tried, on which process, and what to do.
///
/// Its `Debug` form is its message and what caused it, for that is what a program prints whose
/// `main` gives it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend could not be brought to life.
    #[error("cannot start process {process:?}: {reason}")]
    Start {
        /// The name of the process.
        process: String,
        /// What failed.
        reason: String,
    },
    /// A fork was refused, since the program has threads: any lock that one of them holds would
    /// be held in the child for ever.
    #[error(
        "cannot fork process {process:?}: the program has {threads} threads, and a lock that one of them holds would be held in the child for ever. Start processes before the first thread, or use a fork server or `spawn`"
    )]
    MultiThreaded {
        /// The name of the process.
        process: String,
        /// How many threads there are, the main thread included.
        threads: usize,
    },
    /// The program does not look first whether it was started to be a backend: a process that
    /// executes it anew would begin all over.
    #[error(
        "cannot start process {process:?} from this program: call `msgproc::init()` first in `main` (in tests, put `msgproc::test_support!();` into the file of the test)"
    )]
    NotInitialized {
        /// The name of the process.
        process: String,
    },
    /// The code that starts the process is part of a shared library, so that executing the program
    /// anew would not bring it back.
    #[error(
        "cannot start process {process:?} from a shared library: its code is not part of the program that would be executed. Use `fork`, or `exec` with a program of its own"
    )]
    NotMainProgram {
        /// The name of the process.
        process: String,
    },
    /// This process was not started to be a worker.
    #[error(
        "this program is a worker: another program starts it with `MessageProcess::exec` and talks to it over a control channel that is not there"
    )]
    NotAWorker,
    /// The processes would exceed a limit of the system. None of them is left.
    #[error(
        "cannot start {processes} process{}: {what}, {needed} are needed and {free} of {limit} are free. {advice}",
        if *.processes == 1 { "" } else { "es" }
    )]
    Limit {
        /// How many were to be started.
        processes: usize,
        /// What would not suffice, as a sentence begins: `each takes 4 descriptors`.
        what: String,
        /// How many of it the processes need in all.
        needed: u64,
        /// How many there are left.
        free: u64,
        /// The limit.
        limit: u64,
        /// How to raise it.
        advice: String,
    },
    /// The constructor, or `pre_run`, gave an error or panicked.
    #[error("process {process:?} failed before its loop, in {stage}: {message}")]
    PreRun {
        /// The name of the process.
        process: String,
        /// `the constructor` or `pre_run`.
        stage: String,
        /// The message of the error or of the panic.
        message: String,
        /// Where it came from.
        trace: Box<Trace>,
    },
    /// The handler gave an error.
    #[error("{command} in process {process:?} failed: {message}")]
    Failed {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
        /// The message of the error.
        message: String,
        /// Where it came from.
        trace: Box<Trace>,
    },
    /// The handler panicked.
    #[error("{command} in process {process:?} panicked: {message}{}", At(trace))]
    Panicked {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
        /// The message of the panic.
        message: String,
        /// Where it came from.
        trace: Box<Trace>,
    },
    /// The backend has no such command.
    #[error("process {process:?} has no command {command:?}")]
    UnknownCommand {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
    },
    /// The backend could not read the arguments.
    #[error("process {process:?} could not read the arguments of {command}: {reason}")]
    BadArguments {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
        /// What does not fit.
        reason: String,
    },
    /// The answer or the event could not be read.
    #[error("what process {process:?} sent for {command} cannot be read: {reason}")]
    BadReply {
        /// The name of the process.
        process: String,
        /// The name of the command; `an event` for an event.
        command: String,
        /// What does not fit.
        reason: String,
    },
    /// A value could not be put into a message.
    #[error("cannot put {what} into a message: {reason}")]
    Unsendable {
        /// Which value.
        what: String,
        /// What its serializer said.
        reason: String,
    },
    /// The message carries more descriptors than the kernel passes at once.
    #[error("a message carries {count} descriptors, the kernel passes at most {limit} at once")]
    TooManyDescriptors {
        /// How many it carries.
        count: usize,
        /// How many are possible.
        limit: usize,
    },
    /// The process ended.
    #[error("process {process:?} (pid {}) ended: {exit}", exit.pid)]
    PeerDied {
        /// The name of the process.
        process: String,
        /// How it ended.
        exit: Box<Exit>,
    },
    /// The other side has closed the channel, yet it has not ended.
    #[error("process {process:?} closed its channel, but has not ended")]
    Disconnected {
        /// The name of the process.
        process: String,
    },
    /// The backend's frontend has closed the channel or died: nobody will read what is sent.
    #[error("the frontend of process {process:?} is gone")]
    FrontendGone {
        /// The name of the process.
        process: String,
    },
    /// There was no answer, or no room to send, before the deadline.
    #[error("process {process:?} did not {action} within {after:?}{}{}", Doing(busy.as_deref()), Gone(exit.as_deref()))]
    TimedOut {
        /// The name of the process.
        process: String,
        /// What it should have done: `answer ping`, `take ping`, `become ready`, `stop`.
        action: String,
        /// How long was waited.
        after: Duration,
        /// What it is doing instead, where it says so.
        busy: Option<Box<Busy>>,
        /// How it ended, where the command still waits for the process that comes in its place.
        exit: Option<Box<Exit>>,
    },
    /// A handler runs longer than its
    /// [time limit](crate::Options::handler_timeout). It runs on.
    #[error("process {process:?} has been {busy}; the limit is {limit:?}")]
    Overdue {
        /// The name of the process.
        process: String,
        /// Which handler, for how long, and where in the kernel it is.
        busy: Box<Busy>,
        /// The time limit.
        limit: Duration,
    },
    /// There is no room to send, and waiting was not wished or would not help.
    #[error("no room to send to process {process:?}: {reason}")]
    QueueFull {
        /// The name of the process.
        process: String,
        /// Which queue.
        reason: String,
    },
    /// The process has been told to stop.
    #[error("process {process:?} has been stopped")]
    Stopped {
        /// The name of the process.
        process: String,
    },
    /// The call was taken back before it ran.
    #[error("{command} in process {process:?} was cancelled")]
    Cancelled {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
    },
    /// The call's [deadline](crate::Call::deadline) passed before it began, so it did not run.
    #[error("{command} did not run: process {process:?} did not come to it before its deadline")]
    Late {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
    },
    /// The process ended before it had handled a command that nobody waits for.
    #[error(
        "{command} is lost: process {process:?} (pid {}) ended {}: {exit}",
        exit.pid,
        if *begun { "while it ran" } else { "before it began" }
    )]
    Undelivered {
        /// The name of the process.
        process: String,
        /// The name of the command.
        command: String,
        /// Whether its handler was running, or had run and was not yet known to be done.
        begun: bool,
        /// How the process ended.
        exit: Box<Exit>,
    },
    /// This handle was made before a fork, and belongs to the parent.
    #[error("process {process:?} belongs to process {maker}, this is a fork of it")]
    NotOurs {
        /// The name of the process.
        process: String,
        /// The pid of the process that started it.
        maker: u32,
    },
    /// What came over the channel is not a message of ours.
    #[error("malformed message: {reason}")]
    Malformed {
        /// What does not fit.
        reason: String,
    },
    /// Something about shared memory.
    #[error(transparent)]
    Shmring(#[from] shmring::Error),
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An error of the program that uses this library.
    #[error(transparent)]
    Other(Boxed),
}

impl Error {
    /// Takes in any error, so that a handler or `pre_run` can give it.
    ///
    /// ```
    /// # fn pre_run() -> msgproc::Result<()> {
    /// let port: u16 = "80".parse().map_err(msgproc::Error::other)?;
    /// # Ok(()) }
    /// ```
    pub fn other(error: impl Into<Boxed>) -> Error {
        Error::Other(error.into())
    }

    /// Puts what was tried beside the kernel's reason.
    pub(crate) fn io<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source: source.into() }
    }

    /// How the process ended, where that is what the error says.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Error::PeerDied { exit, .. } | Error::Undelivered { exit, .. } => Some(exit),
            Error::TimedOut { exit, .. } => exit.as_deref(),
            _ => None,
        }
    }

    /// Where a failure inside the backend came from.
    pub fn trace(&self) -> Option<&Trace> {
        match self {
            Error::PreRun { trace, .. }
            | Error::Failed { trace, .. }
            | Error::Panicked { trace, .. } => Some(trace),
            _ => None,
        }
    }
}

/// What caused an error, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// What is said first, and then each cause on the same line, but for those that it says already.
pub(crate) fn with_causes(first: String, causes: impl IntoIterator<Item: ToString>) -> String {
    causes.into_iter().fold(first, |mut said, cause| {
        let cause = cause.to_string();
        if !said.ends_with(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
        said
    })
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for cause in self.trace().map_or(&[][..], |trace| &trace.chain) {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

impl From<shmring::RecvError> for Error {
    fn from(error: shmring::RecvError) -> Error {
        Error::Other(error.into())
    }
}

/// The item goes: whoever wants it back takes it before.
impl<T> From<shmring::SendError<T>> for Error {
    fn from(error: shmring::SendError<T>) -> Error {
        Error::Other(error.map(|_| ()).into())
    }
}

/// The message goes: whoever wants it back takes it before.
impl<T> From<shmring::ring::port::PortError<T>> for Error {
    fn from(error: shmring::ring::port::PortError<T>) -> Error {
        Error::Other(error.map(|_| ()).to_string().into())
    }
}

impl From<shmring::ring::port::MessageError> for Error {
    fn from(error: shmring::ring::port::MessageError) -> Error {
        Error::Other(error.into())
    }
}

impl From<shmring::block::LoanError> for Error {
    fn from(error: shmring::block::LoanError) -> Error {
        Error::Other(error.into())
    }
}

impl From<shmring::block::ViewError> for Error {
    fn from(error: shmring::block::ViewError) -> Error {
        Error::Other(error.into())
    }
}

impl From<shmring::block::FrameError> for Error {
    fn from(error: shmring::block::FrameError) -> Error {
        Error::Other(error.into())
    }
}

impl From<shmring::block::Stale> for Error {
    fn from(error: shmring::block::Stale) -> Error {
        Error::Other(error.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Other(error.into())
    }
}

impl From<String> for Error {
    fn from(message: String) -> Error {
        Error::Other(message.into())
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Error {
        Error::Other(message.into())
    }
}

/// Where a failure inside a backend came from.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Trace {
    /// The messages of the errors below the one that was given, the nearest first.
    pub chain: Vec<String>,
    /// `file:line:column` of a panic.
    pub location: Option<String>,
    /// The backtrace: of a panic always, of an error when `RUST_BACKTRACE` is set.
    pub backtrace: Option<String>,
}

struct At<'a>(&'a Trace);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.location {
            Some(location) => write!(f, ", at {location}"),
            None => Ok(()),
        }
    }
}

struct Doing<'a>(Option<&'a Busy>);

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(busy) => write!(f, "; it has been {busy}"),
            None => Ok(()),
        }
    }
}

struct Gone<'a>(Option<&'a Exit>);

impl fmt::Display for Gone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(exit) => {
                write!(f, "; it (pid {}) has ended, and was not replaced yet: {exit}", exit.pid)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_mark_works_on_what_handlers_meet() {
        fn of_io() -> Result<()> {
            Err(io::Error::from(io::ErrorKind::NotFound))?;
            Ok(())
        }
        fn of_text() -> Result<()> {
            Err("no camera")?;
            Ok(())
        }
        fn of_any() -> Result<u8> {
            "x".parse().map_err(Error::other)
        }
        assert!(of_io().unwrap_err().to_string().contains("not found"));
        assert_eq!(of_text().unwrap_err().to_string(), "no camera");
        assert!(of_any().unwrap_err().to_string().contains("invalid digit"));

        fn of_ring() -> Result<()> {
            Err(shmring::SendError::Full(std::rc::Rc::new(7)))?;
            Ok(())
        }
        assert_eq!(of_ring().unwrap_err().to_string(), "the ring is full");
    }

    #[test]
    fn a_main_that_gives_it_prints_the_message_and_its_causes() {
        let trace = Trace { chain: vec!["no such device".into()], ..Trace::default() };
        let error = Error::Failed {
            process: "camera".into(),
            command: "grab".into(),
            message: "no picture".into(),
            trace: Box::new(trace),
        };
        assert_eq!(
            format!("{error:?}"),
            "grab in process \"camera\" failed: no picture\n  caused by: no such device"
        );
    }

    #[test]
    fn a_deadline_says_what_the_backend_does_instead() {
        let error = Error::TimedOut {
            process: "camera".into(),
            action: "answer ping".into(),
            after: Duration::from_secs(2),
            busy: Some(Box::new(Busy {
                with: "c__grab".into(),
                since: Duration::from_millis(2500),
                kernel: None,
            })),
            exit: None,
        };
        assert_eq!(
            error.to_string(),
            "process \"camera\" did not answer ping within 2s; it has been in c__grab for 2.5s"
        );
    }

    #[test]
    fn stays_small() {
        assert!(size_of::<Error>() <= 96);
    }
}
