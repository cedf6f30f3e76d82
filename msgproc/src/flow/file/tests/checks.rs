use std::collections::BTreeMap;

use super::*;

fn classes() -> BTreeMap<String, ClassInfo> {
    let class = |name: &str, info: ClassInfo| (name.to_owned(), info);
    BTreeMap::from([
        class("Camera", ClassInfo::new().output("frames", "Frame")),
        class(
            "Filter",
            ClassInfo::new()
                .input("in", "Frame")
                .optional_input("mask", "Mask")
                .output("out", "Frame")
                .output("mask", "Mask"),
        ),
        class("View", ClassInfo::new().input("left", "Frame").input("right", "Frame")),
        class("Table", {
            let mut table = ClassInfo::new().input("rows", "");
            table.inputs[0].items = None;
            table
        }),
    ])
}

fn check(yaml: &str) -> Result<Wiring, Vec<String>> {
    let graph = GraphFile::from_yaml(yaml).unwrap();
    graph.check(&classes()).map_err(|problems| told(&problems))
}

fn port(node: usize, port: usize) -> Port {
    Port { node, port }
}

#[test]
fn wiring() {
    let wiring = check(
        "
nodes:
  view: {class: View}
  table: {class: Table}
  filter: {class: Filter}
  camera: {class: Camera, compute_on: ['localhost:2:1', '3:', '']}
connections:
  - camera -> filter
  - camera [Camera] -> view.left (latest)
  - filter [Filter].out -> view.right
  - filter.mask -> table
  - filter.mask -> filter.mask (feedback)
",
    );
    let wiring = wiring.unwrap();
    assert_eq!(wiring.order, [3, 2, 0, 1]);
    let wires: Vec<_> = wiring.wires.iter().map(|wire| (wire.from, wire.to)).collect();
    assert_eq!(
        wires,
        [
            (port(3, 0), port(2, 0)),
            (port(3, 0), port(0, 0)),
            (port(2, 0), port(0, 1)),
            (port(2, 1), port(1, 0)),
            (port(2, 1), port(2, 1)),
        ]
    );
}

#[test]
fn all_that_does_not_fit() {
    let problems = check(
        "
nodes:
  - {name: camera, class: Camera, compute_on: ['', '1'], workers: 3}
  - {name: filter, class: Filtre}
  - {name: view, class: View, compute_on: 'elsewhere.invalid:1:1'}
  - {name: camera, class: Camera}
  - {name: second, class: Filter}
  - {name: third, class: Filter}
  - {name: table, class: Table}
connections:
  - camra -> view.left
  - camera [Kamera] -> second
  - camera.frame -> view.right
  - camera -> view
  - second -> second.mask (feedback)
  - camera -> second.in
  - table.rows -> filter.x
  - camera -> view.left (latest, capacity 3)
",
    )
    .unwrap_err();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(
        problems,
        [
            "line 3: node \"camera\" has 3 workers and 2 places: give one, or as many",
            "line 4: node \"filter\" is of class \"Filtre\", which is not known; did you mean \"Filter\"?",
            &format!(
                "line 5: node \"view\" is to compute on host \"elsewhere.invalid\": only this one is \
             known, {:?} or \"localhost\"",
                host.trim()
            ),
            "line 6: two nodes are called \"camera\", first on line 3",
            "line 8: input \"in\" of node \"third\" is not connected and must be",
            "line 9: input \"rows\" of node \"table\" is not connected and must be",
            "line 11: connection camra -> view.left: there is no node \"camra\"; did you mean \"camera\"?",
            "line 12: connection camera [Kamera] -> second: node \"camera\" is of class \"Camera\" and \
         not \"Kamera\"",
            "line 13: connection camera.frame -> view.right: node \"camera\" has no output \"frame\"; it \
         has \"frames\"; did you mean \"frames\"?",
            "line 14: connection camera -> view: say which input of node \"view\" is meant; it has \
         \"left\", \"right\"",
            "line 15: connection second -> second.mask gives \"Frame\" to an input that takes \"Mask\"",
            "line 16: connection camera -> second.in: input \"in\" of node \"second\" has a connection \
         already, first on line 12; an input has one",
            "line 17: connection table.rows -> filter.x: node \"table\" has no output \"rows\"; it has none",
            "line 18: connection camera -> view.left holds only the newest item, so it has no capacity",
            "line 18: connection camera -> view.left: input \"left\" of node \"view\" has a connection \
         already, first on line 11; an input has one",
        ]
    );
}

