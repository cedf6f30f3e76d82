//! What a backend does for a frontend that was killed: it removes the names that it owned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shmring::named::Ledger;

use super::lifeline;

/// The names of the frontend, those it makes after the fork included.
static OF_THE_FRONTEND: Mutex<Option<Arc<Ledger>>> = Mutex::new(None);

/// In a new child: keeps the ledger of its parent.
pub(super) fn inherit(ledger: Arc<Ledger>) {
    *OF_THE_FRONTEND.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
}

/// Removes the named segments that the frontend owned, if it has ended.
///
/// A backend calls this on its way out once its channel is closed; all backends of the same
/// frontend may do it at once.
pub(crate) fn remove_owned_names() {
    // Of a process that ends the kernel closes one descriptor after the other.
    if !lifeline::frontend_ends_within(Duration::from_millis(300)) {
        return;
    }
    let ledger = OF_THE_FRONTEND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ledger) = ledger {
        ledger.remove_all();
    }
}
