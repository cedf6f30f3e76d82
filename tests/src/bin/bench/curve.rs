//! What each way to wait costs and gives, from a busy ring to an idle one.

use std::time::{Duration, Instant};

use shmring::{Segment, WaitStrategy, ring::records::Records};

use super::{
    pair::{self, Result},
    stats,
};

const LEN: usize = 64;
const GAPS: [u64; 7] = [1, 5, 20, 50, 100, 500, 2000];
/// Of each repetition. They follow one another without a break.
const TIME: Duration = Duration::from_millis(60);
/// Before the first: what waits has learned by then how long it is worth while to spin.
const WARM_UP: Duration = Duration::from_millis(50);

/// What the second word of a record says.
const WARM: u64 = 0;
const COUNTED: u64 = 1;
const LAST: u64 = 2;

pub(crate) fn measure(repetitions: u32) -> Result {
    let time = TIME * repetitions;
    println!(
        "\nOne record of {LEN} B every so often, for {}: from send to receive, and processor time",
        stats::time(stats::nanoseconds(time))
    );
    println!("of the consumer. Where sending takes longer than the gap, it comes less often:");
    for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
        for gap in GAPS {
            let mut seen = at_gap(Duration::from_micros(gap), strategy, time)?;
            seen.latencies.sort_unstable();
            let at = |share| stats::time(stats::percentile(&seen.latencies, share) as f64);
            println!(
                "  {:<8}  every {gap:>4} µs ({:>7.1} µs)  median {:>8}, p99 {:>8}  CPU {:>5.1} %",
                format!("{strategy:?}"),
                seen.gap.as_nanos() as f64 / 1e3,
                at(0.5),
                at(0.99),
                seen.share * 100.0,
            );
        }
    }
    Ok(())
}

/// What a consumer saw.
struct Seen {
    latencies: Vec<u64>,
    /// The mean from one record to the next.
    gap: Duration,
    /// Of a processor.
    share: f64,
}

fn at_gap(gap: Duration, strategy: WaitStrategy, time: Duration) -> Result<Seen> {
    let segment = Segment::options().len(1 << 20).prefault(true).anonymous()?;
    let ring = Records::options().capacity(1 << 16).wait(strategy).create_in(&segment)?;
    let report = Records::options().capacity(1 << 16).create_in(&segment)?;
    // Both processes read the same monotonic clock, from here on.
    let epoch = Instant::now();
    let now = || epoch.elapsed().as_nanos() as u64;
    let there = || {
        let (mut rx, mut report) = (ring.consumer()?, report.producer()?);
        // Touched before the first comes.
        let mut latencies = vec![1; (time.as_nanos() / gap.as_nanos()) as usize + 1000];
        latencies.clear();
        let mut began = None;
        loop {
            let record = rx.recv()?;
            let received = now();
            let (sent, phase) = (word(&record, 0), word(&record, 1));
            drop(record);
            if phase == COUNTED {
                began.get_or_insert_with(|| (received, stats::processor_time()));
                latencies.push(received.saturating_sub(sent));
            }
            if phase == LAST {
                let (at, used) = began.ok_or("no record was counted")?;
                let used = stats::processor_time() - used;
                report.send((used.as_nanos() as u64).to_ne_bytes())?;
                report.send((received - at).to_ne_bytes())?;
                break;
            }
        }
        for latencies in latencies.chunks(1000) {
            let bytes: Vec<u8> = latencies.iter().flat_map(|ns| ns.to_ne_bytes()).collect();
            report.send(bytes)?;
        }
        Ok(())
    };
    pair::run(there, || {
        let (mut tx, mut report) = (ring.producer()?, report.consumer()?);
        let gap = gap.as_nanos() as u64;
        let counted = now() + WARM_UP.as_nanos() as u64;
        let last = counted + time.as_nanos() as u64;
        let mut next = now();
        loop {
            let sent = loop {
                let now = now();
                if now >= next {
                    break now;
                }
                std::hint::spin_loop();
            };
            let phase = match sent {
                sent if sent >= last => LAST,
                sent if sent >= counted => COUNTED,
                _ => WARM,
            };
            let mut claim = tx.claim(LEN)?;
            claim[..8].copy_from_slice(&sent.to_ne_bytes());
            claim[8..16].copy_from_slice(&phase.to_ne_bytes());
            claim.commit();
            if phase == LAST {
                break;
            }
            // One that was late is no reason to send two at once.
            next = (next + gap).max(now());
        }
        let used = word(&report.recv()?, 0);
        let took = word(&report.recv()?, 0);
        let mut latencies = Vec::new();
        while let Ok(part) = report.recv() {
            latencies.extend((0..part.len() / 8).map(|at| word(&part, at)));
        }
        let gap = Duration::from_nanos(took / latencies.len().max(1) as u64);
        Ok(Seen { latencies, gap, share: used as f64 / took as f64 })
    })
}

fn word(record: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(record[at * 8..][..8].try_into().expect("eight bytes"))
}
