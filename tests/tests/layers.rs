//! The house cannot grow circles unseen: each crate keeps to the layers that
//! ARCHITECTURE.md lists.

use std::fs;

use tests::layers::{Crate, Layers, unsafe_rooms};

fn architecture() -> String {
    fs::read_to_string(tests::repository().join("ARCHITECTURE.md")).unwrap()
}

fn read(name: &str) -> Crate {
    Crate::read(&tests::repository().join(name)).unwrap()
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn shmring_keeps_its_layers() {
    none(read("shmring").against(&Layers::parse(&architecture(), "shmring").unwrap()));
}

#[test]
fn msgproc_keeps_its_layers() {
    none(read("msgproc").against(&Layers::parse(&architecture(), "msgproc").unwrap()));
}

#[test]
fn unsafe_is_opened_in_its_rooms() {
    let rooms = unsafe_rooms(&architecture());
    assert!(!rooms.is_empty());
    none(read("shmring").unsafe_outside(&rooms));
    none(read("msgproc").unsafe_outside(&rooms));
}

#[test]
fn only_os_talks_to_the_kernel() {
    none(read("shmring").mentions("libc", &["os"]));
    none(read("shmring").mentions("nix", &["os"]));
}

/// Loom replaces the atomics of `sync`; any others would escape the models. No
/// model reaches the calls of `os`.
#[test]
fn only_sync_names_raw_atomics() {
    none(read("shmring").mentions("atomic", &["sync", "os"]));
}
