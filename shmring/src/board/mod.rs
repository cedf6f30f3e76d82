//! Words and bells that several processes share: counters, flags, and waiting for them to change.
//!
//! A board is what a program with many rings needs beside them: how far each worker is, whether
//! all are to stop, and one place for each thread to sleep at, whatever it waits for.
//!
//! ```
//! use std::{thread, time::Duration};
//!
//! use shmring::board::Board;
//!
//! let board = Board::options().words(8).bells(2).anonymous()?;
//! let other = board.clone();
//! let done = thread::spawn(move || {
//!     other.add(3, 5);
//!     other.ring(0);
//! });
//! let mut sleeper = board.sleeper(0)?;
//! let seen = sleeper.wait(Some(Duration::from_secs(10)), || Some(board.load(3)).filter(|n| *n > 0));
//! assert_eq!(seen, Some(5));
//! # done.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A word belongs to nobody: a process that dies leaves it as it is, in whatever step of a protocol
//! it was. A bell wakes everybody who sleeps at it; it has no memory, so a sleeper looks at what it
//! waits for after it has armed the bell and before it sleeps, and whoever changes that rings
//! afterwards. `wait/README.md` has the argument. A ringer that is killed between the two leaves a
//! sleeper asleep for at most 100 ms: no sleep is longer without a look.

use std::{fmt, time::Duration};

use crate::{
    error::{Error, Result},
    face::{Make, Ring, Room, ring_verbs},
    region::LINE,
    segment::{Kind, Object, Segment},
    sync::{AtomicU64, Ordering},
    wait::{self, Ended, WaitStrategy, Waiter, doorbell::Doorbell},
};

const WORDS: usize = 0;
const BELLS: usize = 8;
const DATA: usize = 2 * LINE;
/// A bell is laid out like a participant's entry, of which only the doorbell is used.
const BELL_LEN: usize = 2 * LINE;
/// More than anybody needs, and few enough that no product of them overflows.
const MOST: usize = 1 << 24;

/// A board. Cloning gives another handle of the same one.
#[derive(Clone)]
pub struct Board {
    segment: Segment,
    object: Object,
    words: usize,
    bells: usize,
    strategy: WaitStrategy,
}

/// How a board is made. From [`Board::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a board is made with them"]
pub struct Options {
    words: usize,
    bells: usize,
    strategy: WaitStrategy,
    replace_stale: bool,
}

impl Options {
    /// How many words of 64 bits it has, all 0 at first. Default 64. Eight of them share a cache
    /// line, from word 0 on.
    pub fn words(mut self, count: usize) -> Options {
        self.words = count;
        self
    }

    /// How many bells it has. Default 8.
    pub fn bells(mut self, count: usize) -> Options {
        self.bells = count;
        self
    }

    /// How its sleepers wait, unless they are told otherwise. Default adaptive.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options {
        self.strategy = strategy;
        self
    }

    /// How many bytes it takes of a segment, at most.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`].
    pub fn len_in_segment(&self) -> Result<usize> {
        // It begins on a multiple of two lines.
        Ok(self.len()? + 2 * LINE)
    }

    fn len(&self) -> Result<usize> {
        if self.words > MOST || self.bells > MOST {
            return Err(Error::BadParameters {
                action: "create a board".into(),
                reason: format!(
                    "{} words and {} bells: at most {MOST} of either are possible",
                    self.words, self.bells
                ),
            });
        }
        Ok(DATA + bells_start(self.words) + self.bells * BELL_LEN)
    }
}

/// Where the bells begin behind the header.
fn bells_start(words: usize) -> usize {
    (words * 8).next_multiple_of(2 * LINE)
}

impl Board {
    /// Begins to describe a board.
    pub fn options() -> Options {
        Options { words: 64, bells: 8, strategy: WaitStrategy::default(), replace_stale: false }
    }

    /// How many words it has.
    pub fn words(&self) -> usize {
        self.words
    }

    /// How many bells it has.
    pub fn bells(&self) -> usize {
        self.bells
    }

