//! [`SharedArray`]: an array of a known element type.

#![allow(unsafe_code)] // Views of payload memory, under a lock or on the caller's word.

use std::{fmt, marker::PhantomData, ops::Range, path::Path, time::Duration};

use ndarray::{
    Array, ArrayRef, ArrayView, ArrayViewMut, Dimension, IntoDimension, Ix0, Ix1, Ix2, Ix3, IxDyn,
};

use super::{
    ArrayOptions, Dtype, Element, Order, ReadGuard, WriteGuard,
    file::ArrayFile,
    guard::Lease,
    lock::lock_failed,
    npy::Shape,
    payload::{expected, fits, layout},
};
use crate::{
    error::{Error, Result},
    os::{LockKind, RangeLock},
};

/// A shared array without dimensions: one element.
pub type SharedArray0<T> = SharedArray<T, Ix0>;
/// A shared array of one dimension.
pub type SharedArray1<T> = SharedArray<T, Ix1>;
/// A shared array of two dimensions.
pub type SharedArray2<T> = SharedArray<T, Ix2>;
/// A shared array of three dimensions.
pub type SharedArray3<T> = SharedArray<T, Ix3>;

/// An array of `T` in shared memory, with dimensions `D` as in ndarray.
///
/// See the [module](super) for its file, its locks and its life. A handle can be used from
/// several threads; their read guards share one lock.
///
/// # Examples
///
/// ```
/// use shmring::array::SharedArray2;
/// # let name = format!("doc-shared-array-{}", std::process::id());
/// # let name = name.as_str();
/// let mut array = SharedArray2::<f64>::create(name, (100, 100))?;
/// array.write()?.fill(1.0);
///
/// // Here, or in any other process:
/// let opened = SharedArray2::<f64>::open(name)?;
/// assert_eq!(opened.read()?.sum(), 10_000.0);
/// # Ok::<(), shmring::Error>(())
/// ```
pub struct SharedArray<T, D = IxDyn> {
    pub(super) file: ArrayFile,
    dim: D,
    elements: PhantomData<T>,
}

// SAFETY: the mapping belongs to the handle wherever it goes, elements are plain data, and what
// threads share of it is behind locks: read guards share the elements read-only, and a write
// guard needs the handle exclusively.
unsafe impl<T: Element, D: Send> Send for SharedArray<T, D> {}
// SAFETY: as above.
unsafe impl<T: Element, D: Sync> Sync for SharedArray<T, D> {}

impl<T: Element, D: Dimension> SharedArray<T, D> {
    /// Makes a named array of zeros, and owns its name.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; [`Error::Exists`], or [`Error::Stale`] when what exists is not in use;
    /// [`Error::NotASegment`] or [`Error::NotOurs`] when it is none, or not ours;
    /// [`Error::OutOfShm`]; [`Error::OutOfMemory`]; [`Error::BadParameters`] when the size cannot
    /// be addressed; [`Error::Io`]. Nothing is left behind then.
    pub fn create(name: &str, shape: impl IntoDimension<Dim = D>) -> Result<Self> {
        Self::options().create(name, shape)
    }

    /// Makes a named array with the values of another one.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::create`].
    pub fn create_from(name: &str, values: &ArrayRef<T, D>) -> Result<Self> {
        Self::options().create_from(name, values)
    }

    /// Makes an array of zeros without a name: it travels with a message, and its memory goes
    /// with its last user. It is not bounded by the size of `/dev/shm`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::BadParameters`], [`Error::Io`].
    pub fn anonymous(shape: impl IntoDimension<Dim = D>) -> Result<Self> {
        Self::options().anonymous(shape)
    }

    /// Makes an array without a name, with the values of another one.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::anonymous`].
    pub fn anonymous_from(values: &ArrayRef<T, D>) -> Result<Self> {
        Self::options().anonymous_from(values)
    }

    /// Says how an array shall be made, where the plain constructors do not suffice.
    pub fn options() -> ArrayOptions<T, D> {
        ArrayOptions::new()
    }

    /// Opens a named array that exists.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`]; [`Error::WrongType`] when its elements are not `T` or its dimensions
    /// not as many as `D` has; [`Error::NotASegment`] when it is not a `.npy` file that can be
    /// shared; [`Error::TooShort`]; [`Error::NotOurs`]; [`Error::BadName`]; [`Error::TimedOut`]
    /// when another process holds it exclusively; [`Error::Io`].
    pub fn open(name: &str) -> Result<Self> {
        Self::typed(ArrayFile::open(name)?)
    }

    /// Opens a named array as soon as somebody has made it.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] when nobody has within `timeout`, and those of [`SharedArray::open`].
    pub fn open_or_wait(name: &str, timeout: Duration) -> Result<Self> {
        Self::typed(ArrayFile::open_or_wait(name, timeout)?)
    }

