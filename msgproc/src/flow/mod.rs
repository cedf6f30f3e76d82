//! Work as a graph of nodes.

#[cfg(feature = "graph-files")]
pub mod file;
pub mod join;
