//! Graphs of files: what they say, at every place.

use std::{thread, time::Duration};

use msgproc::flow::{
    Cause, FailureKind, Flow, Node, Outlet, each,
    file::{ClassInfo, GraphFile, Loaded, Location, Problems, Registry},
    flat_map, from_fn, source, try_map,
};
use serde::{Deserialize, Serialize};

use crate::common::{Kept, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(the_same_values_everywhere),
        testkit::test!(several_workers_at_several_places),
        testkit::test!(long_items_keep_their_order),
        testkit::test!(outputs_and_inputs_have_numbers),
        testkit::test!(run_twice),
        testkit::test!(problems_have_line_and_node),
        testkit::test!(constructors_fail_where_they_run),
        testkit::test!(errors_are_handled_as_the_file_says),
        testkit::test!(a_node_ends_with_its_required_inputs),
        testkit::test!(joins_by_tick),
        testkit::test!(joins_the_latest),
        testkit::test!(joins_the_nearest),
        testkit::test!(a_join_holds_its_senders_back),
        testkit::test!(a_join_that_holds_nobody_back_counts),
        testkit::test!(a_join_ends_when_no_row_can_come),
        testkit::test!(a_join_with_more_slack_than_window_goes_on),
    ]
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Item {
    Number(u64),
    At(u64, f64),
    Name(String),
    Row(Vec<Item>),
}

fn tick(item: &Item) -> Option<u64> {
    match item {
        Item::Number(tick) | Item::At(tick, _) => Some(*tick),
        _ => None,
    }
}

fn row(items: Vec<Item>) -> Result<Item, String> {
    if items.contains(&Item::Number(u64::MAX)) {
        Err("no row".into())
    } else {
        Ok(Item::Row(items))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    #[serde(default = "one")]
    step: u64,
    to: u64,
    /// How long it pauses after each hundred.
    #[serde(default)]
    pause_ms: u64,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
struct Divisor {
    by: u64,
}

/// Sends numbers from output 0, and their sines from output 1.
struct Both;

impl Node for Both {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, item: Item, out: &mut Outlet<Item>) -> Result<Flow, Cause> {
        let number = tick(&item).ok_or("no number")?;
        out.send_on(1, Item::At(number, (number as f64).sin()))?;
        out.send(item)?;
        Ok(Flow::GoOn)
    }
}

/// Says at which input something came.
struct Inputs;

impl Node for Inputs {
    type In = Item;
    type Out = Item;

    fn svc(&mut self, _: Item, _: &mut Outlet<Item>) -> Result<Flow, Cause> {
        Err("it is told the input".into())
    }

    fn svc_on(&mut self, input: usize, item: Item, out: &mut Outlet<Item>) -> Result<Flow, Cause> {
        out.send(Item::Row(vec![Item::Number(input as u64), item]))?;
        Ok(Flow::GoOn)
    }
}

/// The node types of these tests, and what came to the sinks.
fn registry() -> (Registry<Item>, Kept<Item>) {
    let kept: Kept<Item> = Kept::default();
    let copy = kept.clone();
    let numbers = || ClassInfo::new().input("in", "Number").output("out", "Number");
    let main = std::process::id();
    let registry = Registry::new()
        .source("Count", ClassInfo::new().output("out", "Number"), |making| {
            let Count { step, to, pause_ms } = making.settings()?;
            if step == 0 {
                return Err("a step of 0 leads nowhere".into());
            }
            let pause = move |n: &u64| {
                if pause_ms > 0 && n / step % 100 == 99 {
                    thread::sleep(Duration::from_millis(pause_ms));
                }
            };
            Ok(source((0..to).step_by(step as usize).inspect(pause).map(Item::Number)))
        })
        .source("Forever", ClassInfo::new().output("out", "Number"), |_| {
            Ok(source((0..).map(Item::Number)))
        })
        .source("Name", ClassInfo::new().output("out", "Name"), |making| {
            let name: String = making.node().name.clone();
            Ok(source([Item::Name(name)]))
        })
        .node("Both", numbers().output("sines", "Sine"), |_| Ok(Both))
        .node("Tenfold", numbers(), |_| {
            Ok(try_map(|item: Item| tick(&item).map(|n| Item::Number(10 * n)).ok_or("no number")))
        })
        .node("Twice", numbers(), |_| Ok(flat_map(|item: Item| [item.clone(), item])))
        .node("Whole", numbers(), |making| {
            let Divisor { by } = making.settings()?;
            Ok(try_map(move |item: Item| match tick(&item) {
                Some(n) if n % by != 0 => Err(format!("{n} is not divided by {by}")),
                _ => Ok(item),
            }))
        })
        .node("Long", numbers(), |making| {
            let Divisor { by } = making.settings()?;
            Ok(try_map(move |item: Item| {
                let length = by + tick(&item).ok_or("no number")?;
                Ok::<_, Cause>(Item::Name("x".repeat(length as usize)))
            }))
        })
        .node("Same", numbers(), |_| Ok(try_map(Ok::<Item, Cause>)))
        .node("OnlyHere", numbers(), move |_| {
            if std::process::id() != main {
                return Err("not here".into());
            }
            Ok(try_map(Ok::<Item, Cause>))
        })
        .node(
            "Inputs",
            ClassInfo::new()
                .input("a", "Number")
                .optional_input("b", "Number")
                .output("out", "Row"),
            |_| Ok(Inputs),
        )
        .join_by_tick(tick, row)
        .join_latest(row)
        .join_nearest(tick, row)
        .sink("Keep", ClassInfo { inputs: any(), outputs: vec![] }, move |_| {
            let kept = copy.clone();
            Ok(each(move |item| kept.lock().unwrap().push(item)))
        })
        .sink("Drop", ClassInfo { inputs: any(), outputs: vec![] }, |_| {
            Ok(from_fn(|_: Item, _: &mut Outlet<()>| Ok(Flow::GoOn)))
        });
    (registry, kept)
}

fn any() -> Vec<msgproc::flow::file::PortInfo> {
    vec![msgproc::flow::file::PortInfo { name: "in".into(), items: None, required: true }]
}

/// Places for the nodes of a graph, in turn.
const PLACES: [&[&str]; 7] = [
    &[""],
    &["1"],
    &["2:1"],
    &["", "1", "2:1"],
    &["1:", "2:", "", "3:a", "3:b"],
    &["1", "2", "3", "4", "5", "6"],
    &["left:", "right:", "gpu:cuda"],
];

/// The graph with its nodes at these places; `Keep` stays here.
fn placed(registry: &Registry<Item>, yaml: &str, places: &[&str]) -> Loaded<Item> {
    let mut file = GraphFile::from_yaml(yaml).unwrap();
    let mut places = places.iter().cycle();
    for node in &mut file.nodes {
        if node.class != "Keep" {
            let location: Location = places.next().unwrap().parse().unwrap();
            node.compute_on = vec![location];
        }
    }
    registry.check(file).unwrap()
}

fn rows(rows: impl IntoIterator<Item = Vec<Item>>) -> Vec<Item> {
    rows.into_iter().map(Item::Row).collect()
}

fn the_same_values_everywhere() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 2000}}
  both: {class: Both}
  tenfold: {class: Tenfold}
  twice: {class: Twice}
  sines: {class: Drop}
  keep: {class: Keep}
