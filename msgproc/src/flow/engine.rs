//! The run: processes, threads and the workers in them, from start to end. README.md has the order
//! in which things start and stop.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use shmring::board::Board;

use super::{
    circle::Circle,
    edge::Callees,
    error::{Death, Error, Failure, FailureKind, Result},
    graph::{Graph, Site},
    layout::{Layout, PlannedWorker},
    memory::Memory,
    node::Cause,
    plan::{DRAINING, Executor, RUNNING, STOPPING, Shared, lane, worker},
    report::Report,
    trace::{self, Named, Notes, Span},
    worker::Failures,
};
use crate::{
    Backend, Context, Exit, ForkServer, Incoming, Manager, MessageProcess, Options, Outcome, Start,
    manager::{Happening, ProcessId},
};

/// All that a process of a run needs; a forked one has a copy.
struct Plan {
    graph: Graph,
    layout: Layout,
    shared: Shared,
    /// Whether there are as many processors as threads, so that they may spin.
    spins: bool,
    /// Keeps the segment of lanes and board.
    memory: Memory,
}

type Failed = Vec<(usize, Failure)>;

/// What a thread or a process tells at its end.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    failed: Failed,
    spans: Vec<Span>,
}

impl Told {
    fn failure(failure: Failure) -> Told {
        Told { failed: vec![(0, failure)], spans: Vec::new() }
    }

    fn add(&mut self, other: Told) {
        self.failed.extend(other.failed);
        self.spans.extend(other.spans);
    }
}

impl Plan {
    fn new(graph: Graph) -> Result<Plan> {
        let layout = Layout::of(&graph)?;
        let lanes: usize = graph
            .edges
            .iter()
            .zip(&layout.edges)
            .map(|(edge, plan)| (edge.edge.options().bytes + 1024) * plan.lanes.len())
            .sum();
        let board = Board::options().words(layout.counts.words()).bells(layout.executors.len());
        let needed = board.len_in_segment().map_err(Error::start("make room for the run"))?;
        let memory = match &graph.memory {
            Some(memory) => memory.clone(),
            // A ring is rounded up to a power of two.
            None => Memory::for_lanes(2 * lanes + needed + 4096)
                .map_err(Error::start("make memory for the run"))?,
        };
        let board =
            board.create_in(memory.segment()).map_err(Error::start("make the board of the run"))?;
        for (edge, plan) in graph.edges.iter().zip(&layout.edges) {
            edge.edge.open(plan.clone(), Some(memory.segment()))?;
        }
        let shared = Shared::new(
            board,
            layout.counts,
            &layout.circles,
            memory.pool().map(|pool| pool.capacity()),
        );
        (0..layout.circles.len()).for_each(|number| Circle::new(&shared, number).open());
        graph.doors.iter().for_each(|door| door.open(&shared));
        let at_work = (0..layout.executors.len())
            .filter(|number| layout.workers.iter().any(|worker| worker.executor == *number));
        let spins =
            thread::available_parallelism().is_ok_and(|cores| cores.get() >= at_work.count());
        Ok(Plan { graph, layout, shared, spins, memory })
    }

    /// Makes the workers of one thread.
    fn executor(
        &self,
        number: usize,
        restarts: &dyn Fn(usize) -> u32,
    ) -> Result<(Rc<Executor>, Failures), Failed> {
        let failures: Failures = Rc::new(RefCell::new(Vec::new()));
        let executor =
            Executor::new(self.shared.clone(), number, self.spins, self.graph.trace.is_some());
        let executor = executor.map_err(|error| {
            let kind = FailureKind::Init;
            vec![(0, Failure::new("the run", 0, None, kind, error.into()))]
        })?;
        let mut callees = Callees::default();
        let Layout { workers, first_worker, order, .. } = &self.layout;
        for (rank, node) in order.iter().enumerate() {
            // What only takes things in stands below all nodes.
            let rank = rank + 1;
            let here = workers.iter().filter(|each| each.node == *node && each.executor == number);
            for planned in here {
                let worker = first_worker[*node] + planned.index;
                let mut site = Site {
                    nodes: &self.graph.nodes,
                    edges: &self.graph.edges,
                    node: *node,
                    first_worker: first_worker[*node],
                    first_out: planned.first_out,
                    inherits: planned.inherits,
                    survives: planned.survives,
                    circle: planned.circle,
                    rank,
                    restarts: restarts(worker),
                    executor: &executor,
                    failures: &failures,
                    callees: &mut callees,
                };
                let made = (self.graph.nodes[*node].make)(&mut site, planned.index);
                let made = made.map_err(|failure| {
                    executor.release();
                    self.shared.fail(worker);
                    vec![(worker, *failure)]
                })?;
                executor.add(rank, made);
            }
        }
        Ok((executor, failures))
    }

