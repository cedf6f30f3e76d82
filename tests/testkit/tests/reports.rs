//! What the runner says of tests that go wrong.

#![allow(clippy::disallowed_methods)] // starts the demonstration

use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, fs, str};

/// Runs one test of the demonstration, with the options given.
fn demo(test: &str, options: &[&str]) -> Report {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit-demo"));
    // What nextest sets for us is not meant for the demonstration.
    command.args([test, "--exact"]).args(options).env_remove("RUST_BACKTRACE");
    Report::of(command.output().unwrap())
}

struct Report {
    success: bool,
    text: String,
}

impl Report {
    fn of(output: Output) -> Report {
        let text = str::from_utf8(&output.stdout).unwrap().to_owned();
        Report { success: output.status.success(), text }
    }

    #[track_caller]
    fn says(&self, what: &str) -> &Self {
        assert!(self.text.contains(what), "no {what:?} in:\n{}", self.text);
        self
    }

    #[track_caller]
    fn keeps_quiet_about(&self, what: &str) -> &Self {
        assert!(!self.text.contains(what), "{what:?} in:\n{}", self.text);
        self
    }

    #[track_caller]
    fn failed(&self) -> &Self {
        assert!(!self.success, "did not fail:\n{}", self.text);
        self.says("test result: FAILED. 0 passed; 1 failed; 0 ignored")
    }

    #[track_caller]
    fn passed(&self) -> &Self {
        assert!(self.success, "did not pass:\n{}", self.text);
        self.says("test result: ok. 1 passed; 0 failed; 0 ignored")
    }

    /// The pid that the test printed on a line of its own.
    #[track_caller]
    fn pid(&self) -> u32 {
        let pid = self.text.lines().find_map(|line| line.parse().ok());
        pid.unwrap_or_else(|| panic!("no pid in:\n{}", self.text))
    }
}

#[test]
fn passing_is_quiet() {
    demo("passes", &[]).passed().keeps_quiet_about("said by a test");
}

#[test]
fn nocapture_shows_the_output() {
    demo("passes", &["--nocapture"]).passed().says("said by a test that passes");
}

#[test]
fn panic_fails_with_its_message() {
    let report = demo("panics", &[]);
    report.failed().says("said before the panic").says("two and two are four").says("demo/main.rs");
}

#[test]
fn error_fails_with_its_text() {
    demo("returns_an_error", &[]).failed().says("no such luck");
}

#[test]
fn abort_fails_with_the_signal() {
    demo("aborts", &[]).failed().says("killed by SIGABRT");
}

#[test]
fn exit_before_the_end_fails() {
    demo("exits_early", &[]).failed().says("exited with code 0 before its end");
}

#[test]
fn hang_is_killed_with_its_tree() {
    let start = Instant::now();
    let report = demo("hangs", &[]);
    report.failed().says("not done after 1s").says("\"sleep\"");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!testkit::alive(report.pid()));
}

#[test]
fn child_left_behind_fails() {
    let report = demo("leaves_a_child", &[]);
    report.failed().says("left 1 process behind").says("\"sleep\"");
    assert!(!testkit::alive(report.pid()));
}

#[test]
fn orphan_left_behind_fails() {
    let report = demo("leaves_an_orphan", &[]);
    report.failed().says("left 1 process behind").says("\"sleep\"");
    assert!(!testkit::alive(report.pid()));
}

#[test]
fn orphan_on_its_way_out_is_waited_for() {
    demo("orphan_that_ends_soon", &[]).passed();
}

#[test]
fn file_left_behind_fails_and_is_removed() {
    let report = demo("leaves_a_file", &[]);
    report.failed().says("left 1 file in /dev/shm");
    let name = report.text.lines().find(|line| line.ends_with("left.npy")).unwrap().trim();
    assert!(fs::symlink_metadata(format!("/dev/shm/{name}")).is_err());
}

#[test]
fn fork_that_comes_back_fails() {
    demo("escapes", &[]).failed().says("returned into the frames");
}

#[test]
fn ignored_when_run_says_why() {
    let report = demo("ignored_when_run", &[]);
    assert!(report.success);
    report.says("0 passed; 0 failed; 1 ignored");
    report.says("ignored: ignored_when_run: the moon is down");
}

#[test]
fn ignored_when_listed_says_why() {
    let report = demo("ignored_when_listed", &[]);
    assert!(report.success);
    report.says("0 passed; 0 failed; 1 ignored");
    report.says("ignored: ignored_when_listed: it is not Sunday");
}

#[test]
fn ignored_runs_when_asked_for() {
    demo("ignored_when_listed", &["--ignored"]).failed().says("run in spite of the reason");
}

#[test]
fn long_output_is_cut() {
    let report = demo("talks_a_lot", &[]);
    report.failed().says("bytes left out").says("after a mebibyte of output");
    assert!(report.text.len() < 300 * 1024);
}

#[test]
fn lists_as_nextest_wants_it() {
    let list = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testkit-demo"));
        Report::of(command.args(["--list", "--format", "terse"]).args(options).output().unwrap())
    };
    let all = list(&[]);
    assert!(all.success);
    assert_eq!(all.text.lines().count(), 18);
    assert!(all.text.lines().all(|line| line.ends_with(": test")));
    all.says("named::by_hand: test\n");
    assert_eq!(list(&["--ignored"]).text, "ignored_when_listed: test\n");
}

/// Two tests that wait for each other.
fn meeting(options: &[&str], threads: &str) -> Report {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit-demo"));
    let place = env::temp_dir().join(testkit::name("meeting"));
    fs::create_dir(&place).unwrap();
    command.arg("meets_").args(options);
    command.env("RUST_TEST_THREADS", threads).env("MEETING_PLACE", &place);
    let output = command.output().unwrap();
    fs::remove_dir_all(&place).unwrap();
    Report::of(output)
}

#[test]
fn tests_go_on_at_once() {
    meeting(&["--test-threads=2"], "1").says("ok. 2 passed; 0 failed");
    meeting(&[], "2").says("ok. 2 passed; 0 failed");
}

#[test]
fn one_at_a_time_if_asked_for() {
    let report = meeting(&["--test-threads=1"], "2");
    assert!(!report.success);
    // The second finds the first's file.
    report.says("1 passed; 1 failed").says("nobody came");
}

#[test]
fn who_supervises_is_killed() {
    demo("kills_who_supervises_it", &[])
        .failed()
        .says("supervises the test failed")
        .says("SIGKILL");
}
