//! The command line.

use std::path::{Path, PathBuf};

use clap::Parser;
use examples::outputs;

use crate::place::Place;

/// Read heart rate and band powers from the recording of a pulse wave.
///
/// A graph that stands in a file does it: band-pass, windows, spectra, and the vital signs of each
/// window. Without arguments it reads the recording that comes with the examples.
#[derive(Debug, Parser)]
#[command(
    name = "biosignal",
    version,
    after_help = "A recording is CSV with the columns `timer`, in milliseconds, and `hr`.\n\n\
        Node types of a graph file, with their settings:\n  \
        Recording  file, chunk (samples)           sends chunks\n  \
        BandPass   low, high (Hz), order           chunks in, filtered samples out\n  \
        Windows    length, hop (s)                 filtered samples in, windows out\n  \
        Spectra                                    windows in, spectra out\n  \
        Meter      slowest, fastest (beats/min),\n             \
        respiration, cardiac (low, high)  spectra in, vitals out\n  \
        Vitals                                     what is printed at the end\n\n\
        Examples:\n  \
        biosignal --csv vitals.csv --plot vitals.svg\n  \
        biosignal --place processes --verify\n  \
        biosignal --place mixed --print-graph > mine.yaml; biosignal --graph mine.yaml\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Args {
    /// The recording; otherwise the one that the graph names, or the one that comes with the
    /// examples
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) input: Option<PathBuf>,

    /// The graph, as YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) graph: Option<PathBuf>,

    /// Where the nodes compute, whatever the graph says
    #[arg(long, value_name = "WHERE")]
    pub(crate) place: Option<Place>,

    /// Write the vital signs as CSV to FILE, or to standard output for -
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Draw heart rate and powers over time into FILE, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,

    /// Draw the graph with what each node has done into FILE, for Graphviz
    #[arg(long, value_name = "FILE.dot")]
    pub(crate) dot: Option<PathBuf>,

    /// The same for Mermaid
    #[arg(long, value_name = "FILE.mmd")]
    pub(crate) mermaid: Option<PathBuf>,

    /// Also run the same steps in a plain loop, and compare every bit
    #[arg(long)]
    pub(crate) verify: bool,

    /// Print the graph as it would be run, as YAML, and do nothing
    #[arg(long)]
    pub(crate) print_graph: bool,
}

impl Args {
    /// Whether the CSV goes to standard output, which is then for nothing else.
    pub(crate) fn csv_on_stdout(&self) -> bool {
        self.csv.as_deref() == Some(Path::new("-"))
    }

    /// Whether each output is a file of its own, and none is what is read.
    pub(crate) fn check_outputs(&self) -> Result<(), String> {
        let outputs = [
            ("--csv", self.csv.as_deref().filter(|_| !self.csv_on_stdout())),
            ("--plot", self.plot.as_deref()),
            ("--dot", self.dot.as_deref()),
            ("--mermaid", self.mermaid.as_deref()),
        ];
        outputs::check(self.input.as_deref().into_iter().chain(self.graph.as_deref()), &outputs)
    }
}
