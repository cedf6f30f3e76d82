use std::collections::VecDeque;

use super::Rows;

/// What becomes of an item of the leading input that comes before each other input has said
/// something.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Before<T> {
    /// It is discarded.
    Discard,
    /// It is held, up to so many; when one more comes, the oldest is discarded.
    Hold(usize),
    /// This stands for the value of an input that has none yet, also if that ended without any.
    Use(T),
}

/// Joins each item of the leading input with the newest item of each other.
///
/// Input 0 leads. The newest item of another input stays when that input ends; it goes into as
/// many rows as there are items of the leading input until the next one comes, and is discarded
/// if it was in none of them.
///
/// # Examples
///
/// ```
/// use msgproc::flow::join::{Before, Latest};
///
/// let mut join = Latest::new(2, Before::Hold(4));
/// assert!(join.push(0, 1).is_empty()); // held until input 1 says something
/// assert_eq!(join.push(1, 10), [[1, 10]]);
/// assert_eq!(join.push(0, 2), [[2, 10]]);
/// ```
#[derive(Clone, Debug)]
pub struct Latest<T> {
    before: Before<T>,
    held: VecDeque<T>,
    leader_ended: bool,
    others: Vec<Other<T>>,
    discarded: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Other<T> {
    newest: Option<T>,
    used: bool,
    ended: bool,
}

impl<T: Clone> Latest<T> {
    /// Joins `inputs` inputs, of which input 0 leads. It holds one item of each other, and of the
    /// leading one what `before` says.
    ///
    /// # Panics
    ///
    /// If there are no inputs, or none are to be held: say `Discard` then.
    pub fn new(inputs: usize, before: Before<T>) -> Self {
        assert!(inputs > 0, "a join without inputs");
        assert!(!matches!(before, Before::Hold(0)), "to hold no item is `Before::Discard`");
        let other = || Other { newest: None, used: false, ended: false };
        Latest {
            before,
            held: VecDeque::new(),
            leader_ended: false,
            others: (1..inputs).map(|_| other()).collect(),
            discarded: vec![0; inputs],
        }
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.discarded.len()
    }

    /// Takes an item of `input`.
    pub fn push(&mut self, input: usize, item: T) -> Rows<T> {
        if input == 0 {
            return self.lead(item);
        }
        let exhausted = self.is_exhausted();
        let other = &mut self.others[input - 1];
        if other.ended || exhausted {
            self.discarded[input] += 1;
            return Vec::new();
        }
        if other.newest.replace(item).is_some() && !other.used {
            self.discarded[input] += 1;
        }
        other.used = false;
        if !self.is_ready() {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.held);
        let rows = held.into_iter().map(|item| self.row(item)).collect();
        self.clear_if_exhausted();
        rows
    }

    fn lead(&mut self, item: T) -> Rows<T> {
        if self.leader_ended || self.is_barren() {
            self.discarded[0] += 1;
            return Vec::new();
        }
        if self.is_ready() {
            return vec![self.row(item)];
        }
        let room = if let Before::Hold(room) = self.before { room } else { 0 };
        self.held.push_back(item);
        if self.held.len() > room {
            self.held.pop_front();
            self.discarded[0] += 1;
        }
        Vec::new()
    }

    /// Says that `input` sends nothing more.
    pub fn end(&mut self, input: usize) -> Rows<T> {
        if input == 0 {
            self.leader_ended = true;
        } else {
            self.others[input - 1].ended = true;
        }
        if self.is_barren() {
            self.discarded[0] += self.held.len() as u64;
            self.held.clear();
        }
        self.clear_if_exhausted();
        Vec::new()
    }

    fn clear_if_exhausted(&mut self) {
        if self.is_exhausted() {
            for (other, discarded) in self.others.iter_mut().zip(&mut self.discarded[1..]) {
                *discarded += u64::from(other.newest.take().is_some() && !other.used);
            }
        }
    }

    /// Whether the next item of `input` finds room without a loss.
    pub fn accepts(&self, input: usize) -> bool {
        if input > 0 {
            let other = &self.others[input - 1];
            let room = other.newest.is_none() || other.used;
            return room && !other.ended && !self.is_exhausted();
        }
        let room = if let Before::Hold(room) = self.before { room } else { 0 };
        !self.leader_ended && !self.is_barren() && (self.is_ready() || self.held.len() < room)
    }

    /// Whether no row can come any more: the leading input ended and nothing of it is held, or
    /// another ended without having said anything. What is pushed from then on is discarded.
    pub fn is_exhausted(&self) -> bool {
        self.leader_ended && self.held.is_empty() || self.is_barren()
    }

    /// Whether all inputs ended; nothing is held then.
    pub fn is_finished(&self) -> bool {
        self.leader_ended && self.held.is_empty() && self.others.iter().all(|other| other.ended)
    }

    /// How many items of each input came into no row.
    pub fn discarded(&self) -> &[u64] {
        &self.discarded
    }

    /// Whether each other input has a value.
    fn is_ready(&self) -> bool {
        matches!(self.before, Before::Use(_))
            || self.others.iter().all(|other| other.newest.is_some())
    }

    /// Whether an input ended that has no value, and none stands for it.
    fn is_barren(&self) -> bool {
        !matches!(self.before, Before::Use(_))
            && self.others.iter().any(|other| other.ended && other.newest.is_none())
    }

    fn row(&mut self, item: T) -> Vec<T> {
        let mut row = Vec::with_capacity(self.inputs());
        row.push(item);
        for other in &mut self.others {
            other.used = true;
            row.push(match (&other.newest, &self.before) {
                (Some(newest), _) => newest.clone(),
                (None, Before::Use(value)) => value.clone(),
                (None, _) => unreachable!("rows are made when each input has a value"),
            });
        }
        row
    }
}
