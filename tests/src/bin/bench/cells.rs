//! Round trips of cells, beside records of the same size.

use shmring::{Segment, WaitStrategy, ring::cells::Cells};

use super::{
    pair::Result,
    ring::{self, LATE, SPINNING},
};

pub(crate) fn measure(repetitions: u32) -> Result {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
        println!("\nRound trip of a cell, {strategy:?}, and of a record:");
        cells::<1>("8 B, cells", strategy, repetitions)?;
        ring::round_trip("8 B, records", 8, strategy, SPINNING, repetitions)?;
        cells::<8>("64 B, cells", strategy, repetitions)?;
        ring::round_trip("64 B, records", 64, strategy, SPINNING, repetitions)?;
    }
    Ok(())
}

fn cells<const WORDS: usize>(what: &str, strategy: WaitStrategy, repetitions: u32) -> Result {
    let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
    let ring = || Cells::<[u64; WORDS]>::options().capacity(512).wait(strategy).create_in(&segment);
    let (there, back) = (ring()?, ring()?);
    let answer = || {
        let (mut rx, mut tx) = (there.consumer()?, back.producer()?);
        Ok(move || {
            let item = rx.recv_timeout(LATE)?;
            let mut claim = tx.claim()?;
            *claim = *item;
            claim.commit();
            drop(item);
            Ok(())
        })
    };
    ring::trips(what, SPINNING, repetitions, answer, || {
        let (mut tx, mut rx) = (there.producer()?, back.consumer()?);
        let message = [7; WORDS];
        Ok(move || {
            let mut claim = tx.claim()?;
            *claim = message;
            claim.commit();
            assert_eq!(*rx.recv_timeout(LATE)?, message);
            Ok(())
        })
    })
}
