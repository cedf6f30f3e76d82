//! PNG to luma.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodingError, Limits, Reader, Transformations};

use super::{Broken, MAX_PIXELS, Size, weigh};

pub(super) struct Opened<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

pub(super) fn open(bytes: &[u8]) -> Result<(Opened<'_>, Size), Broken> {
    // Four samples of two bytes are the most that a pixel takes.
    let limits = Limits { bytes: 8 * MAX_PIXELS };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes become colours and fewer bits become eight; sixteen stay.
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    let reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    let size = Size::checked(info.width as usize, info.height as usize)?;
    Ok((Opened { reader }, size))
}

impl Opened<'_> {
    pub(super) fn luma_into(
        mut self,
        plane: &mut [u8],
        pixels: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let needed = self.reader.output_buffer_size();
        let needed = needed.ok_or_else(|| Broken::new("the picture does not fit in memory"))?;
        pixels.resize(needed, 0);
        let frame = self.reader.next_frame(pixels).map_err(broken)?;
        // A file that lost its end is broken even if all pixels were there.
        self.reader.finish().map_err(broken)?;
        let pixels = &pixels[..frame.buffer_size()];
        match (frame.color_type, frame.bit_depth) {
            (ColorType::Grayscale, BitDepth::Eight) => plane.copy_from_slice(pixels),
            (ColorType::GrayscaleAlpha, BitDepth::Eight) => weigh::first8::<2>(pixels, plane),
            (ColorType::Rgb, BitDepth::Eight) => weigh::rgb8::<3>(pixels, plane),
            (ColorType::Rgba, BitDepth::Eight) => weigh::rgb8::<4>(pixels, plane),
            (ColorType::Grayscale, BitDepth::Sixteen) => weigh::first16::<2>(pixels, plane),
            (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => weigh::first16::<4>(pixels, plane),
            (ColorType::Rgb, BitDepth::Sixteen) => weigh::rgb16::<6>(pixels, plane),
            (ColorType::Rgba, BitDepth::Sixteen) => weigh::rgb16::<8>(pixels, plane),
            (colour, depth) => {
                return Err(Broken::new(format!("PNG as {colour:?} with {depth:?} bits")));
            }
        }
        Ok(())
    }
}

fn broken(error: DecodingError) -> Broken {
    Broken::new(format!("PNG: {error}"))
}
