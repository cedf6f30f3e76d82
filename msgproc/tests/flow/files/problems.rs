//! What a file says wrongly, and what fails.

use std::collections::BTreeMap;

use msgproc::flow::{
    FailureKind, each,
    file::{ClassInfo, GraphFile, Problems, Registry},
};

use super::{Item, PLACES, placed, registry};
use crate::common::taken;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(problems_have_line_and_node),
        testkit::test!(constructors_fail_where_they_run),
        testkit::test!(constructors_that_panic),
        testkit::test!(errors_are_handled_as_the_file_says),
        testkit::test!(quarantine_counts_from_the_first_time),
        testkit::test!(a_node_ends_with_its_required_inputs),
    ]
}

fn problems(yaml: &str) -> Problems {
    let file = GraphFile::from_yaml(yaml).unwrap();
    registry().0.check(file).unwrap_err()
}

fn problems_have_line_and_node() {
    let all = problems(
        "nodes:
  numbers:
    class: Count
    settings:
      to: many
  none: {class: Count, settings: {to: 5, step: 0}}
  tenfold: {class: Tenfold, settings: {}}
  names: {class: Name}
  join: {class: join.by_tick, settings: {window: 0}}
  keep: {class: Keep}
connections:
  - numbers -> tenfold
  - {from: none, to: join.in0}
  - {from: tenfold, to: join.in1}
  - join -> keep
",
    )
    .to_string();
    for words in [
        "line 5: setting to of node \"numbers\": invalid type: string \"many\", expected u64",
        "line 6: node \"none\" of class \"Count\" cannot be made: a step of 0 leads nowhere",
        "line 9: setting window of node \"join\"",
    ] {
        assert!(all.contains(words), "no {words:?} in {all}");
    }

    // What is wrong with connections is told with what is wrong with settings.
    let all = problems(
        "nodes:
  numbers: {class: Count, settings: {to: many}}
  keep: {class: Keep}
  j: {class: join.latest}
connections:
  - numbers -> kepe
  - numbers -> j.in0 (sticky)
",
    )
    .to_string();
    assert!(all.contains("line 2: setting to of node \"numbers\""), "{all}");
    assert!(all.contains("line 6: connection numbers -> kepe: there is no node \"kepe\""), "{all}");
    // The connection to no node may be meant for the join.
    assert!(!all.contains("sticky"), "{all}");
    let all = problems(
        "nodes:
  n: {class: Count, settings: {to: many}}
  j: {class: join.latest}
  k: {class: Keep}
connections:
  - n -> j.in0 (sticky)
  - j.uot -> k
",
    )
    .to_string();
    assert!(all.contains("line 3: node \"j\" of class \"join.latest\" cannot be made"), "{all}");
    assert!(all.contains("node \"j\" has no output \"uot\"; it has \"out\"; did you"), "{all}");
    // Once is enough.
    let alone = problems("nodes:\n  k: {class: Keep}\n").to_string();
    assert_eq!(
        alone,
        "graph file, line 2: input \"in\" of node \"k\" is not connected and must be"
    );
    // What cannot be read has no nodes for that reason.
    for unreadable in ["", "nodes:\n  a: {class", "nodes: 5\n"] {
        let path = std::env::temp_dir().join(format!("{}.yaml", testkit::name("unreadable")));
        std::fs::write(&path, unreadable).unwrap();
        let loaded = registry().0.load(&path).map(drop);
        std::fs::remove_file(&path).unwrap();
        let said = loaded.unwrap_err().to_string();
        assert!(said.contains(".yaml, "), "more than one problem: {said}");
    }

    for (nodes, connections, words) in [
        (
            "t: {class: Inputs}\n  t2: {class: Tenfold}",
            "- n -> t2\n  - t2 -> t\n  - {from: t2, to: t.b, feedback: true}",
            "line 8: connection t2 -> t.b is feedback, and leads nowhere back",
        ),
        (
            "m: {class: Name}\n  k: {class: Keep}\n  d: {class: Drop}",
            "- n -> d\n  - m -> k (sticky)",
            "connection m -> k is sticky, and nodes of class \"Keep\" do not keep the last item",
        ),
        (
            "j: {class: join.latest}\n  m: {class: Name}",
            "- n -> j.in0 (sticky)\n  - m -> j.in1 (sticky)",
            "line 3: node \"j\" of class \"join.latest\" cannot be made: all its connections are sticky",
        ),
        (
            "j: {class: join.latest, workers: 2}\n  m: {class: Name}",
            "- n -> j.in0\n  - m -> j.in1",
            "cannot be made: it has several workers",
        ),
        (
            "j: {class: join.nearest, on_error: retry 3, settings: {tolerance: 1}}\n  m: {class: Name}",
            "- n -> j.in0\n  - m -> j.in1",
            "on_error is \"fail\" or \"skip\"",
        ),
        (
            "j: {class: join.nearest}\n  m: {class: Name}",
            "- n -> j.in0\n  - m -> j.in1",
            "line 3: settings of node \"j\": missing field `tolerance`",
        ),
        (
            "j: {class: join.by_tick, settings: {when_full: drop}}\n  m: {class: Name}",
            "- n -> j.in0\n  - m -> j.in1",
            "line 3: setting when_full of node \"j\": unknown variant `drop`, expected `wait` or `discard`",
        ),
    ] {
        let yaml = format!(
            "nodes:\n  n: {{class: Count, settings: {{to: 5}}}}\n  {nodes}\nconnections:\n  {connections}\n"
        );
        let said = problems(&yaml).to_string();
        assert!(said.contains(words), "no {words:?} in {said}");
    }

    let only_optional = Registry::<Item>::new().sink(
        "Lazy",
        ClassInfo::new().optional_input("in", "Number"),
        |_| Ok(each(drop)),
    );
    let file = GraphFile::from_yaml("nodes:\n  lazy: {class: Lazy}\n").unwrap();
    let said = only_optional.check(file).unwrap_err().to_string();
    assert!(said.contains("line 2: no connection leads to node \"lazy\""), "{said}");
}

