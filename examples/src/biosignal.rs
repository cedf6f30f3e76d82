//! Vital signs from a pulse wave: heart rate and band powers, window by window.
//!
//! A pulse wave (photoplethysmogram) is the light that a fingertip or an earlobe
//! lets through: a large constant, a slow wander with the breath, and a small
//! wave for each beat of the heart. The steps are those of any such analysis:
//!
//! ```text
//! Recording ─Chunk─▶ BandPass ─Filtered─▶ Windows ─Window─▶ Spectra ─Spectrum─▶ Meter ─▶ Vitals
//!                    0.7–4 Hz             16 s every 2 s    FFT, beats          peak, powers
//! ```
//!
//! Each step is a plain value that takes one item and gives the next; every item
//! is data that serde can carry anywhere. [`BandPass`] and [`Windows`] remember
//! what came before and must see every chunk once, in order, which they check;
//! how the samples were cut into chunks makes no difference to any bit of the
//! result. [`Spectra`] and [`Meter`] remember nothing that shows: any number of
//! copies of them may share the windows, and the index says where each belongs.
//!
//! [`analyse`] runs the steps in a plain loop. It is the reference for every
//! other way of running them: the numbers must be the same, bit by bit. All sums
//! have a fixed order, and the Fourier transform is the one without vector
//! instructions, so they do not depend on the processor's extensions either.
//!
//! The vital signs are an example of signal processing, not of medicine.

mod band_pass;
mod beats;
mod error;
mod plot;
mod recording;
mod spectrum;
mod table;
mod vitals;
mod window;

use serde::{Deserialize, Serialize};

pub use band_pass::{BandPass, BandPassSettings, Filtered};
pub use beats::counted_rate;
pub use error::{Error, Result};
pub use plot::svg;
pub use recording::Recording;
pub use spectrum::{Spectra, Spectrum};
pub use table::{csv, table};
pub use vitals::{Band, Meter, MeterSettings, Powers, Vitals};
pub use window::{Window, WindowSettings, Windows};

/// How many samples [`analyse`] puts into a chunk.
const CHUNK: usize = 256;

/// Samples that follow each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Samples in a second.
    pub rate: f64,
    /// The number of the first sample, from 0 at the start of the recording.
    pub first: u64,
    /// The values, in the units of the sensor.
    pub samples: Vec<f64>,
}

/// The settings of all steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What of the signal is the pulse.
    pub band_pass: BandPassSettings,
    /// How long a window is, and how far the next.
    pub window: WindowSettings,
    /// Where the heart rate is looked for, and the bands.
    pub meter: MeterSettings,
}

/// Runs all steps over a recording.
///
/// # Errors
///
/// [`Error::Setting`] for settings that cannot be, or not with this recording;
/// [`Error::TooShort`] if the recording is shorter than one window.
///
/// # Examples
///
/// A heart that beats 72 times a minute:
///
/// ```
/// use examples::biosignal::{Recording, Settings, analyse};
///
/// let beat = |n| (std::f64::consts::TAU * 1.2 * f64::from(n) / 100.0).sin();
/// let recording = Recording::new(100.0, (0..3000).map(beat).collect())?;
/// let vitals = analyse(&recording, &Settings::default())?;
/// assert_eq!(vitals.len(), 8);
/// for window in vitals {
///     assert!((window.heart_rate.unwrap() - 72.0).abs() < 0.1);
/// }
/// # Ok::<(), examples::biosignal::Error>(())
/// ```
pub fn analyse(recording: &Recording, settings: &Settings) -> Result<Vec<Vitals>> {
    let mut band_pass = BandPass::new(&settings.band_pass)?;
    let mut windows = Windows::new(&settings.window)?;
    let mut spectra = Spectra::new();
    let meter = Meter::new(&settings.meter)?;
    let mut vitals = Vec::new();
    for chunk in recording.chunks(CHUNK) {
        let filtered = band_pass.push(&chunk)?;
        for window in windows.push(&filtered)? {
            let spectrum = spectra.process(&window)?;
            vitals.push(meter.process(&spectrum)?);
        }
    }
    windows.finish()?;
    Ok(vitals)
}

/// Where a step is in the stream of samples.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    rate: Option<f64>,
    next: u64,
}

impl Position {
    /// Goes past `length` samples from `first` on. Returns the rate if it was not
    /// known before.
    fn advance(&mut self, rate: f64, first: u64, length: usize) -> Result<Option<f64>> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::item("chunk", format!("{rate} samples a second")));
        }
        if self.rate.is_some_and(|before| before != rate) {
            return Err(Error::item("chunk", format!("the rate changes to {rate} Hz")));
        }
        if first != self.next {
            return Err(Error::Order { expected: self.next, found: first });
        }
        self.next += length as u64;
        let known = self.rate.replace(rate).is_some();
        Ok((!known).then_some(rate))
    }
}

#[cfg(test)]
mod tests;
