//! Runs the `biosignal` program as a user would.

#![allow(clippy::disallowed_methods)] // starts the program under test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use examples::biosignal::{Recording, Settings, analyse, csv};
use testkit::{children_of, kill9, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

const PLACES: [&str; 4] = ["same", "threads", "processes", "mixed"];

fn biosignal() -> Command {
    Command::new(env!("CARGO_BIN_EXE_biosignal"))
}

fn run<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    biosignal().args(args).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn expected(settings: &Settings) -> String {
    csv(&analyse(&Recording::open(data("ppg.csv")).unwrap(), settings).unwrap())
}

#[test]
fn without_arguments_it_reads_the_bundled_recording() {
    let output = run::<&str>([]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let said = stdout(&output);
    let rates: Vec<f64> = said
        .lines()
        .skip(1)
        .take(57)
        .map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap())
        .collect();
    // Read off a picture by eye: about 62 beats a minute towards the end.
    assert!(rates[40..].iter().all(|rate| (58.0..74.0).contains(rate)), "{rates:?}");
    for node in ["recording", "band pass", "windows", "spectra", "meter", "vitals"] {
        assert!(said.lines().any(|line| line.starts_with(node)), "no {node} in\n{said}");
    }
    assert!(said.contains("blocks in use 0"), "{said}");
}

#[test]
fn the_place_makes_no_difference() {
    let expected = expected(&Settings::default());
    for place in PLACES {
        let output = run(["--place", place, "--csv", "-", "--verify"]);
        assert!(output.status.success(), "{place}: {}", stderr(&output));
        assert_eq!(stdout(&output), expected, "{place}");
        let summary = stderr(&output);
        assert!(summary.contains("verified: 57 windows"), "{place}: {summary}");
    }
}

#[test]
fn a_printed_graph_gives_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let expected = expected(&Settings::default());
    for place in PLACES {
        let graph = directory.path().join("graph.yaml");
        let printed = run(["--place", place, "--print-graph"]);
        assert!(printed.status.success(), "{}", stderr(&printed));
        fs::write(&graph, printed.stdout).unwrap();
        let output = biosignal().arg("--graph").arg(&graph).args(["--csv", "-"]).output().unwrap();
        assert_eq!(stdout(&output), expected, "{place}: {}", stderr(&output));
    }
}

#[test]
fn settings_of_a_graph_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let graph = directory.path().join("graph.yaml");
    let text = fs::read_to_string(data("biosignal.yaml")).unwrap();
    let text = text.replace("length: 16, hop: 2", "length: 10, hop: 10");
    fs::write(&graph, text.replace("chunk: 256", "chunk: 1000")).unwrap();
    let output = biosignal()
        .arg("--graph")
        .arg(&graph)
        .args(["--verify", "--csv", "-", "--place", "processes"])
        .output()
        .unwrap();
    let mut settings = Settings::default();
    (settings.window.length, settings.window.hop) = (10.0, 10.0);
    assert_eq!(stdout(&output), expected(&settings), "{}", stderr(&output));
    assert!(stderr(&output).contains("verified: 12 windows"), "{}", stderr(&output));
}

#[test]
fn csv_and_plot_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let output = biosignal()
        .arg("--csv")
        .arg(at("out.csv"))
        .arg("--plot")
        .arg(at("out.svg"))
        .arg("--dot")
        .arg(at("out.dot"))
        .arg("--mermaid")
        .arg(at("out.mmd"))
        .arg("--input")
        .arg(data("ppg.csv"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("window  start_s"), "{}", stdout(&output));
    assert_eq!(fs::read_to_string(at("out.csv")).unwrap(), expected(&Settings::default()));
    let svg = fs::read_to_string(at("out.svg")).unwrap();
    let [dot, mermaid] = ["out.dot", "out.mmd"].map(|name| fs::read_to_string(at(name)).unwrap());
    assert!(dot.starts_with("digraph") && dot.contains("band pass"), "{dot}");
    assert!(mermaid.contains("band pass") && mermaid.contains("-->"), "{mermaid}");
    assert!(svg.starts_with("<svg") && svg.matches("<polyline").count() > 2, "{svg}");
}

