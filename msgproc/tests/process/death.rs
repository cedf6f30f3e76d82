//! Who dies, who notices, and how soon.

use std::{
    io::{PipeWriter, Read, Write},
    time::{Duration, Instant},
};

use msgproc::prelude::*;
use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use testkit::{Process, Test, test};

use crate::{
    common::{SOON, Worker, WorkerCalls, at_once, worker},
    start::{MiddleCalls, middle},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_killed_backend_ends_a_wait_at_once),
        test!(a_killed_backend_ends_the_wait_for_events_and_for_room),
        test!(replies_sent_before_a_death_arrive),
        test!(an_exit_in_a_handler_is_reported),
        test!(a_killed_frontend_takes_an_idle_backend_along),
        test!(a_killed_frontend_takes_a_sleeping_backend_along),
        test!(a_killed_frontend_takes_a_spinning_backend_along),
        test!(a_killed_frontend_takes_a_starting_backend_along),
        test!(a_killed_frontend_takes_a_sending_backend_along),
        test!(a_killed_frontend_takes_all_generations_along),
        test!(a_backend_can_be_killed_with_its_frontend_at_once),
        test!(siblings_do_not_hold_the_lifeline),
        test!(what_a_killed_frontend_owned_by_name_goes),
        test!(a_long_handler_learns_that_its_frontend_was_killed),
        test!(what_a_living_frontend_owns_stays),
    ]
}

/// Kills `pid` after a while, from a process of its own.
fn kill_later(pid: u32, after: Duration) -> nix::unistd::Pid {
    #![allow(clippy::disallowed_methods)]
    // SAFETY: this test has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            std::thread::sleep(after);
            testkit::kill9(pid);
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    }
}

fn a_killed_backend_ends_a_wait_at_once() -> Result<()> {
    let mut worker = worker("killed");
    let killer = kill_later(worker.pid(), Duration::from_millis(100));
    let since = Instant::now();
    let error = worker.spin().wait().unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(1));
    let exit = error.exit().unwrap();
    assert_eq!((exit.how, exit.stopped_by), (How::Signal { number: 9, core: false }, None));
    waitpid(killer, None).unwrap();
    assert!(!worker.is_alive());
    assert_eq!(testkit::state_of(worker.pid()), None, "no zombie");
    assert!(worker.stop().is_err());
    Ok(())
}

fn a_killed_backend_ends_the_wait_for_events_and_for_room() -> Result<()> {
    let worker = worker("events");
    let killer = kill_later(worker.pid(), Duration::from_millis(50));
    assert!(matches!(at_once(|| worker.next_event(None))?, Some(Event::Ended(_))));
    waitpid(killer, None).unwrap();

    let worker = crate::common::worker("room");
    worker.spin().tell()?;
    let killer = kill_later(worker.pid(), Duration::from_millis(200));
    let error = at_once(|| {
        loop {
            if let Err(error) = worker.echo(vec![0; 50_000]).tell() {
                return error;
            }
        }
    });
    assert!(matches!(error, Error::PeerDied { .. }), "{error:?}");
    waitpid(killer, None).unwrap();
    Ok(())
}

fn replies_sent_before_a_death_arrive() -> Result<()> {
    let worker = worker("last-words");
    let reply = worker.ping("x".into()).send()?;
    worker.say(3).tell()?;
    worker.exit_with(3).tell()?;
    assert!(testkit::wait_until(SOON, || testkit::state_of(worker.pid()) == Some('Z')));
    assert_eq!(reply.wait()?, "x 1");
    for n in 0..3 {
        assert_eq!(crate::common::next(&worker), crate::common::Said::Number(n));
    }
    assert!(matches!(
        worker.next_event(SOON)?,
        Some(Event::Failed(Error::Undelivered { command, begun: true, .. })) if command == "exit_with"
    ));
    assert!(
        matches!(worker.next_event(SOON)?, Some(Event::Ended(exit)) if exit.how == How::Code(3))
    );
    Ok(())
}

fn an_exit_in_a_handler_is_reported() {
    let worker = worker("exits");
    let error = at_once(|| worker.exit_with(5).wait().unwrap_err());
    assert_eq!(error.exit().unwrap().how, How::Code(5));
}

/// How a frontend tells the test which processes must die with it.
struct Tell {
    pipe: PipeWriter,
}

impl Tell {
    fn pid(&self, pid: u32) {
        (&self.pipe).write_all(&pid.to_ne_bytes()).unwrap();
    }

    /// There are no more.
    fn done(&self) {
        self.pid(0);
    }
}

/// A process gets 0.9 seconds to leave; the rest is for a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_millis(1300);

/// Runs a frontend in a process of its own, kills it, and gives how long the processes lived on
/// whose pids it told.
fn survival(frontend: impl FnOnce(&Tell)) -> Duration {
    #![allow(clippy::disallowed_methods)]
    let (mut reading, writing) = std::io::pipe().unwrap();
    // SAFETY: this test has one thread.
    let pid = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(reading);
            let tell = Tell { pipe: writing };
            frontend(&tell);
            tell.done();
            loop {
                std::thread::sleep(SOON);
            }
        }
        ForkResult::Parent { child } => child,
    };
    drop(writing);
    let mut processes = Vec::new();
    loop {
        let mut bytes = [0; 4];
        reading.read_exact(&mut bytes).unwrap();
        match u32::from_ne_bytes(bytes) {
            0 => break,
            pid => processes.push(Process::observe(pid).unwrap()),
        }
    }
    // Whatever they were told to do has begun.
    std::thread::sleep(Duration::from_millis(100));
    assert!(processes.iter().all(Process::alive));
    testkit::kill9(pid.as_raw() as u32);
    let since = Instant::now();
    waitpid(pid, None).unwrap();
    let gone = testkit::wait_until(SOON, || !processes.iter().any(Process::alive));
    assert!(gone, "they live on");
    since.elapsed()
}

