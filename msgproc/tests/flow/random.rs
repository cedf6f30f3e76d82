//! Chains of nodes as they come: anything behind anything, anywhere, while processes are killed.

use std::{hint::black_box, time::Duration};

use msgproc::flow::{
    Cause, Flow, Graph, Node, OnError, Outlet, Output, Placement, Thread, WorkerInfo, map,
    map_async, source,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    common::{keep, taken},
    death::with_quick_kills,
};

pub(crate) fn tests() -> Vec<testkit::Test> {
    vec![testkit::test!(chains_as_they_come_survive, timeout = 600)]
}

/// What is added for each time that an item went round.
const ROUND: u64 = 1 << 40;
/// What is said when an input ends, and at the end.
const SAID: u64 = 1 << 32;
const SAID_LAST: u64 = 1 << 33;

#[derive(Clone, Copy, Debug)]
enum What {
    HandOn,
    LeaveOut,
    Split,
    /// Awaits futures, so many at a time.
    Await {
        at_once: usize,
    },
    /// Twice round a circle, which begins in the program.
    GoRound {
        credits: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Link {
    what: What,
    workers: usize,
    place: Placement,
    capacity: usize,
    work: u64,
    /// How much it says at the end of its input, and at its own.
    says: u64,
}

#[derive(Clone, Debug)]
struct Chain {
    items: u64,
    /// Whether the source is in a process that may be killed.
    source_may_die: bool,
    links: Vec<Link>,
    ordered: bool,
    seed: u64,
}

impl Node for Link {
    type In = u64;
    type Out = u64;

    fn svc(&mut self, item: u64, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        (0..self.work).for_each(|n| {
            black_box(n);
        });
        match self.what {
            What::GoRound { .. } if item < 2 * ROUND => out.send_on(1, item + ROUND)?,
            _ => self.what.comes_of(item).into_iter().try_for_each(|one| out.send(one))?,
        }
        Ok(Flow::GoOn)
    }

    fn input_ended(&mut self, _: usize, out: &mut Outlet<u64>) -> Result<Flow, Cause> {
        (0..self.says).try_for_each(|number| out.send(SAID + number))?;
        Ok(Flow::GoOn)
    }

    fn svc_end(&mut self, out: &mut Outlet<u64>) -> Result<(), Cause> {
        Ok((0..self.says).try_for_each(|number| out.send(SAID_LAST + number))?)
    }
}

impl Link {
    fn node(self) -> Box<dyn Node<In = u64, Out = u64>> {
        match self.what {
            What::Await { at_once } => Box::new(map_async(at_once, move |n: u64| async move {
                if self.work > 0 && n.is_multiple_of(3) {
                    tokio::time::sleep(Duration::from_micros(self.work)).await;
                }
                n
            })),
            _ => Box::new(self),
        }
    }
}

impl What {
    fn comes_of(self, item: u64) -> Vec<u64> {
        let times = match self {
            What::LeaveOut if item % 5 == 2 => 0,
            What::Split => item % 4,
            _ => 1,
        };
        vec![item % ROUND; times as usize]
    }

    fn only_hands_on(self) -> bool {
        matches!(self, What::GoRound { .. } | What::Await { .. })
    }

    fn goes_round(self) -> bool {
        matches!(self, What::GoRound { .. })
    }
}

impl Chain {
    /// Whether the first so many nodes keep the order.
    fn keeps_order(&self, links: usize) -> bool {
        self.links[..links]
            .iter()
            .all(|link| !link.what.goes_round() && (self.ordered || link.workers == 1))
    }

    fn add(&self, graph: &mut Graph, number: usize, last: Output<u64>) -> Output<u64> {
        let link = self.links[number];
        let name = format!("step-{number}");
        let node = graph.node(&name, link.place, move |_: &WorkerInfo| link.node());
        let node = node.workers(link.workers);
        // Where those before do not keep it, there is none to keep.
        let ordered = self.keeps_order(number + 1);
        let node = node.ordered(ordered).on_error(OnError::retry(1000)).add();
        match link.what {
            What::GoRound { credits } => {
                let head = graph.node(&format!("head-{number}"), Thread, |_| map(|n: u64| n)).add();
                graph.edge(last, head.input()).capacity(link.capacity).add();
                graph.edge(head.output(), node.input()).capacity(link.capacity).add();
                graph.edge(node.output_at(1), head.input()).feedback(credits).add();
            }
            _ => graph.edge(last, node.input()).capacity(link.capacity).add(),
        }
        node.output()
    }

    fn expected(&self) -> Vec<u64> {
        self.links.iter().fold((0..self.items).collect(), |items: Vec<u64>, link| {
            let comes = items.into_iter().flat_map(|item| link.what.comes_of(item));
            let said = (0..link.says).flat_map(|number| [SAID + number, SAID_LAST + number]);
            let said = vec![said.collect::<Vec<_>>(); link.workers];
            comes.chain(said.into_iter().flatten()).collect()
        })
    }

    fn check(&self) {
        let mut graph = Graph::new();
        let items = self.items;
        let mut last = match self.source_may_die {
            true => graph
                .node("step-source", Placement::Process, move |_| source(0..items))
                .on_error(OnError::retry(1000))
                .add()
                .output(),
            false => graph.source("source", Thread, 0..items).output(),
        };
        for number in 0..self.links.len() {
            last = self.add(&mut graph, number, last);
        }
        let (sink, kept) = keep(&mut graph, "sink");
        graph.edge(last, sink.input()).capacity(50).add();
        let (report, kills) = with_quick_kills(graph, self.seed);
        let (mut items, mut expected) = (taken(&kept), self.expected());
        if self.keeps_order(self.links.len()) {
            let said = expected.iter().position(|item| *item >= SAID).unwrap_or(expected.len());
            let same = items.len() == expected.len() && items[..said] == expected[..said];
            assert!(same, "{kills} kills, out of order:\n{report}");
        }
        items.sort_unstable();
        expected.sort_unstable();
        assert!(
            items == expected,
            "{kills} kills, {} of {}:\n{report}",
            items.len(),
            expected.len()
        );
    }
}

fn places() -> impl Strategy<Value = Placement> {
    prop_oneof![
        Just(Placement::Thread),
        Just(Placement::Process),
        (1_u32..3, 0_u32..2).prop_map(|(process, thread)| Placement::At { process, thread }),
    ]
}

fn links() -> impl Strategy<Value = Link> {
    let credits = prop::sample::select(vec![1_usize, 7, 100]);
    let what = prop_oneof![
        Just(What::HandOn),
        Just(What::LeaveOut),
        Just(What::Split),
        prop::sample::select(vec![1_usize, 5, 50]).prop_map(|at_once| What::Await { at_once }),
        credits.prop_map(|credits| What::GoRound { credits }),
    ];
    let capacity = prop::sample::select(vec![1_usize, 5, 100, 1000]);
    let work = prop::sample::select(vec![0_u64, 100, 1000]);
    let says = prop::sample::select(vec![0_u64, 0, 3]);
    (what, 1_usize..4, places(), capacity, work, says).prop_map(
        |(what, workers, place, capacity, work, says)| {
            // What would come back of that is dropped; and futures say nothing at the end.
            let says = if what.only_hands_on() { 0 } else { says };
            Link { what, workers, place, capacity, work, says }
        },
    )
}

fn chains() -> impl Strategy<Value = Chain> {
    let items = prop::sample::select(vec![0_u64, 1, 30, 1000, 3000]);
    let links = prop::collection::vec(links(), 1..5);
    (items, any::<bool>(), links, any::<bool>(), 1_u64..u64::MAX).prop_map(
        |(items, source_may_die, links, ordered, seed)| Chain {
            items,
            source_may_die,
            links,
            ordered,
            seed,
        },
    )
}

/// What comes out is what would come out without deaths, in order where it is kept.
fn chains_as_they_come_survive() {
    let cases = 10 * testkit::soak_time().as_secs() as u32;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let survive = |chain: Chain| {
        chain.check();
        Ok(())
    };
    TestRunner::new(config).run(&chains(), survive).unwrap();
}
