use std::f64::consts::TAU;

use super::super::{Spectra, Window};
use super::*;

const RATE: f64 = 100.0;

/// The vitals of 16 s of a sum of sines, given by frequency and amplitude.
fn vitals(sines: &[(f64, f64)]) -> Vitals {
    let value = |n: u32| -> f64 {
        let time = f64::from(n) / RATE;
        sines.iter().map(|(frequency, amplitude)| amplitude * (TAU * frequency * time).sin()).sum()
    };
    let samples: Vec<_> = (0..1600).map(value).collect();
    let window = Window { index: 0, start: 0.0, rate: RATE, raw: samples.clone(), pulse: samples };
    let spectrum = Spectra::new().process(&window).unwrap();
    Meter::new(&MeterSettings::default()).unwrap().process(&spectrum).unwrap()
}

#[track_caller]
fn close(is: f64, to: f64, by: f64) {
    assert!((is - to).abs() <= by, "{is} is not {to} within {by}");
}

#[test]
fn every_rate_is_found_between_the_bins() {
    let mut bpm = 45.0;
    while bpm < 236.0 {
        let vitals = vitals(&[(bpm / 60.0, 2.0)]);
        close(vitals.heart_rate.unwrap(), bpm, 0.05);
        close(vitals.counted_rate.unwrap(), bpm, 1.0);
        assert!(vitals.quality > 0.99, "{}", vitals.quality);
        bpm += 1.37;
    }
}

#[test]
fn powers_are_those_of_the_sines() {
    let powers = vitals(&[(0.3, 4.0), (1.2, 3.0), (2.4, 1.0), (10.0, 2.0)]).powers;
    close(powers.respiration, 8.0, 0.05);
    close(powers.cardiac, 4.5 + 0.5, 0.05);
    close(powers.rest, 2.0, 0.05);
}

#[test]
fn a_stronger_second_harmonic_is_not_the_rate() {
    let vitals = vitals(&[(1.1, 0.7), (2.2, 1.0), (3.3, 0.3)]);
    close(vitals.heart_rate.unwrap(), 66.0, 0.1);
    assert!(vitals.quality > 0.99, "{}", vitals.quality);
}

#[test]
fn a_weak_wave_at_half_the_rate_is_not_the_rate() {
    close(vitals(&[(1.1, 0.3), (2.2, 1.0)]).heart_rate.unwrap(), 132.0, 0.1);
    // Nor is a strong one that is not at half of it.
    close(vitals(&[(0.9, 0.8), (2.2, 1.0)]).heart_rate.unwrap(), 132.0, 0.1);
    // Nor one that no heart is slow enough for.
    close(vitals(&[(0.6, 0.9), (1.2, 1.0)]).heart_rate.unwrap(), 72.0, 0.1);
}

#[test]
fn half_of_the_power_elsewhere_is_half_the_quality() {
    let vitals = vitals(&[(1.0, 1.0), (1.4, 0.999)]);
    close(vitals.heart_rate.unwrap(), 60.0, 0.1);
    close(vitals.quality, 0.5, 0.01);
}

#[test]
fn silence_has_no_rate() {
    let vitals = vitals(&[]);
    assert_eq!((vitals.heart_rate, vitals.counted_rate, vitals.quality), (None, None, 0.0));
    assert_eq!(vitals.powers, Powers { respiration: 0.0, cardiac: 0.0, rest: 0.0 });
}

#[test]
fn what_leaks_into_the_range_has_no_quality() {
    for frequency in [0.3, 13.0] {
        assert!(vitals(&[(frequency, 1.0)]).quality < 0.01);
    }
}

#[test]
fn a_slope_into_the_range_is_no_peak() {
    let pulse = (0..200).map(|k| f64::from(200 - k)).collect();
    let spectrum = Spectrum {
        index: 0,
        start: 0.0,
        length: 16.0,
        bin: 0.03,
        raw: vec![1.0; 200],
        pulse,
        counted_rate: None,
    };
    let vitals = Meter::new(&MeterSettings::default()).unwrap().process(&spectrum).unwrap();
    assert_eq!((vitals.heart_rate, vitals.quality), (None, 0.0));
}

#[test]
fn settings_that_cannot_be() {
    let default = MeterSettings::default();
    let band = |low, high| Band { low, high };
    for (settings, with) in [
        (MeterSettings { slowest: 0.0, ..default }, "meter.slowest cannot be 0"),
        (MeterSettings { fastest: 40.0, ..default }, "meter.fastest cannot be 40"),
        (MeterSettings { fastest: f64::NAN, ..default }, "meter.fastest cannot be NaN"),
        (MeterSettings { respiration: band(0.5, 0.1), ..default }, "meter.respiration cannot be"),
        (MeterSettings { respiration: band(-1.0, 0.1), ..default }, "meter.respiration cannot be"),
        (MeterSettings { cardiac: band(0.4, 4.0), ..default }, "must not overlap"),
        (MeterSettings { cardiac: band(0.7, f64::INFINITY), ..default }, "0.7 to inf Hz"),
    ] {
        let error = Meter::new(&settings).unwrap_err().to_string();
        assert!(error.contains(with), "{error}");
    }
}

#[test]
fn spectra_that_cannot_be_used() {
    let meter = Meter::new(&MeterSettings::default()).unwrap();
    let spectrum = Spectrum {
        index: 0,
        start: 0.0,
        length: 2.0,
        bin: 0.1,
        raw: vec![1.0; 20],
        pulse: vec![1.0; 20],
        counted_rate: None,
    };
    let error = meter.process(&spectrum).unwrap_err().to_string();
    assert!(error.contains("a window of 2 s does not hold two such beats"), "{error}");
    for wrong in [
        Spectrum { bin: 0.0, ..spectrum.clone() },
        Spectrum { length: f64::NAN, ..spectrum.clone() },
        Spectrum { raw: vec![], ..spectrum },
    ] {
        assert!(matches!(meter.process(&wrong), Err(Error::Item { .. })));
    }
}
