#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Shape(u32);

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__draw(&mut self, shape: Shape) -> u32 {
        shape.0
    }
}

fn main() {}
