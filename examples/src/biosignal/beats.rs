//! Counts beats in the time domain: a second estimate, which owes nothing to the
//! spectrum.

/// How far an interval between two beats may be from the median one. What is
/// farther has a beat too many or too few.
const IRREGULAR: f64 = 0.3;

/// Returns the heart rate in beats a minute by counting the peaks of the pulse,
/// or `None` with less than three of them.
///
/// A peak is the highest sample between a rise above a threshold and the fall
/// below zero; the smaller wave behind each beat stays below the threshold. That
/// is half of the value that only 5 % of the samples exceed: a few wild samples
/// do not move it, be the beats broad or narrow. The rate is the number of
/// intervals over the sum of them, without those that are more than 30 % from
/// the median: a beat that was missed, or counted twice, does not count at all.
pub fn counted_rate(pulse: &[f64], rate: f64) -> Option<f64> {
    let peaks = peaks(pulse);
    let mut intervals: Vec<_> = peaks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if intervals.len() < 2 {
        return None;
    }
    let middle = intervals.len() / 2;
    let median = *intervals.select_nth_unstable(middle).1 as f64;
    intervals.retain(|&interval| (interval as f64 - median).abs() <= IRREGULAR * median);
    let samples: usize = intervals.iter().sum();
    Some(60.0 * intervals.len() as f64 * rate / samples as f64)
}

/// The places of the peaks that begin and end within the samples.
fn peaks(pulse: &[f64]) -> Vec<usize> {
    let threshold = threshold(pulse);
    let mut peaks = Vec::new();
    let mut below = false;
    let mut highest: Option<usize> = None;
    for (n, &value) in pulse.iter().enumerate() {
        if value < 0.0 {
            below = true;
            peaks.extend(highest.take());
        } else if let Some(at) = highest {
            if value > pulse[at] {
                highest = Some(n);
            }
        } else if below && value > threshold {
            highest = Some(n);
            below = false;
        }
    }
    peaks
}

fn threshold(pulse: &[f64]) -> f64 {
    let mut values = pulse.to_vec();
    let at = values.len() * 95 / 100;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(at, f64::total_cmp).1 / 2.0
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    #[test]
    fn a_sine_beats_at_its_frequency() {
        for bpm in [40.0, 61.7, 72.0, 133.3, 239.0] {
            let sine = |n| (TAU * bpm / 60.0 * f64::from(n) / 117.0 + 1.0).sin();
            let pulse: Vec<_> = (0..1872).map(sine).collect();
            let counted = counted_rate(&pulse, 117.0).unwrap();
            assert!((counted - bpm).abs() < 0.5, "{bpm}: {counted}");
        }
    }

    #[test]
    fn the_smaller_wave_behind_a_beat_is_none() {
        let wave = |n| {
            let phase = TAU * f64::from(n) / 100.0;
            phase.sin() + 0.6 * (2.0 * phase - 0.8).sin()
        };
        let pulse: Vec<_> = (0..1050).map(wave).collect();
        // It really is there: two maxima in each period.
        let maxima = pulse.windows(3).filter(|w| w[0] < w[1] && w[1] > w[2]).count();
        assert_eq!(maxima, 21);
        assert!((counted_rate(&pulse, 100.0).unwrap() - 60.0).abs() < 1e-9);
    }

    #[test]
    fn a_wild_sample_hides_no_beat() {
        let mut pulse: Vec<_> = (0..1000).map(|n| (TAU * f64::from(n) / 100.0).sin()).collect();
        let before = counted_rate(&pulse, 100.0);
        pulse[525] = 40.0;
        pulse[526] = 50.0;
        assert_eq!(peaks(&pulse).len(), 9);
        assert_eq!(before, counted_rate(&pulse, 100.0));
    }

    #[test]
    fn a_beat_missed_or_counted_twice_does_not_count() {
        let beats = |places: &[usize]| {
            let mut pulse = vec![-0.1; 1000];
            places.iter().for_each(|&place| pulse[place..place + 60].fill(1.0));
            counted_rate(&pulse, 100.0)
        };
        assert_eq!(beats(&[100, 200, 300, 400, 500, 600, 700]), Some(60.0));
        assert_eq!(beats(&[100, 200, 300, 500, 600, 700]), Some(60.0));
        assert_eq!(beats(&[100, 200, 265, 300, 400, 500, 600, 700]), Some(60.0));
        // One that comes a little early does.
        assert_eq!(beats(&[100, 200, 300, 400, 475, 600]), Some(60.0));
    }

    #[test]
    fn nothing_beats_nothing_is_counted() {
        assert_eq!(counted_rate(&[], 100.0), None);
        assert_eq!(counted_rate(&[0.0; 500], 100.0), None);
        assert_eq!(counted_rate(&[-1.0, 1.0, -1.0, 1.0, -1.0], 100.0), None);
        assert_eq!(counted_rate(&[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0], 1.0), Some(30.0));
    }
}