    /// How a process of the run is started.
    fn options(&self, process: usize) -> Options<Station> {
        let workers = || self.layout.workers_of(process).map(|(_, worker)| worker);
        let name = match workers().next() {
            Some(worker) => {
                let node = &self.graph.nodes[worker.node];
                match node.workers {
                    1 => node.name.clone(),
                    _ => format!("{}-{}", node.name, worker.index),
                }
            }
            None => format!("{}-{process}", self.graph.name),
        };
        let cpus: Vec<usize> =
            workers().flat_map(|each| self.graph.nodes[each.node].cpus.clone()).collect();
        let options = MessageProcess::options(&name);
        if cpus.is_empty() { options } else { options.cpus(cpus) }
    }

    /// Its workers, for those who look at a trace.
    fn named_workers(&self) -> Vec<Named> {
        let named = |worker: &PlannedWorker| Named {
            process: self.layout.executors[worker.executor].process,
            name: format!("{} {}", self.graph.nodes[worker.node].name, worker.index),
        };
        self.layout.workers.iter().map(named).collect()
    }

    /// Whether all workers of a process have ended.
    fn has_ended(&self, process: usize) -> bool {
        let ended = |number| self.shared.of_worker(number, worker::STATE) == worker::ENDED;
        self.layout.workers_of(process).all(|(number, _)| ended(number))
    }

    /// Tells of a death whoever wants to know. Gives whether the process is to be missed.
    fn tell_death(&self, process: usize, exit: &Exit) -> Result<bool, Box<(usize, Failure)>> {
        let survivor = self.layout.workers_of(process).find(|(_, worker)| worker.survives);
        let (Some(told), Some((number, planned))) = (&self.graph.on_death, survivor) else {
            return Ok(true);
        };
        if self.shared.phase() >= STOPPING {
            return Ok(true);
        }
        let word = |word| self.shared.of_worker(number, word);
        let lane = word(worker::LANE).checked_sub(1).filter(|lane| lane + 1 != worker::ENDING);
        // The words of a message stay until the next one comes.
        let next = |lane: u64| self.shared.board().load(lane as usize + lane::NEXT);
        let at_one = lane.is_some_and(|lane| next(lane) <= word(worker::MESSAGE));
        let (item, begun) = (word(worker::ITEM), word(worker::ITEM) & worker::CHARGED == 0);
        let at_one = at_one && begun;
        let at = worker::moment(lane.unwrap_or(0), word(worker::MESSAGE), item);
        let before = if word(worker::CRASHED_AT) == at { word(worker::CRASHES) } else { 0 };
        let PlannedWorker { node, index, .. } = *planned;
        let node = &self.graph.nodes[node].name;
        let death = Death {
            node: node.clone(),
            worker: index,
            item: at_one.then(|| word(worker::FIRST) + item),
            times: if at_one { before + 1 } else { 0 },
            exit: exit.clone(),
        };
        told(&death).map_err(|cause| {
            self.shared.fail(number);
            Box::new((number, Failure::new(node, index, death.item, FailureKind::Died, cause)))
        })
    }

    fn executors_of(&self, process: usize) -> impl Iterator<Item = usize> {
        let executors = self.layout.executors.iter().enumerate();
        executors.filter(move |(_, at)| at.process == process).map(|(number, _)| number)
    }
}

/// The plans of runs whose processes may have to be replaced. A fork server that is a copy of the
/// program has them in its memory, and a fork of that finds its own here.
static PLANS: Mutex<Vec<(u64, Weak<Plan>)>> = Mutex::new(Vec::new());

/// Keeps a plan where replacements find it. Gives its number.
fn keep_plan(plan: &Arc<Plan>) -> u64 {
    let mut plans = lock(&PLANS);
    plans.retain(|(_, plan)| plan.strong_count() > 0);
    let number = plans.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    plans.push((number, Arc::downgrade(plan)));
    number
}

fn kept_plan(number: u64) -> Option<Arc<Plan>> {
    let plans = lock(&PLANS);
    plans.iter().find(|(known, _)| *known == number).and_then(|(_, plan)| plan.upgrade())
}

