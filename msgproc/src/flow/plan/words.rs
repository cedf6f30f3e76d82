//! The words of the board of a run: what they are, and where.

use std::{mem, sync::Arc};

use shmring::board::Board;

use crate::flow::{
    circle::CirclePlan,
    edge::{ALIGN, SpillFile, deal::MOST},
};

/// The phases of a run, in the board's first word.
pub(crate) const SETUP: u64 = 0;
pub(crate) const RUNNING: u64 = 1;
/// Sources stop; what is on its way is finished.
pub(crate) const DRAINING: u64 = 2;
/// Everybody stops where they are.
pub(crate) const STOPPING: u64 = 3;

const PHASE: usize = 0;
/// Which worker failed first, plus one.
const FAILED: usize = 1;
/// Whether sources pause.
const FROZEN: usize = 2;
/// How many bytes of the spill file have been given out.
const SPILLED: usize = 3;
const HEAD: usize = 16;

/// Words of an executor.
const EXECUTOR: usize = 8;
/// Whether it waits for items.
const IDLE: usize = 0;
/// Which worker is at work there, plus one.
const AT_WORK: usize = 1;
/// Which one was, plus one, when its process died with several at work, and has not got further since.
const SUSPECT: usize = 2;
/// Words of a worker.
const WORKER: usize = 32;
/// Words of a worker's way out into one edge.
const OUT: usize = 8;
/// Words of a lane: a line that its sender writes, and one that its receiver does.
const LANE: usize = 16;
/// Words of a circle.
const CIRCLE: usize = 16;

/// What a worker's words are.
pub(crate) mod worker {
    pub(crate) const STATE: usize = 0;
    pub(crate) const ITEMS_IN: usize = 1;
    pub(crate) const ITEMS_OUT: usize = 2;
    pub(crate) const BUSY: usize = 3;
    pub(crate) const WAIT_IN: usize = 4;
    pub(crate) const WAIT_OUT: usize = 5;
    pub(crate) const RETRIES: usize = 6;
    pub(crate) const RESTARTS: usize = 7;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const SKIPPED: usize = 9;
    pub(crate) const QUARANTINED: usize = 10;
    pub(crate) const DROPPED: usize = 11;
    /// Items that the node left out by itself.
    pub(crate) const DISCARDED: usize = 16;
    /// What is being done, as an [`At`].
    pub(crate) const LANE: usize = 12;
    /// Which message of that lane.
    pub(crate) const MESSAGE: usize = 13;
    /// Which item of it; with [`NOT_BEGUN`] if no process has begun it since the last death.
    pub(crate) const ITEM: usize = 14;
    /// How often a process died over that item.
    pub(crate) const CRASHES: usize = 15;
    /// The item of the first crash, so that another begins to count anew.
    pub(crate) const CRASHED_AT: usize = 17;
    /// How many items came on the edge before that message.
    pub(crate) const FIRST: usize = 18;

    /// Which items of it are left out, since processes died over them: a bit for each of the first
    /// 256, in four words.
    pub(crate) const LEFT_OUT: usize = 19;
    pub(crate) const LEFT_OUT_WORDS: usize = 4;
    /// The last item of it that a process died over.
    pub(crate) const REACHED: usize = 23;

    /// Of which inputs the node was told that they have ended, with all that came of it: a bit for
    /// each of the first 64.
    pub(crate) const TOLD: usize = 24;

    /// How many messages have begun before their turn, which are in their lanes still.
    pub(crate) const BEGUN: usize = 25;
    /// How many messages begin one by one, each item after the one before: a process died when so
    /// many had begun before their turn, and nobody knows over which.
    pub(crate) const ONE_BY_ONE: usize = 26;

    /// In [`ITEM`].
    pub(crate) const NOT_BEGUN: u64 = 1 << 63;

    /// One item of one message of one lane, as [`CRASHED_AT`] has it. `lane` is where its words
    /// begin.
    pub(crate) fn moment(lane: u64, message: u64, item: u64) -> u64 {
        (lane / super::LANE as u64) << 48 ^ message << 16 ^ (item & 0xffff)
    }

    /// What [`LANE`] says.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum At {
        Nothing,
        /// A message is handled, of the lane whose words begin there.
        Message(u64),
        /// The node is told that this input has ended.
        Telling(usize),
        /// The node's `svc_end` runs.
        Ending,
    }

    impl At {
        const ENDING: u64 = u64::MAX;

        pub(crate) fn of(word: u64) -> At {
            match word {
                0 => At::Nothing,
                At::ENDING => At::Ending,
                // There are not as many words.
                word if word > At::ENDING / 2 => At::Telling((At::ENDING - 1 - word) as usize),
                word => At::Message(word - 1),
            }
        }

        pub(crate) fn word(self) -> u64 {
            match self {
                At::Nothing => 0,
                At::Message(lane) => lane + 1,
                At::Telling(input) => At::ENDING - 1 - input as u64,
                At::Ending => At::ENDING,
            }
        }
    }

    /// States.
    pub(crate) const READY: u64 = 1;
    pub(crate) const AT_WORK: u64 = 2;
    pub(crate) const ENDED: u64 = 3;
}

