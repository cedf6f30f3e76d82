//! Handlers that run too long: who they are, and what is done about them.

use std::time::{Duration, Instant};

use msgproc::{
    OnTimeout, Options,
    manager::{Policy, Restart},
    prelude::*,
};
use testkit::{Test, test};

use crate::common::{QUIET, SOON, Told, Worker, WorkerCalls, next, nothing, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(who_is_stuck),
        test!(one_that_runs_too_long_is_reported_once),
        test!(one_that_runs_too_long_is_killed_and_replaced),
        test!(each_command_may_have_its_own_limit),
        test!(short_handlers_are_left_alone),
        test!(without_a_manager),
        test!(a_limit_for_a_command_that_is_not_there),
        test!(a_thread_is_only_reported),
        test!(an_error_says_where_in_the_kernel),
    ]
}

const LIMIT: Duration = Duration::from_millis(200);

fn options(name: &str) -> Options<Worker> {
    MessageProcess::options(name).handler_timeout(LIMIT)
}

/// Checks that something took the limit, and not much more.
#[track_caller]
fn in_time(since: Instant) {
    let took = since.elapsed();
    assert!(took >= LIMIT && took < LIMIT * 4, "{took:?}");
}

fn who_is_stuck() -> Result<()> {
    let mut manager = Manager::new()?;
    let names = ["idle", "sleeps", "spins"];
    let ids = names.map(|name| manager.add(worker(name)).unwrap());
    assert_eq!(manager.stuck(Duration::ZERO), []);
    manager[ids[1]].sleep(60_000).tell()?;
    manager[ids[2]].spin().tell()?;
    assert!(testkit::wait_until(SOON, || manager.stuck(QUIET).len() == 2));
    let stuck = manager.stuck(QUIET);
    assert_eq!([stuck[0].0, stuck[1].0], [ids[1], ids[2]]);
    let (sleeps, spins) = (&stuck[0].1, &stuck[1].1);
    assert_eq!([&sleeps.with[..], &spins.with], ["c__sleep", "c__spin"]);
    assert!(sleeps.since > QUIET && sleeps.since < SOON, "{sleeps:?}");
    let kernel = sleeps.kernel.as_ref().unwrap();
    assert_eq!(kernel.state, Some('S'));
    // What is to be seen of it depends on the kernel's settings.
    if let Some(function) = &kernel.waits_in {
        assert!(function.contains("sleep"), "{function}");
    }
    assert_eq!(spins.kernel.as_ref().unwrap().state, Some('R'));
    assert_eq!(manager.stuck(SOON), []);
    for id in &ids[1..] {
        testkit::kill9(manager[*id].pid());
    }
    assert!(testkit::wait_until(SOON, || manager.stuck(Duration::ZERO).is_empty()));
    Ok(())
}

#[track_caller]
fn overdue(manager: &mut Manager<Worker>, handler: &str) {
    match next(manager) {
        Told::Failed { error: Error::Overdue { busy, limit, .. }, .. } => {
            assert_eq!((&busy.with[..], limit), (handler, LIMIT));
            assert!(busy.since >= LIMIT && busy.kernel.is_some(), "{busy:?}");
        }
        other => panic!("{other:?}"),
    }
}

fn one_that_runs_too_long_is_reported_once() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add(options("slow").fork(|_: &Start| Worker)?)?;
    nothing(&mut manager);
    for _ in 0..2 {
        let since = Instant::now();
        manager[id].sleep_and_say(600).tell()?;
        overdue(&mut manager, "c__sleep_and_say");
        in_time(since);
        // It runs on, and that is not told again.
        assert!(matches!(next(&mut manager), Told::Event { event: 600, .. }));
        nothing(&mut manager);
    }
    Ok(())
}

