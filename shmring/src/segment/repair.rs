//! Giving back what a dead participant held, so that its entry can be used again.
//!
//! Each kind of object of which participants hold something ([`Kind::is_held`]) repairs itself: its
//! [`Repairer`] is registered when this process first uses a ring of the segment, whatever its kind,
//! or a pool for pools. This file only finds the dead, takes the lock, and calls them. A participant
//! is freed only when every object of the segment has been repaired, so a process that does not know
//! some kind frees nobody; another one will, or it does itself later. So one can attach a segment of
//! which the dead have all places, and joins it with the first object of it that is used.
//!
//! The lock is a word that names the repairing process (not a participant: whoever finds no free
//! entry must repair before it can join). It is taken over from a repairer that died,
//! and everything done under it can be done again from the start.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Kind, Object, Segment, lock};
use crate::{
    fault::fault,
    layout,
    liveness::{self, Id, Phase},
    sync::Ordering,
};

/// Gives back what `dead` held in one object. Idempotent, and never panics.
pub(crate) type Repairer = fn(&Segment, Object, dead: Id);

impl Segment {
    /// Says how objects of a kind are repaired.
    pub(crate) fn register_repairer(&self, kind: Kind, repairer: Repairer) {
        let mut repairers = lock(&self.0.repairers);
        if !repairers.iter().any(|(known, _)| *known == kind) {
            repairers.push((kind, repairer));
        }
    }

    /// Frees the entries of participants that died, after giving back what they held. Tells how
    /// many there were. Does nothing while another process is at it.
    pub fn repair(&self) -> usize {
        self.try_repair(None).unwrap_or(0)
    }

    /// The same, of all participants or of those that were this process; `None` while another
    /// process is at it.
    fn try_repair(&self, pid: Option<u32>) -> Option<usize> {
        let lock = RepairLock::take(self)?;
        let table = self.0.participants();
        let mut freed = 0;
        for (id, state, _) in table.attached() {
            if pid.is_some_and(|pid| state.pid() != pid) {
                continue;
            }
            let dead = state.phase() == Phase::Repairing || !self.is_alive(id);
            if !dead || !table.begin_repair(id, state) {
                continue;
            }
            fault!("repair.begun");
            if self.repair_objects(id) {
                fault!("repair.objects");
                table.end_repair(id);
                freed += 1;
            }
        }
        drop(lock);
        Some(freed)
    }

    /// The same as [`Segment::repair`], waiting a moment for another repairer.
    pub(super) fn repair_soon(&self) {
        patiently(|| self.try_repair(None));
    }

    /// Repairs what process `pid` held, if that was a participant and is dead; waits a moment for
    /// another repairer. The others are not asked whether they live: each would have to be looked
    /// up, and of their deaths somebody is told as well.
    pub(crate) fn repair_after(&self, pid: u32) {
        if self.participants().contains(&pid) {
            patiently(|| self.try_repair(Some(pid)));
        }
    }

    /// Runs `f` while no other process repairs. `None` while one is at it.
    pub(crate) fn exclusively<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let lock = RepairLock::take(self)?;
        let result = f();
        drop(lock);
        Some(result)
    }

    /// The same, waiting a moment for another repairer.
    pub(crate) fn exclusively_soon<R>(&self, mut f: impl FnMut() -> R) -> Option<R> {
        patiently(|| self.exclusively(&mut f))
    }

    fn repair_objects(&self, dead: Id) -> bool {
        // What this process knows is given back, also where it does not know all.
        self.objects().fold(true, |all, (index, kind)| all & self.repair_object(index, kind, dead))
    }

    fn repair_object(&self, index: u32, kind: Option<Kind>, dead: Id) -> bool {
        let Some(kind) = kind else { return false };
        if !kind.is_held() {
            return true;
        }
        let repairers = lock(&self.0.repairers);
        let repairer =
            repairers.iter().find(|(known, _)| *known == kind).map(|(_, repairer)| *repairer);
        drop(repairers);
        match (repairer, self.object(index, kind)) {
            (Some(repairer), Ok(object)) => {
                repairer(self, object, dead);
                true
            }
            _ => false,
        }
    }
}

