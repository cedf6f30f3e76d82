//! Several tests at once, without a thread: each has a supervisor, a process that the runner forks,
//! which is the reaper of all that its test leaves, and writes down how it went.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::process;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, Pid};

use crate::child::{self, Body, Outcome};
use crate::proc;

/// A test that has not begun.
pub(crate) struct Job {
    /// Its place among the tests of the file.
    pub(crate) index: usize,
    pub(crate) body: Body,
    pub(crate) timeout: Duration,
    pub(crate) capture: bool,
}

/// A test that goes on.
struct Supervised {
    index: usize,
    supervisor: Pid,
    outcome: File,
}

/// The tests of a run: at most so many of them go on at once, and begin in their order.
pub(crate) struct Pool {
    at_once: usize,
    waiting: VecDeque<Job>,
    running: Vec<Supervised>,
    done: HashMap<usize, Outcome>,
}

impl Pool {
    pub(crate) fn new(at_once: usize) -> Pool {
        Pool {
            at_once: at_once.max(1),
            waiting: VecDeque::new(),
            running: Vec::new(),
            done: HashMap::new(),
        }
    }

    pub(crate) fn add(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Waits until the test with this index is done; others go on meanwhile.
    pub(crate) fn outcome(&mut self, index: usize) -> Outcome {
        loop {
            if let Some(outcome) = self.done.remove(&index) {
                return outcome;
            }
            while self.running.len() < self.at_once
                && let Some(job) = self.waiting.pop_front()
            {
                let index = job.index;
                match self.begin(job) {
                    Ok(supervised) => self.running.push(supervised),
                    Err(error) => {
                        let why = format!("the test could not be started: {error}");
                        self.done.insert(index, Outcome::Failed(why));
                    }
                }
            }
            match self.done.contains_key(&index) {
                true => {}
                false if self.running.is_empty() => {
                    return Outcome::Failed("the test was asked for twice".to_owned());
                }
                false => self.wait(),
            }
        }
    }

    fn begin(&mut self, job: Job) -> io::Result<Supervised> {
        let threads = proc::thread_count();
        if threads != 1 {
            let why = format!("the runner has {threads} threads and cannot fork");
            return Err(io::Error::other(why));
        }
        let outcome = File::from(memfd_create("testkit-outcome", MFdFlags::MFD_CLOEXEC)?);
        // What is buffered here would otherwise be printed a second time.
        io::stdout().flush()?;
        let runner = process::id();
        let Some(supervisor) = child::fork()? else {
            // What is the runner's is closed: the test has none of it.
            (self.running, self.done) = (Vec::new(), HashMap::new());
            let written = supervise(job, runner).encode();
            let done = outcome.write_all_at(&written, 0).and_then(|()| io::stdout().flush());
            child::leave(if done.is_ok() { 0 } else { 70 });
        };
        Ok(Supervised { index: job.index, supervisor, outcome })
    }

    /// Waits until one of those that go on is done.
    fn wait(&mut self) {
        let status = loop {
            match waitpid(None, None) {
                Err(Errno::EINTR) => {}
                Err(error) => panic!("cannot wait for the tests: {error}"),
                Ok(status) => break status,
            }
        };
        // Others are children that the runner was started with.
        let ended = self.running.iter().position(|one| Some(one.supervisor) == status.pid());
        let Some(ended) = ended else { return };
        let Supervised { index, outcome, .. } = self.running.swap_remove(ended);
        let outcome = match status {
            WaitStatus::Exited(_, 0) => Outcome::decode(&outcome),
            status => Err(io::Error::other(format!("it ended as {status:?}"))),
        };
        let outcome = outcome.unwrap_or_else(|error| {
            Outcome::Failed(format!("the process that supervises the test failed: {error}"))
        });
        self.done.insert(index, outcome);
    }
}

fn supervise(job: Job, runner: u32) -> Outcome {
    let set_up = || -> io::Result<()> {
        prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
        if unistd::getppid().as_raw() as u32 != runner {
            return Err(io::Error::other("the runner is gone"));
        }
        child::become_reaper()?;
        Ok(())
    };
    match set_up() {
        Ok(()) => child::run(job),
        Err(error) => Outcome::Failed(format!("the test could not be supervised: {error}")),
    }
}

const PASSED: u8 = b'P';
const FAILED: u8 = b'F';
const IGNORED: u8 = b'I';

impl Outcome {
    fn encode(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Outcome::Passed => (PASSED, ""),
            Outcome::Failed(why) => (FAILED, why.as_str()),
            Outcome::Ignored(reason) => (IGNORED, reason.as_str()),
        };
        [&[kind], text.as_bytes()].concat()
    }

    fn decode(file: &File) -> io::Result<Outcome> {
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let Some((kind, text)) = bytes.split_first() else {
            return Err(io::Error::other("it said nothing"));
        };
        let text = String::from_utf8_lossy(text).into_owned();
        match *kind {
            PASSED => Ok(Outcome::Passed),
            FAILED => Ok(Outcome::Failed(text)),
            IGNORED => Ok(Outcome::Ignored(text)),
            _ => Err(io::Error::other("it said what is no outcome")),
        }
    }
}
