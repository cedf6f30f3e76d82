//! The only file that touches the payload of a ring.

#![allow(unsafe_code)] // Payload memory.

use super::cursor::{Found, Room};
use crate::region::Region;

/// The room of a claim, to fill.
#[inline]
pub(crate) fn room<'a>(region: &'a Region, room: &'a mut Room) -> &'a mut [u8] {
    // SAFETY: the claim owns this range until it is committed or dropped: it lies behind what is
    // published, and the consumer has released it. Borrowing the room mutably makes it one slice.
    unsafe { region.bytes_mut(room.offset, room.len) }
}

/// The room of a claim, to look at.
#[inline]
pub(crate) fn room_ref<'a>(region: &'a Region, room: &'a Room) -> &'a [u8] {
    // SAFETY: as in `room`; while it is borrowed nobody can fill it.
    unsafe { region.bytes(room.offset, room.len) }
}

/// A record, until it is released.
#[inline]
pub(crate) fn record<'a>(region: &'a Region, found: &'a Found) -> &'a [u8] {
    // SAFETY: the producer writes this range again only after we have released it, which needs
    // the reader that the caller's guard borrows.
    unsafe { region.bytes(found.offset, found.len) }
}

/// A record that was read and is not released.
#[inline]
pub(crate) fn record_of(region: &Region, found: Found) -> &[u8] {
    // SAFETY: as in `record`: what lends it out cannot release it while it is borrowed.
    unsafe { region.bytes(found.offset, found.len) }
}
