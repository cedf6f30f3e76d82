//! Runs the protocol of `words.rs` in every order of its steps, with deaths after any of them.
//!
//! A step is one access to shared memory. An actor in the middle of an operation is continued by
//! running the operation again from its start with the results its accesses had, up to the first
//! new access: so the very code of production is explored, and an actor's place in it is just that
//! list of results. Memory is sequentially consistent here; the loom models look at the rest.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::{
    flight::End,
    geometry::Geometry,
    memory::Memory,
    word::{Flight, Handle, NotHeld, Put, State, Word},
    words::Words,
};

/// Memory that lets an operation make one access more than last time.
struct Replay<'a> {
    words: RefCell<&'a mut Vec<u64>>,
    history: RefCell<&'a mut Vec<u64>>,
    at: Cell<usize>,
    may_go_on: Cell<bool>,
}

struct Paused;

impl Replay<'_> {
    fn step(&self, access: impl FnOnce(&mut Vec<u64>) -> u64) -> u64 {
        let at = self.at.get();
        self.at.set(at + 1);
        if let Some(known) = self.history.borrow().get(at) {
            return *known;
        }
        if !self.may_go_on.replace(false) {
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

    fn set_bits(&self, at: usize, bits: u64) {
        self.step(|words| {
            words[at / 8] |= bits;
            0
        });
    }

    fn clear_bits(&self, at: usize, bits: u64) {
        self.step(|words| {
            words[at / 8] &= !bits;
            0
        });
    }

    fn fence(&self) {}
}

/// What an actor does. Rings are carriers; `ring` is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// Loans a block, if there is one.
    Loan,
    Freeze,
    Cancel,
    /// Sends the block held last, so many times in one message; then lets go of it, or not.
    Send {
        ring: usize,
        times: usize,
        by_value: bool,
    },
    /// Sends the only hold of that block by moving it, where it can.
    Move {
        ring: usize,
    },
    /// The same, to find out too late that it cannot: it goes as by `Send`.
    MoveLate {
        ring: usize,
    },
    /// Begins to send it counted, but takes it back instead of publishing it.
    FailToSend {
        ring: usize,
    },
    /// Takes all blocks of the next message.
    Recv {
        ring: usize,
    },
    /// Reads the next message and takes no block out of it.
    Skip {
        ring: usize,
    },
    /// Lets go of the block held last.
    Release,
    /// Tries the handle of the first block's first life.
    HoldOld,
    /// Takes over an end of a ring from an actor that died.
    Follow {
        dead: usize,
        ring: usize,
        end: End,
    },
    /// Empties a ring, by an end that survived the other.
    Empty {
        dead: usize,
        ring: usize,
        end: End,
    },
    /// Repairs a participant that died.
    Repair {
        dead: usize,
    },
}

#[derive(Clone, Hash, Default, Debug)]
struct Actor {
    next_op: usize,
    history: Vec<u64>,
    holds: Vec<Handle>,
    loan: Option<Handle>,
    dead: bool,
    repaired: bool,
}

#[derive(Clone)]
struct World {
    words: Vec<u64>,
    actors: Vec<Actor>,
    kills: usize,
}

struct Scenario {
    geometry: Geometry,
    /// Done before the exploration, one after the other: actor and operation.
    before: Vec<(usize, Op)>,
    scripts: Vec<Vec<Op>>,
    kills: usize,
    /// Of which process each actor is a thread; by itself one for each.
    processes: Vec<usize>,
}

/// In the place of a participant's fate.
const DEAD: u64 = 1;
const ACTORS: usize = 4;
const SLOTS: usize = 4;
const PER_MESSAGE: usize = 2;

impl Scenario {
    fn new(blocks: usize, rings: usize, kills: usize) -> Scenario {
        let geometry = Geometry::new(0, blocks, 64, 32, rings.max(1));
        Scenario { geometry, before: vec![], scripts: vec![], kills, processes: vec![0, 1, 2, 3] }
    }

    fn before(mut self, actor: usize, ops: &[Op]) -> Scenario {
        self.before.extend(ops.iter().map(|op| (actor, *op)));
        self
    }

