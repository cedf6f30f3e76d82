//! `scripts/memwatch` shows every process of a program, until it ends.

#![allow(clippy::disallowed_methods)] // starts the script and what it watches

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// A shell with two sleepers below it; all of them end with the value.
struct Program {
    shell: Child,
    sleepers: [u32; 2],
}

impl Program {
    fn start() -> Program {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let sleepers = [(); 2].map(|()| lines.next().unwrap().unwrap().parse().unwrap());
        // The shell tells the number of its fork before that has become another program.
        for sleeper in sleepers {
            let is_sleep = || testkit::name_of(sleeper).as_deref() == Some("sleep");
            assert!(testkit::wait_until(Duration::from_secs(20), is_sleep));
        }
        Program { shell, sleepers }
    }

    fn pid(&self) -> u32 {
        self.shell.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for pid in testkit::descendants_of(self.pid()) {
            testkit::kill9(pid);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn memwatch(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(tests::script("memwatch")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text + &String::from_utf8(output.stderr).unwrap())
}

/// The fields of the line that starts with this word.
fn fields<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let mut lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&first)).unwrap_or_else(|| panic!("{text}"))
}

fn shows_the_whole_tree() {
    let program = Program::start();
    let (status, text) = memwatch(&["--once", &program.pid().to_string()]);
    assert_eq!(status, 0);
    assert_eq!(fields(&text, "PID"), ["PID", "PSS", "MiB", "RSS", "MiB", "CPU%", "NAME"]);
    assert_eq!(fields(&text, &program.pid().to_string())[4], "sh");
    for sleeper in program.sleepers {
        let line = fields(&text, &sleeper.to_string());
        assert_eq!(line[4], "sleep");
        assert!(line[2].parse::<f64>().unwrap() > 0.1, "{text}");
    }
    let total = fields(&text, "total");
    assert_eq!(total[4..], ["4", "processes"], "{text}");
}

fn measures_this_process() {
    // 64 MiB that are really there: pss agrees with what the kernel says.
    let memory = vec![1_u8; 64 << 20];
    let me = std::process::id().to_string();
    let (status, text) = memwatch(&["--once", &me]);
    assert_eq!(status, 0);
    let pss: f64 = fields(&text, &me)[1].parse().unwrap();
    let expected = testkit::pss_of(std::process::id()).unwrap() as f64 / f64::from(1 << 20);
    assert!(pss > 60.0 && (pss - expected).abs() < 8.0, "{pss} and {expected}");
    drop(memory);
}

fn ends_with_the_program() {
    let program = Program::start();
    let mut watch = Command::new(tests::script("memwatch"))
        .args(["-n", "0.1", &program.pid().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut table = || lines.any(|line| line.unwrap().contains("total"));
    assert!(table() && table());
    drop(program);
    let ended =
        testkit::wait_until(Duration::from_secs(20), || watch.try_wait().unwrap().is_some());
    assert!(ended);
    assert!(watch.wait().unwrap().success());
}

fn finds_by_name() {
    let name = testkit::name("w");
    let copy = std::path::Path::new("/dev/shm").join(&name);
    std::fs::copy("/bin/sleep", &copy).unwrap();
    let mut child = Command::new(&copy).arg("1000").spawn().unwrap();
    let (status, text) = memwatch(&["--once", &name]);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(status, 0, "{text}");
    assert_eq!(fields(&text, "total")[4], "1");
}

fn says_when_there_is_none() {
    let (status, text) = memwatch(&["--once", "no-such-program"]);
    assert_eq!(status, 1);
    assert!(text.contains("no process is called \"no-such-program\""), "{text}");
}

fn refuses_a_wrong_command_line() {
    for arguments in
        [&[][..], &["-n"], &["-n", "0", "x"], &["-n", "x", "y"], &["--no"], &["a", "b"]]
    {
        assert_eq!(memwatch(arguments).0, 2, "{arguments:?}");
    }
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(shows_the_whole_tree),
        testkit::test!(measures_this_process),
        testkit::test!(ends_with_the_program),
        testkit::test!(finds_by_name),
        testkit::test!(says_when_there_is_none),
        testkit::test!(refuses_a_wrong_command_line),
    ])
}
