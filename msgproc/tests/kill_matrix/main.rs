//! Who is killed, in which state of a backend, by each way to start: nothing is left a second
//! later. The table stands at the end of the output.
//!
//! A cell is how long it took until all that had to end was gone.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use msgproc::{StopOptions, prelude::*};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use serde::{Deserialize, Serialize};
use shmring::ring::records::Records;
use testkit::{Process, Test};

const WAYS: [Way; 4] = [Way::Fork, Way::Served, Way::Spawn, Way::Exec];
const STATES: [State; 6] = [
    State::Starting,
    State::Waiting,
    State::Sleeping,
    State::Spinning,
    State::Native,
    State::Leaving,
];
const VICTIMS: [Victim; 4] =
    [Victim::Frontend, Victim::Backend, Victim::Server, Victim::ServerThenFrontend];

/// A second, and some slack for a machine that does other things too.
const LIMIT: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Fork,
    Served,
    Spawn,
    Exec,
}

/// What the backend does when somebody is killed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum State {
    /// Its constructor takes long.
    Starting,
    /// It waits for a command.
    Waiting,
    /// A handler sleeps.
    Sleeping,
    /// A handler never ends.
    Spinning,
    /// A handler is in native code that has blocked all signals.
    Native,
    /// It was told to stop, and `post_run` takes long.
    Leaving,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Victim {
    Frontend,
    Backend,
    Server,
    ServerThenFrontend,
}

struct Patient(State);

#[backend]
impl Patient {
    fn post_run(&mut self, _ctx: &mut Context) {
        if self.0 == State::Leaving {
            sleep(PATIENCE);
        }
    }

    fn c__begin(&self) {
        match self.0 {
            State::Sleeping => sleep(PATIENCE),
            State::Spinning => loop {
                std::hint::spin_loop();
            },
            State::Native => {
                pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
                sleep(PATIENCE);
            }
            State::Starting | State::Waiting | State::Leaving => {}
        }
    }
}

impl Patient {
    fn new(state: State, _: &Start) -> Patient {
        if state == State::Starting {
            sleep(PATIENCE);
        }
        Patient(state)
    }
}

fn main() -> ExitCode {
    msgproc::init();
    if msgproc::worker::is_worker() {
        return msgproc::worker::run(Patient::new).unwrap();
    }
    // Each test runs in a process of its own, and all of them write here.
    let table = File::from(shmring::os::memfd("kill-matrix").unwrap());
    let mut tests = Vec::new();
    for (column, way) in WAYS.into_iter().enumerate() {
        for (row, (victim, state)) in rows().enumerate() {
            if !applies(victim, way) {
                continue;
            }
            let table = table.try_clone().unwrap();
            let name = format!("{victim:?}_killed_{state:?}_{way:?}").to_lowercase();
            let body = move || {
                let took = cell(victim, state, way);
                let at = ((row * WAYS.len() + column) * 8) as u64;
                table.write_all_at(&(took.as_micros() as u64).to_ne_bytes(), at).unwrap();
            };
            tests.push(Test::new(name, body));
        }
    }
    let code = testkit::run(tests);
    // Only a whole run, and not the listing of tests, has something to show.
    if std::env::args().len() == 1 {
        print(&table);
    }
    code
}

fn rows() -> impl Iterator<Item = (Victim, State)> {
    VICTIMS.into_iter().flat_map(|victim| STATES.map(|state| (victim, state)))
}

fn applies(victim: Victim, way: Way) -> bool {
    way == Way::Served || !matches!(victim, Victim::Server | Victim::ServerThenFrontend)
}

fn print(table: &File) {
    println!(
        "\n{:<32}{:>11}{:>11}{:>11}{:>11}",
        "killed, while the backend is", "fork", "server", "spawn", "exec"
    );
    for (row, (victim, state)) in rows().enumerate() {
        print!("{:<32}", format!("{victim:?}, {state:?}"));
        for (column, way) in WAYS.into_iter().enumerate() {
            let mut cell = [0; 8];
            let at = ((row * WAYS.len() + column) * 8) as u64;
            let took = table.read_exact_at(&mut cell, at).map_or(0, |()| u64::from_ne_bytes(cell));
            match (applies(victim, way), took) {
                (false, _) => print!("{:>11}", "-"),
                (true, 0) => print!("{:>11}", "FAILED"),
                (true, took) => print!("{:>8.1} ms", took as f64 / 1000.0),
            }
        }
        println!();
    }
}

