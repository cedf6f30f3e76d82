//! Items through a queue: what it costs that many take part.

use std::time::Instant;

use shmring::{
    RecvError,
    ring::queue::{Consumer, Producer, Queue},
};

use super::{
    pair::{self, Result, finish, start},
    stats,
};

const ITEMS: u64 = 400_000;
const LEN: usize = 64;
const BATCH: usize = 16;

pub(crate) fn measure(repetitions: u32) -> Result {
    pair::unpin()?;
    println!(
        "\nItems of {LEN} B through a queue, written and read, all ends in processes of their own:"
    );
    for batch in [1, BATCH] {
        let mut of_one = None;
        for ends in [1, 2, 4, 8] {
            let rates = (0..repetitions).map(|_| rate(ends, batch));
            let rate = stats::median(&mut rates.collect::<Result<Vec<_>>>()?);
            let of_one = *of_one.get_or_insert(rate);
            let how = if batch == 1 { "one by one" } else { "in batches" };
            println!(
                "  {ends} to {ends}, {how}  {:>6.2} M/s  {:.2} of 1 to 1",
                rate / 1e6,
                rate / of_one
            );
        }
    }
    Ok(())
}

/// Items a second.
fn rate(ends: u64, batch: usize) -> Result<f64> {
    let queue = Queue::options().capacity(256).item_len(LEN).anonymous()?;
    // It is not closed before all have come.
    let open = queue.producer()?;
    let began = Instant::now();
    let producers = start(ends, || produce(queue.producer()?, ITEMS / ends, batch))?;
    let consumers = start(ends, || consume(queue.consumer()?, batch))?;
    finish(producers)?;
    drop(open);
    finish(consumers)?;
    let took = began.elapsed();
    assert_eq!(queue.stats().acked, ITEMS / ends * ends);
    Ok(ITEMS as f64 / took.as_secs_f64())
}

fn produce(mut tx: Producer, items: u64, batch: usize) -> Result {
    let mut left = items;
    while left > 0 {
        if batch == 1 {
            let mut claim = tx.claim(LEN)?;
            claim.fill(left as u8);
            claim.commit()?;
            left -= 1;
            continue;
        }
        // The first of a batch waits for room.
        let mut claim = tx.claim(LEN)?;
        claim.fill(left as u8);
        claim.commit()?;
        left -= 1;
        let mut items = tx.batch();
        for _ in 1..batch.min(left as usize + 1) {
            let Ok(mut claim) = items.try_claim(LEN) else { break };
            claim.fill(left as u8);
            claim.commit()?;
            left -= 1;
        }
        items.publish()?;
    }
    Ok(())
}

fn consume(mut rx: Consumer, batch: usize) -> Result {
    loop {
        let run = match rx.run(batch) {
            Ok(run) => run,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for item in run.iter() {
            assert!(item.iter().all(|byte| *byte == item[0]));
        }
        run.ack()?;
    }
}
