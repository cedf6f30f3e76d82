//! Statistics of luma planes: brightness, edges, motion.
//!
//! All of them give the same bits wherever and however often they are
//! computed: sums are of integers, or of `f64` in a fixed order. Where the
//! processor has AVX2 the same loops run compiled for it, which does not change
//! a bit, for no operation is fused or reordered.

#![allow(unsafe_code)] // calls of functions compiled for AVX2

use crate::picture::Size;

/// How many partial sums of a row run side by side, so that they vectorize.
const LANES: usize = 8;

/// Defines `$name` as the function that follows, compiled for the processor
/// that it runs on.
macro_rules! vectorized {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        pub fn $name($($arg: $ty),*) -> $result {
            #[inline(always)]
            fn plain($($arg: $ty),*) -> $result $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) -> $result {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, which was just asked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

vectorized! {
    /// Returns the mean of the luma, 0 to 255.
    fn mean_luma(plane: &[u8]) -> f64 {
        // A chunk's sum fits in 32 bits, which makes the inner loop fast.
        let sum: u64 = plane
            .chunks(1 << 16)
            .map(|chunk| u64::from(chunk.iter().map(|&y| u32::from(y)).sum::<u32>()))
            .sum();
        mean(sum as f64, plane.len())
    }
}

vectorized! {
    /// Returns the mean absolute difference of two planes of one size.
    ///
    /// # Panics
    ///
    /// If the planes differ in length.
    fn motion(before: &[u8], now: &[u8]) -> f64 {
        assert_eq!(before.len(), now.len(), "motion needs two planes of one size");
        let sum: u64 = before
            .chunks(1 << 16)
            .zip(now.chunks(1 << 16))
            .map(|(a, b)| {
                u64::from(a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>())
            })
            .sum();
        mean(sum as f64, now.len())
    }
}

vectorized! {
    /// Returns the mean over all pixels but the one-pixel border of
    /// `sqrt(gx² + gy²)`, with the 3×3 Sobel kernels; 0 for less than 3×3 pixels.
    ///
    /// # Panics
    ///
    /// If the length of `plane` does not fit its size.
    fn edge_mean(plane: &[u8], size: Size) -> f64 {
        let mut lanes = [0.0; LANES];
        each_gradient_row(plane, size, |_, squares| add_roots(squares, &mut lanes));
        let inner = size.width.saturating_sub(2) * size.height.saturating_sub(2);
        mean(lanes.iter().sum(), inner)
    }
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
#[inline(always)]
fn each_gradient_row(plane: &[u8], size: Size, mut row: impl FnMut(usize, &[i32])) {
    assert_eq!(plane.len(), size.pixels(), "the plane must have the picture's size");
    if size.width < 3 || size.height < 3 {
        return;
    }
    let inner = size.width - 2;
    let mut smooth = vec![0; size.width];
    let mut slope = vec![0; size.width];
    let mut squares = vec![0; inner];
    for y in 1..size.height - 1 {
        let line = |y: usize| &plane[y * size.width..][..size.width];
        columns(line(y - 1), line(y), line(y + 1), &mut smooth, &mut slope);
        gradients(&smooth, &slope, &mut squares);
        row(y, &squares);
    }
}

/// The vertical half of both kernels: 1 2 1 and -1 0 1.
#[inline(always)]
fn columns(above: &[u8], here: &[u8], below: &[u8], smooth: &mut [i16], slope: &mut [i16]) {
    let lines = above.iter().zip(here).zip(below);
    for (((above, here), below), (smooth, slope)) in lines.zip(smooth.iter_mut().zip(slope)) {
        let [above, here, below] = [*above, *here, *below].map(i16::from);
        *smooth = above + 2 * here + below;
        *slope = below - above;
    }
}

/// The horizontal half, and the sum of squares.
#[inline(always)]
fn gradients(smooth: &[i16], slope: &[i16], squares: &mut [i32]) {
    let n = squares.len();
    let (left, right) = (&smooth[..n], &smooth[2..][..n]);
    let (a, b, c) = (&slope[..n], &slope[1..][..n], &slope[2..][..n]);
    for (x, square) in squares.iter_mut().enumerate() {
        let gx = i32::from(right[x] - left[x]);
        let gy = i32::from(a[x] + 2 * b[x] + c[x]);
        *square = gx * gx + gy * gy;
    }
}

/// Adds the square roots, each lane every eighth.
///
/// A root in `f32` is right to 7 digits, which leaves the four decimals of a mean
/// alone, and takes a fifth of the time of one in `f64`.
#[inline(always)]
fn add_roots(squares: &[i32], lanes: &mut [f64; LANES]) {
    let mut sums = *lanes;
    let (chunks, rest) = squares.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &square) in sums.iter_mut().zip(chunk) {
            *sum += f64::from((square as f32).sqrt());
        }
    }
    for (sum, &square) in sums.iter_mut().zip(rest) {
        *sum += f64::from((square as f32).sqrt());
    }
    *lanes = sums;
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
        assert_eq!(edge_picture(&plane, size(4, 3)), [0, 0, 0, 0, 0, 36, 36, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn edges_by_hand() {
        // gx = (2-0) + 2(5-3) + (9-6) = 9, gy = (6-0) + 2(7-1) + (9-2) = 25.
        let plane = [0, 1, 2, 3, 200, 5, 6, 7, 9];
        assert_eq!(edge_mean(&plane, size(3, 3)), f64::from(706_f32.sqrt()));
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
            assert!((edge_mean(plane, size(width, 7)) - mean).abs() < 1e-5, "width {width}");
        }
    }

    #[test]
    fn small_pictures_have_no_edges() {
        for (width, height) in [(0, 0), (1, 1), (2, 9), (9, 2)] {
            let plane: Vec<u8> = (0..width * height).map(|i| (i * 37) as u8).collect();
            assert_eq!(edge_mean(&plane, size(width, height)), 0.0);
            assert_eq!(edge_picture(&plane, size(width, height)), vec![0; width * height]);
        }
    }
}
