//! What these tests share.

use std::sync::{Arc, Mutex};

use msgproc::flow::{Graph, NodeRef, Placement, Same, each};

/// The placements that a node can have.
pub(crate) const PLACES: [Placement; 6] = [
    Placement::Same,
    Placement::Thread,
    Placement::Task,
    Placement::Process,
    Placement::At { process: 1, thread: 0 },
    Placement::At { process: 1, thread: 2 },
];

/// What came out at the end of a graph.
pub(crate) type Kept<T> = Arc<Mutex<Vec<T>>>;

/// Adds a node here that keeps what comes to it.
pub(crate) fn keep<T: Send + 'static>(graph: &mut Graph, name: &str) -> (NodeRef<T, ()>, Kept<T>) {
    let kept: Kept<T> = Arc::default();
    let copy = kept.clone();
    let node = graph
        .node(name, Same, move |_| {
            let kept = copy.clone();
            each(move |item| kept.lock().unwrap().push(item))
        })
        .add();
    (node, kept)
}

/// Takes what was kept.
pub(crate) fn taken<T>(kept: &Kept<T>) -> Vec<T> {
    std::mem::take(&mut kept.lock().unwrap())
}
