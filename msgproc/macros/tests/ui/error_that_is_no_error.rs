#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__tried(&mut self) -> Result<u8, u8> {
        Ok(2)
    }
}

fn main() {}
