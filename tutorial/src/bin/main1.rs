//! A manager and five workers, each with an array in shared memory.

use std::{
    collections::VecDeque,
    env, process,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::prelude::*;
use serde::{Deserialize, Serialize};
use shmring::array::SharedArray2;

// ANCHOR: worker
#[derive(Serialize, Deserialize)]
struct Ready;

struct Worker {
    array: SharedArray2<f64>,
    r: u32,
}

impl Worker {
    // Runs in the backend. The array has the name of the process.
    fn new(start: &Start) -> Result<Worker> {
        Ok(Worker { array: SharedArray2::open(&start.name)?, r: 0 })
    }
}

#[backend(event = Ready)]
impl Worker {
    fn c__work(&mut self, ctx: &mut Context<Ready>) -> Result<()> {
        self.r = self.r % 5 + 1;
        self.array.write()?.fill(self.r.into());
        let done = Instant::now() + Duration::from_secs(self.r.into());
        while Instant::now() < done {
            if ctx.is_stopping() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        ctx.emit(Ready)
    }
}
// ANCHOR_END: worker

// ANCHOR: start
type Arrays = Vec<SharedArray2<f64>>;

fn start() -> Result<(Manager<Worker>, Arrays)> {
    let mut arrays = Vec::new();
    let mut manager = Manager::new()?;
    for i in 1..=5 {
        let name = format!("shm-worker-{i}");
        arrays.push(SharedArray2::create(&name, (100, 100))?);
        manager.add(MessageProcess::fork(&name, Worker::new)?)?;
    }
    Ok((manager, arrays))
}
// ANCHOR_END: start

// ANCHOR: run
fn run(manager: &mut Manager<Worker>, arrays: &Arrays) -> Result<()> {
    let mut idle: VecDeque<_> = manager.iter().map(|(worker, _)| worker).collect();
    loop {
        // There is always work here. A real program looks whether there is any.
        while let Some(worker) = idle.pop_front() {
            manager[worker].work().tell()?;
        }
        match manager.next(Duration::from_secs(2))? {
            None => println!("still alive"),
            Some(Happening::Event { process, event: Ready }) => {
                let array = arrays[process.index()].read()?;
                let values: Vec<f64> = array.iter().take(5).copied().collect();
                println!("{} is ready: {values:?}", manager[process].name());
                idle.push_back(process);
            }
            Some(Happening::Failed { error, .. }) => return Err(error),
            Some(Happening::Ended { process, exit, .. }) => {
                return Err(format!("{} has ended: {exit}", manager[process].name()).into());
            }
            Some(Happening::Signal(_) | Happening::Stop) => break,
            Some(_) => {}
        }
    }
    println!("will exit asap");
    for (worker, exit) in manager.stop() {
        println!("{}: {}", manager[worker].name(), exit?);
    }
    Ok(())
}
// ANCHOR_END: run

// ANCHOR: main
fn run_here() -> Result<()> {
    let (mut manager, arrays) = start()?;
    manager.handle_signals()?;
    run(&mut manager, &arrays)
}

fn run_on_thread(time: Duration) -> Result<()> {
    let (manager, arrays) = start()?;
    let thread = manager.run_on_thread(move |manager| run(manager, &arrays))?;
    sleep(time);
    thread.stop();
    thread.join()
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] | ["main"] => run_here(),
        ["test"] => run_on_thread(Duration::from_secs(10)),
        ["test", seconds] => match seconds.parse().map(Duration::try_from_secs_f64) {
            Ok(Ok(time)) => run_on_thread(time),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("usage: main1 [main | test [SECONDS]]");
    process::exit(2);
}
// ANCHOR_END: main
