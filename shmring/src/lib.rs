//! Shared memory between processes.
#![deny(unsafe_code)]

pub mod error;
pub mod fault;
pub mod names;
#[doc(hidden)]
pub mod os;
mod sync;
pub mod transfer;

pub use error::{Error, PeerDied, RecvError, Result, SendError};
