//! The command line.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::Parser;
use examples::outputs;

/// More workers than this are taken for a mistake.
const MOST_WORKERS: usize = 64;

/// Measure the brightness, edges and motion of every frame of a camera.
///
/// Reads a Motion-JPEG stream (JPEG images one after the other, as a USB camera
/// gives them) or a directory of pictures. Without arguments it measures the clip
/// that comes with the examples.
#[derive(Debug, Parser)]
#[command(
    name = "camera",
    version,
    after_help = "The CSV has a header and one line for each frame that could be decoded:\n  \
        frame        its number in the order of the input, from 0; broken frames count\n  \
        width,height in pixels\n  \
        mean_luma    mean of the luma, 0 to 255\n  \
        edge_mean    mean of the Sobel gradient, without the one-pixel border\n  \
        motion       mean absolute difference to the last frame that was decoded\n\n\
        Examples:\n  \
        camera --csv frames.csv --plot frames.svg\n  \
        camera --input pictures/ --edges edges/\n  \
        v4l2-ctl --stream-mmap --stream-to=- | camera --input - --csv -\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
)]
pub(crate) struct Args {
    /// A Motion-JPEG file, a directory of JPEG and PNG pictures (in the order of
    /// their names), or - for standard input
    #[arg(long, value_name = "FILE|DIR|-", default_value_os_t = bundled_clip(), hide_default_value = true)]
    pub(crate) input: PathBuf,

    /// How many processes decode and measure, by default one for each processor; 0
    /// does everything in this one
    #[arg(long, value_name = "N", default_value_t = cores().min(MOST_WORKERS), hide_default_value = true, value_parser = workers, allow_negative_numbers = true)]
    pub(crate) workers: usize,

    /// Write the measures as CSV to FILE, or to standard output for -
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Draw motion and edges over time into FILE, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,

    /// Write the edges of every 10th frame as PNG into DIR, which is created
    #[arg(long, value_name = "DIR")]
    pub(crate) edges: Option<PathBuf>,

    /// Go through the input N times; the frame number goes on
    #[arg(long = "loop", value_name = "N", default_value = "1")]
    pub(crate) passes: NonZeroU32,
}

impl Args {
    /// Whether the CSV goes to standard output, which is then for nothing else.
    pub(crate) fn csv_on_stdout(&self) -> bool {
        self.csv.as_deref() == Some(Path::new("-"))
    }

    /// Whether each output is a file of its own, and none is the input.
    pub(crate) fn check_outputs(&self) -> Result<(), String> {
        let input = (self.input != Path::new("-")).then_some(&*self.input);
        if self.plot.as_deref() == Some(Path::new("-")) {
            return Err("--plot needs a file; only the CSV goes to standard output".into());
        }
        let csv = self.csv.as_deref().filter(|_| !self.csv_on_stdout());
        outputs::check(input, &[("--csv", csv), ("--plot", self.plot.as_deref())])?;
        // Those of the edges are found as pictures by the next run.
        match (input.map(Path::canonicalize), self.edges.as_deref().map(Path::canonicalize)) {
            (Some(Ok(input)), Some(Ok(edges))) if input == edges => Err(format!(
                "--edges would put its pictures among those of {}",
                self.input.display()
            )),
            _ => Ok(()),
        }
    }
}

fn bundled_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bunny.mjpeg")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn workers(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number of processes".to_owned())?;
    if number > MOST_WORKERS {
        return Err(format!(
            "at most {MOST_WORKERS} are possible; this machine has {} cores",
            cores()
        ));
    }
    Ok(number)
}
