//! The only file that touches the payload of a queue's slots.

#![allow(unsafe_code)] // Payload memory.

use super::{geometry::Geometry, lists::Held};
use crate::region::Region;

/// The bytes of a claimed slot, to fill. `len` is at most what a slot has.
#[inline]
pub(super) fn room<'a>(
    region: &'a Region,
    geometry: &Geometry,
    held: &'a mut Held,
    len: usize,
) -> &'a mut [u8] {
    // SAFETY: the claim owns this slot until it is committed or given back: its word names us, and
    // it is in no list. Borrowing the claim mutably makes it one slice.
    unsafe { region.bytes_mut(geometry.payload(held.slot), len) }
}

/// The bytes of a slot that we hold, to look at.
#[inline]
pub(super) fn bytes<'a>(
    region: &'a Region,
    geometry: &Geometry,
    held: &'a Held,
    len: usize,
) -> &'a [u8] {
    // SAFETY: nobody else takes this slot while its word names us; while it is borrowed it is
    // neither filled, nor acknowledged, nor given back.
    unsafe { region.bytes(geometry.payload(held.slot), len) }
}
