//! Descriptors of a frontend: every process forked later gives them up.
//!
//! A program may keep thousands, and each of its forks closes them all. So the fork only reads
//! the list of their numbers, and closes neighbours by one call; a value that owns such a
//! descriptor notices by the generation of forks that it was made in another process.

#![allow(unsafe_code)] // A forked child closes descriptors that are owned in its parent's values.

use std::{
    collections::BTreeSet,
    fs::File,
    mem,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use shmring::os;

/// The numbers of all that live, and that this process has opened.
static KEPT: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A number in the list, and the process that has it there.
#[derive(Debug)]
struct Place {
    raw: RawFd,
    generation: u32,
}

impl Place {
    #[inline]
    fn new(raw: RawFd) -> Place {
        registry().insert(raw);
        Place { raw, generation: os::fork_generation() }
    }

    /// Whether this is the process that has it open, not a fork, which has closed it.
    fn is_ours(&self) -> bool {
        self.generation == os::forks()
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        if !self.is_ours() {
            return nothing();
        }
        // SAFETY: in this process the number is ours and open until it is dropped, which nothing
        // borrowed outlives.
        unsafe { BorrowedFd::borrow_raw(self.raw) }
    }

    /// Takes it out of the list, before it is closed; `false` in a fork.
    fn leave(&self) -> bool {
        self.is_ours() && registry().remove(&self.raw)
    }
}

/// A descriptor that belongs to one process and none of its forks.
#[derive(Debug)]
pub(crate) struct KeptFd(Place);

impl KeptFd {
    #[inline]
    pub(crate) fn new(fd: OwnedFd) -> KeptFd {
        KeptFd(Place::new(fd.into_raw_fd()))
    }
}

impl From<OwnedFd> for KeptFd {
    fn from(fd: OwnedFd) -> KeptFd {
        KeptFd::new(fd)
    }
}

impl AsFd for KeptFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.borrow()
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        if self.0.leave() {
            // SAFETY: the number came from an owned descriptor, and nobody uses it any more.
            drop(unsafe { OwnedFd::from_raw_fd(self.0.raw) });
        }
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
        let place = Place::new(value.as_raw_fd());
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
        self.place.borrow()
    }
}

impl<T: AsRawFd> Drop for Kept<T> {
    fn drop(&mut self) {
        if !self.place.leave() {
            // The number is closed, and may mean something else by now.
            mem::forget(self.value.take());
        }
    }
}

#[inline]
fn registry() -> MutexGuard<'static, BTreeSet<RawFd>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty descriptor: what a value of the parent means in its fork.
fn nothing() -> BorrowedFd<'static> {
    static NOTHING: OnceLock<File> = OnceLock::new();
    NOTHING.get_or_init(|| File::open("/dev/null").expect("there is /dev/null")).as_fd()
}

/// Closes all of them. For a forked child, before it runs anything of its own.
#[inline] // As `fork` says.
pub(super) fn give_up_all() {
    let numbers = mem::take(&mut *registry());
    each_run(&numbers, |first, last| {
        // SAFETY: in this process nobody owns these numbers: their values see that they were made
        // in another.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, last, 0) == -1 {
                // The kernel is older than this call.
                (first..=last).for_each(|number| drop(OwnedFd::from_raw_fd(number)));
            }
        }
    });
    // To free it would touch, and so copy, all of its memory.
    mem::forget(numbers);
}

/// Neighbouring numbers: `take` is given the first and the last of each run. Needs no memory.
#[inline]
fn each_run(numbers: &BTreeSet<RawFd>, mut take: impl FnMut(RawFd, RawFd)) {
    let mut run = None;
    for &number in numbers {
        run = Some(match run {
            Some((first, last)) if last + 1 == number => (first, number),
            Some((first, last)) => {
                take(first, last);
                (number, number)
            }
            None => (number, number),
        });
    }
    if let Some((first, last)) = run {
        take(first, last);
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
    fn the_owner_of_a_descriptor_of_another_process_is_not_dropped() {
        for of_parent in [false, true] {
            let dropped = std::rc::Rc::default();
            let fd = OwnedFd::from(os::Event::new().unwrap());
            let raw = fd.as_raw_fd();
            let mut kept = Kept::new(Owner(fd, std::rc::Rc::clone(&dropped)));
            if of_parent {
                kept.place.generation = kept.place.generation.wrapping_sub(1);
            }
            drop(kept);
            assert_eq!(dropped.get(), !of_parent);
            assert_eq!(registry().remove(&raw), of_parent);
        }
    }

    #[test]
    fn a_descriptor_of_another_process_is_nothing_and_is_not_closed() {
        let event = os::Event::new().unwrap();
        let mut kept = KeptFd::new(event.try_clone().unwrap().into());
        let raw = kept.as_fd().as_raw_fd();
        let id = os::file_info(kept.as_fd()).unwrap().id;
        kept.0.generation = kept.0.generation.wrapping_sub(1);
        assert_ne!(os::file_info(kept.as_fd()).unwrap().id, id);
        drop(kept);
        // SAFETY: it is still open, and from now on nobody else's.
        let again = unsafe { OwnedFd::from_raw_fd(raw) };
        assert_eq!(os::file_info(again.as_fd()).unwrap().id, id);
        assert!(registry().remove(&raw));
    }

    #[test]
    fn neighbours_are_closed_together() {
        let runs = |numbers: &[RawFd]| {
            let mut runs = Vec::new();
            each_run(&numbers.iter().copied().collect(), |first, last| runs.push((first, last)));
            runs
        };
        assert_eq!(runs(&[3, 4, 5, 9, 11, 12]), [(3, 5), (9, 9), (11, 12)]);
        assert_eq!(runs(&[7]), [(7, 7)]);
        assert_eq!(runs(&[]), []);
    }
}
