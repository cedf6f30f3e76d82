//! What a new child has of its parent, and what not.

use std::{
    io::{Read, Seek, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use msgproc::prelude::*;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use testkit::{Test, test};

use crate::common::{SOON, Worker, WorkerCalls, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(stdout_is_not_written_twice),
        test!(destructors_of_the_parent_do_not_run_in_the_child),
        test!(sigint_reaches_the_frontend_alone),
        test!(sigint_can_be_left_as_it_is),
        test!(handlers_of_the_parent_are_not_inherited),
        test!(blocked_signals_are_unblocked),
        test!(siblings_hold_nothing_of_each_other),
        test!(descriptors_of_the_user_are_kept),
        test!(a_handle_in_a_fork_does_nothing),
    ]
}

/// Runs `f` while descriptor 1 is a file, and gives what was written to it.
fn written_to_stdout(f: impl FnOnce()) -> String {
    let name = std::path::Path::new("/dev/shm").join(testkit::name("stdout"));
    let mut file =
        std::fs::File::options().create_new(true).read(true).append(true).open(&name).unwrap();
    std::fs::remove_file(name).unwrap();
    std::io::stdout().flush().unwrap();
    let old = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    // SAFETY: descriptor 1 stays open throughout.
    unsafe { libc::dup2(file.as_raw_fd(), 1) };
    f();
    std::io::stdout().flush().unwrap();
    // SAFETY: as above.
    unsafe { libc::dup2(old.as_raw_fd(), 1) };
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn stdout_is_not_written_twice() {
    let text = written_to_stdout(|| {
        // `print!` is captured by no harness here, and stays in the buffer without a newline.
        print!("parent;");
        // SAFETY: a constant string.
        unsafe { libc::printf(c"c-parent;".as_ptr()) };
        let mut worker = worker("stdout");
        worker.print("child".into()).wait().unwrap();
        worker.call::<_, ()>("print", ("unflushed",)).wait().unwrap();
        worker.stop().unwrap();
    });
    for part in ["parent;", "child", "unflushed"] {
        let count = text.matches(part).count();
        assert_eq!(count, if part == "parent;" { 2 } else { 1 }, "{part} in {text:?}");
    }
}

/// Counts, in memory that a fork shares, how often it is dropped.
struct Counted(std::fs::File);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.write_all(b"x").unwrap();
    }
}

fn destructors_of_the_parent_do_not_run_in_the_child() -> Result<()> {
    let memory = std::fs::File::from(shmring::os::memfd("counted")?);
    let local = Counted(memory.try_clone()?);
    let captured = Counted(memory.try_clone()?);
    let mut worker = MessageProcess::fork("drops", move |_: &Start| {
        let _ = &captured;
        Worker::default()
    })?;
    worker.count().wait()?;
    worker.stop()?;
    assert_eq!(memory.metadata()?.len(), 0);
    drop(worker);
    assert_eq!(memory.metadata()?.len(), 1, "the constructor's, in the parent");
    drop(local);

    // Also where the backend panics, and where it was never made.
    let local = Counted(memory.try_clone()?);
    let mut worker = self::worker("drops-2");
    let _ = worker.panic("x".into()).wait();
    let _ = worker.stop();
    let failed = MessageProcess::<Worker>::fork("drops-3", |_| Err::<Worker, _>("no"));
    assert!(failed.is_err());
    assert_eq!(memory.metadata()?.len(), 2);
    drop(local);
    assert_eq!(memory.metadata()?.len(), 3);
    Ok(())
}

fn sigint_reaches_the_frontend_alone() -> Result<()> {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    extern "C" fn note(_: i32) {
        SEEN.fetch_add(1, Ordering::Relaxed);
    }
    nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0)).unwrap();
    handle(Signal::SIGINT, note);
    let mut worker = worker("sigint");
    nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGINT).unwrap();
    assert!(testkit::wait_until(SOON, || SEEN.load(Ordering::Relaxed) == 1));
    assert_eq!(worker.ping("alive".into()).wait()?, "alive 1");
    worker.stop()
}

