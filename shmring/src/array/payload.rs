//! The bytes of an array: the one place that turns its mapping into elements.

#![allow(unsafe_code)] // Payload memory.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, ptr::NonNull};

use ndarray::{ArrayView, ArrayViewMut, Dimension, ShapeBuilder, StrideShape};

use super::{Dtype, Element, Order, file::ArrayFile};
use crate::os::{self, Mapping};

/// Writes the header of a file that nobody else can see yet; gives where the data begin.
pub(super) fn write_header(map: &Mapping, text: &[u8]) -> NonNull<u8> {
    assert!(text.len() <= map.len());
    // SAFETY: the mapping is long enough, just checked, and new: nobody else knows its file.
    unsafe {
        let start = map.as_ptr();
        start.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len());
        start.add(text.len())
    }
}

/// A dimension and an order, in ndarray's terms.
pub(crate) fn layout<D: Dimension>(dim: &D, order: Order) -> StrideShape<D> {
    dim.clone().set_f(order == Order::Fortran).into()
}

/// The elements of a new array.
///
/// # Safety
///
/// At `data` there are as many zeroed or otherwise valid bytes as `dim` elements need, aligned
/// for `T`, which nobody else touches during `'a`.
pub(super) unsafe fn new_view<'a, T: Element, D: Dimension>(
    data: NonNull<u8>,
    dim: &D,
    order: Order,
) -> ArrayViewMut<'a, T, D> {
    // SAFETY: passed on to the caller; every bit pattern is a `T`.
    unsafe { ArrayViewMut::from_shape_ptr(layout(dim, order), data.as_ptr().cast()) }
}

impl ArrayFile {
    fn data(&self) -> NonNull<u8> {
        // SAFETY: the mapping is `offset` bytes long at least.
        unsafe { self.map.as_ptr().add(self.offset) }
    }

    /// The elements, read-only.
    ///
    /// # Safety
    ///
    /// The header's type is `T` and its shape `dim`, and nobody writes while the view is used.
    pub(super) unsafe fn view<T: Element, D: Dimension>(&self, dim: &D) -> ArrayView<'_, T, D> {
        debug_assert_eq!(T::DTYPE, self.header.dtype);
        // SAFETY: the mapping holds all elements of the header's shape behind the aligned offset
        // and lives as long as `self`; every bit pattern is a `T`; exclusion is the caller's.
        unsafe {
            ArrayView::from_shape_ptr(
                layout(dim, self.header.order),
                self.data().as_ptr().cast_const().cast(),
            )
        }
    }

    /// The elements.
    ///
    /// # Safety
    ///
    /// The header's type is `T` and its shape `dim`, and nobody else reads or writes while the
    /// view is used.
    pub(super) unsafe fn view_mut<T: Element, D: Dimension>(
        &self,
        dim: &D,
    ) -> ArrayViewMut<'_, T, D> {
        debug_assert_eq!(T::DTYPE, self.header.dtype);
        // SAFETY: as in `view`.
        unsafe { new_view(self.data(), dim, self.header.order) }
    }

    /// Some rows: elements with these numbers along the first axis.
    ///
    /// # Safety
    ///
    /// As in [`ArrayFile::view_mut`], for these rows; the order is C's, and there are as many rows.
    pub(super) unsafe fn rows_mut<T: Element, D: Dimension>(
        &self,
        dim: &D,
        rows: Range<usize>,
    ) -> ArrayViewMut<'_, T, D> {
        debug_assert_eq!(Order::C, self.header.order);
        let mut part = dim.clone();
        part.slice_mut()[0] = rows.len();
        let row: usize = dim.slice()[1..].iter().product();
        // SAFETY: rows follow each other in this order, and those before are in the mapping.
        let start = unsafe { self.data().add(rows.start * row * size_of::<T>()) };
        // SAFETY: as in `view`, for the rows from there on.
        unsafe { new_view(start, &part, Order::C) }
    }

    /// The length of the data in bytes.
    pub(super) fn data_len(&self) -> usize {
        self.map.len() - self.offset
    }

    /// Copies all data, whoever may be writing meanwhile: then the copy may hold a mixture of
    /// old and new bytes.
    ///
    /// The kernel does the copying. So it is no data race of ours whatever others do, and a file
    /// that was shortened is an error, where the mapping would raise SIGBUS.
    pub(super) fn copy_bytes(&self, into: &mut [u8]) -> io::Result<()> {
        let file = File::from(self.lock.with_fd(os::duplicate)??);
        file.read_exact_at(into, self.offset as u64)
    }
}

/// Whether views of this type and rank fit elements of that type and shape.
pub(crate) fn fits<T: Element, D: Dimension>(dtype: Dtype, shape: &[usize]) -> Option<D> {
    if dtype != T::DTYPE {
        return None;
    }
    D::from_dimension(&ndarray::IxDyn(shape))
}

/// What fits `T` and `D`, for messages.
pub(crate) fn expected<T: Element, D: Dimension>() -> String {
    match D::NDIM {
        Some(1) => format!("{} of 1 dimension", T::DTYPE),
        Some(rank) => format!("{} of {rank} dimensions", T::DTYPE),
        None => T::DTYPE.to_string(),
    }
}
