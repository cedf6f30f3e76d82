//! The work done by other processes: the frontend hands out the pictures and
//! takes the answers, and starts another worker where one died.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use examples::picture::Broken;
use msgproc::NoEvents;
use msgproc::manager::ProcessId;
use msgproc::prelude::*;
use shmring::block::Block;
use shmring::ring::port::{MessageError, Receiver};
use shmring::ring::records::Producer;

use crate::engine::{Sink, Work};
use crate::failure::Failure;
use crate::order::Order;
use crate::room::{Needs, Room};
use crate::source::{Frame, Next, Source};
use crate::stop::Stop;
use crate::wait::LOOK_UP;
use crate::worker::{Answer, Worker, WorkerCalls};

/// Pictures on their way to one worker, so that it always finds another.
const DEPTH: usize = 3;

/// A frame of which so many workers died counts as broken.
const DEATHS: u32 = 3;

/// So many deaths without a single answer, and we give up.
const DEATHS_IN_A_ROW: u32 = 20;

/// For how long a worker may go on with its frame when the program is interrupted.
const PATIENCE: Duration = Duration::from_secs(1);

const BELL: Token = Token(0);
const INPUT: Token = Token(1);

/// Has everything done by workers, until the source ends, the sink fails, or
/// somebody asks to stop.
pub(crate) fn run(
    source: &mut Source,
    sink: &mut impl Sink<Block>,
    workers: usize,
    stop: &Stop,
) -> Result<Work, Failure> {
    let mut crew = Crew::start(workers, stop)?;
    let mut input = Input::Ready;
    while !stop.requested() {
        let mut idle = !crew.take_answers()?;
        crew.hand_over(sink)?;
        while input == Input::Ready && crew.has_room() {
            input = match source.next_frame()? {
                Next::Frame(frame) => {
                    crew.give(frame, sink)?;
                    idle = false;
                    continue;
                }
                Next::NotYet => Input::Silent,
                Next::End => Input::Ended,
            };
        }
        if input == Input::Ended && crew.order.len() == 0 {
            break;
        }
        if idle {
            let descriptor = match input {
                Input::Silent => source.descriptor(),
                _ => None,
            };
            if crew.sleep(descriptor, sink)? {
                input = Input::Ready;
            }
        }
    }
    crew.finish(sink)
}

/// What is known of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Ready,
    Silent,
    Ended,
}

/// All workers, and what is on its way to them and back.
struct Crew {
    stop: Stop,
    manager: Manager<Worker>,
    members: Vec<Member>,
    order: Order<Block>,
    room: Option<Room>,
    /// Former rooms of which some plane is still in use.
    old_rooms: Vec<Room>,
    restarts: u64,
    deaths_in_a_row: u32,
}

/// One worker.
struct Member {
    process: ProcessId,
    ends: Option<(Producer, Receiver<Answer>)>,
    /// Numbers of the frames that it has not answered.
    owing: VecDeque<u64>,
    frames: u64,
}

impl Crew {
    fn start(workers: usize, stop: &Stop) -> Result<Self, Failure> {
        let cannot = |error| Failure::other("start the workers", &error);
        let mut manager = Manager::new().map_err(cannot)?;
        let limits = StopOptions::default().graceful(PATIENCE).terminate(Duration::ZERO);
        let start = |number| {
            let options =
                MessageProcess::options(&format!("camera-{number}")).stop_timeouts(limits);
            let process = manager.add(options.fork(|_| Worker::new())?)?;
            Ok(Member { process, ends: None, owing: VecDeque::new(), frames: 0 })
        };
        let members = (1..=workers).map(start).collect::<msgproc::Result<_>>().map_err(cannot)?;
        Ok(Self {
            stop: stop.clone(),
            manager,
            members,
            order: Order::new(),
            room: None,
            old_rooms: Vec::new(),
            restarts: 0,
            deaths_in_a_row: 0,
        })
    }

    /// How many frames may be on their way, or wait for one before them.
    fn window(&self) -> usize {
        2 * DEPTH * self.members.len()
    }

    /// Whether another frame can be given to somebody.
    fn has_room(&self) -> bool {
        self.order.len() < self.window()
            && self.members.iter().any(|member| member.owing.len() < DEPTH)
    }