#[test]
fn cycles_are_named() {
    let yaml = |marker: &str| {
        format!(
            "
nodes:
  camera: {{class: Camera}}
  a: {{class: Filter}}
  b: {{class: Filter}}
  table: {{class: Table}}
connections:
  - a.out -> b.in
  - b.mask -> a.mask{marker}
  - camera -> a.in
  - b.out -> table
"
        )
    };
    assert_eq!(
        check(&yaml("")).unwrap_err(),
        [
            "line 9: nodes wait for each other in a cycle: \"b\" -> \"a\" -> \"b\"; mark the connection \
         that leads back as feedback"
        ]
    );
    assert_eq!(check(&yaml(" (feedback)")).unwrap().order, [0, 1, 2, 3]);
}

#[test]
fn order_that_cannot_be_kept() {
    let told = |a: &str, b: &str, how: &str| {
        check(&format!(
            "
nodes:
  camera: {{class: Camera}}
  a: {{class: Filter{a}}}
  b: {{class: Filter{b}}}
  table: {{class: Table}}
connections:
  - camera -> a.in
  - a.out -> b.in{how}
  - b.out -> table
"
        ))
    };
    let (many, ordered) = (", workers: 3", ", workers: 2, ordered: true");
    for (a, b) in [("", ""), (ordered, ""), ("", ordered), (ordered, ordered), (many, many)] {
        assert!(told(a, b, "").is_ok(), "{a} {b}");
    }
    assert_eq!(
        told(ordered, many, "").unwrap_err(),
        [
            "line 4: node \"a\" cannot keep the order of its items: the workers of \"b\" behind it do \
          not: let them be ordered too"
        ]
    );
    assert_eq!(
        told(many, ordered, "").unwrap_err(),
        ["line 5: node \"b\" cannot keep the order of its items: what connection a.out -> b.in \
          brings comes from the workers of \"a\", which do not keep it"]
    );
    let newest =
        "cannot keep the order of its items: connection a.out -> b.in holds only the newest";
    assert!(told("", ordered, " (latest)").unwrap_err()[0].contains(newest));
    assert_eq!(told(ordered, ordered, " (latest)").unwrap_err().len(), 2);
    assert_eq!(check("nodes: {}\n").unwrap_err(), ["the graph has no nodes"]);
}

#[test]
fn feedback_leads_back() {
    let told = |connections: &str| {
        let nodes = ["camera: {class: Camera}", "a: {class: Filter}", "b: {class: Filter}"];
        let nodes = nodes.iter().chain(&["c: {class: Filter}", "table: {class: Table}"]);
        let nodes: String = nodes.map(|node| format!("  {node}\n")).collect();
        check(&format!("nodes:\n{nodes}connections:\n{connections}")).unwrap_err()
    };
    let rest = "- b.out -> c.in\n- c.out -> table\n";
    let first = format!("- camera -> a.in\n- a.out -> b.in\n{rest}");
    assert_eq!(
        told(&format!("{first}- a.mask -> c.mask (feedback)\n")),
        [
            "line 12: connection a.mask -> c.mask is feedback, and leads nowhere back: there is no way \
             from \"c\" to \"a\"; leave the mark out"
        ]
    );
    assert_eq!(
        told(&format!("{first}- c.mask -> b.mask (feedback)\n- b.mask -> a.mask (feedback)\n")),
        [
            "line 13: connection b.mask -> a.mask leads back to another node than one before it, and \
             node \"b\" is in both cycles: let both lead back to \"b\""
        ]
    );
    assert_eq!(
        told(&format!("{first}- b.mask -> a.mask (feedback, latest, credits 3)\n")),
        [
            "line 12: connection b.mask -> a.mask holds only the newest item and is in a cycle, where \
             every item counts: give it a capacity instead"
        ]
    );
    let only =
        told(&format!("- camera -> b.mask\n- a.out -> b.in\n{rest}- b.mask -> a.in (feedback)\n"));
    assert_eq!(
        only.last().unwrap(),
        "line 12: only feedback leads to node \"a\": lead something into the cycle from outside"
    );
    assert_eq!(
        told(&format!("- camera -> a.in\n- a.out -> b.in (credits 9)\n{rest}")),
        ["line 9: connection a.out -> b.in has credits, which are those of a cycle, and is no \
             feedback"]
    );
}

