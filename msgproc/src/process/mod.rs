//! `MessageProcess`: a frontend, its backend, and what they say to each other.

mod again;
mod backend;
mod call;
mod context;
mod event;
mod frontend;
mod inbox;
mod link;
mod options;
mod probe;
mod run;
mod stop;
mod undelivered;

pub use again::{RestartBy, RestartCause};
pub use backend::{Backend, Incoming, IntoBackend, NoEvents, Outcome};
pub use call::{Call, Reply};
pub use context::{Context, Interest, Token};
pub use event::Event;
pub use frontend::{MessageProcess, Start};
pub use options::{OnPanic, OnTimeout, Options};
pub use stop::StopOptions;
pub use undelivered::Undelivered;

pub(crate) use context::next_tick;
pub(crate) use stop::STEPS;
