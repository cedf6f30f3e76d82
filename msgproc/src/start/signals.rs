//! Signals as something to poll for.
//!
//! The handler notes the number and writes to an eventfd: no thread, so that the process may
//! still fork. One owner at a time, which gives back the dispositions it found. A child forked
//! from here has its handlers reset, and may own its signals anew.

#![allow(unsafe_code)] // Signal handlers.

use std::{
    hint, io,
    mem::{MaybeUninit, zeroed},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    process, ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

use shmring::os;

use super::KeptEvent;

/// What the handler writes to; -1 for nothing.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// The process that the eventfd belongs to.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// One bit for each signal that has come.
static COME: AtomicU64 = AtomicU64::new(0);

/// How many threads are in the handler.
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// The generation of forks in which there is an owner.
static TAKEN: Mutex<Option<u32>> = Mutex::new(None);

fn taken() -> MutexGuard<'static, Option<u32>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Owns some signals while it lives.
pub(crate) struct Signals {
    event: KeptEvent,
    before: Vec<(i32, libc::sigaction)>,
    generation: u32,
}

impl Signals {
    /// Takes over these signals, each with a number below 64.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` while another one lives.
    pub(crate) fn new(numbers: &[i32]) -> io::Result<Signals> {
        let generation = os::fork_generation();
        let mut taken = taken();
        if *taken == Some(generation) {
            let kind = io::ErrorKind::AlreadyExists;
            return Err(io::Error::new(kind, "another manager of this process has them"));
        }
        let event = KeptEvent::new()?;
        COME.store(0, SeqCst);
        OWNER.store(process::id(), SeqCst);
        WAKE.store(event.as_fd().as_raw_fd(), SeqCst);
        *taken = Some(generation);
        drop(taken);
        let mut signals = Signals { event, before: Vec::new(), generation };
        for &number in numbers {
            // SAFETY: all zeros is a valid sigaction; the handler does only what a handler may.
            let action = unsafe {
                let mut action: libc::sigaction = zeroed();
                action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                action
            };
            let before = exchange(number, &action)?;
            signals.before.push((number, before));
        }
        Ok(signals)
    }

    /// Takes a signal that has come: the number of it.
    pub(crate) fn take(&self) -> Option<i32> {
        // First, so that one which comes meanwhile is announced again.
        self.event.clear();
        let come = COME.load(SeqCst);
        let number = (come != 0).then(|| come.trailing_zeros())?;
        COME.fetch_and(!(1 << number), SeqCst);
        Some(number as i32)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<i32> = self.before.iter().map(|(number, _)| *number).collect();
        f.debug_tuple("Signals").field(&numbers).finish()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if self.generation != os::fork_generation() {
            return;
        }
        for (number, before) in &self.before {
            match exchange(*number, before) {
                // Somebody has put his own handler there since.
                Ok(ours) if ours.sa_sigaction != on_signal as *const () as usize => {
                    let _ = exchange(*number, &ours);
                }
                _ => {}
            }
        }
        WAKE.store(-1, SeqCst);
        // The descriptor stays open until no handler can write to it any more.
        while INSIDE.load(SeqCst) != 0 {
            hint::spin_loop();
        }
        *taken() = None;
    }
}

fn exchange(number: i32, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is one that `sigaction` gave, or our handler; the old one is written when
    // the call succeeds.
    unsafe {
        if libc::sigaction(number, action, old.as_mut_ptr()) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(old.assume_init())
    }
}

extern "C" fn on_signal(number: libc::c_int) {
    // SAFETY: the address of errno is valid in every thread; the interrupted code must find its
    // own value there.
    let errno = unsafe { *libc::__errno_location() };
    INSIDE.fetch_add(1, SeqCst);
    let wake = WAKE.load(SeqCst);
    // SAFETY: getpid, signal, raise and write may be called in a handler; the buffer is as long
    // as we say, and the descriptor is open while a handler is inside.
    unsafe {
        if libc::getpid() as u32 != OWNER.load(SeqCst) {
            // A fork made without us: it dies by its own signal instead of waking its parent.
            libc::signal(number, libc::SIG_DFL);
            libc::raise(number);
        } else if wake >= 0 {
            COME.fetch_or(1 << number, SeqCst);
            libc::write(wake, ptr::from_ref(&1u64).cast(), size_of::<u64>());
        }
    }
    INSIDE.fetch_sub(1, SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