connections:
  - numbers -> both
  - both.out -> tenfold (capacity 7)
  - both.sines -> sines
  - tenfold -> twice
  - twice -> keep
";
    let (registry, kept) = registry();
    let expected: Vec<_> = (0..2000).flat_map(|n| vec![Item::Number(10 * n); 2]).collect();
    for places in PLACES {
        let report = placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), expected, "{places:?}");
        assert_eq!(report.node("sines").unwrap().items_in(), 2000, "{places:?}");
        assert_eq!(report.node("keep").unwrap().items_in(), 4000, "{places:?}");
    }
}

fn several_workers_at_several_places() {
    let (registry, kept) = registry();
    for (how, expected) in [
        ("workers: 3", "1:0"),
        ("compute_on: ['1:', '2:']", "1:0, 2:0"),
        ("compute_on: ['1', '2:', '']", "0:1, 2:0, same"),
        ("{compute_on: ['x:', 'x:y'], workers: 2}", "1:0, 1:1"),
    ] {
        let how = how.trim_matches(['{', '}']);
        let how = if how.starts_with("workers") {
            format!("{how}, compute_on: '1:'")
        } else {
            how.into()
        };
        let yaml = format!(
            "
nodes:
  numbers: {{class: Count, settings: {{to: 3000}}}}
  tenfold: {{class: Tenfold, {how}, ordered: true}}
  keep: {{class: Keep}}
connections: [numbers -> tenfold, tenfold -> keep]
"
        );
        let loaded = registry.check(GraphFile::from_yaml(&yaml).unwrap()).unwrap();
        let report = loaded.run().unwrap();
        let tenfold = report.node("tenfold").unwrap();
        assert_eq!(tenfold.placement, expected, "{how}");
        assert_eq!(tenfold.items_in(), 3000, "{how}");
        assert_eq!(taken(&kept), (0..3000).map(|n| Item::Number(10 * n)).collect::<Vec<_>>());
    }
}

