//! The four steps of a stop.

use std::time::{Duration, Instant};

use msgproc::{StopStep, prelude::*};
use testkit::{Test, test};

use crate::common::{SOON, Worker, WorkerCalls, at_once, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(gracefully_what_is_queued_is_finished),
        test!(urgently_after_the_running_handler),
        test!(urgently_an_idle_one_leaves_at_once),
        test!(by_sigterm),
        test!(by_sigkill),
        test!(a_suspended_one_is_killed),
        test!(a_handler_can_see_the_stop),
        test!(stopped_twice),
        test!(many_stop_at_the_same_time),
        test!(dropping_stops),
        test!(dropping_leaves_nothing),
        test!(calls_after_a_stop_are_refused),
        test!(a_thread_that_is_stuck_is_an_error),
    ]
}

const SHORT: Duration = Duration::from_millis(100);

fn steps() -> StopOptions {
    StopOptions::default().graceful(SHORT).urgent(SHORT).terminate(SHORT)
}

fn diary(name: &str) -> std::path::PathBuf {
    std::path::Path::new("/dev/shm").join(testkit::name(name))
}

fn with_diary(name: &str) -> (MessageProcess<Worker>, std::path::PathBuf) {
    let path = diary(name);
    let diary = path.clone();
    let worker = MessageProcess::fork(name, move |_: &Start| Worker {
        diary: Some(diary.clone()),
        ..Worker::default()
    });
    (worker.unwrap(), path)
}

/// Whether `post_run` has run; forgets it.
fn wrote(path: &std::path::Path) -> bool {
    std::fs::remove_file(path).is_ok()
}

fn gracefully_what_is_queued_is_finished() -> Result<()> {
    let (worker, path) = with_diary("graceful");
    let replies: Vec<_> = (0..50).map(|_| worker.sleep(1).send()).collect::<Result<_>>()?;
    let exit = worker.stop_with(&StopOptions::default())?;
    assert_eq!((exit.how, exit.stopped_by), (How::Code(0), Some(StopStep::Graceful)));
    for reply in replies {
        reply.wait()?;
    }
    assert!(wrote(&path));
    Ok(())
}

fn urgently_after_the_running_handler() -> Result<()> {
    let (worker, path) = with_diary("urgent");
    let first = worker.sleep(300).send()?;
    let second = worker.sleep(60_000).send()?;
    let exit = worker.stop_with(&steps().urgent(SOON))?;
    assert_eq!((exit.how, exit.stopped_by), (How::Code(0), Some(StopStep::Urgent)));
    first.wait()?;
    assert!(matches!(second.wait(), Err(Error::Stopped { .. })));
    assert!(wrote(&path));
    Ok(())
}

fn urgently_an_idle_one_leaves_at_once() -> Result<()> {
    let worker = worker("idle");
    let exit = at_once(|| worker.stop_with(&steps().graceful(Duration::ZERO).urgent(SOON)))?;
    assert_eq!(exit.stopped_by, Some(StopStep::Urgent));
    assert!(exit.is_clean());
    Ok(())
}

fn by_sigterm() -> Result<()> {
    let (worker, path) = with_diary("term");
    let reply = worker.spin().send()?;
    let exit = worker.stop_with(&steps())?;
    assert_eq!(exit.how, How::Signal { number: 15, core: false });
    assert_eq!(exit.stopped_by, Some(StopStep::Terminate));
    assert_eq!(exit.how.signal_name(), Some("SIGTERM"));
    assert!(matches!(reply.wait(), Err(Error::PeerDied { .. })));
    assert!(!wrote(&path));
    Ok(())
}

fn by_sigkill() -> Result<()> {
    let mut worker = MessageProcess::options("kill").stop_timeouts(steps()).fork(|_: &Start| {
        let set = nix::sys::signal::SigSet::all();
        set.thread_block().unwrap();
        Worker::default()
    })?;
    worker.spin().tell()?;
    let error = worker.stop().unwrap_err();
    let exit = error.exit().unwrap();
    assert_eq!(exit.how, How::Signal { number: 9, core: false });
    assert_eq!(exit.stopped_by, Some(StopStep::Kill));
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    Ok(())
}

fn a_suspended_one_is_killed() -> Result<()> {
    let worker = worker("suspended");
    testkit::signal(worker.pid(), 19);
    let exit = worker.stop_with(&steps())?;
    assert_eq!(exit.how, How::Signal { number: 9, core: false });
    Ok(())
}

fn a_handler_can_see_the_stop() -> Result<()> {
    let mut worker = worker("sees");
    let reply = worker.until_stopped().send()?;
    at_once(|| worker.stop())?;
    reply.wait()
}

fn stopped_twice() -> Result<()> {
    let mut worker = worker("twice");
    worker.stop()?;
    worker.stop()?;
    assert!(worker.exit().unwrap().is_clean());
    Ok(())
}

fn many_stop_at_the_same_time() -> Result<()> {
    let workers: Vec<_> = (0..8).map(|n| worker(&format!("many-{n}"))).collect();
    for worker in &workers {
        worker.sleep(200).tell()?;
    }
    let since = Instant::now();
    for worker in &workers {
        worker.request_stop()?;
    }
    for worker in &workers {
        let event = worker.next_event(SOON)?;
        assert!(matches!(event, Some(Event::Ended(exit)) if exit.is_clean()));
    }
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    Ok(())
}

fn dropping_stops() -> Result<()> {
    let (worker, path) = with_diary("dropped");
    let process = testkit::Process::observe(worker.pid()).unwrap();
    drop(worker);
    assert!(!process.alive());
    assert_eq!(testkit::state_of(process.pid()), None, "no zombie");
    assert!(wrote(&path));
    Ok(())
}

/// Also where the steps of its stop are too short to kill it, or are all left out.
fn dropping_leaves_nothing() -> Result<()> {
    let zero = Duration::ZERO;
    let none = StopOptions::default().graceful(zero).urgent(zero).terminate(zero);
    for kill in [zero, Duration::from_nanos(1)] {
        let options = MessageProcess::options("left").stop_timeouts(none.kill(kill));
        let worker = options.fork(|_| Ok::<_, Error>(Worker::default()))?;
        let pid = worker.pid();
        drop(worker);
        assert_eq!(testkit::state_of(pid), None, "no zombie");
    }
    Ok(())
}

fn calls_after_a_stop_are_refused() -> Result<()> {
    let mut worker = worker("refused");
    worker.stop()?;
    assert!(matches!(worker.ping("x".into()).tell(), Err(Error::Stopped { .. })));
    assert!(matches!(worker.ping("x".into()).wait(), Err(Error::Stopped { .. })));
    Ok(())
}

fn a_thread_that_is_stuck_is_an_error() -> Result<()> {
    let mut worker = MessageProcess::options("stuck")
        .stop_timeouts(steps().kill(SHORT))
        .thread(|_: &Start| Worker::default())?;
    let reply = worker.sleep(1500).send()?;
    let error = worker.stop().unwrap_err();
    assert!(matches!(&error, Error::TimedOut { busy: Some(_), .. }), "{error:?}");
    reply.wait()?;
    worker.stop()
}
