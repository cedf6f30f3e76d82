//! Which call comes when: urgent ones, those taken back, those whose time is over.

use std::time::{Duration, Instant};

use msgproc::{OnPanic, prelude::*};
use testkit::{Test, test};

use crate::common::{SOON, Said, Worker, WorkerCalls, at_once, next, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(an_urgent_call_overtakes_what_waits),
        test!(an_urgent_call_finds_its_way_through_a_full_channel),
        test!(urgent_calls_keep_their_order),
        test!(a_sign_of_life_comes_between_two_handlers),
        test!(no_sign_of_life_says_why),
        test!(a_cancelled_call_says_so),
        test!(a_cancelled_call_that_is_done_gives_its_result),
        test!(as_many_are_cancelled_as_are_on_their_way),
        test!(a_mark_does_not_outlive_its_call),
        test!(a_call_that_is_late_does_not_run),
        test!(a_tell_that_is_late_comes_up),
        test!(a_handler_sees_its_deadline),
        test!(a_wait_ends_with_the_deadline),
        test!(deadlines_out_of_all_time),
    ]
}

/// The backend is in a handler for this long.
fn hold(worker: &MessageProcess<Worker>, milliseconds: u64) -> Result<()> {
    worker.sleep(milliseconds).tell()?;
    assert!(testkit::wait_until(SOON, || worker.busy().is_some()));
    Ok(())
}

fn an_urgent_call_overtakes_what_waits() -> Result<()> {
    let mut worker = worker("urgent");
    hold(&worker, 100)?;
    for _ in 0..10 {
        worker.say(1).tell()?;
    }
    // Each call of it counts one more, so the number says when it came.
    let urgent = worker.ping("urgent".into()).urgent().send()?;
    let last = worker.ping("last".into()).send()?;
    assert_eq!(urgent.wait()?, "urgent 2");
    assert_eq!(last.wait()?, "last 3");
    for _ in 0..10 {
        assert_eq!(next(&worker), Said::Number(0));
    }
    worker.stop()
}

fn an_urgent_call_finds_its_way_through_a_full_channel() -> Result<()> {
    let worker = worker("full");
    hold(&worker, 300)?;
    // Half a second of work each, and no more room in the channel.
    let mut behind = 0;
    while worker.sleep(500).try_tell().is_ok() {
        behind += 1;
    }
    assert!(behind > 50, "{behind}");
    let since = Instant::now();
    let came = worker.ping("urgent".into()).urgent().wait()?;
    // After the handler that runs, perhaps one more; not all of them.
    assert!(["urgent 2", "urgent 3"].contains(&&came[..]), "{came}");
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    worker.stop_with(&StopOptions::default().graceful(Duration::ZERO))?;
    Ok(())
}

fn urgent_calls_keep_their_order() -> Result<()> {
    let mut worker = worker("order");
    hold(&worker, 100)?;
    let ordinary: Vec<_> =
        (0..20).map(|n| worker.ping(n.to_string()).send()).collect::<Result<_>>()?;
    let urgent: Vec<_> =
        (0..20).map(|n| worker.ping(n.to_string()).urgent().send()).collect::<Result<_>>()?;
    for (n, reply) in urgent.into_iter().chain(ordinary).enumerate() {
        assert_eq!(reply.wait()?, format!("{} {}", n % 20, n + 2));
    }
    worker.stop()
}

fn a_sign_of_life_comes_between_two_handlers() -> Result<()> {
    let mut worker = worker("lives");
    assert!(at_once(|| worker.round_trip(SOON))? < Duration::from_secs(1));
    hold(&worker, 200)?;
    for _ in 0..5 {
        worker.sleep(500).tell()?;
    }
    let took = worker.round_trip(SOON)?;
    assert!(took > Duration::from_millis(50) && took < Duration::from_millis(700), "{took:?}");
    worker.stop_with(&StopOptions::default().graceful(Duration::ZERO))?;
    assert!(worker.round_trip(SOON).is_err());
    worker.stop()
}

fn no_sign_of_life_says_why() -> Result<()> {
    let mut worker = worker("spins");
    worker.spin().tell()?;
    assert!(testkit::wait_until(SOON, || worker.busy().is_some()));
    let error = worker.round_trip(Duration::from_millis(100)).unwrap_err().to_string();
    assert!(error.contains("did not give a sign of life"), "{error}");
    assert!(error.contains("in c__spin for"), "{error}");
    worker.stop_with(&StopOptions::default().graceful(Duration::ZERO).urgent(Duration::ZERO))?;
    assert!(worker.stop().is_err());
    Ok(())
}

fn a_cancelled_call_says_so() -> Result<()> {
    let mut worker = worker("cancelled");
    hold(&worker, 100)?;
    let first = worker.ping("first".into()).send()?;
    let second = worker.ping("second".into()).send()?;
    first.cancel();
    let error = first.wait().unwrap_err();
    assert!(matches!(&error, Error::Cancelled { command, .. } if command == "ping"), "{error:?}");
    assert_eq!(second.wait()?, "second 2");
    worker.stop()
}

fn a_cancelled_call_that_is_done_gives_its_result() -> Result<()> {
    let mut worker = worker("done");
    let reply = worker.ping("done".into()).send()?;
    worker.count().wait()?;
    reply.cancel();
    assert_eq!(reply.wait()?, "done 1");
    worker.stop()
}

