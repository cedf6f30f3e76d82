use super::*;

fn node(class: &str, name: &str, place: &str) -> Node {
    Node::new(name, class).on(place.parse().unwrap())
}

/// What all three forms of LiveNodes below say.
fn expected() -> GraphFile {
    let end = |node: &str, class: &str, port: &str| Endpoint {
        class: Some(class.to_owned()),
        ..Endpoint::new(node, port)
    };
    GraphFile::new()
        .node(node("Source", "Pulse in", "2:1").set("rate", 100))
        .node(node("Plot", "Pulse", "3").set("ylim", vec![Value::from(-1.5), 1.5.into()]))
        .connect(end("Pulse in", "Source", "data"), end("Pulse", "Plot", "data"))
        .connect(end("Pulse in", "Source", "Channel Names"), end("Pulse", "Plot", "names"))
}

#[test]
fn nodes_beside_inputs() {
    let text = "
Inputs:
- Pulse in [Source].data -> Pulse [Plot].data
- Pulse in [Source].Channel Names -> Pulse [Plot].names
Nodes:
  Pulse in [Source]:
    compute_on: '2:1'
    name: Pulse in
    rate: 100
  Pulse [Plot]:
    compute_on: 3
    name: Pulse
    ylim:
    - -1.5
    - 1.5
";
    assert_eq!(GraphFile::from_yaml(text), Ok(expected()));
}

#[test]
fn as_other_systems_write_it() {
    let other = |text: String| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let graph = expected();
    assert_eq!(GraphFile::from_yaml(&other(graph.to_yaml())), Ok(expected()));
    assert_eq!(GraphFile::from_json(&other(graph.to_json().unwrap())), Ok(expected()));
}

#[test]
fn anchors_and_tags() {
    let text = "
nodes:
  a: &a {class: A, settings: {id: !!str 7, list: &list [1, 2]}}
  b: *a
  c: {class: ! C, settings: {list: *list, text: '1'}}
";
    let graph = GraphFile::from_yaml(text).unwrap();
    assert_eq!(graph.nodes[1].settings, graph.nodes[0].settings);
    assert_eq!(graph.nodes[0].settings.get("id"), Some(&"7".into()));
    assert_eq!(graph.nodes[2].settings.get("list").unwrap().as_list().unwrap().len(), 2);
    assert_eq!(graph.nodes[2].class, "C");
    assert_eq!(wrong("nodes: &n\n  a: *n\n"), ["line 2: an alias inside of what it stands for"]);
}

#[test]
fn nodes_with_config() {
    let text = "
Pulse in [Source]:
  Config: {compute_on: '2:1', name: Pulse in, rate: 100}
  Inputs: []
Pulse [Plot]:
  Config:
    compute_on: '3'
    name: Pulse
    ylim: [-1.5, 1.5]
  Inputs:
  - Pulse in [Source].data -> Pulse [Plot].data
  - Pulse in [Source].Channel Names -> Pulse [Plot].names
";
    assert_eq!(GraphFile::from_yaml(text), Ok(expected()));
}

#[test]
fn nodes_with_class() {
    let text = r#"{
  "Pulse in [Source]": {
    "class": "Source",
    "settings": {"name": "Pulse in", "compute_on": "2:1", "rate": 100},
    "inputs": [],
    "outputs": [{"emit_node": "Pulse in [Source]", "recv_node": "Pulse [Plot]",
                 "emit_port": "data", "recv_port": "data", "connection_counter": 0}]
  },
  "Pulse [Plot]": {
    "class": "Plot",
    "settings": {"name": "Pulse", "compute_on": 3, "ylim": [-1.5, 1.5]},
    "inputs": [
      {"emit_node": "Pulse in [Source]", "recv_node": "Pulse [Plot]",
       "emit_port": "data", "recv_port": "data", "connection_counter": 0},
      {"emitting_node": "Pulse in [Source]", "receiving_node": "Pulse [Plot]",
       "emitting_channel": "Channel Names", "receiving_channel": "names",
       "connection_counter": 0}
    ]
  }
}"#;
    let graph = GraphFile::from_json(text).unwrap();
    assert_eq!(graph, expected());
    assert_eq!(graph.nodes[1].line(), Some(9));
    assert_eq!(graph.connections[1].line(), Some(15));
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph));
}

#[test]
fn names_that_differ_only_by_class() {
    let text = "
Inputs: ['A [X].out -> A [Y].in']
Nodes:
  A [X]: {name: A}
  A [Y]: {name: A}
";
    let graph = GraphFile::from_yaml(text).unwrap();
    assert_eq!((graph.nodes[0].name.as_str(), graph.nodes[0].class.as_str()), ("A [X]", "X"));
    assert_eq!(graph.connections[0].to.node, "A [Y]");
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph));
}

