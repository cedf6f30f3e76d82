//! Descriptors, timers, signals and wakers.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use msgproc::{manager::Signal, prelude::*};
use testkit::{Test, test};

use crate::common::{SOON, Told, Worker, WorkerCalls, manager, next, nothing};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_descriptor_is_told_as_long_as_it_is_ready),
        test!(room_to_write_is_told),
        test!(an_unwatched_descriptor_is_not_told),
        test!(a_watched_descriptor_may_be_closed),
        test!(a_regular_file_is_refused),
        test!(timers_in_their_order),
        test!(a_tick_keeps_its_rhythm),
        test!(a_cancelled_timer_is_not_told),
        test!(signals_are_told),
        test!(signals_do_again_what_they_did_before),
        test!(only_one_manager_has_the_signals),
        test!(backends_have_no_handler_and_may_have_their_own),
        test!(a_fork_of_ours_dies_by_its_signal),
        test!(woken_from_a_thread),
    ]
}

const ONE: Token = Token(1);
const TWO: Token = Token(2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn a_descriptor_is_told_as_long_as_it_is_ready() -> Result<()> {
    let (mut manager, ids) = manager(1);
    let (mut reader, mut writer) = std::io::pipe()?;
    manager.watch(&reader, Interest::Readable, ONE)?;
    nothing(&mut manager);
    writer.write_all(b"ab")?;
    let mut byte = [0];
    for expected in *b"ab" {
        // Told twice: nobody has read in between.
        assert!(matches!(next(&mut manager), Told::Ready(ONE)));
        assert!(matches!(next(&mut manager), Told::Ready(ONE)));
        reader.read_exact(&mut byte)?;
        assert_eq!(byte[0], expected);
    }
    nothing(&mut manager);
    // It takes turns with the processes.
    writer.write_all(b"c")?;
    manager[ids[0]].say(1).wait()?;
    let both = [next(&mut manager), next(&mut manager), next(&mut manager)];
    assert!(both.iter().any(|told| matches!(told, Told::Event { .. })), "{both:?}");
    assert!(both.iter().any(|told| matches!(told, Told::Ready(ONE))), "{both:?}");
    Ok(())
}

fn room_to_write_is_told() -> Result<()> {
    let (mut manager, _) = manager(0);
    let (left, mut right) = std::os::unix::net::UnixStream::pair()?;
    manager.watch(&left, Interest::Both, ONE)?;
    assert!(matches!(next(&mut manager), Told::Ready(ONE)));
    manager.unwatch(ONE);
    manager.watch(&left, Interest::Readable, TWO)?;
    nothing(&mut manager);
    right.write_all(b"x")?;
    assert!(matches!(next(&mut manager), Told::Ready(TWO)));
    Ok(())
}

fn an_unwatched_descriptor_is_not_told() -> Result<()> {
    let (mut manager, _) = manager(0);
    let (reader, mut writer) = std::io::pipe()?;
    manager.watch(&reader, Interest::Readable, ONE)?;
    writer.write_all(b"x")?;
    assert!(matches!(next(&mut manager), Told::Ready(ONE)));
    assert!(manager.unwatch(ONE));
    assert!(!manager.unwatch(ONE));
    nothing(&mut manager);
    manager.watch(&reader, Interest::Readable, TWO)?;
    assert!(matches!(next(&mut manager), Told::Ready(TWO)));
    Ok(())
}

fn a_watched_descriptor_may_be_closed() -> Result<()> {
    let (mut manager, _) = manager(1);
    let (reader, writer) = std::io::pipe()?;
    manager.watch(&reader, Interest::Readable, ONE)?;
    drop(reader);
    nothing(&mut manager);
    drop(writer);
    assert!(matches!(next(&mut manager), Told::Ready(ONE)), "the other end hung up");
    assert!(manager.unwatch(ONE));
    nothing(&mut manager);
    Ok(())
}

fn a_regular_file_is_refused() -> Result<()> {
    let (mut manager, _) = manager(0);
    let file = std::fs::File::open("/proc/self/exe")?;
    let error = manager.watch(&file, Interest::Readable, ONE).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }), "{error}");
    assert!(!manager.unwatch(ONE));
    Ok(())
}

fn timers_in_their_order() -> Result<()> {
    let (mut manager, _) = manager(0);
    let since = Instant::now();
    for milliseconds in [30, 10, 20] {
        manager.after(ms(milliseconds), Token(milliseconds as usize))?;
    }
    manager.after(Duration::MAX, Token(0))?;
    for milliseconds in [10, 20, 30] {
        let told = manager.next(None)?;
        assert!(
            matches!(told, Some(Told::Timer(Token(token))) if token == milliseconds as usize),
            "{told:?}"
        );
        assert!(since.elapsed() >= ms(milliseconds));
    }
    assert!(since.elapsed() < ms(1000), "{:?}", since.elapsed());
    assert!(manager.next(None)?.is_none(), "nothing is left");
    // Those that are due at the same time, too.
    manager.after(ms(2), ONE)?;
    manager.after(ms(1), TWO)?;
    thread::sleep(ms(10));
    assert!(matches!(next(&mut manager), Told::Timer(TWO)));
    assert!(matches!(next(&mut manager), Told::Timer(ONE)));
    Ok(())
}

