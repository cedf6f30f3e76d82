#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Progress;

struct Worker;

#[backend(event = Progress, crate = crate::facade)]
impl Worker {
    fn c__ping(&mut self) {}
}

fn main() {}
