//! What becomes of an item over which a node fails.

/// What becomes of an item over which a node fails.
///
/// Where it is handled again, or left out, all that the node sends for one item goes on when that
/// has not failed: it lies in memory until then, unless it is sent to one of several workers or from
/// another output than the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OnError {
    retries: u32,
    skips: bool,
}

impl OnError {
    /// The run fails: the first error ends it, and is what it gives. So by default.
    pub fn fail() -> OnError {
        OnError::default()
    }

    /// The item is left out, and counted.
    pub fn skip() -> OnError {
        OnError { retries: 0, skips: true }
    }

    /// The item is handled again, up to so many times; then the run fails. An item over which a
    /// process died is handled again by the process that replaces it, with all else that it had.
    pub fn retry(times: u32) -> OnError {
        OnError { retries: times, skips: false }
    }

    /// In the end leaves the item out, rather than fail: one over which processes died is then in
    /// quarantine.
    #[must_use]
    pub fn or_skip(mut self) -> OnError {
        self.skips = true;
        self
    }

    pub(crate) fn retries(self) -> u32 {
        self.retries
    }

    pub(crate) fn skips(self) -> bool {
        self.skips
    }
}