/// Where replacements of processes that died come from.
enum Spares {
    /// A copy of the program, that has the plan under this number.
    Copy { server: ForkServer, plan: u64 },
    /// The program itself, which has no other thread.
    Program,
}

impl Spares {
    /// `None` where no process is to be replaced.
    fn prepare(plan: &Arc<Plan>) -> crate::Result<Option<Spares>> {
        if !plan.layout.workers.iter().any(|worker| worker.survives) {
            return Ok(None);
        }
        if plan.graph.watches_itself {
            return Ok(Some(Spares::Program));
        }
        let number = keep_plan(plan);
        let server = ForkServer::copy_of_this(&format!("{}-spares", plan.graph.name))?;
        Ok(Some(Spares::Copy { server, plan: number }))
    }

    fn start(&self, plan: &Arc<Plan>, process: usize) -> crate::Result<MessageProcess<Station>> {
        let make = |(number, process): (u64, usize), _: &Start| -> crate::Result<Station> {
            let plan = kept_plan(number).ok_or_else(|| crate::Error::other("its run is gone"))?;
            Ok(Station::new(plan, process))
        };
        let options = plan.options(process);
        match self {
            Spares::Copy { server, plan } => options.fork_from_copy(server, (*plan, process), make),
            Spares::Program => {
                let plan = plan.clone();
                options.fork(move |_| Station::new(plan.clone(), process))
            }
        }
    }
}

/// Runs one thread of a run, from setting it up to its end.
fn run_thread(plan: &Plan, number: usize, ready: Sender<Result<(), Failed>>) -> Told {
    match plan.executor(number, &|_| 0) {
        Err(failed) => {
            let _ = ready.send(Err(failed));
            Told::default()
        }
        Ok((executor, failures)) => {
            let _ = ready.send(Ok(()));
            drop(ready); // Whoever waits for all threads sees that this one is done with it.
            if executor.wait_for_begin() {
                executor.run();
            }
            told(&executor, &failures)
        }
    }
}

/// What a thread has to tell.
fn told(executor: &Executor, failures: &Failures) -> Told {
    let spans = executor.notes.as_ref().map(Notes::take).unwrap_or_default();
    Told { failed: failures.take(), spans }
}

/// The threads of one process but its main one.
struct Threads {
    handles: Vec<JoinHandle<Told>>,
}

impl Threads {
    /// Starts them, and waits until all are set up.
    fn start(plan: &Arc<Plan>, executors: &[usize]) -> Result<Threads, Failed> {
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

    fn join(self) -> Told {
        let mut told = Told::default();
        for handle in self.handles {
            told.add(handle.join().unwrap_or_else(|panic| {
                Told::failure(Failure::panicked("the run", 0, None, FailureKind::Panic, &*panic))
            }));
        }
        told
    }
}

/// A process of a run, in itself.
struct Station {
    plan: Arc<Plan>,
    process: usize,
    main: Option<(Rc<Executor>, Failures)>,
    threads: Option<Threads>,
}

impl Station {
    fn new(plan: Arc<Plan>, process: usize) -> Station {
        Station { plan, process, main: None, threads: None }
    }

    fn set_up(&mut self) -> Result<(), Failed> {
        let executors: Vec<usize> = self.plan.executors_of(self.process).collect();
        let Some((main, others)) = executors.split_first() else { return Ok(()) };
        let shared = self.plan.shared.clone();
        let restarts = move |number| shared.of_worker(number, worker::RESTARTS) as u32;
        self.main = Some(self.plan.executor(*main, &restarts)?);
        self.threads = Some(Threads::start(&self.plan, others)?);
        Ok(())
    }

    /// Does its work.
    fn run(&mut self) -> Told {
        let mut all = Told::default();
        if let Some((executor, failures)) = self.main.take() {
            if executor.wait_for_begin() {
                executor.run();
            }
            all.add(told(&executor, &failures));
        }
        all.add(self.threads.take().map(Threads::join).unwrap_or_default());
        all
    }
}

impl Station {
    /// The same in the program itself, for a run that has no thread to watch over its processes.
    fn run_and_watch(&mut self, watch: Watch) -> Told {
        let watch = Rc::new(RefCell::new(watch));
        if let Some((executor, _)) = &self.main {
            let watch = watch.clone();
            let look = move || {
                let mut watch = watch.borrow_mut();
                while watch.goes_on() && watch.look(Duration::ZERO) {}
            };
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

    fn pre_run(&mut self, _ctx: &mut Context<Told>) -> crate::Result<()> {
        self.set_up().map_err(|failed| match failed.into_iter().next() {
            Some((_, failure)) => crate::Error::other(failure),
            None => crate::Error::other("its threads could not be set up"),
        })
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
                    Outcome::result(ctx.emit(told))
                }
                Err(outcome) => outcome,
            },
            other => Outcome::unknown(other),
        }
    }
}

