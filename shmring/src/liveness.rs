//! Who is attached to a segment, and who of them lives.
//!
//! A participant is one process attached to one segment. Its entry holds `{generation, pid,
//! start time, pid namespace}`; its [`Id`] is `{generation, index}` and is what claims, roles and
//! counters record as their owner. An index is used again only after whatever its dead owner held
//! has been repaired, and then with another generation, so an old id never means a new process.
//!
//! States of an entry, each change one compare-and-swap on `{pid, generation, phase}`:
//!
//! ```text
//! Free --join--> Joining(pid) --filled in--> Live(pid) --leave--> Free
//!                    |                          |
//!                    +--------(it died)---------+--> Repairing --repaired--> Free
//! ```
//!
//! A process that dies while it joins leaves `Joining`; its pid stands there from the first step,
//! so its death is seen like any other. A repairer that dies leaves `Repairing`, and the next
//! repairer, who holds the repair lock, does the whole repair again: repairs are idempotent.

use std::{fmt, io};

use crate::{
    layout::{self, Layout},
    os::{self, PidFd},
    region::Region,
    sync::Ordering,
};

/// Names one participant for good: `{generation: 24, index: 8}`; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u32);

impl Id {
    fn new(index: usize, generation: u32) -> Id {
        Id(generation << 8 | index as u32)
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xff) as usize
    }

    fn generation(self) -> u32 {
        self.0 >> 8
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Free = 0,
    Joining = 1,
    Live = 2,
    Repairing = 3,
}

/// The state word of an entry, copied once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State(u64);

impl State {
    fn new(pid: u32, generation: u32, phase: Phase) -> State {
        State(u64::from(pid) << 32 | u64::from(generation & 0x00ff_ffff) << 8 | phase as u64)
    }

    pub(crate) fn pid(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 8) as u32 & 0x00ff_ffff
    }

    /// What is not a phase of ours counts as one that somebody must repair.
    pub(crate) fn phase(self) -> Phase {
        match self.0 & 0xff {
            0 => Phase::Free,
            1 => Phase::Joining,
            2 => Phase::Live,
            _ => Phase::Repairing,
        }
    }
}

/// The table of participants of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Participants<'a> {
    region: &'a Region,
    layout: &'a Layout,
}

impl<'a> Participants<'a> {
    pub(crate) fn new(region: &'a Region, layout: &'a Layout) -> Participants<'a> {
        Participants { region, layout }
    }

    fn word(&self, index: usize, field: usize) -> usize {
        self.layout.participant(index) + field
    }

    /// Whether an id can be one of this segment at all: it may come from a liar.
    pub(crate) fn knows(&self, id: Id) -> bool {
        id.index() < self.layout.participants
    }

    pub(crate) fn state(&self, index: usize) -> State {
        // SYNC joined: Acquire here, Release in `join`.
        State(self.region.acquire(self.word(index, layout::STATE)))
    }

    fn swap(&self, index: usize, from: State, to: State) -> bool {
        self.region
            .u64(self.word(index, layout::STATE))
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes a free entry for this process; `None` when there is none.
    pub(crate) fn join(&self) -> Option<Id> {
        for index in 0..self.layout.participants {
            let state = self.state(index);
            if state.phase() != Phase::Free {
                continue;
            }
            let generation = (state.generation() + 1) & 0x00ff_ffff;
            let generation = generation.max(1);
            let joining = State::new(os::pid(), generation, Phase::Joining);
            if !self.swap(index, state, joining) {
                continue;
            }
            let set = |field, value| {
                self.region.u64(self.word(index, field)).store(value, Ordering::Relaxed)
            };
            set(layout::START_TIME, os::start_time(os::pid()).ok().flatten().unwrap_or(0));
            set(layout::NAMESPACE, os::pid_namespace());
            set(layout::PENDING, 0);
            self.region.u32(self.word(index, layout::BELL)).store(0, Ordering::Relaxed);
            self.region.u32(self.word(index, layout::ARMED)).store(0, Ordering::Relaxed);
            crate::fault::fault!("participant.join.filled");
            // SYNC joined: Release here, Acquire in `state`.
            let live = State::new(os::pid(), generation, Phase::Live);
            self.region.u64(self.word(index, layout::STATE)).store(live.0, Ordering::Release);
            return Some(Id::new(index, generation));
        }
        None
    }

    /// Gives an entry back. Whatever its owner held has been given back before.
    pub(crate) fn leave(&self, id: Id) {
        let state = self.state(id.index());
        if state.generation() == id.generation() && state.pid() == os::pid() {
            self.swap(id.index(), state, State::new(0, id.generation(), Phase::Free));
        }
    }

    /// Records which bell wakes this participant.
    pub(crate) fn set_bell(&self, id: Id, bell: Option<u32>) {
        let value = bell.map_or(0, |bell| bell + 1);
        self.region.u32(self.word(id.index(), layout::BELL)).store(value, Ordering::Release);
    }

    /// Which bell wakes a participant.
    pub(crate) fn bell(&self, index: usize) -> Option<u32> {
        self.region.u32(self.word(index, layout::BELL)).load(Ordering::Acquire).checked_sub(1)
    }

    /// The process behind an id, when that id is attached now.
    pub(crate) fn process(&self, id: Id) -> Option<Process> {
        if !self.knows(id) {
            return None;
        }
        let state = self.state(id.index());
        let attached = matches!(state.phase(), Phase::Joining | Phase::Live);
        (attached && state.generation() == id.generation())
            .then(|| self.process_at(id.index(), state))
    }

    fn process_at(&self, index: usize, state: State) -> Process {
        let get = |field| self.region.u64(self.word(index, field)).load(Ordering::Relaxed);
        let known = state.phase() == Phase::Live;
        Process {
            pid: state.pid(),
            start_time: if known { get(layout::START_TIME) } else { 0 },
            namespace: if known { get(layout::NAMESPACE) } else { 0 },
        }
    }

    /// The entries in use, with the id and process of each.
    pub(crate) fn attached(&self) -> impl Iterator<Item = (Id, State, Process)> + '_ {
        (0..self.layout.participants).filter_map(|index| {
            let state = self.state(index);
            let id = Id::new(index, state.generation());
            (state.phase() != Phase::Free).then(|| (id, state, self.process_at(index, state)))
        })
    }

    /// Marks a dead participant as being repaired; false when it is not what it was.
    pub(crate) fn begin_repair(&self, id: Id, seen: State) -> bool {
        seen.phase() == Phase::Repairing
            || self.swap(
                id.index(),
                seen,
                State::new(seen.pid(), seen.generation(), Phase::Repairing),
            )
    }

    /// Frees the entry of a participant after its repair.
    pub(crate) fn end_repair(&self, id: Id) {
        let state = self.state(id.index());
        if state.phase() == Phase::Repairing {
            self.swap(id.index(), state, State::new(0, state.generation(), Phase::Free));
        }
    }
}

