//! Who holds an end of a ring. README.md beside this file draws the states.

use std::cell::Cell;

use crate::{
    error::{Error, Result},
    fault::fault,
    liveness::{Id, Peer},
    os,
    region::Region,
    segment::Segment,
    sync::{Ordering, local::compiler_fence},
    transfer, wait,
};

const FREE: u64 = 0;
const HELD: u64 = 1;
const TRANSIT: u64 = 2;
const CLOSED: u64 = 3;

/// `{phase: 8, turn: 24, id: 32}`. The turn counts up with each holder, so that two handles in one
/// process never take each other for themselves.
fn word(phase: u64, turn: u64, id: Id) -> u64 {
    phase << 56 | (turn & 0x00ff_ffff) << 32 | u64::from(id.0)
}

fn turn(word: u64) -> u64 {
    word >> 32 & 0x00ff_ffff
}

/// The same turn in another phase.
fn in_phase(phase: u64, held: u64) -> u64 {
    word(phase, turn(held), Id(held as u32))
}

/// What a role's word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Free,
    Held(Id),
    Transit(Id),
    Closed,
}

#[inline]
pub(super) fn read(word: u64) -> State {
    let id = Id(word as u32);
    match word >> 56 {
        HELD => State::Held(id),
        TRANSIT => State::Transit(id),
        CLOSED => State::Closed,
        // What is none of ours counts as nobody: a liar only fools those who wait for it.
        _ => State::Free,
    }
}

/// Where a role stands in its segment: its word, and the word of the process it is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) word: usize,
    pub(crate) destination: usize,
}

/// An end's hold on its role.
#[derive(Debug)]
pub(crate) struct Role {
    segment: Segment,
    place: Place,
    /// What the word says while we hold it.
    expected: u64,
    /// What it said before we took it.
    before: u64,
    forks: u32,
    what: &'static str,
    /// Where the doorbell of the other end is, for as long as its word says the same.
    bell: Cell<Bell>,
}

/// A holder's doorbell.
#[derive(Clone, Copy, Default, Debug)]
struct Bell {
    /// What the holder's word said. No word is 0, so nothing is known at 0.
    word: u64,
    armed: usize,
    /// How often we have fenced for nobody, one after the other.
    vain: u32,
}

/// Others write a destination once for each turn. Whoever meets more is lied to.
const TRIES: u32 = 1024;

/// Fences in vain cost as much as the barrier that the holder then needs before it sleeps.
const FENCES: u32 = 1024;

/// What an operation finds when it asks for its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owned {
    /// As before.
    Still,
    /// Adopted just now: positions must be read again.
    Anew,
    /// Somebody else has it.
    Not,
}

impl Role {
    fn unheld(segment: &Segment, place: Place, what: &'static str) -> Role {
        let forks = os::fork_generation();
        Role {
            segment: segment.clone(),
            place,
            expected: 0,
            before: 0,
            forks,
            what,
            bell: Cell::default(),
        }
    }

    /// Takes a role for this process.
    pub(crate) fn take(segment: &Segment, place: Place, what: &'static str) -> Result<Role> {
        let mut role = Role::unheld(segment, place, what);
        let seen = role.load();
        match read(seen) {
            State::Free | State::Closed => {}
            holder if !role.lives(holder) => {}
            State::Held(id) | State::Transit(id) => {
                return Err(Error::Busy { what: what.into(), pid: segment.pid_of(id) });
            }
        }
        if role.change(seen)? {
            Ok(role)
        } else {
            let pid = match read(role.load()) {
                State::Held(id) | State::Transit(id) => segment.pid_of(id),
                State::Free | State::Closed => 0,
            };
            Err(Error::Busy { what: what.into(), pid })
        }
    }

    /// Takes a role that `from` sent here.
    pub(crate) fn receive(
        segment: &Segment,
        place: Place,
        from: u64,
        what: &'static str,
    ) -> Result<Role> {
        let mut role = Role::unheld(segment, place, what);
        // The sender may change Held to Transit while we look: twice suffices, since nothing
        // leads back.
        for _ in 0..3 {
            let seen = role.load();
            let sent = [in_phase(HELD, from), in_phase(TRANSIT, from)].contains(&seen);
            if !sent {
                break;
            }
            if role.change(seen)? {
                return Ok(role);
            }
        }
        Err(Error::Busy { what: what.into(), pid: segment.pid_of(Id(role.load() as u32)) })
    }

    fn load(&self) -> u64 {
        self.segment.0.region.u64(self.place.word).load(Ordering::Acquire)
    }

