//! Where the source and the sink of the graph meet: what is on its way to the workers and back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use examples::picture::{self, Broken};
use msgproc::flow::{Cause, Death};
use shmring::block::BlockPool;

use crate::collect::Collector;
use crate::crew::{Answer, Job, in_hand};
use crate::engine::{Done, Outcome};
use crate::failure::Failure;
use crate::source::{Next, Source};
use crate::stop::Stop;
use crate::wait;

/// A frame of which so many workers died counts as broken.
pub(crate) const DEATHS: u32 = 3;

/// So many deaths without a single answer, and we give up.
const DEATHS_IN_A_ROW: u32 = 20;

/// For how long workers may go on with what they have when the program is interrupted.
const PATIENCE: Duration = Duration::from_secs(1);

/// And if none of them is left.
const NO_PATIENCE: Duration = Duration::from_millis(100);

/// For how long a silent input may keep answers waiting.
const GLANCE: Duration = Duration::from_millis(1);

/// What the source does next.
#[derive(Debug)]
pub(crate) enum Step {
    Job(Job),
    /// Looks again at once.
    Again,
    /// Looks again when there was an answer.
    Wait,
    End,
    /// Waits no longer for the workers.
    Abandon,
}

#[derive(Debug)]
pub(crate) struct Desk {
    source: Source,
    sink: Collector,
    stop: Stop,
    /// How many frames may be on their way.
    window: usize,
    on_the_way: VecDeque<Frame>,
    /// One that needs larger blocks.
    held: Option<(Frame, Vec<u8>)>,
    /// Frames that went to workers in this run.
    sent: u64,
    stopping_since: Option<Instant>,
    /// Workers that died since then.
    lost: usize,
    workers: usize,
    frames_per_worker: Vec<u64>,
    restarts: u64,
    deaths_in_a_row: u32,
    /// Whether the source has no more.
    is_at_end: bool,
    /// How the run was ended.
    end: Option<Result<(), Failure>>,
}

#[derive(Debug)]
struct Frame {
    number: u64,
    split: Instant,
    bytes: usize,
    /// Which item of the run it is, if a worker has it.
    item: Option<u64>,
    outcome: Option<Outcome>,
}

