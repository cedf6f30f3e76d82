//! How much may lie in a lane, from nothing to more than there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use msgproc::flow::{
    EdgeBuilder, Error, Flow, Graph, Outlet, Placement, Result, each, from_fn, map,
};

use crate::common::{PLACES, keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![
        testkit::test!(bounds_beyond_all_memory),
        testkit::test!(bytes_that_are_not_there),
        testkit::test!(a_lane_takes_as_many_as_was_said),
    ]
}

/// A thousand numbers, from a thread to this place and on to the caller.
fn through(
    place: Placement,
    bound: impl Fn(EdgeBuilder<'_, u64, u64>) -> EdgeBuilder<'_, u64, u64>,
) -> Result<Vec<u64>> {
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..1000_u64);
    let step = graph.node("step", place, |_| map(|n: u64| n)).add();
    let (sink, kept) = keep(&mut graph, "sink");
    bound(graph.edge(numbers.output(), step.input())).add();
    bound(graph.edge(step.output(), sink.input())).add();
    graph.run()?;
    Ok(taken(&kept))
}

fn bounds_beyond_all_memory() {
    for place in PLACES {
        for items in [0, 1, 5000, 100_000_000_000, usize::MAX - 1, usize::MAX] {
            let came = through(place, |edge| edge.capacity(items)).unwrap();
            assert!(came.into_iter().eq(0..1000), "{place}, {items} items");
        }
    }
    // Between threads no memory is set aside.
    for bytes in [0, 1, 20 << 30, 1 << 40, i64::MAX as usize, usize::MAX] {
        let came = through(Placement::Thread, |edge| edge.capacity_bytes(bytes)).unwrap();
        assert!(came.into_iter().eq(0..1000), "{bytes} bytes");
        let place = Placement::Thread;
        let came = through(place, |edge| edge.sized_by(|_| 8).capacity_bytes(bytes)).unwrap();
        assert!(came.into_iter().eq(0..1000), "{bytes} bytes");
    }
}

fn bytes_that_are_not_there() {
    for bytes in [1 << 45, i64::MAX as usize, usize::MAX] {
        let error = through(Placement::Process, |edge| edge.capacity_bytes(bytes)).unwrap_err();
        let Error::Start { what, .. } = &error else { panic!("{error}") };
        assert!(what.contains("from \"step\" to \"sink\""), "{error}");
    }
    // It is told of the edge that asks for the most.
    let mut graph = Graph::new();
    let numbers = graph.source("numbers", Placement::Thread, 0..1000_u64);
    let first = graph.node("first", Placement::Process, |_| map(|n: u64| n)).add();
    let last = graph.node("last", Placement::Process, |_| each(|_: u64| ())).add();
    graph.edge(numbers.output(), first.input()).capacity_bytes(1 << 46).add();
    graph.connect(first.output(), last.input());
    let error = graph.run().unwrap_err().to_string();
    assert!(error.contains("from \"numbers\" to \"first\""), "{error}");
}

/// Also where each is a message of its own, and nobody takes any.
fn a_lane_takes_as_many_as_was_said() {
    for items in [300, 20_000] {
        let sent = Arc::new(AtomicU64::new(0));
        let (sends, seen) = (sent.clone(), sent);
        let mut graph = Graph::new();
        let numbers = graph.node("numbers", Placement::Thread, move |_| {
            let sends = sends.clone();
            from_fn(move |(), out: &mut Outlet<u64>| {
                let n = sends.load(Ordering::Relaxed);
                out.send(n)?;
                out.flush()?;
                sends.store(n + 1, Ordering::Relaxed);
                Ok(if n == 50_000 { Flow::Eos } else { Flow::GoOn })
            })
        });
        let numbers = numbers.add();
        let most = items as u64;
        let sink = graph.node("sink", Placement::Thread, move |_| {
            let (seen, mut next) = (seen.clone(), 0);
            each(move |n: u64| {
                assert_eq!(n, next);
                if next == 0 {
                    assert!(testkit::wait_until(Duration::from_secs(20), || {
                        seen.load(Ordering::Relaxed) == most
                    }));
                    sleep(Duration::from_millis(20));
                    assert_eq!(seen.load(Ordering::Relaxed), most);
                }
                next += 1;
            })
        });
        let sink = sink.add();
        graph.edge(numbers.output(), sink.input()).capacity(items).add();
        graph.run().unwrap();
    }
}
