//! The control channel: whole messages with their descriptors, over a SEQPACKET socket pair.
//!
//! One datagram is one message. A body that is larger than a datagram goes by a sealed memfd,
//! whose descriptor is then the last one of the message.
//!
//! Nothing is kept back on the way out: a message is sent when the kernel has it. Whoever waits
//! for room receives meanwhile into a bounded [`Queue`], so two sides that both send never stand
//! still.

mod frame;
mod port;
mod queue;
mod socket;

pub use frame::take_apart;

pub(crate) use frame::Message;
pub(crate) use port::{Outgoing, Port, Received};
pub(crate) use queue::{Limits, Queue};
pub(crate) use socket::pair;
