//! The work itself: the same for all.

use std::{hint::black_box, time::Instant};

use super::{
    line::Line,
    pair::{self, Result},
    stats,
    system::{Rx, System, Tx},
};

pub(crate) struct Measure<'a> {
    pub(crate) repetitions: u32,
    pub(crate) only: &'a str,
}

fn write(message: &mut [u8], touched: usize, value: u8) {
    message[..touched].fill(value);
}

fn read(message: &[u8], touched: usize) -> u64 {
    // By words, so that the loop is bounded by memory and not by the adding.
    let (words, rest) = message[..touched].as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Runs both sides, each on its processor.
fn both<R: Send>(
    threads: bool,
    there: impl FnOnce() -> Result + Send,
    here: impl FnOnce() -> Result<R>,
) -> Result<R> {
    if !threads {
        return pair::run(there, here);
    }
    std::thread::scope(|scope| {
        let there = || pair::pin(1).and_then(|()| there()).map_err(|error| error.to_string());
        let second = scope.spawn(there);
        pair::pin(0)?;
        let result = here();
        second.join().map_err(|_| "the second thread panicked")??;
        result
    })
}

impl Measure<'_> {
    fn wants(&self, name: &str) -> bool {
        name.contains(self.only)
    }

    /// Round trips of 64 bytes. Gives the nanoseconds of one.
    pub(crate) fn trip<S: System>(&self, name: &str, trips: u32) -> Result<f64> {
        if !self.wants(name) {
            return Ok(f64::NAN);
        }
        let touched = S::touched(64);
        let (system, line) = (S::new(64)?, Line::new()?);
        let repetitions = self.repetitions;
        let there = || {
            let (mut rx, mut tx) = (system.rx(0)?, system.tx(1)?);
            for _ in 0..repetitions {
                line.answer();
                for _ in 0..2 * trips {
                    let mut value = 0;
                    rx.recv(|message| value = read(message, touched) as u8)?;
                    tx.send(|message| write(message, touched, value))?;
                }
                line.answer();
            }
            Ok(())
        };
        let (mut single, mut ratios, mut times, mut lines) = (vec![], vec![], vec![], vec![]);
        both(S::THREADS, there, || {
            let (mut tx, mut rx) = (system.tx(0)?, system.rx(1)?);
            let mut trip = || -> Result {
                tx.send(|message| write(message, touched, 1))?;
                rx.recv(|message| {
                    black_box(read(message, touched));
                })
            };
            for _ in 0..repetitions {
                let before = line.measure();
                let time = stats::batches(u64::from(trips), || {
                    trip().expect("the other side lives");
                });
                for _ in 0..trips {
                    let began = Instant::now();
                    trip()?;
                    single.push(began.elapsed().as_nanos() as u64);
                }
                let line = (before + line.measure()) / 2.0;
                ratios.push(time / line);
                times.push(time);
                lines.push(line);
            }
            Ok(())
        })?;
        let time = stats::median(&mut times);
        println!(
            "  {name:<32} {:>8.2} lines  ({}, line {})  {}",
            stats::median(&mut ratios),
            stats::time(time),
            stats::time(stats::median(&mut lines)),
            stats::tail(&mut single),
        );
        Ok(time)
    }

    /// Messages one way, as fast as they go. Gives how many a second.
    pub(crate) fn stream<S: System>(&self, name: &str, len: usize) -> Result<f64> {
        if !self.wants(name) {
            return Ok(f64::NAN);
        }
        let touched = S::touched(len);
        // About a fifth of a second at the speed of memory, and of the quickest ring.
        let count = (4u64 << 30).div_ceil(len as u64).clamp(200, 2_000_000);
        let (system, line) = (S::new(len)?, Line::new()?);
        let repetitions = self.repetitions;
        let there = || {
            let (mut tx, mut rx) = (system.tx(1)?, system.rx(0)?);
            for repetition in 0..repetitions {
                line.answer();
                rx.recv(|_| ())?;
                let mut value = repetition as u8;
                tx.send_all(count + count / 10, |message| {
                    value = value.wrapping_add(1);
                    write(message, touched, value);
                })?;
            }
            Ok(())
        };
        let (mut rates, mut lines) = (vec![], vec![]);
        both(S::THREADS, there, || {
            let (mut rx, mut tx) = (system.rx(1)?, system.tx(0)?);
            let mut sum = 0u64;
            for _ in 0..repetitions {
                lines.push(line.measure());
                tx.send(|message| message.fill(0))?;
                rx.recv_all(count / 10, |message| sum = sum.wrapping_add(read(message, touched)))?;
                let began = Instant::now();
                rx.recv_all(count, |message| sum = sum.wrapping_add(read(message, touched)))?;
                rates.push(count as f64 / began.elapsed().as_secs_f64());
            }
            black_box(sum);
            Ok(())
        })?;
        let (rate, line) = (stats::median(&mut rates), stats::median(&mut lines));
        println!(
            "  {name:<32} {:>9.2} M/s  {:>7.2} GB/s  (line {}; from {:.2} to {:.2} M/s)",
            rate / 1e6,
            rate * len as f64 / 1e9,
            stats::time(line),
            rates.first().copied().unwrap_or(0.0) / 1e6,
            rates.last().copied().unwrap_or(0.0) / 1e6,
        );
        Ok(rate)
    }
}