impl Graph {
    /// Runs it: from here on until all nodes have ended. Nodes that are placed
    /// [`Same`](super::Same) run in the thread that calls this.
    ///
    /// # Errors
    ///
    /// [`Error`]: that of the first node that failed.
    pub fn run(self) -> Result<Report> {
        let started = Started::new(self)?;
        started.run()
    }

    /// Starts it, and gives a handle of what runs. Nodes that are placed [`Same`](super::Same) run
    /// in one thread.
    ///
    /// # Errors
    ///
    /// [`Error`] when it cannot begin.
    pub fn start(self) -> Result<Running> {
        Running::new(Started::new(self)?)
    }
}

/// A run whose processes have been started and are set up.
struct Started {
    plan: Arc<Plan>,
    processes: Processes,
    began: Instant,
}

/// Those of a run, by number, and where others come from.
struct Processes {
    handles: Vec<(usize, MessageProcess<Station>)>,
    spares: Option<Spares>,
}

impl Started {
    fn new(graph: Graph) -> Result<Started> {
        let plan = Arc::new(Plan::new(graph)?);
        let began = Instant::now();
        let mut starting = Vec::new();
        let spares = Spares::prepare(&plan).map_err(start_failed)?;
        for process in 1..plan.layout.processes {
            let copy = plan.clone();
            let options = plan.options(process);
            let begun =
                options.begin(|options| options.fork(move |_| Station::new(copy.clone(), process)));
            match begun {
                Ok(begun) => starting.push((process, begun)),
                Err(error) => {
                    plan.shared.advance(STOPPING);
                    return Err(start_failed(error));
                }
            }
        }
        let mut processes = Vec::new();
        let mut failed = None;
        for (process, begun) in starting {
            match begun.wait() {
                Ok(ready) => processes.push((process, ready)),
                Err(error) => {
                    plan.shared.advance(STOPPING);
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) => Err(start_failed(error)),
            None => {
                Ok(Started { plan, processes: Processes { handles: processes, spares }, began })
            }
        }
    }

    /// Runs it in this thread and others.
    fn run(self) -> Result<Report> {
        let Started { plan, processes, began } = self;
        let mut local = Station::new(plan.clone(), 0);
        if let Err(failed) = local.set_up() {
            return Err(first_failure(&plan, failed).unwrap_or(Error::Stopped));
        }
        if plan.graph.watches_itself {
            let told = local.run_and_watch(Watch::new(&plan, processes));
            return finish(&plan, told, began);
        }
        let supervisor =
            (!processes.handles.is_empty()).then(|| Supervisor::start(&plan, processes));
        plan.shared.advance(RUNNING);
        let mut told = local.run();
        if let Some(supervisor) = supervisor {
            told.add(supervisor.join());
        }
        finish(&plan, told, began)
    }
}

fn finish(plan: &Plan, told: Told, began: Instant) -> Result<Report> {
    if plan.shared.phase() == STOPPING {
        plan.memory.segment().repair();
        plan.graph.edges.iter().for_each(|edge| edge.edge.clear());
    }
    let Told { failed, spans } = told;
    if let Some(path) = &plan.graph.trace {
        let written = trace::write(path, &plan.named_workers(), &spans);
        let what = || format!("write a trace to {}", path.display());
        written.map_err(|error| Error::start(what())(error))?;
    }
    if let Some(error) = first_failure(plan, failed) {
        return Err(error);
    }
    if plan.shared.phase() == STOPPING {
        return Err(Error::Stopped);
    }
    Ok(report(plan, began.elapsed()))
}

fn report(plan: &Plan, elapsed: Duration) -> Report {
    Report::read(&plan.graph, &plan.layout, &plan.shared, &plan.memory, elapsed)
}

/// The failure that came first, where that is known.
fn first_failure(plan: &Plan, mut failed: Failed) -> Option<Error> {
    let first = plan.shared.failed();
    let at = failed.iter().position(|(worker, _)| Some(*worker) == first).unwrap_or(0);
    (at < failed.len()).then(|| failed.swap_remove(at).1.into())
}

fn start_failed(error: crate::Error) -> Error {
    Error::start("start its processes")(error)
}

/// Watches the processes of a run.
struct Supervisor(JoinHandle<Told>);

impl Supervisor {
    fn start(plan: &Arc<Plan>, processes: Processes) -> Supervisor {
        let plan = plan.clone();
        let body = move || supervise(&plan, processes);
        Supervisor(thread::spawn(body))
    }

