//! What a run has done.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    graph::Graph,
    layout::Layout,
    memory::Memory,
    plan::{RUNNING, STOPPING, Shared, lane, worker as words},
};

/// What a run has done, up to its end or up to now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How long it took, from the start of the first process on.
    pub elapsed: Duration,
    /// How it ended, if it has.
    pub ending: Ending,
    /// Items that lay in lanes between nodes when it ended, and that nobody has taken: after a stop
    /// at once, a failure, or where a node ended before its inputs did. Those that a node was at, or
    /// had gathered to send, are not among them. Before the end, those that are on their way. Behind
    /// workers that keep the order, an item of which nothing came counts for one too.
    pub left: u64,
    /// Its nodes, in the order in which they were added.
    pub nodes: Vec<NodeReport>,
    /// Its edges, as numbers of nodes: from, to.
    pub edges: Vec<(usize, usize)>,
    /// Blocks of its memory's pool that somebody holds: 0 at the end, unless the program does.
    pub blocks_in_use: usize,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Ending {
    /// It has not.
    #[default]
    Running,
    /// Its sources had no more, or its nodes took no more.
    Whole,
    /// The same, after its sources were told to end: [`Running::stop`](super::Running::stop).
    Drained,
    /// Everybody was stopped where they were: [`Running::stop_now`](super::Running::stop_now).
    Stopped,
    /// A node failed, or a process died.
    Failed,
}

impl Ending {
    /// How a run ended that has ended just now.
    pub(crate) fn of(layout: &Layout, shared: &Shared) -> Ending {
        let mut workers = 0..layout.workers.len();
        match shared.phase() {
            _ if shared.failed().is_some() => Ending::Failed,
            STOPPING if !workers.all(|number| shared.has_ended(number)) => Ending::Stopped,
            RUNNING => Ending::Whole,
            _ => Ending::Drained,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Ending::Running => "running",
            Ending::Whole => "ended",
            Ending::Drained => "stopped, and what was on its way finished",
            Ending::Stopped => "stopped at once",
            Ending::Failed => "failed",
        })
    }
}

/// What a node has done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub placement: String,
    /// Each of its workers.
    pub workers: Vec<WorkerReport>,
}

/// What a worker has done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Items it has taken.
    pub items_in: u64,
    /// Items it has sent.
    pub items_out: u64,
    /// How long it worked. What workers do in the same thread that it calls, or that go on while it
    /// waits, is their own time: so what all workers of a thread were busy, or waited for room, and
    /// how long the thread waited for items, is together no more than the run took.
    pub busy: Duration,
    /// How long its thread waited for items.
    pub waiting_for_input: Duration,
    /// How long it waited for room, while no other worker of its thread was at work.
    pub waiting_for_output: Duration,
    /// How often it handled an item again.
    pub retries: u64,
    /// How often its process was replaced before it had ended.
    pub restarts: u64,
    /// Items left out because the node failed over them.
    pub skipped: u64,
    /// Items left out because processes died over them.
    pub quarantined: u64,
    /// Items dropped because a newer one came before they were taken.
    pub dropped: u64,
    /// Items that the node has left out by itself: see [`Outlet::discard`](super::Outlet::discard).
    pub discarded: u64,
    /// Which of these came at which input: as many numbers as the node has inputs, none if it is a
    /// source. What is missing to all of them was of no input in particular.
    pub discarded_at: Vec<u64>,
    /// Bytes it has sent to other processes, and within its own if that is replaced when it dies.
    pub bytes: u64,
}

impl NodeReport {
    /// Items that its workers have taken.
    pub fn items_in(&self) -> u64 {
        self.workers.iter().map(|worker| worker.items_in).sum()
    }

    /// Items that its workers have sent.
    pub fn items_out(&self) -> u64 {
        self.workers.iter().map(|worker| worker.items_out).sum()
    }

