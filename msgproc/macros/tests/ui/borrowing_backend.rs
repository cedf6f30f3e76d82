#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker<'a> {
    name: &'a str,
}

#[backend(crate = crate::facade)]
impl<'a> Worker<'a> {
    fn c__length(&self) -> usize {
        self.name.len()
    }
}

fn main() {}