#[test]
fn mistakes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    let graph = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(data("biosignal.yaml")).unwrap();
        assert!(text.contains(from));
        fs::write(at(name), text.replace(from, to)).unwrap();
        at(name)
    };
    let short: String = "timer,hr\n".to_owned()
        + &(0..200).map(|n| format!("{},{}\n", 8 * n, n % 9)).collect::<String>();
    fs::write(at("short.csv"), short).unwrap();
    let low = graph("low.yaml", "low: 0.7, high: 4, order", "low: -1, high: 4, order");
    let class = graph("class.yaml", "class: Meter", "class: Metre");
    let node = graph("node.yaml", "spectra -> meter", "spectra -> metre");
    let items = graph("items.yaml", "windows -> spectra", "band pass -> spectra");
    let away = graph("away.yaml", "class: Vitals", "class: Vitals\n    compute_on: '1:'");
    let key = graph("key.yaml", "workers: 2", "workerz: 2");
    for (args, code, message) in [
        (vec!["--input", &at("missing.csv")], 1, "cannot read"),
        (
            vec!["--input", &at("short.csv")],
            1,
            "node \"windows\", worker 0, could not end: the recording lasts 1.6 s",
        ),
        (vec!["--input", &at("short.csv"), "--place", "processes"], 1, "the recording lasts 1.6 s"),
        (vec!["--graph", &at("missing.yaml")], 1, "cannot read graph file"),
        (vec!["--graph", &at("short.csv")], 1, "neither YAML nor JSON"),
        (
            vec!["--graph", &low],
            1,
            "line 8: node \"band pass\" of class \"BandPass\" cannot be made: band_pass.low cannot be -1",
        ),
        (
            vec!["--graph", &class],
            1,
            "is of class \"Metre\", which is not known; did you mean \"Meter\"?",
        ),
        (vec!["--graph", &node], 1, "there is no node \"metre\"; did you mean \"meter\"?"),
        (vec!["--graph", &items], 1, "gives \"Filtered\" to an input that takes \"Window\""),
        (vec!["--graph", &away], 1, "let its compute_on name none"),
        (vec!["--graph", &key], 1, "knows no \"workerz\"; did you mean \"workers\"?"),
        (vec!["--csv", &at("missing/out.csv")], 1, "cannot write"),
        (vec!["--place", "moon"], 2, "[possible values: same, threads, processes, mixed]"),
        (vec!["--inptu", "x"], 2, "--input"),
    ] {
        let output = run(&args);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {messages}");
        assert!(messages.contains(message), "{args:?}: no {message:?} in {messages}");
        assert!(!messages.contains("panicked"), "{args:?}: {messages}");
    }
}

#[test]
fn help_says_what_node_types_there_are() {
    let output = run(["--help"]);
    assert!(output.status.success());
    for word in
        ["--graph", "--place", "--verify", "BandPass", "chunk", "respiration", "Exit status"]
    {
        assert!(stdout(&output).contains(word), "{word}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let before = shared_memory();
    for place in PLACES {
        let output = run(["--place", place]);
        assert!(output.status.success(), "{place}");
    }
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("long.csv");
    let rows: String = (0..1_000_000).map(|n| format!("{},{}\n", 10 * n, n % 97)).collect();
    fs::write(&long, format!("timer,hr\n{rows}")).unwrap();
    let mut child = biosignal()
        .args(["--place", "processes", "--input"])
        .arg(&long)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = wait_until(PATIENCE, || children_of(child.id()).len() >= 6);
    assert!(begun, "its six processes are not there");
    let children = children_of(child.id());
    kill9(child.id());
    child.wait().unwrap();
    let gone = wait_until(PATIENCE, || {
        children.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    assert!(gone, "some of its processes are still there");
    assert_eq!(shared_memory(), before);
}

fn shared_memory() -> usize {
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries
        .filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("shmring")
        })
        .count()
}