/// Fills the inbox of a stopped backend, as far as it goes, cancels every second call, and lets it
/// go on: exactly the others run.
fn as_many_are_cancelled_as_are_on_their_way() -> Result<()> {
    let mut worker = worker("many");
    let mut sum = 0;
    for round in 0..10 {
        hold(&worker, 100)?;
        sum += 1;
        let mut replies = Vec::new();
        for number in 0..250 {
            replies.push((number, worker.ping("x".into()).send()?));
        }
        for (number, reply) in &replies {
            if number % 2 == round % 2 {
                reply.cancel();
            }
        }
        for (number, reply) in replies {
            match reply.wait() {
                Ok(_) => {
                    sum += 1;
                    assert!(number % 2 != round % 2, "{number} ran");
                }
                Err(Error::Cancelled { .. }) => assert!(number % 2 == round % 2, "{number}"),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert_eq!(worker.count().wait()?, sum);
    worker.stop()
}

/// The marks are bits that are used again after 32768 calls.
fn a_mark_does_not_outlive_its_call() -> Result<()> {
    let mut worker = worker("marks");
    let running = worker.until_cancelled().send()?;
    assert!(testkit::wait_until(SOON, || worker.busy().is_some()));
    running.cancel();
    running.wait()?;
    for number in 0..33_000 {
        if number % 100 == 0 {
            worker.count().wait()?;
        } else {
            worker.count().tell()?;
        }
    }
    assert_eq!(worker.count().wait()?, 1);
    assert!(worker.try_event()?.is_none(), "none was taken for a cancelled one");
    worker.stop()
}

fn a_call_that_is_late_does_not_run() -> Result<()> {
    let mut worker = worker("late");
    hold(&worker, 200)?;
    let call = worker.ping("late".into()).deadline(Duration::from_millis(50));
    let mut late = call.send()?;
    let intime = worker.ping("in time".into()).deadline(SOON).send()?;
    let error = late.wait_timeout(SOON).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(intime.wait()?, "in time 2", "the other did not run");
    // What it was told in the end.
    assert!(matches!(late.try_take(), Err(Error::Late { command, .. }) if command == "ping"));
    worker.stop()
}

fn a_tell_that_is_late_comes_up() -> Result<()> {
    let mut worker = worker("late-tell");
    hold(&worker, 100)?;
    worker.ping("late".into()).deadline(Duration::from_millis(20)).tell()?;
    match worker.next_event(SOON)? {
        Some(Event::Failed(error @ Error::Late { .. })) => assert_eq!(
            error.to_string(),
            "ping did not run: process \"late-tell\" did not come to it before its deadline"
        ),
        other => panic!("{other:?}"),
    }
    worker.stop()
}

struct Careful;

#[backend]
impl Careful {
    fn c__work(&mut self, ctx: &mut Context) -> (Option<Duration>, u32) {
        let left = ctx.time_left();
        let mut rounds = 0;
        while left.is_some() && !ctx.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
            rounds += 1;
        }
        if left.is_some() {
            // So that whoever waits gives up first, also where it gets no processor in time.
            std::thread::sleep(Duration::from_millis(300));
        }
        (left, rounds)
    }
}

fn a_handler_sees_its_deadline() -> Result<()> {
    let mut careful =
        MessageProcess::options("careful").on_panic(OnPanic::Continue).fork(|_: &Start| Careful)?;
    assert_eq!(careful.work().wait()?, (None, 0));
    let limit = Duration::from_millis(100);
    let since = Instant::now();
    careful.work().deadline(limit).tell()?;
    let (none, _) = careful.work().wait()?;
    assert!(none.is_none());
    assert!(since.elapsed() >= limit && since.elapsed() < Duration::from_secs(2));
    let mut reply = careful.work().deadline(limit).send()?;
    assert!(reply.wait_timeout(SOON).is_err(), "the wait ends first");
    assert!(reply.is_ready(), "it tells that it is late");
    // What comes later is there to be taken all the same.
    let until = Instant::now() + SOON;
    let (left, rounds) = loop {
        match reply.try_take() {
            Ok(Some(result)) => break result,
            Err(Error::TimedOut { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => panic!("{other:?}"),
        }
    };
    let left = left.unwrap();
    assert!(left <= limit && left > Duration::ZERO, "{left:?}");
    assert!(rounds > 2, "{rounds}");
    careful.stop()
}

fn a_wait_ends_with_the_deadline() -> Result<()> {
    let worker = worker("waits");
    let since = Instant::now();
    let error = worker.sleep(500).deadline(Duration::from_millis(50)).wait().unwrap_err();
    assert!(since.elapsed() < Duration::from_millis(400), "{:?}", since.elapsed());
    match error {
        Error::TimedOut { after, busy, .. } => {
            assert!(after >= Duration::from_millis(50), "{after:?}");
            assert_eq!(busy.unwrap().with, "c__sleep");
        }
        other => panic!("{other:?}"),
    }
    // And where there is no room to send it.
    while worker.sleep(500).try_tell().is_ok() {}
    let limit = Duration::from_millis(50);
    let since = Instant::now();
    for late in
        [worker.count().deadline(limit).wait().map(drop), worker.count().deadline(limit).tell()]
    {
        let error = late.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains("did not take count"), "{error}");
    }
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    worker.stop_with(&StopOptions::default().graceful(Duration::ZERO))?;
    Ok(())
}

fn deadlines_out_of_all_time() -> Result<()> {
    let mut worker = worker("ever");
    assert_eq!(worker.ping("a".into()).deadline(Duration::MAX).wait()?, "a 1");
    let error = worker.ping("b".into()).deadline(Duration::ZERO).wait().unwrap_err();
    assert!(matches!(error, Error::Late { .. } | Error::TimedOut { .. }), "{error:?}");
    assert_eq!(worker.count().wait()?, 1);
    worker.stop()
}
