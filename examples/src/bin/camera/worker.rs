//! The worker: a process that takes coded pictures out of one ring, and puts
//! its answers, with the luma planes in shared blocks, into another.

use examples::picture::{Broken, Decoder, Size};
use msgproc::prelude::*;
use serde::{Deserialize, Serialize};
use shmring::RecvError;
use shmring::block::{Block, BlockPool};
use shmring::ring::port::Sender;
use shmring::ring::records::{Consumer, Records};

use crate::engine::{Measures, Outcome, measure};

const JOBS: Token = Token(0);

/// What lies in shared memory between the frontend and one worker.
#[derive(Serialize, Deserialize)]
pub(crate) struct Lane {
    /// Each record is the number of a frame, eight bytes, and its picture.
    pub(crate) jobs: Records,
    /// [`Answer`]s.
    pub(crate) answers: Records,
    /// Blocks for the planes, shared by all workers.
    pub(crate) planes: BlockPool,
}

/// What comes back for each job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) outcome: Outcome<Block>,
}

/// The state of a worker process.
pub(crate) struct Worker {
    decoder: Decoder,
    ends: Option<Ends>,
}

/// A worker's ends of its lane.
struct Ends {
    jobs: Consumer,
    answers: Sender<Answer>,
    planes: BlockPool,
    from: u64,
}

#[backend(calls = pub(crate) WorkerCalls)]
impl Worker {
    pub(crate) fn new() -> Self {
        Self { decoder: Decoder::new(), ends: None }
    }

    /// Begins to work on a lane. What is there of frames before `from` has been dealt with.
    fn c__connect(&mut self, lane: Lane, from: u64, ctx: &mut Context) -> Result<()> {
        ctx.unwatch(JOBS);
        self.ends = None;
        let jobs = lane.jobs.consumer().map_err(Error::other)?;
        let answers = Sender::new(lane.answers.producer().map_err(Error::other)?);
        let bell = jobs.bell().ok_or("the segment has no bell left for this worker")?;
        ctx.watch(bell, Interest::Readable, JOBS)?;
        self.ends = Some(Ends { jobs, answers, planes: lane.planes, from });
        self.work(ctx)
    }

    /// The bell has rung: there may be jobs.
    fn on_ready(&mut self, _token: Token, ctx: &mut Context) -> Result<()> {
        self.work(ctx)
    }

    /// Works until there is nothing more to do.
    fn work(&mut self, ctx: &mut Context) -> Result<()> {
        while let Some(ends) = &mut self.ends
            && !ctx.is_stopping()
        {
            match ends.next_job(&mut self.decoder)? {
                Next::Done => {}
                Next::Nothing if ends.jobs.arm() => break,
                Next::Nothing => {}
                Next::Ended => {
                    ctx.unwatch(JOBS);
                    self.ends = None;
                }
            }
        }
        Ok(())
    }
}

/// What became of the next job.
enum Next {
    Done,
    Nothing,
    /// The frontend has gone, or is about to make another lane.
    Ended,
}

impl Ends {
    /// Does the next job, if there is one.
    fn next_job(&mut self, decoder: &mut Decoder) -> Result<Next> {
        let job = match self.jobs.try_recv() {
            Ok(job) => job,
            Err(RecvError::Empty) => return Ok(Next::Nothing),
            Err(_) => return Ok(Next::Ended),
        };
        let (number, picture) = job.split_first_chunk().ok_or("a job without a number")?;
        let number = u64::from_le_bytes(*number);
        if number >= self.from {
            let outcome = in_a_block(decoder, picture, &self.planes)?;
            self.answers.send(Answer { number, outcome }).map_err(Error::other)?;
        }
        // Only here, with the answer on its way, is the job released: should this process die
        // before, whoever comes next finds it in the ring.
        drop(job);
        Ok(Next::Done)
    }
}

/// Decodes a picture from where it lies into a shared block, and measures it.
fn in_a_block(decoder: &mut Decoder, picture: &[u8], planes: &BlockPool) -> Result<Outcome<Block>> {
    let mut loan = planes.loan().map_err(Error::other)?;
    let place = |size: Size| {
        loan.set_len(size.pixels());
        loan
    };
    let measured: Result<(Measures, _), Broken> = measure(decoder, picture, place);
    Ok(measured.map(|(measures, plane)| (measures, plane.freeze())))
}
