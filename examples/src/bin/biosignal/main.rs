//! Vital signs from the recording of a pulse wave, by a graph that stands in a file.
//!
//! The steps are those of [`examples::biosignal`]. [`steps`] makes node types of them, [`place`] says
//! where the nodes compute, and [`verify`] compares what comes out with a plain loop over the same
//! steps.

#![deny(unsafe_code)]

mod cli;
mod place;
mod steps;
mod verify;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use examples::biosignal::{csv, svg, table};
use msgproc::flow::file::GraphFile;

use cli::Args;
use steps::Steps;

/// Any error: its text says what was tried and what to do.
type Failure = Box<dyn std::error::Error>;

/// The graph that is run if no other is given.
const GRAPH: &str = include_str!("../../../data/biosignal.yaml");

fn main() -> ExitCode {
    // Processes may be started again from here.
    msgproc::init();
    let args = Args::parse();
    match biosignal(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let closed = failure.downcast_ref::<io::Error>();
            if closed.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            let _ = writeln!(io::stderr(), "biosignal: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn biosignal(args: &Args) -> Result<(), Failure> {
    if let Err(what) = args.check_outputs() {
        Args::command().error(clap::error::ErrorKind::ArgumentConflict, what).exit();
    }
    let mut file = match &args.graph {
        Some(path) => GraphFile::load(path)?,
        None => GraphFile::from_yaml(GRAPH)?,
    };
    steps::set_input(&mut file, args.input.as_deref())?;
    if let Some(place) = args.place {
        place.put(&mut file);
    }
    if args.print_graph {
        return Ok(say(&file.to_yaml())?);
    }
    let steps = Steps::default();
    let graph = steps.registry().check(file)?;
    let report = graph.run()?;
    let vitals = steps.take();

    let rows = csv(&vitals);
    match args.csv.as_deref() {
        Some(path) if path == Path::new("-") => say(&rows)?,
        Some(path) => write(path, &rows)?,
        None => {}
    }
    if let Some(path) = &args.plot {
        write(path, &svg(&vitals)?)?;
    }
    if let Some(path) = &args.dot {
        write(path, &report.to_dot())?;
    }
    if let Some(path) = &args.mermaid {
        write(path, &report.to_mermaid())?;
    }
    let mut summary = format!("{}\n{report}\n", table(&vitals));
    if args.verify {
        let checked = verify::verify(graph.file(), &vitals)?;
        summary += &format!("verified: {checked} windows, each bit as in a plain loop\n");
    }
    if args.csv_on_stdout() {
        // There is nobody left to tell if this fails.
        let _ = io::stderr().write_all(summary.as_bytes());
        return Ok(());
    }
    Ok(say(&summary)?)
}

/// Writes to standard output.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
