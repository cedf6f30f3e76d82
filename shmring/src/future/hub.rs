//! What all async ends of one segment share: one descriptor, and who waits for it. The argument is
//! in `wait/README.md`.

use std::{
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::AsyncReady;
use crate::{
    error::{Error, Result},
    fault::fault,
    liveness::{Id, Peer, Watch},
    os::{self, Epoll, Ticker},
    ring::select::Source,
    segment::Segment,
    sync::local::{AtomicBool, Ordering, fence},
    wait::{self, doorbell::BELL},
};

/// The news that the set of descriptors has.
const RANG: u64 = 0;
const TICKED: u64 = 1;
const DIED: u64 = 2;

/// How often those who wait look without having been woken.
const TICK: Duration = Duration::from_millis(250);
/// How many ticks that find nothing go by before all rings are looked at.
const TICKS: u32 = 4;
/// How often a turn is begun anew before it is left to those who wait.
const ROUNDS: u32 = 4;

/// All hubs of this process, at most one for each segment.
static HUBS: Mutex<Vec<Weak<Hub>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The async ends of this process in one segment.
struct Hub {
    segment: Segment,
    forks: u32,
    /// Which bell is ours.
    bell: u32,
    /// The bell, a ticker, and the pidfds of the peers, as one descriptor.
    set: Epoll,
    ticker: Ticker,
    /// That descriptor in each reactor where an end was made. Locked while they are polled.
    sources: Mutex<Vec<Box<dyn AsyncReady>>>,
    /// Somebody wants a turn.
    again: AtomicBool,
    /// No reactor is left: the next one who waits brings his own.
    deserted: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Takes a turn; what the reactors know us by.
    waker: Waker,
}

#[derive(Default)]
struct Waiting {
    places: Vec<Option<Waits>>,
    free: Vec<usize>,
    /// The peers whose pidfds are in the set.
    watched: Vec<(Id, Option<Arc<Watch>>)>,
    ticking: bool,
    ticks: u32,
    /// Room for those who are about to be woken.
    woken: Vec<Waker>,
}

struct Waits {
    source: Arc<Source>,
    want: usize,
    waker: Option<Waker>,
}

/// The place of one end in its hub.
pub(super) struct Place {
    hub: Arc<Hub>,
    number: usize,
    source: Arc<Source>,
}

struct Turner(Weak<Hub>);

impl Wake for Turner {
    fn wake(self: Arc<Self>) {
        if let Some(hub) = self.0.upgrade() {
            hub.turn();
        }
    }
}

impl Place {
    /// Takes a place for an end, in the reactor of the calling context.
    pub(super) fn new<R: AsyncReady>(source: Source) -> Result<Place> {
        let hub = Hub::of(source.segment())?;
        hub.join_reactor::<R>()?;
        let source = Arc::new(source);
        let waits = Some(Waits { source: source.clone(), want: 0, waker: None });
        let mut waiting = lock(&hub.waiting);
        let number = waiting.free.pop().unwrap_or(waiting.places.len());
        if number == waiting.places.len() {
            waiting.places.push(waits);
        } else {
            waiting.places[number] = waits;
        }
        drop(waiting);
        Ok(Place { hub, number, source })
    }

    /// Lets `waker` be woken when the end may go on. The caller looks again afterwards (S5).
    pub(super) fn wait<R: AsyncReady>(&self, waker: &Waker, want: usize) {
        wait::note_wait();
        let hub = &*self.hub;
        let mut waiting = lock(&hub.waiting);
        let Waiting { places, watched, ticking, .. } = &mut *waiting;
        // What a waker does when it is dropped is its own: never under the lock.
        let mut before = None;
        if let Some(Some(waits)) = places.get_mut(self.number) {
            waits.want = want;
            if !waits.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                before = waits.waker.replace(waker.clone());
            }
        }
        self.source.peers(&mut |peer| hub.watch(watched, peer));
        if !*ticking {
            *ticking = hub.ticker.set(Some(TICK)).is_ok();
        }
        drop(waiting);
        drop(before);
        fault!("hub.registered");
        // Asked now: whoever deserts us later wakes us.
        if hub.deserted.load(Ordering::SeqCst) {
            hub.join_reactor::<R>().expect("the reactor that this end was made in is gone");
        }
        if let Some(doorbell) = wait::own_doorbell(&hub.segment) {
            doorbell.arm(BELL);
        }
        self.source.arm();
        if hub.again.load(Ordering::SeqCst) {
            hub.turn();
        }
    }

    /// Lets nobody be woken: the end could go on.
    pub(super) fn forget(&self) {
        let mut waiting = lock(&self.hub.waiting);
        let place = waiting.places.get_mut(self.number).and_then(Option::as_mut);
        let waker = place.and_then(|waits| waits.waker.take());
        drop(waiting);
        drop(waker);
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Whether the end's peer has died.
    pub(super) fn has_ended(&self) -> bool {
        self.source.has_ended(&mut |peer| self.hub.segment.lives(peer))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = lock(&self.hub.waiting);
        let waits = waiting.places[self.number].take();
        waiting.free.push(self.number);
        drop(waiting);
        drop(waits);
    }
}

impl Hub {
    /// The hub of a segment.
    fn of(segment: &Segment) -> Result<Arc<Hub>> {
        let forks = os::fork_generation();
        let mut hubs = lock(&HUBS);
        hubs.retain(|hub| hub.strong_count() > 0);
        let mut known = hubs.iter().filter_map(Weak::upgrade);
        let ours = |hub: &Arc<Hub>| hub.segment.is_same(segment) && hub.forks == forks;
        if let Some(hub) = known.find(ours) {
            return Ok(hub);
        }
        let bell = wait::give_out_bell(segment).ok_or_else(|| Error::NoPlace {
            action: "wait for a segment in async code, which needs a bell of it \
                     (segment::Options::bells)"
                .into(),
            limit: segment.bells(),
        })?;
        let failed = || Error::io("wait for a segment in async code");
        let (set, ticker) = (Epoll::new().map_err(failed())?, Ticker::new().map_err(failed())?);
        if let Some(fd) = segment.bell() {
            set.add(fd, RANG).map_err(failed())?;
        }
        set.add(ticker.as_fd(), TICKED).map_err(failed())?;
        let hub = Arc::new_cyclic(|hub: &Weak<Hub>| Hub {
            segment: segment.clone(),
            forks,
            bell,
            set,
            ticker,
            sources: Mutex::default(),
            again: AtomicBool::new(false),
            deserted: AtomicBool::new(true),
            waiting: Mutex::default(),
            waker: Arc::new(Turner(hub.clone())).into(),
        });
        hubs.push(Arc::downgrade(&hub));
        Ok(hub)
    }

    /// Makes sure that the reactor of the calling context wakes us.
    fn join_reactor<R: AsyncReady>(&self) -> Result<()> {
        self.turn(); // Reactors that are gone are known as such.
        let mut sources = lock(&self.sources);
        if sources.iter().any(|source| source.is_here()) {
            return Ok(());
        }
        let failed = || Error::io("wait for a segment in this async runtime");
        let fd = self.set.try_clone_fd().map_err(failed())?;
        sources.push(Box::new(R::new(fd).map_err(failed())?));
        self.deserted.store(false, Ordering::SeqCst);
        drop(sources);
        self.turn();
        Ok(())
    }

    /// Hears the news, and wakes those whom they concern. Whoever comes while another is at it
    /// leaves it to him.
    fn turn(&self) {
        self.again.store(true, Ordering::SeqCst);
        // SYNC again: between setting it and trying the lock here, between leaving the lock and
        // looking at it below. A lock that is not got orders nothing by itself.
        fence(Ordering::SeqCst);
        for _ in 0..ROUNDS {
            let mut sources = match self.sources.try_lock() {
                Ok(sources) => sources,
                Err(TryLockError::Poisoned(poison)) => poison.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut woken = Vec::new();
            if self.again.swap(false, Ordering::SeqCst) {
                woken = std::mem::take(&mut lock(&self.waiting).woken);
                self.hear(&mut sources, &mut woken);
            }
            drop(sources);
            self.wake(woken);
            fence(Ordering::SeqCst);
            if !self.again.load(Ordering::SeqCst) {
                return;
            }
        }
        // It goes on and on. Those who wait take a turn when they wait again.
        let mut woken = Vec::new();
        self.take_wakers(&mut woken, |_| true);
        self.wake(woken);
    }

    /// Hears the news. Who is concerned is to be woken afterwards.
    fn hear(&self, sources: &mut Vec<Box<dyn AsyncReady>>, woken: &mut Vec<Waker>) {
        let before = sources.len();
        let mut context = Context::from_waker(&self.waker);
        sources.retain(|source| {
            for _ in 0..ROUNDS {
                match source.poll_readable(&mut context) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return false,
                }
            }
            self.again.store(true, Ordering::SeqCst);
            true
        });
        if sources.is_empty() && before > 0 {
            self.deserted.store(true, Ordering::SeqCst);
            self.take_wakers(woken, |_| true);
        }
        let (mut rang, mut ticked, mut died) = (false, false, false);
        let note = |news| match news {
            RANG => rang = true,
            TICKED => ticked = true,
            _ => died = true,
        };
        // A failure is as no news, and the ticker comes again.
        let _ = self.set.take(note);
        if rang {
            self.segment.0.bells.clear(self.bell);
        }
        let mut all = false;
        if ticked {
            self.ticker.clear();
            all = self.tick();
        }
        fault!("hub.heard");
        if rang || all {
            self.look(woken);
        }
        if died {
            self.bring_back();
        }
        if died || all {
            self.look_for_deaths(woken);
        }
    }

    /// Stops the ticker when nobody waits. Tells whether all rings must be looked at: somebody has
    /// taken our flag off the doorbell and not rung, or it is time.
    fn tick(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let Waiting { places, ticking, ticks, .. } = &mut *waiting;
        if !places.iter().flatten().any(|waits| waits.waker.is_some()) {
            *ticking = self.ticker.set(None).is_err();
            return false;
        }
        *ticks = (*ticks + 1) % TICKS;
        let doorbell = wait::own_doorbell(&self.segment);
        *ticks == 0 || !doorbell.is_some_and(|doorbell| doorbell.is_armed_for(BELL))
    }

    /// Steps S2 to S5 for all that wait, after the bell was cleared.
    fn look(&self, woken: &mut Vec<Waker>) {
        let waiting = lock(&self.waiting);
        let those = waiting.places.iter().flatten().filter(|waits| waits.waker.is_some());
        if those.clone().next().is_none() {
            return; // Whoever waits next arms.
        }
        if let Some(doorbell) = wait::own_doorbell(&self.segment) {
            doorbell.arm(BELL);
        }
        those.for_each(|waits| waits.source.arm());
        drop(waiting);
        self.take_wakers(woken, |waits| waits.source.is_ready(waits.want));
    }

    /// Has what the dead held given to those who wait for it: their rings ring us.
    fn bring_back(&self) {
        let waiting = lock(&self.waiting);
        let those = waiting.places.iter().flatten().filter(|waits| waits.waker.is_some());
        let sources: Vec<_> = those.map(|waits| waits.source.clone()).collect();
        drop(waiting);
        sources.iter().for_each(|source| source.somebody_died());
    }

    fn look_for_deaths(&self, woken: &mut Vec<Waker>) {
        let mut waiting = lock(&self.waiting);
        let Waiting { places, watched, .. } = &mut *waiting;
        // Peers that have come since.
        for waits in places.iter().flatten().filter(|waits| waits.waker.is_some()) {
            waits.source.peers(&mut |peer| self.watch(watched, peer));
        }
        drop(waiting);
        let mut asked: Vec<(Peer, bool)> = vec![];
        self.take_wakers(woken, |waits| {
            waits.source.has_ended(&mut |peer| {
                let known = asked.iter().find(|(other, _)| *other == peer);
                known.map(|(_, lives)| *lives).unwrap_or_else(|| {
                    let lives = self.segment.lives(peer);
                    asked.push((peer, lives));
                    lives
                })
            })
        });
    }

    /// Takes the wakers of those that wait and of whom `may_go_on` says so.
    fn take_wakers(&self, woken: &mut Vec<Waker>, mut may_go_on: impl FnMut(&Waits) -> bool) {
        let mut waiting = lock(&self.waiting);
        for waits in waiting.places.iter_mut().flatten() {
            if waits.waker.is_some() && may_go_on(waits) {
                woken.extend(waits.waker.take());
            }
        }
    }

    /// Wakes them, without a lock of ours: a waker may do anything, and make or poll other ends of
    /// this segment.
    fn wake(&self, mut woken: Vec<Waker>) {
        woken.drain(..).for_each(Waker::wake);
        if woken.capacity() > 0 {
            lock(&self.waiting).woken = woken;
        }
    }

    /// Puts the pidfd of a peer into the set.
    fn watch(&self, watched: &mut Vec<(Id, Option<Arc<Watch>>)>, peer: Peer) {
        let Peer::Participant(id) = peer else { return };
        if watched.iter().any(|(known, _)| *known == id) {
            return;
        }
        if let Some(at) = watched.iter().position(|(known, _)| known.index() == id.index())
            && let (_, Some(watch)) = watched.swap_remove(at)
            && let Some(pidfd) = watch.fd()
        {
            // The one who had its entry before has gone.
            let _ = self.set.remove(pidfd.as_fd());
        }
        let watch = self.segment.watch(id);
        if let Some(pidfd) = watch.as_ref().and_then(|watch| watch.fd()) {
            // Without it, its death is seen by the ticker.
            let _ = self.set.add(pidfd.as_fd(), DIED);
        }
        watched.push((id, watch));
    }
}
