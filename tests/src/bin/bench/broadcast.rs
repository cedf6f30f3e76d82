//! What it costs a producer that several listen, who sleep between two batches.

use std::{
    thread,
    time::{Duration, Instant},
};

use shmring::{
    RecvError, SendError, WaitStrategy,
    ring::broadcast::{Broadcast, Consumer, Producer},
};

use super::{
    pair::{self, Result},
    stats,
};

const LEN: usize = 64;
/// Items a second.
const RATE: u32 = 1_000_000;
/// Of each repetition.
const TIME: Duration = Duration::from_millis(120);

pub(crate) fn measure(repetitions: u32) -> Result {
    println!(
        "\nBroadcast of {} M items of {LEN} B a second to consumers that sleep, in processes of",
        RATE / 1_000_000
    );
    println!("their own: processor time of the producer for each item, its own sleep included:");
    for every in [Duration::from_millis(10), Duration::from_millis(1)] {
        for consumers in [0, 1, 2, 4, 8] {
            let (mut costs, mut late) = costs(consumers, every, repetitions)?;
            println!(
                "  {consumers} consumers, {:>5} items every {:>2} ms  {:>5.1} ns an item  (late {})",
                every.as_micros() as u32 * (RATE / 1_000_000),
                every.as_millis(),
                stats::median(&mut costs),
                stats::time(stats::median(&mut late)),
            );
        }
    }
    pair::unpin()
}

/// Nanoseconds of processor time for an item, and how late each repetition ended.
fn costs(consumers: u64, every: Duration, repetitions: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    // Several batches fit, so nobody is waited for who keeps up.
    let options = Broadcast::options().capacity(4 << 20).wait(WaitStrategy::Park);
    let ring = options.anonymous()?;
    let mut tx = ring.producer()?;
    let children = pair::start(consumers, || {
        pair::pin(1)?;
        consume(ring.consumer()?)
    })?;
    pair::pin(0)?;
    let began = Instant::now();
    while ring.stats().consumers < consumers {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("the consumers of a broadcast ring do not join".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let batch = u64::from(RATE) * every.as_micros() as u64 / 1_000_000;
    let batches = TIME.as_micros() / every.as_micros();
    let (mut costs, mut late) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let (began, used) = (Instant::now(), stats::processor_time());
        for number in 1..=batches as u32 {
            publish(&mut tx, batch)?;
            let next = every * number;
            thread::sleep(next.saturating_sub(began.elapsed()));
        }
        let used = stats::processor_time() - used;
        costs.push(stats::nanoseconds(used) / (batch as f64 * batches as f64));
        late.push(stats::nanoseconds(began.elapsed().saturating_sub(every * batches as u32)));
    }
    drop(tx);
    pair::finish(children)?;
    Ok((costs, late))
}

fn publish(tx: &mut Producer, items: u64) -> Result {
    let mut left = items;
    while left > 0 {
        let mut batch = tx.batch();
        while left > 0 {
            let mut claim = match batch.try_claim(LEN) {
                Ok(claim) => claim,
                Err(SendError::Full(())) => break,
                Err(error) => return Err(error.into()),
            };
            claim.fill(left as u8);
            claim.commit();
            left -= 1;
        }
        batch.publish();
        if left > 0 {
            // Somebody had no processor for long.
            let mut claim = tx.claim(LEN)?;
            claim.fill(left as u8);
            claim.commit();
            left -= 1;
        }
    }
    Ok(())
}

fn consume(mut rx: Consumer) -> Result {
    let check = |item: &[u8]| assert!(item.len() == LEN && item.iter().all(|b| *b == item[0]));
    loop {
        let mut run = match rx.run() {
            Ok(run) => run,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while let Some(item) = run.next()? {
            check(&item);
        }
    }
}
