#[allow(dead_code)]
#[path = "../facade/mod.rs"]
mod facade;

use facade::MessageProcess;
use msgproc_macros::backend;

struct Worker;

#[backend(crate = crate::facade)]
impl Worker {
    fn c__text(&mut self, text: &str) -> usize {
        text.len()
    }

    fn c__slice(&mut self, values: &[u8]) -> usize {
        values.len()
    }

    fn c__number(&mut self, number: &mut u64) {
        *number += 1;
    }

    fn c__inside(&mut self, pairs: Vec<(u8, Option<&'static str>)>) -> usize {
        pairs.len()
    }

    fn c__path(&mut self, path: &std::path::Path) -> bool {
        path.exists()
    }
}

fn main() {
    let worker = MessageProcess::start(Worker).unwrap();
    let _ = worker.text("a").wait().map(|length: usize| length);
    let _ = worker.slice(&[1]).wait();
}
