//! Runs the `camera` program as a user would.

#![allow(clippy::disallowed_methods)] // starts the program under test

mod common;
mod program;
mod workers;
