use std::f64::consts::TAU;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as DeError, MapDeserializer};

use super::*;

fn real() -> Recording {
    Recording::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ppg.csv")).unwrap()
}

/// Runs the steps with chunks that end where `cuts` says.
fn analyse_in(recording: &Recording, settings: &Settings, cuts: &[usize]) -> Vec<Vitals> {
    let mut band_pass = BandPass::new(&settings.band_pass).unwrap();
    let mut windows = Windows::new(&settings.window).unwrap();
    let mut spectra = Spectra::new();
    let meter = Meter::new(&settings.meter).unwrap();
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (recording.samples().len() + 1)).collect();
    ends.push(recording.samples().len());
    ends.sort_unstable();
    let mut vitals = Vec::new();
    let mut first = 0;
    for end in ends {
        let samples = recording.samples()[first..end].to_vec();
        let chunk = Chunk { rate: recording.rate(), first: first as u64, samples };
        first = end;
        for window in windows.push(&band_pass.push(&chunk).unwrap()).unwrap() {
            vitals.push(meter.process(&spectra.process(&window).unwrap()).unwrap());
        }
    }
    vitals
}

/// All numbers as bits, so that -0 and 0 differ.
fn bits(vitals: &[Vitals]) -> Vec<[u64; 8]> {
    let rate = |rate: Option<f64>| rate.map_or(u64::MAX, f64::to_bits);
    vitals
        .iter()
        .map(|v| {
            let Powers { respiration, cardiac, rest } = v.powers;
            let [start, quality] = [v.start, v.quality].map(f64::to_bits);
            let [respiration, cardiac, rest] = [respiration, cardiac, rest].map(f64::to_bits);
            let rates = [rate(v.heart_rate), rate(v.counted_rate)];
            [v.index, start, rates[0], rates[1], quality, respiration, cardiac, rest]
        })
        .collect()
}

/// A pulse like a real one: a beat with its smaller wave, breath, and a constant.
fn made(bpm: f64, breaths: f64, seconds: f64) -> Recording {
    let rate = 117.0;
    let value = |n: usize| {
        let time = n as f64 / rate;
        let beat = TAU * bpm / 60.0 * time;
        let pulse = beat.sin() + 0.5 * (2.0 * beat - 0.8).sin() + 0.2 * (3.0 * beat).sin();
        512.0 + 20.0 * pulse + 10.0 * (TAU * breaths / 60.0 * time).sin()
    };
    Recording::new(rate, (0..(seconds * rate) as usize).map(value).collect()).unwrap()
}

#[test]
fn smoke() {
    for (bpm, breaths) in [(48.0, 12.0), (72.0, 15.0), (111.0, 20.0), (180.0, 25.0)] {
        let vitals = analyse(&made(bpm, breaths, 60.0), &Settings::default()).unwrap();
        assert_eq!(vitals.len(), 23);
        for (n, window) in vitals.iter().enumerate() {
            assert_eq!((window.index, window.start), (n as u64, 2.0 * n as f64));
            let (rate, counted) = (window.heart_rate.unwrap(), window.counted_rate.unwrap());
            assert!((rate - bpm).abs() < 0.5, "{bpm} bpm, window {n}: {rate}");
            assert!((counted - bpm).abs() < 1.0, "{bpm} bpm, window {n}: counted {counted}");
            assert!(window.quality > 0.9, "{bpm} bpm, window {n}: {}", window.quality);
            // Amplitudes 10, and 20 with its harmonics.
            let Powers { respiration, cardiac, .. } = window.powers;
            assert!((respiration / 50.0 - 1.0).abs() < 0.1, "{bpm} bpm, window {n}: {respiration}");
            let within = [(1.0, 1.0), (2.0, 0.5), (3.0, 0.2)];
            let pulse: f64 = within
                .iter()
                .filter(|(n, _)| n * bpm / 60.0 < 4.0)
                .map(|(_, amplitude)| 200.0 * amplitude * amplitude)
                .sum();
            assert!((cardiac / pulse - 1.0).abs() < 0.05, "{bpm} bpm, window {n}: {cardiac}");
        }
    }
}

/// Until second 32 the sensor is being put on, and shows no pulse; from there on
/// it shows every beat.
#[test]
fn real_recording() {
    let recording = real();
    assert_eq!(recording.samples().len(), 15_000);
    assert!((recording.rate() - 116.99).abs() < 0.01, "{}", recording.rate());
    let vitals = analyse(&recording, &Settings::default()).unwrap();
    assert_eq!(vitals.len(), 57);
    let (mut most, mut all) = (0, 0);
    for window in vitals.iter().filter(|window| window.start > 32.0) {
        let (rate, counted) = (window.heart_rate.unwrap(), window.counted_rate.unwrap());
        assert!((58.0..74.0).contains(&rate), "{window:?}");
        assert!((rate - counted).abs() < 3.0, "{window:?}");
        assert!(window.quality > 0.5, "{window:?}");
        assert!(window.powers.cardiac > 10.0 * window.powers.respiration, "{window:?}");
        most += u32::from((rate - counted).abs() < 2.0);
        all += 1;
    }
    assert_eq!(all, 41);
    assert!(most > 30, "{most} of {all} windows agree within 2 bpm");
    // The wander while the sensor is put on is no pulse.
    let wander = vitals[6].powers;
    assert!(wander.respiration + wander.rest > 10.0 * wander.cardiac, "{wander:?}");
}

