//! Ctrl-C and `kill`: a flag, and no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// Whether somebody asked the program to stop. The second signal ends it at once.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Takes over SIGINT and SIGTERM.
    pub(crate) fn install() -> Result<Self, Failure> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order: the first signal only sets the condition of the exit.
            flag::register_conditional_default(number, Arc::clone(&again))
                .and_then(|_| flag::register(number, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(number, Arc::clone(&signal), number as usize))
                .map_err(|error| Failure::io("take over SIGINT and SIGTERM", &error))?;
        }
        Ok(Self(signal))
    }

    /// Whether a signal came.
    pub(crate) fn requested(&self) -> bool {
        self.signal().is_some()
    }

    /// Returns the number of the signal that came, if any.
    pub(crate) fn signal(&self) -> Option<u8> {
        // The number is all there is to see: nothing was written before it.
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number as u8),
        }
    }
}
