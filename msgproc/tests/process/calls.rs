//! Commands and what comes of them.

use std::time::Duration;

use msgproc::{OnPanic, OnTimeout, prelude::*};
use nix::sys::resource::{UsageWho, getrusage};
use testkit::{Test, test};

use crate::common::{SOON, Worker, WorkerCalls, at_once, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(smoke),
        test!(tell_wait_send),
        test!(replies_in_any_order),
        test!(dropped_replies_leave_nothing),
        test!(errors_are_values),
        test!(panics_are_values_and_end_the_backend),
        test!(panics_may_be_survived),
        test!(unknown_commands_and_bad_arguments_are_answered),
        test!(a_wrong_result_type_is_an_error),
        test!(deadlines_say_what_it_is_doing),
        test!(cancelled_calls_do_not_run),
        test!(a_running_call_sees_that_it_is_cancelled),
        test!(handles_outlive_the_frontend),
        test!(handles_work_on_other_threads),
        test!(the_same_on_a_thread),
        test!(time_limits_without_end_are_none),
        test!(time_limits_of_nothing_are_over_at_once),
    ]
}

fn smoke() -> Result<()> {
    let mut worker = worker("smoke");
    assert_ne!(worker.process_id().wait()?, std::process::id());
    assert_eq!(worker.ping("gotcha!".into()).wait()?, "gotcha! 1");
    assert!(worker.is_alive() && worker.exit().is_none());
    worker.stop()?;
    assert!(!worker.is_alive() && worker.exit().unwrap().is_clean());
    Ok(())
}

fn tell_wait_send() -> Result<()> {
    let mut worker = worker("calls");
    worker.ping("a".into()).tell()?;
    worker.ping("b".into()).try_tell()?;
    let mut reply = worker.ping("c".into()).send()?;
    assert!(testkit::wait_until(SOON, || reply.is_ready()));
    assert_eq!(reply.try_take()?.unwrap(), "c 3");
    assert!(reply.try_take().is_err(), "a result is taken once");
    let mut slow = worker.sleep(100).send()?;
    assert!(!slow.is_ready());
    assert_eq!(slow.try_take()?, None);
    assert!(matches!(slow.wait_timeout(Duration::from_millis(5)), Err(Error::TimedOut { .. })));
    slow.wait()?;
    worker.stop()
}

fn replies_in_any_order() -> Result<()> {
    let mut worker = worker("order");
    let replies: Vec<_> =
        (0..50).map(|n| worker.ping(n.to_string()).send()).collect::<Result<_>>()?;
    for (n, reply) in replies.into_iter().enumerate().rev() {
        assert_eq!(reply.wait()?, format!("{n} {}", n + 1));
    }
    worker.stop()
}

fn dropped_replies_leave_nothing() -> Result<()> {
    let mut worker = worker("dropped");
    for _ in 0..100 {
        drop(worker.ping("x".into()).send()?);
    }
    assert_eq!(worker.count().wait()?, 100);
    let ready = [shmring::os::PollFd::readable(std::os::fd::AsFd::as_fd(&worker))];
    let mut ready = ready;
    assert_eq!(shmring::os::poll(&mut ready, Some(Duration::ZERO)).unwrap(), 0);
    worker.stop()
}

fn errors_are_values() -> Result<()> {
    let mut worker = worker("errors");
    let error = worker.fail("open the door".into()).wait().unwrap_err();
    let Error::Failed { process, command, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&process[..], &command[..]), ("errors", "fail"));
    assert_eq!(message, "cannot open the door: no such thing");
    assert_eq!(error.trace().unwrap().chain, ["no such thing"]);
    assert_eq!(worker.ping("still here".into()).wait()?, "still here 1");
    worker.fail("be seen".into()).tell()?;
    match worker.next_event(SOON)?.unwrap() {
        Event::Failed(Error::Failed { command, message, .. }) => {
            assert_eq!(command, "fail");
            assert_eq!(message, "cannot be seen: no such thing");
        }
        other => panic!("{other:?}"),
    }
    worker.stop()
}

fn panics_are_values_and_end_the_backend() -> Result<()> {
    let mut worker = worker("panics");
    let error = worker.panic("no film".into()).wait().unwrap_err();
    let Error::Panicked { command, message, trace, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&command[..], &message[..]), ("panic", "no film"));
    assert!(trace.location.as_ref().unwrap().contains("common.rs"), "{trace:?}");
    assert!(trace.backtrace.as_ref().unwrap().contains("c__panic"), "{trace:?}");
    assert!(error.to_string().contains("no film, at "), "{error}");
    match worker.next_event(SOON)? {
        Some(Event::Ended(exit)) => {
            assert_eq!(exit.how, How::Code(101));
            assert!(exit.panic.unwrap().starts_with("no film ("));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(worker.ping("x".into()).wait(), Err(Error::PeerDied { .. })));
    assert!(matches!(worker.stop(), Err(Error::PeerDied { .. })));
    Ok(())
}

