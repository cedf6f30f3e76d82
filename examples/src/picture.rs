//! Decodes one picture, JPEG or PNG, to its luma plane.
//!
//! The luma of a JPEG is its own Y (ITU-R BT.601, full range, 0 to 255), taken
//! as it is coded. Pictures in other colours are weighed: 0.299 R + 0.587 G +
//! 0.114 B, rounded to the nearest integer; transparency is ignored.
//!
//! JPEG goes through `zune-jpeg`, which hands out Y without computing colours;
//! `jpeg-decoder` was the alternative, but it starts threads of its own for
//! larger pictures, and a process that forks its workers must not have any.

mod jpeg;
mod jpeg_layout;
mod png;
mod weigh;

use std::borrow::Cow;
use std::panic::{self, AssertUnwindSafe};

use serde::{Deserialize, Serialize};

/// Most pixels that a picture may have; a damaged header can claim any size.
pub const MAX_PIXELS: usize = 1 << 26;

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Why a picture could not be decoded completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Broken(Cow<'static, str>);

impl Broken {
    /// Makes one from the reason, a phrase like "no picture data".
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

/// Width and height of a picture in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// Returns the number of pixels, which is the length of the luma plane.
    pub fn pixels(self) -> usize {
        self.width * self.height
    }

    fn checked(width: usize, height: usize) -> Result<Self, Broken> {
        match width.checked_mul(height) {
            Some(0) => Err(Broken::new("the picture has no pixels")),
            Some(pixels) if pixels <= MAX_PIXELS => Ok(Self { width, height }),
            _ => Err(Broken::new(format!(
                "{width}×{height} pixels are more than the {MAX_PIXELS} allowed"
            ))),
        }
    }
}

/// Reads the size of a JPEG or PNG from its header, without looking at the rest.
///
/// If the whole is sound, it is the size that [`Decoder::open`] finds.
///
/// # Errors
///
/// [`Broken`] if there is no such header.
pub fn size(bytes: &[u8]) -> Result<Size, Broken> {
    if bytes.starts_with(PNG_SIGNATURE) {
        contained(|| png::open(bytes)).map(|(_, size)| size)
    } else {
        jpeg::size(bytes)
    }
}

/// Decodes pictures, one after the other, and keeps its buffers between them.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The JPEG as it is given to the decoder.
    input: Vec<u8>,
    /// Pixels in colour, where luma must be computed.
    colours: Vec<u8>,
}

/// A picture whose header was read, and whose plane waits for a place.
#[derive(Debug)]
pub struct Opened<'a> {
    format: Format<'a>,
    size: Size,
    colours: &'a mut Vec<u8>,
}

#[derive(Debug)]
enum Format<'a> {
    Jpeg(Box<jpeg::Opened<'a>>),
    Png(Box<png::Opened<'a>>),
}

impl Decoder {
    /// Makes a decoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the header of a JPEG or PNG, so that room for its plane can be made.
    ///
    /// # Errors
    ///
    /// [`Broken`] if there is no whole picture of a supported kind.
    pub fn open<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Opened<'a>, Broken> {
        let (format, size) = if bytes.starts_with(PNG_SIGNATURE) {
            let (opened, size) = contained(|| png::open(bytes))?;
            (Format::Png(Box::new(opened)), size)
        } else {
            let (opened, size) = jpeg::open(bytes, &mut self.input)?;
            (Format::Jpeg(Box::new(opened)), size)
        };
        Ok(Opened { format, size, colours: &mut self.colours })
    }
}

impl Opened<'_> {
    /// Returns the size of the picture.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Decodes into `plane`, row by row without gaps.
    ///
    /// # Errors
    ///
    /// [`Broken`] if any part of the picture cannot be decoded; the content of
    /// `plane` is then of no use.
    ///
    /// # Panics
    ///
    /// If the length of `plane` is not [`Size::pixels`].
    pub fn luma_into(self, plane: &mut [u8]) -> Result<(), Broken> {
        assert_eq!(plane.len(), self.size.pixels(), "the plane must have the picture's size");
        contained(|| match self.format {
            Format::Jpeg(opened) => opened.luma_into(plane, self.colours),
            Format::Png(opened) => opened.luma_into(plane, self.colours),
        })
    }
}

/// Turns a panic of a decoder on damaged input into a broken picture. The
/// buffers that it leaves half written are overwritten by the next picture.
fn contained<T>(decode: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    panic::catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Broken::new("the decoder gave up on it")))
}

#[cfg(test)]
mod tests;
