//! Circles: edges that lead back. FEEDBACK.md argues why they neither lock up nor end too early.

use std::{
    cell::{RefCell, RefMut},
    collections::VecDeque,
    rc::Rc,
    time::Instant,
};

use super::{
    edge::{Batch, Fate, Head, Inlet, Taken},
    plan::{Executor, Poll, Shared, Unit, lane},
};

/// What the words of a circle are: on the first line what the workers of its head count.
///
/// Items that they have in hand: that were let in from outside, or came back.
const HELD: usize = 0;
/// How many of those they have handled.
const HANDLED: usize = 1;
/// How many of them may still let items in.
const ENTRANCES: usize = 2;
/// Whether one of its nodes ended before it came to rest: then what was on its way to that one never
/// comes.
const BROKEN: usize = 8;

/// What is known of a circle before it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CirclePlan {
    /// The node through which items come in and come back.
    pub(crate) head: usize,
    /// Its nodes, the head included.
    pub(crate) nodes: Vec<usize>,
    /// New items are let in while fewer than these are in it.
    pub(crate) credits: u64,
    /// The executors of its head's workers.
    pub(crate) executors: Vec<usize>,
    /// How many those are.
    pub(crate) entrances: u64,
    /// The lanes between its nodes, but those that are calls.
    pub(crate) lanes: Vec<usize>,
}

/// A circle of a run, as its workers see it.
#[derive(Clone, Debug)]
pub(crate) struct Circle {
    shared: Shared,
    words: usize,
    number: usize,
    /// For those who look at all of its lanes.
    seen: RefCell<Vec<(u64, u64)>>,
}

impl Circle {
    pub(crate) fn new(shared: &Shared, number: usize) -> Circle {
        let words = shared.circle(number);
        Circle { shared: shared.clone(), words, number, seen: RefCell::default() }
    }

    fn plan(&self) -> &CirclePlan {
        &self.shared.circles()[self.number]
    }

    fn load(&self, word: usize) -> u64 {
        self.shared.board().load(self.words + word)
    }

    /// Before the run: all workers of the head may let items in.
    pub(crate) fn open(&self) {
        self.shared.board().store(self.words + ENTRANCES, self.plan().entrances);
    }

    fn is_broken(&self) -> bool {
        self.load(BROKEN) != 0
    }

    /// Counts items that came back, before their message is done with.
    fn hold(&self, items: u64) {
        self.shared.board().add(self.words + HELD, items);
    }

    /// Counts items off that a worker of the head has handled, after all that came of them was sent.
    fn leave(&self, items: u64) {
        self.shared.board().add(self.words + HANDLED, items);
        self.ring();
    }