fn panics_may_be_survived() -> Result<()> {
    let mut worker = MessageProcess::options("survivor")
        .on_panic(OnPanic::Continue)
        .fork(|_: &Start| Worker::default())?;
    assert!(matches!(worker.panic("a".into()).wait(), Err(Error::Panicked { .. })));
    worker.panic("b".into()).tell()?;
    assert_eq!(worker.ping("alive".into()).wait()?, "alive 1");
    assert!(matches!(worker.try_event()?, Some(Event::Failed(Error::Panicked { .. }))));
    worker.stop()
}

fn unknown_commands_and_bad_arguments_are_answered() -> Result<()> {
    let mut worker = worker("wrong");
    let error = worker.call::<_, u8>("pong", ()).wait().unwrap_err();
    assert!(
        matches!(&error, Error::UnknownCommand { command, .. } if command == "pong"),
        "{error:?}"
    );
    let error = worker.call::<_, String>("ping", ()).wait().unwrap_err();
    assert!(
        matches!(&error, Error::BadArguments { command, .. } if command == "ping"),
        "{error:?}"
    );
    let error = worker.call::<_, String>("ping", ("a", "b")).wait().unwrap_err();
    assert!(matches!(error, Error::BadArguments { .. }), "{error:?}");
    let error = worker.call::<_, String>("ping", (vec![0xffu8, 0xfe],)).wait().unwrap_err();
    assert!(matches!(error, Error::BadArguments { .. }), "{error:?}");
    worker.call::<_, ()>("pong", ()).tell()?;
    assert_eq!(worker.ping("fine".into()).wait()?, "fine 1");
    assert!(matches!(worker.try_event()?, Some(Event::Failed(Error::UnknownCommand { .. }))));
    worker.stop()
}

fn a_wrong_result_type_is_an_error() -> Result<()> {
    let mut worker = worker("wrong-result");
    let result = worker.call::<_, (String, u64)>("ping", ("x",)).wait();
    assert!(matches!(result, Err(Error::BadReply { .. })), "{result:?}");
    let result = worker.call::<_, ()>("ping", ("x",)).wait();
    assert!(matches!(result, Err(Error::BadReply { .. })), "bytes are left over: {result:?}");
    worker.stop()
}

fn deadlines_say_what_it_is_doing() -> Result<()> {
    let mut worker = worker("slow");
    assert_eq!(worker.busy(), None);
    let error = worker.sleep(400).wait_timeout(Duration::from_millis(50)).unwrap_err();
    let Error::TimedOut { after, busy, .. } = &error else { panic!("{error:?}") };
    assert!(*after >= Duration::from_millis(50));
    let busy = busy.as_ref().unwrap();
    assert_eq!(busy.with, "c__sleep");
    assert!(busy.since <= Duration::from_secs(1), "{busy:?}");
    assert_eq!(worker.count().wait()?, 1, "the handler ran on");
    worker.stop()
}

fn cancelled_calls_do_not_run() -> Result<()> {
    let mut worker = worker("cancel");
    let slow = worker.sleep(100).send()?;
    worker.ping("never".into()).send()?.cancel();
    slow.wait()?;
    assert_eq!(worker.count().wait()?, 1);
    worker.stop()
}

fn a_running_call_sees_that_it_is_cancelled() -> Result<()> {
    let mut worker = worker("cancel-running");
    let reply = worker.until_cancelled().send()?;
    assert!(testkit::wait_until(SOON, || worker.busy().is_some()));
    reply.cancel();
    assert_eq!(worker.count().wait_timeout(SOON)?, 1);
    worker.stop()
}

fn handles_outlive_the_frontend() -> Result<()> {
    let worker = worker("short");
    let reply = worker.ping("x".into()).send()?;
    let call = worker.ping("y".into());
    drop(worker);
    assert_eq!(reply.wait()?, "x 1", "the stop finished what was queued");
    assert!(matches!(call.wait(), Err(Error::Stopped { .. })));
    Ok(())
}

fn handles_work_on_other_threads() -> Result<()> {
    let mut worker = worker("threads");
    let slow = worker.sleep(200).send()?;
    let waiter = std::thread::spawn(move || slow.wait());
    std::thread::sleep(Duration::from_millis(20));
    // Whoever polls receives for both.
    let quick: Vec<_> =
        (0..20).map(|n| worker.ping(n.to_string()).send()).collect::<Result<_>>()?;
    let waiters: Vec<_> =
        quick.into_iter().map(|reply| std::thread::spawn(move || reply.wait())).collect();
    for (n, waiter) in waiters.into_iter().enumerate() {
        assert_eq!(waiter.join().unwrap()?, format!("{n} {}", n + 2));
    }
    waiter.join().unwrap()?;
    worker.stop()
}

