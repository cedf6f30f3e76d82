#![deny(unused)]

#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::{Context, Result};
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn pre_run(&mut self, ctx: &mut Context) -> Result<()> {
        let forgotten = 1;
        Ok(())
    }

    fn c__ping(&mut self, number: u8) {
        let unneeded = 2;
    }

    fn never_called(&self) {}
}

fn main() {}
