//! Waiting for many rings at once, in one segment or in several.
//!
//! ```
//! use shmring::{RecvError, Segment, Selector, ring::records::Records};
//!
//! let segment = Segment::options().anonymous()?;
//! let ring = || Records::options().capacity(4096).create_in(&segment);
//! let (mut senders, mut receivers) = (vec![], vec![]);
//! for _ in 0..3 {
//!     let (tx, rx) = ring()?.split()?;
//!     senders.push(tx);
//!     receivers.push(rx);
//! }
//! let mut selector = Selector::new();
//! for (token, rx) in receivers.iter().enumerate() {
//!     selector.add(token, rx);
//! }
//!
//! senders[2].send(b"news")?;
//! drop(senders);
//! let mut got = 0;
//! while let Some(token) = selector.ready() {
//!     match receivers[token].try_recv() {
//!         Ok(record) => got += record.len(),
//!         Err(RecvError::Empty) => {}
//!         // Closed, or the producer died.
//!         Err(_) => assert!(selector.remove(token)),
//!     }
//! }
//! assert_eq!(got, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod source;
#[cfg(all(test, not(shmring_loom)))]
mod tests;

use std::{fmt, time::Duration};

pub use self::source::{Selectable, Source};
use crate::{
    liveness::Peer,
    os,
    segment::Segment,
    wait::{self, Ended, Sight, WaitStrategy, Waiter, doorbell::FUTEX},
};

/// How many rings a glance looks at, beside those that had something lately.
const AT_A_TIME: usize = 8;
/// How many rings count as those that had something lately.
const LATELY: usize = 8;
/// How many sleeps that nobody ended go by before all rings are looked at again.
const SLEEPS: u32 = 10;
/// How many selections go by before the peers are asked whether they live, though none had to wait.
const ASK_AFTER: u32 = 1024;

/// Waits until one of many ends can go on: consumers that wait for items, producers that wait for
/// room, in one segment or in several.
///
/// An end is added under a token, a number of the caller's, and is not borrowed. The selector
/// tells the tokens of those whose `try_` would do something now: take an item, put one, or say
/// that the ring is closed, corrupt, or that the peer died. It tells so again and again until that
/// has been done, or the token is removed; take a ring that has ended out. An end that was dropped,
/// or sent to another process, is not reported any more. Rarely a token is told for nothing.
///
/// The tokens come in turn: one that has something is told within as many selections as there are
/// ends, however busy the others are. What waiting costs does not depend on how many rings are quiet, but going to
/// sleep looks at all of them, some nanoseconds each. In several segments it sleeps by
/// `futex_waitv`; where the kernel has none (before Linux 5.16), or with more than 128 segments,
/// it looks each millisecond.
///
/// In a forked child, which has a copy, the first selection gives every token, so that the child
/// takes over the ends it goes on with.
pub struct Selector {
    rings: Rings,
    waiter: Waiter,
}

impl Selector {
    /// A selector that waits for nothing yet.
    pub fn new() -> Selector {
        Selector { rings: Rings::default(), waiter: Waiter::new(WaitStrategy::default()) }
    }

    /// Adds an end. A producer is ready when a record of any length has room.
    ///
    /// Tokens need not differ: then it is not known which of the ends it was.
    pub fn add(&mut self, token: usize, end: &(impl Selectable + ?Sized)) {
        self.add_room(token, end, usize::MAX);
    }

    /// Adds a producer that is ready when there is room for a record of `len` bytes. Where all
    /// items of a ring have one length, this is [`Selector::add`].
    pub fn add_room(&mut self, token: usize, end: &(impl Selectable + ?Sized), len: usize) {
        self.rings.add(Entry { token, want: len, source: end.source(), group: 0 });
    }

    /// Takes a token out; tells whether it was there.
    pub fn remove(&mut self, token: usize) -> bool {
        let before = self.len();
        let entries = std::mem::take(&mut self.rings.entries);
        self.rings.groups.clear();
        self.rings.lately.clear();
        self.rings.next = 0;
        for entry in entries.into_iter().filter(|entry| entry.token != token) {
            self.rings.add(entry);
        }
        if !self.rings.untold.is_empty() {
            self.rings.untold = (0..self.rings.entries.len()).collect();
        }
        self.len() < before
    }

    /// How many ends were added.
    pub fn len(&self) -> usize {
        self.rings.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rings.entries.is_empty()
    }

