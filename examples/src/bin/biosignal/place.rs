//! Where the nodes of a graph compute.

use clap::ValueEnum;
use msgproc::flow::file::{GraphFile, Location};

use crate::steps::VITALS;

/// Places for all nodes of a graph at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// All in the thread that runs the graph
    Same,
    /// Each in a thread of this program
    Threads,
    /// Each in a process
    Processes,
    /// In turn in a process, in a thread of it, in a thread of this program, and in its main one
    Mixed,
}

impl Place {
    /// Puts all nodes there, but what takes the results, which stays in this program.
    pub(crate) fn put(self, file: &mut GraphFile) {
        let mut number = 0;
        for node in &mut file.nodes {
            if node.class == VITALS {
                node.compute_on.clear();
                continue;
            }
            let workers = node.worker_count();
            let location = |_| {
                number += 1;
                self.location(number)
            };
            node.compute_on = match self {
                Place::Same => Vec::new(),
                _ => (0..workers).map(location).collect(),
            };
        }
    }

    fn location(self, number: usize) -> Location {
        let text = match (self, number % 4) {
            (Place::Same, _) => String::new(),
            (Place::Threads, _) => format!("{number}"),
            (Place::Processes, _) => format!("{number}:"),
            (Place::Mixed, 1) => "1:".into(),
            (Place::Mixed, 2) => "1:2".into(),
            (Place::Mixed, 3) => "3".into(),
            (Place::Mixed, _) => String::new(),
        };
        text.parse().expect("numbers and one colon are a location")
    }
}
