//! Descriptors of a frontend: every process forked later gives them up.

#![allow(unsafe_code)] // A forked child closes descriptors that are owned in its parent's values.

use std::{
    fs::File,
    mem,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicI32, Ordering},
    },
};

/// What stands for the number once a child has closed it.
const GIVEN_UP: RawFd = -1;

type Place = Arc<AtomicI32>;

static KEPT: Mutex<Vec<Weak<AtomicI32>>> = Mutex::new(Vec::new());

/// A descriptor that belongs to one process and none of its forks.
#[derive(Debug)]
pub(crate) struct KeptFd {
    place: Place,
}

impl KeptFd {
    pub(crate) fn new(fd: OwnedFd) -> KeptFd {
        KeptFd { place: register(fd.into_raw_fd()) }
    }
}

impl From<OwnedFd> for KeptFd {
    fn from(fd: OwnedFd) -> KeptFd {
        KeptFd::new(fd)
    }
}

/// A value that owns a descriptor which belongs to one process and none of its forks.
///
/// In a fork the descriptor is closed and the value must not be used; dropping it does nothing.
#[derive(Debug)]
pub(crate) struct Kept<T: AsRawFd> {
    value: Option<T>,
    place: Place,
}

impl<T: AsRawFd> Kept<T> {
    pub(crate) fn new(value: T) -> Kept<T> {
        let place = register(value.as_raw_fd());
        Kept { value: Some(value), place }
    }
}

impl<T: AsRawFd> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: AsRawFd> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until it is dropped")
    }
}

impl<T: AsRawFd> AsFd for Kept<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.place)
    }
}

impl<T: AsRawFd> Drop for Kept<T> {
    fn drop(&mut self) {
        if self.place.swap(GIVEN_UP, Ordering::Relaxed) == GIVEN_UP {
            // The number is closed, and may mean something else by now.
            mem::forget(self.value.take());
        }
    }
}

impl AsFd for KeptFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.place)
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        close(&self.place);
    }
}

fn registry() -> MutexGuard<'static, Vec<Weak<AtomicI32>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(raw: RawFd) -> Place {
    let place = Arc::new(AtomicI32::new(raw));
    let mut kept = registry();
    kept.retain(|place| place.strong_count() > 0);
    kept.push(Arc::downgrade(&place));
    place
}

fn borrow(place: &Place) -> BorrowedFd<'_> {
    match place.load(Ordering::Relaxed) {
        GIVEN_UP => nothing(),
        // SAFETY: the number is ours and open until it is swapped out: in drop, which nothing
        // borrowed outlives, or in a forked child before it runs anything else.
        raw => unsafe { BorrowedFd::borrow_raw(raw) },
    }
}

fn close(place: &Place) {
    let raw = place.swap(GIVEN_UP, Ordering::Relaxed);
    if raw != GIVEN_UP {
        // SAFETY: the swap has made this the only user of the number.
        drop(unsafe { OwnedFd::from_raw_fd(raw) });
    }
}

/// An empty descriptor: what a value of the parent means in its fork.
fn nothing() -> BorrowedFd<'static> {
    static NOTHING: OnceLock<File> = OnceLock::new();
    NOTHING.get_or_init(|| File::open("/dev/null").expect("there is /dev/null")).as_fd()
}

/// Closes all of them. For a forked child, before it runs anything of its own.
pub(super) fn give_up_all() {
    for place in registry().drain(..) {
        if let Some(place) = place.upgrade() {
            close(&place);
        }
    }
}

/// Moves a descriptor out of the way of 0, 1 and 2, which a child may replace.
pub(super) fn above_stdio(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // `try_clone` gives the lowest number from 3 on.
    fd.try_clone()
}

#[cfg(test)]
mod tests {
    use shmring::os;

    use super::*;

    /// An owner that says when it is dropped.
    struct Owner(OwnedFd, std::rc::Rc<std::cell::Cell<bool>>);

    impl AsRawFd for Owner {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.set(true);
        }
    }

    #[test]
    fn the_owner_of_a_given_up_descriptor_is_not_dropped() {
        for given_up in [false, true] {
            let dropped = std::rc::Rc::default();
            let fd = OwnedFd::from(os::Event::new().unwrap());
            let kept = Kept::new(Owner(fd, std::rc::Rc::clone(&dropped)));
            if given_up {
                close(&kept.place);
            }
            drop(kept);
            assert_eq!(dropped.get(), !given_up);
        }
    }

    #[test]
    fn a_given_up_descriptor_is_nothing_and_is_not_closed_twice() {
        let event = os::Event::new().unwrap();
        let kept = KeptFd::new(event.try_clone().unwrap().into());
        let id = os::file_info(kept.as_fd()).unwrap().id;
        close(&kept.place);
        assert_ne!(os::file_info(kept.as_fd()).unwrap().id, id);
        drop(kept);
        event.set();
        assert!(event.clear());
    }
}
