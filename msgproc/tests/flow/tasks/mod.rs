//! Nodes at `Task`, and nodes that await futures, at every place.

mod ahead;
mod failures;
mod futures;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use testkit::{children_of, thread_count};

pub(crate) fn tests() -> Vec<testkit::Test> {
    [futures::tests(), failures::tests(), ahead::tests()].into_iter().flatten().collect()
}

#[track_caller]
fn assert_clean() {
    assert_eq!(children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(thread_count(), 1);
}

/// Counts how many of it there are, and how many there were at most.
struct Counted(Arc<(AtomicUsize, AtomicUsize)>);

impl Counted {
    fn new(counts: &Arc<(AtomicUsize, AtomicUsize)>) -> Counted {
        let now = counts.0.fetch_add(1, Ordering::Relaxed) + 1;
        counts.1.fetch_max(now, Ordering::Relaxed);
        Counted(counts.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
