//! Big messages one way, by handle, beside the same loops on as many bare shared slots.

use super::{
    beside::{bare::Pages, ours::Blocks, work::Measure},
    pair::Result,
};

pub(crate) fn measure(repetitions: u32) -> Result {
    let measure = Measure { repetitions, only: "" };
    for (what, len) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("1080p RGB", 1920 * 1080 * 3)] {
        println!("\n{what} one way, written and read:");
        beside::<2>(&measure, len)?;
        beside::<8>(&measure, len)?;
    }
    Ok(())
}

fn beside<const COUNT: usize>(measure: &Measure<'_>, len: usize) -> Result {
    let pages = format!("bare shared slots, {COUNT} by turns");
    let before = measure.stream::<Pages<COUNT>>(&pages, len)?;
    let blocks = measure.stream::<Blocks<COUNT>>(&format!("blocks, {COUNT} in the pool"), len)?;
    let after = measure.stream::<Pages<COUNT>>("bare shared slots again", len)?;
    println!("  blocks reach {:.2} of bare slots", blocks / ((before + after) / 2.0));
    Ok(())
}
