//! The same graphs at all places.

use msgproc::flow::file::GraphFile;

use super::{Item, PLACES, placed, registry};
use crate::{common::taken, death::with_kills};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(the_same_values_everywhere),
        testkit::test!(connections_with_bounds_beyond_all_memory),
        testkit::test!(several_workers_at_several_places),
        testkit::test!(long_items_keep_their_order),
        testkit::test!(outputs_and_inputs_have_numbers),
        testkit::test!(processes_are_killed_everywhere, timeout = 120),
        testkit::test!(run_twice),
        testkit::test!(futures_are_awaited),
        testkit::test!(items_go_round),
        testkit::test!(what_is_sent_at_the_end_arrives),
    ]
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

fn connections_with_bounds_beyond_all_memory() {
    let (registry, kept) = registry();
    for (bound, place) in [
        ("capacity 100000000000", ""),
        ("capacity 100000000000", "1:"),
        ("capacity 18446744073709551615", "1"),
        ("bytes 9223372036854775807", "1"),
    ] {
        let yaml = format!(
            "
nodes:
  numbers: {{class: Count, settings: {{to: 100}}}}
  keep: {{class: Same, compute_on: '{place}'}}
  sink: {{class: Keep}}
connections: ['numbers -> keep ({bound})', keep -> sink]
"
        );
        registry.check(GraphFile::from_yaml(&yaml).unwrap()).unwrap().run().unwrap();
        assert_eq!(taken(&kept).len(), 100, "{bound} at {place:?}");
        if bound.starts_with("bytes") {
            let yaml = yaml.replace("compute_on: '1'", "compute_on: '1:'");
            let loaded = registry.check(GraphFile::from_yaml(&yaml).unwrap()).unwrap();
            let error = loaded.run().unwrap_err().to_string();
            assert!(error.contains("from \"numbers\" to \"keep\""), "{error}");
        }
    }
}

fn several_workers_at_several_places() {
    let (registry, kept) = registry();
    for (how, expected) in [
        ("workers: 3", "1:0"),
        ("compute_on: ['1:', '2:']", "1:0, 2:0"),
        ("compute_on: ['1', '2:', '']", "0:1, 2:0, same"),
        ("compute_on: ['task', '1', 'task']", "task, 0:1, task"),
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

/// Whatever is in one process with what, all of it is replaced.
fn processes_are_killed_everywhere() {
    let yaml = "
nodes:
  step-numbers: {class: Count, settings: {to: 3000}, on_error: retry 1000}
  step-tenfold: {class: Tenfold, on_error: retry 1000}
  step-twice: {class: Twice, on_error: quarantine 1000}
  step-same: {class: Same, on_error: retry 1000}
  step-inputs: {class: AllInputs, on_error: retry 1000}
  keep: {class: Keep}
connections:
  - step-numbers -> step-tenfold
  - step-tenfold -> step-twice (capacity 1)
  - step-numbers -> step-same (capacity 3)
  - step-twice -> step-inputs.a
  - step-same -> step-inputs.b
  - step-inputs -> keep
";
    let (registry, kept) = registry();
    let tenfold = (0..3000).flat_map(|n| [10 * n; 2]);
    let expected = [tenfold.collect(), (0..3000).collect::<Vec<u64>>()];
    let mut all_kills = 0;
    for places in PLACES {
        let loaded = placed(&registry, yaml, places);
        let (report, kills) = with_kills(registry.graph(loaded.file()).unwrap(), 30, 5_172_645);
        let mut of = [Vec::new(), Vec::new()];
        for item in taken(&kept) {
            let Item::Row(row) = item else { panic!("{item:?}") };
            let [Item::Number(input), Item::Number(n)] = row[..] else { panic!("{row:?}") };
            of[input as usize].push(n);
        }
        assert!(of == expected, "{places:?}, {kills} kills\n{report}");
        all_kills += kills;
    }
    assert!(all_kills > 20, "{all_kills} kills only");
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

/// Also where errors are handled again, which says nothing against what awaits futures.
fn futures_are_awaited() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 2000}}
  awaited: {class: Awaited, ordered: true}
  again: {class: Awaited, ordered: true, on_error: retry 2}
  keep: {class: Keep}
connections: [numbers -> awaited, awaited -> again, again -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), (0..2000).map(Item::Number).collect::<Vec<_>>(), "{places:?}");
    }
}

fn what_is_sent_at_the_end_arrives() {
    let yaml = "
nodes:
  numbers: {class: Count, settings: {to: 2000}}
  sum: {class: Sum}
  keep: {class: Keep}
connections: [numbers -> sum, sum -> keep]
";
    let (registry, kept) = registry();
    for places in PLACES {
        placed(&registry, yaml, places).run().unwrap();
        assert_eq!(taken(&kept), [Item::Number((0..2000).sum())], "{places:?}");
    }
}

/// As often as they have to, and the graph ends when none does any more.
fn items_go_round() {
    let odd = |mut n: u64| {
        while n > 0 && n.is_multiple_of(2) {
            n /= 2;
        }
        n
    };
    let mut expected: Vec<u64> = (0..2000).map(odd).collect();
    expected.sort_unstable();
    for marks in ["feedback", "feedback, credits 1", "feedback, credits 100, capacity 3"] {
        let yaml = format!(
            "
nodes:
  numbers: {{class: Count, settings: {{to: 2000}}}}
  halve: {{class: Halve}}
  same: {{class: Same}}
  keep: {{class: Keep}}
connections:
  - numbers -> halve
  - halve.out -> keep
  - halve.half -> same
  - same -> halve.again ({marks})
"
        );
        let (registry, kept) = registry();
        for places in PLACES {
            let report = placed(&registry, &yaml, places).run().unwrap();
            let numbers = taken(&kept).into_iter().map(|item| match item {
                Item::Number(n) => n,
                other => panic!("{other:?}"),
            });
            let mut numbers: Vec<u64> = numbers.collect();
            numbers.sort_unstable();
            assert_eq!(numbers, expected, "{places:?}, {marks}");
            let halves = report.node("same").unwrap().items_in();
            assert_eq!(report.node("halve").unwrap().items_in(), 2000 + halves, "{places:?}");
        }
    }
}