fn constructors_fail_where_they_run() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 100}}
  here: {class: OnlyHere, compute_on: PLACE}
  keep: {class: Keep}
connections: [numbers -> here, here -> keep]
";
    let (registry, kept) = registry();
    let run = |place: &str| {
        let file = GraphFile::from_yaml(&yaml.replace("PLACE", place)).unwrap();
        registry.check(file).unwrap().run()
    };
    run("''").unwrap();
    run("'1'").unwrap();
    assert_eq!(taken(&kept).len(), 200);
    for place in ["'1:'", "'1:1'"] {
        let said = format!("{:?}", run(place).unwrap_err());
        assert!(said.contains("node \"here\"") && said.contains("not here"), "{place}: {said}");
    }
}

/// Its node is made to see whether that can be done, and to drop it may panic as well.
fn constructors_that_panic() {
    struct Drops;

    impl Drop for Drops {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let registry = Registry::<Item>::new()
        .sink("Panics", ClassInfo::new().input("in", "Item"), |making| {
            let settings: BTreeMap<String, u64> = making.settings()?;
            assert!(settings.contains_key("parts"), "no parts");
            Ok(each(|_| ()))
        })
        .sink("Drops", ClassInfo::new().input("in", "Item"), |_| {
            let drops = Drops;
            Ok(each(move |_| _ = &drops))
        });
    let yaml = "
nodes:
  one: {class: Panics}
  two: {class: Drops}
";
    let told = registry.check(GraphFile::from_yaml(yaml).unwrap()).unwrap_err().to_string();
    for words in [
        "line 3: node \"one\" of class \"Panics\" cannot be made: panicked: ",
        "line 4: node \"two\"",
    ] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
}

fn errors_are_handled_as_the_file_says() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 100}}
  whole: {class: Whole, settings: {by: 7}, on_error: HOW}
  keep: {class: Keep}
connections: [numbers -> whole, whole -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        let skipping = placed(&registry, &yaml.replace("HOW", "skip"), places);
        let report = skipping.run().unwrap();
        assert_eq!(report.node("whole").unwrap().workers[0].skipped, 85, "{places:?}");
        assert_eq!(taken(&kept).len(), 15, "{places:?}");
        for how in ["fail", "retry 2"] {
            let failing = placed(&registry, &yaml.replace("HOW", how), places);
            let error = failing.run().unwrap_err();
            let failure = error.failure().unwrap();
            assert_eq!((&*failure.node, failure.item), ("whole", Some(1)), "{places:?}");
            assert_eq!(failure.kind, FailureKind::Error);
            assert_eq!(failure.message, "1 is not divided by 7");
        }
        taken(&kept);
    }
}

fn a_node_ends_with_its_required_inputs() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 50}}
  others: {class: Forever}
  inputs: {class: Inputs}
  keep: {class: Keep}
connections: [numbers -> inputs.a, others -> inputs.b, inputs -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        placed(&registry, yaml, places).run().unwrap();
        let of_a = |item: &&Item| matches!(item, Item::Row(row) if row[0] == Item::Number(0));
        assert_eq!(taken(&kept).iter().filter(of_a).count(), 50, "{places:?}");
    }
}

fn quarantine_counts_from_the_first_time() {
    let (registry, kept) = registry();
    for times in [1, 2, 3] {
        let yaml = format!(
            "
nodes:
  numbers: {{class: Count, settings: {{to: 500}}}}
  whole: {{class: Whole, settings: {{by: 5}}, on_error: quarantine {times}}}
  deadly: {{class: Deadly, settings: {{by: 300}}, compute_on: '1:', on_error: quarantine {times}}}
  keep: {{class: Keep}}
connections: [numbers -> whole, whole -> deadly, deadly -> keep]
"
        );
        let report = registry.graph(&GraphFile::from_yaml(&yaml).unwrap()).unwrap().run().unwrap();
        let expected: Vec<_> =
            (0..500).filter(|n| n % 5 == 0 && *n != 300).map(Item::Number).collect();
        assert_eq!(taken(&kept), expected, "{times}");
        let whole = &report.node("whole").unwrap().workers[0];
        assert_eq!((whole.skipped, whole.retries), (400, 400 * (times - 1)), "{times}");
        let deadly = &report.node("deadly").unwrap().workers[0];
        assert_eq!((deadly.quarantined, deadly.restarts), (1, times), "{times}");
    }
}
