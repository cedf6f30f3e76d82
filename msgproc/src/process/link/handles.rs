//! Calls that are found by their number, wherever they have gone: the process that they were sent
//! to, the time between two processes, the one after it.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Link, Place, outbox::fail};
use crate::error::Error;

impl Link {
    /// Where a call has gone, if it was sent to a next process. It is no longer known here.
    pub(in crate::process) fn follow(&self, call: u64) -> Option<(Arc<Link>, u64)> {
        let mut state = self.lock();
        let Some(Place::Forwarded(link, number)) = state.calls.get(&call) else {
            return None;
        };
        let next = (link.clone(), *number);
        state.calls.remove(&call);
        Some(next)
    }

    /// The same, and it stays known here.
    pub(in crate::process) fn forwarded(&self, call: u64) -> Option<(Arc<Link>, u64)> {
        match self.lock().calls.get(&call) {
            Some(Place::Forwarded(link, number)) => Some((link.clone(), *number)),
            _ => None,
        }
    }

    /// Whether a call waits for the next process.
    pub(in crate::process) fn is_left_over(&self, call: u64) -> bool {
        matches!(self.lock().calls.get(&call), Some(Place::Leftover))
    }

    /// Waits until it is decided what becomes of a call that waits for the next process; `false`
    /// when it was not in time.
    pub(in crate::process) fn wait_for_fate(&self, call: u64, until: Instant) -> bool {
        let mut state = self.lock();
        while matches!(state.calls.get(&call), Some(Place::Leftover)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let slice = left.min(Duration::from_secs(3600));
            let woken = self.changed.wait_timeout(state, slice);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes a call back that waits for the next process; tells whether there was such.
    pub(in crate::process) fn withdraw(&self, call: u64) -> bool {
        let mut state = self.lock();
        let Some(command) = state.outbox.take_left_over(call) else {
            return false;
        };
        state.calls.remove(&call);
        state.outbox.discard(command);
        self.changed.notify_all();
        drop(state);
        self.empty_trash();
        true
    }

    /// Takes a call back, wherever it is.
    pub(in crate::process) fn cancel(&self, call: u64) {
        if self.is_left_over(call) {
            let mut state = self.lock();
            if let Some(command) = state.outbox.take_left_over(call) {
                let process = self.name().into();
                let error = Error::Cancelled { process, command: command.name.into() };
                fail(&mut state, command, error);
                self.changed.notify_all();
                self.raise(&mut state);
            }
            drop(state);
            return self.empty_trash();
        }
        let state = self.lock();
        // One that is done leaves no mark: that may be another's by now.
        if state.outbox.has_sent(call) {
            self.page.cancel(call);
        }
    }
}
