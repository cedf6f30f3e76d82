//! Measures a camera's Motion-JPEG stream, or a directory of pictures: the
//! brightness, edges and motion of every frame.
//!
//! The program takes the input apart into records ([`source`]), and sends them through a
//! graph ([`crew`]): workers, or this process itself, decode and measure them ([`engine`]).
//! The collector takes the results in order ([`collect`]) and writes what was asked for.
//! What is on its way is noted in between ([`desk`]).

#![deny(unsafe_code)]

mod cli;
mod collect;
mod crew;
mod desk;
mod engine;
mod failure;
mod output;
mod plot;
mod progress;
mod source;
mod stop;
mod summary;
mod wait;

use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Instant;

use clap::Parser;

use cli::Args;
use collect::Collector;
use failure::Failure;
use source::Source;
use stop::Stop;

fn main() -> ExitCode {
    let args = Args::parse();
    match camera(&args) {
        Ok(code) => code,
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(format_args!("{failure}"));
            ExitCode::from(failure.code())
        }
    }
}

fn camera(args: &Args) -> Result<ExitCode, Failure> {
    let stop = Stop::install()?;
    args.check_outputs().map_err(Failure::Usage)?;
    let source = Source::open(args)?;
    let collector = Collector::new(args, source.total())?;
    let start = Instant::now();
    let (desk, work) = crew::run(source, collector, args.workers, &stop);
    let elapsed = start.elapsed();
    let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
    // What is done so far is written out whatever ended the run.
    let counts = desk.sink().finish();
    let (work, counts, source) = (work?, counts?, desk.source());
    let signal = stop.signal();
    if counts.frames == 0 && signal.is_none() {
        return Err(source.nothing_found());
    }
    summary::print(args, &counts, &work, source, elapsed, signal)?;
    match signal {
        Some(signal) => Ok(ExitCode::from(128 + signal)),
        None if counts.broken == counts.frames => Err(Failure::Run(format!(
            "none of the {} frames of {} could be decoded",
            counts.frames,
            source.name()
        ))),
        None => Ok(ExitCode::SUCCESS),
    }
}