fn length(item: Item) -> usize {
    let Item::Name(name) = item else { panic!("{item:?}") };
    name.len()
}

/// Of which only few go into a message.
fn long_items_keep_their_order() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 300}, compute_on: '1:'}
  names: {class: Long, settings: {by: 30000}, compute_on: '2:'}
  same: {class: Same, compute_on: ['3:', '4:', '5'], ordered: true}
  last: {class: Same, compute_on: '6:'}
  keep: {class: Keep}
connections: [numbers -> names, names -> same, same -> last, last -> keep]
";
    let (registry, kept) = registry();
    registry.check(GraphFile::from_yaml(yaml).unwrap()).unwrap().run().unwrap();
    let lengths: Vec<_> = taken(&kept).into_iter().map(length).collect();
    assert_eq!(lengths, (0..300).map(|n| 30000 + n).collect::<Vec<_>>());
}

fn outputs_and_inputs_have_numbers() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 50}}
  others: {class: Count, settings: {to: 50}}
  both: {class: Both}
  inputs: {class: Inputs}
  keep: {class: Keep}
connections: [numbers -> both, both.out -> inputs.b, others -> inputs.a, inputs -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        placed(&registry, yaml, places).run().unwrap();
        let items = taken(&kept);
        let mut of = [0, 0];
        for item in items {
            let Item::Row(row) = item else { panic!("{item:?}") };
            let [Item::Number(input), Item::Number(n)] = row[..] else { panic!("{row:?}") };
            // Each input keeps its order.
            assert_eq!(n, of[input as usize], "{places:?}");
            of[input as usize] += 1;
        }
        assert_eq!(of[0], 50, "{places:?}");
    }
}

fn run_twice() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 100}, compute_on: '1:'}
  keep: {class: Keep}
connections: [numbers -> keep]
";
    let (registry, kept) = registry();
    let loaded = registry.check(GraphFile::from_yaml(yaml).unwrap()).unwrap();
    let expected: Vec<_> = (0..100).map(Item::Number).collect();
    for _ in 0..3 {
        loaded.run().unwrap();
        assert_eq!(taken(&kept), expected);
    }
    registry.graph(loaded.file()).unwrap().run().unwrap();
    assert_eq!(taken(&kept), expected);
    loaded.start().unwrap().wait().unwrap();
    assert_eq!(taken(&kept), expected);
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
connections:
  - numbers -> kepe
",
    )
    .to_string();
    assert!(all.contains("line 2: setting to of node \"numbers\""), "{all}");
    assert!(all.contains("line 5: connection numbers -> kepe: there is no node \"kepe\""), "{all}");

    for (nodes, connections, words) in [
        (
            "t: {class: Inputs}\n  t2: {class: Tenfold}",
            "- n -> t2\n  - t2 -> t\n  - {from: t2, to: t.b, feedback: true}",
            "line 8: connection t2 -> t.b is feedback, and such graphs are read and not run",
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

fn joins_by_tick() {
    let yaml = "
nodes:
  all: {class: Count, settings: {to: 898}}
  thirds: {class: Count, settings: {to: 898, step: 3}}
  ann: {class: Name}
  bob: {class: Name}
  join: {class: join.by_tick, settings: {window: 16}}
  keep: {class: Keep}
connections:
  - ann -> join.in0 (sticky)
  - all -> join.in1
  - thirds -> join.in5
  - bob -> join.in3 (sticky)
  - join -> keep
";
    let (registry, kept) = registry();
    let name = |name: &str| Item::Name(name.into());
    let expected = rows(
        (0..300).map(|n| vec![Item::Number(3 * n), Item::Number(3 * n), name("ann"), name("bob")]),
    );
    for places in PLACES {
        let report = placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), expected, "{places:?}");
        let join = &report.node("join").unwrap().workers[0];
        assert_eq!(join.discarded, 598, "{places:?}");
    }
}

fn joins_the_latest() {
    let yaml = "
nodes:
  all: {class: Count, settings: {to: 1000}}
  ann: {class: Name}
  join: {class: join.latest, settings: {hold: 4}}
  keep: {class: Keep}
connections: [all -> join.in0, ann -> join.in1, join -> keep]
";
    let (registry, kept) = registry();
    let expected = rows((0..1000).map(|n| vec![Item::Number(n), Item::Name("ann".into())]));
    for places in PLACES {
        let report = placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), expected, "{places:?}");
        assert_eq!(report.node("join").unwrap().workers[0].discarded, 0, "{places:?}");
    }
}