    /// How long they worked, all together.
    pub fn busy(&self) -> Duration {
        self.workers.iter().map(|worker| worker.busy).sum()
    }
}

impl Report {
    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The graph as a picture for Graphviz, with these figures on it.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph flow {\n  rankdir = LR;\n  node [shape = box];\n");
        for (number, node) in self.nodes.iter().enumerate() {
            let lines: Vec<String> =
                self.lines(node).iter().map(|line| line.replace(['\\', '"'], "'")).collect();
            dot += &format!("  n{number} [label = \"{}\"];\n", lines.join("\\n"));
        }
        for (from, to) in &self.edges {
            dot += &format!("  n{from} -> n{to};\n");
        }
        dot + "}\n"
    }

    /// The graph as a picture for Mermaid, with these figures on it.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (number, node) in self.nodes.iter().enumerate() {
            let lines: Vec<String> =
                self.lines(node).iter().map(|line| line.replace('"', "#quot;")).collect();
            text += &format!("  n{number}[\"{}\"]\n", lines.join("<br/>"));
        }
        for (from, to) in &self.edges {
            text += &format!("  n{from} --> n{to}\n");
        }
        text
    }

    /// What stands on a node of a picture.
    fn lines(&self, node: &NodeReport) -> Vec<String> {
        let share = |time: Duration| {
            let whole = self.elapsed.as_secs_f64() * node.workers.len() as f64;
            if whole > 0.0 { 100.0 * time.as_secs_f64() / whole } else { 0.0 }
        };
        let sum = |of: fn(&WorkerReport) -> u64| node.workers.iter().map(of).sum::<u64>();
        let time = |of: fn(&WorkerReport) -> Duration| node.workers.iter().map(of).sum();
        let mut lines = vec![
            format!("{} ({} × {})", node.name, node.workers.len(), node.placement),
            format!("in {}, out {}", node.items_in(), node.items_out()),
            format!(
                "busy {:.0} %, waiting for input {:.0} %, for output {:.0} %",
                share(node.busy()),
                share(time(|worker| worker.waiting_for_input)),
                share(time(|worker| worker.waiting_for_output)),
            ),
        ];
        let (retries, restarts) = (sum(|w| w.retries), sum(|w| w.restarts));
        let lost = sum(|w| w.skipped + w.quarantined + w.dropped);
        if retries + restarts + lost > 0 {
            lines.push(format!("retries {retries}, restarts {restarts}, lost {lost}"));
        }
        let bytes = sum(|w| w.bytes);
        if bytes > 0 {
            lines.push(format!("{bytes} bytes to other processes"));
        }
        let mut discarded = Vec::new();
        for worker in &node.workers {
            discarded.resize(discarded.len().max(worker.discarded_at.len()), 0);
            discarded.iter_mut().zip(&worker.discarded_at).for_each(|(sum, items)| *sum += items);
        }
        lines.extend(said_by_input(sum(|w| w.discarded), &discarded));
        lines
    }

    pub(crate) fn read(
        graph: &Graph,
        layout: &Layout,
        shared: &Shared,
        memory: &Memory,
        elapsed: Duration,
        ending: Ending,
    ) -> Report {
        let discarded_at = |node: usize, index: usize| {
            let mut inputs: Vec<Option<u64>> = Vec::new();
            for (edge, plan) in graph.edges.iter().zip(&layout.edges) {
                if edge.to != node {
                    continue;
                }
                inputs.resize(inputs.len().max(edge.input + 1), None);
                // It is noted in the first edge of an input, in the lane of the first sender.
                let words = shared.lane(plan.first_lane + index) + lane::DISCARDED;
                inputs[edge.input].get_or_insert_with(|| shared.board().load(words));
            }
            inputs.into_iter().map(Option::unwrap_or_default).collect()
        };
        let worker = |node: usize, index: usize| {
            let number = layout.first_worker[node] + index;
            let word = |word| shared.of_worker(number, word);
            let time = |at| Duration::from_nanos(word(at));
            WorkerReport {
                items_in: word(words::ITEMS_IN),
                items_out: word(words::ITEMS_OUT),
                busy: time(words::BUSY),
                waiting_for_input: time(words::WAIT_IN),
                waiting_for_output: time(words::WAIT_OUT),
                retries: word(words::RETRIES),
                restarts: word(words::RESTARTS),
                skipped: word(words::SKIPPED),
                quarantined: word(words::QUARANTINED),
                dropped: word(words::DROPPED),
                discarded: word(words::DISCARDED),
                discarded_at: discarded_at(node, index),
                bytes: word(words::BYTES),
            }
        };
        let node = |(number, node): (usize, &super::graph::NodeEntry)| NodeReport {
            name: node.name.clone(),
            placement: match &node.places[..] {
                [] => node.placement.to_string(),
                places => places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            },
            workers: (0..node.workers).map(|index| worker(number, index)).collect(),
        };
        let in_lane = |lane: usize| {
            let word = |word| shared.board().load(shared.lane(lane) + word);
            // A circle that has come to rest is left with what was sent a second time in it.
            let is_known = word(lane::LAST) > 0 && word(lane::NEXT) >= word(lane::LAST);
            if is_known { 0 } else { word(lane::SENT).saturating_sub(word(lane::DONE)) }
        };
        Report {
            elapsed,
            ending,
            left: (0..layout.counts.lanes).map(in_lane).sum(),
            nodes: graph.nodes.iter().enumerate().map(node).collect(),
            edges: graph.edges.iter().map(|edge| (edge.from, edge.to)).collect(),
            blocks_in_use: memory.settled_pool().map_or(0, |pool| pool.in_use()),
        }
    }
}