    /// Opens a named array, or makes it of zeros where there is none: either side may come first.
    ///
    /// Whoever makes it owns the name. An array that a former run left behind is opened with the
    /// values it has.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] also when the array has another shape; those of
    /// [`SharedArray::create`] but `Exists`, and of [`SharedArray::open`] but `Absent`;
    /// [`Error::TimedOut`] when others make and remove it until `timeout` is over.
    pub fn open_or_create(
        name: &str,
        shape: impl IntoDimension<Dim = D>,
        timeout: Duration,
    ) -> Result<Self> {
        Self::options().open_or_create(name, shape, timeout)
    }

    /// Takes a file for what its header says.
    pub(super) fn typed(file: ArrayFile) -> Result<Self> {
        let dim = fits::<T, D>(file.header.dtype, &file.header.shape).ok_or_else(|| {
            Error::WrongType {
                what: file.what(),
                found: file.header.to_string(),
                expected: expected::<T, D>(),
            }
        })?;
        Ok(SharedArray { file, dim, elements: PhantomData })
    }

    pub(super) fn with_shape(self, dim: &D) -> Result<Self> {
        if self.dim == *dim {
            return Ok(self);
        }
        Err(Error::WrongType {
            what: self.file.what(),
            found: self.file.header.to_string(),
            expected: format!("{} of shape {}", T::DTYPE, Shape(dim.slice())),
        })
    }

