//! Joins: one row out of several inputs.
//!
//! A node with several inputs needs to know which items belong together. Each join here is a
//! state machine that answers this and nothing else: it does not wait, has no thread and reads no
//! clock. Items are pushed as they come, and rows come back.
//!
//! | join | a row is |
//! |---|---|
//! | [`ByTick`] | the items of all inputs that carry the same number |
//! | [`Latest`] | an item of the leading input, with the newest of each other |
//! | [`Nearest`] | an item of the leading input, with the one of each other that is nearest in time |
//! | [`Sticky`] | any row, with the last value of inputs that say something once or seldom |
//!
//! All have the same verbs: `push` an item, `end` an input, ask whether it
//! `accepts` more of an input without a loss, whether it `is_exhausted` (no row
//! can come any more, so that the other inputs need not be read) or `is_finished` (all inputs
//! ended, and nothing is held), and how many items of each input were `discarded`. A
//! row has the items in the order of the inputs.
//!
//! **Memory is bounded** by what the join was made with. Whoever pushes into an input that does
//! not `accept` loses something, which is counted; so that who can hold back a sender loses
//! nothing to speed, and who cannot (a camera) goes on with what is new. Beware of holding back
//! one sender that feeds several inputs, when one of them passes on only some of the items: the
//! others fill up, and the join waits for what never comes. There push on.
//!
//! **What was discarded** and what stands in rows adds up: an item that was pushed is held, was
//! in a row, or was counted as discarded, and never two of them.
//!
//! An input that has ended gets nothing more: an item that is pushed into it is discarded. An
//! index that is no input's is a panic, since it is a mistake in the program.
//!
//! [`Joined`] makes a node of a join.

mod by_tick;
mod latest;
mod nearest;
mod node;
mod sticky;

pub use by_tick::ByTick;
pub use latest::{Before, Latest};
pub use nearest::Nearest;
pub use node::{Joined, WhenFull};
pub use sticky::Sticky;

/// The rows that a push or an end has made, in their order; most often none or one.
pub type Rows<T> = Vec<Vec<T>>;

#[cfg(test)]
mod tests;
