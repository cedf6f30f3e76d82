//! What the threads and processes of a run share beside the edges: where the words of its board
//! are, and how a thread of it waits. README.md says what the words mean.

mod alone;
mod clock;
mod executor;
mod words;

pub(crate) use self::{
    alone::Alone,
    clock::{Span, Spent},
    executor::{Bell, Executor, Poll, Rank, Settings, Unit},
    words::{Counts, DRAINING, RUNNING, STOPPING, Shared, lane, out, worker},
};
