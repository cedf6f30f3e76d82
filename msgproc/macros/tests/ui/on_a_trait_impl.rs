#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker;

trait Work {
    fn c__ping(&mut self);
}

#[backend]
impl Work for Worker {
    fn c__ping(&mut self) {}
}

fn main() {}
