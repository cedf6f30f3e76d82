//! The one wait loop, and the doorbell that ends it. README.md has the protocol.

mod bell;
pub(crate) mod doorbell;
#[cfg(all(test, shmring_loom))]
mod loom_models;
mod ringer;

use std::{
    cell::Cell,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

#[cfg(any(feature = "stream", feature = "tokio"))]
pub(crate) use self::bell::give_out_bell;
use self::{
    bell::BellGuard,
    doorbell::{BELL, Doorbell, FUTEX},
};
pub(crate) use self::{
    doorbell::{is_quiet, published},
    ringer::{armed_word, doubt, relax, ring, ring_unfenced},
};
use crate::{
    fault::fault,
    liveness::{Id, Peer},
    os::{self, PollFd},
    segment::Segment,
    sync::spin_loop,
};

/// Nobody sleeps longer than this without looking again.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// How long a spin takes at most: about what waking a process costs, so that spinning in vain and
/// then sleeping is at most twice as dear as the better of the two.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// Looks between two looks at the clock.
const SPIN_ROUND: u32 = 64;
/// The rounds of a full spin: the clock may end it sooner.
const SPIN_ROUNDS: u32 = 64;
/// A wait that slept and was over sooner than this should have been a spin: half of it was waking.
const SHORT_SLEEP: Duration = Duration::from_micros(100);

/// A spin that is over within so many looks was for somebody who sends one item after the other.
const HASTY: u32 = 2;
/// How long such a sender is left alone: some 100 ns.
const HEAD_START: u32 = 3;

/// How often those who poll ask whether their peer lives.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// How a ring's end waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Never sleeps: the quickest answer, for a whole processor.
    Spin,
    /// Spins for at most about 50 µs, and only while that has recently paid off; then sleeps.
    #[default]
    Adaptive,
    /// Goes to sleep at once.
    Park,
}

impl WaitStrategy {
    /// As it stands in messages.
    pub(crate) fn number(self) -> u8 {
        match self {
            WaitStrategy::Adaptive => 0,
            WaitStrategy::Spin => 1,
            WaitStrategy::Park => 2,
        }
    }

    /// What is none of ours counts as the default.
    pub(crate) fn from_number(number: u8) -> WaitStrategy {
        match number {
            1 => WaitStrategy::Spin,
            2 => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        }
    }
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    Done(T),
    TimedOut,
    PeerDied(u32),
}

/// The state that one end keeps between its waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// Looks before the first look at the clock.
    looks: u32,
    /// Rounds of looks after that, in the next spin.
    rounds: Cell<u32>,
    /// Whether the last spin was over at once.
    hasty: Cell<bool>,
    asked: Cell<Option<Instant>>,
}

thread_local! {
    /// How often this thread has looked in vain.
    static WAITS: Cell<u32> = const { Cell::new(0) };
}

/// Counts a look in vain.
#[inline]
pub(crate) fn note_wait() {
    WAITS.set(WAITS.get().wrapping_add(1));
}

/// Tells who sends whether its thread waits in between, for answers, say: then what it does now for the
/// next item delays nobody. README.md, "Spinning".
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waits: u32,
}

