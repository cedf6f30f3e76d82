#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__label(&self) -> &str {
        "worker"
    }

    fn c__title(&self) -> &'static str {
        "worker"
    }

    fn c__numbers(&self) -> impl Iterator<Item = u8> {
        0..3
    }

    fn c__first(&self) -> Result<&[u8], String> {
        Ok(&[])
    }

    fn c__end(&self) -> ! {
        std::process::exit(0)
    }
}

fn main() {}
