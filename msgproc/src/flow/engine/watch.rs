//! Watching over the processes of a run: their ends, their deaths, and who comes in their place.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Processes, Told, plan::Plan, spares::Spares, station::Station};
use crate::{
    Exit, Manager, MessageProcess,
    flow::{
        error::{Failure, FailureKind},
        layout::Loss,
        node::Cause,
        plan::STOPPING,
    },
    manager::{Happening, ProcessId},
    process::is_closed,
    start::{Panic, catch_here},
};

/// Watches the processes of a run.
pub(super) struct Supervisor(JoinHandle<Told>);

impl Supervisor {
    pub(super) fn start(plan: &Arc<Plan>, processes: Processes) -> Supervisor {
        let plan = plan.clone();
        let body = move || supervise(&plan, processes);
        Supervisor(thread::spawn(body))
    }

    pub(super) fn join(self) -> Told {
        self.0.join().unwrap_or_else(|panic| Told::panicked(Panic::of(panic)))
    }
}

/// How long processes may take to end by themselves once the run is stopped.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Without anybody who watches, a run might wait for ever: a panic here fails it.
pub(super) fn supervise(plan: &Arc<Plan>, processes: Processes) -> Told {
    let watched = catch_here(|| {
        let mut watch = Watch::new(plan, processes);
        while watch.goes_on() {
            watch.look(Duration::from_millis(100));
            if let Some(spares) = &mut watch.spares
                && plan.shared.phase() < STOPPING
            {
                spares.stand_by();
            }
        }
        watch.end()
    });
    watched.unwrap_or_else(|panic| panicked(plan, panic))
}

fn panicked(plan: &Plan, panic: Panic) -> Told {
    plan.shared.advance(STOPPING);
    Told::panicked(panic)
}

/// What there is to watch over.
pub(super) struct Watch {
    pub(super) plan: Arc<Plan>,
    /// `None` if it could not be had.
    pub(super) manager: Option<Manager<Station>>,
    pub(super) spares: Option<Spares>,
    pub(super) at_work: HashMap<ProcessId, usize>,
    pub(super) in_vain: InVain,
    pub(super) stopping: Option<Instant>,
    pub(super) told: Told,
}

impl Watch {
    pub(super) fn new(plan: &Arc<Plan>, processes: Processes) -> Watch {
        let Processes { handles, spares } = processes;
        let mut watch = Watch {
            plan: plan.clone(),
            manager: None,
            spares,
            at_work: HashMap::new(),
            in_vain: InVain::default(),
            stopping: None,
            told: Told::default(),
        };
        match Manager::new() {
            Ok(manager) => watch.manager = Some(manager),
            Err(error) => watch.cannot(error),
        }
        for (process, handle) in handles {
            watch.set_to_work(process, handle);
        }
        watch
    }

    /// Fails the run because of what happened to its processes.
    pub(super) fn cannot(&mut self, error: impl Into<Cause>) {
        let kind = FailureKind::Died;
        self.told.failed.push((0, Failure::new("the run", 0, None, kind, error.into())));
        self.plan.shared.advance(STOPPING);
    }

    pub(super) fn set_to_work(&mut self, process: usize, handle: MessageProcess<Station>) {
        let Some(manager) = &mut self.manager else { return };
        match set_to_work(manager, handle) {
            Ok(id) => drop(self.at_work.insert(id, process)),
            // It was killed after it had become ready.
            Err(crate::Error::PeerDied { exit, .. }) => self.ended(process, *exit),
            Err(error) => self.cannot(error),
        }
    }

    pub(super) fn goes_on(&mut self) -> bool {
        if self.plan.shared.phase() == STOPPING {
            let since = *self.stopping.get_or_insert_with(Instant::now);
            if since.elapsed() > GRACE {
                return false;
            }
        }
        self.manager.is_some() && !self.at_work.is_empty()
    }

    /// Sees to all that has happened. A panic does not come up, for whoever calls this may stand in
    /// the middle of a node.
    pub(super) fn look_aside(&mut self) {
        let looked = catch_here(|| while self.goes_on() && self.look(Duration::ZERO) {});
        if let Err(panic) = looked {
            self.told.add(panicked(&self.plan, panic));
        }
    }

