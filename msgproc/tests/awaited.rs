//! Processes in programs that run on tokio.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use msgproc::{OnTimeout, StopOptions, Undelivered, manager::Policy, prelude::*};
use testkit::Process;
use tokio::time::timeout;

msgproc::test_support!();

const SOON: Duration = Duration::from_secs(20);

struct Worker {
    calls: u64,
}

#[backend(event = u64)]
impl Worker {
    fn pre_run(&mut self, _ctx: &mut Context<u64>) -> Result<()> {
        match self.calls {
            1 => Err("no camera".into()),
            2 => loop {
                sleep(SOON);
            },
            _ => Ok(()),
        }
    }

    fn c__double(&mut self, number: u64) -> u64 {
        self.calls += 1;
        number * 2
    }

    fn c__sleep(&mut self, milliseconds: u64) -> u64 {
        sleep(Duration::from_millis(milliseconds));
        milliseconds
    }

    /// Emits it after the reply.
    fn c__say_later(&mut self, number: usize, ctx: &mut Context<u64>) {
        ctx.after(Duration::ZERO, Token(number));
    }

    fn on_timer(&mut self, token: Token, ctx: &mut Context<u64>) -> Result<()> {
        ctx.emit(token.0 as u64)
    }

    fn c__say(&mut self, count: u64, ctx: &mut Context<u64>) -> Result<()> {
        for number in 0..count {
            ctx.emit(number)?;
        }
        Ok(())
    }
}

async fn start(mood: u64) -> Result<MessageProcess<Worker>> {
    let options = MessageProcess::options("awaited").start_timeout(Duration::from_millis(1500));
    options.begin(|options| options.spawn(mood, |calls, _| Worker { calls }))?.await
}

#[tokio::test]
async fn time_limits_without_end_are_none() -> Result<()> {
    for limit in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let options = MessageProcess::options("endless").start_timeout(limit);
        let options = options.send_timeout(limit).handler_timeout(limit);
        let begun = options.begin(|options| options.spawn(0, |calls, _| Worker { calls }))?;
        let worker = begun.await?;
        assert_eq!(worker.double(1).await?, 2);
        assert_eq!(worker.double(2).deadline(limit).await?, 4);
        msgproc::tokio::stop_with(&worker, &StopOptions::default().graceful(limit)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke() -> Result<()> {
    let worker = start(0).await?;
    assert_eq!(worker.double(21).await?, 42);
    let replies =
        (0..100).map(|number| worker.double(number).send()).collect::<Result<Vec<_>>>()?;
    let results =
        timeout(SOON, join_all(replies.into_iter().map(IntoFuture::into_future))).await.unwrap();
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result?, 2 * number as u64);
    }
    msgproc::tokio::stop(worker).await
}

#[tokio::test]
async fn many_tasks_await_replies_of_one_process() -> Result<()> {
    let worker = Arc::new(start(0).await?);
    let tasks = (0..50u64).map(|number| {
        let worker = worker.clone();
        tokio::spawn(async move { (number, worker.double(number).await.unwrap()) })
    });
    for done in timeout(SOON, join_all(tasks)).await.unwrap() {
        let (number, double) = done.unwrap();
        assert_eq!(double, 2 * number);
    }
    msgproc::tokio::stop(Arc::into_inner(worker).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_awaited_at_once() -> Result<()> {
    let worker = Arc::new(start(0).await?);
    let slow = worker.sleep(300).send()?;
    let tasks: Vec<_> = (0..3000u64)
        .map(|number| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.double(number).await })
        })
        .collect();
    assert_eq!(slow.await?, 300);
    for (number, done) in (0..).zip(timeout(SOON, join_all(tasks)).await.unwrap()) {
        assert_eq!(done.unwrap()?, 2 * number);
    }
    msgproc::tokio::stop(Arc::into_inner(worker).unwrap()).await
}