    /// Waits until nobody writes, and keeps writers out while the guard lives.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the kernel has no lock to give.
    pub fn read(&self) -> Result<ReadGuard<'_, T, D>> {
        self.read_within(None)
    }

    /// [`SharedArray::read`], at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Io`].
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_, T, D>> {
        self.read_within(Some(timeout))
    }

    /// [`SharedArray::read`] if nobody writes now, else `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_, T, D>>> {
        let held = self
            .file
            .lock
            .try_acquire(LockKind::Read)
            .map_err(|source| lock_failed(source, &self.file.what()))?;
        Ok(held.map(|held| self.reading(Lease::new(&self.file.lock, held))))
    }

    fn read_within(&self, limit: Option<Duration>) -> Result<ReadGuard<'_, T, D>> {
        let held = self.file.lock.acquire(LockKind::Read, limit, || self.file.what())?;
        Ok(self.reading(Lease::new(&self.file.lock, held)))
    }

    fn reading<'a>(&'a self, lease: Lease<'a>) -> ReadGuard<'a, T, D> {
        // SAFETY: `typed` checked type and shape; the lease keeps writers out, those of this
        // process because they hold another description, and goes with the guard.
        ReadGuard::new(unsafe { self.file.view(&self.dim) }, lease)
    }

    /// Waits until nobody else reads or writes, and keeps all others out while the guard lives.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the kernel has no lock to give.
    pub fn write(&mut self) -> Result<WriteGuard<'_, T, D>> {
        self.write_within(None)
    }

    /// [`SharedArray::write`], at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Io`].
    pub fn write_timeout(&mut self, timeout: Duration) -> Result<WriteGuard<'_, T, D>> {
        self.write_within(Some(timeout))
    }

    /// [`SharedArray::write`] if nobody reads or writes now, else `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn try_write(&mut self) -> Result<Option<WriteGuard<'_, T, D>>> {
        let held = self
            .file
            .lock
            .try_acquire(LockKind::Write)
            .map_err(|source| lock_failed(source, &self.file.what()))?;
        Ok(held.map(|held| self.writing(Lease::new(&self.file.lock, held))))
    }

    fn write_within(&mut self, limit: Option<Duration>) -> Result<WriteGuard<'_, T, D>> {
        let held = self.file.lock.acquire(LockKind::Write, limit, || self.file.what())?;
        Ok(self.writing(Lease::new(&self.file.lock, held)))
    }

    /// Waits until nobody else reads or writes these rows, and keeps others out of them while the
    /// guard lives: several handles write rows of one array at the same time, each its own. The
    /// guard has these rows alone: its row 0 is the first of them.
    ///
    /// Rows are what the first axis numbers. Who reads or writes the whole array waits for those who
    /// write rows of it, and they for him.
    ///
    /// ```
    /// use shmring::array::SharedArray2;
    ///
    /// let mut one = SharedArray2::<u32>::anonymous((4, 3))?;
    /// let mut other = one.try_clone()?;
    /// let mut first = one.write_rows(0..2)?;
    /// let mut last = other.write_rows(2..4)?;
    /// first.fill(1);
    /// last.fill(2);
    /// drop((first, last));
    /// assert_eq!(one.read()?.sum(), 6 * 1 + 6 * 2);
    /// # Ok::<(), shmring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`] when there are no such rows, or none are asked for, and where rows do
    /// not lie one behind the other: in Fortran's order, and in an array without axes. [`Error::Io`].
    pub fn write_rows(&mut self, rows: Range<usize>) -> Result<WriteGuard<'_, T, D>> {
        let wrong = |reason: String| {
            let action = format!("write rows of {}", self.file.what());
            Err(Error::BadParameters { action, reason })
        };
        let Some(&count) = self.dim.slice().first() else {
            return wrong("it has no axes".into());
        };
        if self.order() != Order::C {
            return wrong("it is in Fortran's order, so its rows do not lie together".into());
        }
        if rows.is_empty() || rows.end > count {
            return wrong(format!("{} to {} of {count}", rows.start, rows.end));
        }
        let row = self.dim.slice()[1..].iter().product::<usize>() * size_of::<T>();
        let range = RangeLock {
            start: (self.file.offset + rows.start * row) as u64,
            // No bytes would mean all.
            len: (rows.len() * row).max(1) as u64,
        };
        let held = self.file.lock.acquire_bytes(range, || self.file.what())?;
        let lease = Lease::new(&self.file.lock, held);
        // SAFETY: `typed` checked type and shape, and rows and order were checked just now; the
        // lease keeps others out of these rows and goes with the guard, and the guard borrows this
        // handle exclusively.
        Ok(WriteGuard::new(unsafe { self.file.rows_mut(&self.dim, rows) }, lease))
    }

    // The two callers hold `&mut self`; this takes `&self` so that the lease may borrow the lock.
    fn writing<'a>(&'a self, lease: Lease<'a>) -> WriteGuard<'a, T, D> {
        // SAFETY: `typed` checked type and shape; the lease keeps all other handles out and goes
        // with the guard, and the guard borrows this handle exclusively.
        WriteGuard::new(unsafe { self.file.view_mut(&self.dim) }, lease)
    }

    /// Copies all elements out, under the lock, in the order of the file.
    ///
    /// Sound also when a process writes that does not take the lock: then the copy may be a
    /// mixture of old and new.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also when somebody has shortened the file.
    pub fn copy_out(&self) -> Result<Array<T, D>> {
        let _guard = self.read()?;
        self.copy_out_unlocked()
    }

    /// Copies all elements out without waiting for a writer: the copy may be a mixture of old
    /// and new, down to the bytes of an element.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also when somebody has shortened the file.
    pub fn copy_out_unlocked(&self) -> Result<Array<T, D>> {
        let mut values = vec![T::zeroed(); self.len()];
        self.file
            .copy_bytes(bytemuck::cast_slice_mut(values.as_mut_slice()))
            .map_err(Error::io(format!("copy {}", self.file.what())))?;
        // SAFETY: the values are as many as the shape has, and contiguous in this order.
        Ok(unsafe { Array::from_shape_vec_unchecked(layout(&self.dim, self.order()), values) })
    }

    /// The elements, without any lock.
    ///
    /// # Safety
    ///
    /// While the view is used nobody writes: no write guard of any handle in any process, no
    /// view of [`SharedArray::view_mut_unlocked`], no Python. That is the caller's job.
    pub unsafe fn view_unlocked(&self) -> ArrayView<'_, T, D> {
        // SAFETY: `typed` checked type and shape; exclusion is the caller's.
        unsafe { self.file.view(&self.dim) }
    }

    /// The elements for writing, without any lock.
    ///
    /// # Safety
    ///
    /// While the view is used nobody else reads or writes, in any process: no guards, no other
    /// views. That is the caller's job.
    pub unsafe fn view_mut_unlocked(&mut self) -> ArrayViewMut<'_, T, D> {
        // SAFETY: `typed` checked type and shape; exclusion is the caller's.
        unsafe { self.file.view_mut(&self.dim) }
    }

    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.dim.slice()
    }

    /// The shape in ndarray's type.
    pub fn raw_dim(&self) -> D {
        self.dim.clone()
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.dim.ndim()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.dim.size()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        T::DTYPE
    }

    /// How the elements lie in memory.
    pub fn order(&self) -> Order {
        self.file.header.order
    }

    /// Its name; an anonymous array has none.
    pub fn name(&self) -> Option<&str> {
        self.file.name()
    }

    /// Its file; an anonymous array has none. The name may have been removed since.
    pub fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    /// Makes a second handle of the same array, with a lock of its own: the two exclude each
    /// other as those of two processes do. It does not own the name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn try_clone(&self) -> Result<Self> {
        Ok(SharedArray {
            file: self.file.try_clone()?,
            dim: self.dim.clone(),
            elements: PhantomData,
        })
    }

    /// Lets the name stay when the handle that made the array is dropped. Does nothing for a
    /// handle that opened it.
    pub fn keep(&mut self) {
        self.file.keep();
    }

    /// Removes the name now, whoever made the array. All handles go on working. Tells whether the
    /// name was still there and still that of this array.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn unlink(&self) -> Result<bool> {
        self.file.unlink()
    }

    /// Touches all memory now, so that no first access pays for it later.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn prefault(&self) -> Result<()> {
        self.file.prefault()
    }
}

impl<T: Element, D: Dimension> fmt::Debug for SharedArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedArray")
            .field("name", &self.name())
            .field("dtype", &self.dtype())
            .field("shape", &self.shape())
            .field("order", &self.order())
            .finish_non_exhaustive()
    }
}