    /// Changes how it waits. Default adaptive.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.waiter = Waiter::new(strategy);
    }

    /// The token of an end that can go on now, if there is one. If not, all were looked at.
    pub fn try_ready(&mut self) -> Option<usize> {
        self.select(Some(Duration::ZERO)).then(|| self.rings.take_first())
    }

    /// Waits for an end that can go on; `None` when there is none to wait for: none was added, or all
    /// were dropped or sent away.
    pub fn ready(&mut self) -> Option<usize> {
        self.select(None).then(|| self.rings.take_first())
    }

    /// The same with a bound; `None` also when none was ready until then.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Option<usize> {
        self.select(Some(timeout)).then(|| self.rings.take_first())
    }

    /// Waits as [`Selector::ready`] does, at most for `timeout`, and puts the tokens of several
    /// ends that can go on into `tokens`, which is emptied before. Tells how many there are; 0 is
    /// as `None` there. Not all that are ready need be among them, but each has its turn.
    ///
    /// Nothing is allocated once `tokens` is long enough.
    pub fn ready_many(&mut self, tokens: &mut Vec<usize>, timeout: Option<Duration>) -> usize {
        tokens.clear();
        if self.select(timeout) {
            self.rings.take_all(tokens);
        }
        tokens.len()
    }

    /// Whether something was found.
    fn select(&mut self, timeout: Option<Duration>) -> bool {
        let Selector { rings, waiter } = self;
        if rings.entries.is_empty() {
            return false;
        }
        if rings.begin() {
            return true;
        }
        match timeout {
            Some(Duration::ZERO) => rings.glance().or_else(|| rings.look()).is_some(),
            _ => {
                waiter.spin(|| rings.glance().is_some())
                    || !rings.are_gone() && matches!(waiter.run(timeout, rings), Ended::Done(()))
            }
        }
    }
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::new()
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("len", &self.len()).finish_non_exhaustive()
    }
}

struct Entry {
    token: usize,
    want: usize,
    source: Source,
    /// Which of the groups its segment is.
    group: usize,
}

/// The rings of one segment.
struct Group {
    segment: Segment,
    epoch: u32,
    /// By the number of the object modulo 64, as ringers tell it.
    rings: [Vec<usize>; 64],
}

/// What a selector looks at. Rings are known by their place in `entries`.
#[derive(Default)]
struct Rings {
    entries: Vec<Entry>,
    groups: Vec<Group>,
    /// What the last look found.
    found: Vec<usize>,
    /// Where the next look begins.
    next: usize,
    /// Those that were told lately; the last one last.
    lately: Vec<usize>,
    /// Who was asked after when all rings were, by group, and whether they lived.
    asked: Vec<(usize, Peer, bool)>,
    /// How many more sleeps may follow before all rings are looked at again.
    sleeps_left: u32,
    selections: u32,
    forks: Option<u32>,
    /// In a forked child, those that were not told yet: it takes over what it is told of. And whether
    /// what was found are those.
    untold: Vec<usize>,
    takes_over: bool,
}

impl Rings {
    fn add(&mut self, mut entry: Entry) {
        let segment = entry.source.segment();
        let known = self.groups.iter().position(|group| group.segment.is_same(segment));
        entry.group = known.unwrap_or_else(|| {
            let rings = std::array::from_fn(|_| vec![]);
            self.groups.push(Group { segment: segment.clone(), epoch: 0, rings });
            self.groups.len() - 1
        });
        let number = entry.source.object() as usize % 64;
        self.groups[entry.group].rings[number].push(self.entries.len());
        self.entries.push(entry);
        self.found.reserve(self.entries.len());
        self.lately.reserve(LATELY);
        self.forks.get_or_insert_with(os::fork_generation);
    }

    /// What is found without looking, now and then.
    fn begin(&mut self) -> bool {
        let forks = os::fork_generation();
        if self.forks != Some(forks) {
            self.forks = Some(forks);
            self.untold = (0..self.entries.len()).collect();
        }
        if !self.untold.is_empty() {
            self.found.clear();
            self.found.append(&mut self.untold);
            self.takes_over = true;
            return true;
        }
        self.sleeps_left = 0;
        self.selections = self.selections.wrapping_add(1);
        self.selections.is_multiple_of(ASK_AFTER) && self.ask_all().is_some()
    }

    /// Whether nothing will ever be found, since this process has none of the ends any more.
    fn are_gone(&self) -> bool {
        self.entries.iter().all(|entry| !entry.source.is_held())
    }

    /// Arms all doorbells; false when there is one that cannot be.
    fn arm(&mut self) -> bool {
        for group in &mut self.groups {
            let Some(doorbell) = wait::own_doorbell(&group.segment) else { return false };
            group.epoch = doorbell.arm(FUTEX);
        }
        for entry in &self.entries {
            entry.source.arm();
        }
        true
    }

