//! Processes and managers in a poll of the user's own.

use std::{
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use mio::{Events, Poll, unix::SourceFd};
use msgproc::prelude::*;
use testkit::{Test, test};

use crate::common::{SOON, Told, Worker, WorkerCalls, manager, next, nothing, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(two_processes_in_one_poll),
        test!(an_event_that_comes_while_a_reply_is_waited_for_fires),
        test!(a_reply_that_comes_while_another_is_waited_for_fires),
        test!(the_end_of_a_process_fires),
        test!(a_manager_in_a_poll),
        test!(a_manager_in_a_manager),
        test!(a_manager_is_send),
    ]
}

fn register(poll: &Poll, source: &impl AsRawFd, token: usize) -> Result<()> {
    let raw = source.as_raw_fd();
    let readable = mio::Interest::READABLE;
    Ok(poll.registry().register(&mut SourceFd(&raw), mio::Token(token), readable)?)
}

/// The tokens that fire within this time.
fn fired(poll: &mut Poll, timeout: Duration) -> Result<Vec<usize>> {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(timeout))?;
    let mut tokens: Vec<usize> = events.iter().map(|event| event.token().0).collect();
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

const QUIET: Duration = Duration::from_millis(30);

fn two_processes_in_one_poll() -> Result<()> {
    let mut poll = Poll::new()?;
    let workers = [worker("left"), worker("right")];
    for (token, worker) in workers.iter().enumerate() {
        register(&poll, worker, token)?;
    }
    assert!(fired(&mut poll, QUIET)?.is_empty());
    for (token, worker) in workers.iter().enumerate() {
        worker.say(1).tell()?;
        assert_eq!(fired(&mut poll, SOON)?, [token]);
        assert!(matches!(worker.try_event()?, Some(Event::Emitted(0))));
        assert!(worker.try_event()?.is_none());
        assert!(fired(&mut poll, QUIET)?.is_empty());
    }
    Ok(())
}

fn an_event_that_comes_while_a_reply_is_waited_for_fires() -> Result<()> {
    let mut poll = Poll::new()?;
    let (left, right) = (worker("left"), worker("right"));
    register(&poll, &left, 0)?;
    register(&poll, &right, 1)?;
    // Of the same process: whoever waits for the reply receives the event too.
    left.say(3).wait()?;
    assert_eq!(fired(&mut poll, SOON)?, [0]);
    for number in 0..3 {
        assert!(matches!(left.try_event()?, Some(Event::Emitted(said)) if said == number));
    }
    assert!(left.try_event()?.is_none());
    assert!(fired(&mut poll, QUIET)?.is_empty());

    // Of another process.
    right.say(1).tell()?;
    left.sleep_and_say(50).wait()?;
    assert_eq!(fired(&mut poll, SOON)?, [0, 1]);

    // Also where the poll has seen the wait's message before.
    let reply = left.sleep_and_say(1).send()?;
    let _ = fired(&mut poll, SOON)?;
    reply.wait()?;
    left.say(1).wait()?;
    assert_eq!(fired(&mut poll, SOON)?, [0]);
    Ok(())
}

fn a_reply_that_comes_while_another_is_waited_for_fires() -> Result<()> {
    let mut poll = Poll::new()?;
    let worker = worker("busy");
    register(&poll, &worker, 7)?;
    let mut first = worker.ping().send()?;
    worker.ping().wait()?;
    assert_eq!(fired(&mut poll, SOON)?, [7]);
    assert_eq!(first.try_take()?, Some(worker.pid()));
    Ok(())
}

fn the_end_of_a_process_fires() -> Result<()> {
    let mut poll = Poll::new()?;
    let worker = worker("short");
    register(&poll, &worker, 3)?;
    testkit::kill9(worker.pid());
    assert_eq!(fired(&mut poll, SOON)?, [3]);
    // The channel may close before the process is gone.
    let event = worker.next_event(SOON)?;
    assert!(matches!(event, Some(Event::Ended(_))), "{event:?}");
    Ok(())
}

fn a_manager_in_a_poll() -> Result<()> {
    let mut poll = Poll::new()?;
    let (mut manager, ids) = manager(2);
    register(&poll, &manager, 5)?;
    while manager.next(Duration::ZERO)?.is_some() {}
    // What was there before it was offered has been taken; nothing is left to tell.
    let _ = fired(&mut poll, QUIET)?;
    assert!(manager.next(Duration::ZERO)?.is_none());
    assert!(fired(&mut poll, QUIET)?.is_empty());

    // Each of them fires, though only one thing is taken at a time.
    manager[ids[0]].say(3).wait()?;
    manager[ids[1]].say(3).wait()?;
    for _ in 0..6 {
        assert_eq!(fired(&mut poll, SOON)?, [5]);
        assert!(matches!(manager.next(Duration::ZERO)?, Some(Told::Event { .. })));
    }
    let _ = fired(&mut poll, QUIET)?;
    assert!(manager.next(Duration::ZERO)?.is_none());

    // So do timers, descriptors and wakers.
    let since = Instant::now();
    manager.after(Duration::from_millis(20), Token(1))?;
    assert_eq!(fired(&mut poll, SOON)?, [5]);
    assert!(since.elapsed() >= Duration::from_millis(20));
    assert!(matches!(manager.next(Duration::ZERO)?, Some(Told::Timer(Token(1)))));
    let _ = fired(&mut poll, QUIET)?;
    assert!(manager.next(Duration::ZERO)?.is_none());
    manager.waker().wake();
    assert_eq!(fired(&mut poll, SOON)?, [5]);
    assert!(matches!(manager.next(Duration::ZERO)?, Some(Told::Woken)));
    Ok(())
}

fn a_manager_in_a_manager() -> Result<()> {
    let (mut outer, _) = manager(0);
    let (mut inner, ids) = manager(1);
    outer.watch(&inner, Interest::Readable, Token(1))?;
    inner[ids[0]].say(2).wait()?;
    let mut heard = 0;
    while heard < 2 {
        assert!(matches!(next(&mut outer), Told::Ready(Token(1))));
        while let Some(told) = inner.next(Duration::ZERO)? {
            assert!(matches!(told, Told::Event { .. }), "{told:?}");
            heard += 1;
        }
    }
    nothing(&mut outer);
    Ok(())
}

fn a_manager_is_send() {
    fn send<T: Send>() {}
    send::<Manager<Worker>>();
    send::<msgproc::manager::Waker>();
    send::<msgproc::manager::ManagerThread<()>>();
}
