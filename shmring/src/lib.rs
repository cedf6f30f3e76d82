//! Shared memory between processes.
#![deny(unsafe_code)]

pub mod block;
pub mod error;
pub mod fault;
mod layout;
mod liveness;
pub mod names;
#[doc(hidden)]
pub mod os;
mod region;
pub mod ring;
pub mod segment;
mod sync;
pub mod transfer;
mod wait;

pub use error::{Error, PeerDied, RecvError, Result, SendError};
pub use segment::Segment;
pub use wait::WaitStrategy;