    fn join(self) -> Told {
        self.0.join().unwrap_or_else(|panic| {
            Told::failure(Failure::panicked("the run", 0, None, FailureKind::Panic, &*panic))
        })
    }
}

/// How long processes may take to end by themselves once the run is stopped.
const GRACE: Duration = Duration::from_secs(2);

fn supervise(plan: &Arc<Plan>, processes: Processes) -> Told {
    let mut watch = Watch::new(plan, processes);
    while watch.goes_on() {
        watch.look(Duration::from_millis(100));
    }
    watch.end()
}

/// What there is to watch over.
struct Watch {
    plan: Arc<Plan>,
    /// `None` if it could not be had.
    manager: Option<Manager<Station>>,
    spares: Option<Spares>,
    at_work: HashMap<ProcessId, usize>,
    in_vain: InVain,
    stopping: Option<Instant>,
    told: Told,
}

impl Watch {
    fn new(plan: &Arc<Plan>, processes: Processes) -> Watch {
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
    fn cannot(&mut self, error: impl Into<Cause>) {
        let kind = FailureKind::Died;
        self.told.failed.push((0, Failure::new("the run", 0, None, kind, error.into())));
        self.plan.shared.advance(STOPPING);
    }

    fn set_to_work(&mut self, process: usize, handle: MessageProcess<Station>) {
        let Some(manager) = &mut self.manager else { return };
        match set_to_work(manager, handle) {
            Ok(id) => drop(self.at_work.insert(id, process)),
            Err(error) => self.cannot(error),
        }
    }

    fn goes_on(&mut self) -> bool {
        if self.plan.shared.phase() == STOPPING {
            let since = *self.stopping.get_or_insert_with(Instant::now);
            if since.elapsed() > GRACE {
                return false;
            }
        }
        self.manager.is_some() && !self.at_work.is_empty()
    }

    /// Waits so long at most for something to happen, and sees to it. Tells whether it did.
    fn look(&mut self, timeout: Duration) -> bool {
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
                if let Some(process) = manager.process(id) {
                    let _ = process.request_stop();
                }
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

    fn ended(&mut self, process: usize, exit: Exit) {
        let plan = self.plan.clone();
        if plan.has_ended(process) {
            return; // It was only not heard any more.
        }
        match plan.tell_death(process, &exit) {
            Ok(true) => {}
            Ok(false) => return,
            Err(failed) => return self.told.failed.push(*failed),
        }
        let Some(manager) = &mut self.manager else { return };
        // The new one may be killed as well, before it is at work.
        let begun = loop {
            let may = self.in_vain.may_go_on(&plan, process);
            let begun = replace(&plan, process, self.spares.as_ref().filter(|_| may))
                .map(|begun| begun.and_then(|handle| set_to_work(manager, handle)));
            match begun {
                Some(Err(crate::Error::PeerDied { .. })) => {}
                begun => break begun,
            }
        };
        match begun {
            Some(Ok(id)) => drop(self.at_work.insert(id, process)),
            Some(Err(error)) => self.cannot(error),
            None => self.told.failed.push(died(&plan, process, &exit)),
        }
    }

    fn end(self) -> Told {
        drop(self.manager.map(|mut manager| manager.stop()));
        self.told
    }
}

fn set_to_work(
    manager: &mut Manager<Station>,
    process: MessageProcess<Station>,
) -> crate::Result<ProcessId> {
    process.call::<_, ()>("run", ()).tell()?;
    manager.add(process)
}

/// How often processes were replaced in a row without having done anything: one that dies again
/// and again, whatever it is at, is not replaced for ever.
#[derive(Default)]
struct InVain(HashMap<usize, (u64, u32)>);

impl InVain {
    const MOST: u32 = 100;

    fn may_go_on(&mut self, plan: &Plan, process: usize) -> bool {
        let items = |number| {
            plan.shared.of_worker(number, worker::ITEMS_IN)
                + plan.shared.of_worker(number, worker::ITEMS_OUT)
        };
        let done = plan.layout.workers_of(process).map(|(number, _)| items(number)).sum();
        let (before, times) = self.0.entry(process).or_insert((done, 0));
        *times = if *before == done { *times + 1 } else { 1 };
        *before = done;
        *times <= InVain::MOST
    }
}

/// Starts another process for one that died, if that is said of its worker.
fn replace(
    plan: &Arc<Plan>,
    process: usize,
    spares: Option<&Spares>,
) -> Option<crate::Result<MessageProcess<Station>>> {
    let (number, worker) = plan.layout.workers_of(process).next()?;
    let spares = spares.filter(|_| worker.survives)?;
    if plan.shared.phase() >= STOPPING {
        return None;
    }
    plan.shared.count_restart(number);
    // What the dead one held is free again before others wait for it.
    plan.memory.segment().repair();
    Some(spares.start(plan, process))
}

/// A process died that was at work.
fn died(plan: &Plan, process: usize, exit: &Exit) -> (usize, Failure) {
    let mut numbers = plan.layout.workers_of(process).map(|(number, _)| number);
    let ended = |number: &usize| plan.shared.of_worker(*number, worker::STATE) == worker::ENDED;
    let number = numbers.clone().find(|number| !ended(number)).or(numbers.next()).unwrap_or(0);
    plan.shared.fail(number);
    let planned = &plan.layout.workers[number];
    let name = &plan.graph.nodes[planned.node].name;
    let reason = format!("its process died: {exit}");
    (number, Failure::new(name, planned.index, None, FailureKind::Died, reason.into()))
}

/// A graph that runs. From [`Graph::start`].
///
/// Dropping it stops the run as [`Running::stop_now`] does.
pub struct Running {
    plan: Arc<Plan>,
    began: Instant,
    done: Arc<(Mutex<Option<Told>>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    fn new(started: Started) -> Result<Running> {
        let Started { plan, processes, began } = started;
        let done = Arc::new((Mutex::new(None::<Told>), Condvar::new()));
        let (ready, is_ready) = mpsc::channel();
        let (copy, other) = (plan.clone(), done.clone());
        let body = move || {
            let mut local = Station::new(copy.clone(), 0);
            let all = match local.set_up() {
                Ok(()) => {
                    let supervisor = (!processes.handles.is_empty())
                        .then(|| Supervisor::start(&copy, processes));
                    copy.shared.advance(RUNNING);
                    let _ = ready.send(Ok(()));
                    let mut all = local.run();
                    all.add(supervisor.map(Supervisor::join).unwrap_or_default());
                    all
                }
                Err(failed) => {
                    let _ = ready.send(Err(failed));
                    Told::default()
                }
            };
            copy.graph.shut();
            let (result, changed) = &*other;
            lock(result).get_or_insert_default().add(all);
            changed.notify_all();
        };
        let name = format!("{}-main", plan.graph.name);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(body)
            .map_err(Error::start("start a thread"))?;
        match is_ready.recv() {
            Ok(Err(failed)) => {
                let error = first_failure(&plan, failed).unwrap_or(Error::Stopped);
                let _ = thread.join();
                Err(error)
            }
            _ => Ok(Running { plan, began, done, thread: Some(thread) }),
        }
    }

    /// Stops sources, and lets what is on its way be finished.
    pub fn stop(&self) {
        self.plan.graph.drain();
        self.plan.shared.advance(DRAINING);
    }

    /// Stops everybody where they are: what is on its way is lost.
    pub fn stop_now(&self) {
        self.plan.shared.advance(STOPPING);
        self.plan.graph.shut();
    }

    /// Lets sources pause. What is on its way goes on.
    pub fn freeze(&self) {
        self.plan.shared.set_frozen(true);
    }

    /// Lets sources go on.
    pub fn thaw(&self) {
        self.plan.shared.set_frozen(false);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.done.0).is_some()
    }

    /// What has been done up to now.
    pub fn report(&self) -> Report {
        report(&self.plan, self.began.elapsed())
    }

    /// Waits until all nodes have ended.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`].
    pub fn wait(mut self) -> Result<Report> {
        self.join()
    }

    fn join(&mut self) -> Result<Report> {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let told = lock(&self.done.0).take().unwrap_or_default();
        finish(&self.plan, told, self.began)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop_now();
            let _ = self.join();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