/// Beats that were read off a picture of the raw samples, by eye: the seconds of
/// the first and the last in a window, and how many intervals are between.
#[test]
fn real_recording_by_eye() {
    let settings =
        Settings { window: WindowSettings { length: 10.0, hop: 10.0 }, ..Settings::default() };
    let vitals = analyse(&real(), &settings).unwrap();
    for (window, first, last, intervals) in
        [(5, 50.17, 59.81, 10.0), (8, 80.26, 89.22, 9.0), (11, 110.76, 119.55, 9.0)]
    {
        let by_eye = 60.0 * intervals / (last - first);
        let (rate, counted) =
            (vitals[window].heart_rate.unwrap(), vitals[window].counted_rate.unwrap());
        assert!((rate - by_eye).abs() < 2.5, "window {window}: {rate}, by eye {by_eye}");
        assert!((counted - by_eye).abs() < 1.0, "window {window}: {counted}, by eye {by_eye}");
    }
}

#[test]
fn the_same_numbers_every_time() {
    let recording = real();
    let settings = Settings::default();
    let first = bits(&analyse(&recording, &settings).unwrap());
    assert_eq!(first, bits(&analyse(&recording, &settings).unwrap()));
    assert_eq!(first, bits(&analyse(&real(), &settings).unwrap()));
    assert_eq!(first, bits(&analyse_in(&recording, &settings, &[])));
}

#[test]
fn a_recording_shorter_than_a_window_is_told() {
    let settings = Settings::default();
    for seconds in [0.0, 1.0, 15.9] {
        let error = analyse(&made(60.0, 12.0, seconds), &settings).unwrap_err();
        assert!(matches!(error, Error::TooShort { .. }), "{error}");
        assert!(error.to_string().contains("a window 16.0 s"), "{error}");
    }
    let just = made(60.0, 12.0, 16.0);
    assert_eq!(analyse(&just, &settings).unwrap().len(), 1);
}

#[test]
fn settings_from_a_file_keep_their_defaults() {
    let window = MapDeserializer::<_, DeError>::new([("length", 8.0)].into_iter());
    let window = WindowSettings::deserialize(window).unwrap();
    assert_eq!(window, WindowSettings { length: 8.0, ..WindowSettings::default() });
    let wrong = MapDeserializer::<_, DeError>::new([("lenght", 8.0)].into_iter());
    let error = WindowSettings::deserialize(wrong).unwrap_err().to_string();
    assert!(error.contains("unknown field `lenght`"), "{error}");
}

/// Whatever carries items carries these.
#[test]
fn items_go_anywhere() {
    fn goes<T: Serialize + DeserializeOwned + Send + Clone + 'static>() {}
    goes::<Chunk>();
    goes::<Filtered>();
    goes::<Window>();
    goes::<Spectrum>();
    goes::<Vitals>();
    goes::<Settings>();
    fn moves<T: Send + 'static>() {}
    moves::<(BandPass, Windows, Spectra, Meter)>();
    moves::<Error>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the samples are cut into chunks, empty ones too.
    #[test]
    fn chunks_make_no_difference(cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        let recording = made(77.0, 14.0, 24.0);
        let settings = Settings::default();
        let whole = analyse(&recording, &settings).unwrap();
        prop_assert_eq!(whole.len(), 5);
        prop_assert_eq!(bits(&analyse_in(&recording, &settings, &cuts)), bits(&whole));
    }

    /// Settings that are accepted give an outcome or an error, for any signal.
    #[test]
    fn nothing_panics(
        samples in prop::collection::vec(-1e6..1e6, 0..600),
        rate in 8.0..200.0,
        low in 0.01..2.0,
        high in 0.5..20.0,
        length in 0.1..6.0,
        hop in 0.01..3.0,
        slowest in 1.0..100.0,
    ) {
        let recording = Recording::new(rate, samples).unwrap();
        let settings = Settings {
            band_pass: BandPassSettings { low, high, ..BandPassSettings::default() },
            window: WindowSettings { length, hop },
            meter: MeterSettings { slowest, ..MeterSettings::default() },
        };
        if let Ok(vitals) = analyse(&recording, &settings) {
            prop_assert!(!vitals.is_empty());
            for window in &vitals {
                prop_assert!((0.0..=1.0).contains(&window.quality));
                let known = window.heart_rate.is_none_or(|rate| (slowest - 1e-9..=240.0 + 1e-9).contains(&rate));
                prop_assert!(known, "{:?}", window);
            }
            prop_assert!(!svg(&vitals).unwrap().contains("NaN"));
        }
    }
}
