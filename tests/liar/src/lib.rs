//! A peer that lies. Tests and fuzzing overwrite shared memory, or make it up as a whole, and then
//! do with it all that a user can: the outcome must be an error or wrong data.
//!
//! What is done to which input stands in [`targets`]; `tests/fuzz` gives them to libFuzzer, and
//! `tests/targets.rs` and the program of this package give them random inputs.
#![deny(unsafe_code)]

pub mod generate;
pub mod memory;
mod random;
pub mod rings;
pub mod targets;

pub use random::Random;
