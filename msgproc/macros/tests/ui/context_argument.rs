#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::Context;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__shared(&mut self, ctx: &Context) {
        let _ = ctx;
    }

    fn c__twice(&mut self, a: &mut Context, b: &mut Context) {
        let _ = (a, b);
    }
}

fn main() {}
