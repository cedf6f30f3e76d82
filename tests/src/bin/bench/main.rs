//! Measures what the project promises, each thing beside what it is compared with, in one run.
//!
//! Two processes, each pinned to a processor. Where a cache line's way between the two matters,
//! the unit is the *line*: the round trip of one bare line, measured right before and after, since
//! absolute times move with the machine.

#![allow(clippy::disallowed_methods)] // Forks and starts programs to measure them.

#[allow(dead_code)] // What only compare needs.
mod beside;
mod broadcast;
mod call;
mod calls;
mod camera;
mod cells;
mod crowd;
mod curve;
mod flow;
mod large;
mod line;
mod pair;
mod queue;
mod ring;
mod rings;
mod slots;
mod start;
mod stats;
mod stream;
mod tells;
mod wake;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures rings, calls, starts and the camera.
#[derive(Parser)]
#[command(name = "bench", version, about)]
struct Arguments {
    /// What to measure; all of it if nothing is named.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..1000))]
    repetitions: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Round trips of records, spinning and sleeping.
    Ring,
    /// Round trips of cells, beside records of the same size.
    Cells,
    /// Round trips of a record, with up to 1000 rings in the segment.
    Rings,
    /// Items one way, records and cells, one by one and in batches.
    Stream,
    /// System calls for each item while nobody sleeps.
    Calls,
    /// Round trips while both sides sleep, beside a bare futex, a pipe and a socket pair.
    Wake,
    /// Latency and processor time of each way to wait, from a busy ring to an idle one.
    Curve,
    /// Processor time of a broadcast ring's producer, with up to 8 consumers.
    Broadcast,
    /// Round trips of blocks by handle.
    Block,
    /// 64 KiB, 1 MiB and a frame one way, beside bare shared pages.
    Large,
    /// Items through a queue, from one process to one and from many to many.
    Queue,
    /// Call and reply over the control channel, beside a bare socket pair.
    Call,
    /// Many commands without a reply, beside a bare socket pair.
    Tells,
    /// Each way to start, to the first handled message, beside a bare fork and a bare spawn.
    Start,
    /// Up to 1000 backends in one program: start, calls, events, memory.
    Crowd,
    /// Farms and pipelines of processes and threads, beside crossbeam-channel and rayon.
    Flow,
    /// The camera with workers, beside programs of one process.
    Camera,
}

fn main() -> ExitCode {
    msgproc::init();
    let arguments = Arguments::parse();
    if shmring::fault::ENABLED {
        eprintln!("bench: this build has fault points; build it without the feature `fault`");
        return ExitCode::from(2);
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build; use scripts/bench");
        return ExitCode::from(2);
    }
    stats::print_machine();
    let named = arguments.cases;
    let cases = if named.is_empty() { Case::value_variants().to_vec() } else { named };
    for case in cases {
        let result = match case {
            Case::Ring => ring::measure(arguments.repetitions),
            Case::Cells => cells::measure(arguments.repetitions),
            Case::Rings => rings::measure(arguments.repetitions),
            Case::Stream => stream::measure(arguments.repetitions),
            Case::Calls => calls::measure(arguments.repetitions),
            Case::Wake => wake::measure(arguments.repetitions),
            Case::Curve => curve::measure(arguments.repetitions),
            Case::Broadcast => broadcast::measure(arguments.repetitions),
            Case::Block => ring::measure_blocks(arguments.repetitions),
            Case::Large => large::measure(arguments.repetitions),
            Case::Queue => queue::measure(arguments.repetitions),
            Case::Call => call::measure(arguments.repetitions),
            Case::Tells => tells::measure(arguments.repetitions),
            Case::Start => start::measure(arguments.repetitions),
            Case::Crowd => crowd::measure(),
            Case::Flow => flow::measure(arguments.repetitions),
            Case::Camera => camera::measure(arguments.repetitions),
        };
        if let Err(error) = result {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
