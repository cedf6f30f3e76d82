//! How a backend comes to life, and the hygiene of a new child.
//!
//! This is the room of the unsafe calls around processes. What it promises to the floors above:
//! a forked child runs what it was given and nothing of its parent's frames or destructors; it
//! holds none of the descriptors and pages that belong to other backends; its signals are its
//! own; and it ends soon after its frontend, even when it is stuck.

mod bell;
mod child;
mod event;
mod fork;
mod kept;
mod lifeline;
mod orphan;
mod page;
mod panic;
mod signals;
mod stderr;

pub(crate) use bell::Bell;
pub(crate) use child::{Child, monotonic};
pub(crate) use event::KeptEvent;
pub(crate) use fork::{Hygiene, KILL, PANICKED, TERMINATE, fork};
pub(crate) use kept::{Kept, KeptFd};
pub(crate) use lifeline::frontend_has_ended;
pub(crate) use orphan::{give_back_blocks, remove_owned_names};
pub(crate) use page::{CALLS, Doing, LANES, Lane, Page, StopLevel};
pub(crate) use panic::{Caught, catch};
pub(crate) use signals::Signals;
pub(crate) use stderr::StderrFile;
