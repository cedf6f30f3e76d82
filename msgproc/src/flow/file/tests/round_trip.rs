use std::num::NonZeroUsize;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::read::LONGEST_NAME;
use super::super::{json, write, yaml};
use super::*;

/// Texts that somebody writes, and texts that nobody would.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z][a-z0-9_]{0,8}",
        2 => "[a-zA-Z .\\[\\]>()-]{1,12}",
        1 => prop::sample::select(vec![
            "", " ", "null", "true", "No", "on", "~", "-", "- a", "a: b", "a #b", "#", "1", "0x1f", "1e3",
            ".inf", "2:1", "?", "!", "&a", "*a", "|", ">", "%", "@", "`", "{", "[]", "a\n b", "\t", "\u{feff}",
            "\u{85}", "\u{2028}", "é", "\u{1f600}", "\"", "'", "\\", "\0", "a [B].c", "A -> B", "x (latest)", "---", "...", "<<",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[a-eé\n\"]{190,300}",
    ]
}

/// Names of nodes and classes: those of files are no longer.
fn name() -> impl Strategy<Value = String> {
    text().prop_filter("longer than files have it", |text| text.len() <= LONGEST_NAME)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::Null.into()),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(|number| Kind::Integer(number).into()),
        any::<f64>()
            .prop_filter("JSON has no other", |number| number.is_finite())
            .prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            map(inner).prop_map(Value::from),
        ]
    })
}

fn map(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map> {
    btree_map(text(), value, 0..4).prop_map(Map::from_iter)
}

fn location() -> impl Strategy<Value = Location> {
    prop::sample::select(vec!["", "1", "2:1", "2:", "host:2:1", "a::", "::", "left eye:main"])
        .prop_map(|text| text.parse().unwrap())
}

fn node() -> impl Strategy<Value = Node> {
    let policy = prop_oneof![
        Just(OnError::Fail),
        Just(OnError::Skip),
        (1..9_u32).prop_map(OnError::Retry),
        (1..9_u32).prop_map(OnError::Quarantine),
    ];
    let how = (option::of(1..9_usize), any::<bool>(), policy);
    let class = name().prop_filter("a class has a name", |class| !class.is_empty());
    (name(), class, map(value()), vec(location(), 0..3), how).prop_map(
        |(name, class, settings, compute_on, (workers, ordered, on_error))| Node {
            settings,
            compute_on,
            workers: workers.and_then(NonZeroUsize::new),
            ordered,
            on_error,
            ..Node::new(name, class)
        },
    )
}

fn connection(names: Vec<String>) -> impl Strategy<Value = Connection> {
    let node = prop_oneof![3 => prop::sample::select(names), 1 => text()];
    let end = (node, option::of(text()), option::of(text()))
        .prop_map(|(node, class, port)| Endpoint { node, class, port })
        .boxed();
    let count = || option::of(1..99_usize);
    let how = (count(), count(), count(), any::<bool>(), any::<bool>(), any::<bool>());
    (end.clone(), end, how).prop_map(
        |(from, to, (capacity, bytes, credits, latest, sticky, feedback))| Connection {
            capacity: capacity.and_then(NonZeroUsize::new),
            bytes: bytes.and_then(NonZeroUsize::new),
            credits: credits.and_then(NonZeroUsize::new),
            latest,
            sticky,
            feedback,
            ..Connection::new(from, to)
        },
    )
}

fn graph() -> impl Strategy<Value = GraphFile> {
    vec(node(), 1..5).prop_flat_map(|nodes| {
        let names = nodes.iter().map(|node| node.name.clone()).collect();
        vec(connection(names), 0..6).prop_map(move |connections| GraphFile {
            nodes: nodes.clone(),
            connections,
            ..GraphFile::new()
        })
    })
}

proptest! {
    #[test]
    fn yaml_gives_back_what_was_written(graph in graph()) {
        let text = graph.to_yaml();
        let read = GraphFile::from_yaml(&text);
        prop_assert_eq!(read.as_ref(), Ok(&graph), "{}", text);
        prop_assert_eq!(read.unwrap().to_yaml(), text);
    }

    #[test]
    fn json_gives_back_what_was_written(graph in graph()) {
        let text = graph.to_json().unwrap();
        let read = GraphFile::from_json(&text);
        prop_assert_eq!(read.as_ref(), Ok(&graph), "{}", text);
        prop_assert_eq!(read.unwrap().to_json().unwrap(), text);
    }

    /// What is JSON is YAML, but for long names and some escapes; so the two readers agree.
    #[test]
    fn yaml_reads_json(graph in graph()) {
        let text = graph.to_json().unwrap();
        let long = |text: &str| text.lines().any(|line| line.len() > 900);
        prop_assume!(!long(&text));
        prop_assert_eq!(GraphFile::from_yaml(&text), Ok(graph), "{}", text);
    }

    #[test]
    fn no_text_is_a_panic(text in any::<String>(), lines in "[-:?{}\\[\\]a,\n \"'&*!|>#]{0,60}") {
        for text in [text, lines] {
            let _ = GraphFile::from_yaml(&text);
            let _ = GraphFile::from_json(&text);
        }
    }

    #[test]
    fn yaml_has_any_value(value in value()) {
        let text = write::yaml(&value);
        let (read, problems) = yaml::parse(&text);
        prop_assert_eq!(read.as_ref(), Some(&value), "{}", text);
        prop_assert!(problems.is_empty());
    }

    #[test]
    fn locations_are_read_as_written(parts in vec("[a-z0-9 ]{0,3}", 1..4)) {
        let location: Location = parts.join(":").parse().unwrap();
        prop_assert_eq!(location.to_string().parse(), Ok(location));
    }
}

#[test]
fn numbers_that_only_yaml_has() {
    let node = Node::new("a", "A").set("low", f64::NEG_INFINITY).set("none", f64::NAN);
    let graph = GraphFile::new().node(node);
    assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph.clone()));
    let error = graph.to_json().unwrap_err();
    assert_eq!(
        told(&error),
        [
            "setting low of node \"a\": JSON has no number -inf; write YAML",
            "setting none of node \"a\": JSON has no number NaN; write YAML",
        ]
    );
}

