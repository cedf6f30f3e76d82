//! A join at work in a graph.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ByTick, Latest, Nearest, Rows, Sticky};
use crate::flow::{Cause, Flow, Node, Outlet};

/// What becomes of an item that a join has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits, and holds its sender back: nothing is lost to speed. Where one sender feeds several
    /// inputs, and what lies between passes on only some of the items, it may wait for ever.
    #[default]
    Wait,
    /// Something is discarded, as the join says, and counted.
    Discard,
}

type Key<T> = Box<dyn Fn(&T) -> Option<u64>>;

enum Kind<T> {
    ByTick(ByTick<T>, Key<T>),
    Latest(Latest<T>),
    Nearest(Nearest<T>, Key<T>),
}

/// The node that a join is: it takes items at several inputs, and sends rows.
///
/// An input that the join does not accept is not read, unless [`when_full`](Self::when_full) says
/// otherwise; but inputs of [`Latest`] that do not lead, and sticky ones, are always read, for their
/// newest item is what counts. What was discarded stands in the report, by input. It ends when no row can come
/// any more, also if some of its inputs have not ended.
///
/// It has one worker: items that belong together would not meet in several.
///
/// # Examples
///
/// ```
/// use msgproc::flow::{Graph, Same, Thread, each, join::{ByTick, Joined}, map};
///
/// let mut graph = Graph::new();
/// let left = graph.source("left", Thread, (0..100_u64).map(|n| (n, n)));
/// let right = graph.source("right", Thread, (0..50_u64).map(|n| (2 * n, n)));
/// let join = graph
///     .node("join", Thread, |_| Joined::by_tick(ByTick::new(2, 16), |item: &(u64, u64)| Some(item.0)))
///     .add();
/// let check = graph
///     .node("check", Same, |_| each(|row: Vec<(u64, u64)>| assert_eq!(row[0].1, 2 * row[1].1)))
///     .add();
/// graph.connect(left.output(), join.input_at(0));
/// graph.connect(right.output(), join.input_at(1));
/// graph.connect(join.output(), check.input());
/// let report = graph.run()?;
/// assert_eq!(report.node("check").unwrap().items_in(), 50);
/// // The odd ticks, but the last: the right input has ended by then.
/// assert!(report.node("join").unwrap().workers[0].discarded >= 49);
/// # Ok::<(), msgproc::flow::Error>(())
/// ```
pub struct Joined<T> {
    kind: Kind<T>,
    /// How many inputs the join has; those of the sticky values follow.
    inputs: usize,
    sticky: Option<Sticky<T>>,
    rows_ended: bool,
    when_full: WhenFull,
    lines: Vec<Line<T>>,
    /// Rows that the sticky inputs have no room for.
    rows: VecDeque<Vec<T>>,
    /// Which of the inputs each input of the node is, where they differ.
    numbers: Option<Vec<Option<usize>>>,
    /// What was discarded of each input and is told, and how many rows.
    told: Vec<u64>,
    told_rows: u64,
}

/// What came at one input and is not in the join yet: the rest of a message of which the join did
/// not accept all.
struct Line<T> {
    /// Each with its number or its time, where it is joined by one.
    items: VecDeque<(u64, T)>,
    /// Nothing more comes.
    ends: bool,
    /// The join knows.
    ended: bool,
}

impl<T> Line<T> {
    fn new() -> Line<T> {
        Line { items: VecDeque::new(), ends: false, ended: false }
    }
}

impl<T: Clone> Joined<T> {
    /// Joins items of the same number. An item for which `tick` gives none fails the node.
    pub fn by_tick(join: ByTick<T>, tick: impl Fn(&T) -> Option<u64> + 'static) -> Joined<T> {
        let inputs = join.inputs();
        Joined::new(Kind::ByTick(join, Box::new(tick)), inputs)
    }

    /// Joins items of the leading input with the newest of the others.
    pub fn latest(join: Latest<T>) -> Joined<T> {
        let inputs = join.inputs();
        Joined::new(Kind::Latest(join), inputs)
    }

    /// Joins items that are nearest in time. An item for which `time` gives none fails the node.
    pub fn nearest(join: Nearest<T>, time: impl Fn(&T) -> Option<u64> + 'static) -> Joined<T> {
        let inputs = join.inputs();
        Joined::new(Kind::Nearest(join, Box::new(time)), inputs)
    }

