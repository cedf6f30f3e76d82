//! Work as a graph of nodes, in threads and processes.
//!
//! README.md in this folder says who owns an item at each moment, how the end of a stream travels,
//! and what happens when something fails or dies.

mod edge;
mod engine;
mod error;
#[cfg(feature = "graph-files")]
pub mod file;
mod graph;
pub mod join;
mod layout;
mod memory;
mod node;
mod outlet;
mod outside;
mod placement;
mod plan;
mod report;
mod worker;

pub use edge::Wire;
pub use engine::Running;
pub use error::{Death, Error, Failure, FailureKind, Result};
pub use graph::{EdgeBuilder, Graph, Input, NodeBuilder, NodeRef, Output};
pub use memory::Memory;
pub use node::{
    Cause, Flow, FnNode, Fused, Node, Source, WorkerInfo, each, filter, flat_map, from_fn, fuse,
    map, source, try_each, try_map,
};
pub use outlet::{Closed, Outlet, TrySendError};
pub use outside::{Feed, Results};
pub use placement::{Place, Placement, PlainProcess, Process, Same, Thread};
pub use report::{NodeReport, Report, WorkerReport};
pub use worker::OnError;
