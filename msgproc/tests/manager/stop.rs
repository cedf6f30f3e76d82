//! Stopping all at the same time.

use std::time::{Duration, Instant};

use msgproc::{StopStep, manager::Restart, prelude::*};
use testkit::{Test, test};

use crate::common::{Told, Worker, WorkerCalls, died_in, manager, next, nothing, short_steps};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(eight_at_the_same_time),
        test!(a_stuck_one_does_not_hold_up_the_others),
        test!(one_that_takes_no_messages_does_not_hold_up_the_others),
        test!(what_they_say_meanwhile_is_told_afterwards),
        test!(the_report_names_all),
        test!(ctrl_c_again_makes_it_urgent),
        test!(a_thread_that_is_stuck_is_in_the_report),
        test!(dropping_stops),
    ]
}

fn patient(name: &str) -> MessageProcess<Worker> {
    let options = MessageProcess::options(name).stop_timeouts(short_steps());
    options.fork(|_: &Start| Worker).unwrap()
}

fn eight_at_the_same_time() -> Result<()> {
    let (mut manager, ids) = manager(8);
    for id in &ids {
        manager[*id].sleep_and_say(300).tell()?;
    }
    let since = Instant::now();
    let report = manager.stop();
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    assert_eq!(report.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    for (_, exit) in report {
        let exit = exit?;
        assert_eq!((exit.how, exit.stopped_by), (How::Code(0), Some(StopStep::Graceful)));
    }
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    Ok(())
}

fn a_stuck_one_does_not_hold_up_the_others() -> Result<()> {
    let mut manager = Manager::new()?;
    let workers = (0..8).map(|n| manager.add(patient(&format!("w-{n}"))));
    let ids: Vec<_> = workers.collect::<Result<_>>()?;
    manager[ids[3]].spin().tell()?;
    manager[ids[5]].deafen().wait()?;
    manager[ids[5]].spin().tell()?;
    let since = Instant::now();
    let report = manager.stop();
    // Three steps of 100 ms and the kill.
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    for (id, exit) in report {
        let (how, step) = match id.index() {
            3 => (How::Signal { number: 15, core: false }, StopStep::Terminate),
            5 => (How::Signal { number: 9, core: false }, StopStep::Kill),
            _ => (How::Code(0), StopStep::Graceful),
        };
        let exit = exit?;
        assert_eq!((exit.how, exit.stopped_by), (how, Some(step)), "{id:?}");
    }
    Ok(())
}

fn one_that_takes_no_messages_does_not_hold_up_the_others() -> Result<()> {
    let mut manager = Manager::new()?;
    let full = manager.add(patient("full"))?;
    let free = manager.add(patient("free"))?;
    manager[full].spin().tell()?;
    let told = (0..1_000_000).find(|_| manager[full].ping().try_tell().is_err());
    assert!(told.is_some(), "the channel is full some day");
    let since = Instant::now();
    let report = manager.stop();
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    let step = |index: usize| report[index].1.as_ref().unwrap().stopped_by;
    assert_eq!(step(full.index()), Some(StopStep::Terminate));
    assert_eq!(step(free.index()), Some(StopStep::Graceful));

    // One that reads again takes the message then.
    let late = manager.add(MessageProcess::fork("late", |_: &Start| Worker)?)?;
    manager[late].sleep(200).tell()?;
    let told = (0..1_000_000).find(|_| manager[late].ping().try_tell().is_err());
    assert!(told.is_some());
    let report = manager.stop();
    let exit = report[late.index()].1.as_ref().unwrap();
    assert_eq!((exit.how, exit.stopped_by), (How::Code(0), Some(StopStep::Graceful)));
    Ok(())
}

fn what_they_say_meanwhile_is_told_afterwards() -> Result<()> {
    let (mut manager, ids) = manager(2);
    for id in &ids {
        manager[*id].sleep_and_say(50).tell()?;
        manager[*id].say(10).tell()?;
    }
    manager.stop();
    let mut events = [0; 2];
    let mut ended = 0;
    while let Some(told) = manager.next(None)? {
        match told {
            Told::Event { process, .. } => events[process.index()] += 1,
            Told::Ended { process, exit, restart: Restart::No } => {
                assert_eq!(events[process.index()], 11, "its end comes last");
                assert!(exit.is_clean());
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((events, ended), ([11, 11], 2));
    Ok(())
}

fn the_report_names_all() -> Result<()> {
    let (mut manager, ids) = manager(3);
    manager[ids[1]].exit_with(4).tell()?;
    died_in(&mut manager, "exit_with");
    assert!(matches!(next(&mut manager), Told::Ended { .. }));
    for _ in 0..2 {
        let report = manager.stop();
        let codes: Vec<How> = report.into_iter().map(|(_, exit)| exit.unwrap().how).collect();
        assert_eq!(codes, [How::Code(0), How::Code(4), How::Code(0)]);
    }
    Ok(())
}

fn ctrl_c_again_makes_it_urgent() -> Result<()> {
    let (mut manager, ids) = manager(2);
    manager.handle_signals()?;
    // Four seconds of work, in small pieces.
    for _ in 0..80 {
        manager[ids[0]].sleep_and_say(50).tell()?;
    }
    testkit::signal(std::process::id(), 2);
    // The program was told once, and the second comes while it stops.
    while !matches!(next(&mut manager), Told::Signal(_)) {}
    let mut user = impatient_user(Duration::from_millis(300));
    let since = Instant::now();
    let report = manager.stop();
    assert!(since.elapsed() >= Duration::from_millis(200), "{:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    let exit = report[0].1.as_ref().unwrap();
    assert_eq!((exit.how, exit.stopped_by), (How::Code(0), Some(StopStep::Urgent)));
    user.wait()?;
    Ok(())
}

/// Somebody at the terminal, who presses Ctrl-C after a while.
fn impatient_user(after: Duration) -> std::process::Child {
    #![allow(clippy::disallowed_methods)] // Not one of our processes.
    let script = format!("sleep {}; kill -INT {}", after.as_secs_f64(), std::process::id());
    std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap()
}

fn a_thread_that_is_stuck_is_in_the_report() -> Result<()> {
    let short = Duration::from_millis(50);
    let mut manager = Manager::new()?;
    let steps = short_steps().kill(short);
    let options = MessageProcess::options("thread").stop_timeouts(steps);
    let id = manager.add(options.thread(|_: &Start| Worker)?)?;
    manager[id].sleep_and_say(800).tell()?;
    let report = manager.stop();
    assert!(matches!(&report[0].1, Err(Error::TimedOut { busy: Some(_), .. })), "{report:?}");
    std::thread::sleep(Duration::from_millis(800));
    assert!(manager.stop()[0].1.as_ref().unwrap().is_clean());
    Ok(())
}

fn dropping_stops() -> Result<()> {
    let (mut manager, ids) = manager(3);
    manager[ids[0]].say(1).tell()?;
    assert!(matches!(next(&mut manager), Told::Event { .. }));
    nothing(&mut manager);
    drop(manager);
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    Ok(())
}