/// A process as an entry records it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// 0 where it is not known.
    pub(crate) start_time: u64,
    pub(crate) namespace: u64,
}

impl Process {
    /// Whether it is the one that has its pid now.
    ///
    /// # Errors
    ///
    /// Where that cannot be said now.
    fn has_its_pid(self) -> io::Result<bool> {
        let now = os::start_time(self.pid)?;
        Ok(now.is_some_and(|now| records_of(now).contains(&self.start_time)))
    }
}

/// Whose life somebody waits on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// A participant of the segment.
    Participant(Id),
    /// A process that is no participant yet, by [`process_word`].
    Process(u64),
}

/// A process of our pid namespace in one word: `{pid: 32, namespace: 11, start time: 20, 1}`, of the
/// latter two the low bits. Never 0.
pub(crate) fn process_word(pid: u32, start_time: u64) -> u64 {
    u64::from(pid) << 32 | own_namespace() | (start_time & 0xf_ffff) << 1 | 1
}

/// Our pid namespace in a process word.
fn own_namespace() -> u64 {
    os::pid_namespace() << 21 & WORD_NAMESPACE
}

const WORD_NAMESPACE: u64 = 0x7ff << 21;

/// What stands for a start time that could not be had.
const NOT_KNOWN: u64 = 0;
/// What stands for that of a process which has ended: nobody who is asked about has started then.
const NEVER: u64 = 2;

/// All that may be recorded of a process that started now. The kernel rounds a start down to a tick, in
/// another time namespace another one; within a tick no pid comes round.
fn records_of(now: u64) -> [u64; 4] {
    [now.wrapping_sub(1), now, now.wrapping_add(1), NOT_KNOWN]
}

/// The word of the process that has this pid; of one that has ended, a word that says so.
pub(crate) fn word_of_pid(pid: u32) -> u64 {
    process_word(pid, os::start_time(pid).map_or(NOT_KNOWN, |started| started.unwrap_or(NEVER)))
}

/// The word of this process.
pub(crate) fn own_word() -> u64 {
    word_of_pid(os::pid())
}

/// Whether the process behind a word still runs. Who cannot be asked about does, and who is in another
/// pid namespace: what they hold is theirs.
pub(crate) fn word_lives(word: u64) -> bool {
    let pid = (word >> 32) as u32;
    if word == 0 || word & WORD_NAMESPACE != own_namespace() {
        return word != 0;
    }
    match os::start_time(pid) {
        Ok(None) => false,
        Ok(Some(now)) => records_of(now).iter().any(|start| word == process_word(pid, *start)),
        Err(_) => true,
    }
}

