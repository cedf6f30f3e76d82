use std::collections::VecDeque;

use super::Rows;

/// Joins each item of the leading input with the item of each other that is nearest in time.
///
/// Input 0 leads. A row is made when each other input has gone as far as the leading item, or has
/// ended, since before that a nearer one could come. If an input has nothing within the
/// tolerance, the leading item is discarded. Of two that are equally near it is the earlier one.
/// An item may go into several rows; it is discarded if it was in none.
///
/// Times are numbers in any unit, and those of an input only go up: an item that is older than
/// the one before is discarded, and so is a second one of the same time in an input that does not
/// lead.
///
/// # Examples
///
/// ```
/// use msgproc::flow::join::Nearest;
///
/// // A picture each 40 ms, and a sensor with a clock of its own.
/// let mut join = Nearest::new(2, 15, 8);
/// assert!(join.push(0, 40, "picture 1").is_empty());
/// assert!(join.push(1, 31, "sensor 1").is_empty()); // perhaps there is a nearer one
/// assert_eq!(join.push(1, 52, "sensor 2"), [["picture 1", "sensor 1"]]);
/// assert!(join.push(0, 80, "picture 2").is_empty());
/// assert!(join.push(1, 99, "sensor 3").is_empty()); // 19 ms off
/// assert_eq!(join.discarded(), [1, 1]); // picture 2 and sensor 2
/// ```
#[derive(Clone, Debug)]
pub struct Nearest<T> {
    tolerance: u64,
    capacity: usize,
    leading: VecDeque<(u64, T)>,
    /// No leading item is older than this from here on.
    reached: u64,
    others: Vec<VecDeque<Held<T>>>,
    inputs: Vec<Input>,
    discarded: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Held<T> {
    time: u64,
    item: T,
    used: bool,
}

#[derive(Clone, Debug, Default)]
struct Input {
    newest: Option<u64>,
    ended: bool,
}

/// What another input says to a leading item.
enum Answer {
    /// The item at this place.
    Place(usize),
    /// There is nothing within the tolerance, and nothing will come.
    Nothing,
    NotYet,
}

impl<T: Clone> Nearest<T> {
    /// Joins `inputs` inputs, of which input 0 leads, where items are at most `tolerance` apart.
    /// Holds at most `capacity` items of each; when one more comes, the oldest is discarded.
    ///
    /// # Panics
    ///
    /// If there are no inputs, or the capacity is less than 2: of each other input it needs one
    /// item before and one after the leading item.
    pub fn new(inputs: usize, tolerance: u64, capacity: usize) -> Self {
        assert!(inputs > 0, "a join without inputs");
        assert!(capacity >= 2, "a join by time needs a capacity of at least 2");
        Nearest {
            tolerance,
            capacity,
            leading: VecDeque::new(),
            reached: 0,
            others: vec![VecDeque::new(); inputs - 1],
            inputs: vec![Input::default(); inputs],
            discarded: vec![0; inputs],
        }
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Takes the item of `input` that has this time.
    pub fn push(&mut self, input: usize, time: u64, item: T) -> Rows<T> {
        let known = &self.inputs[input];
        let late = match known.newest {
            Some(newest) if input == 0 => time < newest,
            Some(newest) => time <= newest,
            None => false,
        };
        if late || known.ended || self.is_exhausted() {
            self.discarded[input] += 1;
            return Vec::new();
        }
        self.inputs[input].newest = Some(time);
        match input.checked_sub(1) {
            None => self.leading.push_back((time, item)),
            Some(other) => self.others[other].push_back(Held { time, item, used: false }),
        }
        let rows = self.settle();
        self.shorten(input);
        rows
    }

    /// Says that `input` sends nothing more.
    pub fn end(&mut self, input: usize) -> Rows<T> {
        self.inputs[input].ended = true;
        self.settle()
    }

    /// Whether the next item of `input` finds room without a loss.
    pub fn accepts(&self, input: usize) -> bool {
        let len = match input.checked_sub(1) {
            None => self.leading.len(),
            Some(other) => self.others[other].len(),
        };
        len < self.capacity && !self.inputs[input].ended && !self.is_exhausted()
    }

    /// Whether no row can come any more: the leading input ended and nothing of it is held, or
    /// another ended and has nothing that is still near enough. What is pushed from then on is
    /// discarded.
    pub fn is_exhausted(&self) -> bool {
        let mut others = self.others.iter().zip(&self.inputs[1..]);
        self.inputs[0].ended && self.leading.is_empty()
            || others.any(|(held, input)| input.ended && held.is_empty())
    }

    /// Whether all inputs ended; nothing is held then.
    pub fn is_finished(&self) -> bool {
        self.inputs.iter().all(|input| input.ended)
    }

    /// How many items of each input came into no row.
    pub fn discarded(&self) -> &[u64] {
        &self.discarded
    }

    /// How many items of each input are held.
    pub fn held(&self) -> Vec<usize> {
        let others = self.others.iter().map(VecDeque::len);
        std::iter::once(self.leading.len()).chain(others).collect()
    }

    fn settle(&mut self) -> Rows<T> {
        let mut rows = Vec::new();
        while let Some(&(time, _)) = self.leading.front() {
            self.reached = time;
            self.forget();
            let answers = (0..self.others.len()).map(|other| self.answer(other, time));
            let answers: Vec<_> = answers.collect();
            let nothing = answers.iter().any(|answer| matches!(answer, Answer::Nothing));
            if !nothing && answers.iter().any(|answer| matches!(answer, Answer::NotYet)) {
                break;
            }
            let (_, item) = self.leading.pop_front().expect("the one that was looked at");
            if nothing {
                self.discarded[0] += 1;
                continue;
            }
            let mut row = Vec::with_capacity(self.inputs.len());
            row.push(item);
            for (held, answer) in self.others.iter_mut().zip(answers) {
                if let Answer::Place(place) = answer {
                    held[place].used = true;
                    row.push(held[place].item.clone());
                }
            }
            rows.push(row);
        }
        self.forget();
        if self.is_exhausted() {
            self.discarded[0] += self.leading.drain(..).count() as u64;
            for (held, discarded) in self.others.iter_mut().zip(&mut self.discarded[1..]) {
                *discarded += held.drain(..).filter(|held| !held.used).count() as u64;
            }
        }
        rows
    }

    fn answer(&self, other: usize, time: u64) -> Answer {
        let held = &self.others[other];
        let input = &self.inputs[other + 1];
        if !input.ended && input.newest.is_none_or(|newest| newest < time) {
            return Answer::NotYet;
        }
        let after = held.partition_point(|held| held.time < time);
        let distance = |place: usize| held.get(place).map(|held| held.time.abs_diff(time));
        let before = after.checked_sub(1).and_then(|place| Some((distance(place)?, place)));
        let after = distance(after).map(|distance| (distance, after));
        match before.into_iter().chain(after).min() {
            Some((distance, place)) if distance <= self.tolerance => Answer::Place(place),
            _ => Answer::Nothing,
        }
    }

    /// Drops what can be the nearest to no leading item from here on.
    fn forget(&mut self) {
        for (held, discarded) in self.others.iter_mut().zip(&mut self.discarded[1..]) {
            while let Some(oldest) = held.front() {
                let surpassed = held.get(1).is_some_and(|next| next.time <= self.reached);
                if !surpassed && oldest.time.saturating_add(self.tolerance) >= self.reached {
                    break;
                }
                *discarded += u64::from(!oldest.used);
                held.pop_front();
            }
        }
    }

    /// Keeps to the capacity.
    fn shorten(&mut self, input: usize) {
        match input.checked_sub(1) {
            None if self.leading.len() > self.capacity => {
                self.leading.pop_front();
                self.discarded[0] += 1;
            }
            Some(other) if self.others[other].len() > self.capacity => {
                let oldest = self.others[other].pop_front();
                self.discarded[input] += u64::from(oldest.is_some_and(|held| !held.used));
            }
            _ => {}
        }
    }
}
