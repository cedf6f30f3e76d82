#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::{Context, Result};
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn pre_run(&mut self) -> Result<()> {
        Ok(())
    }

    fn post_run(&self, ctx: &mut Context) {
        let _ = ctx;
    }
}

fn main() {}
