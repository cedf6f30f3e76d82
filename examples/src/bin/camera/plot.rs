//! Motion and edges over time, as a picture.

use std::error::Error;
use std::ops::Range;

use plotters::prelude::*;

use crate::failure::Failure;

const SIZE: (u32, u32) = (1200, 640);

/// More points than this do not show.
const MOST_POINTS: usize = 3000;

const MOTION: RGBColor = RGBColor(0xC4, 0x3A, 0x31);
const EDGES: RGBColor = RGBColor(0x1F, 0x5F, 0xA8);

/// The points of the two curves.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    frame: u64,
    motion: f32,
    edges: f32,
}

impl Plot {
    /// Adds one frame.
    pub(crate) fn add(&mut self, frame: u64, motion: f64, edges: f64) {
        self.points.push(Point { frame, motion: motion as f32, edges: edges as f32 });
    }

    /// Draws the curves, one above the other.
    pub(crate) fn to_svg(&self) -> Result<String, Failure> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| Failure::Run(format!("cannot draw the plot: {error}")))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn Error>> {
        let points = self.thinned();
        let first = points.first().map_or(0, |point| point.frame) as f64;
        let last = points.last().map_or(0, |point| point.frame) as f64;
        let frames = first..last.max(first + 1.0);
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (above, below) = root.split_vertically(SIZE.1 / 2);
        let motion: Vec<_> = points.iter().map(|p| (p.frame as f64, f64::from(p.motion))).collect();
        let edges: Vec<_> = points.iter().map(|p| (p.frame as f64, f64::from(p.edges))).collect();
        let title = "Motion: mean absolute difference of luma to the frame before";
        curve(&above, title, frames.clone(), &motion, MOTION)?;
        curve(&below, "Edges: mean Sobel gradient", frames, &edges, EDGES)?;
        root.present()?;
        Ok(())
    }

    /// Returns as many points as can be seen: means of neighbours if there are more.
    fn thinned(&self) -> Vec<Point> {
        let together = self.points.len().div_ceil(MOST_POINTS).max(1);
        let mean = |points: &[Point], value: fn(&Point) -> f32| {
            points.iter().map(value).sum::<f32>() / points.len() as f32
        };
        self.points
            .chunks(together)
            .map(|points| Point {
                frame: points[points.len() / 2].frame,
                motion: mean(points, |p| p.motion),
                edges: mean(points, |p| p.edges),
            })
            .collect()
    }
}

fn curve(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    frames: Range<f64>,
    points: &[(f64, f64)],
    colour: RGBColor,
) -> Result<(), Box<dyn Error>> {
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let values = 0.0..if highest > 0.0 { highest * 1.05 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(frames, values)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .x_desc("frame")
        .y_labels(5)
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&|frame| format!("{frame:.0}"))
        .y_label_formatter(&|value| format!("{value:.1}"))
        .draw()
        .map_err(|error| error.to_string())?;
    let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
    chart.draw_series(line).map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_one_frame_and_many_frames_draw() {
        for frames in [0, 1, 2, 10_000] {
            let mut plot = Plot::default();
            for frame in 0..frames {
                plot.add(frame, 3.0, 40.0);
            }
            let svg = plot.to_svg().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{frames}");
            assert!(!svg.contains("NaN"), "{frames}");
            assert!(svg.len() < 500_000, "{frames} frames make {} bytes", svg.len());
        }
    }

    #[test]
    fn thinning_takes_means() {
        let mut plot = Plot::default();
        for frame in 0..2 * MOST_POINTS as u64 {
            plot.add(frame, (frame % 2) as f64, 7.0);
        }
        let points = plot.thinned();
        assert_eq!(points.len(), MOST_POINTS);
        assert!(points.iter().all(|p| p.motion == 0.5 && p.edges == 7.0));
    }
}
