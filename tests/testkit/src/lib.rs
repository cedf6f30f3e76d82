//! The runner of tests that fork.
//!
//! The usual test harness runs each test on a thread, and a process that has
//! threads must not fork. A test file with `harness = false` and this `main`
//! runs on the main thread, under `cargo test` and `cargo nextest run` alike:
//!
//! ```no_run
//! fn ping_answers() {
//!     assert_eq!(1 + 1, 2);
//! }
//!
//! fn survives_a_kill() -> std::io::Result<()> {
//!     let name = testkit::name("frames"); // unique to this test
//!     std::fs::write(format!("/dev/shm/{name}"), "x")?;
//!     std::fs::remove_file(format!("/dev/shm/{name}"))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     testkit::run([
//!         testkit::test!(ping_answers),
//!         testkit::test!(survives_a_kill, timeout = 10),
//!     ])
//! }
//! ```
//!
//! Each test runs in a forked child of its own, so that a crash, a hang or
//! leaked state of one cannot take the others along. A process between the runner
//! and the test is the reaper of all that the test leaves behind. A test fails when it
//!
//! - panics, returns `Err`, is killed, exits, or is not done at its deadline
//!   (then its whole process tree is killed);
//! - leaves a process behind, or anything in `/dev/shm` that carries its
//!   [`prefix`] (both are then removed);
//! - lets a process that it forked return into the frames of the test.

#![deny(unsafe_code)]

mod child;
mod name;
mod pool;
mod proc;

use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, FormatSetting, Trial};

use crate::pool::{Job, Pool};

pub use crate::child::{died_by_kill, forked, join, join_killed};
pub use crate::name::{name, prefix};
pub use crate::proc::{
    Process, alive, children_of, descendants_of, fd_count, fd_count_of, first_free_fd, kill9,
    name_of, parent_of, pss_of, signal, state_of, thread_count,
};

/// How long a test may take unless it says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a test does its random work that can go on for any time: as many seconds as the
/// variable `SHMRING_SOAK_SECONDS` says, otherwise four.
pub fn soak_time() -> Duration {
    let seconds = std::env::var("SHMRING_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Who is idle uses one part in so many of a processor at most: a thousand, in code that is optimized.
pub const IDLE: u32 = if cfg!(debug_assertions) { 300 } else { 1000 };

/// One test: a name and a function, with its deadline and conditions.
pub struct Test {
    name: String,
    body: child::Body,
    timeout: Duration,
    ignored: Option<String>,
}

impl Test {
    /// Makes a test that passes when `body` returns `()` or `Ok(())`.
    ///
    /// [`test!`] does the same for a plain function. Use this form for tests
    /// made in a loop, one for each point at which to kill a process.
    pub fn new<R: Verdict>(
        name: impl Into<String>,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> Self {
        Test {
            name: name.into(),
            body: Box::new(move || body().verdict()),
            timeout: DEFAULT_TIMEOUT,
            ignored: None,
        }
    }

    /// Sets the time after which the process tree of the test is killed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ignores the test, also in lists of tests, when there is a reason.
    ///
    /// `--ignored` and `--include-ignored` run it all the same.
    #[must_use]
    pub fn ignore_if(mut self, reason: Option<impl Into<String>>) -> Self {
        self.ignored = reason.map(Into::into);
        self
    }
}

/// Makes a [`Test`] from the path of a function.
///
/// `test!(f)`, `test!(f, timeout = 10)` with a number of seconds, and
/// `test!(f, ignore_if = g)` where `g` returns an `Option` of the reason.
#[macro_export]
macro_rules! test {
    ($body:path $(, timeout = $seconds:expr)? $(, ignore_if = $reason:expr)? $(,)?) => {
        $crate::Test::new(stringify!($body), $body)
            $(.timeout(::std::time::Duration::from_secs($seconds)))?
            $(.ignore_if($reason()))?
    };
}

/// What a test function may return.
pub trait Verdict {
    /// Gives the reason of the failure, if it is one.
    fn verdict(self) -> Result<(), String>;
}

impl Verdict for () {
    fn verdict(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Verdict, E: std::fmt::Debug> Verdict for Result<T, E> {
    fn verdict(self) -> Result<(), String> {
        match self {
            Ok(value) => value.verdict(),
            Err(error) => Err(format!("the test returned an error: {error:?}")),
        }
    }
}

/// Ends the test that calls this: it counts as ignored, with this reason.
///
/// The reason is printed next to the closing line. To have a test left out of
/// lists as well, use [`Test::ignore_if`].
pub fn ignore(reason: impl Into<String>) -> ! {
    panic::resume_unwind(Box::new(child::Ignored(reason.into())))
}

/// Waits until `condition` holds; gives false when `timeout` has passed before.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_micros(200);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return condition();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Runs the tests that the command line asks for, as many at once as there are processors.
///
/// Call it from `main`, with no thread started before. It understands the
/// options of the usual harness, among them a filter, `--exact`, `--skip`,
/// `--list`, `--ignored` and `--nocapture`; `--test-threads`, or the variable
/// `RUST_TEST_THREADS`, says how many tests go on at once.
///
/// # Panics
///
/// Panics when it cannot wait for the tests that it has begun.
#[must_use = "return it from main"]
pub fn run(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let mut args = Arguments::from_args();
    let pool = Arc::new(Mutex::new(Pool::new(at_once(&args))));
    // One thread means the main thread, and no other is started.
    args.test_threads = Some(1);

    let reasons = Arc::new(Mutex::new(Vec::new()));
    let capture = !args.nocapture;
    let mut trials = Vec::new();
    for (index, test) in tests.into_iter().enumerate() {
        let name = test.name.clone();
        let seen = Arc::clone(&reasons);
        let reason = test.ignored.clone();
        let outcomes = Arc::clone(&pool);
        let trial = Trial::ignorable_test(test.name, move || {
            match outcomes.lock().expect("no test panics here").outcome(index) {
                child::Outcome::Passed => Ok(Completion::Completed),
                child::Outcome::Failed(why) => Err(why.into()),
                child::Outcome::Ignored(reason) => {
                    let completion = Completion::ignored_with(&reason);
                    note(&seen, name, reason);
                    Ok(completion)
                }
            }
        })
        .with_ignored_flag(reason.is_some());
        let (is_ignored, is_asked_for) = (args.is_ignored(&trial), !args.is_filtered_out(&trial));
        if is_asked_for && !is_ignored {
            let Test { body, timeout, .. } = test;
            let job = Job { index, body, timeout, capture };
            pool.lock().expect("no test panics here").add(job);
        }
        if let Some(reason) = reason
            && is_ignored
            && is_asked_for
        {
            note(&reasons, trial.name().to_owned(), reason);
        }
        trials.push(trial);
    }

    let conclusion = libtest_mimic::run(&args, trials);
    if !args.list && !matches!(args.format, Some(FormatSetting::Json)) {
        for (name, reason) in reasons.lock().expect("no test panics here").iter() {
            println!("ignored: {name}: {reason}");
        }
    }
    conclusion.exit_code()
}

fn at_once(args: &Arguments) -> usize {
    let wanted = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get());
    args.test_threads.or_else(wanted).unwrap_or_else(processors)
}

type Reasons = Mutex<Vec<(String, String)>>;

fn note(reasons: &Reasons, name: String, reason: String) {
    let mut reasons = reasons.lock().expect("no test panics here");
    reasons.push((name, reason));
}
