//! Blocks: big data that is written once and travels by handle.
#[cfg(all(test, not(shmring_loom)))]
mod model;
mod words;
