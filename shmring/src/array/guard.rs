//! The guards through which elements are reached.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Dimension};

use super::lock::{FileLock, Held};

/// Frees the lock when a guard ends.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    lock: &'a FileLock,
    held: Held,
}

impl<'a> Lease<'a> {
    pub(super) fn new(lock: &'a FileLock, held: Held) -> Lease<'a> {
        Lease { lock, held }
    }

    /// Whoever forks with a guard in hand has one of which the child has a copy, and no lock.
    #[inline]
    fn assert_ours(&self) {
        assert!(
            self.held.is_ours(),
            "a guard belongs to the process that took it, not to its child"
        );
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.lock.release(self.held);
    }
}

/// The elements of an array while others may read but nobody writes.
///
/// It derefs to [`ArrayRef`], the part of ndarray's arrays that cannot be taken out: an
/// [`ArrayView`] could be copied, and would outlive the lock. Views made from the guard
/// (`guard.view()`, `guard.slice(..)`) end before it does. It belongs to the process that took it: a
/// forked child, whose copy has no lock, panics when it looks.
///
/// ```compile_fail
/// # use shmring::array::SharedArray1;
/// let array = SharedArray1::<u8>::anonymous(3).unwrap();
/// let guard = array.read().unwrap();
/// let view = guard.view();
/// drop(guard);
/// println!("{view}");
/// ```
#[must_use = "the lock is freed when the guard is dropped"]
pub struct ReadGuard<'a, T, D> {
    view: ArrayView<'a, T, D>,
    lease: Lease<'a>,
}

impl<'a, T, D> ReadGuard<'a, T, D> {
    pub(super) fn new(view: ArrayView<'a, T, D>, lease: Lease<'a>) -> Self {
        ReadGuard { view, lease }
    }
}

impl<T, D: Dimension> Deref for ReadGuard<'_, T, D> {
    type Target = ArrayRef<T, D>;

    #[inline]
    fn deref(&self) -> &ArrayRef<T, D> {
        self.lease.assert_ours();
        &self.view
    }
}

impl<T: fmt::Debug, D: Dimension> fmt::Debug for ReadGuard<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: fmt::Display, D: Dimension> fmt::Display for ReadGuard<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// The elements of an array while nobody else reads or writes.
///
/// It derefs to [`ArrayRef`], as [`ReadGuard`] does: `guard.fill(1.0)`, `guard.assign(&other)`,
/// `guard.view_mut()`, `guard[[0, 0]] = 1.0`. In a forked child it panics as well.
#[must_use = "the lock is freed when the guard is dropped"]
pub struct WriteGuard<'a, T, D> {
    view: ArrayViewMut<'a, T, D>,
    lease: Lease<'a>,
}

impl<'a, T, D> WriteGuard<'a, T, D> {
    pub(super) fn new(view: ArrayViewMut<'a, T, D>, lease: Lease<'a>) -> Self {
        WriteGuard { view, lease }
    }
}

impl<T, D: Dimension> Deref for WriteGuard<'_, T, D> {
    type Target = ArrayRef<T, D>;

    #[inline]
    fn deref(&self) -> &ArrayRef<T, D> {
        self.lease.assert_ours();
        &self.view
    }
}

impl<T, D: Dimension> DerefMut for WriteGuard<'_, T, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut ArrayRef<T, D> {
        self.lease.assert_ours();
        &mut self.view
    }
}

impl<T: fmt::Debug, D: Dimension> fmt::Debug for WriteGuard<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: fmt::Display, D: Dimension> fmt::Display for WriteGuard<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
