use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a graph file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read graph file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write graph file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The name of the file does not tell what is in it.
    #[error("{} is neither YAML nor JSON by its name: it ends with .yaml, .yml or .json", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and is not right.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// All that is wrong with a graph file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    path: Option<PathBuf>,
    list: Vec<Problem>,
}

impl Problems {
    /// Gives back what is right, or says what is wrong.
    pub(super) fn or<T>(
        mut list: Vec<Problem>,
        path: Option<&Path>,
        right: T,
    ) -> Result<T, Problems> {
        if list.is_empty() {
            return Ok(right);
        }
        list.sort_by_key(|problem| problem.line.unwrap_or(u32::MAX));
        Err(Problems { path: path.map(Path::to_owned), list })
    }

    /// Each of them, in the order of their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "graph file {}", path.display())?,
            None => f.write_str("graph file")?,
        }
        if let [one] = &self.list[..] {
            return write!(f, ", {one}");
        }
        write!(f, " has {} problems:", self.list.len())?;
        self.list.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Something that is wrong with a graph file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; none in a graph that was not read from a file.
    pub line: Option<u32>,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl Problem {
    pub(super) fn at(line: Option<u32>, kind: ProblemKind) -> Self {
        Problem { line, kind }
    }

    pub(super) fn syntax(line: usize, reason: impl Into<String>) -> Self {
        Fault::new(line, reason).into()
    }
}

/// A fault of the text itself, at which reading ends.
pub(super) struct Fault {
    line: usize,
    reason: String,
}

impl Fault {
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
        Fault { line, reason: reason.into() }
    }
}

impl From<Fault> for Problem {
    fn from(Fault { line, reason }: Fault) -> Self {
        Problem::at(u32::try_from(line).ok(), ProblemKind::Syntax { reason })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        self.kind.fmt(f)
    }
}

/// What can be wrong with a graph file. The fields are the names that the message has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each message says it
pub enum ProblemKind {
    #[error("{reason}")]
    Syntax { reason: String },
    #[error("{name:?} is there twice{}", since(*.first))]
    Twice { name: String, first: Option<u32> },
    #[error("{what} must be {expected} and is {found}")]
    Unfit { what: String, expected: &'static str, found: String },
    #[error("{what} has no {key:?}")]
    Missing { what: String, key: &'static str },
    #[error("{what} knows no {key:?}{}", hint(.nearest))]
    UnknownKey { what: String, key: String, nearest: Option<String> },
    #[error("{what}: {reason}")]
    Unreadable { what: String, reason: String },
    #[error("two nodes are called {name:?}{}", since(*.first))]
    TwoNodes { name: String, first: Option<u32> },
    #[error(
        "node {node:?} is to compute on host {host:?}: only this one is known, {this_host:?} or \"localhost\""
    )]
    UnknownHost { node: String, host: String, this_host: String },
    #[error("node {node:?} has {workers} workers and {places} places: give one, or as many")]
    Places { node: String, workers: usize, places: usize },
    #[error("the graph has no nodes")]
    NoNodes,
    #[error("node {node:?} cannot keep the order of its items: {reason}")]
    CannotKeepOrder { node: String, reason: String },
    #[error("node {node:?} is of class {class:?}, which is not known{}", hint(.nearest))]
    UnknownClass { node: String, class: String, nearest: Option<String> },
    #[error("connection {connection}: there is no node {node:?}{}", hint(.nearest))]
    UnknownNode { connection: String, node: String, nearest: Option<String> },
    #[error("connection {connection}: node {node:?} is of class {class:?} and not {said:?}")]
    OtherClass { connection: String, node: String, class: String, said: String },
    #[error(
        "connection {connection}: node {node:?} has no {side} {port:?}{}{}",
        those(.known), hint(.nearest)
    )]
    UnknownPort {
        connection: String,
        node: String,
        side: &'static str,
        port: String,
        nearest: Option<String>,
        known: Vec<String>,
    },
    #[error("connection {connection}: say which {side} of node {node:?} is meant{}", those(.known))]
    WhichPort { connection: String, node: String, side: &'static str, known: Vec<String> },
    #[error(
        "connection {connection}: input {port:?} of node {node:?} has a connection already{}; an input has one",
        since(*.first)
    )]
    TwoIntoOne { connection: String, node: String, port: String, first: Option<u32> },
    #[error("connection {connection} gives {gives:?} to an input that takes {takes:?}")]
    Types { connection: String, gives: String, takes: String },
    #[error("connection {connection} holds only the newest item, so it has no capacity")]
    CapacityOfLatest { connection: String },
    #[error("input {port:?} of node {node:?} is not connected and must be")]
    Unconnected { node: String, port: String },
    #[error("{reason}")]
    Settings { node: String, reason: String },
    #[error("node {node:?} of class {class:?} cannot be made: {reason}")]
    Constructor { node: String, class: String, reason: String },
    #[error("no connection leads to node {node:?}, which takes items at {}", listed(.inputs))]
    Idle { node: String, inputs: Vec<String> },
    #[error(
        "connection {connection} is feedback, and leads nowhere back: there is no way from {to:?} to {from:?}; leave the mark out"
    )]
    NotBack { connection: String, from: String, to: String },
    #[error("only feedback leads to node {node:?}: lead something into the cycle from outside")]
    OnlyBack { node: String },
    #[error(
        "connection {connection} leads back to another node than one before it, and node {node:?} is in both cycles: let both lead back to {first:?}"
    )]
    TwoHeads { connection: String, node: String, first: String },
    #[error(
        "connection {connection} holds only the newest item and is in a cycle, where every item counts: give it a capacity instead"
    )]
    LatestInCycle { connection: String },
    #[error("connection {connection} has credits, which are those of a cycle, and is no feedback")]
    CreditsWithoutFeedback { connection: String },
    #[error(
        "connection {connection} is sticky, and nodes of class {class:?} do not keep the last item: lead it to a join"
    )]
    Sticky { connection: String, class: String },
    #[error(
        "nodes wait for each other in a cycle: {}; mark the connection that leads back as feedback",
        circle(.nodes)
    )]
    Cycle { nodes: Vec<String> },
}

fn since(line: Option<u32>) -> String {
    line.map_or(String::new(), |line| format!(", first on line {line}"))
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |nearest| format!("; did you mean {nearest:?}?"))
}

fn those(names: &[String]) -> String {
    match names {
        [] => "; it has none".to_owned(),
        names => format!("; it has {}", listed(names)),
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn circle(nodes: &[String]) -> String {
    nodes
        .iter()
        .chain(nodes.first())
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(" -> ")
}