    fn new(kind: Kind<T>, inputs: usize) -> Joined<T> {
        Joined {
            kind,
            inputs,
            sticky: None,
            rows_ended: false,
            when_full: WhenFull::Wait,
            lines: (0..inputs).map(|_| Line::new()).collect(),
            rows: VecDeque::new(),
            numbers: None,
            told: vec![0; inputs],
            told_rows: 0,
        }
    }

    /// Adds [`Sticky`] inputs behind those of the join: their last values stand at the end of each
    /// row. Until all of them have said something, at most so many rows are held.
    pub fn sticky(mut self, inputs: usize, rows: usize) -> Joined<T> {
        self.lines.truncate(self.inputs);
        self.lines.extend((0..inputs).map(|_| Line::new()));
        self.sticky = (inputs > 0).then(|| Sticky::new(inputs, rows));
        self.told = vec![0; self.lines.len()];
        self
    }

    /// What becomes of items for which there is no room; they wait if nothing is said.
    pub fn when_full(mut self, when_full: WhenFull) -> Joined<T> {
        self.when_full = when_full;
        self
    }

    /// Says which of the inputs each input of the node is.
    #[cfg(feature = "graph-files")]
    pub(crate) fn numbered(mut self, numbers: Vec<Option<usize>>) -> Joined<T> {
        self.numbers = Some(numbers);
        self
    }

    fn number(&self, input: usize) -> Result<usize, Cause> {
        let number = match &self.numbers {
            Some(numbers) => numbers.get(input).copied().flatten(),
            None => Some(input),
        };
        number
            .filter(|number| *number < self.lines.len())
            .ok_or_else(|| format!("the join has no input {input}").into())
    }

    /// Whether the join takes an item of this input without a loss, or is not to mind.
    fn takes(&self, input: usize) -> bool {
        if input >= self.inputs || self.when_full == WhenFull::Discard {
            return true;
        }
        // Where none is accepted, nothing would ever change: the join then decides.
        self.rows.is_empty()
            && (self.accepts(input) || (0..self.inputs).all(|other| !self.accepts(other)))
    }

    fn accepts(&self, input: usize) -> bool {
        match &self.kind {
            Kind::ByTick(join, _) => join.accepts(input),
            Kind::Latest(join) => input > 0 || join.accepts(input),
            Kind::Nearest(join, _) => join.accepts(input),
        }
    }

    /// What an item is joined by, if it is.
    fn key(&self, input: usize, item: &T) -> Result<u64, Cause> {
        let (key, what) = match &self.kind {
            Kind::ByTick(_, tick) if input < self.inputs => (tick(item), "tick"),
            Kind::Nearest(_, time) if input < self.inputs => (time(item), "time"),
            _ => return Ok(0),
        };
        key.ok_or_else(|| format!("an item without a {what} came at input {input}").into())
    }

    fn push(&mut self, input: usize, key: u64, item: T) -> Rows<T> {
        if let Some((sticky, at)) = self.sticky.as_mut().zip(input.checked_sub(self.inputs)) {
            return sticky.push(at, item);
        }
        let rows = match &mut self.kind {
            Kind::ByTick(join, _) => join.push(input, key, item),
            Kind::Latest(join) => join.push(input, item),
            Kind::Nearest(join, _) => join.push(input, key, item),
        };
        self.rows.extend(rows);
        Vec::new()
    }

    fn end(&mut self, input: usize) -> Rows<T> {
        if let Some((sticky, at)) = self.sticky.as_mut().zip(input.checked_sub(self.inputs)) {
            return sticky.end(at);
        }
        let rows = match &mut self.kind {
            Kind::ByTick(join, _) => join.end(input),
            Kind::Latest(join) => join.end(input),
            Kind::Nearest(join, _) => join.end(input),
        };
        self.rows.extend(rows);
        Vec::new()
    }

    fn no_rows_come(&self) -> bool {
        match &self.kind {
            Kind::ByTick(join, _) => join.is_exhausted(),
            Kind::Latest(join) => join.is_exhausted(),
            Kind::Nearest(join, _) => join.is_exhausted(),
        }
    }

    /// Sends the rows that are ready, as far as the sticky inputs have room.
    fn hand_on(&mut self, out: &mut Outlet<Vec<T>>) -> Result<(), Cause> {
        let no_more = self.no_rows_come();
        let Some(sticky) = &mut self.sticky else {
            return Ok(self.rows.drain(..).try_for_each(|row| out.send(row))?);
        };
        while self.when_full == WhenFull::Discard || sticky.accepts_row() {
            let Some(row) = self.rows.pop_front() else { break };
            sticky.push_row(row).into_iter().try_for_each(|row| out.send(row))?;
        }
        if no_more && self.rows.is_empty() && !self.rows_ended {
            self.rows_ended = true;
            sticky.end_rows().into_iter().try_for_each(|row| out.send(row))?;
        }
        Ok(())
    }

