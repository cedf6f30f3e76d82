//! What can go wrong with a run, and where it did.

use std::{error::Error as StdError, fmt, io, iter, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::node::Cause;
use crate::{
    Exit,
    error::{causes, with_causes},
    start::Panic,
};

/// The result of whatever concerns a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run could not begin, or failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph cannot be run as it is.
    #[error("the graph cannot be run: {0}")]
    Graph(String),
    /// The memory, the processes or the threads for it could not be had.
    #[error("the run cannot begin, for want of {what}: {}", Chain(cause))]
    Start {
        /// What was wanting.
        what: String,
        /// Why it could not be had.
        cause: Cause,
    },
    /// The run has ended well, and its trace could not be written.
    #[error("the trace of the run cannot be written to {}: {cause}", file.display())]
    Trace {
        /// Where it was to be written.
        file: PathBuf,
        /// Why it was not.
        cause: io::Error,
    },
    /// A node failed, or a process died: the first that did.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// It was stopped by [`Running::stop_now`](super::Running::stop_now), or because its handle was
    /// dropped.
    #[error("the run was stopped before its end")]
    Stopped,
}

impl Error {
    pub(crate) fn start<E: Into<Cause>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |cause| Error::Start { what, cause: cause.into() }
    }

    /// The failure of a node, if that is what it is.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

/// A cause, and what caused it, on one line.
struct Chain<'a>(&'a Cause);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_causes(self.0.to_string(), causes(&**self.0)))
    }
}

/// What a program prints whose `main` gives it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self {
            Error::Failed(failure) => match &failure.backtrace {
                Some(backtrace) => write!(f, "\n{backtrace}"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Failed(Box::new(failure))
    }
}

/// How a node failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FailureKind {
    /// Its constructor or [`svc_init`](super::Node::svc_init) gave an error, or panicked.
    Init,
    /// It gave an error for an item.
    Error,
    /// It panicked over an item.
    Panic,
    /// [`svc_end`](super::Node::svc_end) gave an error, or panicked.
    End,
    /// Its process died.
    Died,
    /// What it sent or received could not travel.
    Transport,
}

/// A process of a run that died. For [`Graph::on_death`](super::Graph::on_death).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Death {
    /// The name of its node: of several nodes that of the one that was at work.
    pub node: String,
    /// Which of the node's workers it was.
    pub worker: usize,
    /// Which item it was at, counted as [`Failure::item`]; `None` if it was at none, or if several
    /// threads of the process were at work, so that nobody knows whose item it was.
    pub item: Option<u64>,
    /// How often a process died over that item, this time included; 0 without an item.
    pub times: u64,
    /// How it died.
    pub exit: Exit,
}

/// A node that failed: where, over which item, and why.
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the node.
    pub node: String,
    /// Which of its workers.
    pub worker: usize,
    /// Which item it was: how many came to this worker's edge before it, from the sender that it
    /// came from. For a chain with one source that is the item's place in the stream.
    pub item: Option<u64>,
    /// How.
    pub kind: FailureKind,
    /// What the error said.
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    /// Where a panic was: `file:line:column`.
    pub location: Option<String>,
    /// The backtrace of a panic, if backtraces are switched on (`RUST_BACKTRACE`).
    pub backtrace: Option<String>,
    /// The error itself, where it was made in this process.
    #[serde(skip)]
    error: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(
        node: &str,
        worker: usize,
        item: Option<u64>,
        kind: FailureKind,
        cause: Cause,
    ) -> Failure {
        let causes = causes(&*cause).map(ToString::to_string).collect();
        Failure {
            node: node.into(),
            worker,
            item,
            kind,
            message: cause.to_string(),
            causes,
            location: None,
            backtrace: None,
            error: Some(cause.into()),
        }
    }

    pub(crate) fn panicked(
        node: &str,
        worker: usize,
        item: Option<u64>,
        kind: FailureKind,
        panic: Panic,
    ) -> Failure {
        let mut failure = Failure::new(node, worker, item, kind, panicked(&panic).into());
        failure.location = panic.location().map(str::to_owned);
        failure.backtrace = panic.backtrace();
        failure
    }

    /// The error that the node gave, if it is of this type and was made in this process: what comes
    /// from another process is known by its words alone.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let error = self.error.as_deref()? as &(dyn StdError + 'static);
        iter::once(error).chain(causes(error)).find_map(|error| error.downcast_ref())
    }
}

/// What is said of a panic, besides where it was.
fn panicked(panic: &Panic) -> String {
    format!("panicked: {}", panic.message())
}

/// All that is said of a panic.
pub(crate) fn panicked_at(panic: &Panic) -> String {
    match panic.location() {
        Some(location) => format!("{}, at {location}", panicked(panic)),
        None => panicked(panic),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {:?}, worker {}", self.node, self.worker)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        match self.kind {
            FailureKind::Init => f.write_str(", could not begin")?,
            FailureKind::End => f.write_str(", could not end")?,
            _ => {}
        }
        write!(f, ": {}", with_causes(self.message.clone(), &self.causes))?;
        match &self.location {
            Some(location) => write!(f, ", at {location}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl StdError for Failure {}
