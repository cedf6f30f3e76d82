//! Processes that end are started again, or not.

use std::time::{Duration, Instant};

use msgproc::{
    manager::{Policy, ProcessId, Restart},
    prelude::*,
};
use testkit::{Test, test};

use crate::common::{SOON, Told, Worker, WorkerCalls, next, nothing, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_killed_one_comes_back),
        test!(one_that_left_in_order_stays_away),
        test!(always_means_always),
        test!(too_often_is_given_up),
        test!(a_pause_before_it_comes_back),
        test!(a_restart_that_fails),
        test!(one_that_was_told_to_stop_stays_away),
        test!(restarted_by_hand),
        test!(removed_while_a_restart_is_planned),
        test!(restarted_by_hand_while_a_restart_is_planned),
        test!(restarts_leave_nothing),
    ]
}

fn one(policy: Policy) -> (Manager<Worker>, ProcessId) {
    let mut manager = Manager::new().unwrap();
    let id = manager.add_with(worker("one"), policy).unwrap();
    (manager, id)
}

#[track_caller]
fn ended(manager: &mut Manager<Worker>) -> (How, Restart) {
    match next(manager) {
        Told::Ended { exit, restart, .. } => (exit.how, restart),
        other => panic!("{other:?}"),
    }
}

const AT_ONCE: Restart = Restart::After(Duration::ZERO);
const KILLED: How = How::Signal { number: 9, core: false };

fn a_killed_one_comes_back() -> Result<()> {
    let (mut manager, id) = one(Policy::transient());
    let first = manager[id].pid();
    testkit::kill9(first);
    assert_eq!(ended(&mut manager), (KILLED, AT_ONCE));
    assert_eq!(manager.living(), 0);
    assert!(matches!(next(&mut manager), Told::Restarted { process } if process == id));
    assert_eq!(manager.living(), 1);
    assert_ne!(manager[id].pid(), first);
    assert_eq!(manager[id].restarts(), 1);

    // It is in the poll again, with its events and its end.
    manager[id].say(2).tell()?;
    for number in 0..2 {
        assert!(matches!(next(&mut manager), Told::Event { event, .. } if event == number));
    }
    nothing(&mut manager);
    testkit::kill9(manager[id].pid());
    assert_eq!(ended(&mut manager), (KILLED, AT_ONCE));
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    Ok(())
}