    /// Lets all in that the join accepts. Tells whether something was.
    fn let_in(&mut self, out: &mut Outlet<Vec<T>>) -> Result<bool, Cause> {
        let mut moved = false;
        for input in 0..self.lines.len() {
            while self.takes(input) {
                let Some((key, item)) = self.lines[input].items.pop_front() else { break };
                moved = true;
                let rows = self.push(input, key, item);
                rows.into_iter().try_for_each(|row| out.send(row))?;
                self.hand_on(out)?;
            }
            let line = &mut self.lines[input];
            if line.ends && !line.ended && line.items.is_empty() {
                (line.ended, moved) = (true, true);
                let rows = self.end(input);
                rows.into_iter().try_for_each(|row| out.send(row))?;
                self.hand_on(out)?;
            }
        }
        Ok(moved)
    }

    fn go_on(&mut self, out: &mut Outlet<Vec<T>>) -> Result<Flow, Cause> {
        while self.let_in(out)? {}
        let over = match &self.sticky {
            Some(sticky) => sticky.is_exhausted(),
            None => self.no_rows_come(),
        };
        if over {
            self.give_up();
        }
        self.tell_discarded(over, out);
        Ok(if over { Flow::Eos } else { Flow::GoOn })
    }

    /// What is held still comes into no row: a sticky input may have ended without a value.
    fn give_up(&mut self) {
        for input in 0..self.inputs {
            self.end(input);
        }
        if let Some(sticky) = &mut self.sticky {
            for row in self.rows.drain(..) {
                sticky.push_row(row);
            }
        }
    }

    /// Counts for the report what was discarded since the last time; in the end also what has not
    /// come into the join.
    fn tell_discarded(&mut self, over: bool, out: &mut Outlet<Vec<T>>) {
        let joined = match &self.kind {
            Kind::ByTick(join, _) => join.discarded(),
            Kind::Latest(join) => join.discarded(),
            Kind::Nearest(join, _) => join.discarded(),
        };
        let sticky = self.sticky.as_ref().map_or(&[][..], Sticky::discarded);
        let all = joined.iter().chain(sticky).zip(&self.lines).zip(&mut self.told).enumerate();
        for (number, ((discarded, line), told)) in all {
            let lost = if over { line.items.len() as u64 } else { 0 };
            let new = (discarded + lost).saturating_sub(*told);
            if new > 0 {
                *told += new;
                let numbers = self.numbers.as_ref();
                let place = |all: &Vec<_>| all.iter().position(|other| *other == Some(number));
                out.discard_at(numbers.and_then(place).unwrap_or(number), new);
            }
        }
        let rows = self.sticky.as_ref().map_or(0, Sticky::discarded_rows);
        out.discard(rows - std::mem::replace(&mut self.told_rows, rows));
    }
}

impl<T: Clone + 'static> Node for Joined<T> {
    type In = T;
    type Out = Vec<T>;

    fn svc(&mut self, item: T, out: &mut Outlet<Vec<T>>) -> Result<Flow, Cause> {
        self.svc_on(0, item, out)
    }

    fn svc_on(&mut self, input: usize, item: T, out: &mut Outlet<Vec<T>>) -> Result<Flow, Cause> {
        let input = self.number(input)?;
        // Before it is taken: so what is wrong with it is said of this item and of no other.
        let key = self.key(input, &item)?;
        self.lines[input].items.push_back((key, item));
        self.go_on(out)
    }

    fn wants(&self, input: usize) -> bool {
        // An input that is not there fails when something comes.
        let Ok(input) = self.number(input) else { return true };
        self.lines[input].items.is_empty() && self.takes(input)
    }

    fn input_ended(&mut self, input: usize, out: &mut Outlet<Vec<T>>) -> Result<Flow, Cause> {
        let input = self.number(input)?;
        self.lines[input].ends = true;
        self.go_on(out)
    }
}

impl<T> fmt::Debug for Joined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("inputs", &self.inputs)
            .field("sticky", &(self.lines.len() - self.inputs))
            .finish_non_exhaustive()
    }
}
