//! Measures a camera's Motion-JPEG stream, or a directory of pictures: the
//! brightness, edges and motion of every frame.
//!
//! The frontend takes the input apart into records ([`source`]). They are decoded
//! and measured in this process ([`engine`]), or by workers ([`crew`], [`worker`])
//! that get them through shared memory ([`room`]). The collector takes the results
//! in order ([`collect`]) and writes what was asked for.

#![deny(unsafe_code)]

mod cli;
mod collect;
mod crew;
mod engine;
mod failure;
mod order;
mod output;
mod plot;
mod progress;
mod room;
mod source;
mod stop;
mod summary;
mod wait;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use cli::Args;
use collect::{Collector, Counts};
use engine::Work;
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
    let mut source = Source::open(args)?;
    let (work, counts, elapsed) = match args.workers {
        0 => measured(args, &mut source, |source, sink| engine::run(source, sink, &stop)),
        n => measured(args, &mut source, |source, sink| crew::run(source, sink, n, &stop)),
    }?;
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

/// Takes what `work` makes of the source.
fn measured<P: AsRef<[u8]>>(
    args: &Args,
    source: &mut Source,
    work: impl FnOnce(&mut Source, &mut Collector<P>) -> Result<Work, Failure>,
) -> Result<(Work, Counts, Duration), Failure> {
    let mut collector = Collector::new(args, source.total())?;
    let start = Instant::now();
    let work = work(source, &mut collector);
    let elapsed = start.elapsed();
    // What is done so far is written out whatever ended the run.
    let counts = collector.finish();
    Ok((work?, counts?, elapsed))
}
