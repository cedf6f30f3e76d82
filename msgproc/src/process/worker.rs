//! The Rust side of a program that is started by [`MessageProcess::exec`].
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use msgproc::prelude::*;
//!
//! struct Counter(u64);
//!
//! #[backend]
//! impl Counter {
//!     fn c__add(&mut self, number: u64) -> u64 {
//!         self.0 += number;
//!         self.0
//!     }
//! }
//!
//! fn main() -> msgproc::Result<ExitCode> {
//!     // The state is what the frontend gave to `exec`.
//!     msgproc::worker::run(|first: u64, _start| Counter(first))
//! }
//! ```
//!
//! [`MessageProcess::exec`]: crate::MessageProcess::exec

use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::{arrive::Greeting, backend::IntoBackend, frontend::Start};
use crate::{
    error::{Error, Result},
    start::{executed, is_executed},
};

/// Whether this process was started to be a worker. [`run`] may then be called, once.
///
/// A program that can be used by hand too looks here first.
pub fn is_worker() -> bool {
    is_executed()
}

/// Lives the life of a backend: receives the state that the frontend gave, makes the backend from
/// it, serves until it is stopped. Gives the exit code for `main`.
///
/// Call it before threads are started that fork, or change the directory or signals.
///
/// # Errors
///
/// [`Error::NotAWorker`] when somebody else started this program; [`Error::Malformed`] when what
/// comes over the channel is not the protocol.
pub fn run<S, C, R>(constructor: C) -> Result<ExitCode>
where
    S: DeserializeOwned,
    C: FnOnce(S, &Start) -> R,
    R: IntoBackend,
{
    let control = match executed() {
        Ok(Some(control)) => control,
        Ok(None) => return Err(Error::NotAWorker),
        Err(reason) => return Err(Error::Malformed { reason }),
    };
    let code = match Greeting::receive(control) {
        Ok(Some(greeting)) => {
            greeting.live(|state, start: &Start| constructor(state, start).into_backend())
        }
        // The frontend is gone already.
        Ok(None) => 0,
        Err(reason) => return Err(Error::Malformed { reason }),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
