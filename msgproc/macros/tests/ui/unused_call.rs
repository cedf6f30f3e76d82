#![deny(unused_must_use)]

#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__ping(&mut self) {}
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    worker.ping();
}
