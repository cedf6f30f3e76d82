use super::{Before, Latest, Rows};

/// Adds to each row the last values of inputs that say something once or seldom, such as settings
/// or a calibration. A value is kept for ever, also after its input has ended.
///
/// The rows come from another join, or have one item each. They wait until each of the sticky
/// inputs has said something; their values stand at the end of the row, in the order of these
/// inputs, which are counted from 0.
///
/// # Examples
///
/// ```
/// use msgproc::flow::join::{ByTick, Sticky};
///
/// let mut join = ByTick::new(2, 8);
/// let mut sticky = Sticky::new(1, 100);
/// join.push(0, 0, "x0");
/// for row in join.push(1, 0, "y0") {
///     assert!(sticky.push_row(row).is_empty()); // waits for the names
/// }
/// assert_eq!(sticky.push(0, "names"), [["x0", "y0", "names"]]);
/// sticky.end(0);
/// assert_eq!(sticky.push_row(vec!["x1", "y1"]), [["x1", "y1", "names"]]);
/// ```
#[derive(Clone, Debug)]
pub struct Sticky<T>(Latest<Vec<T>>);

impl<T: Clone> Sticky<T> {
    /// Adds the last values of `inputs` inputs. Until all of them have said something, at most
    /// `capacity` rows are held; when one more comes, the oldest is discarded.
    ///
    /// # Panics
    ///
    /// If the capacity is 0.
    pub fn new(inputs: usize, capacity: usize) -> Self {
        assert!(capacity > 0, "sticky inputs need a capacity of at least one row");
        Sticky(Latest::new(inputs + 1, Before::Hold(capacity)))
    }

    /// How many sticky inputs there are.
    pub fn inputs(&self) -> usize {
        self.0.inputs() - 1
    }

    /// Takes a row.
    pub fn push_row(&mut self, row: Vec<T>) -> Rows<T> {
        joined(self.0.push(0, row))
    }

    /// Takes a value of the sticky `input`.
    pub fn push(&mut self, input: usize, item: T) -> Rows<T> {
        joined(self.0.push(input + 1, vec![item]))
    }

    /// Says that the sticky `input` sends nothing more.
    pub fn end(&mut self, input: usize) -> Rows<T> {
        joined(self.0.end(input + 1))
    }

    /// Says that no more rows come.
    pub fn end_rows(&mut self) -> Rows<T> {
        joined(self.0.end(0))
    }

    /// Whether the next row finds room without a loss.
    pub fn accepts_row(&self) -> bool {
        self.0.accepts(0)
    }

    /// Whether the next value of the sticky `input` replaces none that was in no row yet.
    pub fn accepts(&self, input: usize) -> bool {
        self.0.accepts(input + 1)
    }

    /// Whether no row can come any more: no more are pushed and none are held, or a sticky input
    /// ended without having said anything.
    pub fn is_exhausted(&self) -> bool {
        self.0.is_exhausted()
    }

    /// Whether all ended, the rows and the sticky inputs; nothing is held then.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// How many values of each sticky input came into no row.
    pub fn discarded(&self) -> &[u64] {
        &self.0.discarded()[1..]
    }

    /// How many rows were discarded, because they waited too long or for nothing.
    pub fn discarded_rows(&self) -> u64 {
        self.0.discarded()[0]
    }
}

fn joined<T>(rows: Rows<Vec<T>>) -> Rows<T> {
    rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect()
}