impl Pace {
    /// Whether this thread has waited for anything since the last call.
    #[inline]
    pub(crate) fn has_waited(&mut self) -> bool {
        let waits = WAITS.get();
        let has_waited = waits != self.waits;
        if has_waited {
            self.waits = waits;
        }
        has_waited
    }
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy) -> Waiter {
        let spins = strategy != WaitStrategy::Park && !os::one_processor();
        let (looks, rounds) = if spins { (SPIN_ROUND / 2, SPIN_ROUNDS) } else { (0, 0) };
        let (rounds, hasty) = (Cell::new(rounds), Cell::new(false));
        Waiter { strategy, looks, rounds, hasty, asked: Cell::new(None) }
    }

    /// Whether it is time to ask for the peer's life again, for those who poll without waiting:
    /// asking costs a system call.
    pub(crate) fn may_ask(&self) -> bool {
        let now = Instant::now();
        let due = self.asked.get().is_none_or(|asked| now.duration_since(asked) >= ASK_EVERY);
        if due {
            self.asked.set(Some(now));
        }
        due
    }

    /// Lets the next question be asked at once, after a hint that somebody died.
    pub(crate) fn ask_again(&self) {
        self.asked.set(None);
    }

    /// Leaves a peer alone for a moment, if it came at once the last time: each look at its position
    /// takes the line from it, and so it gets several items ahead instead of one.
    #[inline]
    pub(crate) fn give_head_start(&self) {
        if self.hasty.get() {
            for _ in 0..HEAD_START {
                spin_loop();
            }
        }
    }

    /// Waits for a short while without sleeping, as the strategy allows, until `ready` says that
    /// looking is worth it. `ready` should be a load or two: what counts is how soon it is seen.
    #[inline]
    pub(crate) fn spin(&self, mut ready: impl FnMut() -> bool) -> bool {
        note_wait();
        for look in 0..self.looks {
            if ready() {
                self.hasty.set(look < HASTY);
                return true;
            }
            spin_loop();
        }
        self.hasty.set(false);
        self.spin_on(&mut ready)
    }

    #[cold]
    #[inline(never)]
    fn spin_on(&self, ready: &mut dyn FnMut() -> bool) -> bool {
        let rounds = self.rounds.get();
        if rounds == 0 {
            return false;
        }
        let began = Instant::now();
        for _ in 0..rounds {
            for _ in 0..SPIN_ROUND {
                if ready() {
                    self.rounds.set(SPIN_ROUNDS);
                    return true;
                }
                spin_loop();
            }
            if began.elapsed() >= SPIN_TIME {
                break;
            }
        }
        self.rounds.set(rounds / 2);
        false
    }

    /// Waits, after a spin, until `look` finds something, `timeout` has passed, or the process
    /// behind `peer` has ended and there is still nothing to find.
    ///
    /// `look` is asked again and again and must be cheap. `peer` says whose life matters now;
    /// `None` while nobody has come yet.
    pub(crate) fn wait<T>(
        &self,
        segment: &Segment,
        timeout: Option<Duration>,
        look: impl FnMut() -> Option<T>,
        peer: impl FnMut() -> Option<Peer>,
    ) -> Ended<T> {
        self.wait_armed(segment, timeout, look, peer, |_| ())
    }

    /// The same where the ringer has to be told who sleeps: `arm` is called each time between
    /// arming the doorbell and the last look, and ends with a `fence(SeqCst)`.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_armed<T>(
        &self,
        segment: &Segment,
        timeout: Option<Duration>,
        look: impl FnMut() -> Option<T>,
        peer: impl FnMut() -> Option<Peer>,
        arm: impl FnMut(Id),
    ) -> Ended<T> {
        self.run(timeout, &mut One { segment, look, peer, arm })
    }

    /// The same at a doorbell that belongs to no participant; nobody's life matters there.
    #[cold]
    #[inline(never)]
    pub(crate) fn sleep_at<T>(
        &self,
        doorbell: Doorbell<'_>,
        timeout: Option<Duration>,
        look: impl FnMut() -> Option<T>,
    ) -> Ended<T> {
        self.run(timeout, &mut Lone { doorbell, look })
    }

    /// The one wait loop.
    pub(crate) fn run<S: Sight>(
        &self,
        timeout: Option<Duration>,
        sight: &mut S,
    ) -> Ended<S::Found> {
        // The clock is asked only now: it costs as much as a short wait.
        let began = Instant::now();
        let deadline = timeout.and_then(|timeout| began.checked_add(timeout));
        loop {
            let left = match deadline {
                None => LONGEST_SLEEP,
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                return sight.look().map_or(Ended::TimedOut, Ended::Done);
            }
            let found = match self.strategy {
                WaitStrategy::Spin => spin_for(left.min(Duration::from_millis(1)), sight),
                _ => sight.sleep(left.min(LONGEST_SLEEP)),
            };
            if let Some(found) = found.or_else(|| sight.glance()) {
                if self.looks > 0 && began.elapsed() < SHORT_SLEEP {
                    self.rounds.set(SPIN_ROUNDS);
                }
                return Ended::Done(found);
            }
            if let Some(ended) = sight.ended() {
                return ended;
            }
        }
    }
}

/// What a wait looks at, and how it sleeps.
pub(crate) trait Sight {
    type Found;

    /// A look that is cheap: it is asked again and again.
    fn glance(&mut self) -> Option<Self::Found>;

    /// A look that misses nothing.
    fn look(&mut self) -> Option<Self::Found> {
        self.glance()
    }

    /// Steps S2 to S6.
    fn sleep(&mut self, time: Duration) -> Option<Self::Found>;

    /// Whether nothing will come any more, because somebody died.
    fn ended(&mut self) -> Option<Ended<Self::Found>>;
}

/// One ring, or whatever else lies in one segment and is waited for by itself.
struct One<'a, L, P, A> {
    segment: &'a Segment,
    look: L,
    peer: P,
    arm: A,
}

impl<T, L, P, A> Sight for One<'_, L, P, A>
where
    L: FnMut() -> Option<T>,
    P: FnMut() -> Option<Peer>,
    A: FnMut(Id),
{
    type Found = T;

    #[inline]
    fn glance(&mut self) -> Option<T> {
        (self.look)()
    }

    fn sleep(&mut self, time: Duration) -> Option<T> {
        let peer = (self.peer)();
        sleep(self.segment, time, peer, &mut self.look, &mut self.arm)
    }

    fn ended(&mut self) -> Option<Ended<T>> {
        let other = (self.peer)().filter(|other| !self.segment.lives(*other))?;
        // It may have published, closed or handed its end on just before it ended.
        match (self.look)() {
            Some(found) => Some(Ended::Done(found)),
            None if (self.peer)() == Some(other) => {
                Some(Ended::PeerDied(self.segment.pid_of_peer(other)))
            }
            None => None,
        }
    }
}

/// Whatever is told by a doorbell that stands by itself.
struct Lone<'a, L> {
    doorbell: Doorbell<'a>,
    look: L,
}

