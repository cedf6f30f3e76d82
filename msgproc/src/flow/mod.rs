//! Work as a graph of nodes, in threads and processes.
//!
//! | to | use |
//! |---|---|
//! | chain steps, some of them with many workers | [`Pipeline`], with [`Farm`] and [`AllToAll`] in it |
//! | give work to workers while the program goes on, and take results | [`Accelerator`], from either |
//! | send an iterator or a stream through closures in processes, threads and tasks | [`stage`] |
//! | share the rows of an array among workers, in place | [`par`] |
//! | connect nodes in any other way, with several inputs and outputs | [`Graph`] |
//! | read such a graph from a file | `file` (feature `graph-files`) |
//! | await a future for each item | `map_async` and its like, at `Task` or anywhere (feature `tokio`) |
//! | bring several inputs together | [`join`] |
//!
//! All of them make a [`Graph`], and one engine runs it:
//!
//! ```
//! use msgproc::flow::{Graph, Same, Thread, each, map};
//!
//! let mut graph = Graph::new();
//! let words = graph.source("words", Thread, ["one", "two", "three"]);
//! let lengths = graph.node("lengths", Thread, |_| map(str::len)).workers(2).ordered(true).add();
//! let print = graph.node("print", Same, |_| each(|len: usize| println!("{len}"))).add();
//! graph.connect(words.output(), lengths.input());
//! graph.connect(lengths.output(), print.input());
//! println!("{}", graph.run()?);
//! # Ok::<(), msgproc::flow::Error>(())
//! ```
//!
//! With [`Process`] in place of [`Thread`] the same nodes run in processes of their own; their items
//! then have to be `Serialize` and `Deserialize`, or plain data ([`PlainProcess`]), and blocks in
//! them travel by handle ([`Memory`]). Processes are forked, before the run's threads begin: all that
//! closures capture is there. A program that has threads of its own, as one with a runtime of
//! tokio's, must not fork; there the graph is made by [`Graph::travelling`], and stages by
//! [`through`](stage::Stages::through), and processes are spawned or come from a
//! [`ForkServer`](crate::ForkServer) ([`StartMethod`]).
//!
//! What holds for all: edges are bounded, and whoever is slow holds back the source. The first
//! error ends the run and is what it gives ([`Error::Failed`]), unless the node's [`OnError`] says
//! otherwise; then also a process that is killed is replaced, and what it had is handled again.
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
mod pump;
mod report;
mod source;
pub mod stage;
mod start_method;
#[cfg(feature = "tokio")]
mod tasks;
mod trace;
mod worker;
mod workers;

pub use accelerator::Accelerator;
pub use all_to_all::AllToAll;
pub use edge::Wire;
pub use engine::{Made, Running};
pub use error::{Death, Error, Failure, FailureKind, Result};
pub use farm::{Farm, Scheduling};
pub use graph::{EdgeBuilder, Graph, Input, NodeBuilder, NodeRef, Output};
pub use memory::Memory;
pub use node::{
    Cause, Flow, FnNode, Fused, Node, WorkerInfo, each, filter, flat_map, from_fn, fuse, map,
    try_each, try_map,
};
pub use outlet::{Closed, Outlet, TrySendError};
pub use outside::{Feed, Results};
pub use part::{Around, Chain, Ends, Part, WrapAround};
pub use pipeline::{Added, Both, MakeNode, MakeSource, Pending, Pipeline, Tail, Then};
#[cfg(feature = "tokio")]
pub use placement::Task;
pub use placement::{Place, Placement, PlainProcess, Process, Same, Thread};
pub use report::{Ending, NodeReport, Report, WorkerReport};
pub use source::{Source, source};
pub use start_method::StartMethod;
#[cfg(feature = "tokio")]
pub use tasks::{
    each_async, filter_async, flat_map_async, map_async, try_each_async, try_map_async,
};
pub use worker::OnError;
pub use workers::Workers;