#[test]
fn all_at_once_from_a_file() {
    let path = std::env::temp_dir().join(format!("msgproc-check-{}.yaml", std::process::id()));
    std::fs::write(&path, "nodes:\n  a: {class: Camera, x: 1}\n  b: {class: Camra}\n").unwrap();
    let error = GraphFile::load_checked(&path, &classes()).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let Error::Problems(problems) = &error else { panic!("{error}") };
    assert_eq!(
        told(problems),
        [
            "line 2: node \"a\" knows no \"x\"",
            "line 3: node \"b\" is of class \"Camra\", which is not known; did you mean \"Camera\"?",
        ]
    );
    assert!(error.to_string().contains(".yaml has 2 problems:\n  line 2: "));
}

#[test]
fn a_graph_without_a_file() {
    let graph = GraphFile::new().node(Node::new("a", ""));
    let problems = graph.check(&classes()).unwrap_err();
    assert_eq!(problems.to_string(), "graph file, node \"a\" is of class \"\", which is not known");
}

/// What takes long for some files would hold up whoever loads a stranger's.
#[test]
fn large_files_that_are_wrong() {
    // Long names, each nearly the other.
    let (one, other) = ("n".repeat(250), "n".repeat(251));
    let nodes: String = (0..300).map(|n| format!("  {one}{n:03}: {{class: Camera}}\n")).collect();
    let lines: String = (0..300).map(|n| format!("  - {other}{n:03} -> t.rows\n")).collect();
    let table = "  t: {class: Table}\n";
    let told = check(&format!("nodes:\n{nodes}{table}connections:\n{lines}")).unwrap_err();
    assert!(told.len() >= 300 && told.iter().all(|told| !told.contains("did you mean")));

    // More unknown names than anybody looks at.
    let nodes: String = (0..5000).map(|n| format!("  n{n:04}: {{class: Camera}}\n")).collect();
    let lines: String = (0..20_000).map(|n| format!("  - m{n:05} -> t.rows\n")).collect();
    let told = check(&format!("nodes:\n{nodes}{table}connections:\n{lines}")).unwrap_err();
    assert!(told[0].contains("did you mean"), "{}", told[0]);

    // Each of a long row leads back.
    let nodes: String = (0..3000).map(|n| format!("  n{n}: {{class: Filter}}\n")).collect();
    let row: String = (1..3000).map(|n| format!("  - n{}.out -> n{n}.in\n", n - 1)).collect();
    let back: String =
        (0..3000).map(|n| format!("  - n{n}.mask -> n{}.mask (feedback)\n", n / 2)).collect();
    check(&format!("nodes:\n{nodes}connections:\n{row}{back}")).unwrap_err();
}

#[test]
fn names_that_cannot_be() {
    let long = "n".repeat(1010);
    let unknown: String = (0..2000).map(|n| format!("    key{n}: 1\n")).collect();
    for yaml in [
        format!("nodes:\n  {long}:\n{unknown}"),
        format!("nodes:\n  a:\n    class: {long}\n{unknown}"),
        format!("{long}:\n  class: A\n  settings:\n    a: 1\n"),
    ] {
        let told = wrong(&yaml);
        assert!(told.len() == 1 && told[0].contains("1010 bytes, and can have 255"), "{told:?}");
    }
    let told = check("nodes: {\"a\\0b\": {class: Camera}}").unwrap_err();
    assert_eq!(told, ["line 1: node \"a\\0b\": threads and processes cannot be called that"]);
}

#[test]
fn aliases_of_long_keys_count() {
    let many = "  - *x\n".repeat(50_000);
    let told = wrong(&format!("k:\n  - &x\n    ? {}\n    : 1\n{many}", "x".repeat(100_000)));
    assert!(told[0].contains("alias"), "{told:?}");
}
