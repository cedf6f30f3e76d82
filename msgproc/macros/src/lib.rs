//! The `#[backend]` attribute of msgproc.
