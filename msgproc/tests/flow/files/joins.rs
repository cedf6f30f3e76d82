//! Joins in files.

use super::{Item, PLACES, placed, registry, rows};
use crate::common::taken;

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(joins_by_tick),
        testkit::test!(joins_the_latest),
        testkit::test!(joins_the_nearest),
        testkit::test!(a_join_holds_its_senders_back),
        testkit::test!(a_join_that_holds_nobody_back_counts),
        testkit::test!(a_join_ends_when_no_row_can_come),
        testkit::test!(a_join_with_more_slack_than_window_goes_on),
    ]
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
        assert_eq!(join.discarded_at, [0, 598, 0, 0, 0, 0], "{places:?}");
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
        assert_eq!(join.discarded_at.iter().sum::<u64>(), join.discarded, "{places:?}");
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
