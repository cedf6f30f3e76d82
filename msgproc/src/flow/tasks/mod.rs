//! Nodes that await a future for each item. Feature `tokio`.
//!
//! | file | what is in it |
//! |---|---|
//! | `line` | where futures run, and the thread that gives them to it |
//! | `runtime` | the one runtime of all nodes at `Placement::Task` |
//! | `flight` | what is on its way, how much at most, and in which order it is taken back |
//! | `trouble` | how a future fails, and what becomes of its item |
//! | `node` | the node, and the functions that make one |
//!
//! stage/README.md says how a node and its line wake each other.

mod flight;
mod line;
mod node;
mod runtime;
mod trouble;

use self::runtime::here;
pub(crate) use self::{
    flight::Flight,
    line::Work,
    runtime::in_runtime,
    trouble::{Policy, Trouble},
};
pub use self::{
    node::{each_async, filter_async, flat_map_async, map_async, try_each_async, try_map_async},
    trouble::Made,
};
