//! Runs the protocol of `lists.rs` in every order of its steps, with deaths after any of them.
//!
//! A step is one access to shared memory, payload included. An actor in the middle of an operation
//! is continued by running the operation again from its start with the results its accesses had,
//! up to the first new access: so the very code of production is explored. Memory is sequentially
//! consistent here; the loom models look at the rest.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
};

use super::{
    geometry::Geometry,
    lists::{Corrupt, Held, Lists},
    words::{self, State, Word},
};
use crate::{block::Memory, ring::face::Side};

/// Memory that lets an operation make one access more than last time.
struct Replay<'a> {
    words: RefCell<&'a mut Vec<u64>>,
    history: RefCell<&'a mut Vec<u64>>,
    at: Cell<usize>,
    may_go_on: Cell<bool>,
    /// Runs to the end at once.
    whole: bool,
}

struct Paused;

impl Replay<'_> {
    fn step(&self, access: impl FnOnce(&mut Vec<u64>) -> u64) -> u64 {
        let at = self.at.get();
        self.at.set(at + 1);
        if let Some(known) = self.history.borrow().get(at) {
            return *known;
        }
        if !self.whole && !self.may_go_on.replace(false) {
            resume_unwind(Box::new(Paused));
        }
        let result = access(&mut self.words.borrow_mut());
        self.history.borrow_mut().push(result);
        result
    }
}

impl Memory for Replay<'_> {
    fn load(&self, at: usize) -> u64 {
        self.step(|words| words[at / 8])
    }

    fn store(&self, at: usize, value: u64) {
        self.step(|words| std::mem::replace(&mut words[at / 8], value));
    }

    fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        let found = self.step(|words| {
            let found = words[at / 8];
            if found == old {
                words[at / 8] = new;
            }
            found
        });
        if found == old { Ok(()) } else { Err(found) }
    }

    fn add(&self, at: usize, delta: u64) -> u64 {
        self.step(|words| {
            let sum = words[at / 8].wrapping_add(delta);
            std::mem::replace(&mut words[at / 8], sum)
        })
    }

    fn set_bits(&self, _at: usize, _bits: u64) {
        unreachable!("lists have no bits");
    }

    fn clear_bits(&self, _at: usize, _bits: u64) {
        unreachable!("lists have no bits");
    }

    fn fence(&self) {}
}

/// What an actor does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// Sends this item, if there is room.
    Send(u64),
    /// Claims a slot, if there is one, and gives it back.
    Abort,
    /// Takes an item, if there is one, and acknowledges it.
    Ack,
    /// The same, but lets it be handed out again.
    Nack,
    /// Repairs an actor that died.
    Repair(usize),
}

/// An item as it was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Got {
    item: u64,
    attempts: u8,
    position: words::Position,
}

#[derive(Clone, Hash, Default, Debug)]
struct Actor {
    next_op: usize,
    history: Vec<u64>,
    sent: Vec<u64>,
    got: Vec<Got>,
    dead: bool,
}

#[derive(Clone)]
struct World {
    words: Vec<u64>,
    actors: Vec<Actor>,
    kills: usize,
}

struct Scenario {
    geometry: Geometry,
    /// Done before the exploration, by an actor that is not in it.
    before: Vec<Op>,
    scripts: Vec<Vec<Op>>,
    kills: usize,
}

/// The participant that does what comes before and after.
const OUTSIDE: usize = 9;

impl Scenario {
    fn new(slots: usize, kills: usize) -> Scenario {
        let (geometry, _) = Geometry::new(slots, 16, 1).unwrap();
        Scenario { geometry, before: vec![], scripts: vec![], kills }
    }

    fn before(mut self, ops: &[Op]) -> Scenario {
        self.before.extend(ops);
        self
    }

    fn actor(mut self, ops: &[Op]) -> Scenario {
        self.scripts.push(ops.to_vec());
        self
    }

