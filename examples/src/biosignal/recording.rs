//! A recording: samples of one sensor, evenly spaced in time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{Chunk, Error, Result};

/// The columns that a file must have; there may be others.
const TIME: &str = "timer";
const VALUE: &str = "hr";

/// What has a longer line is no recording, and perhaps has no end.
const LONGEST_LINE: u64 = 1 << 16;

/// The longest time without a sample that is bridged, in seconds, unless two
/// steps are longer. A beat cannot hide in it.
const LONGEST_GAP: f64 = 0.1;

/// Rates that a sensor of the body may have, in hertz. Others come from times
/// in another unit.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=10_000.0;

/// Samples of one sensor, evenly spaced in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    rate: f64,
    samples: Vec<f64>,
}

impl Recording {
    /// Takes samples that were made `rate` times a second.
    ///
    /// # Errors
    ///
    /// [`Error::Recording`] if the rate is not between 1 Hz and 10 kHz, or a
    /// sample is not a finite number.
    pub fn new(rate: f64, samples: Vec<f64>) -> Result<Self> {
        let problem = if !RATES.contains(&rate) {
            format!("{rate} samples a second; it must be 1 to 10000")
        } else if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
            format!("sample {at} is {}, not a finite number", samples[at])
        } else {
            return Ok(Self { rate, samples });
        };
        Err(Error::Recording { name: "the samples".into(), problem })
    }

    /// Reads a CSV file; see [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the file cannot be read, and those of
    /// [`read`](Self::read).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Self::read(&name, BufReader::new(file)),
            Err(source) => Err(Error::Read { name, source }),
        }
    }

    /// Reads CSV: a header that names the columns `timer` (milliseconds) and
    /// `hr` (the value of the sensor), then a line for each sample. Other
    /// columns and empty lines are passed over. `name` stands in errors.
    ///
    /// The rate is one sample in the median of the steps of time. Where the
    /// times leave the even grid that this gives by more than a tenth of a step,
    /// the samples are interpolated linearly on that grid; so times that were
    /// rounded to whole milliseconds do not shift the heart rate.
    ///
    /// # Errors
    ///
    /// - [`Error::Line`], with the line's number, for a header without the two
    ///   columns, a field that is missing or no finite number, text that is not
    ///   UTF-8, a line of more than 64 KiB, a time that does not lie after the one before it, or more than
    ///   0.1 s (and two steps) without a sample;
    /// - [`Error::Recording`] for less than two samples, or a rate that is not
    ///   between 1 Hz and 10 kHz;
    /// - [`Error::Read`] if the input fails.
    pub fn read(name: &str, input: impl BufRead) -> Result<Self> {
        let rows = rows(name, input)?;
        let unusable = |problem| Error::Recording { name: name.into(), problem };
        let Some(step) = median_step(&rows) else {
            return Err(unusable(format!("{} samples; it takes two at least", rows.len())));
        };
        let rate = 1.0 / step;
        if !RATES.contains(&rate) {
            return Err(unusable(format!(
                "{rate} samples a second, not 1 to 10000: is {TIME} in milliseconds?"
            )));
        }
        let longest = LONGEST_GAP.max(2.5 * step);
        for pair in rows.windows(2) {
            let gap = pair[1].time - pair[0].time;
            if gap > longest {
                let problem = format!(
                    "{gap:.3} s since the sample before, and one is due every {step:.4} s: \
                     cut the recording here"
                );
                return Err(Error::Line { name: name.into(), line: pair[1].line, problem });
            }
        }
        Ok(Self { rate, samples: on_grid(&rows, step) })
    }

    /// Returns how many samples were made in a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Returns the samples.
    pub fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// Returns how long it lasts, in seconds.
    pub fn duration(&self) -> f64 {
        self.samples.len() as f64 / self.rate
    }

    /// Cuts it into chunks of `length` samples; the last one may be shorter.
    ///
    /// # Panics
    ///
    /// If `length` is 0.
    pub fn chunks(&self, length: usize) -> impl Iterator<Item = Chunk> + '_ {
        self.samples.chunks(length).enumerate().map(move |(n, samples)| Chunk {
            rate: self.rate,
            first: (n * length) as u64,
            samples: samples.to_vec(),
        })
    }
}

/// One sample as it stands in the file; the time in seconds.
#[derive(Clone, Copy, Debug)]
struct Row {
    line: u64,
    time: f64,
    value: f64,
}

fn rows(name: &str, mut input: impl BufRead) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut columns = None;
    let mut bytes = Vec::new();
    for line in 1.. {
        let wrong = |problem| Error::Line { name: name.into(), line, problem };
        bytes.clear();
        let read = input.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        if read.map_err(|source| Error::Read { name: name.into(), source })? == 0 {
            break;
        }
        if bytes.len() as u64 > LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes: is this a recording?")));
        }
        let text = str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        if text.trim().is_empty() {
            continue;
        }
        let fields: Vec<_> = text.split(',').map(str::trim).collect();
        let Some((time, value)) = columns else {
            columns = Some(header(&fields).map_err(wrong)?);
            continue;
        };
        let row = Row {
            line,
            time: number(&fields, time, TIME).map_err(wrong)? / 1000.0,
            value: number(&fields, value, VALUE).map_err(wrong)?,
        };
        if let Some(before) = rows.last()
            && row.time <= before.time
        {
            let (now, then) = (row.time, before.time);
            return Err(wrong(format!("time {now} s does not lie after {then} s, the one before")));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Finds the two columns.
fn header(fields: &[&str]) -> Result<(usize, usize), String> {
    let find = |name| {
        fields.iter().position(|field| *field == name).ok_or_else(|| {
            format!("a header with the columns {TIME} and {VALUE} must stand here, and {name} is missing")
        })
    };
    Ok((find(TIME)?, find(VALUE)?))
}

fn number(fields: &[&str], column: usize, name: &str) -> Result<f64, String> {
    let field = fields.get(column).ok_or_else(|| format!("{name} is missing"))?;
    match field.parse() {
        Ok(number) if f64::is_finite(number) => Ok(number),
        _ => Err(format!("{name} is {field:?}, not a finite number")),
    }
}

fn median_step(rows: &[Row]) -> Option<f64> {
    let mut steps: Vec<_> = rows.windows(2).map(|pair| pair[1].time - pair[0].time).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return None;
    }
    Some(*steps.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// The values at even steps of time from the first row on.
fn on_grid(rows: &[Row], step: f64) -> Vec<f64> {
    let start = rows[0].time;
    let at = |n: usize| start + n as f64 * step;
    if rows.iter().enumerate().all(|(n, row)| (row.time - at(n)).abs() <= step / 10.0) {
        return rows.iter().map(|row| row.value).collect();
    }
    let mut samples = Vec::with_capacity(rows.len());
    for pair in rows.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        while at(samples.len()) < to.time {
            let part = (at(samples.len()) - from.time) / (to.time - from.time);
            samples.push(from.value + part * (to.value - from.value));
        }
    }
    samples
}

#[cfg(test)]
mod tests;