    /// # Panics
    ///
    /// If there is no such word.
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "word {index} of a board of {}", self.words);
        self.segment.0.region.u64(self.object.offset + DATA + 8 * index)
    }

    /// What a word says (Acquire).
    ///
    /// # Panics
    ///
    /// If there is no such word; so in all that follows.
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        // SYNC board: Release in `store`, `add` and `change`.
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes a word (Release).
    #[inline]
    pub fn store(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }

    /// Adds to a word, modulo 2⁶⁴; gives what it said before (Acquire and Release).
    #[inline]
    pub fn add(&self, index: usize, value: u64) -> u64 {
        self.word(index).fetch_add(value, Ordering::AcqRel)
    }

    /// Adds to a word that only the caller writes: cheaper than [`Board::add`].
    #[inline]
    pub fn add_own(&self, index: usize, value: u64) {
        let word = self.word(index);
        word.store(word.load(Ordering::Relaxed).wrapping_add(value), Ordering::Release);
    }

    /// Changes a word from one value to another (Acquire and Release).
    ///
    /// # Errors
    ///
    /// What it says instead.
    #[inline]
    pub fn change(&self, index: usize, from: u64, to: u64) -> Result<(), u64> {
        self.word(index).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    #[inline]
    fn doorbell(&self, bell: usize) -> Doorbell<'_> {
        assert!(bell < self.bells, "bell {bell} of a board of {}", self.bells);
        let start = self.object.offset + DATA + bells_start(self.words);
        Doorbell::at(&self.segment.0.region, start + bell * BELL_LEN)
    }

    /// Wakes everybody who sleeps at this bell, after something was changed that they wait for. No
    /// system call while nobody sleeps.
    ///
    /// # Panics
    ///
    /// If there is no such bell.
    #[inline]
    pub fn ring(&self, bell: usize) {
        let doorbell = self.doorbell(bell);
        wait::published();
        if doorbell.is_armed() {
            wake(doorbell);
        }
    }

    /// Rings all bells.
    pub fn ring_all(&self) {
        for bell in 0..self.bells {
            self.ring(bell);
        }
    }

    /// A place to sleep at, for one thread.
    ///
    /// # Errors
    ///
    /// [`Error::BadParameters`] if there is no such bell.
    pub fn sleeper(&self, bell: usize) -> Result<Sleeper> {
        if bell >= self.bells {
            return Err(Error::BadParameters {
                action: "sleep at a board".into(),
                reason: format!("bell {bell} of {}", self.bells),
            });
        }
        Ok(Sleeper { board: self.clone(), bell, waiter: Waiter::new(self.strategy) })
    }
}

#[cold]
fn wake(doorbell: Doorbell<'_>) {
    if doorbell.take_armed(0) != 0 {
        // Fails only for an address that is not mapped, and this one is.
        #[cfg(not(shmring_loom))]
        let _ = crate::os::futex_wake(doorbell.epoch());
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("words", &self.words)
            .field("bells", &self.bells)
            .finish_non_exhaustive()
    }
}

/// One thread's place to sleep at a bell. From [`Board::sleeper`].
#[derive(Debug)]
pub struct Sleeper {
    board: Board,
    bell: usize,
    waiter: Waiter,
}

impl Sleeper {
    /// Waits until `look` finds something: spins for a while if the strategy says so, then sleeps
    /// and looks when the bell rings, or 100 ms have passed. `None` when `timeout` is over.
    ///
    /// `look` is asked again and again and must be cheap.
    pub fn wait<T>(
        &mut self,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut found = None;
        self.waiter.spin(|| {
            found = look();
            found.is_some()
        });
        if found.is_some() {
            return found;
        }
        let doorbell = self.board.doorbell(self.bell);
        match self.waiter.sleep_at(doorbell, timeout, look) {
            Ended::Done(found) => Some(found),
            Ended::TimedOut | Ended::PeerDied(_) => None,
        }
    }

    /// Changes how it waits.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.waiter = Waiter::new(strategy);
    }
}

impl Make for Options {
    type Ring = Board;

    fn room(&self) -> Result<Room> {
        Ok(Room {
            len: self.len_in_segment()?,
            participants: 64,
            objects: 1,
            prefault: true,
            replace_stale: self.replace_stale,
        })
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    fn make_in(self, segment: &Segment) -> Result<Board> {
        let object = segment.add(Kind::Board, self.len()?, |object| {
            let region = &segment.0.region;
            region.u64(object.offset + WORDS).store(self.words as u64, Ordering::Relaxed);
            region.u64(object.offset + BELLS).store(self.bells as u64, Ordering::Relaxed);
            Ok(())
        })?;
        Board::attach(segment, object.index, self.strategy)
    }
}

impl Ring for Board {
    const KIND: Kind = Kind::Board;

    fn attach(segment: &Segment, index: u32, strategy: WaitStrategy) -> Result<Board> {
        let object = segment.object(index, Kind::Board)?;
        let corrupt = |reason: &str| Error::Corrupt {
            what: format!("board {index} of a segment"),
            reason: reason.into(),
        };
        if object.size < DATA {
            return Err(corrupt("it is shorter than its header"));
        }
        let region = &segment.0.region;
        let count = |at| {
            let count = region.u64(object.offset + at).load(Ordering::Relaxed);
            usize::try_from(count).ok().filter(|count| *count <= MOST)
        };
        let (Some(words), Some(bells)) = (count(WORDS), count(BELLS)) else {
            return Err(corrupt("it has more words or bells than are possible"));
        };
        if DATA + bells_start(words) + bells * BELL_LEN > object.size {
            return Err(corrupt("its words and bells do not fit into it"));
        }
        Ok(Board { segment: segment.clone(), object, words, bells, strategy })
    }

    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn number(&self) -> u32 {
        self.object.index
    }

    fn strategy(&self) -> WaitStrategy {
        self.strategy
    }
}

ring_verbs!([] Options => Board);

#[cfg(all(test, shmring_loom))]
mod loom_models;
#[cfg(all(test, not(shmring_loom)))]
mod tests;