fn one_that_runs_too_long_is_killed_and_replaced() -> Result<()> {
    let mut manager = Manager::new()?;
    let process = options("spins").on_timeout(OnTimeout::Kill).fork(|start: &Start| {
        let overdue = start.restart().and_then(|cause| cause.exit.overdue.clone());
        match (start.restarts, overdue) {
            (0, None) => Ok(Worker),
            (_, Some(busy)) if busy.with == "c__spin" => Ok(Worker),
            other => Err(format!("{other:?}")),
        }
    })?;
    let id = manager.add_with(process, Policy::transient())?;
    let other = manager.add(worker("other"))?;
    let pids = [manager[id].pid(), manager[other].pid()];
    let since = Instant::now();
    let reply = manager[id].spin().send()?;
    match next(&mut manager) {
        Told::Ended { process, exit, restart } => {
            in_time(since);
            assert_eq!((process, restart), (id, Restart::After(Duration::ZERO)));
            assert_eq!((exit.how, exit.stopped_by), (How::Signal { number: 9, core: false }, None));
            let busy = exit.overdue.as_ref().unwrap();
            assert!(busy.since >= LIMIT, "{busy:?}");
            let text = exit.to_string();
            assert!(text.contains("SIGKILL), because it had been in c__spin for"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let error = reply.wait().unwrap_err();
    assert!(error.exit().unwrap().overdue.is_some(), "{error:?}");
    assert!(matches!(next(&mut manager), Told::Restarted { process } if process == id));
    assert_ne!(manager[id].pid(), pids[0]);
    assert_eq!(manager[other].pid(), pids[1]);
    // The next one is looked after, too.
    let since = Instant::now();
    manager[id].spin().tell()?;
    assert!(matches!(next(&mut manager), Told::Failed { error: Error::Undelivered { .. }, .. }));
    assert!(matches!(next(&mut manager), Told::Ended { exit, .. } if exit.overdue.is_some()));
    in_time(since);
    Ok(())
}

fn each_command_may_have_its_own_limit() -> Result<()> {
    let mut manager = Manager::new()?;
    let options = MessageProcess::options("own");
    let options = options.handler_timeout(Duration::from_secs(60)).command_timeout("sleep", LIMIT);
    let id = manager.add(options.fork(|_: &Start| Worker)?)?;
    // This one may take longer, and the one after it is not seen later for that.
    let told = Instant::now();
    manager[id].sleep_and_say(500).tell()?;
    manager[id].sleep(600).tell()?;
    assert!(matches!(next(&mut manager), Told::Event { event: 500, .. }));
    overdue(&mut manager, "c__sleep");
    // It began when the first had slept, before its event was here.
    in_time(told + Duration::from_millis(500));
    Ok(())
}

fn short_handlers_are_left_alone() -> Result<()> {
    let mut manager = Manager::new()?;
    let process = options("short").on_timeout(OnTimeout::Kill).fork(|_: &Start| Worker)?;
    let id = manager.add(process)?;
    let since = Instant::now();
    // Busy all the time, with one handler after the other.
    let mut said = 0;
    while since.elapsed() < LIMIT * 5 {
        manager[id].sleep_and_say(20).tell()?;
        assert!(matches!(next(&mut manager), Told::Event { event: 20, .. }));
        said += 1;
    }
    assert!(said > 5);
    nothing(&mut manager);
    assert!(manager[id].is_alive());
    Ok(())
}

fn without_a_manager() -> Result<()> {
    let process = options("alone").fork(|_: &Start| Worker)?;
    let since = Instant::now();
    process.sleep(500).tell()?;
    match process.next_event(SOON)? {
        Some(Event::Failed(Error::Overdue { busy, .. })) => assert_eq!(busy.with, "c__sleep"),
        other => panic!("{other:?}"),
    }
    in_time(since);

    let process = options("alone").on_timeout(OnTimeout::Kill).fork(|_: &Start| Worker)?;
    let since = Instant::now();
    let error = process.spin().wait().unwrap_err();
    in_time(since);
    assert!(error.to_string().contains("because it had been in c__spin"), "{error}");
    Ok(())
}

fn a_limit_for_a_command_that_is_not_there() {
    let options = options("typo").command_timeout("slepe", LIMIT);
    let error = options.fork(|_: &Start| Worker).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownCommand { command, .. } if command == "slepe"),
        "{error:?}"
    );
}

fn a_thread_is_only_reported() -> Result<()> {
    let process = options("thread").on_timeout(OnTimeout::Kill).thread(|_: &Start| Worker)?;
    process.sleep(500).tell()?;
    match process.next_event(SOON)? {
        Some(Event::Failed(Error::Overdue { busy, .. })) => assert_eq!(busy.kernel, None),
        other => panic!("{other:?}"),
    }
    assert!(process.ping().wait()? > 0);
    Ok(())
}

fn an_error_says_where_in_the_kernel() -> Result<()> {
    let process = worker("sleeps");
    let error = process.sleep(1000).wait_timeout(LIMIT).unwrap_err();
    let Error::TimedOut { busy: Some(busy), .. } = &error else { panic!("{error:?}") };
    assert_eq!(busy.kernel.as_ref().unwrap().state, Some('S'));
    let text = error.to_string();
    assert!(text.contains("in c__sleep for ") && text.contains("(sleeping"), "{text}");
    process.stop_with(&StopOptions::default().graceful(Duration::ZERO))?;
    Ok(())
}
