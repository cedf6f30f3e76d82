//! How the processes of a run are started.

use std::mem;

use crate::ForkServer;

/// How the processes of a run are started: for [`Graph::start_method`](crate::flow::Graph::start_method)
/// and [`NodeBuilder::start_method`](crate::flow::NodeBuilder::start_method).
///
/// | method | its processes | asks for |
/// |---|---|---|
/// | `Fork` | copies of the program: they have all it has in memory | a program of one thread |
/// | `ForkServer` | forks of a small process that has what it preloaded | [`Graph::travelling`](crate::flow::Graph::travelling) |
/// | `Spawn` | the program executed anew | the same |
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// Fork while the program has one thread; else spawn, if the graph is made by
    /// [`Graph::travelling`](crate::flow::Graph::travelling).
    #[default]
    Auto,
    /// Forks of the program.
    Fork,
    /// Forks of this server.
    ForkServer(ForkServer),
    /// The program, executed anew.
    Spawn,
}

impl StartMethod {
    pub(crate) fn is_same(&self, other: &StartMethod) -> bool {
        match (self, other) {
            (StartMethod::ForkServer(server), StartMethod::ForkServer(other)) => {
                server.pid() == other.pid()
            }
            _ => mem::discriminant(self) == mem::discriminant(other),
        }
    }
}
