//! JPEG to luma.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::jpeg_layout::{Colours, Layout, dimensions};
use super::{Broken, Size, weigh};

pub(super) struct Opened<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    output: ColorSpace,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("output", &self.output).finish_non_exhaustive()
    }
}

/// Reads the size from the frame header.
pub(super) fn size(bytes: &[u8]) -> Result<Size, Broken> {
    let (width, height) = dimensions(bytes)?;
    Size::checked(width, height)
}

/// Checks the structure of `bytes`, and prepares in `input` what the decoder gets.
pub(super) fn open<'a>(bytes: &[u8], input: &'a mut Vec<u8>) -> Result<(Opened<'a>, Size), Broken> {
    let layout = Layout::prepare(bytes, input)?;
    let size = Size::checked(layout.width, layout.height)?;
    let output = match layout.colours {
        // Only the samplings of which the decoder gets luma alone right.
        Colours::Grey | Colours::YCbCr { plain: true } => ColorSpace::Luma,
        Colours::YCbCr { plain: false } => ColorSpace::YCbCr,
        Colours::Other => ColorSpace::RGB,
    };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(output);
    let decoder = JpegDecoder::new_with_options(ZCursor::new(&input[..]), options);
    Ok((Opened { decoder, output }, size))
}

impl Opened<'_> {
    pub(super) fn luma_into(
        mut self,
        plane: &mut [u8],
        colours: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        if self.output == ColorSpace::Luma {
            return self.decoder.decode_into(plane).map_err(broken);
        }
        colours.resize(3 * plane.len(), 0);
        self.decoder.decode_into(colours).map_err(broken)?;
        match self.output {
            ColorSpace::YCbCr => weigh::first8::<3>(colours, plane),
            _ => weigh::rgb8::<3>(colours, plane),
        }
        Ok(())
    }
}

fn broken(error: zune_jpeg::errors::DecodeErrors) -> Broken {
    Broken::new(format!("JPEG: {}", format!("{error:?}").trim_end()))
}