#[test]
fn names_that_are_others_in_full() {
    let text = "
Nodes:
  A [X]: {}
  A [Y]: {}
  A [X] [Z]: {}
";
    let graph = GraphFile::from_yaml(text).unwrap();
    let names: Vec<_> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["A [X]", "A [Y]", "A [X] [Z]"]);
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph));
}

#[test]
fn what_is_wrong_with_files_of_livenodes() {
    assert_eq!(
        wrong("Nodes: {'a [A]': {}}\nInput: []\n"),
        ["line 2: the file knows no \"Input\"; did you mean \"Inputs\"?"]
    );
    let text = "
a [A]:
  Config: 3
  Inputs:
b [B]:
  Config: {compute_on: []}
  inputs: []
  Imputs: []
";
    assert_eq!(
        wrong(text),
        [
            "line 3: \"Config\" of node \"a [A]\" must be a mapping and is the number 3",
            "line 6: \"compute_on\" of node \"b [B]\" must be a location or a list of them and is an empty list",
            "line 8: node \"b [B]\" knows no \"Imputs\"; did you mean \"Inputs\"?",
        ]
    );
    let text = "
a: {class: 3, settings: {}}
b: {class: B, setings: {}}
c:
  class: C
  settings: {}
  inputs:
  - {emit_node: a, emit_port: out, recv_node: b, recv_port: in}
  - {emit_nod: a, emit_port: 7, recv_port: in, counter: 0}
";
    assert_eq!(
        wrong(text),
        [
            "line 2: \"class\" of node \"a\" must be a text and is the number 3",
            "line 3: node \"b\" knows no \"setings\"; did you mean \"settings\"?",
            "line 8: an input: it leads to \"b\", and stands with \"c\"",
            "line 9: an input has no \"emit_node\"",
            "line 9: \"emit_port\" of an input must be a text and is the number 7",
            "line 9: an input knows no \"emit_nod\"; did you mean \"emit_node\"?",
            "line 9: an input knows no \"counter\"",
        ]
    );
}

#[test]
fn names_are_what_is_written() {
    let text = "
nodes:
  01: {class: A}
  0x1: {class: A}
  True: {class: A}
connections:
  - 01 -> True
";
    let graph = GraphFile::from_yaml(text).unwrap();
    let names: Vec<_> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["01", "0x1", "True"]);
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph));
}

#[test]
fn files_with_many_names() {
    let nodes: String = (0..40_000).map(|n| format!("  n{n}: {{class: A}}\n")).collect();
    let graph = GraphFile::from_yaml(&format!("nodes:\n{nodes}")).unwrap();
    assert_eq!(GraphFile::from_json(&graph.to_json().unwrap()), Ok(graph));
}

#[test]
fn long_forms() {
    let text = "
nodes:
  - {name: a.b, class: A, compute_on: ['1:', '2:'], workers: 2, ordered: true, on_error: skip}
  - name: c
    class: C
    compute_on:
connections:
  - {from: a.b, to: {node: c, class: C, port: in}, latest: true, sticky: false}
  - a.b -> c.mask (capacity 8, bytes 4096, feedback, credits 3)
  - a.b.out -> c
";
    let graph = GraphFile::from_yaml(text).unwrap();
    assert_eq!(graph.nodes[0].worker_count(), 2);
    assert_eq!(graph.nodes[0].location_of(1).process(), Some("2"));
    assert_eq!(graph.nodes[1].location_of(5), Location::default());
    let [first, second, third] = &graph.connections[..] else { panic!("three") };
    assert_eq!(first.from, Endpoint::of("a.b"));
    assert!(first.latest && !first.sticky && first.to.class.as_deref() == Some("C"));
    assert_eq!(second.capacity.unwrap().get(), 8);
    assert_eq!(second.bytes.unwrap().get(), 4096);
    assert_eq!(second.credits.unwrap().get(), 3);
    assert!(second.feedback && second.from == Endpoint::of("a.b"));
    assert_eq!(third.from, Endpoint::new("a.b", "out"));
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph));
}