impl<T, L: FnMut() -> Option<T>> Sight for Lone<'_, L> {
    type Found = T;

    #[inline]
    fn glance(&mut self) -> Option<T> {
        (self.look)()
    }

    fn sleep(&mut self, time: Duration) -> Option<T> {
        let epoch = self.doorbell.arm(FUTEX);
        if let Some(found) = (self.look)() {
            return Some(found);
        }
        fault!("wait.sleep.lone");
        #[cfg(not(shmring_loom))]
        os::futex_wait(self.doorbell.epoch(), epoch, time);
        #[cfg(shmring_loom)]
        let _ = (epoch, time);
        None
    }

    fn ended(&mut self) -> Option<Ended<T>> {
        None
    }
}

fn spin_for<S: Sight>(time: Duration, sight: &mut S) -> Option<S::Found> {
    let began = Instant::now();
    while began.elapsed() < time {
        for _ in 0..64 {
            if let Some(found) = sight.glance() {
                return Some(found);
            }
            if os::one_processor() {
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
    }
    None
}

/// Steps S2 to S6.
fn sleep<T>(
    segment: &Segment,
    time: Duration,
    peer: Option<Peer>,
    look: &mut impl FnMut() -> Option<T>,
    arm: &mut impl FnMut(Id),
) -> Option<T> {
    let Ok(me) = segment.me() else {
        nap(time);
        return look();
    };
    let inner = &*segment.0;
    let doorbell = Doorbell::at(&inner.region, inner.layout.participant(me.index()));
    let number = inner.participants().bell(me.index());
    let bell = number.and_then(|number| Some((number, inner.bells.fd(number)?)));
    let bell = bell.and_then(|bell| BellGuard::take(&inner.bell_taken).map(|guard| (bell, guard)));
    if let Some(((number, bell), guard)) = bell {
        doorbell.arm(BELL);
        arm(me);
        if let Some(found) = look() {
            return Some(found);
        }
        fault!("wait.sleep.bell");
        let watch = match peer {
            Some(Peer::Participant(id)) => segment.watch(id),
            _ => None,
        };
        let pidfd = watch.as_ref().and_then(|watch| watch.fd());
        let ended = pidfd.map(|pidfd| PollFd::readable(pidfd.as_fd()));
        let mut fds: Vec<_> = [PollFd::readable(bell)].into_iter().chain(ended).collect();
        // A poll that fails ends the sleep: the caller looks again.
        let _ = os::poll(&mut fds, Some(time));
        if guard.holds() {
            inner.bells.clear(number);
        }
    } else {
        let epoch = doorbell.arm(FUTEX);
        arm(me);
        if let Some(found) = look() {
            return Some(found);
        }
        fault!("wait.sleep.futex");
        #[cfg(not(shmring_loom))]
        os::futex_wait(doorbell.epoch(), epoch, time);
        #[cfg(shmring_loom)]
        let _ = epoch;
    }
    None
}

/// Sleeps where nobody can wake us, so we look now and then: joining a segment failed, which it can
/// only in a forked child that finds no place; or the kernel cannot sleep on so many futexes.
pub(crate) fn nap(time: Duration) {
    thread::sleep(time.min(Duration::from_millis(1)));
}

/// Which objects have rung since the last call, by number modulo 64: a hint where to look first.
pub(crate) fn take_rung(segment: &Segment) -> u64 {
    own_doorbell(segment).map_or(u64::MAX, |doorbell| doorbell.take_pending())
}

/// The doorbell of this process; `None` as in [`nap`].
pub(crate) fn own_doorbell(segment: &Segment) -> Option<Doorbell<'_>> {
    let me = segment.me().ok()?;
    Some(Doorbell::at(&segment.0.region, segment.0.layout.participant(me.index())))
}

/// Step S6 for a sleeper on the futexes of several segments, each with the epoch that arming its
/// doorbell gave.
pub(crate) fn sleep_on_any<'a>(
    armed: impl ExactSizeIterator<Item = (&'a Segment, u32)>,
    time: Duration,
) {
    fault!("wait.sleep.any");
    #[cfg(not(shmring_loom))]
    {
        let count = armed.len();
        let mut words =
            armed.filter_map(|(segment, epoch)| Some((own_doorbell(segment)?.epoch(), epoch)));
        let slept = match count {
            1 => words.next().map(|(word, epoch)| os::futex_wait(word, epoch, time)).is_some(),
            _ => count <= os::FUTEX_WAIT_ANY_MAX && os::futex_wait_any(words, time),
        };
        if !slept {
            nap(time);
        }
    }
    #[cfg(shmring_loom)]
    let _ = (armed, time);
}

#[cfg(all(test, not(shmring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_waited_when_it_looked_in_vain_itself() {
        let (mut pace, waiter) = (Pace::default(), Waiter::new(WaitStrategy::Park));
        pace.has_waited();
        thread::scope(|scope| scope.spawn(note_wait).join().unwrap());
        assert!(!pace.has_waited());
        waiter.spin(|| true);
        assert!(pace.has_waited());
        assert!(!pace.has_waited());
    }
}
