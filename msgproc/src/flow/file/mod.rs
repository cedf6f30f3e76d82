//! Graphs in files, as YAML or JSON.
//!
//! ```yaml
//! nodes:
//!   camera:
//!     class: Camera
//!     settings: {device: /dev/video0, fps: 30}
//!   analyzer:
//!     class: Analyzer
//!     compute_on: ["1:", "2:"]     # two workers, each in a process
//!     ordered: true
//!     on_error: retry 2
//!   view:
//!     class: View
//!     compute_on: "1"              # a thread
//! connections:
//!   - camera -> analyzer
//!   - analyzer.result -> view.result
//!   - camera [Camera] -> view.picture (latest)
//! ```
//!
//! [`GraphFile`] is what stands in it; [`GraphFile::check`] holds it against the node types of the
//! program and says how the ports are wired. All that is wrong with a file is told at once, with
//! lines, nodes and the name that was probably meant. JSON has the same keys.
//!
//! A [`Registry`] knows the node types of the program, and runs a file: see there.
//!
//! # Keys of a node
//!
//! | key | is | without it |
//! |---|---|---|
//! | `class` | the name of its type | an error |
//! | `settings` | what the type takes; see [`Node::parse_settings`] | none |
//! | `compute_on` | a [`Location`], or a list with one for each worker | where the graph runs |
//! | `workers` | how many do its work; with one location they share its thread | one for each location |
//! | `ordered` | whether the results of several workers keep the order | no |
//! | `on_error` | an [`OnError`] | `fail` |
//!
//! `nodes` may also be a list whose nodes have a `name`. A connection is a text (see
//! [`Connection`]), or a mapping with `from`, `to` and, if need be, `capacity`, `bytes`, `latest`,
//! `sticky`, `feedback` and `credits`; its ends are texts, or mappings with `node`, `class` and `port`.
//!
//! # Graphs of LiveNodes
//!
//! Files that LiveNodes has written are read as they are, in its three forms: `Nodes` and
//! `Inputs`; nodes with `Config` and `Inputs`; nodes with `class`, `settings` and `inputs`. They
//! are written in the form above.

mod anything;
mod check;
mod classes;
mod connection;
mod cycle;
mod graph;
mod joins;
mod json;
mod livenodes;
mod loaded;
mod location;
mod made;
mod nearest;
mod policy;
mod problem;
mod read;
mod registry;
mod settings;
mod value;
mod write;
mod yaml;

#[doc(hidden)]
pub use anything::read_check_write;
pub use check::{Port, Wire, Wiring};
pub use classes::{ClassInfo, Classes, PortInfo};
pub use connection::{Connection, ConnectionError, Endpoint};
pub use graph::{GraphFile, Node};
pub use loaded::Loaded;
pub use location::{Location, LocationError};
pub use policy::{OnError, OnErrorError};
pub use problem::{Error, Problem, ProblemKind, Problems};
pub use registry::{Making, Registry};
pub use settings::SettingsError;
pub use value::{Kind, Map, Value};

#[cfg(test)]
mod tests;
