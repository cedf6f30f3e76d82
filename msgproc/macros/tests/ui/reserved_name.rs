#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__stop(&mut self) {}

    fn c__call(&mut self) {}

    fn c__exit(&mut self) {}

    fn c__pid(&mut self) {}
}

fn main() {}