    fn actor(mut self, ops: &[Op]) -> Scenario {
        self.scripts.push(ops.to_vec());
        self
    }

    fn processes(mut self, of_actors: [usize; ACTORS]) -> Scenario {
        self.processes = of_actors.to_vec();
        self
    }

    /// Participants whose counts are in different words, as far apart as they can be.
    fn row(&self, actor: usize) -> usize {
        self.processes[actor] * 8
    }

    // A ring of the model: published, released, and messages of up to two handles.
    fn ring(&self, ring: usize) -> usize {
        self.geometry.payload(0) + ring * 8 * (2 + SLOTS * PER_MESSAGE)
    }

    fn slot(&self, ring: usize, position: u64, entry: usize) -> usize {
        self.ring(ring) + 16 + 8 * (position as usize / 8 % SLOTS * PER_MESSAGE + entry)
    }

    /// Where it is written that a participant died and is not repaired.
    fn fate(&self, row: usize) -> usize {
        self.ring(self.geometry.carriers) + 8 * (row / 8)
    }

    fn peek(&self, words: &[u64], ring: usize) -> (u64, u64) {
        (words[self.ring(ring) / 8], words[self.ring(ring) / 8 + 1])
    }

    /// One operation; `Err` says what it must never find. Gives the actor as it is afterwards.
    fn run<M: Memory>(
        &self,
        memory: &M,
        op: Op,
        me: usize,
        mut actor: Actor,
    ) -> Result<Actor, String> {
        let words = Words::new(memory, &self.geometry);
        let (tail_at, head_at) = match op {
            Op::Send { ring, .. }
            | Op::Move { ring }
            | Op::MoveLate { ring }
            | Op::FailToSend { ring }
            | Op::Recv { ring }
            | Op::Skip { ring }
            | Op::Empty { ring, .. }
            | Op::Follow { ring, .. } => (self.ring(ring), self.ring(ring) + 8),
            _ => (0, 0),
        };
        match op {
            Op::Loan => actor.loan = words.loan(self.row(me)),
            Op::Freeze => {
                if let Some(loan) = actor.loan.take() {
                    words
                        .freeze(self.row(me), loan)
                        .map_err(|error| format!("freeze: {error:?}"))?;
                    actor.holds.push(loan);
                }
            }
            Op::Cancel => {
                if let Some(loan) = actor.loan.take()
                    && !words.cancel(self.row(me), loan)
                {
                    return Err("a loan could not be given back".into());
                }
            }
            Op::Send { ring, times, by_value } => {
                let Some(handle) = actor.holds.last().copied() else { return Ok(actor) };
                let position = memory.load(tail_at);
                let seq = words.counted(ring, handle.block, End::Put);
                let before = (0..times as u8)
                    .map(|at| Put { block: handle.block, seq: seq.wrapping_add(at) })
                    .map(Flight::Counted);
                words.write_journal(ring, End::Put, position, before);
                for entry in 0..times {
                    let put = words.put(ring, handle).map_err(|error| format!("put: {error:?}"))?;
                    memory.store(self.slot(ring, position, entry), counted(handle, put));
                }
                if times < PER_MESSAGE {
                    memory.store(self.slot(ring, position, times), 0);
                }
                if by_value {
                    actor.holds.pop();
                    words.release(self.row(me), handle.block);
                }
                memory.store(tail_at, position + 8);
                words.close_journal(ring, End::Put);
            }
            Op::Move { ring } | Op::MoveLate { ring } => {
                let Some(handle) = actor.holds.last().copied() else { return Ok(actor) };
                let position = memory.load(tail_at);
                let before = words.put_before(ring, handle.block);
                let moves = words.can_move(ring, self.row(me), handle);
                let flight = if moves { Flight::Moved(handle) } else { Flight::Counted(before) };
                words.write_journal(ring, End::Put, position, [flight].into_iter());
                let may = moves && matches!(op, Op::Move { .. });
                let word = if may && words.move_out(ring, self.row(me), handle) {
                    moved(handle)
                } else {
                    if moves {
                        words.correct_journal(ring, End::Put, 0, Flight::Counted(before));
                    }
                    let put = words.put(ring, handle).map_err(|error| format!("put: {error:?}"))?;
                    words.release(self.row(me), handle.block);
                    counted(handle, put)
                };
                actor.holds.pop();
                memory.store(self.slot(ring, position, 0), word);
                memory.store(self.slot(ring, position, 1), 0);
                memory.store(tail_at, position + 8);
                words.close_journal(ring, End::Put);
            }
            Op::FailToSend { ring } => {
                let Some(handle) = actor.holds.last().copied() else { return Ok(actor) };
                let position = memory.load(tail_at);
                let before = Flight::Counted(words.put_before(ring, handle.block));
                words.write_journal(ring, End::Put, position, [before].into_iter());
                words.put(ring, handle).map_err(|error| format!("put: {error:?}"))?;
                words.recover(ring, End::Put, position, &|_| false);
            }
            Op::Recv { ring } | Op::Skip { ring } => {
                let position = memory.load(head_at);
                let take = matches!(op, Op::Recv { .. });
                let mut flights = vec![];
                for entry in 0..PER_MESSAGE {
                    let word = memory.load(self.slot(ring, position, entry));
                    if word == 0 {
                        break;
                    }
                    flights.push(came(word));
                }
                let noted = flights.iter().map(|(_, flight)| *flight);
                words.write_journal(ring, End::Got, position + 8, noted);
                let mut pinned = vec![];
                for (handle, flight) in &flights {
                    let moved = matches!(flight, Flight::Moved(_))
                        && words.move_in(ring, self.row(me), *handle);
                    if moved {
                        pinned.push(*handle);
                    } else if take {
                        words
                            .hold(self.row(me), *handle)
                            .map_err(|error| format!("a block in flight: {error:?}"))?;
                        actor.holds.push(*handle);
                    }
                }
                memory.store(head_at, position + 8);
                let freed = RefCell::default();
                let noting = Words::new(memory, &self.geometry).noting(&freed);
                for (_, flight) in flights {
                    if let Flight::Counted(put) = flight {
                        noting.got(ring, put);
                    }
                }
                for handle in pinned {
                    if take {
                        actor.holds.push(handle);
                    } else {
                        noting.release(self.row(me), handle.block);
                    }
                }
                words.set_all_free(&freed.take());
                words.close_journal(ring, End::Got);
            }
            Op::Release => {
                if let Some(handle) = actor.holds.pop() {
                    words.release(self.row(me), handle.block);
                }
            }
            Op::HoldOld => {
                let old = Handle { block: 0, generation: 1 };
                match words.hold(self.row(me), old) {
                    Ok(()) => actor.holds.push(old),
                    Err(NotHeld::Stale) => {}
                    Err(error) => return Err(format!("hold: {error:?}")),
                }
            }
            Op::Follow { ring, end, .. } => {
                let reached = memory.load(if end == End::Put { tail_at } else { head_at });
                let is_dead = |row| memory.load(self.fate(row)) == DEAD;
                words.recover(ring, end, reached, &is_dead);
            }
            Op::Empty { ring, end, .. } => {
                let is_dead = |row| memory.load(self.fate(row)) == DEAD;
                let released = memory.load(head_at);
                words.give_back(ring, released, &is_dead);
                words.empty(ring, end);
            }
            Op::Repair { dead } => {
                let released = |ring| Some(memory.load(self.ring(ring) + 8));
                words.repair(self.row(dead), released);
                memory.store(self.fate(self.row(dead)), 0);
            }
        }
        Ok(actor)
    }

