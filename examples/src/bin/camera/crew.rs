//! The work as a graph: pictures go from a source in this thread through workers to a sink in
//! this thread again. Where one does not fit into the blocks, another run with larger ones follows.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use examples::picture::{Broken, Decoder};
use msgproc::flow::{self, Cause, Flow, Graph, Memory, OnError, Outlet, Placement, from_fn};
use serde::{Deserialize, Serialize};
use shmring::block::{Block, BlockPool};

use crate::collect::Collector;
use crate::desk::{DEATHS, Desk, Step};
use crate::engine::{Outcome, measure};
use crate::failure::Failure;
use crate::source::Source;
use crate::stop::Stop;

/// Pictures on their way through one worker, so that it always finds another.
const DEPTH: usize = 3;

/// Bytes of the first blocks: enough for a picture of 1920×1080, and not used before there is one.
const FIRST_BLOCKS: usize = 2 << 20;

/// Of larger blocks no more than a quarter of this is kept spare.
const MOST_SPARE: usize = 4 << 20;

/// There is a block for all that can be on its way, so this is for those that the dead had.
const PATIENCE: Duration = Duration::from_secs(2);

/// A picture for a worker, still coded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) picture: Block,
}

/// What comes back for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) worker: usize,
    /// An error is no fault of the picture.
    pub(crate) outcome: Result<Outcome, String>,
}

/// Who did the work, and what it left behind.
#[derive(Debug)]
pub(crate) struct Work {
    /// Frames dealt with by each worker; empty if there was none.
    pub(crate) frames_per_worker: Vec<u64>,
    pub(crate) blocks_in_use: usize,
    pub(crate) restarts: u64,
}

type SharedDesk = Arc<Mutex<Desk>>;

fn lock(desk: &SharedDesk) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has everything done, by so many other processes or by none, until the source ends, the sink
/// fails, or somebody asks to stop. What is done so far has then gone to the sink.
pub(crate) fn run(
    source: Source,
    sink: Collector,
    workers: usize,
    stop: &Stop,
) -> (SharedDesk, Result<Work, Failure>) {
    let window = DEPTH * workers.max(1);
    let desk = Arc::new(Mutex::new(Desk::new(source, sink, workers, window, stop)));
    let mut pools = Vec::new();
    let mut block_len = FIRST_BLOCKS;
    let outcome = loop {
        let ran = run_with(&desk, workers, block_len, &mut pools);
        match (ran, lock(&desk).needed()) {
            (Ok(()), Some(needed)) => block_len = needed + needed.min(MOST_SPARE) / 4,
            (ran, _) => break ran,
        }
    };
    let work = outcome.map(|()| {
        let mut desk = lock(&desk);
        desk.give_back();
        pools.iter().for_each(BlockPool::repair);
        Work {
            frames_per_worker: desk.frames_per_worker().to_vec(),
            blocks_in_use: pools.iter().map(BlockPool::in_use).sum(),
            restarts: desk.restarts(),
        }
    });
    (desk, work)
}

/// Runs until the source ends, or has a picture that needs larger blocks.
fn run_with(
    desk: &SharedDesk,
    workers: usize,
    block_len: usize,
    pools: &mut Vec<BlockPool>,
) -> Result<(), Failure> {
    // Each frame has a block while it is on its way, and two while it is decoded; a worker that
    // died has its own until they are given back; the sink has the last plane and this one.
    let blocks = (DEPTH + 2) * workers.max(1) + 3;
    let memory = Memory::with_blocks(blocks, block_len)
        .map_err(|error| Failure::other("make room for the workers", &error))?;
    let Some(pool) = memory.pool().cloned() else {
        return Err(Failure::Run("cannot make room for the workers: there are no blocks".into()));
    };
    pools.push(pool.clone());
    lock(desk).begin();
    match graph(desk, workers, &memory, &pool).run() {
        Ok(_) => Ok(()),
        Err(error) => match lock(desk).take_end() {
            Some(end) => end,
            None => Err(Failure::Run(explained(&error))),
        },
    }
}

