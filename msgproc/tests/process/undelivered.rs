//! What becomes of commands that a dead process has left undone.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use msgproc::{Undelivered, prelude::*};
use shmring::{
    block::{Block, BlockPool},
    os::{self, PollFd},
    ring::records::{Consumer, Records},
};
use testkit::{Test, test};

use crate::common::{SOON, at_once};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(none_is_dropped_in_silence),
        test!(those_that_had_not_begun_are_sent_again_in_their_order),
        test!(the_one_that_was_being_handled_is_sent_again_on_request),
        test!(one_that_kills_each_time_fails_in_the_end),
        test!(killed_at_any_time_each_runs_at_least_once),
        test!(killed_at_any_time_none_runs_twice),
        test!(handles_of_before_get_the_results),
        test!(a_wait_without_a_limit_ends_with_the_process),
        test!(a_stop_lets_them_fail),
        test!(more_than_a_socket_holds),
        test!(a_replacement_that_dies_too_passes_them_on),
        test!(taken_back_between_two_processes),
        test!(what_is_kept_is_bounded),
        test!(blocks_are_held_until_they_are_handled),
        test!(a_ring_end_is_not_sent_twice),
        test!(descriptors_are_sent_again),
        test!(urgent_ones_stay_urgent),
        test!(a_thread_does_the_same),
    ]
}

/// Writes into a file what it does, so that also what it did before a death is known.
struct Scribe {
    diary: std::fs::File,
}

#[backend(calls = pub(crate) ScribeCalls)]
impl Scribe {
    fn c__note(&mut self, number: u64, ctx: &mut Context) -> u64 {
        self.write(number, ctx.attempt());
        number
    }

    fn c__note_slowly(&mut self, number: u64, milliseconds: u64, ctx: &mut Context) -> u64 {
        self.write(number, ctx.attempt());
        std::thread::sleep(Duration::from_millis(milliseconds));
        number
    }

    fn c__die(&mut self, number: u64, ctx: &mut Context) -> u64 {
        self.write(number, ctx.attempt());
        os_kill()
    }

    fn c__die_once(&mut self, number: u64, ctx: &mut Context) -> u64 {
        self.write(number, ctx.attempt());
        if ctx.attempt() == 1 { os_kill() } else { number }
    }

    fn c__sleep(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    fn c__sum(&mut self, block: Block, milliseconds: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(milliseconds));
        block.as_bytes().iter().map(|byte| u64::from(*byte)).sum()
    }

    fn c__take(&mut self, end: Consumer, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
        drop(end);
    }

    fn c__length(&mut self, file: Descriptor) -> Result<u64> {
        Ok(os::file_info(file.as_fd())?.len)
    }
}

impl Scribe {
    fn write(&mut self, number: u64, attempt: u32) {
        use std::io::Write;
        self.diary.write_all(format!("{number}.{attempt} ").as_bytes()).unwrap();
    }
}

fn os_kill() -> ! {
    testkit::kill9(std::process::id());
    unreachable!()
}

struct Diary(std::fs::File);

impl Diary {
    fn new() -> Diary {
        Diary(os::memfd("diary").unwrap().into())
    }

    /// What was done, as `number.attempt`.
    fn read(&self) -> String {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; self.0.metadata().unwrap().len() as usize];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap().trim_end().to_owned()
    }

    fn numbers(&self) -> Vec<u64> {
        let text = self.read();
        text.split_whitespace()
            .map(|note| note.split('.').next().unwrap().parse().unwrap())
            .collect()
    }
}

fn scribe(then: Undelivered) -> (MessageProcess<Scribe>, Diary) {
    let diary = Diary::new();
    let inside = diary.0.try_clone().unwrap();
    let process = MessageProcess::options("scribe")
        .undelivered(then)
        .fork(move |_: &Start| Ok::<_, std::io::Error>(Scribe { diary: inside.try_clone()? }))
        .unwrap();
    (process, diary)
}

/// Gives the test the time to send more before the next command is handled.
fn hold(process: &MessageProcess<Scribe>) -> Result<()> {
    process.sleep(150).tell()
}

const AT_LEAST_ONCE: Undelivered = Undelivered::AtLeastOnce { attempts: 3 };

/// Takes all that comes up to the end of the process: what was lost, and whether it had begun.
#[track_caller]
fn losses(process: &MessageProcess<Scribe>) -> Vec<(String, bool)> {
    let mut losses = Vec::new();
    loop {
        match process.next_event(SOON).unwrap().expect("it ends") {
            Event::Failed(Error::Undelivered { command, begun, exit, .. }) => {
                assert!(!exit.is_clean());
                losses.push((command, begun));
            }
            Event::Ended(_) => return losses,
            other => panic!("{other:?}"),
        }
    }
}

