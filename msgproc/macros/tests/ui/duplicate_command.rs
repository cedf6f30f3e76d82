#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__ping(&mut self) -> u8 {
        1
    }

    fn c__ping(&mut self, twice: u8) -> u8 {
        twice
    }
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.ping().wait();
}
