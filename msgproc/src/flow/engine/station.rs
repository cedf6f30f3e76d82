//! One process of a run, in itself: its threads, from setting them up to their end.

use std::{
    cell::{Cell, RefCell},
    ptr,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Failed, Processes, Told,
    plan::Plan,
    travel::Ticket,
    watch::{Supervisor, Watch, supervise},
};
use crate::{
    Backend, Context, Incoming, Outcome,
    flow::{
        error::{Failure, FailureKind},
        graph::Graph,
        plan::{Executor, RUNNING, STOPPING},
        trace::Notes,
        worker::Failures,
    },
    start::{Panic, catch_here},
};

/// Runs one thread of a run, from setting it up to its end.
pub(super) fn run_thread(plan: &Plan, number: usize, ready: Sender<Result<(), Failed>>) -> Told {
    #[cfg(feature = "tokio")]
    if plan.layout.tasks == Some(number) {
        let name = format!("{}-tasks", plan.graph.name);
        return crate::flow::tasks::in_runtime(&name, |had| match had {
            Ok(()) => run_executor(plan, number, ready),
            Err(error) => {
                let kind = FailureKind::Init;
                let failed = (0, Failure::new("the run", 0, None, kind, error.into()));
                let _ = ready.send(Err(vec![failed]));
                Told::default()
            }
        });
    }
    run_executor(plan, number, ready)
}

fn run_executor(plan: &Plan, number: usize, ready: Sender<Result<(), Failed>>) -> Told {
    match plan.bind_thread(number).and_then(|()| plan.executor(number)) {
        Err(failed) => {
            let _ = ready.send(Err(failed));
            Told::default()
        }
        Ok((executor, failures)) => {
            let _ = ready.send(Ok(()));
            drop(ready); // Whoever waits for all threads sees that this one is done with it.
            fly(plan, &executor, &failures)
        }
    }
}

thread_local! {
    /// The run for which this thread is at work.
    static RUN: Cell<*const Plan> = const { Cell::new(ptr::null()) };
}

/// Whether the caller is called by this run.
pub(super) fn is_called_by(plan: &Plan) -> bool {
    ptr::eq(RUN.get(), plan)
}

/// Runs an executor to its end. A panic of what no worker answers for, as that of a node that is
/// dropped, fails the run.
fn fly(plan: &Plan, executor: &Executor, failures: &Failures) -> Told {
    // A node may run another one in this thread.
    let outer = RUN.replace(plan);
    let flown = catch_here(|| {
        if executor.wait_for_begin() {
            executor.run();
        }
    });
    RUN.set(outer);
    let mut all = told(executor, failures);
    if let Err(panic) = flown {
        plan.shared.advance(STOPPING);
        all.add(Told::panicked(panic));
    }
    all
}

/// What a thread has to tell.
pub(super) fn told(executor: &Executor, failures: &Failures) -> Told {
    let spans = executor.notes.as_ref().map(Notes::take).unwrap_or_default();
    Told { failed: failures.take(), spans }
}

/// The threads of one process but its main one.
pub(super) struct Threads {
    pub(super) handles: Vec<JoinHandle<Told>>,
}

impl Threads {
    /// Starts them, and waits until all are set up.
    pub(super) fn start(plan: &Arc<Plan>, executors: &[usize]) -> Result<Threads, Failed> {
        let (ready, readies) = mpsc::channel();
        let mut handles = Vec::new();
        let mut failed = Vec::new();
        for &number in executors {
            let (plan, ready) = (plan.clone(), ready.clone());
            let name = format!("{}-{number}", plan.graph.name);
            let started =
                thread::Builder::new().name(name).spawn(move || run_thread(&plan, number, ready));
            match started {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    let kind = FailureKind::Init;
                    failed.push((0, Failure::new("the run", 0, None, kind, error.into())));
                }
            }
        }
        drop(ready);
        failed.extend(readies.iter().filter_map(Result::err).flatten());
        let threads = Threads { handles };
        if failed.is_empty() {
            return Ok(threads);
        }
        plan.shared.advance(STOPPING);
        failed.extend(threads.join().failed);
        Err(failed)
    }

    pub(super) fn join(self) -> Told {
        let mut told = Told::default();
        for handle in self.handles {
            told.add(handle.join().unwrap_or_else(|panic| Told::panicked(Panic::of(panic))));
        }
        told
    }
}

