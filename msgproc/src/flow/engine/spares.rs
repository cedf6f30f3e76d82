//! Where replacements of processes that died come from.

use std::sync::{Arc, Mutex, Weak};

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
            "process {process:?}, from which replacements come, was killed as well, and a program with threads cannot fork another. A graph can make it good that watches itself (`watch_in_run`), or whose processes are spawned or come from a fork server"
        )),
        other => other,
    }
}

/// Where replacements of processes that died come from.
pub(super) enum Spares {
    /// A copy of the program, that has the plan under this number.
    Copy { server: ForkServer, plan: u64 },
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
        let number = keep_plan(plan);
        let server = ForkServer::copy_of_this(&format!("{}-spares", plan.graph.name))?;
        Ok(Some(Spares::Copy { server, plan: number }))
    }

    pub(super) fn start(
        &self,
        plan: &Arc<Plan>,
        process: usize,
    ) -> crate::Result<MessageProcess<Station>> {
        let make = |(number, process): (u64, usize), _: &Start| -> crate::Result<Station> {
            let plan = kept_plan(number).ok_or_else(|| crate::Error::other("its run is gone"))?;
            Ok(Station::new(plan, process))
        };
        let options = plan.options(process);
        match (plan.method(process), self) {
            (Method::Travel(server), _) => plan.travel(options, server, process),
            (Method::Fork, Spares::Copy { server, plan }) => {
                let made = options.fork_from_copy(server, (*plan, process), make);
                made.map_err(explained)
            }
            (Method::Fork, _) => {
                let plan = plan.clone();
                options.fork(move |_| Station::new(plan.clone(), process))
            }
        }
    }
}
