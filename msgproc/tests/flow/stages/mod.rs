//! Streams through stages.

mod awaited;
mod consumers;
mod errors;
mod late;
mod resources;
mod verbs;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use msgproc::flow::{
    Process, Same, Thread,
    stage::{Stages, Step},
};
use testkit::{children_of, thread_count};

pub(crate) fn tests() -> Vec<testkit::Test> {
    [
        verbs::tests(),
        errors::tests(),
        consumers::tests(),
        resources::tests(),
        late::tests(),
        awaited::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Nothing is left of a run.
#[track_caller]
fn assert_clean() {
    assert_eq!(children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(thread_count(), 1);
}

/// Runs it for a stage of each mode.
macro_rules! modes {
    ($mode:ident, $name:ident, $body:expr) => {{
        {
            use msgproc::flow::stage::process as $mode;
            let $name = "process";
            $body;
        }
        {
            use msgproc::flow::stage::thread as $mode;
            let $name = "thread";
            $body;
        }
        {
            use msgproc::flow::stage::sync as $mode;
            let $name = "sync";
            $body;
        }
    }};
}

use modes;

/// So many workers, where there can be several.
trait By {
    fn by(self, count: usize) -> Self;
}

impl<I, O, R> By for Step<Process, I, O, R> {
    fn by(self, count: usize) -> Self {
        self.workers(count)
    }
}

impl<I, O, R> By for Step<Thread, I, O, R> {
    fn by(self, count: usize) -> Self {
        self.workers(count)
    }
}

impl<I, O, R> By for Step<Same, I, O, R> {
    fn by(self, _count: usize) -> Self {
        self
    }
}

fn sorted(stages: Stages<u64>) -> Vec<u64> {
    let mut all: Vec<u64> = stages.collect().unwrap();
    all.sort_unstable();
    all
}

/// Counts how many of it there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