fn the_same_on_a_thread() -> Result<()> {
    let mut worker = MessageProcess::thread("debug", |_: &Start| Worker::default())?;
    assert_eq!(worker.process_id().wait()?, std::process::id());
    assert_eq!(worker.ping("a".into()).wait()?, "a 1");
    assert!(matches!(worker.fail("x".into()).wait(), Err(Error::Failed { .. })));
    worker.say(3).wait()?;
    for n in 0..3 {
        assert_eq!(crate::common::next(&worker), crate::common::Said::Number(n));
    }
    at_once(|| worker.stop())?;
    assert!(worker.exit().unwrap().is_clean());

    let mut worker = MessageProcess::thread("debug-2", |_: &Start| Worker::default())?;
    assert!(matches!(worker.panic("x".into()).wait(), Err(Error::Panicked { .. })));
    assert!(
        matches!(worker.next_event(SOON)?, Some(Event::Ended(exit)) if exit.how == How::Code(101))
    );
    assert!(worker.stop().is_err());
    Ok(())
}

const ENDLESS: [Duration; 3] =
    [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(i64::MAX as u64)];

/// One with this time limit wherever there is one.
fn limited(limit: Duration) -> Result<MessageProcess<Worker>> {
    let stop = StopOptions::default().graceful(limit).urgent(limit).terminate(limit).kill(limit);
    let options = MessageProcess::options("limited").start_timeout(limit).send_timeout(limit);
    options.stop_timeouts(stop).handler_timeout(limit).fork(|_: &Start| Worker::default())
}

fn time_limits_without_end_are_none() -> Result<()> {
    for limit in ENDLESS {
        let mut worker = limited(limit)?;
        assert_eq!(worker.ping("a".into()).wait_timeout(limit)?, "a 1");
        assert_eq!(worker.ping("b".into()).deadline(limit).wait()?, "b 2");
        assert_eq!(worker.ping("c".into()).send()?.wait_timeout(limit)?, "c 3");
        worker.round_trip(limit)?;
        worker.every(u64::MAX, 2).wait()?;
        worker.after(u64::MAX, 3).wait()?;
        worker.say(1).tell()?;
        assert!(matches!(worker.next_event(limit)?, Some(Event::Emitted(_))));
        worker.stop()?;

        let worker = MessageProcess::thread("thread", |_: &Start| Worker::default())?;
        assert_eq!(worker.ping("a".into()).wait_timeout(limit)?, "a 1");
        worker.stop_with(&StopOptions::default().graceful(limit))?;

        let mut manager = Manager::new()?;
        let id = manager.add(limited(limit)?)?;
        manager.after(limit, Token(1))?;
        manager.every(limit, Token(2))?;
        manager[id].say(1).tell()?;
        assert!(matches!(manager.next(limit)?, Some(Happening::Event { .. })));
        for (_, exit) in manager.stop() {
            assert!(exit?.is_clean());
        }
    }
    Ok(())
}

/// The processor time of this program, in seconds.
fn spent() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let times = [usage.user_time(), usage.system_time()];
    times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

fn time_limits_of_nothing_are_over_at_once() -> Result<()> {
    let zero = Duration::ZERO;
    let options = MessageProcess::options("late").start_timeout(zero);
    let late = options.fork(|_: &Start| {
        std::thread::sleep(SOON);
        Worker::default()
    });
    let late = late.err();
    assert!(matches!(late, Some(Error::TimedOut { .. } | Error::PeerDied { .. })), "{late:?}");

    let worker = worker("none");
    let late = worker.sleep(50).wait_timeout(zero);
    assert!(matches!(late, Err(Error::TimedOut { .. })));
    assert!(matches!(worker.count().deadline(zero).wait(), Err(Error::TimedOut { .. })));
    assert!(worker.next_event(zero)?.is_none());
    worker.count().wait()?;
    drop(worker);

    // It is looked at now and then, and not all the time.
    let options = MessageProcess::options("at once").handler_timeout(zero);
    let worker = options.on_timeout(OnTimeout::Kill).fork(|_: &Start| Worker::default())?;
    let before = spent();
    assert!(worker.next_event(Duration::from_millis(200))?.is_none());
    let spent = spent() - before;
    assert!(spent < 0.1, "{spent} s");
    let killed = worker.sleep(10_000).wait();
    assert!(matches!(killed, Err(Error::PeerDied { .. })), "{killed:?}");
    Ok(())
}