fn joins_the_nearest() {
    let yaml = "
nodes:
  tens: {class: Count, settings: {to: 3000, step: 10}}
  sevens: {class: Count, settings: {to: 3001, step: 7}}
  join: {class: join.nearest, settings: {tolerance: 2, capacity: 4}}
  keep: {class: Keep}
connections: [tens -> join.in0, sevens -> join.in1, join -> keep]
";
    let (registry, kept) = registry();
    let nearest = |n: u64| {
        let (below, above) = (n / 7 * 7, n / 7 * 7 + 7);
        if n - below <= above - n { below } else { above }
    };
    let pairs = (0..3000).step_by(10).map(|n| (n, nearest(n))).filter(|(n, m)| n.abs_diff(*m) <= 2);
    let expected = rows(pairs.map(|(n, m)| vec![Item::Number(n), Item::Number(m)]));
    for places in PLACES {
        placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), expected, "{places:?}");
    }
}

/// One side is slow, and the other has far more than the join and the edges hold.
fn a_join_holds_its_senders_back() {
    let yaml = "
nodes:
  fast: {class: Count, settings: {to: 3000}}
  slow: {class: Count, settings: {to: 3000, pause_ms: 1}}
  join: {class: join.by_tick, settings: {window: 3}}
  keep: {class: Keep}
connections:
  - fast -> join.in0 (capacity 5)
  - slow -> join.in1
  - join -> keep
";
    let (registry, kept) = registry();
    let expected = rows((0..3000).map(|n| vec![Item::Number(n); 2]));
    for places in PLACES {
        for kind in
            ["by_tick, settings: {window: 3}", "nearest, settings: {capacity: 2, tolerance: 0}"]
        {
            let yaml = yaml.replace("by_tick, settings: {window: 3}", kind);
            let report = placed(&registry, &yaml, places).run().unwrap();
            assert_eq!(taken(&kept), expected, "{places:?} {kind}");
            assert_eq!(report.node("join").unwrap().workers[0].discarded, 0, "{places:?} {kind}");
        }
    }
}

fn a_join_that_holds_nobody_back_counts() {
    let yaml = "
nodes:
  fast: {class: Count, settings: {to: 3000}}
  slow: {class: Count, settings: {to: 3000, pause_ms: 1}}
  join: {class: join.by_tick, settings: {window: 3, when_full: discard}}
  keep: {class: Keep}
connections: [fast -> join.in0, slow -> join.in1, join -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        let report = placed(&registry, yaml, places).run().unwrap();
        let join = &report.node("join").unwrap().workers[0];
        let joined = taken(&kept).len() as u64;
        assert_eq!(join.discarded + 2 * joined, join.items_in, "{places:?}");
        assert!(join.items_in >= 3000, "{places:?}");
    }
}

fn a_join_ends_when_no_row_can_come() {
    let yaml = "
nodes:
  some: {class: Count, settings: {to: 20}}
  forever: {class: Forever}
  join: {class: join.KIND}
  keep: {class: Keep}
connections: [some -> join.in0, forever -> join.in1, join -> keep]
";
    let (registry, kept) = registry();
    let expected = rows((0..20).map(|n| vec![Item::Number(n); 2]));
    for places in PLACES {
        for kind in ["by_tick", "latest", "nearest, settings: {tolerance: 0}"] {
            placed(&registry, &yaml.replace("KIND", kind), places).run().unwrap();
            let rows = taken(&kept);
            match kind {
                "latest" => assert_eq!(rows.len(), 20, "{places:?}"),
                _ => assert_eq!(rows, expected, "{places:?} {kind}"),
            }
        }
    }
}

fn a_join_with_more_slack_than_window_goes_on() {
    let yaml = "
nodes:
  one: {class: Count, settings: {to: 500}}
  two: {class: Count, settings: {to: 500}}
  join: {class: join.by_tick, settings: {window: 4, slack: 50}}
  keep: {class: Keep}
connections: [one -> join.in0, two -> join.in1, join -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        let report = placed(&registry, yaml, places).run().unwrap();
        let join = &report.node("join").unwrap().workers[0];
        assert_eq!(join.discarded + 2 * taken(&kept).len() as u64, 1000, "{places:?}");
    }
}