    fn run<M: Memory>(
        &self,
        memory: &M,
        op: Op,
        me: usize,
        mut actor: Actor,
    ) -> Result<Actor, String> {
        let lists = Lists::new(memory, &self.geometry);
        let corrupt = |Corrupt| "corrupt".to_owned();
        let payload = |held: &Held| self.geometry.payload(held.slot);
        match op {
            Op::Send(item) => {
                if let Some(held) = lists.take(Side::Producer, me as u8).map_err(corrupt)? {
                    memory.store(payload(&held), item);
                    memory.store(payload(&held) + 8, item);
                    lists.commit(held).map_err(corrupt)?;
                    actor.sent.push(item);
                }
            }
            Op::Abort => {
                if let Some(held) = lists.take(Side::Producer, me as u8).map_err(corrupt)? {
                    memory.store(payload(&held), 999);
                    lists.abort(held).map_err(corrupt)?;
                }
            }
            Op::Ack | Op::Nack => {
                if let Some(held) = lists.take(Side::Consumer, me as u8).map_err(corrupt)? {
                    let (item, attempts) = (memory.load(payload(&held)), held.word.attempts());
                    if memory.load(payload(&held) + 8) != item || item == 0 || item == 999 {
                        return Err(format!("actor {me} read a torn item"));
                    }
                    if op == Op::Nack {
                        lists.nack(held).map_err(corrupt)?;
                    } else {
                        lists.ack(held).map_err(corrupt)?;
                        actor.got.push(Got { item, attempts, position: held.word.position() });
                    }
                }
            }
            Op::Repair(dead) => lists.repair(dead as u8),
        }
        Ok(actor)
    }

    fn run_whole(
        &self,
        words: &mut Vec<u64>,
        op: Op,
        me: usize,
        actor: Actor,
    ) -> Result<Actor, String> {
        let mut history = vec![];
        let replay = Replay {
            words: RefCell::new(words),
            history: RefCell::new(&mut history),
            at: Cell::new(0),
            may_go_on: Cell::new(true),
            whole: true,
        };
        self.run(&replay, op, me, actor)
    }

    fn start(&self) -> (World, Actor) {
        let (_, size) = Geometry::new(self.geometry.slots, 16, 1).unwrap();
        let mut words = vec![0; size / 8];
        let mut history = vec![];
        let replay = Replay {
            words: RefCell::new(&mut words),
            history: RefCell::new(&mut history),
            at: Cell::new(0),
            may_go_on: Cell::new(true),
            whole: true,
        };
        Lists::new(&replay, &self.geometry).fill();
        let mut actor = Actor::default();
        for op in &self.before {
            actor = self.run_whole(&mut words, *op, OUTSIDE, actor).unwrap();
        }
        let actors = vec![Actor::default(); self.scripts.len()];
        (World { words, actors, kills: self.kills }, actor)
    }

    fn over(&self, world: &World, me: usize) -> bool {
        let actor = &world.actors[me];
        actor.dead || actor.next_op >= self.scripts[me].len()
    }

    fn may_go_on(&self, world: &World, me: usize) -> bool {
        if self.over(world, me) {
            return false;
        }
        let actor = &world.actors[me];
        match self.scripts[me][actor.next_op] {
            Op::Repair(dead) => !actor.history.is_empty() || self.over(world, dead),
            _ => true,
        }
    }

    fn step(&self, world: &mut World, me: usize) -> Result<(), String> {
        let op = self.scripts[me][world.actors[me].next_op];
        if let Op::Repair(dead) = op
            && !world.actors[dead].dead
        {
            world.actors[me].next_op += 1;
            return Ok(());
        }
        let mut actor = world.actors[me].clone();
        let mut history = std::mem::take(&mut actor.history);
        let replay = Replay {
            words: RefCell::new(&mut world.words),
            history: RefCell::new(&mut history),
            at: Cell::new(0),
            may_go_on: Cell::new(true),
            whole: false,
        };
        match catch_unwind(AssertUnwindSafe(|| self.run(&replay, op, me, actor))) {
            Ok(done) => {
                world.actors[me] = done?;
                world.actors[me].next_op += 1;
            }
            Err(payload) if payload.is::<Paused>() => world.actors[me].history = history,
            Err(payload) => resume_unwind(payload),
        }
        Ok(())
    }

