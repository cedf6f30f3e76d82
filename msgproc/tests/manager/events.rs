//! What processes tell.

use std::time::{Duration, Instant};

use msgproc::{manager::Restart, prelude::*};
use testkit::{Test, test};

use crate::common::{
    QUIET, SOON, Told, Worker, WorkerCalls, died_in, manager, next, nothing, worker,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(each_worker_is_heard),
        test!(what_was_received_before_is_told_without_a_new_ring),
        test!(one_that_says_much_does_not_drown_the_others),
        test!(events_of_before_it_was_added),
        test!(a_reply_is_told_once),
        test!(a_failed_tell),
        test!(kill_9_is_told_at_once),
        test!(a_panic_is_told_with_its_text_and_stderr),
        test!(all_it_said_comes_before_its_end),
        test!(nothing_in_time),
        test!(ends_with_the_last_process),
        test!(an_end_that_somebody_else_took),
        test!(removed_and_stale),
        test!(many_lives_leave_nothing),
        test!(workers_inherit_nothing_of_the_manager),
    ]
}

fn each_worker_is_heard() -> Result<()> {
    let (mut manager, ids) = manager(5);
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(id.index(), index);
        manager[*id].say(1000).tell()?;
    }
    let mut heard = [0; 5];
    for _ in 0..5000 {
        match next(&mut manager) {
            Told::Event { process, event } => {
                assert_eq!(event, heard[process.index()], "in their order");
                heard[process.index()] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, [1000; 5]);
    nothing(&mut manager);
    Ok(())
}

fn what_was_received_before_is_told_without_a_new_ring() -> Result<()> {
    let (mut manager, ids) = manager(1);
    nothing(&mut manager);
    manager[ids[0]].say(100).wait()?;
    for number in 0..100 {
        let told = manager.next(SOON)?;
        assert!(matches!(told, Some(Told::Event { event, .. }) if event == number), "{told:?}");
    }
    nothing(&mut manager);
    Ok(())
}

fn one_that_says_much_does_not_drown_the_others() -> Result<()> {
    let (mut manager, ids) = manager(3);
    manager[ids[0]].say(5000).wait()?;
    manager[ids[1]].say(1).wait()?;
    manager.after(Duration::ZERO, Token(1))?;
    let mut quiet_one = None;
    let mut timer = None;
    let mut late_timer = None;
    for turn in 0..5003 {
        if turn == 100 {
            manager.after(Duration::ZERO, Token(2))?;
        }
        match next(&mut manager) {
            Told::Event { process, .. } if process == ids[1] => quiet_one = Some(turn),
            Told::Timer(Token(1)) => timer = Some(turn),
            Told::Timer(Token(2)) => late_timer = Some(turn),
            Told::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(late_timer.unwrap() < 120, "{late_timer:?}");
    assert!(quiet_one.unwrap() < 8, "{quiet_one:?}");
    assert!(timer.unwrap() < 8, "{timer:?}");
    Ok(())
}

fn events_of_before_it_was_added() -> Result<()> {
    let mut manager = Manager::new()?;
    let early = worker("early");
    early.say(2).wait()?;
    manager.add(early)?;
    for number in 0..2 {
        assert!(matches!(next(&mut manager), Told::Event { event, .. } if event == number));
    }
    nothing(&mut manager);
    Ok(())
}

fn a_reply_is_told_once() -> Result<()> {
    let (mut manager, ids) = manager(2);
    let mut reply = manager[ids[1]].ping().send()?;
    assert!(matches!(next(&mut manager), Told::Reply { process } if process == ids[1]));
    nothing(&mut manager);
    assert_eq!(reply.try_take()?, Some(manager[ids[1]].pid()));
    // One that was waited for is nobody's business.
    manager[ids[0]].ping().wait()?;
    nothing(&mut manager);
    Ok(())
}

fn a_failed_tell() -> Result<()> {
    let (mut manager, ids) = manager(2);
    manager[ids[1]].fail().tell()?;
    match next(&mut manager) {
        Told::Failed { process, error: Error::Failed { message, .. } } => {
            assert_eq!((process, &*message), (ids[1], "no film"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(manager.living(), 2);
    Ok(())
}

fn kill_9_is_told_at_once() -> Result<()> {
    let (mut manager, ids) = manager(3);
    nothing(&mut manager);
    let pid = manager[ids[1]].pid();
    let since = Instant::now();
    testkit::kill9(pid);
    match next(&mut manager) {
        Told::Ended { process, exit, restart } => {
            assert_eq!((process, exit.pid, restart), (ids[1], pid, Restart::No));
            assert_eq!(exit.how, How::Signal { number: 9, core: false });
        }
        other => panic!("{other:?}"),
    }
    assert!(since.elapsed() < Duration::from_millis(200), "{:?}", since.elapsed());
    assert_eq!(testkit::state_of(pid), None, "no zombie");
    assert_eq!((manager.living(), manager.len()), (2, 3));
    nothing(&mut manager);
    // The others go on.
    manager[ids[2]].say(1).tell()?;
    assert!(matches!(next(&mut manager), Told::Event { process, .. } if process == ids[2]));
    assert!(matches!(manager[ids[1]].ping().wait(), Err(Error::PeerDied { .. })));
    Ok(())
}

fn a_panic_is_told_with_its_text_and_stderr() -> Result<()> {
    let mut manager = Manager::new()?;
    let options = MessageProcess::<Worker>::options("panics").capture_stderr(1000);
    let id = manager.add(options.fork(|_: &Start| Worker)?)?;
    manager[id].panic("no film".into()).tell()?;
    match next(&mut manager) {
        Told::Failed { error: Error::Panicked { message, command, .. }, .. } => {
            assert_eq!((&*message, &*command), ("no film", "panic"));
        }
        other => panic!("{other:?}"),
    }
    match next(&mut manager) {
        Told::Ended { exit, .. } => {
            assert_eq!(exit.how, How::Code(101));
            assert!(exit.panic.unwrap().contains("no film"));
            assert!(exit.stderr.iter().any(|line| line == "about to panic"), "{:?}", exit.stderr);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn all_it_said_comes_before_its_end() -> Result<()> {
    let (mut manager, ids) = manager(1);
    manager[ids[0]].say(300).tell()?;
    manager[ids[0]].exit_with(7).tell()?;
    for number in 0..300 {
        assert!(matches!(next(&mut manager), Told::Event { event, .. } if event == number));
    }
    died_in(&mut manager, "exit_with");
    let told = next(&mut manager);
    assert!(matches!(&told, Told::Ended { exit, .. } if exit.how == How::Code(7)), "{told:?}");
    Ok(())
}

fn nothing_in_time() -> Result<()> {
    let (mut manager, _) = manager(1);
    let since = Instant::now();
    assert!(manager.next(QUIET)?.is_none());
    assert!(since.elapsed() >= QUIET);
    let since = Instant::now();
    assert!(manager.next(Duration::ZERO)?.is_none());
    assert!(since.elapsed() < QUIET, "{:?}", since.elapsed());
    Ok(())
}

fn ends_with_the_last_process() -> Result<()> {
    let (mut manager, ids) = manager(3);
    for id in &ids {
        manager[*id].leave().tell()?;
    }
    let mut ended = Vec::new();
    while let Some(told) = manager.next(None)? {
        match told {
            Told::Ended { process, exit, .. } if exit.is_clean() => ended.push(process),
            other => panic!("{other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, ids);
    assert_eq!(manager.living(), 0);
    Ok(())
}

fn an_end_that_somebody_else_took() -> Result<()> {
    let (mut manager, ids) = manager(2);
    manager[ids[0]].stop_with(&StopOptions::default())?;
    let told = next(&mut manager);
    assert!(
        matches!(&told, Told::Ended { process, exit, .. } if *process == ids[0] && exit.is_clean()),
        "{told:?}"
    );
    assert_eq!(manager.living(), 1);
    Ok(())
}

fn removed_and_stale() -> Result<()> {
    let (mut manager, ids) = manager(2);
    manager[ids[0]].say(1).wait()?;
    let removed = manager.remove(ids[0]).unwrap();
    assert!(manager.remove(ids[0]).is_none());
    assert!(manager.process(ids[0]).is_none());
    assert!(manager.restart(ids[0]).is_err());
    nothing(&mut manager);
    assert_eq!((manager.living(), manager.len()), (1, 1));
    // It goes on with its owner.
    assert!(matches!(removed.next_event(SOON)?, Some(Event::Emitted(0))));
    removed.ping().wait()?;

    let again = manager.add(removed)?;
    assert_eq!(again.index(), ids[0].index());
    assert_ne!(again, ids[0]);
    manager[again].say(1).tell()?;
    assert!(matches!(next(&mut manager), Told::Event { process, .. } if process == again));
    Ok(())
}

fn many_lives_leave_nothing() -> Result<()> {
    let round = || -> Result<()> {
        let (mut manager, ids) = manager(3);
        manager.handle_signals()?;
        manager.every(Duration::from_millis(1), Token(1))?;
        let (reader, _writer) = std::io::pipe()?;
        manager.watch(&reader, Interest::Readable, Token(2))?;
        manager[ids[0]].say(5).tell()?;
        testkit::kill9(manager[ids[1]].pid());
        while manager.living() == 3 {
            next(&mut manager);
        }
        Ok(())
    };
    // What is made once for the process is made here.
    round()?;
    let before = testkit::fd_count();
    for _ in 0..5 {
        round()?;
    }
    assert_eq!(testkit::fd_count(), before);
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    Ok(())
}

fn workers_inherit_nothing_of_the_manager() -> Result<()> {
    let bare = worker("bare").descriptors().wait()?;
    let (mut manager, _) = manager(3);
    manager.handle_signals()?;
    let (reader, writer) = std::io::pipe()?;
    manager.watch(&reader, Interest::Readable, Token(1))?;
    let last = manager.add(worker("last"))?;
    // Only the pipe of the test itself.
    assert_eq!(manager[last].descriptors().wait()?, bare + 2);
    drop((reader, writer));
    Ok(())
}
