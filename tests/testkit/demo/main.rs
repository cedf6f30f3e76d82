//! Tests that go wrong in every way the runner must notice; `tests/reports.rs`
//! runs them one by one and reads what the runner says.

#![allow(clippy::disallowed_methods)] // going wrong is what this program is for

use std::process::{self, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, path::PathBuf, thread};

use nix::unistd::{self, ForkResult, fork};

fn passes() {
    println!("said by a test that passes");
}

fn panics() {
    println!("said before the panic");
    panic!("two and two are four");
}

fn returns_an_error() -> Result<(), String> {
    Err("no such luck".to_owned())
}

fn aborts() {
    process::abort();
}

fn exits_early() {
    process::exit(0);
}

fn hangs() {
    println!("{}", sleeper());
    loop {
        thread::park();
    }
}

fn leaves_a_child() {
    println!("{}", sleeper());
    panic!("so that the output is shown");
}

/// Starts a shell that starts a sleeper and ends, which makes it an orphan.
fn leaves_an_orphan() {
    let shell = Command::new("sh")
        .args(["-c", "sleep 1000 & echo $!"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
        .wait();
    assert!(shell.unwrap().success());
}

fn orphan_that_ends_soon() {
    let shell = Command::new("sh").args(["-c", "sleep 0.05 &"]).spawn().unwrap().wait();
    assert!(shell.unwrap().success());
}

fn leaves_a_file() {
    fs::write(format!("/dev/shm/shmring.{}", testkit::name("left.npy")), "x").unwrap();
}

fn escapes() {
    // SAFETY: the runner gives each test a process with one thread.
    if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
        nix::sys::wait::waitpid(child, None).unwrap();
    }
    // The child returns into the frames of the test: this must be noticed.
}

fn ignored_when_run() {
    testkit::ignore("the moon is down");
}

fn ignored_when_listed() {
    panic!("run in spite of the reason not to");
}

fn talks_a_lot() {
    let line = "x".repeat(1023);
    for _ in 0..1024 {
        println!("{line}");
    }
    panic!("after a mebibyte of output");
}

fn meets_the_second() {
    meet("second", "first");
}

fn meets_the_first() {
    meet("first", "second");
}

/// Returns when another test is at the same place, under the other name.
fn meet(other: &str, me: &str) {
    let place = PathBuf::from(env::var_os("MEETING_PLACE").unwrap());
    fs::write(place.join(me), "here").unwrap();
    let met = testkit::wait_until(Duration::from_secs(2), || place.join(other).exists());
    assert!(met, "nobody came");
}

fn kills_who_supervises_it() {
    testkit::kill9(unistd::getppid().as_raw() as u32);
    loop {
        thread::park();
    }
}

fn sleeper() -> u32 {
    Command::new("sleep").arg("1000").spawn().unwrap().id()
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(passes),
        testkit::test!(panics),
        testkit::test!(returns_an_error),
        testkit::test!(aborts),
        testkit::test!(exits_early),
        testkit::test!(hangs, timeout = 1),
        testkit::test!(leaves_a_child),
        testkit::test!(leaves_an_orphan),
        testkit::test!(orphan_that_ends_soon),
        testkit::test!(leaves_a_file),
        testkit::test!(escapes),
        testkit::test!(ignored_when_run),
        testkit::test!(ignored_when_listed, ignore_if = || Some("it is not Sunday")),
        testkit::test!(talks_a_lot, timeout = 30),
        testkit::test!(meets_the_second, timeout = 20),
        testkit::test!(meets_the_first, timeout = 20),
        testkit::test!(kills_who_supervises_it),
        testkit::Test::new("named::by_hand", || ()).timeout(Duration::from_secs(5)),
    ])
}