    /// What must be so at every moment: what is listed and not taken stands behind what was taken,
    /// and every slot stands in a list or names somebody who has it.
    fn check(&self, world: &World) -> Result<(), String> {
        let mut in_lists = 0;
        for (side, state) in [(Side::Producer, State::Free), (Side::Consumer, State::Ready)] {
            let mut cells: Vec<_> = (0..self.geometry.cells() as u64)
                .map(|at| self.geometry.cell(side, words::Position::new(at)) / 8)
                .map(|at| words::Cell(world.words[at]))
                .filter(|cell| cell.position().count() >= self.geometry.start().count())
                .collect();
            cells.sort_by_key(|cell| cell.position().count());
            for pair in cells.windows(2) {
                if pair[1].position() != pair[0].position().plus(1) {
                    return Err(format!("{side:?}: a gap in the positions: {cells:?}"));
                }
            }
            let waits = |cell: &words::Cell| {
                let word = Word(world.words[self.geometry.slot(cell.slot()) / 8]);
                word.is_at(state, cell.position())
            };
            let first = cells.iter().position(waits).unwrap_or(cells.len());
            if !cells[first..].iter().all(waits) {
                return Err(format!("{side:?}: taken out of order: {cells:?}"));
            }
            in_lists += cells.len() - first;
        }
        if in_lists > self.geometry.slots {
            return Err("a slot stands in two places".into());
        }
        Ok(())
    }

    /// When nobody can go on: the dead are repaired, and what is left is taken.
    fn check_end(&self, world: &World, before: &Actor) -> Result<(), String> {
        let mut words = world.words.clone();
        for (me, actor) in world.actors.iter().enumerate() {
            if actor.dead {
                self.run_whole(&mut words, Op::Repair(me), OUTSIDE, Actor::default())?;
            }
        }
        let mut rest = Actor::default();
        loop {
            let left = rest.got.len();
            rest = self.run_whole(&mut words, Op::Ack, OUTSIDE, rest)?;
            if rest.got.len() == left {
                break;
            }
        }
        let all = || world.actors.iter().chain([before, &rest]);
        let got: Vec<Got> = all().flat_map(|actor| &actor.got).copied().collect();
        for (at, one) in got.iter().enumerate() {
            if got[..at].iter().any(|other| other.item == one.item) {
                return Err(format!("item {} was ended twice", one.item));
            }
        }
        // A consumer may have died in its ack.
        let may_miss = (0..world.actors.len()).filter(|me| {
            let actor = &world.actors[*me];
            actor.dead && self.scripts[*me].get(actor.next_op) == Some(&Op::Ack)
        });
        let sent = all().flat_map(|actor| &actor.sent);
        let missing = sent.filter(|item| got.iter().all(|one| one.item != **item)).count();
        if missing > may_miss.count() {
            return Err(format!("{missing} confirmed items are lost"));
        }
        // Items of one producer begin with the same digit.
        for one in got.iter().filter(|one| one.attempts == 0) {
            for other in got.iter().filter(|other| other.attempts == 0) {
                let same = one.item / 10 == other.item / 10;
                if same && one.item < other.item && other.position.ahead_of(one.position) <= 0 {
                    return Err(format!("{one:?} and {other:?} are not in order"));
                }
            }
        }
        // All slots are free again, and can be used.
        let mut actor = Actor::default();
        for _ in 0..self.geometry.slots {
            actor = self.run_whole(&mut words, Op::Send(7), OUTSIDE, actor)?;
        }
        if actor.sent.len() != self.geometry.slots {
            return Err(format!("only {} slots are left", actor.sent.len()));
        }
        let full = self.run_whole(&mut words, Op::Send(7), OUTSIDE, Actor::default())?;
        if full.sent.is_empty() { Ok(()) } else { Err("there are more slots than before".into()) }
    }

