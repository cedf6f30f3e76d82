//! What it takes to wake who sleeps.

use super::{
    beside::{bare::Futex, ours, pipes, work::Measure},
    pair::Result,
};

const TRIPS: u32 = 400;

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nRound trip of 64 B, written and read, both sides asleep in between:");
    let measure = Measure { repetitions, only: "" };
    let futex = measure.trip::<Futex>("a bare futex", TRIPS)?;
    let records = measure.trip::<ours::Records<64, { ours::PARK }>>("records, Park", TRIPS)?;
    let again = measure.trip::<Futex>("a bare futex again", TRIPS)?;
    measure.trip::<pipes::Pipe>("pipe", TRIPS)?;
    measure.trip::<pipes::SocketPair>("socket pair", TRIPS)?;
    println!("  records take {:.2} times as long as a futex", records / ((futex + again) / 2.0));
    Ok(())
}
