//! The last step: reads heart rate and band powers from a spectrum.

use serde::{Deserialize, Serialize};

use super::{Error, Result, Spectrum};

/// Half the main lobe of a Hann window, in bins of a transform without zeros.
const LOBE: f64 = 2.0;

/// How much a heart rate may vary within a window, as a part of it; its harmonics
/// spread by as many times more.
const VARIES: f64 = 0.05;

/// What the power of each harmonic counts for its fundamental. Less and less, so
/// that half of a heart rate does not win by the rate's own power.
const HARMONICS: [f64; 3] = [1.0, 0.8, 0.6];

/// Frequencies from `low`, which belongs to the band, to `high`, which does not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// The lower edge in hertz.
    pub low: f64,
    /// The upper edge in hertz.
    pub high: f64,
}

impl Band {
    /// Whether a frequency lies in the band.
    pub fn contains(&self, frequency: f64) -> bool {
        self.low <= frequency && frequency < self.high
    }
}

/// Where the heart rate is looked for, and the bands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeterSettings {
    /// The slowest heart rate, in beats a minute.
    pub slowest: f64,
    /// The fastest heart rate, in beats a minute.
    pub fastest: f64,
    /// Where the breath is.
    pub respiration: Band,
    /// Where the heart is, with its first harmonics.
    pub cardiac: Band,
}

impl Default for MeterSettings {
    /// 40 to 240 beats a minute; breath from 0.1 to 0.5 Hz, heart from 0.7 to 4 Hz.
    fn default() -> Self {
        Self {
            slowest: 40.0,
            fastest: 240.0,
            respiration: Band { low: 0.1, high: 0.5 },
            cardiac: Band { low: 0.7, high: 4.0 },
        }
    }
}

/// The power of the raw samples in bands, in units of the sensor squared. The
/// sum is the power of the window but for its trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Powers {
    /// In the band of the breath.
    pub respiration: f64,
    /// In the band of the heart.
    pub cardiac: f64,
    /// Everywhere else.
    pub rest: f64,
}

/// What is known of one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// The number of the window.
    pub index: u64,
    /// Where the window starts, in seconds.
    pub start: f64,
    /// The heart rate in beats a minute, from the spectrum; `None` without a peak.
    pub heart_rate: Option<f64>,
    /// The heart rate in beats a minute by counting beats; `None` without beats.
    pub counted_rate: Option<f64>,
    /// The part of the pulse's power that lies at the heart rate and its next
    /// two harmonics, 0 to 1.
    pub quality: f64,
    /// The power in bands.
    pub powers: Powers,
}

/// Reads vitals from spectra.
#[derive(Clone, Debug)]
pub struct Meter {
    settings: MeterSettings,
}

impl Meter {
    /// Makes the step.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for rates or bands that are no range, and for bands
    /// that overlap.
    pub fn new(settings: &MeterSettings) -> Result<Self> {
        let MeterSettings { slowest, fastest, respiration, cardiac } = *settings;
        if !(slowest.is_finite() && slowest > 0.0) {
            return Err(Error::setting("meter.slowest", slowest, "it must be above 0"));
        }
        if !(fastest.is_finite() && fastest > slowest) {
            let problem = format!("it must be above meter.slowest, which is {slowest}");
            return Err(Error::setting("meter.fastest", fastest, problem));
        }
        for (name, band) in [("meter.respiration", respiration), ("meter.cardiac", cardiac)] {
            let ordered = 0.0 <= band.low && band.low < band.high && band.high.is_finite();
            if !ordered {
                let value = format!("{} to {} Hz", band.low, band.high);
                let problem = "it must go up, from 0 Hz at least";
                return Err(Error::setting(name, value, problem));
            }
        }
        if respiration.low < cardiac.high && cardiac.low < respiration.high {
            let value = format!("{} to {} Hz", cardiac.low, cardiac.high);
            let problem = "it must not overlap with meter.respiration";
            return Err(Error::setting("meter.cardiac", value, problem));
        }
        Ok(Self { settings: settings.clone() })
    }