    /// Waits so long at most for something to happen, and sees to it. Tells whether it did.
    pub(super) fn look(&mut self, timeout: Duration) -> bool {
        let Some(manager) = &mut self.manager else { return false };
        let happened = match manager.next(Some(timeout)) {
            Ok(happened) => happened,
            Err(error) => {
                self.cannot(error);
                self.at_work.clear();
                return false;
            }
        };
        match happened {
            None => return false,
            Some(Happening::Event { process: id, event: theirs }) => {
                self.told.add(theirs);
                self.at_work.remove(&id);
            }
            Some(Happening::Ended { process: id, exit, .. }) => {
                if let Some(process) = self.at_work.remove(&id) {
                    let _ = manager.remove(id);
                    self.ended(process, exit);
                }
            }
            Some(Happening::Failed { error, .. }) => {
                tracing::warn!(%error, "a process of a run");
            }
            Some(_) => {}
        }
        true
    }

    pub(super) fn ended(&mut self, process: usize, exit: Exit) {
        let plan = self.plan.clone();
        if plan.has_ended(process) {
            // It was only not heard any more.
            return plan
                .layout
                .workers_of(process)
                .for_each(|(number, _)| plan.close_lanes_to(number));
        }
        if plan.shared.phase() == STOPPING && plan.shared.failed().is_none() {
            // The run was stopped before, and that is what it says.
            return;
        }
        match plan.tell_death(process, &exit) {
            Ok(true) => {}
            Ok(false) => return,
            Err(failed) => return self.told.failed.push(*failed),
        }
        let Some(manager) = &mut self.manager else { return };
        let begun = self
            .in_vain
            .replace(&plan, process, self.spares.as_mut(), |handle| set_to_work(manager, handle));
        match begun {
            Some(Ok(id)) => drop(self.at_work.insert(id, process)),
            Some(Err(error)) => self.cannot(error),
            None => self.told.failed.push(plan.fail_by_death(process, &exit)),
        }
    }

    pub(super) fn end(self) -> Told {
        drop(self.manager.map(|mut manager| manager.stop()));
        self.told
    }
}

pub(super) fn set_to_work(
    manager: &mut Manager<Station>,
    process: MessageProcess<Station>,
) -> crate::Result<ProcessId> {
    process.call::<_, ()>("run", ()).tell()?;
    manager.add(process)
}

/// How often processes were replaced in a row though nobody in them had got anywhere who was at work
/// when they died: one that dies again and again, whatever it is at, is not replaced for ever.
#[derive(Default)]
pub(super) struct InVain(HashMap<Who, (u64, u32)>);

/// Whose deaths are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    /// Of a worker that was at work.
    Worker(usize),
    /// Of a process in which nobody was.
    Process(usize),
}

impl InVain {
    pub(super) const MOST: u32 = 100;

    fn may_go_on(&mut self, plan: &Plan, process: usize, at_work: &[usize]) -> bool {
        let here = || plan.layout.workers_of(process).map(|(number, _)| number);
        if at_work.is_empty() {
            let progress = here().map(|number| plan.progress(number)).sum();
            return self.count(Who::Process(process), progress);
        }
        // It was none of those that were not at work.
        for number in here().filter(|number| !at_work.contains(number)) {
            self.0.remove(&Who::Worker(number));
        }
        let count = |number: &usize| self.count(Who::Worker(*number), plan.progress(*number));
        at_work.iter().map(count).filter(|may| !may).count() == 0 // Each is counted.
    }

    fn count(&mut self, who: Who, progress: u64) -> bool {
        let (before, times) = self.0.entry(who).or_insert((progress, 0));
        *times = if *before == progress { *times + 1 } else { 1 };
        *before = progress;
        *times <= InVain::MOST
    }

    /// Starts another process for one that died, and lets `put` have it, if it is to be replaced at
    /// all. The new one may be killed as well, before it is put anywhere.
    pub(super) fn replace<T>(
        &mut self,
        plan: &Arc<Plan>,
        process: usize,
        mut spares: Option<&mut Spares>,
        mut put: impl FnMut(MessageProcess<Station>) -> crate::Result<T>,
    ) -> Option<crate::Result<T>> {
        loop {
            let spares =
                spares.as_mut().filter(|_| plan.layout.losses[process] == Loss::IsMadeGood)?;
            if plan.shared.phase() >= STOPPING {
                return None;
            }
            let at_work = plan.count_death(process);
            if !self.may_go_on(plan, process, &at_work) {
                return None;
            }
            plan.count_restart(process);
            // What the dead one held is free again before others wait for it.
            plan.memory.segment().repair();
            match spares.start(plan, process).and_then(&mut put) {
                Err(error) if has_died(&error) => {}
                begun => return Some(begun),
            }
        }
    }
}

/// Whether a start failed because the new process was killed, which may be before it has a name.
fn has_died(error: &crate::Error) -> bool {
    match error {
        crate::Error::PeerDied { .. } => true,
        crate::Error::Io { source, .. } => is_closed(source),
        _ => false,
    }
}
