#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

#[backend]
struct Worker;

impl Worker {
    fn c__ping(&mut self) {}
}

fn main() {
    Worker.c__ping();
}
