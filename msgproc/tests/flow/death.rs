//! Processes that are killed.

use std::time::{Duration, Instant};

use msgproc::flow::{Error, FailureKind, Graph, Placement, map};

use crate::common::{keep, taken};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![testkit::test!(a_death_fails_the_run)]
}

fn a_death_fails_the_run() {
    for at in 0..3 {
        let mut graph = Graph::new();
        let kill = move |here: usize| {
            move |n: u64| {
                if here == at && n == 5000 {
                    testkit::kill9(std::process::id());
                }
                n
            }
        };
        let place = Placement::Process;
        let numbers = graph.source("numbers", place, (0_u64..).map(kill(0)));
        let first = graph.node("first", place, move |_| map(kill(1))).workers(2).add();
        let second = graph.node("second", place, move |_| map(kill(2))).add();
        let (sink, kept) = keep(&mut graph, "sink");
        graph.connect(numbers.output(), first.input());
        graph.connect(first.output(), second.input());
        graph.connect(second.output(), sink.input());
        let began = Instant::now();
        let Err(Error::Failed(failure)) = graph.run() else { panic!("it ended well") };
        assert_eq!(failure.kind, FailureKind::Died, "{failure}");
        assert_eq!(failure.node, ["numbers", "first", "second"][at]);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop(taken(&kept));
    }
}
