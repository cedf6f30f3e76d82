//! `MessageProcess`: a frontend, its backend, and what they say to each other.

mod again;
mod arrive;
mod awake;
mod backend;
mod call;
mod context;
mod event;
mod forker;
mod frontend;
mod hello;
mod inbox;
mod link;
mod options;
mod probe;
mod recipe;
mod run;
mod server;
mod starting;
mod stop;
mod test_support;
mod undelivered;
mod way;
pub mod worker;

pub use again::{RestartBy, RestartCause};
pub use arrive::init;
pub use backend::{Backend, Incoming, IntoBackend, NoEvents, Outcome};
pub use call::{Call, Reply};
pub use context::{Context, Interest, Token};
pub use event::Event;
pub use frontend::{MessageProcess, Start};
pub use options::{OnPanic, OnTimeout, Options};
pub use recipe::Program;
pub use server::{ForkServer, ForkServerOptions};
pub use starting::Starting;
pub use stop::StopOptions;
pub use undelivered::Undelivered;

pub(crate) use context::{is_closed, next_tick};
#[cfg(feature = "tokio")]
pub(crate) use link::Awaits;
pub(crate) use stop::STEPS;
