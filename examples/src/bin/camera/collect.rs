//! Takes the results in order: computes motion, and writes what was asked for.

use std::fmt::{Arguments, Write as _};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use examples::picture::Size;
use examples::stats;
use hdrhistogram::Histogram;
use shmring::block::Block;

use crate::cli::Args;
use crate::engine::{Done, Measures};
use crate::failure::Failure;
use crate::output::Output;
use crate::plot::Plot;
use crate::progress::Progress;
use crate::source::Amount;

const HEADER: &str = "frame,width,height,mean_luma,edge_mean,motion\n";

/// Every so many frames comes a picture of the edges.
const EDGES_EVERY: u64 = 10;

/// What went through the collector.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) broken: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// From split to result, in microseconds.
    latency: Histogram<u64>,
}

impl Counts {
    /// Returns the latency that so many per cent of the frames did not exceed.
    pub(crate) fn latency(&self, percent: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_percentile(percent))
    }
}

/// What the sink of the graph does.
#[derive(Debug)]
pub(crate) struct Collector {
    csv: Option<Output>,
    plot: Option<(Plot, Output)>,
    edges: Option<PathBuf>,
    progress: Progress,
    counts: Counts,
    /// The last frame that was decoded.
    before: Option<(Size, Block)>,
    line: String,
}

impl Collector {
    /// Creates the files, so that a wrong name shows at once.
    pub(crate) fn new(args: &Args, total: Option<Amount>) -> Result<Self, Failure> {
        let mut csv = match &args.csv {
            Some(_) if args.csv_on_stdout() => Some(Output::stdout()),
            Some(path) => Some(Output::create(path)?),
            None => None,
        };
        let plot = match &args.plot {
            Some(path) => Some((Plot::default(), Output::create(path)?)),
            None => None,
        };
        if let Some(directory) = &args.edges {
            fs::create_dir_all(directory).map_err(|error| {
                Failure::io(format_args!("create directory {}", directory.display()), &error)
            })?;
        }
        if let Some(csv) = &mut csv {
            csv.write(HEADER)?;
        }
        // Three digits of latencies up to an hour.
        let latency = Histogram::new_with_max(3_600_000_000, 3)
            .map_err(|error| Failure::Run(format!("cannot measure latencies: {error}")))?;
        Ok(Self {
            csv,
            plot,
            edges: args.edges.clone(),
            progress: Progress::new(total),
            counts: Counts { frames: 0, broken: 0, bytes_in: 0, bytes_out: 0, latency },
            before: None,
            line: String::new(),
        })
    }

    /// Writes what had to wait for the end.
    pub(crate) fn finish(&mut self) -> Result<Counts, Failure> {
        self.progress.finish();
        if let Some((plot, mut output)) = self.plot.take() {
            output.write(&plot.to_svg()?)?;
        }
        Ok(self.counts.clone())
    }

    fn measured(&mut self, number: u64, measures: Measures, plane: &[u8]) -> Result<(), Failure> {
        let Measures { size, mean_luma, edge_mean } = measures;
        let motion = match &self.before {
            Some((before, other)) if *before == size => stats::motion(other.as_bytes(), plane),
            _ => 0.0,
        };
        self.counts.bytes_out += plane.len() as u64;
        if let Some(csv) = &mut self.csv {
            let Size { width, height } = size;
            self.line.clear();
            // Writing to a String does not fail.
            let _ = writeln!(
                self.line,
                "{number},{width},{height},{mean_luma:.4},{edge_mean:.4},{motion:.4}"
            );
            // One write for a line, so that there never is half of one.
            csv.write(&self.line)?;
        }
        if let Some((plot, _)) = &mut self.plot {
            plot.add(number, motion, edge_mean);
        }
        if let Some(directory) = self.edges.as_ref().filter(|_| number.is_multiple_of(EDGES_EVERY))
        {
            save_edges(&directory.join(format!("edges-{number:06}.png")), plane, size)?;
        }
        Ok(())
    }

    /// Takes one result, in order.
    pub(crate) fn put(&mut self, done: Done) -> Result<(), Failure> {
        self.counts.frames += 1;
        self.counts.bytes_in += done.bytes as u64;
        self.counts.latency.saturating_record(done.split.elapsed().as_micros() as u64);
        match done.outcome {
            Ok((measures, plane)) => {
                self.measured(done.number, measures, plane.as_bytes())?;
                self.before = Some((measures.size, plane));
            }
            Err(broken) => {
                self.counts.broken += 1;
                let number = done.number;
                self.progress.error(format_args!("frame {number} is broken: {broken}; skipped"));
            }
        }
        self.progress.frame(done.bytes);
        Ok(())
    }

    /// Drops the last plane, for no other will come.
    pub(crate) fn rest(&mut self) {
        self.before = None;
    }

    /// Tells the user of something that happened on the way.
    pub(crate) fn tell(&self, what: Arguments<'_>) {
        self.progress.error(what);
    }
}

fn save_edges(path: &Path, plane: &[u8], size: Size) -> Result<(), Failure> {
    let cannot = |error: png::EncodingError| {
        Failure::Run(format!("cannot write {}: {error}", path.display()))
    };
    let file = File::create(path).map_err(|error| cannot(error.into()))?;
    let mut encoder =
        png::Encoder::new(BufWriter::new(file), size.width as u32, size.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(cannot)?;
    writer.write_image_data(&stats::edge_picture(plane, size)).map_err(cannot)?;
    writer.finish().map_err(cannot)
}
