//! Starting: constructors, hooks, what refuses to start, restarts.

use std::{io::Write, os::unix::fs::MetadataExt, time::Duration};

use msgproc::prelude::*;
use testkit::{Test, test};

use crate::common::{SOON, Worker, WorkerCalls, at_once, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(threads_are_refused),
        test!(a_joined_thread_is_none),
        test!(errors_of_the_start_reach_the_one_who_starts),
        test!(death_during_the_start_is_reported),
        test!(a_start_that_takes_too_long_is_ended),
        test!(restarts_construct_anew),
        test!(a_process_has_its_name),
        test!(what_is_captured_is_copied),
        test!(descriptors_that_the_constructor_captures_work),
        test!(stderr_is_kept_on_request),
        test!(old_text_is_given_back),
        test!(nothing_leaks_over_many_starts, timeout = 120),
        test!(a_backend_can_be_a_frontend),
    ]
}

/// A backend whose start goes as its mood says.
struct Moody {
    mood: &'static str,
    diary: std::path::PathBuf,
}

#[backend]
impl Moody {
    fn pre_run(&mut self, _ctx: &mut Context) -> Result<()> {
        match self.mood {
            "fails" => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
            "panics" => panic!("in pre_run"),
            "hangs" => loop {
                std::thread::sleep(SOON)
            },
            "aborts" => std::process::abort(),
            "exits" => std::process::exit(7),
            _ => Ok(()),
        }
    }

    fn post_run(&mut self, _ctx: &mut Context) {
        std::fs::write(&self.diary, "x").unwrap();
        if self.mood == "panics late" {
            panic!("in post_run");
        }
    }
}

fn moody(mood: &'static str) -> Result<MessageProcess<Moody>> {
    let diary = std::path::Path::new("/dev/shm").join(testkit::name("moody"));
    // Only the one that hangs is to run out of time: telling of a panic takes a while.
    let patience =
        if mood == "hangs" { Duration::from_millis(300) } else { Duration::from_secs(20) };
    MessageProcess::options("moody").start_timeout(patience).fork(move |_| {
        if mood == "panics early" {
            panic!("in the constructor");
        }
        if mood == "fails early" {
            return Err("no camera");
        }
        Ok(Moody { mood, diary: diary.clone() })
    })
}

fn post_run_ran() -> bool {
    std::fs::remove_file(std::path::Path::new("/dev/shm").join(testkit::name("moody"))).is_ok()
}

