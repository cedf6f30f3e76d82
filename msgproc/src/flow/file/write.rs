//! Writes a graph as a tree of values, and such a tree as YAML or JSON.

use std::fmt::Write as _;

use super::problem::{Problem, ProblemKind};
use super::value::{Kind, Map, Value};
use super::{Connection, Endpoint, GraphFile, Node, OnError, yaml};

/// Longer names are written in the form that YAML has for any key.
const SIMPLE_KEY: usize = 200;

/// The graph in the form that [`super::read`] reads.
pub(super) fn graph(graph: &GraphFile) -> Value {
    let mut names: Vec<_> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    let unique = names.windows(2).all(|two| two[0] != two[1]);
    let nodes = if unique {
        let named = graph.nodes.iter().map(|node| (node.name.clone(), self::node(node).into()));
        Value::from(Map::from_iter(named))
    } else {
        let listed = graph.nodes.iter().map(|node| {
            let name = ("name".to_owned(), Value::from(node.name.clone()));
            let rest = self::node(node).into_entries().into_iter().map(|(key, v)| (key.name, v));
            Map::from_iter(std::iter::once(name).chain(rest)).into()
        });
        Value::from(listed.collect::<Vec<Value>>())
    };
    let is_node = |name: &str| names.binary_search(&name).is_ok();
    let connections = graph.connections.iter().map(|one| connection(one, is_node)).collect();
    Map::from_iter([("nodes", nodes), ("connections", Kind::List(connections).into())]).into()
}

fn node(node: &Node) -> Map {
    let mut map = Map::from_iter([("class", Value::from(node.class.clone()))]);
    match &node.compute_on[..] {
        [] => {}
        [all] => drop(map.insert("compute_on", all.to_string())),
        each => {
            let each = each.iter().map(|location| location.to_string().into());
            map.insert("compute_on", each.collect::<Vec<Value>>());
        }
    }
    if let Some(workers) = node.workers {
        map.insert("workers", workers.get());
    }
    if node.ordered {
        map.insert("ordered", true);
    }
    if node.on_error != OnError::Fail {
        map.insert("on_error", node.on_error.to_string());
    }
    if !node.settings.is_empty() {
        map.insert("settings", node.settings.clone());
    }
    map
}

/// As a text, if that is read as the same connection.
fn connection(connection: &Connection, is_node: impl Fn(&str) -> bool) -> Value {
    let text = connection.to_string();
    if Connection::read(&text, &is_node).is_ok_and(|read| read == *connection) {
        return text.into();
    }
    let end = |end: &Endpoint| -> Value {
        let text = end.to_string();
        if Endpoint::read(&text, &is_node).is_some_and(|read| read == *end) {
            return text.into();
        }
        let mut map = Map::from_iter([("node", Value::from(end.node.clone()))]);
        let more = [("class", &end.class), ("port", &end.port)];
        for (key, value) in more.into_iter().filter_map(|(key, v)| Some((key, v.clone()?))) {
            map.insert(key, value);
        }
        map.into()
    };
    let mut map = Map::from_iter([("from", end(&connection.from)), ("to", end(&connection.to))]);
    if let Some(capacity) = connection.capacity {
        map.insert("capacity", capacity.get());
    }
    if let Some(bytes) = connection.bytes {
        map.insert("bytes", bytes.get());
    }
    if let Some(credits) = connection.credits {
        map.insert("credits", credits.get());
    }
    let marked = [
        ("latest", connection.latest),
        ("sticky", connection.sticky),
        ("feedback", connection.feedback),
    ];
    for (key, _) in marked.into_iter().filter(|marked| marked.1) {
        map.insert(key, true);
    }
    map.into()
}

pub(super) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, false, &mut out);
    out
}

/// Writes lines; the first without its indent if it stands behind a dash.
fn block(value: &Value, indent: usize, mut behind: bool, out: &mut String) {
    let mut begin = |out: &mut String| {
        let indent = if std::mem::take(&mut behind) { 0 } else { indent };
        out.extend(std::iter::repeat_n(' ', indent));
    };
    match value.kind() {
        Kind::Map(map) if !map.is_empty() => {
            for (key, value) in map.iter() {
                begin(out);
                let key = text(key);
                if key.len() > SIMPLE_KEY {
                    let _ = writeln!(out, "? {key}");
                    begin(out);
                    out.push(':');
                } else {
                    let _ = write!(out, "{key}:");
                }
                below(value, indent, out);
            }
        }
        Kind::List(list) if !list.is_empty() => {
            for value in list {
                begin(out);
                out.push_str("- ");
                block(value, indent + 2, true, out);
            }
        }
        kind => {
            begin(out);
            out.push_str(&scalar(kind));
            out.push('\n');
        }
    }
}

