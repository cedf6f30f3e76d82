//! Statistics of luma planes: brightness, edges, motion.
//!
//! All of them give the same bits wherever and however often they are
//! computed: sums are of integers, or of `f64` in a fixed order.

use crate::picture::Size;

/// How many partial sums of a row run side by side, so that they vectorize.
const LANES: usize = 8;

/// Returns the mean of the luma, 0 to 255.
pub fn mean_luma(plane: &[u8]) -> f64 {
    // A chunk's sum fits in 32 bits, which makes the inner loop fast.
    let sum: u64 = plane
        .chunks(1 << 16)
        .map(|chunk| u64::from(chunk.iter().map(|&y| u32::from(y)).sum::<u32>()))
        .sum();
    mean(sum as f64, plane.len())
}

/// Returns the mean absolute difference of two planes of one size.
///
/// # Panics
///
/// If the planes differ in length.
pub fn motion(before: &[u8], now: &[u8]) -> f64 {
    assert_eq!(
        before.len(),
        now.len(),
        "motion needs two planes of one size"
    );
    let sum: u64 = before
        .chunks(1 << 16)
        .zip(now.chunks(1 << 16))
        .map(|(a, b)| {
            u64::from(
                a.iter()
                    .zip(b)
                    .map(|(a, b)| u32::from(a.abs_diff(*b)))
                    .sum::<u32>(),
            )
        })
        .sum();
    mean(sum as f64, now.len())
}

/// Returns the mean over all pixels but the one-pixel border of
/// `sqrt(gx² + gy²)`, with the 3×3 Sobel kernels; 0 for less than 3×3 pixels.
///
/// # Panics
///
/// If the length of `plane` does not fit its size.
pub fn edge_mean(plane: &[u8], size: Size) -> f64 {
    let mut lanes = [0.0; LANES];
    each_gradient_row(plane, size, |_, squares| {
        let (chunks, rest) = squares.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &square) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(square).sqrt();
            }
        }
        for (lane, &square) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(square).sqrt();
        }
    });
    let inner = size.width.saturating_sub(2) * size.height.saturating_sub(2);
    mean(lanes.iter().sum(), inner)
}

/// Draws `sqrt(gx² + gy²)` of every pixel, cut off at 255; the border is black.
///
/// # Panics
///
/// If the length of `plane` does not fit its size.
pub fn edge_picture(plane: &[u8], size: Size) -> Vec<u8> {
    let mut picture = vec![0; size.pixels()];
    each_gradient_row(plane, size, |y, squares| {
        let row = &mut picture[y * size.width + 1..][..squares.len()];
        for (pixel, &square) in row.iter_mut().zip(squares) {
            // The cast saturates.
            *pixel = f64::from(square).sqrt().round() as u8;
        }
    });
    picture
}

/// Calls `row(y, gx² + gy² of x = 1, 2, …)` for every row but the border.
fn each_gradient_row(plane: &[u8], size: Size, mut row: impl FnMut(usize, &[i32])) {
    assert_eq!(
        plane.len(),
        size.pixels(),
        "the plane must have the picture's size"
    );
    if size.width < 3 || size.height < 3 {
        return;
    }
    let inner = size.width - 2;
    let mut squares = vec![0; inner];
    for y in 1..size.height - 1 {
        let line = |y: usize| &plane[y * size.width..][..size.width];
        let (above, here, below) = (line(y - 1), line(y), line(y + 1));
        for (x, square) in squares.iter_mut().enumerate() {
            let [a, b, c] = [0, 1, 2].map(|i| i16::from(above[x + i]));
            let [d, f] = [0, 2].map(|i| i16::from(here[x + i]));
            let [g, h, i] = [0, 1, 2].map(|i| i16::from(below[x + i]));
            let gx = i32::from((c - a) + 2 * (f - d) + (i - g));
            let gy = i32::from((g - a) + 2 * (h - b) + (i - c));
            *square = gx * gx + gy * gy;
        }
        row(y, &squares);
    }
}

fn mean(sum: f64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(width: usize, height: usize) -> Size {
        Size { width, height }
    }

    #[test]
    fn mean_luma_of_known_planes() {
        assert_eq!(mean_luma(&[]), 0.0);
        assert_eq!(mean_luma(&[0, 1, 2, 255]), 64.5);
        assert_eq!(mean_luma(&vec![255; 200_001]), 255.0);
    }

    #[test]
    fn motion_of_known_planes() {
        assert_eq!(motion(&[], &[]), 0.0);
        assert_eq!(motion(&[10, 0, 255, 7], &[0, 10, 0, 7]), 275.0 / 4.0);
        assert_eq!(motion(&vec![0; 200_001], &vec![255; 200_001]), 255.0);
    }

    #[test]
    fn edges_of_a_step_are_four_times_its_height() {
        // Columns 0 0 9 9: at both inner columns gx is 4 × 9 and gy is 0.
        let plane = [0, 0, 9, 9].repeat(3);
        assert_eq!(edge_mean(&plane, size(4, 3)), 36.0);
        assert_eq!(
            edge_picture(&plane, size(4, 3)),
            [0, 0, 0, 0, 0, 36, 36, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn edges_by_hand() {
        // gx = (2-0) + 2(5-3) + (9-6) = 9, gy = (6-0) + 2(7-1) + (9-2) = 25.
        let plane = [0, 1, 2, 3, 200, 5, 6, 7, 9];
        assert_eq!(edge_mean(&plane, size(3, 3)), 706_f64.sqrt());
        assert_eq!(edge_picture(&plane, size(3, 3))[4], 27);
    }

    #[test]
    fn edges_are_cut_off_at_white() {
        let plane = [0, 0, 255].repeat(3);
        assert_eq!(edge_mean(&plane, size(3, 3)), 1020.0);
        assert_eq!(edge_picture(&plane, size(3, 3))[4], 255);
    }

    #[test]
    fn edges_of_every_width_agree_with_the_plain_formula() {
        let mut state = 1_u32;
        let plane: Vec<u8> = (0..40 * 7)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for width in 3..40 {
            let plane = &plane[..width * 7];
            let at = |x: usize, y: usize| f64::from(plane[y * width + x]);
            let mut sum = 0.0;
            for y in 1..6 {
                for x in 1..width - 1 {
                    let column = |x| at(x, y - 1) + 2.0 * at(x, y) + at(x, y + 1);
                    let line = |y| at(x - 1, y) + 2.0 * at(x, y) + at(x + 1, y);
                    sum += (column(x + 1) - column(x - 1)).hypot(line(y + 1) - line(y - 1));
                }
            }
            let mean = sum / ((width - 2) * 5) as f64;
            assert!(
                (edge_mean(plane, size(width, 7)) - mean).abs() < 1e-9,
                "width {width}"
            );
        }
    }

    #[test]
    fn small_pictures_have_no_edges() {
        for (width, height) in [(0, 0), (1, 1), (2, 9), (9, 2)] {
            let plane: Vec<u8> = (0..width * height).map(|i| (i * 37) as u8).collect();
            assert_eq!(edge_mean(&plane, size(width, height)), 0.0);
            assert_eq!(
                edge_picture(&plane, size(width, height)),
                vec![0; width * height]
            );
        }
    }
}