    /// Gives a frame to the worker that has the least to do.
    fn give(&mut self, frame: Frame<'_>, sink: &impl Sink<Block>) -> Result<(), Failure> {
        let picture = match frame.picture {
            Ok(picture) => picture,
            Err(broken) => {
                let number = self.order.push(frame.split, frame.bytes);
                self.order.settle(number, Err(broken));
                return Ok(());
            }
        };
        let needs = Needs::of(picture);
        if !self.room.as_ref().is_some_and(|room| room.fits(needs)) {
            self.make_room(needs, sink)?;
        }
        let number = self.order.push(frame.split, frame.bytes);
        while !self.stop.requested() {
            let least = self.members.iter_mut().min_by_key(|member| member.owing.len());
            if least.is_some_and(|member| member.give(number, picture)) {
                break;
            }
            // The records before it leave it too little of the ring.
            self.take_answers()?;
            self.sleep(None, sink)?;
        }
        Ok(())
    }

    /// Moves to a larger room, once the one there is has become empty.
    fn make_room(&mut self, needs: Needs, sink: &impl Sink<Block>) -> Result<(), Failure> {
        while self.members.iter().any(|member| !member.owing.is_empty()) {
            if self.stop.requested() {
                return Ok(());
            }
            self.take_answers()?;
            self.sleep(None, sink)?;
        }
        let needs = self.room.as_ref().map_or(Needs::default(), Room::needs).grown(needs);
        self.old_rooms.extend(self.room.take());
        self.old_rooms.retain(|room| room.blocks_in_use() > 0);
        // The window's planes, one that the sink keeps, and for each worker one that it
        // fills for a frame that is settled already.
        let planes = self.window() + 1 + self.members.len();
        let room = Room::new(self.members.len(), DEPTH, planes, needs)
            .map_err(|error| Failure::other("make room for the workers", &error))?;
        self.room = Some(room);
        for worker in 0..self.members.len() {
            self.members[worker].ends = None;
            self.connect(worker)?;
        }
        // One bell rings for all rings of a segment.
        self.manager.unwatch(BELL);
        if let Some((_, answers)) = &self.members[0].ends
            && let Some(bell) = answers.bell()
        {
            let watched = self.manager.watch(bell, Interest::Readable, BELL);
            watched.map_err(|error| Failure::other("wait for the workers", &error))?;
        }
        Ok(())
    }

    /// Shows a worker where its jobs are.
    fn connect(&mut self, worker: usize) -> Result<(), Failure> {
        let Some(room) = &self.room else { return Ok(()) };
        let member = &mut self.members[worker];
        let lane = room.lane(worker);
        if member.ends.is_none() {
            let ends = lane.jobs.producer().and_then(|jobs| {
                let answers = Receiver::new(lane.answers.consumer()?);
                Ok((jobs, answers))
            });
            member.ends =
                Some(ends.map_err(|error| Failure::other("open the rings of a worker", &error))?);
        }
        let from = member.owing.front().copied().unwrap_or(self.order.next_number());
        match self.manager[member.process].connect(lane, from).wait() {
            Ok(()) => Ok(()),
            // We shall be told, and replace it.
            Err(Error::PeerDied { .. }) => {
                self.deaths_in_a_row += 1;
                Ok(())
            }
            Err(error) => Err(Failure::other("connect a worker", &error)),
        }
    }

    /// Takes what the workers have answered. Returns whether there was anything.
    fn take_answers(&mut self) -> Result<bool, Failure> {
        let mut any = false;
        for member in &mut self.members {
            while let Some(Answer { number, outcome }) = member.answer()? {
                any = true;
                member.owing.retain(|owed| *owed != number);
                // A frame can be done twice: by a worker that died, and by the next one.
                if self.order.settle(number, outcome) {
                    member.frames += 1;
                }
                self.deaths_in_a_row = 0;
            }
        }
        Ok(any)
    }

    /// Gives the sink what is next in order.
    fn hand_over(&mut self, sink: &mut impl Sink<Block>) -> Result<(), Failure> {
        while let Some(done) = self.order.pop() {
            sink.put(done)?;
        }
        Ok(())
    }

