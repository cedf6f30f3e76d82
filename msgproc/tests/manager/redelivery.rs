//! What a process has not handled goes to its replacement, without anybody's doing.

use std::time::Duration;

use msgproc::{
    How, Undelivered,
    manager::{Policy, ProcessId, Restart},
    prelude::*,
};
use testkit::{Test, test};

use crate::common::{QUIET, SOON, Told, Worker, WorkerCalls, next, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_replacement_gets_what_was_left),
        test!(much_is_sent_as_the_replacement_takes_it),
        test!(one_that_is_given_up_lets_them_fail),
        test!(a_stop_lets_them_fail),
        test!(a_start_by_hand_that_fails_lets_them_fail),
        test!(lost_tells_are_told_before_the_end),
    ]
}

fn one(policy: Policy) -> (Manager<Worker>, ProcessId) {
    let mut manager = Manager::new().unwrap();
    let process = MessageProcess::options("one")
        .undelivered(Undelivered::AtLeastOnce { attempts: 2 })
        .fork(|_: &Start| Worker)
        .unwrap();
    let id = manager.add_with(process, policy).unwrap();
    (manager, id)
}

fn the_replacement_gets_what_was_left() -> Result<()> {
    let backoff = Duration::from_millis(100);
    let (mut manager, id) = one(Policy::permanent().backoff(backoff));
    manager[id].sleep_and_say(300).tell()?;
    let mut reply = manager[id].ping().send()?;
    assert!(testkit::wait_until(SOON, || manager[id].busy().is_some()));
    let first = manager[id].pid();
    testkit::kill9(first);
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::After(_), .. }));
    assert!(reply.try_take()?.is_none() && !reply.is_ready());
    assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    assert!(matches!(next(&mut manager), Told::Event { event: 300, .. }));
    assert!(matches!(next(&mut manager), Told::Reply { .. }));
    let pid = reply.try_take()?.expect("it was told");
    assert!(pid == manager[id].pid() && pid != first);
    Ok(())
}

fn much_is_sent_as_the_replacement_takes_it() -> Result<()> {
    const COUNT: u64 = 2000;
    let (mut manager, id) = one(Policy::permanent());
    testkit::signal(manager[id].pid(), nix::sys::signal::Signal::SIGSTOP as i32);
    let mut sent = 0;
    while manager[id].say(1).try_tell().is_ok() {
        sent += 1;
    }
    assert!((100..COUNT).contains(&sent), "{sent}");
    testkit::kill9(manager[id].pid());
    // All of it arrives by the turning of this loop alone, also what had no room at once.
    let mut said = 0;
    while said < sent {
        match next(&mut manager) {
            Told::Ended { .. } | Told::Restarted { .. } => {}
            Told::Event { event: 0, .. } => said += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(manager.next(QUIET)?.is_none());
    Ok(())
}

fn one_that_is_given_up_lets_them_fail() -> Result<()> {
    let (mut manager, id) = one(Policy::permanent().at_most(1, Duration::from_secs(60)));
    manager[id].sleep(200).tell()?;
    manager[id].exit_with(3).tell()?;
    let mut reply = manager[id].ping().send()?;
    manager[id].say(1).tell()?;
    for _ in 0..1 {
        assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::After(_), .. }));
        assert!(matches!(next(&mut manager), Told::Restarted { .. }));
    }
    // The second attempt is the last: it fails by itself. What waits fails as nobody comes.
    let mut lost = Vec::new();
    let mut ended = false;
    while let Some(told) = manager.next(None)? {
        match told {
            Told::Failed { error: Error::Undelivered { command, begun, .. }, .. } => {
                lost.push((command, begun, ended));
            }
            Told::Ended { restart: Restart::GivenUp, .. } => ended = true,
            other => panic!("{other:?}"),
        }
        if ended && lost.len() == 2 {
            break;
        }
    }
    assert_eq!(lost, [("exit_with".into(), true, false), ("say".into(), false, true)]);
    assert!(matches!(reply.try_take(), Err(Error::PeerDied { .. })));
    Ok(())
}

fn a_stop_lets_them_fail() -> Result<()> {
    let (mut manager, id) = one(Policy::permanent().backoff(Duration::from_secs(60)));
    manager[id].sleep(100).tell()?;
    manager[id].exit_with(3).tell()?;
    manager[id].say(1).tell()?;
    let mut reply = manager[id].ping().send()?;
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    assert!(manager.next(QUIET)?.is_none());
    assert_eq!(manager[id].busy(), None);
    let late = reply.wait_timeout(QUIET).unwrap_err();
    assert_eq!(late.exit().unwrap().how, How::Code(3));
    let text = late.to_string();
    assert!(text.starts_with("process \"one\" did not answer ping within "), "{text}");
    assert!(text.contains("has ended, and was not replaced yet: exit code 3"), "{text}");
    manager.stop();
    for expected in ["exit_with", "say"] {
        match next(&mut manager) {
            Told::Failed { error: Error::Undelivered { command, .. }, .. } => {
                assert_eq!(command, expected);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn a_start_by_hand_that_fails_lets_them_fail() -> Result<()> {
    let mut manager = Manager::new()?;
    let comes_once = |start: &Start| match start.restarts {
        0 => Ok(Worker),
        _ => Err("no camera"),
    };
    let process = MessageProcess::options("one")
        .undelivered(Undelivered::AtLeastOnce { attempts: 2 })
        .fork(comes_once)?;
    let id = manager.add_with(process, Policy::permanent().backoff(Duration::from_secs(60)))?;
    manager[id].exit_with(3).tell()?;
    let mut reply = manager[id].ping().send()?;
    assert!(matches!(next(&mut manager), Told::Ended { restart: Restart::After(_), .. }));
    assert!(matches!(manager.restart(id), Err(Error::PreRun { .. })));
    match next(&mut manager) {
        Told::Failed { error: Error::Undelivered { command, .. }, .. } => {
            assert_eq!(command, "exit_with");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(reply.wait_timeout(SOON), Err(Error::PeerDied { .. })));
    Ok(())
}

fn lost_tells_are_told_before_the_end() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add(worker("one"))?;
    manager[id].sleep(100).tell()?;
    manager[id].exit_with(3).tell()?;
    manager[id].say(1).tell()?;
    let mut lost = Vec::new();
    loop {
        match next(&mut manager) {
            Told::Failed { error, process } => {
                assert_eq!(process, id);
                lost.push(error.to_string());
            }
            Told::Ended { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let pid = manager[id].pid();
    let text = |command, when| {
        format!("{command} is lost: process \"one\" (pid {pid}) ended {when}: exit code 3")
    };
    assert_eq!(lost, [text("exit_with", "while it ran"), text("say", "before it began")]);
    Ok(())
}