fn graph(desk: &SharedDesk, workers: usize, memory: &Memory, pool: &BlockPool) -> Graph {
    let mut graph = Graph::new().named("camera");
    graph.set_memory(memory);
    // The program forks its workers, so it has no other thread.
    graph.watch_in_run();
    let told = Arc::clone(desk);
    graph.on_death(move |death| {
        let mut desk = lock(&told);
        let replaced = desk.worker_died(death);
        replaced.map_err(|failure| desk.fail(failure))
    });

    let (at, blocks) = (Arc::clone(desk), pool.clone());
    let frames = graph.node("frames", Placement::Same, move |_| {
        let (at, blocks) = (Arc::clone(&at), blocks.clone());
        from_fn(move |(), out: &mut Outlet<Job>| next(&at, &blocks, out))
    });
    let frames = frames.add();

    let place = if workers == 0 { Placement::Same } else { Placement::Process };
    let planes = pool.clone();
    let work = graph.node("camera", place, move |info| {
        let (worker, planes, mut decoder) = (info.index, planes.clone(), Decoder::new());
        from_fn(move |Job { number, picture }: Job, out: &mut Outlet<Answer>| {
            let outcome = in_a_block(&mut decoder, picture.as_bytes(), &planes);
            drop(picture);
            out.send(Answer { number, worker, outcome })?;
            Ok(Flow::GoOn)
        })
    });
    let on_error = OnError::retry(DEATHS - 1).or_skip();
    let work = work.workers(workers.max(1)).ordered(true).on_error(on_error).add();

    let at = Arc::clone(desk);
    let results = graph.node("results", Placement::Same, move |_| {
        let at = Arc::clone(&at);
        from_fn(move |answer: Answer, _out: &mut Outlet<()>| {
            let mut desk = lock(&at);
            let taken = desk.take(answer);
            taken.map(|()| Flow::GoOn).map_err(|failure| desk.fail(failure))
        })
    });
    let results = results.add();
    graph.edge(frames.output(), work.input()).capacity(2 * DEPTH).add();
    graph.edge(work.output(), results.input()).capacity(2 * DEPTH).add();
    graph
}

/// The step of the source.
fn next(desk: &SharedDesk, blocks: &BlockPool, out: &mut Outlet<Job>) -> Result<Flow, Cause> {
    // Not held while a job is sent: the others of this thread run meanwhile.
    let step = {
        let mut desk = lock(desk);
        desk.next_step(blocks).map_err(|failure| desk.fail(failure))?
    };
    match step {
        Step::Job(job) => {
            out.send(job)?;
            // Each in a message of its own, so that all workers get some.
            out.flush()?;
            Ok(Flow::GoOn)
        }
        Step::Again => Ok(Flow::GoOn),
        Step::Wait => Ok(Flow::Wait),
        Step::End => Ok(Flow::Eos),
        Step::Abandon => Err("the program was interrupted".into()),
    }
}

/// Puts a picture into a block.
pub(crate) fn in_hand(picture: &[u8], blocks: &BlockPool) -> Result<Block, Failure> {
    let loan = blocks.loan_timeout(PATIENCE);
    let mut loan = loan.map_err(|error| Failure::other("hand a picture to a worker", &error))?;
    loan.set_len(picture.len());
    loan.as_bytes_mut().copy_from_slice(picture);
    Ok(loan.freeze())
}

/// Decodes a picture from where it lies into a shared block, and measures it.
fn in_a_block(
    decoder: &mut Decoder,
    picture: &[u8],
    planes: &BlockPool,
) -> Result<Outcome, String> {
    let mut loan = planes.loan_timeout(PATIENCE).map_err(|error| error.to_string())?;
    let measured = catch_unwind(AssertUnwindSafe(|| {
        measure(decoder, picture, |size| {
            loan.set_len(size.pixels());
            loan
        })
    }));
    Ok(match measured {
        Ok(measured) => measured.map(|(measures, plane)| (measures, plane.freeze())),
        Err(_) => Err(Broken::new("its worker panicked over it")),
    })
}

/// An error with all that caused it.
fn explained(error: &flow::Error) -> String {
    let mut text = format!("cannot run the workers: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
