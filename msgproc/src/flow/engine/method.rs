//! Which process of a run is started how.

use shmring::os;

use super::{plan::Plan, station::Station, travel::Ticket};
use crate::{
    ForkServer, MessageProcess, Options,
    flow::{
        error::{Error, Result},
        graph::Graph,
        layout::Layout,
        start_method::StartMethod,
    },
};

/// How one process is.
pub(super) enum Method<'a> {
    Fork,
    Travel(Option<&'a ForkServer>),
}

/// Refuses nodes in one process that are to be started in different ways.
pub(super) fn check_methods(graph: &Graph, layout: &Layout) -> Result<()> {
    for process in 1..layout.processes {
        let nodes = layout.workers_of(process).map(|(_, worker)| &graph.nodes[worker.node]);
        let mut said = nodes.filter_map(|node| Some((node, node.start_method.as_ref()?)));
        let Some((first, method)) = said.next() else { continue };
        if let Some((other, its)) = said.find(|(_, its)| !its.is_same(method)) {
            return Err(Error::graph(format!(
                "nodes {:?} and {:?} are in one process, and it is to be started as {method:?} and as {its:?}",
                first.name, other.name
            )));
        }
    }
    Ok(())
}

impl Plan {
    fn said(&self, process: usize) -> &StartMethod {
        let mut workers = self.layout.workers_of(process);
        let of_node =
            workers.find_map(|(_, worker)| self.graph.nodes[worker.node].start_method.as_ref());
        of_node.unwrap_or(&self.graph.start_method)
    }

    pub(super) fn method(&self, process: usize) -> Method<'_> {
        match self.said(process) {
            StartMethod::Fork => Method::Fork,
            StartMethod::ForkServer(server) => Method::Travel(Some(server)),
            StartMethod::Spawn => Method::Travel(None),
            StartMethod::Auto if self.forks => Method::Fork,
            StartMethod::Auto => Method::Travel(None),
        }
    }

    /// Starts a process that is no fork of the program.
    pub(super) fn travel(
        &self,
        options: Options<Station>,
        server: Option<&ForkServer>,
        process: usize,
    ) -> crate::Result<MessageProcess<Station>> {
        let travel = self.graph.travel().ok_or_else(|| {
            crate::Error::other(
                "a process that is no fork has to make the graph itself: make it by `Graph::travelling`",
            )
        })?;
        travel.start(options, server, Ticket::new(self, process))
    }
}

pub(super) fn has_one_thread() -> bool {
    os::thread_count().is_ok_and(|threads| threads == 1)
}
