//! Rings: bounded queues in shared memory. README.md in this folder draws the protocols.
//!
//! | kind | ends | items |
//! |---|---|---|
//! | [`records`] | one producer, one consumer | bytes of varying length, in order |
//! | [`cells`] | one producer, one consumer | one `Pod` type, in order; many at once as a slice |
//! | [`broadcast`] | one producer, many consumers, each sees every item | bytes of varying length, in order |
//! | [`queue`] | many producers, many consumers, who come and go | bytes up to a length; each goes to one consumer, again if that one dies before it says that it is done |
//! | [`latest`] | one writer, any number of readers | the newest value |
//!
//! Typed values, with blocks in them, go over records by [`port`], over queues by [`queue::port`],
//! over broadcast rings by [`broadcast::port`], and as a latest value by [`latest::port`]. Cells carry
//! none: an item of them is plain data, and nobody could say who holds a block while it is on its way.

pub mod broadcast;
pub mod cells;
pub(crate) mod face;
mod iter;
pub mod latest;
mod message;
mod part;
pub mod port;
pub mod queue;
pub mod records;
mod role;
pub mod select;
mod unread;

#[cfg(feature = "stream")]
pub(crate) use self::iter::{Means, Told};
pub(crate) use self::unread::UnreadEnd;
pub use self::{face::Policy, iter::Iter, part::Part, select::Selector};
