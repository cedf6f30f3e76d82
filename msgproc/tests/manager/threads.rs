//! A manager that runs on a thread.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use msgproc::{manager::Policy, prelude::*};
use testkit::{Test, test};

use crate::common::{SOON, Told, Worker, WorkerCalls, manager, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(runs_until_it_is_stopped),
        test!(returns_by_itself),
        test!(its_error_and_its_panic_come_out),
        test!(dropping_stops),
        test!(a_restart_fails_and_says_why),
        test!(signals_reach_it),
        test!(events_are_told_while_others_wait_for_replies),
    ]
}

/// What a program's loop looks like, on whichever thread it runs.
fn work(manager: &mut Manager<Worker>, heard: &mpsc::Sender<u64>) -> Result<usize> {
    let ids: Vec<_> = manager.iter().map(|(id, _)| id).collect();
    for id in ids {
        manager[id].say(1).tell()?;
    }
    loop {
        match manager.next(SOON)? {
            Some(Told::Event { process, event }) => {
                let _ = heard.send(event);
                manager[process].sleep_and_say(1).tell()?;
            }
            Some(Told::Stop) => break,
            Some(_) => {}
            None => return Err("nothing happens".into()),
        }
    }
    assert!(manager.is_stopping());
    Ok(manager.stop().into_iter().filter(|(_, exit)| exit.is_ok()).count())
}

fn runs_until_it_is_stopped() -> Result<()> {
    let (manager, _) = manager(3);
    let (sender, heard) = mpsc::channel();
    let thread = manager.run_on_thread(move |manager| work(manager, &sender))?;
    assert_eq!(heard.iter().take(20).count(), 20);
    assert!(!thread.is_finished());
    let since = Instant::now();
    thread.stop();
    assert_eq!(thread.join()?, 3);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    // The thread is gone, so this may fork again.
    worker("again").ping().wait()?;
    Ok(())
}

fn returns_by_itself() -> Result<()> {
    let (manager, _) = manager(1);
    let thread = manager.run_on_thread(|manager| Ok(manager.len()))?;
    assert!(testkit::wait_until(SOON, || thread.is_finished()));
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(thread.join()?, 1);
    Ok(())
}

fn its_error_and_its_panic_come_out() -> Result<()> {
    let (failing, _) = manager(1);
    let (panicking, _) = manager(1);
    let failing = failing.run_on_thread(|_| Err::<(), _>("no film".into()))?;
    assert_eq!(failing.join().unwrap_err().to_string(), "no film");
    let panicking = panicking
        .run_on_thread(|manager| -> Result<()> { panic!("lost {} workers", manager.len()) })?;
    let error = panicking.join().unwrap_err().to_string();
    assert!(error.contains("panicked: lost 1 workers"), "{error}");
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    Ok(())
}

fn dropping_stops() -> Result<()> {
    let (manager, _) = manager(2);
    let (sender, heard) = mpsc::channel();
    let thread = manager.run_on_thread(move |manager| work(manager, &sender))?;
    heard.recv().unwrap();
    drop(thread);
    assert_eq!(testkit::children_of(std::process::id()), [] as [u32; 0]);
    assert_eq!(testkit::thread_count(), 1);
    Ok(())
}

fn a_restart_fails_and_says_why() -> Result<()> {
    let mut manager = Manager::new()?;
    let id = manager.add_with(worker("lost"), Policy::permanent())?;
    let pid = manager[id].pid();
    let thread = manager.run_on_thread(move |manager| {
        testkit::kill9(pid);
        let mut told = Vec::new();
        while let Some(happening) = manager.next(Duration::from_millis(300))? {
            told.push(happening);
        }
        Ok(told)
    })?;
    let told = thread.join()?;
    assert!(
        matches!(
            &told[..],
            [Told::Ended { .. }, Told::RestartFailed { error: Error::MultiThreaded { threads: 2, .. }, restart, .. }]
                if *restart == msgproc::manager::Restart::GivenUp
        ),
        "{told:?}"
    );
    Ok(())
}

fn signals_reach_it() -> Result<()> {
    let (mut manager, _) = manager(1);
    manager.handle_signals()?;
    let thread = manager.run_on_thread(|manager| {
        let told = manager.next(SOON)?;
        Ok(matches!(told, Some(Told::Signal(_))))
    })?;
    testkit::signal(std::process::id(), 15);
    assert!(thread.join()?);
    Ok(())
}

fn events_are_told_while_others_wait_for_replies() -> Result<()> {
    let (mut manager, ids) = manager(1);
    let (calls, waiting) = mpsc::channel::<msgproc::Call<()>>();
    let waiter = thread::spawn(move || waiting.into_iter().try_for_each(msgproc::Call::wait));
    for round in 0..3000 {
        calls.send(manager[ids[0]].say_later(round)).unwrap();
        loop {
            match manager.next(SOON)? {
                Some(Told::Event { event, .. }) => break assert_eq!(event, round as u64),
                Some(Told::Reply { .. }) => {} // which the other takes
                other => panic!("{other:?} in round {round}"),
            }
        }
    }
    drop(calls);
    waiter.join().unwrap()
}
