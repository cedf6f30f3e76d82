#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__shown(&mut self, shown: impl std::fmt::Display) -> String {
        shown.to_string()
    }

    fn c__pointer(&mut self, pointer: *const u8) -> bool {
        pointer.is_null()
    }

    fn c__function(&mut self, function: fn(u8) -> u8) -> u8 {
        function(1)
    }

    fn c__any(&mut self, any: &dyn std::any::Any) -> bool {
        any.is::<u8>()
    }
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.shown("a").wait();
}
