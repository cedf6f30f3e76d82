#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

trait Shape {
    fn area(&self) -> f64;
}

#[backend]
impl dyn Shape {
    fn c__twice(&self) -> f64 {
        2.0 * self.area()
    }
}

fn main() {}
