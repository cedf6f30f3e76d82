//! The server with a C library that crashes, as its users meet it.

#![allow(clippy::disallowed_methods)] // Starts the program.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::Process;

fn unreliable() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unreliable"));
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn shows_that_bad_requests_harm_nobody_else() {
    let Output { status, stdout, stderr } = unreliable().arg("--limit=700").output().unwrap();
    let stdout = text(&stdout);
    assert!(status.success(), "{stdout}{}", text(&stderr));
    for line in [
        "1 + 2 * 3              7",
        "(1 + 2                 error: a parenthesis is not closed",
        "((((... 400000 deep    crashed: killed by signal",
        "1 / 0                  crashed: killed by signal 6 (SIGABRT); it last wrote: calculator.c",
        "2 ^ -1                 crashed: no answer within 700ms",
        "1000000!               crashed: killed by signal 11 (SIGSEGV)",
        "20! / 18!              380",
        "all answered",
        "answered   2004",
        "replaced   4 workers",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in\n{stdout}");
    }
}

/// A server that does not outlive its test.
struct Server {
    child: Child,
    address: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let mut command = unreliable();
        command.arg("--serve").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().split(',').next().unwrap();
        Server { child, address: address.into(), output }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        BufReader::new(stream)
    }

    fn processes(&self) -> Vec<Process> {
        let below = testkit::descendants_of(self.child.id());
        below.into_iter().filter_map(Process::observe).collect()
    }

    fn workers(&self) -> Vec<Process> {
        let is_worker =
            |process: &Process| testkit::name_of(process.pid()).as_deref() == Some("calculator");
        self.processes().into_iter().filter(is_worker).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(client: &mut BufReader<TcpStream>, request: &str) -> String {
    client.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

#[test]
fn workers_that_are_killed_from_outside_are_replaced() {
    let server = Server::start(&["--workers=2"]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "6 * 7"), "42");
    for worker in server.workers() {
        testkit::kill9(worker.pid());
    }
    let mut answers = Vec::new();
    while answers.len() < 10 && answers.last().map(String::as_str) != Some("42") {
        answers.push(ask(&mut client, "6 * 7"));
    }
    assert_eq!(answers.pop().unwrap(), "42", "{answers:?}");
    assert!(answers.iter().all(|answer| answer.contains("SIGKILL")), "{answers:?}");
    let all = || server.workers().len() == 2;
    assert!(testkit::wait_until(Duration::from_secs(20), all));
}

#[test]
fn a_signal_ends_it_in_order_and_leaves_no_process() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut server = Server::start(&[]);
        assert_eq!(ask(&mut server.connect(), "1 + 1"), "2");
        // A fork server, four workers, and the one that waits to be the next.
        let all = || server.processes().len() == 6;
        assert!(testkit::wait_until(Duration::from_secs(20), all), "{:?}", server.processes());
        let processes = server.processes();
        kill(Pid::from_raw(server.child.id() as i32), signal).unwrap();
        assert!(server.child.wait().unwrap().success());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut server.output, &mut rest).unwrap();
        assert!(rest.contains("answered   1"), "{rest}");
        assert!(processes.iter().all(|process| !process.alive()));
    }
}

#[test]
fn a_kill_leaves_no_process_also_while_one_is_stuck() {
    let mut server = Server::start(&["--limit=60000"]);
    let mut client = server.connect();
    client.get_mut().write_all(b"2 ^ -1\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let processes = server.processes();
    let since = Instant::now();
    server.child.kill().unwrap();
    let _ = server.child.wait();
    let gone = || processes.iter().all(|process| !process.alive());
    assert!(testkit::wait_until(Duration::from_secs(20), gone));
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
}

#[test]
fn wrong_arguments_are_told() {
    for (arguments, said) in [
        (&["--workers=0"][..], "a number from 1 to 256"),
        (&["--workers=1000000"], "a number from 1 to 256"),
        (&["--limit=0"], "not in 1..=3600000"),
        (&["--listen=nowhere"], "cannot listen on nowhere"),
        (&["--verbose"], "unexpected argument"),
    ] {
        let output = unreliable().args(arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn whoever_reads_may_have_enough() {
    let mut command = unreliable();
    command.arg("--limit=300").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = unreliable().arg("--limit=300").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("unreliable: cannot write standard output: "));
}