    fn change(&mut self, seen: u64) -> Result<bool> {
        let me = self.segment.me()?;
        let mine = word(HELD, turn(seen) + 1, me);
        let word = self.segment.0.region.u64(self.place.word);
        if word.compare_exchange(seen, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        wait::doubt(&self.segment, me);
        os::join_barriers();
        self.bell.set(Bell::default());
        self.expected = mine;
        self.before = seen;
        self.forks = os::fork_generation();
        Ok(true)
    }

    fn lives(&self, state: State) -> bool {
        self.peer_of(state).is_some_and(|peer| self.segment.lives(peer))
    }

    /// Whether this process holds the role as before.
    #[inline]
    pub(crate) fn is_still(&self) -> bool {
        let seen = self.segment.0.region.u64(self.place.word).load(Ordering::Relaxed);
        seen == self.expected && self.forks == os::forks()
    }

    /// Whether this is the process that took it, and not a forked child's copy. Costs less than to ask
    /// whether it still holds the role, and is asked for each guard that goes.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.forks == os::forks()
    }

    /// Asks whether this process still holds the role; a forked child's first call adopts it.
    #[inline]
    pub(crate) fn own(&mut self) -> Owned {
        if self.is_still() { Owned::Still } else { self.adopt() }
    }

    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Owned {
        let seen = self.load();
        // Only a forked copy may adopt: in the same process, another holder means that this end
        // has been sent away.
        if self.forks == os::fork_generation() {
            return Owned::Not;
        }
        let state = read(seen);
        let free = seen == self.expected
            || matches!(state, State::Free | State::Closed)
            || !self.lives(state);
        match free && self.change(seen).unwrap_or(false) {
            true => Owned::Anew,
            false => Owned::Not,
        }
    }

    /// After something was published: wakes the holder of `place` if it sleeps. Fences only where
    /// that is needed, by `wait/README.md`.
    #[inline]
    pub(crate) fn ring(&self, place: Place, object: u32) {
        #[cfg(shmring_loom)]
        wait::published();
        // SYNC asleep: pairs with the barrier in `Doorbell::make_known`.
        compiler_fence(Ordering::SeqCst);
        let region = &self.segment.0.region;
        let word = region.u64(place.word).load(Ordering::Relaxed);
        let bell = self.bell.get();
        if word != bell.word || !wait::is_quiet(region.u32(bell.armed).load(Ordering::Relaxed)) {
            self.ring_fenced(place, object);
        }
    }

    /// The same with a fence in any case. It comes before the word is read, so that a new holder is
    /// either seen here or sees what was published.
    #[cold]
    #[inline(never)]
    pub(crate) fn ring_fenced(&self, place: Place, object: u32) {
        wait::published();
        let word = self.segment.0.region.u64(place.word).load(Ordering::Relaxed);
        let State::Held(id) = read(word) else { return };
        let rang = wait::ring_unfenced(&self.segment, id, object);
        // A process that no barrier reaches has no quick path: the next time it comes here again.
        if os::in_barriers() {
            self.remember(word, id, rang);
        }
    }

    /// Remembers who was rung, for the quick path.
    fn remember(&self, word: u64, id: Id, rang: bool) {
        let mut bell = self.bell.get();
        if word != bell.word {
            let Some(armed) = wait::armed_word(&self.segment, id) else { return };
            bell = Bell { word, armed, vain: 0 };
        }
        bell.vain = if rang { 0 } else { bell.vain + 1 };
        if bell.vain >= FENCES {
            bell.vain = 0;
            wait::relax(&self.segment, id);
        }
        self.bell.set(bell);
    }

    /// Who the other end's word names, and whether there is anybody.
    #[inline]
    pub(crate) fn state_at(&self, place: Place) -> State {
        state_of(&self.segment, place)
    }

    /// Whose life matters to whoever waits for the holder of `place`.
    pub(crate) fn peer_at(&self, place: Place) -> Option<Peer> {
        peer_of(&self.segment, place)
    }

    fn peer_of(&self, state: State) -> Option<Peer> {
        peer(&self.segment, self.place, state)
    }