fn sigint_can_be_left_as_it_is() -> Result<()> {
    // A shell gives what it runs in the background an ignored one.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler.
    unsafe { sigaction(Signal::SIGINT, &default) }.unwrap();
    let worker = MessageProcess::options("sigint")
        .ignore_sigint(false)
        .fork(|_: &Start| Worker::default())?;
    testkit::signal(worker.pid(), Signal::SIGINT as i32);
    match worker.next_event(SOON)? {
        Some(Event::Ended(exit)) => assert_eq!(exit.how.signal_name(), Some("SIGINT")),
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn handle(signal: Signal, handler: extern "C" fn(i32)) {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only adds to an atomic or writes to a pipe.
    unsafe { sigaction(signal, &action) }.unwrap();
}

fn handlers_of_the_parent_are_not_inherited() -> Result<()> {
    static PIPE: AtomicU32 = AtomicU32::new(0);
    extern "C" fn self_pipe(_: i32) {
        // SAFETY: writes one byte to the pipe of this test.
        unsafe { libc::write(PIPE.load(Ordering::Relaxed) as i32, c"x".as_ptr().cast(), 1) };
    }
    let (reading, writing) = std::io::pipe()?;
    PIPE.store(writing.as_raw_fd() as u32, Ordering::Relaxed);
    handle(Signal::SIGTERM, self_pipe);
    handle(Signal::SIGUSR1, self_pipe);
    let worker = worker("handlers");
    testkit::signal(worker.pid(), Signal::SIGTERM as i32);
    match worker.next_event(SOON)? {
        Some(Event::Ended(exit)) => assert_eq!(exit.how.signal_name(), Some("SIGTERM")),
        other => panic!("{other:?}"),
    }
    let mut fds = [shmring::os::PollFd::readable(reading.as_fd())];
    assert_eq!(shmring::os::poll(&mut fds, Some(Duration::ZERO))?, 0, "the parent saw nothing");
    Ok(())
}

fn blocked_signals_are_unblocked() -> Result<()> {
    SigSet::all().thread_block().unwrap();
    let worker = worker("blocked");
    testkit::signal(worker.pid(), Signal::SIGTERM as i32);
    let event = worker.next_event(SOON)?;
    assert!(
        matches!(&event, Some(Event::Ended(exit)) if exit.how.signal_name() == Some("SIGTERM"))
    );
    assert_eq!(SigSet::thread_get_mask().unwrap(), {
        // What cannot be blocked is not in the set that the kernel gives back.
        let mut all = SigSet::all();
        all.remove(Signal::SIGKILL);
        all.remove(Signal::SIGSTOP);
        all
    });
    Ok(())
}

fn siblings_hold_nothing_of_each_other() -> Result<()> {
    let mut workers = Vec::new();
    let mut counts = Vec::new();
    for n in 0..6 {
        let worker = worker(&format!("sibling-{n}"));
        counts.push(worker.descriptors().wait()?);
        workers.push(worker);
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    let pages = |pid: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        // The kernel names it so, for it is no file that has a name.
        maps.matches("/dev/zero (deleted)").count()
    };
    assert_eq!(pages(std::process::id()), 6);
    for worker in &mut workers {
        assert_eq!(pages(worker.pid()), 1);
        worker.stop()?;
    }
    Ok(())
}

fn descriptors_of_the_user_are_kept() -> Result<()> {
    let (reading, mut writing) = std::io::pipe()?;
    let number = reading.as_raw_fd();
    let (_other, mut worker) = (worker("other"), worker("user"));
    writing.write_all(b"x")?;
    let link = format!("/proc/{}/fd/{number}", worker.pid());
    assert!(std::fs::read_link(link)?.to_string_lossy().starts_with("pipe:"));
    drop(OwnedFd::from(reading));
    worker.stop()
}

fn a_handle_in_a_fork_does_nothing() -> Result<()> {
    let mut first = worker("first");
    let reply = first.sleep(50).send()?;
    let call = first.count();
    let before = testkit::fd_count();
    // A constructor that captures the handles of another backend of the same frontend.
    let second = worker("captured");
    let mut captured = Some((second, reply, call));
    let mut third = MessageProcess::fork("third", move |_: &Start| {
        let (second, reply, call) = captured.take().unwrap();
        assert!(matches!(second.count().wait(), Err(Error::NotOurs { .. })));
        assert!(matches!(reply.wait(), Err(Error::NotOurs { .. })));
        assert!(matches!(call.tell(), Err(Error::NotOurs { .. })));
        assert!(second.try_event().is_err() && second.exit().is_none());
        assert_eq!(second.busy(), None);
        let _ = second.as_fd().as_raw_fd();
        drop(second);
        Worker::default()
    })?;
    assert_eq!(third.count().wait()?, 0);
    assert_eq!(first.count().wait()?, 1, "the fork has taken nothing");
    third.stop()?;
    drop(third);
    first.stop()?;
    assert!(testkit::fd_count() <= before);
    Ok(())
}
