//! What goes over the channel: sizes, numbers, descriptors, both ways at once.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use msgproc::prelude::*;
use shmring::os::{self, PollFd};
use testkit::{Test, test};

use crate::common::{SOON, Said, Worker, WorkerCalls, next, worker};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(every_size_there_and_back),
        test!(both_sides_send_much_at_once),
        test!(both_sides_send_large_ones_at_once),
        test!(descriptors_go_there_and_back),
        test!(too_many_descriptors_are_an_error),
        test!(a_busy_backend_makes_the_sender_wait),
        test!(a_full_channel_says_so_at_once),
        test!(too_many_untaken_events_end_a_wait),
    ]
}

fn every_size_there_and_back() -> Result<()> {
    let mut worker = worker("sizes");
    for len in [0, 1, 1000, 200_000, 208_000, 212_992, 213_000, 1 << 20, 8 << 20] {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
        assert!(worker.echo(bytes.clone()).wait()? == bytes, "{len}");
    }
    worker.stop()
}

fn both_sides_send_much_at_once() -> Result<()> {
    let count = 20_000;
    // The backend fills its way up while we fill the way down, and nobody takes events.
    let mut worker =
        MessageProcess::options("both").queue(1 << 20).fork(|_: &Start| Worker::default())?;
    let said = worker.say(count).send()?;
    for n in 0..count {
        worker.ping(n.to_string()).tell()?;
    }
    said.wait_timeout_of(SOON)?;
    for n in 0..count {
        assert_eq!(next(&worker), Said::Number(n));
    }
    assert_eq!(worker.count().wait()?, count);
    worker.stop()
}

fn both_sides_send_large_ones_at_once() -> Result<()> {
    let mut worker = worker("large");
    let (count, len) = (12, 1 << 20);
    let said = worker.say_large(count, len).send()?;
    let replies: Vec<_> =
        (0..count).map(|n| worker.echo(vec![n as u8; len]).send()).collect::<Result<_>>()?;
    said.wait_timeout_of(SOON)?;
    for (n, reply) in replies.into_iter().enumerate() {
        assert!(reply.wait_timeout_of(SOON)? == vec![n as u8; len]);
        assert!(next(&worker) == Said::Bytes(vec![n as u8; len]));
    }
    worker.stop()
}

/// Waits, but not for ever: a deadlock is then a failure of this test.
trait WaitTimeout<T> {
    fn wait_timeout_of(self, timeout: Duration) -> Result<T>;
}

impl<T: serde::de::DeserializeOwned> WaitTimeout<T> for Reply<T> {
    fn wait_timeout_of(mut self, timeout: Duration) -> Result<T> {
        self.wait_timeout(timeout)
    }
}

fn descriptors_go_there_and_back() -> Result<()> {
    let mut worker = worker("descriptors");
    let before = testkit::fd_count();
    let (reading, mut writing) = std::io::pipe()?;
    assert_eq!(worker.keep(vec![OwnedFd::from(reading).into()]).wait()?, 1);
    let back = worker.give_back().wait()?;
    assert_eq!(back.len(), 1);
    writing.write_all(b"x")?;
    let mut fds = [PollFd::readable(back[0].as_fd())];
    assert_eq!(os::poll(&mut fds, Some(SOON)).unwrap(), 1);
    drop((back, writing));
    assert_eq!(testkit::fd_count(), before);
    assert!(worker.call::<_, ()>("give_back", ()).wait().is_err(), "not a ()");

    // One that came with arguments that nobody can read is closed.
    let inside = worker.descriptors().wait()?;
    let event = OwnedFd::from(os::Event::new()?);
    let wrong = worker.call::<_, ()>("ping", ("x", Descriptor::from(event))).wait();
    assert!(matches!(wrong, Err(Error::BadArguments { .. })), "{wrong:?}");
    assert_eq!(worker.descriptors().wait()?, inside);
    worker.stop()
}

fn too_many_descriptors_are_an_error() -> Result<()> {
    let mut worker = worker("many");
    let some = |count: usize| -> Vec<Descriptor> {
        (0..count).map(|_| OwnedFd::from(os::Event::new().unwrap()).into()).collect()
    };
    let error = worker.keep(some(254)).wait().unwrap_err();
    assert!(matches!(error, Error::TooManyDescriptors { count: 254, limit: 253 }), "{error:?}");
    assert_eq!(worker.keep(some(253)).wait()?, 253);
    assert_eq!(worker.keep(some(7)).wait()?, 260);
    let error = worker.give_back().wait().unwrap_err();
    assert!(
        matches!(&error, Error::BadReply { reason, .. } if reason.contains("253")),
        "{error:?}"
    );
    assert_eq!(worker.keep(vec![]).wait()?, 0, "it lives, and has given them up");
    worker.stop()
}

fn a_busy_backend_makes_the_sender_wait() -> Result<()> {
    let mut worker = MessageProcess::options("busy")
        .send_timeout(Duration::from_millis(100))
        .fork(|_: &Start| Worker::default())?;
    worker.sleep(600).tell()?;
    let mut sent = 0;
    let error = loop {
        match worker.ping("x".into()).tell() {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    let Error::TimedOut { action, busy, .. } = &error else { panic!("{error:?}") };
    assert_eq!(action, "take ping");
    assert_eq!(busy.as_ref().unwrap().with, "c__sleep");
    assert!(testkit::wait_until(SOON, || worker.count().wait().is_ok()));
    assert_eq!(worker.count().wait()?, sent + 1, "each that was sent was taken, once");
    worker.stop()
}

fn a_full_channel_says_so_at_once() -> Result<()> {
    let mut worker = worker("full");
    worker.sleep(300).tell()?;
    let error = loop {
        if let Err(error) = worker.echo(vec![0; 100_000]).try_tell() {
            break error;
        }
    };
    assert!(matches!(error, Error::QueueFull { .. }), "{error:?}");
    assert_eq!(worker.count().wait()?, 1);
    worker.stop()
}

fn too_many_untaken_events_end_a_wait() -> Result<()> {
    let mut worker =
        MessageProcess::options("untaken").queue(10).fork(|_: &Start| Worker::default())?;
    let error = worker.say(100).wait().unwrap_err();
    assert!(matches!(error, Error::QueueFull { .. }), "{error:?}");
    for n in 0..100 {
        assert_eq!(next(&worker), Said::Number(n));
    }
    assert_eq!(worker.count().wait()?, 0);
    worker.stop()
}
