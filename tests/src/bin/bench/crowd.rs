//! Many backends in one program.

use std::{
    fs,
    time::{Duration, Instant},
};

use msgproc::prelude::*;

use super::{pair::Result, stats};

/// How many calls, and how many events, are timed at each size.
const TURNS: u32 = 2000;

struct One;

#[backend(event = u64)]
impl One {
    fn c__answer(&mut self) -> u8 {
        7
    }

    fn c__say(&mut self, number: u64, ctx: &mut Context<u64>) -> msgproc::Result<()> {
        ctx.emit(number)
    }
}

pub(crate) fn measure() -> Result {
    println!("\nMany backends in one program:");
    println!(
        "    {:>11} {:>5} {:>12} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "", "", "start each", "one call", "one event", "calls/s all", "stop all", "PSS each"
    );
    let server = ForkServer::start()?;
    for count in [1, 10, 100, 1000] {
        crowd("fork", count, || MessageProcess::fork("bench-one", |_| One))?;
        crowd("fork server", count, || {
            MessageProcess::fork_from(&server, "bench-one", (), |(), _| One)
        })?;
    }
    Ok(())
}

fn crowd(
    way: &str,
    count: usize,
    start: impl Fn() -> msgproc::Result<MessageProcess<One>>,
) -> Result {
    let mut manager = Manager::new()?;
    let began = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(manager.add(start()?)?);
    }
    let started = stats::nanoseconds(began.elapsed()) / count as f64;

    // One after the other, all in turn: what a call costs must not depend on how many there are.
    let began = Instant::now();
    for turn in 0..TURNS as usize {
        assert_eq!(manager[ids[turn % count]].answer().wait()?, 7);
    }
    let call = stats::nanoseconds(began.elapsed()) / f64::from(TURNS);

    let began = Instant::now();
    for turn in 0..TURNS as usize {
        manager[ids[turn % count]].say(turn as u64).tell()?;
        loop {
            match manager.next(Duration::from_secs(10))? {
                Some(Happening::Event { event, .. }) => {
                    assert_eq!(event, turn as u64);
                    break;
                }
                Some(Happening::Reply { .. }) => {}
                other => return Err(format!("{other:?} instead of an event").into()),
            }
        }
    }
    let event = stats::nanoseconds(began.elapsed()) / f64::from(TURNS);

    // All at once.
    let began = Instant::now();
    let mut replies = Vec::new();
    for _ in 0..(TURNS as usize).div_ceil(count) {
        for id in &ids {
            replies.push(manager[*id].answer().send()?);
        }
    }
    let sent = replies.len();
    for reply in replies {
        reply.wait()?;
    }
    let at_once = sent as f64 / began.elapsed().as_secs_f64();

    let memory: Option<u64> = ids.iter().map(|id| pss(manager[*id].pid())).sum();
    let began = Instant::now();
    for (_, exit) in manager.stop() {
        exit?;
    }
    println!(
        "    {way:>11} {count:>5} {:>12} {:>12} {:>12} {at_once:>12.0} {:>12} {:>7} KiB",
        stats::time(started),
        stats::time(call),
        stats::time(event),
        stats::time(stats::nanoseconds(began.elapsed())),
        memory.map_or(0, |memory| memory / count as u64),
    );
    Ok(())
}

/// In KiB: memory of its own, and its share of what others use too.
fn pss(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
