//! Where replacements of processes that died come from.

use std::{
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use super::{lock, method::Method, plan::Plan, station::Station};
use crate::{Error, ForkServer, MessageProcess, Start};

/// The plans of runs whose processes may have to be replaced. A fork server that is a copy of the
/// program has them in its memory, and a fork of that finds its own here.
pub(super) static PLANS: Mutex<Vec<(u64, Weak<Plan>)>> = Mutex::new(Vec::new());

/// Keeps a plan where replacements find it. Gives its number.
pub(super) fn keep_plan(plan: &Arc<Plan>) -> u64 {
    let mut plans = lock(&PLANS);
    plans.retain(|(_, plan)| plan.strong_count() > 0);
    let number = plans.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    plans.push((number, Arc::downgrade(plan)));
    number
}

pub(super) fn kept_plan(number: u64) -> Option<Arc<Plan>> {
    let plans = lock(&PLANS);
    plans.iter().find(|(known, _)| *known == number).and_then(|(_, plan)| plan.upgrade())
}

/// What is refused here is not what the program did.
fn explained(error: Error) -> Error {
    match error {
        Error::MultiThreaded { process, .. } => Error::other(format!(
            "process {process:?}, from which replacements come, was killed as well, before it had a stand-in, and a program with threads cannot fork another. A graph can make it good that watches itself (`watch_in_run`), or whose processes are spawned or come from a fork server"
        )),
        other => other,
    }
}

/// Where replacements of processes that died come from.
pub(super) enum Spares {
    Copy(Copies),
    /// The program itself, which has no other thread.
    Program,
    /// Nothing that was prepared: none of those that can be replaced is a fork.
    Again,
}

impl Spares {
    /// `None` where no process is to be replaced.
    pub(super) fn prepare(plan: &Arc<Plan>) -> crate::Result<Option<Spares>> {
        let (workers, executors) = (&plan.layout.workers, &plan.layout.executors);
        let mut survivors = workers.iter().filter(|worker| worker.survives).peekable();
        if survivors.peek().is_none() {
            return Ok(None);
        }
        let mut processes = survivors.map(|worker| executors[worker.executor].process);
        if !processes.any(|process| matches!(plan.method(process), Method::Fork)) {
            return Ok(Some(Spares::Again));
        }
        if plan.graph.watches_itself {
            return Ok(Some(Spares::Program));
        }
        Copies::prepare(plan).map(|copies| Some(Spares::Copy(copies)))
    }

    pub(super) fn start(
        &mut self,
        plan: &Arc<Plan>,
        process: usize,
    ) -> crate::Result<MessageProcess<Station>> {
        match (plan.method(process), self) {
            (Method::Travel(server), _) => plan.travel(plan.options(process), server, process),
            (Method::Fork, Spares::Copy(copies)) => copies.start(plan, process),
            (Method::Fork, _) => {
                let copy = plan.clone();
                plan.options(process).fork(move |_| Station::new(copy.clone(), process))
            }
        }
    }

    /// Has somebody stand by for the process from which replacements come.
    pub(super) fn stand_by(&mut self) {
        if let Spares::Copy(copies) = self {
            copies.stand_by();
        }
    }
}

/// A copy of the program, that has the plan under a number, and its stand-in: a fork of it, which is
/// such a copy too. When the first dies, the stand-in forks, and gets one itself.
pub(super) struct Copies {
    first: ForkServer,
    stand_in: Option<ForkServer>,
    name: String,
    plan: u64,
    /// When a stand-in may be made. Not at once, for short runs do without one.
    next: Instant,
}

/// How soon there is a stand-in.
const STANDS_BY_AFTER: Duration = Duration::from_millis(100);
/// How long its start may take, while nobody looks at what else dies.
const STAND_BY_TIMEOUT: Duration = Duration::from_secs(1);
/// When it is tried again, if that was too long.
const STANDS_BY_AGAIN: Duration = Duration::from_secs(20);

impl Copies {
    fn prepare(plan: &Arc<Plan>) -> crate::Result<Copies> {
        let (plan, name) = (keep_plan(plan), format!("{}-spares", plan.graph.name));
        let first = ForkServer::copy_of_this(&name)?;
        let next = Instant::now() + STANDS_BY_AFTER;
        Ok(Copies { first, stand_in: None, name, plan, next })
    }

    fn start(
        &mut self,
        plan: &Arc<Plan>,
        process: usize,
    ) -> crate::Result<MessageProcess<Station>> {
        let make = |(number, process): (u64, usize), _: &Start| -> crate::Result<Station> {
            let plan = kept_plan(number).ok_or_else(|| crate::Error::other("its run is gone"))?;
            Ok(Station::new(plan, process))
        };
        loop {
            let options = plan.options(process);
            let made = options.fork_from_copy(&self.first, (self.plan, process), make);
            if made.is_ok() || !self.has_stepped_in() {
                return made.map_err(explained);
            }
        }
    }

    /// Lets the stand-in fork if the first has died. Tells whether it does.
    fn has_stepped_in(&mut self) -> bool {
        if self.first.is_alive() {
            return false;
        }
        let stand_in = self.stand_in.take();
        stand_in.map(|stand_in| self.first = stand_in).is_some()
    }

    fn stand_by(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.stand_in.take_if(|stand_in| !stand_in.is_alive());
        self.has_stepped_in();
        if self.stand_in.is_some() || !self.first.is_alive() {
            return;
        }
        match self.first.copy_again(&self.name, STAND_BY_TIMEOUT) {
            Ok(stand_in) => self.stand_in = Some(stand_in),
            Err(error) => {
                tracing::warn!(%error, "a stand-in for where replacements come from");
                self.next = Instant::now() + STANDS_BY_AGAIN;
            }
        }
    }
}
