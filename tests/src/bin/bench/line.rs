//! The unit: the round trip of one bare cache line between two processes.

#![allow(clippy::disallowed_types)] // The bare atomic is what is measured.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering},
};

use shmring::os::{self, Mapping};

use super::pair::Result;

/// One line that two processes have.
pub(crate) struct Line(Mapping);

const TRIPS: u64 = 20_000;

impl Line {
    pub(crate) fn new() -> Result<Line> {
        use std::os::fd::AsFd;
        let fd = os::memfd("bench-line")?;
        os::resize(fd.as_fd(), os::page_size() as u64)?;
        let line = Line(Mapping::new(&fd, os::page_size())?);
        line.0.prefault()?;
        Ok(line)
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping is a page of zeros that only this atomic touches.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().as_ptr().cast()) }
    }

    fn wait_for(&self, value: u64) {
        while self.word().load(Ordering::Acquire) != value {
            spin_loop();
        }
    }

    /// The second process's part of one measurement.
    pub(crate) fn answer(&self) {
        for trip in 0..TRIPS {
            self.wait_for(2 * trip + 1);
            self.word().store(2 * trip + 2, Ordering::Release);
        }
        // The next measurement begins from 0.
        self.wait_for(u64::MAX);
        self.word().store(0, Ordering::Release);
    }

    /// Nanoseconds of one round trip: the median of some hundred batches.
    pub(crate) fn measure(&self) -> f64 {
        let mut trip = 0;
        let took = super::stats::batches(TRIPS, || {
            self.word().store(2 * trip + 1, Ordering::Release);
            self.wait_for(2 * trip + 2);
            trip += 1;
        });
        self.word().store(u64::MAX, Ordering::Release);
        self.wait_for(0);
        took
    }
}
