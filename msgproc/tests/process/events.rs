//! Events, descriptors and timers of the backend, and the one descriptor of the frontend.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use msgproc::prelude::*;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use shmring::os::{self, PollFd};
use testkit::{Test, test};

use crate::common::{SOON, Said, Worker, WorkerCalls, next, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(events_come_in_order),
        test!(no_event_is_no_error),
        test!(own_descriptors_are_watched_beside_the_commands),
        test!(timers_tick),
        test!(a_failing_timer_is_reported),
        test!(the_descriptor_is_readable_while_there_is_something),
        test!(waiting_for_a_reply_swallows_no_event),
        test!(an_edge_triggered_poll_misses_nothing),
        test!(the_end_comes_last_and_once),
    ]
}

fn is_readable(process: &MessageProcess<Worker>) -> bool {
    let mut fds = [PollFd::readable(process.as_fd())];
    os::poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
}

fn events_come_in_order() -> Result<()> {
    let mut worker = worker("events");
    worker.say(100).wait()?;
    for n in 0..100 {
        assert_eq!(next(&worker), Said::Number(n));
    }
    worker.say(5).tell()?;
    worker.stop()?;
    for n in 0..5 {
        assert!(matches!(worker.try_event()?, Some(Event::Emitted(Said::Number(m))) if m == n));
    }
    Ok(())
}

fn no_event_is_no_error() -> Result<()> {
    let mut worker = worker("silent");
    assert!(worker.try_event()?.is_none());
    let since = Instant::now();
    assert!(worker.next_event(Duration::from_millis(50))?.is_none());
    assert!(since.elapsed() >= Duration::from_millis(50));
    worker.stop()
}

fn own_descriptors_are_watched_beside_the_commands() -> Result<()> {
    let mut worker = worker("watch");
    let (reading, mut writing) = std::io::pipe()?;
    worker.watch(OwnedFd::from(reading).into()).wait()?;
    for text in ["one", "two"] {
        writing.write_all(text.as_bytes())?;
        assert_eq!(next(&worker), Said::Read(text.into()));
        assert_eq!(worker.count().wait()?, 0);
    }
    assert!(worker.unwatch().wait()?);
    assert!(!worker.unwatch().wait()?);
    writing.write_all(b"three")?;
    assert!(worker.next_event(Duration::from_millis(50))?.is_none());
    worker.stop()
}

fn timers_tick() -> Result<()> {
    let mut worker = worker("timers");
    let since = Instant::now();
    worker.after(30, 1).wait()?;
    worker.after(10, 2).wait()?;
    assert_eq!(next(&worker), Said::Tick(2));
    assert_eq!(next(&worker), Said::Tick(1));
    assert!(since.elapsed() >= Duration::from_millis(30));
    worker.every(5, 3).wait()?;
    for _ in 0..4 {
        assert_eq!(next(&worker), Said::Tick(3));
    }
    assert_eq!(worker.ping("beside".into()).wait()?, "beside 1");
    assert!(worker.cancel_timer(3).wait()?);
    while worker.try_event()?.is_some() {}
    assert!(worker.next_event(Duration::from_millis(50))?.is_none());
    worker.stop()
}

fn a_failing_timer_is_reported() -> Result<()> {
    let mut worker = worker("bad-timer");
    worker.after(1, 13).wait()?;
    match worker.next_event(SOON)? {
        Some(Event::Failed(Error::Failed { command, message, .. })) => {
            assert_eq!((&command[..], &message[..]), ("on_timer", "a bad number"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.count().wait()?, 0);
    worker.stop()
}

fn the_descriptor_is_readable_while_there_is_something() -> Result<()> {
    let mut worker = worker("readable");
    assert!(!is_readable(&worker));
    worker.say(2).wait()?;
    assert!(is_readable(&worker), "two events were received by that wait");
    next(&worker);
    assert!(is_readable(&worker));
    next(&worker);
    assert!(!is_readable(&worker));

    let (first, second) = (worker.ping("a".into()).send()?, worker.ping("b".into()).send()?);
    assert_eq!(second.wait()?, "b 2");
    assert!(is_readable(&worker), "the first reply is there");
    assert_eq!(first.wait()?, "a 1");
    assert!(!is_readable(&worker));

    let kept = worker.ping("c".into()).send()?;
    worker.count().wait()?;
    assert!(is_readable(&worker));
    drop(kept);
    assert!(!is_readable(&worker));
    worker.stop()?;
    assert!(!is_readable(&worker), "an end that was waited for is no news");
    Ok(())
}

fn waiting_for_a_reply_swallows_no_event() -> Result<()> {
    let mut worker = worker("swallow");
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    epoll.add(&worker, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
    let mut events = [EpollEvent::empty(); 4];
    for _ in 0..20 {
        let reply = worker.sleep(1).send()?;
        worker.say(1).tell()?;
        worker.count().wait()?;
        assert_eq!(epoll.wait(&mut events, EpollTimeout::from(10_000u16)).unwrap(), 1);
        reply.wait()?;
        assert_eq!(epoll.wait(&mut events, EpollTimeout::from(10_000u16)).unwrap(), 1);
        assert_eq!(next(&worker), Said::Number(0));
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO).unwrap(), 0);
    }
    worker.stop()
}

fn an_edge_triggered_poll_misses_nothing() -> Result<()> {
    let mut worker = worker("edge");
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    epoll.add(&worker, EpollEvent::new(flags, 7)).unwrap();
    let mut events = [EpollEvent::empty(); 4];
    for round in 0..200 {
        worker.say(1).tell()?;
        if round % 2 == 0 {
            worker.count().wait()?;
        }
        assert_eq!(epoll.wait(&mut events, EpollTimeout::from(10_000u16)).unwrap(), 1, "{round}");
        let mut taken = 0;
        while let Some(event) = worker.try_event()? {
            assert_eq!(event.emitted(), Some(Said::Number(0)));
            taken += 1;
        }
        assert_eq!(taken, 1);
    }
    // It is done with all of them, not only with saying something.
    worker.count().wait()?;
    testkit::kill9(worker.pid());
    assert_eq!(epoll.wait(&mut events, EpollTimeout::from(10_000u16)).unwrap(), 1);
    assert!(matches!(worker.next_event(SOON)?, Some(Event::Ended(_))));
    let _ = worker.stop();
    Ok(())
}

fn the_end_comes_last_and_once() -> Result<()> {
    let worker = worker("end");
    // Long enough that the last call is on its way before the backend leaves.
    worker.sleep(200).tell()?;
    worker.say(3).tell()?;
    worker.leave().tell()?;
    let mut reply = worker.count().send()?;
    for n in 0..3 {
        assert_eq!(next(&worker), Said::Number(n));
    }
    assert!(matches!(worker.next_event(SOON)?, Some(Event::Ended(exit)) if exit.is_clean()));
    assert!(!is_readable(&worker), "and then the descriptor is quiet");
    let after = worker.next_event(SOON);
    assert!(matches!(&after, Err(Error::PeerDied { .. })), "{after:?}");
    assert!(matches!(reply.try_take(), Err(Error::PeerDied { .. })));
    assert!(reply.is_ready());
    Ok(())
}
