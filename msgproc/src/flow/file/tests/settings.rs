use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Filter {
    channels: Vec<String>,
    band: (f64, f64),
    #[serde(default)]
    order: Option<u8>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    gains: BTreeMap<String, f32>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Off,
    Clip(f64),
    Window {
        length: usize,
    },
    Pair(u8, u8),
}

fn node(settings: &str) -> Node {
    let text = format!("nodes:\n  filter:\n    class: Filter\n    settings:\n{settings}");
    GraphFile::from_yaml(&text).unwrap().nodes.remove(0)
}

#[track_caller]
fn said(settings: &str) -> String {
    node(settings).parse_settings::<Filter>().unwrap_err().to_string()
}

#[test]
fn all_kinds() {
    let mode = |mode: &str| {
        let settings = format!("      channels: [a]\n      band: [1, 2.5]\n      mode: {mode}\n");
        node(&settings).parse_settings::<Filter>().unwrap().mode
    };
    assert_eq!(mode("off"), Mode::Off);
    assert_eq!(mode("{clip: 2}"), Mode::Clip(2.0));
    assert_eq!(mode("{window: {length: 4}}"), Mode::Window { length: 4 });
    assert_eq!(mode("{pair: [1, 2]}"), Mode::Pair(1, 2));
    let settings = "      channels: []\n      band: [0, 1]\n      order: 3\n      gains: {x: 1}\n";
    let filter: Filter = node(settings).parse_settings().unwrap();
    assert_eq!(filter.order, Some(3));
    assert_eq!(filter.gains["x"], 1.0);
    let settings = "      channels: []\n      band: [18446744073709551616, -9223372036854775809]\n";
    let filter: Filter = node(settings).parse_settings().unwrap();
    assert_eq!(filter.band, (2_f64.powi(64), -(2_f64.powi(63))));
    assert_eq!(
        node("      window: {length: 4}\n").parse_settings(),
        Ok(Mode::Window { length: 4 })
    );
    assert_eq!(node("      off:\n").parse_settings(), Ok(Mode::Off));
    assert_eq!(node("      clip: 2\n").parse_settings(), Ok(Mode::Clip(2.0)));
    let two = node("      clip: 2\n      off:\n").parse_settings::<Mode>().unwrap_err();
    assert_eq!(
        two.to_string(),
        "line 2: settings of node \"filter\": one name is expected, and not 2"
    );
    assert_eq!(Node::new("a", "A").parse_settings::<()>(), Ok(()));
    assert_eq!(Node::new("a", "A").parse_settings::<Option<Mode>>(), Ok(None));
}

#[test]
fn errors_say_where() {
    assert_eq!(
        said("      channels: [a]\n      band: [1, x]\n"),
        "line 6: setting band[1] of node \"filter\": invalid type: string \"x\", expected f64"
    );
    assert_eq!(
        said("      channels: [a]\n      band: [1, 2, 3]\n"),
        "line 6: setting band of node \"filter\": invalid length 3, expected a shorter list"
    );
    assert_eq!(
        said(
            "      channels: [a]\n      band: [1, 2]\n      mode:\n        window:\n          length: -4\n"
        ),
        "line 9: setting mode.window.length of node \"filter\": \
         invalid value: integer `-4`, expected usize"
    );
    assert_eq!(
        said("      channels: [a]\n      band: [1, 2]\n      order: 300\n"),
        "line 7: setting order of node \"filter\": invalid value: integer `300`, expected u8"
    );
    let unknown = said("      channels: [a]\n      bend: [1, 2]\n");
    assert!(unknown.starts_with("line 6: setting bend of node \"filter\": unknown field `bend`"));
    assert_eq!(
        said("      channels: [a]\n"),
        "line 2: settings of node \"filter\": missing field `band`"
    );
    let mode = said("      channels: [a]\n      band: [1, 2]\n      mode: of\n");
    assert!(mode.starts_with("line 7: setting mode of node \"filter\": unknown variant `of`"));
}
