//! Shared memory between processes.
#![deny(unsafe_code)]

pub mod error;
pub mod fault;
mod layout;
mod liveness;
pub mod names;
#[doc(hidden)]
pub mod os;
mod region;
pub mod segment;
mod sync;
pub mod transfer;

pub use error::{Error, PeerDied, RecvError, Result, SendError};
pub use segment::Segment;
