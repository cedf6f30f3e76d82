//! Workers that are replaced when they die, and how a request fares with them.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use msgproc::{Resource, StopOptions, prelude::*};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::worker::{Calculator, CalculatorCalls};

/// The most that a worker may have of the address space, in bytes.
const MEMORY: u64 = 1 << 30;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Value(f64),
    /// The library says what is wrong.
    Refused(String),
    /// It was the end of a worker.
    Crashed(Box<Exit>),
    /// No answer in time; the worker was killed.
    TooLong(Duration),
    /// There is no worker, and none can be started.
    Failed(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Value(value) => write!(f, "{value}"),
            Answer::Refused(reason) => write!(f, "error: {reason}"),
            Answer::Crashed(exit) => write!(f, "crashed: {exit}"),
            Answer::TooLong(limit) => write!(f, "crashed: no answer within {limit:?}"),
            Answer::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) too_long: AtomicU64,
    pub(crate) replaced: AtomicU64,
}

type Worker = MessageProcess<Calculator>;

/// Some workers, each with one request at a time.
pub(crate) struct Crew {
    server: ForkServer,
    limit: Duration,
    idle: Mutex<mpsc::UnboundedReceiver<Option<Worker>>>,
    back: mpsc::UnboundedSender<Option<Worker>>,
    pub(crate) counts: Counts,
}

impl Crew {
    pub(crate) async fn start(workers: usize, limit: Duration) -> Result<Crew> {
        let server = ForkServer::start()?;
        let (back, idle) = mpsc::unbounded_channel();
        let crew = Crew { server, limit, idle: Mutex::new(idle), back, counts: Counts::default() };
        for _ in 0..workers {
            let _ = crew.back.send(Some(crew.worker().await?));
        }
        Ok(crew)
    }

    async fn worker(&self) -> Result<Worker> {
        MessageProcess::options("calculator")
            .rlimit(Resource::AddressSpace, MEMORY)
            .rlimit(Resource::CoreFile, 0)
            .stderr(Stdio::capture(3))
            .begin(|options| options.fork_from(&self.server, (), |(), _| Calculator))?
            .await
    }

    /// The answer to a request, whatever it does to the worker.
    pub(crate) async fn evaluate(&self, expression: String) -> Answer {
        let place = self.idle.lock().await.recv().await.flatten();
        // One that could not be replaced is tried again, here.
        let worker = match place {
            Some(worker) => worker,
            None => match self.worker().await {
                Ok(worker) => worker,
                Err(error) => {
                    let _ = self.back.send(None);
                    return Answer::Failed(error.to_string());
                }
            },
        };
        let answer = match timeout(self.limit, worker.evaluate(expression).into_future()).await {
            Ok(Ok(value)) => Answer::Value(value),
            Ok(Err(Error::Failed { message, .. })) => Answer::Refused(message),
            Ok(Err(Error::PeerDied { exit, .. })) => Answer::Crashed(exit),
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::TooLong(self.limit),
        };
        let count = match &answer {
            Answer::Value(_) | Answer::Refused(_) => {
                self.counts.answered.fetch_add(1, Relaxed);
                let _ = self.back.send(Some(worker));
                return answer;
            }
            Answer::TooLong(_) => &self.counts.too_long,
            Answer::Crashed(_) | Answer::Failed(_) => &self.counts.crashed,
        };
        count.fetch_add(1, Relaxed);
        kill(worker).await;
        self.counts.replaced.fetch_add(1, Relaxed);
        // Where this fails, the next request tries again and is told why.
        let _ = self.back.send(self.worker().await.ok());
        answer
    }

    /// Stops all workers, in order.
    pub(crate) async fn stop(self, workers: usize) -> Duration {
        let began = Instant::now();
        let mut idle = self.idle.into_inner();
        for _ in 0..workers {
            if let Some(Some(worker)) = idle.recv().await {
                let _ = msgproc::tokio::stop(worker).await;
            }
        }
        began.elapsed()
    }
}

/// One that is stuck in the library does not see that it should leave.
async fn kill(worker: Worker) {
    let at_once = StopOptions::default()
        .graceful(Duration::ZERO)
        .urgent(Duration::ZERO)
        .terminate(Duration::ZERO);
    let _ = msgproc::tokio::stop_with(&worker, &at_once).await;
}
