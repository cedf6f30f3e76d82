//! The third step: the power spectral density of a window.

use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlannerScalar};
use serde::{Deserialize, Serialize};

use super::window::{LEAST_SAMPLES, MOST_SAMPLES};
use super::{Error, Result, Window, counted_rate};

/// What is read from a window: the densities of its power, and the beats counted
/// in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// The number of the window.
    pub index: u64,
    /// Where the window starts, in seconds.
    pub start: f64,
    /// How long it is, in seconds.
    pub length: f64,
    /// From one bin to the next in hertz; the first is at 0 Hz.
    pub bin: f64,
    /// The power density of the raw samples, one-sided: units of the sensor
    /// squared, per hertz.
    pub raw: Vec<f64>,
    /// The power density of the pulse, the same way.
    pub pulse: Vec<f64>,
    /// The heart rate by counting the beats of the pulse; see [`counted_rate`].
    pub counted_rate: Option<f64>,
}

/// Makes spectra of windows, by a Fourier transform of the samples weighted with
/// a Hann window.
///
/// The density is scaled so that its sum times [`bin`](Spectrum::bin) is the mean
/// square of the samples, weighted with the squared Hann window: a sine of
/// amplitude A is a peak of area A²/2 (G. Heinzel et al., "Spectrum and spectral
/// density estimation by the discrete Fourier transform", 2002, section 9).
/// Zeros behind the samples, up to a power of two of at least twice their
/// number, make the bins narrow enough to find a peak between them.
#[derive(Clone)]
pub struct Spectra {
    plan: Option<Plan>,
}

/// What is the same for all windows of a length.
#[derive(Clone)]
struct Plan {
    weights: Vec<f64>,
    /// The sum of the squared weights.
    power: f64,
    transform: Arc<dyn Fft<f64>>,
    buffer: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Spectra {
    /// Makes the step. The first window decides about lengths.
    pub fn new() -> Self {
        Self { plan: None }
    }

    /// Makes the spectrum of a window.
    ///
    /// # Errors
    ///
    /// [`Error::Item`] if the window has too few or too many samples, or not as
    /// many of the pulse as raw ones.
    pub fn process(&mut self, window: &Window) -> Result<Spectrum> {
        let count = window.raw.len();
        let wrong = |problem: String| Err(Error::item("window", problem));
        if !(LEAST_SAMPLES..=MOST_SAMPLES).contains(&count) {
            return wrong(format!("it has {count} samples, not {LEAST_SAMPLES} to {MOST_SAMPLES}"));
        }
        if window.pulse.len() != count {
            return wrong(format!("{} samples of the pulse, {count} raw ones", window.pulse.len()));
        }
        let rate = window.rate;
        if !(rate.is_finite() && rate > 0.0) {
            return wrong(format!("{rate} samples a second"));
        }
        if self.plan.as_ref().is_none_or(|plan| plan.weights.len() != count) {
            self.plan = None;
        }
        let plan = self.plan.get_or_insert_with(|| Plan::new(count));
        Ok(Spectrum {
            index: window.index,
            start: window.start,
            length: count as f64 / rate,
            bin: rate / plan.buffer.len() as f64,
            raw: plan.density(&window.raw, rate),
            pulse: plan.density(&window.pulse, rate),
            counted_rate: counted_rate(&window.pulse, rate),
        })
    }
}

impl Default for Spectra {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Spectra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.plan.as_ref().map(|plan| plan.weights.len());
        f.debug_struct("Spectra").field("samples", &samples).finish_non_exhaustive()
    }
}

impl Plan {
    fn new(count: usize) -> Self {
        let weights: Vec<_> =
            (0..count).map(|n| 0.5 - 0.5 * (TAU * n as f64 / count as f64).cos()).collect();
        let bins = (2 * count).next_power_of_two();
        // Without vector instructions: the same bits on every processor.
        let transform = FftPlannerScalar::new().plan_fft_forward(bins);
        Self {
            power: weights.iter().map(|weight| weight * weight).sum(),
            weights,
            buffer: vec![Complex::default(); bins],
            scratch: vec![Complex::default(); transform.get_inplace_scratch_len()],
            transform,
        }
    }