#[test]
fn all_that_is_wrong_is_told() {
    let text = "
nodes:
  a: {class: A, workers: 0, compute_on: 'a:b:c:d'}
  b: {clas: B, ordered: perhaps, on_error: retry}
  c: []
  a: {class: A}
  d: {class: 7, compute_on: []}
connections:
  - a
  - a -> b -> c
  - a -> b (capacity 0)
  - a -> b (bytes many)
  - {from: a.x, capacity: 1.5, too: b}
  - {from: {port: x}, to: '', lates: true}
conections: []
";
    assert_eq!(
        wrong(text),
        [
            "line 3: \"compute_on\" of node \"a\": \"a:b:c:d\" is no location: host:process:thread has \
         at most three parts, so write \"\", \"1\" or \"2:1\"",
            "line 3: \"workers\" of node \"a\" must be a whole number from 1 on and is the number 0",
            "line 4: node \"b\" has no \"class\"",
            "line 4: \"ordered\" of node \"b\" must be true or false and is the text \"perhaps\"",
            "line 4: \"on_error\" of node \"b\": \"retry\" says not what to do on an error: write \
         \"fail\", \"skip\", \"retry 3\" or \"quarantine 2\", with a number from 1 on",
            "line 4: node \"b\" knows no \"clas\"; did you mean \"class\"?",
            "line 5: node \"c\" must be a mapping and is an empty list",
            "line 6: \"a\" is there twice, first on line 3",
            "line 7: \"class\" of node \"d\" must be a text and is the number 7",
            "line 7: \"compute_on\" of node \"d\" must be a location or a list of them and is an empty list",
            "line 9: connection: there is no -> in \"a\": write \"A [Class].port -> B [Class].port\", \
         or \"A -> B\"",
            "line 10: connection: there is more than one -> in \"a -> b -> c\": write \"A \
         [Class].port -> B [Class].port\", or \"A -> B\"",
            "line 11: connection: capacity is no number from 1 on in \"a -> b (capacity 0)\": write \
         \"A [Class].port -> B [Class].port\", or \"A -> B\"",
            "line 12: connection: bytes are no number from 1 on in \"a -> b (bytes many)\": write \
         \"A [Class].port -> B [Class].port\", or \"A -> B\"",
            "line 13: a connection has no \"to\"",
            "line 13: \"capacity\" of a connection must be a whole number from 1 on and is the number 1.5",
            "line 13: a connection knows no \"too\"; did you mean \"to\"?",
            "line 14: \"from\" of a connection has no \"node\"",
            "line 14: \"to\" of a connection: a node is missing",
            "line 14: a connection knows no \"lates\"; did you mean \"latest\"?",
            "line 15: the file knows no \"conections\"; did you mean \"connections\"?",
        ]
    );
}

#[test]
fn what_is_no_graph() {
    assert_eq!(wrong(""), ["line 1: the file is empty: it has no \"nodes\""]);
    assert_eq!(wrong("- a\n"), ["line 1: the file must be a mapping and is a list"]);
    assert_eq!(wrong("{}"), ["line 1: the file has no \"nodes\""]);
    assert_eq!(
        wrong("nodes: {}\n---\nnodes: {}\n"),
        ["line 2: a second document begins; a file has one"]
    );
    assert!(wrong("nodes:\n  a: [1\n  b: 2\n")[0].starts_with("line "));
    assert_eq!(
        wrong("nodes:\n  a: !!python/tuple [1]\n")[0],
        "line 2: the tag !!python/tuple means nothing here"
    );
    assert_eq!(wrong("nodes:\n  <<: {a: 1}\n"), ["line 2: merge keys are not supported"]);
    let error = GraphFile::from_json("{\n \"nodes\": {,}}").unwrap_err();
    assert!(error.to_string().starts_with("graph file, line 2: "), "{error}");
    assert!(GraphFile::from_json("{\"nodes\": {\"a\": 1e999}}").is_err());
    let error = GraphFile::from_json("{\n \"nodes\": \"\\ud800\"}").unwrap_err().to_string();
    assert!(error.starts_with("graph file, line 2: ") && !error.contains("column"), "{error}");
}

#[test]
fn files_by_their_names() {
    let folder = std::env::temp_dir().join(format!("msgproc-graph-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let graph = expected();
    for name in ["a.yaml", "a.YML", "a.json"] {
        graph.save(folder.join(name)).unwrap();
        assert_eq!(GraphFile::load(folder.join(name)).unwrap(), graph);
    }
    std::fs::write(folder.join("a.yml"), "nodes:\n  a: {}\n").unwrap();
    let error = GraphFile::load(folder.join("a.yml")).unwrap_err().to_string();
    assert!(error.ends_with("a.yml, line 2: node \"a\" has no \"class\""), "{error}");
    let error = GraphFile::load(folder.join("none.yml")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(graph.save("graph.txt").unwrap_err(), Error::Extension { .. }));
}
