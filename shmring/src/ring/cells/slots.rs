//! The only file that touches the items of a ring of cells.
//!
//! `Cells` come from the cursors alone, which give those of one side and never beyond the array.

#![allow(unsafe_code)] // Payload memory.

use bytemuck::Pod;

use super::cursor::Cells;
use crate::region::Region;

/// The items of a claim, to fill.
#[inline]
pub(super) fn fill<'a, T: Pod>(region: &'a Region, cells: &'a mut Cells) -> &'a mut [T] {
    // SAFETY: the claim owns its cells until they are published or it is dropped: they lie behind
    // what is published, and the consumer has released them. Borrowing them mutably makes it one
    // slice.
    let bytes = unsafe { region.bytes_mut(cells.offset, cells.count * cells.item) };
    bytemuck::cast_slice_mut(bytes)
}

/// The items of a claim, to look at.
#[inline]
pub(super) fn claimed<'a, T: Pod>(region: &'a Region, cells: &'a Cells) -> &'a [T] {
    // SAFETY: as in `fill`; while they are borrowed nobody can fill them.
    let bytes = unsafe { region.bytes(cells.offset, cells.count * cells.item) };
    bytemuck::cast_slice(bytes)
}

/// Items, until they are released.
#[inline]
pub(super) fn read<'a, T: Pod>(region: &'a Region, cells: &'a Cells) -> &'a [T] {
    // SAFETY: the producer writes these again only after we have released them, which needs the
    // reader that the caller's guard borrows.
    let bytes = unsafe { region.bytes(cells.offset, cells.count * cells.item) };
    bytemuck::cast_slice(bytes)
}
