//! How a new array shall be made.

#![allow(unsafe_code)] // Fills memory that nobody else can see yet.

use std::{marker::PhantomData, ptr::NonNull, time::Duration};

use ndarray::{ArrayRef, ArrayViewMut, Dimension, IntoDimension, IxDyn};

use super::{
    Element, Order, SharedArray,
    file::{ArrayFile, Making},
    npy::Header,
    payload,
};
use crate::error::Result;

/// What a new array begins with, and how its memory lies and lives.
///
/// ```
/// use shmring::array::{Order, SharedArray2};
/// let array = SharedArray2::<f32>::options()
///     .fill(0.5)
///     .order(Order::Fortran)
///     .prefault(true)
///     .anonymous((480, 640))?;
/// assert_eq!(array.read()?[[479, 639]], 0.5);
/// # Ok::<(), shmring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until an array is made with them"]
pub struct ArrayOptions<T, D = IxDyn> {
    value: Option<T>,
    order: Order,
    making: Making,
    dim: PhantomData<D>,
}

impl<T: Element, D: Dimension> ArrayOptions<T, D> {
    pub(super) fn new() -> Self {
        ArrayOptions { value: None, order: Order::C, making: Making::default(), dim: PhantomData }
    }

    /// Begins with this value in all elements, instead of zero.
    pub fn fill(mut self, value: T) -> Self {
        self.value = Some(value);
        self
    }

    /// Lays the elements out in this order, instead of C's.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Lets the name stay when the handle is dropped, and when the process is killed.
    /// Default no.
    pub fn keep(mut self, yes: bool) -> Self {
        self.making.keep = yes;
        self
    }

    /// Touches all memory at creation, so that no first access pays for it later: about a second
    /// for each GiB. Default no.
    pub fn prefault(mut self, yes: bool) -> Self {
        self.making.prefault = yes;
        self
    }

    /// Removes an array of that name first if nobody uses it. Default no.
    pub fn replace_stale(mut self, yes: bool) -> Self {
        self.making.replace_stale = yes;
        self
    }

    /// Makes a named array, and owns its name.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::create`].
    pub fn create(
        &self,
        name: &str,
        shape: impl IntoDimension<Dim = D>,
    ) -> Result<SharedArray<T, D>> {
        self.create_dim(name, &shape.into_dimension())
    }

    fn create_dim(&self, name: &str, dim: &D) -> Result<SharedArray<T, D>> {
        SharedArray::typed(ArrayFile::create(
            name,
            self.header(dim),
            self.making,
            &mut self.filler(dim),
        )?)
    }

    /// Makes a named array with the values of another one. [`ArrayOptions::fill`] has no effect.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::create`].
    pub fn create_from(&self, name: &str, values: &ArrayRef<T, D>) -> Result<SharedArray<T, D>> {
        let dim = values.raw_dim();
        SharedArray::typed(ArrayFile::create(
            name,
            self.header(&dim),
            self.making,
            &mut self.copier(&dim, values),
        )?)
    }

    /// Makes an array without a name.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::anonymous`].
    pub fn anonymous(&self, shape: impl IntoDimension<Dim = D>) -> Result<SharedArray<T, D>> {
        let dim = shape.into_dimension();
        SharedArray::typed(ArrayFile::anonymous(
            self.header(&dim),
            self.making,
            &mut self.filler(&dim),
        )?)
    }

    /// Makes an array without a name, with the values of another one.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::anonymous`].
    pub fn anonymous_from(&self, values: &ArrayRef<T, D>) -> Result<SharedArray<T, D>> {
        let dim = values.raw_dim();
        SharedArray::typed(ArrayFile::anonymous(
            self.header(&dim),
            self.making,
            &mut self.copier(&dim, values),
        )?)
    }

    /// Opens a named array, or makes it where there is none.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::open_or_create`].
    pub fn open_or_create(
        &self,
        name: &str,
        shape: impl IntoDimension<Dim = D>,
        timeout: Duration,
    ) -> Result<SharedArray<T, D>> {
        let dim = shape.into_dimension();
        let file = ArrayFile::open_or_create(name, timeout, || {
            self.create_dim(name, &dim).map(|array| array.file)
        })?;
        SharedArray::typed(file)?.with_shape(&dim)
    }

    fn header(&self, dim: &D) -> Header {
        Header { dtype: T::DTYPE, order: self.order, shape: dim.slice().to_vec() }
    }

    fn filler(&self, dim: &D) -> impl FnMut(NonNull<u8>) {
        let (value, order, dim) = (self.value, self.order, dim.clone());
        move |data| {
            // New memory is zero already.
            if let Some(value) = value {
                // SAFETY: as in `new_elements`.
                unsafe { new_elements(data, &dim, order) }.fill(value);
            }
        }
    }

    fn copier(&self, dim: &D, values: &ArrayRef<T, D>) -> impl FnMut(NonNull<u8>) {
        let (order, dim) = (self.order, dim.clone());
        move |data| {
            // SAFETY: as in `new_elements`.
            unsafe { new_elements(data, &dim, order) }.assign(values);
        }
    }
}

/// The elements of a file that is being made.
///
/// # Safety
///
/// `data` is what [`ArrayFile`] hands to a `Fill` for a header of this type, shape and order: the
/// mapping holds that much, zeroed, behind a header that ends at a multiple of 64 bytes, and
/// nobody else knows its file yet.
unsafe fn new_elements<'a, T: Element, D: Dimension>(
    data: NonNull<u8>,
    dim: &D,
    order: Order,
) -> ArrayViewMut<'a, T, D> {
    // SAFETY: just that.
    unsafe { payload::new_view(data, dim, order) }
}
