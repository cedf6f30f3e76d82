#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::{Context, Result};
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn pre_run(&mut self, ctx: &mut Context) {
        let _ = ctx;
    }

    fn post_run(&mut self, ctx: &mut Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }
}

fn main() {}