    /// Runs whole operations at once.
    fn run_whole(&self, words: &mut Vec<u64>, op: Op, me: usize, actor: Actor) -> Actor {
        struct Plain<'a>(RefCell<&'a mut Vec<u64>>);
        impl Memory for Plain<'_> {
            fn load(&self, at: usize) -> u64 {
                self.0.borrow()[at / 8]
            }
            fn store(&self, at: usize, value: u64) {
                self.0.borrow_mut()[at / 8] = value;
            }
            fn swap_if(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
                let found = self.load(at);
                if found != old {
                    return Err(found);
                }
                self.store(at, new);
                Ok(())
            }
            fn add(&self, at: usize, delta: u64) -> u64 {
                let found = self.load(at);
                self.store(at, found.wrapping_add(delta));
                found
            }
            fn set_bits(&self, at: usize, bits: u64) {
                self.store(at, self.load(at) | bits);
            }
            fn clear_bits(&self, at: usize, bits: u64) {
                self.store(at, self.load(at) & !bits);
            }
            fn fence(&self) {}
        }
        self.run(&Plain(RefCell::new(words)), op, me, actor).unwrap()
    }

    fn start(&self) -> World {
        let rings = self.geometry.carriers * 8 * (2 + SLOTS * PER_MESSAGE);
        let mut words = vec![0; (self.geometry.payload(0) + rings) / 8 + ACTORS];
        let mut actors = vec![Actor::default(); self.scripts.len()];
        for block in 0..self.geometry.blocks {
            words[128 / 8] |= 1 << block;
        }
        for (me, op) in &self.before {
            actors[*me] = self.run_whole(&mut words, *op, *me, std::mem::take(&mut actors[*me]));
        }
        World { words, actors, kills: self.kills }
    }

    /// What an actor can do now: nothing, pass over its operation, or take a step of it.
    fn readiness(&self, world: &World, me: usize) -> Readiness {
        let actor = &world.actors[me];
        let Some(op) = self.scripts[me].get(actor.next_op) else { return Readiness::Done };
        if actor.dead {
            return Readiness::Done;
        }
        if !actor.history.is_empty() {
            return Readiness::Go;
        }
        let over = |other: usize| {
            let actor = &world.actors[other];
            actor.dead || actor.next_op >= self.scripts[other].len()
        };
        match *op {
            Op::Recv { ring } | Op::Skip { ring } => {
                let (tail, head) = self.peek(&world.words, ring);
                let may_come = (0..world.actors.len()).any(|other| {
                    let sends = |op: &Op| match op {
                        Op::Send { ring: to, .. } | Op::Move { ring: to } => *to == ring,
                        Op::MoveLate { ring: to } => *to == ring,
                        _ => false,
                    };
                    let rest = &self.scripts[other][world.actors[other].next_op..];
                    !over(other) && rest.iter().any(sends)
                });
                match (tail > head, may_come) {
                    (true, _) => Readiness::Go,
                    (false, true) => Readiness::Wait,
                    (false, false) => Readiness::Pass,
                }
            }
            Op::Follow { dead, .. } | Op::Empty { dead, .. } | Op::Repair { dead } => {
                match (world.actors[dead].dead, over(dead)) {
                    (true, _) => Readiness::Go,
                    (false, true) => Readiness::Pass,
                    (false, false) => Readiness::Wait,
                }
            }
            _ => Readiness::Go,
        }
    }

    fn step(&self, world: &mut World, me: usize) -> Result<(), String> {
        let op = self.scripts[me][world.actors[me].next_op];
        let mut actor = world.actors[me].clone();
        let mut history = std::mem::take(&mut actor.history);
        let replay = Replay {
            words: RefCell::new(&mut world.words),
            history: RefCell::new(&mut history),
            at: Cell::new(0),
            may_go_on: Cell::new(true),
        };
        let run = || self.run(&replay, op, me, actor);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(done) => {
                world.actors[me] = done?;
                world.actors[me].next_op += 1;
                if let Op::Repair { dead } = op {
                    world.actors[dead].repaired = true;
                }
            }
            Err(payload) if payload.is::<Paused>() => world.actors[me].history = history,
            Err(payload) => resume_unwind(payload),
        }
        Ok(())
    }

    /// What must be so at every moment.
    fn check(&self, world: &mut World) -> Result<(), String> {
        for (me, actor) in world.actors.iter().enumerate().filter(|(_, actor)| !actor.dead) {
            let op = self.scripts[me].get(actor.next_op);
            let word = |handle: &Handle| {
                let at = self.geometry.control(handle.block as usize) / 8;
                Word(world.words[at])
            };
            let started = !actor.history.is_empty();
            let ends_loan = started && matches!(op, Some(Op::Freeze | Op::Cancel));
            if let Some(loan) = actor.loan.filter(|_| !ends_loan)
                && !word(&loan).is_loan(self.row(me), loan.generation)
            {
                return Err(format!("actor {me} lost its loan {loan:?}"));
            }
            let by_value = |op: &Op| match op {
                Op::Send { by_value, .. } => *by_value,
                Op::Release | Op::Move { .. } | Op::MoveLate { .. } => true,
                _ => false,
            };
            let lets_go = started && op.is_some_and(by_value);
            let sure = actor.holds.len() - usize::from(lets_go && !actor.holds.is_empty());
            for handle in &actor.holds[..sure] {
                if !word(handle).is_shared(handle.generation) {
                    return Err(format!("{handle:?} was freed under actor {me}"));
                }
            }
        }
        Ok(())
    }

    /// When nobody can go on: successors finish, everybody lets go, and all must be free.
    fn check_end(&self, world: &World) -> Result<(), String> {
        let mut words = world.words.clone();
        let mut run = |op, me, actor: Actor| self.run_whole(&mut words, op, me, actor);
        for (me, actor) in world.actors.iter().enumerate() {
            if actor.dead {
                run(Op::Repair { dead: me }, 3, Actor::default());
            } else {
                run(Op::Cancel, me, actor.clone());
                let mut actor = actor.clone();
                while !actor.holds.is_empty() {
                    actor = run(Op::Release, me, actor);
                }
            }
        }
        for ring in 0..self.geometry.carriers {
            for end in [End::Put, End::Got] {
                run(Op::Follow { dead: 0, ring, end }, 3, Actor::default());
            }
        }
        for ring in 0..self.geometry.carriers {
            while {
                let (tail, head) = self.peek(&words, ring);
                tail > head
            } {
                // Takes the blocks first: what was published must be whole.
                let mut actor = self.run_whole(&mut words, Op::Recv { ring }, 3, Actor::default());
                while !actor.holds.is_empty() {
                    actor = self.run_whole(&mut words, Op::Release, 3, actor);
                }
            }
        }
        self.check_free(&words)
    }

    fn check_free(&self, words: &[u64]) -> Result<(), String> {
        for block in 0..self.geometry.blocks {
            let control = self.geometry.control(block) / 8;
            let word = Word(words[control]);
            if word.state() != State::Free {
                return Err(format!("block {block} is lost: {:?}", word.state()));
            }
            if words[128 / 8] & 1 << block == 0 {
                return Err(format!("block {block} is free and its bit is not set"));
            }
        }
        Ok(())
    }

    /// The same for rings that were emptied: nothing is left in them.
    fn check_emptied(&self, world: &World) -> Result<(), String> {
        let mut words = world.words.clone();
        for (me, actor) in world.actors.iter().enumerate().filter(|(_, actor)| actor.dead) {
            self.run_whole(&mut words, Op::Repair { dead: me }, 3, Actor::default());
            for op in &self.scripts[me][actor.next_op..] {
                if matches!(op, Op::Empty { .. }) {
                    self.run_whole(&mut words, *op, 3, Actor::default());
                }
            }
        }
        self.check_free(&words)
    }

    /// Explores everything. Gives how many states there were.
    fn explore(&self) -> usize {
        self.explore_to(Scenario::check_end)
    }

    fn explore_to(&self, check_end: fn(&Scenario, &World) -> Result<(), String>) -> usize {
        let mut seen = HashSet::new();
        let mut open = vec![(self.start(), Vec::<(usize, bool)>::new())];
        while let Some((mut world, path)) = open.pop() {
            if !seen.insert(fingerprint(&world)) {
                continue;
            }
            assert!(seen.len() < 5_000_000, "the scenario is too large");
            let fail = |what: String| -> ! { panic!("{what}\nafter (actor, killed): {path:?}") };
            if let Err(what) = self.check(&mut world) {
                fail(what);
            }
            let mut anybody = false;
            for me in 0..world.actors.len() {
                let readiness = self.readiness(&world, me);
                if matches!(readiness, Readiness::Done) {
                    continue;
                }
                let extended = |killed| {
                    let mut path = path.clone();
                    path.push((me, killed));
                    path
                };
                if world.kills > 0 {
                    let mut next = world.clone();
                    next.kills -= 1;
                    next.words[self.fate(self.row(me)) / 8] = DEAD;
                    for (other, actor) in next.actors.iter_mut().enumerate() {
                        if self.row(other) == self.row(me) {
                            actor.dead = true;
                            actor.history.clear();
                        }
                    }
                    open.push((next, extended(true)));
                    anybody = true;
                }
                match readiness {
                    Readiness::Go => {
                        let mut next = world.clone();
                        if let Err(what) = self.step(&mut next, me) {
                            fail(what);
                        }
                        open.push((next, extended(false)));
                        anybody = true;
                    }
                    Readiness::Pass => {
                        let mut next = world.clone();
                        next.actors[me].next_op += 1;
                        open.push((next, extended(false)));
                        anybody = true;
                    }
                    Readiness::Wait | Readiness::Done => {}
                }
            }
            // Also with a death still to come this may be the end.
            let over = (0..world.actors.len())
                .all(|me| !matches!(self.readiness(&world, me), Readiness::Go | Readiness::Pass));
            if (over || !anybody)
                && let Err(what) = check_end(self, &world)
            {
                fail(what);
            }
        }
        seen.len()
    }
}

