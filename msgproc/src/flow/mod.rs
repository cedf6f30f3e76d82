//! Work as a graph of nodes.

pub mod join;
