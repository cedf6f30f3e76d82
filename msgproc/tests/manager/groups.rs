//! Processes that are started again together, and restarts that hold up nobody.

use std::time::{Duration, Instant};

use msgproc::{
    RestartBy, StopStep,
    manager::{Group, GroupId, Policy, ProcessId, Restart},
    prelude::*,
};
use testkit::{Test, test};

use crate::common::{
    QUIET, SOON, Told, Worker, WorkerCalls, died_in, next, nothing, short_steps, worker,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(one_for_one_leaves_the_others_alone),
        test!(one_for_all_comes_back_in_order),
        test!(rest_for_one_takes_those_that_came_after),
        test!(each_waits_until_the_one_before_is_ready),
        test!(a_member_that_does_not_leave_holds_up_nobody_else),
        test!(a_group_is_given_up_and_started_again),
        test!(a_start_that_takes_long_holds_up_nobody),
        test!(a_start_that_hangs_is_ended),
        test!(a_start_that_fails_says_why_and_leaves_in_order),
        test!(commands_wait_until_the_replacement_is_ready),
        test!(killed_while_it_starts),
        test!(one_that_dies_about_when_it_is_ready),
        test!(removed_while_it_starts),
        test!(stopped_while_it_starts),
        test!(told_to_stop_in_the_pause_or_while_it_starts),
        test!(stopped_while_a_group_comes_back),
        test!(the_constructor_is_told_whose_end_it_was),
        test!(rounds_leave_nothing),
    ]
}

fn permanent() -> Policy {
    Policy::permanent().at_most(100, Duration::from_secs(60))
}

fn group_of(group: Group, count: usize) -> (Manager<Worker>, GroupId, Vec<ProcessId>) {
    let mut manager = Manager::new().unwrap();
    let group = manager.add_group(group.at_most(100, Duration::from_secs(60)));
    let add = |n| manager.add_to(group, worker(&format!("member-{n}")), permanent()).unwrap();
    let ids: Vec<_> = (0..count).map(add).collect();
    assert_eq!(manager.members(group).collect::<Vec<_>>(), ids);
    (manager, group, ids)
}

