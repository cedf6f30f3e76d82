//! Work as a graph of nodes, in threads and processes.
//!
//! README.md in this folder says who owns an item at each moment, how the end of a stream travels,
//! and what happens when something fails or dies.

mod accelerator;
mod all_to_all;
mod circle;
mod edge;
mod engine;
mod error;
mod farm;
#[cfg(feature = "graph-files")]
pub mod file;
mod graph;
pub mod join;
mod layout;
mod memory;
mod node;
mod outlet;
mod outside;
pub mod par;
mod part;
mod pipeline;
mod placement;
mod plan;
mod report;
pub mod stage;
mod trace;
mod worker;
mod workers;

pub use accelerator::Accelerator;
pub use all_to_all::AllToAll;
pub use edge::Wire;
pub use engine::Running;
pub use error::{Error, Failure, FailureKind, Result};
pub use farm::{Farm, Scheduling};
pub use graph::{EdgeBuilder, Graph, Input, NodeBuilder, NodeRef, Output};
pub use memory::Memory;
pub use node::{
    Cause, Flow, FnNode, Fused, Node, Source, WorkerInfo, each, filter, flat_map, from_fn, fuse,
    map, source, try_each, try_map,
};
pub use outlet::{Closed, Outlet, TrySendError};
pub use outside::{Feed, Results};
pub use part::{Around, Chain, Ends, Part, WrapAround};
pub use pipeline::{Added, Both, MakeNode, MakeSource, Pending, Pipeline, Tail, Then};
pub use placement::{Place, Placement, PlainProcess, Process, Same, Thread};
pub use report::{NodeReport, Report, WorkerReport};
pub use worker::OnError;
pub use workers::Workers;