/// What the words of a way out are.
pub(crate) mod out {
    /// Messages sent.
    pub(crate) const SENT: usize = 0;
    /// Items sent.
    pub(crate) const FIRST: usize = 1;
    /// Items sent when the present message began to be handled.
    pub(crate) const BASE: usize = 2;
    /// The number of the message about to be sent, plus one.
    pub(crate) const INTENT: usize = 3;
    /// The lane it goes to.
    pub(crate) const INTENT_LANE: usize = 4;
    /// Items sent before it.
    pub(crate) const INTENT_FIRST: usize = 5;
    /// How many items it has; [`END`] if it ends the lane.
    pub(crate) const INTENT_ITEMS: usize = 6;

    /// In [`INTENT_ITEMS`]: it says that nothing comes after it.
    pub(crate) const END: u64 = u64::MAX;
}

/// What the words of a lane are.
pub(crate) mod lane {
    /// Items sent.
    pub(crate) const SENT: usize = 0;
    /// The numbers of the long items that may be in it, plus one each.
    pub(crate) const LONG: [usize; 2] = [1, 2];
    /// Where the long item begins in the spill file that was written last, plus one.
    pub(crate) const DRAFT: usize = 3;
    /// How long it is.
    pub(crate) const DRAFT_LEN: usize = 4;
    /// How far the ring had got before it.
    pub(crate) const DRAFT_AT: usize = 5;
    /// Its message's number.
    pub(crate) const DRAFT_NUMBER: usize = 6;
    /// In a circle: the number of the last message with items that was put, or is about to be, plus
    /// one.
    pub(crate) const LAST: usize = 7;
    /// Items done with; on the receiver's line, as what follows.
    pub(crate) const DONE: usize = 8;
    /// Whether the receiver takes no more.
    pub(crate) const CLOSED: usize = 9;
    /// What an item costs the receiver, as a [`Cost`].
    pub(crate) const COST: usize = 10;
    /// The number of the next message that is new.
    pub(crate) const NEXT: usize = 11;
    /// Whether nothing comes any more: its receiver says so, once.
    pub(crate) const ENDED: usize = 12;
    /// In the first lane of an inlet that keeps order: the number that comes next.
    pub(crate) const NUMBER: usize = 13;
    /// Items done with once the message is released that is being handled.
    pub(crate) const TO_BE_DONE: usize = 14;
    /// In the first lane of an inlet: items of its input that the node has left out by itself.
    pub(crate) const DISCARDED: usize = 15;

    /// What [`COST`] says.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub(crate) struct Cost {
        /// The time from one item to the next, in ns; 0 before the first.
        pub(crate) each: u64,
        /// How many the receiver has begun with at a time, beside those that wait in the lane.
        pub(crate) at_once: u64,
    }

    impl Cost {
        const EACH: u64 = (1 << 48) - 1;

        pub(crate) fn of(word: u64) -> Cost {
            Cost { each: word & Cost::EACH, at_once: word >> 48 }
        }

        pub(crate) fn word(self) -> u64 {
            self.at_once.min(0xffff) << 48 | self.each.min(Cost::EACH)
        }

        /// An average over the last few messages, with what an item of this one cost.
        pub(crate) fn with(self, each: u64) -> Cost {
            let now = each.max(1);
            let each = if self.each == 0 { now } else { (3 * self.each + now) / 4 };
            Cost { each: each.max(1), ..self }
        }
    }
}

/// How many there are of everything that has words.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) executors: usize,
    pub(crate) workers: usize,
    pub(crate) outs: usize,
    pub(crate) lanes: usize,
    pub(crate) circles: usize,
}

impl Counts {
    pub(crate) fn words(self) -> usize {
        HEAD + EXECUTOR * self.executors
            + WORKER * self.workers
            + OUT * self.outs
            + LANE * self.lanes
            + CIRCLE * self.circles
    }
}

/// The board of a run.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    board: Board,
    counts: Counts,
    circles: Arc<[CirclePlan]>,
    most: usize,
    spill: Option<SpillFile>,
}

impl Shared {
    /// `blocks`: how many the run's memory has, if it has a pool of them, and how many ways out gather
    /// items that may hold some.
    pub(crate) fn new(
        board: Board,
        counts: Counts,
        circles: &[CirclePlan],
        blocks: Option<(usize, usize)>,
    ) -> Shared {
        let most =
            blocks.map_or(MOST, |(blocks, ways)| (blocks / (2 * ways.max(1))).clamp(1, MOST));
        Shared { board, counts, circles: circles.into(), most, spill: None }
    }

