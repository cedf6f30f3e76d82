//! A program that has threads when it calls `init`, as under `#[tokio::main]`.

use std::{process::ExitCode, sync::mpsc, thread};

use msgproc::prelude::*;
use testkit::test;

struct Counter(u64);

#[backend]
impl Counter {
    fn c__add(&mut self, number: u64) -> u64 {
        self.0 += number;
        self.0
    }
}

fn main() -> ExitCode {
    let (end, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || ended.recv());
    // In a process that is started to be a backend, this does not return.
    msgproc::init();
    // The runner of the tests must have no threads.
    drop(end);
    let _ = thread.join();
    testkit::run([
        test!(a_fork_server_says_what_to_write_instead),
        test!(a_backend_may_be_spawned_all_the_same),
    ])
}

fn a_fork_server_says_what_to_write_instead() {
    let error = ForkServer::start().unwrap_err().to_string();
    assert!(error.contains("2 threads") && error.contains("#[tokio::main]"), "{error}");
    assert!(!error.contains("use a fork server"), "{error}");
}

fn a_backend_may_be_spawned_all_the_same() -> Result<()> {
    let mut counter = MessageProcess::spawn("counter", 100, |first, _| Counter(first))?;
    assert_eq!(counter.add(7).wait()?, 107);
    counter.stop()
}
