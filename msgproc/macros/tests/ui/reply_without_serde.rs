#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Shape(u32);

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__shape(&mut self) -> Shape {
        Shape(1)
    }

    fn c__tried(&mut self) -> Result<Shape, String> {
        Ok(Shape(2))
    }
}

fn main() {}
