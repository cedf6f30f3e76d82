#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade, event = String, verbose)]
impl Worker {
    fn c__stop(&mut self, name: &str) {
        let _ = name;
    }

    fn c__ping(&mut self, (a, b): (&str, u8), c: &[String]) -> &str {
        let _ = (a, b, c);
        "c"
    }

    fn c__good(&mut self, number: u32) -> u32 {
        number
    }
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.good(1).wait();
}
