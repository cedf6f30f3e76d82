#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::{Context, Result};
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    async fn pre_run(&mut self, ctx: &mut Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    fn post_run(&mut self, ctx: &mut Context, code: i32) {
        let _ = (ctx, code);
    }
}

fn main() {}
