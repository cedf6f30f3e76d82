//! Who takes part in a queue, and whether the others are still there.

use std::{cell::Cell, sync::Arc};

use super::{Queue, asleep::Asleep, geometry::CHECKED, lists::Lists};
use crate::{
    block,
    error::{Error, Result},
    fault::fault,
    liveness::{self, Id, Peer, Phase},
    os,
    region::Region,
    ring::{
        face::Side,
        role::{self, Owned, Place, Role, State},
    },
    sync::{
        Ordering,
        local::{self, AtomicU64},
    },
    wait::{self, Waiter},
};

/// How often somebody asks who lives.
const ASK_EVERY_MS: u64 = 100;
/// After how many operations an end that is never held up looks at the clock for it.
const CLOCK_AFTER: u32 = 32;

/// What is known of the ends on the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Others {
    /// Nobody has come yet.
    Nobody,
    /// Somebody holds a seat, alive or not.
    Attached,
    /// All have closed.
    Closed,
}

/// Why nothing will come any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Closed,
    Died(u32),
}

/// One end's hold on a queue.
pub(super) struct Seat {
    pub(super) queue: Queue,
    side: Side,
    number: usize,
    role: Role,
    /// The index by which claims name us as their owner.
    me: u8,
    forks: u32,
    operations: u32,
    /// Whether our bit may be set.
    asleep: Cell<bool>,
    /// What the seats of the others said when they had changed so often.
    known: Cell<Option<(u64, Others)>>,
    /// Whose life we wait on, while it lasts.
    watched: Cell<usize>,
    /// The peer that was looked at last, and its process: once it is dead and repaired, by whomever,
    /// nobody knows that any more.
    seen: Cell<Option<(Peer, u32)>>,
    /// The same for whoever looks at the queue for this end.
    whereabouts: Arc<Whereabouts>,
}

/// Where an end sits: in a forked child elsewhere, from its first use on.
#[derive(Default, Debug)]
pub(super) struct Whereabouts {
    number: AtomicU64,
    /// What the seat says while the end has it.
    word: AtomicU64,
    forks: AtomicU64,
}

impl Whereabouts {
    fn note(&self, seat: &Seat) {
        self.number.store(seat.number as u64, local::Ordering::Relaxed);
        self.word.store(seat.role.word(), local::Ordering::Relaxed);
        self.forks.store(seat.forks.into(), local::Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> usize {
        self.number.load(local::Ordering::Relaxed) as usize
    }

    /// Whether the end still has its seat. In a forked child it may take one.
    pub(super) fn is_taken(&self, queue: &Queue, side: Side) -> bool {
        let word = queue.geometry.seat(side, self.number()).word;
        self.forks.load(local::Ordering::Relaxed) != u64::from(os::fork_generation())
            || queue.segment.0.region.u64(word).load(Ordering::Relaxed)
                == self.word.load(local::Ordering::Relaxed)
    }
}

impl Seat {
    /// Takes a seat for this process.
    pub(super) fn take(queue: Queue, side: Side, what: &'static str) -> Result<Seat> {
        queue.look_after();
        let (role, number) = queue.take_role(side, what)?;
        Seat::new(queue, side, number, role)
    }

    /// Takes the seat over that was sent here.
    pub(super) fn receive(
        queue: Queue,
        side: Side,
        index: u32,
        from: u64,
        what: &'static str,
    ) -> Result<Seat> {
        let number = index as usize;
        if number >= queue.geometry.seats {
            let reason = format!("seat {number} of {}", queue.geometry.seats);
            return Err(Error::Corrupt { what: what.into(), reason });
        }
        let place = queue.geometry.seat(side, number);
        let role = Role::receive(&queue.segment, place, from, what)?;
        Seat::new(queue, side, number, role)
    }

    fn new(queue: Queue, side: Side, number: usize, role: Role) -> Result<Seat> {
        fault!("queue.seat.taken");
        let me = queue.segment.me()?.index() as u8;
        queue.count_change(side);
        let seat = Seat {
            queue,
            side,
            number,
            role,
            me,
            forks: os::fork_generation(),
            operations: 0,
            asleep: Cell::new(false),
            known: Cell::new(None),
            watched: Cell::new(0),
            seen: Cell::new(None),
            whereabouts: Arc::default(),
        };
        seat.whereabouts.note(&seat);
        Ok(seat)
    }

    pub(super) fn role(&self) -> &Role {
        &self.role
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn whereabouts(&self) -> Arc<Whereabouts> {
        self.whereabouts.clone()
    }

    #[inline]
    pub(super) fn region(&self) -> &Region {
        &self.queue.segment.0.region
    }

    #[inline]
    pub(super) fn lists(&self) -> Lists<'_, Region> {
        self.queue.lists()
    }

    #[inline]
    pub(super) fn me(&self) -> u8 {
        self.me
    }

    /// Whether this is the process that sits here, and not a forked child's copy.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        self.forks == os::forks()
    }

    /// Asks whether we still hold the seat. A forked child takes another one at its first use:
    /// then nothing that its parent held is the child's.
    #[inline]
    pub(super) fn own(&mut self, what: &'static str) -> Owned {
        self.operations = self.operations.wrapping_add(1);
        if self.operations.is_multiple_of(CLOCK_AFTER) {
            self.queue.ask_who_lives();
        }
        if self.role.is_still() { Owned::Still } else { self.join(what) }
    }

    #[cold]
    fn join(&mut self, what: &'static str) -> Owned {
        if self.is_ours() {
            return Owned::Not;
        }
        match Seat::take(self.queue.clone(), self.side, what) {
            Ok(mut seat) => {
                seat.whereabouts = self.whereabouts();
                *self = seat;
                self.whereabouts.note(self);
                Owned::Anew
            }
            Err(_) => Owned::Not,
        }
    }

    // Sleeping and waking.

    fn bits(&self) -> Asleep<'_> {
        self.queue.asleep(self.side)
    }

