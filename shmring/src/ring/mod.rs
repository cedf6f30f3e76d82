//! Rings: bounded queues in shared memory. README.md in this folder draws the protocols.
//!
//! | kind | ends | items |
//! |---|---|---|
//! | [`records`] | one producer, one consumer | bytes of varying length, in order |
//! | [`cells`] | one producer, one consumer | one `Pod` type, in order; many at once as a slice |
//! | [`broadcast`] | one producer, many consumers, each sees every item | bytes of varying length, in order |
//! | [`queue`] | many producers, many consumers, who come and go | bytes up to a length; each goes to one consumer, again if that one dies before it says that it is done |
//! | [`latest`] | one writer, any number of readers | the newest value |
//!
//! They have the same verbs:
//!
//! | to | with |
//! |---|---|
//! | send one | `send`, `try_send`, `send_timeout`; in place by `claim`, `try_claim`, `claim_timeout` and `commit` of what they give |
//! | send many | `batch`, then `try_push` and, for all at once, `publish`; cells also as a slice by `claim_many` |
//! | receive one | `recv`, `try_recv`, `recv_timeout`: a guard that reads in place |
//! | receive many | `run`, `try_run`, `run_timeout`: what is there now, given back all at once; cells as a slice |
//! | receive one after the other | `iter`, `try_iter`; `is_empty` and `len` tell what is there |
//! | wait for several | [`Selector`], or `arm` and `bell` for a poll of your own |
//! | await | the same verbs on the ends of `shmring::tokio` (feature `tokio`), or as `Stream` and `Sink` (feature `stream`) |
//!
//! `try_` never waits; a plain verb waits for the other side as long as that lives, and sending does
//! what the ring's [`Policy`] says; `_timeout` waits for so long. A ring of typed messages takes many
//! at once as one message that is a `Vec`. A latest value is not sent but set ([`latest`]).
//!
//! Typed values, with blocks in them, go over records by [`port`], over queues by [`queue::port`],
//! over broadcast rings by [`broadcast::port`], and as a latest value by [`latest::port`]. Cells carry
//! none: an item of them is plain data, and nobody could say who holds a block while it is on its way.

pub mod broadcast;
pub mod cells;
pub(crate) mod face;
mod iter;
pub mod latest;
mod message;
mod part;
pub mod port;
pub mod queue;
pub mod records;
mod role;
pub mod select;
mod unread;

#[cfg(feature = "stream")]
pub(crate) use self::iter::{Means, Told};
pub(crate) use self::unread::UnreadEnd;
pub use self::{face::Policy, iter::Iter, part::Part, select::Selector};
use crate::{
    block,
    segment::{Kind, Segment},
};

/// Whoever uses any ring knows how to give back what a dead participant of its segment held, and
/// so can have its place: also where it never looks at the pool or queue that this was in.
fn register_repairers(segment: &Segment) {
    segment.register_repairer(Kind::Pool, block::repair);
    segment.register_repairer(Kind::Queue, queue::repair);
}