/// The frontend must not stop its backends in order here.
fn leave_alive<T>(value: T) {
    std::mem::forget(value);
}

fn a_killed_frontend_takes_an_idle_backend_along() {
    let path = std::path::Path::new("/dev/shm").join(testkit::name("idle"));
    let diary = path.clone();
    let took = survival(|tell| {
        let worker = MessageProcess::fork("idle", move |_: &Start| Worker {
            diary: Some(diary.clone()),
            ..Worker::default()
        });
        let worker = worker.unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
    });
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(std::fs::remove_file(path).is_ok(), "post_run ran");
}

fn a_killed_frontend_takes_a_sleeping_backend_along() {
    let took = survival(|tell| {
        let worker = worker("sleeps");
        worker.sleep(60_000).tell().unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
    });
    assert!(took < LIMIT, "{took:?}");
}

fn a_killed_frontend_takes_a_spinning_backend_along() {
    let took = survival(|tell| {
        let worker = worker("spins");
        worker.spin().tell().unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
    });
    assert!(took < LIMIT, "{took:?}");
}

fn a_killed_frontend_takes_a_starting_backend_along() {
    let took = survival(|tell| {
        let pipe = tell.pipe.try_clone().unwrap();
        let _ = MessageProcess::fork("starts", move |_: &Start| -> Worker {
            let inside = Tell { pipe: pipe.try_clone().unwrap() };
            inside.pid(std::process::id());
            inside.done();
            loop {
                std::thread::sleep(SOON);
            }
        });
    });
    assert!(took < LIMIT, "{took:?}");
}

fn a_killed_frontend_takes_a_sending_backend_along() {
    let took = survival(|tell| {
        let worker = worker("sends");
        worker.say(1 << 40).tell().unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
    });
    assert!(took < LIMIT, "{took:?}");
}

fn a_killed_frontend_takes_all_generations_along() {
    let took = survival(|tell| {
        let middle = middle().unwrap();
        tell.pid(middle.pid());
        tell.pid(middle.inner().wait().unwrap());
        leave_alive(middle);
    });
    assert!(took < LIMIT, "{took:?}");
}

fn a_backend_can_be_killed_with_its_frontend_at_once() {
    let took = survival(|tell| {
        let worker = MessageProcess::options("at-once")
            .die_with_frontend_at_once(true)
            .fork(|_: &Start| Worker::default())
            .unwrap();
        worker.spin().tell().unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
    });
    assert!(took < Duration::from_millis(500), "{took:?}");
}

fn siblings_do_not_hold_the_lifeline() {
    let took = survival(|tell| {
        let workers: Vec<_> = (0..3).map(|n| worker(&format!("sibling-{n}"))).collect();
        for worker in &workers {
            worker.spin().tell().unwrap();
            tell.pid(worker.pid());
        }
        leave_alive(workers);
    });
    assert!(took < LIMIT, "{took:?}");
}

type Array = shmring::SharedArray<u8, ndarray::Ix1>;

fn what_a_killed_frontend_owned_by_name_goes() {
    let (before, after) = (testkit::name("before"), testkit::name("after"));
    let path = |name: &str| shmring::names::path(name, shmring::names::Kind::Array).unwrap();
    let paths = [path(&before), path(&after)];
    let seen = paths.clone();
    survival(|tell| {
        leave_alive(Array::create(&before, 10).unwrap());
        let worker = worker("cleans");
        leave_alive(Array::create(&after, 10).unwrap());
        tell.pid(worker.pid());
        leave_alive(worker);
        assert!(seen.iter().all(|path| path.exists()));
    });
    assert!(!paths.iter().any(|path| path.exists()));
}

fn a_long_handler_learns_that_its_frontend_was_killed() {
    let name = testkit::name("long");
    let path = shmring::names::path(&name, shmring::names::Kind::Array).unwrap();
    let seen = path.clone();
    let took = survival(|tell| {
        leave_alive(Array::create(&name, 10).unwrap());
        let worker = worker("long");
        worker.until_stopped().tell().unwrap();
        tell.pid(worker.pid());
        leave_alive(worker);
        assert!(seen.exists());
    });
    assert!(took < Duration::from_millis(700), "it left by itself: {took:?}");
    assert!(!path.exists());
}

fn what_a_living_frontend_owns_stays() -> Result<()> {
    let name = testkit::name("stays");
    let array = Array::create(&name, 10)?;
    let mut worker = worker("stops");
    worker.stop()?;
    let killed = crate::common::worker("killed");
    testkit::kill9(killed.pid());
    assert!(killed.next_event(SOON)?.is_some());
    Array::open(&name)?;
    drop(array);
    assert!(Array::open(&name).is_err());
    Ok(())
}
