//! Supervised worker processes with typed commands, replies and events.
#![deny(unsafe_code)]

mod channel;
mod error;
mod exit;
mod message;

pub use error::{Busy, Error, Result, Trace};
pub use exit::{Exit, How, StopStep};
