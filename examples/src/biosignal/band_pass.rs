//! The first step: keeps what can be a pulse, and takes away the constant, the
//! wander of the breath and the noise above.

use std::f64::consts::{PI, TAU};

use serde::{Deserialize, Serialize};

use super::{Chunk, Error, Position, Result};

/// What of the signal is the pulse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BandPassSettings {
    /// The lower edge in hertz, where the gain is -3 dB.
    pub low: f64,
    /// The upper edge in hertz, where the gain is -3 dB.
    pub high: f64,
    /// The order of each edge: 2, 4, 6 or 8. An octave outside, the gain is about
    /// -6 dB times the order. Higher orders delay the harmonics of a beat so
    /// unequally that a short beat falls apart into two waves, which spoils
    /// counting.
    pub order: u32,
}

impl Default for BandPassSettings {
    /// 0.7 to 4 Hz, of order 2.
    fn default() -> Self {
        Self { low: 0.7, high: 4.0, order: 2 }
    }
}

/// Samples as they came, and what of them is pulse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filtered {
    /// Samples in a second.
    pub rate: f64,
    /// The number of the first sample.
    pub first: u64,
    /// The samples as they came.
    pub raw: Vec<f64>,
    /// The samples in the band, a little late, as a filter is that cannot see
    /// ahead: some 0.04 s with the default edges.
    pub pulse: Vec<f64>,
}

/// A Butterworth high-pass and a Butterworth low-pass, one after the other, as a
/// cascade of second-order sections.
///
/// The sections are those of Robert Bristow-Johnson's "Audio EQ Cookbook" (W3C
/// note, 2021), bilinear transform with the edges prewarped; their quality
/// factors are those of the poles of a Butterworth filter of order n,
/// 1 / (2 cos(π (2k + 1) / 2n)).
///
/// The filter starts as if the first sample had stood there for ever, so a
/// large constant makes no transient. What wanders still needs about 2 s to
/// settle with the default edges.
#[derive(Clone, Debug)]
pub struct BandPass {
    settings: BandPassSettings,
    position: Position,
    sections: Vec<Section>,
    /// The first sample. The high-pass turns any constant to nothing, so it may
    /// as well be taken away before.
    origin: Option<f64>,
}

impl BandPass {
    /// Makes the filter. The rate comes with the first chunk.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for edges that are no band, or another order.
    pub fn new(settings: &BandPassSettings) -> Result<Self> {
        let BandPassSettings { low, high, order } = *settings;
        if !(low.is_finite() && low > 0.0) {
            return Err(Error::setting("band_pass.low", low, "it must be above 0 Hz"));
        }
        if !(high.is_finite() && high > low) {
            let problem = format!("it must be above band_pass.low, which is {low} Hz");
            return Err(Error::setting("band_pass.high", high, problem));
        }
        if !matches!(order, 2 | 4 | 6 | 8) {
            return Err(Error::setting("band_pass.order", order, "it must be 2, 4, 6 or 8"));
        }
        Ok(Self {
            settings: settings.clone(),
            position: Position::default(),
            sections: Vec::new(),
            origin: None,
        })
    }

    /// Filters the next samples.
    ///
    /// # Errors
    ///
    /// [`Error::Order`] if it is not the chunk that was due, [`Error::Item`] if
    /// the rate changed, [`Error::Setting`] if the band reaches half the rate.
    pub fn push(&mut self, chunk: &Chunk) -> Result<Filtered> {
        let Chunk { rate, first, ref samples } = *chunk;
        if let Some(rate) = self.position.advance(rate, first, samples.len())? {
            self.sections = sections(&self.settings, rate)?;
        }
        let pulse = samples
            .iter()
            .map(|&sample| {
                let origin = *self.origin.get_or_insert(sample);
                self.sections.iter_mut().fold(sample - origin, |value, section| section.step(value))
            })
            .collect();
        Ok(Filtered { rate, first, raw: samples.clone(), pulse })
    }
}

/// One second-order section, in the transposed direct form II.
#[derive(Clone, Debug)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Section {
    fn high_pass(frequency: f64, quality: f64) -> Self {
        Self::new(frequency, quality, |cos| [(1.0 + cos) / 2.0, -(1.0 + cos), (1.0 + cos) / 2.0])
    }

    fn low_pass(frequency: f64, quality: f64) -> Self {
        Self::new(frequency, quality, |cos| [(1.0 - cos) / 2.0, 1.0 - cos, (1.0 - cos) / 2.0])
    }

    /// `frequency` in radians a sample; `zeros` makes the numerator from its cosine.
    fn new(frequency: f64, quality: f64, zeros: fn(f64) -> [f64; 3]) -> Self {
        let (sin, cos) = frequency.sin_cos();
        let alpha = sin / (2.0 * quality);
        let a0 = 1.0 + alpha;
        Self {
            b: zeros(cos).map(|b| b / a0),
            a: [-2.0 * cos / a0, (1.0 - alpha) / a0],
            state: [0.0; 2],
        }
    }

    fn step(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }
}