/// What is told, in short: who ended, and who came back. Nothing else is told after it.
#[track_caller]
fn check(manager: &mut Manager<Worker>, expected: &[&str]) {
    for (number, expected) in expected.iter().enumerate() {
        let told = match next(manager) {
            Told::Ended { process, exit, .. } if exit.stopped_by.is_some() => {
                format!("stopped {}", process.index())
            }
            Told::Ended { process, .. } => format!("ended {}", process.index()),
            Told::Restarted { process } => format!("restarted {}", process.index()),
            Told::RestartFailed { process, .. } => format!("failed {}", process.index()),
            Told::GaveUp { .. } => "gave up".into(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, *expected, "number {number}");
    }
    nothing(manager);
}

fn one_for_one_leaves_the_others_alone() -> Result<()> {
    let (mut manager, group, ids) = group_of(Group::one_for_one(), 3);
    let pids = [0, 1, 2].map(|n| manager[ids[n]].pid());
    testkit::kill9(pids[1]);
    check(&mut manager, &["ended 1", "restarted 1"]);
    assert_eq!((manager[ids[0]].pid(), manager[ids[2]].pid()), (pids[0], pids[2]));
    assert_eq!(manager.group(ids[1]), Some(group));
    let alone = manager.add(worker("alone"))?;
    assert_eq!(manager.group(alone), None);
    Ok(())
}

fn one_for_all_comes_back_in_order() -> Result<()> {
    let (mut manager, _, ids) = group_of(Group::one_for_all(), 3);
    testkit::kill9(manager[ids[1]].pid());
    let expected =
        ["ended 1", "stopped 2", "stopped 0", "restarted 0", "restarted 1", "restarted 2"];
    check(&mut manager, &expected);
    for id in ids {
        assert_eq!(manager[id].ping().wait()?, manager[id].pid());
    }
    assert_eq!(manager.living(), 3);
    Ok(())
}

fn rest_for_one_takes_those_that_came_after() -> Result<()> {
    let (mut manager, _, ids) = group_of(Group::rest_for_one(), 4);
    let first = manager[ids[0]].pid();
    testkit::kill9(manager[ids[2]].pid());
    check(&mut manager, &["ended 2", "stopped 3", "restarted 2", "restarted 3"]);
    assert_eq!(manager[ids[0]].pid(), first);
    assert_eq!(manager[ids[1]].restarts(), 0);
    Ok(())
}

/// Takes this long to come back, and fails as often as it is told.
fn slow(name: &str, milliseconds: u64, failures: u32) -> MessageProcess<Worker> {
    let construct = move |start: &Start| {
        if start.restarts > 0 {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        match start.restarts {
            0 => Ok(Worker),
            number if number > failures => Ok(Worker),
            number => Err(format!("no camera at restart {number}")),
        }
    };
    MessageProcess::options(name).stop_timeouts(short_steps()).fork(construct).unwrap()
}

fn each_waits_until_the_one_before_is_ready() -> Result<()> {
    let mut manager = Manager::new()?;
    let group = manager.add_group(Group::one_for_all());
    let first = manager.add_to(group, slow("first", 300, 1), permanent())?;
    manager.add_to(group, worker("second"), permanent())?;
    testkit::kill9(manager[first].pid());
    // The first one's failed start begins a new round, in which nobody is up who could be stopped.
    let expected = ["ended 0", "stopped 1", "failed 0", "restarted 0", "restarted 1"];
    check(&mut manager, &expected);
    Ok(())
}

fn a_member_that_does_not_leave_holds_up_nobody_else() -> Result<()> {
    let mut manager = Manager::new()?;
    let group = manager.add_group(Group::one_for_all());
    let dies = manager.add_to(group, worker("dies"), permanent())?;
    let stuck = MessageProcess::options("stuck").stop_timeouts(short_steps());
    let stuck = manager.add_to(group, stuck.fork(|_: &Start| Worker)?, permanent())?;
    manager[stuck].deafen().wait()?;
    manager[stuck].spin().tell()?;
    let other = manager.add(worker("other"))?;
    testkit::kill9(manager[dies].pid());
    assert!(matches!(next(&mut manager), Told::Ended { process, .. } if process == dies));

    // Its three steps take 300 ms; what others say is told meanwhile.
    let since = Instant::now();
    manager[other].say(5).tell()?;
    for number in 0..5 {
        assert!(matches!(next(&mut manager), Told::Event { event, .. } if event == number));
    }
    assert!(since.elapsed() < Duration::from_millis(200), "{:?}", since.elapsed());
    died_in(&mut manager, "spin");
    match next(&mut manager) {
        Told::Ended { process, exit, restart } => {
            assert_eq!((process, exit.stopped_by), (stuck, Some(StopStep::Kill)));
            assert!(matches!(restart, Restart::After(_)));
        }
        other => panic!("{other:?}"),
    }
    check(&mut manager, &["restarted 0", "restarted 1"]);
    Ok(())
}

fn a_group_is_given_up_and_started_again() -> Result<()> {
    let mut manager = Manager::new()?;
    let group = manager.add_group(Group::rest_for_one().at_most(1, Duration::from_secs(60)));
    let ids = (0..3).map(|n| manager.add_to(group, worker(&format!("m-{n}")), permanent()));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    testkit::kill9(manager[ids[2]].pid());
    check(&mut manager, &["ended 2", "restarted 2"]);
    testkit::kill9(manager[ids[1]].pid());
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::GivenUp, .. }));
    // The first one is stopped too, though nothing hangs on the one that ended.
    for index in [2, 0] {
        match next(&mut manager) {
            Told::Ended { process, exit, restart: Restart::GivenUp } => {
                assert_eq!((process.index(), exit.how), (index, How::Code(0)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(next(&mut manager), Told::GaveUp { group: told } if told == group));
    assert!(manager.next(None)?.is_none(), "nothing lives");

    manager.restart_group(group)?;
    check(&mut manager, &["restarted 0", "restarted 1", "restarted 2"]);
    // All of them live: they are stopped first.
    manager.restart_group(group)?;
    let expected =
        ["stopped 2", "stopped 1", "stopped 0", "restarted 0", "restarted 1", "restarted 2"];
    check(&mut manager, &expected);
    assert!(Manager::<Worker>::new()?.restart_group(group).is_err());
    Ok(())
}

fn a_start_that_takes_long_holds_up_nobody() -> Result<()> {
    let mut manager = Manager::new()?;
    let slow = manager.add_with(slow("slow", 500, 0), permanent())?;
    let other = manager.add(worker("other"))?;
    testkit::kill9(manager[slow].pid());
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    let since = Instant::now();
    manager.every(Duration::from_millis(20), Token(1))?;
    let mut ticks = 0;
    loop {
        manager[other].say(1).wait()?;
        match next(&mut manager) {
            Told::Timer(_) => ticks += 1,
            Told::Restarted { process } => {
                assert_eq!(process, slow);
                break;
            }
            Told::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(since.elapsed() >= Duration::from_millis(450), "{:?}", since.elapsed());
    assert!(ticks > 5, "{ticks}");
    Ok(())
}

fn a_start_that_hangs_is_ended() -> Result<()> {
    let mut manager = Manager::new()?;
    let limit = Duration::from_millis(200);
    let process = MessageProcess::options("hangs").start_timeout(limit).fork(|start: &Start| {
        if start.restarts == 1 {
            std::thread::sleep(3 * SOON);
        }
        Worker
    })?;
    let id = manager.add_with(process, permanent())?;
    testkit::kill9(manager[id].pid());
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    nothing(&mut manager);
    let hanging = manager[id].pid();
    match next(&mut manager) {
        Told::RestartFailed { process, error, restart: Restart::After(_) } => {
            assert_eq!(process, id);
            let text = error.to_string();
            assert!(text.contains("become ready") && text.contains("its constructor"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(testkit::state_of(hanging), None);
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    assert_eq!(manager[id].restarts(), 2);
    assert_eq!(manager[id].ping().wait()?, manager[id].pid());
    Ok(())
}

/// A backend whose `pre_run` fails after a restart, and that cleans up.
struct Fails {
    restarts: u32,
}

#[backend(event = String)]
impl Fails {
    fn pre_run(&mut self, ctx: &mut Context<String>) -> Result<()> {
        if self.restarts != 1 {
            return Ok(());
        }
        ctx.emit("I fail".into())?;
        Err("no film".into())
    }

    fn post_run(&mut self, ctx: &mut Context<String>) {
        if self.restarts == 1 {
            std::thread::sleep(Duration::from_millis(100));
            let _ = ctx.emit("cleaned up".into());
        }
    }
}

fn a_start_that_fails_says_why_and_leaves_in_order() -> Result<()> {
    let mut manager = Manager::new()?;
    let fails = MessageProcess::fork("fails", |start: &Start| Fails { restarts: start.restarts })?;
    let id = manager.add_with(fails, permanent())?;
    testkit::kill9(manager[id].pid());
    let mut told = Vec::new();
    loop {
        match manager.next(SOON)?.expect("something happens") {
            Happening::Ended { .. } => told.push("ended".to_owned()),
            Happening::Event { event, .. } => told.push(event),
            Happening::RestartFailed { error, .. } => told.push(error.to_string()),
            Happening::Restarted { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let failed = "process \"fails\" failed before its loop, in pre_run: no film";
    assert_eq!(told, ["ended", "I fail", "cleaned up", failed]);
    Ok(())
}

fn commands_wait_until_the_replacement_is_ready() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add_with(slow("slow", 200, 0), permanent())?;
    testkit::kill9(manager[id].pid());
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    nothing(&mut manager);
    manager[id].say(1).tell()?;
    let reply = manager[id].ping().send()?;
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    assert!(matches!(next(&mut manager), Told::Event { event: 0, .. }));
    assert!(matches!(next(&mut manager), Told::Reply { .. }));
    assert_eq!(reply.wait()?, manager[id].pid());
    Ok(())
}

fn killed_while_it_starts() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add_with(slow("slow", 300, 0), permanent())?;
    testkit::kill9(manager[id].pid());
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    nothing(&mut manager);
    testkit::kill9(manager[id].pid());
    match next(&mut manager) {
        Told::RestartFailed { error: Error::PeerDied { exit, .. }, .. } => {
            assert_eq!(exit.how, How::Signal { number: 9, core: false });
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    assert_eq!((manager[id].restarts(), manager.living()), (2, 1));
    Ok(())
}

/// Whenever it dies, each start is told of once, as one that failed or with an end behind it.
fn one_that_dies_about_when_it_is_ready() -> Result<()> {
    let make = |start: &Start| {
        if start.restart().is_some() {
            // About as long as it takes that its frontend looks.
            let lives = Duration::from_micros(u64::from(std::process::id() % 300));
            let since = Instant::now();
            while since.elapsed() < lives {}
            testkit::kill9(std::process::id());
        }
        Worker
    };
    let mut manager = Manager::new()?;
    let policy = Policy::permanent().at_most(100_000, Duration::from_secs(1));
    let id = manager.add_with(MessageProcess::fork("brief", make)?, policy)?;
    testkit::kill9(manager[id].pid());
    let mut is_up = true;
    let mut starts = 0;
    while starts < 2000 {
        match manager.next(Duration::from_micros(20))? {
            Some(Happening::Ended { .. }) => assert!(std::mem::take(&mut is_up), "at {starts}"),
            Some(Happening::RestartFailed { error: Error::PeerDied { .. }, .. }) => {
                assert!(!is_up, "at {starts}");
                starts += 1;
            }
            Some(Happening::Restarted { .. }) => {
                assert!(!std::mem::replace(&mut is_up, true), "at {starts}");
                starts += 1;
            }
            None => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

fn removed_while_it_starts() -> Result<()> {
    for failures in [0, 1] {
        let mut manager = Manager::new()?;
        let id = manager.add_with(slow("slow", 150, failures), permanent())?;
        testkit::kill9(manager[id].pid());
        assert!(matches!(next(&mut manager), Told::Ended { .. }));
        nothing(&mut manager);
        let process = manager.remove(id).unwrap();
        assert!(manager.next(None)?.is_none());
        if failures == 0 {
            assert_eq!(process.ping().wait()?, process.pid());
            assert!(process.try_event()?.is_none());
            let mut fd = [shmring::os::PollFd::readable(std::os::fd::AsFd::as_fd(&process))];
            assert_eq!(shmring::os::poll(&mut fd, Some(QUIET)).unwrap(), 0, "nothing to take");
        } else {
            match process.next_event(SOON)? {
                Some(Event::Failed(error)) => assert!(error.to_string().contains("no camera")),
                other => panic!("{other:?}"),
            }
            assert!(matches!(process.next_event(SOON)?, Some(Event::Ended(_))));
        }
    }
    Ok(())
}

fn stopped_while_it_starts() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add_with(slow("slow", 10_000, 0), permanent())?;
    testkit::kill9(manager[id].pid());
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    nothing(&mut manager);
    let since = Instant::now();
    let report = manager.stop();
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(report[0].1.as_ref().unwrap().stopped_by, Some(StopStep::Terminate));
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::No, .. }));
    assert!(manager.next(None)?.is_none());
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    Ok(())
}

fn told_to_stop_in_the_pause_or_while_it_starts() -> Result<()> {
    let mut manager = Manager::new()?;
    let policy = permanent().backoff(Duration::from_millis(200));
    let paused = manager.add_with(slow("paused", 0, 0), policy)?;
    testkit::kill9(manager[paused].pid());
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::After(_), .. }));
    manager[paused].request_stop()?;
    match next(&mut manager) {
        Told::RestartFailed { error: Error::Stopped { .. }, restart: Restart::No, .. } => {}
        other => panic!("{other:?}"),
    }
    // By hand it is started again.
    manager.restart(paused)?;
    assert_eq!(manager[paused].ping().wait()?, manager[paused].pid());
    let starting = manager.add_with(slow("starting", 10_000, 0), policy)?;
    testkit::kill9(manager[starting].pid());
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::After(_), .. }));
    let began = Instant::now();
    while manager[starting].exit().is_some() && began.elapsed() < SOON {
        assert!(manager.next(Some(Duration::from_millis(5)))?.is_none());
    }
    manager[starting].request_stop()?;
    testkit::kill9(manager[starting].pid());
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::No, .. }));
    nothing(&mut manager);
    Ok(())
}

fn stopped_while_a_group_comes_back() -> Result<()> {
    // After each number of happenings of a round.
    for after in 0..6 {
        let (mut manager, _, ids) = group_of(Group::one_for_all(), 3);
        testkit::kill9(manager[ids[0]].pid());
        for _ in 0..after {
            next(&mut manager);
        }
        for (_, exit) in manager.stop() {
            exit?;
        }
        assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
        while let Some(told) = manager.next(None)? {
            assert!(!matches!(told, Told::RestartFailed { .. } | Told::GaveUp { .. }), "{told:?}");
        }
        assert_eq!(manager.living(), 0);
    }
    Ok(())
}

struct Knows {
    by: Option<RestartBy>,
}

#[backend]
impl Knows {
    fn c__by(&self) -> Option<RestartBy> {
        self.by.clone()
    }
}

fn the_constructor_is_told_whose_end_it_was() -> Result<()> {
    let mut manager = Manager::new()?;
    let group = manager.add_group(Group::rest_for_one());
    let mut add = |name| {
        let construct = |start: &Start| Knows { by: start.restart().map(|cause| cause.by.clone()) };
        manager.add_to(group, MessageProcess::fork(name, construct)?, permanent())
    };
    let ids = [add("camera")?, add("viewer")?];
    assert_eq!(manager[ids[0]].by().wait()?, None);
    let both_come_back = |manager: &mut Manager<Knows>| -> Result<()> {
        let mut back = 0;
        while back < 2 {
            let told = manager.next(SOON)?.expect("they come back");
            back += usize::from(matches!(told, Happening::Restarted { .. }));
        }
        Ok(())
    };
    testkit::kill9(manager[ids[0]].pid());
    both_come_back(&mut manager)?;
    assert_eq!(manager[ids[0]].by().wait()?, Some(RestartBy::Policy));
    let because_of = "camera".into();
    assert_eq!(manager[ids[1]].by().wait()?, Some(RestartBy::Group { because_of }));
    manager.restart_group(group)?;
    both_come_back(&mut manager)?;
    assert_eq!(manager[ids[0]].by().wait()?, Some(RestartBy::Caller));
    Ok(())
}

fn rounds_leave_nothing() -> Result<()> {
    let (mut manager, _, ids) = group_of(Group::one_for_all(), 3);
    nothing(&mut manager);
    let before = testkit::fd_count();
    for round in 0..6 {
        testkit::kill9(manager[ids[round % 3]].pid());
        let mut back = 0;
        while back < 3 {
            back += usize::from(matches!(next(&mut manager), Told::Restarted { .. }));
        }
    }
    assert_eq!(testkit::fd_count(), before);
    assert_eq!(testkit::children_of(std::process::id()).len(), 3);
    Ok(())
}
