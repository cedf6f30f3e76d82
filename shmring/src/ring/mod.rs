//! Rings: bounded queues in shared memory. README.md in this folder draws the protocols.
//!
//! | kind | ends | items |
//! |---|---|---|
//! | [`records`] | one producer, one consumer | bytes of varying length, in order |
//! | [`cells`] | one producer, one consumer | one `Pod` type, in order; many at once as a slice |
//! | [`latest`] | one writer, any number of readers | the newest value |

pub mod cells;
pub(crate) mod face;
pub mod latest;
pub mod port;
pub mod records;
mod role;
pub mod select;
mod unread;

pub(crate) use self::unread::UnreadEnd;
pub use self::{face::Policy, select::Selector};