/// Watches one process: opened when it is first seen, asked as often as one likes.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) process: Process,
    how: How,
}

#[derive(Debug)]
enum How {
    /// This very process; in a child that it forked, its parent.
    Myself { forks: u32 },
    /// By its pidfd.
    Fd(PidFd),
    /// By looking at /proc each time: no descriptor was left for it.
    Proc,
    /// Gone when we first looked.
    Gone,
    /// In another pid namespace: its pid means nothing here, and we take it as alive.
    Elsewhere,
}

impl Watch {
    pub(crate) fn new(process: Process) -> Watch {
        Watch { process, how: Watch::how(process) }
    }

    fn how(process: Process) -> How {
        if process.namespace != 0 && process.namespace != os::pid_namespace() {
            return How::Elsewhere;
        }
        // Who cannot be asked about lives until it is known that it does not: what it holds would be
        // given to others while it still uses it.
        if process.pid == os::pid() {
            let is_it = process.has_its_pid().unwrap_or(true);
            return if is_it { How::Myself { forks: os::fork_generation() } } else { How::Gone };
        }
        match PidFd::open(process.pid) {
            // The pid may have been used again before we opened it: compare afterwards.
            Ok(pidfd) => match process.has_its_pid() {
                Ok(true) => How::Fd(pidfd),
                Ok(false) => How::Gone,
                Err(_) => How::Proc,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => How::Gone,
            Err(_) => How::Proc,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        match &self.how {
            How::Elsewhere => true,
            How::Myself { forks } if *forks == os::fork_generation() => true,
            How::Fd(pidfd) => !pidfd.has_ended(),
            How::Myself { .. } | How::Proc => self.process.has_its_pid().unwrap_or(true),
            How::Gone => false,
        }
    }

    /// A descriptor that becomes readable when it ends.
    pub(crate) fn fd(&self) -> Option<&PidFd> {
        match &self.how {
            How::Fd(pidfd) => Some(pidfd),
            _ => None,
        }
    }
}

#[cfg(all(test, not(shmring_loom)))]
#[allow(clippy::disallowed_methods)] // A process that ends at once, to be dead.
mod tests {
    use super::*;

    fn table(participants: usize) -> (Region, Layout) {
        let layout = Layout::new(0, participants, 1, 0).unwrap();
        let region = Region::heap(layout.size);
        layout.write(&region);
        (region, layout)
    }

    #[test]
    fn join_and_leave_change_the_generation() {
        let (region, layout) = table(1);
        let table = Participants::new(&region, &layout);
        let first = table.join().unwrap();
        assert!(table.join().is_none());
        assert!(Watch::new(table.process(first).unwrap()).is_alive());
        table.leave(first);
        assert!(table.process(first).is_none());
        let second = table.join().unwrap();
        assert_ne!(first, second);
        assert_eq!(first.index(), second.index());
        table.leave(first);
        assert!(table.process(second).is_some(), "an old id frees nothing");
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Process { pid: os::pid(), start_time: 1, namespace: os::pid_namespace() };
        assert!(!Watch::new(me).is_alive());
        let started = os::start_time(os::pid()).unwrap().unwrap();
        let lives = |start_time| Watch::new(Process { start_time, ..me }).is_alive();
        let near = [started - 2, started - 1, started, started + 1, started + 2].map(lives);
        assert_eq!(near, [false, true, true, true, false], "ticks are rounded");
        let nobody = Process { pid: u32::MAX, ..me };
        assert!(!Watch::new(nobody).is_alive());
    }

    #[test]
    fn words_of_the_living_of_others_and_of_the_dead() {
        let mine = own_word();
        assert!(mine & 1 == 1 && word_lives(mine) && !word_lives(0));
        assert!(word_lives(process_word(os::pid(), NOT_KNOWN)), "what cannot be compared is not");
        assert!(!word_lives(mine ^ 8), "another start");
        assert!(word_lives(mine ^ 1 << 21 ^ 8), "nobody here can tell");
        assert!(!word_lives(process_word(u32::MAX, NOT_KNOWN)));
    }

    #[test]
    fn a_joiner_that_died_is_seen_by_its_pid() {
        let (region, layout) = table(2);
        let table = Participants::new(&region, &layout);
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        std::process::Child::wait_with_output(child).unwrap();
        let joining = State::new(pid, 1, Phase::Joining);
        region.u64(layout.participant(0)).store(joining.0, Ordering::Relaxed);
        let (id, state, process) = table.attached().next().unwrap();
        assert!(!Watch::new(process).is_alive());
        assert!(table.begin_repair(id, state));
        assert!(table.begin_repair(id, table.state(0)), "by the next repairer too");
        table.end_repair(id);
        assert_eq!(table.state(0).phase(), Phase::Free);
    }
}