/// Writes what stands behind a key.
fn below(value: &Value, indent: usize, out: &mut String) {
    let lines = match value.kind() {
        Kind::Map(map) => !map.is_empty(),
        Kind::List(list) => !list.is_empty(),
        _ => false,
    };
    out.push(if lines { '\n' } else { ' ' });
    block(value, indent + 2, !lines, out);
}

fn scalar(kind: &Kind) -> String {
    match kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Integer(number) => number.to_string(),
        Kind::Float(number) if number.is_nan() => ".nan".to_owned(),
        Kind::Float(number) if number.is_infinite() => {
            if *number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
        }
        Kind::Float(number) => float(*number),
        Kind::Text(value) => text(value),
        Kind::List(_) => "[]".to_owned(),
        Kind::Map(_) => "{}".to_owned(),
    }
}

/// In a form that all versions of YAML and JSON take for a number with a fraction.
fn float(number: f64) -> String {
    let text = format!("{number:?}");
    let Some((digits, power)) = text.split_once('e') else {
        return text;
    };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if power.starts_with('-') { "" } else { "+" };
    format!("{digits}{point}e{sign}{power}")
}

/// Without quotes where every version of YAML takes it for the same text.
fn text(text: &str) -> String {
    let words = ["y", "n", "yes", "no", "on", "off"];
    let inside = |c: char| c.is_ascii_alphanumeric() || " _./-+<>[]()=,@".contains(c);
    let simple = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(inside)
        && !words.contains(&text.to_ascii_lowercase().as_str())
        && matches!(yaml::plain(text), Kind::Text(_));
    if simple { text.to_owned() } else { quoted(text) }
}

/// In quotes, as JSON and YAML both have it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Blanks and marks that a reader may drop, and what YAML does not print.
            '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The graph as JSON, and the settings that JSON has no number for.
pub(super) fn json(file: &GraphFile) -> (String, Vec<Problem>) {
    let mut out = String::new();
    let mut problems = Vec::new();
    for node in &file.nodes {
        for (key, value) in node.settings.iter() {
            if let Some(number) = not_in_json(value) {
                let reason = format!("JSON has no number {number}; write YAML");
                let what = format!("setting {key} of node {:?}", node.name);
                let kind = ProblemKind::Unreadable { what, reason };
                problems.push(Problem::at(value.line(), kind));
            }
        }
    }
    if problems.is_empty() {
        flow(&graph(file), 0, &mut out);
        out.push('\n');
    }
    (out, problems)
}

fn not_in_json(value: &Value) -> Option<f64> {
    match value.kind() {
        Kind::Float(number) if !number.is_finite() => Some(*number),
        Kind::List(list) => list.iter().find_map(not_in_json),
        Kind::Map(map) => map.iter().find_map(|(_, value)| not_in_json(value)),
        _ => None,
    }
}

fn flow(value: &Value, indent: usize, out: &mut String) {
    let line = |out: &mut String, indent: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    };
    match value.kind() {
        Kind::Text(text) => out.push_str(&quoted(text)),
        Kind::List(list) if !list.is_empty() => {
            for (place, value) in list.iter().enumerate() {
                out.push(if place == 0 { '[' } else { ',' });
                line(out, indent + 2);
                flow(value, indent + 2, out);
            }
            line(out, indent);
            out.push(']');
        }
        Kind::Map(map) if !map.is_empty() => {
            for (place, (key, value)) in map.iter().enumerate() {
                out.push(if place == 0 { '{' } else { ',' });
                line(out, indent + 2);
                let _ = write!(out, "{}: ", quoted(key));
                flow(value, indent + 2, out);
            }
            line(out, indent);
            out.push('}');
        }
        kind => out.push_str(&scalar(kind)),
    }
}
