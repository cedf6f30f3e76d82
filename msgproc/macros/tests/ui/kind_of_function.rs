#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    async fn c__later(&mut self) -> u8 {
        1
    }

    unsafe fn c__danger(&mut self) {}

    extern "C" fn c__foreign(&mut self) {}

    const fn c__constant(&mut self) {}
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.later().wait();
}