fn lost(command: &str, begun: bool) -> (String, bool) {
    (command.into(), begun)
}

fn none_is_dropped_in_silence() -> Result<()> {
    let (process, diary) = scribe(Undelivered::Fail);
    process.note(1).tell()?;
    hold(&process)?;
    let answered = process.note(2).send()?;
    process.die(3).tell()?;
    process.note(4).tell()?;
    let waiting = process.note(5).send()?;
    process.sleep(6).tell()?;
    assert_eq!(losses(&process), [lost("die", true), lost("note", false), lost("sleep", false)]);
    assert_eq!(answered.wait()?, 2);
    let error = waiting.wait().unwrap_err();
    assert!(matches!(error, Error::PeerDied { .. }), "{error:?}");
    assert_eq!(diary.read(), "1.1 2.1 3.1");
    Ok(())
}

fn those_that_had_not_begun_are_sent_again_in_their_order() -> Result<()> {
    let (mut process, diary) = scribe(Undelivered::Redeliver);
    hold(&process)?;
    process.note(1).tell()?;
    process.die(2).tell()?;
    for number in 3..20 {
        process.note(number).tell()?;
    }
    assert_eq!(losses(&process), [lost("die", true)]);
    process.restart()?;
    process.note(20).wait()?;
    assert_eq!(diary.numbers(), (1..=20).collect::<Vec<_>>());
    assert!(!diary.read().contains(".2"), "none is a second attempt");
    process.stop()
}

fn the_one_that_was_being_handled_is_sent_again_on_request() -> Result<()> {
    let (mut process, diary) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    let mut dies = process.die_once(1).send()?;
    process.note(2).tell()?;
    assert_eq!(losses(&process), []);
    assert_eq!(dies.try_take()?, None);
    process.restart()?;
    process.note(3).wait()?;
    assert_eq!(dies.wait()?, 1);
    assert_eq!(diary.read(), "1.1 1.2 2.1 3.1");
    process.stop()
}

fn one_that_kills_each_time_fails_in_the_end() -> Result<()> {
    let (mut process, diary) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    process.die(1).tell()?;
    process.note(2).tell()?;
    for _ in 0..2 {
        assert_eq!(losses(&process), []);
        process.restart()?;
    }
    assert_eq!(losses(&process), [lost("die", true)]);
    process.restart()?;
    process.note(3).wait()?;
    assert_eq!(diary.read(), "1.1 1.2 1.3 2.1 3.1");
    process.stop()
}

/// Kills a backend that is busy, again and again, at times that nobody chose.
fn under_fire(then: Undelivered) -> (Vec<u64>, Vec<(String, bool)>) {
    const COUNT: u64 = 400;
    let (mut process, diary) = scribe(then);
    let mut lost = Vec::new();
    let mut sent = 0;
    for round in 0..12 {
        let until = COUNT * (round + 1) / 12;
        while sent < until {
            sent += 1;
            process.note(sent).tell().unwrap();
        }
        std::thread::sleep(Duration::from_micros(37 * round));
        testkit::kill9(process.pid());
        lost.extend(losses(&process));
        process.restart().unwrap();
    }
    process.note(0).wait().unwrap();
    let mut numbers = diary.numbers();
    assert_eq!(numbers.pop(), Some(0));
    process.stop().unwrap();
    (numbers, lost)
}

fn killed_at_any_time_each_runs_at_least_once() {
    let (mut numbers, lost) = under_fire(Undelivered::AtLeastOnce { attempts: 100 });
    assert_eq!(lost, []);
    numbers.dedup();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>(), "each, in their order");
}

fn killed_at_any_time_none_runs_twice() {
    let (numbers, lost) = under_fire(Undelivered::Redeliver);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(lost.iter().all(|(_, begun)| *begun), "{lost:?}");
    // One that was lost had begun: it may have been done or not.
    assert!(numbers.len() + lost.len() >= 400, "{} {}", numbers.len(), lost.len());
}

