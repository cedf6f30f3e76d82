//! A sender that dies after any of its stores, as often as one likes, in one thread: what its
//! receivers keep is what they would have kept without.
//!
//! A death is a panic from a fault point. What outlives it are the words of the board and what was
//! put into lanes.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    sync::Arc,
};

use proptest::prelude::*;
use shmring::{board::Board, fault};

use super::{Lanes, Manner, OutState};
use crate::flow::{
    edge::{Batch, Head, LaneKind, LanePlan, Refused, Tx, deal::Deal},
    plan::{Counts, Executor, Settings, Shared, lane},
};

const LANES: usize = 3;

/// Which message an item came of, and which of those it is.
type Item = (usize, usize);

struct Died;

thread_local! {
    static PASSES_LEFT: Cell<u32> = const { Cell::new(0) };
}

fn look(point: &'static str) {
    if !point.starts_with("flow.") {
        return;
    }
    let left = PASSES_LEFT.get();
    PASSES_LEFT.set(left.saturating_sub(1));
    if left == 1 {
        resume_unwind(Box::new(Died));
    }
}

/// Lives until the `passes`-th fault point (0: on and on). Tells whether it died.
fn live(passes: u32, life: impl FnOnce()) -> bool {
    PASSES_LEFT.set(passes);
    let outcome = catch_unwind(AssertUnwindSafe(life));
    PASSES_LEFT.set(0);
    match outcome {
        Ok(()) => false,
        Err(panic) if panic.is::<Died>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// What a receiver has of its lane.
#[derive(Default)]
struct Received {
    items: Vec<(Head, Vec<Item>)>,
    next: u64,
    ended: bool,
}

/// A lane whose receiver takes what comes at once.
struct Inline {
    received: Rc<RefCell<Received>>,
    board: Board,
    words: usize,
    /// After so many messages it takes no more.
    most: usize,
}

impl Tx<Item> for Inline {
    fn try_put(&mut self, batch: Batch<Item>) -> Result<usize, Refused<Item>> {
        let mut received = self.received.borrow_mut();
        self.board.add_own(self.words + lane::DONE, batch.weight());
        let Batch { head, items } = batch;
        if head.id < received.next || received.ended {
            return Ok(0);
        }
        received.next = head.id + 1;
        self.board.store(self.words + lane::NEXT, received.next);
        received.ended = head.end;
        received.items.push((head, items));
        if received.items.len() == self.most {
            self.board.store(self.words + lane::CLOSED, 1);
        }
        Ok(0)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Dealt {
    OnDemand,
    RoundRobin,
    By,
    All,
    /// The sender chooses for every second item.
    Chosen,
    /// Its messages are numbered.
    Numbered,
    /// They keep the numbers of those that it took.
    Inherited,
}

impl Dealt {
    fn deal(self) -> Deal<Item> {
        match self {
            Dealt::OnDemand | Dealt::Chosen => Deal::OnDemand,
            Dealt::RoundRobin => Deal::RoundRobin,
            Dealt::By => Deal::By(Arc::new(|item: &Item| item.1 / 2)),
            Dealt::All => Deal::All(|item| *item),
            Dealt::Numbered | Dealt::Inherited => Deal::Ordered,
        }
    }

    fn times(self) -> usize {
        if self == Dealt::All { LANES } else { 1 }
    }
}

/// One case.
#[derive(Clone, Debug)]
struct Case {
    dealt: Dealt,
    is_source: bool,
    /// How many items come of each message.
    messages: Vec<usize>,
    /// After how many fault points each sender dies, before the last one.
    deaths: Vec<u32>,
    /// How the items are put, and what they cost, differs from life to life.
    chunks: Vec<usize>,
    /// A receiver that ends early, and after how many messages.
    ends: Option<(usize, usize)>,
    /// A message of which less comes when it is handled again.
    less: Option<usize>,
    /// Whether the edge is in a circle, which then comes to rest.
    in_circle: bool,
}

/// What outlives a sender.
struct World {
    shared: Shared,
    received: Vec<Rc<RefCell<Received>>>,
    /// Which message is at hand, and whether it was begun.
    message: Cell<usize>,
    begun: Cell<bool>,
    ending: Cell<bool>,
    lives: Cell<usize>,
}

impl Case {
    fn world(&self) -> World {
        let counts = Counts { executors: 1, workers: 1, outs: 1, lanes: LANES, circles: 0 };
        let board = Board::options().words(counts.words()).bells(1).anonymous().unwrap();
        World {
            shared: Shared::new(board, counts, &[], None),
            received: (0..LANES).map(|_| Rc::default()).collect(),
            message: Cell::new(0),
            begun: Cell::new(false),
            ending: Cell::new(false),
            lives: Cell::new(0),
        }
    }

    fn lanes(&self, world: &World) -> Lanes<Item> {
        let shared = &world.shared;
        let executor = Executor::new(shared.clone(), 0, Settings::default()).unwrap();
        let state = OutState {
            words: shared.out(0),
            survives: true,
            worker: shared.worker(0),
            inherits: self.dealt == Dealt::Inherited,
            from_the_first: self.is_source && world.lives.get() > 0,
        };
        let manner = Manner { in_circle: self.in_circle, ..Manner::default() };
        let mut lanes = Lanes::new(&executor, self.dealt.deal(), 40, state, manner);
        let plan = LanePlan { kind: LaneKind::Shared, from: 0, to: 0 };
        for (to, received) in world.received.iter().enumerate() {
            let words = shared.lane(to);
            shared.board().store(words + lane::COST, 20_000 * self.chunk(world) as u64);
            let most = match self.ends {
                Some((who, most)) if who == to => most,
                _ => usize::MAX,
            };
            let board = shared.board().clone();
            let tx = Inline { received: received.clone(), board, words, most };
            lanes.add(Box::new(tx), (words, words), &plan, None);
        }
        lanes
    }

    fn chunk(&self, world: &World) -> usize {
        self.chunks[world.lives.get() % self.chunks.len()]
    }

    /// Puts what comes of a message.
    fn put(&self, world: &World, lanes: &mut Lanes<Item>, message: usize) {
        let again = world.lives.get() > 0;
        let less = again && self.less == Some(message);
        let count = if less { self.messages[message] / 2 } else { self.messages[message] };
        let items: Vec<Item> = (0..count).map(|item| (message, item)).collect();
        if self.dealt == Dealt::Chosen {
            for item in items {
                let to = (item.1 % 2 == 0).then_some(item.1 % 5);
                let _ = lanes.put_to(to, item);
            }
            return;
        }
        for part in items.chunks(self.chunk(world)) {
            let _ = lanes.put(&mut part.to_vec());
        }
    }

    /// As a worker does it.
    fn life(&self, world: &World) {
        let mut lanes = self.lanes(world);
        let first = if self.is_source { 0 } else { world.message.get() };
        for message in first..self.messages.len() {
            let head = Head { number: message as u64, last: true, ..Head::default() };
            if self.is_source {
                self.put(world, &mut lanes, message);
                continue;
            }
            let again = world.begun.replace(false);
            lanes.begin(&head, again);
            world.begun.set(true);
            self.put(world, &mut lanes, message);
            let _ = lanes.flush();
            let _ = lanes.finish(&head);
            world.message.set(message + 1);
            world.begun.set(false);
        }
        lanes.begin(&Head::default(), world.ending.get());
        world.ending.set(true);
        lanes.end();
    }

    fn check(&self, world: &World) {
        let kept: Vec<(Head, Vec<Item>)> = match self.dealt {
            Dealt::Numbered | Dealt::Inherited => self.in_order(world),
            _ => world.received.iter().flat_map(|each| each.borrow().items.clone()).collect(),
        };
        let mut items: Vec<Item> = kept.iter().flat_map(|(_, items)| items.clone()).collect();
        if matches!(self.dealt, Dealt::Numbered | Dealt::Inherited) {
            assert!(items.windows(2).all(|two| two[0] < two[1]), "{items:?}");
        }
        for received in &world.received {
            let received = received.borrow();
            let here: Vec<Item> = received.items.iter().flat_map(|one| one.1.clone()).collect();
            assert!(here.windows(2).all(|two| two[0] < two[1]), "{here:?}");
        }
        items.sort_unstable();
        let expected: Vec<Item> = (0..self.messages.len())
            .flat_map(|message| (0..self.messages[message]).map(move |item| (message, item)))
            .flat_map(|item| vec![item; self.dealt.times()])
            .collect();
        // Another gets what one that has ended does not, where anybody may have it.
        let lossy = self.ends.is_some() && self.dealt != Dealt::OnDemand;
        let exact = |item: &Item| !lossy && self.less != Some(item.0);
        let filtered =
            |items: &[Item]| -> Vec<Item> { items.iter().copied().filter(exact).collect() };
        assert_eq!(filtered(&items), filtered(&expected));
        let times = |item: &Item| items.iter().filter(|other| *other == item).count();
        assert!(items.iter().all(|item| times(item) <= self.dealt.times()), "{items:?}");
        let open = world.received.iter().enumerate();
        let mut open = open.filter(|(to, _)| self.ends.is_none_or(|(who, _)| who != *to));
        assert!(open.all(|(_, received)| received.borrow().ended), "an end is missing");
        let board = world.shared.board();
        let of_lane = |to: usize, word| board.load(world.shared.lane(to) + word);
        let mut open = (0..LANES).filter(|to| of_lane(*to, lane::CLOSED) == 0);
        let at_rest = open.all(|to| of_lane(to, lane::LAST) <= of_lane(to, lane::NEXT));
        assert!(at_rest, "a circle would wait for what was never sent");
    }

    /// Messages by their numbers, as whoever brings them together takes them.
    fn in_order(&self, world: &World) -> Vec<(Head, Vec<Item>)> {
        let mut taken = Vec::new();
        let mut at = [0; LANES];
        let mut number = 0;
        loop {
            let lane = (number % LANES as u64) as usize;
            let received = world.received[lane].borrow();
            let Some((head, items)) = received.items.get(at[lane]) else { break };
            if head.end {
                break;
            }
            at[lane] += 1;
            if head.number < number {
                continue; // Said again.
            }
            assert_eq!(head.number, number);
            number += u64::from(head.last);
            taken.push((*head, items.clone()));
        }
        for (lane, at) in at.into_iter().enumerate() {
            let received = world.received[lane].borrow();
            let waits = |(head, _): &(Head, _)| !head.end && head.number >= number;
            let left = received.items[at..].iter().any(waits);
            assert!(!left, "number {number} is missing, and others wait behind it");
        }
        if self.dealt == Dealt::Inherited {
            assert_eq!(number, self.messages.len() as u64);
        }
        taken
    }

    fn run(&self) {
        fault::watch(look);
        let world = self.world();
        let all_died = self.deaths.iter().all(|passes| {
            let died = live(*passes, || self.life(&world));
            world.lives.set(world.lives.get() + usize::from(died));
            died
        });
        // One that has ended is not replaced.
        if all_died && !world.received.iter().all(|received| received.borrow().ended) {
            live(0, || self.life(&world));
        }
        self.check(&world);
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let dealt = prop::sample::select(vec![
        Dealt::OnDemand,
        Dealt::RoundRobin,
        Dealt::By,
        Dealt::All,
        Dealt::Chosen,
        Dealt::Numbered,
        Dealt::Inherited,
    ]);
    (
        dealt,
        any::<bool>(),
        prop::collection::vec(0_usize..14, 1..6),
        prop::collection::vec(1_u32..70, 0..5),
        prop::collection::vec(1_usize..9, 1..5),
        prop::option::weighted(0.25, (0..LANES, 1_usize..4)),
        prop::option::weighted(0.25, 0_usize..6),
        any::<bool>(),
    )
        .prop_map(|(dealt, is_source, messages, deaths, chunks, ends, less, in_circle)| {
            let numbered = matches!(dealt, Dealt::Numbered | Dealt::Inherited);
            Case {
                dealt,
                // What comes of a source has no number yet.
                is_source: is_source && dealt != Dealt::Inherited,
                messages,
                deaths,
                chunks,
                // In order, all end with one.
                ends: ends.filter(|_| !numbered),
                less: less.filter(|_| !is_source),
                in_circle,
            }
        })
}

/// All items of a message were sent, but not yet that they were all, and the next time there are
/// fewer of them: what follows is counted from where it would have been.
#[test]
fn fewer_items_than_were_sent_before_they_were_said_to_be_all() {
    let case = Case {
        dealt: Dealt::Inherited,
        is_source: false,
        messages: vec![10, 1],
        deaths: vec![16, 14],
        chunks: vec![5],
        ends: None,
        less: Some(0),
        in_circle: false,
    };
    case.run();
}

/// One that comes to its end is not replaced, though a receiver ended before it.
#[test]
fn who_has_ended_is_not_followed() {
    let case = Case {
        dealt: Dealt::By,
        is_source: true,
        messages: vec![3],
        deaths: vec![49],
        chunks: vec![2],
        ends: Some((0, 1)),
        less: None,
        in_circle: true,
    };
    case.run();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_sender_may_die_after_any_store(case in cases()) {
        case.run();
    }
}
