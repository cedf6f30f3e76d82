#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__none(value: u8) -> u8 {
        value
    }

    fn c__value(self) {}

    fn c__boxed(self: Box<Self>) {}
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.none(1).wait();
}
