//! Makes a graph of the values of a file.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use super::nearest::nearest;
use super::problem::{Problem, ProblemKind};
use super::value::{Key, Kind, Map, Value};
use super::yaml::Parsed;
use super::{Connection, Endpoint, GraphFile, Location, Node, livenodes};

const NODE: [&str; 6] = ["class", "settings", "compute_on", "workers", "ordered", "on_error"];
const CONNECTION: [&str; 8] =
    ["from", "to", "capacity", "bytes", "latest", "sticky", "feedback", "credits"];

/// The graph as far as it can be made out, and what is wrong.
pub(super) fn graph((value, problems): Parsed) -> (GraphFile, Vec<Problem>) {
    let mut reader = Reader { problems };
    let Some(value) = value else {
        if reader.problems.is_empty() {
            reader.problems.push(Problem::syntax(1, "the file is empty: it has no \"nodes\""));
        }
        return (GraphFile::default(), reader.problems);
    };
    let graph = match reader.map("the file", value) {
        Some(root) if livenodes::is_one(&root) => livenodes::graph(root, &mut reader),
        Some(root) => reader.graph(root),
        None => GraphFile::default(),
    };
    (graph, reader.problems)
}

pub(super) const A_NODE: &str = "the name of a node";

/// How long names of nodes and classes may be, in bytes: they are said again with each problem.
pub(super) const LONGEST_NAME: usize = 255;

