//! What travels between stages, and what is told with it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::flow::WorkerInfo;

/// An item, and which of the source's items it came of.
#[doc(hidden)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item<T> {
    pub(super) index: u64,
    pub(super) value: T,
}

/// An item took longer than its stage allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimedOut {
    /// Which of the source's items it came of.
    pub index: u64,
    /// What the stage allows.
    pub limit: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {} took longer than {:?}", self.index, self.limit)
    }
}

impl std::error::Error for TimedOut {}

/// Where a closure is called: by which worker, with which resource, for which item.
#[derive(Debug)]
#[non_exhaustive]
pub struct At<'a, R> {
    /// What the worker made when it began.
    pub resource: &'a mut R,
    /// Which of the source's items this one came of, from 0 on.
    pub index: u64,
    /// Which worker this is.
    pub worker: &'a WorkerInfo,
}

/// How far a stage is, when one of its workers is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StageStatus {
    /// Whether all of its workers are done: said to exactly one of them, the last.
    pub done: bool,
    /// How many are not done yet.
    pub active: usize,
}