    /// What makes it emptier and what makes it fuller, of the head and of each lane of which the
    /// receiver still takes something. All of the former is read before any of the latter.
    fn look(&self, emptier: usize, fuller: usize) -> RefMut<'_, Vec<(u64, u64)>> {
        let board = self.shared.board();
        let lanes = || self.plan().lanes.iter().map(|number| self.shared.lane(*number));
        let mut seen = self.seen.borrow_mut();
        seen.clear();
        seen.push((self.load(HANDLED), 0));
        seen.extend(lanes().map(|words| match board.load(words + lane::CLOSED) {
            0 => (board.load(words + emptier), 0),
            _ => (u64::MAX, 0),
        }));
        seen[0].1 = self.load(HELD);
        for (words, (_, after)) in lanes().zip(&mut seen[1..]) {
            *after = board.load(words + fuller);
        }
        seen
    }

    /// Whether nothing is on its way in it, nor will be.
    pub(crate) fn is_at_rest(&self) -> bool {
        if self.is_broken() {
            return true;
        }
        let is_shut = self.load(ENTRANCES) == 0;
        is_shut && self.look(lane::NEXT, lane::LAST).iter().all(|(next, last)| last <= next)
    }

    /// For how many items there are credits, and what [`HELD`] was then.
    fn credits(&self) -> (u64, u64) {
        let seen = self.look(lane::DONE, lane::SENT);
        let inside = seen.iter().map(|(done, sent)| sent.saturating_sub(*done)).sum();
        let credits = match self.is_broken() {
            true => u64::MAX,
            false => self.plan().credits.saturating_sub(inside),
        };
        (credits, seen[0].1)
    }

    /// Lets in as many of these items as there are credits for.
    fn enter(&self, items: u64) -> u64 {
        loop {
            let (credits, held) = self.credits();
            let entering = items.min(credits);
            // Others may have let something in meanwhile.
            let word = self.words + HELD;
            if entering == 0 || self.shared.board().change(word, held, held + entering).is_ok() {
                return entering;
            }
        }
    }

    fn may_enter(&self) -> bool {
        self.credits().0 > 0
    }

    /// One worker of the head lets nothing more in.
    fn shut_entrance(&self) {
        self.shared.board().add(self.words + ENTRANCES, 1_u64.wrapping_neg());
        self.ring();
    }

    /// One of its nodes has ended. Unless it was at rest, nobody waits for it any more.
    pub(crate) fn note_end(&self) {
        if !self.is_at_rest() {
            self.shared.board().store(self.words + BROKEN, 1);
            self.ring();
        }
    }

    /// Tells the workers of the head that there may be fewer items in it.
    pub(crate) fn ring(&self) {
        for executor in &self.plan().executors {
            self.shared.board().ring(*executor);
        }
    }
}

/// A message that came back, with the input it came to, and where the words of its lane begin.
type CameBack<T> = (usize, usize, Batch<T>);

/// What came back to one worker of the head, and was not handled yet.
struct Stash<T> {
    messages: VecDeque<CameBack<T>>,
    /// Whether that worker takes no more.
    closed: bool,
    /// Why what came back could not be read.
    failure: Option<String>,
}

impl<T> Default for Stash<T> {
    fn default() -> Stash<T> {
        Stash { messages: VecDeque::new(), closed: false, failure: None }
    }
}

/// The feedback lanes of one worker of the head. A unit of its own, so that it takes what comes back
/// while that worker waits in the middle of an item: so nobody ever waits for room in these lanes
/// for long.
pub(crate) struct Returns<T> {
    executor: Rc<Executor>,
    circle: Circle,
    inlets: Vec<(usize, Inlet<T>)>,
    stash: Rc<RefCell<Stash<T>>>,
}

impl<T: 'static> Unit for Returns<T> {
    fn poll(&mut self) -> Poll {
        if self.stash.borrow().closed {
            self.inlets.iter().for_each(|(_, inlet)| inlet.close(&self.executor));
            // What is in them does not count any more.
            self.circle.ring();
            return Poll::Ended;
        }
        let mut outcome = Poll::Idle;
        for (input, inlet) in &mut self.inlets {
            let taken = inlet.take(&self.executor, &mut |lane, batch| {
                if !batch.items.is_empty() {
                    self.circle.hold(batch.items.len() as u64);
                    self.stash.borrow_mut().messages.push_back((*input, lane, batch));
                }
                Fate::Done
            });
            match taken {
                Ok(Taken::Nothing | Taken::Kept) => {}
                Ok(Taken::Done) => outcome = Poll::Worked,
                Err(reason) => {
                    self.stash.borrow_mut().failure = Some(reason);
                    return Poll::Ended;
                }
            }
        }
        outcome
    }

    fn is_ready(&self) -> bool {
        self.stash.borrow().closed || self.inlets.iter().any(|(_, inlet)| inlet.is_ready())
    }

    fn can_run(&self) -> bool {
        true
    }

    fn waited(&self, _: Instant) {}
}

/// Where items come into a circle: for a worker of its head.
pub(crate) struct Entrance<T> {
    circle: Circle,
    stash: Rc<RefCell<Stash<T>>>,
    /// A message from outside that waits for credits: its input, where the words of its lane begin.
    waiting: Option<CameBack<T>>,
    is_open: bool,
    /// Inputs that what comes back comes to.
    inputs: Vec<usize>,
}

