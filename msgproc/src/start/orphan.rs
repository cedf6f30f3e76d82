//! What a backend does for a frontend that died.

/// Removes the named segments that the frontend owned.
///
/// A backend calls this on its way out once it has seen that its frontend died without a stop.
pub(crate) fn remove_owned_names() {}
