//! What these tests share.

use std::{
    fs,
    ops::Range,
    sync::{Arc, Mutex},
};

use msgproc::flow::{
    Cause, Flow, Graph, Node, NodeRef, OnError, Outlet, Placement, Same, each, from_fn,
};
use shmring::block::{Block, BlockPool};

/// The placements that a node can have.
pub(crate) const PLACES: [Placement; 6] = [
    Placement::Same,
    Placement::Thread,
    Placement::Task,
    Placement::Process,
    Placement::At { process: 1, thread: 0 },
    Placement::At { process: 1, thread: 2 },
];

pub(crate) fn at(process: u32, thread: u32) -> Placement {
    Placement::At { process, thread }
}

/// Whoever dies is replaced.
pub(crate) fn again() -> OnError {
    OnError::retry(1000)
}

/// A node that sends where its thread may run.
pub(crate) fn allowed_cpus(_: u64) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap().trim().to_owned()
}

/// A node that writes each number into a block of this pool.
pub(crate) fn fill(pool: &BlockPool) -> impl Node<In = u64, Out = Block> + use<> {
    let pool = pool.clone();
    from_fn(move |n: u64, out: &mut Outlet<Block>| {
        let mut loan = out.wait_for(|| pool.try_loan().ok())?;
        loan.as_bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
        out.send(loan.freeze())?;
        Ok(Flow::GoOn)
    })
}

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

/// A node that sends items on, and these at the end.
pub(crate) struct Says(pub(crate) Range<u64>);

impl Node for Says {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        out.send(item)?;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        Ok(self.0.try_for_each(|n| out.send(n))?)
    }
}
