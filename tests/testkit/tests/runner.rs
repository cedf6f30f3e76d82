//! The runner run by itself: what a test may rely on.

use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{getpid, getppid, gettid};

static TOUCHED: AtomicBool = AtomicBool::new(false);

fn on_the_main_thread() {
    assert_eq!(getpid(), gettid());
}

fn no_other_thread() {
    assert_eq!(testkit::thread_count(), 1);
}

fn in_a_process_of_its_own() {
    TOUCHED.store(true, Ordering::Relaxed);
}

fn not_touched_by_the_one_before() {
    assert!(!TOUCHED.load(Ordering::Relaxed));
}

fn the_runner_has_one_thread_too() {
    let supervisor = getppid().as_raw() as u32;
    for pid in [supervisor, testkit::parent_of(supervisor).unwrap()] {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        assert_eq!(tasks.count(), 1);
    }
}

fn the_prefix_is_the_supervisors() {
    let supervisor = getppid();
    assert!(testkit::prefix().starts_with(&format!("t-{supervisor}-")));
    assert_eq!(testkit::name("x"), format!("{}x", testkit::prefix()));
}

fn no_descendants_at_the_start() {
    assert!(testkit::descendants_of(process::id()).is_empty());
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(on_the_main_thread),
        testkit::test!(no_other_thread),
        testkit::test!(in_a_process_of_its_own),
        testkit::test!(not_touched_by_the_one_before),
        testkit::test!(the_runner_has_one_thread_too),
        testkit::test!(the_prefix_is_the_supervisors),
        testkit::test!(no_descendants_at_the_start),
    ])
}
