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
    stats,
};

const LATE: Duration = Duration::from_secs(30);
const SPINNING: u32 = 20_000;
const SLEEPING: u32 = 400;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nRound trip of a record between two processes, written and read on both sides:");
    for len in [8, 64, 1024] {
        round_trip(len, WaitStrategy::Spin, SPINNING, repetitions)?;
    }
    for len in [8, 64] {
        round_trip(len, WaitStrategy::Adaptive, SPINNING, repetitions)?;
    }
    for len in [8, 64] {
        round_trip(len, WaitStrategy::Park, SLEEPING, repetitions)?;
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
    let line = Line::new()?;
    let answer = || {
        let mut rx = port::Receiver::<Frame>::new(there.consumer()?);
        let mut tx = port::Sender::<Frame>::new(back.producer()?);
        for _ in 0..repetitions {
            line.answer();
            for _ in 0..2 * SPINNING {
                let frame = rx.recv_timeout(LATE)?;
                assert_eq!(frame.picture.as_bytes()[0], frame.number as u8);
                tx.send(frame).map_err(|error| error.map(drop))?;
            }
            line.answer();
        }
        Ok(())
    };
    let mut single = Vec::new();
    let samples = pair::run(answer, || {
        let mut tx = port::Sender::<Frame>::new(there.producer()?);
        let mut rx = port::Receiver::<Frame>::new(back.consumer()?);
        let mut trip = |number: u64| -> Result {
            let mut loan = pool.try_loan()?;
            loan.as_bytes_mut()[0] = number as u8;
            tx.send(Frame { number, picture: loan.freeze() }).map_err(|error| error.map(drop))?;
            let frame = rx.recv_timeout(LATE)?;
            assert_eq!(frame.picture.as_bytes()[0], number as u8);
            Ok(())
        };
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            let before = line.measure();
            let mut number = 0;
            let took = stats::batches(u64::from(SPINNING), || {
                number += 1;
                trip(number).expect("the other process lives");
            });
            for number in 0..u64::from(SPINNING) {
                let began = Instant::now();
                trip(number)?;
                single.push(began.elapsed().as_nanos() as u64);
            }
            let after = line.measure();
            samples.push(Sample { line: (before + after) / 2.0, trip: took });
        }
        Ok(samples)
    })?;
    report(what, &samples, &mut single);
    Ok(())
}

/// What one repetition measured.
struct Sample {
    line: f64,
    trip: f64,
}

fn round_trip(len: usize, strategy: WaitStrategy, trips: u32, repetitions: u32) -> Result {
    let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
    let ring = || Records::options().capacity(1 << 16).wait(strategy).create_in(&segment);
    let (there, back) = (ring()?, ring()?);
    let line = Line::new()?;
    let answer = || {
        let (mut rx, mut tx) = (there.consumer()?, back.producer()?);
        for _ in 0..repetitions {
            line.answer();
            for _ in 0..2 * trips {
                let record = rx.recv_timeout(LATE)?;
                let mut claim = tx.claim(record.len())?;
                claim.copy_from_slice(&record);
                // Answered first and released afterwards, as one does who may be killed.
                claim.commit();
                drop(record);
            }
            line.answer();
        }
        Ok(())
    };
    let mut single = Vec::new();
    let samples = pair::run(answer, || {
        let (mut tx, mut rx) = (there.producer()?, back.consumer()?);
        let message = vec![7u8; len];
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            let before = line.measure();
            let trip_time = stats::batches(u64::from(trips), || {
                trip(&mut tx, &mut rx, &message).expect("the other process lives");
            });
            // Once more, each by itself: the clock costs as much as a trip, so not for the mean.
            for _ in 0..trips {
                let began = Instant::now();
                trip(&mut tx, &mut rx, &message)?;
                single.push(began.elapsed().as_nanos() as u64);
            }
            let after = line.measure();
            samples.push(Sample { line: (before + after) / 2.0, trip: trip_time });
        }
        Ok(samples)
    })?;
    report(&format!("{len} B, {strategy:?}"), &samples, &mut single);
    Ok(())
}

fn trip(tx: &mut Producer, rx: &mut Consumer, message: &[u8]) -> Result {
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