fn a_tick_keeps_its_rhythm() -> Result<()> {
    let (mut manager, _) = manager(0);
    let since = Instant::now();
    manager.every(ms(20), ONE)?;
    for tick in 1..=3 {
        assert!(matches!(next(&mut manager), Told::Timer(ONE)));
        assert!(since.elapsed() >= ms(20 * tick));
    }
    thread::sleep(ms(200));
    // Many were missed: one is told, and the next comes in its time.
    assert!(matches!(manager.next(Duration::ZERO)?, Some(Told::Timer(ONE))));
    assert!(matches!(next(&mut manager), Told::Timer(ONE)));
    assert!(manager.cancel_timer(ONE));
    assert!(manager.next(None)?.is_none());
    Ok(())
}

fn a_cancelled_timer_is_not_told() -> Result<()> {
    let (mut manager, _) = manager(1);
    manager.after(ms(10), ONE)?;
    manager.after(ms(20), TWO)?;
    assert!(manager.cancel_timer(ONE));
    assert!(!manager.cancel_timer(ONE));
    assert!(matches!(next(&mut manager), Told::Timer(TWO)));
    nothing(&mut manager);
    Ok(())
}

/// Whether this process has handlers for SIGINT and SIGTERM.
fn handled() -> (bool, bool) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(line.trim(), 16).unwrap();
    (caught & 1 << 1 != 0, caught & 1 << 14 != 0)
}

fn signals_are_told() -> Result<()> {
    let (mut manager, ids) = manager(1);
    manager.handle_signals()?;
    manager.handle_signals()?;
    for (number, signal) in [(2, Signal::Interrupt), (15, Signal::Terminate)] {
        testkit::signal(std::process::id(), number);
        assert!(matches!(next(&mut manager), Told::Signal(told) if told == signal));
        assert_eq!(signal.number(), number);
        nothing(&mut manager);
    }
    // Also while something else is waited for.
    let reply = manager[ids[0]].sleep_and_say(100).send()?;
    testkit::signal(std::process::id(), 2);
    reply.wait()?;
    let mut told = [next(&mut manager), next(&mut manager)];
    told.sort_by_key(|told| matches!(told, Told::Signal(_)));
    assert!(matches!(told, [Told::Event { event: 100, .. }, Told::Signal(Signal::Interrupt)]));
    assert_eq!(testkit::thread_count(), 1);
    Ok(())
}

fn signals_do_again_what_they_did_before() -> Result<()> {
    assert_eq!(handled(), (false, false));
    let (mut manager, _) = manager(0);
    manager.handle_signals()?;
    assert_eq!(handled(), (true, true));
    manager.leave_signals();
    assert_eq!(handled(), (false, false));
    manager.handle_signals()?;
    assert_eq!(handled(), (true, true));
    drop(manager);
    assert_eq!(handled(), (false, false));
    Ok(())
}

fn only_one_manager_has_the_signals() -> Result<()> {
    let (mut first, _) = manager(0);
    let (mut second, _) = manager(0);
    first.handle_signals()?;
    let error = second.handle_signals().unwrap_err().to_string();
    assert!(error.contains("another manager"), "{error}");
    drop(first);
    second.handle_signals()?;
    testkit::signal(std::process::id(), 15);
    assert!(matches!(next(&mut second), Told::Signal(Signal::Terminate)));
    Ok(())
}

fn backends_have_no_handler_and_may_have_their_own() -> Result<()> {
    let (mut manager, _) = manager(0);
    manager.handle_signals()?;
    let late = manager.add(crate::common::worker("late"))?;
    assert!(manager[late].own_signal().wait()?);
    nothing(&mut manager);
    testkit::signal(manager[late].pid(), 15);
    match next(&mut manager) {
        Told::Ended { exit, .. } => assert_eq!(exit.how.signal_name(), Some("SIGTERM")),
        other => panic!("{other:?}"),
    }
    nothing(&mut manager);
    Ok(())
}

/// A fork that was made without this library keeps the handler. It must not tell its parent of
/// its own signal.
fn a_fork_of_ours_dies_by_its_signal() -> Result<()> {
    #![allow(unsafe_code)] // A bare fork.
    #![allow(clippy::disallowed_methods)] // That is what is tested.
    use nix::{
        sys::{
            signal::Signal,
            wait::{WaitStatus, waitpid},
        },
        unistd::{ForkResult, fork, pause},
    };

    let (mut manager, _) = manager(0);
    manager.handle_signals()?;
    // SAFETY: this process has one thread, and the child only waits to be killed.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            pause();
        },
        ForkResult::Parent { child } => child,
    };
    testkit::signal(child.as_raw() as u32, 15);
    let status = waitpid(child, None).unwrap();
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{status:?}");
    nothing(&mut manager);
    Ok(())
}

fn woken_from_a_thread() -> Result<()> {
    let mut manager = Manager::<Worker>::new()?;
    let waker = manager.waker();
    waker.wake();
    waker.wake();
    assert!(matches!(next(&mut manager), Told::Woken));
    nothing(&mut manager);
    let thread = thread::spawn(move || {
        thread::sleep(ms(30));
        waker.wake();
    });
    // The waker is something to wait for.
    assert!(matches!(manager.next(None)?, Some(Told::Woken)));
    thread.join().unwrap();
    assert!(manager.next(None)?.is_none(), "no waker is left");
    assert!(manager.next(SOON)?.is_none());
    Ok(())
}
