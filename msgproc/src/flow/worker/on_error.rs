//! What becomes of an item over which a node fails.

/// What becomes of an item over which a node fails.
///
/// Where it is handled again, or left out, all that the node sends for one item goes on when that
/// has not failed: it lies in memory until then. What was sent before the node asks for more than that
/// has gone on, and goes on once more with the next attempt: [`Outlet::send_to`](super::Outlet::send_to),
/// [`broadcast`](super::Outlet::broadcast), [`send_on`](super::Outlet::send_on) of another output than
/// the first, [`flush`](super::Outlet::flush), and [`wait_for`](super::Outlet::wait_for) where it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OnError {
    retries: u32,
    skips: bool,
    /// Whether a process that died over an item is replaced, though the item is not handled again.
    replaces: bool,
}

impl OnError {
    /// The run fails: the first error ends it, and is what it gives. So by default.
    pub fn fail() -> OnError {
        OnError::default()
    }

    /// The item is left out, and counted.
    pub fn skip() -> OnError {
        OnError { skips: true, ..OnError::default() }
    }

    /// The item is handled again, up to so many times; then the run fails. An item over which a
    /// process died is handled again by the process that replaces it, with all else that it had.
    ///
    /// A process with several workers, of one node or of several, is replaced if all its nodes say
    /// so (this or [`OnError::quarantine`]), none of them is the first of a circle (that of
    /// [`Part::wrap_around`](crate::flow::Part::wrap_around) begins in the program then), and there
    /// is a way for what goes from one to another in it to travel. Else the run fails, and says why.
    /// Items between two workers of such a process are written down as those between processes, also
    /// where both are in one thread and one would else be called: that is the price.
    ///
    /// A death counts for the item of the worker that was at work. If several threads of the process
    /// were, it counts for none, and the process that replaces it has one thread at work at a time
    /// until they are past what they were at. If futures were on their way, neither, and those items
    /// are awaited one by one.
    pub fn retry(times: u32) -> OnError {
        OnError { retries: times, ..OnError::default() }
    }

    /// In the end leaves the item out, rather than fail: one over which processes died is then in
    /// quarantine. See also [`OnError::quarantine`], which counts from the first time on.
    #[must_use]
    pub fn or_skip(mut self) -> OnError {
        self.skips = true;
        self
    }

    /// An item over which the node has failed so many times, or its process has died, is left out and
    /// counted; until then it is handled again. A process that died is replaced as with
    /// [`OnError::retry`], also with 1. Zero means 1: the first time.
    pub fn quarantine(times: u32) -> OnError {
        OnError { retries: times.saturating_sub(1), skips: true, replaces: true }
    }

    /// Whether a process that died is replaced.
    pub(crate) fn replaces(self) -> bool {
        self.replaces || self.retries > 0
    }

    pub(crate) fn retries(self) -> u32 {
        self.retries
    }

    pub(crate) fn skips(self) -> bool {
        self.skips
    }
}