pub(super) struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn graph(&mut self, mut root: Map) -> GraphFile {
        let mut graph = GraphFile::default();
        match root.remove("nodes") {
            Some(nodes) => graph.nodes = self.nodes(nodes),
            None => self.report(
                Some(1),
                ProblemKind::Missing { what: "the file".to_owned(), key: "nodes" },
            ),
        }
        if let Some(connections) = root.remove("connections") {
            graph.connections = self.connections("connections", connections, &graph.nodes);
        }
        self.nothing_left("the file", root, &["nodes", "connections"]);
        graph
    }

    fn nodes(&mut self, value: Value) -> Vec<Node> {
        match value.as_list() {
            Some(list) => list.iter().filter_map(|value| self.listed(value.clone())).collect(),
            None => self
                .map("\"nodes\"", value)
                .unwrap_or_default()
                .into_entries()
                .into_iter()
                .filter_map(|(key, value)| self.node(key, value))
                .collect(),
        }
    }

    /// A node in a list, which has its name in it.
    fn listed(&mut self, value: Value) -> Option<Node> {
        let line = value.line();
        let mut map = self.map("a node", value)?;
        let Some((_, name)) = map.take("name") else {
            let what = "a node in a list".to_owned();
            self.report(line, ProblemKind::Missing { what, key: "name" });
            return None;
        };
        let name = self.text(A_NODE, name)?;
        let value = Value::from(map);
        self.node(Key { name, line }, value)
    }

    /// Whether a node or class may be called that.
    pub(super) fn is_short(&mut self, what: &str, name: &str, line: Option<u32>) -> bool {
        let is_short = name.len() <= LONGEST_NAME;
        if !is_short {
            let len = name.len();
            let reason = format!("it has {len} bytes, and can have {LONGEST_NAME}");
            self.unreadable(line, what, reason);
        }
        is_short
    }

    fn node(&mut self, key: Key, value: Value) -> Option<Node> {
        if !self.is_short(A_NODE, &key.name, key.line) {
            return None;
        }
        let what = format!("node {:?}", key.name);
        let mut map = self.map(&what, value)?;
        let mut node = Node::new(key.name, "");
        node.line = key.line;
        match map.remove("class") {
            Some(class) if class.as_text() != Some("") => {
                let (what, line) = (of("class", &what), class.line());
                let class = self.text(&what, class).unwrap_or_default();
                if !self.is_short(&what, &class, line) {
                    return None;
                }
                node.class = class;
            }
            _ => {
                let what = what.clone();
                self.report(key.line, ProblemKind::Missing { what, key: "class" });
            }
        }
        if let Some(settings) = map.remove("settings") {
            node.settings = self.map(&of("settings", &what), settings).unwrap_or_default();
        }
        if let Some(places) = map.remove("compute_on") {
            node.compute_on = self.locations(&of("compute_on", &what), places);
        }
        if let Some(workers) = map.remove("workers") {
            node.workers = self.count(&of("workers", &what), workers);
        }
        if let Some(ordered) = map.remove("ordered") {
            node.ordered = self.flag(&of("ordered", &what), ordered);
        }
        if let Some(policy) = map.remove("on_error") {
            let what = of("on_error", &what);
            node.on_error = self.parsed(&what, policy).unwrap_or_default();
        }
        self.nothing_left(&what, map, &NODE);
        Some(node)
    }

    pub(super) fn locations(&mut self, what: &str, value: Value) -> Vec<Location> {
        match value.kind() {
            Kind::List(list) if list.is_empty() => {
                self.unfit(what, "a location or a list of them", &value);
                Vec::new()
            }
            Kind::List(list) => {
                list.iter().filter_map(|value| self.location(what, value.clone())).collect()
            }
            Kind::Null => Vec::new(),
            _ => self.location(what, value).into_iter().collect(),
        }
    }

    /// A text, or a number, which is a thread.
    fn location(&mut self, what: &str, value: Value) -> Option<Location> {
        match value.kind() {
            Kind::Integer(thread) => self.parsed(what, thread.to_string().into()),
            _ => self.parsed(what, value),
        }
    }

    pub(super) fn connections(
        &mut self,
        what: &str,
        value: Value,
        nodes: &[Node],
    ) -> Vec<Connection> {
        let names: HashSet<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        let is_node = |name: &str| names.contains(name);
        match value.kind() {
            Kind::List(list) => {
                list.iter().filter_map(|value| self.connection(value.clone(), &is_node)).collect()
            }
            Kind::Null => Vec::new(),
            _ => {
                self.unfit(what, "a list", &value);
                Vec::new()
            }
        }
    }

    fn connection(&mut self, value: Value, is_node: &dyn Fn(&str) -> bool) -> Option<Connection> {
        let line = value.line();
        if let Some(text) = value.as_text() {
            return match Connection::read(text, is_node) {
                Ok(connection) => Some(Connection { line, ..connection }),
                Err(error) => {
                    self.unreadable(line, "connection", error.to_string());
                    None
                }
            };
        }
        let what = "a connection";
        let mut map = self.map(what, value)?;
        let mut end = |key| match map.remove(key) {
            Some(value) => self.endpoint(&of(key, what), value, is_node),
            None => {
                self.report(line, ProblemKind::Missing { what: what.to_owned(), key });
                None
            }
        };
        let (from, to) = (end("from"), end("to"));
        let mut flag = |key| map.remove(key).is_some_and(|value| self.flag(&of(key, what), value));
        let (latest, sticky, feedback) = (flag("latest"), flag("sticky"), flag("feedback"));
        let mut count = |key| {
            let value = map.remove(key)?;
            self.count(&of(key, what), value)
        };
        let (capacity, bytes, credits) = (count("capacity"), count("bytes"), count("credits"));
        self.nothing_left(what, map, &CONNECTION);
        let (from, to) = (from?, to?);
        Some(Connection { from, to, capacity, bytes, latest, sticky, feedback, credits, line })
    }

    fn endpoint(
        &mut self,
        what: &str,
        value: Value,
        is_node: &dyn Fn(&str) -> bool,
    ) -> Option<Endpoint> {
        let line = value.line();
        if let Some(text) = value.as_text() {
            let end = Endpoint::read(text, is_node);
            if end.is_none() {
                self.unreadable(line, what, "a node is missing".to_owned());
            }
            return end;
        }
        let mut map = self.map(what, value)?;
        let node = map.remove("node");
        if node.is_none() {
            self.report(line, ProblemKind::Missing { what: what.to_owned(), key: "node" });
        }
        let node = node.and_then(|value| self.text(&of("node", what), value));
        let mut text = |key| map.remove(key).and_then(|value| self.text(&of(key, what), value));
        let (class, port) = (text("class"), text("port"));
        self.nothing_left(what, map, &["node", "class", "port"]);
        Some(Endpoint { node: node?, class, port })
    }

    pub(super) fn map(&mut self, what: &str, value: Value) -> Option<Map> {
        if matches!(value.kind(), Kind::Null) {
            return Some(Map::default());
        }
        value.into_map().map_err(|value| self.unfit(what, "a mapping", &value)).ok()
    }

    pub(super) fn text(&mut self, what: &str, value: Value) -> Option<String> {
        if value.as_text().is_none() {
            self.unfit(what, "a text", &value);
        }
        value.as_text().map(str::to_owned)
    }

    fn parsed<T: std::str::FromStr<Err: ToString>>(
        &mut self,
        what: &str,
        value: Value,
    ) -> Option<T> {
        let line = value.line();
        let text = self.text(what, value)?;
        text.parse().map_err(|error: T::Err| self.unreadable(line, what, error.to_string())).ok()
    }

    fn count(&mut self, what: &str, value: Value) -> Option<NonZeroUsize> {
        let count = match value.kind() {
            Kind::Integer(number) => usize::try_from(*number).ok().and_then(NonZeroUsize::new),
            _ => None,
        };
        if count.is_none() {
            self.unfit(what, "a whole number from 1 on", &value);
        }
        count
    }

    fn flag(&mut self, what: &str, value: Value) -> bool {
        match value.kind() {
            Kind::Bool(flag) => *flag,
            _ => {
                self.unfit(what, "true or false", &value);
                false
            }
        }
    }

    /// Reports the keys that nobody took.
    pub(super) fn nothing_left(&mut self, what: &str, map: Map, known: &[&str]) {
        for (key, _) in map.into_entries() {
            let nearest = nearest(&key.name, known.iter().copied()).map(str::to_owned);
            let what = what.to_owned();
            self.report(key.line, ProblemKind::UnknownKey { what, key: key.name, nearest });
        }
    }

    pub(super) fn unfit(&mut self, what: &str, expected: &'static str, value: &Value) {
        let (what, found) = (what.to_owned(), value.to_string());
        self.report(value.line(), ProblemKind::Unfit { what, expected, found });
    }

    pub(super) fn unreadable(&mut self, line: Option<u32>, what: &str, reason: String) {
        self.report(line, ProblemKind::Unreadable { what: what.to_owned(), reason });
    }

    pub(super) fn report(&mut self, line: Option<u32>, kind: ProblemKind) {
        self.problems.push(Problem::at(line, kind));
    }
}

pub(super) fn of(key: &str, what: &str) -> String {
    format!("{key:?} of {what}")
}