    /// Whether nobody has rung since the last look at all.
    fn are_untouched(&self) -> bool {
        self.groups.iter().all(|group| {
            wait::own_doorbell(&group.segment)
                .is_some_and(|doorbell| doorbell.is_untouched(FUTEX, group.epoch))
        })
    }

    /// Asks after the peers of all rings.
    fn ask_all(&mut self) -> Option<()> {
        let Rings { entries, found, asked, .. } = self;
        found.clear();
        asked.clear();
        for (ring, Entry { source, group, .. }) in entries.iter().enumerate() {
            let ended = source.has_ended(&mut |peer| {
                let known = asked.iter().find(|(at, other, _)| (*at, *other) == (*group, peer));
                known.map(|(.., lives)| *lives).unwrap_or_else(|| {
                    let lives = source.segment().lives(peer);
                    asked.push((*group, peer, lives));
                    lives
                })
            });
            if ended {
                found.push(ring);
            }
        }
        self.found()
    }

    fn is_ready(&self, ring: usize) -> bool {
        let entry = &self.entries[ring];
        entry.source.is_ready(entry.want)
    }

    /// Looks at `count` rings from the next one on. The one behind the first that has something is
    /// the next one then.
    fn look_at(&mut self, count: usize) {
        let (first, len) = (self.next, self.entries.len());
        for step in 0..count {
            let ring = (first + step) % len;
            if self.is_ready(ring) {
                self.found.push(ring);
            }
        }
        self.next = self.found.first().map_or(first + count, |ring| ring + 1) % len;
    }

    fn found(&self) -> Option<()> {
        (!self.found.is_empty()).then_some(())
    }

    /// Gives the token of one that was found, and remembers when that was.
    fn tell(&mut self, ring: usize) -> usize {
        if let Some(at) = self.lately.iter().position(|other| *other == ring) {
            self.lately.remove(at);
        } else if self.lately.len() == LATELY {
            self.lately.remove(0);
        }
        self.lately.push(ring);
        self.entries[ring].token
    }

    fn take_first(&mut self) -> usize {
        if std::mem::take(&mut self.takes_over) {
            self.untold = self.found.split_off(1);
        }
        self.tell(self.found[0])
    }

    fn take_all(&mut self, tokens: &mut Vec<usize>) {
        self.takes_over = false;
        for at in 0..self.found.len() {
            let token = self.tell(self.found[at]);
            tokens.push(token);
        }
    }
}

impl Sight for Rings {
    type Found = ();

    /// Looks at some rings in turn, and at those that had something lately.
    fn glance(&mut self) -> Option<()> {
        self.found.clear();
        let (first, len) = (self.next, self.entries.len());
        let count = len.min(AT_A_TIME);
        self.look_at(count);
        for at in 0..self.lately.len() {
            let ring = self.lately[at];
            let looked_at = (ring + len - first) % len < count;
            if !looked_at && self.is_ready(ring) {
                self.found.push(ring);
            }
        }
        self.found()
    }

    fn look(&mut self) -> Option<()> {
        self.found.clear();
        self.look_at(self.entries.len());
        self.found()
    }

    fn sleep(&mut self, time: Duration) -> Option<()> {
        if self.sleeps_left == 0 || !self.are_untouched() {
            if !self.arm() {
                wait::nap(time);
                return self.look();
            }
            // All rings: those whose ringer found nobody armed have left no hint.
            if let Some(found) = self.look() {
                return Some(found);
            }
            self.sleeps_left = SLEEPS;
        }
        self.sleeps_left -= 1;
        self.found.clear();
        wait::sleep_on_any(self.groups.iter().map(|group| (&group.segment, group.epoch)), time);
        for group in 0..self.groups.len() {
            let mut rung = wait::take_rung(&self.groups[group].segment);
            while rung != 0 {
                let number = rung.trailing_zeros() as usize;
                rung &= rung - 1;
                for at in 0..self.groups[group].rings[number].len() {
                    let ring = self.groups[group].rings[number][at];
                    if self.is_ready(ring) {
                        self.found.push(ring);
                    }
                }
            }
        }
        self.found()
    }

    fn ended(&mut self) -> Option<Ended<()>> {
        let Rings { groups, asked, sleeps_left, .. } = self;
        // Between looks at all rings, only those who held the other ends then.
        let same = (1..SLEEPS - 1).contains(sleeps_left);
        let live = |(group, peer, _): &(usize, Peer, bool)| groups[*group].segment.lives(*peer);
        if same && asked.iter().all(live) {
            return None;
        }
        if self.are_gone() {
            return Some(Ended::TimedOut);
        }
        self.ask_all().map(Ended::Done)
    }
}
