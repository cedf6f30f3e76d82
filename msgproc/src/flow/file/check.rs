//! Holds a graph against the classes of the program.

use std::collections::HashMap;
use std::fs;

use super::cycle::{self, Ways};
use super::nearest::nearest;
use super::problem::{Problem, ProblemKind};
use super::{ClassInfo, Classes, Connection, Endpoint, GraphFile, PortInfo};

/// Behind so many problems nobody reads what was probably meant.
const HINTED: usize = 100;

/// How the ports of a [`GraphFile`] that was checked are wired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// What its connections mean, one for each, in their order.
    pub wires: Vec<Wire>,
    /// All nodes by their places in the file, each behind those that feed it, but for feedback.
    pub order: Vec<usize>,
}

/// What a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The output.
    pub from: Port,
    /// The input.
    pub to: Port,
}

/// A port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The place of the node in the file.
    pub node: usize,
    /// The place of the port among the inputs, or the outputs, of its class.
    pub port: usize,
}

/// Appends what is wrong; the wiring is of use if that is nothing. With it comes to which input each
/// connection leads, where that is clear.
pub(super) fn check(
    graph: &GraphFile,
    classes: &dyn Classes,
    problems: &mut Vec<Problem>,
) -> (Wiring, Vec<Option<Port>>) {
    let mut check = Check { graph, classes: Vec::new(), places: HashMap::new(), problems };
    check.nodes(classes);
    check.hosts();
    let (wires, inputs) = check.connections();
    let order = check.cycles();
    if check.problems.is_empty() {
        check.orders(&wires);
    }
    (Wiring { wires, order }, inputs)
}

struct Check<'a> {
    graph: &'a GraphFile,
    /// What is known of the class of each node.
    classes: Vec<Option<ClassInfo>>,
    places: HashMap<&'a str, usize>,
    problems: &'a mut Vec<Problem>,
}

/// Which end of a connection is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }

    fn usual(self) -> &'static str {
        match self {
            Side::Input => "in",
            Side::Output => "out",
        }
    }

    fn ports(self, class: &ClassInfo) -> &[PortInfo] {
        match self {
            Side::Input => &class.inputs,
            Side::Output => &class.outputs,
        }
    }
}

impl<'a> Check<'a> {
    fn report(&mut self, line: Option<u32>, kind: ProblemKind) {
        self.problems.push(Problem::at(line, kind));
    }

