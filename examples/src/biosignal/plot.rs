//! Vitals over time, as a picture.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Error, Powers, Result, Vitals};

const SIZE: (u32, u32) = (1200, 760);

const RED: RGBColor = RGBColor(0xC4, 0x3A, 0x31);
const BLUE: RGBColor = RGBColor(0x1F, 0x5F, 0xA8);
const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
type Value = fn(&Vitals) -> Option<f64>;

/// One line of a chart.
struct Line {
    name: &'static str,
    colour: RGBColor,
    /// Dots instead of a line.
    dots: bool,
    value: Value,
}

const RATES: [Line; 2] = [
    Line { name: "from the spectrum", colour: RED, dots: false, value: |vitals| vitals.heart_rate },
    Line { name: "counted", colour: BLUE, dots: true, value: |vitals| vitals.counted_rate },
];

const POWERS: [Line; 3] = [
    Line { name: "heart", colour: RED, dots: false, value: |v| decibel(v, |p| p.cardiac) },
    Line { name: "breath", colour: BLUE, dots: false, value: |v| decibel(v, |p| p.respiration) },
    Line { name: "rest", colour: GREY, dots: false, value: |v| decibel(v, |p| p.rest) },
];

/// Draws the heart rate over time, and below it the power in bands, as SVG.
///
/// The line of the heart rate has a gap where it is not known.
///
/// # Errors
///
/// [`Error::Plot`] if the values are beyond what can be drawn.
pub fn svg(vitals: &[Vitals]) -> Result<String> {
    let mut svg = String::new();
    draw(vitals, &mut svg).map_err(|error| Error::Plot(error.to_string()))?;
    Ok(svg)
}

fn draw(vitals: &[Vitals], svg: &mut String) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1 / 2);
    chart(&above, "Heart rate in beats a minute", &RATES, vitals)?;
    chart(&below, "Power in bands, in dB of the sensor's unit squared", &POWERS, vitals)?;
    root.present()?;
    Ok(())
}

fn chart(area: &Area<'_>, title: &str, lines: &[Line], vitals: &[Vitals]) -> Drawn {
    let start = vitals.first().map_or(0.0, |vitals| vitals.start);
    let end = vitals.last().map_or(0.0, |vitals| vitals.start);
    let values = lines.iter().flat_map(|line| vitals.iter().filter_map(line.value));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(start..end.max(start + 1.0), range(values))
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_desc("start of the window, s")
        .y_labels(6)
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&|time| format!("{time:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()
        .map_err(|error| error.to_string())?;
    for line in lines {
        let Line { name, colour, dots, value } = *line;
        for (n, piece) in pieces(vitals, value).into_iter().enumerate() {
            let series = if dots {
                let dot = |point| Circle::new(point, 3, colour.filled());
                chart.draw_series(piece.into_iter().map(dot))
            } else {
                chart.draw_series(LineSeries::new(piece, colour.stroke_width(2)).point_size(2))
            };
            let series = series.map_err(|error| error.to_string())?;
            if n == 0 {
                series.label(name).legend(move |(x, y)| {
                    Rectangle::new([(x, y - 2), (x + 16, y + 2)], colour.filled())
                });
            }
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// The points that follow each other without one that is not known.
fn pieces(vitals: &[Vitals], value: Value) -> Vec<Vec<(f64, f64)>> {
    vitals
        .chunk_by(|a, b| value(a).is_some() == value(b).is_some())
        .map(|piece| piece.iter().filter_map(|v| Some((v.start, value(v)?))).collect::<Vec<_>>())
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// A range with all values, and some room.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = (0.08 * (high - low)).max(1.0);
    low - room..high + room
}

/// A power in decibel; none has no such value.
fn decibel(vitals: &Vitals, power: fn(&Powers) -> f64) -> Option<f64> {
    let power = power(&vitals.powers);
    (power > 0.0).then(|| 10.0 * power.log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(index: u32, heart_rate: Option<f64>) -> Vitals {
        Vitals {
            index: index.into(),
            start: f64::from(index) * 2.0,
            heart_rate,
            counted_rate: heart_rate.map(|rate| rate + 1.0),
            quality: 0.9,
            powers: Powers { respiration: 0.0, cardiac: 10.0, rest: 1e-9 },
        }
    }

    #[test]
    fn no_window_one_window_and_many_windows_draw() {
        for count in [0, 1, 2, 1000] {
            let windows: Vec<_> = (0..count).map(|n| vitals(n, Some(60.0))).collect();
            let svg = svg(&windows).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{count}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{count}");
        }
    }

    #[test]
    fn the_line_breaks_where_nothing_is_known() {
        let rates = [Some(60.0), Some(61.0), None, None, Some(62.0), None];
        let windows: Vec<_> = (0..).zip(rates).map(|(n, rate)| vitals(n, rate)).collect();
        let pieces = pieces(&windows, |vitals| vitals.heart_rate);
        assert_eq!(pieces, [vec![(0.0, 60.0), (2.0, 61.0)], vec![(8.0, 62.0)]]);
        let nothing = [vitals(0, None), vitals(1, None)];
        assert!(svg(&nothing).is_ok());
    }

    #[test]
    fn ranges_hold_all_values() {
        assert_eq!(range(std::iter::empty()), 0.0..1.0);
        assert_eq!(range([5.0].into_iter()), 4.0..6.0);
        assert_eq!(range([0.0, 100.0].into_iter()), -8.0..108.0);
    }
}