    /// Leaves what happens when this end has been sent in a message. Gives the word it is received by.
    pub(crate) fn send_away(&self) -> Result<u64> {
        let what = self.what;
        let destination = transfer::destination().unwrap_or(0);
        let (segment, place, expected) = (self.segment.clone(), self.place, self.expected);
        let seen = self.load();
        if self.forks != os::fork_generation() {
            // A copy of its parent's: it is the child's from its first use on.
            let pid = match read(seen) {
                State::Held(id) | State::Transit(id) => segment.pid_of(id),
                State::Free | State::Closed => 0,
            };
            return Err(Error::Busy { what: what.into(), pid });
        }
        if seen != expected {
            return Err(Error::Busy { what: what.into(), pid: 0 });
        }
        transfer::on_sent(what, move || {
            let region = &segment.0.region;
            if !set_destination(region, place, destination, expected) {
                return;
            }
            let transit = in_phase(TRANSIT, expected);
            // Fails when the receiver was quicker; then it is where it should be.
            let _ = region.u64(place.word).compare_exchange(
                expected,
                transit,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        })?;
        Ok(expected)
    }

    /// What the word says while this end holds its role: another word, another holder.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        self.expected
    }

    /// What the word said when this end took its role: who held it until then, if anybody.
    pub(crate) fn before(&self) -> u64 {
        self.before
    }

    /// Whether this process holds the role, without adopting it.
    pub(crate) fn is_held(&self) -> bool {
        self.forks == os::fork_generation() && self.load() == self.expected
    }

    /// A way to ask from elsewhere whether this end still holds its role: false once it was given
    /// up or sent away. In a forked child it is what the child may adopt, and whatever it has taken.
    pub(crate) fn holds(&self) -> impl Fn(&Segment) -> bool + Send + Sync + use<> {
        let (word, expected, forks) = (self.place.word, self.expected, self.forks);
        move |segment| {
            let seen = segment.0.region.u64(word).load(Ordering::Relaxed);
            if seen == expected || forks == os::fork_generation() {
                return seen == expected;
            }
            match read(seen) {
                State::Held(id) => segment.me_if_joined() == Some(id),
                // The parent has ended it; or the child has, which had adopted it before.
                State::Free | State::Closed => turn(seen) == turn(expected),
                State::Transit(_) => false,
            }
        }
    }

    /// Ends the role, if it is still this process's. Tells whether it was.
    pub(crate) fn close(&mut self) -> bool {
        if self.forks != os::fork_generation() {
            return false; // The parent's.
        }
        fault!("role.close");
        let closed = in_phase(CLOSED, self.expected);
        let word = self.segment.0.region.u64(self.place.word);
        // SYNC closed: Release here, Acquire in `state_at`; what was published before is seen.
        word.compare_exchange(self.expected, closed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A destination is a process word whose pid has 24 bits; above them stand the low bits of the turn
/// that it is of, so that no two holders write the same.
const PLAIN: u64 = (1 << 56) - 1;

/// Says who will get a role, if it is still as it was when it was sent. The receiver may be quicker, and
/// have sent it on: who gets it then is what must stand there. Each of those looks at the destination
/// before the role, and writes only over what it has seen; so one that comes late writes before the
/// next, who looks again.
fn set_destination(region: &Region, place: Place, destination: u64, expected: u64) -> bool {
    let at = region.u64(place.destination);
    let own = destination & PLAIN | turn(expected) << 56;
    let mut seen = at.load(Ordering::Acquire);
    for _ in 0..TRIES {
        if region.u64(place.word).load(Ordering::Acquire) != expected {
            return false;
        }
        match at.compare_exchange(seen, own, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}

/// Who the word of a role names, for those who have no role of their own.
pub(crate) fn state_of(segment: &Segment, place: Place) -> State {
    read(segment.0.region.u64(place.word).load(Ordering::Acquire))
}

/// Ends the role of a holder that died, for a kind that goes on without it. Tells whether it did:
/// not when the holder lives, nor when somebody else was quicker.
pub(super) fn bury(segment: &Segment, place: Place) -> bool {
    let word = segment.0.region.u64(place.word);
    let seen = word.load(Ordering::Acquire);
    let dead = peer(segment, place, read(seen)).is_some_and(|holder| !segment.lives(holder));
    let closed = in_phase(CLOSED, seen);
    dead && word.compare_exchange(seen, closed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Whose life matters to whoever waits for the holder of a role.
pub(crate) fn peer_of(segment: &Segment, place: Place) -> Option<Peer> {
    peer(segment, place, state_of(segment, place))
}

fn peer(segment: &Segment, place: Place, state: State) -> Option<Peer> {
    match state {
        State::Free | State::Closed => None,
        State::Held(id) => Some(Peer::Participant(id)),
        State::Transit(id) => {
            let destination =
                segment.0.region.u64(place.destination).load(Ordering::Relaxed) & PLAIN;
            Some(if destination == 0 { Peer::Participant(id) } else { Peer::Process(destination) })
        }
    }
}

/// Keeps the phases distinct.
const _: () = assert!(FREE != HELD && HELD != TRANSIT && TRANSIT != CLOSED);