/// Runs a frontend in a process of its own, kills, and waits until nothing is left that should not
/// be.
fn cell(victim: Victim, state: State, way: Way) -> Duration {
    let (mut reading, writing) = std::io::pipe().unwrap();
    let segment = testkit::name("matrix");
    let of_frontend = segment.clone();
    let frontend = testkit::forked(move || frontend(state, way, &of_frontend, writing));
    let frontend = Process::observe(frontend.as_raw() as u32).unwrap();
    // Pids of backend and server.
    let mut pids = [0; 8];
    reading.read_exact(&mut pids).unwrap();
    let pid = |at: usize| u32::from_ne_bytes(pids[at..at + 4].try_into().unwrap());
    let backend = Process::observe(pid(0)).unwrap();
    let server = Process::observe(pid(4));
    sleep(Duration::from_millis(20));

    let began = Instant::now();
    let (victims, goners): (&[Option<Process>], Vec<Process>) = match victim {
        Victim::Frontend => (
            &[Some(frontend)],
            [Some(frontend), Some(backend), server].into_iter().flatten().collect(),
        ),
        Victim::Backend => (&[Some(backend)], vec![backend]),
        Victim::Server => (&[server], server.into_iter().collect()),
        Victim::ServerThenFrontend => (
            &[server, Some(frontend)],
            [Some(frontend), Some(backend), server].into_iter().flatten().collect(),
        ),
    };
    for victim in victims.iter().flatten() {
        testkit::kill9(victim.pid());
    }
    let gone = || goners.iter().all(|process| !process.alive());
    assert!(testkit::wait_until(PATIENCE, gone), "one lives on");
    let took = began.elapsed();
    assert!(took < LIMIT, "took {took:?}");

    match victim {
        // The name of the segment goes with the last backend, unless that was stuck.
        Victim::Frontend | Victim::ServerThenFrontend => {
            let path = format!("/dev/shm/shmring.{segment}.ring");
            for stale in shmring::cleanup::stale().unwrap() {
                if stale.name == segment {
                    stale.remove().unwrap();
                }
            }
            assert!(!fs::exists(&path).unwrap(), "the segment is in use");
        }
        Victim::Backend | Victim::Server => {
            if victim == Victim::Server {
                assert!(backend.alive(), "a backend outlives its server");
            }
            // The frontend notices, and ends all in order.
            let ended = || !frontend.alive();
            assert!(testkit::wait_until(PATIENCE, ended), "the frontend hangs");
            let gone = || !backend.alive() && server.is_none_or(|server| !server.alive());
            assert!(testkit::wait_until(LIMIT, gone), "something is left of it");
        }
    }
    took
}

/// Starts a backend, tells its pid, and ends in order when it or its server is gone.
fn frontend(state: State, way: Way, segment: &str, mut pids: std::io::PipeWriter) {
    let _ring = Records::options().capacity(4096).create(segment).unwrap();
    let server = (way == Way::Served).then(|| ForkServer::start().unwrap());
    let short = Duration::from_millis(20);
    let stop = StopOptions::default().graceful(short).urgent(short).terminate(short);
    let options = MessageProcess::options("patient")
        .stop_timeouts(stop)
        .die_with_frontend_at_once(state == State::Native);
    let starting = options
        .begin(|options| match &server {
            Some(server) => options.fork_from(server, state, Patient::new),
            None => match way {
                Way::Spawn => options.spawn(state, Patient::new),
                Way::Exec => options.exec(Program::new("/proc/self/exe"), state),
                _ => options.fork(move |start: &Start| Patient::new(state, start)),
            },
        })
        .unwrap();
    let pid = starting.pid();
    // One that is still in its constructor is never waited for.
    let (process, starting) = match state {
        State::Starting => (None, Some(starting)),
        _ => (Some(starting.wait().unwrap()), None),
    };
    if let Some(process) = &process {
        process.begin().tell().unwrap();
        if state == State::Leaving {
            process.request_stop().unwrap();
        }
    }
    let of_server = server.as_ref().map_or(0, ForkServer::pid);
    pids.write_all(&[pid.to_ne_bytes(), of_server.to_ne_bytes()].concat()).unwrap();
    let lives = || testkit::alive(pid) && server.as_ref().is_none_or(ForkServer::is_alive);
    testkit::wait_until(PATIENCE, || !lives());
    drop((process, starting));
}
