//! Supervised worker processes with typed commands, replies and events.
//!
//! ```no_run
//! use msgproc::prelude::*;
//!
//! struct Pinger {
//!     pings: u64,
//! }
//!
//! #[backend]
//! impl Pinger {
//!     // Runs in the backend.
//!     fn c__ping(&mut self, parameter: String) -> u64 {
//!         println!("Regards from other side of the fork!  Got parameter {parameter}");
//!         self.pings += 1;
//!         self.pings
//!     }
//! }
//!
//! fn main() -> msgproc::Result<()> {
//!     let mut pinger = MessageProcess::fork("my-process", |_| Pinger { pings: 0 })?;
//!     pinger.ping("gotcha!".into()).tell()?; // do not wait; no reply travels
//!     let pings = pinger.ping("again".into()).wait()?; // synchronize, and receive
//!     assert_eq!(pings, 2);
//!     pinger.stop()
//! }
//! ```
//!
//! Arguments, results, events and states travel by serde, in the format of the crate postcard: fields
//! in their order, without names and types. So what serde's attributes make of a value must not hang
//! on its content: `skip_serializing_if` leaves a field out, and the next one is taken for it;
//! `flatten`, `untagged` and `tag` are refused, since they need names.
//!
//! # Which way to start
//!
//! The same [`MessageProcess`] comes out of each:
//!
//! - [`fork`](MessageProcess::fork) in a program of one thread: the constructor is any closure.
//! - [`fork_from`](MessageProcess::fork_from) a [`ForkServer`] in a program that has threads, or
//!   much memory, or starts many: half a millisecond each, whatever the program holds.
//! - [`spawn`](MessageProcess::spawn) where a process is wanted now and then and a server is too
//!   much: it executes the program anew. These two need [`init`] first in `main`.
//! - [`exec`](MessageProcess::exec) for another program, in any language.
//! - [`thread`](MessageProcess::thread) to look at a backend with a debugger.
#![deny(unsafe_code)]

mod channel;
mod deadline;
mod error;
mod exit;
#[doc(hidden)]
pub mod fault;
pub mod flow;
mod kernel;
pub mod manager;
mod message;
mod process;
mod start;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use error::{Error, Result, Trace};
pub use exit::{Exit, How, StopStep};
pub use kernel::{Busy, InKernel};
pub use manager::{Happening, Manager};
pub use msgproc_macros::backend;
pub use process::{
    Backend, Call, Context, Event, ForkServer, ForkServerOptions, Incoming, Interest, IntoBackend,
    MessageProcess, NoEvents, OnPanic, OnTimeout, Options, Outcome, Program, Reply, RestartBy,
    RestartCause, Start, Starting, StopOptions, Token, Undelivered, init, worker,
};
pub use shmring::transfer::Descriptor;
pub use start::{Resource, Stdio};

/// What a program that starts processes needs.
pub mod prelude {
    pub use crate::{
        Backend, Call, Context, Descriptor, Error, Event, Exit, ForkServer, Happening, How,
        Interest, Manager, MessageProcess, NoEvents, Program, Reply, Result, Start, Stdio,
        StopOptions, Token, backend,
    };
}

/// What the code that `#[backend]` writes refers to.
#[doc(hidden)]
pub mod __private {
    pub use crate::{Backend, Call, Context, Incoming, MessageProcess, NoEvents, Outcome};
    // For fuzzing.
    pub use crate::channel::take_apart;
    #[cfg(feature = "graph-files")]
    pub use crate::flow::file::read_check_write;
}