    /// Reads the vitals of one window.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if the slowest heart does not beat twice in a window,
    /// [`Error::Item`] if the spectrum contradicts itself.
    pub fn process(&self, spectrum: &Spectrum) -> Result<Vitals> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(spectrum.bin)
            || !positive(spectrum.length)
            || spectrum.raw.len() != spectrum.pulse.len()
        {
            return Err(Error::item("spectrum", "its bins, length and densities do not fit"));
        }
        let slowest = self.settings.slowest;
        if slowest / 60.0 * spectrum.length < 2.0 {
            let problem = format!(
                "a window of {} s does not hold two such beats; set window.length to more",
                spectrum.length
            );
            return Err(Error::setting("meter.slowest", slowest, problem));
        }
        let frequency = self.frequency(spectrum);
        Ok(Vitals {
            index: spectrum.index,
            start: spectrum.start,
            heart_rate: frequency.map(|frequency| 60.0 * frequency),
            counted_rate: spectrum.counted_rate,
            quality: frequency.map_or(0.0, |frequency| quality(spectrum, frequency)),
            powers: self.powers(spectrum),
        })
    }

    /// The frequency of the heart in hertz: that of the peak which has the most
    /// power together with its harmonics. A beat that is short has harmonics
    /// stronger than itself, so the highest peak alone may be one of them.
    fn frequency(&self, spectrum: &Spectrum) -> Option<f64> {
        let MeterSettings { slowest, fastest, .. } = self.settings;
        let rates = slowest / 60.0..=fastest / 60.0;
        let score = |frequency: f64| -> f64 {
            let harmonics = (1..).map(f64::from).zip(HARMONICS);
            harmonics.map(|(n, part)| part * harmonic(spectrum, n, frequency)).sum()
        };
        peaks(&spectrum.pulse)
            .map(|peak| peak * spectrum.bin)
            .filter(|frequency| rates.contains(frequency))
            .map(|frequency| (frequency, score(frequency)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(frequency, _)| frequency)
    }

    fn powers(&self, spectrum: &Spectrum) -> Powers {
        let MeterSettings { respiration, cardiac, .. } = self.settings;
        let mut powers = Powers { respiration: 0.0, cardiac: 0.0, rest: 0.0 };
        for (k, density) in spectrum.raw.iter().enumerate() {
            let frequency = k as f64 * spectrum.bin;
            let power = if respiration.contains(frequency) {
                &mut powers.respiration
            } else if cardiac.contains(frequency) {
                &mut powers.cardiac
            } else {
                &mut powers.rest
            };
            *power += density * spectrum.bin;
        }
        powers
    }
}

/// The places of the maxima, in bins. A slope at the end of the range where one
/// looks for them is none.
fn peaks(density: &[f64]) -> impl Iterator<Item = f64> + '_ {
    density.windows(3).enumerate().filter_map(|(k, near)| {
        let [before, here, after] = [near[0], near[1], near[2]];
        let peak = before < here && here >= after;
        peak.then(|| (k + 1) as f64 + vertex(before, here, after))
    })
}

/// The density of the pulse about the `n`th harmonic of a frequency, summed.
fn harmonic(spectrum: &Spectrum, n: f64, frequency: f64) -> f64 {
    let around = LOBE / 2.0 / spectrum.length + n * VARIES * frequency;
    let from = ((n * frequency - around) / spectrum.bin).ceil().max(0.0) as usize;
    let to = ((n * frequency + around) / spectrum.bin).floor().max(0.0) as usize;
    spectrum.pulse.iter().take(to.saturating_add(1)).skip(from).sum()
}

/// Where the parabola through three logarithms of densities has its top, in bins
/// from the middle one: the main lobe of a Hann window is one, very nearly.
fn vertex(before: f64, here: f64, after: f64) -> f64 {
    if before <= 0.0 || after <= 0.0 {
        return 0.0;
    }
    let [before, here, after] = [before.ln(), here.ln(), after.ln()];
    let bend = before - 2.0 * here + after;
    if bend < 0.0 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 }
}

/// The part of the pulse's power that is about the harmonics.
fn quality(spectrum: &Spectrum, frequency: f64) -> f64 {
    let belongs = |k: usize| {
        (1..=HARMONICS.len()).map(|n| n as f64).any(|n| {
            let around = LOBE / spectrum.length + n * VARIES * frequency;
            (k as f64 * spectrum.bin - n * frequency).abs() <= around
        })
    };
    let (mut heart, mut all) = (0.0, 0.0);
    for (k, density) in spectrum.pulse.iter().enumerate() {
        all += density;
        if belongs(k) {
            heart += density;
        }
    }
    if all > 0.0 { heart / all } else { 0.0 }
}

#[cfg(test)]
mod tests;