    /// Explores everything. Gives how many states there were.
    fn explore(&self) -> usize {
        let mut seen = HashSet::new();
        let (world, before) = self.start();
        let mut open = vec![(world, None::<Rc<Path>>)];
        while let Some((world, path)) = open.pop() {
            if !seen.insert(fingerprint(&world)) {
                continue;
            }
            assert!(seen.len() < 6_000_000, "the scenario is too large");
            let fail = |what: String| -> ! {
                panic!("{what}\nafter (actor, killed): {:?}", describe(&path))
            };
            self.check(&world).unwrap_or_else(|what| fail(what));
            let mut anybody = false;
            for me in 0..world.actors.len() {
                let extended = |killed| Some(Rc::new(Path(me, killed, path.clone())));
                // Dying before the first step or after the last is nothing new.
                if world.kills > 0 && !world.actors[me].history.is_empty() {
                    let mut next = world.clone();
                    next.kills -= 1;
                    next.actors[me].dead = true;
                    next.actors[me].history.clear();
                    open.push((next, extended(true)));
                }
                if self.may_go_on(&world, me) {
                    let mut next = world.clone();
                    self.step(&mut next, me).unwrap_or_else(|what| fail(what));
                    open.push((next, extended(false)));
                    anybody = true;
                }
            }
            if !anybody {
                self.check_end(&world, &before).unwrap_or_else(|what| fail(what));
            }
        }
        println!("{} states", seen.len());
        seen.len()
    }
}

/// Most words are never written: those that are not zero, with their places, are the memory.
fn fingerprint(world: &World) -> (u64, u64) {
    let mut mix = Mix(0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f);
    for (at, word) in world.words.iter().enumerate().filter(|(_, word)| **word != 0) {
        mix.write_u64(at as u64);
        mix.write_u64(*word);
    }
    world.actors.hash(&mut mix);
    world.kills.hash(&mut mix);
    (mix.0, mix.1)
}

/// Two hashes at once, quicker than those of the standard library.
struct Mix(u64, u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        self.1 = (self.1.rotate_left(23) ^ word).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    }
}

/// What happened, last first: actor, and whether it was killed.
struct Path(usize, bool, Option<Rc<Path>>);

fn describe(mut path: &Option<Rc<Path>>) -> Vec<(usize, bool)> {
    let mut steps = vec![];
    while let Some(step) = path {
        steps.push((step.0, step.1));
        path = &step.2;
    }
    steps.reverse();
    steps
}

#[test]
fn two_producers_and_a_consumer() {
    let states = Scenario::new(2, 1)
        .actor(&[Op::Send(11), Op::Send(12)])
        .actor(&[Op::Send(21)])
        .actor(&[Op::Ack, Op::Ack])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn a_producer_and_two_consumers() {
    let states = Scenario::new(2, 1)
        .before(&[Op::Send(31)])
        .actor(&[Op::Send(11), Op::Send(12)])
        .actor(&[Op::Ack])
        .actor(&[Op::Ack])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn a_producer_dies_anywhere_and_is_repaired_meanwhile() {
    let states = Scenario::new(2, 1)
        .actor(&[Op::Send(11)])
        .actor(&[Op::Send(21)])
        .actor(&[Op::Ack])
        .actor(&[Op::Repair(0)])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn a_consumer_dies_anywhere_and_is_repaired_meanwhile() {
    let states = Scenario::new(2, 1)
        .before(&[Op::Send(31), Op::Send(32)])
        .actor(&[Op::Ack])
        .actor(&[Op::Ack, Op::Ack])
        .actor(&[Op::Send(11)])
        .actor(&[Op::Repair(0)])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn a_repairer_dies_anywhere_and_the_next_goes_on() {
    let states = Scenario::new(2, 2)
        .before(&[Op::Send(31)])
        .actor(&[Op::Ack])
        .actor(&[Op::Send(11), Op::Ack])
        .actor(&[Op::Repair(0)])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn items_come_back_while_others_take_and_send() {
    let states = Scenario::new(2, 1)
        .before(&[Op::Send(31)])
        .actor(&[Op::Nack])
        .actor(&[Op::Ack])
        .actor(&[Op::Send(11), Op::Abort])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn one_slot_and_two_of_each() {
    let states = Scenario::new(1, 1)
        .actor(&[Op::Send(11), Op::Send(12)])
        .actor(&[Op::Abort])
        .actor(&[Op::Ack])
        .actor(&[Op::Repair(0)])
        .explore();
    assert!(states > 10_000, "{states}");
}

#[test]
fn more_cells_than_slots() {
    let states = Scenario::new(3, 1)
        .before(&[Op::Send(31), Op::Send(32), Op::Ack, Op::Send(33)])
        .actor(&[Op::Send(11)])
        .actor(&[Op::Ack])
        .actor(&[Op::Nack])
        .explore();
    assert!(states > 10_000, "{states}");
}
