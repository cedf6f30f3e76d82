//! Round trips of records and of blocks.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shmring::{
    Segment, WaitStrategy,
    block::{Block, BlockPool},
    ring::{
        port,
        records::{Consumer, Producer, Records},
    },
};

use super::{
    line::Line,
    pair::{self, Result},
    slots, stats,
};

pub(crate) const LATE: Duration = Duration::from_secs(30);
pub(crate) const SPINNING: u32 = 20_000;
const SLEEPING: u32 = 400;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nRound trip of a record between two processes, written and read on both sides:");
    let trips = |len: usize, strategy, trips| {
        round_trip(&format!("{len} B, {strategy:?}"), len, strategy, trips, repetitions)
    };
    slots::round_trip("8 B, bare slots", 1, repetitions)?;
    slots::round_trip("64 B, bare slots", 8, repetitions)?;
    for len in [8, 64, 1024] {
        trips(len, WaitStrategy::Spin, SPINNING)?;
    }
    for len in [8, 64] {
        trips(len, WaitStrategy::Adaptive, SPINNING)?;
    }
    for len in [8, 64] {
        trips(len, WaitStrategy::Park, SLEEPING)?;
    }
    Ok(())
}

/// Blocks that go there and come back by handle: only the first word of each is touched.
pub(crate) fn measure_blocks(repetitions: u32) -> Result {
    println!("\nRound trip of a block, loaned, its first word written and read on both sides:");
    let frame = 1920 * 1080 * 3;
    for (what, len) in
        [("64 B", 64), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("1080p RGB", frame)]
    {
        block_trip(what, len, repetitions)?;
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Frame {
    number: u64,
    picture: Block,
}

fn block_trip(what: &str, len: usize, repetitions: u32) -> Result {
    let blocks = 4;
    let segment = Segment::options().len((1 << 20) + blocks * (len + 4096)).anonymous()?;
    let pool = BlockPool::options().blocks(blocks).block_len(len).create_in(&segment)?;
    let ring = || {
        let options = Records::options().capacity(1 << 16).wait(WaitStrategy::Spin);
        options.create_in(&segment)
    };
    let (there, back) = (ring()?, ring()?);
    let answer = || {
        let mut rx = port::Receiver::<Frame>::new(there.consumer()?);
        let mut tx = port::Sender::<Frame>::new(back.producer()?);
        Ok(move || {
            let frame = rx.recv_timeout(LATE)?;
            assert_eq!(frame.picture.as_bytes()[0], frame.number as u8);
            tx.send(frame).map_err(|error| error.map(drop))?;
            Ok(())
        })
    };
    trips(what, SPINNING, repetitions, answer, || {
        let mut tx = port::Sender::<Frame>::new(there.producer()?);
        let mut rx = port::Receiver::<Frame>::new(back.consumer()?);
        let mut number = 0;
        Ok(move || {
            number += 1;
            let mut loan = pool.try_loan()?;
            loan.as_bytes_mut()[0] = number as u8;
            tx.send(Frame { number, picture: loan.freeze() }).map_err(|error| error.map(drop))?;
            let frame = rx.recv_timeout(LATE)?;
            assert_eq!(frame.picture.as_bytes()[0], number as u8);
            Ok(())
        })
    })
}

/// What one repetition measured.
struct Sample {
    line: f64,
    trip: f64,
}

pub(crate) fn round_trip(
    what: &str,
    len: usize,
    strategy: WaitStrategy,
    trips: u32,
    repetitions: u32,
) -> Result {
    let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
    let ring = || Records::options().capacity(1 << 16).wait(strategy).create_in(&segment);
    let (there, back) = (ring()?, ring()?);
    let answer = || {
        let (mut rx, mut tx) = (there.consumer()?, back.producer()?);
        Ok(move || echo(&mut rx, &mut tx))
    };
    self::trips(what, trips, repetitions, answer, || {
        let (mut tx, mut rx) = (there.producer()?, back.consumer()?);
        let message = vec![7u8; len];
        Ok(move || trip(&mut tx, &mut rx, &message))
    })
}

/// Measures round trips, with the line before and after each repetition, and prints them. Each
/// process takes its ends for itself and then does one trip whenever it is called.
pub(crate) fn trips<A: FnMut() -> Result, T: FnMut() -> Result>(
    what: &str,
    trips: u32,
    repetitions: u32,
    answer: impl FnOnce() -> Result<A>,
    here: impl FnOnce() -> Result<T>,
) -> Result {
    let line = Line::new()?;
    let there = || {
        let mut answer = answer()?;
        for _ in 0..repetitions {
            line.answer();
            for _ in 0..2 * trips {
                answer()?;
            }
            line.answer();
        }
        Ok(())
    };
    let mut single = Vec::new();
    let samples = pair::run(there, || {
        let mut trip = here()?;
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            let before = line.measure();
            let trip_time =
                stats::batches(u64::from(trips), || trip().expect("the other process lives"));
            // Once more, each by itself: the clock costs as much as a trip, so not for the mean.
            for _ in 0..trips {
                let began = Instant::now();
                trip()?;
                single.push(began.elapsed().as_nanos() as u64);
            }
            let after = line.measure();
            samples.push(Sample { line: (before + after) / 2.0, trip: trip_time });
        }
        Ok(samples)
    })?;
    report(what, &samples, &mut single);
    Ok(())
}

/// Sends one record back.
#[inline]
pub(crate) fn echo(rx: &mut Consumer, tx: &mut Producer) -> Result {
    let record = rx.recv_timeout(LATE)?;
    let mut claim = tx.claim(record.len())?;
    claim.copy_from_slice(&record);
    // Answered first and released afterwards, as one does who may be killed.
    claim.commit();
    drop(record);
    Ok(())
}

#[inline]
pub(crate) fn trip(tx: &mut Producer, rx: &mut Consumer, message: &[u8]) -> Result {
    let mut claim = tx.claim(message.len())?;
    claim.copy_from_slice(message);
    claim.commit();
    let record = rx.recv_timeout(LATE)?;
    assert_eq!(*record, *message);
    Ok(())
}

/// Bars hold for repetitions with a usual line: the machine has quicker and slower placements.
const USUAL_LINE: std::ops::Range<f64> = 80.0..150.0;

fn report(what: &str, samples: &[Sample], single: &mut [u64]) {
    let mut all: Vec<f64> = samples.iter().map(|sample| sample.trip / sample.line).collect();
    let usual = samples.iter().filter(|sample| USUAL_LINE.contains(&sample.line)).count();
    let mut lines: Vec<f64> = samples.iter().map(|sample| sample.line).collect();
    let mut trips: Vec<f64> = samples.iter().map(|sample| sample.trip).collect();
    println!(
        "  {what:<16} {:>6.2} lines  ({}, line {}; {usual} of {} with a usual line)  {}",
        stats::median(&mut all),
        stats::time(stats::median(&mut trips)),
        stats::time(stats::median(&mut lines)),
        samples.len(),
        stats::tail(single),
    );
}
