//! Every interleaving of two sleepers of one process and two ringers who fence only where they must,
//! on a machine that delays stores as x86 does. README.md, "Who fences", has the argument.
//!
//! Loom knows no barrier that reaches other threads; hence this search, over the very functions that
//! change `armed`. It is held to find what goes wrong without each part of the protocol.

use std::collections::HashSet;

use super::{ALWAYS, FENCED, FLAGS, FUTEX, KNOWN, after_barrier, doubted, is_quiet, relaxed};

/// Items of each ring.
const ITEMS: [u8; 2] = [2, 1];

/// What is left out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// The barrier does nothing.
    Barrier,
    /// *Known* is set after a barrier, whatever has happened meanwhile.
    Count,
    /// Who takes a role leaves *known* as it is.
    Doubt,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Ringer {
    Publish,
    ReadRole,
    ReadArmed,
    Fence,
    ReadRoleAgain,
    ReadArmedAgain,
    Take,
    Relax,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Sleeper {
    TakeRole,
    Doubt,
    Look,
    ReadEpoch,
    Arm {
        epoch: u8,
    },
    /// In the barrier, which has reached so many ringers.
    Barrier {
        epoch: u8,
        then: u32,
        reached: u8,
    },
    Known {
        epoch: u8,
        then: u32,
    },
    LastLook {
        epoch: u8,
    },
    Asleep {
        epoch: u8,
    },
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    armed: u32,
    epoch: u8,
    /// Whether the second ring's role is that of our process; the first one's always is.
    taken: bool,
    /// Items that all see, of each ring; those that are on their way; and those that were received.
    items: [u8; 2],
    delayed: [Option<u8>; 2],
    sent: [u8; 2],
    got: [u8; 2],
    ringers: [Ringer; 2],
    sleepers: [Sleeper; 2],
}

impl World {
    fn new() -> World {
        World {
            armed: 0,
            epoch: 0,
            taken: false,
            items: [0; 2],
            delayed: [None; 2],
            sent: [0; 2],
            got: [0; 2],
            ringers: [Ringer::Publish; 2],
            sleepers: [Sleeper::Look, Sleeper::TakeRole],
        }
    }

    /// Lets all see what ringer `who` has stored.
    fn drain(&mut self, who: usize) {
        if let Some(items) = self.delayed[who].take() {
            self.items[who] = items;
        }
    }

    fn role_is_ours(&self, ring: usize) -> bool {
        ring == 0 || self.taken
    }

    /// All that can come next.
    fn successors(&self, without: Without) -> Vec<World> {
        let mut all = Vec::new();
        for who in 0..2 {
            if self.delayed[who].is_some() {
                let mut next = self.clone();
                next.drain(who);
                all.push(next);
            }
            self.ringer(who, &mut all);
            self.sleeper(who, without, &mut all);
        }
        all
    }

    fn ringer(&self, who: usize, all: &mut Vec<World>) {
        let mut next = self.clone();
        let end = if self.sent[who] == ITEMS[who] { Ringer::Done } else { Ringer::Publish };
        next.ringers[who] = match self.ringers[who] {
            Ringer::Publish => {
                next.sent[who] += 1;
                next.delayed[who] = Some(next.sent[who]);
                Ringer::ReadRole
            }
            // Of another holder nobody sleeps here.
            Ringer::ReadRole if self.role_is_ours(who) => Ringer::ReadArmed,
            Ringer::ReadRole => end,
            Ringer::ReadArmed if is_quiet(self.armed) => end,
            Ringer::ReadArmed => Ringer::Fence,
            Ringer::Fence => {
                next.drain(who);
                Ringer::ReadRoleAgain
            }
            Ringer::ReadRoleAgain if self.role_is_ours(who) => Ringer::ReadArmedAgain,
            Ringer::ReadRoleAgain => end,
            Ringer::ReadArmedAgain if self.armed & FUTEX != 0 => Ringer::Take,
            Ringer::ReadArmedAgain => {
                // It has fenced in vain, perhaps for the last time.
                let mut relaxes = self.clone();
                relaxes.ringers[who] = Ringer::Relax;
                all.push(relaxes);
                end
            }
            Ringer::Take => {
                next.drain(who);
                if self.armed & FUTEX != 0 {
                    next.armed &= !FUTEX;
                    next.epoch += 1;
                }
                end
            }
            Ringer::Relax => {
                next.drain(who);
                if let Some(quiet) = relaxed(self.armed) {
                    next.armed = quiet;
                }
                end
            }
            Ringer::Done => return,
        };
        all.push(next);
    }

    fn sleeper(&self, who: usize, without: Without, all: &mut Vec<World>) {
        let mut next = self.clone();
        next.sleepers[who] = match self.sleepers[who] {
            Sleeper::TakeRole => {
                next.taken = true;
                Sleeper::Doubt
            }
            Sleeper::Doubt => {
                if without != Without::Doubt {
                    next.armed = doubted(self.armed);
                }
                Sleeper::Look
            }
            Sleeper::Look | Sleeper::LastLook { .. } if self.items[who] > self.got[who] => {
                next.got[who] = self.items[who];
                if next.got[who] == ITEMS[who] { Sleeper::Done } else { Sleeper::Look }
            }
            Sleeper::Look => Sleeper::ReadEpoch,
            Sleeper::ReadEpoch => Sleeper::Arm { epoch: self.epoch },
            Sleeper::Arm { epoch } => {
                next.armed |= FUTEX | FENCED;
                match self.armed & KNOWN {
                    0 => Sleeper::Barrier { epoch, then: self.armed, reached: 0 },
                    _ => Sleeper::LastLook { epoch },
                }
            }
            Sleeper::Barrier { epoch, then, reached } => {
                if without != Without::Barrier {
                    next.drain(usize::from(reached));
                }
                match reached {
                    0 => Sleeper::Barrier { epoch, then, reached: 1 },
                    _ => Sleeper::Known { epoch, then },
                }
            }
            Sleeper::Known { epoch, then } => {
                let then = if without == Without::Count { self.armed } else { then };
                next.armed = after_barrier(self.armed, then).unwrap_or(self.armed);
                Sleeper::LastLook { epoch }
            }
            Sleeper::LastLook { epoch } => Sleeper::Asleep { epoch },
            Sleeper::Asleep { epoch } if self.epoch != epoch => Sleeper::Look,
            Sleeper::Asleep { .. } | Sleeper::Done => return,
        };
        all.push(next);
    }
}

/// Whether in some interleaving somebody sleeps for ever, and how many states there are.
fn search(without: Without) -> (bool, usize) {
    let mut seen = HashSet::from([World::new()]);
    let mut open = vec![World::new()];
    while let Some(world) = open.pop() {
        let next = world.successors(without);
        if next.is_empty() && world.sleepers != [Sleeper::Done; 2] {
            return (true, seen.len());
        }
        open.extend(next.into_iter().filter(|world| seen.insert(world.clone())));
    }
    (false, seen.len())
}

#[test]
fn no_wake_up_is_lost() {
    let (lost, states) = search(Without::Nothing);
    assert!(!lost && states > 10_000, "{states} states");
}

#[test]
fn each_part_is_needed() {
    for without in [Without::Barrier, Without::Count, Without::Doubt] {
        assert!(search(without).0, "without {without:?} nothing is lost");
    }
}

#[test]
fn doubts_wrap_and_leave_the_flags() {
    let last = !FLAGS | FENCED | KNOWN;
    assert_eq!(doubted(last) & FLAGS, FENCED);
    assert!(relaxed(last).is_some_and(is_quiet));
    assert_eq!(relaxed(last | FUTEX), None);
    assert_eq!(after_barrier(doubted(last), last), None);
}

/// Not the model, but a ring.
#[cfg(test)]
mod of_a_ring {
    use super::*;
    use crate::{ring::records::Records, sync::Ordering, wait};

    #[test]
    fn ringers_stop_fencing_while_nobody_sleeps() {
        let (mut tx, mut rx) = Records::options().anonymous().unwrap().split().unwrap();
        let segment = rx.ring().segment().clone();
        let flags =
            || wait::own_doorbell(&segment).unwrap().armed().load(Ordering::Relaxed) & FLAGS;
        let mut send = |count| {
            for _ in 0..count {
                tx.send([1]).unwrap();
                assert_eq!(rx.recv().unwrap()[0], 1);
            }
        };
        send(1);
        assert!(is_quiet(flags()));
        wait::own_doorbell(&segment).unwrap().arm(FUTEX);
        if flags() & ALWAYS != 0 {
            return; // An old kernel, or a sandbox.
        }
        assert_eq!(flags(), FUTEX | FENCED | KNOWN);
        send(1);
        assert_eq!(flags(), FENCED | KNOWN);
        send(2000);
        assert!(is_quiet(flags()));
    }
}
