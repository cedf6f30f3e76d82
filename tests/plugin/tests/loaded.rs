//! What a program sees that has loaded a shared library which starts processes.

#![allow(unsafe_code)] // A library that is loaded, and its functions.

use std::process::ExitCode;

use libloading::{Library, Symbol};

/// Loads the library, as it was built beside this test, and asks one of its functions.
fn ask(function: &str) -> bool {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("libplugin.so");
    // SAFETY: it is the library of this package, whose loading runs nothing of its own, and whose
    // functions take nothing and give whether something holds.
    unsafe {
        let library = Library::new(&library).unwrap_or_else(|error| panic!("{error}"));
        let function: Symbol<'_, extern "C" fn() -> bool> = library.get(function).unwrap();
        let holds = function();
        std::mem::forget(library); // Its code stays: what it made may outlive this call.
        holds
    }
}

fn a_spawn_is_refused() {
    assert!(ask("spawn_is_refused"));
}

fn a_fork_server_is_refused() {
    assert!(ask("fork_server_is_refused"));
}

fn a_fork_works() {
    assert!(ask("fork_works"));
}

fn main() -> ExitCode {
    msgproc::init();
    testkit::run([
        testkit::test!(a_spawn_is_refused),
        testkit::test!(a_fork_server_is_refused),
        testkit::test!(a_fork_works),
    ])
}
