#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__pair(&mut self, (a, b): (u8, u8)) -> u8 {
        a + b
    }

    fn c__ignored(&mut self, _: u8) {}
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.pair((1, 2)).wait();
}
