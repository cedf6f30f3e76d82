#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__(&mut self) {}

    fn c__type(&mut self) {}

    fn c__self(&mut self) {}

    fn c__gen(&mut self) {}

    fn c__2nd(&mut self) {}
}

fn main() {}
