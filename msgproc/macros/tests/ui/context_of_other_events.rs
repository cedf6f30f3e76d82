#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::Context;
use msgproc_macros::backend;

struct Worker;

#[backend(event = String, crate = crate::facade)]
impl Worker {
    fn c__report(&mut self, number: u8, ctx: &mut Context) {
        let _ = (number, ctx);
    }
}

fn main() {}
