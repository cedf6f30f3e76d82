//! One test in one forked child of its supervisor: start, deadline, verdict, and what it left.

use std::any::Any;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};

use crate::pool::Job;
use crate::{name, proc};

pub(crate) type Body = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// The panic payload that stands for "ignored at run time".
pub(crate) struct Ignored(pub(crate) String);

pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Ignored(String),
}

/// A process that has been killed may need this long until it is gone.
const GRACE: Duration = Duration::from_millis(250);

/// How long the killing of a process tree is tried.
const KILLING: Duration = Duration::from_secs(10);

/// Output of a failed test beyond this is cut in the middle.
const SHOWN: usize = 256 * 1024;

pub(crate) fn become_reaper() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Runs one test and says how it went.
pub(crate) fn run(job: Job) -> Outcome {
    run_child(job)
        .unwrap_or_else(|error| Outcome::Failed(format!("the test could not be started: {error}")))
}

fn run_child(Job { index, body, timeout, capture }: Job) -> io::Result<Outcome> {
    let runner = process::id();
    let prefix = name::compose(runner, index);
    let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let output = capture.then(|| memfd_create("testkit-output", MFdFlags::MFD_CLOEXEC));
    let output = output.transpose()?.map(File::from);
    let Some(child) = fork()? else {
        drop(reader);
        serve(body, runner, prefix, output, writer);
    };
    drop(writer);

    let ended = wait(child, timeout);
    let tree = matches!(ended, Ended::TimedOut).then(|| describe_tree(runner));
    let left = leftovers(runner, tree.is_some());
    let files = remove_files(&prefix);
    let verdicts = read_verdicts(reader);

    let mut wrong = Vec::new();
    let mut ignored = None;
    match ended {
        Ended::TimedOut => {
            wrong.push(format!("not done after {timeout:?}; killed:{}", tree.unwrap_or_default()))
        }
        Ended::Status(status) => match judge(status, &verdicts) {
            Outcome::Passed => {}
            Outcome::Ignored(reason) => ignored = Some(reason),
            Outcome::Failed(why) => wrong.push(why),
        },
    }
    if !left.is_empty() {
        wrong.push(format!("left {} behind:{}", plural(left.len(), "process", "es"), list(&left)));
    }
    if !files.is_empty() {
        let files_left = plural(files.len(), "file", "s");
        wrong.push(format!("left {files_left} in /dev/shm:{}", list(&files)));
    }
    if verdicts.iter().any(|verdict| verdict.kind == ESCAPED) {
        wrong.push("a forked process returned into the frames of the test".to_owned());
    }
    if wrong.is_empty() {
        return Ok(ignored.map_or(Outcome::Passed, Outcome::Ignored));
    }
    let mut text = wrong.join("\n");
    if let Some(output) = output {
        append_output(&mut text, &output)?;
    }
    Ok(Outcome::Failed(text))
}

/// The caller has one thread.
#[allow(unsafe_code)] // the one fork
#[allow(clippy::disallowed_methods)] // this is the room for it
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the caller has checked that this process has one thread, so no
    // lock can be held by a thread that does not exist in the child.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

#[allow(unsafe_code)] // the end of a child
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: `_exit` ends the process at once. It runs no destructor of the
    // runner's values, which is what it is for here.
    unsafe { nix::libc::_exit(code) }
}

/// Runs `body` in a forked child of the test, which then ends without a word: with 0, or with 101
/// when `body` panicked. Gives its process id; the test waits for it.
///
/// # Panics
///
/// When the test has more than one thread, and when no process can be had.
pub fn forked(body: impl FnOnce()) -> Pid {
    assert_eq!(crate::thread_count(), 1, "a process with threads must not fork");
    match fork().expect("a process can be forked") {
        Some(child) => child,
        None => {
            let result = panic::catch_unwind(AssertUnwindSafe(body));
            leave(if result.is_ok() { 0 } else { 101 });
        }
    }
}