fn handles_of_before_get_the_results() -> Result<()> {
    let (mut process, _) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    let mut first = process.die_once(1).send()?;
    let mut others: Vec<_> =
        (2..6).map(|number| process.note(number).send()).collect::<Result<_>>()?;
    assert_eq!(losses(&process), []);
    assert!(!first.is_ready() && !others[3].is_ready());
    let since = Instant::now();
    let limit = Duration::from_millis(50);
    assert!(matches!(first.wait_timeout(limit), Err(Error::TimedOut { .. })));
    assert!(since.elapsed() >= limit);
    process.restart()?;
    assert_eq!(others[3].wait_timeout(SOON)?, 5);
    assert!(first.is_ready());
    assert_eq!(first.try_take()?, Some(1));
    drop(others.remove(0));
    for (reply, number) in others.drain(..2).zip(3..) {
        assert_eq!(reply.wait()?, number);
    }
    // One thread waits while another starts the next process.
    let mut slow = process.die_once(7).send()?;
    let waiter = std::thread::spawn(move || slow.wait_timeout(SOON));
    assert_eq!(losses(&process), []);
    // A fork needs this program to have one thread; so the next process comes too late for it.
    assert!(matches!(process.restart(), Err(Error::MultiThreaded { .. })));
    process.stop_with(&StopOptions::default())?;
    let error = at_once(|| waiter.join().unwrap().unwrap_err());
    assert!(matches!(error, Error::PeerDied { .. }), "{error:?}");
    Ok(())
}

fn a_wait_without_a_limit_ends_with_the_process() -> Result<()> {
    let (mut process, diary) = scribe(AT_LEAST_ONCE);
    let error = at_once(|| process.die_once(1).wait().unwrap_err());
    assert!(matches!(error, Error::PeerDied { .. }), "{error:?}");
    process.restart()?;
    process.note(2).wait()?;
    assert_eq!(diary.read(), "1.1 2.1", "what has failed does not run later");
    process.stop()
}

fn a_stop_lets_them_fail() -> Result<()> {
    let (process, _) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    process.die(1).tell()?;
    let mut reply = process.note(2).send()?;
    assert_eq!(losses(&process), []);
    process.stop_with(&StopOptions::default())?;
    assert!(matches!(
        process.next_event(SOON)?,
        Some(Event::Failed(Error::Undelivered { command, begun: true, .. })) if command == "die"
    ));
    let error = at_once(|| reply.wait_timeout(SOON).unwrap_err());
    assert!(matches!(error, Error::PeerDied { .. }), "{error:?}");

    let (process, _) = scribe(AT_LEAST_ONCE);
    let mut reply = process.die(1).send()?;
    assert_eq!(losses(&process), []);
    drop(process);
    assert!(at_once(|| reply.wait_timeout(SOON)).is_err());
    Ok(())
}

fn more_than_a_socket_holds() -> Result<()> {
    let (mut process, diary) = scribe(Undelivered::Redeliver);
    process.sleep(3000).tell()?;
    assert!(testkit::wait_until(SOON, || process.busy().is_some()));
    let mut sent = 0;
    while process.note(sent + 1).try_tell().is_ok() {
        sent += 1;
    }
    assert!(sent > 100, "{sent}");
    testkit::kill9(process.pid());
    assert_eq!(losses(&process), [lost("sleep", true)]);
    process.restart()?;
    // The next ones go behind what was there before.
    for _ in 0..100 {
        sent += 1;
        process.note(sent).tell()?;
    }
    process.note(0).wait()?;
    let mut expected: Vec<_> = (1..=sent).collect();
    expected.push(0);
    assert_eq!(diary.numbers(), expected);
    process.stop()
}

fn a_replacement_that_dies_too_passes_them_on() -> Result<()> {
    let (mut process, diary) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    let mut dies = process.die_once(1).send()?;
    let mut notes: Vec<_> =
        (2..100).map(|number| process.note(number).send()).collect::<Result<_>>()?;
    assert_eq!(losses(&process), []);
    for _ in 0..3 {
        process.restart()?;
        testkit::kill9(process.pid());
        losses(&process);
    }
    process.restart()?;
    for (reply, number) in notes.iter_mut().zip(2..) {
        assert_eq!(reply.wait_timeout(SOON)?, number);
    }
    assert_eq!(dies.wait_timeout(SOON)?, 1);
    let mut numbers = diary.numbers();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers, (1..100).collect::<Vec<_>>());
    process.stop()
}

fn taken_back_between_two_processes() -> Result<()> {
    let (mut process, diary) = scribe(AT_LEAST_ONCE);
    hold(&process)?;
    process.die_once(1).tell()?;
    let mut before = process.note(2).send()?;
    let mut after = process.note(3).send()?;
    assert_eq!(losses(&process), []);
    before.cancel();
    assert!(before.is_ready());
    assert!(
        matches!(before.try_take(), Err(Error::Cancelled { command, .. }) if command == "note")
    );
    process.restart()?;
    process.sleep(1).wait()?;
    after.cancel();
    assert_eq!(after.try_take()?, Some(3), "it was done");
    assert_eq!(diary.read(), "1.1 1.2 3.1");
    process.stop()
}

