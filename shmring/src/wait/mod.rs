//! The one wait loop, and the doorbell that ends it. README.md has the protocol.

pub(crate) mod doorbell;
#[cfg(all(test, shmring_loom))]
mod loom_models;

use std::{
    cell::Cell,
    os::fd::AsFd,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use self::doorbell::{BELL, Doorbell, FUTEX};
use crate::{
    fault::fault,
    liveness::{Id, Peer},
    os::{self, PollFd},
    segment::Segment,
    sync::{local, spin_loop},
};

/// Nobody sleeps longer than this without looking again.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// The most looks of an adaptive spin.
const SPIN_LIMIT: u32 = 1000;
/// The least: a few looks cost less than going to sleep.
const SPIN_LEAST: u32 = 8;
/// How long a full spin takes, about; a sleep that ended sooner should have been a spin.
const SPIN_TIME: Duration = Duration::from_micros(60);

/// How often those who poll ask whether their peer lives.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// How a ring's end waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Never sleeps: the quickest answer, for a whole processor.
    Spin,
    /// Spins for at most about 30 µs, and only while that has recently paid off; then sleeps.
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
    budget: Cell<u32>,
    asked: Cell<Option<Instant>>,
}

fn one_processor() -> bool {
    static ONE: OnceLock<bool> = OnceLock::new();
    *ONE.get_or_init(|| {
        thread::available_parallelism().is_ok_and(|count| count.get() == 1)
            && os::cpus_online() == 1
    })
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy) -> Waiter {
        Waiter { strategy, budget: Cell::new(SPIN_LIMIT), asked: Cell::new(None) }
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

    /// Waits until `look` finds something, `timeout` has passed since the spin, or the process behind `peer` has
    /// ended and there is still nothing to find.
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
    pub(crate) fn wait_armed<T>(
        &self,
        segment: &Segment,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
        mut peer: impl FnMut() -> Option<Peer>,
        mut arm: impl FnMut(Id),
    ) -> Ended<T> {
        if let Some(found) = self.spin(&mut look) {
            return Ended::Done(found);
        }
        // The clock is asked only now: it costs as much as a short wait.
        let began = Instant::now();
        let deadline = timeout.and_then(|timeout| began.checked_add(timeout));
        loop {
            let left = match deadline {
                None => LONGEST_SLEEP,
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                return look().map_or(Ended::TimedOut, Ended::Done);
            }
            let found = match self.strategy {
                WaitStrategy::Spin => spin_for(left.min(Duration::from_millis(1)), &mut look),
                _ => sleep(segment, left.min(LONGEST_SLEEP), peer(), &mut look, &mut arm),
            };
            if let Some(found) = found.or_else(&mut look) {
                if began.elapsed() < SPIN_TIME {
                    self.budget.set(SPIN_LIMIT);
                }
                return Ended::Done(found);
            }
            if let Some(other) = peer()
                && !segment.lives(other)
            {
                // It may have published, closed or handed its end on just before it ended.
                return match look() {
                    Some(found) => Ended::Done(found),
                    None if peer() == Some(other) => Ended::PeerDied(segment.pid_of_peer(other)),
                    None => continue,
                };
            }
        }
    }

    fn spin<T>(&self, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        let budget = match self.strategy {
            WaitStrategy::Park => 1,
            _ if one_processor() => 1,
            _ => self.budget.get(),
        };
        for _ in 0..budget {
            if let Some(found) = look() {
                self.budget.set(SPIN_LIMIT);
                return Some(found);
            }
            spin_loop();
        }
        self.budget.set((budget / 2).max(SPIN_LEAST));
        None
    }
}

fn spin_for<T>(time: Duration, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < time {
        for _ in 0..64 {
            if let Some(found) = look() {
                return Some(found);
            }
            if one_processor() {
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
    // Joining can fail only in a forked child that finds no place; then we look now and then.
    let Ok(me) = segment.me() else {
        thread::sleep(time.min(Duration::from_millis(1)));
        return look();
    };
    let inner = &*segment.0;
    let doorbell = Doorbell::at(&inner.region, inner.layout.participant(me.index()));
    let number = inner.participants().bell(me.index());
    let bell = number.and_then(|number| Some((number, inner.bells.fd(number)?)));
    let bell = bell.and_then(|bell| BellGuard::take(&inner.bell_taken).map(|guard| (bell, guard)));
    if let Some(((number, bell), _guard)) = bell {
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
        inner.bells.clear(number);
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

/// The right of one thread to sleep on the bell.
struct BellGuard<'a>(&'a local::AtomicBool);

impl<'a> BellGuard<'a> {
    fn take(taken: &'a local::AtomicBool) -> Option<BellGuard<'a>> {
        (!taken.swap(true, local::Ordering::Acquire)).then_some(BellGuard(taken))
    }
}

impl Drop for BellGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, local::Ordering::Release);
    }
}

/// Steps R2 to R7: wakes a participant if it sleeps. `object` is what has news for it.
#[inline]
pub(crate) fn ring(segment: &Segment, id: Id, object: u32) {
    let inner = &*segment.0;
    if !inner.participants().knows(id) {
        return;
    }
    let doorbell = Doorbell::at(&inner.region, inner.layout.participant(id.index()));
    let how = doorbell.ring(object);
    if how != 0 {
        wake(segment, id, doorbell, how);
    }
}

#[cold]
fn wake(segment: &Segment, id: Id, doorbell: Doorbell<'_>, how: u32) {
    #[cfg(not(shmring_loom))]
    if how & FUTEX != 0 {
        // Fails only for an address that is not mapped, and this one is.
        let _ = os::futex_wake(doorbell.epoch());
    }
    #[cfg(shmring_loom)]
    let _ = doorbell;
    fault!("doorbell.futex.woken");
    if how & BELL != 0
        && let Some(number) = segment.0.participants().bell(id.index())
    {
        segment.0.bells.set(number);
    }
}

impl Segment {
    /// Asks to be woken by [`Segment::bell`], once. Tells whether the bell was quiet: false means
    /// that something has rung since the last call, so that one should look at all rings first.
    ///
    /// Before a poll: call it, look at all rings of this segment, and sleep only if it was quiet
    /// and there was nothing.
    pub fn arm(&self) -> bool {
        // Steps S2 to S4 for a sleeper that polls the bell by itself. From now on nobody in this
        // process sleeps on the bell inside of this library: one reader's clearing would hide it
        // from the other.
        let Ok(me) = self.me() else { return false };
        let inner = &*self.0;
        inner.bell_taken.store(true, local::Ordering::Release);
        let number = inner.participants().bell(me.index());
        let rang = number.is_some_and(|number| inner.bells.clear(number));
        Doorbell::at(&inner.region, inner.layout.participant(me.index())).arm(BELL);
        !rang
    }
}

/// Which objects have rung since the last call, by number modulo 64: a hint where to look first.
pub(crate) fn take_rung(segment: &Segment) -> u64 {
    let Ok(me) = segment.me() else { return u64::MAX };
    Doorbell::at(&segment.0.region, segment.0.layout.participant(me.index())).take_pending()
}