impl Desk {
    pub(crate) fn new(
        source: Source,
        sink: Collector,
        workers: usize,
        window: usize,
        stop: &Stop,
    ) -> Self {
        Self {
            source,
            sink,
            stop: stop.clone(),
            window,
            on_the_way: VecDeque::new(),
            held: None,
            sent: 0,
            stopping_since: None,
            lost: 0,
            workers,
            frames_per_worker: vec![0; workers],
            restarts: 0,
            deaths_in_a_row: 0,
            is_at_end: false,
            end: None,
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn sink(&mut self) -> &mut Collector {
        &mut self.sink
    }

    pub(crate) fn frames_per_worker(&self) -> &[u64] {
        &self.frames_per_worker
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Before each run.
    pub(crate) fn begin(&mut self) {
        self.sent = 0;
    }

    /// How long blocks must be for the frame that waits for larger ones.
    pub(crate) fn needed(&self) -> Option<usize> {
        self.held.as_ref().map(|(_, picture)| needed(picture))
    }

    /// Keeps why the run fails, and gives what the graph is told.
    pub(crate) fn fail(&mut self, failure: Failure) -> Cause {
        let told = failure.to_string();
        self.end.get_or_insert(Err(failure));
        told.into()
    }

    /// How the run was ended, if that was not by the graph.
    pub(crate) fn take_end(&mut self) -> Option<Result<(), Failure>> {
        self.end.take()
    }

    /// Drops all blocks.
    pub(crate) fn give_back(&mut self) {
        self.on_the_way.clear();
        self.sink.rest();
    }

    /// What the source does next. Jobs are put into these blocks.
    pub(crate) fn next_step(&mut self, blocks: &BlockPool) -> Result<Step, Failure> {
        if self.stop.requested() {
            return Ok(self.wind_up());
        }
        if self.on_the_way.len() >= self.window {
            return Ok(Step::Wait);
        }
        if self.is_at_end {
            return Ok(self.after_all());
        }
        if let Some((frame, picture)) = self.held.take() {
            return self.job(frame, &picture, blocks);
        }
        let frame = match self.source.next_frame()? {
            Next::Frame(frame) => frame,
            Next::NotYet => {
                let time = if self.on_the_way.is_empty() { wait::LOOK_UP } else { GLANCE };
                if let Some(descriptor) = self.source.descriptor() {
                    wait::until_readable(descriptor, time)?;
                }
                return Ok(Step::Again);
            }
            Next::End => {
                self.is_at_end = true;
                return Ok(self.after_all());
            }
        };
        let (split, bytes) = (frame.split, frame.bytes);
        let mut noted = Frame { number: frame.number, split, bytes, item: None, outcome: None };
        match frame.picture {
            Ok(picture) if needed(picture) > blocks.block_len() => {
                self.held = Some((noted, picture.to_vec()));
                Ok(Step::End)
            }
            Ok(picture) => {
                let picture = in_hand(picture, blocks)?;
                Ok(self.send(noted, picture))
            }
            Err(broken) => {
                noted.outcome = Some(Err(broken));
                self.on_the_way.push_back(noted);
                self.hand_over()?;
                Ok(Step::Again)
            }
        }
    }

    /// There are no more frames. As long as some are on their way somebody may ask to stop, and that is
    /// heard here.
    fn after_all(&self) -> Step {
        if self.on_the_way.is_empty() { Step::End } else { Step::Wait }
    }

    fn job(&mut self, frame: Frame, picture: &[u8], blocks: &BlockPool) -> Result<Step, Failure> {
        let picture = in_hand(picture, blocks)?;
        Ok(self.send(frame, picture))
    }

    fn send(&mut self, frame: Frame, picture: shmring::block::Block) -> Step {
        let number = frame.number;
        self.on_the_way.push_back(Frame { item: Some(self.sent), ..frame });
        self.sent += 1;
        Step::Job(Job { number, picture })
    }

    /// After somebody asked to stop: the workers finish what they have, if that does not take long.
    fn wind_up(&mut self) -> Step {
        self.held = None;
        let since = *self.stopping_since.get_or_insert_with(Instant::now);
        let patience = if self.lost == self.workers { NO_PATIENCE } else { PATIENCE };
        if !self.on_the_way.is_empty() && since.elapsed() < patience {
            return Step::Wait;
        }
        // Not the end of the stream: a worker that is stopped, or that is not missed, would never
        // come to it.
        self.end.get_or_insert(Ok(()));
        Step::Abandon
    }

    /// Takes an answer, and hands over what is next in order.
    pub(crate) fn take(&mut self, answer: Answer) -> Result<(), Failure> {
        let outcome = answer.outcome;
        let outcome = outcome
            .map_err(|reason| Failure::Run(format!("a worker cannot do its work: {reason}")))?;
        self.deaths_in_a_row = 0;
        let mut frames = self.on_the_way.iter_mut();
        // One that was given up may have been done after all.
        let frame = frames.find(|frame| frame.number == answer.number && frame.outcome.is_none());
        if let Some(frame) = frame {
            frame.outcome = Some(outcome);
            if let Some(frames) = self.frames_per_worker.get_mut(answer.worker) {
                *frames += 1;
            }
        }
        self.hand_over()
    }

    /// Gives the sink what is next in order.
    fn hand_over(&mut self) -> Result<(), Failure> {
        while self.on_the_way.front().is_some_and(|frame| frame.outcome.is_some()) {
            let Some(frame) = self.on_the_way.pop_front() else { break };
            let Frame { number, split, bytes, outcome: Some(outcome), .. } = frame else { break };
            self.sink.put(Done { number, split, bytes, outcome })?;
        }
        Ok(())
    }

    /// Takes notice of a worker's death. Tells whether another one does its frames.
    pub(crate) fn worker_died(&mut self, death: &Death) -> Result<bool, Failure> {
        // Whoever asked us to stop may have asked the workers as well: they are not missed.
        if self.stop.requested() {
            self.lost += 1;
            return Ok(false);
        }
        self.restarts += 1;
        let (name, exit) = (death.worker + 1, &death.exit);
        self.sink
            .tell(format_args!("worker camera-{name} ended ({exit}); another one does its frames"));
        let mut frames = self.on_the_way.iter_mut();
        let frame = frames.find(|frame| frame.item.is_some() && frame.item == death.item);
        if let Some(frame) = frame.filter(|frame| frame.outcome.is_none()) {
            self.deaths_in_a_row += 1;
            if death.times >= u64::from(DEATHS) {
                let reason = format!("{DEATHS} workers died of it, the last {exit}");
                frame.outcome = Some(Err(Broken::new(reason)));
                self.hand_over()?;
            }
        }
        if self.deaths_in_a_row >= DEATHS_IN_A_ROW {
            return Err(Failure::Run(format!(
                "the workers keep dying: {DEATHS_IN_A_ROW} without an answer from any"
            )));
        }
        Ok(true)
    }
}

/// How long the blocks must be for a picture and its plane. One that is broken has none.
fn needed(picture: &[u8]) -> usize {
    let plane = picture::size(picture).map_or(0, |size| size.pixels());
    picture.len().max(plane)
}
