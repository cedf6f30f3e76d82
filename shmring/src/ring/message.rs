//! What ports over any kind of ring do alike: messages to bytes, and back.

use std::{any::Any, time::Duration};

use postcard::take_from_bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::port::{Buffer, MessageError, PortError};
use crate::{
    block::{MAX_BLOCKS_PER_MESSAGE, TABLE_ENTRY},
    transfer::{self, Parcel},
};

/// Before the message: how many blocks it has; then their table.
pub(super) const HEAD: usize = 8;

/// How long a sender waits for room.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    None,
    Bounded(Duration),
    /// As the ring's policy says.
    Policy,
}

/// The verbs of a sender, over its `send_owned` and `send_borrowed`. What is said of the first one
/// stands where the macro is used: how long it waits, and what becomes of the blocks.
macro_rules! sends {
    ($(#[$send:meta])*) => {
        impl<T: ::serde::Serialize> Sender<T> {
            $(#[$send])*
            ///
            /// # Errors
            ///
            /// [`PortError`] hands the message back; nothing in it was given up.
            #[inline]
            pub fn send(&mut self, message: T) -> Result<(), PortError<T>> {
                self.send_owned(message, Patience::Policy)
            }

            /// Sends a message if there is room now.
            ///
            /// # Errors
            ///
            /// As [`Sender::send`].
            #[inline]
            pub fn try_send(&mut self, message: T) -> Result<(), PortError<T>> {
                self.send_owned(message, Patience::None)
            }

            /// Sends a message if there is room until the deadline.
            ///
            /// # Errors
            ///
            /// As [`Sender::send`].
            #[inline]
            pub fn send_timeout(
                &mut self,
                message: T,
                timeout: Duration,
            ) -> Result<(), PortError<T>> {
                self.send_owned(message, Patience::Bounded(timeout))
            }

            /// Sends a message and keeps it: its blocks are then held here as well.
            ///
            /// # Errors
            ///
            /// As [`Sender::send`].
            #[inline]
            pub fn send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
                self.send_borrowed(message, Patience::Policy)
            }

            /// The same if there is room now.
            ///
            /// # Errors
            ///
            /// As [`Sender::send`].
            #[inline]
            pub fn try_send_ref(&mut self, message: &T) -> Result<(), PortError<()>> {
                self.send_borrowed(message, Patience::None)
            }
        }
    };
}
pub(super) use sends;

/// Serializes a message into `bytes`, whose blocks go into `cargo`.
pub(super) fn serialize<T: Serialize, C: Any + Send>(
    message: &T,
    cargo: &mut Option<Box<C>>,
    bytes: &mut Vec<u8>,
) -> Result<Parcel, PortError<()>> {
    let Some(collecting) = cargo.take() else { unreachable!("it was just made") };
    let mut buffer = std::mem::take(bytes);
    buffer.clear();
    let (result, parcel, collected) = transfer::collect_with(collecting, || {
        postcard::serialize_with_flavor(message, Buffer(buffer))
    });
    *cargo = collected.and_then(|cargo| cargo.downcast().ok());
    let unsendable = |reason: String| PortError::Unsendable { item: (), reason };
    *bytes = result.map_err(|error| {
        unsendable(transfer::take_reason().unwrap_or_else(|| error.to_string()))
    })?;
    if !goes_over_a_ring(&parcel) {
        return Err(unsendable(NOT_OVER_A_RING.into()));
    }
    Ok(parcel)
}

/// Whether what a message has beside its bytes can go over a ring: no descriptors, and nothing that
/// the receiver must know before it reads it, as of the end of a ring.
pub(super) fn goes_over_a_ring(parcel: &Parcel) -> bool {
    parcel.fds().is_empty() && parcel.notes().is_empty()
}

pub(super) const NOT_OVER_A_RING: &str =
    "descriptors, rings, their ends, and arrays travel over a control channel, not over a ring";

/// The table of a message's blocks, and its bytes; checked.
pub(super) fn open(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    open_rest(u64::from_le_bytes(*head), rest)
}

/// The same of what stands behind the number of blocks.
pub(super) fn open_rest(blocks: u64, rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let blocks = usize::try_from(blocks).ok()?;
    let possible = blocks <= MAX_BLOCKS_PER_MESSAGE;
    possible.then(|| rest.split_at_checked(blocks * TABLE_ENTRY)).flatten()
}

/// Reads a message, which takes its blocks out of `cargo`.
pub(super) fn deserialize<T: DeserializeOwned, C: Any + Send>(
    bytes: &[u8],
    cargo: &mut Option<Box<C>>,
) -> Result<T, MessageError> {
    let Some(supply) = cargo.take() else { unreachable!("it was just made") };
    let (message, left) = transfer::supply_with(supply, || take_from_bytes::<T>(bytes));
    *cargo = left.and_then(|cargo| cargo.downcast().ok());
    match message {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(unreadable("bytes are left after its end")),
        Err(error) => Err(unreadable(transfer::take_reason().unwrap_or_else(|| error.to_string()))),
    }
}

pub(super) fn unreadable(reason: impl Into<String>) -> MessageError {
    MessageError::Unreadable { reason: reason.into() }
}
