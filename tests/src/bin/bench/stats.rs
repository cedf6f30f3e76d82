//! Numbers as people compare them.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Says what it was measured on.
pub(crate) fn print_machine() {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{model}, {processors} processors, Linux {}", kernel.trim());
}

/// The value below which `share` of a sorted list lies.
pub(crate) fn percentile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Sorts numbers and gives the middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(values, 0.5)
}

/// Nanoseconds of one `trip` of `trips`: the median of batches of 100, so that what the machine
/// takes away for a while in between does not count.
pub(crate) fn batches(trips: u64, mut trip: impl FnMut()) -> f64 {
    const BATCH: u64 = 100;
    let mut times: Vec<f64> = (0..trips / BATCH)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                trip();
            }
            nanoseconds(began.elapsed()) / BATCH as f64
        })
        .collect();
    median(&mut times)
}

/// A time in the unit that suits it.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 10_000.0 => format!("{ns:.0} ns"),
        ns if ns < 10_000_000.0 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Percentiles of single times, sorted in place.
pub(crate) fn tail(times: &mut [u64]) -> String {
    times.sort_unstable();
    let at = |share| time(percentile(times, share) as f64);
    let max = time(times.last().copied().unwrap_or(0) as f64);
    format!("p50 {}, p99 {}, p99.9 {}, max {max}", at(0.5), at(0.99), at(0.999))
}

pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// What this process has used of processors, in user code and in the kernel.
pub(crate) fn processor_time() -> Duration {
    // SAFETY: zeros are a usage, which the call fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few() {
        assert_eq!(percentile(&[1, 2, 3], 0.5), 2);
        assert_eq!(percentile(&[1, 2, 3], 1.0), 3);
        assert_eq!(percentile::<u8>(&[], 0.5), 0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(time(999.4), "999 ns");
        assert_eq!(time(12_345.0), "12.3 µs");
    }
}