    /// Says that we are about to sleep.
    pub(super) fn fall_asleep(&self) {
        self.asleep.set(true);
        self.bits().set(self.number);
    }

    /// Says that we are about to wait for this queue and other things.
    pub(super) fn begin_to_poll(&self) {
        self.bits().set_polling(self.number);
    }

    /// Says that we are awake, after every wait. Whoever was woken for an item and took another,
    /// or none, passes it on.
    #[inline]
    pub(super) fn wake_up(&self) {
        if self.asleep.get() {
            self.asleep.set(false);
            self.bits().clear(self.number);
            if self.lists().is_empty(self.side) == Ok(false) {
                self.queue.wake(self.side);
            }
        }
    }

    // The others.

    /// What the other side's seats say. Reads them only when they have changed.
    #[inline]
    pub(super) fn others(&self) -> Others {
        let changes = self.queue.changes(self.side.other());
        match self.known.get() {
            Some((then, others)) if then == changes => others,
            _ => self.read_others(changes),
        }
    }

    #[cold]
    fn read_others(&self, changes: u64) -> Others {
        let others = self.queue.sitting(self.side.other());
        self.known.set(Some((changes, others)));
        others
    }

    /// Why nothing will come any more, if that is so; for those who do not wait. Asks for lives
    /// now and then only.
    #[cold]
    pub(super) fn end(&self, waiter: &Waiter) -> Option<End> {
        if self.is_over() {
            return Some(End::Closed);
        }
        let segment = &self.queue.segment;
        let peer = waiter.may_ask().then(|| self.peer()).flatten()?;
        if segment.lives(peer) {
            return None;
        }
        // Whoever had closed its seat before it ended has not died in it: a second look tells.
        if self.peer() == Some(peer) {
            return Some(End::Died(self.pid_of_dead(segment.pid_of_peer(peer))));
        }
        self.is_over().then_some(End::Closed)
    }

    /// Whether nothing will come any more, and everybody has said so.
    pub(super) fn is_over(&self) -> bool {
        self.others() == Others::Closed && self.queue.nothing_comes_back(self.side)
    }

    /// Whose life matters to us while we wait: somebody's who lives, if there is anybody. Somebody
    /// dead only when nothing can come any more.
    pub(super) fn peer(&self) -> Option<Peer> {
        let (segment, side) = (&self.queue.segment, self.side.other());
        let mut dead = None;
        let first = self.watched.get();
        for number in (first..self.queue.geometry.seats).chain(0..first) {
            let peer = role::peer_of(segment, self.queue.geometry.seat(side, number));
            match peer {
                Some(peer) if segment.lives(peer) => {
                    self.watched.set(number);
                    self.see(peer);
                    self.queue.ask_who_lives();
                    return Some(peer);
                }
                Some(_) => dead = dead.or(peer),
                None => {}
            }
        }
        // Somebody may have died between a change and counting it.
        self.known.set(None);
        let Some(dead) = dead else {
            self.queue.ask_who_lives();
            return None;
        };
        // Before the repair: what is repaired has no process any more.
        self.see(dead);
        self.queue.look_after();
        self.queue.nothing_comes_back(self.side).then_some(dead)
    }

    fn see(&self, peer: Peer) {
        let pid = self.queue.segment.pid_of_peer(peer);
        if pid != 0 || self.seen.get().is_none_or(|(other, _)| other != peer) {
            self.seen.set(Some((peer, pid)));
        }
    }

    /// The process id of the peer that was found dead.
    pub(super) fn pid_of_dead(&self, pid: u32) -> u32 {
        if pid == 0 { self.seen.get().map_or(0, |(_, pid)| pid) } else { pid }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.is_ours() {
            return; // The parent's.
        }
        if self.role.is_held() {
            self.wake_up();
        }
        if self.role.close() {
            fault!("queue.seat.closed");
            self.queue.count_change(self.side);
            if self.queue.sitting(self.side) == Others::Closed {
                self.queue.wake_all(self.side.other());
            }
        }
    }
}