    fn density(&mut self, samples: &[f64], rate: f64) -> Vec<f64> {
        self.buffer.fill(Complex::default());
        for ((value, sample), weight) in self.buffer.iter_mut().zip(samples).zip(&self.weights) {
            value.re = sample * weight;
        }
        self.transform.process_with_scratch(&mut self.buffer, &mut self.scratch);
        let half = self.buffer.len() / 2;
        let scale = 1.0 / (rate * self.power);
        self.buffer[..=half]
            .iter()
            .enumerate()
            .map(|(k, value)| {
                // All but the first and the last stand for a negative frequency too.
                let sides = if k == 0 || k == half { 1.0 } else { 2.0 };
                sides * scale * value.norm_sqr()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(rate: f64, samples: Vec<f64>) -> Window {
        let pulse = samples.iter().map(|x| 2.0 * x).collect();
        Window { index: 3, start: 6.0, rate, raw: samples, pulse }
    }

    fn total(density: &[f64], bin: f64) -> f64 {
        density.iter().sum::<f64>() * bin
    }

    #[test]
    fn a_sine_is_a_peak_of_its_power() {
        let (rate, count, amplitude) = (117.0, 1872, 3.0);
        for frequency in [0.5, 1.0, 1.234, 3.9, 20.0] {
            let sine = |n: usize| amplitude * (TAU * frequency * n as f64 / rate + 0.3).sin();
            let spectrum =
                Spectra::new().process(&window(rate, (0..count).map(sine).collect())).unwrap();
            assert_eq!((spectrum.index, spectrum.start, spectrum.length), (3, 6.0, 16.0));
            assert_eq!(spectrum.raw.len(), 4096 / 2 + 1);
            assert_eq!(spectrum.bin, rate / 4096.0);
            let near = |k: &usize| (*k as f64 * spectrum.bin - frequency).abs() <= 2.0 / 16.0;
            let area: f64 = (0..spectrum.raw.len()).filter(near).map(|k| spectrum.raw[k]).sum();
            let power = area * spectrum.bin;
            assert!((power / 4.5 - 1.0).abs() < 1e-3, "{frequency} Hz: {power}");
            for (raw, pulse) in spectrum.raw.iter().zip(&spectrum.pulse) {
                assert!((4.0 * raw - pulse).abs() <= 1e-12 * pulse);
            }
        }
    }

    /// White noise of variance 1 has the density 2/rate at all frequencies.
    #[test]
    fn noise_is_flat() {
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        let rate = 100.0;
        let samples = (0..20_000).map(|_| uniform() * 12_f64.sqrt()).collect();
        let spectrum = Spectra::new().process(&window(rate, samples)).unwrap();
        let bands = spectrum.raw.chunks(spectrum.raw.len() / 10);
        for band in bands.take(10) {
            let mean = band.iter().sum::<f64>() / band.len() as f64;
            assert!((mean * rate / 2.0 - 1.0).abs() < 0.15, "{mean}");
        }
    }

    #[test]
    fn silence_has_no_power() {
        let spectrum = Spectra::new().process(&window(100.0, vec![0.0; 1000])).unwrap();
        assert!(spectrum.raw.iter().all(|&density| density == 0.0));
        assert_eq!(spectrum.counted_rate, None);
    }

    #[test]
    fn windows_that_cannot_be() {
        let mut spectra = Spectra::new();
        assert!(matches!(spectra.process(&window(100.0, vec![])), Err(Error::Item { .. })));
        assert!(matches!(spectra.process(&window(100.0, vec![0.0; 15])), Err(Error::Item { .. })));
        assert!(matches!(spectra.process(&window(0.0, vec![0.0; 99])), Err(Error::Item { .. })));
        let mut uneven = window(100.0, vec![0.0; 99]);
        uneven.pulse.pop();
        assert!(matches!(spectra.process(&uneven), Err(Error::Item { .. })));
    }

    proptest! {
        /// Parseval: the density holds the power of the weighted samples, no more
        /// and no less, whatever the length.
        #[test]
        fn the_sum_is_the_power(
            samples in prop::collection::vec(-1000.0..1000.0, LEAST_SAMPLES..700),
            rate in 1.0..1000.0,
        ) {
            let window = window(rate, samples);
            let spectrum = Spectra::new().process(&window).unwrap();
            let plan = Plan::new(window.raw.len());
            let weighted = window.raw.iter().zip(&plan.weights).map(|(x, w)| (x * w) * (x * w));
            let power = weighted.sum::<f64>() / plan.power;
            let sum = total(&spectrum.raw, spectrum.bin);
            prop_assert!((sum - power).abs() <= 1e-9 * power, "{sum} {power}");
        }

        /// One step for windows of several lengths gives what a new one gives.
        #[test]
        fn nothing_is_left_of_other_windows(
            lengths in prop::collection::vec(LEAST_SAMPLES..200, 1..6),
        ) {
            let mut spectra = Spectra::new();
            for length in lengths {
                let samples = (0..length).map(|n| ((n * n) % 17) as f64 - 8.0).collect();
                let window = window(100.0, samples);
                prop_assert_eq!(spectra.process(&window)?, Spectra::new().process(&window)?);
            }
        }
    }
}
