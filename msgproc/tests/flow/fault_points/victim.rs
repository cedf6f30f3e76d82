//! The process that is killed, in itself.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::words;

/// What it is called: one of a node with one worker, or the first of several.
const VICTIMS: [&str; 2] = ["step", "step-0"];

/// The process of the test itself.
pub(super) static TEST: AtomicU32 = AtomicU32::new(0);

fn is_victim() -> bool {
    static KNOWN: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    if pid == TEST.load(Ordering::Relaxed) {
        return false;
    }
    if KNOWN.load(Ordering::Relaxed) != pid {
        if !testkit::name_of(pid).is_some_and(|name| VICTIMS.contains(&name.as_str())) {
            return false;
        }
        KNOWN.store(pid, Ordering::Relaxed);
    }
    true
}

/// At each point that any process of a test passes.
pub(super) fn look(point: &'static str) {
    if !is_victim() {
        return;
    }
    // It may have several threads.
    static LOOKING: Mutex<()> = Mutex::new(());
    let _looking = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let board = words::of_this_test();
    if board.load(words::AT_WORK) == 0 {
        // What a process passes while it is set up is not of the protocol.
        if !point.starts_with("flow.") {
            return;
        }
        board.store(words::AT_WORK, 1);
    }
    let seen = board.load(words::SEEN) as usize;
    let entry = |number: usize| words::POINTS + number * words::ENTRY;
    let known = (0..seen).find(|number| words::has_name(entry(*number), point));
    let number = known.unwrap_or_else(|| {
        assert!(seen < words::MOST_POINTS, "more points than there is room for");
        words::write_name(entry(seen), point);
        board.store(words::SEEN, seen as u64 + 1);
        seen
    });
    board.add_own(entry(number), 1);

    let died = board.load(words::DIED);
    if died == board.load(words::PLANNED) {
        return;
    }
    let plan = words::PLANS + died as usize * words::ENTRY;
    if words::has_name(plan, point) {
        board.add_own(words::PASSED, 1);
        if board.load(words::PASSED) == board.load(plan) {
            let began = Instant::now();
            while board.load(words::STOPS) != 0 && died == 0 && board.load(words::GO) == 0 {
                board.store(words::HELD, 1);
                sleep(Duration::from_micros(100));
                assert!(began.elapsed() < Duration::from_secs(10), "nobody stops the run");
            }
            board.store(words::PASSED, 0);
            board.store(words::DIED, died + 1);
            testkit::kill9(std::process::id());
            sleep(Duration::from_secs(10)); // The signal may take its time.
        }
    }
}
