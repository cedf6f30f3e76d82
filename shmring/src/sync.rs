//! The one door to atomics: the standard ones, or loom's under `cfg(shmring_loom)`.

#![allow(clippy::disallowed_types)] // This is the door itself.

#[cfg(not(shmring_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(shmring_loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// Flags that never leave the process and that no model looks at.
pub(crate) mod local {
    #[allow(unused_imports)] // What is used depends on the features.
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence, fence};
}
