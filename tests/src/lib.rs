//! What the tests of whole processes and of the repository itself share.

pub mod layers;

use std::path::PathBuf;

/// Gives the path of a script of this repository.
pub fn script(name: &str) -> PathBuf {
    repository().join("scripts").join(name)
}

/// Gives the top directory of the repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests is a directory of the repository").to_owned()
}
