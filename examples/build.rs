//! Compiles the C of the example `unreliable`.

use std::{env, path::Path};

fn main() {
    let source = "src/bin/unreliable/calculator.c";
    println!("cargo::rerun-if-changed={source}");
    cc::Build::new().file(source).warnings(true).cargo_metadata(false).compile("calculator");
    // For that program alone: no other needs it.
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    let library = Path::new(&out).join("libcalculator.a");
    println!("cargo::rustc-link-arg-bin=unreliable={}", library.display());
}