impl Queue {
    #[inline]
    pub(super) fn lists(&self) -> Lists<'_, Region> {
        Lists::new(&self.segment.0.region, &self.geometry)
    }

    /// Takes a free seat: first those of the dead, since whoever comes may be in their place.
    fn take_role(&self, side: Side, what: &'static str) -> Result<(Role, usize)> {
        let is_dead = |place: Place| {
            role::peer_of(&self.segment, place).is_some_and(|peer| !self.segment.lives(peer))
        };
        let is_free = |place: Place| role::peer_of(&self.segment, place).is_none();
        for wanted in [&is_dead as &dyn Fn(Place) -> bool, &is_free] {
            for number in 0..self.geometry.seats {
                let place = self.geometry.seat(side, number);
                if !wanted(place) {
                    continue;
                }
                match Role::take(&self.segment, place, what) {
                    Ok(role) => return Ok((role, number)),
                    Err(Error::Busy { .. }) => {} // Another one was quicker.
                    Err(error) => return Err(error),
                }
            }
        }
        Err(Error::NoPlace { action: format!("take {what}"), limit: self.geometry.seats })
    }

    pub(super) fn sitting(&self, side: Side) -> Others {
        let mut others = Others::Nobody;
        for number in 0..self.geometry.seats {
            match role::state_of(&self.segment, self.geometry.seat(side, number)) {
                State::Held(_) | State::Transit(_) => return Others::Attached,
                State::Closed => others = Others::Closed,
                State::Free => {}
            }
        }
        others
    }

    /// What a consumer has in its hands may be there again for the others.
    pub(super) fn nothing_comes_back(&self, side: Side) -> bool {
        side == Side::Producer || self.lists().is_drained()
    }

    /// How often the seats of a side have changed.
    #[inline]
    pub(super) fn changes(&self, side: Side) -> u64 {
        // SYNC changed: Acquire here, Release in `count_change`.
        self.segment.0.region.u64(self.geometry.changes(side)).load(Ordering::Acquire)
    }

    fn count_change(&self, side: Side) {
        let word = self.segment.0.region.u64(self.geometry.changes(side));
        // SYNC changed: Release here, Acquire in `changes`.
        word.fetch_add(1, Ordering::Release);
    }

    pub(super) fn asleep(&self, side: Side) -> Asleep<'_> {
        Asleep { region: &self.segment.0.region, geometry: &self.geometry, side }
    }

    /// Wakes one of those who wait for the list of `side`, in which something was put.
    #[inline]
    pub(super) fn wake(&self, side: Side) {
        self.asleep(side).wake_one(|seat| self.ring_seat(side, seat));
    }

    pub(super) fn wake_all(&self, side: Side) {
        self.asleep(side).wake_all(|seat| self.ring_seat(side, seat));
    }

    fn ring_seat(&self, side: Side, number: usize) -> bool {
        match role::state_of(&self.segment, self.geometry.seat(side, number)) {
            State::Held(id) => wait::ring_unfenced(&self.segment, id, self.object.index),
            _ => false,
        }
    }

    /// Has the dead repaired, if nobody has asked for a while.
    #[inline]
    pub(super) fn ask_who_lives(&self) {
        let word = self.segment.0.region.u64(self.geometry.base + CHECKED);
        let (now, then) = (os::coarse_millis(), word.load(Ordering::Relaxed));
        if now.abs_diff(then) >= ASK_EVERY_MS {
            let relaxed = Ordering::Relaxed;
            if word.compare_exchange(then, now, relaxed, relaxed).is_ok() {
                self.look_after();
            }
        }
    }

    /// Has the dead repaired, so that what they held is there again.
    #[cold]
    pub(super) fn look_after(&self) {
        let table = self.segment.0.participants();
        let is_dead = |id: Id, state: liveness::State| {
            state.phase() == Phase::Repairing || !self.segment.is_alive(id)
        };
        if table.attached().any(|(id, state, _)| is_dead(id, state)) {
            self.segment.repair();
        }
    }

    /// What a dead participant leaves in this queue.
    pub(super) fn repair(&self, dead: Id) {
        for slot in self.lists().given_up(dead.index() as u8) {
            // They are in no list before this is done, so it can be done again.
            block::empty_place(&self.segment, self.object.index, slot as usize);
            fault!("queue.port.emptied");
        }
        self.lists().repair(dead.index() as u8);
        for side in [Side::Producer, Side::Consumer] {
            for number in 0..self.geometry.seats {
                let state = role::state_of(&self.segment, self.geometry.seat(side, number));
                if state == State::Held(dead) {
                    self.asleep(side).forget(number);
                }
            }
            // Its items and its room are there again, and the last one may have gone.
            self.wake_all(side);
        }
    }
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Producer => Side::Consumer,
            Side::Consumer => Side::Producer,
        }
    }
}
