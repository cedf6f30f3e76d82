#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Shape(u32);

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__draw(&mut self, width: u32, shape: Shape) -> u32 {
        width * shape.0
    }
}

fn main() {}