fn threads_are_refused() {
    let (_keep, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    let error = MessageProcess::fork("x", |_: &Start| Worker::default()).unwrap_err();
    assert!(matches!(error, Error::MultiThreaded { threads: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("before the first thread"), "{error}");
    drop(_keep);
    let _ = other.join();
}

fn a_joined_thread_is_none() -> Result<()> {
    for _ in 0..50 {
        std::thread::spawn(|| ()).join().unwrap();
        worker("joined").stop()?;
    }
    Ok(())
}

fn errors_of_the_start_reach_the_one_who_starts() -> Result<()> {
    for (mood, stage, text, post_run) in [
        ("fails early", "the constructor", "no camera", false),
        ("panics early", "the constructor", "in the constructor", false),
        ("fails", "pre_run", "entity not found", true),
        ("panics", "pre_run", "in pre_run", true),
    ] {
        let error = moody(mood).unwrap_err();
        let Error::PreRun { stage: at, message, trace, .. } = &error else { panic!("{error:?}") };
        assert_eq!((&at[..], &message[..]), (stage, text));
        assert_eq!(trace.location.is_some(), mood.starts_with("panics"));
        assert_eq!(post_run_ran(), post_run, "{mood}");
        assert!(testkit::children_of(std::process::id()).is_empty());
    }
    let mut late = moody("panics late")?;
    let error = late.stop().unwrap_err();
    assert_eq!(error.exit().unwrap().how, How::Code(101));
    assert!(error.to_string().contains("in post_run"), "{error}");
    assert!(matches!(late.try_event()?, Some(Event::Failed(Error::Panicked { .. }))));
    assert!(post_run_ran());
    Ok(())
}

fn death_during_the_start_is_reported() {
    let error = at_once(|| moody("exits").unwrap_err());
    assert_eq!(error.exit().unwrap().how, How::Code(7), "{error:?}");
    let error = at_once(|| moody("aborts").unwrap_err());
    assert_eq!(error.exit().unwrap().how.signal_name(), Some("SIGABRT"), "{error:?}");
}

fn a_start_that_takes_too_long_is_ended() {
    let error = at_once(|| moody("hangs").unwrap_err());
    let Error::TimedOut { action, busy, .. } = &error else { panic!("{error:?}") };
    assert_eq!(action, "become ready");
    assert_eq!(busy.as_ref().unwrap().with, "pre_run");
    assert!(testkit::children_of(std::process::id()).is_empty());
}

fn restarts_construct_anew() -> Result<()> {
    let mut worker = MessageProcess::fork("again", |start: &Start| Worker {
        calls: 100 * u64::from(start.restarts),
        ..Worker::default()
    })?;
    let first = worker.pid();
    assert_eq!(worker.count().wait()?, 0);
    testkit::kill9(first);
    assert!(matches!(worker.next_event(SOON)?, Some(Event::Ended(_))));
    let old = worker.count();
    worker.restart()?;
    assert!(matches!(old.wait(), Err(Error::PeerDied { .. })), "it belongs to the old one");
    assert_ne!(worker.pid(), first);
    assert_eq!(worker.count().wait()?, 100);
    worker.restart()?;
    assert_eq!(worker.count().wait()?, 200);
    assert_eq!(worker.restarts(), 2);
    worker.stop()
}

fn a_process_has_its_name() -> Result<()> {
    let mut worker = worker("a-name-that-is-quite-long");
    assert_eq!(worker.name(), "a-name-that-is-quite-long");
    assert_eq!(testkit::name_of(worker.pid()).unwrap(), "a-name-that-is-");
    worker.stop()
}

fn what_is_captured_is_copied() -> Result<()> {
    let mut calls = 5;
    let mut worker = MessageProcess::fork("captured", move |_: &Start| {
        calls += 1;
        Worker { calls, ..Worker::default() }
    })?;
    assert_eq!(worker.count().wait()?, 6);
    worker.restart()?;
    assert_eq!(worker.count().wait()?, 6, "the parent's copy has not changed");
    worker.stop()
}

fn descriptors_that_the_constructor_captures_work() -> Result<()> {
    let (reading, mut writing) = std::io::pipe()?;
    let mut reading = Some(reading);
    let mut worker = MessageProcess::fork("pipe", move |_: &Start| {
        let reading = reading.take().ok_or("taken already")?;
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(reading));
        Ok::<_, Error>(Worker { watched: Some(file), ..Worker::default() })
    })?;
    writing.write_all(b"x")?;
    assert_eq!(worker.count().wait()?, 0);
    worker.stop()
}

fn stderr_is_kept_on_request() -> Result<()> {
    let mut worker =
        MessageProcess::options("stderr").capture_stderr(2).fork(|_: &Start| Worker::default())?;
    for text in ["one", "two", "three"] {
        worker.complain(text.into()).wait()?;
    }
    worker.stop()?;
    assert_eq!(worker.exit().unwrap().stderr, ["two", "three"]);
    worker.restart()?;
    worker.panic("no film".into()).tell()?;
    let end = loop {
        match worker.next_event(SOON)? {
            Some(Event::Ended(exit)) => break exit,
            Some(_) => {}
            None => panic!("it did not end"),
        }
    };
    assert!(end.stderr.iter().any(|line| line.contains("no film") || line.contains("note:")));
    Ok(())
}

/// Also while no handler runs.
fn old_text_is_given_back() -> Result<()> {
    let options = MessageProcess::options("chatters").capture_stderr(2);
    let mut worker = options.fork(|_: &Start| Worker::default())?;
    worker.chatter(7 << 20).wait()?;
    let path = format!("/proc/{}/fd/2", worker.pid());
    let file = std::fs::File::open(path).map_err(Error::other)?;
    let is_given_back = || {
        let meta = file.metadata().unwrap();
        meta.len() == 7 << 20 && meta.blocks() * 512 < 600 << 10
    };
    assert!(testkit::wait_until(SOON, is_given_back), "{:?}", file.metadata());
    worker.stop()?;
    assert_eq!(worker.exit().unwrap().stderr, ["a word", "a word"]);
    Ok(())
}

fn nothing_leaks_over_many_starts() -> Result<()> {
    worker("first").stop()?;
    let before = testkit::fd_count();
    let mut inside = None;
    for round in 0..200 {
        let mut worker = worker("many");
        let reply = worker.ping("x".into()).send()?;
        worker.say(3).tell()?;
        match round % 3 {
            0 => drop(reply),
            1 => drop(reply.wait()?),
            _ => std::mem::drop(worker.count().wait()),
        }
        let count = worker.descriptors().wait()?;
        assert_eq!(*inside.get_or_insert(count), count, "in round {round}");
        if round % 5 == 0 {
            testkit::kill9(worker.pid());
        }
        let _ = worker.stop();
    }
    assert_eq!(testkit::fd_count(), before);
    assert!(testkit::children_of(std::process::id()).is_empty());
    Ok(())
}

/// A backend that has a backend.
pub(crate) struct Middle {
    inner: MessageProcess<Worker>,
}

#[backend(calls = pub(crate) MiddleCalls)]
impl Middle {
    fn c__ask(&mut self, text: String) -> Result<String> {
        self.inner.ping(text).wait()
    }

    fn c__inner(&self) -> u32 {
        self.inner.pid()
    }

    fn c__kill_inner(&mut self) -> Result<()> {
        testkit::kill9(self.inner.pid());
        self.inner.ping("x".into()).wait().map(drop)
    }
}

pub(crate) fn middle() -> Result<MessageProcess<Middle>> {
    MessageProcess::fork("middle", |_| {
        MessageProcess::fork("inner", |_: &Start| Worker::default()).map(|inner| Middle { inner })
    })
}

fn a_backend_can_be_a_frontend() -> Result<()> {
    let mut middle = middle()?;
    assert_eq!(middle.ask("deep".into()).wait()?, "deep 1");
    let inner = testkit::Process::observe(middle.inner().wait()?).unwrap();
    let error = middle.kill_inner().wait().unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    middle.restart()?;
    assert!(!inner.alive());
    let inner = testkit::Process::observe(middle.inner().wait()?).unwrap();
    middle.stop()?;
    assert!(!inner.alive());
    Ok(())
}
