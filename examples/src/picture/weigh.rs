//! Luma from red, green and blue.

const RED: u32 = 299;
const GREEN: u32 = 587;
const BLUE: u32 = 114;

/// Weighs pixels of 8-bit samples; what follows the third is ignored.
pub(super) fn rgb8<const CHANNELS: usize>(colours: &[u8], luma: &mut [u8]) {
    for (pixel, y) in colours.as_chunks::<CHANNELS>().0.iter().zip(luma) {
        let sum =
            RED * u32::from(pixel[0]) + GREEN * u32::from(pixel[1]) + BLUE * u32::from(pixel[2]);
        *y = ((sum + 500) / 1000) as u8;
    }
}

/// Takes the first of each pixel's 8-bit samples.
pub(super) fn first8<const CHANNELS: usize>(samples: &[u8], luma: &mut [u8]) {
    for (pixel, y) in samples.as_chunks::<CHANNELS>().0.iter().zip(luma) {
        *y = pixel[0];
    }
}

/// Weighs pixels of big-endian 16-bit samples and rounds once, at the end.
pub(super) fn rgb16<const BYTES: usize>(colours: &[u8], luma: &mut [u8]) {
    for (pixel, y) in colours.as_chunks::<BYTES>().0.iter().zip(luma) {
        let sample = |i: usize| u32::from(u16::from_be_bytes([pixel[2 * i], pixel[2 * i + 1]]));
        let sum = RED * sample(0) + GREEN * sample(1) + BLUE * sample(2);
        *y = ((sum + 128_500) / 257_000) as u8;
    }
}

/// Takes the first of each pixel's big-endian 16-bit samples, rounded to 8 bits.
pub(super) fn first16<const BYTES: usize>(samples: &[u8], luma: &mut [u8]) {
    for (pixel, y) in samples.as_chunks::<BYTES>().0.iter().zip(luma) {
        let sample = u32::from(u16::from_be_bytes([pixel[0], pixel[1]]));
        *y = ((sample + 128) / 257) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luma_of(colours: &[u8], weigh: fn(&[u8], &mut [u8])) -> u8 {
        let mut luma = [0];
        weigh(colours, &mut luma);
        luma[0]
    }

    #[test]
    fn weighs_as_rec_601_and_rounds() {
        assert_eq!(luma_of(&[255, 0, 0], rgb8::<3>), 76); // 76.245
        assert_eq!(luma_of(&[0, 255, 0], rgb8::<3>), 150); // 149.685
        assert_eq!(luma_of(&[0, 0, 255], rgb8::<3>), 29); // 29.07
        assert_eq!(luma_of(&[255, 255, 255, 0], rgb8::<4>), 255);
        assert_eq!(luma_of(&[1, 1, 1], rgb8::<3>), 1);
    }

    #[test]
    fn sixteen_bits_round_once() {
        assert_eq!(luma_of(&[0xFF; 6], rgb16::<6>), 255);
        assert_eq!(luma_of(&[0xFF, 0xFF, 0, 0, 0, 0], rgb16::<6>), 76);
        assert_eq!(luma_of(&[0, 128], first16::<2>), 0);
        assert_eq!(luma_of(&[0, 129], first16::<2>), 1);
        assert_eq!(luma_of(&[0xFF, 0xFF], first16::<2>), 255);
    }
}
