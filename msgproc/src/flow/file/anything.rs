//! What is done with files of which nobody knows what stands in them: for fuzzing and tests.

use serde_json::Value as AnySetting;

use super::{ClassInfo, GraphFile, Problems, Registry};
use crate::flow::{Flow, Outlet, each, from_fn, source};

/// Does with a text all that is done with graph files: reads it as YAML and as JSON, checks it,
/// writes it, and reads that again.
///
/// # Panics
///
/// If what is written is not read as the same, or a line is told that the text has not.
pub fn read_check_write(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    // What ends a line is not the same for all readers.
    let ends = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let lines = text.chars().filter(|c| ends(*c)).count() + 1;
    for read in [GraphFile::from_yaml, GraphFile::from_json] {
        match read(text) {
            Ok(graph) => {
                written(&graph);
                checked(graph, lines);
            }
            Err(problems) => told(&problems, lines),
        }
    }
}

fn told(problems: &Problems, lines: usize) {
    assert!(!problems.to_string().is_empty());
    for problem in problems.iter() {
        let line = problem.line.unwrap_or(1) as usize;
        assert!((1..=lines + 1).contains(&line), "there is no line {line}: {problem}");
    }
}

fn written(graph: &GraphFile) {
    let yaml = graph.to_yaml();
    assert_eq!(GraphFile::from_yaml(&yaml).as_ref(), Ok(graph), "{yaml}");
    // Numbers that JSON has not are told.
    if let Ok(json) = graph.to_json() {
        assert_eq!(GraphFile::from_json(&json).as_ref(), Ok(graph), "{json}");
    }
    for node in &graph.nodes {
        let _ = node.parse_settings::<AnySetting>();
        let _ = node.parse_settings::<Option<std::collections::BTreeMap<String, u8>>>();
    }
}

fn checked(graph: GraphFile, lines: usize) {
    let registry = registry();
    if let Ok(wiring) = graph.check(&registry) {
        assert_eq!(wiring.wires.len(), graph.connections.len());
        assert_eq!(wiring.order.len(), graph.nodes.len());
    }
    match registry.check(graph) {
        Ok(loaded) => drop(loaded.graph()),
        Err(problems) => told(&problems, lines),
    }
}

/// Some classes, with all kinds of ports.
fn registry() -> Registry<u64> {
    let one = || ClassInfo::new().input("in", "Number").output("out", "Number");
    let send = |item: u64, out: &mut Outlet<u64>| {
        out.send(item)?;
        Ok(Flow::GoOn)
    };
    Registry::new()
        .source("Count", ClassInfo::new().output("out", "Number"), |making| {
            let to: u64 = making.settings()?;
            Ok(source(0..to))
        })
        .source("Any", ClassInfo::new().output("out", "Number"), |_| Ok(source([1])))
        .node("Same", one(), move |_| Ok(from_fn(send)))
        .node("Both", one().optional_input("more", "Number").output("text", "Text"), move |_| {
            Ok(from_fn(send))
        })
        .sink("Keep", ClassInfo::new().input("in", "Number"), |_| Ok(each(drop::<u64>)))
        .join_by_tick(|tick| Some(*tick), |row| Ok::<_, String>(row.len() as u64))
        .join_latest(|row| Ok::<_, String>(row.len() as u64))
        .join_nearest(|time| Some(*time), |row| Ok::<_, String>(row.len() as u64))
}
