//! The only file that touches the payload of a broadcast ring.
//!
//! A lossy consumer copies what the producer may be overwriting, and throws the copy away if it
//! was. So it copies by atomic words, and [`put`] writes by atomic words. [`room`] gives plain memory
//! to fill in place: between processes nobody's compiler sees the other side, and within one an
//! atomic load that races with a plain store yields some value, which is thrown away as well.

#![allow(unsafe_code)] // Payload memory.

use super::{reader::Found, writer::Room};
use crate::{region::Region, sync::Ordering};

/// The room of a claim, to fill.
#[inline]
pub(super) fn room<'a>(region: &'a Region, room: &'a mut Room) -> &'a mut [u8] {
    // SAFETY: the claim owns this range until it is committed or dropped: it lies in the producer's
    // window, where no lossless consumer reads, and lossy ones make no references. Borrowing the
    // room mutably makes it one slice.
    unsafe { region.bytes_mut(room.offset, room.len) }
}

/// The room of a claim, to look at.
#[inline]
pub(super) fn room_ref<'a>(region: &'a Region, room: &'a Room) -> &'a [u8] {
    // SAFETY: as in `room`; while it is borrowed nobody can fill it.
    unsafe { region.bytes(room.offset, room.len) }
}

/// An item, until it is released.
#[inline]
pub(super) fn item<'a>(region: &'a Region, found: &'a Found) -> &'a [u8] {
    // SAFETY: only a lossless consumer's guard comes here: the producer writes this range again only
    // after that consumer's cursor has passed it, which needs the reader that the guard borrows.
    unsafe { region.bytes(found.offset, found.len) }
}

/// An item that was read and is not released.
#[inline]
pub(super) fn item_of(region: &Region, found: Found) -> &[u8] {
    // SAFETY: as in `item`: the run that lends it out releases it only when it is dropped.
    unsafe { region.bytes(found.offset, found.len) }
}

/// Writes an item into its room, by words.
///
/// # Panics
///
/// When it is not as long as what was claimed.
#[inline]
pub(super) fn put(region: &Region, room: &Room, bytes: &[u8]) {
    assert_eq!(bytes.len(), room.len, "an item changed its length while it was sent");
    let words = region.u64s(room.offset, bytes.len().div_ceil(8));
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

/// Copies an item out, by words. It is worth something only if it was not overwritten meanwhile.
#[inline]
pub(super) fn copy(region: &Region, found: Found, into: &mut Vec<u8>) {
    let words = region.u64s(found.offset, found.len.div_ceil(8));
    // What it held is overwritten, so only what it grows by is filled with zeros first.
    into.resize(words.len() * 8, 0);
    let (chunks, _) = into.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    into.truncate(found.len);
}