    /// Says where items go that are too long for a message.
    pub(crate) fn set_spill(&mut self, file: Option<SpillFile>) {
        self.spill = file;
    }

    pub(crate) fn spill(&self) -> Option<&SpillFile> {
        self.spill.as_ref()
    }

    /// Gives out so many bytes of the spill file; tells where.
    pub(crate) fn reserve(&self, len: u64) -> u64 {
        self.board.add(SPILLED, len.next_multiple_of(ALIGN))
    }

    /// How many items of this type a way out gathers at most. Where they may hold blocks, all ways out
    /// together gather no more than half of what there is: who waits for a block cannot send on what
    /// it has gathered.
    pub(crate) fn most<T>(&self) -> usize {
        if mem::needs_drop::<T>() { self.most } else { MOST }
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    fn executor(&self, number: usize) -> usize {
        HEAD + EXECUTOR * number
    }

    /// Where a worker's words begin.
    pub(crate) fn worker(&self, number: usize) -> usize {
        HEAD + EXECUTOR * self.counts.executors + WORKER * number
    }

    /// Where those of a way out do.
    pub(crate) fn out(&self, number: usize) -> usize {
        self.worker(self.counts.workers) + OUT * number
    }

    /// Where those of a lane do.
    pub(crate) fn lane(&self, number: usize) -> usize {
        self.out(self.counts.outs) + LANE * number
    }

    /// Where those of a circle do.
    pub(crate) fn circle(&self, number: usize) -> usize {
        self.lane(self.counts.lanes) + CIRCLE * number
    }

    pub(crate) fn circles(&self) -> &[CirclePlan] {
        &self.circles
    }

    pub(crate) fn of_worker(&self, number: usize, word: usize) -> u64 {
        self.board.load(self.worker(number) + word)
    }

    /// Whether a worker has said its last word.
    pub(crate) fn has_ended(&self, number: usize) -> bool {
        self.of_worker(number, worker::STATE) == worker::ENDED
    }

    /// Counts that a worker's process was replaced.
    pub(crate) fn count_restart(&self, number: usize) {
        self.board.add(self.worker(number) + worker::RESTARTS, 1);
    }

    pub(crate) fn phase(&self) -> u64 {
        self.board.load(PHASE)
    }

    /// Goes on to a later phase. Nothing leads back.
    pub(crate) fn advance(&self, phase: u64) {
        let mut now = self.phase();
        while now < phase {
            match self.board.change(PHASE, now, phase) {
                Ok(()) => break,
                Err(other) => now = other,
            }
        }
        self.board.ring_all();
    }

    /// Says that a worker has failed. Tells whether it was the first.
    pub(crate) fn fail(&self, worker: usize) -> bool {
        let first = self.board.change(FAILED, 0, worker as u64 + 1).is_ok();
        self.advance(STOPPING);
        first
    }

    /// Which worker failed first.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.board.load(FAILED).checked_sub(1).map(|worker| worker as usize)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.board.store(FROZEN, frozen.into());
        self.board.ring_all();
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.board.load(FROZEN) != 0
    }

    fn worker_at(&self, executor: usize, word: usize) -> Option<usize> {
        let worker = self.board.load(self.executor(executor) + word).checked_sub(1);
        worker.map(|worker| worker as usize)
    }

    fn set_worker_at(&self, executor: usize, word: usize, worker: Option<usize>) {
        let worker = worker.map_or(0, |worker| worker as u64 + 1);
        self.board.store(self.executor(executor) + word, worker);
    }

    /// Which worker is at work in a thread whose process may be replaced.
    pub(crate) fn at_work(&self, executor: usize) -> Option<usize> {
        self.worker_at(executor, AT_WORK)
    }

    pub(crate) fn set_at_work(&self, executor: usize, worker: Option<usize>) {
        self.set_worker_at(executor, AT_WORK, worker);
    }

    /// Which worker of a thread may have been the one that killed its process.
    pub(crate) fn suspect(&self, executor: usize) -> Option<usize> {
        self.worker_at(executor, SUSPECT)
    }

    pub(crate) fn set_suspect(&self, executor: usize, worker: Option<usize>) {
        self.set_worker_at(executor, SUSPECT, worker);
    }

    pub(crate) fn set_idle(&self, executor: usize, is_idle: bool) {
        self.board.store(self.executor(executor) + IDLE, is_idle.into());
    }

    pub(crate) fn is_idle(&self, executor: usize) -> bool {
        self.board.load(self.executor(executor) + IDLE) != 0
    }
}
