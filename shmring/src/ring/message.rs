//! What ports over any kind of ring do alike: messages to bytes, and back.

use std::any::Any;

use postcard::take_from_bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::port::{Buffer, MessageError, PortError};
use crate::{
    block::{MAX_BLOCKS_PER_MESSAGE, TABLE_ENTRY},
    transfer::{self, Parcel},
};

/// Before the message: how many blocks it has; then their table.
pub(super) const HEAD: usize = 8;

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
    if !parcel.fds().is_empty() {
        return Err(unsendable(
            "descriptors, rings and arrays travel over a control channel, not over a ring".into(),
        ));
    }
    Ok(parcel)
}

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
