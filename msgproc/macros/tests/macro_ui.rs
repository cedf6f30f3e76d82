//! What `#[backend]` refuses, and in which words.
//!
//! Each file of `tests/ui` has one fault. Where the compiler is the one that made the snapshots,
//! its whole output is compared. Elsewhere its own words may differ: there each case must fail to
//! compile, and say what the macro says in the snapshot.

#![allow(clippy::disallowed_methods)] // It runs the compiler, not a backend.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler that made the snapshots; they are renewed with `TRYBUILD=overwrite`.
const SNAPSHOTS_OF: &str = "rustc 1.95.";

#[test]
fn refused() {
    let version = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .expect("rustc runs");
    let same = String::from_utf8_lossy(&version.stdout).starts_with(SNAPSHOTS_OF);
    let plain = std::env::var_os("MSGPROC_UI_PLAIN").is_some();
    if same && !plain {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    } else {
        Plain::new().run();
    }
}

/// A package of its own with one binary for each case, checked without snapshots.
struct Plain {
    package: PathBuf,
    cases: Vec<PathBuf>,
}

impl Plain {
    fn new() -> Plain {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut cases: Vec<PathBuf> = fs::read_dir(root.join("tests/ui"))
            .expect("the cases are there")
            .map(|entry| entry.expect("the directory can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect();
        cases.sort();
        assert!(!cases.is_empty(), "no cases in tests/ui");

        let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("macro_ui");
        fs::create_dir_all(&package).expect("the target directory can be written");
        let sound = package.join("sound.rs");
        fs::write(&sound, SOUND.replace("ROOT", &root.display().to_string())).expect("written");
        let mut manifest = MANIFEST.replace("ROOT", &root.display().to_string());
        for path in cases.iter().chain([&sound]) {
            let bin = format!("\n[[bin]]\nname = {:?}\npath = {path:?}\n", name(path));
            manifest.push_str(&bin);
        }
        fs::write(package.join("Cargo.toml"), manifest).expect("written");
        // The same versions as here, so that nothing has to be fetched.
        let lock = root.join("../../Cargo.lock");
        if lock.exists() {
            fs::copy(lock, package.join("Cargo.lock")).expect("the lock file can be copied");
        }
        Plain { package, cases }
    }

    fn run(&self) {
        let (compiles, output) = self.check("sound");
        assert!(compiles, "without a fault it should compile:\n{output}");
        for case in &self.cases {
            let (compiles, output) = self.check(&name(case));
            assert!(!compiles, "{} should not compile", case.display());
            for line in words_of_the_macro(&case.with_extension("stderr")) {
                assert!(
                    output.contains(&line),
                    "{} should say\n{line}\nbut says\n{output}",
                    case.display()
                );
            }
        }
        println!("{} cases fail to compile, as they should", self.cases.len());
    }

    fn check(&self, bin: &str) -> (bool, String) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["check", "--offline", "--quiet", "--color=never", "--bin", bin])
            .current_dir(&self.package)
            .env("CARGO_TARGET_DIR", self.package.join("target"))
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    }
}

/// The errors of a snapshot that the macro words itself: they carry no number and are no lints.
fn words_of_the_macro(snapshot: &Path) -> Vec<String> {
    let text = fs::read_to_string(snapshot).expect("each case has a snapshot");
    if text.contains("the lint level is defined here") {
        return Vec::new();
    }
    let errors = text.lines().filter(|line| line.starts_with("error: "));
    errors.map(str::to_owned).collect()
}

fn name(path: &Path) -> String {
    let stem = path.file_stem().expect("a case has a name");
    stem.to_string_lossy().into_owned()
}

const MANIFEST: &str = r#"[package]
name = "macro-ui"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
msgproc-macros = { path = "ROOT" }
postcard = { version = "1.1", default-features = false, features = ["use-std"] }
serde = { version = "1", features = ["derive"] }
"#;

const SOUND: &str = r#"#[allow(dead_code)]
#[path = "ROOT/tests/facade/mod.rs"]
mod facade;

struct Worker;

#[msgproc_macros::backend(crate = crate::facade)]
impl Worker {
    fn c__ping(&mut self) -> u8 {
        1
    }
}

fn main() {
    let worker = facade::MessageProcess::start(Worker).unwrap();
    assert_eq!(worker.ping().wait(), Ok(1));
}
"#;
