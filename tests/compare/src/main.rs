//! The same work over shmring and over what else moves data between processes, in one run.
//!
//! Each system moves messages of one length from one process to another, each process on its own
//! processor; rings between two threads are the lower bound. Payload is written by the sender and
//! read by the receiver, all of it or only its first word.

mod iceoryx;
mod ipc;
mod threads;

#[path = "../../src/bin/bench/beside/mod.rs"]
mod beside;
#[path = "../../src/bin/bench/line.rs"]
mod line;
#[allow(dead_code)] // What only bench needs.
#[path = "../../src/bin/bench/pair.rs"]
mod pair;
#[allow(dead_code)]
#[path = "../../src/bin/bench/stats.rs"]
mod stats;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::{
    beside::{bare, ours, pipes, system, work::Measure},
    pair::Result,
};

/// Measures shmring beside other ways between processes.
#[derive(Parser)]
#[command(name = "compare", version, about)]
struct Arguments {
    /// What to measure; all of it if nothing is named.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..1000))]
    repetitions: u32,
    /// Only systems with this in their name.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Round trips of 64 bytes, receivers spinning where they can.
    Trip,
    /// Round trips of 64 bytes, receivers asleep.
    Wake,
    /// 64 bytes one way, as fast as they go.
    Stream,
    /// 64 KiB, 1 MiB and a frame one way, written and read.
    Large,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    stats::print_machine();
    let all = [Case::Trip, Case::Wake, Case::Stream, Case::Large];
    let cases = if arguments.cases.is_empty() { all.to_vec() } else { arguments.cases };
    for case in cases {
        let measure = Measure { repetitions: arguments.repetitions, only: &arguments.only };
        if let Err(error) = run(case, &measure) {
            eprintln!("compare: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(case: Case, measure: &Measure<'_>) -> Result {
    match case {
        Case::Trip => {
            println!("\nRound trip of 64 B, written and read, spinning:");
            measure.trip::<ours::Records<64, { ours::SPIN }>>("shmring records", 20_000)?;
            measure.trip::<ours::Blocks<8>>("shmring blocks, head only", 20_000)?;
            measure.trip::<iceoryx::Polling>("iceoryx2 polling", 20_000)?;
            measure.trip::<threads::Rtrb>("rtrb, threads", 20_000)?;
            measure.trip::<threads::Crossbeam>("crossbeam-channel, threads", 20_000)?;
        }
        Case::Wake => {
            println!("\nRound trip of 64 B, written and read, asleep in between:");
            measure.trip::<ours::Records<64, { ours::PARK }>>("shmring records", 400)?;
            measure.trip::<bare::Futex>("a bare futex", 400)?;
            measure.trip::<iceoryx::Event>("iceoryx2 with its event", 400)?;
            measure.trip::<pipes::Pipe>("pipe", 400)?;
            measure.trip::<pipes::SocketPair>("socketpair", 400)?;
            measure.trip::<ipc::IpcChannel>("ipc-channel", 400)?;
        }
        Case::Stream => {
            println!("\n64 B one way, written and read:");
            measure.stream::<ours::Records<64, { ours::ADAPTIVE }>>("shmring records", 64)?;
            measure.stream::<ours::Batches>("shmring records, batches of 64", 64)?;
            measure.stream::<iceoryx::Polling>("iceoryx2 polling", 64)?;
            measure.stream::<pipes::Pipe>("pipe", 64)?;
            measure.stream::<pipes::SocketPair>("socketpair", 64)?;
            measure.stream::<ipc::IpcChannel>("ipc-channel", 64)?;
            measure.stream::<threads::Rtrb>("rtrb, threads", 64)?;
            measure.stream::<threads::Crossbeam>("crossbeam-channel, threads", 64)?;
        }
        Case::Large => {
            for (name, len) in
                [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("1080p RGB", 1920 * 1080 * 3)]
            {
                println!("\n{name} one way, written and read:");
                measure.stream::<bare::Pages<2>>("bare shared pages", len)?;
                measure.stream::<ours::Blocks<8>>("shmring blocks, 8", len)?;
                measure.stream::<iceoryx::Polling>("iceoryx2 polling", len)?;
                measure.stream::<pipes::SocketPair>("socketpair", len)?;
                measure.stream::<pipes::Pipe>("pipe", len)?;
            }
        }
    }
    Ok(())
}
