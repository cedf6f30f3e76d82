//! The second step: cuts the stream into windows that overlap, and takes the
//! trend out of each.

use serde::{Deserialize, Serialize};

use super::{Error, Filtered, Position, Result};

/// More samples than this in a window are taken for a mistake.
pub(super) const MOST_SAMPLES: usize = 1 << 22;

/// Less than this have no spectrum worth looking at.
pub(super) const LEAST_SAMPLES: usize = 16;

/// How long a window is, and how far the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSettings {
    /// The length of a window in seconds: longer tells frequencies apart better,
    /// shorter follows a heart rate that changes.
    pub length: f64,
    /// From the start of a window to that of the next, in seconds.
    pub hop: f64,
}

impl Default for WindowSettings {
    /// 16 s every 2 s.
    fn default() -> Self {
        Self { length: 16.0, hop: 2.0 }
    }
}

/// A stretch of the recording, without its trend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its number, from 0.
    pub index: u64,
    /// Where it starts, in seconds from the start of the recording.
    pub start: f64,
    /// Samples in a second.
    pub rate: f64,
    /// The samples as they came, without their straight line of least squares.
    pub raw: Vec<f64>,
    /// The pulse, without its straight line of least squares.
    pub pulse: Vec<f64>,
}

/// Cuts windows out of a stream. Length and hop are rounded to whole samples.
#[derive(Clone, Debug)]
pub struct Windows {
    settings: WindowSettings,
    position: Position,
    /// Length and hop in samples, once the rate is known.
    length: usize,
    hop: usize,
    /// The number of the next window.
    index: u64,
    /// The samples from the start of the next window on.
    raw: Vec<f64>,
    pulse: Vec<f64>,
}

impl Windows {
    /// Makes the step. The rate comes with the first samples.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a length that is not above 0, or a hop that would
    /// leave samples out.
    pub fn new(settings: &WindowSettings) -> Result<Self> {
        let WindowSettings { length, hop } = *settings;
        if !(length.is_finite() && length > 0.0) {
            return Err(Error::setting("window.length", length, "it must be above 0 s"));
        }
        if !(hop > 0.0 && hop <= length) {
            let problem = format!("it must be above 0 s, and {length} s at most as window.length");
            return Err(Error::setting("window.hop", hop, problem));
        }
        Ok(Self {
            settings: settings.clone(),
            position: Position::default(),
            length: 0,
            hop: 0,
            index: 0,
            raw: Vec::new(),
            pulse: Vec::new(),
        })
    }

    /// Takes samples and returns the windows that they complete.
    ///
    /// # Errors
    ///
    /// [`Error::Order`] if other samples were due, [`Error::Item`] if the rate
    /// changed, [`Error::Setting`] if a window has too few or too many samples
    /// at this rate.
    pub fn push(&mut self, filtered: &Filtered) -> Result<Vec<Window>> {
        let Filtered { rate, first, ref raw, ref pulse } = *filtered;
        if raw.len() != pulse.len() {
            return Err(Error::item("samples", "not as many of the pulse as raw ones"));
        }
        if let Some(rate) = self.position.advance(rate, first, raw.len())? {
            (self.length, self.hop) = in_samples(&self.settings, rate)?;
        }
        self.raw.extend_from_slice(raw);
        self.pulse.extend_from_slice(pulse);
        let mut windows = Vec::new();
        let mut at = 0;
        while self.raw.len() - at >= self.length {
            windows.push(Window {
                index: self.index,
                start: (self.index * self.hop as u64) as f64 / rate,
                rate,
                raw: without_trend(&self.raw[at..][..self.length]),
                pulse: without_trend(&self.pulse[at..][..self.length]),
            });
            self.index += 1;
            at += self.hop;
        }
        self.raw.drain(..at);
        self.pulse.drain(..at);
        Ok(windows)
    }

    /// Says that the recording has ended; samples that fill no window are left out.
    ///
    /// # Errors
    ///
    /// [`Error::TooShort`] if there was no window at all.
    pub fn finish(&self) -> Result<()> {
        if self.index > 0 {
            return Ok(());
        }
        let seconds = self.position.rate.map_or(0.0, |rate| self.position.next as f64 / rate);
        Err(Error::TooShort { seconds, needed: self.settings.length })
    }
}

fn in_samples(settings: &WindowSettings, rate: f64) -> Result<(usize, usize)> {
    let length = (settings.length * rate).round();
    if !(LEAST_SAMPLES as f64..=MOST_SAMPLES as f64).contains(&length) {
        let problem = format!(
            "that is {length} samples at {rate} Hz, and it must be {LEAST_SAMPLES} to {MOST_SAMPLES}"
        );
        return Err(Error::setting("window.length", settings.length, problem));
    }
    let hop = (settings.hop * rate).round();
    if hop < 1.0 {
        let problem = format!("it must be one sample at least, {} s", 1.0 / rate);
        return Err(Error::setting("window.hop", settings.hop, problem));
    }
    Ok((length as usize, hop as usize))
}

