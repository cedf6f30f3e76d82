//! Measures a camera's Motion-JPEG stream, or a directory of pictures: the
//! brightness, edges and motion of every frame.
//!
//! The frontend takes the input apart into records ([`source`]), the engine has
//! them decoded and measured ([`engine`]), and the collector gets the results in
//! order ([`collect`]) and writes what was asked for.

#![deny(unsafe_code)]

mod cli;
mod collect;
mod engine;
mod failure;
mod output;
mod plot;
mod progress;
mod source;
mod stop;
mod summary;

use std::process::ExitCode;
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
    let mut source = Source::open(args, &stop)?;
    let mut collector = Collector::new(args, source.total())?;
    let start = Instant::now();
    let work = engine::run(&mut source, &mut collector, args.workers, &stop);
    let elapsed = start.elapsed();
    // What is done so far is written out whatever ended the run.
    let counts = collector.finish();
    let (work, counts) = (work?, counts?);
    let signal = stop.signal();
    if counts.frames == 0 && signal.is_none() {
        return Err(source.nothing_found());
    }
    summary::print(args, &counts, &work, &source, elapsed, signal)?;
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
