//! Measures what the project promises, each thing beside what it is compared with, in one run.
//!
//! Two processes, each pinned to a processor. Where a cache line's way between the two matters,
//! the unit is the *line*: the round trip of one bare line, measured right before and after, since
//! absolute times move with the machine.

#![allow(clippy::disallowed_methods)] // Forks and starts programs to measure them.

mod call;
mod camera;
mod line;
mod pair;
mod queue;
mod ring;
mod start;
mod stats;

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
    /// Round trips of blocks by handle.
    Block,
    /// Items through a queue, from one process to one and from many to many.
    Queue,
    /// Call and reply over the control channel, beside a bare socket pair.
    Call,
    /// Fork to the first handled message, beside a bare fork.
    Start,
    /// The camera with workers, beside programs of one process.
    Camera,
}

fn main() -> ExitCode {
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
    let all = [Case::Ring, Case::Block, Case::Queue, Case::Call, Case::Start, Case::Camera];
    let cases = if arguments.cases.is_empty() { all.to_vec() } else { arguments.cases };
    for case in cases {
        let result = match case {
            Case::Ring => ring::measure(arguments.repetitions),
            Case::Block => ring::measure_blocks(arguments.repetitions),
            Case::Queue => queue::measure(arguments.repetitions),
            Case::Call => call::measure(arguments.repetitions),
            Case::Start => start::measure(arguments.repetitions),
            Case::Camera => camera::measure(arguments.repetitions),
        };
        if let Err(error) = result {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