/// Waits for a child that ended well.
///
/// # Panics
///
/// When it did not, or is no child of this process.
pub fn join(child: Pid) {
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

/// Waits for a child that was killed.
///
/// # Panics
///
/// When it ended otherwise, or is no child of this process.
pub fn join_killed(child: Pid) {
    assert!(died_by_kill(child), "it ended well");
}

/// Waits for a child that was killed, or ended well; tells which.
///
/// # Panics
///
/// When it ended otherwise, or is no child of this process.
pub fn died_by_kill(child: Pid) -> bool {
    match waitpid(child, None) {
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => true,
        Ok(WaitStatus::Exited(_, 0)) => false,
        other => panic!("it ended with {other:?}"),
    }
}

/// The child: runs the test, says how it went, and never returns.
fn serve(body: Body, runner: u32, prefix: String, output: Option<File>, writer: OwnedFd) -> ! {
    let set_up = || -> io::Result<()> {
        prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
        if unistd::getppid().as_raw() as u32 != runner {
            return Err(io::Error::other("the runner is gone"));
        }
        if let Some(output) = output {
            unistd::dup2_stdout(&output)?;
            unistd::dup2_stderr(&output)?;
        }
        Ok(())
    };
    let mut writer = File::from(writer);
    let me = process::id();
    let (kind, text) = match set_up() {
        Err(error) => (FAILED, format!("the child could not be set up: {error}")),
        Ok(()) => {
            name::enter(prefix);
            classify(panic::catch_unwind(AssertUnwindSafe(body)))
        }
    };
    let kind = if process::id() == me { kind } else { ESCAPED };
    let _ = io::stdout().flush();
    let sent = writer.write_all(&encode(kind, &text));
    leave(if sent.is_ok() && kind != ESCAPED { 0 } else { 70 })
}

fn classify(result: Result<Result<(), String>, Box<dyn Any + Send>>) -> (u8, String) {
    match result {
        Ok(Ok(())) => (PASSED, String::new()),
        Ok(Err(why)) => (FAILED, why),
        Err(payload) => match payload.downcast::<Ignored>() {
            Ok(ignored) => (IGNORED, ignored.0),
            // The panic hook has printed the message with its place.
            Err(_) => (FAILED, "the test panicked".to_owned()),
        },
    }
}

const PASSED: u8 = b'P';
const FAILED: u8 = b'F';
const IGNORED: u8 = b'I';
const ESCAPED: u8 = b'E';

/// What a process of the test wrote into the pipe.
struct Verdict {
    kind: u8,
    text: String,
}

/// One record, short enough for the pipe to take it in one piece.
fn encode(kind: u8, text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(3000)];
    let length = text.len() as u16;
    [&[kind][..], &length.to_le_bytes(), text].concat()
}

fn read_verdicts(reader: OwnedFd) -> Vec<Verdict> {
    let mut bytes = Vec::new();
    // The pipe does not block: an end that somebody still holds is no matter.
    let _ = File::from(reader).read_to_end(&mut bytes);
    let mut verdicts = Vec::new();
    let mut rest = bytes.as_slice();
    while let [kind, low, high, tail @ ..] = rest {
        let (text, after) = tail.split_at(tail.len().min(u16::from_le_bytes([*low, *high]).into()));
        verdicts.push(Verdict { kind: *kind, text: String::from_utf8_lossy(text).into_owned() });
        rest = after;
    }
    verdicts
}

fn judge(status: WaitStatus, verdicts: &[Verdict]) -> Outcome {
    let said = verdicts.iter().find(|verdict| verdict.kind != ESCAPED);
    match (status, said) {
        (WaitStatus::Exited(_, 0), Some(Verdict { kind: PASSED, .. })) => Outcome::Passed,
        (WaitStatus::Exited(_, 0), Some(Verdict { kind: IGNORED, text })) => {
            Outcome::Ignored(text.clone())
        }
        (WaitStatus::Exited(_, 0), Some(verdict)) => Outcome::Failed(verdict.text.clone()),
        (WaitStatus::Exited(_, code), _) => {
            Outcome::Failed(format!("the test exited with code {code} before its end"))
        }
        (WaitStatus::Signaled(_, signal, _), _) => {
            Outcome::Failed(format!("the test was killed by {signal}"))
        }
        (other, _) => Outcome::Failed(format!("the test ended as {other:?}")),
    }
}

enum Ended {
    Status(WaitStatus),
    TimedOut,
}

/// Waits for the child, and reaps the orphans that come to us meanwhile.
fn wait(child: Pid, timeout: Duration) -> Ended {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_micros(200);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) if status.pid() == Some(child) => return Ended::Status(status),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => panic!("cannot wait for the test: {error}"),
        }
        if Instant::now() >= deadline {
            return Ended::TimedOut;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Reaps what has ended; gives the descendants that live.
fn reap(runner: u32) -> Vec<u32> {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
    proc::descendants_of(runner)
}

/// Kills and reaps all descendants. Gives those that a test which ended by
/// itself should not have left.
fn leftovers(runner: u32, kill_at_once: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !kill_at_once && !crate::wait_until(GRACE, || reap(runner).is_empty()) {
        found = reap(runner).into_iter().map(proc::describe).collect();
    }
    let gone = crate::wait_until(KILLING, || {
        let living = reap(runner);
        for &pid in &living {
            proc::kill9(pid);
        }
        living.is_empty()
    });
    if !gone {
        found.push("some could not be killed".to_owned());
    }
    found
}

fn describe_tree(runner: u32) -> String {
    let tree: Vec<_> = proc::descendants_of(runner).into_iter().map(proc::describe).collect();
    list(&tree)
}

/// Removes what carries the prefix of the test; gives the names.
fn remove_files(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(prefix) {
            let _ = fs::remove_file(entry.path());
            found.push(name);
        }
    }
    found.sort();
    found
}

fn append_output(text: &mut String, output: &File) -> io::Result<()> {
    let length = output.metadata()?.len() as usize;
    let mut bytes = vec![0; length];
    output.read_exact_at(&mut bytes, 0)?;
    if length > SHOWN {
        let cut = format!("\n… {} bytes left out …\n", length - SHOWN);
        bytes.splice(SHOWN / 2..length - SHOWN / 2, cut.into_bytes());
    }
    if !bytes.is_empty() {
        text.push_str("\n--- output ---\n");
        text.push_str(String::from_utf8_lossy(&bytes).trim_end());
    }
    Ok(())
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

fn plural(n: usize, noun: &str, ending: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { ending })
}
