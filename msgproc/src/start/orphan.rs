//! What a backend does for a frontend that was killed: it removes the names that it owned.

use std::{
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shmring::{block, named::Ledger, os};

use super::lifeline;

/// The names of the frontend, those it makes after the fork included.
static OF_THE_FRONTEND: Mutex<Option<Arc<Ledger>>> = Mutex::new(None);

/// In a new child: keeps the ledger of its parent.
#[inline] // As `fork` says.
pub(super) fn inherit(ledger: Arc<Ledger>) {
    *OF_THE_FRONTEND.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
}

/// Removes the named segments that the frontend owned, if it has ended; tells whether it has.
///
/// A backend calls this on its way out once its channel is closed; all backends of the same
/// frontend may do it at once.
pub(crate) fn remove_owned_names() -> bool {
    // Of a process that ends the kernel closes one descriptor after the other.
    if !lifeline::frontend_ends_within(Duration::from_millis(300)) {
        return false;
    }
    let ledger = OF_THE_FRONTEND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ledger) = ledger {
        ledger.remove_all();
    }
    true
}

/// Gives back the blocks that a frontend held, which has ended. For a process that shares the pool
/// and goes on.
pub(crate) fn give_back_blocks(frontend: u32) {
    // Its descriptors are closed shortly before it is dead.
    if let Ok(pidfd) = os::PidFd::open(frontend) {
        let mut ended = [os::PollFd::readable(pidfd.as_fd())];
        let _ = os::poll(&mut ended, Some(Duration::from_millis(100)));
    }
    block::drained(frontend);
}
