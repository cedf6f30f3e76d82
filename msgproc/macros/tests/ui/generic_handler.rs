#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__show<T: ToString>(&mut self, value: T) -> String {
        value.to_string()
    }

    fn c__lend<'a>(&'a mut self) {}

    fn c__bound(&mut self)
    where
        Self: Send,
    {
    }
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.show(1).wait();
}