/// How many items a node has left out, and of which input.
fn said_by_input(discarded: u64, at: &[u64]) -> Option<String> {
    if discarded == 0 {
        return None;
    }
    let inputs = at.iter().enumerate().filter(|(_, items)| **items > 0);
    let mut parts: Vec<_> =
        inputs.map(|(input, items)| format!("{items} at input {input}")).collect();
    let rest = discarded.saturating_sub(at.iter().sum());
    if rest > 0 || parts.is_empty() {
        parts.push(rest.to_string());
    }
    Some(format!("discarded {}", parts.join(", ")))
}

/// A line for each worker, and one more for those that have discarded items.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (elapsed, ending) = (self.elapsed.as_secs_f64(), self.ending);
        match self.left {
            0 => writeln!(f, "elapsed {elapsed:.3} s, {ending}")?,
            left => writeln!(f, "elapsed {elapsed:.3} s, {ending}; {left} items between nodes")?,
        }
        writeln!(
            f,
            "{:<20} {:>6} {:>12} {:>12} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>12}",
            "node",
            "worker",
            "in",
            "out",
            "busy s",
            "input s",
            "output s",
            "retry",
            "restart",
            "lost",
            "bytes"
        )?;
        for node in &self.nodes {
            for (index, worker) in node.workers.iter().enumerate() {
                let seconds = |time: Duration| time.as_secs_f64();
                writeln!(
                    f,
                    "{:<20} {:>6} {:>12} {:>12} {:>9.3} {:>9.3} {:>9.3} {:>7} {:>7} {:>7} {:>12}",
                    node.name,
                    index,
                    worker.items_in,
                    worker.items_out,
                    seconds(worker.busy),
                    seconds(worker.waiting_for_input),
                    seconds(worker.waiting_for_output),
                    worker.retries,
                    worker.restarts,
                    worker.skipped + worker.quarantined + worker.dropped + worker.discarded,
                    worker.bytes,
                )?;
                if let Some(line) = said_by_input(worker.discarded, &worker.discarded_at) {
                    writeln!(f, "{:<27} {line}", "")?;
                }
            }
        }
        write!(f, "blocks in use {}", self.blocks_in_use)
    }
}
