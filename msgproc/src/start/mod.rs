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
mod image;
mod kept;
mod lifeline;
mod limits;
mod orphan;
mod page;
mod panic;
mod signals;
mod spawn;
mod status;
mod surroundings;
mod text;

pub(crate) use bell::Bell;
pub(crate) use child::{Child, Reaper, end_unwatched, wait as exit_of};
pub(crate) use event::KeptEvent;
pub(crate) use fork::{
    Hygiene, KILL, PANICKED, TERMINATE, flush, fork, fork_stranger, heed_sigint, refuse_threads,
    rename, settle_in,
};
pub(crate) use image::{NotMainProgram, Place, conjure};
pub(crate) use kept::{Kept, KeptFd};
pub(crate) use lifeline::{frontend_has_ended, to_hand_over as lifelines};
pub(crate) use limits::{check as check_limits, is_shortage};
pub(crate) use orphan::{give_back_blocks, remove_owned_names};
pub(crate) use page::{CALLS, Doing, LANES, Lane, Page, StopLevel};
pub(crate) use panic::{Caught, Panic, catch, catch_here, note_panics};
pub(crate) use signals::Signals;
pub(crate) use spawn::{
    EXECUTED, THIS_PROGRAM, Target, arguments_of_spawned, executed, is_executed, is_initialized,
    note_initialized, spawned,
};
pub(crate) use surroundings::{Stream, Streams, Surroundings, bind_thread, nowhere};
pub(crate) use text::TextFile;

pub use surroundings::{Resource, Stdio};
