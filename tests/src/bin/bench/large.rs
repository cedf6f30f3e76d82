//! Big messages one way, by handle, beside the same loops on bare shared pages.

use super::{
    beside::{bare::Pages, ours, work::Measure},
    pair::Result,
};

pub(crate) fn measure(repetitions: u32) -> Result {
    let measure = Measure { repetitions, only: "" };
    for (what, len) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("1080p RGB", 1920 * 1080 * 3)] {
        println!("\n{what} one way, written and read:");
        let pages = measure.stream::<Pages>("bare shared pages, 2 in turn", len)?;
        let blocks = measure.stream::<ours::Blocks>("blocks, 8 in the pool", len)?;
        let again = measure.stream::<Pages>("bare shared pages again", len)?;
        println!("  blocks reach {:.2} of bare pages", blocks / ((pages + again) / 2.0));
    }
    Ok(())
}
