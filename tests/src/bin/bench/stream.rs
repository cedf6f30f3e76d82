//! Items one way between two processes: how many a second.

use std::time::Instant;

use shmring::{
    Segment, WaitStrategy,
    ring::{
        cells::{self, Cells},
        records::{self, Records},
    },
};

use super::{
    line::Line,
    pair::{self, Result},
    stats,
};

const ITEMS: u64 = 500_000;
const WORDS: usize = 8;
const LEN: usize = WORDS * 8;
const BATCH: usize = 64;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nItems of {LEN} B one way between two processes, written and read:");
    for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
        let what = |kind, how| format!("{kind} {how}, {strategy:?}");
        let records = || Records::options().capacity(1 << 16).wait(strategy);
        let cells = || Cells::<[u64; WORDS]>::options().capacity(1024).wait(strategy);
        stream(
            &what("records", "one by one"),
            repetitions,
            |segment| Ok(records().create_in(segment)?),
            |ring| Ok((ring.producer()?, send_records as Send<_>)),
            |ring| Ok((ring.consumer()?, take_records as Take<_>)),
        )?;
        stream(
            &what("records", "in batches"),
            repetitions,
            |segment| Ok(records().create_in(segment)?),
            |ring| Ok((ring.producer()?, send_batches as Send<_>)),
            |ring| Ok((ring.consumer()?, take_batches as Take<_>)),
        )?;
        stream(
            &what("cells", "one by one"),
            repetitions,
            |segment| Ok(cells().create_in(segment)?),
            |ring| Ok((ring.producer()?, send_cells as Send<_>)),
            |ring| Ok((ring.consumer()?, take_cells as Take<_>)),
        )?;
        stream(
            &what("cells", "in batches"),
            repetitions,
            |segment| Ok(cells().create_in(segment)?),
            |ring| Ok((ring.producer()?, send_slices as Send<_>)),
            |ring| Ok((ring.consumer()?, take_slices as Take<_>)),
        )?;
    }
    Ok(())
}

/// Sends this many items.
type Send<T> = fn(&mut T, u64) -> Result;
/// Takes this many items.
type Take<T> = fn(&mut T, u64) -> Result;

fn stream<R, T, C>(
    what: &str,
    repetitions: u32,
    ring: impl FnOnce(&Segment) -> Result<R>,
    producer: impl FnOnce(&R) -> Result<(T, Send<T>)>,
    consumer: impl FnOnce(&R) -> Result<(C, Take<C>)>,
) -> Result {
    let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
    let ring = ring(&segment)?;
    let done = Records::options().wait(WaitStrategy::Spin).create_in(&segment)?;
    let line = Line::new()?;
    let there = || {
        let (mut rx, take) = consumer(&ring)?;
        let mut done = done.producer()?;
        for _ in 0..repetitions {
            line.answer();
            take(&mut rx, ITEMS)?;
            done.send([1])?;
            line.answer();
        }
        Ok(())
    };
    let (mut rates, mut lines) = pair::run(there, || {
        let (mut tx, send) = producer(&ring)?;
        let mut done = done.consumer()?;
        let (mut rates, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            let before = line.measure();
            let began = Instant::now();
            send(&mut tx, ITEMS)?;
            done.recv()?;
            rates.push(ITEMS as f64 / began.elapsed().as_secs_f64());
            lines.push((before + line.measure()) / 2.0);
        }
        Ok((rates, lines))
    })?;
    println!(
        "  {what:<30} {:>6.1} M/s  (line {})",
        stats::median(&mut rates) / 1e6,
        stats::time(stats::median(&mut lines)),
    );
    Ok(())
}

/// Writes an item that says everywhere which one it is.
fn fill(item: &mut [u8], number: u64) {
    for word in item.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
}

/// Reads all of an item.
fn check(item: &[u8], number: u64) {
    let words = item.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8")));
    assert_eq!(words.fold(0, |all, word| all | (word ^ number)), 0, "item {number}");
}

fn send_records(tx: &mut records::Producer, items: u64) -> Result {
    for number in 0..items {
        let mut claim = tx.claim(LEN)?;
        fill(&mut claim, number);
        claim.commit();
    }
    Ok(())
}

fn take_records(rx: &mut records::Consumer, items: u64) -> Result {
    for number in 0..items {
        check(&rx.recv()?, number);
    }
    Ok(())
}

fn send_batches(tx: &mut records::Producer, items: u64) -> Result {
    let mut number = 0;
    while number < items {
        // The first of a batch waits for room.
        let mut claim = tx.claim(LEN)?;
        fill(&mut claim, number);
        claim.commit();
        number += 1;
        let mut batch = tx.batch();
        for _ in 1..BATCH.min((items - number) as usize + 1) {
            let Ok(mut claim) = batch.try_claim(LEN) else { break };
            fill(&mut claim, number);
            claim.commit();
            number += 1;
        }
        batch.publish();
    }
    Ok(())
}

fn take_batches(rx: &mut records::Consumer, items: u64) -> Result {
    let mut number = 0;
    while number < items {
        let mut run = rx.run()?;
        for _ in 0..BATCH.min((items - number) as usize) {
            let Some(record) = run.next()? else { break };
            check(&record, number);
            number += 1;
        }
    }
    Ok(())
}

fn send_cells(tx: &mut cells::Producer<[u64; WORDS]>, items: u64) -> Result {
    for number in 0..items {
        let mut claim = tx.claim()?;
        *claim = [number; WORDS];
        claim.commit();
    }
    Ok(())
}

fn take_cells(rx: &mut cells::Consumer<[u64; WORDS]>, items: u64) -> Result {
    for number in 0..items {
        check_words(&*rx.recv()?, number);
    }
    Ok(())
}

fn send_slices(tx: &mut cells::Producer<[u64; WORDS]>, items: u64) -> Result {
    let mut number = 0;
    while number < items {
        let mut claim = tx.claim_many(BATCH.min((items - number) as usize))?;
        for cell in &mut *claim {
            *cell = [number; WORDS];
            number += 1;
        }
        claim.commit();
    }
    Ok(())
}

fn take_slices(rx: &mut cells::Consumer<[u64; WORDS]>, items: u64) -> Result {
    let mut number = 0;
    while number < items {
        let run = rx.run()?;
        let count = run.len().min(BATCH);
        for cell in &run[..count] {
            check_words(cell, number);
            number += 1;
        }
        run.release(count);
    }
    Ok(())
}

fn check_words(item: &[u64; WORDS], number: u64) {
    assert_eq!(item.iter().fold(0, |all, word| all | (word ^ number)), 0, "item {number}");
}