/// What a worker of the head does next.
pub(crate) enum Step<T> {
    /// Handles these.
    Handle(CameBack<T>),
    /// Takes a message from outside, for [`Entrance::keep`].
    Take,
    /// Waits for credits, or for what comes back.
    Wait,
    /// Its circle is at rest.
    End,
    /// What came back could not be read.
    Fail(String),
}

impl<T: 'static> Entrance<T> {
    pub(crate) fn new(
        executor: &Rc<Executor>,
        circle: Circle,
        inlets: Vec<(usize, Inlet<T>)>,
    ) -> (Entrance<T>, Returns<T>) {
        let stash = Rc::new(RefCell::new(Stash::default()));
        let mut inputs: Vec<usize> = inlets.iter().map(|(input, _)| *input).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let returns = Returns {
            executor: executor.clone(),
            circle: circle.clone(),
            inlets,
            stash: stash.clone(),
        };
        (Entrance { circle, stash, waiting: None, is_open: true, inputs }, returns)
    }

    /// What comes back is handled first, so that the circle empties before it fills.
    pub(crate) fn step(&mut self) -> Step<T> {
        let mut stash = self.stash.borrow_mut();
        if let Some(message) = stash.messages.pop_front() {
            return Step::Handle(message);
        }
        if let Some(reason) = stash.failure.take() {
            return Step::Fail(reason);
        }
        drop(stash);
        if let Some((input, lane, mut batch)) = self.waiting.take() {
            let entering = self.circle.enter(batch.items.len() as u64) as usize;
            if entering == batch.items.len() {
                return Step::Handle((input, lane, batch));
            }
            if entering == 0 {
                self.waiting = Some((input, lane, batch));
                return Step::Wait;
            }
            let rest = batch.items.split_off(entering);
            let head = Head { first: batch.head.first + entering as u64, ..batch.head };
            self.waiting = Some((input, lane, Batch { head, items: rest }));
            return Step::Handle((input, lane, batch));
        }
        match (self.is_open, self.circle.is_at_rest()) {
            (true, _) => Step::Take,
            (false, false) => Step::Wait,
            (false, true) => Step::End,
        }
    }

    /// Keeps a message from outside until there are credits for it.
    pub(crate) fn keep(&mut self, input: usize, lane: usize, batch: Batch<T>) {
        if !batch.items.is_empty() {
            self.waiting = Some((input, lane, batch));
        }
    }

    /// So many items were handled that [`Entrance::step`] gave, and all that came of them was sent.
    pub(crate) fn leave(&self, items: usize) {
        self.circle.leave(items as u64);
    }

    fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Nothing more comes from outside, and all that did is counted.
    pub(crate) fn shut(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.circle.shut_entrance();
        }
    }

    /// Whether something comes back to that input.
    pub(crate) fn comes_back_to(&self, input: usize) -> bool {
        self.inputs.contains(&input)
    }

    pub(crate) fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Whether [`Entrance::step`] would give something to do; `outside`: whether a message waits
    /// there, or all has ended.
    pub(crate) fn is_ready(&self, outside: impl FnOnce() -> bool) -> bool {
        let stash = self.stash.borrow();
        if !stash.messages.is_empty() || stash.failure.is_some() {
            return true;
        }
        match (self.waits(), self.is_open) {
            (true, _) => self.circle.may_enter(),
            (false, true) => outside(),
            (false, false) => self.circle.is_at_rest(),
        }
    }

    /// The worker has ended. What came back to it is dropped.
    pub(crate) fn close(&self) {
        let mut stash = self.stash.borrow_mut();
        stash.closed = true;
        let dropped = stash.messages.drain(..).map(|(.., batch)| batch.items.len()).sum();
        drop(stash);
        self.leave(dropped);
    }
}