/// A process of a run, in itself.
pub(super) struct Station {
    pub(super) plan: Arc<Plan>,
    pub(super) process: usize,
    pub(super) main: Option<(Rc<Executor>, Failures)>,
    pub(super) threads: Option<Threads>,
    /// Why it could not be set up, as long as nobody was told.
    failed: Failed,
}

impl Station {
    pub(super) fn new(plan: Arc<Plan>, process: usize) -> Station {
        Station { plan, process, main: None, threads: None, failed: Failed::new() }
    }

    /// In a process that is no fork of the program.
    pub(super) fn arrived(graph: Graph, ticket: Ticket) -> crate::Result<Station> {
        let process = ticket.process;
        let plan = Plan::attach(graph, ticket).map_err(crate::Error::other)?;
        Ok(Station::new(Arc::new(plan), process))
    }

    pub(super) fn set_up(&mut self) -> Result<(), Failed> {
        let executors: Vec<usize> = self.plan.executors_of(self.process).collect();
        let Some((main, others)) = executors.split_first() else { return Ok(()) };
        if let Some(alone) = self.plan.suspects(&executors) {
            let _ = self.plan.alone.set(alone); // Nobody else does.
        }
        self.main = Some(self.plan.executor(*main)?);
        self.threads = Some(Threads::start(&self.plan, others)?);
        Ok(())
    }

    /// Does its work.
    pub(super) fn run(&mut self) -> Told {
        let mut all = Told { failed: std::mem::take(&mut self.failed), spans: Vec::new() };
        if let Some((executor, failures)) = self.main.take() {
            all.add(fly(&self.plan, &executor, &failures));
        }
        all.add(self.threads.take().map(Threads::join).unwrap_or_default());
        all
    }
}

impl Station {
    /// The same in the program itself, while the other processes of the run are watched over: by
    /// this thread, if it has nothing else to do. `begin` lets all begin.
    pub(super) fn run_with(&mut self, processes: Processes, begin: impl FnOnce()) -> Told {
        let plan = self.plan.clone();
        if self.main.as_ref().is_none_or(|(executor, _)| executor.is_empty()) {
            begin();
            let mut told = supervise(&plan, processes);
            told.add(self.run());
            return told;
        }
        let supervisor =
            (!processes.handles.is_empty()).then(|| Supervisor::start(&plan, processes));
        begin();
        let mut told = self.run();
        told.add(supervisor.map(Supervisor::join).unwrap_or_default());
        told
    }

    /// The same in the program itself, for a run that has no thread to watch over its processes.
    pub(super) fn run_and_watch(&mut self, watch: Watch) -> Told {
        let watch = Rc::new(RefCell::new(watch));
        if let Some((executor, _)) = &self.main {
            let watch = watch.clone();
            let look = move || watch.borrow_mut().look_aside();
            executor.set_aside(Some(Box::new(look)));
        }
        self.plan.shared.advance(RUNNING);
        let executor = self.main.as_ref().map(|(executor, _)| executor.clone());
        let mut told = self.run();
        if let Some(executor) = executor {
            executor.set_aside(None);
        }
        if let Ok(watch) = Rc::try_unwrap(watch) {
            let mut watch = watch.into_inner();
            while watch.goes_on() {
                watch.look(Duration::from_millis(100));
            }
            told.add(watch.end());
        }
        told
    }
}

/// By hand, for the macro names this crate from outside.
impl Backend for Station {
    type Event = Told;

    const COMMANDS: &'static [&'static str] = &["run"];

    /// Where it cannot be set up it is ready all the same, and the run is being stopped: the failures
    /// travel in what it tells when it is to run.
    fn pre_run(&mut self, _ctx: &mut Context<Told>) -> crate::Result<()> {
        if let Err(failed) = self.set_up() {
            if let Some((worker, _)) = failed.first() {
                self.plan.shared.fail(*worker);
            }
            self.plan.shared.advance(STOPPING);
            self.failed = failed;
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        command: &str,
        incoming: Incoming<'_>,
        ctx: &mut Context<Told>,
    ) -> Outcome {
        match command {
            "run" => match incoming.arguments::<()>() {
                Ok(()) => {
                    let told = self.run();
                    // It has nothing else to do, and need not be asked to leave.
                    ctx.stop();
                    Outcome::result(ctx.emit(told))
                }
                Err(outcome) => outcome,
            },
            other => Outcome::unknown(other),
        }
    }
}
