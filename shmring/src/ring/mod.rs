//! Rings: bounded queues in shared memory. README.md in this folder draws the protocols.
//!
//! | kind | ends | items |
//! |---|---|---|
//! | [`records`] | one producer, one consumer | bytes of varying length, in order |

pub(crate) mod face;
pub mod port;
pub mod records;
mod role;
pub mod select;
mod unread;

pub(crate) use self::unread::UnreadEnd;
pub use self::{face::Policy, select::Selector};
