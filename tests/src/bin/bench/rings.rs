//! Round trips while the same two processes have many other rings in the same segment.

use shmring::{Segment, WaitStrategy, ring::records::Records};

use super::{
    pair::Result,
    ring::{self, SPINNING},
};

const CAPACITY: usize = 4096;

pub(crate) fn measure(repetitions: u32) -> Result {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
        println!(
            "\nRound trip of a record of 64 B, {strategy:?}, with so many rings in the segment:"
        );
        for rings in [2, 100, 1000] {
            trips(rings, strategy, false, repetitions)?;
            if rings > 2 {
                trips(rings, strategy, true, repetitions)?;
            }
        }
    }
    Ok(())
}

/// Half of the rings go there and half back: each process has one end of each. Either one pair of
/// them carries all the trips, or all do so in turn.
fn trips(rings: usize, strategy: WaitStrategy, in_turn: bool, repetitions: u32) -> Result {
    let options = || Records::options().capacity(CAPACITY).wait(strategy);
    let len = rings * options().len_in_segment()?;
    let segment = Segment::options().objects(rings).len(len).prefault(true).anonymous()?;
    let make = || -> shmring::Result<Vec<Records>> {
        (0..rings / 2).map(|_| options().create_in(&segment)).collect()
    };
    let (there, back) = (make()?, make()?);
    let next = move |at: usize| if in_turn { (at + 1) % (rings / 2) } else { at };
    let answer = || {
        let mut rx: Vec<_> = there.iter().map(Records::consumer).collect::<Result<_, _>>()?;
        let mut tx: Vec<_> = back.iter().map(Records::producer).collect::<Result<_, _>>()?;
        let mut at = 0;
        Ok(move || {
            at = next(at);
            ring::echo(&mut rx[at], &mut tx[at])
        })
    };
    let how = if in_turn { ", in turn" } else { "" };
    ring::trips(&format!("{rings}{how}"), SPINNING, repetitions, answer, || {
        let mut tx: Vec<_> = there.iter().map(Records::producer).collect::<Result<_, _>>()?;
        let mut rx: Vec<_> = back.iter().map(Records::consumer).collect::<Result<_, _>>()?;
        let mut at = 0;
        Ok(move || {
            at = next(at);
            ring::trip(&mut tx[at], &mut rx[at], &[7; 64])
        })
    })
}