/// Takes the straight line of least squares away.
fn without_trend(samples: &[f64]) -> Vec<f64> {
    let count = samples.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = samples.iter().sum::<f64>() / count;
    let offsets = || (0..samples.len()).map(|n| n as f64 - middle);
    let rise: f64 = offsets().zip(samples).map(|(x, sample)| x * (sample - mean)).sum();
    let run: f64 = offsets().map(|x| x * x).sum();
    let slope = rise / run;
    offsets().zip(samples).map(|(x, sample)| sample - mean - slope * x).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(first: u64, samples: Vec<f64>) -> Filtered {
        let pulse = samples.iter().map(|x| -x).collect();
        Filtered { rate: 10.0, first, raw: samples, pulse }
    }

    fn windows(length: f64, hop: f64) -> Windows {
        Windows::new(&WindowSettings { length, hop }).unwrap()
    }

    #[test]
    fn windows_overlap_by_length_less_hop() {
        // A parabola, of which the trend leaves the bend alone.
        let samples = (0..100_u32).map(|n| f64::from(n * n)).collect();
        let cut = windows(4.0, 1.5).push(&filtered(0, samples)).unwrap();
        assert_eq!(cut.len(), 5);
        for (n, window) in cut.iter().enumerate() {
            assert_eq!(window.index, n as u64);
            assert_eq!(window.start, n as f64 * 1.5);
            assert_eq!((window.raw.len(), window.pulse.len()), (40, 40));
            for (k, value) in window.raw.iter().enumerate() {
                let x = k as f64 - 19.5;
                let bend = x * x - (40.0 * 40.0 - 1.0) / 12.0;
                assert!((value - bend).abs() < 1e-8, "window {n} sample {k}: {value} {bend}");
                assert_eq!(window.pulse[k], -value);
            }
        }
    }

    #[test]
    fn a_straight_line_is_nothing() {
        let line: Vec<_> = (0..40).map(|n| 512.0 - 3.0 * f64::from(n)).collect();
        assert!(without_trend(&line).iter().all(|x| x.abs() < 1e-10));
    }

    #[test]
    fn a_window_comes_with_its_last_sample() {
        let mut step = windows(2.0, 2.0);
        let mut pushed = 0;
        let mut push = |count: usize| {
            let cut = step.push(&filtered(pushed, vec![0.0; count])).unwrap();
            pushed += count as u64;
            cut.iter().map(|window| window.index).collect::<Vec<_>>()
        };
        assert_eq!(push(0), []);
        assert_eq!(push(19), []);
        assert_eq!(push(1), [0]);
        assert_eq!(push(19), []);
        assert_eq!(push(62), [1, 2, 3, 4]);
        step.finish().unwrap();
    }

    #[test]
    fn a_recording_without_a_window_is_told() {
        let mut step = windows(16.0, 2.0);
        assert!(matches!(step.finish(), Err(Error::TooShort { seconds: 0.0, .. })));
        assert_eq!(step.push(&filtered(0, vec![0.0; 159])).unwrap(), []);
        let error = step.finish().unwrap_err().to_string();
        assert!(error.contains("lasts 15.9 s, and a window 16.0 s"), "{error}");
        assert_eq!(step.push(&filtered(159, vec![0.0])).unwrap().len(), 1);
        step.finish().unwrap();
    }

    #[test]
    fn settings_that_cannot_be() {
        for (length, hop, with) in [
            (0.0, 1.0, "window.length cannot be 0"),
            (f64::NAN, 1.0, "window.length cannot be NaN"),
            (f64::INFINITY, 1.0, "window.length cannot be inf"),
            (8.0, 0.0, "window.hop cannot be 0"),
            (8.0, 8.1, "8 s at most"),
            (8.0, f64::NAN, "window.hop cannot be NaN"),
        ] {
            let error = Windows::new(&WindowSettings { length, hop }).unwrap_err().to_string();
            assert!(error.contains(with), "{error}");
        }
        for (length, hop, with) in [
            (1.0, 1.0, "that is 10 samples at 10 Hz"),
            (1e9, 1.0, "and it must be 16 to 4194304"),
            (8.0, 0.01, "one sample at least, 0.1 s"),
        ] {
            let error = windows(length, hop).push(&filtered(0, vec![0.0])).unwrap_err().to_string();
            assert!(error.contains(with), "{error}");
        }
    }

    #[test]
    fn samples_out_of_order_are_refused() {
        let mut step = windows(2.0, 2.0);
        step.push(&filtered(0, vec![0.0; 5])).unwrap();
        for first in [0, 4, 6] {
            let error = step.push(&filtered(first, vec![0.0; 5])).unwrap_err();
            assert!(matches!(error, Error::Order { expected: 5, found } if found == first));
        }
        let uneven = Filtered { rate: 10.0, first: 5, raw: vec![0.0; 2], pulse: vec![0.0; 3] };
        assert!(matches!(step.push(&uneven), Err(Error::Item { .. })));
    }
}
