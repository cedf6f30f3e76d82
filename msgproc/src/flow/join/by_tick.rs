use std::collections::BTreeMap;

use super::Rows;

/// Joins the items of all inputs that carry the same number, a tick.
///
/// Rows come in the order of their ticks. A tick that one input leaves out is discarded, with what
/// the others sent for it: as soon as the input went beyond it or ended, or when the window is
/// needed for newer ticks. A second item for the same tick, and an item for a tick that was
/// decided, are discarded.
///
/// Each input is taken to send its ticks in order; see [`slack`](Self::slack) for one that does
/// not.
///
/// # Examples
///
/// ```
/// use msgproc::flow::join::ByTick;
///
/// let mut join = ByTick::new(2, 8);
/// assert!(join.push(0, 1, "left 1").is_empty());
/// assert!(join.push(0, 2, "left 2").is_empty());
/// // The second input never had a tick 1.
/// assert_eq!(join.push(1, 2, "right 2"), [["left 2", "right 2"]]);
/// assert_eq!(join.discarded(), [1, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct ByTick<T> {
    window: usize,
    slack: u64,
    inputs: Vec<Input>,
    open: BTreeMap<u64, Vec<Option<T>>>,
    /// The newest tick that was decided; nothing up to it is taken any more.
    decided: Option<u64>,
    discarded: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct Input {
    newest: Option<u64>,
    ended: bool,
}

impl Input {
    /// Whether this input will not send `tick` any more.
    fn is_beyond(&self, tick: u64, slack: u64) -> bool {
        self.ended || self.newest.is_some_and(|newest| newest > tick.saturating_add(slack))
    }
}

impl<T> ByTick<T> {
    /// Joins `inputs` inputs, with at most `window` ticks open at a time: so it holds at most
    /// `window * inputs` items.
    ///
    /// # Panics
    ///
    /// If there are no inputs or no window.
    pub fn new(inputs: usize, window: usize) -> Self {
        assert!(inputs > 0, "a join without inputs");
        assert!(window > 0, "a join by tick needs a window of at least one tick");
        ByTick {
            window,
            slack: 0,
            inputs: vec![Input::default(); inputs],
            open: BTreeMap::new(),
            decided: None,
            discarded: vec![0; inputs],
        }
    }

    /// Lets an input go back by up to `ticks` behind its newest one, such as the results of a farm
    /// that come as they are done. A row then waits until no smaller tick can come.
    pub fn slack(mut self, ticks: u64) -> Self {
        self.slack = ticks;
        self
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Takes the item of `input` for `tick`.
    pub fn push(&mut self, input: usize, tick: u64, item: T) -> Rows<T> {
        let slack = self.slack;
        let late = self.decided.is_some_and(|decided| tick <= decided)
            || self.inputs[input].is_beyond(tick, slack);
        if late {
            self.discarded[input] += 1;
            return Vec::new();
        }
        let known = &mut self.inputs[input];
        known.newest = known.newest.max(Some(tick));
        let inputs = self.inputs.len();
        let row = self.open.entry(tick).or_insert_with(|| (0..inputs).map(|_| None).collect());
        match &mut row[input] {
            Some(_) => self.discarded[input] += 1,
            empty => *empty = Some(item),
        }
        self.settle()
    }

    /// Says that `input` sends nothing more.
    pub fn end(&mut self, input: usize) -> Rows<T> {
        self.inputs[input].ended = true;
        self.settle()
    }

    /// Whether `input` is to be read: there is room in the window, or the oldest tick waits for it.
    pub fn accepts(&self, input: usize) -> bool {
        let oldest_waits = || {
            let oldest = self.open.first_key_value();
            oldest.is_none_or(|(_, row)| row[input].is_none())
        };
        !self.inputs[input].ended && (self.open.len() < self.window || oldest_waits())
    }

    /// Whether no row can come any more, since an input ended that all of them would need.
    pub fn is_exhausted(&self) -> bool {
        let ended = |row: &Vec<Option<T>>| {
            row.iter().zip(&self.inputs).any(|(item, input)| item.is_none() && input.ended)
        };
        self.inputs.iter().any(|input| input.ended) && self.open.values().all(ended)
    }

    /// Whether all inputs ended; nothing is held then.
    pub fn is_finished(&self) -> bool {
        self.inputs.iter().all(|input| input.ended)
    }

    /// How many items of each input came into no row.
    pub fn discarded(&self) -> &[u64] {
        &self.discarded
    }

    /// How many ticks are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Decides what can be decided, oldest first.
    fn settle(&mut self) -> Rows<T> {
        let mut rows = Vec::new();
        while let Some((&tick, row)) = self.open.first_key_value() {
            let complete = row.iter().all(Option::is_some);
            let missing = || row.iter().zip(&self.inputs).filter(|(item, _)| item.is_none());
            let decided = if complete {
                self.nothing_before(tick)
            } else {
                missing().any(|(_, input)| input.is_beyond(tick, self.slack))
            };
            if !decided && self.open.len() <= self.window {
                break;
            }
            let row = self.open.remove(&tick).expect("the first that is open");
            self.decided = Some(tick);
            if complete {
                rows.push(row.into_iter().flatten().collect());
            } else {
                for (discarded, item) in self.discarded.iter_mut().zip(row) {
                    *discarded += u64::from(item.is_some());
                }
            }
        }
        rows
    }

    /// Whether no tick before `tick`, which is the first that is open, can still become complete.
    fn nothing_before(&self, tick: u64) -> bool {
        let Some(before) = tick.checked_sub(1) else {
            return true;
        };
        self.decided == Some(before)
            || self.inputs.iter().any(|input| input.is_beyond(before, self.slack))
    }
}