/// One runtime after the other, and one beside another that does not run.
#[test]
fn a_process_is_awaited_in_several_runtimes() -> Result<()> {
    let new = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (new(), new());
    let worker = Arc::new(first.block_on(start(0))?);
    let left = first.spawn({
        let worker = worker.clone();
        async move { worker.sleep(200).await }
    });
    // It has begun to wait by then.
    first.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    for runtime in [&second, &new()] {
        let double = async { timeout(SOON, worker.double(21).into_future()).await };
        assert_eq!(runtime.block_on(double).unwrap()?, 42);
    }
    assert_eq!(first.block_on(left).unwrap()?, 200);
    drop(first);
    assert_eq!(second.block_on(worker.double(4).into_future())?, 8);
    second.block_on(msgproc::tokio::stop(Arc::into_inner(worker).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_those_who_await_at_once_is_forgotten() -> Result<()> {
    let worker = start(0).await?;
    for round in 0..3000_u64 {
        let replies =
            (0..3).map(|n| Ok(tokio::spawn(worker.double(round + n).send()?.into_future())));
        for (n, reply) in (0..).zip(replies.collect::<Result<Vec<_>>>()?) {
            let reply = timeout(SOON, reply).await.unwrap_or_else(|_| panic!("{n} in {round}"));
            assert_eq!(reply.unwrap()?, 2 * (round + n));
        }
    }
    msgproc::tokio::stop(worker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_comes_while_a_reply_is_awaited() -> Result<()> {
    let worker = Arc::new(start(0).await?);
    for round in 0..1000 {
        let listening = tokio::spawn({
            let worker = worker.clone();
            async move { msgproc::tokio::next_event(&worker).await }
        });
        let calling = tokio::spawn(worker.say_later(round).into_future());
        timeout(SOON, calling).await.unwrap().unwrap()?;
        let event = timeout(SOON, listening).await.unwrap_or_else(|_| panic!("{round}"));
        let is_it = matches!(event.unwrap()?, Event::Emitted(number) if number == round as u64);
        assert!(is_it, "{round}");
    }
    msgproc::tokio::stop(Arc::into_inner(worker).unwrap()).await
}

#[tokio::test]
async fn other_tasks_go_on_meanwhile() -> Result<()> {
    let (a, b) = (start(0).await?, start(0).await?);
    let began = Instant::now();
    let (first, second) = tokio::join!(a.sleep(300), b.sleep(300));
    assert_eq!((first?, second?), (300, 300));
    assert!(began.elapsed() < Duration::from_millis(580), "{:?}", began.elapsed());
    msgproc::tokio::stop(a).await?;
    msgproc::tokio::stop(b).await
}

#[tokio::test]
async fn a_result_that_is_not_awaited_to_its_end_is_not_lost() -> Result<()> {
    let worker = start(0).await?;
    let mut reply = worker.sleep(200).send()?;
    assert!(timeout(Duration::from_millis(20), msgproc::tokio::result(&mut reply)).await.is_err());
    assert_eq!(timeout(SOON, msgproc::tokio::result(&mut reply)).await.unwrap()?, 200);
    msgproc::tokio::stop(worker).await
}

#[tokio::test]
async fn a_deadline_ends_the_wait() -> Result<()> {
    let worker = start(0).await?;
    let began = Instant::now();
    let call = worker.sleep(1000).deadline(Duration::from_millis(50));
    let error = timeout(SOON, call.into_future()).await.unwrap().unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(error.to_string().contains("c__sleep"), "{error}");
    // And where there is no room to send it.
    while worker.sleep(1000).try_tell().is_ok() {}
    let began = Instant::now();
    let call = worker.double(1).deadline(Duration::from_millis(50));
    let error = timeout(SOON, call.into_future()).await.unwrap().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(error.to_string().contains("did not take double"), "{error}");
    let now = StopOptions::default().graceful(Duration::ZERO);
    msgproc::tokio::stop_with(&worker, &now).await.map(drop)
}

fn hasty(then: OnTimeout) -> Result<MessageProcess<Worker>> {
    MessageProcess::options("hasty")
        .handler_timeout(Duration::from_millis(100))
        .on_timeout(then)
        .spawn(0, |calls, _| Worker { calls })
}

#[tokio::test]
async fn a_handler_that_runs_too_long_is_killed() -> Result<()> {
    let worker = hasty(OnTimeout::Kill)?;
    let error = timeout(SOON, worker.sleep(100_000).into_future()).await.unwrap().unwrap_err();
    let Error::PeerDied { exit, .. } = error else { panic!("{error}") };
    assert_eq!(exit.overdue.unwrap().with, "c__sleep");
    Ok(())
}

#[tokio::test]
async fn a_handler_that_runs_too_long_comes_up() -> Result<()> {
    let worker = hasty(OnTimeout::Report)?;
    let options = StopOptions::default().graceful(Duration::ZERO).urgent(Duration::ZERO);
    // Both for one who awaits a single event and for a stream, each a handler of its own.
    worker.sleep(400).tell()?;
    let event = timeout(SOON, msgproc::tokio::next_event(&worker)).await.unwrap()?;
    assert!(matches!(event, Event::Failed(Error::Overdue { .. })), "{event:?}");
    worker.sleep(100_000).tell()?;
    let event = timeout(SOON, msgproc::tokio::events(&worker)?.next()).await.unwrap();
    assert!(matches!(event, Some(Event::Failed(Error::Overdue { .. }))), "{event:?}");
    msgproc::tokio::stop_with(&worker, &options).await?;
    Ok(())
}

#[tokio::test]
async fn events_are_a_stream_that_ends_with_the_process() -> Result<()> {
    let worker = start(0).await?;
    worker.say(1000).tell()?;
    let mut events = msgproc::tokio::events(&worker)?;
    for number in 0..1000 {
        match timeout(SOON, events.next()).await.unwrap() {
            Some(Event::Emitted(said)) => assert_eq!(said, number),
            other => panic!("{other:?}"),
        }
    }
    // A reply that comes beside them is for whom it concerns.
    let (reply, none) =
        tokio::join!(worker.double(4), timeout(Duration::from_millis(100), events.next()));
    assert_eq!(reply?, 8);
    assert!(none.is_err());
    testkit::kill9(worker.pid());
    let end = timeout(SOON, events.next()).await.unwrap();
    assert!(matches!(end, Some(Event::Ended(exit)) if exit.how.signal_name() == Some("SIGKILL")));
    assert!(events.next().await.is_none());
    Ok(())
}

#[tokio::test]
async fn a_death_ends_every_wait() -> Result<()> {
    let worker = start(0).await?;
    let replies = (0..5).map(|_| worker.sleep(100_000).send()).collect::<Result<Vec<_>>>()?;
    let waiting = join_all(replies.into_iter().map(IntoFuture::into_future));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        testkit::kill9(worker.pid());
    };
    let (results, ()) = timeout(SOON, async { tokio::join!(waiting, kill) }).await.unwrap();
    assert!(results.iter().all(|result| matches!(result, Err(Error::PeerDied { .. }))));
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_or_hangs_leaves_nothing() {
    let error = timeout(SOON, start(1)).await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::PreRun { message, .. } if message == "no camera"), "{error}");
    let options = MessageProcess::<Worker>::options("awaited")
        .start_timeout(Duration::from_millis(300))
        .begin(|options| options.spawn(2, |calls, _| Worker { calls }))
        .unwrap();
    let process = Process::observe(options.pid()).unwrap();
    let error = timeout(SOON, options.into_future()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(!process.alive());
}

#[tokio::test]
async fn one_that_does_not_leave_is_killed() -> Result<()> {
    let worker = start(0).await?;
    worker.sleep(100_000).tell()?;
    let short = Duration::from_millis(50);
    let options = StopOptions::default().graceful(short).urgent(short).terminate(Duration::ZERO);
    let exit = timeout(SOON, msgproc::tokio::stop_with(&worker, &options)).await.unwrap()?;
    assert_eq!(exit.how.signal_name(), Some("SIGKILL"));
    Ok(())
}

#[tokio::test]
async fn what_happens_in_a_manager_is_awaited() -> Result<()> {
    let server = ForkServer::start()?;
    let mut manager = Manager::new()?;
    let ids = manager.start_many(3, |_| {
        MessageProcess::fork_from(&server, "managed", 0, |calls, _: &Start| Worker { calls })
    })?;
    for id in &ids {
        manager[*id].say(2).tell()?;
    }
    for _ in 0..6 {
        let happening = timeout(SOON, msgproc::tokio::next(&mut manager)).await.unwrap()?;
        assert!(matches!(happening, Some(Happening::Event { .. })), "{happening:?}");
    }
    let nothing = timeout(Duration::from_millis(50), msgproc::tokio::next(&mut manager)).await;
    assert!(nothing.is_err());
    for id in ids {
        testkit::kill9(manager[id].pid());
        let happening = timeout(SOON, msgproc::tokio::next(&mut manager)).await.unwrap()?;
        assert!(matches!(happening, Some(Happening::Ended { process, .. }) if process == id));
    }
    assert!(timeout(SOON, msgproc::tokio::next(&mut manager)).await.unwrap()?.is_none());
    Ok(())
}

/// The reply is awaited in one task, the manager that starts the next process in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_comes_from_the_replacement() -> Result<()> {
    let options = MessageProcess::<Worker>::options("dies")
        .undelivered(Undelivered::AtLeastOnce { attempts: 3 });
    let worker = options.spawn(0, |calls, _| Worker { calls })?;
    let mut manager = Manager::new()?;
    let pause = Duration::from_millis(100);
    let id = manager.add_with(worker, Policy::permanent().backoff(pause))?;
    let sleeps = manager[id].sleep(500).send()?;
    let doubles = manager[id].double(21).send()?;
    let waits = tokio::spawn(async move { (sleeps.await, doubles.await) });
    let mut killed = Vec::new();
    loop {
        let pid = manager[id].pid();
        let sleeps = manager[id].busy().is_some_and(|busy| busy.with == "c__sleep");
        if sleeps && killed.len() < 2 && !killed.contains(&pid) {
            testkit::kill9(pid);
            killed.push(pid);
        }
        match timeout(Duration::from_millis(50), msgproc::tokio::next(&mut manager)).await {
            Ok(told) => drop(told?),
            Err(_) if waits.is_finished() => break,
            Err(_) => {}
        }
    }
    let (sleeps, doubles) = waits.await.map_err(Error::other)?;
    assert_eq!((sleeps?, doubles?, killed.len()), (500, 42, 2));
    assert_eq!(manager[id].restarts(), 2);
    Ok(())
}
