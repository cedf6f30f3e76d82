//! What comes up from a process without being asked for.

use crate::{error::Error, exit::Exit};

/// Something that came up from a process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<E> {
    /// The backend sent this with [`Context::emit`](crate::Context::emit).
    Emitted(E),
    /// Something failed that nobody waits for: the handler of a `tell`, of a descriptor, of a
    /// timer, `post_run`; or a message that could not be read.
    Failed(Error),
    /// The process has ended. This comes once, after all else.
    Ended(Exit),
}

impl<E> Event<E> {
    /// The backend's own event, if it is one.
    pub fn emitted(self) -> Option<E> {
        match self {
            Event::Emitted(event) => Some(event),
            _ => None,
        }
    }
}