/// A repair takes microseconds, unless the repairer has no processor, or was stopped in the middle
/// of it: half a second is long for the one, and short for whoever waits because of the other.
fn patiently<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    let until = Instant::now() + Duration::from_millis(500);
    let mut pause = Duration::from_micros(100);
    loop {
        let done = attempt();
        if done.is_some() || Instant::now() >= until {
            return done;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

struct RepairLock<'a> {
    segment: &'a Segment,
    mine: u64,
}

impl<'a> RepairLock<'a> {
    fn take(segment: &'a Segment) -> Option<RepairLock<'a>> {
        let mine = liveness::own_word();
        let word = segment.0.region.u64(layout::REPAIR_LOCK);
        let holder = word.load(Ordering::Acquire);
        let free = holder == 0 || !liveness::word_lives(holder);
        let taken = free
            && word.compare_exchange(holder, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // A lock is made only for the one who has it: dropping it lets go.
        taken.then(|| RepairLock { segment, mine })
    }
}

impl Drop for RepairLock<'_> {
    fn drop(&mut self) {
        let word = self.segment.0.region.u64(layout::REPAIR_LOCK);
        let _ = word.compare_exchange(self.mine, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(shmring_loom)))]
#[allow(clippy::disallowed_methods)] // A process that ends at once, to be dead.
mod tests {
    use super::*;
    use crate::os;

    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        pid
    }

    #[test]
    fn the_dead_are_freed_once_all_their_objects_are_repaired() {
        let segment = Segment::options().participants(2).anonymous().unwrap();
        segment.add(Kind::Records, 64, |_| Ok(())).unwrap();
        segment.add(Kind::Queue, 64, |_| Ok(())).unwrap();
        // The state a process leaves that was killed while it joined.
        let entry = segment.0.layout.participant(1);
        segment
            .0
            .region
            .u64(entry)
            .store(u64::from(dead_pid()) << 32 | 5 << 8 | 1, Ordering::Relaxed);
        assert_eq!(segment.repair(), 0, "nobody knows how to repair the queue");
        segment.register_repairer(Kind::Queue, |_, _, _| ());
        assert_eq!(segment.repair(), 1);
        assert_eq!(segment.participants(), [os::pid()]);
    }

    #[test]
    fn after_a_death_nobody_else_is_looked_at() {
        let segment = Segment::options().participants(4).anonymous().unwrap();
        let dead = [dead_pid(), dead_pid()];
        for (pid, index) in dead.into_iter().zip(1..) {
            let entry = segment.0.layout.participant(index);
            let joining = u64::from(pid) << 32 | 5 << 8 | 1;
            segment.0.region.u64(entry).store(joining, Ordering::Relaxed);
        }
        segment.repair_after(os::pid());
        assert_eq!(segment.participants(), [os::pid(), dead[0], dead[1]], "it lives");
        segment.repair_after(dead[1]);
        assert_eq!(segment.participants(), [os::pid(), dead[0]]);
        assert_eq!(lock(&segment.0.watches).len(), 2, "of itself and of the dead one");
        assert_eq!(segment.repair(), 1);
    }

    #[test]
    fn a_dead_repairers_lock_is_taken_over() {
        let segment = Segment::options().anonymous().unwrap();
        let word = segment.0.region.u64(layout::REPAIR_LOCK);
        word.store(liveness::process_word(dead_pid(), 1), Ordering::Relaxed);
        drop(RepairLock::take(&segment).unwrap());
        assert_eq!(word.load(Ordering::Relaxed), 0);
        let held = RepairLock::take(&segment).unwrap();
        for _ in 0..2 {
            assert!(RepairLock::take(&segment).is_none(), "a living repairer keeps it");
        }
        drop(held);
        assert!(RepairLock::take(&segment).is_some());
    }
}
