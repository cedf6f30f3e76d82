//! Vitals as text: for people, and as CSV.

use std::fmt::Write;

use super::Vitals;

const COLUMNS: [&str; 8] = [
    "window",
    "start_s",
    "heart_rate_bpm",
    "counted_bpm",
    "quality",
    "respiration",
    "cardiac",
    "rest",
];

/// Writes a table with a line for each window; what is not known is a dash.
///
/// Rates are in beats a minute, powers in units of the sensor squared.
pub fn table(vitals: &[Vitals]) -> String {
    let lines: Vec<_> = std::iter::once(COLUMNS.map(String::from))
        .chain(vitals.iter().map(|vitals| fields(vitals, "-")))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        for (n, (field, width)) in line.iter().zip(widths).enumerate() {
            let gap = if n == 0 { "" } else { "  " };
            let _ = write!(text, "{gap}{field:>width$}");
        }
        text.push('\n');
    }
    text
}

/// Writes CSV: a header, and a line for each window; what is not known is empty.
///
/// Rates are in beats a minute, powers in units of the sensor squared.
pub fn csv(vitals: &[Vitals]) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for vitals in vitals {
        text += &fields(vitals, "").join(",");
        text.push('\n');
    }
    text
}

fn fields(vitals: &Vitals, unknown: &str) -> [String; COLUMNS.len()] {
    let rate = |rate: Option<f64>| rate.map_or(unknown.into(), |rate| format!("{rate:.2}"));
    let power = |power: f64| format!("{power:.3}");
    [
        vitals.index.to_string(),
        format!("{:.3}", vitals.start),
        rate(vitals.heart_rate),
        rate(vitals.counted_rate),
        format!("{:.3}", vitals.quality),
        power(vitals.powers.respiration),
        power(vitals.powers.cardiac),
        power(vitals.powers.rest),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Powers;
    use super::*;

    fn two() -> [Vitals; 2] {
        let powers = Powers { respiration: 1.5, cardiac: 1234.5678, rest: 0.0 };
        let first = Vitals {
            index: 0,
            start: 0.0,
            heart_rate: Some(61.256),
            counted_rate: Some(60.0),
            quality: 0.87654,
            powers,
        };
        let unknown = Vitals { heart_rate: None, counted_rate: None, quality: 0.0, ..first };
        [first, Vitals { index: 1, start: 2.0, ..unknown }]
    }

    #[test]
    fn columns_are_aligned() {
        let expected = "\
window  start_s  heart_rate_bpm  counted_bpm  quality  respiration   cardiac   rest
     0    0.000           61.26        60.00    0.877        1.500  1234.568  0.000
     1    2.000               -            -    0.000        1.500  1234.568  0.000
";
        assert_eq!(table(&two()), expected);
    }

    #[test]
    fn csv_has_a_header_and_empty_fields() {
        let expected = "\
window,start_s,heart_rate_bpm,counted_bpm,quality,respiration,cardiac,rest
0,0.000,61.26,60.00,0.877,1.500,1234.568,0.000
1,2.000,,,0.000,1.500,1234.568,0.000
";
        assert_eq!(csv(&two()), expected);
    }

    #[test]
    fn nothing_is_a_header() {
        assert_eq!(table(&[]).lines().count(), 1);
        assert_eq!(csv(&[]).lines().count(), 1);
    }
}