fn one_that_left_in_order_stays_away() -> Result<()> {
    let (mut manager, id) = one(Policy::transient());
    manager[id].leave().tell()?;
    assert_eq!(ended(&mut manager), (How::Code(0), Restart::No));
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn always_means_always() -> Result<()> {
    let (mut manager, id) = one(Policy::permanent());
    manager[id].leave().tell()?;
    assert_eq!(ended(&mut manager), (How::Code(0), AT_ONCE));
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    manager[id].ping().wait()?;
    Ok(())
}

fn too_often_is_given_up() -> Result<()> {
    let (mut manager, id) = one(Policy::transient().at_most(2, Duration::from_secs(60)));
    for _ in 0..2 {
        manager[id].exit_with(3).tell()?;
        assert_eq!(ended(&mut manager), (How::Code(3), AT_ONCE));
        assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    }
    manager[id].exit_with(3).tell()?;
    assert_eq!(ended(&mut manager), (How::Code(3), Restart::GivenUp));
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn a_pause_before_it_comes_back() -> Result<()> {
    let pause = Duration::from_millis(150);
    let (mut manager, id) = one(Policy::transient().backoff(pause));
    testkit::kill9(manager[id].pid());
    assert_eq!(ended(&mut manager), (KILLED, Restart::After(pause)));
    let since = Instant::now();
    // A planned restart is something to wait for.
    assert!(matches!(manager.next(None)?, Some(Told::Restarted { .. })));
    assert!(since.elapsed() >= Duration::from_millis(140), "{:?}", since.elapsed());
    Ok(())
}

fn a_restart_that_fails() -> Result<()> {
    let mut manager = Manager::new()?;
    let process = MessageProcess::fork("once", |start: &Start| match start.restarts {
        0 => Ok(Worker),
        number => Err(format!("no camera at restart {number}")),
    })?;
    let policy = Policy::transient().at_most(2, Duration::from_secs(60));
    let id = manager.add_with(process, policy)?;
    testkit::kill9(manager[id].pid());
    assert_eq!(ended(&mut manager), (KILLED, AT_ONCE));
    for (number, then) in [(1, AT_ONCE), (2, Restart::GivenUp)] {
        match next(&mut manager) {
            Told::RestartFailed { process, error, restart } => {
                assert_eq!((process, restart), (id, then));
                let text = error.to_string();
                assert!(text.contains(&format!("no camera at restart {number}")), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn one_that_was_told_to_stop_stays_away() -> Result<()> {
    let (mut manager, id) = one(Policy::permanent());
    manager[id].request_stop()?;
    assert_eq!(ended(&mut manager), (How::Code(0), Restart::No));

    // Also one that had died before the stop, when nobody knew.
    let (mut manager, id) = one(Policy::permanent());
    let pid = manager[id].pid();
    testkit::kill9(pid);
    assert!(testkit::wait_until(SOON, || testkit::state_of(pid) == Some('Z')));
    let report = manager.stop();
    assert_eq!(report[0].1.as_ref().unwrap().stopped_by, None);
    assert_eq!(report[0].1.as_ref().unwrap().how, KILLED);
    assert_eq!(ended(&mut manager), (KILLED, Restart::No));
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn restarted_by_hand() -> Result<()> {
    let (mut manager, id) = one(Policy::temporary());
    let first = manager[id].pid();
    manager[id].say(3).wait()?;
    manager.restart(id)?;
    assert_ne!(manager[id].pid(), first);
    assert_eq!(testkit::state_of(first), None);
    // What the old one said is gone with it.
    nothing(&mut manager);
    manager.stop();
    assert_eq!(ended(&mut manager), (How::Code(0), Restart::No));
    manager.restart(id)?;
    manager[id].say(1).tell()?;
    assert!(matches!(next(&mut manager), Told::Event { event: 0, .. }));
    assert_eq!(manager.living(), 1);
    Ok(())
}

fn removed_while_a_restart_is_planned() -> Result<()> {
    for pause in [0, 20] {
        let (mut manager, id) = one(Policy::permanent().backoff(Duration::from_millis(pause)));
        testkit::kill9(manager[id].pid());
        ended(&mut manager);
        assert!(manager.remove(id).is_some());
        // The next one in this place has nothing to do with it.
        let next = manager.add(worker("next"))?;
        assert_eq!(next.index(), id.index());
        nothing(&mut manager);
        assert_eq!(manager[next].restarts(), 0);
        manager.remove(next);
        assert!(manager.next(None)?.is_none());
    }
    Ok(())
}

fn restarted_by_hand_while_a_restart_is_planned() -> Result<()> {
    for pause in [0, 20] {
        let (mut manager, id) = one(Policy::permanent().backoff(Duration::from_millis(pause)));
        testkit::kill9(manager[id].pid());
        ended(&mut manager);
        manager.restart(id)?;
        nothing(&mut manager);
        assert_eq!((manager[id].restarts(), manager.living()), (1, 1));
    }
    Ok(())
}

fn restarts_leave_nothing() -> Result<()> {
    let (mut manager, id) = one(Policy::permanent().at_most(100, Duration::from_secs(60)));
    nothing(&mut manager);
    let before = testkit::fd_count();
    for _ in 0..10 {
        testkit::kill9(manager[id].pid());
        ended(&mut manager);
        next(&mut manager);
    }
    assert_eq!(testkit::fd_count(), before);
    assert_eq!(testkit::children_of(std::process::id()), [manager[id].pid()]);
    Ok(())
}
