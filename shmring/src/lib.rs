//! Shared memory between processes.
#![deny(unsafe_code)]

pub mod array;
pub mod block;
pub mod cleanup;
pub mod error;
pub mod fault;
mod layout;
mod liveness;
#[doc(hidden)]
pub mod named;
pub mod names;
#[doc(hidden)]
pub mod os;
mod region;
pub mod ring;
pub mod segment;
mod sync;
pub mod transfer;
mod wait;

pub use array::SharedArray;
pub use error::{Error, PeerDied, RecvError, Result, SendError};
pub use segment::Segment;
pub use wait::WaitStrategy;