fn sections(settings: &BandPassSettings, rate: f64) -> Result<Vec<Section>> {
    let BandPassSettings { low, high, order } = *settings;
    if high >= rate / 2.0 {
        let problem = format!("it must be below half the rate of the recording, {rate} Hz");
        return Err(Error::setting("band_pass.high", high, problem));
    }
    let qualities = || {
        (0..order / 2).map(move |k| {
            let angle = PI * f64::from(2 * k + 1) / f64::from(2 * order);
            1.0 / (2.0 * angle.cos())
        })
    };
    let above = qualities().map(|quality| Section::high_pass(TAU * low / rate, quality));
    let below = qualities().map(|quality| Section::low_pass(TAU * high / rate, quality));
    Ok(above.chain(below).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 117.0;

    /// The gain that a sine meets, measured after the filter has settled.
    fn measured(settings: &BandPassSettings, frequency: f64) -> f64 {
        let sine = |n| (TAU * frequency * f64::from(n) / RATE).sin();
        // A whole number of periods, or nearly, behind the transient.
        let settle = (60.0 * RATE) as usize;
        let length = ((60.0 * frequency).ceil() / frequency * RATE).round() as usize;
        let samples: Vec<_> = (0..(settle + length) as u32).map(sine).collect();
        let mut filter = BandPass::new(settings).unwrap();
        let filtered = filter.push(&Chunk { rate: RATE, first: 0, samples }).unwrap();
        let power = |samples: &[f64]| samples.iter().map(|x| x * x).sum::<f64>();
        (power(&filtered.pulse[settle..]) / power(&filtered.raw[settle..])).sqrt()
    }

    /// The gain of the same filter by the formula of Butterworth filters, with
    /// the frequencies warped as the bilinear transform does.
    fn formula(settings: &BandPassSettings, frequency: f64) -> f64 {
        let warped = |frequency: f64| (PI * frequency / RATE).tan();
        let edge = |ratio: f64| 1.0 / (1.0 + ratio.powi(2 * settings.order as i32)).sqrt();
        edge(warped(settings.low) / warped(frequency))
            * edge(warped(frequency) / warped(settings.high))
    }

    #[test]
    fn the_gain_is_that_of_butterworth() {
        for order in [2, 4, 6, 8] {
            let settings = BandPassSettings { order, ..BandPassSettings::default() };
            for frequency in [0.1, 0.35, 0.7, 1.0, 1.7, 2.5, 4.0, 8.0, 20.0] {
                let (measured, formula) =
                    (measured(&settings, frequency), formula(&settings, frequency));
                let off = (measured - formula).abs();
                assert!(
                    off < 1e-3 * formula + 1e-6,
                    "order {order}, {frequency} Hz: {measured} {formula}"
                );
            }
        }
    }

    #[test]
    fn it_passes_the_pulse_and_stops_the_rest() {
        let settings = BandPassSettings::default();
        let decibel = |frequency| 20.0 * measured(&settings, frequency).log10();
        for frequency in [1.4, 1.7, 2.0, 2.3] {
            assert!(decibel(frequency).abs() < 0.7, "{frequency} Hz: {}", decibel(frequency));
        }
        for edge in [settings.low, settings.high] {
            assert!((decibel(edge) + 3.01).abs() < 0.05, "{edge} Hz: {}", decibel(edge));
        }
        for frequency in [0.05, 0.1, 0.2, 16.0, 50.0] {
            assert!(decibel(frequency) < -21.0, "{frequency} Hz: {}", decibel(frequency));
        }
    }

    #[test]
    fn a_constant_is_nothing_from_the_first_sample_on() {
        let mut filter = BandPass::new(&BandPassSettings::default()).unwrap();
        for n in 0..10 {
            let chunk = Chunk { rate: RATE, first: 100 * n, samples: vec![512.0; 100] };
            assert!(filter.push(&chunk).unwrap().pulse.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn settings_that_cannot_be() {
        let default = BandPassSettings::default();
        for (settings, with) in [
            (BandPassSettings { low: 0.0, ..default }, "band_pass.low cannot be 0"),
            (BandPassSettings { low: f64::NAN, ..default }, "band_pass.low cannot be NaN"),
            (BandPassSettings { high: 0.7, ..default }, "above band_pass.low, which is 0.7 Hz"),
            (BandPassSettings { high: f64::INFINITY, ..default }, "band_pass.high cannot be inf"),
            (BandPassSettings { order: 3, ..default }, "band_pass.order cannot be 3"),
            (BandPassSettings { order: 0, ..default }, "band_pass.order cannot be 0"),
        ] {
            let error = BandPass::new(&settings).unwrap_err().to_string();
            assert!(error.contains(with), "{error}");
        }
        let mut filter = BandPass::new(&default).unwrap();
        let slow = Chunk { rate: 8.0, first: 0, samples: vec![0.0] };
        let error = filter.push(&slow).unwrap_err().to_string();
        assert!(error.contains("below half the rate of the recording, 8 Hz"), "{error}");
    }

    #[test]
    fn chunks_out_of_order_are_refused() {
        let mut filter = BandPass::new(&BandPassSettings::default()).unwrap();
        let chunk = |rate, first| Chunk { rate, first, samples: vec![1.0; 10] };
        filter.push(&chunk(RATE, 0)).unwrap();
        for first in [0, 9, 20] {
            let error = filter.push(&chunk(RATE, first)).unwrap_err();
            assert!(matches!(error, Error::Order { expected: 10, found } if found == first));
        }
        assert!(matches!(filter.push(&chunk(50.0, 10)), Err(Error::Item { .. })));
        assert!(matches!(filter.push(&chunk(f64::NAN, 10)), Err(Error::Item { .. })));
        filter.push(&chunk(RATE, 10)).unwrap();
    }
}
