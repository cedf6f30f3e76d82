//! The forms in which LiveNodes writes its graphs.
//!
//! Nodes have the name `Name [Class]`; their location is one of their settings. There are three
//! forms: all connections under `Inputs` beside `Nodes`; nodes that each have `Config` and
//! `Inputs`; nodes that each have `class`, `settings` and `inputs`, and `outputs`, which say the
//! same from the other side.

use std::collections::HashMap;

use super::connection::with_class;
use super::problem::ProblemKind;
use super::read::{A_NODE, Reader, of};
use super::value::{Key, Kind, Map, Value};
use super::yaml::{DEPTH, TOO_DEEP};
use super::{Connection, Endpoint, GraphFile, Node};

/// How deep settings lie in a file as we write it.
const SETTINGS: usize = 4;

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
            reader.nothing_left("the file", root, &["Nodes", "Inputs"]);
            reader.map("\"Nodes\"", value).unwrap_or_default().into_entries()
        }
        None => root.into_entries(),
    };
    for (key, value) in entries {
        if !reader.is_short(A_NODE, &key.name, key.line) {
            continue;
        }
        let what = format!("node {:?}", key.name);
        let Some(mut map) = reader.map(&what, value) else { continue };
        let mut class = None;
        let settings = if together {
            map
        } else {
            let its = map.remove("Inputs").or_else(|| map.remove("inputs"));
            inputs.extend(its.map(|value| (Some(key.name.clone()), value)));
            let of_that = ["Config", "settings"].into_iter().find(|of| map.get(of).is_some());
            let settings = of_that.and_then(|of| Some((of, map.remove(of)?)));
            class = map.remove("class");
            map.remove("outputs");
            let known = match of_that {
                Some("Config") => ["Config", "Inputs"].as_slice(),
                _ => &["class", "settings", "inputs", "outputs"],
            };
            reader.nothing_left(&what, map, known);
            settings.and_then(|(key, value)| reader.map(&of(key, &what), value)).unwrap_or_default()
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

fn node(key: Key, class: Option<Value>, mut settings: Map, reader: &mut Reader) -> Node {
    let (name, said) = match with_class(&key.name) {
        Some((name, class, None)) => (name.to_owned(), Some(class.to_owned())),
        _ => (key.name.clone(), None),
    };
    let what = format!("node {:?}", key.name);
    let class = match class {
        Some(value) if value.as_text() != Some("") => {
            let (what, line) = (of("class", &what), value.line());
            let class = reader.text(&what, value).unwrap_or_default();
            if reader.is_short(&what, &class, line) { class } else { String::new() }
        }
        _ => said.unwrap_or_else(|| {
            let what = what.clone();
            reader.report(key.line, ProblemKind::Missing { what, key: "class" });
            String::new()
        }),
    };
    let mut node = Node::new(name, class);
    node.line = key.line;
    settings.remove("name");
    if let Some(places) = settings.remove("compute_on") {
        node.compute_on = reader.locations(&of("compute_on", &what), places);
    }
    for (key, value) in settings.entries() {
        // Where we write them they lie deeper by one.
        if SETTINGS + value.extent().1 > DEPTH {
            reader.unreadable(value.line(), &of(&key.name, &what), TOO_DEEP.to_owned());
        }
    }
    node.settings = settings;
    node
}

/// Calls nodes that differ only in their class by both, and tells what each is called now.
fn unique(nodes: &mut [(String, Node)]) -> HashMap<String, String> {
    loop {
        let mut count = HashMap::<String, usize>::new();
        for (_, node) in &*nodes {
            *count.entry(node.name.clone()).or_default() += 1;
        }
        let mut changed = false;
        for (identity, node) in &mut *nodes {
            if count[&node.name] > 1 && node.name != *identity {
                node.name.clone_from(identity);
                changed = true;
            }
        }
        // What one is called now another may have been called before.
        if !changed {
            break;
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
    if matches!(value.kind(), Kind::Null) {
        return;
    }
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
    let mut map = reader.map(what, value)?;
    let mut text = |key, older, needed| match map.remove(key).or_else(|| map.remove(older)) {
        Some(value) => reader.text(&of(key, what), value),
        None => {
            if needed {
                reader.report(line, ProblemKind::Missing { what: what.to_owned(), key });
            }
            None
        }
    };
    let emitter = text("emit_node", "emitting_node", true);
    let emit_port = text("emit_port", "emitting_channel", true);
    let receive_port = text("recv_port", "receiving_channel", true);
    let said = text("recv_node", "receiving_node", receiver.is_none());
    let receiver = match (receiver, said) {
        (Some(name), Some(said)) if name != said => {
            let reason = format!("it leads to {said:?}, and stands with {name:?}");
            reader.unreadable(line, what, reason);
            None
        }
        (receiver, said) => receiver.map(str::to_owned).or(said),
    };
    map.remove("connection_counter");
    let known = ["emit_node", "emit_port", "recv_node", "recv_port", "connection_counter"];
    reader.nothing_left(what, map, &known);
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