    /// What was probably meant by a name that is not known.
    fn nearest<'n>(&self, name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
        let hints = self.problems.len() < HINTED;
        hints.then(|| nearest(name, known).map(str::to_owned)).flatten()
    }

    fn nodes(&mut self, classes: &dyn Classes) {
        let graph = self.graph;
        // What was wrong when it was read may be why there are none.
        if graph.nodes.is_empty() && self.problems.is_empty() {
            self.report(None, ProblemKind::NoNodes);
        }
        for (place, node) in graph.nodes.iter().enumerate() {
            match self.places.get(node.name.as_str()) {
                Some(&first) => {
                    let (name, first) = (node.name.clone(), graph.nodes[first].line);
                    self.report(node.line, ProblemKind::TwoNodes { name, first });
                }
                None => drop(self.places.insert(&node.name, place)),
            }
            if node.name.contains('\0') {
                let what = format!("node {:?}", node.name);
                let reason = "threads and processes cannot be called that".to_owned();
                self.report(node.line, ProblemKind::Unreadable { what, reason });
            }
            let known = classes.class(&node.class);
            // That it has none was said when it was read.
            if known.is_none() && !(node.class.is_empty() && node.line.is_some()) {
                let names = classes.names();
                let nearest = self.nearest(&node.class, names.iter().map(String::as_str));
                let (node_name, class) = (node.name.clone(), node.class.clone());
                self.report(
                    node.line,
                    ProblemKind::UnknownClass { node: node_name, class, nearest },
                );
            }
            self.classes.push(known);
            let places = node.compute_on.len();
            if let Some(workers) = node.workers.map(usize::from)
                && places > 1
                && workers != places
            {
                let node_name = node.name.clone();
                self.report(node.line, ProblemKind::Places { node: node_name, workers, places });
            }
        }
    }

    fn hosts(&mut self) {
        let graph = self.graph;
        let this_host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let this_host = this_host.trim();
        for node in &graph.nodes {
            for location in node.compute_on.iter().filter(|location| !location.is_on(this_host)) {
                self.report(
                    node.line,
                    ProblemKind::UnknownHost {
                        node: node.name.clone(),
                        host: location.host().unwrap_or_default().to_owned(),
                        this_host: this_host.to_owned(),
                    },
                );
            }
        }
    }

    /// Whether the order can be kept where it is to be; there are no other problems, so each
    /// connection has its wire.
    fn orders(&mut self, wires: &[Wire]) {
        let graph = self.graph;
        let workers = |node: usize| {
            let node = &graph.nodes[node];
            node.workers.map_or(node.compute_on.len(), usize::from)
        };
        let loses = |node: usize| workers(node) > 1 && !graph.nodes[node].ordered;
        for (place, node) in graph.nodes.iter().enumerate() {
            if !node.ordered || workers(place) < 2 {
                continue;
            }
            let lines = || wires.iter().zip(&graph.connections);
            let mut inward = lines().filter(|(wire, _)| wire.to.node == place);
            let mut outward = lines().filter(|(wire, _)| wire.from.node == place);
            let before = |wire: &Wire| graph.nodes[wire.from.node].name.clone();
            let reason = match (inward.next(), inward.next()) {
                (None, _) => Some("a source has one worker".to_owned()),
                (Some(_), Some(_)) => Some("several connections lead to it".to_owned()),
                (Some((wire, connection)), None) if loses(wire.from.node) => Some(format!(
                    "what connection {} brings comes from the workers of {:?}, which do not keep it",
                    connection.ends(),
                    before(wire)
                )),
                (Some((_, connection)), None) => connection.latest.then(|| {
                    format!("connection {} holds only the newest item", connection.ends())
                }),
            };
            let reason = reason.or_else(|| {
                outward.find_map(|(wire, connection)| {
                    let (to, ends) = (wire.to.node, connection.ends());
                    if loses(to) {
                        let name = &graph.nodes[to].name;
                        Some(format!(
                            "the workers of {name:?} behind it do not: let them be ordered too"
                        ))
                    } else if connection.latest && workers(to) > 1 {
                        Some(format!("connection {ends} holds only the newest item"))
                    } else {
                        None
                    }
                })
            });
            if let Some(reason) = reason {
                let node_name = node.name.clone();
                self.report(node.line, ProblemKind::CannotKeepOrder { node: node_name, reason });
            }
        }
    }

    fn connections(&mut self) -> (Vec<Wire>, Vec<Option<Port>>) {
        let graph = self.graph;
        let (mut wires, mut inputs) = (Vec::new(), Vec::new());
        let mut taken = HashMap::new();
        // An input may be the one that a connection with an error is meant for.
        let mut unclear = vec![false; graph.nodes.len()];
        for connection in &graph.connections {
            if connection.latest && connection.capacity.is_some() {
                let connection_name = connection.ends();
                let kind = ProblemKind::CapacityOfLatest { connection: connection_name };
                self.report(connection.line, kind);
            }
            if connection.credits.is_some() && !connection.feedback {
                let kind = ProblemKind::CreditsWithoutFeedback { connection: connection.ends() };
                self.report(connection.line, kind);
            }
            let from = self.port(connection, &connection.from, Side::Output);
            let to = self.port(connection, &connection.to, Side::Input);
            inputs.push(to);
            let Some(to) = to else {
                if let Some(&node) = self.places.get(connection.to.node.as_str()) {
                    unclear[node] = true;
                }
                continue;
            };
            if let Some(first) = taken.insert(to, connection.line) {
                let kind = ProblemKind::TwoIntoOne {
                    connection: connection.ends(),
                    node: connection.to.node.clone(),
                    port: self.info(to, Side::Input).name.clone(),
                    first,
                };
                self.report(connection.line, kind);
            }
            if let Some(from) = from {
                self.items(connection, from, to);
                wires.push(Wire { from, to });
            }
        }
        self.unconnected(|port| taken.contains_key(&port) || unclear[port.node]);
        (wires, inputs)
    }

    /// The port that an end means.
    fn port(&mut self, connection: &Connection, end: &Endpoint, side: Side) -> Option<Port> {
        let graph = self.graph;
        let line = connection.line;
        let Some(&node) = self.places.get(end.node.as_str()) else {
            let names = graph.nodes.iter().map(|node| node.name.as_str());
            let nearest = self.nearest(&end.node, names);
            let (connection, node) = (connection.ends(), end.node.clone());
            self.report(line, ProblemKind::UnknownNode { connection, node, nearest });
            return None;
        };
        let class = &graph.nodes[node].class;
        if let Some(said) = end.class.as_ref().filter(|said| *said != class) {
            let (class, said) = (class.clone(), said.clone());
            let (connection, node) = (connection.ends(), end.node.clone());
            self.report(line, ProblemKind::OtherClass { connection, node, class, said });
        }
        let ports = side.ports(self.classes[node].as_ref()?);
        let place = |name: &str| ports.iter().position(|port| port.name == name);
        let found = match &end.port {
            Some(name) => place(name),
            None if ports.len() == 1 => Some(0),
            None => place(side.usual()),
        };
        if let Some(port) = found {
            return Some(Port { node, port });
        }
        let known: Vec<_> = ports.iter().map(|port| port.name.clone()).collect();
        let (connection, node, side) = (connection.ends(), end.node.clone(), side.name());
        let kind = match &end.port {
            Some(port) => {
                let nearest = self.nearest(port, known.iter().map(String::as_str));
                let port = port.clone();
                ProblemKind::UnknownPort { connection, node, side, port, nearest, known }
            }
            None => ProblemKind::WhichPort { connection, node, side, known },
        };
        self.report(line, kind);
        None
    }

    fn info(&self, port: Port, side: Side) -> &PortInfo {
        let class = self.classes[port.node].as_ref().expect("ports are those of known classes");
        &side.ports(class)[port.port]
    }

    fn items(&mut self, connection: &Connection, from: Port, to: Port) {
        let gives = self.info(from, Side::Output).items.clone();
        let takes = self.info(to, Side::Input).items.clone();
        if let (Some(gives), Some(takes)) = (gives, takes)
            && gives != takes
        {
            let kind = ProblemKind::Types { connection: connection.ends(), gives, takes };
            self.report(connection.line, kind);
        }
    }

    fn unconnected(&mut self, is_taken: impl Fn(Port) -> bool) {
        let graph = self.graph;
        let mut missing = Vec::new();
        for (node, class) in self.classes.iter().enumerate() {
            let inputs = class.iter().flat_map(|class| &class.inputs).enumerate();
            for (port, input) in inputs.filter(|(_, input)| input.required) {
                if !is_taken(Port { node, port }) {
                    missing.push((node, input.name.clone()));
                }
            }
        }
        for (node, port) in missing {
            let node = &graph.nodes[node];
            let kind = ProblemKind::Unconnected { node: node.name.clone(), port };
            self.report(node.line, kind);
        }
    }

    /// The nodes in their order, of which a cycle has none. Unknown ports do not matter here.
    fn cycles(&mut self) -> Vec<usize> {
        let graph = self.graph;
        let place = |end: &Endpoint| self.places.get(end.node.as_str()).copied();
        let edge = |one: &Connection| Some((place(&one.from)?, place(&one.to)?));
        let forward = graph.connections.iter().filter(|connection| !connection.feedback);
        let edges: Vec<_> =
            forward.filter_map(|one| edge(one).map(|edge| (edge, one.line))).collect();
        let ends: Vec<_> = edges.iter().map(|&(edge, _)| edge).collect();
        match cycle::order(graph.nodes.len(), &ends) {
            Ok(order) => {
                self.feedback(&ends);
                order
            }
            Err(nodes) => {
                // Its last connection in the file is most likely the one that leads back.
                let within =
                    |(from, to): (usize, usize)| nodes.contains(&from) && nodes.contains(&to);
                let line = edges.iter().filter(|(edge, _)| within(*edge)).filter_map(|one| one.1);
                let line = line.max();
                let nodes = nodes.iter().map(|&node| graph.nodes[node].name.clone()).collect();
                self.report(line, ProblemKind::Cycle { nodes });
                Vec::new()
            }
        }
    }

    /// Whether what leads back does, given all that leads forward.
    fn feedback(&mut self, forward: &[(usize, usize)]) {
        let graph = self.graph;
        let place = |end: &Endpoint| self.places.get(end.node.as_str()).copied();
        let known = |one: &'a Connection| Some((one, (place(&one.from)?, place(&one.to)?)));
        let all: Vec<_> = graph.connections.iter().filter_map(known).collect();
        let mut problems = Vec::new();
        let ways = Ways::new(graph.nodes.len(), forward);
        // For each node of a cycle the one that the cycle begins with.
        let mut heads: Vec<Option<usize>> = vec![None; graph.nodes.len()];
        for &(connection, (from, to)) in all.iter().filter(|(one, _)| one.feedback) {
            let nodes = ways.between((to, from));
            let ends = connection.ends();
            if nodes.is_empty() {
                let (from, to) = (connection.from.node.clone(), connection.to.node.clone());
                let kind = ProblemKind::NotBack { connection: ends, from, to };
                problems.push((connection.line, kind));
                continue;
            }
            let shared = nodes
                .iter()
                .find_map(|&node| Some((heads[node].filter(|head| *head != to)?, node)));
            if let Some((first, node)) = shared {
                let [node, first] = [node, first].map(|node| graph.nodes[node].name.clone());
                let kind = ProblemKind::TwoHeads { connection: ends, node, first };
                problems.push((connection.line, kind));
            }
            if !ways.lead_to(to) && heads[to] != Some(to) {
                let node = graph.nodes[to].name.clone();
                problems.push((connection.line, ProblemKind::OnlyBack { node }));
            }
            nodes.into_iter().for_each(|node| _ = heads[node].get_or_insert(to));
        }
        for (connection, (from, to)) in all.iter().filter(|(one, _)| one.latest) {
            if heads[*from].is_some() && heads[*from] == heads[*to] {
                let kind = ProblemKind::LatestInCycle { connection: connection.ends() };
                problems.push((connection.line, kind));
            }
        }
        problems.into_iter().for_each(|(line, kind)| self.report(line, kind));
    }
}
