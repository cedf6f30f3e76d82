//! The least that a ring can be: slots of fixed size, each with its own sequence number, no room to
//! look for, nobody to wake, no check. What its round trip takes no ring between two processes that
//! spin can beat here.

#![allow(clippy::disallowed_types)] // The bare atomic is what is measured.

use std::{
    hint::spin_loop,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use shmring::os::{self, Mapping};

use super::{
    pair::Result,
    ring::{self, SPINNING},
};

const SLOTS: usize = 512;
/// Words of 64 bits that slots are apart: two lines.
const APART: usize = 16;
const BYTES: usize = SLOTS * APART * 8;

/// Slots of one direction.
struct Slots<'a> {
    mapping: &'a Mapping,
    way: usize,
    sent: u64,
}

impl Slots<'_> {
    fn word(&self, number: u64, word: usize) -> &AtomicU64 {
        let slot = number as usize % SLOTS;
        let offset = self.way * BYTES + (slot * APART + word) * 8;
        // SAFETY: inside of the mapping, which has two ways, and only ever used as atomics.
        unsafe { AtomicU64::from_ptr(self.mapping.as_ptr().as_ptr().add(offset).cast()) }
    }

    fn send(&mut self, words: usize) {
        self.sent += 1;
        for word in 1..=words {
            self.word(self.sent, word).store(self.sent, Ordering::Relaxed);
        }
        self.word(self.sent, 0).store(self.sent, Ordering::Release);
    }

    fn recv(&mut self, words: usize) {
        self.sent += 1;
        while self.word(self.sent, 0).load(Ordering::Acquire) != self.sent {
            spin_loop();
        }
        for word in 1..=words {
            assert_eq!(self.word(self.sent, word).load(Ordering::Relaxed), self.sent);
        }
    }
}

/// Round trips with so many words behind each sequence number.
pub(crate) fn round_trip(what: &str, words: usize, repetitions: u32) -> Result {
    assert!(words < APART, "a slot has room for them");
    let fd = os::memfd("bench-slots")?;
    os::resize(fd.as_fd(), 2 * BYTES as u64)?;
    let mapping = Mapping::new(&fd, 2 * BYTES)?;
    mapping.prefault()?;
    let way = |way| Slots { mapping: &mapping, way, sent: 0 };
    let answer = || {
        let (mut rx, mut tx) = (way(0), way(1));
        Ok(move || {
            rx.recv(words);
            tx.send(words);
            Ok(())
        })
    };
    ring::trips(what, SPINNING, repetitions, answer, || {
        let (mut tx, mut rx) = (way(0), way(1));
        Ok(move || {
            tx.send(words);
            rx.recv(words);
            Ok(())
        })
    })
}