#[test]
fn it_looks_like_this() {
    let graph = GraphFile::new()
        .node(Node::new("camera", "Camera").set("fps", 30).set("gain", 1e-20).set(
            "roi",
            Map::from_iter([
                ("x", Value::from(vec![1.into(), 2.into()])),
                (
                    "y",
                    Value::from(vec![Value::from(Map::from_iter([
                        ("a", 1.into()),
                        ("b", "no".into()),
                    ]))]),
                ),
            ]),
        ))
        .node(Node::new("view", "View").on("2:1".parse().unwrap()))
        .connect(Endpoint::of("camera"), Endpoint::new("view", "in"))
        .connect(Endpoint::of("a -> b"), Endpoint::new("view", "in"));
    let yaml = r#"nodes:
  camera:
    class: Camera
    settings:
      fps: 30
      gain: 1.0e-20
      roi:
        x:
          - 1
          - 2
        "y":
          - a: 1
            b: "no"
  view:
    class: View
    compute_on: "2:1"
connections:
  - camera -> view.in
  - from: a -> b
    to: view.in
"#;
    assert_eq!(graph.to_yaml(), yaml);
}

#[test]
fn json_knows_its_lines() {
    let (value, problems) =
        json::parse("{\n \"a\": [1,\n  {\"b\\\"]\": 2.5e0}],\n\n \"a\": \"\\ud83d\\ude00\"}");
    let value = value.unwrap();
    let list = value.as_map().unwrap().get("a").unwrap();
    assert_eq!(list.line(), Some(2));
    assert_eq!(list.as_list().unwrap()[1].line(), Some(3));
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["line 5: \"a\" is there twice, first on line 2"]
    );
}

#[test]
fn deep_and_large_files_are_refused() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(5000), close.repeat(5000));
    assert!(json::parse(&deep("[", "]")).0.is_none());
    assert!(yaml::parse(&deep("[", "]")).0.is_none());
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let last = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", [last.as_str(); 10].join(", "));
    }
    let refused = |text: &str, why: &str| {
        let (value, problems) = yaml::parse(text);
        assert!(value.is_none() && problems[0].to_string().contains(why), "{problems:?}");
    };
    refused(&laughs, "too many values");
    let nested = |count, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<String>();
    // Each of them is as deep as its aliases and ten more.
    let deeper = nested(50, &|n| match n {
        0 => "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned(),
        n => format!("a{n}: &a{n} [[[[[[[[[[*a{}]]]]]]]]]]\n", n - 1),
    });
    refused(&deeper, "too deep");
    let anchors = nested(100, &|n| format!("&a{n} ["));
    refused(&format!("{anchors}{}{}", "x, ".repeat(20_000), "]".repeat(100)), "too many values");
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
    refused(&long, "too many values");
    // What is read can be written, and is read again.
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let ours = |depth| format!("nodes: {{a: {{class: A, settings: {{x: {}}}}}}}", deep(depth));
    let theirs = |depth| format!("Nodes: {{\"a [A]\": {{x: {}}}}}", deep(depth));
    for file in [&ours as &dyn Fn(usize) -> String, &theirs] {
        let graph = GraphFile::from_yaml(&file(123)).unwrap();
        assert_eq!(GraphFile::from_yaml(&graph.to_yaml()), Ok(graph.clone()));
        assert_eq!(GraphFile::from_json(&graph.to_json().unwrap()), Ok(graph));
        assert!(wrong(&file(124))[0].contains("too deep"));
    }
}