/// What stands in a message's table.
fn counted(handle: Handle, put: Put) -> u64 {
    1 << 63 | u64::from(handle.generation) << 40 | u64::from(put.seq) << 32 | u64::from(put.block)
}

fn moved(handle: Handle) -> u64 {
    1 << 62 | counted(handle, Put { block: handle.block, seq: 0 })
}

fn came(word: u64) -> (Handle, Flight) {
    let handle = Handle { block: word as u32, generation: (word >> 40) as u32 & 0x003f_ffff };
    match word >> 62 & 1 {
        0 => (handle, Flight::Counted(Put { block: handle.block, seq: (word >> 32) as u8 })),
        _ => (handle, Flight::Moved(handle)),
    }
}

enum Readiness {
    Done,
    Wait,
    Pass,
    Go,
}

fn fingerprint(world: &World) -> (u64, u64) {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        world.words.hash(&mut hasher);
        world.actors.hash(&mut hasher);
        world.kills.hash(&mut hasher);
        hasher.finish()
    };
    (half(1), half(2))
}

const SEND: Op = Op::Send { ring: 0, times: 1, by_value: true };
const MOVE: Op = Op::Move { ring: 0 };
const RECV: Op = Op::Recv { ring: 0 };

#[test]
fn two_loan_the_only_block() {
    let states = Scenario::new(1, 0, 2)
        .actor(&[Op::Loan, Op::Freeze, Op::Release])
        .actor(&[Op::Loan, Op::Cancel])
        .actor(&[Op::Repair { dead: 0 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn two_holders_and_a_handle_that_may_have_survived() {
    // Actors 0 and 1 hold the block; 2 knows the handle only; 3 wants to loan it. All of that at
    // once takes a minute: it is done where there is time, else three of them at a time.
    let actors = || {
        Scenario::new(1, 1, 1)
            .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
            .before(1, &[RECV])
    };
    let (release, old) = (&[Op::Release], &[Op::HoldOld, Op::Release]);
    let scenarios = match std::env::var_os("SHMRING_SOAK_SECONDS") {
        Some(_) => {
            vec![actors().actor(release).actor(release).actor(old).actor(&[Op::Loan, Op::Freeze])]
        }
        None => vec![
            actors().actor(release).actor(release).actor(old),
            actors().actor(release).actor(release).actor(&[]).actor(&[Op::Loan, Op::Freeze]),
            Scenario::new(1, 1, 1)
                .before(0, &[Op::Loan, Op::Freeze])
                .actor(release)
                .actor(&[])
                .actor(old)
                .actor(&[Op::Loan, Op::Freeze]),
        ],
    };
    for scenario in scenarios {
        let states = scenario.explore();
        assert!(states > 500, "{states}");
    }
}

#[test]
fn repair_while_another_holder_lets_go() {
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[Op::Release])
        .actor(&[Op::Release])
        .actor(&[Op::Repair { dead: 0 }])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn handed_over_and_the_sender_is_repaired() {
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[SEND])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Repair { dead: 0 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn handed_over_to_a_consumer_and_its_successor() {
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[SEND])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Follow { dead: 1, ring: 0, end: End::Got }, RECV, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn the_same_block_twice_in_one_message() {
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[Op::Send { ring: 0, times: 2, by_value: true }])
        .actor(&[RECV, Op::Release, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn the_same_block_in_two_messages_and_a_second_producer() {
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .actor(&[Op::Send { ring: 0, times: 1, by_value: true }])
        .actor(&[RECV, RECV, Op::Release, Op::Release])
        .actor(&[Op::Follow { dead: 0, ring: 0, end: End::Put }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn forwarded_to_a_third() {
    let states = Scenario::new(1, 2, 1)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[SEND])
        .actor(&[RECV, Op::Send { ring: 1, times: 1, by_value: true }])
        .actor(&[Op::Recv { ring: 1 }, Op::Release])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn what_a_message_carried_in_vain() {
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[Op::FailToSend { ring: 0 }, SEND])
        .actor(&[Op::Skip { ring: 0 }])
        .actor(&[Op::Repair { dead: 0 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn a_handle_that_survived_its_block_meets_the_next_life() {
    let states = Scenario::new(1, 0, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Release])
        .actor(&[Op::Loan, Op::Freeze, Op::Release])
        .actor(&[Op::HoldOld, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn threads_of_one_process_hold_and_let_go() {
    // Actor 0 holds it as the owner, or 2 does from there on; 1 holds it in the row.
    let states = Scenario::new(1, 1, 0)
        .processes([0; 4])
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[Op::Release, Op::Loan, Op::Freeze])
        .actor(&[Op::Release])
        .actor(&[Op::HoldOld, Op::Release])
        .explore();
    assert!(states > 200, "{states}");
}

#[test]
fn forwarded_while_another_lets_go() {
    // Whoever lets go counts the holds while one of them moves from a row to a ring.
    let states = Scenario::new(1, 2, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[Op::Release])
        .actor(&[Op::Send { ring: 1, times: 1, by_value: true }])
        .actor(&[Op::Recv { ring: 1 }, Op::Release])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn forwarded_to_a_ring_that_has_had_no_block() {
    // Its counters are in a word that nobody has looked at so far.
    let states = Scenario::new(1, 5, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[Op::Release])
        .actor(&[Op::Send { ring: 4, times: 1, by_value: true }])
        .actor(&[Op::Recv { ring: 4 }, Op::Release])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_and_both_are_repaired() {
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[MOVE])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Repair { dead: 0 }])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_to_a_consumer_and_its_successor() {
    // The second one takes over before the first is repaired, meanwhile, or after that.
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[MOVE])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Follow { dead: 1, ring: 0, end: End::Got }, RECV, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_to_a_consumer_and_its_successor_who_dies() {
    let states = Scenario::new(1, 1, 3)
        .before(0, &[Op::Loan, Op::Freeze, MOVE])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Follow { dead: 0, ring: 0, end: End::Got }, RECV])
        .actor(&[Op::Repair { dead: 0 }])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_and_a_second_producer() {
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[MOVE])
        .actor(&[Op::Follow { dead: 0, ring: 0, end: End::Put }, Op::Loan, Op::Freeze, MOVE])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Repair { dead: 0 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_while_another_holds_it() {
    // Actor 1 holds it in its row, and lets go at any time.
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[MOVE])
        .actor(&[Op::Release])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Repair { dead: 2 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_while_others_take_hold_of_it() {
    // They confirm their holds by swaps of the word that the mover stores.
    let took = Scenario::new(1, 2, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .actor(&[Op::Move { ring: 1 }])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Recv { ring: 1 }, Op::Release])
        .actor(&[Op::Repair { dead: 1 }]);
    let old = Scenario::new(1, 2, 0)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[MOVE, Op::Recv { ring: 1 }, Op::Release])
        .actor(&[RECV, Op::Move { ring: 1 }])
        .actor(&[Op::HoldOld, Op::Release]);
    for scenario in [took, old] {
        let states = scenario.explore();
        assert!(states > 500, "{states}");
    }
}

#[test]
fn the_same_block_counted_and_moved() {
    let states = Scenario::new(1, 1, 1)
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .actor(&[MOVE])
        .actor(&[RECV, RECV, Op::Release, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn what_moved_in_vain() {
    let states = Scenario::new(1, 1, 2)
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[Op::MoveLate { ring: 0 }, Op::Loan, Op::Freeze, MOVE])
        .actor(&[Op::Skip { ring: 0 }, Op::Skip { ring: 0 }])
        .actor(&[Op::Follow { dead: 1, ring: 0, end: End::Got }, Op::Skip { ring: 0 }])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn moved_on_and_back() {
    // The first takes it back while the second has not closed its journal, or died there.
    let states = Scenario::new(1, 2, 1)
        .before(0, &[Op::Loan, Op::Freeze, MOVE])
        .actor(&[Op::Recv { ring: 1 }, MOVE])
        .actor(&[RECV, Op::Move { ring: 1 }, RECV, Op::Release])
        .actor(&[Op::Follow { dead: 1, ring: 0, end: End::Got }, RECV, Op::Release])
        .actor(&[Op::Repair { dead: 1 }])
        .explore();
    assert!(states > 500, "{states}");
}

#[test]
fn a_ring_is_emptied_whose_consumer_died() {
    for end in [End::Put, End::Got] {
        let states = Scenario::new(1, 1, 1)
            .before(0, &[Op::Loan, Op::Freeze, MOVE])
            .actor(&[RECV, Op::Release])
            .actor(&[Op::Empty { dead: 0, ring: 0, end }])
            .actor(&[Op::Repair { dead: 0 }])
            .explore_to(Scenario::check_emptied);
        assert!(states > 50, "{states}");
    }
}

#[test]
fn threads_of_one_process_move_and_let_go() {
    // They hold it twice, as the owner and in the row; or one does, and a second comes and goes.
    let twice = Scenario::new(1, 2, 0)
        .processes([0; 4])
        .before(0, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .actor(&[MOVE])
        .actor(&[Op::Move { ring: 1 }]);
    let once = Scenario::new(1, 1, 0)
        .processes([0; 4])
        .before(0, &[Op::Loan, Op::Freeze])
        .actor(&[MOVE])
        .actor(&[Op::HoldOld, Op::Release]);
    for scenario in [twice, once] {
        let states = scenario.explore();
        assert!(states > 100, "{states}");
    }
}

#[test]
fn moved_to_a_process_another_thread_of_which_lets_go_of_the_same() {
    // Actor 1 holds it in the row of the process that takes it as the owner.
    let states = Scenario::new(1, 2, 1)
        .processes([0, 0, 1, 2])
        .before(2, &[Op::Loan, Op::Freeze, Op::Send { ring: 0, times: 1, by_value: false }])
        .before(1, &[RECV])
        .before(2, &[MOVE])
        .actor(&[RECV, Op::Release])
        .actor(&[Op::Move { ring: 1 }, Op::HoldOld, Op::Release])
        .actor(&[Op::Follow { dead: 0, ring: 0, end: End::Got }, RECV, Op::Release])
        .actor(&[Op::Repair { dead: 0 }])
        .explore();
    assert!(states > 500, "{states}");
}
