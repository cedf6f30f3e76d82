//! The forms in which LiveNodes writes its graphs.
//!
//! Nodes have the name `Name [Class]`; their location is one of their settings. There are three
//! forms: all connections under `Inputs` beside `Nodes`; nodes that each have `Config` and
//! `Inputs`; nodes that each have `class`, `settings` and `inputs`, and `outputs`, which say the
//! same from the other side.

use std::collections::HashMap;

use super::connection::with_class;
use super::problem::ProblemKind;
use super::read::Reader;
use super::value::{Key, Map, Value};
use super::{Connection, Endpoint, GraphFile, Node};

/// Whether this is a graph of LiveNodes.
pub(super) fn is_one(root: &Map) -> bool {
    if root.get("nodes").is_some() || root.get("connections").is_some() {
        return false;
    }
    let is_node = |(_, value): (&str, &Value)| {
        let has = |key| value.as_map().is_some_and(|map| map.get(key).is_some());
        has("Config") || has("class") && has("settings")
    };
    root.get("Nodes").is_some() || root.iter().any(is_node)
}

pub(super) fn graph(mut root: Map, reader: &mut Reader) -> GraphFile {
    let mut inputs = Vec::new();
    let mut nodes = Vec::new();
    let apart = root.remove("Nodes");
    let together = apart.is_some();
    let entries = match apart {
        Some(value) => {
            inputs.extend(root.remove("Inputs").map(|value| (None, value)));
            reader.map("\"Nodes\"", value).unwrap_or_default().into_entries()
        }
        None => root.into_entries(),
    };
    for (key, value) in entries {
        let what = format!("node {:?}", key.name);
        let Some(mut map) = reader.map(&what, value) else { continue };
        let mut class = None;
        let settings = if together {
            map
        } else {
            class = map.remove("class").and_then(|value| reader.text(&what, value));
            let its = map.remove("Inputs").or_else(|| map.remove("inputs"));
            inputs.extend(its.map(|value| (Some(key.name.clone()), value)));
            let settings = map.remove("Config").or_else(|| map.remove("settings"));
            settings.and_then(|value| reader.map(&what, value)).unwrap_or_default()
        };
        nodes.push((key.name.clone(), node(key, class, settings, reader)));
    }
    let names = unique(&mut nodes);
    let mut graph = GraphFile::default();
    for (receiver, value) in inputs {
        connections(receiver.as_deref(), value, reader, &mut graph.connections);
    }
    graph.nodes = nodes.into_iter().map(|(_, node)| node).collect();
    for end in graph.connections.iter_mut().flat_map(|one| [&mut one.from, &mut one.to]) {
        let identity = match &end.class {
            Some(class) => format!("{} [{class}]", end.node),
            None => end.node.clone(),
        };
        if let Some(name) = names.get(&identity) {
            end.node.clone_from(name);
        }
    }
    graph
}

fn node(key: Key, class: Option<String>, mut settings: Map, reader: &mut Reader) -> Node {
    let (name, said) = match with_class(&key.name) {
        Some((name, class, None)) => (name.to_owned(), Some(class.to_owned())),
        _ => (key.name.clone(), None),
    };
    let mut node = Node::new(name, class.or(said).unwrap_or_default());
    node.line = key.line;
    let what = format!("node {:?}", key.name);
    if node.class.is_empty() {
        reader.report(key.line, ProblemKind::Missing { what: what.clone(), key: "class" });
    }
    settings.remove("name");
    if let Some(places) = settings.remove("compute_on") {
        node.compute_on = reader.locations(&what, places);
    }
    node.settings = settings;
    node
}

/// Calls nodes that differ only in their class by both, and tells what each is called now.
fn unique(nodes: &mut [(String, Node)]) -> HashMap<String, String> {
    let mut count = HashMap::<String, usize>::new();
    for (_, node) in &*nodes {
        *count.entry(node.name.clone()).or_default() += 1;
    }
    for (identity, node) in &mut *nodes {
        if count[&node.name] > 1 {
            node.name.clone_from(identity);
        }
    }
    nodes.iter().map(|(identity, node)| (identity.clone(), node.name.clone())).collect()
}

fn connections(
    receiver: Option<&str>,
    value: Value,
    reader: &mut Reader,
    connections: &mut Vec<Connection>,
) {
    let Some(list) = value.as_list() else {
        reader.unfit("\"Inputs\"", "a list", &value);
        return;
    };
    for value in list {
        let line = value.line();
        match value.as_text() {
            Some(text) => match text.parse::<Connection>() {
                Ok(connection) => connections.push(Connection { line, ..connection }),
                Err(error) => reader.unreadable(line, "connection", error.to_string()),
            },
            None => connections.extend(structured(receiver, value.clone(), reader)),
        }
    }
}

/// A connection with a key for each thing; the older of two names for it comes second.
fn structured(receiver: Option<&str>, value: Value, reader: &mut Reader) -> Option<Connection> {
    let what = "an input";
    let line = value.line();
    let map = reader.map(what, value)?;
    let mut text = |key, older| match map.get(key).or_else(|| map.get(older)) {
        Some(value) => reader.text(what, value.clone()),
        None => {
            reader.report(line, ProblemKind::Missing { what: what.to_owned(), key });
            None
        }
    };
    let emitter = text("emit_node", "emitting_node");
    let emit_port = text("emit_port", "emitting_channel");
    let receive_port = text("recv_port", "receiving_channel");
    let receiver = match receiver {
        Some(name) => Some(name.to_owned()),
        None => text("recv_node", "receiving_node"),
    };
    let end = |identity: String, port: String| match with_class(&identity) {
        Some((node, class, None)) => {
            Endpoint { node: node.to_owned(), class: Some(class.to_owned()), port: Some(port) }
        }
        _ => Endpoint::new(identity, port),
    };
    let mut connection = Connection::new(end(emitter?, emit_port?), end(receiver?, receive_port?));
    connection.line = line;
    Some(connection)
}