fn what_is_kept_is_bounded() -> Result<()> {
    let diary = Diary::new();
    let inside = diary.0.try_clone()?;
    let mut process = MessageProcess::options("bounded")
        .undelivered(Undelivered::Redeliver)
        .queue(10)
        .send_timeout(Duration::from_millis(50))
        .fork(move |_: &Start| Ok::<_, std::io::Error>(Scribe { diary: inside.try_clone()? }))?;
    let busy = process.sleep(300).send()?;
    for number in 1..10 {
        process.note(number).tell()?;
    }
    let error = process.note(10).tell().unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(matches!(process.note(10).try_tell(), Err(Error::QueueFull { .. })));
    busy.wait()?;
    // A sender that waits for room gets it when something is done.
    process.note(10).tell()?;
    process.note(11).wait()?;
    assert_eq!(diary.numbers(), (1..12).collect::<Vec<_>>());
    process.stop()
}

fn blocks_are_held_until_they_are_handled() -> Result<()> {
    let pool = BlockPool::options().blocks(2).block_len(4096).prefault(false).anonymous()?;
    let filled = || {
        let mut loan = pool.try_loan()?;
        loan.as_bytes_mut().fill(1);
        Ok::<Block, Error>(loan.freeze())
    };
    let (mut process, _) = scribe(AT_LEAST_ONCE);
    let mut sum = process.sum(filled()?, 300).send()?;
    std::thread::sleep(Duration::from_millis(50));
    testkit::kill9(process.pid());
    assert_eq!(losses(&process), []);
    assert_eq!(pool.in_use(), 1, "the frontend holds it");
    process.restart()?;
    assert_eq!(sum.wait_timeout(SOON)?, 4096);
    assert_eq!(pool.in_use(), 0, "it is handled");

    process.sum(filled()?, 0).tell()?;
    process.sleep(0).wait()?;
    assert!(process.try_event()?.is_none());
    assert!(testkit::wait_until(SOON, || pool.in_use() == 0));
    process.stop()
}

fn a_ring_end_is_not_sent_twice() -> Result<()> {
    let (_producer, consumer) = Records::options().anonymous()?.split()?;
    let (mut process, _) = scribe(AT_LEAST_ONCE);
    process.take(consumer, 10_000).tell()?;
    process.note(1).tell()?;
    assert!(testkit::wait_until(SOON, || process.busy().is_some()));
    testkit::kill9(process.pid());
    assert_eq!(losses(&process), []);
    process.restart()?;
    let failed = process.next_event(SOON)?;
    assert!(matches!(failed, Some(Event::Failed(Error::Unsendable { .. }))), "{failed:?}");
    assert_eq!(process.note(2).wait()?, 2, "the others go on");
    process.stop()
}

fn descriptors_are_sent_again() -> Result<()> {
    let file = std::fs::File::from(os::memfd("file").map_err(Error::other)?);
    file.set_len(777)?;
    let (mut process, _) = scribe(Undelivered::Redeliver);
    hold(&process)?;
    process.die(1).tell()?;
    let mut length = process.length(Descriptor::from(std::os::fd::OwnedFd::from(file))).send()?;
    losses(&process);
    process.restart()?;
    assert_eq!(length.wait_timeout(SOON)?, 777);
    process.stop()
}

fn urgent_ones_stay_urgent() -> Result<()> {
    let (mut process, diary) = scribe(Undelivered::Redeliver);
    process.note_slowly(1, 200).tell()?;
    assert!(testkit::wait_until(SOON, || process.busy().is_some()));
    for number in 2..5 {
        process.note(number).tell()?;
    }
    process.note(5).urgent().tell()?;
    process.note(6).urgent().tell()?;
    testkit::kill9(process.pid());
    losses(&process);
    process.restart()?;
    process.note(7).wait()?;
    assert_eq!(diary.numbers(), [1, 5, 6, 2, 3, 4, 7]);
    process.stop()
}

fn a_thread_does_the_same() -> Result<()> {
    let diary = Diary::new();
    let inside = diary.0.try_clone()?;
    let mut process = MessageProcess::options("thread")
        .undelivered(Undelivered::Redeliver)
        .thread(move |_: &Start| Ok::<_, std::io::Error>(Scribe { diary: inside.try_clone()? }))?;
    process.sleep(100).tell()?;
    let mut reply = process.note(1).send()?;
    process.stop_with(&StopOptions::default().graceful(Duration::ZERO))?;
    // It left after its handler; then the program stopped it, so nothing is sent again.
    assert!(reply.wait_timeout(SOON).is_err());
    process.restart()?;
    assert_eq!(process.note(2).wait()?, 2);
    assert_eq!(diary.read(), "2.1");
    let ready = &mut [PollFd::readable(process.as_fd())];
    os::poll(ready, Some(Duration::ZERO)).map_err(Error::other)?;
    process.stop()
}