    /// Sleeps until there is an answer, a worker died, or `input` has something to read;
    /// tells whether it has.
    fn sleep(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        sink: &impl Sink<Block>,
    ) -> Result<bool, Failure> {
        // The bell is for all rings, so they are looked at when it is armed, not before.
        if let Some((_, answers)) = &mut self.members[0].ends {
            answers.arm();
        }
        if self.take_answers()? {
            return Ok(false);
        }
        let happening = self.next_happening(input);
        match happening.map_err(|error| Failure::other("wait for the workers", &error))? {
            // Whoever asked us to stop may have asked the workers as well: they are not missed.
            _ if self.stop.requested() => Ok(false),
            Some(Happening::Ready(INPUT)) => Ok(true),
            Some(Happening::Ended { process, exit, .. }) => {
                self.replace(process, &exit, sink)?;
                Ok(false)
            }
            Some(Happening::Failed { process, error }) => {
                let name = self.manager[process].name();
                Err(Failure::Run(format!("worker {name} cannot work: {error}")))
            }
            _ => Ok(false),
        }
    }

    fn next_happening(
        &mut self,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Happening<NoEvents>>> {
        if let Some(input) = input {
            self.manager.watch(input, Interest::Readable, INPUT)?;
        }
        let happening = self.manager.next(LOOK_UP);
        self.manager.unwatch(INPUT);
        happening
    }

    /// Starts another worker, which goes on where the one that died began.
    fn replace(
        &mut self,
        process: ProcessId,
        exit: &Exit,
        sink: &impl Sink<Block>,
    ) -> Result<(), Failure> {
        let found = self.members.iter().position(|member| member.process == process);
        let Some(worker) = found else { return Ok(()) };
        self.take_answers()?;
        self.restarts += 1;
        let member = &mut self.members[worker];
        let name = self.manager[process].name();
        sink.tell(format_args!("worker {name} ended ({exit}); another one does its frames"));
        if let Some(&number) = member.owing.front() {
            self.deaths_in_a_row += 1;
            if self.order.died_of(number) >= DEATHS {
                member.owing.pop_front();
                let broken = Broken::new(format!("{DEATHS} workers died of it, the last {exit}"));
                self.order.settle(number, Err(broken));
            }
        }
        if self.deaths_in_a_row >= DEATHS_IN_A_ROW {
            return Err(Failure::Run(format!(
                "the workers keep dying: {DEATHS_IN_A_ROW} without an answer from any"
            )));
        }
        if let Some(room) = &self.room {
            room.repair();
        }
        self.manager
            .restart(process)
            .map_err(|error| Failure::other("replace a worker", &error))?;
        self.connect(worker)
    }

    /// Ends all workers, and counts what they left behind.
    fn finish(mut self, sink: &mut impl Sink<Block>) -> Result<Work, Failure> {
        for (_, exit) in self.manager.stop() {
            exit.map_err(|error| Failure::other("stop the workers", &error))?;
        }
        // After an interrupt: what they were at when they were asked to stop.
        self.take_answers()?;
        self.hand_over(sink)?;
        drop((sink.rest(), self.order));
        self.old_rooms.extend(self.room);
        self.old_rooms.iter().for_each(Room::repair);
        Ok(Work {
            frames_per_worker: self.members.iter().map(|member| member.frames).collect(),
            blocks_in_use: self.old_rooms.iter().map(Room::blocks_in_use).sum(),
            restarts: self.restarts,
        })
    }
}

impl Member {
    /// Writes a job into the ring, if it has room.
    fn give(&mut self, number: u64, picture: &[u8]) -> bool {
        let Some((jobs, _)) = &mut self.ends else { return false };
        let number_bytes = number.to_le_bytes();
        match jobs.try_claim(number_bytes.len() + picture.len()) {
            Ok(mut job) => {
                let (head, body) = job.split_at_mut(number_bytes.len());
                head.copy_from_slice(&number_bytes);
                body.copy_from_slice(picture);
                job.commit();
                self.owing.push_back(number);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes an answer, if there is one.
    fn answer(&mut self) -> Result<Option<Answer>, Failure> {
        let Some((_, answers)) = &mut self.ends else { return Ok(None) };
        match answers.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            // Empty, or its worker died.
            Err(MessageError::Ring(_)) => Ok(None),
            Err(error) => Err(Failure::other("read an answer", &error)),
        }
    }
}
